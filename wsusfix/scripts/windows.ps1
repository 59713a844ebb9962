# The one file that touches Windows: small functions, one question or deed each.
# Of WSUS they know its programming interface alone; a missing thing is $null or $false, a failure is thrown.
# Times are text in UTC, sizes are decimal text, and no decision rests on localised text.

function ConvertTo-UtcText {
    param([System.DateTime] $Time)
    return $Time.ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ', [System.Globalization.CultureInfo]::InvariantCulture)
}

function ConvertTo-UtcTime {
    param([System.DateTime] $Time)
    # WSUS tells its times in UTC, and does not always say so.
    if ([string] $Time.Kind -ceq 'Unspecified') {
        return [System.DateTime]::SpecifyKind($Time, 'Utc')
    }
    return $Time
}

function ConvertTo-PlainText {
    param($Value)
    return [System.Convert]::ToString($Value, [System.Globalization.CultureInfo]::InvariantCulture)
}

function Get-ErrorText {
    param($Exception)
    $cause = $Exception.GetBaseException()
    $code = [System.Runtime.InteropServices.Marshal]::GetHRForException($cause)
    return '0x' + $code.ToString('X8') + ' ' + $cause.Message
}

function Open-MachineKey {
    param([string] $Key)
    # A 32-bit process on 64-bit Windows is shown another registry, and .NET 2.0 cannot ask for the real one.
    if ($null -ne [System.Environment]::GetEnvironmentVariable('PROCESSOR_ARCHITEW6432')) {
        throw 'this is a 32-bit PowerShell on a 64-bit Windows: the 64-bit session configuration is needed'
    }
    return [Microsoft.Win32.Registry]::LocalMachine.OpenSubKey($Key)
}

function Test-RegistryKey {
    param([string] $Key)
    $opened = Open-MachineKey $Key
    if ($null -eq $opened) {
        return $false
    }
    $opened.Close()
    return $true
}

function Get-RegistryValue {
    param([string] $Key, [string] $Name)
    $opened = Open-MachineKey $Key
    if ($null -eq $opened) {
        return $null
    }
    try {
        $value = $opened.GetValue($Name, $null)
    }
    finally {
        $opened.Close()
    }
    if ($null -eq $value) {
        return $null
    }
    if ($value -is [array]) {
        return ($value -join "`n")
    }
    # A DWORD has no sign; .NET reads it as if it had one.
    if ($value -is [int] -and $value -lt 0) {
        $value = [long] $value + 4294967296
    }
    return (ConvertTo-PlainText $value)
}

function Get-OperatingSystem {
    $system = Get-WmiObject -Class Win32_OperatingSystem
    $suites = $system.OSProductSuite
    if ($null -eq $suites) {
        $suites = $system.SuiteMask
    }
    return @{
        version = [string] $system.Version
        service_pack = [int] $system.ServicePackMajorVersion
        product_type = [int] $system.ProductType
        suite_mask = (ConvertTo-PlainText ([long] $suites))
        caption = ([string] $system.Caption).Trim()
        boot_time = (ConvertTo-UtcText ([System.Management.ManagementDateTimeConverter]::ToDateTime($system.LastBootUpTime)))
    }
}

function Get-ProcessorArchitecture {
    $name = [System.Environment]::GetEnvironmentVariable('PROCESSOR_ARCHITEW6432')
    if ($null -eq $name) {
        $name = [System.Environment]::GetEnvironmentVariable('PROCESSOR_ARCHITECTURE')
    }
    if ($name -eq 'AMD64') {
        return 'x64'
    }
    return ([string] $name).ToLowerInvariant()
}

function Get-CultureName {
    return [System.Globalization.CultureInfo]::InstalledUICulture.Name
}

function Get-ComputerName {
    return [System.Environment]::MachineName
}

function Get-WindowsDirectory {
    # Asked of Windows, not of the environment, which the caller may have changed.
    return [System.IO.Path]::GetDirectoryName([System.Environment]::SystemDirectory)
}

function Get-ProgramFilesDirectory {
    return [System.Environment]::GetFolderPath([System.Environment+SpecialFolder]::ProgramFiles)
}

function Get-Clock {
    return (ConvertTo-UtcText ([System.DateTime]::UtcNow))
}

function Get-UtcOffset {
    # In minutes, as it is now; what lies to the east is ahead.
    return [int] [System.TimeZone]::CurrentTimeZone.GetUtcOffset([System.DateTime]::Now).TotalMinutes
}

function Get-PowerShellVersion {
    return $PSVersionTable.PSVersion.ToString()
}

function Get-SessionIdentity {
    $identity = [System.Security.Principal.WindowsIdentity]::GetCurrent()
    $principal = New-Object System.Security.Principal.WindowsPrincipal($identity)
    $administrators = New-Object System.Security.Principal.SecurityIdentifier('S-1-5-32-544')
    # Windows does not tell every account how its logon was authenticated.
    $authentication = ''
    try {
        $authentication = [string] $identity.AuthenticationType
    }
    catch {
        $authentication = ''
    }
    return @{
        account = [string] $identity.Name
        sid = [string] $identity.User.Value
        authentication = $authentication
        administrator = [bool] $principal.IsInRole($administrators)
    }
}

function Test-InstallerBusy {
    # Windows Installer has this mutex while it carries out an installation.
    try {
        $mutex = [System.Threading.Mutex]::OpenExisting('Global\_MSIExecute')
        $mutex.Close()
        return $true
    }
    catch {
        $cause = $_.Exception.GetBaseException()
        if ($cause -is [System.Threading.WaitHandleCannotBeOpenedException]) {
            return $false
        }
        if ($cause -is [System.UnauthorizedAccessException]) {
            return $true
        }
        throw
    }
}

function Get-FileVersion {
    param([string] $Path)
    if (-not (Test-File $Path)) {
        return $null
    }
    $info = [System.Diagnostics.FileVersionInfo]::GetVersionInfo($Path)
    $parts = @($info.FileMajorPart, $info.FileMinorPart, $info.FileBuildPart, $info.FilePrivatePart)
    $version = $parts -join '.'
    if ($version -eq '0.0.0.0') {
        return ''
    }
    return $version
}

function Get-ServiceStatus {
    param([string] $Name)
    foreach ($service in @(Get-Service)) {
        if ($service.Name -eq $Name) {
            switch ([string] $service.Status) {
                'Running' { return 'running' }
                'Stopped' { return 'stopped' }
                'StartPending' { return 'start_pending' }
                'StopPending' { return 'stop_pending' }
                'Paused' { return 'paused' }
                'PausePending' { return 'pause_pending' }
                'ContinuePending' { return 'continue_pending' }
            }
            return 'unknown'
        }
    }
    return $null
}

