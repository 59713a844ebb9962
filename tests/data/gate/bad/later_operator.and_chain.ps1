Get-Service && Get-WmiObject
