$word = $first ?? 'none'
