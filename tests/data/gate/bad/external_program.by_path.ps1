C:\WINDOWS\System32\schtasks.exe /query
