"""A detached SYSTEM job: start it or join the one that runs, follow its states, collect what it left, clean up; and
call it off while it waits.

It knows jobs by their state files (``scripts/contracts.py``) and refuses to know what a job is for.  All it needs of a
session is ``run``; everything here may be repeated.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from wsusfix import scripts
from wsusfix.errors import AnswerError, DeadlineError, JobError
from wsusfix.events import JobState, Observer
from wsusfix.options import Timeouts, whole_seconds
from wsusfix.present import Presentable, printable
from wsusfix.remote.refusals import raise_refusal
from wsusfix.scripts import Script
from wsusfix.scripts.contracts import JOBS, STAGING_NAME, TASK_NAME, JobPhase, JobReason, JobStatus

if TYPE_CHECKING:
    from wsusfix.remote.session import Session

__all__ = [
    "Cleanup",
    "Job",
    "JobStep",
    "Left",
    "LogFile",
    "Started",
    "Withdrawal",
    "cleanup",
    "collect",
    "follow",
    "look",
    "start",
    "unknown",
    "withdraw",
]

#: Polling starts so quickly, in seconds, and slows by the factor to the longest pause.
_FIRST_PAUSE: Final = 0.2
_SLOWING: Final = 1.5
_LONGEST_PAUSE: Final = 5.0
#: State files are numbered so: 00001.
_DIGITS: Final = 5
#: More looks bring no more states than that many digits can number.
_MORE_LOOKS: Final = 100
#: What a job that has ended wrote last.
_LAST: Final = (JobPhase.FINISHED, JobPhase.ABANDONED)
#: How much of the end of the installer's log is brought back, in bytes.
_TAIL: Final = 8192
#: The same of each log, and of all of them together.
_LOG: Final = 64 * 1024
_LOGS: Final = 256 * 1024


@dataclass(frozen=True, repr=False)
class JobStep(Presentable):
    """One state file of a job: its number, phase, the server's time, and what else it says."""

    number: int
    phase: JobPhase
    time: str
    values: Mapping[str, str]

    def _summary(self) -> str:
        return f"{self.number} {self.phase.value}"

    def __str__(self) -> str:
        return f"{self.time} {self.phase.value.replace('_', ' ')}"


@dataclass(frozen=True, repr=False)
class Job(Presentable):
    """A job on the server: how it stands and the states it went through; ``kind`` is the name of its script."""

    job_id: str
    kind: str
    status: JobStatus
    steps: tuple[JobStep, ...]

    @property
    def active(self) -> bool:
        """Whether it runs or is about to."""
        return self.status in (JobStatus.RUNNING, JobStatus.CLAIMED)

    @property
    def restarts(self) -> bool:
        """Whether it has ordered a restart that is still ahead: it ends with the server, and says nothing before."""
        return self.active and self.last is not None and self.last.phase is JobPhase.RESTART_ORDERED

    @property
    def last(self) -> JobStep | None:
        """The newest state."""
        return self.steps[-1] if self.steps else None

    @property
    def reason(self) -> JobReason | None:
        """How it ended, ``None`` while it has not."""
        if self.status is not JobStatus.FINISHED or self.last is None:
            return None
        if self.last.phase is JobPhase.WITHDRAWN:
            # A restart has ended it before it could see that, and say so itself.
            return JobReason.WITHDRAWN
        if self.last.phase is not JobPhase.FINISHED:
            return None
        try:
            reason = JobReason(self.value("reason"))
        except ValueError:
            return JobReason.BROKEN
        contract = JOBS.get(self.kind)
        return reason if contract is not None and reason in contract.reasons else JobReason.BROKEN

    def value(self, key: str) -> str:
        """Return what the newest state that mentions *key* says for it, ``""`` when none does."""
        return next((step.values[key] for step in reversed(self.steps) if key in step.values), "")

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        phase = f" in {self.last.phase.value}" if self.last else ""
        return f"{self.job_id} ({self.kind or 'of a kind nothing tells'}): {self.status.value}{phase}"


@dataclass(frozen=True, repr=False)
class LogFile(Presentable):
    """A log the job left: name, size in bytes, SHA-256, and its end as text, taken before anything was cleaned up.

    ``text`` is as the log has it, bounded, and ``""`` where there were too many of them.
    """

    name: str
    size: int
    sha256: str
    text: str = ""

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.name} ({self.size} bytes, SHA-256 {self.sha256})"


@dataclass(frozen=True, repr=False)
class Left(Presentable):
    """What a job left behind: the end of its log, and every log with its hash."""

    log_tail: str
    logs: tuple[LogFile, ...]

    def _summary(self) -> str:
        return f"{len(self.logs)} logs"

    def __str__(self) -> str:
        return "\n".join([*(str(log) for log in self.logs), *(printable(line) for line in self.log_tail.splitlines())])


