$from.CopyTo($into)
