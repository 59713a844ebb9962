. $library
