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

function Wait-OtherInstaller {
    param([string] $Folder, [int] $Waited, [int] $Limit)
    # How long was waited in all, or -1 when another installation still runs after that long.
    $told = $Waited - 30
    while (Test-InstallerBusy) {
        if ($Waited -ge $Limit) {
            return -1
        }
        if ($Waited - $told -ge 30) {
            [void] (Add-State $Folder 'waiting_for_installer' @{ waited = $Waited })
            $told = $Waited
        }
        Wait-Seconds 5
        $Waited += 5
    }
    return $Waited
}

function Add-Quietly {
    param([string] $Folder, [string] $Phase, $Values)
    # While the installer is at work, a full disk must not keep the job from waiting for its end.
    try {
        [void] (Add-State $Folder $Phase $Values)
    }
    catch {
        return
    }
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

function Install-Package {
    param([string] $Folder, $Parameters, $Result)
    # Writes the states up to 'installed', and into $Result how it ended.
    [void] (Add-State $Folder 'checking_package' @{})
    if (-not (Test-File $Parameters.package)) {
        $Result.reason = 'package_missing'
        return
    }
    # Held from before it is hashed until after it has run: what runs is what was hashed.
    $lock = Lock-File $Parameters.package
    try {
        $found = Get-FileSha256 $Parameters.package
        if ($found -cne $Parameters.package_sha256) {
            $Result.reason = 'package_changed'
            $Result.detail = $found
            return
        }
        $Result.dll_before = [string] (Get-FileVersion $Parameters.dll)
        if (Test-Fixed $Result.dll_before $Parameters.required_version) {
            $Result.reason = 'already_fixed'
            return
        }

        [void] (Add-State $Folder 'checking_signature' @{})
        $signature = Get-PackageSignature $Parameters.package $Parameters.roots $Parameters.signature_seconds
        if ($signature.status -ceq 'invalid') {
            $Result.reason = 'signature_invalid'
            $Result.detail = $signature.detail
            return
        }
        if ($signature.status -cne 'valid' -and -not $Parameters.accept_unverifiable) {
            $Result.reason = 'signature_unverifiable'
            $Result.detail = $signature.detail
            return
        }

        $program = $Parameters.package
        if ($Parameters.program -ne '') {
            $program = (Get-WindowsDirectory) + '\System32\' + $Parameters.program
        }
        $log = $Folder + '\install.log'
        $arguments = $Parameters.arguments.Replace('{package}', $Parameters.package).Replace('{log}', $log)
        $temp = $Folder + '\temp'
        New-PlainFolder $temp

        $waited = 0
        while ($true) {
            $waited = Wait-OtherInstaller $Folder $waited $Parameters.busy_seconds
            if ($waited -lt 0) {
                $Result.reason = 'installer_busy'
                return
            }
            # The other installation may have been this very update.
            if (Test-Fixed (Get-FileVersion $Parameters.dll) $Parameters.required_version) {
                $Result.reason = 'already_fixed'
                return
            }
            $values = @{
                command_line = '"' + $program + '" ' + $arguments
                signature = $signature.status
                signer = $signature.signer
                root = $signature.root
                signed_at = $signature.signed_at
            }
            [void] (Add-State $Folder 'launching' $values)
            try {
                $child = Start-Installer $program $arguments $temp
            }
            catch {
                $Result.reason = 'not_launched'
                $Result.detail = [string] $_.Exception.Message
                return
            }
            Write-Heartbeat $Folder $child 0
            Watch-Installer $Folder $child $Parameters.still_seconds
            $Result.exit_code = Get-InstallerExitCode $child.process
            # 1618: another installation was quicker.
            if ($Result.exit_code -cne '1618') {
                break
            }
            if ($waited -ge $Parameters.busy_seconds) {
                $Result.reason = 'installer_busy'
                return
            }
            Add-Quietly $Folder 'waiting_for_installer' @{ waited = $waited }
            Wait-Seconds 15
            $waited += 15
        }
        $Result.reason = 'done'
        Add-Quietly $Folder 'installed' @{ exit_code = $Result.exit_code }
        # What it unpacked and started may outlive it for a while.
        for ($second = 0; $second -lt $Parameters.busy_seconds -and (Test-FolderProcess $temp); $second += 5) {
            Wait-Seconds 5
        }
    }
    finally {
        Unlock-File $lock
    }
}

function Complete-Job {
    param($Parameters, $Result)
    # What the DLL says afterwards, and the entry in the event log.
    if ($null -eq $Parameters) {
        return
    }
    $Result.dll_after = [string] (Get-FileVersion $Parameters.dll)
    $renames = [string] (Get-RegistryValue $Parameters.rename_key $Parameters.rename_value)
    foreach ($line in $renames.Split("`n")) {
        if ($line.EndsWith($Parameters.dll, [System.StringComparison]::OrdinalIgnoreCase)) {
            $Result.pending_rename = $true
        }
    }
    $waits = $Result.pending_rename -and $Result.reason -ceq 'done'
    $failed = -not $waits -and -not (Test-Fixed $Result.dll_after $Parameters.required_version)
    $text = $Parameters.audit + "`r`nresult: " + $Result.reason + "`r`nexit code: " + $Result.exit_code +
        "`r`nDLL before: " + $Result.dll_before + "`r`nDLL after: " + $Result.dll_after + "`r`n" + $Result.detail
    $Result.event_logged = Write-ApplicationLog $Parameters.event_source $text $failed
}

$path = [string] $MyInvocation.MyCommand.Path
$folder = $path.Substring(0, $path.LastIndexOf('\'))
$identity = Get-SessionIdentity
# The first state is the token: a task that fires a second time, or too late, ends here.
if (-not (Add-State $folder 'started' @{ account_sid = $identity.sid })) {
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
    [void] (Install-Package $folder $Parameters $result)
}
catch {
    # The reason stays: it is 'broken', unless the installer ran to its end before.
    $result.detail = [string] $_.Exception.Message
}
try {
    [void] (Complete-Job $Parameters $result)
}
catch {
    $result.detail = $result.detail + ' ' + [string] $_.Exception.Message
}
# A disk that the installer filled may have room again in a moment.
for ($try = 0; $try -lt 20; $try++) {
    try {
        [void] (Add-State $folder 'finished' $result)
        break
    }
    catch {
        Wait-Seconds 15
    }
}
