function Thing {
    return 'a'
}
