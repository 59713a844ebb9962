"""One road with a fault on it: a simulated server, what happens to it at which point, and what has to hold afterwards.

A ``Walk`` has a server of its own.  Faults strike at points that are counted, never timed: before a script is sent for
the n-th time, between two pieces of an upload, or when an event is told.  The road is then walked twice: with the
fault, and without it, or with it still there where only a person can clear it.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import wsusfix
from tests.wire.servers import Name, lab_engine, new_lab
from wsusfix import advisory
from wsusfix.advisory import ExitMeaning
from wsusfix.lab import Lab
from wsusfix.lab.filesystem import ADMINISTRATORS, FileLock
from wsusfix.lab.host import HostFaults
from wsusfix.lab.installer import Installation
from wsusfix.remote.session import Session

__all__ = ["BEFORE", "FIXED", "Cell", "Happen", "Walk", "Walked", "told", "walk"]

Happen = Callable[[], object]
Report = wsusfix.Outcome | wsusfix.WsusFixError

#: File versions of the DLL without and with the update.
BEFORE: Final = advisory.VERSION_STRINGS["3.0 SP1"]
FIXED: Final = str(advisory.FIXED_DLL)
#: A server whose approvals are reset.
REPLICA: Final[Mapping[str, Any]] = {"wsus": "3.0 RTM", "replica": True, "upstream": "wsus-top"}
#: An engine that runs the scripts takes so much longer for them.
SLOWER: Final = 1.0 if lab_engine() is None else 4.0
#: No run takes longer, whatever happens, in seconds: that of a busy machine included.
BOUND: Final = 40.0 * SLOWER
#: Of what the scripts wait for, so much really passes.
PACE: Final = 0.01
#: No word of it that differs from run to run may stand in the table.
_VARYING: Final = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<SHA-256>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<job>"),
    (re.compile(r"\b\d+ s\b"), "<time>"),
    (re.compile(r"(?<=bytes needed: )\d+"), "<size>"),
    (re.compile(r"(?<=the connection broke): .*"), ""),
    (re.compile(r"\b(127\.0\.\d+\.\d+|h\d+\.names\.test)(:\d+)?\b"), "<server>"),
)
#: A note that every failed job brings.
_STAY: Final = "stay for the next run"
#: Long enough for a busy machine: nothing of the table hangs on them, see ``Walk.hurry``.
PATIENT: Final = wsusfix.Timeouts(
    connect=10, operation=3, script=25, opening=15, upload=25, assemble=25, start=60, busy=60, signature=60, still=20,
    job=30, lost=25,
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Args:
        fault: in words.
        phase: of the road, or of the job.
        arrange: lets the fault happen, then or there.
        cure: what a person has to do before the road can be walked to its end, in words; empty where nobody has to do
            anything but run again.
        clear: clears the fault, before the last run.
        stays: the road is walked once more before the cure; nothing may come of that.
        meanwhile: what that run says, where it is not the same as the first.
        transient: whether an error of the first run is to say that the same call may succeed.
        server, package: for ``Lab.add_server`` and ``Lab.package``.
        late: happens after the first run, while the fault is still there.
        patience: time outs in place of the patient ones.
        notice: what an observer of the first run must have been told.
        unproven: the evidence of an installation cannot be whole, for the job itself was ended.
        orphans: shells that cannot be closed, as their number or the farewell was lost; the server expires them.
        reset: whether it is a replica without a service pack, whose approvals are reset.
    """

    fault: str
    phase: str
    arrange: Callable[[Walk], object]
    cure: str = ""
    clear: Callable[[Walk], object] = lambda walk: walk.faults.clear()
    stays: bool = True
    meanwhile: str = ""
    transient: bool = True
    server: Mapping[str, Any] = field(default_factory=dict)
    package: Mapping[str, Any] = field(default_factory=dict)
    late: Callable[[Walk], object] = lambda walk: None
    patience: Mapping[str, float] = field(default_factory=dict)
    notice: str = ""
    unproven: bool = False
    orphans: int = 0
    reset: bool = False

    @property
    def name(self) -> str:
        """What a test of it is called by."""
        return f"{self.phase}: {self.fault}"


