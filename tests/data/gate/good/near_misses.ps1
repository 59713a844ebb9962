# Each line is next to something that may not be.
if ($null -eq $name -or 'a', 'b' -contains $name -or @('a') -notcontains $name) {
    $name = '-in, -notin, ??, &&, $PSScriptRoot, [pscustomobject]'
}
$path = [System.IO.Path]::Combine($root, [System.IO.Path]::Combine('a', 'b'))
$words = @(('a' + $name), ('b' + $name))
$both = [System.Math]::Max($one + 1, $two + 1)
$empty = [string]::IsNullOrEmpty($name)
$version = [System.Version] '1.0'
$list = New-Object byte[] 16
$stream = New-Object -TypeName System.IO.FileInfo -ArgumentList $path
$service = New-Object -ComObject Schedule.Service
$block = {
    param($Path)
    Get-AuthenticodeSignature -FilePath $Path
}
$shell.AddScript($block.ToString())
$names | Where-Object { $_.Length -gt 3 } | ForEach-Object { $_.Trim() }
$text = Get-Content -Path $path
$files = Get-ChildItem -Path $path -Recurse
$line = "a`u"
$table = @{ counter = 1; 'key' = 2 }
