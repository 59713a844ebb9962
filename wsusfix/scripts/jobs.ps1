# What the scripts share: the layout of the staging folder, its segments, its claims, and the states of a job.
# Nothing here touches Windows itself; windows.ps1 does.

function Get-StagingPath {
    param([string] $Name)
    return (Get-WindowsDirectory) + '\' + $Name
}

function Get-StagingRefusal {
    param([string] $Staging)
    # '' when the folder is there and closed; 'absent' is for the caller to judge.
    $identity = Get-SessionIdentity
    if (-not $identity.administrator) {
        return 'not_administrator'
    }
    return (Get-FolderTrust $Staging)
}

function Get-PackageFolder {
    param([string] $Staging, [string] $Sha256)
    if ($Sha256 -cnotmatch '^[0-9a-f]{64}$') {
        throw ('not a SHA-256 in lower case: ' + $Sha256)
    }
    return $Staging + '\files\' + $Sha256.Substring(0, 16)
}

function Get-PackagePath {
    param([string] $Folder, [string] $Name)
    if ($Name -match '[\\/:*?"<>|]' -or $Name -eq '' -or $Name -eq '..') {
        throw ('not a plain file name: ' + $Name)
    }
    return $Folder + '\' + $Name
}

function Get-SegmentName {
    param([long] $Offset, [long] $Length)
    $culture = [System.Globalization.CultureInfo]::InvariantCulture
    return $Offset.ToString('000000000000', $culture) + '-' + $Length.ToString($culture) + '.seg'
}

function Get-Segments {
    param([string] $Folder)
    # The whole ones, by offset.
    foreach ($name in @(Get-FolderEntries ($Folder + '\parts'))) {
        if ($name -cmatch '^[0-9]{12}-[0-9]{1,12}\.seg$') {
            $parts = $name.Substring(0, $name.Length - 4).Split('-')
            $path = $Folder + '\parts\' + $name
            $length = Get-FileLength $path
            if ($null -ne $length -and [long] $length -eq [long] $parts[1]) {
                @{ offset = [long] $parts[0]; size = [long] $length; path = $path }
            }
        }
    }
}

