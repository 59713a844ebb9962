if ($found) {
    $name = 'a'
