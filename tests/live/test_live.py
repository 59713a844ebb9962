"""A real server, where somebody has one: diagnosis only, unless told otherwise.

Set ``WSUSFIX_LIVE_HOST`` and the credentials' variables; ``WSUSFIX_LIVE_PACKAGE`` and
``WSUSFIX_LIVE_REMEDIATE=yes`` together let the update be installed.
"""

from __future__ import annotations

import os

import pytest

import wsusfix

# Read at import: the suite's own fixtures hide the operator's settings from every test.
HOST = os.environ.get("WSUSFIX_LIVE_HOST", "")
USERNAME = os.environ.get("WSUSFIX_USERNAME")
PASSWORD = os.environ.get("WSUSFIX_PASSWORD")
PACKAGE = os.environ.get("WSUSFIX_LIVE_PACKAGE", "")
REMEDIATE = os.environ.get("WSUSFIX_LIVE_REMEDIATE") == "yes"

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not HOST, reason="WSUSFIX_LIVE_HOST names no server"),
]


def test_a_real_server_is_diagnosed_and_nothing_is_changed() -> None:
    with wsusfix.connect(HOST, username=USERNAME, password=PASSWORD) as server:
        first = server.diagnose()
        second = server.diagnose()
        proof = server.verify()
    print(first)
    assert first.verdict == second.verdict
    assert first.facts.wsus == second.facts.wsus
    assert first.facts.staging.state == second.facts.staging.state
    assert proof.verdict == first.verdict
    assert first.facts.os.architecture is not None


@pytest.mark.skipif(
    not (REMEDIATE and PACKAGE), reason="WSUSFIX_LIVE_REMEDIATE and WSUSFIX_LIVE_PACKAGE do not ask for it"
)
def test_a_real_server_is_mended_and_a_second_run_changes_nothing() -> None:
    options = wsusfix.Options(package=PACKAGE)
    with wsusfix.connect(HOST, username=USERNAME, password=PASSWORD) as server:
        outcome = server.apply(server.plan(options), consent=True, on_event=print)
        again = server.apply(server.plan(options), consent=True)
    print(outcome)
    assert outcome.ok or outcome.restart_pending
    assert not again.changed
