"""The table: every fault at every phase of the road where it makes a difference, and how it is walked.

``python -m tests.wire.fault_table > docs/faults.md`` walks all of it and writes the document anew; with words after it,
only the cells whose names have them all are walked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import wsusfix
from tests.wire.faulty_road import Cell, Happen, Walk, Walked, walk
from tests.wire.servers import lab_engine
from wsusfix import advisory
from wsusfix.advisory import ExitMeaning
from wsusfix.lab.faults import Faults
from wsusfix.scripts.contracts import INSTALL_UPDATE, RESET_APPROVALS, TASK_NAME, JobPhase

__all__ = ["CELLS", "Walkers", "document", "row"]

PROCESSES: Final = 2
#: Cells that are walked at once in each process: half of a walk is waiting, but not where an engine runs its scripts.
THREADS: Final = 4 if lab_engine() is None else 1

# --- the connection -------------------------------------------------------------------------------------------------

Point = Callable[[Walk, Happen], object]


def _before(script: str, nth: int = 1) -> Point:
    return lambda walk, happen: walk.before(script, happen, nth)


#: Where on the road something can happen to the connection: how it is brought about there, and the number of the
#: request, counted from there, by which something is asked of the server in earnest.
PHASES: Final[dict[str, tuple[Point, int]]] = {
    "connect": (lambda walk, happen: happen(), 4),
    "facts": (_before("facts"), 1),
    "logs": (_before("search_logs"), 1),
    "plan": (_before("facts", 2), 2),
    "upload: stage": (_before("stage"), 2),
    "upload: first segment": (_before("receive"), 5),
    "upload: middle": (lambda walk, happen: walk.in_upload(happen, 5), 1),
    "upload: assemble": (_before("assemble"), 2),
    "job start": (_before("start_job"), 2),
    "job running": (lambda walk, happen: walk.while_it_installs(happen), 2),
    "collect": (_before("collect_job"), 2),
    "verify": (_before("facts", 3), 2),
    "cleanup": (_before("cleanup"), 2),
}


def _at(phase: str, fault: str, strike: Callable[[Walk, int], object], **more: Any) -> Cell:
    """A fault of the connection that strikes at a phase."""
    point, request = PHASES[phase]
    if phase == "upload: middle":
        more.setdefault("package", {"size": 400_000})
    return Cell(fault, phase, lambda walk: point(walk, lambda: strike(walk, request)), **more)


def _outage(walk: Walk, request: int) -> None:
    walk.hurry()
    walk.faults.unavailable(seconds=3600)


def _new_password(walk: Walk, request: int) -> None:
    walk.faults.stale_encryption()
    walk.faults.reject_credentials()


def _full(walk: Walk, request: int) -> None:
    walk.hurry(5.0)
    walk.faults.lose_shells()
    walk.faults.quota()


def _too_large(above: int) -> Callable[[Walk, int], object]:
    return lambda walk, request: walk.faults.too_large(above=above)


def _dropped(sends: int) -> Callable[[Walk], object]:
    return lambda walk: walk.faults.drop_after(sends=sends)


def _lost_while_it_installs(fault: str, strike: Callable[[Walk, int], object], **more: Any) -> Cell:
    """The first run loses the server while the installer is at work, and it is so still when the last run comes."""

    def arrange(walk: Walk) -> None:
        walk.faults.installer_hangs()
        walk.when_told("installing", lambda: strike(walk, 2))

    return Cell(fault, "job running", arrange, clear=_joined, **more)


def _joined(walk: Walk) -> None:
    """Let the installer end only when the run that joins it has asked for it."""
    # The endpoint's faults only: the installer must not go on for a moment in between.
    Faults.clear(walk.faults)
    walk.before("poll_job", walk.goes_on, 2)


def _connection() -> Iterator[Cell]:
    everywhere = tuple(PHASES)
    for phase in everywhere:
        if phase in ("upload: stage", "upload: assemble", "collect"):
            continue  # asked like what comes before and after them
        yield _at(phase, "connection reset, request lost", lambda walk, request: walk.faults.reset_request(request))
    for phase in everywhere:
        yield _at(
            phase,
            "connection reset, answer lost",
            lambda walk, request: walk.faults.reset_in_response(request),
            orphans=phase == "connect",
        )
    for phase in ("connect", "upload: first segment", "job running"):
        yield _at(phase, "503 for a moment", lambda walk, request: walk.faults.unavailable(seconds=0.2), orphans=1)
    for phase in everywhere:
        patience = {"opening": 1.0} if phase == "connect" else {}
        if phase in ("facts", "upload: stage"):
            continue
        elif phase == "job running":
            yield _lost_while_it_installs("503 for too long", _outage, orphans=1)
        else:
            yield _at(phase, "503 for too long", _outage, patience=patience, orphans=1)
    for phase in ("facts", "upload: middle", "job start", "job running", "collect", "cleanup"):
        yield _at(phase, "400, encryption is stale", lambda walk, request: walk.faults.stale_encryption())
    for phase in ("logs", "plan", "upload: first segment", "upload: assemble", "job start", "job running", "verify"):
        yield _at(phase, "shell gone", lambda walk, request: walk.faults.lose_shells())
    for phase in everywhere:
        if phase not in ("facts", "upload: first segment", "upload: assemble"):
            yield _at(
                phase,
                "server restarts",
                lambda walk, request: walk.host.reboot(0.2),
                late=lambda walk: walk.until_reached(),
            )
    for phase in ("logs", "plan", "job start", "job running", "verify"):
        yield _at(
            phase,
            "no answer to a Receive",
            lambda walk, request: walk.faults.hang_in_receive(seconds=3600),
            patience={"operation": 1.0},
        )
    yield _at(
        "connect",
        "no answer to any Receive",
        lambda walk, request: walk.faults.hang_in_receive(seconds=3600, times=None),
        patience={"operation": 1.0},
    )


def _unresolved(phase: str, fails: int | None, error: int) -> Callable[[Walk], object]:
    """The connection breaks, and the server's name is not resolved when it is made anew; first of all, where nothing is
    connected yet.
    """
    point, request = PHASES[phase]

    def arrange(walk: Walk) -> None:
        name = walk.by_name()

        def strike() -> None:
            name.fails, name.error = fails, error
            if fails is None:
                walk.hurry()
                walk.names.append(name)
            if phase != "connect":
                walk.faults.reset_request(request)

        point(walk, strike)

    return arrange


def _resolves(walk: Walk) -> None:
    walk.faults.clear()
    for name in walk.names:
        name.fails = 0


def _names() -> Iterator[Cell]:
    for phase in ("connect", "logs", "upload: middle", "job running", "verify"):
        more: dict[str, Any] = {"package": {"size": 400_000}} if phase == "upload: middle" else {}
        yield Cell(
            "name does not resolve for a moment", phase, _unresolved(phase, 2, socket.EAI_AGAIN), orphans=1, **more
        )
    for phase in ("job start", "collect"):
        yield Cell(
            "name does not resolve any more", phase, _unresolved(phase, None, socket.EAI_NONAME), clear=_resolves,
            orphans=1,
        )  # fmt: skip


def _refused() -> Iterator[Cell]:
    yield _at(
        "connect",
        "401, wrong password",
        lambda walk, request: walk.faults.reject_credentials(),
        cure="the password is right",
        transient=False,
    )
    changed: dict[str, Any] = {"cure": "the new password is given", "stays": False, "transient": False, "orphans": 1}
    for phase in ("plan", "upload: middle", "cleanup"):
        yield _at(phase, "401, password changed", _new_password, **changed)
    yield _lost_while_it_installs("401, password changed", _new_password, **changed)
    yield _at("connect", "quota of shells full for a moment", lambda walk, request: walk.faults.quota(times=2))
    yield _at(
        "connect", "quota of shells full", lambda walk, request: walk.faults.quota(), patience={"opening": 1.0}
    )  # fmt: skip
    for phase in ("upload: assemble", "verify"):
        yield _at(phase, "shell gone, quota of shells full", _full)
    yield _lost_while_it_installs("shell gone, quota of shells full", _full)
    sizes = {"connect": 3_000, "facts": 20_000, "upload: first segment": 60_000, "job start": 60_000}
    for phase, above in sizes.items():
        yield _at(
            phase,
            "413, messages too large",
            _too_large(above),
            cure="the server takes larger messages",
            stays=False,
            transient=False,
        )
    yield _at(
        "connect",
        "not an administrator",
        lambda walk, request: walk.faults.access_denied(),
        cure="the account is an administrator",
        transient=False,
    )


def _upload() -> Iterator[Cell]:
    for sends in (0, 1, 3):
        yield Cell(
            f"connection reset after {sends} Sends",
            "upload",
            _dropped(sends),
            package={"size": 400_000},
        )
    yield Cell(
        "every Send reset",
        "upload",
        lambda walk: walk.faults.drop_after(sends=2, times=None),
        patience={"upload": 1.0},
        package={"size": 400_000},
    )
    yield Cell(
        "connection reset, several lanes",
        "upload",
        lambda walk: walk.faults.drop_after(sends=9, times=2),
        package={"size": 2_400_000},
    )


# --- the job --------------------------------------------------------------------------------------------------------

#: Without a window nobody waits for one.
_OTHER_PHASES: Final = (
    JobPhase.ABANDONED,
    JobPhase.WAITING_FOR_WINDOW,
    JobPhase.WITHDRAWN,
    JobPhase.WINDOW_OPEN,
)
_PHASES_OF_A_JOB: Final = tuple(phase for phase in INSTALL_UPDATE.states if phase not in _OTHER_PHASES)


def _job_ended() -> Iterator[Cell]:
    for phase in _PHASES_OF_A_JOB:
        yield Cell("job's process killed", f"job: {phase.value}", _ends(phase, restart=False), unproven=True)
    for phase in _PHASES_OF_A_JOB:
        yield Cell("server restarts", f"job: {phase.value}", _ends(phase, restart=True), unproven=True)


def _ends(phase: JobPhase, *, restart: bool) -> Callable[[Walk], object]:
    def arrange(walk: Walk) -> None:
        if phase is JobPhase.WAITING_FOR_INSTALLER:
            walk.faults.installer_busy()
        if not restart:
            walk.faults.kill_job(phase=phase)
            return
        if phase is JobPhase.INSTALLING:
            walk.faults.installer_hangs()
        walk.faults.reboot_during(phase=phase, seconds=0.2)

    return arrange


def _no_task_until_given_up(walk: Walk) -> None:
    """The time passes at once in which the task should begin."""
    walk.faults.task_never_starts()
    walk.before("poll_job", lambda: walk.faults.clock_jumps(seconds=3600), 2)


def _late_start(walk: Walk) -> None:
    """The task that was given up begins after all, and ends again."""
    walk.faults.task_starts_after_all()
    walk.until(lambda: not walk.host.processes)


def _policy(walk: Walk) -> None:
    key, value = advisory.POLICY_KEY, advisory.POLICY_VALUE
    walk.before("start_job", lambda: walk.host.machine.registry.set(key, **{value: "AllSigned"}))
    walk.before("poll_job", lambda: walk.faults.clock_jumps(seconds=3600), 2)


def _no_policy(walk: Walk) -> None:
    walk.faults.clear()
    walk.host.machine.registry.remove(advisory.POLICY_KEY, advisory.POLICY_VALUE)


def _tasks() -> Iterator[Cell]:
    yield Cell("task never starts", "job start", _no_task_until_given_up)
    yield Cell("task starts after it was given up", "job start", _no_task_until_given_up, late=_late_start)
    yield Cell("task starts late", "job start", lambda walk: walk.faults.task_starts_late(seconds=0.7))
    yield Cell(
        "task starts twice",
        "job running",
        lambda walk: walk.while_it_installs(lambda: walk.host.machine.scheduler.start(TASK_NAME)),
    )
    yield Cell(
        "Task Scheduler stopped",
        "job start",
        lambda walk: walk.before("start_job", walk.faults.task_scheduler_stopped),
        cure="the service runs",
        transient=False,
    )
    blocked = "blocked: group policy sets the execution policy AllSigned, which stops the job's script"
    yield Cell(
        "group policy AllSigned",
        "plan",
        lambda walk: None,
        server={"execution_policy": "AllSigned"},
        cure="the policy is another",
        clear=_no_policy,
    )
    yield Cell(
        "group policy AllSigned, set after the plan",
        "job start",
        _policy,
        cure="the policy is another",
        meanwhile=blocked,
        clear=_no_policy,
    )


# --- the server's state ---------------------------------------------------------------------------------------------


def _remove_staging(walk: Walk) -> None:
    walk.faults.clear()
    files, path = walk.host.files, walk.host.staging_path
    if files.is_file(path):
        files.remove_file(path)
    else:
        files.remove_tree(path)


def _made_by_somebody(how: str, script: str = "") -> Callable[[Walk], object]:
    """Before that script is sent, or before anything is."""
    if not script:
        return lambda walk: walk.faults.precreate_staging(how=how)
    return lambda walk: walk.before(script, lambda: walk.faults.precreate_staging(how=how))


def _staging() -> Iterator[Cell]:
    for how in ("owner", "acl", "reparse", "file"):
        yield Cell(
            f"staging folder made by somebody else ({how})",
            "plan",
            _made_by_somebody(how),
            cure="it is removed",
            clear=_remove_staging,
        )
    for how in ("owner", "acl", "reparse", "file"):
        yield Cell(
            f"staging folder made by somebody else ({how})",
            "upload: stage",
            _made_by_somebody(how, script="stage"),
            cure="it is removed",
            clear=_remove_staging,
            transient=False,
            meanwhile=f"blocked: the folder C:\\Windows\\wsusfix is not closed as it must be: staging_{_REFUSED[how]}",
        )
    yield Cell(
        "not an administrator, but let in",
        "plan",
        lambda walk: None,
        server={"administrator": False, "session_allowed": True},
        cure="the account is an administrator",
        clear=lambda walk: walk.make_administrator(),
    )


_REFUSED: Final = {"owner": "owner", "acl": "acl", "reparse": "reparse", "file": "is_file"}


def _filled(state: str) -> Callable[[Walk], object]:
    return lambda walk: walk.faults.at_phase(walk.faults.disk_full, phase=state)


def _disk() -> Iterator[Cell]:
    cure: dict[str, Any] = {"cure": "there is room on the drive", "transient": False, "stays": False}
    yield Cell("disk full", "plan", lambda walk: walk.faults.disk_full(), **{**cure, "stays": True})
    for phase in ("upload: stage", "upload: first segment", "upload: middle", "upload: assemble", "job start"):
        yield _at(phase, "disk full", lambda walk, request: walk.faults.disk_full(), **cure)
    for state in ("started", "launching", "installed"):
        yield Cell(
            "disk full",
            f"job: {state}",
            _filled(state),
            unproven=True,
            **cure,
        )


def _clock() -> Iterator[Cell]:
    for phase in ("plan", "upload: middle", "job running", "verify"):
        yield _at(phase, "clock set back", lambda walk, request: walk.faults.clock_jumps(seconds=-7200))

    def back(walk: Walk) -> None:
        walk.faults.task_never_starts()
        walk.before("poll_job", lambda: walk.faults.clock_jumps(seconds=-7200), 2)

    yield Cell("clock set back before the task starts", "job start", back, late=_late_start)


# --- the package ----------------------------------------------------------------------------------------------------


#: What the update's installer may end with; the codes that only setup has are tried with an upgrade.
EXIT_CODES: Final = {
    code: known
    for code, known in advisory.EXIT_CODES.items()
    if known.meaning not in (ExitMeaning.SETUP_REFUSED, ExitMeaning.SETUP_FAILED)
}


def _remove_package(walk: Walk) -> None:
    for path in list(walk.host.files):
        if path.lower().startswith(f"{walk.host.staging_path}\\files\\".lower()):
            walk.host.files.remove_file(path)


def _accept_unverifiable(walk: Walk) -> None:
    walk.faults.signature("unverifiable")
    package = walk.package()
    pinned = hashlib.sha256(package.read_bytes()).hexdigest()
    walk.options = wsusfix.Options(package=package, package_sha256=pinned, accept_unverifiable_signature=True)


def _right_package(walk: Walk) -> None:
    walk.options = wsusfix.Options(package=walk.package())


def _packages() -> Iterator[Cell]:
    yield Cell(
        "package swapped after the upload", "job: started", lambda walk: walk.faults.swap_package(phase="started")
    )
    yield Cell(
        "package swapped after the check",
        "job: checking_signature",
        lambda walk: walk.faults.swap_package(phase="checking_signature"),
    )
    yield Cell(
        "package removed after the upload",
        "job start",
        lambda walk: walk.before("start_job", lambda: _remove_package(walk)),
    )
    yield Cell(
        "signature not verifiable here",
        "job: checking_signature",
        lambda walk: walk.faults.signature("unverifiable"),
        cure="the hash is pinned and that is accepted",
        clear=_accept_unverifiable,
    )
    yield Cell(
        "signature not valid",
        "job: checking_signature",
        lambda walk: None,
        package={"signature": "invalid"},
        cure="the original package is given",
        clear=_right_package,
    )
    yield Cell("revocation check stalls", "job: checking_signature", lambda walk: walk.faults.signature_stalls())


# --- the installer --------------------------------------------------------------------------------------------------


def _busy_for_so_long(walk: Walk) -> None:
    def ends() -> None:
        walk.host.machine.foreign_installer = False

    walk.faults.installer_busy()
    walk.when_told("waiting_for_installer", ends)


def _scanner(walk: Walk) -> None:
    held = [path for path in walk.host.files if "\\wsusfix\\" in path.lower()][-1:]
    walk.held = [walk.host.files.lock(path) for path in held]


def _no_scanner(walk: Walk) -> None:
    for held in walk.held:
        walk.host.files.unlock(held)


def _service(walk: Walk, *, back: bool) -> None:
    def set_to(state: str) -> Happen:
        return lambda: walk.host.services.update({advisory.WSUS_SERVICE: state})

    walk.faults.at_phase(set_to("stopped"), phase="installed")
    if back:
        walk.before("facts", set_to("running"), 4)


def _restarted(walk: Walk) -> None:
    walk.faults.clear()
    walk.host.reboot(0.0)
    walk.until_reached()


def _installer() -> Iterator[Cell]:
    yield Cell(
        "installer waits in a dialog",
        "job: installing",
        lambda walk: walk.faults.installer_hangs(),
        patience={"job": 2.5},
        notice="stood still",
        clear=_joined,
    )
    yield Cell(
        "another installation for so long",
        "job: waiting_for_installer",
        _busy_for_so_long,
        patience={"busy": 3600},
        notice="another installation",
    )
    yield Cell("another installation for ever", "job: waiting_for_installer", lambda walk: walk.faults.installer_busy())
    yield Cell(
        "file held open by a scanner", "cleanup", lambda walk: walk.before("cleanup", lambda: _scanner(walk)),
        late=_no_scanner,
    )  # fmt: skip
    yield Cell("service comes back slowly", "verify", lambda walk: _service(walk, back=True))
    yield Cell(
        "service does not come back",
        "verify",
        lambda walk: _service(walk, back=False),
        patience={"lost": 1.0},
        cure="somebody starts it",
        stays=False,
        clear=lambda walk: walk.host.services.update({advisory.WSUS_SERVICE: "running"}),
    )
    for code, known in EXIT_CODES.items():
        fault = f"exit code {code}"
        if known.meaning in (ExitMeaning.INSTALLED, ExitMeaning.RESTART_BEGUN):
            yield Cell(fault, "job: installed", lambda walk: None, package={"exit_code": code}, unproven=code != 0)
        elif known.meaning is ExitMeaning.RESTART_NEEDED:
            yield Cell(
                fault,
                "job: installed",
                lambda walk: None,
                package={"exit_code": code},
                cure="the server is restarted",
                meanwhile="blocked: something is installed, but the DLL that is the proof waits for a restart",
                clear=_restarted,
            )
        else:
            yield Cell(
                fault,
                "job: installed",
                lambda walk: None,
                package={"exit_code": code},
                patience={"busy": 20} if code == 1618 else {},
                cure="what it says is mended",
                stays=code in (1602, 1618),
                clear=_right_package,
            )


# --- a reset of approvals --------------------------------------------------------------------------------------------

#: Those that every reset of a replica comes through.
RESET_PHASES: Final = tuple(
    phase
    for phase in RESET_APPROVALS.states
    if phase not in (*_OTHER_PHASES, JobPhase.RESTORED_FIRST, JobPhase.RESTORING, JobPhase.WAITING_FOR_WSUS)
)


def _reset(fault: str, phase: str, arrange: Callable[[Walk], object], **more: Any) -> Cell:
    return Cell(fault, f"reset of a replica: {phase}", arrange, reset=True, **more)


def _begins(phase: JobPhase, strike: Callable[[Walk], object]) -> Callable[[Walk], object]:
    return lambda walk: walk.faults.at_phase(lambda: strike(walk), phase=phase)


def _resets() -> Iterator[Cell]:
    for phase in RESET_PHASES:
        yield _reset("job's process killed", phase.value, _ends(phase, restart=False))
    for phase in RESET_PHASES:
        yield _reset("server restarts", phase.value, _ends(phase, restart=True))
    yield _reset(
        "connection reset, answer lost", "job start", lambda walk: walk.before("start_job", lambda: _lost_answer(walk))
    )
    yield _reset(
        "503 for a moment", "switched", _begins(JobPhase.SWITCHED, lambda walk: walk.faults.unavailable(seconds=0.2)),
        orphans=1,
    )  # fmt: skip
    for phase in (JobPhase.SWITCHED, JobPhase.MARKED):
        yield _reset("synchronisation for so long", phase.value, _synchronises_from(phase), notice="not put back yet")


def _synchronises_from(phase: JobPhase) -> Callable[[Walk], object]:
    """A synchronisation begins then, and ends only when it has been told to be in the way."""

    def arrange(walk: Walk) -> None:
        walk.faults.at_phase(lambda: walk.host.synchronizing(3600), phase=phase)
        walk.when_told("restoring", walk.host.update_service.restarted)

    return arrange


def _lost_answer(walk: Walk) -> None:
    walk.faults.reset_in_response(2)


CELLS: Final[tuple[Cell, ...]] = (
    *_connection(),
    *_names(),
    *_refused(),
    *_upload(),
    *_staging(),
    *_disk(),
    *_clock(),
    *_packages(),
    *_tasks(),
    *_job_ended(),
    *_installer(),
    *_resets(),
)


# --- walking it -----------------------------------------------------------------------------------------------------

_HOME: Final = Path(__file__).parents[2]
_WORD: Final = "--cells"
_HEAD: Final = """\
# Faults, and what comes of them

