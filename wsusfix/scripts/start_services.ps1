# wsusfix script: start_services
param($Parameters)
# The job that starts again what a cut-off upgrade stopped, or what ran before a restart; as SYSTEM from its own folder.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$folder = Get-ScriptFolder ([string] $MyInvocation.MyCommand.Path)
if (-not (Add-Start $folder)) {
    return
}

$result = @{
    reason = 'broken'
    detail = ''
    not_started = ''
    event_logged = $false
}
try {
    $Parameters = Read-Parameters ($folder + '\parameters.xml')
    $names = $Parameters.services
    $lists = @{
        services = $names
        sites = $Parameters.sites
        idle_sites = $Parameters.idle_sites
        record = $Parameters.record
    }
    [void] (Add-State $folder 'starting_services' $lists)
    $result.not_started = Start-Services $names $Parameters.sites $Parameters.idle_sites $Parameters.stop_seconds
    $result.reason = 'done'
    $kept = Get-StagingPath $Parameters.kept_name
    if ($Parameters.ran -ne '' -and $result.not_started -eq '') {
        Close-RestartRecord $kept $Parameters.ran
    }
    if ($Parameters.record -ne '') {
        $there = Test-WsusServer $Parameters
        $number = [int] $Parameters.record
        Close-UpgradeRecord $kept $number $result.not_started $there $Parameters.restart $Parameters
    }
    $text = $Parameters.audit + "`r`nstarted again: " + $names + "`r`nnot started again: " + $result.not_started
    $failed = $result.not_started -ne ''
    $result.event_logged = Write-ApplicationLog $Parameters.event_source $text $failed
}
catch {
    $result.detail = [string] $_.Exception.Message
}
Add-End $folder $result
