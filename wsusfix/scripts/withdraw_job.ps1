# wsusfix script: withdraw_job
param($Parameters)
# Calls off the job that waits for its maintenance window; one that is at work is left alone.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$staging = Get-StagingPath $Parameters.staging_name
$answer = @{ script = 'withdraw_job'; refused = ''; detail = ''; job_id = ''; job_kind = ''; already = $false }

$refusal = Get-StagingRefusal $staging
if ($refusal -ne '' -and $refusal -ne 'absent') {
    $answer.refused = $refusal
    $answer.detail = $staging
    return $answer
}
if ($refusal -eq '') {
    $answer.job_id = Get-NewestJob $staging
}
if ($answer.job_id -eq '') {
    $answer.refused = 'no_job'
    return $answer
}

$folder = Get-JobFolder $staging $answer.job_id
$identity = Get-SessionIdentity
for ($try = 0; $try -lt 10; $try++) {
    $job = Get-JobStatus $staging $answer.job_id $Parameters.start_seconds
    $answer.job_kind = $job.kind
    $ended = $job.status -ceq 'finished' -and $job.fields.reason -ceq 'withdrawn'
    if ($ended -or $job.phase -ceq 'withdrawn') {
        $answer.already = $true
        return $answer
    }
    $answer.detail = $answer.job_id + ' (' + $job.kind + ') ' + $job.status + ' ' + $job.phase
    if ($job.status -cne 'running' -or $job.phase -cne 'waiting_for_window') {
        break
    }
    # Right behind that state or not at all: the job writes its next one there, too, before it does anything.  It names
    # the job's process, not this one: the job lives until it has seen it.
    if (Add-StateAt $folder 'withdrawn' @{ account_sid = $identity.sid } ($job.last + 1) $job.fields) {
        $answer.detail = ''
        return $answer
    }
    # Somebody was quicker, and may still be writing.
    Wait-Seconds 0.5
}
$answer.refused = 'not_waiting'
return $answer
