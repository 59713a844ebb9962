"""What all tests share: the lab's own fixture, and an environment without the operator's settings."""

from __future__ import annotations

import gc
import signal
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["wsusfix.lab.plugin"]

# How long an example takes says how busy the machine is.
settings.register_profile("wsusfix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wsusfix")


@pytest.fixture(autouse=True)
def _no_credentials_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WSUSFIX_USERNAME", "WSUSFIX_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def pytest_configure() -> None:
    # A shell starts what runs in its background deaf to Ctrl-C, and nohup to a terminal that closes; tests of these
    # would wait for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is signal.SIG_IGN:
        signal.signal(hang_up, signal.SIG_DFL)


#: Files that take minutes, the longest first, and then folders: what is short goes last, and fills what is left.
LONG: Final = ("test_upgrade.py", "test_reset.py", "test_session.py", "test_playbooks.py", "test_upload.py")
FOLDERS: Final = ("ansible", "pwsh", "wire", "packaging")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A file stays in one process, so that none of the long ones may be begun last.
    def rank(item: pytest.Item) -> tuple[int, int]:
        name, folder = item.path.name, item.path.parent.name
        return (
            LONG.index(name) if name in LONG else len(LONG),
            FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS),
        )

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    # Thousands of collected tests stay until the end; the collector need not go through them again and again.
    gc.collect()
    gc.freeze()
