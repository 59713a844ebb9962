$long = $names.Where({ $_.Length -gt 3 })
