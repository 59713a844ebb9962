$name = 'a' # the name
