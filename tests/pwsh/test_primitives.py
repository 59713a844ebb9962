"""The two sets of functions that a script may be run with answer in the same shape; and values survive the road.

Much of ``windows.ps1`` is .NET alone and can be run wherever PowerShell is: there it is held against the functions that
ask the simulated server, call by call.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.pwsh.shell import Shell
from tests.wire.certificates import self_signed, tls
from tests.wire.servers import raw
from wsusfix.lab import Lab
from wsusfix.lab.scheduler import SYSTEM
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts import source

#: Tells what calls give: how many objects, of which types, with which values; or which exception.
_TELL: Final = r"""
function Show-Value {
    param($Value, [bool] $Plain)
    if ($null -eq $Value) { return 'null' }
    $type = $Value.GetType().Name
    if ($Value -is [hashtable]) {
        $inner = @($Value.Keys | Sort-Object | ForEach-Object { $_ + '=' + (Show-Value $Value[$_] $Plain) })
        return '{' + ($inner -join ' ') + '}'
    }
    if ($Value -is [System.Collections.IList]) {
        return '[' + (@($Value | ForEach-Object { Show-Value $_ $Plain }) -join ' ') + ']'
    }
    if ($Plain) { return $type + ':' + ([string] $Value).Replace("`n", '|').Replace("`r", '') }
    return $type
}
function Show-Call {
    param([string] $Name, [scriptblock] $Block, [bool] $Plain = $true)
    try {
        $found = @(& $Block)
        $Name + ': ' + $found.Length + ' ' + (@($found | ForEach-Object { Show-Value $_ $Plain }) -join ', ')
    }
    catch {
        $Name + ': throws ' + $_.Exception.GetBaseException().GetType().FullName
    }
}
"""
#: ``$root`` is an empty folder, ``$s`` parts names of folders, ``$program`` is a program that ends at once.
_CALLS: Final = r"""
$a = $root + $s + 'æ 更.txt'; $b = $root + $s + 'b'; $folder = $root + $s + 'folder'; $none = $root + $s + 'none'
$deep = $none + $s + 'deep'
Show-Call 'no entries' { Get-FolderEntries $root }
Show-Call 'entries of nothing' { Get-FolderEntries $none }
Show-Call 'file, not there' { Test-File $a }
Show-Call 'length, not there' { Get-FileLength $a }
Show-Call 'hash, not there' { Get-FileSha256 $a }
Show-Call 'text, not there' { Read-TextFile $a }
Show-Call 'tail, not there' { Read-FileTail $a 10 }
Show-Call 'version, not there' { Get-FileVersion $a }
Show-Call 'remove, not there' { Remove-File $a }
Show-Call 'remove tree, not there' { Remove-Tree $none }
Show-Call 'add' { Add-TextFile $a "line æøå 更新`nsecond" }
Show-Call 'add again' { Add-TextFile $a 'x' }
Show-Call 'add below nothing' { Add-TextFile $deep 'x' }
Show-Call 'one entry' { Get-FolderEntries $root }
Show-Call 'read' { Read-TextFile $a }
Show-Call 'tail' { Read-FileTail $a 6 }
Show-Call 'longer tail' { Read-FileTail $a 1000 }
Show-Call 'block' { Read-FileBlock $a 5 8 }
Show-Call 'longer block' { Read-FileBlock $a 3 1000 }
Show-Call 'no block' { Read-FileBlock $a 5 0 }
Show-Call 'block behind the end' { Read-FileBlock $a 1000 10 }
Show-Call 'block, not there' { Read-FileBlock $none 0 10 }
Show-Call 'offset' { Get-UtcOffset } $false
Show-Call 'length' { Get-FileLength $a }
Show-Call 'hash' { Get-FileSha256 $a }
Show-Call 'version' { Get-FileVersion $a }
Show-Call 'file' { Test-File $a }
Show-Call 'a file is no folder' { Test-Folder $a }
Show-Call 'script' { Add-ScriptFile $b "one`ntwo å`n" }
Show-Call 'script again' { Add-ScriptFile $b 'x' } $false
Show-Call 'script hash' { Get-FileSha256 $b }
Show-Call 'bytes' { Add-BinaryFile ($root + $s + 'c') ([byte[]] @(0, 255, 1)) }
Show-Call 'more bytes' { Add-BinaryFile ($root + $s + 'c') ([byte[]] @(7)) }
Show-Call 'bytes hash' { Get-FileSha256 ($root + $s + 'c') }
Show-Call 'bytes below nothing' { Add-BinaryFile $deep ([byte[]] @(7)) }
Show-Call 'join' { Join-Files @($a, $b) ($root + $s + 'd') }
Show-Call 'join one' { Join-Files $a ($root + $s + 'e') }
Show-Call 'join over' { Join-Files @($a) $b }
Show-Call 'joined hash' { Get-FileSha256 ($root + $s + 'd') }
Show-Call 'joined length' { Get-FileLength ($root + $s + 'e') }
Show-Call 'move' { Move-FileToNew ($root + $s + 'e') ($root + $s + 'f') }
Show-Call 'move over' { Move-FileToNew ($root + $s + 'd') ($root + $s + 'f') }
Show-Call 'moved nothing' { Test-File ($root + $s + 'd') }
Show-Call 'folder' { New-PlainFolder $folder }
Show-Call 'folder again' { New-PlainFolder $folder }
Show-Call 'folders' { New-PlainFolder ($root + $s + 'outer' + $s + 'inner') }
Show-Call 'inner folder' { Get-FolderEntries ($root + $s + 'outer') }
Show-Call 'is a folder' { Test-Folder $folder }
Show-Call 'a folder is no file' { Test-File $folder }
Show-Call 'is no link' { Test-ReparsePoint $folder }
Show-Call 'entries' { Get-FolderEntries $root }
Show-Call 'remove tree' { Remove-Tree $folder }
Show-Call 'removed tree' { Test-Folder $folder }
Show-Call 'remove' { Remove-File $b }
Show-Call 'removed' { Test-File $b }
$kept = @{ text = 'æ <&> "'; one = @('å'); none = @(); two = @(1, 'b'); yes = $true; number = -7; empty = '' }
Show-Call 'save' { Save-Parameters ($root + $s + 'p.xml') $kept }
Show-Call 'load' { Read-Parameters ($root + $s + 'p.xml') }
Show-Call 'load one' { (Read-Parameters ($root + $s + 'p.xml')).one -join ',' }
Show-Call 'load nothing' { Read-Parameters $none } $false
$lock = Lock-File $a
Show-Call 'locked' { Get-FileSha256 $a }
Show-Call 'unlock' { Unlock-File $lock }
Show-Call 'unlocked' { Add-BinaryFile $a ([byte[]] @(7)) }
Show-Call 'own process' { Get-OwnProcess } $false
Show-Call 'own created' { (Get-ProcessCreated (Get-OwnProcess).pid) -ceq (Get-OwnProcess).created }
Show-Call 'no process' { Get-ProcessCreated 99999999 }
$child = Start-Installer $program $arguments $root
Show-Call 'child' { @($child.Keys | Sort-Object); $child.pid; $child.created } $false
Show-Call 'child ends' { Wait-Installer $child.process 20000 }
Show-Call 'exit code' { Get-InstallerExitCode $child.process }
Show-Call 'no program' { Start-Installer $none '' $root } $false
Show-Call 'clock' { Get-Clock } $false
Show-Call 'clock form' { (Get-Clock) -cmatch '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$' }
Show-Call 'computer' { Get-ComputerName } $false
Show-Call 'culture' { Get-CultureName } $false
Show-Call 'version of PowerShell' { Get-PowerShellVersion } $false
Show-Call 'free' { Get-FreeSpace $root } $false
Show-Call 'busy' { Test-InstallerBusy }
Show-Call 'wait' { Wait-Seconds 0.01 }
"""


@pytest.fixture
def windows() -> Iterator[SimulatedWindows]:
    with Lab() as lab:
        host = lab.add_server("wsus01", culture="nb-NO")
        host.install_seconds = 0.0
        host.files.make_folders("C:\\root")
        # As a job: installers are not for sessions.
        yield host.machine.session(SYSTEM)


@pytest.mark.skipif(os.name != "posix", reason="the paths are those of Linux")
def test_what_is_net_alone_answers_like_the_functions_that_ask_the_simulation(
    shell: Shell, windows: SimulatedWindows, tmp_path: Path
) -> None:
    places = {"root": str(tmp_path), "s": "/", "program": "/bin/true", "arguments": ""}
    (real,) = shell.run(_script(source("windows"), places)).output
    with Lab() as lab:
        package = lab.package(exit_code=0)
        windows.machine.files.create("C:\\package.exe", package.read_bytes())
    places = {"root": "C:\\root", "s": "\\", "program": "C:\\package.exe", "arguments": "/q"}
    with shell.primitives(windows) as functions:
        (simulated,) = shell.run(_script(functions, places)).output
    real, simulated = str(real).splitlines(), str(simulated).splitlines()
    assert len(real) == _CALLS.count("Show-Call ")
    assert dict(line.split(": ", 1) for line in simulated) == dict(line.split(": ", 1) for line in real)


def _answering(answer: bytes) -> Callable[[socket.socket], None]:
    """Hear a request to its end, and answer so."""

    def talk(line: socket.socket) -> None:
        heard = b""
        while b"\r\n\r\n" not in heard and (piece := line.recv(4096)):
            heard += piece
        line.sendall(answer if heard.startswith(b"GET /a/b.asmx HTTP/1.1\r\nHost: ") else b"HTTP/1.1 400 What\r\n\r\n")

    return talk


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>", "200"),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", "500"),
        (b"SSH-2.0-something\r\n", "ServerProtocolViolation"),
        (b"", "ServerProtocolViolation"),
    ],
)
def test_over_tls_it_is_http_that_answers_whatever_name_the_certificate_has(
    shell: Shell, tmp_path: Path, answer: bytes, told: str
) -> None:
    ask = f"{source('windows')}\n$ErrorActionPreference = 'Stop'\nGet-WebStatus "
    with tls(self_signed(tmp_path, "192.0.2.1"), _answering(answer)) as server:
        url = f"https://{server.address}:{server.port}/a/b.asmx"
        assert shell.run(f"{ask} '{url}'").output == [told]
    # Who does not listen, or speaks no TLS, does not answer either.
    assert shell.run(f"{ask} '{url}'").output == ["SocketException"]
    with raw(lambda line: line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as server:
        (kept,) = shell.run(f"{ask} 'https://{server.address}:{server.port}/a/b.asmx'").output
        assert not str(kept).isdigit()


#: The scheduler before Windows 6.0, whose program is asked here and not run.
_OLD_SCHEDULER: Final = r"""
$ErrorActionPreference = 'Stop'
function Get-WindowsDirectory { return 'C:\Windows' }
function Test-OldScheduler { return $true }
function Test-SystemTask { return $false }
$script:asked = @()
function Invoke-Schtasks {
    param([string] $Arguments)
    $script:asked += $Arguments
    if ($Arguments -like $refused) { return 'schtasks.exe ended with exit code 1' }
    return ''
}
(Register-SystemTask 'wsusfix' 'C:\Windows\wsusfix\jobs\a\job.ps1') + '|' + ($script:asked -join '|')
"""


@pytest.mark.parametrize(
    ("switch", "refused", "times", "trouble"),
    [
        (" /f", "none", ["00:00:00"], ""),
        (" /f", "*00:00:00*", ["00:00:00", "00:00"], ""),
        ("", "* /f", ["00:00:00"], ""),
        ("", "*", ["00:00:00", "00:00", "23:59:00", "23:59"], "schtasks.exe ended with exit code 1"),
    ],
)
def test_the_old_scheduler_is_asked_in_every_form_that_its_versions_take(
    shell: Shell, switch: str, refused: str, times: list[str], trouble: str
) -> None:
    of_version = f"function Get-ReplaceSwitch {{ return '{switch}' }}\n$refused = '{refused}'\n"
    (told,) = shell.run(f"{source('windows')}\n{of_version}{_OLD_SCHEDULER}").output
    ended, *asked = str(told).split("|")
    assert ended == trouble
    command = (
        r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe -NoLogo -NoProfile -NonInteractive "
        r"-ExecutionPolicy RemoteSigned -File C:\Windows\wsusfix\jobs\a\job.ps1"
    )
    assert asked == [f'/create /tn wsusfix /tr "{command}" /sc ONCE /st {time} /ru SYSTEM{switch}' for time in times]


@pytest.mark.parametrize("wrapped", ["$missing", "(New-Object System.Exception('asked', $missing))"])
def test_an_update_that_wsus_does_not_have_is_none_however_its_error_is_wrapped(shell: Shell, wrapped: str) -> None:
    types = "\n".join(
        f"Add-Type 'public class {name} : System.Exception {{ public {name}(System.Exception inner) : "
        'base("none", inner) { } }\''
        for name in ("WsusObjectNotFoundException", "WsusOtherException")
    )
    ask = f"""{source("windows")}
