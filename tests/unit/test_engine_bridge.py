"""What stands between the endpoint and a PowerShell, against a process that speaks the same protocol."""

from __future__ import annotations

import inspect
import queue
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import WSManFaultError
from pypsrp.powershell import PowerShell
from pypsrp.shell import SignalCode

from tests import builders
from tests import powershell_gate as gate
from tests.pwsh import conftest as tier
from tests.unit import scripted_engine
from tests.unit.test_lab_windows import Driver, called_functions, snake
from tests.wire.test_lab import ask, errors_of, invoke, pool_of
from wsusfix.lab import Host, Lab
from wsusfix.lab import engine as engines
from wsusfix.lab.bridge import Bridge, EngineError
from wsusfix.lab.engine import Engine, swapped
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts import BEGIN_WINDOWS, END_WINDOWS, compose, functions_of, source
from wsusfix.scripts.contracts import CONTRACTS, STAGING_NAME

COMMAND = uuid.UUID(int=7)
PROGRAM = (sys.executable, scripted_engine.__file__)
POLL = {"staging_name": STAGING_NAME, "job_id": "a", "after": 0, "start_seconds": 1}
PRIMITIVES = (Path(engines.__file__).parent / "primitives.ps1").read_text(encoding="utf-8")


def wait_until(happened: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


# --- the line protocol ------------------------------------------------------------------------------------------------

#: Echoes what it is sent, reversed; says nothing to what is to time out; ends when told so.
ECHO = r"""
import sys, re
print("not XML"); print("<Data PSGuid='nonsense'/>")
print("<Data PSGuid='%s'>no base64</Data>" % ("0" * 32,), flush=True)
for line in sys.stdin:
    kind = re.match("<([A-Za-z]+)", line).group(1)
    guid = re.search("PSGuid='([^']*)'", line).group(1)
    if kind == "Close":
        print("<DataAck PSGuid='%s' />" % guid, flush=True)
        continue
    if kind == "Signal":
        sys.stderr.write("its last words"); sys.exit(1)
    print("<%sAck PSGuid='%s' />" % (kind, guid), flush=True)
    if kind == "Data":
        print(line.strip(), flush=True)
"""


class Conversation:
    """A bridge to the echo, and what it said."""

    def __init__(self, folder: Path, program: tuple[str, ...] | None = None) -> None:
        self.said: queue.Queue[tuple[uuid.UUID | None, bytes]] = queue.Queue()
        self.over = threading.Event()
        self.bridge = Bridge(
            program or (sys.executable, "-c", ECHO),
            environment={},
            log_file=folder / "words.log",
            on_data=lambda command, data: self.said.put((command, data)),
            on_end=self.over.set,
            patience=60.0,
        )


@pytest.fixture
def converse(tmp_path: Path) -> Iterator[Callable[..., Conversation]]:
    opened: list[Conversation] = []

    def start() -> Conversation:
        opened.append(Conversation(tmp_path))
        return opened[-1]

    yield start
    for each in opened:
        each.bridge.close()


def test_bytes_go_to_the_shell_or_to_a_command_and_come_back(converse: Callable[..., Conversation]) -> None:
    talk = converse()
    data = bytes(range(256)) * 200
    talk.bridge.send(b"to the shell")
    talk.bridge.begin(COMMAND)
    talk.bridge.send(data, COMMAND)
    assert talk.said.get(timeout=20) == (None, b"to the shell")
    assert talk.said.get(timeout=20) == (COMMAND, data)


def test_what_is_not_acknowledged_in_time_is_an_error_and_the_conversation_goes_on(
    converse: Callable[..., Conversation],
) -> None:
    talk = converse()
    talk.bridge.begin(COMMAND)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(talk.bridge, "_patience", 0.5)
        with pytest.raises(EngineError, match=r"did not acknowledge Close within 0\.5 seconds"):
            talk.bridge.end(COMMAND)
    talk.bridge.begin(COMMAND)


def test_a_process_that_ends_tells_its_last_words(converse: Callable[..., Conversation]) -> None:
    talk = converse()
    with pytest.raises(EngineError, match="has ended: its last words"):
        talk.bridge.signal(COMMAND)
    assert talk.over.wait(20)
    with pytest.raises(EngineError, match="has ended"):
        talk.bridge.begin(COMMAND)


def test_a_closed_bridge_has_ended_its_process_and_its_thread(converse: Callable[..., Conversation]) -> None:
    before = set(threading.enumerate())
    talk = converse()
    talk.bridge.begin(COMMAND)
    talk.bridge.close()
    talk.bridge.close()
    assert talk.over.is_set()
    assert not Path(f"/proc/{talk.bridge.pid}").exists()
    wait_until(lambda: set(threading.enumerate()) <= before)
    with pytest.raises(EngineError):
        talk.bridge.send(b"x")


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="'/nowhere/pwsh' cannot be started"):
        Conversation(tmp_path, program=("/nowhere/pwsh",))


