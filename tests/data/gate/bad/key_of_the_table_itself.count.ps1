$answer = @{ count = 3 }
