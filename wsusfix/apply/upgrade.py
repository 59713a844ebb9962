"""How WSUS is upgraded: setup checks its prerequisites, then upgrades between the stop and the start of services.

``VersionString`` decides whether it worked, whatever an exit code said.  If setup has removed WSUS that is said first,
with the backup and how to restore it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wsusfix import advisory
from wsusfix.advisory import ExitMeaning
from wsusfix.apply.working import (
    EVENT_SOURCE,
    NEVER_BEGAN,
    SERVICES_BACK,
    Ended,
    Site,
    Work,
    exit_code_of,
    last_phase,
    never_began,
    package_failure,
    stopped_services,
)
from wsusfix.diagnosis import way_back
from wsusfix.errors import WsusFixError
from wsusfix.facts import HostFacts
from wsusfix.options import whole_seconds
from wsusfix.plan import Blocked, CheckPrerequisites, UpgradeServicePack
from wsusfix.plan.upgrade import last_look
from wsusfix.present import printable
from wsusfix.remote.job import Job, Left
from wsusfix.results import DatabaseBackup, JobEvidence, StepStatus, Verification
from wsusfix.scripts.contracts import (
    CHECK_PREREQUISITES,
    KEPT_NAME,
    START_SERVICES,
    UPGRADE,
    JobPhase,
    JobReason,
    JobStatus,
)
from wsusfix.surroundings import record_parameters, service_roots

__all__ = ["CheckWork", "UpgradeWork", "start_parameters", "still_asks"]

_LOGS: Final[Mapping[str, Any]] = {"log_names": list(advisory.SETUP_LOGS), "system_temp": advisory.SYSTEM_TEMP}
_RESTART: Final = "restart the server, then run again: the road goes on from there"


class CheckWork(Work[CheckPrerequisites]):
    """The step ``CheckPrerequisites`` being carried out."""

    kind = CHECK_PREREQUISITES.name

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Upload setup, and say how it only checks."""
        step = self.step
        return {
            **self.site.package_parameters(before, step.package, step.command, step.accept_unverifiable_signature),
            **_LOGS,
        }

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say what setup found; anything but success ends the road before anything was stopped."""
        if never_began(job):
            return NEVER_BEGAN
        if job.status is JobStatus.INTERRUPTED:
            why = f"the job was interrupted in {last_phase(job)} (restart, power, or killed)"
            return Ended(StepStatus.FAILED, why, "run again: nothing was changed")
        if job.reason is not JobReason.DONE:
            return package_failure(job)
        said, advice = _said(job)
        if exit_code_of(job) == 0:
            return Ended(StepStatus.DONE, "setup finds its prerequisites met")
        return Ended(StepStatus.FAILED, f"{said}; nothing was changed", advice)

    def evidence(self, job: Job, before: HostFacts, left: Left | None) -> JobEvidence:
        """Return what is kept of the job, with setup's hash."""
        return self.site.evidence(job, before, left, self.step.package.sha256)

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """A check changes nothing."""
        return False

    def message(self, ended: Ended, verification: Verification) -> str:
        """Say what came of it."""
        return ended.why if ended.status is StepStatus.DONE else f"failed: {ended.why}"


