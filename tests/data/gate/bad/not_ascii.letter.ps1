$name = 'blåbær'
