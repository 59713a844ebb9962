"""What the roads of a plan share: a reason in the way, and the looks at a server that every step needs.

Pure functions over facts; they know no step in particular.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from wsusfix import advisory
from wsusfix.facts import HostFacts, JobFacts
from wsusfix.options import Options
from wsusfix.present import Presentable, counted
from wsusfix.scripts.contracts import JobPhase, StagingState

__all__ = [
    "LET_IT_END",
    "Blocked",
    "Way",
    "job_obstacles",
    "join_warnings",
    "leftover_warnings",
    "let_it_end",
    "session_obstacles",
    "window_obstacles",
]

#: So much of its time is left to a job for its work, when it has waited for its window; it may put back for a day.
_WORK: Final = timedelta(hours=30)
#: What to do about a job at work that is none of the wanted ones.
LET_IT_END: Final = "let it end (it goes on by itself, and nothing is started beside it), then plan again"


@dataclass(frozen=True, repr=False)
class Blocked(Presentable):
    """One reason why a plan cannot be carried out, and what would unblock it."""

    reason: str
    unblock: str

    def _summary(self) -> str:
        return self.reason

    def __str__(self) -> str:
        return f"{self.reason}; to unblock: {self.unblock}"


def session_obstacles(facts: HostFacts) -> Iterator[Blocked]:
    """Yield what keeps this account from starting a job as SYSTEM."""
    if not facts.session.administrator:
        yield Blocked(
            f"{facts.session.account} is not an administrator of the server",
            "use an administrator's account; a local one other than the built-in Administrator gets a filtered token "
            "over the network unless LocalAccountTokenFilterPolicy is 1",
        )
    if facts.session.execution_policy.lower() in advisory.BLOCKING_POLICIES:
        yield Blocked(
            f"group policy sets the execution policy {facts.session.execution_policy}, which stops the job's script",
            "have the policy set to RemoteSigned for this server while it is mended, or install the update by hand",
        )
    if facts.staging.state is StagingState.REFUSED:
        yield Blocked(
            f"the folder {facts.staging.path} is not closed as it must be: {facts.staging.detail}",
            "find out who made it, remove it by hand, and run again",
        )


def job_obstacles(facts: HostFacts, kinds: Collection[str]) -> Iterator[Blocked]:
    """Yield the job at work that is of none of the *kinds* of a road: neither joined, nor another begun beside it."""
    if facts.job is not None and facts.job.active and facts.job.kind not in kinds:
        yield Blocked(
            f"a job of another kind is at work on the server: {facts.job}",
            let_it_end(facts.job),
        )


def join_warnings(facts: HostFacts, kinds: Collection[str]) -> Iterator[str]:
    """Say that the job at work is of one of the *kinds* of a road, and what that means."""
    if facts.job is not None and facts.job.active and facts.job.kind in kinds:
        yield f"a job of wsusfix is at work ({facts.job}): it is joined, no second one is started{_off(facts.job)}"


def _off(job: JobFacts) -> str:
    """How a job is called off, of one that can be."""
    return "; until its maintenance window opens, server.withdraw() calls it off" if job.waits_for_window else ""


def window_obstacles(facts: HostFacts, options: Options) -> Iterator[Blocked]:
    """Yield a maintenance window that opens so late that the scheduler would end the job which waits for it."""
    if options.not_before is None or facts.os.release >= advisory.OLD_SCHEDULER_BEFORE:
        return
    latest = advisory.OLD_SCHEDULER_ENDS - _WORK
    waits = options.not_before - facts.clock
    if waits > latest:
        yield Blocked(
            f"the maintenance window opens in {_hours(waits)} h, and the scheduler of this Windows ends a job after "
            f"{_hours(advisory.OLD_SCHEDULER_ENDS)} h",
            f"plan again within {_hours(latest)} h of the window",
        )


def _hours(time: timedelta) -> int:
    return round(time.total_seconds() / 3600)


def let_it_end(job: JobFacts) -> str:
    """Say the same of this very job, which may have to wait for WSUS for long."""
    if job.phase == JobPhase.RESTORING.value:
        return (
            "it makes a replica again of what a reset had switched, and tries for a day: see that WSUS runs and what "
            "it is doing; when the job has ended, plan again"
        )
    return LET_IT_END + _off(job)


def leftover_warnings(facts: HostFacts) -> Iterator[str]:
    """Say that an earlier run left something behind, or is still at work."""
    if facts.job is not None and facts.job.active:
        yield f"a job of wsusfix is at work: {facts.job}; only its end tells{_off(facts.job)}"
    elif facts.staging.leftovers:
        left = counted(facts.staging.leftovers, "file")
        yield f"an earlier run left {left} in {facts.staging.path}: applying clears that away"


@dataclass(frozen=True)
class Way:
    """One road as far as it is decided: its steps, or what is in the way, and what is to be said beside it."""

    steps: tuple[Any, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    warnings: tuple[str, ...] = ()
    proof: str = ""
