"""Logs on simulated machines, searched over the wire: what failed, seen from both ends, and none since the fix."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

import wsusfix
from wsusfix import logs
from wsusfix.advisory import SERVER_LOG_ROLLOVER, SERVER_METHOD, SETUP_KEY
from wsusfix.lab import Host, Lab
from wsusfix.lab.filesystem import ADMINISTRATORS, SYSTEM_SID, Security

HEALTHY = b"2008-07-14 02:50:00.642 UTC\tInfo\tw3wp.1\tThreadEntry\tThreadHelper.ThreadStart\r\n" * 50
ONLY_SYSTEM = Security(ADMINISTRATORS, frozenset({SYSTEM_SID}), frozenset({SYSTEM_SID}))


def wide(text: bytes) -> bytes:
    return text.decode("utf-8").encode("utf-16-le")


def logs_of(host: Host) -> wsusfix.MachineLogs:
    with wsusfix.connect(**host.connection) as server:
        return server.logs()


def diagnosis_of(host: Host) -> wsusfix.Diagnosis:
    with wsusfix.connect(**host.connection) as server:
        return server.diagnose()


def folder_of(host: Host) -> str:
    return host.wsus.log_path.rpartition("\\")[0]


@pytest.mark.parametrize(
    ("culture", "encoding", "offset"),
    [("en-US", "ansi", -420), ("nb-NO", "utf-8", 60), ("de-DE", "utf-16", 120), ("ja-JP", "utf-16", 540)],
)
def test_a_failed_call_is_seen_from_both_ends_and_not_any_more_after_the_fix(
    lab: Lab, culture: str, encoding: str, offset: int
) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1", culture=culture)
    client = lab.add_client(
        "pc01", server=host, culture=culture, encoding=encoding, utc_offset=offset, clock_offset=-1.0
    )
    options = wsusfix.Options(package=lab.package())
    with wsusfix.connect(**host.connection) as server, wsusfix.connect(**client.connection) as there:
        diagnosis = server.diagnose()
        assert diagnosis.observed is wsusfix.Observed.YES
        assert diagnosis.logs is not None
        assert diagnosis.logs.complete
        own = there.client_log()
        assert own.complete
        told = logs.correlate([*diagnosis.logs.findings, *own.findings])
        assert (told.calls, told.clients, len(told.pairs)) == (2, 1, 2)
        assert [pair.skew_seconds for pair in told.pairs] == pytest.approx([-1.0, -1.0], abs=0.01)
        assert {pair.utc_offset_seconds for pair in told.pairs} == {60 * offset}
        assert not any(pair.zone_inferred for pair in told.pairs)

        outcome = server.apply(server.plan(options, logs=False), consent=True)
        fixed = datetime.strptime(outcome.evidence[-1].server_clock, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        assert server.logs().none_since(fixed) is None
        assert client.detect() is None
        assert server.logs().none_since(fixed) is True
        assert there.client_log().none_since(fixed - timedelta(seconds=2)) is True
        assert server.diagnose().observed is wsusfix.Observed.YES  # it was, and the logs still say so
    json.dumps(diagnosis.to_dict())


@pytest.mark.parametrize("wsus", ["2.0", "3.0 RTM", "3.0 SP1", "3.0 SP1 KB954960", "3.0 SP2"])
@pytest.mark.parametrize("office", [True, False])
def test_only_a_faulty_server_fails_and_only_clients_with_office_2003(lab: Lab, wsus: str, office: bool) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2003", wsus=wsus)
    client = lab.add_client("pc01", server=host, office_2003=office)
    fails = office and wsus in ("3.0 RTM", "3.0 SP1")
    assert diagnosis_of(host).observed is (wsusfix.Observed.YES if fails else wsusfix.Observed.NO)
    with wsusfix.connect(**client.connection) as there:
        assert there.client_log().proven is fails
        assert there.diagnose().observed is wsusfix.Observed.UNKNOWN  # no server, no server's log


@pytest.mark.parametrize("folder", ["LogFiles", "Log Files", "D:\\logs", "C:\\Elsewhere\\wsus"])
def test_the_log_is_found_in_every_usual_place_and_where_the_registry_says(lab: Lab, folder: str) -> None:
    folder = folder.replace("D:", "C:")
    host = lab.add_server("wsus01", wsus="3.0 SP1", log_folder=folder)
    lab.add_client("pc01", server=host)
    if ":" not in folder:
        host.machine.registry.remove("SOFTWARE\\Microsoft\\Update Services\\Server\\Setup", "LogFilePath")
    found = logs_of(host)
    assert found.proven
    assert [file.kind for file in found.files] == [wsusfix.FileKind.SERVER]


def test_the_registry_may_name_the_folder_alone_or_a_log_of_another_name(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1", log_folder="C:\\logs")
    lab.add_client("pc01", server=host)
    key = "SOFTWARE\\Microsoft\\Update Services\\Server\\Setup"
    host.machine.registry.set(key, LogFilePath="C:\\logs\\")
    assert logs_of(host).proven
    host.files.move(host.wsus.log_path, "C:\\logs\\wsus.txt")
    host.machine.registry.set(key, LogFilePath="C:\\logs\\wsus.txt")
    assert logs_of(host).proven


@pytest.mark.parametrize("named", ["C:\\logs\\wsus.log", "D:\\gone\\"])
def test_a_log_that_the_registry_names_in_vain_leaves_it_unknown_whatever_lies_elsewhere(lab: Lab, named: str) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    host.files.replace(host.wsus.log_path, HEALTHY)
    assert diagnosis_of(host).observed is wsusfix.Observed.NO
    host.machine.registry.set(SETUP_KEY, LogFilePath=named)
    diagnosis = diagnosis_of(host)
    assert diagnosis.observed is wsusfix.Observed.UNKNOWN
    assert f"there is no log at {named.rstrip(chr(92))}, where the registry says" in diagnosis.observed_why


def test_what_is_no_text_around_a_hit_leaves_it_unknown(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    rubbish = bytes(range(1, 9)) * 1500
    host.files.replace(
        host.wsus.log_path, HEALTHY + rubbish + b"System.Collections.Hashtable.Insert(" + rubbish + HEALTHY
    )
    diagnosis = diagnosis_of(host)
    assert diagnosis.observed is wsusfix.Observed.UNKNOWN
    assert "is no text" in diagnosis.observed_why


def test_what_is_sought_on_the_line_of_a_header_is_found(lab: Lab) -> None:
    # A crash cuts a line, and what is written next goes on behind it.
    client = lab.add_client("pc01", server=lab.add_server("wsus01", wsus="3.0 SP1"))
    assert client.agent is not None
    data = client.files.read(client.agent.path) or b""
    header = b"2008-06-16\t07:00:00:000\t 788\tee4\tMisc\t===  Logging initialized (build: 7.1, tz: +0000)"
    error = b"WARNING: SyncUpdates failure, error = 0x8024400E, soap client error = 7, soap error code = 400"
    client.files.replace(client.agent.path, header + b"\0" * 40 + error)
    with wsusfix.connect(**client.connection) as there:
        found = there.client_log()
        assert [each.conclusive for each in found.findings] == [False]
        client.files.replace(client.agent.path, data.replace(b"\r\n", b"\r"))
        assert there.client_log().correlation.calls == 2


def test_a_log_that_was_rolled_over_is_read_with_what_it_was_rolled_over_into(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host)
    assert host.log is not None
    host.log.roll_over()
    client.detect()
    found = logs_of(host)
    assert [file.path.rpartition("\\")[2] for file in found.files] == [
        "SoftwareDistribution.log",
        "SoftwareDistribution.log.old",
    ]
    assert found.correlation.calls == 3
    assert found.complete


def test_a_server_begins_a_new_log_by_size(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    host.files.append(host.wsus.log_path, b"x" * (SERVER_LOG_ROLLOVER - 3000))
    lab.add_client("pc01", server=host)
    assert f"{host.wsus.log_path}.old" in host.files


@pytest.mark.usefixtures("whole_answers")
def test_a_log_of_twenty_megabytes_without_a_symptom_costs_less_than_ten_kilobytes(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    data = host.files.read(host.wsus.log_path) or b""
    host.files.replace(host.wsus.log_path, data + data * (SERVER_LOG_ROLLOVER // len(data) - 1))
    with wsusfix.connect(**host.connection) as server:
        server.facts()
        asked, sent = host.bytes_received, host.bytes_sent
        found = server.logs()
    assert (found.complete, found.proven) == (True, False)
    assert found.files[0].begins is not None
    assert host.bytes_sent - sent < 10_000
    # The question is the same whatever the logs are like.
    assert host.bytes_received - asked < 30_000


@pytest.mark.usefixtures("whole_answers")
def test_what_travels_of_a_log_full_of_failed_calls_is_bounded_and_first_and_last_are_known(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host)
    first = logs_of(host).correlation.since
    for _ in range(400):
        client.detect()
    with wsusfix.connect(**host.connection) as server:
        server.facts()
        sent, requests = host.bytes_sent, host.request_count
        found = server.logs()
        assert host.bytes_sent - sent < 150_000
        assert host.request_count - requests == 2
    assert (host.files.length(host.wsus.log_path) or 0) > 400_000
    assert found.correlation.since == first
    assert found.correlation.until is not None
    assert datetime.now(timezone.utc) - found.correlation.until < timedelta(minutes=1)
    assert 20 < found.correlation.calls < 402
    assert not found.complete
    assert "not brought back" in found.unread[0]
    with wsusfix.connect(**host.connection) as server:
        assert "at least, last at" in server.diagnose().observed_why


def test_logs_that_may_not_be_read_leave_it_unknown_with_the_reason(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1", culture="nb-NO")
    lab.add_client("pc01", server=host)
    host.files.protect(folder_of(host), ONLY_SYSTEM)
    diagnosis = diagnosis_of(host)
    assert diagnosis.observed is wsusfix.Observed.UNKNOWN
    assert "avsl\u00e5tt" in diagnosis.observed_why
    assert diagnosis.verdict is wsusfix.Verdict.EXPOSED_SP1


def test_a_place_that_may_not_be_read_leaves_it_unknown_whatever_the_log_there_is_called(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1", log_folder="C:\\logs")
    lab.add_client("pc01", server=host)
    folder = f"{host.wsus.target}LogFiles"
    host.files.make_folders(folder)
    host.files.create(f"{folder}\\SoftwareDistribution.log", HEALTHY)
    host.files.move(host.wsus.log_path, "C:\\logs\\wsus.txt")
    host.machine.registry.set(SETUP_KEY, LogFilePath="C:\\logs\\wsus.txt")
    assert diagnosis_of(host).observed is wsusfix.Observed.YES
    host.files.protect("C:\\logs", ONLY_SYSTEM)
    diagnosis = diagnosis_of(host)
    assert diagnosis.observed is wsusfix.Observed.UNKNOWN
    assert "C:\\logs\\wsus.txt: Access to the path" in diagnosis.observed_why


@pytest.mark.parametrize(
    "damage",
    [
        lambda failing: b"bro\0ken\r\n" + HEALTHY + failing,
        lambda failing: b"\0" * 300 + b"\r\n" + HEALTHY + failing,
        lambda failing: b"\xff\xfe" + wide(HEALTHY) + failing + HEALTHY,
        lambda failing: HEALTHY + wide(failing) + HEALTHY,
        lambda failing: HEALTHY + b"x" + wide(failing) + wide(HEALTHY),
    ],
    ids=["a zero", "zeros", "UTF-16 before", "UTF-16 in the middle", "UTF-16 askew"],
)
def test_a_zero_or_a_change_of_encoding_hides_no_failed_call(lab: Lab, damage: Callable[[bytes], bytes]) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    lab.add_client("pc01", server=host)
    content = damage(host.files.read(host.wsus.log_path) or b"")
    host.files.replace(host.wsus.log_path, content)
    diagnosis = diagnosis_of(host)
    assert diagnosis.observed is wsusfix.Observed.YES
    whole = [found for found in logs.scan(io.BytesIO(content)) if found.conclusive]
    assert diagnosis.logs is not None
    assert [found.call_id for found in diagnosis.logs.findings] == [found.call_id for found in whole]
    assert len(whole) == 2


def test_another_fault_with_a_long_stack_is_not_taken_for_an_unclear_one(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    assert host.log is not None
    time = datetime(2008, 7, 14, 2, 59, 57, tzinfo=timezone.utc)
    frames = [f"Some.Names.Of.A.Provider{each}.Query(SqlConnection connection, String text)" for each in range(90)]
    host.log.ordinary(time)
    host.log.write(time, "Error", "w3wp.12", SERVER_METHOD, "System.Data.SqlClient.SqlException: Timeout.", *frames)
    told = "ThrowException: actor = x, ID=33333333-b989-43fa-ac20-11f8ca65fa8c, ErrorCode=InternalServerError, Message="
    host.log.write(time, "Warning", "w3wp.12", "SoapUtilities.CreateException", told)
    assert list(logs.scan(io.BytesIO(host.files.read(host.wsus.log_path) or b""))) == []
    assert diagnosis_of(host).observed is wsusfix.Observed.NO


def test_times_are_those_of_the_header_in_front_of_a_call_inside_a_stretch_too(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host, utc_offset=120)
    assert client.agent is not None
    client.machine.utc_offset = 60  # winter
    client.agent.start(datetime(2008, 10, 26, 1, 0, tzinfo=timezone.utc))
    last = datetime(2008, 10, 26, 23, 0, tzinfo=timezone.utc)
    for each in range(120):
        client.agent._write(last, "AU", f"a line of another call {each}")
    client.agent.detect(last)
    with wsusfix.connect(**client.connection) as there:
        found = there.client_log().findings
    assert [each.time.utcoffset() for each in found if each.time] == [timedelta(hours=each) for each in (2, 2, 1)]
    assert found[-1].time == last
    content = client.files.read(client.agent.path) or b""
    assert [each.time for each in found] == [each.time for each in logs.scan(io.BytesIO(content))]


def test_the_newest_files_are_read_when_there_are_too_many(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    folder = folder_of(host)
    for month in range(1, 12):
        path = f"{folder}\\SoftwareDistribution.2008-{month:02d}.log"
        host.files.create(path, HEALTHY)
        host.files._find(path).written = 86400.0 * month  # type: ignore[union-attr]
    found = logs_of(host)
    names = [file.path.rpartition("\\")[2] for file in found.files]
    newest = [f"SoftwareDistribution.2008-{month:02d}.log" for month in range(11, 4, -1)]
    assert names == ["SoftwareDistribution.log", *newest]
    assert found.unread == ("4 older files",)


def test_without_a_log_it_is_unknown(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1", log_folder=None)
    diagnosis = diagnosis_of(host)
    assert diagnosis.observed is wsusfix.Observed.UNKNOWN
    assert "no log was found" in diagnosis.observed_why


def test_time_that_runs_out_leaves_it_unknown(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    host.machine.files.append(host.wsus.log_path, b"x" * 600_000)
    ticks = iter(range(1000))
    start = host.machine.now()
    host.machine.now = lambda: start + 20 * next(ticks)  # type: ignore[method-assign]
    found = logs_of(host)
    assert "in the time given" in found.unread[0]


@pytest.mark.usefixtures("whole_answers")
def test_whoever_leaves_the_logs_alone_sends_nothing_for_them(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    lab.add_client("pc01", server=host)
    with wsusfix.connect(**host.connection) as server:
        diagnosis = server.diagnose(logs=False)
    assert (diagnosis.observed, diagnosis.observed_why) == (wsusfix.Observed.UNKNOWN, "logs not read")
    assert host.request_count <= 8


@pytest.mark.parametrize("fault", ["reset_request", "reset_in_response", "lose_shells"])
def test_a_connection_that_breaks_while_logs_are_searched_is_taken_up_again(lab: Lab, fault: str) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    lab.add_client("pc01", server=host)
    with wsusfix.connect(**host.connection) as server:
        server.facts()
        getattr(host.faults, fault)(*(() if fault == "lose_shells" else (1,)))
        assert server.logs().proven
