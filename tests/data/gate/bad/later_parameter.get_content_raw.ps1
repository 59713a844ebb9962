$text = Get-Content -Path $path -Raw
