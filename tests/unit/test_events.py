"""What an observer is told: one harmless line each."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from typing import get_args

import pytest

from wsusfix.events import Event, JobState, Note, Observer, PhaseBegun, UploadProgress, ignore

HOSTILE = "<b>\x1b[2J\nFORGED\u202e"

EVENTS: dict[str, tuple[Event, str]] = {
    "phase": (PhaseBegun("wsus01", "facts"), "wsus01: facts"),
    "phase with detail": (PhaseBegun("wsus01", "upload", "a.exe"), "wsus01: upload: a.exe"),
    "first bytes": (
        UploadProgress("wsus01", "a.exe", 0, 4_000_000, 0, 0.0),
        "wsus01: upload: 0 bytes of 4.0 MB (0 %)",
    ),
    "half": (
        UploadProgress("wsus01", "a.exe", 2_000_000, 4_000_000, 0, 500_000.0),
        "wsus01: upload: 2.0 MB of 4.0 MB (50 %), 500.0 kB/s",
    ),
    "resumed": (
        UploadProgress("wsus01", "a.exe", 3_999_999, 4_000_000, 1_000_000, 10.0),
        "wsus01: upload: 4.0 MB of 4.0 MB (99 %), 10 bytes/s, 1.0 MB were there already",
    ),
    "nothing to send": (UploadProgress("wsus01", "a.exe", 0, 0, 0, 0.0), "wsus01: upload: 0 bytes of 0 bytes (100 %)"),
    "job": (
        JobState("wsus01", "0123456789ab", 3, "checking_signature", "2008-09-02T10:01:00Z"),
        "wsus01: job: checking signature",
    ),
    "job with detail": (
        JobState("wsus01", "0123456789ab", 7, "installed", "2008-09-02T10:01:00Z", "exit code 0"),
        "wsus01: job: installed (exit code 0)",
    ),
    "note": (Note("wsus01", "connect", "next try in 2.0 s"), "wsus01: connect: next try in 2.0 s"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_prints_as_one_line(name: str) -> None:
    event, expected = EVENTS[name]
    assert str(event) == expected
    assert len(repr(event)) < 200
    assert type(event).__name__ in repr(event)


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_plain_data_for_programs(name: str) -> None:
    event, _ = EVENTS[name]
    data = event.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["host"] == "wsus01"


def test_every_kind_of_event_is_tried_here() -> None:
    assert {type(event) for event, _ in EVENTS.values()} == set(get_args(Event))


@pytest.mark.parametrize(
    "event",
    [
        PhaseBegun("wsus01", "facts", HOSTILE),
        JobState("wsus01", "0123456789ab", 1, "started", "2008-09-02T10:01:00Z", HOSTILE),
        Note("wsus01", "connect", HOSTILE),
        UploadProgress("wsus01", HOSTILE, 1, 2, 0, 0.0),
    ],
    ids=lambda event: type(event).__name__,
)
def test_text_from_a_server_cannot_act_on_the_terminal_or_forge_a_line(event: Event) -> None:
    for shown in (str(event), repr(event)):
        assert len(shown.splitlines()) == 1
        assert shown.isprintable()
    assert "<b>" not in event._repr_html_()


def test_print_is_a_complete_observer_and_so_is_nobody() -> None:
    observer: Observer = print
    with redirect_stdout(io.StringIO()) as out:
        observer(PhaseBegun("wsus01", "facts"))
        ignore(PhaseBegun("wsus01", "facts"))
    assert out.getvalue() == "wsus01: facts\n"


def test_events_are_frozen_and_compare_by_what_they_say() -> None:
    assert Note("a", "b", "c") == Note("a", "b", "c") != Note("a", "b", "d")
    with pytest.raises(AttributeError):
        Note("a", "b", "c").text = "d"  # type: ignore[misc]
