if ('a' -notin $names) {
    $found = $false
}
