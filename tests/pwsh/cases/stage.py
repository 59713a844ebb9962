"""What the cases are made of: a lab with an engine, states of jobs, and the one list that they are joined in.

A case is a function that is given a :class:`Stage` and returns the answer, or raises what the script failed with.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from tests import builders
from tests.pwsh.shell import Shell, hasty
from tests.unit.test_lab_windows import job_parameters, states_of
from wsusfix.advisory import BROKEN_UPDATE_TITLE, SETUP_LOGS_FIRST
from wsusfix.facts import approvals_parameters, parse, probe_parameters
from wsusfix.lab import Host, Lab
from wsusfix.lab.filesystem import CLOSED
from wsusfix.lab.windows import SimulatedWindows, to_clixml
from wsusfix.options import Timeouts
from wsusfix.scripts import compose
from wsusfix.scripts.contracts import CONTRACTS, KEPT_NAME, STAGING_NAME, TASK_NAME

__all__ = [
    "ABOUT",
    "CASES",
    "CLEANUP",
    "DATA",
    "LONG_AGO",
    "NAMED",
    "NOT_ASCII",
    "SHA",
    "WITHDRAW",
    "Act",
    "Case",
    "Stage",
    "called_off",
    "case",
    "reset_parameters",
    "state",
]

#: What is uploaded where nothing has to be run.
DATA: Final = b"abcdef"
SHA: Final = hashlib.sha256(DATA).hexdigest()
ABOUT: Final = {"staging_name": STAGING_NAME, "sha256": SHA}
NAMED: Final = {**ABOUT, "size": str(len(DATA)), "name": "a.exe"}
CLEANUP: Final = builders.CLEANUP
WITHDRAW: Final = builders.WITHDRAW
LONG_AGO: Final = "2008-07-15T10:00:00Z"
NOT_ASCII: Final = "sørlandet-更新.exe"


@dataclass
class Stage:
    """A lab, an engine, and what a case needs of both."""

    lab: Lab
    shell: Shell

    def server(self, **options: Any) -> Host:
        host = self.lab.add_server(f"wsus{len(self.lab.hosts)}", **options)
        host.install_seconds = 0.02
        return host

    def ask(
        self, host: Host, name: str, chunks: Iterable[bytes] = (), /, windows: Any = None, **parameters: Any
    ) -> dict[str, Any]:
        return self.shell.ask(windows or host.session(), name, parameters, chunks)

    def facts(self, host: Host, **changed: Any) -> dict[str, Any]:
        return self.ask(host, "facts", **{**probe_parameters(Timeouts()), **changed})

    def poll(self, host: Host, job_id: str = "a", after: int = 0, start_seconds: int = 60) -> dict[str, Any]:
        return self.ask(
            host, "poll_job", staging_name=STAGING_NAME, job_id=job_id, after=after, start_seconds=start_seconds
        )

    def collect(self, host: Host, tail: int = 1000, **changed: Any) -> dict[str, Any]:
        asked = {"first": list(SETUP_LOGS_FIRST), "each": 1000, "most": 100_000, **changed}
        return self.ask(host, "collect_job", staging_name=STAGING_NAME, job_id="a", tail=tail, **asked)

    def start(self, host: Host, job_id: str = "a", windows: Any = None, **changed: Any) -> dict[str, Any]:
        script = compose("install_update")
        given = {
            "staging_name": STAGING_NAME,
            "task_name": TASK_NAME,
            "job_id": job_id,
            "job_kind": script.name,
            "job_script": script.text,
            "job_sha256": script.staged_sha256,
            "job_parameters": {},
            "start_seconds": 60,
            **changed,
        }
        return self.ask(host, "start_job", windows=windows, **given)

    def staged(self, **options: Any) -> Host:
        """A server with a closed staging folder, and DATA in two segments."""
        host = self.server(**options)
        folder = f"{host.staging_path}\\files\\{SHA[:16]}\\parts"
        host.files.make_folder(host.staging_path, CLOSED)
        host.files.make_folders(folder)
        host.files.create(f"{folder}\\{0:012d}-4.seg", DATA[:4])
        host.files.create(f"{folder}\\{4:012d}-2.seg", DATA[4:])
        return host

    def job(self, host: Host, *states: str, claimed: str = "", job_id: str = "a", kind: str = "install_update") -> str:
        """Put a claim and states of a job into the staging folder; the job's folder."""
        if not host.files.is_folder(host.staging_path):
            host.files.make_folder(host.staging_path, CLOSED)
        folder = f"{host.staging_path}\\jobs\\{job_id}"
        host.files.make_folders(f"{folder}\\state")
        host.files.make_folders(f"{folder}\\temp")
        time = claimed or host.session().get_clock()
        host.files.create(
            f"{host.staging_path}\\jobs\\00001.claim", f"job_id={job_id}\nkind={kind}\ntime={time}\nend\n".encode()
        )
        for number, state in enumerate(states, 1):
            host.files.create(f"{folder}\\state\\{number:05d}.txt", state.encode())
        return folder

    def install(self, host: Host, *, windows: SimulatedWindows | None = None, **changed: Any) -> dict[str, str]:
        """Run the job to its end in the engine; its last state, with all phases beside it."""
        package = self.lab.package(**changed.pop("package", {}))
        path = f"{host.staging_path}\\files\\{NOT_ASCII}"
        host.files.make_folder(host.staging_path, CLOSED)
        host.files.make_folders(f"{host.staging_path}\\files")
        host.files.create(path, changed.pop("data", package.read_bytes()))
        parameters = job_parameters(changed.pop("path", path), package, **changed)
        return self.work(host, "install_update", parameters, windows)

    def look(self, host: Host, *ids: str, windows: SimulatedWindows | None = None) -> dict[str, Any]:
        """Look at approvals, as the session does."""
        asked = approvals_parameters(parse(host.name, self.facts(host)), ids)
        return self.ask(host, "approvals", windows=windows, **asked)

    def reset(
        self, host: Host, *, windows: SimulatedWindows | None = None, job_id: str = "a", **changed: Any
    ) -> dict[str, str]:
        """Run the reset to its end in the engine; its last state, with all phases beside it."""
        parameters = reset_parameters(host, **changed)
        return self.work(host, "reset_approvals", parameters, windows or hasty(host), job_id)

    def work(
        self,
        host: Host,
        kind: str,
        parameters: dict[str, Any],
        windows: SimulatedWindows | None = None,
        job_id: str = "a",
    ) -> dict[str, str]:
        """Run a job to its end in the engine; its last state, with all phases beside it."""
        CONTRACTS[kind].check_parameters(parameters)
        folder = self.job(host, job_id=job_id, kind=kind)
        host.files.create(f"{folder}\\parameters.xml", to_clixml(parameters))
        result = self.shell.work(host, f"{folder}\\job.ps1", windows, kind)
        assert (result.state, result.errors, result.output) == ("Completed", [], [])
        states = states_of(host.session().read_text_file(f"{folder}\\state\\00001.txt") or "")
        for number in range(2, 80):
            text = host.session().read_text_file(f"{folder}\\state\\{number:05d}.txt")
            states += states_of(text) if text else []
        told = {key: value for each in states[:-1] for key, value in each.items()}
        return {**told, **states[-1], "phases": " ".join(state["phase"] for state in states)}


