$version = [System.Version]::new('1.0')
