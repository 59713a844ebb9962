$shell = New-Object -ComObject WScript.Shell
