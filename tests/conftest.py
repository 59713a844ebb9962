"""What all tests share: the lab's own fixture, and an environment without the operator's settings."""

from __future__ import annotations

import pytest

pytest_plugins = ["wsusfix.lab.plugin"]


@pytest.fixture(autouse=True)
def _no_credentials_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WSUSFIX_USERNAME", "WSUSFIX_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
