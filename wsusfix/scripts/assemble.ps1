# wsusfix script: assemble
param($Parameters)
# Joins the segments of a file, hashes the whole, and puts it in its place.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$staging = Get-StagingPath $Parameters.staging_name
$folder = Get-PackageFolder $staging $Parameters.sha256
$parts = $folder + '\parts'
$answer = @{
    script = 'assemble'
    refused = ''
    detail = ''
    path = (Get-PackagePath $folder $Parameters.name)
    found_sha256 = ''
}

$refusal = Get-StagingRefusal $staging
if ($refusal -ne '' -and $refusal -ne 'absent') {
    $answer.refused = $refusal
    $answer.detail = $staging
    return $answer
}
if ($refusal -eq '') {
    $answer.found_sha256 = [string] (Get-FileSha256 $answer.path)
    if ($answer.found_sha256 -ceq $Parameters.sha256) {
        Remove-Tree $parts
        return $answer
    }
}
if ($refusal -eq 'absent' -or -not (Test-Folder $parts)) {
    $answer.refused = 'not_staged'
    $answer.detail = $folder
    return $answer
}

# From what is reached, the longest segment that begins there.
$segments = @(Get-Segments $folder)
$size = [long] $Parameters.size
$reached = [long] 0
$paths = @()
while ($reached -lt $size) {
    $next = $null
    foreach ($segment in $segments) {
        $fits = $segment.offset -eq $reached -and $segment.size -gt 0 -and $reached + $segment.size -le $size
        if ($fits -and ($null -eq $next -or $segment.size -gt $next.size)) {
            $next = $segment
        }
    }
    if ($null -eq $next) {
        $answer.refused = 'missing_segment'
        $answer.detail = 'offset: ' + [string] $reached
        return $answer
    }
    $paths += $next.path
    $reached += $next.size
}

$free = Get-FreeSpace $staging
if ([long] $free -lt $size) {
    $answer.refused = 'no_space'
    $answer.detail = 'bytes free: ' + $free
    return $answer
}

$joined = $folder + '\joined-' + [System.Guid]::NewGuid().ToString('N')
try {
    try {
        Join-Files $paths $joined
    }
    catch {
        # Somebody who was quicker has put the file in its place, and cleared its segments away.
        $answer.found_sha256 = [string] (Get-FileSha256 $answer.path)
        if ($answer.found_sha256 -ceq $Parameters.sha256) {
            return $answer
        }
        throw
    }
    $answer.found_sha256 = Get-FileSha256 $joined
    if ($answer.found_sha256 -cne $Parameters.sha256) {
        # Nobody can tell which of them is wrong, so all are sent again.
        Remove-Tree $parts
        $answer.refused = 'hash_mismatch'
        $answer.detail = $answer.path
        return $answer
    }
    # What stood there before had another hash.
    Remove-File $answer.path
    [void] (Move-FileToNew $joined $answer.path)
}
finally {
    Remove-File $joined
}
Remove-Tree $parts

return $answer