function Get-FreeSpace {
    param([string] $Path)
    $drive = New-Object System.IO.DriveInfo([System.IO.Path]::GetPathRoot($Path))
    return (ConvertTo-PlainText $drive.AvailableFreeSpace)
}

function Test-MsiProduct {
    param([string] $Code)
    $native = 'SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\' + $Code
    $other = 'SOFTWARE\Wow6432Node\Microsoft\Windows\CurrentVersion\Uninstall\' + $Code
    return ((Test-RegistryKey $native) -or (Test-RegistryKey $other))
}

function Get-CreationText {
    param($Process)
    try {
        $created = $Process.StartTime.ToUniversalTime()
        return (ConvertTo-PlainText $created.Ticks)
    }
    catch {
        # It is there and hides its times: the empty text says that nobody can tell which one it is.
        return ''
    }
}

function Get-ProcessCreated {
    param([int] $ProcessId)
    try {
        $process = [System.Diagnostics.Process]::GetProcessById($ProcessId)
    }
    catch {
        if ($_.Exception.GetBaseException() -is [System.ArgumentException]) {
            return $null
        }
        throw
    }
    $created = Get-CreationText $process
    $process.Close()
    return $created
}

function Get-OwnProcess {
    $process = [System.Diagnostics.Process]::GetCurrentProcess()
    return @{
        pid = [int] $process.Id
        created = (Get-CreationText $process)
    }
}

