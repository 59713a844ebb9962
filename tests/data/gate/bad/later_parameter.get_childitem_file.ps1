$files = Get-ChildItem -Path $path -File
