"""The whole road over the wire with a real PowerShell behind the endpoint, and jobs in processes of their own."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import WinRMError
from pypsrp.powershell import PowerShell
from pypsrp.shell import SignalCode

import wsusfix
from tests.pwsh.cases.stage import CLEANUP
from tests.wire.test_lab import _client, ask, errors_of, invoke, pool_of
from wsusfix.lab import Host, Lab
from wsusfix.lab.engine import Engine, EngineError
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts import compose
from wsusfix.scripts.contracts import STAGING_NAME

EXPOSED = ("3.1.6001.65", "3.1.6001.66")


@pytest.fixture
def pwsh_lab() -> Iterator[Lab]:
    with Lab(engine="pwsh") as opened:
        yield opened


def mend(lab: Lab, host: Host, arch: str) -> wsusfix.Outcome:
    options = wsusfix.Options(package=lab.package(f"WSUS-KB954960-{arch}.exe", arch=arch))
    with wsusfix.connect(**host.connection) as server:
        return server.apply(server.plan(options), consent=True)


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this"
        time.sleep(0.01)


def children() -> set[str]:
    """The processes that this one started and that live, where that can be told."""
    found: set[str] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            found |= set(task.read_text().split())
    return found


@pytest.mark.parametrize(
    ("os", "arch", "culture"), [("Windows Server 2008", "x64", "en-US"), ("Windows Server 2003", "x86", "nb-NO")]
)
def test_an_exposed_server_is_mended(pwsh_lab: Lab, os: str, arch: str, culture: str) -> None:
    host = pwsh_lab.add_server("wsus01", os=os, arch=arch, wsus="3.0 SP1", culture=culture)
    before = host.dll_version
    outcome = mend(pwsh_lab, host, arch)
    assert outcome.ok, str(outcome)
    assert outcome.changed
    assert (before, host.dll_version) == EXPOSED
    (evidence,) = outcome.evidence
    assert evidence.exit_code == 0
    (job,) = host.jobs
    assert (job.account, job.exit_code, job.phases[-1]) == ("NT AUTHORITY\\SYSTEM", 0, "finished")
    assert not [path for path in host.files if "wsusfix" in path.lower()]
    assert host.tasks == ()


def test_a_session_tells_the_version_of_the_engine_and_the_facts_that_of_the_server(pwsh_lab: Lab) -> None:
    host = pwsh_lab.add_server("wsus01")
    with wsusfix.connect(**host.connection) as server:
        assert int(server.powershell_version.partition(".")[0]) >= 7
        assert server.facts().session.powershell_version == "2.0"


def test_a_restart_ends_a_job_with_its_process_and_the_next_run_mends(pwsh_lab: Lab) -> None:
    before = children()
    host = pwsh_lab.add_server("wsus01")
    # The installer is still at work when the server restarts.
    host.faults.installer_hangs()
    host.faults.reboot_during(phase="installing")
    outcome = mend(pwsh_lab, host, "x64")
    host.machine.installer_hangs = False
    assert "interrupted" in str(outcome)
    assert host.jobs[0].exit_code == 1
    wait_until(lambda: children() <= before)
    assert mend(pwsh_lab, host, "x64").ok
    assert host.dll_version == EXPOSED[1]


def test_a_job_that_is_killed_leaves_what_a_real_one_would_leave(pwsh_lab: Lab) -> None:
    host = pwsh_lab.add_server("wsus01")
    host.faults.kill_job(phase="checking_signature")
    outcome = mend(pwsh_lab, host, "x64")
    assert "interrupted" in str(outcome)
    assert host.jobs[0].phases == ("started", "checking_package", "checking_signature")
    assert host.installations == ()


def test_a_job_outlives_the_shell_that_ordered_it(pwsh_lab: Lab) -> None:
    host = pwsh_lab.add_server("wsus01")
    script = compose("install_update")
    with pool_of(host) as pool:
        ask(
            pool,
            "start_job",
            staging_name=STAGING_NAME,
            task_name="wsusfix-job",
            job_id="a",
            job_kind=script.name,
            job_script=script.text,
            job_sha256=script.staged_sha256,
            job_parameters={},
            start_seconds=60,
        )
    wait_until(lambda: bool(host.jobs and host.jobs[0].ended))
    assert (host.jobs[0].phases[0], host.jobs[0].phases[-1]) == ("started", "finished")


def test_nothing_but_the_scripts_of_the_library_is_run(pwsh_lab: Lab) -> None:
    host = pwsh_lab.add_server("wsus01")
    with pool_of(host) as pool:
        assert "only the scripts of wsusfix" in errors_of(invoke(pool, "Get-Process"))
        assert "was changed" in errors_of(invoke(pool, compose("facts").text + "# more", {}))
        assert "is missing" in errors_of(invoke(pool, compose("poll_job").text, {"job_id": "it's 'a"}))
        both = PowerShell(pool)
        both.add_script(compose("poll_job").text).add_statement().add_script("'and more'")
        both.invoke()
        assert "only the scripts of wsusfix" in errors_of(both)
        command = PowerShell(pool)
        command.add_cmdlet("Get-Process").add_cmdlet("Out-String")
        command.invoke()
        assert "only the scripts of wsusfix" in errors_of(command)
        parameters = {"staging_name": STAGING_NAME, "job_id": "a", "after": 0, "start_seconds": 1}
        assert ask(pool, "poll_job", **parameters)["status"] == "none"


def test_what_pypsrp_copies_lies_on_the_simulated_server_and_not_on_this_machine(pwsh_lab: Lab, tmp_path: Path) -> None:
    host = pwsh_lab.add_server("wsus01")
    source = tmp_path / "a.exe"
    source.write_bytes(b"x" * 1000)
    with _client(host.connection) as client:
        with pytest.raises(WinRMError, match="Illegal characters in path"):
            client.copy(str(source), str(tmp_path / "copied.exe"))
        copied = client.copy(str(source), "%temp%\\copied.exe", expand_variables=True)
    assert host.files.read(copied) == source.read_bytes()
    assert os.listdir(tmp_path) == ["a.exe"]


def test_a_script_that_waits_for_input_or_for_the_server_is_stopped_by_a_signal(
    pwsh_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = pwsh_lab.add_server("wsus01")
    about = {"staging_name": STAGING_NAME, "sha256": "0" * 64}
    with pool_of(host) as pool:
        ask(pool, "stage", **about, size="100", name="a.exe", reserve="0")
        go = threading.Event()

        def chunks() -> Iterator[bytes]:
            # A piece is sent when the next one is known.
            yield b"0123456789"
            yield b"0123456789"
            assert go.wait(20)

        receiving = PowerShell(pool)
        receiving.add_script(compose("receive").text)
        receiving.add_parameter("Parameters", {**about, "offset": "0", "length": "100", "segment": "10"})
        asked = threading.Thread(target=lambda: receiving.begin_invoke(chunks()))
        asked.start()
        # A segment is there while the input is still open.
        wait_until(lambda: any(path.endswith("000000000000-10.seg") for path in host.files))
        go.set()
        asked.join(20)
        receiving.end_invoke()
        waits = threading.Event()
        wait_seconds = SimulatedWindows.wait_seconds

        def told(windows: SimulatedWindows, seconds: float) -> None:
            waits.set()
            wait_seconds(windows, 5 * seconds)

        monkeypatch.setattr(SimulatedWindows, "wait_seconds", told)
        host.files.make_folders(f"{host.staging_path}\\jobs")
        host.files.create(f"{host.staging_path}\\jobs\\00001.claim", b"never whole")
        waiting = PowerShell(pool)
        waiting.add_script(compose("cleanup").text)
        waiting.add_parameter("Parameters", dict(CLEANUP))
        waiting.begin_invoke()
        assert waits.wait(30)
        pool.shell.signal(SignalCode.PS_CTRL_C, waiting._command_id or waiting.id)
        while waiting.state == PSInvocationState.RUNNING:
            waiting.poll_invoke(timeout=5)
        assert [str(error) for error in waiting.streams.error] == ["The pipeline has been stopped."]
    assert host.processes == ()


def test_closing_the_lab_leaves_no_thread_and_no_process() -> None:
    before = set(threading.enumerate()), children()
    with Lab(engine="pwsh") as lab:
        host = lab.add_server("wsus01")
        with pool_of(host) as pool:
            invoke(pool, compose("poll_job").text, {})
    assert set(threading.enumerate()) <= before[0]
    assert children() <= before[1]


def test_an_engine_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSUSFIX_PWSH", "/nowhere/pwsh")
    with pytest.raises(EngineError, match="/nowhere/pwsh"):
        Lab(engine="pwsh")
    monkeypatch.delenv("WSUSFIX_PWSH")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match="no pwsh on the path"):
        Engine()
    with pytest.raises(ValueError, match="'pwsh'"):
        Lab(engine="cscript")
