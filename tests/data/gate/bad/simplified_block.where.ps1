$names | Where-Object Length -gt 3
