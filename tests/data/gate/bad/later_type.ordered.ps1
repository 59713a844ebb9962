$table = [ordered] @{ name = 'a' }