Every row was walked over the wire against a simulated server: a fault, the point of the road at which it strikes, what
the first run tells its operator (an outcome's message, or the error and its phase), and how the server ends after the
next run without the fault. "Fixed" is installed exactly once, verified, and nothing of wsusfix left on the server;
"untouched" that the fault stayed and the next run told the same again, or what is in the way, without a change.
"Worked around" is a replica whose approvals were saved, told and reset, verified, and that is as it was before in all
else; after every run nothing was gone that was not saved, and nothing switched that the next run did not put back.

`python -m tests.wire.fault_table > docs/faults.md` walks the table and writes this page anew; a test holds it to what
is walked.

"""
_TITLES: Final = "| fault | phase | the first run tells | the end |\n| --- | --- | --- | --- |\n"


class Walkers:
    """Processes that walk cells side by side, and what they have told so far.

    A cell is half waiting and half work: several at once in each process, and a process for each core.

    Args:
        numbers: of the cells in ``CELLS``.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._futures: dict[int, Future[Walked]] = {number: Future() for number in numbers}
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        self._stderr: list[str] = []
        for first in range(min(PROCESSES, len(numbers))):
            share = numbers[first::PROCESSES]
            process = subprocess.Popen(
                # What a road leaves open is told.
                [sys.executable, "-W", "error::ResourceWarning", "-m", __spec__.name, _WORD, *map(str, share)],
                cwd=_HOME,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            self._processes.append(process)
            for work in (self._listen, self._complaints):
                thread = threading.Thread(target=work, args=(process, share), daemon=True)
                thread.start()
                self._threads.append(thread)

    def result(self, number: int, timeout: float | None = None) -> Walked:
        """What came of a cell; waits for it."""
        return self._futures[number].result(timeout)

    def close(self) -> str:
        """End whatever still walks, and return what the processes had to complain of."""
        for process in self._processes:
            if not all(future.done() for future in self._futures.values()):
                process.kill()
            process.wait()
        for thread in self._threads:
            thread.join()
        return "".join(self._stderr)

    def _listen(self, process: subprocess.Popen[str], share: Sequence[int]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                told = json.loads(line)
                told["problems"], told["violations"] = tuple(told["problems"]), tuple(told["violations"])
                self._futures[told.pop("number")].set_result(Walked(**told))
        for number in share:
            if not self._futures[number].done():
                self._futures[number].set_exception(RuntimeError(f"not walked, for its process ended: {self._stderr}"))

    def _complaints(self, process: subprocess.Popen[str], share: Sequence[int]) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            self._stderr.extend(lines)


def _work(numbers: Sequence[int]) -> None:
    """Walk the cells of these numbers, and write what comes of each as a line of JSON."""

    def one(number: int) -> None:
        told = {"number": number, **dataclasses.asdict(walk(CELLS[number]))}
        with lock:
            print(json.dumps(told), flush=True)

    lock = threading.Lock()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, numbers))


def row(walked: Walked) -> str:
    """One line of the table."""
    cells = (walked.fault, walked.phase, walked.first, walked.end)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def document(walked: Iterable[Walked]) -> str:
    """The whole of docs/faults.md."""
    return _HEAD + _TITLES + "".join(map(row, walked))


def main(words: Sequence[str]) -> int:
    """Walk the table, print the document, and tell on the other stream what ought not to be so."""
    if words[:1] == [_WORD]:
        _work([int(word) for word in words[1:]])
        return 0
    chosen = [number for number, cell in enumerate(CELLS) if all(word in cell.name for word in words)]
    walkers = Walkers(chosen)
    walked = [walkers.result(number) for number in chosen]
    complaints = walkers.close()
    print(document(walked), end="")
    for each in walked:
        for problem in each.problems:
            print(f"{each.phase}: {each.fault}: {problem}", file=sys.stderr)
    slowest = ", ".join(
        f"{each.phase}: {each.fault} {each.seconds:.1f} s"
        for each in sorted(walked, key=lambda each: -each.seconds)[:5]
    )
    print(f"{complaints}{len(walked)} cells; slowest: {slowest}", file=sys.stderr)
    return 1 if complaints or any(each.problems for each in walked) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
