"""When things happened on one server: spans of time seen from here, and of the job by the server's own states.

The server's clock is set against ours by the moment at which both were read; a clock that cannot be read draws nothing.
It tells whole seconds, so that a job seems to begin before it was asked for: such a row is moved to where that was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from html import escape
from typing import Final

from wsusfix.events import JobState, Note, PhaseBegun
from wsusfix.present import printable, seconds_text
from wsusfix.report.run import HostResult
from wsusfix.results import JobEvidence

__all__ = ["Span", "drawn", "spans", "told"]

#: Of the picture, in its own units: height of a row, widths of names, of the time itself, and of what it took.
_ROW, _LABEL, _WIDTH, _TIMES = 22, 240, 480, 80
#: So wide is a letter, about.
_LETTER: Final = 8
_HERE: Final = "#4a6fa5"
_SERVER: Final = ("#b5651d", "#8a4a12")


@dataclass(frozen=True)
class Span:
    """A stretch of a run: what, from when to when by our clock.

    ``job`` names the job on the server that it is a state of; it is empty for what was done here.
    """

    name: str
    began: datetime
    ended: datetime
    job: str = ""

    @property
    def seconds(self) -> float:
        """How long it took, in seconds."""
        return max(0.0, (self.ended - self.began).total_seconds())

    def __str__(self) -> str:
        return f"{self.job + ': ' if self.job else ''}{self.name} ({seconds_text(self.seconds)})"


def spans(result: HostResult) -> tuple[tuple[Span, ...], ...]:
    """Return the rows of a server's run in the order in which they began: a phase each, and all states of a job."""
    rows = [
        *((span,) for span in _here(result)),
        *(_moved(_server(evidence), _asked(result, evidence)) for evidence in result.evidence),
    ]
    return tuple(sorted(filter(None, rows), key=lambda row: row[0].began))


def _here(result: HostResult) -> Iterator[Span]:
    begun = [(moment.at, moment.event) for moment in result.events if isinstance(moment.event, PhaseBegun)]
    if not begun:
        return
    ends = [*(at for at, _ in begun[1:]), max(moment.last for moment in result.events)]
    for (at, event), ended in zip(begun, ends, strict=True):
        yield Span(printable(event.phase, 40), at, max(at, ended))


def _server(evidence: JobEvidence) -> Iterator[Span]:
    clock = _time(evidence.server_clock)
    times = [_time(step.time) for step in evidence.steps]
    if clock is None:
        return
    ahead = clock - evidence.controller_clock
    job = printable(evidence.kind.replace("_", " "), 40)
    for step, began, ended in zip(evidence.steps, times, [*times[1:], times[-1] if times else None], strict=True):
        if began is not None and ended is not None:
            yield Span(step.phase.value.replace("_", " "), began - ahead, max(began, ended) - ahead, job)


def _asked(result: HostResult, evidence: JobEvidence) -> datetime | None:
    """Return when a job was asked for here; ``None`` for one that was joined, and where nobody watched."""
    asked = None
    for moment in result.events:
        match moment.event:
            case PhaseBegun(phase="job"):
                asked = moment.at
            case Note(phase="job"):
                asked = None
            case JobState(job_id=evidence.job_id):
                return asked
            case _:
                pass
    return None


def _moved(row: Iterator[Span], earliest: datetime | None) -> tuple[Span, ...]:
    """Return a job's row, later by as much as it begins too early."""
    told = tuple(row)
    if not told or earliest is None or told[0].began >= earliest:
        return told
    late = earliest - told[0].began
    return tuple(replace(span, began=span.began + late, ended=span.ended + late) for span in told)


def _time(text: str) -> datetime | None:
    try:
        read = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return read if read.tzinfo is not None else None


def told(result: HostResult) -> list[str]:
    """Return the timeline as lines of text."""
    flat = sorted((span for row in spans(result) for span in row), key=lambda span: span.began)
    return [f"{span.began:%H:%M:%S}  {span}" for span in flat]


def drawn(result: HostResult) -> str:
    """Return the timeline as one SVG picture, a row for each phase and for each job; ``""`` where nothing is known."""
    rows = spans(result)
    if not rows:
        return ""
    first = min(row[0].began for row in rows)
    last = max(row[-1].ended for row in rows)
    whole = max((last - first).total_seconds(), 1.0)
    height = _ROW * (len(rows) + 1) + 8
    width = _LABEL + _WIDTH + _TIMES
    parts = [
        f'<svg class="timeline" role="img" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">',
        f"<title>From {first:%H:%M:%S} to {last:%H:%M:%S}, {escape(seconds_text(whole))}</title>",
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LABEL + _WIDTH * share
        at = first + timedelta(seconds=whole * share)
        parts.append(f'<line x1="{x:.0f}" y1="{_ROW}" x2="{x:.0f}" y2="{height - 4}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.0f}" y="{_ROW - 7}" text-anchor="middle" class="axis">{_clock(at, whole)}</text>')
    for number, row in enumerate(rows, 1):
        parts += _row(row, _ROW * number, first, _WIDTH / whole)
    return "".join(parts) + "</svg>"


def _clock(at: datetime, whole: float) -> str:
    """Return a time of the axis; with tenths of a second where two of them would say the same without."""
    return f"{at:%H:%M:%S}" + (f".{at.microsecond // 100_000}" if whole < 4 else "")


def _row(row: Sequence[Span], y: int, first: datetime, unit: float) -> Iterator[str]:
    """Draw one row: its name, its stretches (those of a job in two shades, in turn), and how long it took."""
    label = f"on the server: {row[0].job}" if row[0].job else row[0].name
    yield f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>'
    end = 0.0
    for number, span in enumerate(row):
        x = _LABEL + unit * (span.began - first).total_seconds()
        wide = max(2.0, unit * span.seconds)
        end = max(end, x + wide)
        shade = _SERVER[number % 2] if span.job else _HERE
        yield (
            f'<rect x="{x:.1f}" y="{y + 4}" width="{wide:.1f}" height="{_ROW - 8}" fill="{shade}">'
            f"<title>{escape(str(span))}</title></rect>"
        )
        if span.job and wide > _LETTER * len(span.name):
            yield f'<text x="{x + 4:.1f}" y="{y + 15}" class="inside">{escape(span.name)}</text>'
    took = (row[-1].ended - row[0].began).total_seconds()
    yield f'<text x="{end + 6:.1f}" y="{y + 15}">{escape(seconds_text(max(0.0, took)))}</text>'
