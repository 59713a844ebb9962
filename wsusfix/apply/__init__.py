"""How the steps of a plan are carried out: look again, do one step after the other as a detached job, verify, clean up.

Only this room changes a server, and only through ``remote/``.  It decides nothing that ``plan`` has not decided: what a
step means is said there, and whether it worked is ``verify``'s word.  Here is the engine, which knows jobs and order;
what one kind of step needs and how its end is said, a module of its own knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from wsusfix.advisory import Product
from wsusfix.apply.backup import BackUpWork
from wsusfix.apply.install import InstallWork
from wsusfix.apply.reset import ResetWork, RestoreWork, merged, saved_by
from wsusfix.apply.restart import RestartWork, StartServicesWork
from wsusfix.apply.upgrade import CheckWork, UpgradeWork
from wsusfix.apply.working import CLEARED_AWAY, Ended, Site, Work, at_work, explained, last_phase
from wsusfix.diagnosis import removal
from wsusfix.errors import (
    AnswerError,
    ConsentError,
    PlanChangedError,
    RefusedByServerError,
    ScriptError,
    WsusFixError,
)
from wsusfix.events import Note, Observer, PhaseBegun
from wsusfix.facts import HostFacts, JobFacts
from wsusfix.facts.approvals import Saved
from wsusfix.options import Timeouts
from wsusfix.package import Package
from wsusfix.plan import (
    BackUpDatabase,
    Basis,
    Blocked,
    CheckPrerequisites,
    InstallUpdate,
    Plan,
    ResetApprovals,
    Restart,
    RestoreSettings,
    StartServices,
    Step,
    UpgradeServicePack,
)
from wsusfix.plan.common import let_it_end
from wsusfix.present import printable
from wsusfix.remote import job as jobs
from wsusfix.remote.job import Job, Left
from wsusfix.results import DatabaseBackup, JobEvidence, Outcome, StepOutcome, StepStatus, Verification
from wsusfix.scripts.contracts import JobStatus, Refusal
from wsusfix.surroundings import Surroundings, record_parameters
from wsusfix.verify import verify

if TYPE_CHECKING:
    from wsusfix.remote.session import Session

__all__ = ["apply"]

#: Clocks that differ by more are worth a note.
_CLOCKS_APART: Final = timedelta(minutes=5)


def apply(
    plan: Plan,
    session: Session,
    look: Callable[[], HostFacts],
    *,
    consent: bool,
    timeouts: Timeouts,
    on_event: Observer,
    look_around: Callable[[HostFacts], Surroundings],
) -> Outcome:
    """Carry out a plan.

    Args:
        plan: as shown to whoever consents.
        session: an open session with the plan's server.
        look: gives the server's facts anew.
        consent: that what cannot be undone may be done.
        timeouts: see :class:`~wsusfix.options.Timeouts`.
        on_event: is told what happens.
        look_around: gives what the server is like around its WSUS, anew.

    Returns:
        The outcome; a blocked plan and a failed installer are outcomes, not errors.

    Raises:
        ConsentError: the plan is irreversible and *consent* is not ``True``; nothing was sent.
        PlanChangedError: the server is no longer as the plan found it; nothing was changed.
        WsusFixError: the server could not be reached, or refused; run again, what was begun is joined.  Its ``outcome``
            tells what the steps before have done.
    """
    if plan.irreversible and consent is not True:
        raise ConsentError("the plan cannot be undone and nobody consented to it", host=plan.host, phase="apply")
    return _Road(Site(plan, session, look, timeouts, on_event, look_around)).walk()


def _packages(plan: Plan) -> list[Package]:
    """The packages that the steps of a plan need, each once."""
    found = {
        step.package.sha256: step.package
        for step in plan.steps
        if isinstance(step, InstallUpdate | CheckPrerequisites | UpgradeServicePack)
    }
    return list(found.values())


def _work(step: Step, site: Site) -> Work[Any]:
    match step:
        case InstallUpdate():
            return InstallWork(step, site)
        case CheckPrerequisites():
            return CheckWork(step, site)
        case BackUpDatabase():
            return BackUpWork(step, site)
        case UpgradeServicePack():
            return UpgradeWork(step, site)
        case Restart():
            return RestartWork(step, site)
        case StartServices():
            return StartServicesWork(step, site)
        case ResetApprovals():
            return ResetWork(step, site)
        case RestoreSettings():
            return RestoreWork(step, site)


@dataclass
class _Told:
    """What is told at the end, gathered step by step."""

    after: HostFacts
    verification: Verification | None = None
    steps: list[StepOutcome] = field(default_factory=list)
    evidence: list[JobEvidence] = field(default_factory=list)
    changed: bool = False
    message: str = ""
    saved: Saved | None = None
    logs_kept: bool = True
    blocked: tuple[Blocked, ...] = ()


def _left_by(before: HostFacts) -> list[str]:
    """The jobs whose logs were perhaps never brought back: the newest, and an upgrade before it, the older one first.

    A job that mends what an upgrade has left is newer than the upgrade, and says nothing of what setup did.
    """
    job, record = before.job, before.upgrade
    newest = job.job_id if job is not None and job.status in (JobStatus.FINISHED, JobStatus.INTERRUPTED) else ""
    earlier = record.job_id if job is not None and record is not None else ""
    return [job_id for job_id in dict.fromkeys((earlier, newest)) if job_id]


class _Road:
    """The steps of one plan, carried out in order on one server."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._plan = site.plan

    def walk(self) -> Outcome:
        before = self._site.look()
        if not self._plan.steps:
            return self._without_steps(before)
        works = [_work(step, self._site) for step in self._plan.steps]
        first = self._joins(works, before)
        changes = self._plan.basis.changes(Basis.of(before))
        if changes and first is None:
            raise PlanChangedError(
                "the server is no longer as the plan found it: " + "; ".join(printable(item, 120) for item in changes),
                host=self._site.host,
                phase="apply",
            )
        told = _Told(after=before)
        try:
            self._steps(works, first, before, told, changed=bool(changes))
        except WsusFixError as error:
            error.outcome = self._so_far(before, told)
            raise
        return self._outcome(before, told)

    def _steps(
        self, works: Sequence[Work[Any]], first: int | None, before: HostFacts, told: _Told, *, changed: bool
    ) -> None:
        """Do one step after the other; *first* is the one whose job is joined."""
        self._compare_clocks(before)
        if before.staging.leftovers:
            # Setup's logs come back before anything is cleaned up, whoever has run it; a joined job's, at its end.
            told.logs_kept = self._kept(before, told, joined=before.job if first is not None else None)
        if first is None and self._site.seconds_to_window(before) > 0:
            # Nothing is left to be sent when the window opens.
            for package in _packages(self._plan):
                self._site.upload(package)
        stop = ""
        for number, work in enumerate(works):
            if stop:
                told.steps.append(StepOutcome(work.step.name, StepStatus.NOT_BEGUN, stop))
            elif first is not None and number < first:
                told.steps.append(
                    StepOutcome(work.step.name, StepStatus.SKIPPED, "the job of a later step is at work already")
                )
            else:
                joined = before.job if number == first else None
                self._step(work, told, joined)
                following = works[number + 1] if number + 1 < len(works) else None
                stop = self._stop(told, works[first] if first is not None else None, before, changed, following)

    def _joins(self, works: Sequence[Work[Any]], before: HostFacts) -> int | None:
        """Tell the step whose job is joined: it runs, or ran when the plan was made and has ended since.

        The plan's basis is not compared then: the job that runs may just have changed it.

        Raises:
            RefusedByServerError: a job is at work that belongs to none of the steps.
        """
        job = before.job
        if job is None or not (job.active or self._ran_when_planned(job)):
            return None
        number = next((number for number, work in enumerate(works) if work.kind == job.kind), None)
        if number is not None:
            self._join(works[number], job)
        elif job.active:
            raise at_work(self._site.host, str(job), let_it_end(job))
        return number

    def _join(self, work: Work[Any], job: JobFacts) -> None:
        """Say that a step's job is joined.

        Raises:
            RefusedByServerError: it is at work for something else than the step.
        """
        if job.active and (why := work.joins(jobs.look(self._site.session, job.job_id, self._site.timeouts))):
            raise at_work(self._site.host, f"{job}, {why}")
        self._site.tell(Note(self._site.host, "job", f"joining the job that runs already ({job})"))

    def _ran_when_planned(self, job: JobFacts) -> bool:
        """Whether it is the job that the plan said would be joined, and has ended since."""
        planned = self._plan.diagnosis.facts.job
        return planned is not None and planned.active and planned.job_id == job.job_id

    def _compare_clocks(self, before: HostFacts) -> None:
        """Note a server's clock that is wrong where a maintenance window is kept by it."""
        wrong = before.clock - datetime.now(timezone.utc)
        if (self._plan.not_before or self._plan.not_after) and abs(wrong) > _CLOCKS_APART:
            note = f"the server's clock differs by {wrong.total_seconds() / 60:+.0f} min, and its window is kept by it"
            self._site.notes.append(note)
            self._site.tell(Note(self._site.host, "apply", note))

    def _stop(
        self,
        told: _Told,
        joined: Work[Any] | None,
        before: HostFacts,
        changed: bool,
        following: Work[Any] | None,
    ) -> str:
        """Say why no further step is begun, ``""`` when the road goes on."""
        last = told.steps[-1]
        if last.status is StepStatus.FAILED:
            return f"{last.step} failed"
        waits = told.after.restart_due
        if waits and following is not None and not isinstance(following, RestartWork):
            return "the server waits for a restart: restart it, then run again"
        upgraded = any(isinstance(step, UpgradeServicePack) for step in self._plan.steps)
        last_of_all = upgraded and following is None and not waits and not told.after.restart.pending
        if told.after.wsus.product is Product.RTM and (isinstance(following, InstallWork) or last_of_all):
            told.message = f"not upgraded: WSUS is still {told.after.wsus.version_raw}"
            return "WSUS was not upgraded: read setup's logs, then plan again"
        if joined is not None and changed and not (before.job is not None and self._ran_when_planned(before.job)):
            # Somebody else began that job, on a server that is not the one that was planned for.
            return "the server is no longer as the plan found it: plan again"
        return ""

    # --- nothing to do ----------------------------------------------------------------------------------------------

    def _without_steps(self, before: HostFacts) -> Outcome:
        """A blocked plan, or one with nothing to do: change nothing; clear away what an earlier run left behind."""
        plan, site, first = self._plan, self._site, before
        at_work = before.job if before.job is not None and before.job.active else None
        told = _Told(after=before, verification=verify(before))
        if at_work is not None and not plan.blocked and not at_work.waits_for_window:
            # Of an earlier run, or of another controller: what it has reached already says nothing of its end.
            site.tell(Note(site.host, "job", f"waiting for the job that runs already ({at_work})"))
            restarts = self._follow(at_work.job_id, before).restarts
            at_work = None
            gone = site.timeouts.restart if restarts else None
            before, told.verification = site.settled(first, restarts=True, gone=gone)
            told.after = before
            told.changed = (before.wsus.version_raw, before.wsus.dll_version) != (
                first.wsus.version_raw,
                first.wsus.dll_version,
            )
        if at_work is not None:
            site.notes.append(f"a job of wsusfix is at work: {at_work}")
        else:
            told.logs_kept = not before.staging.leftovers or self._kept(before, told)
            if plan.removal_meant and told.logs_kept:
                site.clean(removal_meant=True)
                before = told.after = site.look()
                told.verification = verify(before)
            elif before.staging.leftovers and told.logs_kept and not plan.blocked:
                site.clean()
        told.message = f"nothing to do: {plan.nothing}"
        if plan.nothing and told.verification is not None and not told.verification.ok:
            told.message = "nothing was left to do when it was planned, and the server is not well now: plan again"
        if plan.blocked:
            told.message = "blocked: nothing was changed"
        if before.removed:
            # Whoever comes after nobody has watched: what happened comes first.
            told.message = "; ".join(removal(before))
            record = before.upgrade
            if record is not None and record.backup and site.backup is None:
                site.backup = DatabaseBackup(path=record.backup, size=None)
        return self._outcome(first, told)

    def _kept(self, before: HostFacts, told: _Told, joined: JobFacts | None = None) -> bool:
        """Bring back what earlier runs' jobs left; whether everything may be cleared away then."""
        left = [job_id for job_id in _left_by(before) if joined is None or job_id != joined.job_id]
        # Each of them, whatever becomes of the others.
        whole = [self._brought_back(job_id, before, told) for job_id in left]
        return all(whole)

    def _brought_back(self, job_id: str, before: HostFacts, told: _Told) -> bool:
        try:
            ended = jobs.look(self._site.session, job_id, self._site.timeouts)
        except AnswerError as error:
            self._site.notes.append(f"an earlier job cannot be read, and stays on the server: {error}")
            return False
        if ended.status not in (JobStatus.FINISHED, JobStatus.INTERRUPTED):
            return True
        left = self._site.collect(ended)
        told.evidence.append(self._site.evidence(ended, before, left))
        # A reset that nobody saw the end of: what it took away is told by whoever comes next.
        told.saved = merged(told.saved, saved_by(ended, before))
        if ended.value("backup"):
            # An upgrade that nobody saw the end of: its backup stays, and whoever comes next is told.
            self._site.backup = DatabaseBackup(path=ended.value("backup"), size=None)
        return left is not None

    # --- a step -----------------------------------------------------------------------------------------------------

    def _step(self, work: Work[Any], told: _Told, joined: JobFacts | None) -> None:
        began = time.monotonic()
        if joined is None and work.looks_anew:
            told.after = self._site.look()
        before = told.after
        if joined is None and before.job is not None and before.job.active and before.job.kind == work.kind:
            # Another controller has begun it meanwhile: what its job has reached already says nothing of its end.
            joined = before.job
            self._join(work, joined)
        if joined is None and (why := work.reached(before)):
            told.steps.append(StepOutcome(work.step.name, StepStatus.SKIPPED, why))
            return
        if joined is None and (blocked := work.obstacles(before)):
            self._blocked(work, told, blocked)
            return
        job = self._follow(joined.job_id if joined is not None else self._start(work, before), before, work.patience)
        if job.status is JobStatus.NONE:
            self._cleared_away(work, told, job)
            return
        left = None if work.settles_first else self._collected(job)
        self._site.tell(PhaseBegun(self._site.host, "verify"))
        told.after, told.verification = work.settle(job, before)
        if work.settles_first:
            left = self._collected(job)
        ended = explained(work.ended(job, told.verification), told.after)
        told.evidence.append(work.evidence(job, before, left))
        told.logs_kept = told.logs_kept and left is not None
        changed_before, said_before = told.changed, told.message
        if ended.status is not StepStatus.SKIPPED:
            told.changed = told.changed or work.changed(job, before, told.after, told.verification)
        message = work.message(ended, told.verification)
        # What was done before is not forgotten for what failed after it.
        told.message = f"{said_before}; then {message}" if changed_before and message.startswith("failed") else message
        told.saved = merged(told.saved, work.saved(job, told.after))
        told.steps.append(
            StepOutcome(
                step=work.step.name,
                status=ended.status,
                why=ended.why,
                phase="" if ended.status is not StepStatus.FAILED else work.phase(job),
                hint=ended.hint,
                seconds=round(time.monotonic() - began, 1),
            )
        )

    def _cleared_away(self, work: Work[Any], told: _Told, job: Job) -> None:
        """Another controller of the same job was quicker to see its end: what the server is like now decides."""
        self._site.tell(PhaseBegun(self._site.host, "verify"))
        before = told.after
        told.after, told.verification = self._site.settled(before, restarts=work.settles_first)
        told.changed = (
            told.changed
            or (told.verification.ok and not verify(before).ok)
            or work.changed(job, before, told.after, told.verification)
        )
        told.saved = merged(told.saved, work.saved(job, told.after))
        ended = CLEARED_AWAY
        if work.holds(told.after, told.verification):
            ended = Ended(StepStatus.SKIPPED, "somebody else has seen the job end, and has cleared it away")
        told.message = work.message(ended, told.verification)
        phase = last_phase(job) if ended.status is StepStatus.FAILED else ""
        told.steps.append(StepOutcome(work.step.name, ended.status, ended.why, phase=phase, hint=ended.hint))

    def _blocked(self, work: Work[Any], told: _Told, blocked: tuple[Blocked, ...]) -> None:
        """The server is no longer as the plan found it, and what is in the way now was not then."""
        why = "; ".join(each.reason for each in blocked)
        hint = "; ".join(dict.fromkeys(each.unblock for each in blocked))
        told.blocked = blocked
        told.message = f"blocked before {work.step.name}, which was not begun: {why}"
        told.steps.append(StepOutcome(work.step.name, StepStatus.FAILED, why, phase="surroundings", hint=hint))

    def _collected(self, job: Job) -> Left | None:
        # One that never began left nothing, and is cleared away already.
        return Left(log_tail="", logs=()) if job.status is JobStatus.NEVER_STARTED else self._site.collect(job)

    def _start(self, work: Work[Any], before: HostFacts) -> str:
        site = self._site
        parameters = work.parameters(before)
        site.tell(PhaseBegun(site.host, "job", f"{work.kind.replace('_', ' ')} as SYSTEM"))
        started = site.start(work.kind, parameters)
        if started.kind != work.kind:
            raise at_work(site.host, f"{started.job_id} ({started.kind})")
        if started.joined:
            site.tell(Note(site.host, "job", "another controller was quicker: joining its job"))
        return started.job_id

    def _follow(self, job_id: str, before: HostFacts, patience: float | None = None) -> Job:
        """Wait for the job's end.  One that does not begin in time is given up for good, so that it never does."""
        site = self._site
        job = site.follow(job_id, before, patience)
        if job.status is JobStatus.NEVER_STARTED and not self._give_up():
            # It began in the last moment.
            job = site.follow(job_id, before, patience)
        return job

    def _give_up(self) -> bool:
        """Take away from a job that has not begun whatever it would need to; ``False`` when it just began."""
        site = self._site
        site.tell(Note(site.host, "job", "the scheduled task did not begin in time: the job is given up"))
        try:
            cleaned = jobs.cleanup(site.session, site.timeouts, record_parameters())
        except RefusedByServerError as error:
            if error.reason == Refusal.JOB_RUNNING.value:
                return False
            raise
        except ScriptError as error:
            site.notes.append(f"the job could not be given up, and may begin late: {error}")
        else:
            site.note_remaining(cleaned)
        return True

    # --- the end ----------------------------------------------------------------------------------------------------

    def _outcome(self, before: HostFacts, told: _Told) -> Outcome:
        verification = told.verification or verify(told.after, before)
        failed = any(step.status is StepStatus.FAILED for step in told.steps)
        if self._plan.steps:
            if not failed and told.logs_kept:
                self._site.clean()
            elif failed and told.after.staging.leftovers:
                self._site.notes.append(
                    f"{told.after.staging.path} and the task stay for the next run, or for server.cleanup()"
                )
        return self._told(before, told, verification, told.message or "nothing was left to do")

    def _so_far(self, before: HostFacts, told: _Told) -> Outcome | None:
        """What was done before an error ended it; nothing more is asked of the server, and nothing of it is proof."""
        if not (told.steps or told.evidence):
            return None
        return self._told(before, told, None, f"{told.message or 'nothing was done'}; then an error ended it")

    def _told(self, before: HostFacts, told: _Told, verification: Verification | None, message: str) -> Outcome:
        afterwards = self._plan.afterwards if verification is not None and not verification.ok else ()
        return Outcome(
            host=self._site.host,
            message=message,
            changed=told.changed,
            restart_pending=told.after.restart_due if verification is None else verification.restart_pending,
            steps=tuple(told.steps),
            blocked=tuple(str(reason) for reason in (*self._plan.blocked, *told.blocked, *afterwards)),
            verification=verification,
            evidence=(*told.evidence, *self._site.beside),
            plan_digest=self._plan.digest,
            before=before.wsus.dll_version,
            after=told.after.wsus.dll_version,
            notes=tuple(self._site.notes),
            backup=self._site.backup,
            saved=told.saved,
        )
