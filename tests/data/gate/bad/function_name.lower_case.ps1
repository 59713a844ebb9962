function get-thing {
    return 'a'
}