function Test-FolderProcess {
    param([string] $Folder)
    $wanted = $Folder.TrimEnd('\') + '\'
    foreach ($process in @(Get-WmiObject -Class Win32_Process -EnableAllPrivileges)) {
        if ($process.ProcessId -eq $PID) {
            continue
        }
        foreach ($text in @($process.ExecutablePath, $process.CommandLine)) {
            if ($null -eq $text) {
                continue
            }
            if ($text.IndexOf($wanted, [System.StringComparison]::OrdinalIgnoreCase) -ge 0) {
                return $true
            }
        }
    }
    return $false
}

function Get-ProcessTime {
    param([int] $ProcessId)
    $all = @(Get-WmiObject -Class Win32_Process -EnableAllPrivileges)
    # Windows Installer works in a service, which is nobody's child.
    $wanted = @($ProcessId)
    foreach ($process in $all) {
        if ($process.Name -eq 'msiexec.exe' -and $wanted -notcontains [int] $process.ProcessId) {
            $wanted += [int] $process.ProcessId
        }
    }
    $lives = $false
    $total = [long] 0
    for ($index = 0; $index -lt $wanted.Length; $index++) {
        foreach ($process in $all) {
            $number = [int] $process.ProcessId
            if ($number -eq $wanted[$index]) {
                $total += [long] $process.KernelModeTime + [long] $process.UserModeTime
                if ($index -eq 0) {
                    $lives = $true
                }
            }
            elseif ([int] $process.ParentProcessId -eq $wanted[$index] -and $wanted -notcontains $number) {
                $wanted += $number
            }
        }
    }
    if (-not $lives) {
        return ''
    }
    return (ConvertTo-PlainText $total)
}

function Test-File {
    param([string] $Path)
    return [System.IO.File]::Exists($Path)
}

function Test-Folder {
    param([string] $Path)
    return [System.IO.Directory]::Exists($Path)
}

function Test-ReparsePoint {
    param([string] $Path)
    return (([int] [System.IO.File]::GetAttributes($Path) -band 1024) -ne 0)
}

function Get-FolderEntries {
    param([string] $Path)
    if (-not (Test-Folder $Path)) {
        return
    }
    $entries = [System.IO.Directory]::GetFileSystemEntries($Path)
    [System.Array]::Sort($entries, [System.StringComparer]::Ordinal)
    foreach ($entry in $entries) {
        [System.IO.Path]::GetFileName($entry)
    }
}

function Open-SharedFile {
    param([string] $Path)
    $share = [System.IO.FileShare] 'ReadWrite, Delete'
    return [System.IO.File]::Open($Path, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read, $share)
}

function Get-FileLength {
    param([string] $Path)
    if (-not (Test-File $Path)) {
        return $null
    }
    $file = New-Object System.IO.FileInfo($Path)
    return (ConvertTo-PlainText $file.Length)
}

function New-Sha256 {
    try {
        return (New-Object System.Security.Cryptography.SHA256Managed)
    }
    catch {
        # The FIPS policy forbids the managed class; the one that it allows comes with .NET 3.5.
        [void] [System.Reflection.Assembly]::Load(
            'System.Core, Version=3.5.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089')
        return (New-Object System.Security.Cryptography.SHA256CryptoServiceProvider)
    }
}

function Get-FileSha256 {
    param([string] $Path)
    if (-not (Test-File $Path)) {
        return $null
    }
    $algorithm = New-Sha256
    $stream = Open-SharedFile $Path
    try {
        $hash = $algorithm.ComputeHash($stream)
    }
    finally {
        $stream.Close()
    }
    return [System.BitConverter]::ToString($hash).Replace('-', '').ToLowerInvariant()
}

function Read-TextFile {
    param([string] $Path)
    if (-not (Test-File $Path)) {
        return $null
    }
    # As much as is there, and of a file that is none of ours no more than a megabyte.
    $length = 0
    $stream = Open-SharedFile $Path
    try {
        $buffer = New-Object byte[] ([int] [System.Math]::Min($stream.Length, [long] 1048576))
        do {
            $read = $stream.Read($buffer, $length, $buffer.Length - $length)
            $length += $read
        } while ($read -gt 0)
    }
    finally {
        $stream.Close()
    }
    return [System.Text.Encoding]::UTF8.GetString($buffer, 0, $length)
}

function Read-FileTail {
    param([string] $Path, [int] $Bytes)
    if (-not (Test-File $Path)) {
        return ''
    }
    $encoding = [System.Text.Encoding]::UTF8
    $stream = Open-SharedFile $Path
    try {
        $mark = New-Object byte[] 2
        $marked = $stream.Read($mark, 0, 2)
        $start = [System.Math]::Max([long] 0, $stream.Length - $Bytes)
        if ($marked -eq 2 -and $mark[0] -eq 255 -and $mark[1] -eq 254) {
            # Windows Installer writes its logs so; a tail begins at a whole character.
            $encoding = [System.Text.Encoding]::Unicode
            $start += $start % 2
        }
        [void] $stream.Seek($start, [System.IO.SeekOrigin]::Begin)
        $buffer = New-Object byte[] $Bytes
        $length = 0
        do {
            $read = $stream.Read($buffer, $length, $buffer.Length - $length)
            $length += $read
        } while ($read -gt 0)
    }
    finally {
        $stream.Close()
    }
    return $encoding.GetString($buffer, 0, $length).TrimStart([char] 65279)
}

function Read-FileBlock {
    param([string] $Path, [long] $Offset, [int] $Count)
    # Each byte becomes one character, whatever the encoding: places in the text are places in the file.
    $buffer = New-Object byte[] $Count
    $length = 0
    $stream = Open-SharedFile $Path
    try {
        [void] $stream.Seek($Offset, [System.IO.SeekOrigin]::Begin)
        do {
            $read = $stream.Read($buffer, $length, $Count - $length)
            $length += $read
        } while ($read -gt 0)
    }
    finally {
        $stream.Close()
    }
    return [System.Text.Encoding]::GetEncoding(28591).GetString($buffer, 0, $length)
}

function Add-NewFile {
    param([string] $Path, [byte[]] $Bytes)
    # Readers see a part of it at worst, and nobody else can have made it.
    try {
        $stream = New-Object System.IO.FileStream($Path, [System.IO.FileMode]::CreateNew, [System.IO.FileAccess]::Write,
            [System.IO.FileShare]::Read, 4096, [System.IO.FileOptions]::WriteThrough)
    }
    catch {
        if ((Test-File $Path) -or (Test-Folder $Path)) {
            return $false
        }
        throw
    }
    try {
        $stream.Write($Bytes, 0, $Bytes.Length)
    }
    finally {
        $stream.Close()
    }
    return $true
}

function Add-TextFile {
    param([string] $Path, [string] $Text)
    $encoding = New-Object System.Text.UTF8Encoding($false)
    $bytes = $encoding.GetBytes($Text)
    return (Add-NewFile $Path $bytes)
}

function Add-ScriptFile {
    param([string] $Path, [string] $Text)
    # Without the mark PowerShell 2.0 reads a script in the code page of the system.
    $encoding = New-Object System.Text.UTF8Encoding($false)
    $lines = $Text.Replace("`r`n", "`n").Replace("`n", "`r`n")
    $bytes = $encoding.GetBytes([string] [char] 65279 + $lines)
    if (-not (Add-NewFile $Path $bytes)) {
        throw ('there is a file already: ' + $Path)
    }
}

function Add-BinaryFile {
    param([string] $Path, [byte[]] $Bytes)
    $stream = [System.IO.File]::Open($Path, [System.IO.FileMode]::Append, [System.IO.FileAccess]::Write,
        [System.IO.FileShare]::Read)
    try {
        $stream.Write($Bytes, 0, $Bytes.Length)
    }
    finally {
        $stream.Close()
    }
}

function Join-Files {
    param($Sources, [string] $Target)
    $buffer = New-Object byte[] 262144
    $joined = [System.IO.File]::Open($Target, [System.IO.FileMode]::CreateNew, [System.IO.FileAccess]::Write,
        [System.IO.FileShare]::Read)
    try {
        foreach ($source in @($Sources)) {
            $stream = Open-SharedFile $source
            try {
                do {
                    $read = $stream.Read($buffer, 0, $buffer.Length)
                    $joined.Write($buffer, 0, $read)
                } while ($read -gt 0)
            }
            finally {
                $stream.Close()
            }
        }
    }
    finally {
        $joined.Close()
    }
}

function Move-FileToNew {
    param([string] $From, [string] $To)
    try {
        [System.IO.File]::Move($From, $To)
    }
    catch {
        if ((Test-File $To) -or (Test-Folder $To)) {
            return $false
        }
        throw
    }
    return $true
}

function Remove-File {
    param([string] $Path)
    if (Test-File $Path) {
        # Unpacked files are often marked read-only, which keeps them from being deleted.
        [System.IO.File]::SetAttributes($Path, [System.IO.FileAttributes]::Normal)
        [System.IO.File]::Delete($Path)
    }
}

function Remove-Tree {
    param([string] $Path)
    if (-not (Test-Folder $Path)) {
        return
    }
    # Of a link only the link goes; what it leads to is somebody else's.
    if (Test-ReparsePoint $Path) {
        [System.IO.Directory]::Delete($Path, $false)
        return
    }
    $trouble = ''
    foreach ($name in @(Get-FolderEntries $Path)) {
        $inner = $Path + '\' + $name
        try {
            if (Test-Folder $inner) {
                Remove-Tree $inner
            }
            else {
                Remove-File $inner
            }
        }
        catch {
            $trouble = $_.Exception.GetBaseException().Message
        }
    }
    if ($trouble -ne '') {
        throw $trouble
    }
    [System.IO.File]::SetAttributes($Path, [System.IO.FileAttributes]::Normal)
    [System.IO.Directory]::Delete($Path, $false)
}

function New-PlainFolder {
    param([string] $Path)
    [void] [System.IO.Directory]::CreateDirectory($Path)
}

function New-ClosedFolder {
    param([string] $Path)
    $inherit = [System.Security.AccessControl.InheritanceFlags] 'ContainerInherit, ObjectInherit'
    $none = [System.Security.AccessControl.PropagationFlags]::None
    $full = [System.Security.AccessControl.FileSystemRights]::FullControl
    $allow = [System.Security.AccessControl.AccessControlType]::Allow
    $security = New-Object System.Security.AccessControl.DirectorySecurity
    $security.SetAccessRuleProtection($true, $false)
    foreach ($text in @('S-1-5-18', 'S-1-5-32-544')) {
        $sid = New-Object System.Security.Principal.SecurityIdentifier($text)
        $rule = New-Object System.Security.AccessControl.FileSystemAccessRule($sid, $full, $inherit, $none, $allow)
        $security.AddAccessRule($rule)
    }
    $owner = New-Object System.Security.Principal.SecurityIdentifier('S-1-5-32-544')
    $security.SetOwner($owner)
    [void] [System.IO.Directory]::CreateDirectory($Path, $security)
}

function Get-FolderTrust {
    param([string] $Path)
    if (Test-File $Path) {
        return 'staging_is_file'
    }
    if (-not (Test-Folder $Path)) {
        return 'absent'
    }
    if (Test-ReparsePoint $Path) {
        return 'staging_reparse'
    }
    $trusted = @('S-1-5-18', 'S-1-5-32-544')
    $sids = [System.Security.Principal.SecurityIdentifier]
    $security = [System.IO.Directory]::GetAccessControl($Path)
    if ($trusted -notcontains $security.GetOwner($sids).Value) {
        return 'staging_owner'
    }
    if (-not $security.AreAccessRulesProtected) {
        return 'staging_acl'
    }
    foreach ($rule in $security.GetAccessRules($true, $true, $sids)) {
        $allows = $rule.AccessControlType -eq [System.Security.AccessControl.AccessControlType]::Allow
        if ($allows -and $trusted -notcontains $rule.IdentityReference.Value) {
            return 'staging_acl'
        }
    }
    return ''
}

function Lock-File {
    param([string] $Path)
    # Open for reading and shared for reading: it can be started, and neither changed nor replaced.
    return [System.IO.File]::Open($Path, [System.IO.FileMode]::Open, [System.IO.FileAccess]::Read,
        [System.IO.FileShare]::Read)
}

function Unlock-File {
    param($Handle)
    $Handle.Close()
}

function Save-Parameters {
    param([string] $Path, $Parameters)
    Export-Clixml -Path $Path -InputObject $Parameters -Depth 4
}

function Read-Parameters {
    param([string] $Path)
    return (Import-Clixml -Path $Path)
}

function Test-OldScheduler {
    # Before version 6.0 there is no Schedule.Service.
    return ([System.Environment]::OSVersion.Version.Major -lt 6)
}

function Get-ReplaceSwitch {
    # That a task is created in place of one of its name: schtasks of Windows XP has no such switch, and refuses it.
    $version = [System.Environment]::OSVersion.Version
    if ($version.Major -eq 5 -and $version.Minor -lt 2) {
        return ''
    }
    return ' /f'
}

function Get-TaskFolder {
    param($Service)
    [void] $Service.Connect()
    return $Service.GetFolder('\')
}

function Invoke-Schtasks {
    param([string] $Arguments)
    # Only its exit code counts: its words are localised.  Closed input answers every question it might ask.
    $start = New-Object System.Diagnostics.ProcessStartInfo
    $start.FileName = (Get-WindowsDirectory) + '\System32\schtasks.exe'
    $start.Arguments = $Arguments
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $start.RedirectStandardInput = $true
    $start.RedirectStandardOutput = $true
    $start.RedirectStandardError = $true
    $process = [System.Diagnostics.Process]::Start($start)
    $process.StandardInput.Close()
    $process.BeginOutputReadLine()
    $process.BeginErrorReadLine()
    if (-not $process.WaitForExit(60000)) {
        $process.Kill()
        return 'schtasks.exe did not end within 60 seconds'
    }
    if ($process.ExitCode -ne 0) {
        return 'schtasks.exe ended with exit code ' + (ConvertTo-PlainText $process.ExitCode)
    }
    return ''
}

function Register-SystemTask {
    param([string] $Name, [string] $Script)
    if ($Script.Contains(' ') -or $Script.Contains('"')) {
        return 'the path of the script has a blank or a quotation mark: ' + $Script
    }
    $program = (Get-WindowsDirectory) + '\System32\WindowsPowerShell\v1.0\powershell.exe'
    $arguments = '-NoLogo -NoProfile -NonInteractive -ExecutionPolicy RemoteSigned -File ' + $Script
    try {
        [void] (Remove-SystemTask $Name)
        if (Test-OldScheduler) {
            $command = $program + ' ' + $arguments
            if ($command.Length -gt 260) {
                return 'the command line is too long for schtasks.exe: ' + $command
            }
            # Midnight of today is over, so that the task fires only when it is told to.  Which form of a time is
            # understood depends on the version; should one refuse what is over, a second firing finds the token gone.
            $trouble = ''
            foreach ($time in @('00:00:00', '00:00', '23:59:00', '23:59')) {
                $trouble = Invoke-Schtasks ('/create /tn ' + $Name + ' /tr "' + $command + '" /sc ONCE /st ' + $time +
                    ' /ru SYSTEM' + (Get-ReplaceSwitch))
                if ($trouble -eq '') {
                    break
                }
            }
            return $trouble
        }
        $service = New-Object -ComObject Schedule.Service
        $folder = Get-TaskFolder $service
        $task = $service.NewTask(0)
        # 5: a service account, 1: highest privileges.
        $task.Principal.UserId = 'S-1-5-18'
        $task.Principal.LogonType = 5
        $task.Principal.RunLevel = 1
        # 2: no second instance; priority 7, the usual one, slows installers down; PT0S is no limit of time.
        $task.Settings.MultipleInstances = 2
        $task.Settings.Priority = 5
        $task.Settings.ExecutionTimeLimit = 'PT0S'
        $task.Settings.DisallowStartIfOnBatteries = $false
        $task.Settings.StopIfGoingOnBatteries = $false
        $task.Settings.RunOnlyIfIdle = $false
        $task.Settings.IdleSettings.StopOnIdleEnd = $false
        $task.Settings.AllowDemandStart = $true
        $task.Settings.Enabled = $true
        $action = $task.Actions.Create(0)
        $action.Path = $program
        $action.Arguments = $arguments
        # 6: create or replace.
        [void] $folder.RegisterTaskDefinition($Name, $task, 6, $null, $null, 5)
        return ''
    }
    catch {
        return (Get-ErrorText $_.Exception)
    }
}

function Start-SystemTask {
    param([string] $Name)
    try {
        if (Test-OldScheduler) {
            return (Invoke-Schtasks ('/run /tn ' + $Name))
        }
        $folder = Get-TaskFolder (New-Object -ComObject Schedule.Service)
        [void] $folder.GetTask($Name).Run($null)
        return ''
    }
    catch {
        return (Get-ErrorText $_.Exception)
    }
}

function Test-SystemTask {
    param([string] $Name)
    if (Test-OldScheduler) {
        return (Test-File ((Get-WindowsDirectory) + '\Tasks\' + $Name + '.job'))
    }
    $folder = Get-TaskFolder (New-Object -ComObject Schedule.Service)
    # 1: hidden ones too.
    foreach ($task in $folder.GetTasks(1)) {
        if ($task.Name -eq $Name) {
            return $true
        }
    }
    return $false
}

function Remove-SystemTask {
    param([string] $Name)
    if (-not (Test-SystemTask $Name)) {
        return $false
    }
    if (Test-OldScheduler) {
        $trouble = Invoke-Schtasks ('/delete /tn ' + $Name + ' /f')
        if ($trouble -ne '') {
            throw $trouble
        }
        return $true
    }
    $folder = Get-TaskFolder (New-Object -ComObject Schedule.Service)
    [void] $folder.DeleteTask($Name, 0)
    return $true
}

function Get-SigningTime {
    param([string] $Path)
    # The counter-signature's time of a program file; a hint, so whatever keeps it from being read gives ''.
    $stream = Open-SharedFile $Path
    try {
        [void] [System.Reflection.Assembly]::Load(
            'System.Security, Version=2.0.0.0, Culture=neutral, PublicKeyToken=b03f5f7f11d50a3a')
        $reader = New-Object System.IO.BinaryReader($stream)
        $stream.Position = 60
        $optional = $reader.ReadInt32() + 24
        $stream.Position = $optional
        # The directories begin at 96, in a 64-bit program (523) at 112; the fifth of them is the signature's.
        $directory = $optional + 128
        if ($reader.ReadUInt16() -eq 523) {
            $directory = $optional + 144
        }
        $stream.Position = $directory
        $place = $reader.ReadUInt32()
        if ($place -eq 0) {
            return ''
        }
        $stream.Position = $place
        $length = $reader.ReadInt32()
        [void] $reader.ReadInt32()
        $message = New-Object System.Security.Cryptography.Pkcs.SignedCms
        $message.Decode($reader.ReadBytes($length - 8))
        foreach ($counter in $message.SignerInfos[0].CounterSignerInfos) {
            foreach ($attribute in $counter.SignedAttributes) {
                foreach ($value in $attribute.Values) {
                    if ($value -is [System.Security.Cryptography.Pkcs.Pkcs9SigningTime]) {
                        return (ConvertTo-UtcText $value.SigningTime)
                    }
                }
            }
        }
        return ''
    }
    catch {
        return ''
    }
    finally {
        $stream.Close()
    }
}

function Get-PackageSignature {
    param([string] $Path, $Roots, [int] $Seconds)
    # It may ask the network for revocation and root lists for minutes, so it has a runspace of its own and a deadline.
    $check = {
        param($Path, $Roots)
        $ErrorActionPreference = 'Stop'
        $found = @{ status = 'unverifiable'; signer = ''; root = ''; detail = '' }
        $signature = Get-AuthenticodeSignature -FilePath $Path
        $outcome = [string] $signature.Status
        $found.detail = 'file: ' + $outcome
        if (@('NotSigned', 'HashMismatch', 'NotTrusted') -contains $outcome) {
            $found.status = 'invalid'
            return $found
        }
        if ($null -eq $signature.SignerCertificate) {
            return $found
        }
        $found.signer = [string] $signature.SignerCertificate.Subject
        $chain = New-Object System.Security.Cryptography.X509Certificates.X509Chain
        $policy = $chain.ChainPolicy
        $policy.RevocationMode = [System.Security.Cryptography.X509Certificates.X509RevocationMode]::Online
        $policy.RevocationFlag = [System.Security.Cryptography.X509Certificates.X509RevocationFlag]::ExcludeRoot
        # The certificate must be for signing code.
        $usage = New-Object System.Security.Cryptography.Oid('1.3.6.1.5.5.7.3.3')
        [void] $policy.ApplicationPolicy.Add($usage)
        # The certificates between signer and root come with the signature.
        try {
            $policy.ExtraStore.Import($Path)
        }
        catch {
            $found.detail += ', no certificates in the file'
        }
        [void] $chain.Build($signature.SignerCertificate)
        $flags = 0
        foreach ($status in @($chain.ChainStatus)) {
            $flags = $flags -bor [int] $status.Status
        }
        $names = [System.Security.Cryptography.X509Certificates.X509ChainStatusFlags] $flags
        $found.detail += ', chain: ' + [string] $names
        $elements = $chain.ChainElements
        # 65536: the chain has no end here.
        if (($flags -band 65536) -eq 0) {
            $found.root = [string] $elements[$elements.Count - 1].Certificate.Thumbprint
            if (@($Roots) -notcontains $found.root) {
                $found.status = 'invalid'
                return $found
            }
        }
        # 65436: revoked, badly signed, of another use, going in circles, or against a constraint or policy.
        # Times are not looked at: the verdict on the file has weighed them against the time stamp.
        if (($flags -band 65436) -ne 0) {
            $found.status = 'invalid'
            return $found
        }
        # 16842848: no end, a root that is not trusted here, revocation unknown or out of reach.
        if ($outcome -ceq 'Valid' -and ($flags -band 16842848) -eq 0) {
            $found.status = 'valid'
        }
        return $found
    }
    $answer = @{ status = 'unverifiable'; signer = ''; root = ''; signed_at = ''; detail = '' }
    try {
        $shell = [System.Management.Automation.PowerShell]::Create()
        [void] $shell.AddScript($check.ToString()).AddArgument($Path).AddArgument($Roots)
        $running = $shell.BeginInvoke()
        if ($running.AsyncWaitHandle.WaitOne($Seconds * 1000, $false)) {
            $results = $shell.EndInvoke($running)
            $found = $results[0]
            foreach ($name in @('status', 'signer', 'root', 'detail')) {
                $answer[$name] = [string] $found.$name
            }
        }
        else {
            $answer.detail = 'not checked within ' + (ConvertTo-PlainText $Seconds) + ' seconds'
        }
    }
    catch {
        $answer.status = 'unverifiable'
        $answer.detail = Get-ErrorText $_.Exception
    }
    $answer.signed_at = Get-SigningTime $Path
    return $answer
}

function Start-Installer {
    param([string] $Program, [string] $Arguments, [string] $Temp)
    $start = New-Object System.Diagnostics.ProcessStartInfo
    $start.FileName = $Program
    $start.Arguments = $Arguments
    $start.WorkingDirectory = $Temp
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $start.EnvironmentVariables['TEMP'] = $Temp
    $start.EnvironmentVariables['TMP'] = $Temp
    $process = [System.Diagnostics.Process]::Start($start)
    return @{
        pid = [int] $process.Id
        created = (Get-CreationText $process)
        process = $process
    }
}

function Wait-Installer {
    param($Handle, [int] $Milliseconds)
    return $Handle.WaitForExit($Milliseconds)
}

function Get-InstallerExitCode {
    param($Handle)
    return (ConvertTo-PlainText $Handle.ExitCode)
}

function Write-ApplicationLog {
    param([string] $Source, [string] $Text, [bool] $Failed)
    try {
        if (-not [System.Diagnostics.EventLog]::SourceExists($Source)) {
            [System.Diagnostics.EventLog]::CreateEventSource($Source, 'Application')
        }
        $kind = [System.Diagnostics.EventLogEntryType]::Information
        if ($Failed) {
            $kind = [System.Diagnostics.EventLogEntryType]::Error
        }
        # An entry holds about 32,000 characters.
        if ($Text.Length -gt 16000) {
            $Text = $Text.Substring(0, 16000)
        }
        [System.Diagnostics.EventLog]::WriteEntry($Source, $Text, $kind, 1)
        return $true
    }
    catch {
        return $false
    }
}

function Open-Database {
    param([string] $Server, [int] $Seconds)
    # Always the server's own administrative database: whoever looks must not count among those who use another.
    # Its properties hide behind its keywords in PowerShell, so that only methods are asked of it.
    $text = New-Object System.Data.SqlClient.SqlConnectionStringBuilder
    $text['Data Source'] = $Server
    $text['Initial Catalog'] = 'master'
    $text['Integrated Security'] = $true
    $text['Pooling'] = $false
    $text['Connect Timeout'] = $Seconds
    $text['Application Name'] = 'wsusfix'
    $connection = New-Object System.Data.SqlClient.SqlConnection($text.ToString())
    $connection.Open()
    return $connection
}

function Invoke-DatabaseCommand {
    param($Connection, [string] $Text, $Values, [int] $Seconds)
    # The rows, each as a table; values are parameters of the command and never part of its text.
    $command = $Connection.CreateCommand()
    $command.CommandText = $Text
    $command.CommandTimeout = $Seconds
    foreach ($entry in $Values.GetEnumerator()) {
        [void] $command.Parameters.AddWithValue('@' + $entry.Key, [string] $entry.Value)
    }
    $reader = $command.ExecuteReader()
    try {
        while ($reader.Read()) {
            $row = @{}
            for ($index = 0; $index -lt $reader.FieldCount; $index++) {
                $row[$reader.GetName($index)] = (ConvertTo-PlainText $reader.GetValue($index)).Trim()
            }
            $row
        }
        # An error that comes after the rows is thrown only when they are asked for to their end.
        while ($reader.NextResult()) {
            continue
        }
    }
    finally {
        $reader.Close()
    }
}

function Get-DatabaseState {
    param([string] $Server, [string] $Database, [int] $Seconds)
    # 115 is the option 'nested triggers'; a page has 8192 bytes.
    $general = "SELECT CONVERT(nvarchar(128), SERVERPROPERTY('ProductVersion')) AS version, " +
        "CONVERT(nvarchar(256), @@SERVERNAME) AS own_name, " +
        "CONVERT(nvarchar(256), SERVERPROPERTY('ServerName')) AS network_name, " +
        "CONVERT(int, SERVERPROPERTY('ProcessID')) AS process_id, " +
        "IS_SRVROLEMEMBER('sysadmin') AS sysadmin, " +
        "(SELECT value FROM master.dbo.syscurconfigs WHERE config = 115) AS nested_triggers"
    $files = "SELECT f.filename, CONVERT(bigint, f.size) * 8192 AS size FROM master.dbo.sysaltfiles AS f " +
        "JOIN master.dbo.sysdatabases AS d ON d.dbid = f.dbid WHERE d.name = @database"
    $connection = Open-Database $Server $Seconds
    try {
        $row = @(Invoke-DatabaseCommand $connection $general @{} $Seconds)[0]
        $paths = @()
        $size = [long] 0
        foreach ($file in @(Invoke-DatabaseCommand $connection $files @{ database = $Database } $Seconds)) {
            $paths += $file.filename
            $size += [long] $file.size
        }
    }
    finally {
        $connection.Close()
    }
    return @{
        version = $row.version
        own_name = $row.own_name
        network_name = $row.network_name
        process_id = [int] $row.process_id
        sysadmin = $row.sysadmin -eq '1'
        nested_triggers = $row.nested_triggers -eq '1'
        size = (ConvertTo-PlainText $size)
        files = ($paths -join "`n")
    }
}

function Get-DatabaseConnections {
    param([string] $Server, [string] $Database, [int] $Seconds)
    # Who uses the database: host, number of the process there, and what the program calls itself.
    $text = "SELECT RTRIM(hostname) AS host, RTRIM(hostprocess) AS process, RTRIM(program_name) AS program " +
        "FROM master.dbo.sysprocesses WHERE dbid = DB_ID(@database) AND spid <> @@SPID AND spid > 50"
    $connection = Open-Database $Server $Seconds
    try {
        foreach ($row in @(Invoke-DatabaseCommand $connection $text @{ database = $Database } $Seconds)) {
            @{ host = $row.host; process = $row.process; program = $row.program }
        }
    }
    finally {
        $connection.Close()
    }
}

function Save-Database {
    param([string] $Server, [string] $Database, [string] $Path, [int] $Seconds)
    # Outside of the chain of other backups, and with a checksum on every page.
    $connection = Open-Database $Server 60
    try {
        $values = @{ database = $Database; path = $Path }
        $text = 'BACKUP DATABASE @database TO DISK = @path WITH COPY_ONLY, CHECKSUM'
        [void] (Invoke-DatabaseCommand $connection $text $values $Seconds)
    }
    finally {
        $connection.Close()
    }
}

function Test-DatabaseBackup {
    param([string] $Server, [string] $Path, [int] $Seconds)
    # Nothing when it can be restored; what it lacks is thrown.
    $connection = Open-Database $Server 60
    try {
        $text = 'RESTORE VERIFYONLY FROM DISK = @path WITH CHECKSUM'
        [void] (Invoke-DatabaseCommand $connection $text @{ path = $Path } $Seconds)
    }
    finally {
        $connection.Close()
    }
}

function Get-ProcessOwner {
    param([int] $ProcessId)
    # The SID, whatever the account is called in the server's language.
    foreach ($process in @(Get-WmiObject -Class Win32_Process -EnableAllPrivileges)) {
        if ([int] $process.ProcessId -eq $ProcessId) {
            return [string] $process.GetOwnerSid().Sid
        }
    }
    return ''
}

function Get-ProcessName {
    param([int] $ProcessId)
    foreach ($process in @(Get-WmiObject -Class Win32_Process)) {
        if ([int] $process.ProcessId -eq $ProcessId) {
            return ([string] $process.Name).ToLowerInvariant()
        }
    }
    return ''
}

function New-SharedFolder {
    param([string] $Path, [string] $Sid)
    # For SYSTEM, Administrators, and one account that may write into it and not change who may.
    $inherit = [System.Security.AccessControl.InheritanceFlags] 'ContainerInherit, ObjectInherit'
    $none = [System.Security.AccessControl.PropagationFlags]::None
    $allow = [System.Security.AccessControl.AccessControlType]::Allow
    $security = New-Object System.Security.AccessControl.DirectorySecurity
    $security.SetAccessRuleProtection($true, $false)
    $rights = @{ 'S-1-5-18' = 'FullControl'; 'S-1-5-32-544' = 'FullControl' }
    if (-not $rights.ContainsKey($Sid)) {
        $rights[$Sid] = 'Modify'
    }
    foreach ($entry in $rights.GetEnumerator()) {
        $account = New-Object System.Security.Principal.SecurityIdentifier($entry.Key)
        $right = [System.Security.AccessControl.FileSystemRights] $entry.Value
        $rule = New-Object System.Security.AccessControl.FileSystemAccessRule($account, $right, $inherit, $none, $allow)
        $security.AddAccessRule($rule)
    }
    $owner = New-Object System.Security.Principal.SecurityIdentifier('S-1-5-32-544')
    $security.SetOwner($owner)
    [void] [System.IO.Directory]::CreateDirectory($Path, $security)
}

function Get-DependentServices {
    param([string] $Name)
    # The names of those that run and need this one, in the order in which they have to stop.
    foreach ($service in @(Get-Service)) {
        if ($service.Name -eq $Name) {
            foreach ($dependent in $service.DependentServices) {
                if ([string] $dependent.Status -ne 'Stopped') {
                    $dependent.Name
                }
            }
        }
    }
}

function Switch-Service {
    param([string] $Name, [bool] $Run, [int] $Seconds)
    # '' when the service runs or is stopped as asked for, else what went wrong.
    $wanted = 'Stopped'
    if ($Run) {
        $wanted = 'Running'
    }
    try {
        foreach ($service in @(Get-Service)) {
            if ($service.Name -ne $Name) {
                continue
            }
            if ([string] $service.Status -eq $wanted) {
                return ''
            }
            # One that is on its way already is only waited for.
            if ($Run -and [string] $service.Status -eq 'Stopped') {
                $service.Start()
            }
            elseif (-not $Run -and [string] $service.Status -ne 'StopPending') {
                $service.Stop()
            }
            $service.WaitForStatus($wanted, [System.TimeSpan]::FromSeconds($Seconds))
            return ''
        }
        return 'there is no service ' + $Name
    }
    catch {
        return (Get-ErrorText $_.Exception)
    }
}

function Get-WebSites {
    # By ADSI, which every WSUS 3.0 server has: from IIS 7 on WSUS needs the compatibility with IIS 6.
    $root = New-Object System.DirectoryServices.DirectoryEntry('IIS://localhost/W3SVC')
    foreach ($site in $root.psbase.Children) {
        if ($site.psbase.SchemaClassName -eq 'IIsWebServer') {
            # 2: started.
            @{
                number = [string] $site.psbase.Name
                name = [string] $site.psbase.Properties['ServerComment'].Value
                running = [int] $site.psbase.Properties['ServerState'].Value -eq 2
            }
        }
    }
}

function Switch-WebSite {
    param([string] $Number, [bool] $Run)
    # '' when it was told to, or is so by now; else what went wrong.
    $site = New-Object System.DirectoryServices.DirectoryEntry('IIS://localhost/W3SVC/' + $Number)
    $deed = 'Stop'
    if ($Run) {
        $deed = 'Start'
    }
    try {
        [void] $site.psbase.Invoke($deed, $null)
        return ''
    }
    catch {
        $trouble = Get-ErrorText $_.Exception
    }
    # The service runs before its sites do: IIS may have been about it by itself.
    foreach ($other in @(Get-WebSites)) {
        if ($other.number -eq $Number -and $other.running -eq $Run) {
            return ''
        }
    }
    return $trouble
}

function Test-Compressed {
    param([string] $Path)
    # 2048: a file or folder is compressed, or all that is made on its drive will be.
    $root = [System.IO.Path]::GetPathRoot($Path)
    foreach ($each in @($Path, $root)) {
        $there = (Test-File $each) -or (Test-Folder $each)
        if ($there -and ([int] [System.IO.File]::GetAttributes($each) -band 2048) -ne 0) {
            return $true
        }
    }
    return $false
}

function Get-FileTime {
    param([string] $Path)
    if (-not (Test-File $Path)) {
        return $null
    }
    return (ConvertTo-UtcText ([System.IO.File]::GetLastWriteTimeUtc($Path)))
}

function Start-Restart {
    param([string] $Text, [int] $Seconds)
    # '' when Windows has begun to wait for its restart.  On Server 2003 a program that refuses keeps it waiting; from
    # 2008 on shutdown.exe ends it, as it was given a time.
    $start = New-Object System.Diagnostics.ProcessStartInfo
    $start.FileName = (Get-WindowsDirectory) + '\System32\shutdown.exe'
    # Planned, 4:1: an application is maintained.
    $start.Arguments = '/r /t ' + (ConvertTo-PlainText $Seconds) + ' /d p:4:1 /c "' + $Text.Replace('"', "'") + '"'
    $start.UseShellExecute = $false
    $start.CreateNoWindow = $true
    $process = [System.Diagnostics.Process]::Start($start)
    if (-not $process.WaitForExit(60000)) {
        return 'shutdown.exe did not end within 60 seconds'
    }
    if ($process.ExitCode -ne 0) {
        return 'shutdown.exe ended with exit code ' + (ConvertTo-PlainText $process.ExitCode)
    }
    return ''
}

function Get-WsusHierarchy {
    # By WSUS's own interface: the server above, '' for none, and the names of all that share the database, one a line.
    $loaded = [System.Reflection.Assembly]::LoadWithPartialName('Microsoft.UpdateServices.Administration')
    if ($null -eq $loaded) {
        throw 'the administration interface of WSUS is not installed'
    }
    $server = [Microsoft.UpdateServices.Administration.AdminProxy]::GetUpdateServer()
    $configuration = $server.GetConfiguration()
    $upstream = ''
    if (-not $configuration.SyncFromMicrosoftUpdate) {
        $upstream = [string] $configuration.UpstreamWsusServerName
    }
    $names = @()
    foreach ($each in @($server.GetFrontEndServers())) {
        $names += [string] $each.FullDomainName
    }
    return @{ upstream = $upstream; front_ends = ($names -join "`n") }
}

function Connect-Wsus {
    # The server's own WSUS, with titles in English where it has them.
    $name = 'Microsoft.UpdateServices.Administration'
    if ($null -eq [System.Reflection.Assembly]::LoadWithPartialName($name)) {
        throw ('there is no ' + $name)
    }
    $server = [Microsoft.UpdateServices.Administration.AdminProxy]::GetUpdateServer()
    $server.PreferredCulture = 'en'
    return $server
}

function Get-WsusSettings {
    $server = Connect-Wsus
    $configuration = $server.GetConfiguration()
    # Not every version can tell who shares its database: '' says that nobody told.
    $names = @()
    try {
        foreach ($frontEnd in @($server.GetFrontEndServers())) {
            $text = [string] $frontEnd.FullDomainName
            if ($text -eq '') {
                $text = [string] $frontEnd
            }
            $names += $text
        }
    }
    catch {
        $names = @()
    }
    return @{
        state = [string] $configuration.GetUpdateServerConfigurationState()
        role = [string] $server.GetCurrentUserRole()
        replica = [bool] $configuration.IsReplicaServer
        upstream = [string] $configuration.UpstreamWsusServerName
        automatic = [bool] $server.GetSubscription().SynchronizeAutomatically
        front_ends = $names -join "`n"
    }
}

function Set-WsusReplica {
    param([bool] $Replica)
    $configuration = (Connect-Wsus).GetConfiguration()
    $configuration.IsReplicaServer = $Replica
    # It throws when somebody else has saved since, and while anything runs.
    $configuration.Save($true)
}

function Set-WsusAutomatic {
    param([bool] $Automatic)
    $subscription = (Connect-Wsus).GetSubscription()
    $subscription.SynchronizeAutomatically = $Automatic
    $subscription.Save()
}

function Find-WsusUpdates {
    param($Texts)
    # The newest revisions of the updates in which one of the texts is found, declined ones too.
    $server = Connect-Wsus
    $seen = @{}
    foreach ($text in @($Texts)) {
        $scope = New-Object Microsoft.UpdateServices.Administration.UpdateScope
        $scope.TextIncludes = $text
        $scope.ApprovedStates = 'Any'
        foreach ($update in @($server.GetUpdates($scope))) {
            $id = $update.Id.UpdateId.ToString()
            if (-not $seen.ContainsKey($id)) {
                $seen[$id] = $true
                $id
            }
        }
    }
}

function Get-WsusUpdate {
    param($Server, [string] $Id)
    $guid = New-Object System.Guid($Id)
    $revision = New-Object Microsoft.UpdateServices.Administration.UpdateRevisionId($guid)
    return $Server.GetUpdate($revision)
}

function Get-WsusRevisions {
    param([string] $Id)
    # Every revision of an update, the newest first; nothing for an update that is not there.
    $server = Connect-Wsus
    try {
        $newest = Get-WsusUpdate $server $Id
    }
    catch {
        # PowerShell wraps what a method throws, and WSUS may wrap a cause into its own.
        $cause = $_.Exception
        while ($null -ne $cause) {
            if ($cause.GetType().Name -ceq 'WsusObjectNotFoundException') {
                return
            }
            $cause = $cause.InnerException
        }
        throw
    }
    $seen = @{}
    foreach ($update in @($newest) + @($newest.GetRelatedUpdates('AllRevisionsOfThisUpdate'))) {
        $number = [int] $update.Id.RevisionNumber
        if (-not $seen.ContainsKey($number)) {
            $seen[$number] = $true
            @{
                revision = $number
                declined = [bool] $update.IsDeclined
                title = [string] $update.Title
                articles = @($update.KnowledgebaseArticles) -join ','
            }
        }
    }
}

function Get-WsusApprovals {
    param([string] $Id)
    # Those of every revision of an update; what says that nothing is approved is none.
    $server = Connect-Wsus
    $newest = Get-WsusUpdate $server $Id
    $seen = @{}
    foreach ($update in @($newest) + @($newest.GetRelatedUpdates('AllRevisionsOfThisUpdate'))) {
        foreach ($approval in @($update.GetUpdateApprovals())) {
            $key = $approval.Id.ToString()
            $action = [string] $approval.Action
            if ($action -cne 'NotApproved' -and -not $seen.ContainsKey($key)) {
                $seen[$key] = $true
                $number = $approval.UpdateId.RevisionNumber
                if ($null -eq $number) {
                    $number = $update.Id.RevisionNumber
                }
                @{
                    revision = [int] $number
                    group = $approval.ComputerTargetGroupId.ToString()
                    action = $action
                    optional = [bool] $approval.IsOptional
                    deadline = (ConvertTo-UtcText (ConvertTo-UtcTime $approval.Deadline))
                    created = (ConvertTo-UtcText (ConvertTo-UtcTime $approval.CreationDate))
                    administrator = [string] $approval.AdministratorName
                }
            }
        }
    }
}

function Deny-WsusUpdate {
    param([string] $Id)
    (Get-WsusUpdate (Connect-Wsus) $Id).Decline()
}

function Reset-WsusUpdate {
    param([string] $Id)
    # Approved for nothing: no client is offered anything, and it is declined no longer.
    $server = Connect-Wsus
    $update = Get-WsusUpdate $server $Id
    $all = $server.GetComputerTargetGroup([Microsoft.UpdateServices.Administration.ComputerTargetGroupId]::AllComputers)
    try {
        [void] $update.Approve('NotApproved', $all)
    }
    catch {
        # The API's documentation says that this group takes no such approval; for any other it does the same.
        $rest = [Microsoft.UpdateServices.Administration.ComputerTargetGroupId]::UnassignedComputers
        [void] $update.Approve('NotApproved', $server.GetComputerTargetGroup($rest))
    }
}

function Write-WsusLog {
    param([string] $Text)
    # It formats what it is given, so braces are doubled.
    try {
        $server = Connect-Wsus
        $server.LogMessage('Warning', $Text.Replace('{', '{{').Replace('}', '}}'), @())
        return $true
    }
    catch {
        return $false
    }
}

function Get-TlsStatus {
    param([System.Uri] $Uri)
    # What this very server answers over HTTPS.  Its certificate is for another name than the one it is asked by here;
    # nothing secret is sent, so that any will do.
    $client = New-Object System.Net.Sockets.TcpClient
    try {
        $client.ReceiveTimeout = 30000
        $client.SendTimeout = 30000
        $client.Connect($Uri.Host, $Uri.Port)
        $any = [System.Net.Security.RemoteCertificateValidationCallback] { return $true }
        $stream = New-Object System.Net.Security.SslStream($client.GetStream(), $false, $any)
        try {
            $stream.AuthenticateAsClient($Uri.Host)
            $asked = 'GET ' + $Uri.PathAndQuery + " HTTP/1.1`r`nHost: " + $Uri.Host + "`r`nConnection: close`r`n`r`n"
            $bytes = [System.Text.Encoding]::ASCII.GetBytes($asked)
            $stream.Write($bytes, 0, $bytes.Length)
            # "HTTP/1.1 200 OK": what comes after is of no interest.
            $line = ''
            while ($line.Length -lt 12) {
                $byte = $stream.ReadByte()
                if ($byte -lt 0) {
                    break
                }
                $line += [char] $byte
            }
        }
        finally {
            $stream.Close()
        }
    }
    finally {
        $client.Close()
    }
    if ($line -cmatch '^HTTP/1\.[01] [0-9]{3}$') {
        return $line.Substring(9)
    }
    return 'ServerProtocolViolation'
}

function Get-WebStatus {
    param([string] $Url)
    # What this very server answers over HTTP, or what kept it from answering.
    $answer = $null
    try {
        if ($Url.StartsWith('https://')) {
            return (Get-TlsStatus $Url)
        }
        $request = [System.Net.WebRequest]::Create($Url)
        $request.Proxy = $null
        $request.Timeout = 30000
        $request.UseDefaultCredentials = $true
        $answer = $request.GetResponse()
        return (ConvertTo-PlainText ([int] $answer.StatusCode))
    }
    catch {
        # What is wrapped into an error of the web says less than that: a refused connection is a SocketException.
        $cause = $_.Exception
        while ($cause -isnot [System.Net.WebException] -and $null -ne $cause.InnerException) {
            $cause = $cause.InnerException
        }
        if ($cause -is [System.Net.WebException]) {
            if ($null -ne $cause.Response) {
                return (ConvertTo-PlainText ([int] $cause.Response.StatusCode))
            }
            return [string] $cause.Status
        }
        return $cause.GetType().Name
    }
    finally {
        if ($null -ne $answer) {
            $answer.Close()
        }
    }
}

function Wait-Seconds {
    param([double] $Seconds)
    [System.Threading.Thread]::Sleep([int] ($Seconds * 1000))
}