@dataclass(frozen=True, repr=False)
class Cleanup(Presentable):
    """What was removed from the server, and what could not be."""

    host: str
    removed: tuple[str, ...]
    remaining: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing of wsusfix is left."""
        return not self.remaining

    def _summary(self) -> str:
        return f"{self.host}: {len(self.removed)} removed, {len(self.remaining)} remaining"

    def __str__(self) -> str:
        if not self.removed and not self.remaining:
            return f"{self.host}: nothing of wsusfix was left"
        return "\n".join(
            [f"{self.host}: removed {len(self.removed)}, remaining {len(self.remaining)}"]
            + [f"  remaining: {item}" for item in self.remaining]
        )


@dataclass(frozen=True, repr=False)
class Withdrawal(Presentable):
    """The job that was called off while it waited for its maintenance window: it will not do anything any more.

    Args:
        host: the name the server is asked by.
        job_id: of the job.
        kind: name of its script.
        already: whether it had been called off before.
        ended: whether it has seen that, and has ended; it looks every 20 seconds.
    """

    host: str
    job_id: str
    kind: str
    already: bool = False
    ended: bool = False

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        before = " already" if self.already else ""
        end = "it has ended" if self.ended else "it ends as soon as it has seen that"
        kind = f" ({self.kind})" if self.kind else ""
        return f"{self.host}: job {self.job_id}{kind} was withdrawn{before}, and changes nothing; {end}"


@dataclass(frozen=True)
class Started:
    """The job that runs now: its id and kind, and whether it is somebody else's, that ran before (joined)."""

    job_id: str
    kind: str
    joined: bool


def start(session: Session, job: Script, parameters: Mapping[str, Any], timeouts: Timeouts) -> Started:
    """Start a job as SYSTEM, unless one runs already, of whatever kind: that one is returned then.

    Raises:
        RefusedByServerError: the staging folder or the task scheduler stands in the way; nothing was started.
    """
    job.contract.check_parameters(parameters)
    asked = secrets.token_hex(6)
    answer = session.run(
        scripts.compose("start_job"),
        {
            "staging_name": STAGING_NAME,
            "task_name": TASK_NAME,
            "job_id": asked,
            "job_kind": job.name,
            "job_script": job.text,
            "job_sha256": job.staged_sha256,
            "job_parameters": dict(parameters),
            "start_seconds": whole_seconds(timeouts.start),
        },
        phase="job",
    )
    raise_refusal(answer, host=session.host, phase="job")
    started = _job_id(session, answer["job_id"])
    return Started(
        job_id=started,
        kind=printable(str(answer["job_kind"]), 40),
        # Of a question that was repeated the answer was lost: the job is the one that was asked for.
        joined=bool(answer["joined"]) and started != asked,
    )


def look(
    session: Session, job_id: str, timeouts: Timeouts, known: Job | None = None, within: float | None = None
) -> Job:
    """Return how a job stands now; *known* spares the states that are known already."""
    job = _look_once(session, job_id, timeouts, known, within)
    told = len(known.steps) if known is not None else 0
    for _ in range(_MORE_LOOKS):
        if job.status is not JobStatus.FINISHED or len(job.steps) == told or job.steps[-1].phase in _LAST:
            break
        # One answer does not hold all the states of a job that has stood still for a night: its end is asked for.
        told = len(job.steps)
        job = _look_once(session, job_id, timeouts, job, within)
    return job


def _look_once(session: Session, job_id: str, timeouts: Timeouts, known: Job | None, within: float | None) -> Job:
    steps = known.steps if known is not None else ()
    last = steps[-1].number if steps else 0
    answer = session.run(
        scripts.compose("poll_job"),
        {
            "staging_name": STAGING_NAME,
            "job_id": job_id,
            "after": last,
            "start_seconds": whole_seconds(timeouts.start),
        },
        phase="job",
        within=within,
    )
    kind = printable(str(answer["kind"]), 40)
    try:
        status = JobStatus(str(answer["status"]))
        new = tuple(_steps(str(answer["states"]), kind))
    except ValueError as error:
        told = printable(str(error), 200)
        raise AnswerError(f"the job's states cannot be read: {told}", host=session.host, phase="job") from error
    return Job(job_id=job_id, kind=kind, status=status, steps=steps + tuple(step for step in new if step.number > last))


def unknown(host: str) -> JobError:
    """Make the error about a job that somebody else has cleared away before its end was seen."""
    return JobError(
        "the server no longer knows the job: was it cleaned up meanwhile?",
        host=host,
        phase="job",
        hint="diagnose again: the state of the server decides",
    )


