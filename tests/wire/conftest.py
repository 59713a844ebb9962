"""What the tests over the wire say at the end: the table of faults, as far as it was walked."""

from __future__ import annotations

from typing import Final

import pytest

from tests.told import WALKED, told
from wsusfix.lab import wsman

_WIDEST: Final = 76


@pytest.fixture
def whole_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a quick script says go out with its end however busy the machine is, where requests are counted."""
    monkeypatch.setattr(wsman, "_GRACE", 600 * wsman._GRACE)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    walked = sorted(tuple(each) for each in told(terminalreporter, WALKED))
    if not walked:
        return
    fixed = sum(not end.startswith("untouched") for _, _, _, end, _ in walked)
    again = sum(twice for *_, twice in walked)
    terminalreporter.section(
        f"faults: {len(walked)} cells, {fixed} fixed, {len(walked) - fixed} untouched until cured, {again} walked twice"
    )
    wide_fault, wide_phase = (max(len(each[column]) for each in walked) for column in (0, 1))
    for fault, phase, first, end, twice in walked:
        mark = " (2)" if twice else ""
        shown = first if len(first) <= _WIDEST else first[: _WIDEST - 3] + "..."
        line = f"{fault:<{wide_fault}}  {phase:<{wide_phase}}  {shown:<{_WIDEST}}  {end}{mark}"
        terminalreporter.write_line(line)
