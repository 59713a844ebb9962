Invoke-Expression $text
