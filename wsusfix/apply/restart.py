"""How the server is restarted and waited for, and how what a cut-off upgrade had stopped is started again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from wsusfix.apply.upgrade import start_parameters, still_asks
from wsusfix.apply.working import NEVER_BEGAN, Ended, Work, last_phase, never_began, withdrawn
from wsusfix.diagnosis import removal
from wsusfix.errors import AnswerError, DeadlineError, NotReachedError, ScriptError, WsusFixError
from wsusfix.events import Note
from wsusfix.facts import HostFacts, RestartRecord, UpgradeRecord
from wsusfix.options import whole_seconds
from wsusfix.plan import Restart, StartServices
from wsusfix.present import printable
from wsusfix.remote import job as jobs
from wsusfix.remote.job import Job
from wsusfix.results import DatabaseBackup, StepStatus, Verification
from wsusfix.scripts.contracts import KEPT_NAME, RESTART, START_SERVICES, JobPhase, JobReason, JobStatus
from wsusfix.surroundings import Site, Surroundings, service_roots

__all__ = ["RestartWork", "StartServicesWork"]

#: How long whoever is logged on is told of the restart before it begins, in seconds.
_DELAY: Final = 10
_TEXT: Final = "wsusfix restarts this server to finish the work on WSUS that was asked for."
_KEPT_UP: Final = "does a program keep it from restarting, or has somebody called it off? then run again"
#: Clock and boot time are told in whole seconds, and a look takes a moment.
_ROUNDED: Final = 2.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0


class RestartWork(Work[Restart]):
    """The step ``Restart`` being carried out."""

    kind = RESTART.name
    settles_first = True
    looks_anew = True
    _restarted = False
    #: When the order was given from here, by the controller's own steady clock; ``None`` for a job that is joined.
    _ordered: float | None = None
    #: What ran of IIS and WSUS before the order, for a restart that comes before its job has written that down;
    #: ``None`` where nobody looked.
    _around: Surroundings | None = None
    #: What of it does not run again.
    _stopped: str = ""

    def reached(self, facts: HostFacts) -> str:
        """Nothing is to be done where nothing waits for a restart."""
        record = facts.upgrade
        told = None if record is None else record.setup or record.ended
        since = told is not None and facts.boot_time >= told
        asked = facts.restart_asked or (self.site.restart_asked and not since)
        waits = facts.restart.concerns(facts.wsus.dll_path) or asked
        return "" if waits else "no restart is needed"

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Say what whoever is logged on is told."""
        self._around = self._looked_around(before)
        if self._around is not None and _uptime(self.site.look()) + _ROUNDED < _uptime(before):
            self._around = None  # somebody else's restart came in between: that was not how it is to be again
        self._ordered = time.monotonic()
        return {
            **self.site.common(before),
            "busy_seconds": whole_seconds(self.site.timeouts.busy),
            "kept_name": KEPT_NAME,
            "service_roots": service_roots(),
            "text": _TEXT,
            "delay_seconds": _DELAY,
            "restart_seconds": _DELAY + whole_seconds(self.site.timeouts.restart),
        }

    def settle(self, job: Job, before: HostFacts) -> tuple[HostFacts, Verification]:
        """Wait until the server has restarted and can be reached again, and then for its services."""
        began = next((_time(step.time) for step in job.steps if step.phase is JobPhase.RESTARTING), None)
        cut = job.status is JobStatus.INTERRUPTED
        if cut or job.restarts:
            since = time.monotonic() if self._ordered is None else self._ordered
            self._restarted = self._wait(before, began, since, wait=began is not None)
            self.site.restart_asked = self.site.restart_asked and not self._restarted
        after, verification = self.site.settled(before, restarts=True)
        if self._restarted and self._start_again(job, after):
            after, verification = self.site.settled(before)
        return after, verification

    def _looked_around(self, facts: HostFacts) -> Surroundings | None:
        try:
            return self.site.look_around(facts)
        except WsusFixError:
            return None  # the restart does not depend on it

    def _lists(self, job: Job, facts: HostFacts) -> dict[str, str] | None:
        """What ran before the restart: by what its job wrote down, else by a look from here; ``None`` if by neither."""
        if facts.ran is not None and facts.ran.job_id == job.job_id:
            return _record_lists(facts.ran)
        around = self._around
        if around is None:
            return None
        return {
            "services": "/".join(around.services),
            "sites": "/".join(site.number for site in around.running_sites),
            "idle_sites": "/".join(site.number for site in around.sites if not site.running),
        }

    def _start_again(self, job: Job, facts: HostFacts) -> bool:
        """Start what ran before the restart and does not start by itself; whether there was anything to do."""
        lists, now = self._lists(job, facts), self._looked_around(facts)
        if lists is None or (now is None and "ran" not in lists):
            self.site.notes.append("nobody could tell whether all of IIS and WSUS runs again that ran before")
            return False
        missing = _missing(lists, now) if now is not None else []
        if not missing and "ran" not in lists:
            return False
        named = printable(", ".join(missing))
        parameters = {
            **start_parameters(self.site, facts, lists, ""),
            "audit": self.site.audit(facts, "what ran before the restart"),
        }
        try:
            ended = self.site.run_job(START_SERVICES.name, parameters, facts)
        except WsusFixError as error:
            # Another controller may have been quicker, and have cleared the job away already.
            again = self._looked_around(facts)
            if again is None or _missing(lists, again):
                self._stopped = f"{named or 'nobody knows what'} ({error})"
            return True
        self.site.beside.append(self.site.evidence(ended, facts, None))
        left = ended.value("not_started") or ended.value("detail")
        if ended.reason is not JobReason.DONE or left:
            self._stopped = left or named or "the job that was to see to it broke off"
        elif missing:
            self.site.notes.append(f"after the restart it is again as before: {named}")
        return True

    def _wait(self, before: HostFacts, began: datetime | None, since: float, *, wait: bool) -> bool:
        """Whether the server has restarted within the time it is given; what was not ordered is not waited for.

        For how long a server has been up is told by clock and boot time of one and the same look, so that a clock that
        is corrected meanwhile makes no difference.  Without a restart it grows as fast as time passes.
        """
        up = _uptime(before)
        if self._ordered is None and began is not None:
            # Somebody else's order, perhaps carried out before anybody looked.
            if up + _ROUNDED < (before.clock - began).total_seconds():
                return True

        def has_restarted() -> bool:
            asked = time.monotonic()
            try:
                looked = self.site.look()
            except WsusFixError as error:
                error.phase = "restart"
                raise
            return _uptime(looked) + _ROUNDED < up + (asked - since) or _exchanged(before, looked)

        def tell(_: object) -> None:
            self.site.tell(Note(self.site.host, "restart", "waiting for the server to restart"))

        import tenacity  # like pypsrp, not before a server is talked to

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((NotReachedError, DeadlineError))
            | tenacity.retry_if_result(lambda restarted: wait and not restarted),
            wait=tenacity.wait_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
            stop=tenacity.stop_before_delay(self.site.timeouts.restart),
            before_sleep=tell,
            retry_error_callback=lambda state: state.outcome is not None and state.outcome.result(),
        )
        return bool(retrying(has_restarted))

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say whether the server has restarted."""
        if never_began(job):
            return NEVER_BEGAN
        if self._restarted:
            if verification.restart_pending:
                why = "the server has restarted, but the new DLL still waits for a restart"
                return Ended(StepStatus.FAILED, why, "look at PendingFileRenameOperations on the server")
            if self._stopped:
                why = f"the server has restarted, but what ran before does not run again: {self._stopped}"
                return Ended(StepStatus.FAILED, why, "start it by hand, then run again")
            early = job.status is JobStatus.INTERRUPTED and last_phase(job) != JobPhase.RESTART_ORDERED.value
            cut = f" (which cut off the job in {last_phase(job)})" if early else ""
            return Ended(StepStatus.DONE, f"the server has restarted{cut}")
        if job.status is JobStatus.INTERRUPTED:
            why = f"the job was interrupted in {last_phase(job)} (killed?), and the server has not restarted"
            return Ended(StepStatus.FAILED, why, "run again")
        if job.restarts:
            why = f"the server had not restarted after {self.site.timeouts.restart:.0f} s"
            return Ended(StepStatus.FAILED, why, _KEPT_UP)
        detail = job.value("detail")
        told = f": {detail}" if detail else ""
        match job.reason:
            case JobReason.WINDOW_OVER:
                why = "the maintenance window was over: what was installed stays, only the restart is missing"
                return Ended(StepStatus.FAILED, why, "restart the server, or give a later not_after; then run again")
            case JobReason.WITHDRAWN:
                return withdrawn(job, "what was installed stays, only the restart is missing")
            case JobReason.INSTALLER_BUSY:
                return Ended(StepStatus.FAILED, "another installation ran all the time", "let it end, then run again")
            case JobReason.NOT_RESTARTED:
                return Ended(
                    StepStatus.FAILED, f"Windows refused to restart{told}", "restart it by hand, then run again"
                )
            case JobReason.STILL_UP:
                why = "Windows took the order to restart and had not carried it out when the job gave it up"
                return Ended(StepStatus.FAILED, why, _KEPT_UP)
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

    _after: HostFacts | None = None

    def holds(self, facts: HostFacts, verification: Verification) -> bool:
        """Whether nobody has to start anything any more, whatever else is to be mended."""
        return not facts.standing_still and not facts.restarted_unseen

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Take what was written down before anything was stopped."""
        record = self.step.record
        asked = isinstance(record, UpgradeRecord) and self._asked(record, before)
        parameters = start_parameters(self.site, before, _record_lists(record), record.job_id, restart=asked)
        if isinstance(record, RestartRecord):
            parameters["audit"] = self.site.audit(before, f"what ran before the restart by job {record.job_id}")
        return parameters

    def _asked(self, record: UpgradeRecord, facts: HostFacts) -> bool:
        """Whether setup asks for a restart, in an upgrade that was cut off, perhaps before it could write that down."""
        if record.setup is not None or record.ended is not None:
            return facts.restart_asked
        try:
            job = jobs.look(self.site.session, record.job_id, self.site.timeouts)
        except (AnswerError, ScriptError):
            return False  # what it had stopped is started all the same
        return still_asks(job, facts)

    def settle(self, job: Job, before: HostFacts) -> tuple[HostFacts, Verification]:
        """Look at the server after the job; where a restart has cut it off, when it can be reached again."""
        record = self.step.record
        if isinstance(record, UpgradeRecord) and record.backup:
            self.site.backup = DatabaseBackup(path=record.backup, size=None)
        self._after, verification = self.site.settled(before, restarts=job.status is JobStatus.INTERRUPTED)
        return self._after, verification

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say what runs again."""
        if never_began(job):
            return NEVER_BEGAN
        record = self.step.record
        if job.status is JobStatus.INTERRUPTED:
            why = f"the job was interrupted in {last_phase(job)} (restart, power, or killed), and was to start "
            return Ended(StepStatus.FAILED, why + record.names, "run again: all that does not run is started then")
        left = job.value("not_started") or job.value("detail")
        if job.reason is JobReason.DONE and not left:
            what = "the upgrade had stopped" if isinstance(record, UpgradeRecord) else "ran before the restart"
            return Ended(StepStatus.DONE, f"what {what} runs again")
        why = f"not all runs again of {record.names}: {left or 'the job broke off'}"
        return Ended(
            StepStatus.FAILED,
            why,
            f"start it by hand, then run again; if it is not to run any more, remove {record.file} first",
        )

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """Nothing of the server's software is changed."""
        return False

    def message(self, ended: Ended, verification: Verification) -> str:
        """Say what came of it."""
        if self._after is not None and self._after.removed:
            # What has happened comes first, whoever was not there to see it.
            why, way = removal(self._after)
            return f"{why}; {way}; beside that: {ended.why}"
        if ended.status is StepStatus.FAILED:
            return f"failed: {ended.why}"
        return f"{ended.why}; plan again"


