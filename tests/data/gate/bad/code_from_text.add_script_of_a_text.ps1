$result = $shell.AddScript($text)
