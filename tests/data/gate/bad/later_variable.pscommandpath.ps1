$path = $PSCommandPath
