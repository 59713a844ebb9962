# What a script may be made of.
param($Parameters)
$ErrorActionPreference = 'Stop'

function Get-Thing {
    param([string] $Name, [int] $Times)
    # A comment of its own, and a hash in a string: '#'.
    $text = '# not a comment'
    for ($index = 0; $index -lt $Times; $index++) {
        $text += $Name
    }
    switch ($text) {
        'a' { return 'one' }
        default { $text = "`n`t$text" }
    }
    do {
        $Times--
    } while ($Times -gt 0 -and -not $found)
    return $text
}

$answer = @{
    script = 'language'
    number = 3
    'quoted' = (Get-Thing 'a' 2)
}
try {
    $answer.thing = Get-Thing -Name $Parameters.name -Times 2
}
catch {
    $answer.thing = [string] $_.Exception.Message
}
finally {
    $answer['done'] = $true
}
foreach ($chunk in $input) {
    [void] $chunk.ToString()
}
return $answer
