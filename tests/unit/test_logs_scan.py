"""Logs to findings: what was put in is found, nothing else is, and nothing that is read does any harm."""

from __future__ import annotations

import io
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import log_generator as made
from tests.log_generator import (
    START,
    Call,
    Log,
    call,
    client_call,
    client_header,
    client_line,
    server_call,
    server_line,
)
from wsusfix import advisory, logs
from wsusfix.errors import UsageError
from wsusfix.logs import ClientFinding, FileKind, Finding, LogProblem, ServerFinding, reading
from wsusfix.logs.client import ClientCalls
from wsusfix.logs.entries import Entry, EntryReader

SOAP, CODE, METHOD, ID = (
    "SOAP fault 0x000190",
    "ErrorCode InternalServerError",
    "method ClientWebService/SyncUpdates",
    "call ID",
)
EXCEPTION, INSERT, SYNC = (
    "System.ArgumentException",
    "frame System.Collections.Hashtable.Insert",
    "frame ClientImplementation.GetSyncInfo",
)


def found_in(content: bytes | str, **options: Any) -> list[Finding]:
    data = content.encode() if isinstance(content, str) else content
    return list(logs.scan(io.BytesIO(data), **options))


def text(*entries: str) -> str:
    return "".join(f"{entry}\n" for entry in entries)


def entry(line: str, number: int) -> Entry:
    reader = EntryReader()
    reader.begin(number)
    (only,) = [*reader.feed(line.encode() + b"\n"), *reader.end()]
    return only


def only_client(content: bytes | str, **options: Any) -> ClientFinding:
    (found,) = found_in(content, **options)
    assert isinstance(found, ClientFinding)
    return found


def only_server(content: bytes | str, **options: Any) -> ServerFinding:
    (found,) = found_in(content, **options)
    assert isinstance(found, ServerFinding)
    return found


# --- one call -------------------------------------------------------------------------------------------------------


def test_a_client_s_group_of_lines_is_one_finding_with_all_that_it_says() -> None:
    one = call(3, time=datetime(2008, 6, 16, 7, 1, 2, 345000, tzinfo=timezone.utc))
    found = only_client(text(client_header(timedelta(hours=-6)), *client_call(one, timedelta(hours=-6))), name="c.log")
    assert found == ClientFinding(
        file="c.log",
        line=4,
        time=datetime(2008, 6, 16, 1, 1, 2, 345000, tzinfo=timezone(timedelta(hours=-6))),
        pid=912,
        tid="b54",
        error="0x8024400E",
        http_status=200,
        soap_code="0x000190",
        error_code="InternalServerError",
        method="http://www.microsoft.com/SoftwareDistribution/Server/ClientWebService/SyncUpdates",
        call_id=one.call_id,
        server_url="http://wsus.example/ClientWebService/client.asmx",
    )
    assert found.conclusive


def test_a_server_s_exception_frames_and_fault_are_one_finding_with_all_that_they_say() -> None:
    one = call(3, time=datetime(2008, 6, 16, 7, 1, 2, 345000, tzinfo=timezone.utc))
    found = only_server(text(made.server_noise(0, START), *server_call(one)), name="s.log")
    internal = "Microsoft.UpdateServices.Internal.ClientImplementation"
    assert found == ServerFinding(
        file="s.log",
        line=2,
        time=one.time,
        thread="w3wp.7",
        exception="System.ArgumentException",
        method="ClientImplementation.SyncUpdates",
        key="4711",
        frames=(
            "System.Collections.Hashtable.Insert",
            "System.Collections.Hashtable.Add",
            f"{internal}.GetSyncInfo",
            f"{internal}.SyncUpdates",
        ),
        call_id=one.call_id,
        error_code="InternalServerError",
        server_url="http://wsus.example/ClientWebService/client.asmx",
    )
    assert found.conclusive


@pytest.mark.parametrize(("part", "missing"), [*zip(made.CLIENT_PARTS, (SOAP, CODE, METHOD, ID), strict=True)])
def test_a_client_s_error_without_the_rest_is_inconclusive_and_says_what_is_missing(part: str, missing: str) -> None:
    found = only_client(text(*client_call(call().without(part))))
    assert found.missing == (missing,)
    assert not found.conclusive


@pytest.mark.parametrize(
    ("one", "missing"),
    [
        (call().without("insert"), (INSERT,)),
        (call().without("sync"), (SYNC,)),
        (call().without("insert", "sync"), (INSERT, SYNC)),
        (call().without("exception"), (EXCEPTION, INSERT, SYNC)),
    ],
)
def test_a_server_s_fault_without_its_whole_cause_is_inconclusive_and_says_what_is_missing(
    one: Call, missing: tuple[str, ...]
) -> None:
    assert only_server(text(*server_call(one))).missing == missing


def test_a_server_s_stack_proves_the_fault_without_the_line_that_has_the_id() -> None:
    found = only_server(text(*server_call(call().without("fault"))))
    assert found.conclusive
    assert found.call_id is None


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("0x000190", "0x00012c", SOAP),
        ("InternalServerError(5)", "InvalidCookie(1)", CODE),
        ('/SyncUpdates"', '/GetCookie"', METHOD),
        ("HTTP status code = 200", "HTTP status code = 500", "HTTP status 200"),
    ],
)
def test_an_error_with_another_cause_is_inconclusive(old: str, new: str, missing: str) -> None:
    content = text(*client_call(call()))
    assert old in content
    assert only_client(content.replace(old, new)).missing == (missing,)


def test_a_secure_address_of_the_method_is_the_same_method() -> None:
    assert only_client(text(*client_call(call())).replace("http://", "https://")).conclusive


def test_the_echo_of_an_error_in_other_threads_of_the_process_is_no_call_of_its_own() -> None:
    echo = client_line(START + timedelta(seconds=2), 912, "fb0", "AU", "  # WARNING: Failed, error = 0x8024400E")
    assert only_client(text(*client_call(call()), echo)).conclusive
    later = client_line(START + timedelta(minutes=5), 912, "fb0", "AU", "  # WARNING: Failed, error = 0x8024400E")
    assert [found.conclusive for found in found_in(text(*client_call(call()), later))] == [True, False]


