# wsusfix script: collect_job
param($Parameters)
# Brings back what a job left: the end of its log, and hash and end of each of them.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$staging = Get-StagingPath $Parameters.staging_name
$folder = Get-JobFolder $staging $Parameters.job_id
$answer = @{ script = 'collect_job'; log_tail = ''; logs = '' }

if ((Get-FolderTrust $staging) -ne '') {
    return $answer
}

# The log that the installer was told to write; without one, those that tell most of setup, then what else it left.
$names = @()
if (Test-File ($folder + '\install.log')) {
    $names += 'install.log'
}
$others = @()
foreach ($name in @(Get-TreeFiles ($folder + '\temp') 'temp\')) {
    if ($name -match '\.(log|xml)$') {
        $others += $name
    }
}
foreach ($wanted in @($Parameters.first)) {
    foreach ($name in $others) {
        if ($name.Substring($name.LastIndexOf('\') + 1) -eq $wanted) {
            $names += $name
        }
    }
}
foreach ($name in $others) {
    if ($names -notcontains $name -and $names.Length -lt 500) {
        $names += $name
    }
}

$lines = @()
$shown = ''
$longest = [long] 0
$left = [int] $Parameters.most
foreach ($name in $names) {
    $path = $folder + '\' + $name
    $length = [long] (Get-FileLength $path)
    $lines += (Get-FileSha256 $path) + ' ' + [string] $length + ' ' + $name
    if ($left -gt 0) {
        $take = $Parameters.each
        if ($take -gt $left) {
            $take = $left
        }
        $answer['log_' + (ConvertTo-OneLine $lines.Length)] = Read-FileTail $path $take
        $left -= [System.Math]::Min([long] $take, $length)
    }
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
