"""What the work on one server has at hand, and the shape every kind of work has.

A :class:`Work` carries out one kind of step as one kind of job: which parameters the job takes, when the server has
settled after it, and how its end is said.  It refuses to know in which order steps come: that is the engine's business.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from wsusfix import advisory, scripts
from wsusfix.errors import (
    AnswerError,
    DeadlineError,
    NotReachedError,
    RefusedByServerError,
    ScriptError,
    WsusFixError,
)
from wsusfix.events import Note, Observer, PhaseBegun
from wsusfix.facts import HostFacts
from wsusfix.facts.approvals import Saved
from wsusfix.options import Timeouts, whole_seconds
from wsusfix.package import Command, Package
from wsusfix.plan import Blocked, Plan, Step
from wsusfix.plan.common import LET_IT_END
from wsusfix.present import bytes_text, printable
from wsusfix.remote import job as jobs
from wsusfix.remote.job import Cleanup, Job, Left, Started
from wsusfix.remote.upload import upload
from wsusfix.results import Check, DatabaseBackup, JobEvidence, StepStatus, Verification
from wsusfix.scripts.contracts import JobPhase, JobReason, JobStatus
from wsusfix.surroundings import Surroundings, record_parameters
from wsusfix.verify import ABSENT, SERVICE_CHECK, verify

if TYPE_CHECKING:
    from wsusfix.remote.session import Session

__all__ = [
    "CLEARED_AWAY",
    "EVENT_SOURCE",
    "NEVER_BEGAN",
    "SERVICES_BACK",
    "WINDOW_OVER",
    "Ended",
    "Site",
    "Work",
    "at_work",
    "exit_code_of",
    "explained",
    "last_phase",
    "missing_services",
    "never_began",
    "package_failure",
    "stopped_services",
    "withdrawn",
]

#: Under this name the jobs write into the server's Application event log.
EVENT_SOURCE: Final = "wsusfix"
#: For which services that the work stopped are given time to come back, in seconds.
SERVICES_BACK: Final = 60.0
#: Between two looks at a server that is not yet as it is to be: first and longest pause, in seconds.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0


@dataclass(frozen=True)
class Ended:
    """How a job ended, said for people: what became of the step, why, and what to do next."""

    status: StepStatus
    why: str
    hint: str = ""


CLEARED_AWAY: Final = Ended(
    StepStatus.FAILED,
    "somebody else has cleared the job away before its end was seen here, and the server is not mended",
    "plan again: the state of the server decides",
)
NEVER_BEGAN: Final = Ended(
    StepStatus.FAILED,
    "the scheduled task never began, and the job was given up",
    "is the Task Scheduler service running, and does policy let SYSTEM run PowerShell? then run again",
)
_ON_BATTERY: Final = "this Windows begins no task while it runs on battery, which may be a UPS"
WINDOW_OVER: Final = Ended(
    StepStatus.FAILED,
    "the maintenance window was over, and the step was not begun",
    "give a later not_after, then run again",
)


@dataclass
class Site:
    """One server being worked on: the plan, the session, how to look at it anew, and what there is to note."""

    plan: Plan
    session: Session
    look: Callable[[], HostFacts]
    timeouts: Timeouts
    tell: Observer
    #: What the server is like around its WSUS, looked at anew.
    look_around: Callable[[HostFacts], Surroundings]
    notes: list[str] = field(default_factory=list)
    #: The backup that was made on this road, and whether setup has asked for a restart.
    backup: DatabaseBackup | None = None
    restart_asked: bool = False
    #: The jobs that were started from here: of any other one nobody here knows who asked for it, and for what.
    own: set[str] = field(default_factory=set)
    #: What is kept of jobs beside the steps.
    beside: list[JobEvidence] = field(default_factory=list)

    @property
    def host(self) -> str:
        """The name the server is asked by."""
        return self.plan.host

    def window(self) -> dict[str, str]:
        """Return the maintenance window as every job takes it."""
        plan = self.plan
        return {
            name: "" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            for name, moment in (("not_before", plan.not_before), ("not_after", plan.not_after))
        }

    def seconds_to_window(self, before: HostFacts) -> float:
        """Return how long a job will wait for the maintenance window, by the server's own clock."""
        opens = self.plan.not_before
        return 0.0 if opens is None else max(0.0, (opens - before.clock).total_seconds())

    def common(self, before: HostFacts, more: str = "") -> dict[str, Any]:
        """Return the parameters that every job takes."""
        return {**self.window(), "event_source": EVENT_SOURCE, "audit": self.audit(before, more)}

    def upload(self, package: Package) -> str:
        """Bring a package to the server and return its path there."""
        self.tell(PhaseBegun(self.host, "upload", package.name))
        return upload(
            self.session,
            package.path,
            sha256=package.sha256,
            size=package.size,
            reserve=advisory.STAGING_RESERVE,
            timeouts=self.timeouts,
            on_event=self.tell,
        ).path

    def package_parameters(self, before: HostFacts, package: Package, command: Command, accept: bool) -> dict[str, Any]:
        """Upload the package, and return the parameters that every job takes which runs one.

        Args:
            before: the facts before the job.
            package: to be run.
            command: how it is run.
            accept: whether a signature that the server cannot verify is accepted.
        """
        return {
            **self.common(before, f"package SHA-256 {package.sha256}"),
            "package": self.upload(package),
            "package_sha256": package.sha256,
            "program": command.program,
            "arguments": command.arguments,
            "roots": list(advisory.MICROSOFT_ROOTS),
            "accept_unverifiable": accept,
            "signature_seconds": whole_seconds(self.timeouts.signature),
            "busy_seconds": whole_seconds(self.timeouts.busy),
            "still_seconds": whole_seconds(self.timeouts.still),
        }

    def audit(self, before: HostFacts, more: str = "") -> str:
        """Say who asked for what, for the server's event log."""
        session = before.session
        asked = f"asked by {session.account} ({session.sid}, {session.authentication}); plan {self.plan.digest}"
        return f"{asked}; {more}" if more else asked

    def follow(self, job_id: str, before: HostFacts, seconds: float | None = None) -> Job:
        """Wait for a job's end; the time until its maintenance window opens comes on top of what it may take."""
        patience = (self.timeouts.job if seconds is None else seconds) + self.seconds_to_window(before)
        return jobs.follow(self.session, job_id, self.timeouts, self.tell, patience=patience)

    def start(self, kind: str, parameters: Mapping[str, Any]) -> Started:
        """Start a job, unless one is at work already, which is joined then whatever its kind."""
        started = jobs.start(self.session, scripts.compose(kind), parameters, self.timeouts)
        if not started.joined:
            self.own.add(started.job_id)
        return started

    def run_job(self, kind: str, parameters: Mapping[str, Any], before: HostFacts) -> Job:
        """Run a small job beside the steps of the plan, and wait for its end.

        Raises:
            RefusedByServerError: somebody else's job of another kind is at work.
            JobError: somebody else has cleared it away before its end was seen.
        """
        started = self.start(kind, parameters)
        if started.kind != kind:
            raise at_work(self.host, f"{started.job_id} ({started.kind})")
        job = self.follow(started.job_id, before)
        if job.status is JobStatus.NONE:
            raise jobs.unknown(self.host)
        return job

    def collect(self, job: Job) -> Left | None:
        """Bring back the logs; ``None`` when they cannot be read, and then they stay where they are."""
        self.tell(PhaseBegun(self.host, "collect"))
        try:
            return jobs.collect(self.session, job.job_id, advisory.SETUP_LOGS_FIRST)
        except (AnswerError, DeadlineError, ScriptError) as error:
            # What was done is told all the same.
            self.notes.append(f"the job's logs could not be read and stay on the server: {error}")
            return None

    def clean(self, *, removal_meant: bool = False) -> None:
        """Remove task and staging; failing to is worth a note, not the loss of an outcome.

        Args:
            removal_meant: WSUS that its setup has removed is not to come back, and that is written down.
        """
        self.tell(PhaseBegun(self.host, "cleanup"))
        try:
            cleaned = jobs.cleanup(self.session, self.timeouts, record_parameters(), removal_meant=removal_meant)
        except WsusFixError as error:
            self.notes.append(f"cleanup failed: {error}")
            self.tell(Note(self.host, "cleanup", str(error)))
            return
        self.note_remaining(cleaned)

    def note_remaining(self, cleaned: Cleanup) -> None:
        """Note what could not be removed."""
        if not cleaned.clean:
            self.notes.append("left on the server: " + ", ".join(cleaned.remaining))

    def evidence(self, job: Job, before: HostFacts, left: Left | None, package_sha256: str = "") -> JobEvidence:
        """Return what is kept of a job of any kind; who asked for it, and for what, only of one started from here."""
        session = before.session
        own = job.job_id in self.own
        logged = job.value("wsus_logged").lower()
        if logged == "false":
            self.notes.append(f"the line of job {job.job_id} could not be written into WSUS's own log")
        return JobEvidence(
            job_id=job.job_id,
            kind=job.kind,
            account=session.account if own else "",
            account_sid=session.sid if own else "",
            authentication=session.authentication if own else "",
            plan_digest=self.plan.digest if own else "",
            package_sha256=package_sha256 if own else "",
            command_line=job.value("command_line"),
            signature=job.value("signature"),
            signer=job.value("signer"),
            signed_at=job.value("signed_at"),
            exit_code=exit_code_of(job),
            dll_before=job.value("dll_before"),
            dll_after=job.value("dll_after"),
            event_logged=job.value("event_logged").lower() == "true",
            server_clock=job.last.time if job.last else "",
            controller_clock=datetime.now(timezone.utc).replace(microsecond=0),
            steps=job.steps,
            logs=left.logs if left is not None else (),
            log_tail=left.log_tail if left is not None else "",
            wsus_logged=logged == "true" if logged else None,
        )

    def settled(
        self,
        before: HostFacts,
        *,
        seconds: float = SERVICES_BACK,
        restarts: bool = False,
        gone: float | None = None,
        waits: Callable[[Verification], bool] | None = None,
    ) -> tuple[HostFacts, Verification]:
        """Look at the server after a job; while it restarts by itself, or services come back, look again.

        Args:
            before: the facts before the job.
            seconds: how long services are given to come back.
            restarts: whether the server restarts, and may not be reached for a while.
            gone: for how long then, in seconds; ``timeouts.lost`` unless given.
            waits: what else is waited for.
        """
        gone = self.timeouts.lost if gone is None else gone
        reached = time.monotonic() + (gone if restarts else 0.0)
        deadline: float | None = None
        pause = _FIRST_PAUSE
        while True:
            try:
                after = self.look()
            except WsusFixError as error:
                error.phase = "verify"
                gone = isinstance(error, NotReachedError | DeadlineError)
                if not (restarts and gone and error.retryable) or time.monotonic() + pause > reached:
                    raise
            else:
                verification = verify(after, before)
                at_work = after.job is not None and after.job.active and not after.job.waits_for_window
                unsettled = at_work or (waits is not None and waits(verification))
                if deadline is None:
                    patience = gone if unsettled and restarts else min(self.timeouts.lost, seconds)
                    deadline = time.monotonic() + patience
                # One that is gone does not come back by itself.
                coming = [check for check in stopped_services(verification) if check.found != ABSENT]
                if not (unsettled or coming) or time.monotonic() + pause > deadline:
                    return after, verification
                self.tell(Note(self.host, "verify", "not settled yet, looking again"))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


