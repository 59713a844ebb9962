$folder = $PSScriptRoot