def follow(
    session: Session, job_id: str, timeouts: Timeouts, on_event: Observer, *, patience: float | None = None
) -> Job:
    """Wait until a job has ended, telling every state; a lost connection is taken up again.

    One that restarts the server is not waited for any more once the restart is ordered: that is its end.

    Args:
        session: with the server.
        job_id: of the job.
        timeouts: see :class:`~wsusfix.options.Timeouts`.
        on_event: is told every state.
        patience: how long it may take in all, ``timeouts.job`` unless given.

    Returns:
        The job, finished or interrupted or never started, with a restart ahead (:attr:`Job.restarts`), or known no
        more (``NONE``): what that means is the caller's to say.

    Raises:
        DeadlineError: it is still at work when that is over; it goes on by itself and can be joined.
    """
    patience = timeouts.job if patience is None else patience
    deadline = time.monotonic() + patience
    pause = _FIRST_PAUSE
    job: Job | None = None
    while True:
        told = len(job.steps) if job is not None else 0
        # On a line that is dead nobody waits longer than for the job; but the last look has its time as well.
        left = max(deadline - time.monotonic(), timeouts.operation)
        job = look(session, job_id, timeouts, job, within=min(timeouts.lost, left))
        for step in job.steps[told:]:
            on_event(_event(session.host, job_id, step))
            pause = _FIRST_PAUSE
        match job.status:
            case JobStatus.FINISHED | JobStatus.INTERRUPTED | JobStatus.NEVER_STARTED | JobStatus.NONE:
                return job
            case JobStatus.RUNNING | JobStatus.CLAIMED:
                if job.restarts:
                    return job
        if time.monotonic() + pause > deadline:
            raise _too_long(session.host, job, patience)
        time.sleep(pause)
        pause = min(pause * _SLOWING, _LONGEST_PAUSE)


def _too_long(host: str, job: Job, patience: float) -> DeadlineError:
    if job.last is not None and job.last.phase is JobPhase.WAITING_FOR_WINDOW:
        return DeadlineError(
            f"the job waits for its maintenance window, which opens at {printable(job.value('until'), 40)}",
            host=host,
            phase="job",
            hint="it needs no connection until then; run again once it is open to see its end, "
            "or call it off: server.withdraw()",
        )
    told = f"the job is still {job.last.phase.value if job.last else 'not begun'} after {patience:.0f} s"
    hint = "it goes on by itself; run again later to join it, or give timeouts.job more seconds"
    if job.last is not None and job.last.phase is JobPhase.RESTORING:
        told += f", for what was switched is not put back yet ({printable(job.value('trouble'), 200)})"
    still = job.value("still")
    if still not in ("", "0"):
        told += f", and its installer has stood still for {still} s"
        hint = f"a dialog that nobody sees? it is never ended from here: look at it on the server; {hint}"
    return DeadlineError(told, host=host, phase="job", hint=hint)


def collect(session: Session, job_id: str, first: Sequence[str] = ()) -> Left:
    """Bring back the end of a job's log, and hash and end of each of its logs, before anything is removed.

    Those that are named *first* come first; of many logs, only the first ones bring their text.
    """
    answer = session.run(
        scripts.compose("collect_job"),
        {
            "staging_name": STAGING_NAME,
            "job_id": job_id,
            "tail": _TAIL,
            "first": list(first),
            "each": _LOG,
            "most": _LOGS,
        },
        phase="collect",
    )
    return Left(log_tail=str(answer["log_tail"]), logs=tuple(_logs(answer)))


def withdraw(session: Session, timeouts: Timeouts) -> Withdrawal:
    """Call off the job that waits for its maintenance window; it lives until it has seen that.

    Raises:
        RefusedByServerError: there is no job, or it is at work already or has ended; or the folder is not ours.
    """
    answer = session.run(
        scripts.compose("withdraw_job"),
        {"staging_name": STAGING_NAME, "start_seconds": whole_seconds(timeouts.start)},
        phase="withdraw",
    )
    raise_refusal(answer, host=session.host, phase="withdraw")
    return Withdrawal(
        host=session.host,
        job_id=_job_id(session, answer["job_id"]),
        kind=printable(str(answer["job_kind"]), 40),
        already=bool(answer["already"]),
    )


def cleanup(session: Session, timeouts: Timeouts, kept: Mapping[str, Any], *, removal_meant: bool = False) -> Cleanup:
    """Remove the task and all that lies in the staging folder.

    Args:
        session: with the server.
        timeouts: see :class:`~wsusfix.options.Timeouts`.
        kept: parameters of the script that say where is kept what outlives a run, and what is looked at for it.
        removal_meant: what a job has removed is not to come back, and that is written down.

    Raises:
        RefusedByServerError: a job is running, or the folder is not ours.
    """
    answer = session.run(
        scripts.compose("cleanup"),
        {
            **kept,
            "staging_name": STAGING_NAME,
            "task_name": TASK_NAME,
            "start_seconds": whole_seconds(timeouts.start),
            "removal_meant": removal_meant,
        },
        phase="cleanup",
    )
    raise_refusal(answer, host=session.host, phase="cleanup")
    return Cleanup(
        host=session.host, removed=_lines(str(answer["removed"])), remaining=_lines(str(answer["remaining"]))
    )


