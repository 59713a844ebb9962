"""The lab's own search of logs, by parameters that no connection chooses: what it leaves out, and where it cuts."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from wsusfix.lab import Host, Lab
from wsusfix.lab.behaviours import BEHAVIOURS
from wsusfix.logs import FileKind
from wsusfix.logs.machine import client_search, parse, server_search
from wsusfix.scripts.contracts import CONTRACTS

START = datetime(2008, 6, 16, 7, tzinfo=timezone.utc)


@pytest.fixture
def host() -> Any:
    with Lab() as lab:
        yield lab.add_server("wsus01", wsus="3.0 SP1")


def asked(host: Host, search: dict[str, Any], **changed: Any) -> dict[str, Any]:
    told = BEHAVIOURS["search_logs"](host.session(), {**search, **changed}, iter(()))
    return CONTRACTS["search_logs"].read({"script": "search_logs", **told})


@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_no_more_files_are_read_than_may_be_and_the_rest_is_counted(host: Host, most: int) -> None:
    for number in range(4):
        host.files.create(f"{host.wsus.log_path}.{number}", b"x")
    answer = asked(host, server_search(60), most_files=most)
    assert (answer["files"], answer["left_out"]) == (min(most, 5), max(0, 5 - most))
    assert f"file_{min(most, 5)}" not in answer


@pytest.mark.parametrize("after", range(900, 4000, 170))
def test_a_call_that_begins_near_the_end_of_a_stretch_is_brought_back_whole(host: Host, after: int) -> None:
    with Lab() as lab:
        client = lab.add_client("pc01", server=lab.add_server("wsus02", wsus="3.0 SP1"))
        assert client.agent is not None
        for number in range(6):
            client.agent.detect(START + timedelta(minutes=number))
        # The error is told again behind the call: without that, nothing that is sought stands behind its ID.
        lines = (client.files.read(client.agent.path) or b"").splitlines(keepends=True)
        kept = [line for line in lines if b"WithRecovery" not in line and b"Exit code" not in line]
        client.files.replace(client.agent.path, b"".join(kept))
        whole = parse("pc01", FileKind.CLIENT, asked(client, client_search(60)))
        assert len(whole.findings) == 8
        cut = parse("pc01", FileKind.CLIENT, asked(client, client_search(60), before=400, after=after, block=3000))
        assert [(each.call_id, each.conclusive) for each in cut.findings] == [
            (each.call_id, True) for each in whole.findings
        ]
