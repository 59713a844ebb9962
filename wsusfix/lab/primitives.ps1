# The functions of windows.ps1 once more, for a PowerShell that runs the scripts against a simulated server.
# Each asks the server's simulation over loopback and answers in the same shape as its namesake: a hashtable, one
# object, $null, several objects, or nothing at all.  They run in PowerShell 7, and what differs there from 2.0 only
# they may know; what the scripts ask them for, they do not.
# In front of them stands $SimulatedServer: port, token, culture, and for a job the path of its script.

[System.Globalization.CultureInfo]::CurrentCulture = [System.Globalization.CultureInfo]::new($SimulatedServer.culture)
if ($SimulatedServer.script -ne '') {
    $MyInvocation = @{ MyCommand = @{ Path = $SimulatedServer.script } }
}

function Connect-Simulation {
    $client = [System.Net.Sockets.TcpClient]::new('127.0.0.1', $SimulatedServer.port)
    $client.NoDelay = $true
    $encoding = [System.Text.UTF8Encoding]::new($false)
    $SimulatedServer.reader = [System.IO.StreamReader]::new($client.GetStream(), $encoding)
    $SimulatedServer.writer = [System.IO.StreamWriter]::new($client.GetStream(), $encoding)
    $SimulatedServer.writer.NewLine = "`n"
    $SimulatedServer.writer.AutoFlush = $true
    $SimulatedServer.writer.WriteLine($SimulatedServer.token)
}

function ConvertFrom-Answer {
    param([System.Text.Json.JsonElement] $Value)
    # By hand: the command for it would turn texts that look like times into times.
    switch ([string] $Value.ValueKind) {
        'String' { return $Value.GetString() }
        'True' { return $true }
        'False' { return $false }
        'Null' { return $null }
        'Number' {
            $number = $Value.GetInt64()
            if ($number -ge [int]::MinValue -and $number -le [int]::MaxValue) {
                return [int] $number
            }
            return $number
        }
        'Array' {
            $list = [System.Collections.ArrayList]::new()
            foreach ($item in $Value.EnumerateArray()) {
                [void] $list.Add((ConvertFrom-Answer $item))
            }
            return , $list
        }
        'Object' {
            $table = @{}
            foreach ($entry in $Value.EnumerateObject()) {
                $table[$entry.Name] = ConvertFrom-Answer $entry.Value
            }
            return $table
        }
    }
}

function New-SimulatedFailure {
    param($Told)
    # As an exception of the class that Windows throws, where that class is at hand.
    $class = $Told.exception -as [type]
    if ($null -ne $class -and $class.IsSubclassOf([System.Exception])) {
        return [System.Activator]::CreateInstance($class, [object[]] @($Told.message))
    }
    return [System.Management.Automation.RuntimeException]::new($Told.message)
}

function Invoke-Simulated {
    param([string] $Name, [hashtable] $With)
    if ($null -eq $SimulatedServer.writer) {
        Connect-Simulation
    }
    $line = $null
    try {
        $question = @{ ask = $Name; with = $With }
        $SimulatedServer.writer.WriteLine((ConvertTo-Json -InputObject $question -Depth 10 -Compress))
        $line = $SimulatedServer.reader.ReadLine()
    }
    catch [System.IO.IOException] {
        $line = $null
    }
    if ($null -eq $line) {
        # The simulated process is over, and so is its script.
        throw [System.Management.Automation.PipelineStoppedException]::new()
    }
    $answer = ConvertFrom-Answer ([System.Text.Json.JsonDocument]::Parse($line).RootElement)
    if ($answer.ContainsKey('failure')) {
        throw (New-SimulatedFailure $answer.failure)
    }
    return , $answer.answer
}

function Test-RegistryKey {
    param([string] $Key)
    return (Invoke-Simulated 'test_registry_key' @{ key = $Key })
}

