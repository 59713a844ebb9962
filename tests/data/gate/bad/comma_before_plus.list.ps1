$lines = @('a' + $name, 'b' + $name)
