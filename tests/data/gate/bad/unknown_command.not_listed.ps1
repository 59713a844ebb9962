$content = Get-Random