def test_two_calls_of_one_thread_are_two_findings_however_close() -> None:
    found = found_in(text(*client_call(call(1)), *client_call(call(2))))
    assert [(each.call_id, each.conclusive) for each in found] == [(call(1).call_id, True), (call(2).call_id, True)]


def test_two_calls_of_one_thread_that_both_lack_something_are_two_findings() -> None:
    found = found_in(text(*client_call(call(1).without("id")), *client_call(call(2).without("soap"))))
    assert [(each.call_id, each.conclusive) for each in found] == [(None, False), (call(2).call_id, False)]


def test_parts_of_calls_minutes_apart_are_not_put_together() -> None:
    first, second = call(1).without("method", "id"), call(2, time=START + timedelta(minutes=1))
    rest = client_call(second)[-5:]  # the lines from Message on: method and ID, without an error with codes
    found = found_in(text(*client_call(first), *rest))
    assert not any(each.conclusive for each in found)
    assert found[0].call_id is None


def test_a_finding_is_told_when_its_last_line_is_there_and_others_when_they_are_old() -> None:
    lines = [*client_call(call(1)), *client_call(call(2, tid="b55").without("id")), *client_call(call(3, tid="b56"))]
    numbers = [*range(1, 22), *range(2100, 2111)]  # the third call stands two thousand lines further down
    calls = ClientCalls("c.log")
    told = [
        (number, each.line)
        for number, line in zip(numbers, lines, strict=True)
        for each in calls.take(entry(line, number))
    ]
    assert told == [(9, 3), (2102, 14), (2108, 2102)]


@pytest.mark.parametrize(("seconds", "one"), [(9, True), (11, False), (3600, False)])
def test_a_fault_long_after_an_exception_of_its_thread_is_another_call_s(seconds: int, one: bool) -> None:
    stack, _ = server_call(made.call(1))
    fault = made.server_fault(made.call(2, time=made.START + timedelta(seconds=seconds)))
    found = list(logs.scan(io.BytesIO(f"{stack}\n{fault}\n".encode())))
    assert [(each.conclusive, each.call_id) for each in found] == (
        [(True, made.call(2).call_id)] if one else [(True, None), (False, made.call(2).call_id)]
    )


@pytest.mark.parametrize(
    ("quoted", "encoding"),
    [
        ("\u00ab {} \u00bb", "utf-8"),
        ("\u00ab {} \u00bb", "cp1252"),
        ("\u00ab\u00a0{}\u00a0\u00bb", "utf-8"),
        ("\u00ab\u00a0{}\u00a0\u00bb", "cp1252"),
        ("\u201e{}\u201d", "utf-8"),
        ("\u201e{}\u201c", "cp1252"),
        ("\u201e{}\u201d", "cp1250"),
        ("\u2018{}\u2019", "cp1252"),
        ("\u300c{}\u300d", "utf-8"),
    ],
)
def test_the_key_is_found_in_the_quotes_of_any_language(quoted: str, encoding: str) -> None:
    text = "\n".join(server_call(made.call(1))).replace("'4711'", quoted.format("4711"))
    (found,) = logs.scan(io.BytesIO(text.encode(encoding)))
    assert isinstance(found, ServerFinding)
    assert (found.key, found.conclusive) == ("4711", True)


def test_an_exception_logged_again_on_its_way_up_is_one_call() -> None:
    stack, fault = server_call(call())
    assert only_server(text(stack, stack, fault)).call_id == call().call_id


def test_a_server_s_fault_of_another_cause_is_no_finding() -> None:
    cause = server_line(START, "Error", "w3wp.7", advisory.SERVER_METHOD, "System.Data.SqlClient.SqlException: Timeout")
    assert found_in(text(cause, made.server_fault(call()))) == []


def test_an_argument_that_is_refused_elsewhere_in_the_same_method_is_no_finding() -> None:
    cause = (
        f"{advisory.SERVER_EXCEPTION}: The element already exists in the collection\n   at System.Guid..ctor(String g)"
    )
    stack = server_line(START, "Error", "w3wp.7", advisory.SERVER_METHOD, cause)
    assert found_in(text(stack, made.server_fault(call()))) == []


def test_an_id_of_something_else_is_not_the_call_s() -> None:
    lines = client_call(call())
    other = client_line(START, 912, "b54", "PT", f"WARNING: UpdateID:{call(9).call_id}")
    assert only_client(text(*lines[:4], other, *lines[4:])).call_id == call().call_id


def test_the_id_of_one_fault_is_not_given_to_the_next() -> None:
    faults = [made.server_fault(call(1), "ConfigChanged"), made.server_fault(call(2)).replace("ID=", "no ")]
    loose = [line.partition("CreateException\t")[2] for line in faults]
    assert only_server(text(*loose)).call_id is None


def test_client_and_server_in_one_file_are_both_found() -> None:
    content = text(*client_call(call(1)), *server_call(call(2)), *client_call(call(3)))
    log = logs.scan(io.BytesIO(content.encode()))
    assert sorted((each.kind, each.call_id) for each in log) == sorted(
        [("client", call(1).call_id), ("server", call(2).call_id), ("client", call(3).call_id)]
    )
    assert log.file.kind is FileKind.MIXED


