$empty = [string]::IsNullOrWhiteSpace($name)
