"""Clients over the wire: a survey that loses nobody, and a canary that proves only what it can."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import wsusfix
from wsusfix import advisory
from wsusfix.cli import main
from wsusfix.lab import Host, Lab, update_logs
from wsusfix.scripts.contracts import STAGING_NAME

QUICK = wsusfix.Timeouts(detection=0.2)


def reach(*hosts: Host) -> tuple[list[str], dict[str, Any]]:
    """The addresses of machines, and how all of them are reached."""
    ports = {host.connection["port"] for host in hosts}
    assert len(ports) == 1, "the lab gives all of them one port where it can"
    known = hosts[0].connection
    return [host.connection["host"] for host in hosts], {
        "port": ports.pop(),
        "username": known["username"],
        "password": known["password"],
    }


def canary(client: Host, server: object, **more: Any) -> wsusfix.Canary:
    return wsusfix.clients.canary(server=server, **{"timeouts": QUICK, **more}, **client.connection)  # type: ignore[arg-type]


def mend(lab: Lab, host: Host) -> wsusfix.Outcome:
    with wsusfix.connect(**host.connection) as server:
        return server.apply(server.plan(wsusfix.Options(package=lab.package()), logs=False), consent=True)


# --- the survey -----------------------------------------------------------------------------------------------------


def test_a_survey_says_who_is_hit_by_which_server_and_since_when_and_loses_nobody(lab: Lab) -> None:
    faulty, fixed = lab.add_server("wsus01", wsus="3.0 SP1"), lab.add_server("wsus02", wsus="3.0 SP1 KB954960")
    clients = [
        lab.add_client("pc01", server=faulty, utc_offset=60),
        lab.add_client("pc02", server=faulty, office_2003=False),
        lab.add_client("pc03", server=fixed, encoding="utf-16"),
        lab.add_client("pc04", server=faulty, os="Windows Vista", encoding="utf-8"),
        lab.add_client("pc05", server="http://nowhere/"),
    ]
    clients[1].files.remove_file(clients[1].agent.path if clients[1].agent else "")
    hosts, how = reach(*clients)
    with wsusfix.connect(**faulty.connection) as server:
        seen = server.logs()
    told: list[wsusfix.ClientReport] = []
    found = wsusfix.clients.survey(
        [*hosts, "127.0.9.9", hosts[0]], servers=[seen], at_once=3, timeouts=QUICK, on_client=told.append, **how
    )
    assert [each.host for each in found.clients] == [*hosts, "127.0.9.9"]
    assert [each.hit for each in found.clients] == [True, None, False, True, False, None]
    assert [each.host for each in found.unreached] == ["127.0.9.9"]
    assert found.clients[0].servers == ("http://wsus01/ClientWebService/client.asmx",)
    assert "no log was found" in found.clients[1].why
    assert (found.correlation.calls, found.correlation.clients, len(found.correlation.pairs)) == (4, 2, 4)
    since = found.clients[0].logs.correlation.since if found.clients[0].logs else None
    assert since is not None
    assert f"{since:%Y-%m-%d %H:%M:%S}" in str(found.clients[0])
    assert {each.host for each in told} == {*hosts, "127.0.9.9"}
    data = json.loads(json.dumps(found.to_dict()))
    assert data["unreached"] == ["127.0.9.9"]
    assert "127.0.9.9: not reached: " in str(found)


def test_a_survey_asks_as_many_at_once_as_it_may_and_no_more(lab: Lab) -> None:
    clients = [lab.add_client(f"pc{number}") for number in range(6)]
    hosts, how = reach(*clients)
    busiest = 0
    before = threading.active_count()
    together = threading.Barrier(2)

    def count(_: object) -> None:
        nonlocal busiest
        together.wait(30)  # passed by two that are asked at the same time, and by nobody alone
        names = [thread.name for thread in threading.enumerate()]
        busiest = max(busiest, sum(name.startswith("wsusfix-survey") for name in names))

    found = wsusfix.clients.survey(hosts, at_once=2, on_client=count, **how)
    assert len(found.clients) == 6
    assert not found.unreached
    assert busiest == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("wsusfix-survey")]
    assert threading.active_count() <= before + len(clients) * 4


def test_a_client_s_unclear_call_counts_where_the_server_s_log_proves_it(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host)
    assert client.agent is not None
    lines = (client.files.read(client.agent.path) or b"").splitlines(keepends=True)
    left = [line for line in lines if b"ErrorCode:" not in line and b"Method:" not in line]
    client.files.replace(client.agent.path, b"".join(left))
    (address,), how = reach(client)
    with wsusfix.connect(**host.connection) as server:
        seen = server.logs()
    alone = wsusfix.clients.survey([address], **how)
    assert [each.hit for each in alone.clients] == [None]
    together = wsusfix.clients.survey([address], servers=iter([seen]), **how)
    (report,) = together.clients
    assert report.hit is True
    assert report.servers == ("http://wsus01/ClientWebService/client.asmx",)
    assert "2 failed calls, " in report.why
    assert (together.correlation.calls, together.correlation.clients) == (2, 1)
    assert json.loads(json.dumps(together.to_dict()))["hit"] == [address]


def test_a_survey_of_nobody_is_empty() -> None:
    assert wsusfix.clients.survey([]).clients == ()


@pytest.mark.parametrize("wrong", [{"hosts": "pc01"}, {"at_once": 0}, {"at_once": 65}, {"at_once": True}])
def test_what_a_survey_cannot_mean_is_usage(wrong: dict[str, Any]) -> None:
    with pytest.raises(wsusfix.UsageError):
        wsusfix.clients.survey(**{"hosts": ["pc01"], **wrong})


# --- the canary -----------------------------------------------------------------------------------------------------


def test_a_client_that_failed_is_served_after_the_fix_and_verification_says_so(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host, clock_offset=-2.0, utc_offset=-420)
    with wsusfix.connect(**host.connection) as server:
        facts = server.facts()
        first = canary(client, facts)
        assert first.state is wsusfix.CanaryState.HIT
        hit = server.verify(canary=first)
        assert [check.ok for check in hit.checks if check.name.startswith("client ")] == [False]

        for machine in (host, client):  # a job's end is told in whole seconds: what failed was not in the same one
            machine.faults.clock_jumps(seconds=5)
        outcome = mend(lab, host)
        assert outcome.ended_at is not None
        proof = canary(client, facts, since=outcome.ended_at)
        assert proof.ok, str(proof)
        assert proof.failed_before
        assert proof.detection is not None
        assert proof.detection.served
        verified = server.verify(since=outcome.ended_at, canary=proof)
        assert verified.ok
        assert all(check.ok for check in verified.checks)
        assert len(verified.checks) == 6
        # What was seen before the fix still speaks against it, whatever the DLL says.
        assert not server.verify(canary=first).ok
        # Asked about the time since, it says nothing.
        early = server.verify(since=outcome.ended_at, canary=first)
        assert early.ok
        assert [check.ok for check in early.checks if check.name.startswith("client ")] == [False]
    assert not [path for path in client.files if f"\\{STAGING_NAME}\\" in path.lower()]
    assert client.tasks == ()
    assert [job.account for job in client.jobs] == ["NT AUTHORITY\\SYSTEM"] * 2
    json.dumps(proof.to_dict())


def test_the_workaround_on_a_server_without_a_service_pack_is_proven_by_a_client(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2003", wsus="3.0 RTM")
    host.machine.pace = 0.002
    client = lab.add_client("pc01", server=host)
    assert canary(client, "wsus01").state is wsusfix.CanaryState.HIT
    for machine in (host, client):  # a job's end is told in whole seconds: what failed was not in the same one
        machine.faults.clock_jumps(seconds=5)
    outcome = wsusfix.remediate(**host.connection, consent=True, logs=False)
    assert outcome.ok, str(outcome)
    proof = canary(client, "wsus01", since=outcome.ended_at)
    assert proof.ok, str(proof)
    with wsusfix.connect(**host.connection) as server:
        verified = server.verify(since=outcome.ended_at, canary=proof)
        assert verified.ok, str(verified)
        assert [check.ok for check in verified.checks[-2:]] == [True, True]
        assert server.diagnose().observed is wsusfix.Observed.YES


def test_a_search_of_the_same_second_is_not_taken_for_the_one_that_was_asked_for(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host)
    second, ticks = float(int(client.machine.now())), itertools.count()
    client.machine.now = lambda: second + 0.001 * (next(ticks) % 1000)  # type: ignore[method-assign]
    assert canary(client, "wsus01").state is wsusfix.CanaryState.HIT
    host.wsus.install_update()
    assert canary(client, "wsus01").state is wsusfix.CanaryState.SERVED


def test_a_faulty_server_without_the_update_that_breaks_it_serves_its_clients(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1", catalogue="near titles only")
    assert canary(lab.add_client("pc01", server=host), "wsus01").ok


@pytest.mark.parametrize(
    ("options", "named", "missing"),
    [
        ({"office_2003": False}, "wsus01", "no mark of Office 2003"),
        ({}, "wsus02", "gets its updates from http://wsus01, not from wsus02"),
        ({"automatic_updates": False}, "wsus01", "automatic updates are turned off"),
        ({"clock_offset": -4000.0}, "wsus01", "before the fix at"),
    ],
)
def test_a_client_that_could_prove_nothing_is_not_asked(
    lab: Lab, options: dict[str, Any], named: str, missing: str
) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1 KB954960")
    client = lab.add_client("pc01", server=host, **options)
    found = canary(client, named, since=datetime.now(timezone.utc) - timedelta(seconds=1))
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert [missing in why for why in found.missing] == [True]
    assert client.jobs == ()
    with wsusfix.connect(**host.connection) as server:
        verified = server.verify(canary=found)
    assert verified.ok  # the DLL decides
    assert [check.ok for check in verified.checks if check.name.startswith("client ")] == [False]


@pytest.mark.parametrize("encoding", ["ansi", "utf-16"])
def test_a_client_with_many_updates_to_tell_of_proves_no_less(lab: Lab, encoding: str) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host, encoding=encoding)
    assert client.agent is not None
    client.agent.pending = 700
    assert canary(client, "wsus01").state is wsusfix.CanaryState.HIT
    host.wsus.install_update()
    client.faults.clock_jumps(seconds=5)
    found = canary(client, "wsus01")
    assert found.ok, str(found)
    assert client.agent.detect(datetime.fromtimestamp(client.machine.now(), timezone.utc)) is None


def test_a_client_whose_agent_asks_another_server_than_its_policy_says_proves_nothing(lab: Lab) -> None:
    lab.add_server("wsus01", wsus="3.0 SP1 KB954960")
    client = lab.add_client("pc01", server=lab.add_server("wsus02", wsus="3.0 SP1 KB954960"))
    client.machine.registry.set(advisory.CLIENT_POLICY_KEY, **{advisory.CLIENT_SERVER_VALUE: "http://wsus01"})
    found = canary(client, "wsus01")
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert "it asked http://wsus02/" in found.why


def test_a_client_that_fails_at_another_server_says_nothing_against_this_one(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1 KB954960")
    client = lab.add_client("pc01", server=lab.add_server("wsus02", wsus="3.0 SP1"))
    client.machine.registry.set(advisory.CLIENT_POLICY_KEY, **{advisory.CLIENT_SERVER_VALUE: "http://wsus01"})
    found = canary(client, "wsus01")
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert "it asked http://wsus02/" in found.why
    with wsusfix.connect(**host.connection) as server:
        assert server.verify(canary=found).ok


def test_a_call_that_fails_at_another_server_after_the_search_is_not_held_against_this_one(lab: Lab) -> None:
    lab.add_server("wsus01", wsus="3.0 SP1 KB954960")
    faulty = lab.add_server("wsus02", wsus="3.0 SP1")
    client, other = lab.add_client("pc01", server="http://wsus01/"), lab.add_client("pc02", server=faulty)
    agent = client.agent
    assert agent is not None
    assert other.agent is not None
    reach, detect = other.agent._reach, agent.detect

    def twice(time: datetime | None = None) -> str | None:
        detect(time)
        agent._address, agent._reach = "http://wsus02/", reach
        return detect(time)

    agent.detect = twice  # type: ignore[method-assign]
    found = canary(client, "wsus01")
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert "0x8024402C, which does not show the fault" in found.why
    with wsusfix.connect(**client.connection) as there:
        assert there.client_log().proven


@pytest.mark.parametrize(("header", "now"), [(-420, -480), (-480, -420)])
def test_a_client_whose_log_has_the_zone_of_another_season_is_followed_all_the_same(
    lab: Lab, header: int, now: int
) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host, utc_offset=header)
    client.machine.utc_offset = now
    assert canary(client, "wsus01").state is wsusfix.CanaryState.HIT
    host.wsus.install_update()
    client.faults.clock_jumps(seconds=5)
    assert canary(client, "wsus01").state is wsusfix.CanaryState.SERVED


def test_a_client_without_an_update_agent_is_not_asked(lab: Lab) -> None:
    client = lab.add_client("pc01", server=lab.add_server("wsus01", wsus="3.0 SP1 KB954960"))
    del client.services[advisory.CLIENT_SERVICE]
    found = canary(client, "wsus01")
    assert (found.state, found.missing) == (wsusfix.CanaryState.UNKNOWN, ("it has no update agent",))
    assert client.jobs == ()


def test_a_client_without_a_server_of_its_own_is_not_asked(lab: Lab) -> None:
    found = canary(lab.add_client("pc01"), ["wsus01", "wsus01.corp.example"])
    assert "from no server of its own, not from wsus01, wsus01.corp.example" in found.why


def test_a_client_without_office_that_failed_before_is_asked(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host)
    for key in advisory.OFFICE_2003_KEYS:
        client.machine.registry.remove(key)
    mend(lab, host)
    found = canary(client, "WSUS01.corp.example")
    assert (found.ok, found.office_2003, found.failed_before) == (True, False, True)


def test_an_agent_that_does_not_act_is_given_up_by_a_deadline(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1 KB954960")
    client = lab.add_client("pc01", server=host)
    assert client.agent is not None
    client.agent.works = False
    events: list[wsusfix.Event] = []
    found = canary(client, "wsus01", on_event=events.append)
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert "no search that ended within 0 s" in found.why
    assert found.asked_at is not None
    assert client.tasks == ()


def test_a_search_that_fails_for_another_reason_proves_nothing(lab: Lab) -> None:
    client = lab.add_client("pc01", server="http://wsus01/")
    found = canary(client, "wsus01")
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert "0x8024402C, which does not show the fault" in found.why


def test_a_search_that_does_not_tell_whom_it_asked_proves_nothing(lab: Lab) -> None:
    client = lab.add_client("pc01", server=lab.add_server("wsus01", wsus="3.0 SP1 KB954960"))
    agent = client.agent
    assert agent is not None
    write = agent._write

    def without_address(time: datetime, component: str, *texts: str) -> None:
        write(time, component, *(text for text in texts if advisory.CLIENT_URL not in text))

    agent._write = without_address  # type: ignore[method-assign]
    found = canary(client, "wsus01")
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert found.why == "its search came through, and does not tell which server it asked"


def test_an_old_symptom_is_not_held_against_a_server_that_is_not_reached_now(lab: Lab) -> None:
    client = lab.add_client("pc01", server=lab.add_server("wsus01", wsus="3.0 SP1"))
    assert client.agent is not None
    client.agent._reach = lambda: None
    client.faults.clock_jumps(seconds=5)
    found = canary(client, "wsus01")
    assert found.failed_before
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert "0x8024402C, which does not show the fault" in found.why


def test_the_error_of_the_symptom_without_the_rest_of_it_is_unknown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    client = lab.add_client("pc01", server=lab.add_server("wsus01", wsus="3.0 SP1"))
    client.faults.clock_jumps(seconds=5)
    line = f"WARNING: SyncUpdates failure, error = {advisory.CLIENT_ERROR}, soap client error = 7"
    monkeypatch.setattr(update_logs, "_failure", lambda call_id: [line])
    found = canary(client, "wsus01")
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert f"{advisory.CLIENT_ERROR}, which does not show the fault" in found.why


def test_a_search_that_began_before_the_client_was_asked_proves_nothing_whenever_it_is_told(lab: Lab) -> None:
    client = lab.add_client("pc01", server=lab.add_server("wsus01", wsus="3.0 SP1 KB954960"))
    agent = client.agent
    assert agent is not None
    client.files.replace(agent.path, b"")
    before, detect = datetime.now(timezone.utc) - timedelta(minutes=10), agent.detect
    agent.detect = lambda time=None: detect(before)  # type: ignore[method-assign]
    found = canary(client, "wsus01")
    assert found.state is wsusfix.CanaryState.UNKNOWN
    assert "no search that ended" in found.why
    agent.detect = detect  # type: ignore[method-assign]
    assert canary(client, "wsus01").ok


def test_a_client_whose_agent_cannot_be_started_is_unknown(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1 KB954960")
    client = lab.add_client("pc01", server=host, culture="nb-NO")
    client.files.remove_file(f"C:\\WINDOWS\\System32\\{advisory.CLIENT_PROGRAM}")
    found = canary(client, "wsus01")
    assert "could not be asked: Finner ikke filen" in found.why
    assert client.tasks == ()


def test_a_job_of_another_kind_on_the_machine_is_left_alone(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    host.faults.installer_hangs()
    begun = threading.Event()
    worker = threading.Thread(target=lambda: mend_slowly(lab, host, begun))
    worker.start()
    try:
        assert begun.wait(20)
        with wsusfix.connect(**host.connection) as server, pytest.raises(wsusfix.JobError, match="install_update"):
            server.detect_now()
    finally:
        host.faults.clear()
        worker.join(30)
    assert host.dll_version == str(advisory.FIXED_DLL)
    assert len(host.jobs) == 1


def mend_slowly(lab: Lab, host: Host, begun: threading.Event) -> None:
    def tell(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and event.phase == "installing":
            begun.set()

    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(wsusfix.Options(package=lab.package()), logs=False)
        server.apply(plan, consent=True, on_event=tell)


def test_what_is_wrong_for_every_client_is_usage_and_nothing_is_sent(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WSUSFIX_USERNAME", "WSUSFIX_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    client = lab.add_client("pc01", server=lab.add_server("wsus01", wsus="3.0 SP1"))
    named = [client.connection["host"], "pc02"]
    how = {name: value for name, value in client.connection.items() if name != "host"}
    told: list[object] = []
    for wrong, error in (
        ({"password": None}, wsusfix.CredentialsError),
        ({"port": 99999}, wsusfix.UsageError),
        ({"auth": "basic"}, wsusfix.UsageError),
        ({"encryption": "auto"}, wsusfix.UsageError),
        ({"timeouts": 30}, wsusfix.UsageError),
    ):
        with pytest.raises(error) as caught:
            wsusfix.survey(named, on_client=told.append, **{**how, **wrong})
        assert caught.value.host == ""
    assert main(["survey", *named, "--port", str(how["port"])]) == 2
    assert "no username given" in capsys.readouterr().err
    assert (told, client.request_count) == ([], 0)
    # A name that is none is its own client's matter.
    found = wsusfix.survey([named[0], "pc 02"], **how)
    assert [report.hit for report in found.clients] == [True, None]


@pytest.mark.parametrize("server", [[], "", ["wsus01", ""]])
def test_what_a_canary_cannot_mean_is_usage_and_nothing_is_sent(server: Any) -> None:
    with pytest.raises(wsusfix.UsageError):
        wsusfix.clients.canary("pc01", server=server, username="LAB\\admin", password="x")


def test_a_moment_without_its_zone_is_usage_and_nothing_is_sent(lab: Lab) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    with pytest.raises(wsusfix.UsageError, match="time zone"):
        canary(host, "wsus01", since=datetime(2008, 7, 9))
    with wsusfix.connect(**host.connection) as server:
        asked = host.request_count
        with pytest.raises(wsusfix.UsageError, match="time zone"):
            server.verify(since=datetime(2008, 7, 9))
        assert host.request_count == asked


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def machines(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[Host, Host, list[str]]:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    client = lab.add_client("pc01", server=host)
    _, how = reach(host, client)
    monkeypatch.setenv("WSUSFIX_USERNAME", how["username"])
    monkeypatch.setenv("WSUSFIX_PASSWORD", how["password"])
    return host, client, ["--port", str(how["port"])]


def test_the_command_survey_prints_who_is_hit(
    machines: tuple[Host, Host, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    host, client, port = machines
    address, there = client.connection["host"], host.connection["host"]
    assert main(["survey", address, "--server", there, "--json", *port]) == 3
    data = json.loads(capsys.readouterr().out)
    assert (data["hit"], len(data["correlation"]["pairs"])) == ([address], 2)
    assert main(["survey", address, "127.0.9.9", *port]) == 6
    assert "127.0.9.9: not reached" in capsys.readouterr().out
    assert main(["survey", there, *port]) == 3
    assert "unknown" in capsys.readouterr().out
    assert main(["survey", address, "--server", "127.0.9.9", *port]) == 6
    assert main(["survey", address, "--at-once", "0", *port]) == 2


def test_the_command_canary_says_whether_a_client_is_served(
    machines: tuple[Host, Host, list[str]], lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    host, client, port = machines
    arguments = ["canary", client.connection["host"], "--server", "wsus01", *port]
    assert main(arguments) == 3
    assert "still not served" in capsys.readouterr().out
    mend(lab, host)
    assert main([*arguments, "--json", "--wait", "30"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert main(["canary", "127.0.9.9", "--server", "wsus01", *port]) == 6


def test_the_command_diagnose_says_what_was_observed_unless_it_is_told_not_to_look(
    machines: tuple[Host, Host, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    host, _, port = machines
    assert main(["diagnose", host.connection["host"], *port]) == 3
    assert "observed  yes (2 failed calls, last at" in capsys.readouterr().out
    assert main(["diagnose", host.connection["host"], "--no-logs", *port]) == 3
    assert "observed  unknown (logs not read)" in capsys.readouterr().out
