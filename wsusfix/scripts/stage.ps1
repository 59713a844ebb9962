# wsusfix script: stage
param($Parameters)
# Makes or checks the closed staging folder, and tells what is already there of one file.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$staging = Get-StagingPath $Parameters.staging_name
$folder = Get-PackageFolder $staging $Parameters.sha256
$answer = @{
    script = 'stage'
    refused = ''
    detail = ''
    path = (Get-PackagePath $folder $Parameters.name)
    complete = $false
    segments = ''
    free = (Get-FreeSpace $staging)
}

$refusal = Get-StagingRefusal $staging
if ($refusal -ne '' -and $refusal -ne 'absent') {
    $answer.refused = $refusal
    $answer.detail = $staging
    return $answer
}

$there = [long] 0
if ($refusal -eq '') {
    $answer.complete = (Get-FileSha256 $answer.path) -ceq $Parameters.sha256
    $lines = @()
    foreach ($segment in @(Get-Segments $folder)) {
        $there += $segment.size
        $lines += [string] $segment.offset + '-' + [string] $segment.size
    }
    $answer.segments = $lines -join "`n"
}

if (-not $answer.complete) {
    # The segments and the whole lie there together for a moment.
    $needed = 2 * [long] $Parameters.size - $there + [long] $Parameters.reserve
    if ([long] $answer.free -lt $needed) {
        $answer.refused = 'no_space'
        $answer.detail = 'bytes needed: ' + [string] $needed
        return $answer
    }
    if ($refusal -eq 'absent') {
        New-ClosedFolder $staging
        # It may have been made by somebody else meanwhile, and is taken silently then.
        $refusal = Get-FolderTrust $staging
        if ($refusal -ne '') {
            $answer.refused = $refusal
            $answer.detail = $staging
            return $answer
        }
    }
    New-PlainFolder ($folder + '\parts')
}

return $answer
