Get-Service || Get-WmiObject
