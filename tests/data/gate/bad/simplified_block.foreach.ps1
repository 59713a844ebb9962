$names | ForEach-Object Length
