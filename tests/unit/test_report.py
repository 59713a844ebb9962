"""A run written down: everything an auditor keeps, nothing that acts, and no name where none is wanted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import pytest

from tests import builders
from wsusfix import report
from wsusfix.errors import AuthenticationError, PackageError, RefusedError
from wsusfix.events import Event, JobState, Moment, Note, PhaseBegun, Recorder, UploadProgress
from wsusfix.facts.approvals import Saved, SavedApproval
from wsusfix.logs.correlate import correlate
from wsusfix.logs.findings import FileKind, ServerFinding
from wsusfix.logs.machine import MachineLogs
from wsusfix.remote.job import JobStep, Withdrawal
from wsusfix.report import HostResult, Run
from wsusfix.results import DatabaseBackup
from wsusfix.scripts.contracts import JobPhase

BEGAN = datetime(2008, 9, 2, 10, 0, tzinfo=timezone.utc)
HOSTILE = "<script>alert(1)</script>\x1b[2J`|**bold**"
WAYS = (report.text, report.markdown, report.html, report.json)
ways = pytest.mark.parametrize("write", WAYS, ids=lambda write: write.__name__)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def events() -> tuple[Moment, ...]:
    told = [(0, "connect"), (1, "facts"), (2, "upload"), (30, "job"), (300, "verify")]
    moments = [Moment(at(second), PhaseBegun("wsus01", phase), at(second)) for second, phase in told]
    state = JobState("wsus01", "0123456789ab", 1, "started", "2008-09-02T10:01:00Z")
    return (*moments, Moment(at(310), state, at(310)))


def mended(**changes: Any) -> HostResult:
    """Return a server that was mended, with its server's clock a minute ahead of ours."""
    steps = tuple(
        JobStep(number, phase, f"2008-09-02T10:{minute:02d}:00Z", {})
        for number, (phase, minute) in enumerate(
            [(JobPhase.STARTED, 2), (JobPhase.INSTALLING, 3), (JobPhase.INSTALLED, 5), (JobPhase.FINISHED, 5)], 1
        )
    )
    evidence = builders.evidence(
        steps=steps, server_clock="2008-09-02T10:07:00Z", controller_clock=at(360), log_tail="all\nwell"
    )
    outcome = builders.outcome(**{"evidence": (evidence,), **changes})
    plan = builders.plan()
    return HostResult("wsus01", diagnosis=plan.diagnosis, plan=plan, outcome=outcome, events=events())


def run(*hosts: HostResult) -> Run:
    return Run("remediate", BEGAN, at(400), hosts or (mended(),))


# --- what is kept ---------------------------------------------------------------------------------------------------


@ways
def test_every_way_tells_where_the_backup_of_the_database_lies(write: Any) -> None:
    place = "C:\\Windows\\wsusfix-backup\\0123456789ab\\SUSDB.bak"
    told = write(run(mended(backup=DatabaseBackup(place, 400_000_000))))
    assert (place.replace("\\", "\\\\") if write is report.json else place) in told
    assert ("400000000" if write is report.json else "400.0 MB") in told


@ways
def test_every_way_tells_what_an_auditor_wants(write: Any) -> None:
    told = write(run())
    kept = builders.evidence()
    for value in (
        "CORP\\admin",
        kept.account_sid,
        "Kerberos",
        kept.plan_digest,
        kept.package_sha256,
        "WSUS-KB954960-x64.exe /q",
        kept.signer,
        kept.signed_at,
        "2008-09-02T10:07:00Z",
        kept.logs[0].sha256,
        "3.1.6001.65",
        "3.1.6001.66",
        "all",
    ):
        shown = value.replace("\\", "\\\\") if write is report.json else value
        assert shown in told, value


def test_the_older_names_say_the_same() -> None:
    whole = run()
    assert report.to_text(whole) == report.text(whole)
    assert report.to_markdown(whole) == report.markdown(whole)
    assert report.to_html(whole) == report.html(whole)
    assert report.to_json(whole) == report.json(whole)


def test_the_page_shows_before_and_after_side_by_side() -> None:
    page = report.html(run())
    assert "<tr><td>verdict</td><td>exposed_sp1</td><td>fixed</td></tr>" in page
    assert "<tr><td>file version of the proof DLL</td><td>3.1.6001.65</td><td>3.1.6001.66</td></tr>" in page
    around = dataclasses.replace(builders.verification(), worked_around=True)
    page = report.html(run(HostResult("wsus01", diagnosis=builders.diagnosis(), verification=around)))
    assert "<tr><td>the fault is worked around</td><td>not known</td><td>yes</td></tr>" in page