function Get-RegistryValue {
    param([string] $Key, [string] $Name)
    return (Invoke-Simulated 'get_registry_value' @{ key = $Key; name = $Name })
}

function Get-OperatingSystem {
    return (Invoke-Simulated 'get_operating_system' @{})
}

function Get-ProcessorArchitecture {
    return (Invoke-Simulated 'get_processor_architecture' @{})
}

function Get-CultureName {
    return (Invoke-Simulated 'get_culture_name' @{})
}

function Get-ComputerName {
    return (Invoke-Simulated 'get_computer_name' @{})
}

function Get-WindowsDirectory {
    return (Invoke-Simulated 'get_windows_directory' @{})
}

function Get-ProgramFilesDirectory {
    return (Invoke-Simulated 'get_program_files_directory' @{})
}

function Get-Clock {
    return (Invoke-Simulated 'get_clock' @{})
}

function Get-UtcOffset {
    return (Invoke-Simulated 'get_utc_offset' @{})
}

function Get-PowerShellVersion {
    return (Invoke-Simulated 'get_power_shell_version' @{})
}

function Get-SessionIdentity {
    return (Invoke-Simulated 'get_session_identity' @{})
}

function Test-InstallerBusy {
    return (Invoke-Simulated 'test_installer_busy' @{})
}

function Get-FileVersion {
    param([string] $Path)
    return (Invoke-Simulated 'get_file_version' @{ path = $Path })
}

function Get-ServiceStatus {
    param([string] $Name)
    return (Invoke-Simulated 'get_service_status' @{ name = $Name })
}

function Get-FreeSpace {
    param([string] $Path)
    return (Invoke-Simulated 'get_free_space' @{ path = $Path })
}

function Test-MsiProduct {
    param([string] $Code)
    return (Invoke-Simulated 'test_msi_product' @{ code = $Code })
}

function Get-ProcessCreated {
    param([int] $ProcessId)
    return (Invoke-Simulated 'get_process_created' @{ process_id = $ProcessId })
}

function Get-OwnProcess {
    return (Invoke-Simulated 'get_own_process' @{})
}

function Test-FolderProcess {
    param([string] $Folder)
    return (Invoke-Simulated 'test_folder_process' @{ folder = $Folder })
}

function Get-ProcessTime {
    param([int] $ProcessId)
    return (Invoke-Simulated 'get_process_time' @{ process_id = $ProcessId })
}

function Test-File {
    param([string] $Path)
    return (Invoke-Simulated 'test_file' @{ path = $Path })
}

function Test-Folder {
    param([string] $Path)
    return (Invoke-Simulated 'test_folder' @{ path = $Path })
}

function Test-ReparsePoint {
    param([string] $Path)
    return (Invoke-Simulated 'test_reparse_point' @{ path = $Path })
}

function Get-FolderEntries {
    param([string] $Path)
    foreach ($entry in (Invoke-Simulated 'get_folder_entries' @{ path = $Path })) {
        $entry
    }
}

function Get-FileLength {
    param([string] $Path)
    return (Invoke-Simulated 'get_file_length' @{ path = $Path })
}

function Get-FileSha256 {
    param([string] $Path)
    return (Invoke-Simulated 'get_file_sha256' @{ path = $Path })
}

function Read-TextFile {
    param([string] $Path)
    return (Invoke-Simulated 'read_text_file' @{ path = $Path })
}

function Read-FileTail {
    param([string] $Path, [int] $Bytes)
    return (Invoke-Simulated 'read_file_tail' @{ path = $Path; bytes = $Bytes })
}

function Read-FileBlock {
    param([string] $Path, [long] $Offset, [int] $Count)
    return (Invoke-Simulated 'read_file_block' @{ path = $Path; offset = $Offset; count = $Count })
}

function Add-TextFile {
    param([string] $Path, [string] $Text)
    return (Invoke-Simulated 'add_text_file' @{ path = $Path; text = $Text })
}