S = TypeVar("S", bound=Step)


class Work(abc.ABC, Generic[S]):
    """How one kind of step is carried out, as one kind of job.

    Args:
        step: as the plan has it.
        site: the server it is done on.
    """

    #: Name of the job's script, which is the job's kind.
    kind: ClassVar[str]
    #: Whether its logs are brought back only when the server has settled, for it may be gone for a while before.
    settles_first: ClassVar[bool] = False
    #: Whether the server is looked at anew right before: another controller may have done it already.
    looks_anew: ClassVar[bool] = False

    def __init__(self, step: S, site: Site) -> None:
        self.step, self.site = step, site

    def reached(self, facts: HostFacts) -> str:
        """Say why the step needs nothing any more, ``""`` when it is to be done.  Asked before it would be begun."""
        return ""

    def obstacles(self, facts: HostFacts) -> tuple[Blocked, ...]:
        """Look once more at what is in the way, right before the step would be begun; it is not begun then."""
        return ()

    def joins(self, job: Job) -> str:
        """Say why a job of this kind that is at work already is not the one the step wants; ``""`` when it is."""
        return ""

    def holds(self, facts: HostFacts, verification: Verification) -> bool:
        """Whether the server is as the step leaves it, whoever has made it so."""
        return verification.ok

    @property
    def patience(self) -> float:
        """How long the job may take, in seconds; it goes on by itself all the same."""
        return self.site.timeouts.job

    @abc.abstractmethod
    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Bring to the server what the job needs, and return the parameters of its script."""

    def settle(self, job: Job, before: HostFacts) -> tuple[HostFacts, Verification]:
        """Look at the server after the job, until it stands as it will."""
        return self.site.settled(before)

    @abc.abstractmethod
    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say how the job ended; what the server is like counts for more than what the job said."""

    def phase(self, job: Job) -> str:
        """Return the phase in which the job failed."""
        return last_phase(job)

    def evidence(self, job: Job, before: HostFacts, left: Left | None) -> JobEvidence:
        """Return what is kept of the job."""
        return self.site.evidence(job, before, left)

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """Whether the job changed anything of the server's software."""
        return True

    def saved(self, job: Job, after: HostFacts) -> Saved | None:
        """Return what the job saved before it changed anything."""
        return None

    @abc.abstractmethod
    def message(self, ended: Ended, verification: Verification) -> str:
        """Say in a few words what came of it, when it is the last step of the road."""