def test_the_page_asks_for_a_way_around_only_where_there_is_something_to_go_around() -> None:
    assert "the fault is worked around" not in report.html(run())
    exposed = report.html(run(HostResult("wsus01", diagnosis=builders.diagnosis())))
    assert "<tr><td>the fault is worked around</td><td>not known</td><td></td></tr>" in exposed


@pytest.mark.parametrize(("number", "told"), [(0, "0 servers"), (1, "1 server"), (2, "2 servers")])
def test_servers_are_counted_as_a_person_does(number: int, told: str) -> None:
    whole = Run("remediate", BEGAN, at(400), (mended(),) * number)
    assert f", {told}\n" in report.markdown(whole)
    assert f", {told}, " in report.html(whole)


def test_the_page_names_the_hash_of_the_data_as_it_is_written() -> None:
    whole = run()
    digest = hashlib.sha256(report.json(whole).encode()).hexdigest()
    assert digest in report.html(whole)


@ways
def test_a_server_that_was_not_reached_is_told_with_what_to_do(write: Any) -> None:
    error = RefusedError("the port is closed", host="wsus09", phase="connect")
    told = write(run(HostResult("wsus09", error=error)))
    assert "the port is closed" in told
    assert "winrm quickconfig" in told.replace("&#x27;", "'")


@ways
def test_a_look_alone_can_be_written_down(write: Any) -> None:
    assert "exposed_sp1" in write(run(HostResult("wsus01", diagnosis=builders.diagnosis())))
    assert "wsus01" in write(run(HostResult("wsus01", verification=builders.verification())))
    assert "blocked" in write(run(HostResult("wsus01", plan=builders.plan(administrator=False))))


