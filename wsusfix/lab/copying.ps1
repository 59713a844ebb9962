# pypsrp's own copy script once more, for a PowerShell that must not touch the files of the machine it really runs on:
# it takes the same input and the same arguments, hashes what comes, and writes by the simulated server's functions.

begin {
    # --- windows.ps1 begins ---
    # --- windows.ps1 ends ---
    $ErrorActionPreference = 'Stop'
    $temporary = "$($SimulatedServer.profile)\Temp\tmp$([System.Guid]::NewGuid().ToString('N').Substring(0, 8)).tmp"
    $digest = [System.Security.Cryptography.SHA1]::Create()
    # Of what has come, the last piece is kept back: it may be the file's digest, and no part of it.
    $last = $null
    Add-BinaryFile -Path $temporary -Bytes ([byte[]] @())
}
process {
    if ($null -ne $last) {
        [void] $digest.TransformBlock($last, 0, $last.Length, $null, 0)
        Add-BinaryFile -Path $temporary -Bytes $last
    }
    $last = [System.Convert]::FromBase64String($_)
}
end {
    try {
        $path = [string] $MyInvocation.UnboundArguments[0]
        if ($MyInvocation.UnboundArguments[1] -eq $true) {
            $directory = Get-WindowsDirectory
            $known = @{
                TEMP = "$($SimulatedServer.profile)\Temp"
                TMP = "$($SimulatedServer.profile)\Temp"
                USERPROFILE = $SimulatedServer.profile
                WINDIR = $directory
                SYSTEMROOT = $directory
                SYSTEMDRIVE = $directory.Substring(0, 2)
                PROGRAMFILES = (Get-ProgramFilesDirectory)
                COMPUTERNAME = (Get-ComputerName)
            }
            foreach ($name in $known.Keys) {
                $path = $path.Replace("%$name%", $known[$name], [System.StringComparison]::OrdinalIgnoreCase)
            }
        }
        if ($path -notmatch '^([A-Za-z]:)?\\') {
            $path = "$($SimulatedServer.profile)\$path"
        }
        [void] $digest.TransformFinalBlock(([byte[]] @()), 0, 0)
        $actual = [System.Convert]::ToHexString($digest.Hash).ToLowerInvariant()
        $expected = [System.Text.Encoding]::UTF8.GetString($last)
        if ($actual -ne $expected) {
            throw "Transport failure, hash mismatch`r`nActual: $actual`r`nExpected: $expected"
        }
        Remove-File -Path $path
        [void] (Move-FileToNew -From $temporary -To $path)
        $path
    }
    finally {
        Remove-File -Path $temporary
    }
}