# --- what must not match --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        'Error IISCustomAction Command /Install FailedSystem.ArgumentException: Item has already been added. Key "a"',
        "2008-06-14 02:59:57  Error  MWUSSetup  System.ArgumentException: The element already exists in the collection",
        "Error 0x80004005, Unexpected DeploymentAction for update 4711. Returned from CreateUpdateNode",
        client_line(START, 9, "a", "PT", "WARNING: SyncUpdates failure, error = 0x8024400D, soap client error = 7"),
        client_line(START, 9, "a", "PT", "WARNING: Exceeded max server round trips: 0x80244010"),
        client_line(START, 9, "a", "PT", "WARNING: Send failed, error = 0x8024402C"),
        *(made.server_noise(number, START) for number in range(len(made.SERVER_NOISE))),
        *(made.client_noise(number, START) for number in range(len(made.CLIENT_NOISE))),
    ],
)
def test_the_same_words_of_another_cause_are_no_finding(line: str) -> None:
    assert found_in(text(line)) == []
    assert found_in(text(line) * 2000) == []


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [made.placeholders, made.without_times, made.messages_only])
def test_a_client_s_group_without_its_times_is_conclusive_all_the_same(damage: Callable[[str], str]) -> None:
    found = only_client(damage(text(*client_call(call()))))
    assert found.conclusive
    assert found.time is None
    assert found.call_id == call().call_id


@pytest.mark.parametrize("damage", [made.without_times, made.blanks])
def test_a_server_s_group_without_its_times_is_conclusive_all_the_same(damage: Callable[[str], str]) -> None:
    content = damage(text(*server_call(call())))
    found = only_server(content)
    assert (found.conclusive, found.thread, found.call_id) == (True, "w3wp.7", call().call_id)


def test_a_line_cut_off_behind_the_error_is_still_the_beginning_of_a_call() -> None:
    lines = [line.split(", soap")[0] for line in client_call(call())]
    found = only_client(text(*lines))
    assert found.conclusive
    assert found.http_status is None


def test_a_server_s_messages_without_any_beginning_are_read_as_far_as_they_go() -> None:
    stack, fault = (entry.partition("w3wp.7\t")[2] for entry in server_call(call().without("insert", "sync")))
    found = only_server(text(stack, fault))
    assert (found.missing, found.method, found.call_id) == ((INSERT, SYNC), advisory.SERVER_METHOD, call().call_id)


def test_a_finding_among_messages_without_any_beginning_has_its_line() -> None:
    assert only_client(made.messages_only(text(*client_call(call())))).line == 3


@pytest.mark.parametrize("at", ["Hash", "System.Collections.", "Hashtable.Ins", "GetSync", "ArgumentEx", "Internal"])
def test_a_name_that_is_broken_anywhere_is_whole_again(at: str) -> None:
    whole = text(*server_call(call()))
    assert at in whole
    found = only_server(whole.replace(at, f"{at}\n"))
    assert (found.conclusive, found.call_id) == (True, call().call_id)


def test_lines_broken_by_a_mail_program_and_quoted_by_another_are_read() -> None:
    for content in (text(*client_call(call())), text(*server_call(call()))):
        (found,) = found_in(made.quoted(made.broken(content)))
        assert (found.conclusive, found.call_id) == (True, call().call_id)


@pytest.mark.parametrize("width", range(25, 91, 5))
@pytest.mark.parametrize("breaks", [True, False], ids=["words broken", "words whole"])
def test_logs_wrapped_at_words_at_any_width_lose_nothing(width: int, breaks: bool) -> None:
    one, two = made.call(1), made.call(2, thread="w3wp.9", key="4712", tid="c01")
    for each in range(width, width + 5):
        server = made.word_wrapped([*server_call(one), *server_call(two)], each, breaks)
        found = list(logs.scan(io.BytesIO(server.encode()), name="s"))
        assert [(item.call_id, item.conclusive) for item in found] == [(one.call_id, True), (two.call_id, True)]
        assert [item.key for item in found if isinstance(item, ServerFinding)] == ["4711", "4712"]
        client = made.word_wrapped([*client_call(one), *client_call(two)], each, breaks)
        both = [*found, *logs.scan(io.BytesIO(client.encode()), name="c")]
        told = logs.correlate(both)
        assert (len(both), told.calls, len(told.pairs), told.inconclusive) == (4, 2, 2, 0)


@pytest.mark.parametrize("thread", ["w3wp.7", "w3wp.12", "WsusService.3"])
@pytest.mark.parametrize("damage", [lambda text: text, made.blanks, made.translated], ids=["tabs", "blanks", "danish"])
def test_logs_cut_in_the_middle_of_words_at_any_width_show_each_call_once(
    thread: str, damage: Callable[[str], str]
) -> None:
    one, two = made.call(1, thread=thread), made.call(2, thread=f"{thread}1", key="4712", tid="c01")
    content = damage(text(*server_call(one)[:1], *server_call(two), *server_call(one)[1:]))
    for width in range(25, 121):
        found = list(logs.scan(io.BytesIO(made.broken(content, width).encode())))
        assert {(item.call_id, item.conclusive) for item in found} == {(one.call_id, True), (two.call_id, True)}, width
        assert len(found) == 2


def test_an_exception_of_another_type_in_a_wrapped_log_is_still_none_of_ours() -> None:
    other = [line.replace("System.ArgumentException", "System.FormatException") for line in server_call(made.call(1))]
    for width in range(25, 91):
        assert list(logs.scan(io.BytesIO(made.word_wrapped(other, width, False).encode()))) == []


def test_a_fault_whose_line_lost_its_thread_is_of_the_call_of_the_same_moment() -> None:
    one, two = made.call(1), made.call(2, thread="w3wp.9", time=made.START + timedelta(seconds=3))
    first, second = server_call(one), server_call(two)
    second[1] = second[1].replace("w3wp.9", "w3wp9")
    found = list(logs.scan(io.BytesIO("\n".join([first[0], *second, first[1], ""]).encode())))
    assert {(each.call_id, each.conclusive) for each in found} == {(one.call_id, True), (two.call_id, True)}


def test_a_stack_longer_than_any_is_still_of_its_thread() -> None:
    filler = "   at A.B(Object c)\n" * 150
    found = only_server(text(*server_call(call())).replace("   at Microsoft", f"{filler}   at Microsoft", 1))
    assert (found.conclusive, found.thread, found.call_id) == (True, "w3wp.7", call().call_id)
    assert len(found.frames) < 100


