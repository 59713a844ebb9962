"""The lab for pytest: the fixture ``lab``, a laboratory of its own for each test, closed behind it.

Use it by ``pytest_plugins = ["wsusfix.lab.plugin"]`` in ``conftest.py``; ``--lab-engine pwsh`` lets a PowerShell run
the scripts.  It knows nothing of what is tested.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from wsusfix.lab import Lab

__all__ = ["lab", "lab_engine", "pytest_addoption"]

_VARIABLE: Final = "WSUSFIX_LAB_ENGINE"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--lab-engine``."""
    parser.addoption(
        "--lab-engine",
        metavar="NAME",
        help=f"what runs the scripts in the lab: pwsh; without it they are answered in Python (or {_VARIABLE})",
    )


@pytest.fixture
def lab_engine(request: pytest.FixtureRequest) -> str | None:
    """What runs the scripts: ``"pwsh"``, or ``None`` for the lab's own answers."""
    chosen = request.config.getoption("--lab-engine") or os.environ.get(_VARIABLE)
    return str(chosen) if chosen else None


@pytest.fixture
def lab(lab_engine: str | None) -> Iterator[Lab]:
    """An empty lab; add servers with ``lab.add_server(...)``."""
    from wsusfix.lab import Lab

    with Lab(engine=lab_engine) as opened:
        yield opened
