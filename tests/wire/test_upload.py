"""A file on its way to the server, with everything that happens on the way: what arrives is what was sent, whole."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wsusfix
from tests.wire.servers import Name, wait_until
from wsusfix.events import Event, Note, Observer, UploadProgress, ignore
from wsusfix.lab import Host, Lab
from wsusfix.lab.http import Quotas
from wsusfix.lab.packages import write_stand_in
from wsusfix.options import Connection, Credentials
from wsusfix.remote import session as sessions
from wsusfix.remote import upload as uploading
from wsusfix.remote.session import Lane, Session
from wsusfix.remote.upload import Upload, safe_name, upload

CHUNK, SEGMENT = 85_000, 255_000
#: Enough for so many lanes.
LANES = 4
SIZE = 12 * SEGMENT + 1_234


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.add_server("wsus01")


@pytest.fixture(autouse=True)
def _no_lane_is_left() -> Iterator[None]:
    yield
    assert not lanes()


def lanes() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("wsusfix-upload")]


def a_file(folder: Path, size: int = SIZE, name: str = "package.exe") -> Path:
    path = folder / name
    path.write_bytes(random.Random(size).randbytes(size))
    return path


def session_with(host: Host, name: str = "", **timeouts: float) -> Session:
    reach = host.connection
    return Session(
        Connection(name or reach["host"], port=reach["port"], timeouts=wsusfix.Timeouts(**timeouts)),
        Credentials(reach["username"], reach["password"]),
    )


def bring(
    session: Session, path: Path, on_event: Observer = ignore, timeouts: wsusfix.Timeouts | None = None
) -> Upload:
    data = path.read_bytes()
    return upload(
        session,
        str(path),
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        reserve=0,
        timeouts=timeouts or session.connection.timeouts,
        on_event=on_event,
    )


def assert_arrived(host: Host, there: Upload, path: Path) -> None:
    assert host.files.read(there.path) == path.read_bytes()
    assert staged(host) == [there.path], "something else was left there"


def staged(host: Host) -> list[str]:
    return [path for path in host.files if "\\wsusfix\\" in path.lower()]


def parts(host: Host) -> list[str]:
    return [path for path in staged(host) if path.endswith(".seg")]


def once(happen: Callable[[], object], *, at: int) -> Observer:
    """Let it happen when so many bytes have got through."""
    done: list[bool] = []

    def observe(event: Event) -> None:
        if isinstance(event, UploadProgress) and event.sent >= at and not done:
            done.append(True)
            happen()

    return observe


def strike(monkeypatch: pytest.MonkeyPatch, happen: Callable[[], object], *, at: int) -> None:
    """Let it happen in the middle: in the lane that is about to send the piece of this number, all the others at work.

    The caller's thread, where the observer is told, may be far behind the lanes.
    """
    chunks, count, together = uploading._chunks, itertools.count(1), threading.Barrier(LANES)

    def counted(*given: Any) -> Iterator[bytes]:
        for chunk in chunks(*given):
            number = next(count)
            if number <= LANES:
                # The first piece of each: who has one waits for the others.
                together.wait(60)
            if number == at:
                happen()
            yield chunk

    monkeypatch.setattr(uploading, "_chunks", counted)


class Clock:
    """The clock by which an upload goes: it may be set ahead, so that what takes long takes no time."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(uploading, "time", made)
    return made


def a_minute_passes(clock: Clock) -> Observer:
    """Let more than a minute pass with every attempt that fails."""

    def observe(event: Event) -> None:
        if isinstance(event, Note):
            clock.ahead += 61

    return observe


class HadEnough(Exception):
    """The observer's own."""


def give_up(host: Host, path: Path, *, at: int) -> None:
    """Begin to upload, and stop when so many bytes have got through; what the server had begun has ended then."""

    def stop() -> None:
        raise HadEnough

    with session_with(host) as session, pytest.raises(HadEnough):
        bring(session, path, once(stop, at=at))
    wait_until(lambda: not host.processes)


