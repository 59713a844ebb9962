"""A controller that is killed leaves a server that the next run brings to the same end, with one installation."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

import wsusfix
from wsusfix.lab import Host, Lab

#: Of the upload in whose middle the controller is killed: 12 MB take some 150.
SENDS: Final = 60


@contextmanager
def controller(host: Host, package: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a remediation in a process of its own, which the test may kill."""
    reach = host.connection
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "wsusfix", "remediate", str(reach["host"]), "--port", str(reach["port"])),
            *("--package", str(package), "--yes"),
        ],
        env={
            **os.environ,
            "WSUSFIX_USERNAME": str(reach["username"]),
            "WSUSFIX_PASSWORD": str(reach["password"]),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this"
        time.sleep(0.01)


def mend(host: Host, package: Path, events: list[wsusfix.Event]) -> wsusfix.Outcome:
    """Mend the server; a job that is held goes on when it is heard of."""
    reach = host.connection

    def hear(event: wsusfix.Event) -> None:
        events.append(event)
        if isinstance(event, wsusfix.JobState):
            host.faults.let_job_go()

    return wsusfix.remediate(
        str(reach["host"]),
        wsusfix.Options(package=package),
        username=str(reach["username"]),
        password=str(reach["password"]),
        port=int(reach["port"]),
        consent=True,
        on_event=hear,
    )


def test_killed_in_the_middle_of_the_upload_the_next_run_goes_on_where_it_was(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    package = Path(lab.package("WSUS-KB954960-x64.exe", size=12 << 20))
    sends, drops = itertools.count(1), host.faults.drops_send

    def counted() -> bool:
        if next(sends) == SENDS:
            # From here on nobody hears an answer.
            host.latency = 3600.0
        return drops()

    monkeypatch.setattr(host.faults, "drops_send", counted)
    with controller(host, package) as process:
        wait_until(lambda: host.latency > 0)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    host.latency = 0.0
    assert host.jobs == ()
    events: list[wsusfix.Event] = []
    outcome = mend(host, package, events)
    assert outcome.ok, str(outcome)
    assert len(host.installations) == 1
    assert host.dll_version == "3.1.6001.66"
    (first, *_) = [event for event in events if isinstance(event, wsusfix.UploadProgress)]
    assert first.resumed > 1 << 20, "what the first run brought was sent again"


def test_killed_in_the_middle_of_the_job_the_next_run_joins_it(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    package = Path(lab.package("WSUS-KB954960-x64.exe"))
    host.faults.hold_job(phase="launching")
    with controller(host, package) as process:
        wait_until(lambda: bool(host.jobs))
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert host.dll_version == "3.1.6001.65"
    events: list[wsusfix.Event] = []
    outcome = mend(host, package, events)
    assert outcome.ok, str(outcome)
    assert outcome.changed
    assert len(host.jobs) == 1
    assert len(host.installations) == 1
    assert any("joining" in str(event) for event in events)
    assert not [path for path in host.files if "wsusfix" in path.lower()]


def test_a_job_that_ended_while_nobody_looked_is_collected_and_cleared_away(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2003", arch="x86", wsus="3.0 SP1")
    package = Path(lab.package("WSUS-KB954960-x86.exe", arch="x86"))
    host.faults.hold_job(phase="launching")
    with controller(host, package) as process:
        wait_until(lambda: bool(host.jobs))
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    host.faults.let_job_go()
    wait_until(lambda: host.dll_version == "3.1.6001.66" and bool(host.jobs[0].ended))
    outcome = mend(host, package, [])
    assert outcome.ok
    assert not outcome.changed
    (evidence,) = outcome.evidence
    assert evidence.exit_code == 0
    assert len(host.installations) == 1
    assert not [path for path in host.files if "wsusfix" in path.lower()]


def test_a_restart_in_the_middle_of_the_job_is_told_and_the_next_run_mends(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    package = Path(lab.package("WSUS-KB954960-x64.exe"))
    # The installer is still at work when the server restarts.
    host.faults.installer_hangs()
    host.faults.reboot_during(phase="installing")
    outcome = mend(host, package, [])
    host.machine.installer_hangs = False
    assert not outcome.ok
    assert "interrupted" in str(outcome)
    assert host.dll_version == "3.1.6001.65"
    again = mend(host, package, [])
    assert again.ok, str(again)
    assert host.dll_version == "3.1.6001.66"


def test_a_line_that_is_dead_is_not_waited_for_longer_than_the_job(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    plan_of = wsusfix.Options(package=lab.package("WSUS-KB954960-x64.exe"))
    host.faults.installer_hangs()

    def cut(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and event.phase == "installing":
            cut_at.append(time.monotonic())
            host.faults.unavailable(seconds=3600)

    cut_at: list[float] = []
    # Long enough for the job to come to that.
    patience = 8 if lab.engine is None else 60
    timeouts = wsusfix.Timeouts(job=patience, operation=2, lost=1800)
    with wsusfix.connect(**host.connection, timeouts=timeouts) as server, pytest.raises(wsusfix.WsusFixError) as caught:
        server.apply(server.plan(plan_of), consent=True, on_event=cut)
    assert (caught.value.phase, caught.value.retryable) == ("job", True)
    assert time.monotonic() - cut_at[0] < patience + 60
    host.faults.clear()
    # The job has gone on by itself, and the next run joins it.
    assert mend(host, Path(str(plan_of.package)), []).ok
    assert len(host.installations) == 1


def test_ctrl_c_says_whether_a_job_goes_on_and_the_session_finds_it(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    plan_of = wsusfix.Options(package=lab.package("WSUS-KB954960-x64.exe"))
    host.faults.hold_job(phase="started")

    def stop_at(kind: type[object], phase: str) -> Callable[[wsusfix.Event], None]:
        def observe(event: wsusfix.Event) -> None:
            if isinstance(event, kind) and getattr(event, "phase", "") == phase:
                signal.raise_signal(signal.SIGINT)
            if isinstance(event, wsusfix.JobState):
                host.faults.let_job_go()

        return observe

    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(plan_of)
        for kind, phase, told in (
            (wsusfix.PhaseBegun, "upload", "no job was started"),
            (wsusfix.JobState, "started", "the job on the server goes on"),
            (wsusfix.PhaseBegun, "verify", "has ended"),
        ):
            with pytest.raises(KeyboardInterrupt, match=told):
                server.apply(plan, consent=True, on_event=stop_at(kind, phase))
            job = server.job()
            assert (job is None) == (phase == "upload")
        outcome = server.apply(server.plan(plan_of), consent=True)
    assert outcome.ok, str(outcome)
    assert len(host.installations) == 1
