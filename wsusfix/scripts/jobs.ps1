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
    $names = @()
    try {
        $names = @(Get-FolderEntries $Folder)
    }
    catch {
        # What an installer unpacks it removes again, perhaps just now.
        if (Test-Folder $Folder) {
            throw
        }
    }
    foreach ($name in $names) {
        $inner = $Folder + '\' + $name
        if (-not (Test-Folder $inner)) {
            $Prefix + $name
            continue
        }
        $elsewhere = $true
        try {
            $elsewhere = Test-ReparsePoint $inner
        }
        catch {
            if (Test-Folder $inner) {
                throw
            }
        }
        if (-not $elsewhere) {
            Get-TreeFiles $inner ($Prefix + $name + '\')
        }
    }
}

function Get-SecondsBetween {
    param([string] $Since, [string] $Until)
    # Below zero when the second time is the earlier one.
    $culture = [System.Globalization.CultureInfo]::InvariantCulture
    $form = "yyyy-MM-dd'T'HH:mm:ss'Z'"
    $begin = [System.DateTime]::ParseExact($Since, $form, $culture)
    $end = [System.DateTime]::ParseExact($Until, $form, $culture)
    return ($end - $begin).TotalSeconds
}

function Get-AgeSeconds {
    param([string] $Since, [string] $Now)
    # Without a sign: a clock that was set back must not keep a claim alive for ever.
    return [System.Math]::Abs((Get-SecondsBetween $Since $Now))
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

function Get-StateText {
    param([string] $Phase, $Process, $Values)
    # A job lives as long as the process that its newest state names.
    $text = 'phase=' + $Phase + "`ntime=" + (Get-Clock) + "`n"
    $text += 'pid=' + (ConvertTo-OneLine ([string] $Process.pid)) + "`n"
    $text += 'created=' + (ConvertTo-OneLine ([string] $Process.created)) + "`n"
    foreach ($entry in $Values.GetEnumerator()) {
        $text += $entry.Key + '=' + (ConvertTo-OneLine $entry.Value) + "`n"
    }
    return $text + "end`n"
}

function Add-State {
    param([string] $Folder, [string] $Phase, $Values)
    # 'started' and 'abandoned' are the job's token: whoever writes the first state has it, anybody else is told $false.
    $token = @('started', 'abandoned') -ccontains $Phase
    $text = Get-StateText $Phase (Get-OwnProcess) $Values
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

function Add-StateAt {
    param([string] $Folder, [string] $Phase, $Values, [int] $Number, $Process)
    # With this number and no other; $false when somebody else was quicker to take it.
    return (Add-TextFile (Get-NumberedPath ($Folder + '\state') $Number '.txt') (Get-StateText $Phase $Process $Values))
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
    $answer = @{ kind = ''; status = 'none'; phase = ''; last = 0; fields = @{} }
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
            if (@(Get-Numbers ($folder + '\state') '.txt').Length -gt 0) {
                # Its first state is not whole.  It may be writing it just now; if not, the power failed when it did.
                Wait-Seconds 1
                if ($null -ne (Get-LastState $folder)) {
                    return (Get-JobStatus $Staging $JobId $StartSeconds)
                }
                $answer.status = 'interrupted'
                if (Test-FolderProcess $Staging) {
                    $answer.status = 'running'
                }
            }
        }
        return $answer
    }
    $fields = $last.fields
    $answer.phase = $fields.phase
    $answer.last = $last.number
    $answer.fields = $fields
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
        if ($fields.phase -ceq 'withdrawn') {
            # It did not live to see that it was called off: that is its end.
            $answer.status = 'finished'
        }
    }
    return $answer
}

function Add-Abandoned {
    param([string] $Staging, [string] $JobId)
    # Takes the token of a job that never started; $false when it just began.  What was removed but for its claim, too.
    $folder = Get-JobFolder $Staging $JobId
    New-PlainFolder ($folder + '\state')
    return (Add-State $folder 'abandoned' @{})
}

function Get-RunningJob {
    param([string] $Staging, [int] $StartSeconds)
    # The newest job, if it is at work or about to be; one that never started cannot any more, afterwards.
    $newest = Get-NewestJob $Staging
    $job = Get-JobStatus $Staging $newest $StartSeconds
    $runs = @('claimed', 'running') -ccontains $job.status
    if ($job.status -ceq 'never_started') {
        $runs = -not (Add-Abandoned $Staging $newest)
    }
    if ($runs) {
        return $newest
    }
    return ''
}

