$mask = 16 -shr 4
