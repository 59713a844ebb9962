# wsusfix script: poll_job
param($Parameters)
# Tells how a job stands, and the states that are newer than the last one known.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$staging = Get-StagingPath $Parameters.staging_name
$folder = Get-JobFolder $staging $Parameters.job_id
$answer = @{
    script = 'poll_job'
    kind = ''
    status = 'none'
    states = ''
    last = $Parameters.after
    clock = (Get-Clock)
}

# What lies in a folder that is not closed was not written by a job.
if ((Get-FolderTrust $staging) -ne '') {
    return $answer
}

# First the status, then the states: an end that is told is among them, or comes with the next question.
$job = Get-JobStatus $staging $Parameters.job_id $Parameters.start_seconds
$answer.kind = $job.kind
$answer.status = $job.status
$lines = @()
$length = 0
foreach ($state in @(Get-States $folder $Parameters.after)) {
    $length += $state.text.Length + 20
    if ($length -gt 200000) {
        break
    }
    $lines += 'number=' + [string] $state.number
    $lines += $state.text
    $answer.last = $state.number
}
$answer.states = $lines -join "`n"

return $answer
