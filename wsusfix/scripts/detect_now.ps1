# wsusfix script: detect_now
param($Parameters)
# The job, run as SYSTEM from its own folder: asks this machine's update agent to look for updates now.
# It takes no arguments: folder and parameters are beside it.  What the agent then does, its own log tells.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

function Start-Detection {
    param([string] $Folder, $Parameters, $Result)
    $program = (Get-WindowsDirectory) + '\System32\' + $Parameters.program
    $command = '"' + $program + '" ' + $Parameters.arguments
    [void] (Add-State $Folder 'launching' @{ command_line = $command })
    try {
        $child = Start-Installer $program $Parameters.arguments ($Folder + '\temp')
    }
    catch {
        $Result.reason = 'not_launched'
        $Result.detail = [string] $_.Exception.Message
        return
    }
    # It only passes the question on, and ends; one that does not is left alone.
    if (Wait-Installer $child.process ($Parameters.seconds * 1000)) {
        $Result.exit_code = Get-InstallerExitCode $child.process
    }
    $Result.reason = 'done'
}

$folder = Get-ScriptFolder ([string] $MyInvocation.MyCommand.Path)
if (-not (Add-Start $folder)) {
    return
}

$result = @{
    reason = 'broken'
    detail = ''
    exit_code = ''
}
try {
    $Parameters = Read-Parameters ($folder + '\parameters.xml')
    [void] (Start-Detection $folder $Parameters $result)
}
catch {
    $result.detail = [string] $_.Exception.Message
}
[void] (Add-State $folder 'finished' $result)