def _job_id(session: Session, value: object) -> str:
    """A job's id is part of a path on the server: take nothing but what we make ourselves."""
    text = str(value)
    if not (text.isascii() and text.isalnum() and 1 <= len(text) <= 40):
        raise AnswerError(f"not a job's id: {printable(text, 60)!r}", host=session.host, phase="job")
    return text


def _lines(text: str) -> tuple[str, ...]:
    return tuple(printable(line, 300) for line in text.split("\n") if line.strip())


def _steps(text: str, kind: str) -> Iterator[JobStep]:
    """Read state files, each preceded by its number and closed by ``end``; one that is not closed is not there yet.

    Raises:
        ValueError: no job of this kind writes that, or nobody here knows the kind.
    """
    values: dict[str, str] = {}
    for line in text.replace("\r", "").split("\n"):
        if line == "end":
            phase = JobPhase(values.get("phase", ""))
            number = _number(values.get("number", ""))
            keep = {"pid", "created", *_keys(kind, phase)}
            yield JobStep(
                number=number,
                phase=phase,
                time=printable(values.get("time", ""), 40),
                values={key: printable(value, 1000) for key, value in values.items() if key in keep},
            )
            values = {}
        elif "=" in line:
            key, _, value = line.partition("=")
            values[key] = value


def _keys(kind: str, phase: JobPhase) -> tuple[str, ...]:
    """The keys of one of this kind's states.

    Raises:
        ValueError: it has no such state.
    """
    if kind not in JOBS:
        raise ValueError(f"a job of the kind {kind!r}, which this wsusfix does not know")
    if phase not in JOBS[kind].states:
        raise ValueError(f"a job of the kind {kind!r} is never {phase.value}")
    return JOBS[kind].states[phase]


def _number(text: str) -> int:
    """A state's number, of five digits in its file's name.

    Raises:
        ValueError: no job writes that.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise ValueError(f"not the number of a state: {text[:40]!r}")
    return int(text)


def _logs(answer: Mapping[str, object]) -> Iterator[LogFile]:
    for number, line in enumerate(str(answer["logs"]).split("\n"), 1):
        sha256, _, rest = line.strip().partition(" ")
        size, _, name = rest.partition(" ")
        if len(sha256) == 64 and size.isascii() and size.isdigit() and len(size) <= 20:
            text = str(answer.get(f"log_{number}", ""))
            yield LogFile(name=printable(name, 260), size=int(size), sha256=printable(sha256, 64), text=text)


#: What an event says of a state beyond its phase: which value, and how it is said.
_TOLD: Final[Mapping[JobPhase, tuple[str, str]]] = MappingProxyType(
    {
        JobPhase.WAITING_FOR_INSTALLER: ("waited", "another installation runs, waited {} s"),
        JobPhase.LAUNCHING: ("command_line", "{}"),
        JobPhase.INSTALLING: ("still", "the installer has stood still for {} s"),
        JobPhase.INSTALLED: ("exit_code", "exit code {}"),
        JobPhase.WAITING_FOR_WINDOW: ("until", "the maintenance window opens at {}"),
        JobPhase.WITHDRAWN: ("account_sid", "by {}"),
        JobPhase.BACKING_UP: ("path", "{}"),
        JobPhase.STOPPING: ("services", "{}"),
        JobPhase.WAITING_FOR_WSUS: ("state", "WSUS says {}"),
        JobPhase.RESTORING: ("trouble", "what was switched is not put back yet: {}"),
        JobPhase.RESTORED_FIRST: ("record", "from record {} of an earlier run"),
        JobPhase.SAVED: ("approvals", "{} approvals"),
        JobPhase.DECLINED: ("update_id", "{}"),
        JobPhase.APPROVED: ("update_id", "{}"),
        JobPhase.TREATED: ("update_id", "{}"),
        JobPhase.FINISHED: ("reason", "{}"),
    }
)


def _event(host: str, job_id: str, step: JobStep) -> JobState:
    key, words = _TOLD.get(step.phase, ("", ""))
    value = step.values.get(key, "")
    moves = step.phase is JobPhase.INSTALLING and value == "0"
    return JobState(
        host=host,
        job_id=job_id,
        number=step.number,
        phase=step.phase.value,
        time=step.time,
        detail="" if value == "" or moves else words.format(value),
    )