def test_a_status_that_was_cut_off_says_nothing() -> None:
    found = only_client(text(*client_call(call())).replace("HTTP status code = 200", "HTTP status code = 2"))
    assert (found.conclusive, found.http_status) == (True, None)


def test_a_call_whose_error_line_was_lost_is_inconclusive() -> None:
    lines = [line for line in client_call(call()) if "0x8024400" not in line]
    assert only_client(text(*lines)).missing == ("error 0x8024400E",)


def test_an_agent_too_old_for_milliseconds_is_read() -> None:
    found = only_client(text(*client_call(call())).replace(":000\t", "\t"))
    assert found.conclusive
    assert found.time == START.replace(tzinfo=None)


@pytest.mark.parametrize("stamp", ["2008-13-45", "0000-00-00"])
def test_a_day_that_does_not_exist_is_no_time(stamp: str) -> None:
    found = only_client(text(*client_call(call())).replace("2008-06-16", stamp))
    assert found.conclusive
    assert found.time is None


@pytest.mark.parametrize(("zone", "known"), [("+0000", True), ("-0930", True), ("+9900", False), ("soon", False)])
def test_the_zone_is_the_header_s_when_it_can_be_one(zone: str, known: bool) -> None:
    header = client_header(timedelta(0)).replace("+0000", zone)
    found = only_client(text(header, *client_call(call())))
    assert found.time is not None
    assert (found.time.tzinfo is not None) is known


def test_an_offset_that_is_given_counts_until_a_header_says_another() -> None:
    given = timedelta(hours=5, minutes=30)
    content = text(*client_call(call(1)), client_header(timedelta(0)), *client_call(call(2)))
    first, second = found_in(content, utc_offset=given)
    assert first.time is not None
    assert second.time is not None
    assert (first.time.utcoffset(), second.time.utcoffset()) == (given, timedelta(0))


# --- what was put in is found, nothing else is ----------------------------------------------------------------------


def calls_found(content: bytes | io.IOBase | Path, **options: Any) -> list[Any]:
    """What tells one finding from another, for both logs, problems left out."""
    source: Any = io.BytesIO(content) if isinstance(content, bytes) else content
    found = []
    for each in logs.scan(source, **options):
        if isinstance(each, ClientFinding):
            found.append(("client", each.call_id or "", str(each.tid), each.missing))
        elif isinstance(each, ServerFinding):
            found.append(("server", each.call_id or "", str(each.thread), each.missing))
    return sorted(found)


def calls_put_in(log: Log) -> list[Any]:
    return sorted(map(_client_put_in if log.kind == "client" else _server_put_in, log.calls))


def _client_put_in(one: Call) -> Any:
    names = dict(zip(made.CLIENT_PARTS, (SOAP, CODE, METHOD, ID), strict=True))
    missing = tuple(name for part, name in names.items() if part not in one.parts)
    return "client", one.call_id if "id" in one.parts else "", one.tid, missing


def _server_put_in(one: Call) -> Any:
    names = {"exception": EXCEPTION, "insert": INSERT, "sync": SYNC}
    there = one.parts if "exception" in one.parts else ()
    missing = tuple(name for part, name in names.items() if part not in there)
    return "server", one.call_id if "fault" in one.parts else "", one.thread, missing


@settings(max_examples=150, deadline=None)
@given(made.client_logs() | made.server_logs())
def test_what_was_put_into_a_log_is_found_and_nothing_else(log: Log) -> None:
    assert calls_found(log.content()) == calls_put_in(log)


