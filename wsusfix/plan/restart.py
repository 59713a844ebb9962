"""Two small steps of any road: a restart that was asked for, and the start of what a cut-off upgrade had stopped.

Pure functions; they refuse to look at anything but the facts and the options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wsusfix import advisory
from wsusfix.facts import HostFacts, UpgradeRecord
from wsusfix.options import Options
from wsusfix.plan.common import Way, job_obstacles, session_obstacles
from wsusfix.present import Presentable, printable
from wsusfix.scripts.contracts import RESTART, START_SERVICES

__all__ = ["Restart", "StartServices", "removed", "restarts", "services_way", "start_services"]


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
    """Start again what an upgrade had stopped that was cut off, as the upgrade wrote it down."""

    record: UpgradeRecord
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
        return (
            f"{self.name}: start again the services and sites that an upgrade had stopped\n"
            f"  services: {printable(self.record.names)}\n"
            f"  why: {self.reason} [{self.source}]"
        )


def restarts(options: Options, reason: str) -> tuple[Restart, ...]:
    """Make the step where the operator allows it; it is skipped where nothing waits for a restart by then."""
    if options.reboot != "if-needed":
        return ()
    return (Restart(reason=reason, source="reboot='if-needed'"),)


def start_services(facts: HostFacts) -> tuple[StartServices, ...]:
    """Make the step where an upgrade has left services stopped."""
    if facts.upgrade is None or not facts.standing_still:
        return ()
    return (
        StartServices(
            record=facts.upgrade,
            reason=f"an upgrade, begun at {facts.upgrade.time}, has not started again all that it had stopped",
            source="what its job wrote down",
        ),
    )


def services_way(facts: HostFacts) -> Way:
    """Decide the road of a server on which an upgrade has left services stopped: that first, and nothing else."""
    blocked = (*session_obstacles(facts), *job_obstacles(facts, (START_SERVICES.name,)))
    warnings = ("an upgrade was cut off: once its services run again, plan anew",)
    if facts.removed:
        why, unblock = removed(facts)
        warnings = (f"{why}; {unblock}",)
    if blocked:
        return Way(blocked=blocked, warnings=warnings)
    return Way(steps=start_services(facts), warnings=warnings, proof="the services that ran before run again")


def removed(facts: HostFacts) -> tuple[str, str]:
    """Say that setup has removed WSUS, with its backup, and what to do: for whoever did not see it happen."""
    record = facts.upgrade
    version = record.version if record is not None else ""
    began = f", begun at {record.time}" if record is not None else ""
    backup = f"the backup is {record.backup}" if record is not None and record.backup else "no backup was made"
    return (
        f"WSUS WAS REMOVED by its setup, in an upgrade{began}; {backup}",
        f"install WSUS {version or 'in the version it had'} again, then {advisory.RESTORE}",
    )
