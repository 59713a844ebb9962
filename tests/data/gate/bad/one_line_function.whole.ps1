function Get-Thing { return 'a' }