# --- behind the endpoint ----------------------------------------------------------------------------------------------


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A server behind whose endpoint the scripted engine stands."""
    monkeypatch.setattr("wsusfix.lab.lab.Engine", lambda: Engine(PROGRAM))
    before = set(threading.enumerate())
    with Lab(engine="pwsh") as lab:
        yield lab.add_server("wsus01")
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_a_script_is_run_with_functions_that_ask_the_server(host: Host) -> None:
    with pool_of(host) as pool:
        shell = invoke(pool, compose("poll_job").text, POLL)
        assert shell.output == [
            {
                "script": "poll_job",
                "name": "WSUS01",
                "failure": "System.IO.FileNotFoundException",
                "defect": True,
            }
        ]
    assert host.processes == ()


def test_what_the_library_did_not_write_never_reaches_the_engine(host: Host) -> None:
    with pool_of(host) as pool:
        assert "only the scripts of wsusfix" in errors_of(invoke(pool, "Get-Process"))
        assert "was changed" in errors_of(invoke(pool, compose("facts").text + "# more", {}))
        assert "'it''s'" not in errors_of(invoke(pool, "# wsusfix script: it's\n"))
        assert "is missing" in errors_of(invoke(pool, compose("poll_job").text, {"job_id": "a"}))


def test_input_of_any_size_arrives(host: Host) -> None:
    parameters = {"staging_name": STAGING_NAME, "sha256": "0" * 64, "offset": "0", "length": "1", "segment": "1"}
    chunks = [bytes([number]) * 100_000 for number in range(3)]
    with pool_of(host) as pool:
        shell = invoke(pool, compose("receive").text, parameters, chunks)
        assert shell.output == [{"received": b"".join(chunks)}]


def test_a_pipeline_that_does_not_end_is_stopped_by_a_signal_or_with_its_shell(host: Host) -> None:
    parameters = {"staging_name": STAGING_NAME, "sha256": "0" * 64, "size": "1", "name": "a"}

    def begin() -> PowerShell:
        shell = PowerShell(pool)
        shell.add_script(compose("assemble").text)
        shell.add_parameter("Parameters", parameters)
        shell.begin_invoke()
        return shell

    with pool_of(host) as pool:
        first = begin()
        pool.shell.signal(SignalCode.PS_CTRL_C, first._command_id or first.id)
        first.poll_invoke(timeout=5)
        assert first.state == PSInvocationState.STOPPED
        begin()
        assert [process.name for process in host.processes] == ["wsmprovhost.exe"]
    assert not host.processes


def test_an_engine_that_ends_by_itself_takes_its_shell_along(host: Host) -> None:
    with pytest.raises(WSManFaultError, match="has ended"), pool_of(host) as pool:
        ask(pool, "cleanup", **builders.CLEANUP)


def test_a_job_runs_in_a_process_of_its_own_until_its_end(host: Host) -> None:
    start(host)
    wait_until(lambda: host.jobs and host.jobs[0].phases == ("started",))
    assert not host.jobs[0].ended
    host.files.create("C:\\go", b"")
    wait_until(lambda: host.jobs[0].ended)
    assert host.jobs[0].exit_code == 7
    assert host.files.read("C:\\done") == b"\x00\xff"


def test_a_job_dies_with_its_simulated_process(host: Host) -> None:
    host.faults.kill_job(phase="started")
    start(host)
    wait_until(lambda: host.jobs and host.jobs[0].ended)
    assert host.jobs[0].exit_code == 1
    start(host, "b")
    wait_until(lambda: len(host.jobs) == 2 and host.jobs[1].phases)
    host.reboot(0.0)
    wait_until(lambda: host.jobs[1].ended)
    assert "C:\\done" not in list(host.files)


def start(host: Host, job_id: str = "a") -> None:
    """Order a job as the lab's own answer to ``start_job`` does."""
    assert Driver(host).start(job_id)["refused"] == ""


