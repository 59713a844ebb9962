# wsusfix script: check_prerequisites
param($Parameters)
# The job that lets WSUS setup check its prerequisites, and nothing else, run as SYSTEM from its own folder.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Test-Prerequisites {
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
    $began = Get-Clock
    $lock = Lock-File $Parameters.package
    try {
        $found = Test-Package $Folder $Parameters
        if ($found.reason -ne '') {
            $Result.reason = $found.reason
            $Result.detail = $found.detail
            return
        }
        $reason = Wait-Turn $Folder $Parameters @{ waited = 0 }
        if ($reason -eq '') {
            $reason = Invoke-Package $Folder $Parameters $found.signature $Result
        }
        if ($reason -ne '') {
            $Result.reason = $reason
            return
        }
        Complete-Package $Folder $Parameters $Result
    }
    finally {
        Unlock-File $lock
    }
    Copy-SetupLogs $Folder $Parameters $began
}

$folder = Get-ScriptFolder ([string] $MyInvocation.MyCommand.Path)
if (-not (Add-Start $folder)) {
    return
}

$result = @{
    reason = 'broken'
    detail = ''
    exit_code = ''
    event_logged = $false
}
try {
    $Parameters = Read-Parameters ($folder + '\parameters.xml')
    [void] (Test-Prerequisites $folder $Parameters $result)
    $text = $Parameters.audit + "`r`nresult: " + $result.reason + "`r`nexit code: " + $result.exit_code +
        "`r`n" + $result.detail
    $failed = $result.reason -cne 'done' -or $result.exit_code -cne '0'
    $result.event_logged = Write-ApplicationLog $Parameters.event_source $text $failed
}
catch {
    # The reason stays: it is 'broken', unless setup ran to its end before.
    $result.detail = [string] $_.Exception.Message
}
Add-End $folder $result
