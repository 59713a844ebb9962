$block = [scriptblock]::Create($text)
