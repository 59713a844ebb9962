"""A client's update agent: what its settings mean, and how its searches for updates are read from its log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.log_generator import START, call, client_call, client_header, client_line
from wsusfix import agent
from wsusfix.errors import AnswerError
from wsusfix.logs.detections import Detection, detections
from wsusfix.scripts.contracts import CONTRACTS

URL = "http://wsus01:8530/"


def settings(**changed: Any) -> agent.ClientSettings:
    told = {
        "script": "client",
        "computer_name": "PC01",
        "clock": "2008-09-02T10:00:00Z",
        "server": "http://wsus01:8530",
        "uses_server": "1",
        "disabled": "0",
        "policy_options": "",
        "own_options": "4",
        "service": "running",
        "office": True,
        **changed,
    }
    return agent.parse("pc01", CONTRACTS["client"].read(told))


@pytest.mark.parametrize(
    ("url", "name", "same"),
    [
        ("http://wsus01", "wsus01", True),
        ("https://WSUS01.corp.example:8531/", "wsus01", True),
        ("http://wsus01:8530", "WSUS01.corp.example.", True),
        ("wsus01", "wsus01", True),
        ("http://10.0.0.7/", "10.0.0.7", True),
        ("http://wsus01.corp.example", "wsus01.other.example", False),
        ("http://wsus011", "wsus01", False),
        ("http://10.0.0.7", "10.0.0.8", False),
        ("", "wsus01", False),
        ("http://", "", False),
        ("http://[x", "wsus01", False),
    ],
)
def test_a_server_is_the_same_by_its_name_with_or_without_domain_port_and_case(url: str, name: str, same: bool) -> None:
    assert agent.same_server(url, name) is same


@pytest.mark.parametrize(
    ("changed", "disabled"),
    [
        ({}, False),
        ({"disabled": "1"}, True),
        ({"policy_options": "1"}, True),
        ({"own_options": "1"}, True),
        ({"own_options": "1", "policy_options": "4"}, False),
        ({"disabled": "", "own_options": ""}, False),
    ],
)
def test_automatic_updates_are_off_by_policy_or_by_hand_where_policy_is_silent(
    changed: dict[str, str], disabled: bool
) -> None:
    assert settings(**changed).disabled is disabled


def test_a_client_asks_the_server_only_where_policy_says_to_use_it() -> None:
    assert settings().asks(["other", "WSUS01"])
    assert not settings().asks(["other"])
    assert not settings(uses_server="0").asks(["wsus01"])
    assert not settings(uses_server="").asks(["wsus01"])
    assert not settings(server="").uses_server


def test_settings_say_what_a_person_wants_to_know() -> None:
    told = str(settings(disabled="1", service="", office=False, server="http://\x1b[2J"))
    assert all(line.isprintable() for line in told.split("\n"))
    for word in ("off", "absent", "no mark of it", "PC01"):
        assert word in told


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(AnswerError, match="clock"):
        settings(clock="now")


# --- searches for updates -------------------------------------------------------------------------------------------


def line(text: str, component: str = "Agent", tid: str = "b54", seconds: int = 0) -> str:
    return client_line(START + timedelta(seconds=seconds), 912, tid, component, text)


BEGIN = line("** START **  Agent: Finding updates [CallerId = AutomaticUpdates]")
SYNC = [
    line("+++++++++++  PT: Synchronizing server updates  +++++++++++", "PT"),
    line(f"  + ServiceId = {{3DA21691}}, Server URL = {URL}ClientWebService/client.asmx", "PT"),
]
FOUND = line("  * Found 0 updates and 51 categories in search; evaluated appl. rules of 683 out of 1146", seconds=3)
END = line("**  END  **  Agent: Finding updates [CallerId = AutomaticUpdates]", seconds=3)


def found_in(*lines: str, offset: timedelta | None = None) -> list[Detection]:
    return detections("".join(f"{each}\r\n" for each in lines).encode(), "WindowsUpdate.log", offset)


def test_a_search_that_was_answered_is_served_by_the_server_it_asked() -> None:
    (found,) = found_in(line("noise"), BEGIN, *SYNC, FOUND, END)
    assert (found.served, found.ended, found.error, found.line) == (True, True, None, 2)
    assert found.server_url == f"{URL}ClientWebService/client.asmx"
    assert found.time == START.replace(tzinfo=None)


@pytest.mark.parametrize(
    "lines",
    [
        [BEGIN, *SYNC, FOUND],  # not over yet
        [BEGIN, *SYNC, END],  # nothing says that it came through
        [BEGIN, FOUND, END],  # no server was asked
        [BEGIN, SYNC[0], FOUND, END],
        [BEGIN, SYNC[1], SYNC[0], FOUND, END],  # the server of something else
        [BEGIN, FOUND, *SYNC, END],  # what was found before it asked is not from there
        [BEGIN, *SYNC, FOUND.replace("b54", "b55"), END],  # of another thread
        [BEGIN, *SYNC, FOUND, END.replace("912", "913")],
    ],
    ids=range(8),
)
def test_a_search_that_does_not_show_all_of_it_is_not_served(lines: list[str]) -> None:
    assert not any(found.served for found in found_in(*lines))


@pytest.mark.parametrize(
    ("text", "component", "error"),
    [
        ("WARNING: SyncUpdates failure, error = 0x8024400E, soap client error = 7", "PT", "0x8024400E"),
        ("WARNING: SyncUpdates_WithRecovery failed.: 0x8024402C", "PT", "0x8024402C"),
        ("  * WARNING: Exit code = 0x80072EE7", "Agent", "0x80072EE7"),
        ("  * WARNING: Failed to filter search results, error = 0x8024000B", "Agent", None),
        ("  * WARNING: Exit code = 0x00000000", "Agent", None),
    ],
)
def test_an_error_of_the_synchronisation_ends_it_and_others_are_nothing_unusual(
    text: str, component: str, error: str | None
) -> None:
    (found,) = found_in(BEGIN, *SYNC, line(text, component), FOUND, END)
    assert found.error == error
    assert found.served is (error is None)
    assert found.ended


def test_searches_of_several_threads_are_told_apart() -> None:
    other = [each.replace("\tb54\t", "\tb60\t") for each in (BEGIN, *SYNC, FOUND, END)]
    failing = line("WARNING: SyncUpdates failure, error = 0x8024400E", "PT")
    found = found_in(BEGIN, other[0], *SYNC, *other[1:3], failing, *other[3:], END)
    assert [(each.served, each.error) for each in found] == [(True, None), (False, "0x8024400E")]


def test_a_failed_call_as_a_client_logs_it_is_a_search_that_failed() -> None:
    (found,) = found_in(client_header(timedelta(hours=2)), *client_call(call(1), timedelta(hours=2)))
    assert (found.error, found.served) == ("0x8024400E", False)
    assert found.time is not None
    assert found.time.utcoffset() == timedelta(hours=2)


def test_the_zone_is_the_one_given_until_a_header_says_another() -> None:
    (found,) = found_in(BEGIN, *SYNC, FOUND, END, offset=timedelta(hours=-7))
    assert found.time is not None
    assert found.time.utcoffset() == timedelta(hours=-7)


def test_bytes_of_any_kind_give_no_search_and_no_error() -> None:
    assert detections(bytes(range(256)) * 50 + b"\n** START **  Agent: Finding updates\n" * 50, "x") == []