@dataclass(frozen=True)
class Walked:
    """What came of a cell: what the operator was told by the first run, the end, and what ought not to be so.

    Args:
        problems: what ought not to be so; what is no violation may also come of a machine that is busy otherwise.
        violations: those that no delay excuses: half, twice, untold, or left behind.
    """

    fault: str
    phase: str
    first: str
    end: str
    problems: tuple[str, ...] = ()
    violations: tuple[str, ...] = ()
    seconds: float = 0.0


class Walk:
    """A server, the road to it, and what is to happen on the first run."""

    def __init__(self, cell: Cell, lab: Lab) -> None:
        self.cell = cell
        self.host = host = lab.add_server("wsus01", **{**(REPLICA if cell.reset else {}), **cell.server})
        host.install_seconds = 0.02
        host.machine.pace = PACE
        self._lab = lab
        package = self.package(**cell.package)
        self.faults: HostFaults = host.faults
        self.reach: dict[str, Any] = host.connection
        self.options = wsusfix.Options(package=package)
        # For how long an installation is waited for counts by the server's clock, which the lab paces.
        patience = {name: most if name == "busy" else most * SLOWER for name, most in cell.patience.items()}
        self.timeouts = wsusfix.Timeouts(**{**PATIENT.to_dict(), **patience})
        self.told: list[wsusfix.Event] = []
        self.held: list[FileLock] = []
        self.names: list[Name] = []
        self._before: dict[tuple[str, int], list[Happen]] = collections.defaultdict(list)
        self._pieces: dict[int, list[Happen]] = collections.defaultdict(list)
        self._on_state: dict[str, list[Happen]] = collections.defaultdict(list)
        self._counts: collections.Counter[str] = collections.Counter()
        self._most: float | None = None

    def package(self, **more: Any) -> Path:
        """Write a package; without arguments, the right one."""
        return self._lab.package(**{"size": 60_000, **more})

    def make_administrator(self) -> None:
        """Put the account into the group it was missing from."""
        token = self.host._token
        self.host._token = dataclasses.replace(token, groups=token.groups | {ADMINISTRATORS})

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so."""
        deadline = time.monotonic() + BOUND
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.cell.name}: it did not come to this")
            time.sleep(0.01)

    def until_reached(self) -> None:
        """Wait until the server, which restarts, lets connections in."""
        reach = self.host.connection

        def listens() -> bool:
            with socket.socket() as line:
                return line.connect_ex((reach["host"], reach["port"])) == 0

        self.until(listens)

    # --- where something is to happen -------------------------------------------------------------------------------

    def before(self, script: str, happen: Happen, nth: int = 1) -> None:
        """Let it happen before the script is sent for the *nth* time."""
        self._before[script, nth].append(happen)

    def in_upload(self, happen: Happen, piece: int = 4) -> None:
        """Let it happen when the upload reads the piece of this number; the one before it is still to be sent."""
        self._pieces[piece].append(happen)

    def when_told(self, state: str, happen: Happen) -> None:
        """Let it happen when the observer is told of this state of the job."""
        self._on_state[state].append(happen)

    def while_it_installs(self, happen: Happen) -> None:
        """Let it happen while an installer is at work for certain: it ends only afterwards."""
        self.faults.installer_hangs()

        def then() -> None:
            happen()
            self.goes_on()

        self.when_told("installing", then)

    def by_name(self) -> Name:
        """Reach the server by a name from now on, whose resolution may be let fail."""
        name = Name(self.reach["host"])
        self.reach = {**self.reach, "host": name.name}
        return name

    def goes_on(self) -> None:
        """Let the installer end that was held."""
        self.host.machine.installer_hangs = False

    def hurry(self, seconds: float = 1.0) -> None:
        """From now on wait no longer than this for any script."""
        self._most = seconds * SLOWER

    # --- walking ----------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Walk the road once; whatever it ends in, an error of another kind aside."""
        self._counts.clear()
        try:
            with wsusfix.connect(**self.reach, timeouts=self.timeouts, on_event=self._observe) as server:
                self._watch(server._session)
                # What is mended does not depend on the logs: they are read where a fault is to strike there.
                plan = server.plan(self.options, logs=self.cell.phase == "logs")
                return server.apply(plan, consent=True)
        except wsusfix.WsusFixError as error:
            return error

    def quiet(self) -> None:
        """Let nothing happen any more."""
        for points in (self._before, self._pieces, self._on_state):
            points.clear()
        self._most = None

    def _observe(self, event: wsusfix.Event) -> None:
        self.told.append(event)
        if isinstance(event, wsusfix.JobState):
            for happen in self._on_state.pop(event.phase, ()):
                happen()

    def _watch(self, session: Session) -> None:
        """Be told of every script that the session is about to send, its lanes' too."""
        run, lane = session.run, session.lane if type(session) is Session else None

        def watched(script: Any, parameters: Any, **how: Any) -> dict[str, Any]:
            self._counts[script.name] += 1
            for happen in self._before.pop((script.name, self._counts[script.name]), ()):
                happen()
            if self._most is not None:
                how["within"] = self._most
            if (chunks := how.get("chunks")) is not None:
                how["chunks"] = lambda: self._counted(chunks())
            return run(script, parameters, **how)

        def watched_lane(number: int) -> Any:
            assert lane is not None
            made = lane(number)
            self._watch(made)
            return made

        vars(session).update(run=watched, lane=watched_lane)

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks, 1):
            for happen in self._pieces.pop(number, ()):
                happen()
            yield chunk


