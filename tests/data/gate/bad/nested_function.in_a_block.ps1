if ($found) {
function Get-Thing {
    return 'a'
}
}
