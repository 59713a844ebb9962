"""What an observer is told while the road is walked: phases, bytes, states of a job, things worth knowing.

Events are frozen data that print as one line; ``on_event=print`` is a complete observer.  An observer is called in
the caller's thread; this module does not know who it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from wsusfix.present import Presentable, bytes_text, printable

__all__ = ["Event", "JobState", "Moment", "Note", "Observer", "PhaseBegun", "Recorder", "UploadProgress", "ignore"]


@dataclass(frozen=True, repr=False)
class PhaseBegun(Presentable):
    """A phase of the road begins on a host: connect, facts, plan, upload, job, verify, cleanup, withdraw."""

    host: str
    phase: str
    detail: str = ""

    def _summary(self) -> str:
        return f"{self.host} {self.phase}"

    def __str__(self) -> str:
        return f"{self.host}: {self.phase}" + (f": {printable(self.detail)}" if self.detail else "")


@dataclass(frozen=True, repr=False)
class UploadProgress(Presentable):
    """So many bytes of a file are on the server; *resumed* of them were there before this run.

    ``rate`` is in bytes a second over this run's own bytes, 0.0 until it can be told.
    """

    host: str
    name: str
    sent: int
    total: int
    resumed: int
    rate: float

    def _summary(self) -> str:
        return f"{self.host} {self.sent}/{self.total}"

    def __str__(self) -> str:
        share = 100 * self.sent // self.total if self.total else 100
        resumed = f", {bytes_text(self.resumed)} were there already" if self.resumed else ""
        rate = f", {bytes_text(self.rate)}/s" if self.rate else ""
        return f"{self.host}: upload: {bytes_text(self.sent)} of {bytes_text(self.total)} ({share} %){rate}{resumed}"


@dataclass(frozen=True, repr=False)
class JobState(Presentable):
    """The job on the server reached a phase; ``detail`` is what its state file says beyond it."""

    host: str
    job_id: str
    number: int
    phase: str
    time: str
    detail: str = ""

    def _summary(self) -> str:
        return f"{self.host} {self.job_id} {self.number} {self.phase}"

    def __str__(self) -> str:
        words = self.phase.replace("_", " ")
        return f"{self.host}: job: {words}" + (f" ({printable(self.detail)})" if self.detail else "")


@dataclass(frozen=True, repr=False)
class Note(Presentable):
    """Something worth knowing that is no phase: a retry, a job joined, a cleanup that could not be finished."""

    host: str
    phase: str
    text: str

    def _summary(self) -> str:
        return f"{self.host} {self.text}"

    def __str__(self) -> str:
        return f"{self.host}: {self.phase}: {printable(self.text)}"


Event = PhaseBegun | UploadProgress | JobState | Note
Observer = Callable[[Event], object]


def ignore(event: Event) -> None:
    """Observe nothing: the default observer."""


@dataclass(frozen=True, repr=False)
class Moment(Presentable):
    """An event with its time by this machine's clock.

    ``last`` is later than ``at`` where the same was told again: of an upload's progress only the newest is kept, with
    the time of the first.
    """

    at: datetime
    event: Event
    last: datetime

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; ``kind`` names the event's class."""
        kind = type(self.event).__name__
        return {"at": self.at.isoformat(), "last": self.last.isoformat(), "kind": kind, **self.event.to_dict()}

    def _summary(self) -> str:
        return f"{self.at:%H:%M:%S} {self.event}"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.event}"


class Recorder:
    """An observer that keeps what it is told, with times, for a report; and passes it on to another observer.

    >>> told = Recorder()
    >>> told(PhaseBegun("wsus01", "facts"))
    >>> [moment.event.phase for moment in told.moments]
    ['facts']
    """

    def __init__(self, tell: Observer = ignore) -> None:
        self._tell = tell
        self._moments: list[Moment] = []

    def __call__(self, event: Event) -> None:
        """Keep *event* with the time that it is now."""
        now = datetime.now(timezone.utc)
        before = self._moments[-1] if self._moments else None
        if before is not None and isinstance(event, UploadProgress) and isinstance(before.event, UploadProgress):
            self._moments[-1] = replace(before, event=event, last=now)
        else:
            self._moments.append(Moment(now, event, now))
        self._tell(event)

    @property
    def moments(self) -> tuple[Moment, ...]:
        """What was told so far, in order."""
        return tuple(self._moments)
