"""The whole road over the wire: connect, facts, diagnosis, plan, apply, verify, against simulated servers."""

from __future__ import annotations

import json

import pytest

import wsusfix
from wsusfix.lab import Host, Lab

VERDICTS = {
    None: "not_a_server",
    "console": "not_a_server",
    "2.0": "not_affected",
    "2.0 SP1": "not_affected",
    "3.0 RTM": "exposed_rtm",
    "3.0 SP1": "exposed_sp1",
    "3.0 SP1 KB954960": "fixed",
    "3.0 SP2": "not_affected",
}
SP1_SERVERS = [("Windows Server 2008", "x64"), ("Windows Server 2008", "x86"), ("Windows Server 2003", "x86")]


def mend(lab: Lab, host: Host, arch: str) -> wsusfix.Outcome:
    options = wsusfix.Options(package=lab.package(f"WSUS-KB954960-{arch}.exe", arch=arch))
    with wsusfix.connect(**host.connection) as server:
        return server.apply(server.plan(options), consent=True)


@pytest.mark.parametrize(("wsus", "verdict"), VERDICTS.items(), ids=str)
def test_every_state_of_wsus_gets_its_verdict(lab: Lab, wsus: str | None, verdict: str) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2003", arch="x86", wsus=wsus)
    with wsusfix.connect(**host.connection) as server:
        diagnosis = server.diagnose()
    assert diagnosis.verdict == verdict
    # Without clients nothing fails, and what is no server has no log.
    assert diagnosis.observed == ("unknown" if verdict == "not_a_server" else "no")
    json.dumps(diagnosis.to_dict())


@pytest.mark.usefixtures("whole_answers")
@pytest.mark.parametrize(("logs", "requests"), [(False, 8), (True, 10)])
def test_a_whole_diagnosis_takes_eight_requests_and_the_logs_two_more(lab: Lab, logs: bool, requests: int) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    with wsusfix.connect(**host.connection) as server:
        server.diagnose(logs=logs)
    assert host.request_count <= requests


@pytest.mark.parametrize(("os", "arch"), SP1_SERVERS)
def test_an_exposed_server_is_mended_by_a_job_of_system(lab: Lab, os: str, arch: str) -> None:
    host = lab.add_server("wsus01", os=os, arch=arch, wsus="3.0 SP1")
    assert host.dll_version == "3.1.6001.65"
    events: list[wsusfix.Event] = []
    options = wsusfix.Options(package=lab.package(f"WSUS-KB954960-{arch}.exe", arch=arch))
    with wsusfix.connect(**host.connection) as server:
        outcome = server.apply(server.plan(options), consent=True, on_event=events.append)
        proof = server.verify()
        again = server.apply(server.plan(options), consent=True)
    assert outcome.ok, str(outcome)
    assert outcome.changed
    assert not outcome.restart_pending
    assert host.dll_version == "3.1.6001.66"
    assert proof.ok
    assert str(proof.found) == "3.1.6001.66"
    assert str(proof.required) == "3.1.6001.66"
    assert len(host.installations) == 1
    assert len(host.jobs) == 1
    assert "SYSTEM" in repr(host.jobs[0])
    (evidence,) = outcome.evidence
    assert evidence.exit_code == 0
    phases = [event.phase for event in events if isinstance(event, wsusfix.JobState)]
    assert phases[0] == "started"
    assert phases[-1] == "finished"
    assert not again.changed
    assert "nothing to do" in again.message
    json.dumps(outcome.to_dict())


def test_nothing_of_a_run_stays_on_the_server_but_an_event_log_entry(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    outcome = mend(lab, host, "x64")
    assert outcome.notes == ()
    assert not [path for path in host.files if "wsusfix" in path.lower()]
    assert host.tasks == ()
    assert len(host.event_log) == 1


def test_a_plan_that_cannot_be_undone_is_not_applied_without_consent(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(wsusfix.Options(package=lab.package("WSUS-KB954960-x64.exe")))
        before = host.request_count
        with pytest.raises(wsusfix.ConsentError):
            server.apply(plan)
        assert host.request_count == before
    assert host.jobs == ()


def test_the_server_decides_what_is_in_the_way_whatever_the_plan_was(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    options = wsusfix.Options(package=lab.package("WSUS-KB954960-x64.exe"))
    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(options)
        mend(lab, host, "x64")
        with pytest.raises(wsusfix.PlanChangedError) as caught:
            server.apply(plan, consent=True)
    assert "3.1.6001.66" in str(caught.value)
    assert len(host.installations) == 1


def test_an_upload_is_hashed_and_not_sent_twice(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    package = lab.package("WSUS-KB954960-x64.exe", size=3 << 20)
    with wsusfix.connect(**host.connection) as server:
        where = server.upload(package)
        received = host.bytes_received
        assert server.upload(package) == where
        assert host.bytes_received - received < 300_000
        assert where.lower().startswith("c:\\windows\\wsusfix\\")
        cleaned = server.cleanup()
    assert cleaned.clean
    assert not [path for path in host.files if "wsusfix" in path.lower()]


def test_a_session_names_itself_and_its_protocol(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2003", arch="x86", wsus="3.0 SP1", culture="nb-NO")
    with wsusfix.connect(**host.connection) as server:
        assert server.authentication == "ntlm"
        # An engine says its own version; the facts are the simulated server's in both modes.
        assert lab.engine is not None or server.powershell_version == "2.0"
        assert server.facts().session.powershell_version == "2.0"
        facts = server.facts()
        assert host.connection["password"] not in repr(server) + str(server) + repr(facts) + str(facts)
    assert facts.os.culture == "nb-NO"
    assert facts.wsus.dll_path.startswith("C:\\Programfiler\\")
