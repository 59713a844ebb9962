$rows | Export-Csv -Path $path -Append