class UpgradeWork(Work[UpgradeServicePack]):
    """The step ``UpgradeServicePack`` being carried out."""

    kind = UPGRADE.name
    _after: HostFacts | None = None
    #: What did not come back of that which a cut-off job had stopped.
    _mended: str = ""

    def reached(self, facts: HostFacts) -> str:
        """Nothing is to be done where the service pack is in already."""
        return f"WSUS {self.step.target} is installed already" if self._upgraded(facts) else ""

    def holds(self, facts: HostFacts, verification: Verification) -> bool:
        """Whether the service pack is in, and what was stopped for it runs again."""
        return self._upgraded(facts) and not facts.standing_still

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Upload setup, and say what may be stopped, and what proves success."""
        step, backup = self.step, self.site.backup
        codes = (code for code in advisory.EXIT_CODES.values() if code.meaning is ExitMeaning.RESTART_NEEDED)
        return {
            **self.site.package_parameters(before, step.package, step.command, step.accept_unverifiable_signature),
            **_LOGS,
            "dll": before.wsus.dll_path,
            "rename_key": advisory.RENAME_KEY,
            "rename_value": advisory.RENAME_VALUE,
            "server": step.database_server,
            "database": step.database,
            **record_parameters(),
            "version": step.version,
            "release": self._release,
            "backup": backup.path if backup is not None else "",
            "restart_codes": [str(code.code) for code in codes],
            "service_roots": service_roots(),
            "services": list(step.services),
            "sites": list(step.site_numbers),
            "stop_seconds": whole_seconds(self.site.timeouts.stop),
        }

    @property
    def _release(self) -> str:
        """How ``VersionString`` begins afterwards."""
        return ".".join(map(str, self.step.upgrade.release)) + "."

    def obstacles(self, facts: HostFacts) -> tuple[Blocked, ...]:
        """Look around once more: time has passed since the plan, and a backup has taken room."""
        while True:
            looked = self.site.look()
            if looked.upgrading or self._upgraded(looked):
                # Another controller was quicker: its job is joined, and what that has stopped is in nobody's way.
                return ()
            if looked.upgrade != facts.upgrade and not looked.standing_still:
                why = "another controller has begun an upgrade meanwhile, which has ended without success"
                return (Blocked(why, "read setup's logs, then plan again"),)
            blocked = last_look(looked, self.site.look_around(looked), self.step)
            # What a job did meanwhile makes a look around worth nothing, whatever it found.
            if self.site.look().job == looked.job:
                return blocked

    def joins(self, job: Job) -> str:
        """An upgrade to another service pack is not this one."""
        other = job.value("release")
        return f"an upgrade to WSUS {_named(other)}" if other not in ("", self._release) else ""

    def phase(self, job: Job) -> str:
        """Services are started again after every failure: what failed came before, unless it was that."""
        cut = job.status is JobStatus.INTERRUPTED
        return last_phase(job) if cut or job.value("not_started") else last_phase(job, JobPhase.STARTING_SERVICES)

    def settle(self, job: Job, before: HostFacts) -> tuple[HostFacts, Verification]:
        """Wait for services; after a job that was cut off, start what it had stopped."""
        if self.site.backup is None and job.value("backup"):
            self.site.backup = DatabaseBackup(path=job.value("backup"), size=None)
        cut = job.status is JobStatus.INTERRUPTED
        mends = cut and bool(job.value("services"))
        # What the job itself had stopped does not come back by being waited for.
        patience = 0.0 if mends else SERVICES_BACK
        after, verification = self.site.settled(before, seconds=patience, restarts=cut or _restart_begun(job))
        if mends:
            self._mend(job, after)
            after, verification = self.site.settled(before)
        self._after = after
        self.site.restart_asked = after.wsus.present and asks_for_restart(job)
        if also := job.value("also_running"):
            self.site.notes.append(f"setup has started what had not run before, and it runs on: {also}")
        return after, verification

    def _mend(self, job: Job, facts: HostFacts) -> None:
        """Start again what the job had stopped; that this fails is said, and is not the loss of an outcome."""
        try:
            ended = self.site.run_job(START_SERVICES.name, _start_parameters(self.site, job, facts), facts)
        except WsusFixError as error:
            self._mended = f"what the upgrade had stopped could not be started ({_names(job)}): {error}"
            return
        self.site.beside.append(self.site.evidence(ended, facts, None))
        left = ended.value("not_started") or ended.value("detail")
        if ended.reason is JobReason.DONE and not left:
            self.site.notes.append("the services that the upgrade had stopped were started again")
        else:
            self._mended = left or f"the job that was to start them broke off ({_names(job)})"

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say how the job ended. What stands on the server decides, whatever an exit code said."""
        facts = self._after
        if never_began(job):
            return NEVER_BEGAN
        if facts is not None and _removed(facts):
            return self._removed_by(job)
        idle = (
            job.value("not_started")
            or self._mended
            or ", ".join(f"{check.name} is {check.found}" for check in stopped_services(verification))
        )
        services = f"not running again: {idle}" if idle else "the services run as before"
        cut = job.status is JobStatus.INTERRUPTED
        said = f"the job was interrupted in {last_phase(job)}" if cut else _said(job)[0]
        if facts is not None and (other := self.joins(job)):
            why = f"the job that was joined was {other}; it ended: {said}; WSUS is {self._version(facts)}, {services}"
            return Ended(StepStatus.FAILED, why, "plan again")
        if facts is not None and self._upgraded(facts):
            if idle:
                why = f"upgraded to WSUS {self.step.target} ({said}), but {services}"
                return Ended(StepStatus.FAILED, why, "start them, and look at the server's event log")
            if verification.restart_pending:
                why = f"upgraded to WSUS {self.step.target} ({said}); what is new waits for a restart"
                return Ended(StepStatus.DONE, why, _RESTART)
            return Ended(StepStatus.DONE, f"upgraded to WSUS {self.step.target} ({said})")
        if self._waits(job, facts) and not idle:
            why = f"{said}; WSUS is {self._version(facts)} until the server has restarted, and {services}"
            return Ended(StepStatus.DONE, why, _RESTART)
        failure = self._failure(job)
        stands = f"WSUS is {self._version(facts)}, and {services}"
        return Ended(failure.status, f"{failure.why}; {stands}", failure.hint)

    def _waits(self, job: Job, facts: HostFacts | None) -> bool:
        """Whether setup has done its work, and the upgrade only waits for a restart that it asks for."""
        asked = asks_for_restart(job)
        return asked and facts is not None and facts.restart.pending

    def _failure(self, job: Job) -> Ended:
        if job.status is JobStatus.INTERRUPTED:
            why = f"the job was interrupted in {last_phase(job)} (restart, power, or killed)"
            return Ended(StepStatus.FAILED, why, "run again: the server is diagnosed anew before anything is started")
        detail = job.value("detail")
        match job.reason:
            case JobReason.DONE:
                said, advice = _said(job)
                return Ended(StepStatus.FAILED, said, advice or "read setup's logs: was it the right package?")
            case JobReason.OTHER_VERSION:
                return Ended(StepStatus.FAILED, "another WSUS stands there than was planned for", "plan again")
            case JobReason.OTHER_SERVICES:
                why = f"the service {detail} would have stopped too, which nobody had consented to"
                return Ended(StepStatus.FAILED, why, "plan again: the plan names what stops")
            case JobReason.OTHER_SITES:
                why = f"the site {detail} would have stopped too, which nobody had consented to"
                return Ended(StepStatus.FAILED, why, "plan again: the plan names what stops")
            case JobReason.KEPT_REFUSED:
                why = f"the folder %windir%\\{KEPT_NAME} is not closed as it must be: {detail}"
                return Ended(StepStatus.FAILED, why, "find out who made it, remove it by hand, and run again")
            case JobReason.NOT_STOPPED:
                why = f"a service did not stop, so setup was not started: {detail}"
                return Ended(StepStatus.FAILED, why, "find out what keeps it, then run again")
            case JobReason.CONNECTIONS:
                why = f"others are connected to the database after WSUS had stopped: {detail}"
                return Ended(StepStatus.FAILED, why, "end these connections, then run again")
            case _:
                return package_failure(job)

    def _removed_by(self, job: Job) -> Ended:
        version = job.value("version_before") or self.step.version
        backup = f"the backup is {self.site.backup}" if self.site.backup is not None else "no backup was made"
        return Ended(
            StepStatus.FAILED,
            f"WSUS WAS REMOVED by its setup ({_said(job)[0]}); {backup}",
            way_back(version, backed_up=self.site.backup is not None),
        )

    def evidence(self, job: Job, before: HostFacts, left: Left | None) -> JobEvidence:
        """Return what is kept of the job, with setup's hash."""
        return self.site.evidence(job, before, left, self.step.package.sha256)

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """Whether another WSUS stands there than before, or none."""
        first = job.value("version_before") or before.wsus.version_raw
        if self._waits(job, after):
            return True
        return not after.wsus.present or after.wsus.version_raw != first

    def message(self, ended: Ended, verification: Verification) -> str:
        """Say what came of it; that WSUS is gone comes first."""
        if ended.status is StepStatus.FAILED:
            gone = self._after is not None and _removed(self._after)
            return f"{ended.why}; {ended.hint}" if gone else f"failed: {ended.why}"
        if verification.restart_pending:
            done = "upgraded" if self._after is not None and self._upgraded(self._after) else "setup for the upgrade"
            way = f"{done} to WSUS {self.step.target}" + ("" if done == "upgraded" else " has run")
            return f"{way}; a restart of the server is pending"
        return f"upgraded to WSUS {self.step.target}" + (" and verified" if verification.ok else "")

    def _upgraded(self, facts: HostFacts) -> bool:
        return facts.wsus.present and facts.wsus.product is self.step.upgrade.product

    def _version(self, facts: HostFacts | None) -> str:
        """The version that stands there, and whether it is the one from before."""
        if facts is None:
            return "still what it was"
        now = facts.wsus.version_raw
        return f"still {now}" if now == self.step.version else f"{now} now"


