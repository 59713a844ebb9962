# wsusfix script: back_up_database
param($Parameters)
# The job that backs the WSUS database up into a folder of its own and reads the backup back, run as SYSTEM.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Remove-Unverified {
    param([string] $Outer, [string] $Mark)
    # What a job has left that was cut off before it had read its backup back: it only takes room.
    if ((Get-FolderTrust $Outer) -ne '') {
        return
    }
    foreach ($name in @(Get-FolderEntries $Outer)) {
        $inner = $Outer + '\' + $name
        if (Test-File ($inner + '\' + $Mark)) {
            try {
                Remove-Tree $inner
            }
            catch {
                continue
            }
        }
    }
}

function Get-BackupFolder {
    param([string] $Outer, [string] $Inner, [string] $Sid, $Result)
    # A folder that the account of the SQL server may write into, within one that is closed; '' when it is not.
    $trust = Get-FolderTrust $Outer
    if ($trust -eq 'absent') {
        New-ClosedFolder $Outer
        $trust = Get-FolderTrust $Outer
    }
    if ($trust -ne '') {
        $Result.reason = 'folder_not_closed'
        $Result.detail = $trust
        return ''
    }
    $folder = $Outer + '\' + $Inner
    if (Test-Folder $folder) {
        $Result.reason = 'folder_not_closed'
        $Result.detail = $folder
        return ''
    }
    New-SharedFolder $folder $Sid
    return $folder
}

function Save-Verified {
    param([string] $Folder, $Parameters, $Result)
    # Writes the states up to 'verifying_backup', and into $Result how it ended.
    if (-not (Wait-Window $Folder $Parameters $Result)) {
        return
    }
    [void] (Add-State $Folder 'asking_database' @{})
    try {
        $state = Get-DatabaseState $Parameters.server $Parameters.database 60
    }
    catch {
        $Result.reason = 'database_not_reached'
        $Result.detail = [string] $_.Exception.Message
        return
    }
    $outer = Get-StagingPath $Parameters.backup_folder
    Remove-Unverified $outer $Parameters.unverified
    $free = Get-FreeSpace $outer
    if ([long] $free -lt [long] $state.size + [long] $Parameters.reserve) {
        $Result.reason = 'no_space'
        $Result.detail = 'bytes free: ' + $free + ', size of the database: ' + $state.size
        return
    }
    $sid = Get-ProcessOwner $state.process_id
    if ($sid -eq '') {
        $Result.reason = 'database_not_reached'
        $Result.detail = 'the process of the SQL server is not on this server'
        return
    }
    $inner = $Folder.Substring($Folder.LastIndexOf('\') + 1)
    $place = Get-BackupFolder $outer $inner $sid $Result
    if ($place -eq '') {
        return
    }

    $path = $place + '\' + $Parameters.database + '.bak'
    [void] (Add-State $Folder 'backing_up' @{ path = $path; size = $state.size })
    $reason = 'backup_failed'
    $mark = $place + '\' + $Parameters.unverified
    try {
        [void] (Add-TextFile $mark ('time=' + (Get-Clock) + "`nend`n"))
        Save-Database $Parameters.server $Parameters.database $path $Parameters.backup_seconds
        $reason = 'backup_not_verified'
        [void] (Add-State $Folder 'verifying_backup' @{})
        Test-DatabaseBackup $Parameters.server $path $Parameters.backup_seconds
        $Result.size = [string] (Get-FileLength $path)
        if ([long] ('0' + $Result.size) -eq 0) {
            throw ('there is no backup at ' + $path)
        }
        # From here on it is one.
        Remove-File $mark
        $Result.path = $path
        $Result.reason = 'done'
    }
    catch {
        # A backup that nobody can rely on only takes room.
        $Result.reason = $reason
        $Result.detail = [string] $_.Exception.Message
        Remove-Tree $place
    }
}

$folder = Get-ScriptFolder ([string] $MyInvocation.MyCommand.Path)
if (-not (Add-Start $folder)) {
    return
}

$result = @{
    reason = 'broken'
    detail = ''
    path = ''
    size = ''
    event_logged = $false
}
try {
    $Parameters = Read-Parameters ($folder + '\parameters.xml')
    [void] (Save-Verified $folder $Parameters $result)
    $text = $Parameters.audit + "`r`nresult: " + $result.reason + "`r`nbackup: " + $result.path + "`r`nbytes: " +
        $result.size + "`r`n" + $result.detail
    $failed = $result.reason -cne 'done'
    $result.event_logged = Write-ApplicationLog $Parameters.event_source $text $failed
}
catch {
    $result.detail = $result.detail + ' ' + [string] $_.Exception.Message
}
Add-End $folder $result
