$name = $using:name
