#requires -version 3
$name = 'a'
