function Get-First {
    param([string] $Name)
    return (Get-Second $Name)
}

function Get-Second {
    param(
        [Parameter(Mandatory = $true)] [string] $Name
    )
    return $Name
}

function Get-Third {
    return 3
}
