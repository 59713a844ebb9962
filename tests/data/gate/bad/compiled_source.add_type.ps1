Add-Type -TypeDefinition $text
