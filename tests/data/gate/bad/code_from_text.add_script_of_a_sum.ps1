$result = $shell.AddScript('Get-Service ' + $name)
