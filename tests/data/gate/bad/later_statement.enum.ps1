enum Colour {
    Red
}
