"""Jobs that another controller has begun, or that nobody watches any more: what is said of them, and of the server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

import wsusfix
from tests.wire.servers import wait_until
from wsusfix.cli import main
from wsusfix.lab import Host, Lab
from wsusfix.lab.windows import Site


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")


@pytest.fixture
def chosen(lab: Lab) -> wsusfix.Options:
    return wsusfix.Options(package=lab.package("WSUS-KB954960-x64.exe"))


def lost_at(server: wsusfix.WsusServer, plan: wsusfix.Plan, phase: str) -> None:
    """Begin the plan, and lose the controller when the job is in a phase."""

    def lose(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and event.phase == phase:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.apply(plan, consent=True, on_event=lose)


def going_on(host: Host) -> Callable[[wsusfix.Event], None]:
    """An observer that lets a held job go when it hears of it."""

    def hear(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState):
            host.faults.let_job_go()

    return hear


def stops(host: Host) -> Callable[[], None]:
    """An installer that stops WSUS, and does not start it again."""
    return lambda: host.services.update({"wsusservice": "stopped"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, lab: Lab) -> None:
    """What does not come back is not waited for, for long."""
    from wsusfix.apply.working import Site as Working

    defaults = Working.settled.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "seconds", 0.5 if lab.engine is None else 15.0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("phase", ["launching", "installed"])
def test_a_service_that_the_installer_of_an_earlier_run_has_stopped_is_told(
    host: Host, chosen: wsusfix.Options, phase: str
) -> None:
    host.faults.at_phase(stops(host), phase="launching")
    host.faults.hold_job(phase=phase)
    with wsusfix.connect(**host.connection) as server:
        lost_at(server, server.plan(chosen), phase)
        # With the old DLL it is joined, and with the new one nothing is left to do.
        plan = server.plan(chosen)
        assert bool(plan.nothing) == (phase == "installed")
        outcome = server.apply(plan, consent=True, on_event=going_on(host))
    assert not outcome.ok, str(outcome)
    assert "NOT OK: service wsusservice: stopped" in str(outcome)
    assert host.dll_version == "3.1.6001.66"


def test_a_service_that_an_installer_has_stopped_unseen_is_told_by_whoever_comes_later(
    host: Host, chosen: wsusfix.Options
) -> None:
    host.faults.at_phase(stops(host), phase="installed")
    host.faults.hold_job(phase="launching")
    with wsusfix.connect(**host.connection) as server:
        lost_at(server, server.plan(chosen), "launching")
        host.faults.let_job_go()
        wait_until(lambda: bool(host.jobs[0].ended), 60)
        proof = server.verify()
        assert not proof.ok
        assert "NOT OK: service wsusservice: stopped" in str(proof)
        outcome = server.apply(server.plan(chosen), consent=True)
    assert not outcome.ok
    assert "the server is not well now" in outcome.message


def test_of_a_job_that_another_run_has_started_nobody_here_says_who_asked_for_it(
    host: Host, chosen: wsusfix.Options
) -> None:
    host.faults.hold_job(phase="started")
    with wsusfix.connect(**host.connection) as server:
        lost_at(server, server.plan(chosen), "started")
        outcome = server.apply(server.plan(chosen), consent=True, on_event=going_on(host))
    assert outcome.ok, str(outcome)
    (evidence,) = outcome.evidence
    assert (evidence.account, evidence.account_sid, evidence.plan_digest, evidence.package_sha256) == ("", "", "", "")
    assert "another run; the server's event log says who" in str(evidence)
    assert (evidence.exit_code, evidence.dll_after) == (0, "3.1.6001.66")


def test_a_job_whose_order_was_repeated_since_its_answer_was_lost_is_the_own_one(
    host: Host, chosen: wsusfix.Options
) -> None:
    told: list[wsusfix.Event] = []

    def cut(event: wsusfix.Event) -> None:
        told.append(event)
        if isinstance(event, wsusfix.PhaseBegun) and event.phase == "job":
            # The answer to the command is the first one, what the script answers the second.
            host.faults.reset_in_response(2)

    with wsusfix.connect(**host.connection) as server:
        outcome = server.apply(server.plan(chosen), consent=True, on_event=cut)
    assert outcome.ok, str(outcome)
    assert host.faults.counts["reset_in_response"] == 1
    assert len(host.jobs) == 1
    assert outcome.evidence[0].account, "as if somebody else had asked for it"
    assert not [event for event in told if "another controller" in str(event)]


def test_the_end_of_a_job_with_more_states_than_one_answer_holds_is_asked_for(
    host: Host, chosen: wsusfix.Options
) -> None:
    def stands_still() -> None:
        folder = f"{host.staging_path}\\jobs\\{host.jobs[0].id}\\state"
        for number in range(len(host.files.entries(folder)) + 1, 20):
            state = f"phase=installing\ntime=2008-07-15T10:00:00Z\nstill={'0' * 50_000}1\nend\n"
            host.files.create(f"{folder}\\{number:05d}.txt", state.encode())

    host.faults.at_phase(stands_still, phase="installing")
    host.faults.hold_job(phase="launching")
    with wsusfix.connect(**host.connection) as server:
        lost_at(server, server.plan(chosen), "launching")
        host.faults.let_job_go()
        wait_until(lambda: bool(host.jobs[0].ended), 60)
        job = server.job()
        assert job is not None
        assert (job.last is not None and job.last.phase.value, job.value("exit_code")) == ("finished", "0")
        outcome = server.apply(server.plan(chosen), consent=True)
    assert outcome.ok, str(outcome)
    assert outcome.evidence[0].exit_code == 0


def test_a_job_that_waits_for_its_window_is_told_and_neither_waited_for_nor_taken_for_a_change(
    lab: Lab,
) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2003", arch="x86", wsus="3.0 RTM")
    host.machine.pace = 0.002
    assert wsusfix.remediate(**host.connection, consent=True, logs=False).ok
    upgrade = wsusfix.Options(
        rtm="upgrade",
        upgrade_package=lab.setup_package(target="3.0 SP2", arch="x86"),
        not_before=datetime.now(timezone.utc) + timedelta(days=1),
        upstream_version="none",
    )
    with wsusfix.connect(**host.connection) as server:
        lost_at(server, server.plan(upgrade, logs=False), "waiting_for_window")
        plan = server.plan(logs=False)
        assert plan.nothing
        assert "a job of wsusfix is at work" in str(plan)
        outcome = server.apply(plan)
        assert outcome.ok, str(outcome)
        assert "in waiting_for_window" in str(outcome)
        assert server.verify().ok
    # Whoever joins it hears until when it waits.
    now = dataclasses.replace(upgrade, not_before=None)
    with wsusfix.connect(**host.connection, timeouts=wsusfix.Timeouts(job=0.1)) as server:
        plan = server.plan(now, logs=False)
        with pytest.raises(wsusfix.DeadlineError, match="its maintenance window, which opens at 20") as late:
            server.apply(plan, consent=True)
    assert "run again once it is open" in late.value.hint


def test_a_plan_with_something_to_do_is_not_well_whatever_the_product_is(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.add_server("wsus01", wsus="3.0 RTM")
    host.install_seconds = 0.02
    host.sites.append(Site("1", "Default Web Site"))
    chosen = wsusfix.Options(
        rtm="upgrade", upgrade_package=lab.setup_package(target="3.0 SP2"), upstream_version="none"
    )
    host.faults.at_phase(lambda: host.faults.kill_job(phase="installed"), phase="stopping")
    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(chosen, logs=False)
        with pytest.raises(KeyboardInterrupt):
            server.apply(plan, consent=True, on_event=_gone_when(lambda: host.wsus_version == "3.2.7600.226"))
        wait_until(lambda: bool(host.jobs[-1].ended), 60)
        later = server.plan(logs=False)
    assert [step.name for step in later.steps] == ["StartServices"]
    reach = host.connection
    monkeypatch.setenv("WSUSFIX_PASSWORD", str(reach["password"]))
    asked = [str(reach["host"]), "--port", str(reach["port"]), "--username", str(reach["username"]), "--no-logs"]
    assert main(["plan", *asked]) == 3
    assert "StartServices" in capsys.readouterr().out


def _gone_when(condition: Callable[[], bool]) -> Callable[[wsusfix.Event], None]:
    def hear(event: wsusfix.Event) -> None:
        if condition():
            raise KeyboardInterrupt

    return hear


def test_another_controller_that_sees_the_end_first_and_clears_it_away_is_no_failure_of_a_restart_that_is_still_due(
    host: Host, lab: Lab
) -> None:
    restarts = wsusfix.Options(package=lab.package("WSUS-KB954960-x64.exe", exit_code=3010), reboot="if-needed")
    host.faults.hold_job(phase="started")
    quicker: list[wsusfix.Outcome] = []

    def other(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and not quicker:
            with wsusfix.connect(**host.connection) as another:
                never = wsusfix.Options(package=restarts.package)
                # Planned while the job is at work: afterwards the restart that is due would be in the way.
                quicker.append(another.apply(another.plan(never), consent=True, on_event=going_on(host)))

    with wsusfix.connect(**host.connection) as server:
        outcome = server.apply(server.plan(restarts), consent=True, on_event=other)
    assert quicker[0].restart_pending
    assert outcome.ok, str(outcome)
    assert [(step.step, step.status.value) for step in outcome.steps] == [
        ("InstallUpdate", "skipped"),
        ("Restart", "done"),
    ]