# --- the functions ----------------------------------------------------------------------------------------------------


def test_the_functions_for_the_engine_are_well_formed() -> None:
    assert not gate.parse(PRIMITIVES).has_error
    copying = swapped(None, port=1, token="t", culture="nb-NO", profile="C:\\Users\\o'hara")
    assert not gate.parse(copying).has_error
    assert (PRIMITIVES + copying).isascii()


def test_every_function_that_a_script_calls_is_there_for_the_engine_too() -> None:
    own = {"Connect-Simulation", "ConvertFrom-Answer", "New-SimulatedFailure", "Invoke-Simulated"}
    assert set(functions_of(PRIMITIVES)) - own == called_functions()


def parameters_of(function: str) -> list[str]:
    block = re.search(r"^\s*param\(([^)]*)\)", function, re.MULTILINE)
    return [] if block is None else [each.strip() for each in block.group(1).split(",")]


@pytest.mark.parametrize("name", sorted(called_functions()))
def test_a_function_for_the_engine_has_the_parameters_and_the_shape_of_its_namesake(name: str) -> None:
    theirs, ours = functions_of(source("windows"))[name], functions_of(PRIMITIVES)[name]
    assert parameters_of(ours) == parameters_of(theirs)
    method = inspect.signature(getattr(SimulatedWindows, snake(name)))
    asked = re.search(r"Invoke-Simulated '(\w+)' @\{(.*)\}", ours)
    assert asked is not None
    assert asked.group(1) == snake(name)
    given = re.findall(r"(\w+) = (?=\$|@\(|@\{)", asked.group(2))
    assert given[: len(method.parameters) - 1] == [each.rstrip("_") for each in list(method.parameters)[1:]]
    answers = "return (" in ours or "foreach" in ours
    assert answers == (method.return_annotation != "None")
    # What answers several objects does so one by one, and nothing where there are none.
    assert ("foreach" in ours) == str(method.return_annotation).startswith("list")


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_between_the_markers_of_a_swapped_script_stand_the_functions_for_the_engine(name: str) -> None:
    text = swapped(name, port=1, token="t'", culture="nb-NO", script="C:\\a\\job.ps1")
    head, _, rest = text.partition(BEGIN_WINDOWS)
    between, _, tail = rest.partition(END_WINDOWS)
    assert PRIMITIVES.strip() in between
    assert "token = 't''';" in between
    original = compose(name).text
    assert (head, tail) == (original.partition(BEGIN_WINDOWS)[0], original.partition(END_WINDOWS)[2])
    assert not gate.parse(text).has_error


def test_an_engine_whose_name_is_misspelt_is_not_told_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(engines.ENGINE_VARIABLE, raising=False)
    assert "no PowerShell at hand" in tier.missing()
    monkeypatch.setenv(engines.ENGINE_VARIABLE, "/nowhere/pwhs")
    assert "'/nowhere/pwhs'" in tier.missing()
    monkeypatch.setenv(engines.ENGINE_VARIABLE, sys.executable)
    assert tier.missing() == ""