def _record_lists(record: UpgradeRecord | RestartRecord) -> dict[str, str]:
    """What a record says, as the job that starts it again takes it."""
    lists = {"services": record.services, "sites": record.sites, "idle_sites": record.idle_sites}
    return {**lists, "record" if isinstance(record, UpgradeRecord) else "ran": str(record.number)}


def _missing(lists: Mapping[str, str], now: Surroundings) -> list[str]:
    """What is no longer as it was: services that ran, and sites, which a restart may start or not."""
    running = {name.lower() for name in now.services}
    services = [name for name in lists["services"].split("/") if name and name.lower() not in running]
    ran, idle = lists["sites"].split("/"), lists["idle_sites"].split("/")
    wrong = (site for site in now.sites if site.number in (idle if site.running else ran))
    return services + [str(Site(number=site.number, name=site.name, running=not site.running)) for site in wrong]


def _exchanged(before: HostFacts, looked: HostFacts) -> bool:
    """Whether the DLL that waited for a restart has taken its place: nothing but a restart does that."""
    path = before.wsus.dll_path
    waited = before.restart.concerns(path) and not looked.restart.concerns(path)
    return waited and before.wsus.dll_version != looked.wsus.dll_version


def _uptime(facts: HostFacts) -> float:
    """For how long the server has been up, in seconds."""
    return (facts.clock - facts.boot_time).total_seconds()


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
