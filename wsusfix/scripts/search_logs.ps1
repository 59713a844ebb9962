# wsusfix script: search_logs
param($Parameters)
# Searches the logs of a server or of a client by blocks, and brings back only what stands around what is sought.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Get-Places {
    param($Parameters)
    # Where the log may be; without a key, in Windows' own folder.
    if ($Parameters.key -eq '') {
        (Get-WindowsDirectory) + '\' + $Parameters.name
        return
    }
    $target = [string] (Get-RegistryValue $Parameters.key $Parameters.target_value)
    if ($target -eq '') {
        $target = (Get-ProgramFilesDirectory) + '\' + $Parameters.default_target
    }
    # What is named may be the file, or its folder.
    $named = ([string] (Get-RegistryValue $Parameters.key $Parameters.path_value)).TrimEnd('\')
    if (Test-Folder $named) {
        $named + '\' + $Parameters.name
    }
    elseif ($named.Contains('\')) {
        $named
    }
    foreach ($folder in @($Parameters.folders)) {
        $target.TrimEnd('\') + '\' + $folder + '\' + $Parameters.name
    }
}

function Get-Logs {
    param([string] $Path)
    # The log itself first, then what it was rolled over into: its name with more behind it, or before its ending.
    if (Test-File $Path) {
        $Path
    }
    $cut = $Path.LastIndexOf('\') + 1
    $name = $Path.Substring($cut)
    $stem = $name.Split('.')[0]
    foreach ($entry in @(Get-FolderEntries $Path.Substring(0, $cut - 1))) {
        $older = $entry.StartsWith($stem, [System.StringComparison]::OrdinalIgnoreCase) -and $entry -ne $name
        if ($older -and $entry -match '\.(log|old|bak|[0-9]+)$') {
            $Path.Substring(0, $cut) + $entry
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

function Add-Group {
    param($Log, [string] $Group, [int] $Most)
    # The first two and the last ones are kept: since when, and until when.
    $groups = @($Log.groups) + $Group
    if ($groups.Length -gt $Most) {
        $groups = @($groups[0..1]) + @($groups[3..($groups.Length - 1)])
        $Log.dropped += 1
    }
    $Log.groups = $groups
}

function Search-Text {
    param($Log, [string] $Text, [string] $Pattern, $Parameters, [int] $Limit, [int] $Most)
    # Looks for hits before the limit.  A group is what stands around one; it begins where the last one ended at most.
    $at = [int] ($Log.sought - $Log.base)
    foreach ($match in [System.Text.RegularExpressions.Regex]::Matches($Text, $Pattern)) {
        $hit = $match.Index
        if ($hit -ge $Limit) {
            break
        }
        if ($hit -lt $at) {
            continue
        }
        if ($match.Groups['header'].Success) {
            $Log.header = $match.Value.Replace("`0", '').Trim()
            continue
        }
        $from = [int] [System.Math]::Max($Log.told - $Log.base, [long] ($hit - $Parameters.before))
        $at = [System.Math]::Min($Text.Length, $hit + $Parameters.after)
        Add-Lines $Log $Text $from
        $group = $Text.Substring($from, $at - $from).Replace("`0", '')
        $Log.told = $Log.base + $at
        $about = @(($Log.base + $from), $Log.told, $Log.line, $group.Length, $Log.header) -join ' '
        Add-Group $Log ($about + "`n" + $group) $Most
    }
    $Log.sought = $Log.base + [System.Math]::Max($at, $Limit)
}

function Search-Log {
    param($Log, $Parameters, [long] $Bytes, [int] $Most, [string] $Began)
    # Of a log that is too long the end is read: it tells what is so now.
    $length = [long] (Get-FileLength $Log.path)
    $place = [System.Math]::Max([long] 0, $length - $Bytes)
    $Log.length = $length
    $Log.start = $place
    $head = Read-FileBlock $Log.path $place $Parameters.edge
    $tail = Read-FileBlock $Log.path ([System.Math]::Max($place, $length - $Parameters.edge)) $Parameters.edge
    $Log.edges = ($head + "`n" + $tail).Replace("`0", '')
    $pattern = $Parameters.pattern
    if ($head.Contains("`0")) {
        $pattern = $Parameters.wide_pattern
    }
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
        Search-Text $Log $text $pattern $Parameters $limit $Most
        $gone = [int] [System.Math]::Max([long] 0, $Log.sought - $Log.base - $Parameters.before)
        Add-Lines $Log $text $gone
        $text = $text.Substring($gone)
        $Log.base += $gone
        $Log.counted -= $gone
    }
}

$began = Get-Clock
$answer = @{ script = 'search_logs'; clock = $began; utc_offset = (Get-UtcOffset); places = ''; files = 0; left_out = 0 }
$places = @()
$paths = @()
foreach ($place in @(Get-Places $Parameters)) {
    if ($places -contains $place) {
        continue
    }
    $places += $place
    try {
        $paths += @(Get-Logs $place)
    }
    catch {
        $places[-1] = $place + ': ' + $_.Exception.Message
    }
}
$answer.places = $places -join "`n"
$answer.left_out = [System.Math]::Max(0, $paths.Length - $Parameters.most_files)

$bytes = [long] $Parameters.most_bytes
$most = $Parameters.most_groups
foreach ($path in $paths) {
    if ($answer.files -ge $Parameters.most_files) {
        break
    }
    $log = @{ path = $path; length = 0; start = 0; header = ''; problem = ''; dropped = 0; edges = ''; groups = @() }
    $log.line = 1
    $log.counted = 0
    try {
        Search-Log $log $Parameters $bytes $most $began
    }
    catch {
        $log.problem = $_.Exception.Message
    }
    $about = @($path, $log.length, $log.start, $log.dropped, $log.header, $log.problem.Replace("`n", ' '))
    $answer['file_' + $answer.files] = $about -join "`n"
    $answer['edges_' + $answer.files] = $log.edges
    $answer['groups_' + $answer.files] = $log.groups -join ''
    $answer.files += 1
    $bytes = [System.Math]::Max([long] 0, $bytes - $log.length + $log.start)
    $most = [System.Math]::Max(4, $most - $log.groups.Length)
}

return $answer
