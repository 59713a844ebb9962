"""One remediation after the other in one process: the last one finds what the first one found.

``WSUSFIX_SOAK`` says how many, 6 by default; ``make soak`` asks for 200.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import wsusfix
from tests.wire.servers import new_lab
from wsusfix.remote.session import Session

ROUNDS = int(os.environ.get("WSUSFIX_SOAK", "6"))


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    threads: tuple[str, ...]
    descriptors: int
    sockets: int
    sessions: int
    files: tuple[str, ...]


def held(folder: Path) -> Held:
    gc.collect()
    open_files = descriptors()
    return Held(
        threads=tuple(sorted(thread.name for thread in threading.enumerate())),
        descriptors=len(open_files),
        sockets=sum(target.startswith("socket:") for target in open_files),
        sessions=sum(isinstance(each, Session) for each in gc.get_objects()),
        files=tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))),
    )


def descriptors() -> list[str]:
    """Where every descriptor of this process leads; nothing where that cannot be seen."""
    there = Path("/proc/self/fd")
    found = []
    for each in os.listdir(there) if there.is_dir() else ():
        try:
            found.append(os.readlink(there / each))
        except FileNotFoundError:
            continue  # the one that the listing itself took
    return found


def memory() -> int:
    """Resident memory in KiB; 0 where that cannot be seen."""
    there = Path("/proc/self/status")
    lines = there.read_text(encoding="ascii").splitlines() if there.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def remediate(number: int) -> None:
    """Mend a fresh server; the line breaks on every third."""
    with new_lab() as lab:
        host = lab.add_server(f"wsus{number:03}", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
        host.install_seconds = 0.0
        if number % 3 == 2:
            host.faults.drop_after(sends=5)
        reach = dict(host.connection)
        options = wsusfix.Options(package=lab.package("WSUS-KB954960-x64.exe"))
        outcome = wsusfix.remediate(reach.pop("host"), options, consent=True, **reach)
        assert outcome.ok, str(outcome)
        assert len(host.installations) == 1
        assert host.shells == (), "a shell is left on the server"
        assert not [path for path in host.files if "wsusfix" in path.lower()]


@pytest.mark.timeout(max(120, 10 * ROUNDS))
def test_many_remediations_in_one_process_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder of its own for what is temporary: others are at work on this machine.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remediate(0)  # what is loaded and made once, and stays
    before, began, memory_before = held(tmp_path), time.monotonic(), memory()
    for number in range(1, ROUNDS + 1):
        remediate(number)
    after = held(tmp_path)
    print(
        f"\n{ROUNDS} remediations in {time.monotonic() - began:.0f} s; "
        f"threads {len(before.threads)} -> {len(after.threads)}, "
        f"descriptors {before.descriptors} -> {after.descriptors}, sockets {before.sockets} -> {after.sockets}, "
        f"sessions {before.sessions} -> {after.sessions}, temporary files {len(before.files)} -> {len(after.files)}, "
        f"memory {memory_before >> 10} -> {memory() >> 10} MiB",
        file=sys.stderr,
    )
    assert after == before
