# wsusfix script: approvals
param($Parameters)
# What WSUS says of itself and of some updates, and what earlier resets kept; changes nothing.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Get-UpdateLine {
    param([string] $Id)
    # One line about an update, or nothing when it is not there.
    $revisions = @(Get-WsusRevisions $Id)
    if ($revisions.Length -eq 0) {
        return
    }
    $numbers = @()
    foreach ($revision in $revisions) {
        $numbers += [string] $revision.revision
    }
    $newest = $revisions[0]
    $approvals = @(Get-WsusApprovals $Id).Length
    $articles = $newest.articles
    if ($articles -eq '') {
        $articles = '-'
    }
    $parts = @($Id, ($numbers -join ','), (ConvertTo-OneLine $newest.declined), [string] $approvals, $articles,
        (ConvertTo-OneLine $newest.title))
    return ($parts -join ' ')
}

$kept = Get-StagingPath $Parameters.kept_name
$answer = @{
    script = 'approvals'
    trouble = ''
    role = ''
    state = ''
    replica = $false
    automatic = $false
    upstream = ''
    front_ends = ''
    updates = ''
    cut = $false
    reset_state = (Get-ResetState $kept)
    saved = ''
    marker = ''
    web_service = ''
}
if ($answer.reset_state -ne 'refused') {
    $answer.saved = Get-NewestKept $kept '.record'
    $answer.marker = Get-NewestKept $kept '.marker'
    # As much as a job writes.
    foreach ($name in @('saved', 'marker')) {
        if ($answer[$name].Length -gt 300000) {
            $answer[$name] = $answer[$name].Substring(0, 300000)
        }
    }
}
try {
    $settings = Get-WsusSettings
    foreach ($name in @('role', 'state', 'replica', 'automatic', 'upstream', 'front_ends')) {
        $answer[$name] = $settings[$name]
    }
    # What an earlier reset treated is looked at too, whatever it is called.
    $marked = @()
    if ($answer.marker -ne '') {
        foreach ($entry in (ConvertFrom-Lines $answer.marker).GetEnumerator()) {
            if ($entry.Key.StartsWith('update')) {
                $marked += $entry.Value.Split(' ')[0]
            }
        }
    }
    $marked = @($marked | Sort-Object)
    $seen = @{}
    $lines = @()
    $length = 0
    foreach ($id in @($Parameters.ids) + $marked + @(Find-WsusUpdates @($Parameters.title, $Parameters.kb))) {
        if ($null -eq $id -or $seen.ContainsKey($id)) {
            continue
        }
        $seen[$id] = $true
        foreach ($line in @(Get-UpdateLine $id)) {
            $length += $line.Length + 1
            if ($length -gt 200000) {
                $answer.cut = $true
            }
            else {
                $lines += $line
            }
        }
    }
    $answer.updates = $lines -join "`n"
}
catch {
    $answer.trouble = ConvertTo-OneLine ($_.Exception.GetBaseException().Message)
    if ($answer.trouble -eq '') {
        $answer.trouble = $_.Exception.GetBaseException().GetType().Name
    }
}
if ($Parameters.url -ne '') {
    $answer.web_service = Get-WebStatus $Parameters.url
}

return $answer