def walk(cell: Cell) -> Walked:
    """Walk one cell to its end."""
    began = time.monotonic()
    try:
        with new_lab() as lab:
            walked = _walk(Walk(cell, lab))
    except Exception as error:  # noqa: BLE001  (a defect: told with the cell it came about in)
        walked = ("", "", (f"walking failed: {error!r}",), ())
    return Walked(cell.fault, cell.phase, *walked, seconds=time.monotonic() - began)


def _walk(walk: Walk) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    cell, host = walk.cell, walk.host
    seen = _SeenReset(walk) if cell.reset else _Seen(walk)
    cell.arrange(walk)
    first = seen.run("the first run")
    if cell.notice and not any(cell.notice in str(event) for event in walk.told):
        seen.problem(f"the observer was not told {cell.notice!r}")
    cell.late(walk)
    seen.look("after the first run")
    walk.quiet()
    if cell.cure and cell.stays:
        again = told(seen.run("the second run"))
        if again != (cell.meanwhile or told(first)):
            seen.problem(f"the fault stays, and the second run says {again!r}")
    mended = "worked around" if cell.reset else "fixed"
    end = f"{mended} once {cell.cure}" if cell.cure else mended
    if cell.cure and not seen.effective and not host.machine.installer_busy:
        end = f"untouched; {end}"
    walk.timeouts = PATIENT
    cell.clear(walk)
    last = seen.run("the last run")
    if not isinstance(last, wsusfix.Outcome) or not last.ok:
        seen.problem(f"not fixed in the end: {last!r}")
    elif last.changed and isinstance(first, wsusfix.Outcome) and first.ok:
        seen.violation("fixed by the first run, and changed once more by the last")
    # What is late is told as worth a repetition; whatever else the last run says, it is to be so.
    tell = seen.problem if isinstance(last, wsusfix.WsusFixError) and last.retryable else seen.violation
    seen.ended(tell)
    seen.nothing_left(tell)
    seen.proven()
    return told(first), end, tuple(seen.problems), tuple(seen.violations)


