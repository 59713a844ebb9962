$text = @'
# looks like a comment
'@
