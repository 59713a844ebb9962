"""How the steps of a plan are carried out: look again, upload, run or join the detached job, collect, verify, clean up.

Only this room changes a server, and only through ``remote/``.  It decides nothing that ``plan`` has not decided: what a
step means is said there, and whether it worked is ``verify``'s word.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from wsusfix import advisory, scripts
from wsusfix.errors import (
    ConsentError,
    DeadlineError,
    NotReachedError,
    PlanChangedError,
    RefusedByServerError,
    ScriptError,
    WsusFixError,
)
from wsusfix.events import Note, Observer, PhaseBegun
from wsusfix.facts import HostFacts, JobFacts
from wsusfix.options import Timeouts, whole_seconds
from wsusfix.plan import Basis, InstallUpdate, Plan
from wsusfix.present import bytes_text, printable
from wsusfix.remote import job as jobs
from wsusfix.remote.job import Cleanup, Job, Left
from wsusfix.remote.upload import upload
from wsusfix.results import Check, JobEvidence, Outcome, StepOutcome, StepStatus, Verification
from wsusfix.scripts.contracts import JobPhase, JobReason, JobStatus, Refusal
from wsusfix.verify import SERVICE_CHECK, verify

if TYPE_CHECKING:
    from wsusfix.remote.session import Session

__all__ = ["apply"]

_EVENT_SOURCE: Final = "wsusfix"
#: For which services that the update stopped are given time to come back, in seconds.
_SERVICES_BACK: Final = 60.0
#: Between two looks at a server that is not yet as it is to be: first and longest pause, in seconds.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0


def apply(
    plan: Plan,
    session: Session,
    look: Callable[[], HostFacts],
    *,
    consent: bool,
    timeouts: Timeouts,
    on_event: Observer,
) -> Outcome:
    """Carry out a plan.

    Args:
        plan: as shown to whoever consents.
        session: an open session with the plan's server.
        look: gives the server's facts anew.
        consent: that what cannot be undone may be done.
        timeouts: see :class:`~wsusfix.options.Timeouts`.
        on_event: is told what happens.

    Returns:
        The outcome; a blocked plan and a failed installer are outcomes, not errors.

    Raises:
        ConsentError: the plan is irreversible and *consent* is not ``True``; nothing was sent.
        PlanChangedError: the server is no longer as the plan found it; nothing was changed.
        WsusFixError: the server could not be reached, or refused; run again, what was begun is joined.
    """
    if plan.irreversible and consent is not True:
        raise ConsentError("the plan cannot be undone and nobody consented to it", host=plan.host, phase="apply")
    return _Applying(plan, session, look, timeouts, on_event).run()


@dataclass(frozen=True)
class _Ended:
    """How a job ended, said for people: what became of the step, and whether the installer changed anything."""

    status: StepStatus
    why: str
    hint: str = ""


class _Applying:
    """One plan being applied to one server."""

    def __init__(
        self, plan: Plan, session: Session, look: Callable[[], HostFacts], timeouts: Timeouts, on_event: Observer
    ) -> None:
        self._plan, self._session, self._look = plan, session, look
        self._timeouts, self._tell = timeouts, on_event
        self._notes: list[str] = []

    def run(self) -> Outcome:
        before = self._look()
        if not self._plan.steps:
            return self._without_steps(before)
        (step,) = self._plan.steps
        if before.job is not None and (before.job.active or self._ran_when_planned(before.job)):
            # Joined before the plan's basis is compared: the job that runs may just have changed it.
            self._tell(Note(self._plan.host, "job", f"joining the job that runs already ({before.job})"))
            return self._finish(step, before, before.job.job_id, time.monotonic())
        changes = self._plan.basis.changes(Basis.of(before))
        if changes:
            raise PlanChangedError(
                "the server is no longer as the plan found it: " + "; ".join(printable(item, 120) for item in changes),
                host=self._plan.host,
                phase="apply",
            )
        began = time.monotonic()
        return self._finish(step, before, self._start(step, before), began)

    def _ran_when_planned(self, job: JobFacts) -> bool:
        """Whether it is the job that the plan said would be joined, and has ended since."""
        planned = self._plan.diagnosis.facts.job
        return planned is not None and planned.active and planned.job_id == job.job_id

    # --- nothing to do ----------------------------------------------------------------------------------------------

    def _without_steps(self, before: HostFacts) -> Outcome:
        """A blocked plan, or one with nothing to do: change nothing; clear away what an earlier run left behind."""
        plan = self._plan
        evidence: JobEvidence | None = None
        verification = verify(before)
        if before.job is not None and before.job.active:
            self._notes.append(f"a job of wsusfix is at work: {before.job}")
        elif before.staging.leftovers and not plan.blocked:
            left: Left | None = None
            if before.job is not None and before.job.status in (JobStatus.FINISHED, JobStatus.INTERRUPTED):
                ended = jobs.look(self._session, before.job.job_id, self._timeouts)
                left = self._collect(ended)
                evidence = self._evidence(ended, before, left)
            if left is not None or evidence is None:
                self._clean()
        message = plan.nothing if not plan.blocked else "blocked: nothing was changed"
        return Outcome(
            host=plan.host,
            message=f"nothing to do: {message}" if not plan.blocked else message,
            changed=False,
            restart_pending=verification.restart_pending,
            steps=(),
            blocked=tuple(str(reason) for reason in plan.blocked),
            verification=verification,
            evidence=evidence,
            plan_digest=plan.digest,
            before=before.wsus.dll_version,
            after=before.wsus.dll_version,
            notes=tuple(self._notes),
        )

    # --- the job ----------------------------------------------------------------------------------------------------

    def _start(self, step: InstallUpdate, before: HostFacts) -> str:
        host, package = self._plan.host, step.package
        self._tell(PhaseBegun(host, "upload", package.name))
        uploaded = upload(
            self._session,
            package.path,
            sha256=package.sha256,
            size=package.size,
            reserve=advisory.STAGING_RESERVE,
            timeouts=self._timeouts,
            on_event=self._tell,
        )
        self._tell(PhaseBegun(host, "job", "install as SYSTEM"))
        job_id, joined = jobs.start(
            self._session,
            scripts.compose("install_update"),
            self._parameters(step, uploaded.path, before),
            self._timeouts,
        )
        if joined:
            self._tell(Note(host, "job", "another controller was quicker: joining its job"))
        return job_id

    def _parameters(self, step: InstallUpdate, path: str, before: HostFacts) -> dict[str, Any]:
        session = before.session
        audit = (
            f"asked by {session.account} ({session.sid}, {session.authentication}); plan {self._plan.digest}; "
            f"package SHA-256 {step.package.sha256}"
        )
        return {
            "package": path,
            "package_sha256": step.package.sha256,
            "program": step.command.program,
            "arguments": step.command.arguments,
            "dll": before.wsus.dll_path,
            "required_version": str(advisory.FIXED_DLL),
            "roots": list(advisory.MICROSOFT_ROOTS),
            "accept_unverifiable": step.accept_unverifiable_signature,
            "signature_seconds": whole_seconds(self._timeouts.signature),
            "busy_seconds": whole_seconds(self._timeouts.busy),
            "still_seconds": whole_seconds(self._timeouts.still),
            "event_source": _EVENT_SOURCE,
            "audit": audit,
            "rename_key": advisory.RENAME_KEY,
            "rename_value": advisory.RENAME_VALUE,
        }

    def _finish(self, step: InstallUpdate, before: HostFacts, job_id: str, began: float) -> Outcome:
        job = self._follow(job_id)
        # One that never began left nothing, and is cleared away already.
        left = Left(log_tail="", logs=()) if job.status is JobStatus.NEVER_STARTED else self._collect(job)
        self._tell(PhaseBegun(self._plan.host, "verify"))
        after, verification = self._look_until_settled(job, before)
        ended = _explained(_ended(job, verification), after)
        evidence = self._evidence(job, before, left)
        if ended.status is not StepStatus.FAILED and left is not None:
            self._clean()
        elif ended.status is StepStatus.FAILED and after.staging.leftovers:
            self._notes.append(f"{after.staging.path} and the task stay for the next run, or for server.cleanup()")
        first = _version_before(job, before)
        found = after.wsus.dll_version
        return Outcome(
            host=self._plan.host,
            message=_message(ended, verification),
            changed=ended.status is not StepStatus.SKIPPED and (str(found) != first or verification.restart_pending),
            restart_pending=verification.restart_pending,
            steps=(
                StepOutcome(
                    step=step.name,
                    status=ended.status,
                    why=ended.why,
                    phase="" if ended.status is not StepStatus.FAILED else _last_phase(job),
                    hint=ended.hint,
                    seconds=round(time.monotonic() - began, 1),
                ),
            ),
            blocked=(),
            verification=verification,
            evidence=evidence,
            plan_digest=self._plan.digest,
            before=before.wsus.dll_version,
            after=found,
            notes=tuple(self._notes),
        )

    def _follow(self, job_id: str) -> Job:
        """Wait for the job's end.  One that does not begin in time is given up for good, so that it never does."""
        job = jobs.follow(self._session, job_id, self._timeouts, self._tell)
        if job.status is JobStatus.NEVER_STARTED and not self._give_up():
            # It began in the last moment.
            job = jobs.follow(self._session, job_id, self._timeouts, self._tell)
        return job

    def _give_up(self) -> bool:
        """Take away from a job that has not begun whatever it would need to; ``False`` when it just began."""
        self._tell(Note(self._plan.host, "job", "the scheduled task did not begin in time: the job is given up"))
        try:
            cleaned = jobs.cleanup(self._session, self._timeouts)
        except RefusedByServerError as error:
            if error.reason == Refusal.JOB_RUNNING.value:
                return False
            raise
        except ScriptError as error:
            self._notes.append(f"the job could not be given up, and may begin late: {error}")
        else:
            self._note_remaining(cleaned)
        return True

    def _look_until_settled(self, job: Job, before: HostFacts) -> tuple[HostFacts, Verification]:
        """Look at the server after the job; while it restarts by itself, or services come back, look again."""
        restarts = _restart_begun(job)
        deadline = time.monotonic() + (self._timeouts.lost if restarts else min(self._timeouts.lost, _SERVICES_BACK))
        pause = _FIRST_PAUSE
        while True:
            try:
                after = self._look()
            except WsusFixError as error:
                error.phase = "verify"
                gone = isinstance(error, NotReachedError | DeadlineError)
                if not (restarts and gone and error.retryable) or time.monotonic() + pause > deadline:
                    raise
            else:
                verification = verify(after, before)
                waits = (restarts and verification.restart_pending) or bool(_missing_services(verification))
                if not waits or time.monotonic() + pause > deadline:
                    return after, verification
                self._tell(Note(self._plan.host, "verify", "not settled yet, looking again"))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _collect(self, job: Job) -> Left | None:
        """Bring back the logs; ``None`` when they cannot be read, and then they stay where they are."""
        self._tell(PhaseBegun(self._plan.host, "collect"))
        try:
            return jobs.collect(self._session, job.job_id)
        except ScriptError as error:
            self._notes.append(f"the job's logs could not be read and stay on the server: {error}")
            return None

    def _clean(self) -> None:
        """Remove task and staging; failing to is worth a note, not the loss of an outcome."""
        self._tell(PhaseBegun(self._plan.host, "cleanup"))
        try:
            cleaned = jobs.cleanup(self._session, self._timeouts)
        except WsusFixError as error:
            self._notes.append(f"cleanup failed: {error}")
            self._tell(Note(self._plan.host, "cleanup", str(error)))
            return
        self._note_remaining(cleaned)

    def _note_remaining(self, cleaned: Cleanup) -> None:
        if not cleaned.clean:
            self._notes.append("left on the server: " + ", ".join(cleaned.remaining))

    def _evidence(self, job: Job, before: HostFacts, left: Left | None) -> JobEvidence:
        session = before.session
        code = job.value("exit_code")
        package = next((step.package.sha256 for step in self._plan.steps), "")
        return JobEvidence(
            job_id=job.job_id,
            account=session.account,
            account_sid=session.sid,
            authentication=session.authentication,
            plan_digest=self._plan.digest,
            package_sha256=package,
            command_line=job.value("command_line"),
            signature=job.value("signature"),
            signer=job.value("signer"),
            signed_at=job.value("signed_at"),
            exit_code=_code(code),
            dll_before=job.value("dll_before"),
            dll_after=job.value("dll_after"),
            event_logged=job.value("event_logged").lower() == "true",
            server_clock=job.last.time if job.last else "",
            controller_clock=datetime.now(timezone.utc).replace(microsecond=0),
            steps=job.steps,
            logs=left.logs if left is not None else (),
            log_tail=left.log_tail if left is not None else "",
        )