function Add-ScriptFile {
    param([string] $Path, [string] $Text)
    [void] (Invoke-Simulated 'add_script_file' @{ path = $Path; text = $Text })
}

function Add-BinaryFile {
    param([string] $Path, [byte[]] $Bytes)
    [void] (Invoke-Simulated 'add_binary_file' @{ path = $Path; bytes = @{ base64 = [System.Convert]::ToBase64String($Bytes) } })
}

function Join-Files {
    param($Sources, [string] $Target)
    [void] (Invoke-Simulated 'join_files' @{ sources = @($Sources); target = $Target })
}

function Move-FileToNew {
    param([string] $From, [string] $To)
    return (Invoke-Simulated 'move_file_to_new' @{ from = $From; to = $To })
}

function Remove-File {
    param([string] $Path)
    [void] (Invoke-Simulated 'remove_file' @{ path = $Path })
}

function Remove-Tree {
    param([string] $Path)
    [void] (Invoke-Simulated 'remove_tree' @{ path = $Path })
}

function New-PlainFolder {
    param([string] $Path)
    [void] (Invoke-Simulated 'new_plain_folder' @{ path = $Path })
}

function New-ClosedFolder {
    param([string] $Path)
    [void] (Invoke-Simulated 'new_closed_folder' @{ path = $Path })
}

function Get-FolderTrust {
    param([string] $Path)
    return (Invoke-Simulated 'get_folder_trust' @{ path = $Path })
}

function Lock-File {
    param([string] $Path)
    return (Invoke-Simulated 'lock_file' @{ path = $Path })
}

function Unlock-File {
    param($Handle)
    [void] (Invoke-Simulated 'unlock_file' @{ handle = $Handle })
}

function Save-Parameters {
    param([string] $Path, $Parameters)
    [void] (Invoke-Simulated 'save_parameters' @{ path = $Path; parameters = $Parameters })
}

function Read-Parameters {
    param([string] $Path)
    return (Invoke-Simulated 'read_parameters' @{ path = $Path })
}

function Register-SystemTask {
    param([string] $Name, [string] $Script)
    return (Invoke-Simulated 'register_system_task' @{ name = $Name; script = $Script })
}

function Start-SystemTask {
    param([string] $Name)
    return (Invoke-Simulated 'start_system_task' @{ name = $Name })
}

function Remove-SystemTask {
    param([string] $Name)
    return (Invoke-Simulated 'remove_system_task' @{ name = $Name })
}

function Get-PackageSignature {
    param([string] $Path, $Roots, [int] $Seconds)
    return (Invoke-Simulated 'get_package_signature' @{ path = $Path; roots = @($Roots); seconds = $Seconds })
}

function Start-Installer {
    param([string] $Program, [string] $Arguments, [string] $Temp)
    return (Invoke-Simulated 'start_installer' @{ program = $Program; arguments = $Arguments; temp = $Temp })
}

function Wait-Installer {
    param($Handle, [int] $Milliseconds)
    return (Invoke-Simulated 'wait_installer' @{ handle = $Handle; milliseconds = $Milliseconds })
}

function Get-InstallerExitCode {
    param($Handle)
    return (Invoke-Simulated 'get_installer_exit_code' @{ handle = $Handle })
}

function Write-ApplicationLog {
    param([string] $Source, [string] $Text, [bool] $Failed)
    return (Invoke-Simulated 'write_application_log' @{ source = $Source; text = $Text; failed = $Failed })
}

function Get-DatabaseState {
    param([string] $Server, [string] $Database, [int] $Seconds)
    return (Invoke-Simulated 'get_database_state' @{ server = $Server; database = $Database; seconds = $Seconds })
}

function Get-DatabaseConnections {
    param([string] $Server, [string] $Database, [int] $Seconds)
    $found = Invoke-Simulated 'get_database_connections' @{ server = $Server; database = $Database; seconds = $Seconds }
    foreach ($connection in $found) {
        $connection
    }
}

