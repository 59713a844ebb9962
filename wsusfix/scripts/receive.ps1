# wsusfix script: receive
param($Parameters)
# Writes one segment of a file from the byte arrays in the pipeline's input.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$staging = Get-StagingPath $Parameters.staging_name
$folder = (Get-PackageFolder $staging $Parameters.sha256) + '\parts'
$answer = @{ script = 'receive'; refused = ''; detail = ''; received = '0' }

$refusal = Get-StagingRefusal $staging
if ($refusal -eq 'absent' -or ($refusal -eq '' -and -not (Test-Folder $folder))) {
    $answer.refused = 'not_staged'
    $answer.detail = $folder
    return $answer
}
if ($refusal -ne '') {
    $answer.refused = $refusal
    $answer.detail = $staging
    return $answer
}
$free = Get-FreeSpace $staging
if ([long] $free -lt [long] $Parameters.length) {
    $answer.refused = 'no_space'
    $answer.detail = 'bytes free: ' + $free
    return $answer
}

$segment = $folder + '\' + (Get-SegmentName $Parameters.offset $Parameters.length)
$temporary = $segment + '.tmp-' + [System.Guid]::NewGuid().ToString('N')
try {
    foreach ($chunk in $input) {
        Add-BinaryFile $temporary $chunk
    }
    $length = Get-FileLength $temporary
    if ($null -ne $length) {
        $answer.received = $length
    }
    if ([long] $answer.received -ne [long] $Parameters.length) {
        $answer.refused = 'short_segment'
        $answer.detail = 'bytes expected: ' + $Parameters.length
        return $answer
    }
    # Somebody else may have brought the same segment; the first one stays.
    [void] (Move-FileToNew $temporary $segment)
}
finally {
    Remove-File $temporary
}

return $answer