def at_work(host: str, job: str, hint: str = LET_IT_END) -> RefusedByServerError:
    """Make the error about a job of another kind, which is neither joined nor doubled."""
    return RefusedByServerError(
        f"a job of another kind is at work on the server: {printable(job, 120)}",
        host=host,
        phase="apply",
        hint=hint,
    )


def last_phase(job: Job, *others: JobPhase) -> str:
    """Return the phase before the end, and before the *others* that only follow a failure: where it failed."""
    begun = [step.phase.value for step in job.steps if step.phase not in (JobPhase.FINISHED, *others)]
    return begun[-1] if begun else "job"


def exit_code_of(job: Job) -> int | None:
    """Return the exit code that the job told of what it ran."""
    text = job.value("exit_code")
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 12 else None


def never_began(job: Job) -> bool:
    """Whether a job was given up before it began."""
    return job.status is JobStatus.NEVER_STARTED or (job.last is not None and job.last.phase is JobPhase.ABANDONED)


def withdrawn(job: Job, untouched: str = "nothing was changed") -> Ended:
    """Say that a job was called off while it waited for its maintenance window, and how it left the server."""
    by = next((step.values.get("account_sid") for step in job.steps if step.phase is JobPhase.WITHDRAWN), "")
    return Ended(
        StepStatus.FAILED,
        f"the job was withdrawn{f' by {by}' if by else ''} while it waited for its maintenance window; {untouched}",
        "plan again when it is to be done after all",
    )


