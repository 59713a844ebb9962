$colour = "`e[0m"