# --- the page ------------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Reads a page as a browser would, and keeps what could act or fetch, and which elements were not closed."""

    void = frozenset({"meta", "br", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.acting: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "link", "img", "form", "a"):
            self.acting.append(tag)
        self.acting += [name for name, _ in attrs if name.startswith("on") or name in ("src", "href", "style")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def read(page: str) -> _Page:
    reader = _Page()
    reader.feed(page)
    reader.close()
    return reader


def test_the_page_stands_alone() -> None:
    page = report.html(run())
    reader = read(page)
    assert (reader.open, reader.acting) == ([], [])
    assert "@media print" in page
    assert "url(" not in page
    assert re.findall(r"https?://[^\"]+", page) == ["http://www.w3.org/2000/svg"]


def test_what_a_server_says_is_text_and_never_markup() -> None:
    evidence = builders.evidence(log_tail=HOSTILE, signer=HOSTILE, job_id=HOSTILE)
    result = mended(message=HOSTILE, notes=(HOSTILE,), blocked=(HOSTILE,), evidence=(evidence,))
    page = report.html(run(result, HostResult(HOSTILE)))
    assert read(page).acting == []
    assert "&lt;script&gt;" in page
    for told in (page, report.markdown(run(result)), report.text(run(result))):
        assert "\x1b" not in told.replace(HOSTILE, "")
    assert "\x1b" not in page
    row = next(line for line in report.markdown(run(result)).splitlines() if line.startswith("| wsus01"))
    assert "<script>" not in row
    assert "\\*\\*bold\\*\\*" in row


# --- the timeline ---------------------------------------------------------------------------------------------------


def bars(page: str) -> dict[str, tuple[float, float]]:
    """Return where each stretch of time begins in the picture, and how wide it is."""
    bar = r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)"[^>]*><title>([^<]+) \('
    return {label: (float(x), float(width)) for x, width, label in re.findall(bar, page)}


def test_the_timeline_is_drawn_to_scale_by_one_clock() -> None:
    drawn = bars(report.html(run()))
    # From 10:00:00 to 10:05:10 on 480 units; the server's clock is a minute ahead.
    unit = 480 / 310
    for name, second, seconds in (
        ("upload", 2, 28),
        ("job", 30, 270),
        ("install update: started", 60, 60),
        ("install update: installing", 120, 120),
    ):
        x, width = drawn[name]
        assert x == pytest.approx(240 + second * unit, abs=0.1), name
        assert width == pytest.approx(seconds * unit, abs=0.1), name
    assert drawn["install update: finished"][1] == 2.0
    assert "10:02:00  install update: installing (2 min 00 s)" in report.text(run())


def test_a_job_is_drawn_no_earlier_than_it_was_asked_for() -> None:
    # The server's clock has whole seconds: by it, the job began before this run did.
    evidence = builders.evidence(
        steps=tuple(
            JobStep(number, phase, f"2008-09-02T10:00:{second:02d}Z", {})
            for number, (phase, second) in enumerate([(JobPhase.STARTED, 0), (JobPhase.FINISHED, 2)], 1)
        ),
        server_clock="2008-09-02T10:00:03Z",
        controller_clock=at(2),
    )
    watched = (
        *(
            Moment(at(second), PhaseBegun("wsus01", phase), at(second))
            for second, phase in [(0, "connect"), (1, "job")]
        ),
        Moment(at(2), JobState("wsus01", evidence.job_id, 1, "started", "2008-09-02T10:00:00Z"), at(2)),
        Moment(at(3), PhaseBegun("wsus01", "verify"), at(3)),
    )
    unit = 480 / 3
    drawn = bars(report.html(run(dataclasses.replace(mended(evidence=(evidence,)), events=watched))))
    assert list(drawn["install update: started"]) == pytest.approx([240 + unit, 2 * unit], abs=0.1)
    # One that was joined has begun before, and so it is drawn.
    joined = (
        watched[0],
        Moment(at(1), Note("wsus01", "job", "joining the job that runs already"), at(1)),
        *watched[2:],
    )
    drawn = bars(report.html(run(dataclasses.replace(mended(evidence=(evidence,)), events=joined))))
    assert drawn["install update: started"][0] == pytest.approx(240, abs=0.1)
    assert drawn["connect"][0] > 240 + 60


@pytest.mark.parametrize("seconds", [0.2, 1, 2.5, 3.9, 4, 5, 310])
def test_the_times_of_the_axis_are_told_apart(seconds: float) -> None:
    watched = tuple(Moment(at(when), PhaseBegun("wsus01", "connect"), at(when)) for when in (0.05, 0.05 + seconds))
    page = report.html(run(HostResult("wsus01", events=watched)))
    labels = re.findall(r'class="axis">([^<]+)<', page)
    assert len(set(labels)) == len(labels) == 5
    assert all(("." in label) is (seconds < 4) for label in labels)


def test_each_job_has_one_row_however_many_states_it_went_through() -> None:
    first = mended()
    assert first.outcome is not None
    (evidence,) = first.outcome.evidence
    later = dataclasses.replace(evidence, kind="back_up_database", job_id="ba9876543210")
    page = report.html(run(mended(evidence=(evidence, later))))
    labels = re.findall(r'text-anchor="end">([^<]+)<', page)
    assert labels.count("on the server: install update") == 1
    assert labels.count("on the server: back up database") == 1
    assert page.count("<h3>Evidence of job ") == 2


@pytest.mark.parametrize("clock", ["", "yesterday", "2008-09-02T10:07:00", "<b>"])
def test_a_clock_that_cannot_be_read_draws_nothing(clock: str) -> None:
    outcome = builders.outcome(evidence=(builders.evidence(server_clock=clock),))
    assert "<svg" not in report.html(run(HostResult("wsus01", outcome=outcome)))
    assert "<svg" in report.html(run(HostResult("wsus01", outcome=outcome, events=events())))


def test_a_recorder_keeps_times_and_only_the_newest_progress_of_an_upload() -> None:
    passed: list[object] = []
    recorder = Recorder(passed.append)
    told: list[Event] = [
        PhaseBegun("wsus01", "upload"),
        *(UploadProgress("wsus01", "a.exe", sent, 9, 0, 0.0) for sent in range(10)),
        PhaseBegun("wsus01", "job"),
    ]
    for event in told:
        recorder(event)
    assert passed == told
    assert [moment.event for moment in recorder.moments] == [told[0], told[-2], told[-1]]
    assert all(moment.at <= moment.last for moment in recorder.moments)
    assert all(moment.at.tzinfo is not None for moment in recorder.moments)
    assert recorder.moments[1].to_dict()["kind"] == "UploadProgress"


# --- without names --------------------------------------------------------------------------------------------------


@ways
def test_names_of_servers_and_people_are_left_out_when_asked(write: Any) -> None:
    notes = ("wsus01.corp.example and WSUS01: asked by corp\\ADMIN on WSUS02, not on wsus012",)
    facts = builders.facts(front_ends=("wsus01", "wsus02"))
    diagnosis = builders.diagnosis(front_ends=("wsus01", "wsus02"))
    assert facts.computer_name == "WSUS01"
    result = mended(notes=notes)
    whole = run(HostResult("wsus01.corp.example", diagnosis=diagnosis, plan=result.plan, outcome=result.outcome))
    assert "CORP" in write(whole)
    told = write(whole, anonymous=True)
    for name in ("wsus01", "WSUS01", "CORP", "corp", "S-1-5-21-1-2-3-1104", "WSUS02", "wsus02"):
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", told) is None, name
    for word in ("server-1", "server-2", "user-1", "domain-1", "sid-1", "wsus012"):
        assert word in told, word
    if write is report.json:
        assert json.loads(told)["hosts"][0]["host"] == "server-1"


def test_the_same_name_is_the_same_word_and_another_is_another() -> None:
    hosts = [HostResult(name, diagnosis=builders.diagnosis(host=name)) for name in ("a.x", "b.x", "a.x")]
    told = json.loads(report.json(run(*hosts), anonymous=True))
    assert [host["host"] for host in told["hosts"]] == ["server-1", "server-2", "server-1"]
    assert "a.x" in report.json(run(*hosts))


def test_names_around_the_server_are_left_out_too() -> None:
    diagnosis = builders.diagnosis(setup_SqlServerName="SQL07\\WSUS", account="eva@corp.example")
    approvals = builders.approvals(upstream="top.corp.example")
    diagnosis = dataclasses.replace(diagnosis, facts=dataclasses.replace(diagnosis.facts, approvals=approvals))
    given = SavedApproval("80db6c6c", 1, "g", "Install", False, "", "2005-02-01T08:00:00Z", "PAPER\\olav")
    saved = Saved("0123456789ab", "2008-09-02T10:00:00Z", False, True, (), (given,), True)
    whole = run(HostResult("wsus01", diagnosis=diagnosis, outcome=builders.outcome(saved=saved)))
    open_, closed = report.json(whole), report.json(whole, anonymous=True)
    for name in ("SQL07", "eva@corp.example", "top.corp.example", "olav", "PAPER"):
        assert name in open_, name
        assert re.search(rf"(?i)\b{name.split('@')[0].split('.')[0]}\b", closed) is None, name


def test_places_that_are_no_names_are_left_alone() -> None:
    for server in ("(local)", ".", "%computername%\\MICROSOFT##SSEE", "localhost"):
        whole = run(HostResult("wsus01", diagnosis=builders.diagnosis(setup_SqlServerName=server)))
        (told,) = json.loads(report.json(whole, anonymous=True))["hosts"]
        assert told["diagnosis"]["facts"]["wsus"]["database"]["server"] == server


def test_a_run_over_no_servers_is_told_all_the_same() -> None:
    nothing = Run("diagnose", BEGAN, BEGAN, ())
    assert report.text(nothing, anonymous=True) == ""
    assert "0 servers" in report.html(nothing, anonymous=True)


def test_the_short_name_of_a_server_that_was_not_reached_is_left_out_too() -> None:
    error = RefusedError("wsus09 does not answer", host="wsus09.corp.example", phase="connect")
    told = report.text(run(HostResult("wsus09.corp.example", error=error)), anonymous=True)
    assert "server-1 does not answer" in told
    assert "wsus09" not in told


@ways
def test_whoever_asked_is_left_out_of_an_error_when_there_is_nothing_else(write: Any) -> None:
    said = (
        "not authenticated: Failed to authenticate the user CORP\\eva with negotiate",
        "not authenticated: Failed to authenticate the user CORP\\eva smith with ntlm",
        "could not authenticate: Client 'eva@CORP.EXAMPLE' not found in Kerberos database",
        "access denied: CORP\\eva may not do that",
    )
    hosts = [HostResult("wsus01", error=AuthenticationError(text, host="wsus01", phase="connect")) for text in said]
    assert "eva" in write(run(*hosts))
    for host in hosts:
        told = write(run(host), anonymous=True)
        assert re.search(r"(?i)eva|smith|corp(?!orat)|example", told) is None, told
        assert "user-1" in told
        assert "domain-1" in told
        # What to do is for everybody.
        assert "DOMAIN" in told


@ways
def test_whoever_asked_for_a_job_is_left_out_also_where_the_look_was_anothers(write: Any) -> None:
    evidence = builders.evidence(account="WORK\\olav", account_sid="S-1-5-21-9-9-9-500")
    told = write(run(mended(evidence=(evidence,))), anonymous=True)
    assert "olav" in write(run(mended(evidence=(evidence,))))
    for name in ("olav", "WORK", "S-1-5-21-9-9-9-500"):
        assert re.search(rf"\b{name}\b", told) is None, name
    assert "user-2" in told


@ways
def test_whoever_called_a_job_off_is_left_out(write: Any) -> None:
    sid = "S-1-5-21-9-9-9-501"
    step = JobStep(3, JobPhase.WITHDRAWN, "2008-09-02T10:02:00Z", {"account_sid": sid})
    failed = mended(evidence=(builders.evidence(steps=(step,)),), message=f"failed: withdrawn by {sid}")
    state = JobState("wsus01", "0123456789ab", 3, "withdrawn", "2008-09-02T10:02:00Z", f"by {sid}")
    withdrawal = Withdrawal("wsus01", "0123456789ab", "install_update", ended=True)
    called_off = HostResult("wsus01", withdrawal=withdrawal, events=(Moment(at(9), state, at(9)),))
    assert sid in write(run(failed))
    assert sid in report.json(run(called_off))
    for host in (failed, called_off):
        assert sid not in write(run(host), anonymous=True)


@ways
def test_every_way_tells_which_job_was_called_off(write: Any) -> None:
    told = write(run(HostResult("wsus01", withdrawal=Withdrawal("wsus01", "0123456789ab", "install_update"))))
    for value in ("0123456789ab", "install_update" if write is report.json else "withdrawn"):
        assert value in told
    assert "not reached" not in told


@ways
@pytest.mark.parametrize("path", ["/home/ingrid/My files/KB954960.exe", "C:\\Users\\ingrid\\KB954960.exe"])
def test_folders_of_this_machine_are_left_out(write: Any, path: str) -> None:
    given = builders.package(path=path, name="KB954960.exe")
    planned = write(run(HostResult("wsus01", plan=builders.plan(given=given))), anonymous=True)
    error = PackageError(f"the package {path!r} cannot be read: gone", hint="check the spelling")
    failed = write(run(HostResult("wsus01", error=error)), anonymous=True)
    for told in (planned, failed):
        assert "KB954960.exe" in told
        assert re.search("ingrid|home|Users", told) is None
    assert "ingrid" in write(run(HostResult("wsus01", error=error)))


@ways
def test_other_names_of_a_server_in_its_logs_are_left_out(write: Any) -> None:
    finding = ServerFinding(
        "\\\\WSUS01\\C$\\Logs\\SoftwareDistribution.log",
        7,
        exception="System.ArgumentException",
        server_url="http://patches.corp.example:8530/ClientWebService/client.asmx",
    )
    logs = MachineLogs("wsus01.corp.example", FileKind.SERVER, (), (finding,), correlate([finding]), None, ("a",))
    notes = ("asked for wsus01 in corp.example by https://wsus01.corp.example./x and http://wsus01.other.example",)
    diagnosis = dataclasses.replace(builders.diagnosis(host="wsus01.corp.example"), logs=logs, notes=notes)
    whole = run(HostResult("wsus01.corp.example", diagnosis=diagnosis))
    told = write(whole, anonymous=True)
    assert re.search("(?i)patches|wsus01|corp.example", told) is None, told
    assert "server-2" in told
    assert "in domain-2 by https://server-1./x and http://server-1" in told


def test_a_name_is_known_in_a_longer_word_unless_that_is_another_name() -> None:
    notes = ("wsus01_old wsus012 awsus01 admin_2 admin2 administrator 9ad1 corp-WSUS01-db",)
    whole = run(mended(notes=notes))
    (told,) = json.loads(report.json(whole, anonymous=True))["hosts"]
    assert told["outcome"]["notes"] == [
        "server-1_old wsus012 awsus01 user-1_2 user-12 administrator 9ad1 domain-1-server-1-db"
    ]
