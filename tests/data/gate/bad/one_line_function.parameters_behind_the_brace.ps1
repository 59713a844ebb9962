function Get-Thing { param($Name)
    return $Name
}
