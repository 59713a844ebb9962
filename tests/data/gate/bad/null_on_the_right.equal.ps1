if ($name -eq $null) {
    $name = ''
}