@settings(max_examples=60, deadline=None)
@given(made.server_logs(whole=True), st.data())
def test_a_call_that_stands_in_two_files_of_a_rolled_over_log_is_put_together(
    tmp_path_factory: pytest.TempPathFactory, log: Log, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("rolled")
    place = data.draw(st.integers(0, len(log.entries)))
    (folder / "SoftwareDistribution.log.old").write_bytes(log.content(0, place))
    (folder / "SoftwareDistribution.log").write_bytes(log.content(place))
    report = logs.examine(folder)
    assert sorted((each.call_id, each.conclusive) for each in report.findings) == sorted(
        (one.call_id, True) for one in log.calls
    )


ECHOED = made.client_line(START + timedelta(milliseconds=55), 912, "c44", "AU", "  # Search failed: 0x8024400E")


@pytest.mark.parametrize("first", range(1, 12))
def test_a_client_s_call_that_stands_in_two_files_is_put_together(tmp_path: Path, first: int) -> None:
    lines = [*client_call(call()), ECHOED]
    (tmp_path / "WindowsUpdate.log.1").write_text(text(*lines[:first]))
    (tmp_path / "WindowsUpdate.log").write_text(text(*lines[first:]))
    (found,) = logs.examine(tmp_path).findings
    assert isinstance(found, ClientFinding)
    # An ID by itself says nothing of which call it is.
    assert (found.conclusive, found.http_status) == (not lines[first].endswith(f"ID:{call().call_id}"), 200)
    assert found.file.endswith(".log.1" if first > 2 else ".log")


def test_a_client_s_error_that_no_call_of_another_file_explains_stays(tmp_path: Path) -> None:
    (tmp_path / "WindowsUpdate.log.1").write_text(text(*client_call(call())))
    later = made.client_line(START + timedelta(minutes=2), 912, "c44", "AU", "  # Search failed: 0x8024400E")
    other = made.client_line(START, 913, "c44", "AU", "  # Search failed: 0x8024400E")
    (tmp_path / "WindowsUpdate.log").write_text(text(ECHOED, later, other))
    assert [found.conclusive for found in logs.examine(tmp_path).findings] == [False, False, True]


def test_halves_of_different_logs_are_not_put_together(tmp_path: Path) -> None:
    stack, fault = server_call(call())
    (tmp_path / "a.log").write_text(text(stack))
    (tmp_path / "b.log").write_text(text(fault))
    assert len(logs.examine(tmp_path).findings) == 2


# --- blocks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that a short log has many, and nothing is parsed whole."""
    for name, value in (("_HEAD", 64), ("BLOCK", 4096), ("_BEFORE", 2048), ("_AFTER", 4096), ("_KEPT", 5120)):
        monkeypatch.setattr(reading, name, value)


class Stingy(io.RawIOBase):
    """A stream that gives a few bytes at a time and cannot go back."""

    def __init__(self, content: bytes, sizes: Iterator[int]) -> None:
        self._content = io.BytesIO(content)
        self._sizes = sizes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._content.read(min(len(buffer), next(self._sizes)))
        buffer[: len(data)] = data
        return len(data)


def healthy(lines: int) -> str:
    return text(*(client_line(START, 912, f"{number:x}", "AU", "AU setting next timeout") for number in range(lines)))


def padded(*groups: list[str], lines: int = 120) -> str:
    noise = [made.client_noise(number, START) for number in range(lines)]
    return text(*noise, *(line for group in groups for line in (*group, *noise)))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("encoding", made.ENCODINGS)
def test_findings_far_apart_have_the_lines_they_stand_on(encoding: str) -> None:
    content = padded(client_call(call(1)), server_call(call(2)), client_call(call(3)))
    data = made.encoded(content, encoding)
    lines = content.split("\n")
    expected = [
        (number, kind)
        for number, line in enumerate(lines, 1)
        for kind, sign in (("client", "0x8024400E, soap"), ("server", "dictionary: '4711'"))
        if sign in line
    ]
    assert len(expected) == 3
    for source in (io.BytesIO(data), Stingy(data, iter(lambda: 333, 0))):
        assert [(each.line, each.kind) for each in logs.scan(source)] == expected


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_call_is_found_wherever_a_block_ends(encoding: str) -> None:
    group = made.encoded(text(*client_call(call())), encoding)
    line = made.encoded(client_line(START, 1, "a", "AU", "") + "\n", encoding)
    for shift in range(0, 6200, 37):
        front = (line * 200)[: 8000 + shift - shift % 2] + made.encoded("\n", encoding)
        (found,) = logs.scan(io.BytesIO(front + group + line * 50))
        assert found.conclusive, shift


@pytest.mark.usefixtures("small_blocks")
def test_a_header_far_in_front_gives_the_zone_wherever_a_block_ends() -> None:
    line = client_line(START, 1, "a", "AU", "")
    for shift in range(0, 5000, 61):
        content = text("#" * shift, client_header(timedelta(hours=9)), *[line] * 400, *client_call(call()))
        found = only_client(content)
        assert found.time is not None
        assert found.time.utcoffset() == timedelta(hours=9), shift


@settings(max_examples=60, deadline=None)
@given(made.client_logs(whole=True) | made.server_logs(whole=True), st.lists(st.integers(1, 900), min_size=1))
def test_how_many_bytes_a_stream_gives_at_a_time_changes_nothing(log: Log, sizes: list[int]) -> None:
    content = log.content()
    endless = (size for _ in iter(int, 1) for size in sizes)
    assert calls_found(Stingy(content, endless)) == calls_found(content) == calls_put_in(log)


@pytest.mark.usefixtures("small_blocks")
def test_a_healthy_log_is_searched_and_not_parsed() -> None:
    log = logs.scan(io.BytesIO(healthy(3000).encode()))
    assert list(log) == []
    assert log.work == 0


def test_findings_come_while_the_rest_is_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text(text(*client_call(call())) + healthy(20_000))
    with open(path, "rb", buffering=0) as stream:
        log = logs.scan(stream)
        assert next(log).conclusive
        assert stream.tell() < path.stat().st_size / 2
        assert list(log) == []
        assert not stream.closed


# --- sources and encodings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [*made.ENCODINGS, "cp932", "cp1251"])
def test_every_encoding_of_the_time_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(made.encoded(text(client_header(timedelta(0)), *client_call(call())), encoding))
    log = logs.scan(path)
    assert [each.conclusive for each in log] == [True]
    assert log.file.kind is FileKind.CLIENT


@pytest.mark.parametrize(
    ("encoding", "word"), [("cp1252", "p\u00e5"), ("cp932", "\u5834\u6240"), ("utf-16", "\u5834\u6240")]
)
def test_translated_words_of_any_code_page_are_passed_over(encoding: str, word: str) -> None:
    content = text(*server_call(call())).replace("   at ", f"   {word} ")
    found = only_server(made.encoded(content, encoding))
    assert (found.conclusive, len(found.frames)) == (True, 4)


def test_a_stream_of_text_is_read_as_one_of_bytes() -> None:
    (found,) = logs.scan(io.StringIO(text(*client_call(call()))), name="pasted")
    assert (found.conclusive, found.file) == (True, "pasted")


def test_a_stream_with_read_alone_is_read() -> None:
    class Reader:
        name = "remote"

        def __init__(self) -> None:
            self._content = io.BytesIO(text(*client_call(call())).encode())

        def read(self, size: int = -1) -> bytes:
            return self._content.read(min(size, 100))

    (found,) = logs.scan(Reader())
    assert (found.conclusive, found.file) == (True, "remote")


def test_a_stream_is_read_from_where_it_stands() -> None:
    stream = io.BytesIO(b"#\n" * 50 + text(*client_call(call())).encode())
    stream.seek(100)
    (found,) = logs.scan(stream)
    assert found.line == 3


@pytest.mark.parametrize("source", [None, 7, b"a.log", ["a.log"]])
def test_what_is_neither_path_nor_stream_is_refused(source: Any) -> None:
    with pytest.raises(UsageError, match="a path or a stream"):
        logs.scan(source)


# --- what cannot be read --------------------------------------------------------------------------------------------


def problem_of(source: Any) -> tuple[FileKind, str]:
    log = logs.scan(source)
    (found,) = log
    assert isinstance(found, LogProblem)
    assert not found.conclusive
    assert log.file.problem == found.problem
    assert log.file.findings == 0
    assert str(found).isprintable()
    return log.file.kind, found.problem


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\xef\xbb\xbf", b" \r\n\r\n", "\r\n".encode("utf-16")])
def test_an_empty_file_is_told(content: bytes) -> None:
    assert problem_of(io.BytesIO(content)) == (FileKind.EMPTY, "is empty")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (bytes(range(256)) * 40, "is no text"),
        (bytes(5000), "is no text"),
        (b"MZ\x90\0\3\0\0\0" + random.Random(1).randbytes(9000), "is no text"),
        (b"\x1f\x8b\x08" + random.Random(1).randbytes(100), "is an archive (gzip): unpack it first"),
        (b"PK\x03\x04" + random.Random(1).randbytes(100), "is an archive (zip): unpack it first"),
        (b"MSCF" + bytes(100), "is an archive (cabinet): unpack it first"),
        (text(*client_call(call())).encode("utf-32"), "is in UTF-32: save it as UTF-8 first"),
        (text(*client_call(call())).encode("utf-32-be"), "is in UTF-32: save it as UTF-8 first"),
    ],
)
def test_a_binary_file_is_told(content: bytes, told: str) -> None:
    assert problem_of(io.BytesIO(content)) == (FileKind.BINARY, told)


