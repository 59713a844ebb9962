class Thing {
    [string] $Name
}