def reset_parameters(host: Host, **changed: Any) -> dict[str, Any]:
    """The parameters of a reset of what the catalogue names."""
    named = (update for update in host.updates if update.title == BROKEN_UPDATE_TITLE)
    told = {
        "kept_name": KEPT_NAME,
        "revisions": {update.id: str(update.revisions[0]) for update in named},
        "ready_seconds": 20,
        "restore_seconds": 100,
        "not_before": "",
        "not_after": "",
        "event_source": "wsusfix",
        "audit": "asked by {somebody}",
    }
    return {**told, **changed}


def state(phase: str, **values: object) -> str:
    """The text of a state file."""
    lines = {"phase": phase, "time": LONG_AGO, "pid": "4", "created": "1", **values}
    return "".join(f"{key}={value}\n" for key, value in lines.items()) + "end\n"


def withdrawn_by(host: Host, sid: str) -> None:
    """Let somebody have called off the job, right behind its newest state."""
    folder = f"{host.staging_path}\\jobs\\a\\state"
    number = len(host.files.entries(folder)) + 1
    host.files.create(f"{folder}\\{number:05d}.txt", state("withdrawn", account_sid=sid).encode())


def called_off(host: Host, wait: int = 1) -> SimulatedWindows:
    """A process of a job's that is called off during its so-manieth wait; waiting takes no time but the clock's."""
    waits = itertools.count(1)

    class CalledOff(type(hasty(host))):  # type: ignore[misc]
        def wait_seconds(self, seconds: float) -> None:
            super().wait_seconds(seconds)
            if next(waits) == wait:
                withdrawn_by(host, "S-1-5-21-7")

    windows: SimulatedWindows = CalledOff(host.machine, host.session().process)
    return windows


@dataclass(frozen=True)
class Case:
    """One case: of which script, its name, how it is come into, and how it ends.

    ``ends`` is the refusal, the status or the reason that is to be answered; for an error, a part of its text.
    """

    script: str
    name: str
    act: Callable[[Stage], dict[str, Any]]
    ends: str = ""
    fails: bool = False

    def __str__(self) -> str:
        return f"{self.script}-{self.name}"


CASES: Final[list[Case]] = []

Act = Callable[[Stage], dict[str, Any]]


def case(script: str, name: str, ends: str = "", *, fails: bool = False) -> Callable[[Act], Act]:
    """Add the function that follows to the cases."""

    def add(act: Act) -> Act:
        CASES.append(Case(script, name, act, ends, fails))
        return act

    return add
