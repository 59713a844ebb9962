$mask = 1 -shl 4
