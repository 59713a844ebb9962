# wsusfix script: restart
param($Parameters)
# The job that restarts the server, run as SYSTEM from its own folder; only whoever was asked to starts it.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Restart-Server {
    param([string] $Folder, $Parameters, $Result)
    # Writes the states up to 'restarting', and into $Result how it ended.
    if (-not (Wait-Window $Folder $Parameters $Result)) {
        return
    }
    $reason = Wait-Turn $Folder $Parameters @{ waited = 0 }
    if ($reason -ne '') {
        $Result.reason = $reason
        return
    }
    $kept = Get-StagingPath $Parameters.kept_name
    $job = $Folder.Substring($Folder.LastIndexOf('\') + 1)
    $ran = Add-RestartRecord $kept $job $Parameters.service_roots
    [void] (Add-State $Folder 'restarting' @{})
    $Result.event_logged = Write-ApplicationLog $Parameters.event_source $Parameters.audit $false
    $Result.detail = Start-Restart $Parameters.text $Parameters.delay_seconds
    $Result.reason = 'not_restarted'
    if ($Result.detail -eq '') {
        # The restart ends this process.  As long as it lives it is at work: nobody else begins what would be cut off.
        Add-Quietly $Folder 'restart_ordered' @{ event_logged = $Result.event_logged }
        for ($second = 0; $second -lt $Parameters.restart_seconds; $second += 5) {
            Wait-Seconds 5
        }
        $Result.reason = 'still_up'
    }
    # There was no restart, so that nothing is to be started again after it.
    if ($ran -ne '') {
        Close-RestartRecord $kept $ran
    }
}

$folder = Get-ScriptFolder ([string] $MyInvocation.MyCommand.Path)
if (-not (Add-Start $folder)) {
    return
}

$result = @{
    reason = 'broken'
    detail = ''
    event_logged = $false
}
try {
    $Parameters = Read-Parameters ($folder + '\parameters.xml')
    [void] (Restart-Server $folder $Parameters $result)
}
catch {
    $result.detail = [string] $_.Exception.Message
}
Add-End $folder $result
