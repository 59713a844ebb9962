# wsusfix script: reset_approvals
param($Parameters)
# The job, run as SYSTEM from its own folder: saves the approvals of updates, resets them, and puts back what had to be
# switched for it.  It takes no arguments: folder and parameters are beside it.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Wait-WsusReady {
    param([string] $Folder, [int] $Limit)
    # Whether WSUS takes changes now; $false when something still runs there after that long.
    $waited = 0
    $told = -30
    while ($true) {
        $state = (Get-WsusSettings).state
        if ($state -ceq 'Ready') {
            return $true
        }
        if ($waited -ge $Limit) {
            return $false
        }
        if ($waited - $told -ge 30) {
            Add-Quietly $Folder 'waiting_for_wsus' @{ waited = $waited; state = $state }
            $told = $waited
        }
        Wait-Seconds 5
        $waited += 5
    }
}

function Set-WsusSetting {
    param([string] $Folder, [string] $Name, [bool] $Value, [int] $Limit)
    # '' or what kept it.  Something may begin between the look and the change, and is waited for too.
    $trouble = ''
    for ($try = 0; $try -lt 5; $try++) {
        if (-not (Wait-WsusReady $Folder $Limit)) {
            return 'WSUS was not ready'
        }
        try {
            if ($Name -ceq 'replica') {
                Set-WsusReplica $Value
            }
            else {
                Set-WsusAutomatic $Value
            }
            return ''
        }
        catch {
            $trouble = [string] $_.Exception.Message
        }
        Wait-Seconds 5
    }
    return $trouble
}

function Get-RestoreTrouble {
    param($Record)
    # '' when nothing is switched any more; else what keeps it, or what was just saved and is to be looked at again.
    # Only a replica is ever switched.  Whatever else was set since is somebody's will, and stays.
    if ($Record.replica -cne 'true') {
        return ''
    }
    # First a replica again, and only then by its timetable.
    $settings = Get-WsusSettings
    foreach ($name in @('replica', 'automatic')) {
        if ($Record[$name] -ceq 'true' -and -not $settings[$name]) {
            if ($settings.state -cne 'Ready') {
                return ($name + ': WSUS was not ready: ' + $settings.state)
            }
            try {
                if ($name -ceq 'replica') {
                    Set-WsusReplica $true
                }
                else {
                    Set-WsusAutomatic $true
                }
            }
            catch {
                return ($name + ': ' + [string] $_.Exception.Message)
            }
            return ($name + ': it did not stay as it was set')
        }
    }
    return ''
}

function Restore-Settings {
    param([string] $Folder, $Record, [int] $Limit)
    # '' or what kept it.  Whatever fails here is tried again, for hours: nobody waits for this job, and a server that
    # it leaves switched stays so until somebody comes.
    $waited = 0
    $told = 0
    while ($true) {
        try {
            $trouble = Get-RestoreTrouble $Record
        }
        catch {
            $trouble = 'WSUS: ' + [string] $_.Exception.Message
        }
        if ($trouble -eq '' -or $waited -ge $Limit) {
            return $trouble
        }
        $pause = 5
        $silent = 30
        if ($waited -ge 600) {
            $pause = 30
            $silent = 600
        }
        if ($waited - $told -ge $silent) {
            Add-Quietly $Folder 'restoring' @{ waited = $waited; trouble = $trouble }
            $told = $waited
        }
        Wait-Seconds $pause
        $waited += $pause
    }
}

function Close-Record {
    param([string] $Kept, [int] $Number)
    Add-KeptFile $Kept $Number '.closed' ('time=' + (Get-Clock) + "`nend`n")
}

function Restore-Earlier {
    param([string] $Folder, [string] $Kept, $Parameters, $Result)
    # Whether nothing of an earlier run is open any more.
    foreach ($number in @(Get-OpenRecords $Kept)) {
        $record = ConvertFrom-Lines (Read-TextFile (Get-NumberedPath $Kept $number '.record'))
        $trouble = Restore-Settings $Folder $record $Parameters.restore_seconds
        if ($trouble -ne '') {
            $Result.reason = 'not_restored'
            $Result.detail = $trouble
            return $false
        }
        Close-Record $Kept $number
        $values = @{ record = $number; replica = $record.replica; automatic = $record.automatic }
        [void] (Add-State $Folder 'restored_first' $values)
    }
    return $true
}

function Get-EarlierApprovals {
    param([string] $Kept)
    # What the newest record saved, unless its reset came to its end: it may have been cut off when they were gone already.
    $numbers = @(Get-Numbers $Kept '.record')
    for ($index = $numbers.Length - 1; $index -ge 0; $index--) {
        $marked = Test-WholeLines (Get-NumberedPath $Kept $numbers[$index] '.marker')
        if ($marked -and (Test-WholeLines (Get-NumberedPath $Kept $numbers[$index] '.closed'))) {
            return
        }
        $fields = ConvertFrom-Lines (Read-TextFile (Get-NumberedPath $Kept $numbers[$index] '.record'))
        if ($null -ne $fields) {
            for ($count = 1; $fields.ContainsKey('approval' + [string] $count); $count++) {
                $fields['approval' + [string] $count]
            }
            return
        }
    }
}

