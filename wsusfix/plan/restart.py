"""Two small steps of any road: a restart that was asked for, and the start of what a cut-off upgrade had stopped.

Pure functions; they refuse to look at anything but the facts and the options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wsusfix.facts import HostFacts
from wsusfix.options import Options
from wsusfix.present import Presentable
from wsusfix.scripts.contracts import RESTART, START_SERVICES, UPGRADE, JobPhase, JobStatus

__all__ = ["Restart", "StartServices", "cut_off", "restarts", "start_services"]

#: In which phases of an upgrade services may stand still.
_STOPPED: Final = frozenset(
    {
        JobPhase.STOPPING.value,
        JobPhase.CHECKING_CONNECTIONS.value,
        JobPhase.LAUNCHING.value,
        JobPhase.INSTALLING.value,
        JobPhase.INSTALLED.value,
        JobPhase.STARTING_SERVICES.value,
    }
)


@dataclass(frozen=True, repr=False)
class Restart(Presentable):
    """Restart the server, as a detached job of the SYSTEM account, if something waits for it by then."""

    reason: str
    source: str
    irreversible: bool = False

    @property
    def name(self) -> str:
        """The step's name, as outcomes and reports use it."""
        return "Restart"

    @property
    def job(self) -> str:
        """The kind of the job that carries it out: the name of its script."""
        return RESTART.name

    def _extra(self) -> Mapping[str, object]:
        return {"name": self.name}

    def _summary(self) -> str:
        return self.reason

    def __str__(self) -> str:
        return f"{self.name}: restart the server if it is needed\n  why: {self.reason} [{self.source}]"


@dataclass(frozen=True, repr=False)
class StartServices(Presentable):
    """Start again what an upgrade had stopped that was cut off, as the upgrade wrote it down."""

    job_id: str
    reason: str
    source: str
    irreversible: bool = False

    @property
    def name(self) -> str:
        """The step's name, as outcomes and reports use it."""
        return "StartServices"

    @property
    def job(self) -> str:
        """The kind of the job that carries it out: the name of its script."""
        return START_SERVICES.name

    def _extra(self) -> Mapping[str, object]:
        return {"name": self.name}

    def _summary(self) -> str:
        return f"of job {self.job_id}"

    def __str__(self) -> str:
        return (
            f"{self.name}: start again the services and sites that job {self.job_id} had stopped\n"
            f"  why: {self.reason} [{self.source}]"
        )


def restarts(options: Options, reason: str) -> tuple[Restart, ...]:
    """Make the step where the operator allows it; it is skipped where nothing waits for a restart by then."""
    if options.reboot != "if-needed":
        return ()
    return (Restart(reason=reason, source="reboot='if-needed'"),)


def cut_off(facts: HostFacts) -> bool:
    """Whether an upgrade was cut off while services stood still."""
    job = facts.job
    return (
        job is not None and job.kind == UPGRADE.name and job.status is JobStatus.INTERRUPTED and job.phase in _STOPPED
    )


def start_services(facts: HostFacts) -> tuple[StartServices, ...]:
    """Make the step where an upgrade was cut off while services stood still."""
    if facts.job is None or not cut_off(facts):
        return ()
    return (
        StartServices(
            job_id=facts.job.job_id,
            reason=f"an upgrade was cut off in {facts.job.phase}",
            source="what the job wrote down",
        ),
    )
