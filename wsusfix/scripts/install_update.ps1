# wsusfix script: install_update
param($Parameters)
# The job, run as SYSTEM from its own folder: checks the package once more, runs it, and writes down how it went.
# It takes no arguments: folder and parameters are beside it.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Test-Fixed {
    param([string] $Version, [string] $Required)
    if ($Version -eq '') {
        return $false
    }
    return (([System.Version] $Version) -ge ([System.Version] $Required))
}

function Install-Checked {
    param([string] $Folder, $Parameters, $Signature, $Result)
    # Waits for its turn and runs the package, again where another installation was quicker.
    $turn = @{ waited = 0 }
    while ($true) {
        $reason = Wait-Turn $Folder $Parameters $turn
        # The other installation may have been this very update.
        if ($reason -eq '' -and (Test-Fixed (Get-FileVersion $Parameters.dll) $Parameters.required_version)) {
            $reason = 'already_fixed'
        }
        if ($reason -eq '') {
            $reason = Invoke-Package $Folder $Parameters $Signature $Result
        }
        if ($reason -ne '') {
            $Result.reason = $reason
            return
        }
        # Unless another installation was quicker.
        if ($Result.exit_code -cne $Parameters.busy_exit_code) {
            break
        }
        if ($turn.waited -ge $Parameters.busy_seconds) {
            $Result.reason = 'installer_busy'
            return
        }
        Add-Quietly $Folder 'waiting_for_installer' @{ waited = $turn.waited }
        Wait-Seconds 15
        $turn.waited += 15
    }
    Complete-Package $Folder $Parameters $Result
}

function Install-Update {
    param([string] $Folder, $Parameters, $Result)
    # Writes the states up to 'installed', and into $Result how it ended.
    if (-not (Wait-Window $Folder $Parameters $Result)) {
        return
    }
    [void] (Add-State $Folder 'checking_package' @{})
    if (-not (Test-File $Parameters.package)) {
        $Result.reason = 'package_missing'
        return
    }
    # Held from before it is hashed until after it has run: what runs is what was hashed.
    $lock = Lock-File $Parameters.package
    try {
        $Result.dll_before = [string] (Get-FileVersion $Parameters.dll)
        if (Test-Fixed $Result.dll_before $Parameters.required_version) {
            $Result.reason = 'already_fixed'
            return
        }
        $found = Test-Package $Folder $Parameters
        if ($found.reason -ne '') {
            $Result.reason = $found.reason
            $Result.detail = $found.detail
            return
        }
        Install-Checked $Folder $Parameters $found.signature $Result
    }
    finally {
        Unlock-File $lock
    }
}

function Complete-Update {
    param($Parameters, $Result)
    # What the DLL says afterwards, and the entry in the event log.
    if ($null -eq $Parameters) {
        return
    }
    $Result.dll_after = [string] (Get-FileVersion $Parameters.dll)
    $Result.pending_rename = Test-PendingRename $Parameters
    $waits = $Result.pending_rename -and $Result.reason -ceq 'done'
    $failed = -not $waits -and -not (Test-Fixed $Result.dll_after $Parameters.required_version)
    $text = $Parameters.audit + "`r`nresult: " + $Result.reason + "`r`nexit code: " + $Result.exit_code +
        "`r`nDLL before: " + $Result.dll_before + "`r`nDLL after: " + $Result.dll_after + "`r`n" + $Result.detail
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
    dll_before = ''
    dll_after = ''
    pending_rename = $false
    event_logged = $false
}
try {
    $Parameters = Read-Parameters ($folder + '\parameters.xml')
    [void] (Install-Update $folder $Parameters $result)
}
catch {
    # The reason stays: it is 'broken', unless the installer ran to its end before.
    $result.detail = [string] $_.Exception.Message
}
try {
    [void] (Complete-Update $Parameters $result)
}
catch {
    $result.detail = $result.detail + ' ' + [string] $_.Exception.Message
}
Add-End $folder $result
