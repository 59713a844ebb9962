$word = $found ? 'yes' : 'no'
