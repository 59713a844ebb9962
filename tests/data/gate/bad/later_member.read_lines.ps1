$lines = [System.IO.File]::ReadLines($path)
