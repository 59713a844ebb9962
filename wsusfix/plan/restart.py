"""Two small steps of any road: a restart that was asked for, and the start of what a cut-off upgrade had stopped.

Pure functions; they refuse to look at anything but the facts and the options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wsusfix.diagnosis import removal
from wsusfix.facts import HostFacts, RestartRecord, UpgradeRecord
from wsusfix.options import Options
from wsusfix.plan.common import Way, job_obstacles, session_obstacles
from wsusfix.present import Presentable, printable
from wsusfix.scripts.contracts import RESTART, START_SERVICES

__all__ = ["Restart", "StartServices", "restarts", "services_way", "start_services"]


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
        return (
            f"{self.name}: restart the server if it is needed; what ran of IIS and WSUS runs again\n"
            f"  why: {self.reason} [{self.source}]"
        )


@dataclass(frozen=True, repr=False)
class StartServices(Presentable):
    """Start again what a cut-off upgrade had stopped, or what ran before a restart, as it was written down."""

    record: UpgradeRecord | RestartRecord
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
        return self.record.names

    def __str__(self) -> str:
        what = "an upgrade had stopped" if isinstance(self.record, UpgradeRecord) else "ran before a restart"
        return (
            f"{self.name}: start again the services and sites that {what}\n"
            f"  services: {printable(self.record.names)}\n"
            f"  why: {self.reason} [{self.source}]"
        )


def restarts(options: Options, reason: str) -> tuple[Restart, ...]:
    """Make the step where the operator allows it; it is skipped where nothing waits for a restart by then."""
    if options.reboot != "if-needed":
        return ()
    return (Restart(reason=reason, source="reboot='if-needed'"),)


def start_services(facts: HostFacts) -> tuple[StartServices, ...]:
    """Make the steps where an upgrade has left services stopped, or nobody has seen to them after a restart."""
    steps: list[StartServices] = []
    if facts.upgrade is not None and facts.standing_still:
        why = f"an upgrade, begun at {facts.upgrade.time}, has not started again all that it had stopped"
        steps.append(StartServices(facts.upgrade, why, "what its job wrote down"))
    if facts.ran is not None and facts.restarted_unseen:
        why = (
            f"the server was restarted after {facts.ran.time:%Y-%m-%d %H:%M:%S} UTC, and nobody has seen all run again"
        )
        steps.append(StartServices(facts.ran, why, "what the job that restarted it wrote down"))
    return tuple(steps)


def services_way(facts: HostFacts) -> Way:
    """Decide the road of a server on which services were left stopped: that first, and nothing else."""
    blocked = (*session_obstacles(facts), *job_obstacles(facts, (START_SERVICES.name,)))
    what = "an upgrade was cut off" if facts.standing_still else "a restart was not seen to its end"
    warnings = (f"{what}: once its services run again, plan anew",)
    if facts.removed:
        why, unblock = removal(facts)
        warnings = (f"{why}; {unblock}",)
    if blocked:
        return Way(blocked=blocked, warnings=warnings)
    return Way(steps=start_services(facts), warnings=warnings, proof="the services that ran before run again")
