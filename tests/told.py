"""What tests have to say beyond passed and failed: told with their reports, so that it comes from any process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

__all__ = ["COVERED", "WALKED", "told"]

#: A cell of the table of faults that was walked: fault, phase, first end, last end.
WALKED: Final = "walked"
#: A case of a script's contract that ran in PowerShell: script, case, outcome.
COVERED: Final = "covered"


def told(reporter: pytest.TerminalReporter, what: str) -> Iterator[Any]:
    """Yield everything of this kind that tests have recorded as a property."""
    for reports in reporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call" else ():
                if name == what:
                    yield value