class _Seen:
    """What is looked at after every run."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._host = walk.host
        self.problems: list[str] = []
        self.violations: list[str] = []
        self.reports: list[Report] = []

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def violation(self, text: str) -> None:
        self.problems.append(text)
        self.violations.append(text)

    @property
    def effective(self) -> list[Installation]:
        """The installations that changed something."""
        good = (ExitMeaning.INSTALLED, ExitMeaning.RESTART_NEEDED, ExitMeaning.RESTART_BEGUN)
        ended = [run for run in self._host.installations if run.exit_code is not None]
        return [run for run in ended if advisory.exit_code(run.exit_code or 0).meaning in good]

    def run(self, when: str) -> Report:
        """Walk the road once more, and look at what is told and at what is so."""
        version, effective = self._host.dll_version, len(self.effective)
        began = time.monotonic()
        report = self._walk.run()
        took = time.monotonic() - began
        self.reports.append(report)
        if took > BOUND:
            self.problem(f"{when} took {took:.0f} s")
        if isinstance(report, wsusfix.Outcome):
            self._outcome(when, report, version, len(self.effective) - effective)
        else:
            self._error(when, report)
        self.look(f"after {when}")
        return report

    def look(self, when: str) -> None:
        """The invariants: never twice, never something in between."""
        if self._host.dll_version not in (BEFORE, FIXED):
            self.violation(f"{when} the DLL is {self._host.dll_version}")
        if len(self.effective) > 1:
            self.violation(f"{when} {len(self.effective)} installations have taken effect")

    def _outcome(self, when: str, outcome: wsusfix.Outcome, version: str | None, installed: int) -> None:
        now = self._host.dll_version
        if outcome.changed and now != FIXED and not outcome.restart_pending:
            self.violation(f"{when} claims a change, and the DLL is {now}")
        if not outcome.changed and (now != version or installed):
            self.violation(f"{when} does not tell of its change from {version} to {now}")
        if outcome.ok and now != FIXED:
            self.violation(f"{when} is content with {now}")
        self._explained(when, outcome)

    def _explained(self, when: str, outcome: wsusfix.Outcome) -> None:
        for step in outcome.steps:
            if step.status is wsusfix.StepStatus.FAILED and not (step.why and step.hint and step.phase):
                self.problem(f"{when} does not say why, where, or what to do: {step!r}")
        if outcome.failed and not outcome.evidence:
            self.problem(f"{when} failed without evidence")
        if outcome.blocked and not all("to unblock: " in reason for reason in outcome.blocked):
            self.problem(f"{when} does not say what unblocks: {outcome.blocked}")

    def _error(self, when: str, error: wsusfix.WsusFixError) -> None:
        if error.host != self._walk.reach["host"] or not error.phase or not error.hint or not error.message:
            self.problem(f"{when} does not say where, what or what to do: {error.to_dict()}")
        if error.retryable is not self._walk.cell.transient:
            self.problem(f"{when}: is {type(error).__name__} worth a repetition? it says {error.retryable}")
        if error.__context__ is not None and error.__cause__ is None and not error.__suppress_context__:
            self.problem(f"{when}: {type(error).__name__} came about while another error was handled")

    def ended(self, tell: Callable[[str], object]) -> None:
        """The end: installed, once."""
        if self._host.dll_version != FIXED or len(self.effective) != 1:
            tell(f"in the end: DLL {self._host.dll_version}, {len(self.effective)} installations took effect")

    def stays(self, path: str) -> bool:
        """Whether a file is to outlive the road."""
        return False

    def nothing_left(self, tell: Callable[[str], object]) -> None:
        """At the end, nothing of ours is on the server, and nobody is in it."""
        left = [path for path in self._host.files if "wsusfix" in path.lower() and not self.stays(path)]
        left += [f"task {task.name}" for task in self._host.tasks]
        if left:
            tell(f"left on the server: {', '.join(left)}")
        if len(self._host.shells) > self._walk.cell.orphans:
            self.problem(f"{len(self._host.shells)} shells are open")

    def proven(self) -> None:
        """Whatever took effect, somebody was given the evidence of it."""
        told = [report for report in self.reports if isinstance(report, wsusfix.Outcome)]
        kept = [evidence for report in told for evidence in report.evidence]
        codes = {str(run.exit_code) for run in self.effective}
        if not any(str(evidence.exit_code) in codes and evidence.logs for evidence in kept) and not (
            self._walk.cell.unproven and kept
        ):
            self.problem(f"nobody was given the evidence: {kept}")


class _SeenReset(_Seen):
    """What is looked at where approvals are reset: they are saved, and what is switched is put back or known."""

    def __init__(self, walk: Walk) -> None:
        super().__init__(walk)
        self._updates = [update for update in self._host.updates if update.title == advisory.BROKEN_UPDATE_TITLE]
        self._given = {approval.group for update in self._updates for approval in update.approvals}

    @property
    def _treated(self) -> bool:
        return all(update.declined and not update.approvals for update in self._updates)

    @property
    def _as_before(self) -> bool:
        return self._host.replica and self._host.update_service.automatic

    def _kept(self, ending: str) -> dict[str, str]:
        files = self._host.files
        kept = [path for path in files if self.stays(path) and path.endswith(ending)]
        return {path.removesuffix(ending): (files.read(path) or b"").decode() for path in kept}

    def run(self, when: str) -> Report:
        """Also: what a run changes, it tells."""
        before = (self._treated, self._as_before, len(self._kept(".record")))
        report = super().run(when)
        changed = before != (self._treated, self._as_before, len(self._kept(".record")))
        if isinstance(report, wsusfix.Outcome) and changed and not report.changed and not report.failed:
            self.violation(f"{when} does not tell of its change")
        return report

    def look(self, when: str) -> None:
        """No approval is gone that no record has, and nothing is switched that the next run does not know of."""
        left = {approval.group for update in self._updates for approval in update.approvals}
        records = self._kept(".record")
        if not all(any(group in text for text in records.values()) for group in self._given - left):
            self.violation(f"{when} approvals are gone without a saved copy")
        if not self._as_before and not records.keys() - self._kept(".closed").keys():
            self.violation(f"{when} the replica is switched, and nothing tells the next run of it")

    def _outcome(self, when: str, outcome: wsusfix.Outcome, version: str | None, installed: int) -> None:
        if outcome.ok and not (self._treated and self._as_before):
            self.violation(f"{when} is content with what it left")
        self._explained(when, outcome)

    def ended(self, tell: Callable[[str], object]) -> None:
        """The end: treated, and everything else as it was."""
        if not (self._treated and self._as_before):
            tell(f"in the end: treated {self._treated}, as before {self._as_before}")

    def stays(self, path: str) -> bool:
        """What was saved, and the proof."""
        return path.startswith(self._host.kept_path)

    def proven(self) -> None:
        """Somebody was told of every approval that is gone."""
        saved = [report.saved for report in self.reports if isinstance(report, wsusfix.Outcome)]
        if not any(each is not None and {one.group for one in each.approvals} >= self._given for each in saved):
            self.problem("nobody was told what was saved")


def told(report: Report) -> str:
    """What the operator is told, in one line without what differs from run to run."""
    if isinstance(report, wsusfix.Outcome):
        reasons = [reason.partition("; to unblock: ")[0] for reason in report.blocked]
        notes = [f"(note: {note.partition(' (')[0]})" for note in report.notes if _STAY not in note]
        text = " ".join([f"blocked: {'; '.join(reasons)}" if reasons else report.message, *notes])
    else:
        text = f"{type(report).__name__} in {report.phase}: {report.message}"
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return text
