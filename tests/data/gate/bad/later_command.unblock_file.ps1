Unblock-File -Path $path
