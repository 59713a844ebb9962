$upper = $names.ForEach({ $_.ToUpperInvariant() })
