if ('a' -in $names) {
    $found = $true
}
