"""The search of logs over real files, with Windows' own functions as far as they are .NET alone: nothing is simulated.

What it brings back, judged by its parts, says the same as reading the whole file here.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from tests.log_generator import START, call, client_call, client_header, client_noise, encoded
from tests.pwsh.shell import Shell
from wsusfix.logs import ClientFinding, FileKind, scan
from wsusfix.logs.machine import MachineLogs, client_search, parse
from wsusfix.scripts import END_WINDOWS, compose
from wsusfix.scripts.contracts import CONTRACTS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a folder's name is part of a file's there")
OFFSET = timedelta(hours=-7)


def log(*between: int) -> str:
    """A client's log with a failed call behind each stretch of so many healthy lines."""
    lines = [client_header(OFFSET)]
    for number, count in enumerate(between, 1):
        time = START + timedelta(hours=number)
        lines += [client_noise(each, time) for each in range(count)]
        lines += client_call(call(number, time=time), OFFSET)
    return "\n".join([*lines, client_noise(1, START + timedelta(days=1)), ""])


def search(shell: Shell, path: Path, content: bytes) -> MachineLogs:
    """Search a file of that content as a client's log, in PowerShell."""
    path.write_bytes(content)
    place = f"function Get-WindowsDirectory {{ return '{path.parent}/windows' }}\n{END_WINDOWS}"
    result = shell.run(compose("search_logs").text.replace(END_WINDOWS, place), client_search(60))
    assert (result.state, result.errors) == ("Completed", [])
    (answer,) = result.output
    return parse("pc01", FileKind.CLIENT, CONTRACTS["search_logs"].read(answer))


@pytest.mark.parametrize("filler", [3, 4000])
def test_zeros_and_a_change_of_encoding_hide_nothing_there_either(shell: Shell, tmp_path: Path, filler: int) -> None:
    path = tmp_path / "windows\\WindowsUpdate.log"
    first, second = log(filler).encode(), encoded(log(filler, 0), "utf-16-le")
    for content in (b"bro\0ken\n" + first, b"\0" * 500 + b"\n" + first, first + second, b"\xff\xfe" + second + first):
        found = search(shell, path, content)
        whole = [each for each in scan(path) if isinstance(each, ClientFinding)]
        assert [(each.call_id, each.conclusive) for each in found.findings] == [(each.call_id, True) for each in whole]
        assert len(whole) in (1, 3)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("between", [(0,), (3000, 5, 4000), (2500, 2500, 0, 0)], ids=str)
def test_what_is_brought_back_of_a_file_says_what_the_whole_file_says(
    shell: Shell, tmp_path: Path, encoding: str, between: tuple[int, ...]
) -> None:
    # Where a backslash separates nothing, the script's path is a file of that name.
    path = tmp_path / "windows\\WindowsUpdate.log"
    found = search(shell, path, encoded(log(*between), encoding))
    assert found.unread == ()

    def told(each: object) -> tuple[object, ...]:
        assert isinstance(each, ClientFinding)
        return each.line, each.call_id, each.conclusive, each.time, each.missing, each.tid, each.server_url

    whole = scan(path)
    assert [told(each) for each in found.findings] == [told(each) for each in whole]
    assert len(found.findings) == len(between)
    assert (found.files[0].kind, found.files[0].ends) == (whole.file.kind, whole.file.ends)
    assert found.files[0].begins == whole.file.begins