def start_parameters(
    site: Site, facts: HostFacts, lists: Mapping[str, str], job_id: str, *, restart: bool = False
) -> dict[str, Any]:
    """Return the parameters of the job that starts again what the upgrade *job_id* had stopped.

    Args:
        site: the server.
        facts: as it is now.
        lists: ``services``, ``sites`` and ``idle_sites`` as they were written down; in ``record`` the number of the
            upgrade's record, or in ``ran`` that of a restart's.
        job_id: of the upgrade.
        restart: whether setup has asked for one.
    """
    return {
        **{key: lists[key] for key in ("services", "sites", "idle_sites")},
        **{key: lists.get(key, "") for key in ("record", "ran")},
        **record_parameters(),
        "restart": restart,
        "rename_key": advisory.RENAME_KEY,
        "rename_value": advisory.RENAME_VALUE,
        "stop_seconds": whole_seconds(site.timeouts.stop),
        "event_source": EVENT_SOURCE,
        "audit": site.audit(facts, f"what job {job_id} had stopped"),
    }


def _start_parameters(site: Site, job: Job, facts: HostFacts) -> dict[str, Any]:
    lists = {key: job.value(key) for key in ("services", "sites", "idle_sites", "record")}
    return start_parameters(site, facts, lists, job.job_id, restart=still_asks(job, facts))


