"""Which cases of a long list are run: a spread of them, or all where the whole is asked for (``make coverage``)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, TypeVar

__all__ = ["WHOLE", "spread"]

T = TypeVar("T")

#: Every case of every list, and every cell of the table of faults.
WHOLE: Final = os.environ.get("WSUSFIX_TABLE") == "all"


def spread(cases: Iterable[T], keep: int) -> list[T]:
    """Return so many of the cases, the first and the last among them; all of them where the whole is asked for.

    For lists whose cases take the same road through the program, and time.
    """
    found = list(cases)
    if WHOLE or len(found) <= keep:
        return found
    return [found[number * (len(found) - 1) // (keep - 1)] for number in range(keep)]
