$text = ConvertTo-Json $table
