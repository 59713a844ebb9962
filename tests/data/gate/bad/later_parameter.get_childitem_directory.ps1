$folders = Get-ChildItem -Path $path -Directory
