# wsusfix script: receive
param($Parameters)
# Writes a stretch of a file from the byte arrays in the pipeline's input, each segment as soon as it is whole.

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

$expected = [long] $Parameters.length
$received = [long] 0
$begun = [long] 0
$temporary = $folder + '\incoming-' + [System.Guid]::NewGuid().ToString('N')
try {
    foreach ($chunk in $input) {
        Add-BinaryFile $temporary $chunk
        $begun += $chunk.Length
        $received += $chunk.Length
        if ($received -le $expected -and ($begun -ge [long] $Parameters.segment -or $received -eq $expected)) {
            $name = Get-SegmentName ([long] $Parameters.offset + $received - $begun) $begun
            # Somebody else may have brought the same segment; the first one stays.
            [void] (Move-FileToNew $temporary ($folder + '\' + $name))
            Remove-File $temporary
            $begun = [long] 0
        }
    }
}
finally {
    Remove-File $temporary
}
$answer.received = [string] $received
if ($received -ne $expected) {
    $answer.refused = 'short_segment'
    $answer.detail = 'bytes expected: ' + $Parameters.length
}

return $answer
