"""What every benchmark shares: take both sides in turn, take the median, print a row.

It knows numbers only, and refuses to judge: a goal that is missed is printed, not raised, for a busy machine is no
defect.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Goal", "Row", "Took", "at_least", "at_most", "interleave", "median", "stopwatch", "table"]


@dataclass(frozen=True)
class Took:
    """What one run of one side took: seconds on the clock, and seconds of this process's processor time."""

    seconds: float
    processor: float


@dataclass(frozen=True)
class Goal:
    """What a row should reach, in words, and whether it did."""

    text: str
    met: bool


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, what is used today, ours, and how they compare."""

    what: str
    theirs: str
    ours: str
    ratio: str = ""
    goal: Goal | None = None


def stopwatch(deed: Callable[[], object]) -> Took:
    """Do it once and return what it took."""
    began, used = time.perf_counter(), time.process_time()
    deed()
    return Took(time.perf_counter() - began, time.process_time() - used)


def interleave(rounds: int, *sides: Callable[[], Took]) -> list[list[Took]]:
    """Run the sides in turn, *rounds* times, the other way round every second time; return what each took.

    In turn, because a machine that others use is fast now and slow in a minute.
    """
    taken: list[list[Took]] = [[] for _ in sides]
    for number in range(rounds):
        order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
        for index in order:
            taken[index].append(sides[index]())
    return taken


def median(taken: Sequence[Took]) -> Took:
    """Return the median of the seconds and of the processor time, each by itself."""
    return Took(statistics.median(each.seconds for each in taken), statistics.median(each.processor for each in taken))


def at_least(value: float, bound: float, unit: str = "") -> Goal:
    """Return the goal that *value* is *bound* or more."""
    return Goal(f">= {bound:g}{unit}", value >= bound)


def at_most(value: float, bound: float, unit: str = "") -> Goal:
    """Return the goal that *value* is *bound* or less."""
    return Goal(f"<= {bound:g}{unit}", value <= bound)


def table(rows: Sequence[Row], *, goals: bool = True) -> str:
    """Return the rows as a Markdown table, columns aligned; without *goals* nothing is held against them."""
    lines = [("measured", "today", "wsusfix", "ratio", "goal"), ("---",) * 5]
    for row in rows:
        goal = "" if row.goal is None or not goals else f"{row.goal.text}: {'met' if row.goal.met else 'MISSED'}"
        lines.append((row.what, row.theirs, row.ours, row.ratio, goal))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(f"| {' | '.join(_padded(*each) for each in zip(line, widths, strict=True))} |" for line in lines)


def _padded(cell: str, width: int) -> str:
    return cell.ljust(width, "-" if cell == "---" else " ")
