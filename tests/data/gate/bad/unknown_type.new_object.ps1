$list = New-Object System.Collections.Generic.HashSet