def stopped_services(verification: Verification) -> tuple[Check, ...]:
    """Return the services that ran before and do not now, whatever else is wrong."""
    return tuple(
        check
        for check in verification.checks
        if check.decides and not check.ok and check.name.startswith(SERVICE_CHECK)
    )


def missing_services(verification: Verification) -> tuple[Check, ...]:
    """Return the services that ran before and do not now, where nothing else is wrong."""
    wrong = tuple(check for check in verification.checks if check.decides and not check.ok)
    return wrong if all(check.name.startswith(SERVICE_CHECK) for check in wrong) else ()


def package_failure(job: Job) -> Ended:
    """Say why a job did not run its package to the end."""
    detail = job.value("detail")
    told = f": {detail}" if detail else ""
    match job.reason:
        case JobReason.PACKAGE_MISSING:
            return Ended(StepStatus.FAILED, f"the package vanished from the server{told}", "run again")
        case JobReason.PACKAGE_CHANGED:
            return Ended(
                StepStatus.FAILED,
                f"the package on the server is no longer the one that was uploaded{told}",
                "somebody altered it: find out who before you run again",
            )
        case JobReason.SIGNATURE_INVALID:
            return Ended(StepStatus.FAILED, f"the package's signature is not valid{told}", "use the original package")
        case JobReason.SIGNATURE_UNVERIFIABLE:
            return Ended(
                StepStatus.FAILED,
                f"the server could not verify the package's signature{told}",
                "in a closed network, pin package_sha256 and say accept_unverifiable_signature",
            )
        case JobReason.INSTALLER_BUSY:
            return Ended(
                StepStatus.FAILED, f"another installation ran all the time{told}", "let it end, then run again"
            )
        case JobReason.NOT_LAUNCHED:
            return Ended(StepStatus.FAILED, f"the installer could not be started{told}", "use the original package")
        case JobReason.WINDOW_OVER:
            return WINDOW_OVER
        case JobReason.WITHDRAWN:
            return withdrawn(job)
        case _:
            return Ended(StepStatus.FAILED, f"the job broke off{told}", "look at the evidence, then run again")


def explained(ended: Ended, after: HostFacts) -> Ended:
    """Add to a failure what the server's state says about it."""
    if ended.status is not StepStatus.FAILED:
        return ended
    policy = after.session.execution_policy
    if ended is NEVER_BEGAN and policy.lower() in advisory.BLOCKING_POLICIES:
        why = f"{ended.why}: group policy sets the execution policy {policy}"
        return Ended(
            ended.status, why, "have the policy set to RemoteSigned while this server is mended, then run again"
        )
    if ended is NEVER_BEGAN and after.os.release < advisory.OLD_SCHEDULER_BEFORE:
        ended = Ended(ended.status, ended.why, f"{_ON_BATTERY}; {ended.hint}")
    free = min(after.staging.free, after.staging.system_free)
    if free < advisory.STAGING_RESERVE:
        why = f"{ended.why}; only {bytes_text(free)} are free on the server's drive"
        return Ended(ended.status, why, f"make room there; {ended.hint}" if ended.hint else "make room there")
    return ended