$ErrorActionPreference = 'Stop'
{types}
function Connect-Wsus {{ return 1 }}
function Get-WsusUpdate {{
    $cause = New-Object System.Exception('no row')
    $missing = New-Object -TypeName $kind -ArgumentList $cause
    throw {wrapped}
}}
"""
    found = f"{ask}\n$kind = 'WsusObjectNotFoundException'\n'none: ' + @(Get-WsusRevisions 'a').Length"
    assert shell.run(found).output == ["none: 0"]
    result = shell.run(f"{ask}\n$kind = 'WsusOtherException'\n'none: ' + @(Get-WsusRevisions 'a').Length")
    assert (result.state, result.output) == ("Failed", [])


def _script(functions: str, places: dict[str, str]) -> str:
    given = "\n".join(f"${name} = '{value}'" for name, value in places.items())
    return f"{functions}\n$ErrorActionPreference = 'Stop'\n{_TELL}\n{given}\n(& {{\n{_CALLS}\n}}) -join \"`n\"\n"


# --- values and errors on their way -----------------------------------------------------------------------------------


def test_an_error_that_ends_nothing_comes_beside_the_output(shell: Shell) -> None:
    result = shell.run("'before'; Write-Error 'æ weiß nicht' -ErrorId Lost -ErrorAction Continue; 'after'")
    assert (result.state, result.output, result.errors) == ("Completed", ["before", "after"], ["æ weiß nicht"])
    assert result.identities[0].startswith("Lost")


def test_an_error_that_ends_the_script_fails_the_pipeline(shell: Shell) -> None:
    result = shell.run("'before'; throw 'no more'; 'after'")
    assert (result.state, result.output, result.errors) == ("Failed", ["before"], ["no more"])


def test_no_output_one_null_and_several_objects_are_told_apart(shell: Shell) -> None:
    assert shell.run("$nothing = @()").output == []
    assert shell.run("$null").output == [None]
    assert shell.run(", @('one')").output == [["one"]]
    assert shell.run("@('one')").output == ["one"]
    assert shell.run("@{ a = $null; b = @(); c = @(1); d = 'å' }").output == [{"a": None, "b": [], "c": [1], "d": "å"}]


def test_a_failure_of_windows_is_thrown_as_its_exception_in_the_servers_language(
    shell: Shell, windows: SimulatedWindows
) -> None:
    text = "try { Add-BinaryFile 'C:\\none\\a' @(1) } catch { $_.Exception.GetType().FullName; $_.Exception.Message }"
    with shell.primitives(windows) as functions:
        result = shell.run(functions + text)
    assert result.output == [
        "System.IO.DirectoryNotFoundException",
        "Finner ikke en del av banen C:\\none\\a.",
    ]


def test_a_script_runs_in_the_culture_of_its_server(shell: Shell, windows: SimulatedWindows) -> None:
    with shell.primitives(windows) as functions:
        result = shell.run(f"{functions}(1.5).ToString(); [string] 1.5; [cultureinfo]::CurrentCulture.Name")
    assert result.output == ["1,5", "1.5", "nb-NO"]


def test_who_has_no_token_is_not_answered(shell: Shell, windows: SimulatedWindows) -> None:
    with shell.primitives(windows) as functions:
        pass
    result = shell.run(functions + "Get-Clock")
    assert result.state in ("Stopped", "Failed")
    assert result.output == []
