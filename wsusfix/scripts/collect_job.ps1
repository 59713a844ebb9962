# wsusfix script: collect_job
param($Parameters)
# Brings back what a job left: the tail of its log and the hashes of all of them.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$staging = Get-StagingPath $Parameters.staging_name
$folder = Get-JobFolder $staging $Parameters.job_id
$answer = @{ script = 'collect_job'; log_tail = ''; logs = '' }

if ((Get-FolderTrust $staging) -ne '') {
    return $answer
}

# The log that the installer was told to write; without one, the longest that setup left.
$names = @()
if (Test-File ($folder + '\install.log')) {
    $names += 'install.log'
}
foreach ($name in @(Get-TreeFiles ($folder + '\temp') 'temp\')) {
    if ($name -match '\.(log|xml)$' -and $names.Length -lt 500) {
        $names += $name
    }
}

$lines = @()
$shown = ''
$longest = [long] 0
foreach ($name in $names) {
    $path = $folder + '\' + $name
    $length = [long] (Get-FileLength $path)
    $lines += (Get-FileSha256 $path) + ' ' + [string] $length + ' ' + $name
    if ($length -gt $longest -and $shown -ne 'install.log') {
        $longest = $length
        $shown = $name
    }
}
$answer.logs = $lines -join "`n"
if ($shown -ne '') {
    $answer.log_tail = Read-FileTail ($folder + '\' + $shown) $Parameters.tail
}

return $answer
