$task = Get-ScheduledTask -TaskName 'a'