function Get-ApprovalLines {
    param([string] $Id)
    # The approvals of every revision of an update, as a record tells them.
    foreach ($approval in @(Get-WsusApprovals $Id)) {
        $parts = @($Id, [string] $approval.revision, $approval.group, $approval.action,
            (ConvertTo-OneLine $approval.optional), $approval.deadline, $approval.created,
            (ConvertTo-OneLine $approval.administrator))
        ($parts -join ' ').Trim()
    }
}

function Get-Saved {
    param([string] $Folder, $Earlier, $Parameters, $Settings, $Result)
    # The text of the record: what is to be put back, and every revision and approval.  '' when something changed.
    $lines = @(
        'kind=reset_approvals',
        ('job_id=' + $Folder.Substring($Folder.LastIndexOf('\') + 1)),
        ('time=' + (Get-Clock)),
        ('audit=' + (ConvertTo-OneLine $Parameters.audit)),
        ('replica=' + (ConvertTo-OneLine $Settings.replica)),
        ('automatic=' + (ConvertTo-OneLine $Settings.automatic)),
        ('upstream=' + (ConvertTo-OneLine $Settings.upstream))
    )
    $updates = 0
    $given = @($Earlier)
    foreach ($id in @($Parameters.revisions.GetEnumerator() | Sort-Object -Property Key)) {
        $revisions = @(Get-WsusRevisions $id.Key)
        if ($revisions.Length -eq 0 -or [string] $revisions[0].revision -cne $id.Value) {
            $Result.reason = 'updates_changed'
            $Result.detail = $id.Key
            return ''
        }
        foreach ($revision in $revisions) {
            $updates += 1
            $parts = @($id.Key, [string] $revision.revision, (ConvertTo-OneLine $revision.declined),
                (ConvertTo-OneLine $revision.title))
            $lines += 'update' + [string] $updates + '=' + ($parts -join ' ')
        }
        foreach ($told in @(Get-ApprovalLines $id.Key)) {
            if ($given -cnotcontains $told) {
                $given += $told
            }
        }
    }
    for ($index = 0; $index -lt $given.Length; $index++) {
        $lines += 'approval' + [string] ($index + 1) + '=' + $given[$index]
    }
    $Result.approvals = [string] $given.Length
    $text = ($lines -join "`n") + "`nend`n"
    if ($text.Length -gt 300000) {
        $Result.reason = 'too_many_approvals'
        $Result.detail = $Result.approvals
        return ''
    }
    return $text
}

function Reset-Updates {
    param([string] $Folder, [string] $Kept, [int] $Number, [string] $Text, $Parameters, $Settings, $Result)
    # Everything between the record and the way back.
    if ($Settings.replica) {
        if ($Settings.automatic) {
            $trouble = Set-WsusSetting $Folder 'automatic' $false $Parameters.ready_seconds
            if ($trouble -ne '') {
                $Result.reason = 'not_switched'
                $Result.detail = $trouble
                return
            }
        }
        [void] (Add-State $Folder 'suspended' @{})
        $trouble = Set-WsusSetting $Folder 'replica' $false $Parameters.ready_seconds
        if ($trouble -ne '') {
            $Result.reason = 'not_switched'
            $Result.detail = $trouble
            return
        }
        [void] (Add-State $Folder 'switched' @{})
    }
    $lines = @(('time=' + (Get-Clock)), ('replica=' + (ConvertTo-OneLine $Settings.replica)),
        ('automatic=' + (ConvertTo-OneLine $Settings.automatic)))
    $count = 0
    foreach ($id in @($Parameters.revisions.GetEnumerator() | Sort-Object -Property Key)) {
        # A synchronisation that was waited for may have brought more than was saved: that is not taken away.
        $revisions = @(Get-WsusRevisions $id.Key)
        $same = $revisions.Length -gt 0 -and [string] $revisions[0].revision -ceq $id.Value
        if ($same) {
            foreach ($told in @(Get-ApprovalLines $id.Key)) {
                $same = $same -and $Text.Contains('=' + $told + "`n")
            }
        }
        if (-not $same) {
            $Result.reason = 'updates_changed'
            $Result.detail = $id.Key
            return
        }
        if (-not $revisions[0].declined) {
            Deny-WsusUpdate $id.Key
        }
        [void] (Add-State $Folder 'declined' @{ update_id = $id.Key })
        try {
            Reset-WsusUpdate $id.Key
        }
        catch {
            $Result.reason = 'reset_refused'
            $Result.detail = $id.Key + ': ' + [string] $_.Exception.Message
            return
        }
        [void] (Add-State $Folder 'approved' @{ update_id = $id.Key })
        Deny-WsusUpdate $id.Key
        $revisions = @(Get-WsusRevisions $id.Key)
        $changed = [string] $revisions[0].revision -cne $id.Value
        if ($changed -or -not $revisions[0].declined -or @(Get-WsusApprovals $id.Key).Length -gt 0) {
            $Result.reason = 'not_treated'
            $Result.detail = $id.Key
            return
        }
        [void] (Add-State $Folder 'treated' @{ update_id = $id.Key })
        $count += 1
        $lines += 'update' + [string] $count + '=' + $id.Key + ' ' + $id.Value
        $Result.treated = [string] $count
    }
    Add-KeptFile $Kept $Number '.marker' (($lines -join "`n") + "`nend`n")
    [void] (Add-State $Folder 'marked' @{})
    $Result.reason = 'done'
}

function Invoke-Reset {
    param([string] $Folder, $Parameters, $Result)
    $kept = Get-StagingPath $Parameters.kept_name
    $trust = Get-FolderTrust $kept
    $earlier = @()
    if ($trust -eq '') {
        $earlier = @(Get-EarlierApprovals $kept)
        # What was left switched waits neither for a window nor for anything else.
        if (-not (Restore-Earlier $Folder $kept $Parameters $Result)) {
            return
        }
    }
    elseif ($trust -ne 'absent') {
        $Result.reason = 'kept_refused'
        $Result.detail = $trust
        return
    }
    if ($Parameters.revisions.Count -eq 0) {
        $Result.reason = 'done'
        return
    }
    if (-not (Wait-Window $Folder $Parameters $Result)) {
        return
    }
    if ($trust -eq 'absent') {
        New-ClosedFolder $kept
    }
    $trust = Get-FolderTrust $kept
    if ($trust -ne '') {
        $Result.reason = 'kept_refused'
        $Result.detail = $trust
        return
    }
    $settings = Get-WsusSettings
    if ($settings.role -cne 'Administrator') {
        $Result.reason = 'not_wsus_administrator'
        $Result.detail = $settings.role
        return
    }
    if (-not (Wait-WsusReady $Folder $Parameters.ready_seconds)) {
        $Result.reason = 'wsus_not_ready'
        $Result.detail = (Get-WsusSettings).state
        return
    }
    # What was waited for may have outlasted the window.
    if (-not (Test-WindowOpen $Parameters)) {
        $Result.reason = 'window_over'
        return
    }
    $settings = Get-WsusSettings
    $text = Get-Saved $Folder $earlier $Parameters $settings $Result
    if ($text -eq '') {
        return
    }
    $numbers = @(Get-Numbers $kept '.record')
    $number = 1
    if ($numbers.Length -gt 0) {
        $number = $numbers[-1] + 1
    }
    Add-KeptFile $kept $number '.record' $text
    $Result.record = [string] $number
    try {
        [void] (Add-State $Folder 'saved' @{ record = $number; approvals = $Result.approvals })
        Reset-Updates $Folder $kept $number $text $Parameters $settings $Result
    }
    catch {
        $Result.reason = 'broken'
        $Result.detail = [string] $_.Exception.Message
    }
    finally {
        $record = @{ replica = (ConvertTo-OneLine $settings.replica); automatic = (ConvertTo-OneLine $settings.automatic) }
        $trouble = Restore-Settings $Folder $record $Parameters.restore_seconds
        if ($trouble -eq '') {
            Close-Record $kept $number
            Add-Quietly $Folder 'restored' $record
        }
        else {
            $Result.reason = 'not_restored'
            $Result.detail = $trouble
        }
    }
}

$folder = Get-ScriptFolder ([string] $MyInvocation.MyCommand.Path)
if (-not (Add-Start $folder)) {
    return
}

$result = @{
    reason = 'broken'
    detail = ''
    record = ''
    approvals = ''
    treated = '0'
    wsus_logged = $false
    event_logged = $false
}
$Parameters = $null
try {
    $Parameters = Read-Parameters ($folder + '\parameters.xml')
    [void] (Invoke-Reset $folder $Parameters $result)
}
catch {
    # Whatever it had come to: its record is not closed.
    $result.reason = 'broken'
    $result.detail = [string] $_.Exception.Message
}
if ($null -ne $Parameters) {
    $text = $Parameters.audit + '; result: ' + $result.reason + '; updates reset: ' + $result.treated +
        '; approvals saved: ' + $result.approvals + '; ' + $result.detail
    $result.wsus_logged = Write-WsusLog ('wsusfix: ' + (ConvertTo-OneLine $text))
    $result.event_logged = Write-ApplicationLog $Parameters.event_source $text ($result.reason -cne 'done')
}
Add-End $folder $result