function Save-Database {
    param([string] $Server, [string] $Database, [string] $Path, [int] $Seconds)
    [void] (Invoke-Simulated 'save_database' @{ server = $Server; database = $Database; path = $Path; seconds = $Seconds })
}

function Test-DatabaseBackup {
    param([string] $Server, [string] $Path, [int] $Seconds)
    [void] (Invoke-Simulated 'test_database_backup' @{ server = $Server; path = $Path; seconds = $Seconds })
}

function Get-ProcessOwner {
    param([int] $ProcessId)
    return (Invoke-Simulated 'get_process_owner' @{ process_id = $ProcessId })
}

function Get-ProcessName {
    param([int] $ProcessId)
    return (Invoke-Simulated 'get_process_name' @{ process_id = $ProcessId })
}

function New-SharedFolder {
    param([string] $Path, [string] $Sid)
    [void] (Invoke-Simulated 'new_shared_folder' @{ path = $Path; sid = $Sid })
}

function Get-DependentServices {
    param([string] $Name)
    foreach ($service in (Invoke-Simulated 'get_dependent_services' @{ name = $Name })) {
        $service
    }
}

function Switch-Service {
    param([string] $Name, [bool] $Run, [int] $Seconds)
    return (Invoke-Simulated 'switch_service' @{ name = $Name; run = $Run; seconds = $Seconds })
}

function Get-WebSites {
    foreach ($site in (Invoke-Simulated 'get_web_sites' @{})) {
        $site
    }
}

function Switch-WebSite {
    param([string] $Number, [bool] $Run)
    return (Invoke-Simulated 'switch_web_site' @{ number = $Number; run = $Run })
}

function Get-WsusHierarchy {
    return (Invoke-Simulated 'get_wsus_hierarchy' @{})
}

function Test-Compressed {
    param([string] $Path)
    return (Invoke-Simulated 'test_compressed' @{ path = $Path })
}

function Get-FileTime {
    param([string] $Path)
    return (Invoke-Simulated 'get_file_time' @{ path = $Path })
}

function Start-Restart {
    param([string] $Text, [int] $Seconds)
    return (Invoke-Simulated 'start_restart' @{ text = $Text; seconds = $Seconds })
}

function Get-WsusSettings {
    return (Invoke-Simulated 'get_wsus_settings' @{})
}

function Set-WsusReplica {
    param([bool] $Replica)
    [void] (Invoke-Simulated 'set_wsus_replica' @{ replica = $Replica })
}

function Set-WsusAutomatic {
    param([bool] $Automatic)
    [void] (Invoke-Simulated 'set_wsus_automatic' @{ automatic = $Automatic })
}

function Find-WsusUpdates {
    param($Texts)
    foreach ($id in (Invoke-Simulated 'find_wsus_updates' @{ texts = @($Texts) })) {
        $id
    }
}

function Get-WsusRevisions {
    param([string] $Id)
    foreach ($revision in (Invoke-Simulated 'get_wsus_revisions' @{ id = $Id })) {
        $revision
    }
}

function Get-WsusApprovals {
    param([string] $Id)
    foreach ($approval in (Invoke-Simulated 'get_wsus_approvals' @{ id = $Id })) {
        $approval
    }
}

function Deny-WsusUpdate {
    param([string] $Id)
    [void] (Invoke-Simulated 'deny_wsus_update' @{ id = $Id })
}

function Reset-WsusUpdate {
    param([string] $Id)
    [void] (Invoke-Simulated 'reset_wsus_update' @{ id = $Id })
}

function Write-WsusLog {
    param([string] $Text)
    return (Invoke-Simulated 'write_wsus_log' @{ text = $Text })
}

function Get-WebStatus {
    param([string] $Url)
    return (Invoke-Simulated 'get_web_status' @{ url = $Url })
}

function Wait-Seconds {
    param([double] $Seconds)
    [void] (Invoke-Simulated 'wait_seconds' @{ seconds = $Seconds })
}