function Get-ScriptFolder {
    param([string] $Path)
    return $Path.Substring(0, $Path.LastIndexOf('\'))
}

function Add-Start {
    param([string] $Folder)
    # The first state is the token: a task that fires a second time, or too late, is told $false and does nothing.
    $identity = Get-SessionIdentity
    return (Add-State $Folder 'started' @{ account_sid = $identity.sid })
}

function Add-Quietly {
    param([string] $Folder, [string] $Phase, $Values)
    # While work is under way that nobody can take back, a full disk must not keep the job from its end.
    try {
        [void] (Add-State $Folder $Phase $Values)
    }
    catch {
        return
    }
}

function Add-End {
    param([string] $Folder, $Result)
    # A disk that the work filled may have room again in a moment.
    for ($try = 0; $try -lt 20; $try++) {
        try {
            [void] (Add-State $Folder 'finished' $Result)
            return
        }
        catch {
            Wait-Seconds 15
        }
    }
}

function Test-WindowOpen {
    param($Parameters)
    return ($Parameters.not_after -eq '' -or (Get-SecondsBetween (Get-Clock) $Parameters.not_after) -ge 0)
}

function Set-Withdrawn {
    param([string] $Folder, $Result)
    $Result.reason = 'withdrawn'
    $last = Get-LastState $Folder
    if ($null -ne $last -and $last.fields.phase -ceq 'withdrawn') {
        $Result.detail = 'by ' + $last.fields.account_sid
    }
}

function Wait-Window {
    param([string] $Folder, $Parameters, $Result)
    # Whether the work may begin; if not, $Result has the reason.  The server's own clock decides.  While the window is
    # waited for, the number behind the job's newest state belongs to whoever takes it first: to the job, which writes
    # each state of its waiting and its beginning there, or to somebody who calls it off.
    $next = @(Get-Numbers ($Folder + '\state') '.txt')[-1] + 1
    $own = Get-OwnProcess
    $waited = $false
    $silent = 600
    while ($Parameters.not_before -ne '') {
        $left = Get-SecondsBetween (Get-Clock) $Parameters.not_before
        if ($left -le 0) {
            break
        }
        $mine = $true
        if ($silent -ge 600) {
            $mine = Add-StateAt $Folder 'waiting_for_window' @{ until = $Parameters.not_before } $next $own
            $next += 1
            $waited = $true
            $silent = 0
        }
        elseif (Test-File (Get-NumberedPath ($Folder + '\state') $next '.txt')) {
            $mine = $false
        }
        if (-not $mine) {
            Set-Withdrawn $Folder $Result
            return $false
        }
        if ($left -gt 20) {
            $left = 20
        }
        Wait-Seconds $left
        $silent += 20
    }
    if ($waited -and -not (Add-StateAt $Folder 'window_open' @{} $next $own)) {
        Set-Withdrawn $Folder $Result
        return $false
    }
    if (-not (Test-WindowOpen $Parameters)) {
        $Result.reason = 'window_over'
        return $false
    }
    return $true
}

function Test-Package {
    param([string] $Folder, $Parameters)
    # The package is held by the caller.  The reason is '' when it is what was uploaded, and signed as it must be.
    $found = @{ reason = ''; detail = ''; signature = $null }
    $hash = Get-FileSha256 $Parameters.package
    if ($hash -cne $Parameters.package_sha256) {
        $found.reason = 'package_changed'
        $found.detail = $hash
        return $found
    }
    [void] (Add-State $Folder 'checking_signature' @{})
    $found.signature = Get-PackageSignature $Parameters.package $Parameters.roots $Parameters.signature_seconds
    $found.detail = $found.signature.detail
    if ($found.signature.status -ceq 'invalid') {
        $found.reason = 'signature_invalid'
    }
    elseif ($found.signature.status -cne 'valid' -and -not $Parameters.accept_unverifiable) {
        $found.reason = 'signature_unverifiable'
    }
    return $found
}

function Wait-Turn {
    param([string] $Folder, $Parameters, $Turn)
    # '' when no other installation runs and the window is still open, else the reason why not.
    $told = $Turn.waited - 30
    while (Test-InstallerBusy) {
        if ($Turn.waited -ge $Parameters.busy_seconds) {
            return 'installer_busy'
        }
        if ($Turn.waited - $told -ge 30) {
            [void] (Add-State $Folder 'waiting_for_installer' @{ waited = $Turn.waited })
            $told = $Turn.waited
        }
        Wait-Seconds 5
        $Turn.waited += 5
    }
    if (-not (Test-WindowOpen $Parameters)) {
        return 'window_over'
    }
    return ''
}

function Write-Heartbeat {
    param([string] $Folder, $Child, [int] $Still)
    $values = @{ child_pid = $Child.pid; child_created = $Child.created; still = $Still }
    Add-Quietly $Folder 'installing' $values
}

function Watch-Installer {
    param([string] $Folder, $Child, [int] $Limit)
    # Waits for its end, however long that takes.  A child that stands still is told, and never killed.
    $seen = ''
    $still = 0
    $beat = 0
    $told = $false
    while (-not (Wait-Installer $Child.process 10000)) {
        $beat += 10
        $used = ''
        try {
            $used = Get-ProcessTime $Child.pid
        }
        catch {
            $used = ''
        }
        $still += 10
        if ($used -eq '' -or $used -cne $seen) {
            $still = 0
            $told = $false
        }
        $seen = $used
        $stands = $still -ge $Limit -and $still -gt 0
        if ($beat -ge 30 -or ($stands -and -not $told)) {
            $seconds = 0
            if ($stands) {
                $seconds = $still
            }
            Write-Heartbeat $Folder $Child $seconds
            $beat = 0
            $told = $stands
        }
    }
}

function Invoke-Package {
    param([string] $Folder, $Parameters, $Signature, $Result)
    # Runs it to its end and puts its exit code into $Result; '' or the reason why it did not begin.
    $program = $Parameters.package
    if ($Parameters.program -ne '') {
        $program = (Get-WindowsDirectory) + '\System32\' + $Parameters.program
    }
    $log = $Folder + '\install.log'
    $arguments = $Parameters.arguments.Replace('{package}', $Parameters.package).Replace('{log}', $log)
    $temp = $Folder + '\temp'
    New-PlainFolder $temp
    $values = @{
        command_line = '"' + $program + '" ' + $arguments
        signature = $Signature.status
        signer = $Signature.signer
        root = $Signature.root
        signed_at = $Signature.signed_at
    }
    [void] (Add-State $Folder 'launching' $values)
    try {
        $child = Start-Installer $program $arguments $temp
    }
    catch {
        $Result.detail = [string] $_.Exception.Message
        return 'not_launched'
    }
    Write-Heartbeat $Folder $child 0
    Watch-Installer $Folder $child $Parameters.still_seconds
    $Result.exit_code = Get-InstallerExitCode $child.process
    return ''
}

function Complete-Package {
    param([string] $Folder, $Parameters, $Result)
    # It has ended; what it unpacked and started may outlive it for a while.
    $Result.reason = 'done'
    Add-Quietly $Folder 'installed' @{ exit_code = $Result.exit_code }
    $temp = $Folder + '\temp'
    for ($second = 0; $second -lt $Parameters.busy_seconds -and (Test-FolderProcess $temp); $second += 5) {
        Wait-Seconds 5
    }
}

function Test-PendingRename {
    param($Parameters)
    # Whether the DLL waits for the next restart.
    $renames = [string] (Get-RegistryValue $Parameters.rename_key $Parameters.rename_value)
    foreach ($line in $renames.Split("`n")) {
        if ($line.EndsWith($Parameters.dll, [System.StringComparison]::OrdinalIgnoreCase)) {
            return $true
        }
    }
    return $false
}

function Get-RunningServices {
    param($Roots)
    # The names of those of the roots that run, and of all that needs them, in the order in which they have to stop.
    $names = @()
    foreach ($root in @($Roots)) {
        $status = Get-ServiceStatus $root
        if ($null -eq $status -or $status -ceq 'stopped') {
            continue
        }
        $these = @(Get-DependentServices $root)
        $these += $root
        foreach ($name in $these) {
            if ($names -notcontains $name) {
                $names += $name
                $name
            }
        }
    }
}

function Start-Services {
    param([string] $Services, [string] $Sites, [string] $IdleSites, [int] $Seconds)
    # Lists are divided by '/', services in the order in which they stopped.  Each is tried, whatever becomes of others.
    # What is no longer there was removed meanwhile.  The lines that are returned tell what does not run.
    $names = $Services.Split('/')
    $trouble = @()
    for ($index = $names.Length - 1; $index -ge 0; $index--) {
        if ($names[$index] -ne '' -and $null -ne (Get-ServiceStatus $names[$index])) {
            $told = Switch-Service $names[$index] $true $Seconds
            if ($told -ne '') {
                $trouble += $names[$index] + ': ' + $told
            }
        }
    }
    # IIS starts the sites that it is set to start: those that ran though they were not, and the other way round.
    try {
        foreach ($site in @(Get-WebSites)) {
            $ran = $Sites.Split('/') -contains $site.number
            $idle = $IdleSites.Split('/') -contains $site.number
            $told = ''
            if (($ran -and -not $site.running) -or ($idle -and $site.running)) {
                $told = Switch-WebSite $site.number $ran
            }
            if ($told -ne '') {
                $trouble += 'site ' + $site.name + ': ' + $told
            }
        }
    }
    catch {
        $trouble += 'sites: ' + [string] $_.Exception.Message
    }
    return ($trouble -join '; ')
}

function Get-CutText {
    param([string] $Text)
    if ($Text.Length -gt 2000) {
        return $Text.Substring(0, 2000)
    }
    return $Text
}

function Get-ConnectionText {
    param($Parameters, $OwnPrograms)
    # One line for each connection to the database that is not of one of these programs on this server.
    $own = Get-ComputerName
    $lines = @()
    foreach ($connection in @(Get-DatabaseConnections $Parameters.server $Parameters.database 60)) {
        $name = ''
        if ($connection.host -eq $own -and $connection.process -cmatch '^[0-9]{1,9}$') {
            $name = Get-ProcessName ([int] $connection.process)
        }
        $ours = $name -ne '' -and @($OwnPrograms) -contains $name
        if (-not $ours -and $lines.Length -lt 20) {
            $lines += $connection.host + ': ' + $name + ' ' + $connection.program
        }
    }
    return ($lines -join "`n")
}

function Copy-SetupLogs {
    param([string] $Folder, $Parameters, [string] $Since)
    # What runs in the service of Windows Installer writes into that service's own folder; only logs of this run count.
    $from = (Get-WindowsDirectory) + '\' + $Parameters.system_temp
    $to = $Folder + '\temp\system'
    foreach ($name in @(Get-FolderEntries $from)) {
        $ours = $false
        foreach ($start in @($Parameters.log_names)) {
            if ($name.StartsWith($start, [System.StringComparison]::OrdinalIgnoreCase)) {
                $ours = $true
            }
        }
        $path = $from + '\' + $name
        if (-not $ours -or -not (Test-File $path)) {
            continue
        }
        # A log that cannot be copied stays where it is, and is no reason to fail.
        try {
            if ((Get-SecondsBetween $Since (Get-FileTime $path)) -ge -1) {
                New-PlainFolder $to
                Join-Files @($path) ($to + '\' + $name)
            }
        }
        catch {
            continue
        }
    }
}

function Test-WholeLines {
    param([string] $Path)
    return ($null -ne (ConvertFrom-Lines (Read-TextFile $Path)))
}

function Get-OpenRecords {
    param([string] $Kept)
    # The numbers of the whole records whose way back was not gone to its end, the newest first.
    $numbers = @(Get-Numbers $Kept '.record')
    for ($index = $numbers.Length - 1; $index -ge 0; $index--) {
        $number = $numbers[$index]
        if (Test-WholeLines (Get-NumberedPath $Kept $number '.record')) {
            if (-not (Test-WholeLines (Get-NumberedPath $Kept $number '.closed'))) {
                $number
            }
        }
    }
}

function Get-NewestKept {
    param([string] $Kept, [string] $Ending)
    # The text of the newest whole file with this ending, or ''.
    $numbers = @(Get-Numbers $Kept $Ending)
    for ($index = $numbers.Length - 1; $index -ge 0; $index--) {
        $text = Read-TextFile (Get-NumberedPath $Kept $numbers[$index] $Ending)
        if ($null -ne (ConvertFrom-Lines $text)) {
            return $text
        }
    }
    return ''
}

function Get-ResetState {
    param([string] $Kept)
    # Who is no administrator may not even look at it.
    try {
        $trust = Get-FolderTrust $Kept
    }
    catch {
        $trust = 'refused'
    }
    if ($trust -eq 'absent') {
        return 'none'
    }
    if ($trust -ne '') {
        return 'refused'
    }
    if (@(Get-OpenRecords $Kept).Length -gt 0) {
        return 'open'
    }
    # A marker of an earlier reset proves nothing any more, once a later one was begun.
    $numbers = @(Get-Numbers $Kept '.record')
    for ($index = $numbers.Length - 1; $index -ge 0; $index--) {
        if (Test-WholeLines (Get-NumberedPath $Kept $numbers[$index] '.record')) {
            if (Test-WholeLines (Get-NumberedPath $Kept $numbers[$index] '.marker')) {
                return 'marked'
            }
            return 'none'
        }
    }
    return 'none'
}

function Add-KeptFile {
    param([string] $Kept, [int] $Number, [string] $Ending, [string] $Text)
    # On the disk and whole when this returns; what is not whole was cut off while it was written, and says nothing.
    $path = Get-NumberedPath $Kept $Number $Ending
    if ((Test-File $path) -and -not (Test-WholeLines $path)) {
        Remove-File $path
    }
    [void] (Add-TextFile $path $Text)
    if (-not (Test-WholeLines $path)) {
        throw ('not written: ' + $path)
    }
}

function Add-UpgradeRecord {
    param([string] $Kept, $Values)
    # Whoever comes after a power cut, and after the staging folder is gone, reads here what ran; the record's number.
    $number = 1
    $numbers = @(Get-Numbers $Kept '.upgrade')
    if ($numbers.Length -gt 0) {
        $number = $numbers[-1] + 1
    }
    $Values.record = $number
    $text = 'time=' + (Get-Clock) + "`n"
    foreach ($entry in $Values.GetEnumerator()) {
        $text += $entry.Key + '=' + (ConvertTo-OneLine $entry.Value) + "`n"
    }
    Add-KeptFile $Kept $number '.upgrade' ($text + "end`n")
    return $number
}

function Get-WishText {
    param([bool] $Restart, $Parameters)
    # Whether setup asks for a restart, and by what it is seen later that there was one: what waits for a restart is
    # gone after it, and the server was started at another time, whatever becomes of the clock meanwhile.
    $waits = [string] (Get-RegistryValue $Parameters.rename_key $Parameters.rename_value)
    $system = Get-OperatingSystem
    return 'time=' + (Get-Clock) + "`nrestart=" + (ConvertTo-OneLine $Restart) + "`nboot=" + $system.boot_time +
        "`nwaits=" + (ConvertTo-OneLine $waits) + "`nend`n"
}

function Add-SetupEnd {
    param([string] $Kept, [int] $Number, [bool] $Restart, $Parameters)
    # At once when setup has ended: whoever finds this job cut off, and its folder gone, still knows what setup asked for.
    try {
        Add-KeptFile $Kept $Number '.setup' (Get-WishText $Restart $Parameters)
    }
    catch {
        return
    }
}

function Close-UpgradeRecord {
    param([string] $Kept, [int] $Number, [string] $NotStarted, [bool] $There, [bool] $Restart, $Parameters)
    # As far as the way back has gone.  What cannot be written down stays open, and is gone once more by the next run.
    # That WSUS is there comes first: nobody else would write it down, once all runs again.
    try {
        $text = Get-WishText $Restart $Parameters
        if ($There) {
            Add-KeptFile $Kept $Number '.stands' $text
        }
        if ($NotStarted -eq '') {
            Add-KeptFile $Kept $Number '.running' $text
        }
    }
    catch {
        return
    }
}

function Test-WsusServer {
    param($Parameters)
    # A console alone, or what a failed setup leaves of the key, is no server.
    return (@($Parameters.server_types) -contains [string] (Get-RegistryValue $Parameters.setup_key 'InstallType'))
}

function Complete-Removal {
    param($Parameters)
    # A WSUS that its setup had removed has come back, or is not to: nobody is told of it any more.
    $kept = Get-StagingPath $Parameters.kept_name
    $record = Get-UpgradeRecord $kept
    if ($record.state -cne 'open') {
        return
    }
    $why = ''
    if (Test-WsusServer $Parameters) {
        $why = 'returned'
    }
    elseif ($Parameters.removal_meant) {
        $why = 'meant'
    }
    if ($why -ne '') {
        $identity = Get-SessionIdentity
        $text = 'time=' + (Get-Clock) + "`nwhy=" + $why + "`naccount_sid=" + $identity.sid + "`nend`n"
        Add-KeptFile $kept ([int] $record.number) '.settled' $text
    }
}

function Add-RestartRecord {
    param([string] $Kept, [string] $JobId, $Roots)
    # What runs right before a restart, for whoever comes after it; its number, or '' where it cannot be kept.
    try {
        if ((Get-FolderTrust $Kept) -eq 'absent') {
            New-ClosedFolder $Kept
        }
        if ((Get-FolderTrust $Kept) -ne '') {
            return ''
        }
        $ran = @()
        $idle = @()
        try {
            foreach ($site in @(Get-WebSites)) {
                if ($site.running) {
                    $ran += $site.number
                }
                else {
                    $idle += $site.number
                }
            }
        }
        catch {
            # Without IIS there are none; services there may be.
            $ran = @()
            $idle = @()
        }
        $number = 1
        $numbers = @(Get-Numbers $Kept '.restart')
        if ($numbers.Length -gt 0) {
            $number = $numbers[-1] + 1
        }
        $system = Get-OperatingSystem
        $text = 'time=' + (Get-Clock) + "`nboot=" + $system.boot_time + "`njob_id=" + (ConvertTo-OneLine $JobId) +
            "`nservices=" + (ConvertTo-OneLine (@(Get-RunningServices $Roots) -join '/')) +
            "`nsites=" + (ConvertTo-OneLine ($ran -join '/')) +
            "`nidle_sites=" + (ConvertTo-OneLine ($idle -join '/')) + "`nend`n"
        Add-KeptFile $Kept $number '.restart' $text
        return (ConvertTo-OneLine $number)
    }
    catch {
        # The restart does not depend on it.
        return ''
    }
}

function Close-RestartRecord {
    param([string] $Kept, [string] $Number)
    # All runs again that ran before, or there was no restart.
    try {
        Add-KeptFile $Kept ([int] $Number) '.back' ('time=' + (Get-Clock) + "`nend`n")
    }
    catch {
        return
    }
}

function Get-KeptRecord {
    param([string] $Kept, [string] $Ending)
    # The newest whole record of that ending: its number and its text, both '' without one.
    $found = @{ number = ''; text = '' }
    # Who is no administrator may not even look at it.
    try {
        $trust = Get-FolderTrust $Kept
    }
    catch {
        $trust = 'refused'
    }
    if ($trust -ne '') {
        return $found
    }
    $numbers = @(Get-Numbers $Kept $Ending)
    for ($index = $numbers.Length - 1; $index -ge 0; $index--) {
        $text = Read-TextFile (Get-NumberedPath $Kept $numbers[$index] $Ending)
        if ($null -ne (ConvertFrom-Lines $text)) {
            $found.number = ConvertTo-OneLine $numbers[$index]
            $found.text = $text
            return $found
        }
    }
    return $found
}

function Get-RestartRecord {
    param([string] $Kept)
    # The newest whole record of what ran before a restart; nothing once it was seen to run again.
    $found = Get-KeptRecord $Kept '.restart'
    if ($found.number -ne '' -and (Test-WholeLines (Get-NumberedPath $Kept ([int] $found.number) '.back'))) {
        return @{ number = ''; text = '' }
    }
    return $found
}

function Get-UpgradeRecord {
    param([string] $Kept)
    # The newest whole record of what an upgrade has stopped, and how far its way back has gone.
    $found = Get-KeptRecord $Kept '.upgrade'
    $found.state = 'none'
    $found.setup = ''
    $found.end = ''
    if ($found.number -eq '') {
        return $found
    }
    $number = [int] $found.number
    $found.state = 'stopped'
    $setup = Get-NumberedPath $Kept $number '.setup'
    if (Test-WholeLines $setup) {
        $found.setup = Read-TextFile $setup
    }
    $stands = Get-NumberedPath $Kept $number '.stands'
    if (Test-WholeLines $stands) {
        $found.end = Read-TextFile $stands
    }
    if (Test-WholeLines (Get-NumberedPath $Kept $number '.running')) {
        $found.state = 'open'
        if ($found.end -ne '') {
            $found.state = 'closed'
        }
        elseif (Test-WholeLines (Get-NumberedPath $Kept $number '.settled')) {
            $found.state = 'settled'
        }
    }
    return $found
}
