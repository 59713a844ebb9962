"""How KB954960 is installed: the package uploaded, the installer run as SYSTEM, and its end explained.

The DLL decides whether it worked, whatever an exit code said (KB954960, file information).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wsusfix import advisory
from wsusfix.apply.working import (
    NEVER_BEGAN,
    Ended,
    Work,
    exit_code_of,
    last_phase,
    missing_services,
    package_failure,
)
from wsusfix.errors import RefusedByServerError
from wsusfix.facts import HostFacts
from wsusfix.plan import InstallUpdate
from wsusfix.remote.job import Job, Left
from wsusfix.results import JobEvidence, StepStatus, Verification
from wsusfix.scripts.contracts import INSTALL_UPDATE, JobPhase, JobReason, JobStatus

__all__ = ["InstallWork"]


class InstallWork(Work[InstallUpdate]):
    """The step ``InstallUpdate`` being carried out."""

    kind = INSTALL_UPDATE.name

    def reached(self, facts: HostFacts) -> str:
        """Nothing is to be done where the DLL is the fixed one already."""
        version = facts.wsus.dll_version
        return f"the DLL is {version} already" if version is not None and version >= advisory.FIXED_DLL else ""

    def holds(self, facts: HostFacts, verification: Verification) -> bool:
        """Whether the update is in; a step of its own restarts the server."""
        return verification.ok or verification.restart_pending

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Upload the package, and say what is to be run and what proves success."""
        step = self.step
        return {
            **self.site.package_parameters(before, step.package, step.command, step.accept_unverifiable_signature),
            "dll": before.wsus.dll_path,
            "required_version": str(advisory.FIXED_DLL),
            "busy_exit_code": str(advisory.EXIT_BUSY),
            "rename_key": advisory.RENAME_KEY,
            "rename_value": advisory.RENAME_VALUE,
        }

    def settle(self, job: Job, before: HostFacts) -> tuple[HostFacts, Verification]:
        """Wait for services, and for the server where the installer has restarted it."""
        restarts = _restart_begun(job)
        return self.site.settled(
            before, restarts=restarts, waits=lambda verification: restarts and verification.restart_pending
        )

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say how the job ended. The DLL decides: an exit code of failure with the fixed DLL in place is a success."""
        return _ended(job, verification)

    def evidence(self, job: Job, before: HostFacts, left: Left | None) -> JobEvidence:
        """Return what is kept of the job, with the package's hash."""
        return self.site.evidence(job, before, left, self.step.package.sha256)

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """Whether the DLL is another one now, or will be after a restart."""
        return verification.restart_pending or str(after.wsus.dll_version) != _version_before(job, before)

    def message(self, ended: Ended, verification: Verification) -> str:
        """Say what came of it."""
        if ended.status is StepStatus.FAILED:
            return f"failed: {ended.why}"
        if verification.restart_pending:
            return "installed; a restart of the server is pending"
        return "fixed and verified" if verification.ok else "installed, but not verified"


def _restart_begun(job: Job) -> bool:
    """Whether the installer has said that the server restarts by itself."""
    code = exit_code_of(job)
    return code is not None and advisory.exit_code(code).meaning is advisory.ExitMeaning.RESTART_BEGUN


def _version_before(job: Job, before: HostFacts) -> str:
    """The DLL's version before the job: its own word when it has one, for a joined job may have changed it already."""
    return job.value("dll_before") or str(before.wsus.dll_version)


def _ended(job: Job, verification: Verification) -> Ended:
    """Say how a job ended. The DLL decides: an exit code of failure with the fixed DLL in place is a success."""
    match job.status:
        case JobStatus.INTERRUPTED:
            why = f"the job was interrupted in {last_phase(job)} (restart, power, or killed)"
            if verification.ok:
                return Ended(StepStatus.DONE, f"{why}, but the fixed DLL is in place")
            if verification.restart_pending:
                return Ended(StepStatus.DONE, f"{why}, but the new DLL waits for a restart", _RESTART)
            return Ended(StepStatus.FAILED, why, "run again: the server is diagnosed anew before anything is started")
        case JobStatus.NEVER_STARTED:
            return _SOMEBODY_ELSE if verification.ok else NEVER_BEGAN
        case JobStatus.FINISHED if job.last is not None and job.last.phase is JobPhase.ABANDONED:
            return _SOMEBODY_ELSE if verification.ok else NEVER_BEGAN
        case JobStatus.FINISHED:
            return _finished(job, verification)
        case JobStatus.NONE | JobStatus.CLAIMED | JobStatus.RUNNING:
            raise RefusedByServerError(f"the job is {job.status.value}, not ended", phase="job")


def _finished(job: Job, verification: Verification) -> Ended:
    match job.reason:
        case JobReason.DONE:
            return _by_exit_code(job, verification)
        case JobReason.ALREADY_FIXED:
            return Ended(StepStatus.SKIPPED, "the DLL was fixed before the installer was to run")
        case _ if verification.ok and not job.value("exit_code"):
            # Quicker, and perhaps has cleared away what this job was to run.
            return _SOMEBODY_ELSE
        case _:
            return package_failure(job)


def _by_exit_code(job: Job, verification: Verification) -> Ended:
    code = exit_code_of(job)
    known = advisory.exit_code(code) if code is not None else None
    said = f"exit code {code}: {known.text}" if known is not None else "no exit code"
    if verification.ok:
        return Ended(StepStatus.DONE, said)
    if verification.restart_pending:
        return Ended(StepStatus.DONE, f"{said}; the new DLL waits for a restart", _RESTART)
    if services := missing_services(verification):
        missing = ", ".join(f"{check.name} is {check.found}" for check in services)
        return Ended(StepStatus.FAILED, f"{said}, but {missing}", "start it, and look at the server's event log")
    if known is not None and known.meaning in _GOOD:
        return Ended(
            StepStatus.FAILED,
            f"{said}, but the DLL is {verification.found}, not {verification.required} or higher",
            "look at the end of the installer's log: was it the right package?",
        )
    return Ended(StepStatus.FAILED, said, known.advice if known is not None else "run again")


_RESTART: Final = "restart the server, then verify"
_SOMEBODY_ELSE: Final = Ended(StepStatus.SKIPPED, "the DLL was fixed meanwhile by somebody else")
_GOOD: Final = (
    advisory.ExitMeaning.INSTALLED,
    advisory.ExitMeaning.RESTART_NEEDED,
    advisory.ExitMeaning.RESTART_BEGUN,
)
