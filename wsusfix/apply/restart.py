"""How the server is restarted and waited for, and how what a cut-off upgrade had stopped is started again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from wsusfix.apply.upgrade import start_parameters
from wsusfix.apply.working import NEVER_BEGAN, WINDOW_OVER, Ended, Work, never_began
from wsusfix.errors import DeadlineError, NotReachedError, WsusFixError
from wsusfix.events import Note
from wsusfix.facts import HostFacts
from wsusfix.options import whole_seconds
from wsusfix.plan import Restart, StartServices
from wsusfix.remote import job as jobs
from wsusfix.remote.job import Job
from wsusfix.results import StepStatus, Verification
from wsusfix.scripts.contracts import RESTART, START_SERVICES, JobPhase, JobReason

__all__ = ["RestartWork", "StartServicesWork"]

#: How long whoever is logged on is told of the restart before it begins, in seconds.
_DELAY: Final = 10
_TEXT: Final = "wsusfix restarts this server to finish the work on WSUS that was asked for."
#: A boot time may be told a little differently from one look to the next, and much when the clock was corrected.
_SAME_BOOT: Final = timedelta(seconds=60)
_ROUNDED: Final = timedelta(seconds=2)
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0


class RestartWork(Work[Restart]):
    """The step ``Restart`` being carried out."""

    kind = RESTART.name
    settles_first = True
    _restarted = False

    def reached(self, facts: HostFacts) -> str:
        """Nothing is to be done where nothing waits for a restart."""
        waits = facts.restart.concerns(facts.wsus.dll_path) or self.site.restart_asked
        return "" if waits else "no restart is needed"

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Say what whoever is logged on is told."""
        return {
            **self.site.common(before),
            "busy_seconds": whole_seconds(self.site.timeouts.busy),
            "text": _TEXT,
            "delay_seconds": _DELAY,
        }

    def settle(self, job: Job, before: HostFacts) -> tuple[HostFacts, Verification]:
        """Wait until the server has restarted and can be reached again, and then for its services."""
        began = next((_time(step.time) for step in job.steps if step.phase is JobPhase.RESTARTING), None)
        if began is not None and job.reason in (JobReason.DONE, None):
            self._restarted = self._wait(before, began)
            self.site.restart_asked = self.site.restart_asked and not self._restarted
        return self.site.settled(before, restarts=True)

    def _wait(self, before: HostFacts, began: datetime) -> bool:
        """Whether the server has restarted within the time it is given."""
        deadline = time.monotonic() + self.site.timeouts.restart
        pause = _FIRST_PAUSE
        while True:
            try:
                boot = self.site.look().boot_time
            except WsusFixError as error:
                error.phase = "restart"
                if not isinstance(error, NotReachedError | DeadlineError) or time.monotonic() + pause > deadline:
                    raise
            else:
                if abs(boot - before.boot_time) > _SAME_BOOT or boot >= began - _ROUNDED:
                    return True
                if time.monotonic() + pause > deadline:
                    return False
            self.site.tell(Note(self.site.host, "restart", "waiting for the server to restart"))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say whether the server has restarted."""
        if never_began(job):
            return NEVER_BEGAN
        if self._restarted:
            if verification.restart_pending:
                why = "the server has restarted, but the new DLL still waits for a restart"
                return Ended(StepStatus.FAILED, why, "look at PendingFileRenameOperations on the server")
            return Ended(StepStatus.DONE, "the server has restarted")
        detail = job.value("detail")
        told = f": {detail}" if detail else ""
        match job.reason:
            case JobReason.WINDOW_OVER:
                return WINDOW_OVER
            case JobReason.INSTALLER_BUSY:
                return Ended(StepStatus.FAILED, "another installation ran all the time", "let it end, then run again")
            case JobReason.NOT_RESTARTED:
                return Ended(
                    StepStatus.FAILED, f"Windows refused to restart{told}", "restart it by hand, then run again"
                )
            case JobReason.DONE:
                why = f"the server had not restarted after {self.site.timeouts.restart:.0f} s"
                return Ended(StepStatus.FAILED, why, "does a program keep it from restarting? then run again")
            case _:
                return Ended(StepStatus.FAILED, f"the job broke off{told}", "run again")

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """Whether the restart has exchanged the DLL."""
        return before.wsus.dll_version != after.wsus.dll_version

    def message(self, ended: Ended, verification: Verification) -> str:
        """Say what came of it."""
        if ended.status is StepStatus.FAILED:
            return f"failed: {ended.why}"
        return "restarted; fixed and verified" if verification.ok else "restarted"


class StartServicesWork(Work[StartServices]):
    """The step ``StartServices`` being carried out."""

    kind = START_SERVICES.name

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Read what the upgrade wrote down before it stopped anything."""
        cut = jobs.look(self.site.session, self.step.job_id, self.site.timeouts)
        return start_parameters(self.site, cut, before)

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say what runs again."""
        if never_began(job):
            return NEVER_BEGAN
        left = job.value("not_started") or job.value("detail")
        if job.reason is JobReason.DONE and not left:
            return Ended(StepStatus.DONE, "what the upgrade had stopped runs again")
        return Ended(StepStatus.FAILED, f"not all runs again: {left or 'the job broke off'}", "start it by hand")

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """Nothing of the server's software is changed."""
        return False

    def message(self, ended: Ended, verification: Verification) -> str:
        """Say what came of it."""
        if ended.status is StepStatus.FAILED:
            return f"failed: {ended.why}"
        return f"{ended.why}; plan again"


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
