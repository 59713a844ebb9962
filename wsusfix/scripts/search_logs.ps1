# wsusfix script: search_logs
param($Parameters)
# Searches the logs of a server or of a client by blocks, and brings back only what stands around what is sought.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Get-NamedPlace {
    param($Parameters)
    # Where the registry says that the log is, '' where it says nothing.  What is named may be the file, or its folder.
    if ($Parameters.key -eq '') {
        return ''
    }
    $named = ([string] (Get-RegistryValue $Parameters.key $Parameters.path_value)).TrimEnd('\')
    if (Test-Folder $named) {
        return $named + '\' + $Parameters.name
    }
    if ($named.Contains('\')) {
        return $named
    }
    return ''
}

function Get-Places {
    param($Parameters, [string] $Named)
    # Where the log may be; without a key, in Windows' own folder.
    if ($Parameters.key -eq '') {
        (Get-WindowsDirectory) + '\' + $Parameters.name
        return
    }
    $target = [string] (Get-RegistryValue $Parameters.key $Parameters.target_value)
    if ($target -eq '') {
        $target = (Get-ProgramFilesDirectory) + '\' + $Parameters.default_target
    }
    if ($Named -ne '') {
        $Named
    }
    foreach ($folder in @($Parameters.folders)) {
        $target.TrimEnd('\') + '\' + $folder + '\' + $Parameters.name
    }
}

function Get-OlderLogs {
    param([string] $Path)
    # What the log was rolled over into: its name with more behind it, or before its ending.  In front of each stands
    # when it was last written.
    $cut = $Path.LastIndexOf('\') + 1
    $name = $Path.Substring($cut)
    $stem = $name.Split('.')[0]
    foreach ($entry in @(Get-FolderEntries $Path.Substring(0, $cut - 1))) {
        $older = $entry.StartsWith($stem, [System.StringComparison]::OrdinalIgnoreCase) -and $entry -ne $name
        if ($older -and $entry -match '\.(log|old|bak|[0-9]+)$') {
            $file = $Path.Substring(0, $cut) + $entry
            [string] (Get-FileTime $file) + ' ' + $file
        }
    }
}

function Add-Lines {
    param($Log, [string] $Text, [int] $Place)
    # Counts the lines up to a place in the text.
    if ($Place -gt $Log.counted) {
        $passed = $Text.Substring($Log.counted, $Place - $Log.counted)
        $Log.line += $passed.Length - $passed.Replace("`n", '').Length
        $Log.counted = $Place
    }
}

function Remove-Group {
    param($Log)
    # The first two and the last ones are kept: since when, and until when.
    $groups = @($Log.groups)
    $gone = [System.Math]::Max(0, [System.Math]::Min(2, $groups.Length - 2))
    $Log.size -= $groups[$gone].Length
    $Log.dropped += 1
    $Log.groups = @()
    for ($number = 0; $number -lt $groups.Length; $number++) {
        if ($number -ne $gone) {
            $Log.groups += $groups[$number]
        }
    }
}

function Limit-Groups {
    param($Logs, [int] $Most)
    # Of the log of which most is told one goes, until all of it fits into the answer.
    while ($true) {
        $size = 0
        $largest = $Logs[0]
        foreach ($log in $Logs) {
            $size += $log.size
            if ($log.size -gt $largest.size) {
                $largest = $log
            }
        }
        if ($size -le $Most) {
            return
        }
        Remove-Group $largest
    }
}

function Search-Text {
    param($Log, [string] $Text, $Parameters, [int] $Limit)
    # Looks for hits before the limit.  A group is what stands around one; it begins where the last one ended at most.
    foreach ($match in [System.Text.RegularExpressions.Regex]::Matches($Text, $Parameters.pattern)) {
        $hit = $match.Index
        if ($hit -ge $Limit) {
            break
        }
        if (($Log.base + $hit) -lt $Log.sought) {
            continue
        }
        # A header counts from where it stands on, inside a group as well.
        if ($match.Groups['header'].Success) {
            $Log.header = $match.Groups['header'].Value.Replace("`0", '').Trim()
            continue
        }
        # Well inside the last group there is nothing to add; of what begins near its end the rest lies behind it.
        if (($Log.base + $hit + $Parameters.before) -lt $Log.told) {
            continue
        }
        $from = [int] [System.Math]::Max($Log.told - $Log.base, [long] ($hit - $Parameters.before))
        $at = [System.Math]::Min($Text.Length, $hit + $Parameters.after)
        if ($at -le $from) {
            continue
        }
        Add-Lines $Log $Text $from
        $group = $Text.Substring($from, $at - $from).Replace("`0", '')
        $Log.told = $Log.base + $at
        $about = @(($Log.base + $from), $Log.told, $Log.line, $group.Length, $Log.header) -join ' '
        $group = $about + "`n" + $group
        $Log.groups += $group
        $Log.size += $group.Length
        if ($Log.groups.Length -gt $Parameters.most_groups) {
            Remove-Group $Log
        }
    }
    $Log.sought = $Log.base + $Limit
}

function Search-Log {
    param($Log, $Parameters, [long] $Bytes, [string] $Began)
    # Of a log that is too long the end is read: it tells what is so now.
    $length = [long] (Get-FileLength $Log.path)
    $place = [System.Math]::Max([long] 0, $length - $Bytes)
    $Log.length = $length
    $Log.start = $place
    $head = Read-FileBlock $Log.path $place $Parameters.edge
    $tail = Read-FileBlock $Log.path ([System.Math]::Max($place, $length - $Parameters.edge)) $Parameters.edge
    $Log.edges = ($head + "`n" + $tail).Replace("`0", '')
    # Where in the file the text begins; up to where it was searched, and brought back.
    $Log.base = $place
    $Log.sought = $place
    $Log.told = $place
    $text = ''
    while ($place -lt $length) {
        if ((Get-AgeSeconds $Began (Get-Clock)) -ge $Parameters.seconds) {
            $Log.problem = 'time'
            return
        }
        $size = [int] [System.Math]::Min([long] $Parameters.block, $length - $place)
        $block = Read-FileBlock $Log.path $place $size
        if ($block.Length -lt $size) {
            $Log.problem = 'changed'
            return
        }
        $place += $size
        $text += $block
        # What follows a hit must be there before it is looked at.
        $limit = $text.Length
        if ($place -lt $length) {
            $limit = [System.Math]::Max(0, $limit - $Parameters.after)
        }
        Search-Text $Log $text $Parameters $limit
        $gone = [int] [System.Math]::Max([long] 0, $Log.sought - $Log.base - $Parameters.before)
        Add-Lines $Log $text $gone
        $text = $text.Substring($gone)
        $Log.base += $gone
        $Log.counted -= $gone
    }
}

$began = Get-Clock
$answer = @{ script = 'search_logs'; clock = $began; utc_offset = (Get-UtcOffset); files = 0; left_out = 0 }
$places = @()
$denied = @()
$paths = @()
$older = @()
$answer.named = [string] (Get-NamedPlace $Parameters)
foreach ($place in @(Get-Places $Parameters $answer.named)) {
    if ($places -contains $place) {
        continue
    }
    $places += $place
    try {
        if (Test-File $place) {
            $paths += $place
        }
        $older += @(Get-OlderLogs $place)
    }
    catch {
        $denied += $place + ': ' + $_.Exception.Message.Replace("`r", '').Replace("`n", ' ')
    }
}
$answer.places = $places -join "`n"
$answer.denied = $denied -join "`n"
# The logs themselves, then the others, the newest first.
foreach ($log in @($older | Sort-Object -Descending)) {
    $path = $log.Substring($log.IndexOf(' ') + 1)
    if ($paths -notcontains $path) {
        $paths += $path
    }
}

$bytes = [long] $Parameters.most_bytes
$logs = @()
foreach ($path in $paths) {
    if ($logs.Length -ge $Parameters.most_files) {
        $answer.left_out += 1
        continue
    }
    $log = @{ path = $path; length = 0; start = 0; header = ''; problem = ''; dropped = 0; edges = ''; groups = @() }
    $log.size = 0
    $log.line = 1
    $log.counted = 0
    $logs += $log
    try {
        Search-Log $log $Parameters $bytes $began
    }
    catch {
        $log.problem = $_.Exception.Message
    }
    $bytes = [System.Math]::Max([long] 0, $bytes - $log.length + $log.start)
}
if ($logs.Length -gt 0) {
    Limit-Groups $logs $Parameters.most_text
}
foreach ($log in $logs) {
    $about = @($log.path, $log.length, $log.start, $log.dropped, $log.header, $log.problem.Replace("`n", ' '))
    $answer['file_' + $answer.files] = $about -join "`n"
    $answer['edges_' + $answer.files] = $log.edges
    $answer['groups_' + $answer.files] = $log.groups -join ''
    $answer.files += 1
}

return $answer