# --- what arrives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [1, CHUNK - 1, CHUNK, CHUNK + 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 6 * SEGMENT, 36 * SEGMENT + 17],
)
def test_a_file_of_any_size_arrives_byte_for_byte(host: Host, tmp_path: Path, size: int) -> None:
    path = a_file(tmp_path, size)
    with session_with(host) as session:
        there = bring(session, path)
    assert there.sent == there.size == size
    assert_arrived(host, there, path)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("WSUS KB954960 (x64).exe", "WSUS_KB954960_x64.exe"),
        ("Пакет обновления.exe", "file.exe"),
        ("更新 KB954960.msp", "KB954960.msp"),
        ("..hidden..exe", "hidden.exe"),
        ("no suffix at all", "no_suffix_at_all"),
        ("æøå.", "file"),
    ],
)
def test_a_name_with_blanks_or_letters_of_other_scripts_becomes_one_that_needs_no_quotes(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_file_with_blanks_and_letters_of_other_scripts_in_its_name_arrives(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path, 1_000, "Обновление KB954960 (x64).exe")
    with session_with(host) as session:
        there = bring(session, path)
    assert there.path.endswith("\\KB954960_x64.exe")
    assert_arrived(host, there, path)


def test_progress_is_told_in_the_callers_thread_and_only_grows(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)
    events: list[UploadProgress] = []
    shells: list[int] = []

    def observe(event: Event) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert isinstance(event, UploadProgress)
        events.append(event)
        shells.append(len(host.shells))

    with session_with(host) as session:
        bring(session, path, observe)
    sent = [event.sent for event in events]
    assert sent[0] == 0
    assert sent == sorted(set(sent))
    assert sent[-1] == SIZE
    assert {event.total for event in events} == {SIZE}
    assert {event.resumed for event in events} == {0}
    assert max(shells) == 1, "lanes are to share the session's shell"


def test_several_lanes_are_at_work_at_once(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, together = uploading._Sending._work, threading.Barrier(LANES)

    def meet(sending: uploading._Sending, lane: Lane) -> None:
        # Who is alone, or one too many, waits in vain.
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(60)
        work(sending, lane)

    monkeypatch.setattr(uploading._Sending, "_work", meet)
    with session_with(host) as session:
        bring(session, a_file(tmp_path))
    assert not together.broken


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process begins with the peak of who started it")
def test_an_upload_takes_little_memory_however_large_the_file_is(host: Host, tmp_path: Path) -> None:
    path = write_stand_in(tmp_path)
    os.truncate(path, 32_000_000)
    measured = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json, sys, wsusfix\n"
            "given = json.loads(sys.stdin.read())\n"
            "def peak():\n"
            "    with open('/proc/self/status') as status:\n"
            "        return next(int(line.split()[1]) for line in status if line.startswith('VmHWM:'))\n"
            "with wsusfix.connect(**given['connection']) as server:\n"
            "    server.diagnose()\n"
            "    before = peak()\n"
            "    server.upload(given['package'])\n"
            "print(peak() - before)\n",
        ],
        input=json.dumps({"connection": host.connection, "package": str(path)}),
        text=True,
        check=True,
        stdout=subprocess.PIPE,
    )
    assert int(measured.stdout) < 28_000, "KiB"


# --- lines that break -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sends", "times"), [(0, 1), (17, 1), (5, 3), (20, 2 * LANES)])
def test_a_broken_connection_costs_its_lane_one_segment_at_most(
    host: Host, tmp_path: Path, sends: int, times: int
) -> None:
    path = a_file(tmp_path)
    with session_with(host) as session:
        before = host.bytes_received
        host.faults.drop_after(sends=sends, times=times)
        there = bring(session, path)
        received = host.bytes_received - before
    assert host.faults.counts["drop_after"] == times
    # Beyond the file: the scripts, and who waits for them; for every connection that broke a segment, what was under
    # way, a log-on and the script.
    assert received < 1.9 * SIZE + 250_000 + times * (490_000 + 1.9 * SEGMENT)
    assert_arrived(host, there, path)


