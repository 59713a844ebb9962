# wsusfix script: facts
param($Parameters)
# Everything a diagnosis needs, in one look; changes nothing.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Get-Present {
    param($Keys)
    # Those of the keys that exist.
    foreach ($key in @($Keys)) {
        if (Test-RegistryKey $key) {
            $key
        }
    }
}

$answer = @{ script = 'facts' }

$system = Get-OperatingSystem
$answer.computer_name = Get-ComputerName
$answer.os_version = $system.version
$answer.os_service_pack = $system.service_pack
$answer.os_product_type = $system.product_type
$answer.os_suite_mask = $system.suite_mask
$answer.os_suites = [string] (Get-RegistryValue $Parameters.suite_key $Parameters.suite_value)
$answer.os_caption = $system.caption
$answer.architecture = Get-ProcessorArchitecture
$answer.culture = Get-CultureName
$answer.powershell_version = Get-PowerShellVersion
$answer.boot_time = $system.boot_time
$answer.clock = Get-Clock
$answer.windows_directory = Get-WindowsDirectory
$answer.system_free = Get-FreeSpace $answer.windows_directory
$answer.execution_policy = [string] (Get-RegistryValue $Parameters.policy_key $Parameters.policy_value)
# Where the policy forbids every script, it has no value for how they are restricted.
if ([string] (Get-RegistryValue $Parameters.policy_key $Parameters.policy_switch) -ceq '0') {
    $answer.execution_policy = 'Restricted'
}
# First of all that a job may change: one that ends meanwhile is told as at work, and not what it had not done yet.
$staging = Get-StagingPath $Parameters.staging_name
$answer.staging_path = $staging
$answer.staging_state = 'absent'
$answer.staging_detail = ''
$answer.staging_free = Get-FreeSpace $staging
$answer.job_id = ''
$answer.job_kind = ''
$answer.job_status = 'none'
$answer.job_phase = ''
$answer.leftovers = 0
# Who is no administrator may not even look at it.
try {
    $trust = Get-FolderTrust $staging
}
catch {
    $trust = [string] $_.Exception.Message
}
if ($trust -eq '') {
    $answer.staging_state = 'closed'
    $answer.leftovers = @(Get-TreeFiles $staging '').Length
    $answer.job_id = Get-NewestJob $staging
    $job = Get-JobStatus $staging $answer.job_id $Parameters.start_seconds
    $answer.job_kind = $job.kind
    $answer.job_status = $job.status
    $answer.job_phase = $job.phase
}
elseif ($trust -ne 'absent') {
    $answer.staging_state = 'refused'
    $answer.staging_detail = $trust
}

$answer.installer_busy = Test-InstallerBusy

$identity = Get-SessionIdentity
$answer.administrator = $identity.administrator
$answer.account = $identity.account
$answer.account_sid = $identity.sid
$answer.authentication = $identity.authentication

$answer.restart_keys = @(Get-Present $Parameters.restart_keys) -join "`n"
$renames = [string] (Get-RegistryValue $Parameters.rename_key $Parameters.rename_value)
if ($renames.Length -gt 200000) {
    $renames = $renames.Substring(0, 200000)
}
$answer.restart_renames = $renames

$answer.setup_present = Test-RegistryKey $Parameters.setup_key
foreach ($name in @($Parameters.setup_values)) {
    $value = Get-RegistryValue $Parameters.setup_key $name
    if ($null -ne $value) {
        $answer['setup_' + $name] = $value
    }
}
$answer.wsus2_product = Test-MsiProduct $Parameters.wsus2_product
foreach ($name in @($Parameters.services)) {
    $status = Get-ServiceStatus $name
    if ($null -ne $status) {
        $answer['service_' + $name] = $status
    }
}

$answer.dll_path = ''
$answer.dll_present = $false
$answer.dll_version = ''
if ($answer.setup_present) {
    $target = [string] (Get-RegistryValue $Parameters.setup_key 'TargetDir')
    if ($target -eq '') {
        $target = (Get-ProgramFilesDirectory) + '\' + $Parameters.default_target
    }
    $answer.dll_path = $target.TrimEnd('\') + '\' + $Parameters.dll
    $version = Get-FileVersion $answer.dll_path
    $answer.dll_present = $null -ne $version
    $answer.dll_version = [string] $version
}

$neighbours = @()
foreach ($entry in $Parameters.neighbours.GetEnumerator()) {
    if (Test-RegistryKey $entry.Value) {
        $neighbours += [string] $entry.Key
    }
}
$answer.neighbours = @($neighbours | Sort-Object) -join "`n"

$kept = Get-StagingPath $Parameters.kept_name
$answer.reset_state = Get-ResetState $kept
$record = Get-UpgradeRecord $kept
$answer.upgrade_state = $record.state
$answer.upgrade_number = $record.number
$answer.upgrade_record = $record.text
$answer.upgrade_setup = $record.setup
$answer.upgrade_end = $record.end
$ran = Get-RestartRecord $kept
$answer.ran_number = $ran.number
$answer.ran_record = $ran.text

return $answer
