# wsusfix script: upgrade
param($Parameters)
# The job that stops IIS and WSUS, runs WSUS setup, and starts again exactly what ran; as SYSTEM from its own folder.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Wait-Connections {
    param($Parameters)
    # Those of WSUS vanish with its stop, the last of them a little later; what is left then is in the way, whosever it
    # is: setup fails of a process of WSUS that outlives its service just as well.
    for ($second = 0; $second -le 60; $second += 5) {
        $others = Get-ConnectionText $Parameters @()
        if ($others -eq '') {
            return ''
        }
        Wait-Seconds 5
    }
    return $others
}

function Stop-Named {
    param($Names, $Parameters)
    # In their order; '' or what went wrong with the first that does not stop.
    foreach ($name in @($Names)) {
        $told = Switch-Service $name $false $Parameters.stop_seconds
        if ($told -ne '') {
            return $name + ': ' + $told
        }
    }
    return ''
}

function Get-AlsoRunning {
    param($Names, $Parameters)
    # What runs now and did not before: setup has started it, and may need it; it is told and not stopped.
    $also = @()
    foreach ($name in @(Get-RunningServices $Parameters.service_roots)) {
        if (@($Names) -notcontains $name) {
            $also += $name
        }
    }
    return ($also -join ', ')
}

function Install-Stopped {
    param([string] $Folder, $Parameters, $Signature, $Result, [string] $Kept, [int] $Record)
    # Between the stop and the start: whoever else uses the database is seen now, and nothing is begun then.
    [void] (Add-State $Folder 'checking_connections' @{})
    $others = Wait-Connections $Parameters
    if ($others -ne '') {
        $Result.reason = 'connections'
        $Result.detail = $others
        return
    }
    if (-not (Test-WindowOpen $Parameters)) {
        $Result.reason = 'window_over'
        return
    }
    $reason = Invoke-Package $Folder $Parameters $Signature $Result
    if ($reason -ne '') {
        $Result.reason = $reason
        return
    }
    $restart = @($Parameters.restart_codes) -contains $Result.exit_code
    Add-SetupEnd $Kept $Record $restart $Parameters
    Complete-Package $Folder $Parameters $Result
}