def test_segments_that_got_through_before_a_connection_broke_are_not_sent_again(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 4 * LANES * SEGMENT
    path = a_file(tmp_path, size)
    chunks = uploading._chunks
    # Every lane has four segments to bring, twelve pieces, and waits for the others with the last but one.
    together = threading.Barrier(LANES, action=lambda: host.faults.drop_after(sends=0))

    def counted(*given: Any) -> Iterator[bytes]:
        for piece, chunk in enumerate(chunks(*given), 1):
            if piece == 11 and not host.faults.counts.get("drop_after"):
                together.wait(60)
            yield chunk

    monkeypatch.setattr(uploading, "_chunks", counted)
    with session_with(host) as session:
        before = host.bytes_received
        there = bring(session, path)
        received = host.bytes_received - before
    assert host.faults.counts["drop_after"] == 1
    # The scripts, a log-on, and the segment that was begun at most, not the three before it.
    assert received < 1.9 * size + 500_000 + 1.9 * SEGMENT
    assert_arrived(host, there, path)


@pytest.mark.parametrize("share", [0.7, 0.9])
def test_an_upload_that_was_given_up_goes_on_from_what_the_server_has(host: Host, tmp_path: Path, share: float) -> None:
    path = a_file(tmp_path)
    give_up(host, path, at=int(share * SIZE))
    there_already = sum(host.files.length(part) or 0 for part in parts(host))
    # Of every lane a segment was begun, and another may have waited to be written.
    assert there_already > share * SIZE - LANES * 2 * SEGMENT, "what came through was not kept"
    events: list[Event] = []
    before = host.bytes_received
    with session_with(host) as session:
        there = bring(session, path, events.append)
    received = host.bytes_received - before
    assert isinstance(events[0], UploadProgress)
    assert events[0].resumed == events[0].sent == there_already
    assert there.sent == SIZE - there_already
    assert received < 1.9 * there.sent + 600_000
    assert_arrived(host, there, path)


@pytest.mark.parametrize("response", [2, 7, 15, 29, 50])
def test_an_answer_that_breaks_off_in_the_middle_does_no_harm(host: Host, tmp_path: Path, response: int) -> None:
    path = a_file(tmp_path)
    with session_with(host) as session:
        host.faults.reset_in_response(response)
        there = bring(session, path)
    assert host.faults.counts["reset_in_response"] == 1
    assert_arrived(host, there, path)


@pytest.mark.parametrize("share", [0.1, 0.8])
def test_a_shell_that_is_gone_in_the_middle_is_replaced(host: Host, tmp_path: Path, share: float) -> None:
    path = a_file(tmp_path)
    with session_with(host) as session:
        before = host.bytes_received
        there = bring(session, path, once(host.faults.lose_shells, at=int(share * SIZE)))
        received = host.bytes_received - before
        assert len(host.shells) == 1
    assert host.faults.counts["lose_shells"] == 1
    # Of every lane a segment was begun, and no more than another was under way.
    assert received < 1.9 * SIZE + 1_200_000 + LANES * 1.9 * 2 * SEGMENT
    assert_arrived(host, there, path)


def test_a_server_that_restarts_in_the_middle_is_waited_for(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_file(tmp_path)
    events: list[Event] = []
    strike(monkeypatch, lambda: host.reboot(0.5), at=18)
    with session_with(host) as session:
        there = bring(session, path, events.append)
    assert any(isinstance(event, Note) for event in events), "nobody was told why it takes longer"
    assert_arrived(host, there, path)


@pytest.mark.parametrize("error", [socket.EAI_AGAIN, socket.EAI_NONAME], ids=["no answer", "no such name"])
def test_a_name_that_does_not_resolve_for_a_moment_is_asked_for_again(
    host: Host, tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_file(tmp_path)
    name = Name(host.connection["host"], error=error)

    def happen() -> None:
        name.fails = LANES + 3
        host.faults.drop_after(sends=0, times=LANES)

    strike(monkeypatch, happen, at=18)
    with session_with(host, name.name) as session:
        there = bring(session, path)
    assert name.fails == 0
    assert_arrived(host, there, path)


def test_nothing_that_gets_through_ends_in_the_fault_after_the_time_allowed(
    host: Host, tmp_path: Path, clock: Clock
) -> None:
    host.faults.drop_after(sends=0, times=None)
    with session_with(host, upload=60) as session, pytest.raises(wsusfix.NotReachedError) as caught:
        bring(session, a_file(tmp_path, 1_000), a_minute_passes(clock))
    assert clock.ahead > 60
    assert caught.value.retryable
    assert caught.value.phase == "upload"
    assert parts(host) == []


def test_a_refusal_that_another_look_does_not_explain_is_told_and_not_tried_for_ever() -> None:
    progress = uploading._Progress("wsus01", "package.exe", 9, ignore)
    patience = uploading._Patience(wsusfix.Timeouts(), LANES, progress)
    refusal = wsusfix.ScriptError("it cannot be written")
    for there in (1, 2):  # somebody else brought something: it goes on
        progress.reached(there)
        patience.look()
        assert patience.goes_on_after(refusal)
        assert not patience.ends_within(patience.pause)
    with pytest.raises(wsusfix.ScriptError) as caught:
        patience.look()
    assert caught.value is refusal


def test_what_gets_through_and_is_lost_again_puts_the_end_off_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(uploading, "time", types.SimpleNamespace(monotonic=lambda: now))
    progress = uploading._Progress("wsus01", "package.exe", 9, ignore)
    patience = uploading._Patience(wsusfix.Timeouts(upload=60), LANES, progress)
    lost = wsusfix.BrokenConnectionError("it broke")
    ended = []
    for _ in range(3):
        progress.reached(0)
        patience.look()
        now += 100
        progress.more(5)
        assert patience.goes_on_after(lost)
        ended.append(patience.ends_within(patience.pause))
    assert ended == [False, True, True]


def test_fewer_lanes_are_given_as_long_as_more_were(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(uploading, "time", types.SimpleNamespace(monotonic=lambda: now))
    progress = uploading._Progress("wsus01", "package.exe", 9, ignore)
    patience = uploading._Patience(wsusfix.Timeouts(upload=60), 8, progress)
    tried = []
    ended = False
    while not ended:
        progress.reached(0)
        patience.look()
        tried.append(patience.lanes)
        now += 50
        assert patience.goes_on_after(wsusfix.DeadlineError("too slow for so many"))
        ended = patience.ends_within(patience.pause)
    assert tried == [8, 4, 2, 1, 1]


def test_looks_in_vain_for_hours_pause_no_longer_than_before() -> None:
    progress = uploading._Progress("wsus01", "package.exe", 9, ignore)
    patience = uploading._Patience(wsusfix.Timeouts(upload=86400), LANES, progress)
    for _ in range(2000):
        progress.reached(0)
        patience.look()
    assert patience.pause == 5.0


def test_a_pause_that_would_outlast_the_time_in_all_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "time", types.SimpleNamespace(monotonic=lambda: 1000.0))
    progress = uploading._Progress("wsus01", "package.exe", 9, ignore)
    patience = uploading._Patience(wsusfix.Timeouts(upload=60, upload_total=5), LANES, progress)
    progress.reached(0)
    patience.look()
    assert not patience.ends_within(4.9)
    assert patience.ends_within(5.0)


# --- how long it may take -------------------------------------------------------------------------------------------


def test_a_line_that_breaks_after_a_long_while_of_getting_through_is_taken_up_again(
    host: Host, tmp_path: Path, clock: Clock
) -> None:
    path = a_file(tmp_path)
    broke: list[float] = []

    def lose() -> None:
        broke.append(clock.ahead)
        host.faults.lose_shells()

    at_the_end = once(lose, at=int(0.9 * SIZE))

    def observe(event: Event) -> None:
        clock.ahead += 20
        at_the_end(event)

    with session_with(host, upload=60) as session:
        there = bring(session, path, observe)
    assert broke[0] > 60, "it was too quick to show anything"
    assert_arrived(host, there, path)


def test_an_upload_that_takes_too_long_in_all_says_how_far_it_came_and_the_next_one_goes_on(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(sessions, "_CLOSING", 0.3)
    path = a_file(tmp_path)
    give_up(host, path, at=int(0.7 * SIZE))
    there_already = sum(host.files.length(part) or 0 for part in parts(host))
    total, frozen = 1000.0, []

    def freeze() -> None:
        host.latency = 60.0
        frozen.append(time.monotonic())
        clock.ahead += total - 1

    with session_with(host, upload_total=total) as session:
        with pytest.raises(wsusfix.DeadlineError) as caught:
            bring(session, path, once(freeze, at=1))
        took = time.monotonic() - frozen[0]
        assert lanes() == []
        host.latency = 0.0
        assert_says_how_far(caught.value, host, total, there_already)
        # Less than any of the other deadlines that count here.
        assert took < 15
        events: list[Event] = []
        there = bring(session, path, events.append, wsusfix.Timeouts())
    assert isinstance(events[0], UploadProgress)
    assert events[0].resumed == there_already
    assert there.sent == SIZE - there_already
    assert_arrived(host, there, path)


def assert_says_how_far(error: wsusfix.WsusFixError, host: Host, total: float, there: int) -> None:
    assert (error.host, error.phase) == (host.connection["host"], "upload")
    assert f"within {total:.10g} s: {there / 1e6:.1f} MB of {SIZE / 1e6:.1f} MB got through" in error.message
    assert "run again: it goes on" in error.hint
    assert "timeouts.upload_total" in error.hint
    assert error.retryable


@pytest.mark.parametrize("phase", ["stage", "assemble", "sending"])
def test_a_server_that_does_not_come_back_is_not_waited_for_longer_than_in_all(
    host: Host, tmp_path: Path, phase: str, clock: Clock
) -> None:
    path = a_file(tmp_path)
    total = 5 if phase == "stage" else 1000
    went: list[float] = []

    def go() -> None:
        host.faults.unavailable(seconds=60)
        went.append(time.monotonic())
        # So much is left now, however long it took to come here.
        clock.ahead = total - 5 - (went[0] - began)

    with session_with(host, upload_total=total) as session:
        began = time.monotonic()
        if phase == "stage":
            go()
        with pytest.raises(wsusfix.DeadlineError) as caught:
            bring(session, path, once(go, at=SIZE if phase == "assemble" else SIZE // 2))
        assert time.monotonic() - went[0] < 20
    host.faults.clear()
    assert caught.value.phase == "upload"
    assert f"within {total} s" in caught.value.message
    assert "503" in caught.value.message, "what was in the way is not told"
    assert lanes() == []


# --- quotas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [2, 3])
def test_a_shell_with_few_processes_gets_fewer_lanes(lab: Lab, tmp_path: Path, processes: int) -> None:
    host = lab.add_server("wsus01", quotas=Quotas(pipelines_per_shell=processes))
    path = a_file(tmp_path)
    with session_with(host) as session:
        (shell,) = host.shells
        there = bring(session, path)
        assert [each.id for each in host.shells] == [shell.id], "the lanes that were let in were to do the work"
    assert_arrived(host, there, path)


def test_a_place_that_only_an_answered_pipeline_holds_is_made_free_for_a_lane(lab: Lab, tmp_path: Path) -> None:
    host = lab.add_server("wsus01", quotas=Quotas(pipelines_per_shell=2))
    first, second = a_file(tmp_path, 1_000, "first.exe"), a_file(tmp_path)
    with session_with(host, upload=20.0) as session:
        (shell,) = host.shells
        before = bring(session, first)
        # What that has left open, and the look at the server, take both places.
        there = bring(session, second)
        assert [each.id for each in host.shells] == [shell.id]
    assert host.files.read(before.path) == first.read_bytes()
    assert host.files.read(there.path) == second.read_bytes()


def test_a_shell_for_one_process_at_a_time_will_do(lab: Lab, tmp_path: Path) -> None:
    host = lab.add_server("wsus01", quotas=Quotas(pipelines_per_shell=1))
    path = a_file(tmp_path)
    with session_with(host, upload=20.0) as session:
        there = bring(session, path)
    assert_arrived(host, there, path)


def test_a_line_that_breaks_while_a_place_is_made_free_is_taken_up_again(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.add_server("wsus01", quotas=Quotas(pipelines_per_shell=1))
    path = a_file(tmp_path)
    with session_with(host, upload=20.0) as session:
        make_room = session.make_room

        def broken(phase: str) -> None:
            if "reset_request" not in host.faults.counts:
                host.faults.reset_request()
            make_room(phase)

        monkeypatch.setattr(session, "make_room", broken)
        there = bring(session, path)
    assert host.faults.counts["reset_request"] == 1
    assert_arrived(host, there, path)


@pytest.fixture
def others_are_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever place a session makes free, somebody else takes at once."""
    monkeypatch.setattr(Session, "make_room", lambda session, phase: None)


@pytest.mark.usefixtures("others_are_quicker")
def test_a_shell_without_a_process_to_spare_is_waited_for_and_then_told(lab: Lab, tmp_path: Path, clock: Clock) -> None:
    host = lab.add_server("wsus01", quotas=Quotas(pipelines_per_shell=1))
    with session_with(host, upload=60) as session, pytest.raises(wsusfix.QuotaError) as caught:
        bring(session, a_file(tmp_path, 1_000), a_minute_passes(clock))
    assert caught.value.retryable
    assert clock.ahead > 60


@pytest.mark.usefixtures("others_are_quicker")
def test_after_a_quota_fault_fewer_lanes_are_tried_until_there_is_one(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(uploading, "_FIRST_PAUSE", 0.05)
    host = lab.add_server("wsus01", quotas=Quotas(pipelines_per_shell=1))
    tried: list[int] = []
    with session_with(host, upload=60) as session:
        lane = session.lane

        def counted(number: int) -> Lane:
            tried.append(number)
            return lane(number)

        monkeypatch.setattr(session, "lane", counted)
        with pytest.raises(wsusfix.QuotaError):
            bring(session, a_file(tmp_path), a_minute_passes(clock))
    # The lanes of an attempt are numbered from 1 on.
    attempts = [tried[at - 1] for at in range(1, len(tried) + 1) if at == len(tried) or tried[at] == 1]
    assert attempts[0] == LANES
    assert attempts == sorted(attempts, reverse=True)
    assert set(attempts) == {4, 2, 1}


# --- whoever wants to stop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [HadEnough(), wsusfix.DeadlineError("mine"), KeyboardInterrupt()])
def test_an_observer_that_raises_ends_all_lanes_and_is_told_unchanged(
    host: Host, tmp_path: Path, error: BaseException
) -> None:
    path = a_file(tmp_path)

    def stop() -> None:
        raise error

    with session_with(host) as session:
        with pytest.raises(type(error)) as caught:
            bring(session, path, once(stop, at=2 * SIZE // 3))
        assert caught.value is error
        assert lanes() == []
        assert sum(shell.pipelines for shell in host.shells) == 0, "pipelines still wait for their input"
        there = bring(session, path)
        assert there.sent < SIZE, "what came through was not kept"
    assert_arrived(host, there, path)
    assert host.shells == ()


def test_ctrl_c_is_heard_while_every_lane_waits_for_a_server_that_hangs(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)

    def interrupt() -> None:
        while host.faults.counts.get("hang_in_receive", 0) < LANES:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt, daemon=True)
    # Longer than a test may take: whoever waits for the answer fails it.
    with session_with(host, operation=600, upload=600) as session:

        def hang() -> None:
            host.faults.hang_in_receive(seconds=600, times=None)
            interrupter.start()

        with pytest.raises(KeyboardInterrupt):
            bring(session, path, once(hang, at=0))
        assert lanes() == []
    host.faults.clear()
    assert host.shells == ()


def assert_whole(error: wsusfix.WsusFixError, host: Host) -> None:
    """Of a package it says which server it was for, when, and what to do."""
    assert (error.host, error.phase) == (host.connection["host"], "upload")
    assert error.hint
    assert not error.retryable


# --- a file that changes --------------------------------------------------------------------------------------------


def test_a_file_that_becomes_shorter_is_told(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)
    with session_with(host) as session:
        with pytest.raises(wsusfix.PackageError, match="shorter") as caught:
            bring(session, path, once(lambda: os.truncate(path, SIZE // 2), at=0))
        assert_whole(caught.value, host)
        assert sum(shell.pipelines for shell in host.shells) == 0, "pipelines still wait for their input"


def test_a_file_whose_bytes_change_is_told_and_not_sent_again(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)

    def change() -> None:
        with open(path, "r+b") as file:
            file.seek(SIZE - 10)
            file.write(b"otherbytes")

    with session_with(host) as session, pytest.raises(wsusfix.PackageError, match="changed while") as caught:
        bring(session, path, once(change, at=0))
    assert_whole(caught.value, host)
    assert host.bytes_received < 1.9 * SIZE + 900_000
    assert staged(host) == []


def test_a_file_that_vanishes_is_told(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)
    with session_with(host) as session, pytest.raises(wsusfix.PackageError, match="can no longer be read") as caught:
        # Before the lanes open it.
        bring(session, path, once(path.unlink, at=0))
    assert_whole(caught.value, host)


def test_a_file_that_vanishes_after_it_was_sent_is_told_when_it_is_looked_at_again(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)
    give_up(host, path, at=int(0.7 * SIZE))
    spoil(host)
    with session_with(host) as session, pytest.raises(wsusfix.PackageError, match="can no longer be read") as caught:
        bring(session, path, once(path.unlink, at=SIZE))
    assert_whole(caught.value, host)


def spoil(host: Host) -> None:
    """Let a segment that lies on the server have other bytes."""
    first = parts(host)[0]
    host.files.replace(first, bytes(host.files.length(first) or 0))


def test_a_segment_with_wrong_bytes_on_the_server_costs_one_more_round(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)
    give_up(host, path, at=int(0.7 * SIZE))
    spoil(host)
    events: list[Event] = []
    with session_with(host) as session:
        there = bring(session, path, events.append)
    assert [type(event) for event in events].count(Note) == 1
    assert_arrived(host, there, path)


def test_wrong_bytes_on_the_server_are_not_sent_a_third_time(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)
    rounds: list[Event] = []

    def observe(event: Event) -> None:
        if isinstance(event, Note):
            rounds.append(event)
        elif parts(host):
            spoil(host)

    with session_with(host) as session, pytest.raises(wsusfix.RefusedByServerError) as caught:
        bring(session, path, observe)
    assert caught.value.reason == "hash_mismatch"
    assert len(rounds) == 1


# --- others ---------------------------------------------------------------------------------------------------------


def test_two_controllers_at_once_end_with_one_whole_file(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)
    begin = threading.Barrier(2)
    results: list[Upload | Exception] = []

    def controller() -> None:
        try:
            with session_with(host) as session:
                begin.wait(60)
                results.append(bring(session, path))
        except Exception as error:  # noqa: BLE001  (looked at by the test)
            results.append(error)

    threads = [threading.Thread(target=controller) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = results
    assert isinstance(first, Upload), first
    assert isinstance(second, Upload), second
    assert first.path == second.path
    assert_arrived(host, first, path)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_somebody_else_who_was_quicker_is_no_error(host: Host, tmp_path: Path, share: float) -> None:
    path = a_file(tmp_path)

    def be_quicker() -> None:
        with session_with(host) as other:
            bring(other, path)

    with session_with(host) as session:
        there = bring(session, path, once(be_quicker, at=int(share * SIZE)))
    assert_arrived(host, there, path)


def test_a_drive_that_fills_up_ends_the_upload_with_the_servers_word(host: Host, tmp_path: Path) -> None:
    path = a_file(tmp_path)
    with session_with(host) as session, pytest.raises(wsusfix.RefusedByServerError) as caught:
        bring(session, path, once(lambda: host.faults.disk_full(free=1_000_000), at=0))
    assert caught.value.reason == "no_space"