def test_the_strings_in_a_program_prove_nothing() -> None:
    content = random.Random(1).randbytes(20_000) + text(*server_call(call())).encode()
    assert problem_of(io.BytesIO(content))[0] is FileKind.BINARY


def test_a_log_with_a_run_of_zeros_as_a_crash_leaves_it_is_read() -> None:
    content = text(*client_call(call(1))).encode() + bytes(4096) + text("", *client_call(call(2))).encode()
    assert [each.conclusive for each in found_in(content)] == [True, True]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("zeros", [4096, 20_000, 300_000])
def test_a_call_right_behind_a_run_of_zeros_is_whole(encoding: str, zeros: int) -> None:
    noise = text(*(made.server_noise(0, START) for _ in range(1000))).encode(encoding)
    content = noise + bytes(zeros) + text(*server_call(call())).encode(encoding)
    (found,) = found_in(content)
    assert isinstance(found, ServerFinding)
    assert (found.conclusive, found.call_id, found.thread) == (True, call().call_id, call().thread)
    assert found.time == call().time


def findings_of(content: bytes) -> list[tuple[object, ...]]:
    return [(found.line, found.call_id, found.conclusive) for found in logs.scan(io.BytesIO(content))]


@pytest.mark.parametrize("size", [100, 16_384, 70_000, 400_001])
@pytest.mark.parametrize("blank", [b"\r\n", b" ", b"\0"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_log_that_begins_with_blanks_or_zeros_is_read_all_the_same(size: int, blank: bytes, encoding: str) -> None:
    mark, lines = "".encode(encoding), "\r\n".join(made.client_call(made.call(1))) + "\r\n"
    front = blank if blank == b"\0" else blank.decode().encode(encoding)[len(mark) :]
    front *= size // len(front)
    content = mark + front + b"\r\n"[: len(front) % 2] + lines.encode(encoding)[len(mark) :]
    log = logs.scan(io.BytesIO(content))
    (found,) = log
    assert found.conclusive
    assert found.time is not None
    assert (log.file.kind, log.file.problem) == (FileKind.CLIENT, None)
    if blank == b"\r\n" and len(front) % 2 == 0:
        assert found.line == 3 + size // len("\r\n".encode(encoding)[len(mark) :])


@pytest.mark.parametrize("content", [b"\r\n" * 300_000, b" " * 300_000, ("\r\n" * 300_000).encode("utf-16")])
def test_a_file_of_blanks_alone_is_empty_whatever_its_size(content: bytes) -> None:
    assert problem_of(io.BytesIO(content)) == (FileKind.EMPTY, "is empty")


def wide(text: str) -> bytes:
    return text.encode("utf-16-le")


@pytest.mark.parametrize("filler", [0, 300, 6000, 40_000])
@pytest.mark.parametrize("zeros", [1, 2, 700])
def test_zeros_in_a_log_hide_nothing(filler: int, zeros: int) -> None:
    lines = "\r\n".join([*(made.client_noise(each, made.START) for each in range(filler // 90)), ""])
    failing = "\r\n".join([*made.client_call(made.call(1)), ""])
    content = (lines + "bro").encode() + b"\0" * zeros + ("ken\r\n" + lines + failing + lines).encode()
    assert [found[1:] for found in findings_of(content)] == [(made.call(1).call_id, True)]


@pytest.mark.parametrize("filler", [0, 1, 200, 3000, 9000])
def test_a_log_that_goes_on_in_another_encoding_is_read_to_its_end(filler: int) -> None:
    first, second, third = (
        "\r\n".join([*made.client_call(made.call(each, time=made.START + timedelta(hours=each))), ""])
        for each in (1, 2, 3)
    )
    noise = "\r\n".join([*(made.client_noise(each, made.START) for each in range(filler)), ""])
    expected = [made.call(each).call_id for each in (1, 2, 3)]
    for content in (
        b"\xff\xfe" + wide(first + noise) + (second + noise).encode() + wide(third + noise),
        b"\xff\xfe" + wide(noise) + (first + noise + second).encode() + b"x" + wide(noise + third),
        (first + noise).encode() + wide(second + noise) + third.encode(),
        (noise + first).encode() + b"\xff\xfe" + wide(noise + second + noise) + third.encode(),
        wide(first + noise) + (noise + second + third).encode(),
        b"\xff\xfe" + wide(first + noise + first) + b"x" + wide(noise + second + third),
    ):
        found = findings_of(content)
        assert list(dict.fromkeys(each[1] for each in found)) == expected
        assert all(each[2] for each in found)


@pytest.mark.parametrize("short", [*range(0, 2000, 190), *range(290, 400, 5)])
def test_a_change_of_encoding_is_seen_wherever_a_block_ends(short: int) -> None:
    first, second = (
        "\r\n".join([*client_call(made.call(each, time=made.START + timedelta(hours=each))), ""]) for each in (1, 2)
    )
    size = reading.BLOCK - short - 2 - 2 * len(first)
    filler = wide(("x" * 98 + "\r\n") * (size // 200 + 1))[-size + size % 2 :]
    content = b"\xff\xfe" + filler + wide(first) + (second + ("y" * 98 + "\r\n") * 4000).encode()
    assert [each[1:] for each in findings_of(content)] == [(made.call(each).call_id, True) for each in (1, 2)]


@pytest.mark.parametrize("encoding", made.ENCODINGS)
@pytest.mark.parametrize("line_end", ["\r", "\n\r", "\r\r\n"])
def test_a_copy_with_odd_line_ends_has_its_times_threads_and_lines(encoding: str, line_end: str) -> None:
    calls = [made.call(each, time=made.START + timedelta(days=each), pid=500 + each) for each in (1, 2)]
    noise = [made.client_noise(each, made.START) for each in range(3000)]
    lines = [*noise, *made.client_call(calls[0]), *noise, *made.client_call(calls[1]), *noise, ""]
    copy, whole = (
        list(logs.scan(io.BytesIO(end.join(lines).encode(encoding)), name="a")) for end in (line_end, "\r\n")
    )
    assert copy == whole
    assert [found.pid for found in copy if isinstance(found, ClientFinding)] == [501, 502]


@pytest.mark.parametrize("path", ["/nowhere/at/all.log", "a\0b", "", "x" * 5000])
def test_a_file_that_is_not_there_is_told(path: str) -> None:
    assert problem_of(path)[0] is FileKind.UNREADABLE


def test_a_folder_and_a_pipe_are_told_without_waiting(tmp_path: Path) -> None:
    assert problem_of(tmp_path) == (FileKind.UNREADABLE, "is a folder")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert problem_of(tmp_path / "pipe") == (FileKind.UNREADABLE, "is a device or a pipe, not a file")


def test_a_file_without_rights_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    path.write_text(text(*client_call(call())))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert problem_of(path) == (FileKind.UNREADABLE, "cannot be read: Permission denied")


def test_what_was_found_before_a_file_broke_off_stays() -> None:
    class Breaking(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            if self.tell() > reading.BLOCK:
                raise OSError(5, "Input/output error")
            return super().readinto(buffer)

    content = text(*client_call(call())) + healthy(20_000)
    log = logs.scan(Breaking(content.encode()))
    found, problem = log
    assert found.conclusive
    assert isinstance(problem, LogProblem)
    assert (log.file.kind, log.file.findings) == (FileKind.CLIENT, 1)
    assert log.file.problem == "cannot be read: Input/output error"


def test_a_call_that_was_cut_off_where_a_file_broke_off_is_told_as_far_as_it_goes() -> None:
    class Breaking(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            if self.tell() >= reading.BLOCK:
                raise OSError(5, "Input/output error")
            return super().readinto(buffer)

    content = (healthy(20_000)[: reading.BLOCK - 900] + "\n").encode() + text(*client_call(call())).encode()
    found, _ = logs.scan(Breaking(content))
    assert (found.kind, found.conclusive) == ("client", False)


def test_a_closed_stream_is_told() -> None:
    stream = io.BytesIO(b"abc")
    stream.close()
    assert problem_of(stream)[0] is FileKind.UNREADABLE


# --- kinds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (text(made.client_noise(0, START)), FileKind.CLIENT),
        (text(made.server_noise(0, START)), FileKind.SERVER),
        (text(made.client_noise(0, START), made.server_noise(0, START)), FileKind.MIXED),
        ("Some words about 12 things, and python3.11 wsusfix.logs too\n" * 30, FileKind.OTHER),
        (
            "2008-06-14 02:59:57 W3SVC1 10.0.0.7 POST /ClientWebService/client.asmx - 80 - 10.0.0.9 200\n",
            FileKind.OTHER,
        ),
        (made.without_times(text(made.client_noise(0, START))), FileKind.CLIENT),
        (made.messages_only(text(*client_call(call()))), FileKind.CLIENT),
    ],
)
def test_a_file_is_what_its_lines_say(content: str, kind: FileKind) -> None:
    log = logs.scan(io.StringIO(content))
    list(log)
    assert log.file.kind is kind
    assert log.file.problem is None


def test_a_log_is_the_same_kind_when_all_its_beginnings_are_wrapped() -> None:
    for width in range(25, 60):
        for noise, kind in (made.client_noise, FileKind.CLIENT), (made.server_noise, FileKind.SERVER):
            log = logs.scan(io.StringIO(made.word_wrapped([noise(1, START)] * 5, width, breaks=True)))
            list(log)
            assert log.file.kind is kind, width


def test_a_log_in_which_another_one_follows_is_both() -> None:
    client, server = text(*client_call(call())), text(*server_call(call()))
    log = logs.scan(io.BytesIO(b"\xff\xfe" + client.encode("utf-16-le") + b"\xfe\xff" + server.encode("utf-16-be")))
    assert [found.kind for found in log] == ["client", "server"]
    assert log.file.kind is FileKind.MIXED


def test_the_log_of_a_later_agent_is_recognised_and_proves_nothing() -> None:
    line = "2017/01/30 09:16:19.8735932 1080  6648  Agent           *FAILED* [8024402C] Method failed\n"
    log = logs.scan(io.StringIO(line * 20))
    assert list(log) == []
    assert log.file.kind is FileKind.CLIENT_LATER
    assert log.file.problem is not None


def test_what_a_later_agent_logs_is_inconclusive_however_much_of_it_is_there() -> None:
    lines = [line.replace("2008-06-16\t", "2016/06/16\t", 1) for line in client_call(made.call(1))]
    log = logs.scan(io.BytesIO("\r\n".join([*lines, ""]).encode()))
    (found,) = log
    assert isinstance(found, ClientFinding)
    assert log.file.kind is FileKind.CLIENT_LATER
    assert (found.conclusive, found.later_agent) == (False, True)
    assert found.missing == ("an agent of the advisory's time",)


def test_a_file_says_from_when_to_when_it_reaches() -> None:
    lines = [made.server_noise(number, START + timedelta(hours=number)) for number in range(30)]
    log = logs.scan(io.StringIO(text(*lines)))
    assert list(log) == []
    assert (log.file.begins, log.file.ends) == (START, START + timedelta(hours=29))


# --- how findings show themselves -----------------------------------------------------------------------------------


def test_what_comes_from_a_log_cannot_write_to_the_terminal() -> None:
    for hostile in ("\x1b[2J", "\u202e", "\x07"):
        content = text(*client_call(call(), url=f"http://{hostile}/"), *server_call(call(key="1")))
        for found in found_in(content, name=f"{hostile}.log"):
            assert all(char.isprintable() or char == "\n" for char in str(found))
            assert repr(found).isprintable()
            json.dumps(found.to_dict())


def test_a_finding_turns_into_plain_data_that_says_its_kind() -> None:
    client = only_client(text(*client_call(call().without("id"))), name="c.log").to_dict()
    assert json.loads(json.dumps(client)) == client
    assert (client["kind"], client["conclusive"], client["missing"], client["call_id"]) == ("client", False, [ID], None)
    server = only_server(text(*server_call(call())), name="s.log").to_dict()
    assert json.loads(json.dumps(server)) == server
    assert (server["kind"], server["conclusive"], server["time"]) == ("server", True, "2008-06-16T07:00:00+00:00")


def test_a_finding_prints_what_a_person_wants_to_know() -> None:
    shown = str(only_client(text(*client_call(call().without("id"))), name="c.log"))
    for part in ("c.log:3: client: inconclusive", "process 912, thread b54", "http://wsus.example/", "missing  ", ID):
        assert part in shown
    assert repr(only_server(text(*server_call(call())), name="s.log")) == "<ServerFinding s.log:1 conclusive>"


# --- work -----------------------------------------------------------------------------------------------------------

FRAGMENTS = (
    b"0x8024400E",
    b"SyncUpdates failure, error = 0x8024400E, soap client error = 7, soap error code = 400, HTTP status code = 200",
    b"SOAP Fault: 0x000190",
    b"SOAP" * 30,
    b"ErrorCode:InternalServerError(5)",
    b"ErrorCode=InternalServerError, ",
    b"ID:c0ffee00-0000-4000-8000-000000000000",
    b"System.ArgumentException: '1' '2'",
    b"   at System.Collections.Hashtable.Insert(Object key)",
    b"a.b." * 40 + b"(",
    b"2008-06-14 02:59:57.642 UTC\tError\tw3wp.12\tClientImplementation.SyncUpdates\t",
    b"2008-06-13\t19:59:56:617\t 788\tee4\tPT\t",
    b"Logging initialized (build: 1, tz: -0700)",
    b"tz: +9999",
    b"http://" + b"x" * 200 + b"WebService/",
    b"URL = http://",
    b", = 1, = 2, = 3",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\0",
    b"\xff",
    b"\n\0",
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"]),
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=30), max_size=120),
)
def test_any_bytes_are_read_to_their_end(mark: bytes, pieces: list[bytes]) -> None:
    content = mark + b"".join(pieces)
    log = logs.scan(io.BytesIO(content))
    for found in log:
        assert str(found)
        json.dumps(found.to_dict())
    assert log.work <= 6 * len(content) + 100
    json.dumps(log.file.to_dict())


def effort(content: bytes) -> tuple[int, int]:
    """Count function calls while reading, and bytes that were parsed: figures that no busy machine moves."""
    count = 0

    def note(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    log = logs.scan(io.BytesIO(content))
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for _found in log:
            pass
    finally:
        sys.setprofile(before)
    return count, log.work


def fuzzed(size: int) -> bytes:
    known = random.Random(954960)
    out = bytearray(b"\n")
    while len(out) < size:
        out += known.choice(FRAGMENTS[:-4]) if known.random() < 0.6 else known.randbytes(20).replace(b"\0", b"")
    return bytes(out[:size])


def one_line(size: int) -> bytes:
    return (" ".join(client_call(call())).encode() * (1 + size // 900))[:size]


def unfinished(size: int) -> bytes:
    lines = (
        client_line(START, number % 10**6, "a", "PT", "WARNING: SyncUpdates failure, error = 0x8024400E, soap = 7\n")
        for number in range(size // 90)
    )
    return "".join(lines).encode()


def unfinished_stacks(size: int) -> bytes:
    one = call().without("fault")
    return "".join(text(*server_call(replace(one, thread=f"w3wp.{number}"))) for number in range(size // 500)).encode()


def one_stack(size: int) -> bytes:
    stack = server_call(call())[0].encode() + b"\n"
    return stack + b"   at System.Collections.Hashtable.Insert(Object key)\n" * (size // 55)


def one_id(size: int) -> bytes:
    return text(*client_call(call())).encode() * (size // 1100)


SHAPES = [fuzzed, one_line, unfinished, unfinished_stacks, one_stack, one_id, lambda size: b"SOAP" * (size // 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=[*(shape.__name__ for shape in SHAPES[:-1]), "one word"])
def test_work_grows_with_length_and_not_faster(shape: Callable[[int], bytes]) -> None:
    calls, parsed = effort(shape(150_000))
    calls_of_four, parsed_of_four = effort(shape(600_000))
    assert calls_of_four <= 4.8 * calls + 2000
    assert parsed_of_four <= 4.8 * parsed + 200_000


def test_calls_that_never_end_do_not_pile_up() -> None:
    log = logs.scan(io.BytesIO(unfinished(500_000)))
    most = 0
    for _ in log:
        most = max(most, len(log._blocks._client._open))
    assert 100 < most <= 512
