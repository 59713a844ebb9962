"""What the tests over the wire say at the end: the table of faults, as far as it was walked."""

from __future__ import annotations

from typing import Final

import pytest

from tests.wire.faulty_road import Walked

__all__ = ["WALKED"]

#: The cells that were walked in this session.
WALKED: Final = pytest.StashKey[list[Walked]]()
_WIDEST: Final = 76


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    walked = terminalreporter.config.stash.get(WALKED, [])
    if not walked:
        return
    fixed = sum(not each.end.startswith("untouched") for each in walked)
    terminalreporter.section(f"faults: {len(walked)} cells, {fixed} fixed, {len(walked) - fixed} untouched until cured")
    fault, phase = (max(len(getattr(each, name)) for each in walked) for name in ("fault", "phase"))
    for each in walked:
        first = each.first if len(each.first) <= _WIDEST else each.first[: _WIDEST - 3] + "..."
        terminalreporter.write_line(f"{each.fault:<{fault}}  {each.phase:<{phase}}  {first:<{_WIDEST}}  {each.end}")