function Install-Between {
    param([string] $Folder, $Parameters, $Signature, $Result)
    # Stops what was named to whoever consented, and starts it again whatever happens in between.
    $running = @(Get-RunningServices $Parameters.service_roots)
    foreach ($name in $running) {
        if (@($Parameters.services) -notcontains $name) {
            $Result.reason = 'other_services'
            $Result.detail = $name
            return
        }
    }
    $sites = @()
    $idle = @()
    foreach ($site in @(Get-WebSites)) {
        if (-not $site.running) {
            $idle += $site.number
            continue
        }
        if (@($Parameters.sites) -notcontains $site.number) {
            $Result.reason = 'other_sites'
            $Result.detail = $site.name
            return
        }
        $sites += $site.number
    }
    $kept = Get-StagingPath $Parameters.kept_name
    if ((Get-FolderTrust $kept) -eq 'absent') {
        New-ClosedFolder $kept
    }
    $trust = Get-FolderTrust $kept
    if ($trust -ne '') {
        $Result.reason = 'kept_refused'
        $Result.detail = $trust
        return
    }
    $ran = @{
        services = ($running -join '/')
        sites = ($sites -join '/')
        idle_sites = ($idle -join '/')
        backup = $Parameters.backup
        record = ''
    }
    # Before the first of them stops: whoever comes after a power cut reads here what ran.
    $more = @{ job_id = $Folder.Substring($Folder.LastIndexOf('\') + 1); version = $Result.version_before }
    $ran.record = Add-UpgradeRecord $kept ($ran + $more)
    [void] (Add-State $Folder 'stopping' $ran)
    try {
        $told = Stop-Named $running $Parameters
        if ($told -ne '') {
            $Result.reason = 'not_stopped'
            $Result.detail = $told
            return
        }
        Install-Stopped $Folder $Parameters $Signature $Result $kept $ran.record
    }
    catch {
        # Said here: what comes next may take minutes.
        $Result.detail = [string] $_.Exception.Message
    }
    finally {
        Add-Quietly $Folder 'starting_services' @{}
        $Result.not_started = Start-Services $ran.services $ran.sites $ran.idle_sites $Parameters.stop_seconds
        $restart = @($Parameters.restart_codes) -contains $Result.exit_code
        $there = Test-WsusServer $Parameters
        Close-UpgradeRecord $kept $ran.record $Result.not_started $there $restart $Parameters
        $Result.also_running = Get-AlsoRunning $running $Parameters
    }
}

function Install-ServicePack {
    param([string] $Folder, $Parameters, $Result)
    # Writes the states up to 'starting_services', and into $Result how it ended.
    if (-not (Wait-Window $Folder $Parameters $Result)) {
        return
    }
    [void] (Add-State $Folder 'checking_package' @{ release = $Parameters.release })
    if (-not (Test-File $Parameters.package)) {
        $Result.reason = 'package_missing'
        return
    }
    $began = Get-Clock
    # Held from before it is hashed until after it has run: what runs is what was hashed.
    $lock = Lock-File $Parameters.package
    try {
        $Result.version_before = [string] (Get-RegistryValue $Parameters.setup_key 'VersionString')
        if ($Result.version_before -cne $Parameters.version) {
            $Result.reason = 'other_version'
            return
        }
        $found = Test-Package $Folder $Parameters
        if ($found.reason -ne '') {
            $Result.reason = $found.reason
            $Result.detail = $found.detail
            return
        }
        $reason = Wait-Turn $Folder $Parameters @{ waited = 0 }
        if ($reason -ne '') {
            $Result.reason = $reason
            return
        }
        Install-Between $Folder $Parameters $found.signature $Result
    }
    finally {
        Unlock-File $lock
    }
    Copy-SetupLogs $Folder $Parameters $began
}

function Complete-Upgrade {
    param($Parameters, $Result)
    # What stands on the server afterwards, and the entry in the event log.
    if ($null -eq $Parameters) {
        return
    }
    $Result.version_after = [string] (Get-RegistryValue $Parameters.setup_key 'VersionString')
    $Result.there = Test-WsusServer $Parameters
    $Result.pending_rename = Test-PendingRename $Parameters
    $text = $Parameters.audit + "`r`nresult: " + $Result.reason + "`r`nexit code: " + $Result.exit_code +
        "`r`nversion before: " + $Result.version_before + "`r`nversion after: " + $Result.version_after +
        "`r`nnot started again: " + $Result.not_started + "`r`nstarted besides: " + $Result.also_running +
        "`r`n" + $Result.detail
    $failed = -not $Result.version_after.StartsWith($Parameters.release, [System.StringComparison]::Ordinal)
    $Result.event_logged = Write-ApplicationLog $Parameters.event_source $text $failed
}

$folder = Get-ScriptFolder ([string] $MyInvocation.MyCommand.Path)
if (-not (Add-Start $folder)) {
    return
}

$result = @{
    reason = 'broken'
    detail = ''
    exit_code = ''
    version_before = ''
    version_after = ''
    there = $true
    pending_rename = $false
    not_started = ''
    also_running = ''
    event_logged = $false
}
try {
    $Parameters = Read-Parameters ($folder + '\parameters.xml')
    [void] (Install-ServicePack $folder $Parameters $result)
}
catch {
    # The reason stays: it is 'broken', unless setup ran to its end before.
    $result.detail = [string] $_.Exception.Message
}
try {
    [void] (Complete-Upgrade $Parameters $result)
}
catch {
    $result.detail = $result.detail + ' ' + [string] $_.Exception.Message
}
Add-End $folder $result
