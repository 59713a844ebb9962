$page = Invoke-RestMethod -Uri $address
