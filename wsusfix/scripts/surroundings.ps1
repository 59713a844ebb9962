# wsusfix script: surroundings
param($Parameters)
# What an upgrade and a backup must know beyond the facts: database, services, sites, drives; changes nothing.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$answer = @{
    script = 'surroundings'
    database_trouble = ''
    database_version = ''
    own_name = ''
    network_name = ''
    sysadmin = $false
    nested_triggers = $false
    database_size = '0'
    database_files = ''
    connections = ''
    hierarchy_trouble = ''
    upstream = ''
    front_ends = ''
    services = (@(Get-RunningServices $Parameters.service_roots) -join "`n")
    sites = ''
    sites_trouble = ''
    drives = ''
    backups = ''
    clock = (Get-Clock)
}

if ($Parameters.server -ne '') {
    try {
        $state = Get-DatabaseState $Parameters.server $Parameters.database $Parameters.seconds
        $answer.database_version = $state.version
        $answer.own_name = $state.own_name
        $answer.network_name = $state.network_name
        $answer.sysadmin = $state.sysadmin
        $answer.nested_triggers = $state.nested_triggers
        $answer.database_size = $state.size
        $answer.database_files = $state.files
        $answer.connections = Get-ConnectionText $Parameters $Parameters.own_programs
    }
    catch {
        $answer.database_trouble = Get-CutText ([string] $_.Exception.Message)
    }
}

if ($Parameters.hierarchy) {
    try {
        $hierarchy = Get-WsusHierarchy
        $answer.upstream = $hierarchy.upstream
        $answer.front_ends = $hierarchy.front_ends
    }
    catch {
        $answer.hierarchy_trouble = Get-CutText ([string] $_.Exception.Message)
    }
}

try {
    $lines = @()
    foreach ($site in @(Get-WebSites)) {
        $state = 'stopped'
        if ($site.running) {
            $state = 'running'
        }
        $lines += $site.number + ' ' + $state + ' ' + $site.name
    }
    $answer.sites = $lines -join "`n"
}
catch {
    $answer.sites_trouble = Get-CutText ([string] $_.Exception.Message)
}

$lines = @()
$paths = @($Parameters.paths)
foreach ($path in $answer.database_files.Split("`n")) {
    if ($path -ne '') {
        $paths += $path
    }
}
foreach ($path in $paths) {
    # A path on the network has no drive here.
    try {
        $state = 'plain'
        if (Test-Compressed $path) {
            $state = 'compressed'
        }
        $lines += (Get-FreeSpace $path) + ' ' + $state + ' ' + $path
    }
    catch {
        continue
    }
}
$answer.drives = $lines -join "`n"

# Who is no administrator may not even look at it.
$outer = Get-StagingPath $Parameters.backup_folder
$lines = @()
try {
    foreach ($name in @(Get-TreeFiles $outer ($outer + '\'))) {
        $mark = $name.Substring(0, $name.LastIndexOf('\') + 1) + $Parameters.unverified
        if ($lines.Length -lt 100 -and -not (Test-File $mark)) {
            $lines += (Get-FileLength $name) + ' ' + $name
        }
    }
}
catch {
    $lines = @()
}
$answer.backups = $lines -join "`n"

return $answer
