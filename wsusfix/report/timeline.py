"""When things happened on one server: spans of time seen from here, and of the job by the server's own states.

The server's clock is set against ours by the moment at which both were read; a clock that cannot be read draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Final

from wsusfix.events import PhaseBegun
from wsusfix.present import printable, seconds_text
from wsusfix.report.run import HostResult
from wsusfix.results import JobEvidence

__all__ = ["Span", "drawn", "spans", "told"]

_ROW, _LABEL, _WIDTH, _TIMES = 22, 190, 520, 90
_COLOURS: Final = {"here": "#4a6fa5", "server": "#b5651d"}


@dataclass(frozen=True)
class Span:
    """A stretch of a run: what, from when to when by our clock, and who did it, ``here`` or ``server``."""

    name: str
    began: datetime
    ended: datetime
    side: str

    @property
    def seconds(self) -> float:
        """How long it took, in seconds."""
        return max(0.0, (self.ended - self.began).total_seconds())


def spans(result: HostResult) -> tuple[Span, ...]:
    """Return the stretches of a server's run in the order in which they began."""
    found = [*_here(result), *(span for evidence in result.evidence for span in _server(evidence))]
    return tuple(sorted(found, key=lambda span: span.began))


def _here(result: HostResult) -> Iterator[Span]:
    begun = [moment for moment in result.events if isinstance(moment.event, PhaseBegun)]
    if not begun:
        return
    ends = [*(moment.at for moment in begun[1:]), max(moment.last for moment in result.events)]
    for moment, ended in zip(begun, ends, strict=True):
        if isinstance(moment.event, PhaseBegun):
            yield Span(printable(moment.event.phase, 40), moment.at, max(moment.at, ended), "here")


def _server(evidence: JobEvidence) -> Iterator[Span]:
    clock = _time(evidence.server_clock)
    times = [_time(step.time) for step in evidence.steps]
    if clock is None:
        return
    ahead = clock - evidence.controller_clock
    for step, began, ended in zip(evidence.steps, times, [*times[1:], times[-1] if times else None], strict=True):
        if began is not None and ended is not None:
            name = step.phase.value.replace("_", " ")
            yield Span(name, began - ahead, max(began, ended) - ahead, "server")


def _time(text: str) -> datetime | None:
    try:
        read = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return read if read.tzinfo is not None else None


def told(result: HostResult) -> list[str]:
    """Return the timeline as lines of text."""
    return [
        f"{span.began:%H:%M:%S}  {'job: ' if span.side == 'server' else ''}{span.name} ({seconds_text(span.seconds)})"
        for span in spans(result)
    ]


def drawn(result: HostResult) -> str:
    """Return the timeline as one SVG picture, a row for each stretch; ``""`` where nothing is known."""
    rows = spans(result)
    if not rows:
        return ""
    first, last = min(span.began for span in rows), max(span.ended for span in rows)
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
        parts.append(f'<text x="{x:.0f}" y="{_ROW - 7}" text-anchor="middle" class="axis">{at:%H:%M:%S}</text>')
    for number, span in enumerate(rows, 1):
        y = _ROW * number
        x = _LABEL + _WIDTH * (span.began - first).total_seconds() / whole
        wide = max(2.0, _WIDTH * span.seconds / whole)
        label = f"{'job: ' if span.side == 'server' else ''}{span.name}"
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
        parts.append(
            f'<rect x="{x:.1f}" y="{y + 4}" width="{wide:.1f}" height="{_ROW - 8}" fill="{_COLOURS[span.side]}"/>'
        )
        parts.append(f'<text x="{x + wide + 6:.1f}" y="{y + 15}">{escape(seconds_text(span.seconds))}</text>')
    return "".join(parts) + "</svg>"
