"""The tier that needs a PowerShell: without one everything here is skipped, with one reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.pwsh.shell import Shell
from tests.told import COVERED, told
from wsusfix.lab.engine import ENGINE_VARIABLE, Engine, find_engine
from wsusfix.scripts.contracts import CONTRACTS

_HERE: Final = Path(__file__).parent


def missing() -> str:
    """Say why there is no engine; ``""`` where there is one."""
    if find_engine() is not None:
        return ""
    named = os.environ.get(ENGINE_VARIABLE)
    if named:
        return f"{ENGINE_VARIABLE} names {named!r}, which is no program here"
    return f"no PowerShell at hand: put pwsh on the path, or name one by {ENGINE_VARIABLE}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and skip it where there is no engine."""
    reason = missing()
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.pwsh)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


@pytest.fixture(scope="session")
def shell(engine: Engine) -> Iterator[Shell]:
    """One process of the engine for all tests that put scripts to it directly."""
    opened = Shell(engine)
    yield opened
    opened.close()


@pytest.fixture
def covers(record_property: Callable[[str, object], None]) -> Callable[[str, str, str], None]:
    """Takes note that a case of a script's contract was run in the engine, and how it ended."""
    return lambda script, case, outcome: record_property(COVERED, (script, case, outcome))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which cases of which contract were run."""
    covered = [tuple(each) for each in told(terminalreporter, COVERED)]
    if not covered:
        return
    terminalreporter.section("scripts run in PowerShell, by the cases of their contracts")
    wide = max(len(case) for _, case, _ in covered)
    # The order of the road, within a script that of the cases; with repetitions each is told once.
    order = list(CONTRACTS)
    for script, case, outcome in sorted(dict.fromkeys(covered), key=lambda each: order.index(each[0])):
        terminalreporter.write_line(f"{script:<15} {case:<{wide}}  {outcome}")
