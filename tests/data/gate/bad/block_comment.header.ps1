<#
  What it does.
#>
$name = 'a'
