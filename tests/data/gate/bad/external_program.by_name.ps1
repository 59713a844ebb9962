schtasks.exe /query
