$result = $context.InvokeScript($text)
