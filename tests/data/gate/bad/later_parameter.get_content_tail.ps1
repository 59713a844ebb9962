$text = Get-Content -Path $path -Tail 10
