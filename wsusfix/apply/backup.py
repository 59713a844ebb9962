"""How the database is backed up: the job as SYSTEM, and its end explained.

A backup that was not read back well is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsusfix.apply.working import NEVER_BEGAN, WINDOW_OVER, Ended, Work, last_phase, never_began, withdrawn
from wsusfix.facts import HostFacts
from wsusfix.options import whole_seconds
from wsusfix.plan import BackUpDatabase
from wsusfix.remote.job import Job
from wsusfix.results import DatabaseBackup, StepStatus, Verification
from wsusfix.scripts.contracts import BACK_UP_DATABASE, UNVERIFIED_NAME, JobReason, JobStatus

__all__ = ["BackUpWork"]


class BackUpWork(Work[BackUpDatabase]):
    """The step ``BackUpDatabase`` being carried out."""

    kind = BACK_UP_DATABASE.name

    @property
    def patience(self) -> float:
        """Backing up and reading back may each take their time."""
        return self.site.timeouts.job + 2 * self.site.timeouts.backup

    def parameters(self, before: HostFacts) -> Mapping[str, Any]:
        """Say which database is backed up where."""
        return {
            **self.site.common(before),
            "server": self.step.server,
            "database": self.step.database,
            "backup_folder": self.step.folder,
            "unverified": UNVERIFIED_NAME,
            "reserve": str(self.step.reserve),
            "backup_seconds": whole_seconds(self.site.timeouts.backup),
        }

    def ended(self, job: Job, verification: Verification) -> Ended:
        """Say how the job ended, and keep the backup's place for the outcome."""
        ended = _ended(job)
        path = job.value("path")
        if ended.status is StepStatus.DONE:
            self.site.backup = DatabaseBackup(path=path, size=_size(job.value("size")))
            return Ended(ended.status, f"{ended.why}: {self.site.backup}")
        return ended

    def changed(self, job: Job, before: HostFacts, after: HostFacts, verification: Verification) -> bool:
        """A backup changes nothing of the server's software."""
        return False

    def message(self, ended: Ended, verification: Verification) -> str:
        """Say what came of it."""
        return "the database is backed up" if ended.status is StepStatus.DONE else f"failed: {ended.why}"


def _size(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def _ended(job: Job) -> Ended:
    if never_began(job):
        return NEVER_BEGAN
    if job.status is JobStatus.INTERRUPTED:
        return Ended(
            StepStatus.FAILED,
            f"the job was interrupted in {last_phase(job)} (restart, power, or killed); what it wrote is no backup",
            "run again: it is backed up anew",
        )
    detail = job.value("detail")
    told = f": {detail}" if detail else ""
    match job.reason:
        case JobReason.DONE:
            return Ended(StepStatus.DONE, "backed up and read back")
        case JobReason.WINDOW_OVER:
            return WINDOW_OVER
        case JobReason.WITHDRAWN:
            return withdrawn(job)
        case JobReason.DATABASE_NOT_REACHED:
            why, hint = "the database did not answer to SYSTEM", "is its service running, and may SYSTEM log in there?"
        case JobReason.NO_SPACE:
            why, hint = "there is too little room for a backup", "make room on the system drive"
        case JobReason.FOLDER_NOT_CLOSED:
            why = "the folder for backups is not closed as it must be"
            hint = "find out who made it, remove it by hand, and run again"
        case JobReason.BACKUP_FAILED:
            why, hint = "the backup failed", "look at the SQL server's error log"
        case JobReason.BACKUP_NOT_VERIFIED:
            why = "the backup could not be read back, and was removed"
            hint = "look at the SQL server's error log and at the drive"
        case _:
            why, hint = "the job broke off", "look at the evidence, then run again"
    return Ended(StepStatus.FAILED, why + told, hint)