def _code(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 12 else None


def _restart_begun(job: Job) -> bool:
    """Whether the installer has said that the server restarts by itself."""
    code = _code(job.value("exit_code"))
    return code is not None and advisory.exit_code(code).meaning is advisory.ExitMeaning.RESTART_BEGUN


def _missing_services(verification: Verification) -> tuple[Check, ...]:
    """The services that ran before and do not now, where nothing else is wrong."""
    wrong = tuple(check for check in verification.checks if check.decides and not check.ok)
    return wrong if all(check.name.startswith(SERVICE_CHECK) for check in wrong) else ()


def _version_before(job: Job, before: HostFacts) -> str:
    """The DLL's version before the job: its own word when it has one, for a joined job may have changed it already."""
    return job.value("dll_before") or str(before.wsus.dll_version)


def _last_phase(job: Job) -> str:
    """The phase before the end: where it failed."""
    begun = [step.phase.value for step in job.steps if step.phase is not JobPhase.FINISHED]
    return begun[-1] if begun else "job"


def _message(ended: _Ended, verification: Verification) -> str:
    if ended.status is StepStatus.FAILED:
        return f"failed: {ended.why}"
    if verification.restart_pending:
        return "installed; a restart of the server is pending"
    return "fixed and verified" if verification.ok else "installed, but not verified"


def _ended(job: Job, verification: Verification) -> _Ended:
    """Say how a job ended. The DLL decides: an exit code of failure with the fixed DLL in place is a success."""
    match job.status:
        case JobStatus.INTERRUPTED:
            why = f"the job was interrupted in {_last_phase(job)} (restart, power, or killed)"
            if verification.ok:
                return _Ended(StepStatus.DONE, f"{why}, but the fixed DLL is in place")
            if verification.restart_pending:
                return _Ended(StepStatus.DONE, f"{why}, but the new DLL waits for a restart", _RESTART)
            return _Ended(StepStatus.FAILED, why, "run again: the server is diagnosed anew before anything is started")
        case JobStatus.NEVER_STARTED:
            return _SOMEBODY_ELSE if verification.ok else _NEVER_BEGAN
        case JobStatus.FINISHED if job.last is not None and job.last.phase is JobPhase.ABANDONED:
            return _SOMEBODY_ELSE if verification.ok else _NEVER_BEGAN
        case JobStatus.FINISHED:
            return _finished(job, verification)
        case JobStatus.NONE | JobStatus.CLAIMED | JobStatus.RUNNING:
            raise RefusedByServerError(f"the job is {job.status.value}, not ended", phase="job")


def _finished(job: Job, verification: Verification) -> _Ended:
    detail = job.value("detail")
    told = f": {detail}" if detail else ""
    match job.reason:
        case JobReason.DONE:
            return _by_exit_code(job, verification)
        case JobReason.ALREADY_FIXED:
            return _Ended(StepStatus.SKIPPED, "the DLL was fixed before the installer was to run")
        case _ if verification.ok and not job.value("exit_code"):
            # Quicker, and perhaps has cleared away what this job was to run.
            return _SOMEBODY_ELSE
        case JobReason.PACKAGE_MISSING:
            return _Ended(StepStatus.FAILED, f"the package vanished from the server{told}", "run again")
        case JobReason.PACKAGE_CHANGED:
            return _Ended(
                StepStatus.FAILED,
                f"the package on the server is no longer the one that was uploaded{told}",
                "somebody altered it: find out who before you run again",
            )
        case JobReason.SIGNATURE_INVALID:
            return _Ended(StepStatus.FAILED, f"the package's signature is not valid{told}", "use the original package")
        case JobReason.SIGNATURE_UNVERIFIABLE:
            return _Ended(
                StepStatus.FAILED,
                f"the server could not verify the package's signature{told}",
                "in a closed network, pin package_sha256 and say accept_unverifiable_signature",
            )
        case JobReason.INSTALLER_BUSY:
            return _Ended(
                StepStatus.FAILED, f"another installation ran all the time{told}", "let it end, then run again"
            )
        case JobReason.NOT_LAUNCHED:
            return _Ended(StepStatus.FAILED, f"the installer could not be started{told}", "use the original package")
        case JobReason.BROKEN | None:
            return _Ended(StepStatus.FAILED, f"the job broke off{told}", "look at the evidence, then run again")


def _explained(ended: _Ended, after: HostFacts) -> _Ended:
    """Add to a failure what the server's state says about it."""
    if ended.status is not StepStatus.FAILED:
        return ended
    policy = after.session.execution_policy
    if ended is _NEVER_BEGAN and policy.lower() in advisory.BLOCKING_POLICIES:
        why = f"{ended.why}: group policy sets the execution policy {policy}"
        return _Ended(
            ended.status, why, "have the policy set to RemoteSigned while this server is mended, then run again"
        )
    free = min(after.staging.free, after.staging.system_free)
    if free < advisory.STAGING_RESERVE:
        why = f"{ended.why}; only {bytes_text(free)} are free on the server's drive"
        return _Ended(ended.status, why, f"make room there; {ended.hint}" if ended.hint else "make room there")
    return ended


def _by_exit_code(job: Job, verification: Verification) -> _Ended:
    code = _code(job.value("exit_code"))
    known = advisory.exit_code(code) if code is not None else None
    said = f"exit code {code}: {known.text}" if known is not None else "no exit code"
    if verification.ok:
        return _Ended(StepStatus.DONE, said)
    if verification.restart_pending:
        return _Ended(StepStatus.DONE, f"{said}; the new DLL waits for a restart", _RESTART)
    if services := _missing_services(verification):
        missing = ", ".join(f"{check.name} is {check.found}" for check in services)
        return _Ended(StepStatus.FAILED, f"{said}, but {missing}", "start it, and look at the server's event log")
    if known is not None and known.meaning in _GOOD:
        return _Ended(
            StepStatus.FAILED,
            f"{said}, but the DLL is {verification.found}, not {verification.required} or higher",
            "look at the end of the installer's log: was it the right package?",
        )
    return _Ended(StepStatus.FAILED, said, known.advice if known is not None else "run again")


_RESTART: Final = "restart the server, then verify"
_NEVER_BEGAN: Final = _Ended(
    StepStatus.FAILED,
    "the scheduled task never began, and the job was given up",
    "is the Task Scheduler service running, and does policy let SYSTEM run PowerShell? then run again",
)
_SOMEBODY_ELSE: Final = _Ended(StepStatus.SKIPPED, "the DLL was fixed meanwhile by somebody else")
_GOOD: Final = (
    advisory.ExitMeaning.INSTALLED,
    advisory.ExitMeaning.RESTART_NEEDED,
    advisory.ExitMeaning.RESTART_BEGUN,
)
