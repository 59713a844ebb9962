"""How approvals are reset: the job's parameters, its end explained, and what it saved brought back.

What the server is like decides whether it worked: the marker, the updates, the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from wsusfix.apply.working import NEVER_BEGAN, WINDOW_OVER, Ended, Site, Work, last_phase, withdrawn
from wsusfix.errors import RefusedByServerError
from wsusfix.facts import HostFacts
from wsusfix.facts.approvals import Saved
from wsusfix.options import whole_seconds
from wsusfix.plan import ResetApprovals, RestoreSettings
from wsusfix.present import counted
from wsusfix.remote.job import Job
from wsusfix.results import StepStatus, Verification
from wsusfix.scripts.contracts import KEPT_NAME, RESET_APPROVALS, JobPhase, JobReason, JobStatus, ResetState

__all__ = ["ResetWork", "RestoreWork", "merged", "saved_by"]

_AGAIN: Final = "run again: what was switched is put back first, from what was recorded before the switch"

#: Nobody could show that WSUS takes this from a program; from its console it does (the advisory).
_BY_HAND: Final = (
    "in the console of WSUS: approve the update, change nothing, choose OK, and decline it again; or upgrade "
    "(rtm='upgrade')"
)


def saved_by(job: Job, facts: HostFacts) -> Saved | None:
    """Return what this very job saved, as the server keeps it."""
    saved = facts.approvals.saved if facts.approvals is not None else None
    return saved if saved is not None and saved.job_id == job.job_id else None


def merged(earlier: Saved | None, later: Saved | None) -> Saved | None:
    """Return what two jobs of one road saved as one: of what both saved, the later one tells."""
    if earlier is None or later is None:
        return later or earlier
    approvals = tuple(each for each in earlier.approvals if each not in later.approvals)
    return replace(later, approvals=(*approvals, *later.approvals), whole=earlier.whole and later.whole)


def _parameters(site: Site, before: HostFacts, revisions: Mapping[str, str]) -> dict[str, Any]:
    return {
        **site.common(before),
        "kept_name": KEPT_NAME,
        "revisions": dict(revisions),
        "ready_seconds": whole_seconds(site.timeouts.busy),
        "restore_seconds": whole_seconds(site.timeouts.restore),
    }


class ResetWork(Work[ResetApprovals]):
    """The step ``ResetApprovals`` being carried out."""

    kind = RESET_APPROVALS.name

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Say which updates are treated, in the revisions that were planned for."""
        return _parameters(self.site, before, {update.id: str(update.revision) for update in self.step.updates})

    def holds(self, facts: HostFacts, verification: Verification) -> bool:
        """Whether the marker has all updates of the step: another run's job may be about others."""
        marker = facts.approvals.marker if facts.approvals is not None else None
        marked = set() if marker is None else set(marker.updates)
        return verification.ok and {update.id for update in self.step.updates} <= marked

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say how the job ended; what the server is like counts for more than what the job said."""
        ended = _ended(job, lambda: self._finished(job, verification))
        if ended.status is StepStatus.FAILED and verification.ok and not self._left_out(job):
            return Ended(StepStatus.DONE, f"{ended.why}, but the reset is proved by its marker")
        return ended

    def phase(self, job: Job) -> str:
        """Return the phase in which it failed: before the way back, which is gone whatever fails."""
        return last_phase(job, JobPhase.RESTORING, JobPhase.RESTORED)

    def _left_out(self, job: Job) -> tuple[str, ...]:
        """The updates of the plan that the job has not treated: one that was joined may be about others."""
        done = {step.values.get("update_id", "") for step in job.steps if step.phase is JobPhase.TREATED}
        return tuple(str(update) for update in self.step.updates if update.id not in done)

    def _finished(self, job: Job, verification: Verification) -> Ended:
        if job.reason is JobReason.DONE and (left_out := self._left_out(job)):
            why = f"the job that was joined was another run's, which has not treated {', '.join(left_out)}"
            return Ended(StepStatus.FAILED, why, "run again")
        return _finished(job, verification)

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """Whether an update was touched, or something switched."""
        return any(step.phase in _CHANGES for step in job.steps)

    def message(self, ended: Ended, verification: Verification) -> str:
        """Say what came of it."""
        if ended.status is StepStatus.FAILED:
            return f"failed: {ended.why}"
        if verification.ok:
            return "worked around and verified; the fault is still in the product"
        return "the approvals were reset, but not verified"

    def saved(self, job: Job, after: HostFacts) -> Saved | None:
        """Return what this very job saved; or what the run had saved that was cut off, where it came to no more."""
        found = saved_by(job, after) or _saved_earlier(job, after)
        begun = next((step.values for step in job.steps if step.phase is JobPhase.SAVED), None)
        if begun is not None and (found is None or found.job_id != job.job_id):
            record, given = (begun.get(key, "?") for key in ("record", "approvals"))
            self.site.notes.append(
                f"what job {job.job_id} saved could not be read back ({given} approvals): it lies in the server's "
                f"Windows folder, in record {record} of {KEPT_NAME}"
            )
        return found


class RestoreWork(Work[RestoreSettings]):
    """The step ``RestoreSettings`` being carried out."""

    kind = RESET_APPROVALS.name

    def reached(self, facts: HostFacts) -> str:
        """Say that nothing is open any more."""
        return "" if facts.reset is ResetState.OPEN else "nothing of an earlier run is open any more"

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Name no update: the job goes the way back, and nothing else."""
        return _parameters(self.site, before, {})

    def holds(self, facts: HostFacts, verification: Verification) -> bool:
        """A way back is gone, whatever else is to be mended."""
        return verification.ok or bool(self.reached(facts))

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say how the job ended."""
        return _ended(job, lambda: _restored(job))

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """Whether something was put back."""
        return any(step.phase in _CHANGES for step in job.steps)

    def saved(self, job: Job, after: HostFacts) -> Saved | None:
        """Return what the run had saved that was cut off."""
        return _saved_earlier(job, after)

    def message(self, ended: Ended, verification: Verification) -> str:
        """Say what came of it."""
        if ended.status is StepStatus.FAILED:
            return f"failed: {ended.why}"
        rest = "; what else is to be done is blocked" if self.site.plan.afterwards and not verification.ok else ""
        return f"restored what an earlier run had switched{rest}"


#: After these something on the server is other than it was.
_CHANGES: Final = frozenset(
    {
        JobPhase.RESTORED_FIRST,
        JobPhase.SUSPENDED,
        JobPhase.SWITCHED,
        JobPhase.DECLINED,
        JobPhase.APPROVED,
        JobPhase.TREATED,
        JobPhase.MARKED,
    }
)


def _put_back(job: Job) -> bool:
    """Whether the job has gone the way back of an earlier run."""
    return any(step.phase is JobPhase.RESTORED_FIRST for step in job.steps)


def _saved_earlier(job: Job, facts: HostFacts) -> Saved | None:
    """Return what the run had saved whose way back this job has gone."""
    return facts.approvals.saved if _put_back(job) and facts.approvals is not None else None


def _ended(job: Job, finished: Callable[[], Ended]) -> Ended:
    match job.status:
        case JobStatus.INTERRUPTED:
            return Ended(
                StepStatus.FAILED, f"the job was interrupted in {last_phase(job)} (restart, power, or killed)", _AGAIN
            )
        case JobStatus.NEVER_STARTED:
            return NEVER_BEGAN
        case JobStatus.FINISHED if job.last is not None and job.last.phase is JobPhase.ABANDONED:
            return NEVER_BEGAN
        case JobStatus.FINISHED:
            return finished()
        case JobStatus.NONE | JobStatus.CLAIMED | JobStatus.RUNNING:
            raise RefusedByServerError(f"the job is {job.status.value}, not ended", phase="job")


def _finished(job: Job, verification: Verification) -> Ended:
    if job.reason is not JobReason.DONE:
        return _failed(job)
    treated, saved = (_number(job.value(key)) for key in ("treated", "approvals"))
    said = f"{counted(treated, 'update')} reset, {counted(saved, 'approval')} saved"
    if verification.ok:
        return Ended(StepStatus.DONE, said)
    wrong = "; ".join(f"{check.name}: {check.found}" for check in verification.checks if check.decides and not check.ok)
    return Ended(StepStatus.FAILED, f"{said}, but {wrong}", "mend that, then verify")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0


def _restored(job: Job) -> Ended:
    if job.reason is not JobReason.DONE:
        return _failed(job)
    return Ended(StepStatus.DONE, "put back from the record" if _put_back(job) else "nothing was open any more")


def _failed(job: Job) -> Ended:
    detail = job.value("detail")
    told = f": {detail}" if detail else ""
    earlier = "; what an earlier run had switched was put back" if _put_back(job) else ""
    untouched = f"{earlier}, and no update was touched" if earlier else "; nothing was changed"
    match job.reason:
        case JobReason.WINDOW_OVER if earlier:
            return Ended(WINDOW_OVER.status, f"the maintenance window was over{untouched}", WINDOW_OVER.hint)
        case JobReason.WINDOW_OVER:
            return WINDOW_OVER
        case JobReason.WITHDRAWN:
            return withdrawn(job, untouched.removeprefix("; "))
        case JobReason.KEPT_REFUSED:
            why, hint = "the folder that keeps what is saved is not closed as it must be", "find out who made it"
        case JobReason.NOT_WSUS_ADMINISTRATOR:
            why = "SYSTEM is no administrator of WSUS here"
            hint = "apply the workaround by hand in the console (decline, approve, decline)"
        case JobReason.WSUS_NOT_READY:
            why, hint = "a synchronisation or somebody's saving ran all the time", "let it end, then run again"
        case JobReason.UPDATES_CHANGED:
            why = "an update has another revision than was planned for, or other approvals than were saved"
            hint, untouched = "plan again", _before_it(job, untouched)
        case JobReason.TOO_MANY_APPROVALS:
            why, hint = "there are more approvals than can be saved", "apply the workaround by hand in the console"
        case JobReason.NOT_SWITCHED:
            why = "the replica could not be switched, and is as it was"
            hint, untouched = "see what WSUS is doing, then run again", f"{earlier}; no update was touched"
        case JobReason.RESET_REFUSED:
            why, hint = "WSUS did not let an update be approved for nothing", _BY_HAND
            untouched = "; it is declined, the settings are as before, and what was saved is kept"
        case JobReason.NOT_TREATED:
            why, hint, untouched = "an update did not stay as it was set; the settings are as before", "run again", ""
        case JobReason.NOT_RESTORED:
            why, hint, untouched = "WHAT WAS SWITCHED COULD NOT BE PUT BACK", _AGAIN, ""
        case _:
            why, hint = "the job broke off", "look at the evidence, then run again"
            untouched = _after_breaking(job, untouched)
    return Ended(StepStatus.FAILED, f"{why}{told}{untouched}", hint)


def _before_it(job: Job, untouched: str) -> str:
    """Say of an update that has changed meanwhile what was done before that was seen."""
    if all(step.phase is not JobPhase.SAVED for step in job.steps):
        return untouched
    before = _number(job.value("treated"))
    done = f"; {counted(before, 'update')} before it reset" if before else ""
    return f"; it was not touched, and the settings are as before{done}"


def _after_breaking(job: Job, untouched: str) -> str:
    """Say of a job that broke off how it left the server."""
    begun = {step.phase for step in job.steps}
    if JobPhase.SAVED not in begun:
        return untouched
    if JobPhase.RESTORED in begun:
        return "; the settings are as before, and what was saved is kept"
    return "; the settings may be other than before: the next run puts them back first"