function Get-TreeFiles {
    param([string] $Folder, [string] $Prefix)
    # Every file below the folder, as a path relative to it.
    foreach ($name in @(Get-FolderEntries $Folder)) {
        $inner = $Folder + '\' + $name
        if (-not (Test-Folder $inner)) {
            $Prefix + $name
        }
        elseif (-not (Test-ReparsePoint $inner)) {
            Get-TreeFiles $inner ($Prefix + $name + '\')
        }
    }
}

function Get-AgeSeconds {
    param([string] $Since, [string] $Now)
    # Without a sign: a clock that was set back must not keep a claim alive for ever.
    $culture = [System.Globalization.CultureInfo]::InvariantCulture
    $form = "yyyy-MM-dd'T'HH:mm:ss'Z'"
    $begin = [System.DateTime]::ParseExact($Since, $form, $culture)
    $end = [System.DateTime]::ParseExact($Now, $form, $culture)
    return [System.Math]::Abs(($end - $begin).TotalSeconds)
}

function ConvertFrom-Lines {
    param([string] $Text)
    # Lines of key=value as a hashtable; $null when the last line is not 'end': then it is not whole.
    $values = @{}
    $whole = $false
    foreach ($line in $Text.Replace("`r", '').TrimEnd("`n").Split("`n")) {
        $whole = $line -ceq 'end'
        $place = $line.IndexOf('=')
        if ($place -gt 0) {
            $values[$line.Substring(0, $place)] = $line.Substring($place + 1)
        }
    }
    if (-not $whole) {
        return $null
    }
    return $values
}

function ConvertTo-OneLine {
    param($Value)
    if ($Value -is [bool]) {
        if ($Value) {
            return 'true'
        }
        return 'false'
    }
    $text = [System.Convert]::ToString($Value, [System.Globalization.CultureInfo]::InvariantCulture)
    $text = $text.Replace("`r", ' ').Replace("`n", ' ').Trim()
    if ($text.Length -gt 2000) {
        $text = $text.Substring(0, 2000)
    }
    return $text
}

function Get-Numbers {
    param([string] $Folder, [string] $Ending)
    # The numbers of the files 00001.txt, 00002.txt, ... in order.
    foreach ($name in @(Get-FolderEntries $Folder)) {
        if ($name -cmatch '^[0-9]{5}\.[a-z]+$' -and $name.Substring(5) -ceq $Ending) {
            [int] $name.Substring(0, 5)
        }
    }
}

function Get-NumberedPath {
    param([string] $Folder, [int] $Number, [string] $Ending)
    return $Folder + '\' + $Number.ToString('00000', [System.Globalization.CultureInfo]::InvariantCulture) + $Ending
}

function Get-JobFolder {
    param([string] $Staging, [string] $JobId)
    if ($JobId -cnotmatch '^[A-Za-z0-9-]{1,64}$') {
        throw ('not the name of a job: ' + $JobId)
    }
    return $Staging + '\jobs\' + $JobId
}

function Add-State {
    param([string] $Folder, [string] $Phase, $Values)
    # 'started' and 'abandoned' are the job's token: whoever writes the first state has it, anybody else is told $false.
    $token = @('started', 'abandoned') -ccontains $Phase
    $own = Get-OwnProcess
    $text = 'phase=' + $Phase + "`ntime=" + (Get-Clock) + "`n"
    $text += 'pid=' + (ConvertTo-OneLine $own.pid) + "`n"
    $text += 'created=' + (ConvertTo-OneLine $own.created) + "`n"
    foreach ($entry in $Values.GetEnumerator()) {
        $text += $entry.Key + '=' + (ConvertTo-OneLine $entry.Value) + "`n"
    }
    $text += "end`n"
    for ($try = 0; $try -lt 10; $try++) {
        $numbers = @(Get-Numbers ($Folder + '\state') '.txt')
        if ($token -and $numbers.Length -gt 0) {
            return $false
        }
        $number = 1
        if ($numbers.Length -gt 0) {
            $number = $numbers[-1] + 1
        }
        if (Add-TextFile (Get-NumberedPath ($Folder + '\state') $number '.txt') $text) {
            return $true
        }
    }
    throw ('no state can be written in ' + $Folder)
}

function Get-States {
    param([string] $Folder, [int] $After)
    # The whole ones that are newer, in order: number and text.
    foreach ($number in @(Get-Numbers ($Folder + '\state') '.txt')) {
        if ($number -gt $After) {
            $text = Read-TextFile (Get-NumberedPath ($Folder + '\state') $number '.txt')
            if ($null -ne (ConvertFrom-Lines $text)) {
                @{ number = $number; text = $text.Replace("`r", '').TrimEnd("`n") }
            }
        }
    }
}

function Get-LastState {
    param([string] $Folder)
    # The newest whole one: its number and its fields, or $null.
    $numbers = @(Get-Numbers ($Folder + '\state') '.txt')
    for ($index = $numbers.Length - 1; $index -ge 0; $index--) {
        $text = Read-TextFile (Get-NumberedPath ($Folder + '\state') $numbers[$index] '.txt')
        $values = ConvertFrom-Lines $text
        if ($null -ne $values) {
            return @{ number = $numbers[$index]; fields = $values }
        }
    }
    return $null
}

function Add-Claim {
    param([string] $Staging, [int] $Number, [string] $JobId, [string] $Kind)
    $text = 'job_id=' + $JobId + "`nkind=" + (ConvertTo-OneLine $Kind) + "`ntime=" + (Get-Clock) + "`nend`n"
    return (Add-TextFile (Get-NumberedPath ($Staging + '\jobs') $Number '.claim') $text)
}

function Get-Claim {
    param([string] $Staging, [string] $JobId)
    # The newest claim, or the newest of one job; $null when there is none.
    $numbers = @(Get-Numbers ($Staging + '\jobs') '.claim')
    for ($index = $numbers.Length - 1; $index -ge 0; $index--) {
        $path = Get-NumberedPath ($Staging + '\jobs') $numbers[$index] '.claim'
        $values = ConvertFrom-Lines (Read-TextFile $path)
        # Somebody may be writing it just now; a broken one says nothing after a while either.
        for ($try = 0; $null -eq $values -and $try -lt 10; $try++) {
            Wait-Seconds 0.2
            $values = ConvertFrom-Lines (Read-TextFile $path)
        }
        if ($null -ne $values -and ($JobId -eq '' -or $values.job_id -ceq $JobId)) {
            return $values
        }
    }
    return $null
}

function Get-NewestJob {
    param([string] $Staging)
    $claim = Get-Claim $Staging ''
    if ($null -eq $claim) {
        return ''
    }
    return $claim.job_id
}

function Test-Alive {
    param([string] $ProcessId, [string] $Created)
    # A process is its number and the time of its creation: numbers are used again.
    if ($ProcessId -eq '') {
        return $false
    }
    $found = Get-ProcessCreated ([int] $ProcessId)
    if ($null -eq $found) {
        return $false
    }
    # A time that cannot be told is a doubt, and in doubt it lives.
    return ($found -ceq $Created -or $found -eq '' -or $Created -eq '')
}

function Get-JobStatus {
    param([string] $Staging, [string] $JobId, [int] $StartSeconds)
    $answer = @{ kind = ''; status = 'none'; phase = ''; last = 0 }
    if ($JobId -eq '') {
        return $answer
    }
    $claim = Get-Claim $Staging $JobId
    if ($null -eq $claim) {
        return $answer
    }
    $answer.kind = [string] $claim.kind
    $folder = Get-JobFolder $Staging $JobId
    $last = Get-LastState $folder
    if ($null -eq $last) {
        $answer.status = 'claimed'
        if ((Get-AgeSeconds $claim.time (Get-Clock)) -gt $StartSeconds) {
            $answer.status = 'never_started'
        }
        return $answer
    }
    $fields = $last.fields
    $answer.phase = $fields.phase
    $answer.last = $last.number
    if (@('finished', 'abandoned') -ccontains $fields.phase) {
        $answer.status = 'finished'
    }
    elseif ((Test-Alive $fields.pid $fields.created) -or (Test-Alive $fields.child_pid $fields.child_created)) {
        $answer.status = 'running'
    }
    elseif (Test-FolderProcess $Staging) {
        $answer.status = 'running'
    }
    else {
        # It may have written its end and gone between the two looks.
        $again = Get-LastState $folder
        if ($again.number -ne $last.number) {
            return (Get-JobStatus $Staging $JobId $StartSeconds)
        }
        $answer.status = 'interrupted'
    }
    return $answer
}
