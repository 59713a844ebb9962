# wsusfix script: cleanup
param($Parameters)
# Removes the task and everything of wsusfix from the server, unless a job runs; what is kept stays.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$staging = Get-StagingPath $Parameters.staging_name
$answer = @{ script = 'cleanup'; refused = ''; detail = ''; removed = ''; remaining = '' }

$refusal = Get-StagingRefusal $staging
if ($refusal -ne '' -and $refusal -ne 'absent') {
    $answer.refused = $refusal
    $answer.detail = $staging
    return $answer
}

if ($refusal -eq '') {
    $running = Get-RunningJob $staging $Parameters.start_seconds
    if ($running -ne '') {
        $answer.refused = 'job_running'
        $answer.detail = $running
        return $answer
    }
}

# What cannot be written down is told by the next look.
try {
    Complete-Removal $Parameters
}
catch {
    $answer.detail = [string] $_.Exception.Message
}

$lines = @()
if (Remove-SystemTask $Parameters.task_name) {
    $lines += $Parameters.task_name
}
if ($refusal -eq '') {
    # A scanner may hold a file for a moment.
    for ($try = 0; $try -lt 3 -and (Test-Folder $staging); $try++) {
        if ($try -gt 0) {
            Wait-Seconds 1
            # Somebody may have begun a job since.
            if ((Get-RunningJob $staging $Parameters.start_seconds) -ne '') {
                break
            }
        }
        try {
            Remove-Tree $staging
        }
        catch {
            $answer.detail = [string] $_.Exception.Message
        }
    }
    if (Test-Folder $staging) {
        $left = @($staging) + @(Get-TreeFiles $staging ($staging + '\'))
        if ($left.Length -gt 500) {
            $left = $left[0..499]
        }
        $answer.remaining = $left -join "`n"
    }
    else {
        $answer.detail = ''
        $lines += $staging
    }
}
$answer.removed = $lines -join "`n"

return $answer
