$page = Invoke-WebRequest -Uri $address
