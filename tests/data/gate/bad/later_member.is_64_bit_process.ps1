$wide = [System.Environment]::Is64BitProcess
