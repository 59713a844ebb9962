$path = [System.IO.Path]::Combine($root, 'a', 'b')
