$names | ForEach-Object { $PSItem }
