"""What both logs share: parts of a call lie near each other, calls are told by ID, only so many are open at once."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeVar

from wsusfix.logs.stamps import decoded

__all__ = ["FEW_LINES", "GUID", "MOST_OPEN", "Place", "call_id", "remember"]

GUID: Final = rb"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"
#: Calls that may be unfinished at once; the oldest is given up for the next. Agents and worker processes have at most
#: some hundred threads.
MOST_OPEN: Final = 512
#: Lines between the parts of one call, other threads' among them, at most; by times where there are some.
FEW_LINES: Final = 2000

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Place(NamedTuple):
    """Where and when something was logged; the time is without a zone, ``None`` where the copy lost it."""

    number: int
    moment: datetime | None

    def near(self, other: Place, span: timedelta) -> bool:
        """Return whether *other* may belong to the same call; logs are not strictly in order, so either way round."""
        if self.moment is None or other.moment is None:
            return abs(other.number - self.number) <= FEW_LINES
        return abs(other.moment - self.moment) <= span


def remember(known: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep *value* as the newest, and forget the oldest when there are too many."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > MOST_OPEN:
        known.popitem(last=False)


def call_id(value: bytes | None) -> str | None:
    """Return a call ID in the one spelling by which both ends are compared."""
    text = decoded(value)
    return None if text is None else text.lower()
