$text = 'one
two'
