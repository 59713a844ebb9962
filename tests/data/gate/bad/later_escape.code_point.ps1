$arrow = "`u{2192}"
