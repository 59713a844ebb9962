$update = Get-WsusUpdate
