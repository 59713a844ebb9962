# wsusfix script: start_job
param($Parameters)
# Starts a job as SYSTEM, or names the one that runs already.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$staging = Get-StagingPath $Parameters.staging_name
$folder = Get-JobFolder $staging $Parameters.job_id
$answer = @{
    script = 'start_job'
    refused = ''
    detail = ''
    job_id = $Parameters.job_id
    job_kind = $Parameters.job_kind
    joined = $false
}

$refusal = Get-StagingRefusal $staging
if ($refusal -eq 'absent') {
    New-ClosedFolder $staging
    $refusal = Get-FolderTrust $staging
}
if ($refusal -ne '') {
    $answer.refused = $refusal
    $answer.detail = $staging
    return $answer
}
$free = Get-FreeSpace $staging
if ([long] $free -lt 1048576 + 2 * $Parameters.job_script.Length) {
    $answer.refused = 'no_space'
    $answer.detail = 'bytes free: ' + $free
    return $answer
}

# A job that was asked for before is not started again: the answer was lost.
if ($null -ne (Get-Claim $staging $Parameters.job_id)) {
    $answer.joined = $true
    return $answer
}
Remove-Tree $folder

# Claims are numbered, and a number can be taken once: of several who look at the same time, one starts.
while ($true) {
    $numbers = @(Get-Numbers ($staging + '\jobs') '.claim')
    $number = 1
    if ($numbers.Length -gt 0) {
        $number = $numbers[-1] + 1
    }
    $newest = Get-NewestJob $staging
    $job = Get-JobStatus $staging $newest $Parameters.start_seconds
    $joins = @('claimed', 'running') -ccontains $job.status
    if (-not $joins -and $job.status -ceq 'never_started') {
        # Whatever still comes of it finds its token gone; if it just took it, it runs.
        $joins = -not (Add-Abandoned $staging $newest)
    }
    if ($joins) {
        # The same question, asked before and given up, may just have been answered: then this is the job that runs.
        if ($newest -cne $Parameters.job_id) {
            Remove-Tree $folder
        }
        $answer.job_id = $newest
        $answer.job_kind = $job.kind
        $answer.joined = $true
        return $answer
    }

    if (-not (Test-Folder $folder)) {
        New-PlainFolder ($folder + '\state')
        New-PlainFolder ($folder + '\temp')
        Add-ScriptFile ($folder + '\job.ps1') $Parameters.job_script
        Save-Parameters ($folder + '\parameters.xml') $Parameters.job_parameters
        $found = Get-FileSha256 ($folder + '\job.ps1')
        if ($found -cne $Parameters.job_sha256) {
            Remove-Tree $folder
            $answer.refused = 'job_script_changed'
            $answer.detail = $found
            return $answer
        }
    }
    if (Add-Claim $staging $number $Parameters.job_id $Parameters.job_kind) {
        break
    }
}

$trouble = Register-SystemTask $Parameters.task_name ($folder + '\job.ps1')
$answer.refused = 'task_not_created'
if ($trouble -eq '') {
    $trouble = Start-SystemTask $Parameters.task_name
    $answer.refused = 'task_not_started'
}
if ($trouble -eq '') {
    $answer.refused = ''
    return $answer
}
# The claim is given back, unless the job began all the same.
if (-not (Add-State $folder 'abandoned' @{})) {
    $answer.refused = ''
    return $answer
}
$answer.detail = $trouble
return $answer
