"""The lab for pytest: the fixture ``lab``, a laboratory of its own for each test, closed behind it.

Use it by ``pytest_plugins = ["wsusfix.lab.plugin"]`` in ``conftest.py``.  It knows nothing of what is tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wsusfix.lab import Lab

__all__ = ["lab"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab; add servers with ``lab.add_server(...)``."""
    from wsusfix.lab import Lab

    with Lab() as opened:
        yield opened
