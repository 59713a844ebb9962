"""Findings to a picture: the same call from both ends, clocks, and first and last."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.log_generator import START, call, client_call, client_header, server_call
from wsusfix.errors import UsageError
from wsusfix.logs import ClientFinding, Correlation, Finding, LogProblem, ServerFinding, correlate, scan
from wsusfix.logs.rollover import log_of

FRAMES = ("System.Collections.Hashtable.Insert", "X.ClientImplementation.GetSyncInfo")


def client(number: int = 1, file: str = "c.log", time: datetime | None = START, **changed: object) -> ClientFinding:
    known: dict[str, object] = {
        "error": "0x8024400E",
        "soap_code": "0x000190",
        "error_code": "InternalServerError",
        "method": "http://x/ClientWebService/SyncUpdates",
        "call_id": call(number).call_id,
        **changed,
    }
    return ClientFinding(file, number, time, **known)  # type: ignore[arg-type]


def server(number: int = 1, file: str = "s.log", time: datetime | None = START, **changed: object) -> ServerFinding:
    known: dict[str, object] = {
        "exception": "System.ArgumentException",
        "frames": FRAMES,
        "call_id": call(number).call_id,
        **changed,
    }
    return ServerFinding(file, number, time, **known)  # type: ignore[arg-type]


def local(offset: timedelta, skew: timedelta = timedelta(0)) -> datetime:
    return (START + offset + skew).replace(tzinfo=None)


def test_nothing_gives_an_empty_picture() -> None:
    picture = correlate([])
    assert picture == Correlation((), 0, 0, None, None, 0, 0)
    assert picture.last_seen is None
    assert picture.none_since(START) is True


@pytest.mark.parametrize(
    ("skew", "doubtful"),
    [
        (0, False),
        (299, False),
        (-299, False),
        (450, False),
        (3600, True),
        (-3599, True),
        (1800 + 240, True),
        (3230, False),
    ],
)
def test_a_header_from_before_summer_time_is_told(skew: int, doubtful: bool) -> None:
    time = START.astimezone(timezone(timedelta(hours=-7))) + timedelta(seconds=skew)
    (pair,) = correlate([server(), client(time=time)]).pairs
    assert pair.skew_seconds == skew
    assert pair.zone_doubtful is doubtful
    assert pair.to_dict()["zone_doubtful"] is doubtful
    assert ("summer time may have changed since" in str(pair)) is doubtful
    (inferred,) = correlate([server(), client(time=time.replace(tzinfo=None))]).pairs
    assert not inferred.zone_doubtful


def test_a_pair_is_one_call_with_the_client_s_clock_minus_the_server_s() -> None:
    behind = START.astimezone(timezone(timedelta(hours=-7))) - timedelta(seconds=3)
    picture = correlate([server(), client(time=behind), client(2), LogProblem("x", "is empty")])
    (pair,) = picture.pairs
    assert pair.skew_seconds == -3.0
    assert pair.utc_offset_seconds == -25200
    assert not pair.zone_inferred
    assert (picture.calls, picture.clients, picture.inconclusive) == (2, 1, 0)


@settings(max_examples=100)
@given(
    st.integers(-48, 56).map(lambda quarters: timedelta(minutes=15 * quarters)),
    st.integers(-449_000, 449_000).map(lambda milliseconds: timedelta(milliseconds=milliseconds)),
)
def test_a_zone_that_the_log_does_not_say_is_told_from_a_pair(offset: timedelta, skew: timedelta) -> None:
    (pair,) = correlate([client(time=local(offset, skew)), server()]).pairs
    assert pair.zone_inferred
    assert pair.utc_offset_seconds == offset.total_seconds()
    assert pair.skew_seconds == pytest.approx(skew.total_seconds())


def test_a_time_between_pairs_of_two_seasons_is_left_open() -> None:
    day = timedelta(days=1)
    summer, winter = timedelta(hours=-7), timedelta(hours=-8)
    pairs: list[Finding] = [
        *(client(1, time=local(summer)), server(1)),
        *(client(2, time=local(winter) + 200 * day), server(2, time=START + 200 * day)),
    ]
    for days, offset in ((-1, summer), (100, None), (201, winter)):
        alone = client(3, time=local(offset or summer) + days * day)
        picture = correlate([*pairs, alone])
        assert (picture.calls, picture.unplaced) == (3, int(offset is None))
        assert START + days * day in (picture.since, picture.until, START + 100 * day)
        assert picture.none_since(START + 300 * day) is (None if offset is None else True)


@pytest.mark.parametrize("day", ["9999-12-31 23:59:59", "0001-01-01 00:00:00"])
@pytest.mark.parametrize("offset", [-7, 0, 7])
def test_a_day_at_the_end_of_the_calendar_is_damage_and_ends_nothing(day: str, offset: int) -> None:
    zone = timedelta(hours=offset)
    lines = [client_header(zone), *client_call(call(1), zone), *server_call(call(1))]
    text = "\n".join(re.sub(r"^\S+\s\d\d:\d\d:\d\d", day, line) for line in lines)
    picture = correlate(scan(io.StringIO(text), utc_offset=zone))
    assert (picture.calls, picture.clients, picture.unplaced, picture.since) == (1, 1, 1, None)


@pytest.mark.parametrize("days", [-3, 1, 300])
def test_clocks_days_apart_tell_no_zone_and_no_skew(days: int) -> None:
    (pair,) = correlate([client(time=local(timedelta(days=days))), server()]).pairs
    assert (pair.skew_seconds, pair.utc_offset_seconds) == (None, None)


@pytest.mark.parametrize(("one", "other"), [(None, START), (START, None), (None, None)])
def test_a_pair_without_a_time_has_no_skew(one: datetime | None, other: datetime | None) -> None:
    (pair,) = correlate([client(time=one), server(time=other)]).pairs
    assert pair.skew_seconds is None


def test_first_and_last_are_of_all_calls_in_utc() -> None:
    hour = timedelta(hours=1)
    picture = correlate(
        [
            client(1, time=local(-7 * hour)),
            server(1),
            client(2, time=local(-5 * hour)),  # by the zone that the pair of this log told: two hours later
            server(3, time=START - hour),
            server(4, time=START + 9 * hour, frames=()),
        ]
    )
    assert (picture.since, picture.until) == (START - hour, START + 2 * hour)
    assert (picture.calls, picture.unplaced, picture.inconclusive) == (3, 0, 1)
    assert picture.last_seen == picture.until


def test_none_since_tells_yes_no_and_unknown() -> None:
    picture = correlate([server(1)])
    assert picture.none_since(START) is False
    assert picture.none_since(START + timedelta(seconds=1)) is True
    unplaced = correlate([server(1), client(2, time=None)])
    assert unplaced.unplaced == 1
    assert unplaced.none_since(START + timedelta(seconds=1)) is None
    assert unplaced.none_since(START) is False
    with pytest.raises(UsageError, match="time zone"):
        picture.none_since(START.replace(tzinfo=None))


def test_a_lone_error_is_proven_by_the_server_s_stack_with_the_same_id() -> None:
    lone = client(soap_code=None)
    assert not lone.conclusive
    assert correlate([lone]).calls == 0
    picture = correlate([lone, server()])
    assert (picture.calls, picture.clients, picture.inconclusive) == (1, 1, 0)


def test_clients_are_counted_by_their_logs_and_copies_once() -> None:
    found = [
        client(1, "pc1/WindowsUpdate.log"),
        client(2, "pc1/WindowsUpdate.log.old"),
        client(3, "pc2/WindowsUpdate.log"),
        client(3, "copy of pc2.log"),
        client(4, "copy of pc2.log"),
        client(5, "pc3/WindowsUpdate.log", soap_code=None),
    ]
    picture = correlate(found)
    assert (picture.clients, picture.calls, picture.inconclusive) == (2, 4, 1)


def test_a_client_is_paired_with_the_server_whose_path_is_most_like_its_own() -> None:
    found: list[Finding] = [
        client(1, "b/c.log"),
        *(server(1, f"{name}/s.log") for name in "abc"),
        client(1, "a/c.log"),
        client(1, "z"),
    ]
    pairs = {pair.client.file: pair.server.file for pair in correlate(found).pairs}
    assert pairs["a/c.log"] == "a/s.log"
    assert pairs["b/c.log"] == "b/s.log"
    assert len(pairs) == 3


def test_many_copies_of_one_call_take_no_more_than_their_number() -> None:
    count = 3000
    found: list[Finding] = [
        *(client(1, f"{number}/c.log") for number in range(count)),
        *[server(1, f"{n}/s.log") for n in range(count)],
    ]
    picture = correlate(found)
    assert (len(picture.pairs), picture.calls, picture.clients) == (count, 1, 1)
    assert all(pair.client.file.split("/")[0] == pair.server.file.split("/")[0] for pair in picture.pairs)


def test_a_picture_turns_into_plain_data_and_prints_first_and_last() -> None:
    picture = correlate([client(time=local(timedelta(hours=-7), timedelta(seconds=-1))), server()])
    data = picture.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["pairs"][0]["skew_seconds"] == -1.0
    assert data["last_seen"] == "2008-06-16T07:00:00+00:00"
    shown = str(picture)
    for part in ("first  ", "2008-06-16 07:00:00 UTC", "-1.000 s", "UTC-07:00 (inferred)", "c.log:1", "s.log:1"):
        assert part in shown
    assert repr(picture.pairs[0]) == f"<Pair {call().call_id}>"


@pytest.mark.parametrize(
    ("file", "log"),
    [
        ("a/SoftwareDistribution.log", "a/softwaredistribution.log"),
        ("a/SoftwareDistribution.log.old", "a/softwaredistribution.log"),
        ("a/SoftwareDistribution.log.1", "a/softwaredistribution.log"),
        ("a/SoftwareDistribution.log.20080614.bak", "a/softwaredistribution.log"),
        ("a/other.log", "a/other.log"),
        ("pc1", "pc1"),
    ],
)
def test_the_parts_of_a_rolled_over_log_have_one_name(file: str, log: str) -> None:
    assert log_of(file) == log
