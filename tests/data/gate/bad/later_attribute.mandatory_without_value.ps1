function Get-Thing {
    param(
        [Parameter(Mandatory)] [string] $Name
    )
    return $Name
}