def asks_for_restart(job: Job) -> bool:
    """Whether the exit code of setup asks for a restart."""
    return _meaning(job) is ExitMeaning.RESTART_NEEDED


def still_asks(job: Job, facts: HostFacts) -> bool:
    """Whether setup asks for a restart that there was none of since: what cut a job off may have been one."""
    record = facts.upgrade
    if record is not None and record.job_id == job.job_id and record.setup is not None:
        return facts.restart_asked
    return asks_for_restart(job)


def _names(job: Job) -> str:
    """The services that a job had stopped, for people."""
    return ", ".join(name for name in job.value("services").split("/") if name)


def _named(release: str) -> str:
    """The service pack whose ``VersionString`` begins so."""
    known = (name for name, pack in advisory.UPGRADES.items() if ".".join(map(str, pack.release)) + "." == release)
    return next(known, printable(release, 20))


def _removed(facts: HostFacts) -> bool:
    """Whether there is no WSUS server any more."""
    return not facts.wsus.is_server


def _meaning(job: Job) -> ExitMeaning | None:
    code = exit_code_of(job)
    return advisory.exit_code(code).meaning if code is not None else None


def _restart_begun(job: Job) -> bool:
    return _meaning(job) is ExitMeaning.RESTART_BEGUN


def _said(job: Job) -> tuple[str, str]:
    """What the exit code says, and what is to be done then."""
    code = exit_code_of(job)
    if code is None:
        return "no exit code", ""
    known = advisory.exit_code(code)
    meaning = known.text if known.meaning is not ExitMeaning.UNKNOWN else "none that is documented"
    return f"exit code {code}: {meaning}", known.advice
