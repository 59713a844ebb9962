$hash = Get-FileHash -Path $path
