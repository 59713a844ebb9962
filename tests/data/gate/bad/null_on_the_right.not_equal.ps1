if ($name -ne $null) {
    $name = ''
}
