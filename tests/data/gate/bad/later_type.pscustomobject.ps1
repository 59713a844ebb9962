$row = [pscustomobject] @{ name = 'a' }
