"""The reset of approvals over the wire: every kind of server, every way to be cut off, and what is left then."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import pytest

import wsusfix
from tests.sampling import spread
from wsusfix import advisory, report
from wsusfix.advisory import BROKEN_UPDATE_TITLE
from wsusfix.cli import main
from wsusfix.lab import Host, Lab
from wsusfix.lab.approvals import ALL_COMPUTERS, UNASSIGNED, Approval, Update
from wsusfix.lab.filesystem import CLOSED, WindowsError_
from wsusfix.lab.scheduler import SYSTEM
from wsusfix.scripts.contracts import RESET_APPROVALS, JobPhase

REPLICA: Final[dict[str, Any]] = {"replica": True, "upstream": "wsus-top"}
#: In which a replica's reset can be cut off; what is only waited for, and the first way back, have tests of their own.
PHASES: Final = [
    phase.value
    for phase in RESET_APPROVALS.states
    if phase
    not in (
        JobPhase.ABANDONED,
        JobPhase.RESTORED_FIRST,
        JobPhase.RESTORING,
        JobPhase.WAITING_FOR_WSUS,
        JobPhase.WAITING_FOR_WINDOW,
        JobPhase.WITHDRAWN,
        JobPhase.WINDOW_OPEN,
    )
]


def rtm(lab: Lab, name: str = "wsus01", **options: Any) -> Host:
    host = lab.add_server(name, **{"os": "Windows Server 2003", "arch": "x86", "wsus": "3.0 RTM", **options})
    # What scripts wait for passes quickly here.
    host.machine.pace = 0.002
    return host


def broken(host: Host) -> list[Update]:
    return [update for update in host.updates if update.title == BROKEN_UPDATE_TITLE]


def state(host: Host) -> tuple[Any, ...]:
    """All that a reset may touch."""
    updates = tuple((update.id, update.declined, tuple(update.approvals)) for update in host.updates)
    return updates, host.replica, host.update_service.automatic


def mend(host: Host, timeouts: wsusfix.Timeouts | None = None, **options: Any) -> wsusfix.Outcome:
    return wsusfix.remediate(
        **host.connection, options=wsusfix.Options(**options), consent=True, logs=False, timeouts=timeouts
    )


def groups_of(host: Host) -> set[str]:
    """Of the approvals that are there now."""
    return {approval.group for update in broken(host) for approval in update.approvals}


def told_of(outcome: wsusfix.Outcome) -> set[str]:
    """The groups of the approvals that an outcome tells of as saved."""
    return {each.group for each in outcome.saved.approvals} if outcome.saved is not None else set()


def treated(host: Host, outcome: wsusfix.Outcome, before: tuple[Any, ...]) -> None:
    """Make sure that it was treated, verified, and that nothing else is other than it was."""
    assert outcome.ok, str(outcome)
    assert outcome.changed
    assert (outcome.verdict, outcome.to_dict()["worked_around"]) == ("exposed_rtm", True)
    assert all(update.declined and not update.approvals for update in broken(host))
    others = [update.id for update in host.updates if update not in broken(host)]
    assert [each for each in state(host)[0] if each[0] in others] == [each for each in before[0] if each[0] in others]
    assert state(host)[1:] == before[1:]
    with wsusfix.connect(**host.connection) as server:
        proof = server.verify()
        diagnosis = server.diagnose(logs=False)
        plan = server.plan(logs=False)
    assert proof.ok, str(proof)
    assert proof.worked_around is True
    assert "still in the product" in str(proof)
    assert diagnosis.verdict == "exposed_rtm"
    assert diagnosis.worked_around is True
    assert plan.nothing
    assert not host.files.is_folder(host.staging_path)


def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this"
        time.sleep(0.01)


def interrupted_at(phase: str) -> Callable[[wsusfix.Event], None]:
    """An observer that ends its run by Ctrl-C when it hears of a phase of the job."""

    def hear(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and event.phase == phase:
            raise KeyboardInterrupt

    return hear


def ends_at(host: Host, phase: str) -> Callable[[wsusfix.Event], None]:
    """An observer that lets a synchronisation end when it hears of a phase of the job."""

    def hear(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and event.phase == phase:
            host.update_service.restarted()

    return hear


def goes_on_at(host: Host, phase: str) -> Callable[[wsusfix.Event], None]:
    """An observer that lets a job go which is held when it hears of its phase."""

    def hear(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and event.phase == phase:
            host.faults.let_job_go()

    return hear


def saved_somewhere(host: Host, approvals: set[str]) -> bool:
    """Whether every approval that is gone stands in a record on the server."""
    records = "".join((host.files.read(path) or b"").decode("utf-8") for path in host.files if path.endswith(".record"))
    return all(group in records for group in approvals)


@pytest.mark.parametrize("options", [{}, {"catalogue": "declined"}, {"catalogue": "two", **REPLICA}], ids=str)
def test_a_server_is_treated_verified_and_left_as_it_was(lab: Lab, options: dict[str, Any]) -> None:
    host = rtm(lab, culture="nb-NO", **options)
    before = state(host)
    given = [approval for update in broken(host) for approval in update.approvals]
    outcome = mend(host)
    treated(host, outcome, before)
    assert outcome.saved is not None
    assert {each.group for each in outcome.saved.approvals} == {approval.group for approval in given}
    assert len(outcome.saved.approvals) == len(given)
    assert outcome.saved.replica is before[1]
    (job,) = host.jobs
    assert (job.script, job.account) == ("reset_approvals", "NT AUTHORITY\\SYSTEM")
    assert f"plan {outcome.plan_digest}; result: done" in host.wsus_log
    assert [entry.failed for entry in host.event_log] == [False]
    json.dumps(outcome.to_dict())


def test_what_was_saved_stands_in_the_outcome_and_in_every_report(lab: Lab) -> None:
    host = rtm(lab)
    (update,) = broken(host)
    update.approvals.append(Approval(100, "d1e8a4a4-0000-4000-8000-000000000000", administrator="CORP\\nobody"))
    outcome = mend(host)
    now = outcome.evidence[0].controller_clock
    run = report.Run("remediate", now, now, (report.HostResult("wsus01", outcome=outcome),))
    for text in (str(outcome), json.dumps(outcome.to_dict()), report.markdown(run), report.html(run), report.json(run)):
        assert "d1e8a4a4-0000-4000-8000-000000000000" in text


def test_nothing_is_changed_without_consent(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    with pytest.raises(wsusfix.ConsentError):
        wsusfix.remediate(**host.connection, logs=False)
    assert state(host) == before
    assert host.jobs == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"catalogue": "near titles only"}, "only others are called so in part"),
        ({"catalogue": "no English titles", "culture": "nb-NO"}, "by the number of the article"),
        ({"catalogue": "empty"}, "holds no update"),
        ({"database": "remote"}, "the role of SYSTEM in WSUS cannot be confirmed"),
        ({"roles": ("Reporter", "Administrator")}, "is Reporter, not Administrator"),
        ({"roles": ("Unauthorized", "Administrator")}, "could not be asked"),
        ({"front_ends": ("AAA", "WSUS01")}, "treated once, from aaa"),
    ],
    ids=str,
)
def test_what_is_in_the_way_blocks_with_its_reason_and_nothing_is_changed(
    lab: Lab, options: dict[str, Any], words: str
) -> None:
    host = rtm(lab, **options)
    before = state(host)
    outcome = mend(host)
    assert any(words in reason for reason in outcome.blocked), outcome.blocked
    assert not outcome.changed
    assert not outcome.ok
    assert state(host) == before
    assert host.jobs == ()


def test_a_candidate_without_an_english_title_is_treated_once_it_is_confirmed(lab: Lab) -> None:
    host = rtm(lab, catalogue="no English titles", culture="nb-NO", **REPLICA)
    (update,) = (known for known in host.updates if len(known.revisions) == 3)
    with wsusfix.connect(**host.connection) as server:
        assert update.id in str(server.plan(logs=False))
    outcome = mend(host, update_ids=[update.id.upper()])
    assert outcome.ok, str(outcome)
    assert update.declined
    assert not update.approvals
    assert host.replica
    with wsusfix.connect(**host.connection) as server:
        assert server.verify().ok


def test_the_system_s_own_role_is_asked_before_anything_is_changed(lab: Lab) -> None:
    host = rtm(lab, roles=("Administrator", "Reporter"), **REPLICA)
    before = state(host)
    outcome = mend(host)
    assert "SYSTEM is no administrator of WSUS" in str(outcome)
    assert outcome.failed
    assert not outcome.changed
    assert state(host) == before


def test_a_synchronisation_is_waited_for(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    host.synchronizing(3600)
    # What the job waits for passes quickly: it is held until the synchronisation has ended.
    host.faults.hold_job(phase="waiting_for_wsus")
    ends, goes_on = ends_at(host, "waiting_for_wsus"), goes_on_at(host, "waiting_for_wsus")

    def hear(event: wsusfix.Event) -> None:
        ends(event)
        goes_on(event)

    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(logs=False)
        assert any("SynchronizationInProgress" in warning for warning in plan.warnings)
        outcome = server.apply(plan, consent=True, on_event=hear)
    treated(host, outcome, before)
    assert "waiting_for_wsus" in host.jobs[0].phases


def test_a_synchronisation_that_does_not_end_blocks_with_that_reason_and_nothing_is_changed(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    host.synchronizing(3600)
    timeouts = wsusfix.Timeouts(busy=20)
    outcome = wsusfix.remediate(**host.connection, consent=True, timeouts=timeouts, logs=False)
    assert "SynchronizationInProgress; nothing was changed" in str(outcome)
    assert outcome.failed
    assert not outcome.changed
    assert state(host) == before
    assert not any(path.endswith(".record") for path in host.files)


def test_a_synchronisation_that_outlasts_the_maintenance_window_keeps_the_reset_from_being_begun(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    host.synchronizing(36_000)
    host.faults.hold_job(phase="waiting_for_wsus")

    def hear(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and event.phase == "waiting_for_wsus":
            host.faults.clock_jumps(seconds=7200)
            host.update_service.restarted()
            host.faults.let_job_go()

    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(wsusfix.Options(not_after=_from_now(hours=1)), logs=False)
        outcome = server.apply(plan, consent=True, on_event=hear)
    assert outcome.message == "failed: the maintenance window was over, and the step was not begun"
    assert not outcome.changed
    assert state(host) == before
    assert not any(path.endswith(".record") for path in host.files)


@pytest.mark.parametrize(
    ("way", "phase"),
    [(way, phase) for way in ("kill_job", "reboot_during") for phase in spread(PHASES, 4)],
)
def test_a_replica_that_was_cut_off_is_restored_first_and_treated_then(lab: Lab, way: str, phase: str) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    groups = {approval.group for approval in broken(host)[0].approvals}
    arguments = {"phase": phase, **({"seconds": 0.05} if way == "reboot_during" else {})}
    getattr(host.faults, way)(**arguments)
    first = mend(host)
    # Whatever was lost stands in a record, and what is switched is told.
    if not broken(host)[0].approvals:
        assert saved_somewhere(host, groups)
    switched = state(host)[1:] != before[1:]
    if not first.ok:
        assert first.failed
        assert first.verification is not None
        assert first.verification.worked_around is not True
    else:
        assert not switched
    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(logs=False)
        assert ("is put back from its record" in str(plan)) or not switched
        second = server.apply(plan, consent=True)
    assert second.ok, str(second)
    if second.saved is not None:
        assert {each.group for each in second.saved.approvals} == groups
    assert state(host)[1:] == before[1:]
    assert all(update.declined and not update.approvals for update in broken(host))


@pytest.mark.parametrize(
    ("first", "second"), [("switched", "restored_first"), ("declined", "restored_first"), ("approved", "saved")]
)
def test_a_run_that_is_cut_off_after_it_put_back_an_earlier_one_loses_nothing(
    lab: Lab, first: str, second: str
) -> None:
    host = rtm(lab, **REPLICA)
    before, groups = state(host), groups_of(host)
    host.faults.kill_job(phase=first)
    assert mend(host).failed
    host.faults.kill_job(phase=second)
    again = mend(host)
    assert again.failed
    assert again.changed
    assert (host.replica, second in host.jobs[-1].phases) == (True, True)
    last = mend(host)
    assert last.ok, str(last)
    assert told_of(last) == groups
    assert state(host)[1:] == before[1:]


@pytest.mark.parametrize("phase", ["suspended", "switched", "treated", "marked"])
def test_a_synchronisation_that_begins_meanwhile_and_lasts_does_not_leave_a_replica_autonomous(
    lab: Lab, phase: str
) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    host.faults.at_phase(lambda: host.synchronizing(3600), phase=phase)
    outcome = wsusfix.remediate(
        **host.connection,
        consent=True,
        logs=False,
        timeouts=wsusfix.Timeouts(busy=5),
        on_event=ends_at(host, "restoring"),
    )
    assert state(host)[1:] == before[1:]
    assert {"restoring", "restored"} <= set(host.jobs[0].phases)
    # One that began before the switch only kept it from being switched.
    assert outcome.ok is (phase != "suspended"), str(outcome)
    if phase == "suspended":
        assert "no update was touched" in str(outcome)


def test_who_stops_waiting_for_the_way_back_joins_it_later(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before, groups = state(host), groups_of(host)
    host.faults.at_phase(lambda: host.synchronizing(3600), phase="marked")
    with pytest.raises(KeyboardInterrupt):
        wsusfix.remediate(**host.connection, consent=True, logs=False, on_event=interrupted_at("restoring"))
    # The first look brings all that the job has told so far, and there is no time for another.
    with pytest.raises(
        wsusfix.DeadlineError, match=r"still restoring .* not put back yet .*SynchronizationIn"
    ) as caught:
        mend(host, wsusfix.Timeouts(job=0.1))
    assert "goes on by itself" in caught.value.hint
    assert not host.replica
    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(logs=False)
        host.update_service.restarted()
        outcome = server.apply(plan, consent=True)
    treated(host, outcome, before)
    assert told_of(outcome) == groups
    assert len(host.jobs) == 1


def test_one_failing_call_of_the_way_back_is_made_again(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    service, failing = host.update_service, set()

    def once(name: str) -> None:
        ask = getattr(service, name)

        def asked(*given: Any) -> Any:
            if name not in failing:
                failing.add(name)
                raise WindowsError_("Timeout expired")
            return ask(*given)

        setattr(service, name, asked)

    def break_all() -> None:
        for name in ("settings", "save_replica", "save_automatic"):
            once(name)

    host.faults.at_phase(break_all, phase="marked")
    outcome = mend(host)
    assert failing == {"settings", "save_replica", "save_automatic"}
    treated(host, outcome, before)


def _no_updates(host: Host) -> None:
    host.update_service.updates.clear()


@pytest.mark.parametrize(
    ("wsus", "change", "words"),
    [("3.0 RTM", _no_updates, "holds no update"), ("3.0 SP1", lambda host: None, "no package was given")],
)
def test_what_was_cut_off_is_put_back_though_the_rest_is_blocked_and_that_is_told(
    lab: Lab,
    wsus: str,
    change: Any,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host = rtm(lab, wsus=wsus, **REPLICA)
    before = state(host)[1:]
    host.faults.kill_job(phase="switched")
    assert mend(host, workaround=True).failed
    change(host)
    monkeypatch.setenv("WSUSFIX_PASSWORD", host.connection["password"])
    reach = [host.connection["host"], "--port", str(host.connection["port"]), "--username", host.connection["username"]]
    # Nothing of it is irreversible, so that nobody has to consent.
    assert main(["remediate", "--no-logs", *reach]) == 4
    printed = capsys.readouterr().out
    assert "  blocked: " in printed
    assert "restored what an earlier run had switched; what else is to be done is blocked" in printed
    assert words in printed
    assert state(host)[1:] == before
    outcome = mend(host)
    assert outcome.message == "blocked: nothing was changed"


@pytest.mark.parametrize("wsus", ["3.0 RTM", "3.0 SP1"])
def test_what_was_cut_off_is_put_back_whatever_the_maintenance_window(lab: Lab, wsus: str) -> None:
    host = rtm(lab, wsus=wsus, **REPLICA)
    before = state(host)
    windows: list[dict[str, Any]] = [{"not_after": _from_now(hours=-1)}, {"not_before": _from_now(hours=9)}]
    for window in windows:
        host.faults.kill_job(phase="switched")
        assert mend(host, workaround=True).failed
        assert state(host)[1:] == (False, False)
        if wsus == "3.0 SP1":
            # There is only something to be put back.
            outcome = mend(host, **window)
            assert [step.step for step in outcome.steps] == ["RestoreSettings"]
            assert not outcome.failed
        elif "not_after" in window:
            outcome = mend(host, **window)
            assert "was put back, and no update was touched" in outcome.message
            assert "nothing was begun" not in str(outcome)
            assert outcome.changed
        else:
            with pytest.raises(KeyboardInterrupt):
                wsusfix.remediate(
                    **host.connection,
                    options=wsusfix.Options(**window),
                    consent=True,
                    logs=False,
                    on_event=interrupted_at("waiting_for_window"),
                )
        assert state(host) == before


def _from_now(hours: float) -> datetime:
    return datetime.now(timezone.utc) + timedelta(hours=hours)


def test_what_a_job_saved_whose_end_nobody_saw_is_told_by_the_next_run(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    groups = groups_of(host)
    with pytest.raises(KeyboardInterrupt):
        wsusfix.remediate(**host.connection, consent=True, logs=False, on_event=interrupted_at("started"))
    until(lambda: bool(host.jobs[0].ended))
    outcome = mend(host)
    assert outcome.ok, str(outcome)
    assert not outcome.changed
    assert "nothing to do" in outcome.message
    assert told_of(outcome) == groups
    # And once only.
    assert mend(host).saved is None


def test_what_a_job_saved_whose_end_nobody_saw_stands_beside_what_the_next_one_saves(lab: Lab) -> None:
    host = rtm(lab)
    groups = groups_of(host)
    with pytest.raises(KeyboardInterrupt):
        wsusfix.remediate(**host.connection, consent=True, logs=False, on_event=interrupted_at("started"))
    until(lambda: bool(host.jobs[0].ended))
    (update,) = broken(host)
    update.revisions.insert(0, 103)
    update.approvals.append(Approval(103, "d1e8a4a4-0000-4000-8000-000000000000"))
    outcome = mend(host)
    assert outcome.ok, str(outcome)
    assert told_of(outcome) == {*groups, "d1e8a4a4-0000-4000-8000-000000000000"}


def test_what_was_saved_is_told_though_the_server_is_fixed_by_now(lab: Lab) -> None:
    host = rtm(lab, wsus="3.0 SP1", **REPLICA)
    before, groups = state(host)[1:], groups_of(host)
    host.faults.kill_job(phase="declined")
    assert mend(host, workaround=True).failed
    host._wsus.install_update()
    host.faults.clear()
    with wsusfix.connect(**host.connection) as server:
        # Even what a first run kept from its evidence has gone.
        server.cleanup()
    outcome = mend(host)
    assert outcome.ok, str(outcome)
    assert outcome.verdict == "fixed"
    assert [step.step for step in outcome.steps] == ["RestoreSettings"]
    assert told_of(outcome) == groups
    assert state(host)[1:] == before


def test_what_a_job_saved_whose_end_nobody_saw_is_told_though_the_server_is_fixed_by_now(lab: Lab) -> None:
    host = rtm(lab, wsus="3.0 SP1", **REPLICA)
    groups = groups_of(host)
    with pytest.raises(KeyboardInterrupt):
        wsusfix.remediate(
            **host.connection,
            options=wsusfix.Options(workaround=True),
            consent=True,
            logs=False,
            on_event=interrupted_at("started"),
        )
    until(lambda: bool(host.jobs[0].ended))
    host._wsus.install_update()
    outcome = mend(host)
    assert outcome.ok, str(outcome)
    assert (outcome.verdict, outcome.steps) == ("fixed", ())
    assert told_of(outcome) == groups


def test_as_many_approvals_as_a_job_saves_come_back_whole(lab: Lab) -> None:
    host = rtm(lab)
    (update,) = broken(host)
    update.approvals += [Approval(102, f"group-{number:04}", administrator="x" * 140) for number in range(1000)]
    outcome = mend(host)
    assert outcome.ok, str(outcome)
    assert outcome.saved is not None
    assert len(outcome.saved.approvals) == 1002
    assert outcome.saved.whole
    assert {each.administrator for each in outcome.saved.approvals} == {"x" * 140, "LAB\\admin"}
    (record,) = (path for path in host.files if path.endswith(".record"))
    assert 200_000 < len(host.files.read(record) or b"") < 300_000


def test_a_line_that_wsus_does_not_take_into_its_log_is_told(lab: Lab) -> None:
    host = rtm(lab)

    def refuses(role: str, text: str) -> None:
        raise WindowsError_("Access is denied.")

    host.update_service.log_message = refuses  # type: ignore[method-assign]
    outcome = mend(host)
    assert outcome.ok, str(outcome)
    (evidence,) = outcome.evidence
    assert (evidence.wsus_logged, evidence.event_logged) == (False, True)
    assert any("could not be written into WSUS's own log" in note for note in outcome.notes)
    assert "line in WSUS's log" in str(evidence)
    other = mend(rtm(lab, "wsus02"))
    assert other.evidence[0].wsus_logged is True
    assert not other.notes


def test_a_job_that_breaks_off_says_how_it_leaves_the_settings(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    host = rtm(lab, **REPLICA)

    def fails(*given: Any) -> None:
        raise WindowsError_("the database is gone")

    monkeypatch.setattr(host.update_service, "decline", fails)
    outcome = mend(host)
    assert outcome.failed
    assert "the database is gone; the settings are as before, and what was saved is kept" in outcome.message
    assert host.replica
    assert told_of(outcome)


@pytest.mark.parametrize("options", [{}, REPLICA], ids=str)
def test_a_reset_whose_record_cannot_be_closed_is_not_told_as_done(lab: Lab, options: dict[str, Any]) -> None:
    host = rtm(lab, **options)
    before = state(host)
    host.faults.at_phase(host.faults.disk_full, phase="marked")
    outcome = mend(host)
    assert outcome.failed
    assert state(host)[1:] == before[1:]
    (entry,) = host.event_log
    assert ("result: broken" in entry.text, entry.failed) == (True, True)
    host.faults.clear()
    treated(host, mend(host), before)


def test_what_cannot_be_read_back_of_what_was_saved_is_told_with_its_place(lab: Lab) -> None:
    host = rtm(lab)

    def another() -> None:
        for ending, text in (("record", "job_id=another\nend\n"), ("closed", "time=now\nend\n")):
            host.files.create(f"{host.kept_path}\\00002.{ending}", text.encode())

    host.faults.at_phase(another, phase="finished")
    outcome = mend(host)
    assert outcome.failed
    (note,) = (note for note in outcome.notes if "could not be read back" in note)
    assert "2 approvals" in note
    assert "record 1 of wsusfix-kept" in note
    assert outcome.saved is None


@pytest.mark.parametrize("error", [wsusfix.AnswerError, wsusfix.DeadlineError, wsusfix.ScriptError])
def test_logs_that_cannot_be_read_keep_nobody_from_the_outcome(lab: Lab, error: type[wsusfix.WsusFixError]) -> None:
    host = rtm(lab, **REPLICA)
    groups = groups_of(host)
    with wsusfix.connect(**host.connection) as server:
        run = server._session.run

        def unreadable(script: Any, *given: Any, **named: Any) -> Any:
            if script.name == "collect_job":
                raise error("no logs")
            return run(script, *given, **named)

        server._session.run = unreadable  # type: ignore[method-assign]
        outcome, again = (server.apply(server.plan(logs=False), consent=True) for _ in range(2))
    assert outcome.ok, str(outcome)
    assert told_of(outcome) == groups
    assert "nothing to do" in again.message
    for each in (outcome, again):
        assert any("logs could not be read and stay on the server" in note for note in each.notes)
    assert host.files.is_folder(host.staging_path)
    assert mend(host).ok
    assert not host.files.is_folder(host.staging_path)


def test_the_marker_of_an_earlier_reset_proves_nothing_of_one_that_broke_off(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = rtm(lab)
    assert mend(host).ok
    (update,) = broken(host)
    update.approvals.append(Approval(102, "d1e8a4a4-0000-4000-8000-000000000000"))
    update.declined = update.consistent = False

    def fails(*given: Any) -> None:
        raise WindowsError_("the database is gone")

    with monkeypatch.context() as patched:
        patched.setattr(host.update_service, "approve", fails)
        outcome = mend(host)
    # Declined and without approvals, in the revision of the marker: and not reset.
    assert (update.declined, update.approvals, update.consistent) == (True, [], False)
    assert outcome.failed
    assert not outcome.ok
    with wsusfix.connect(**host.connection) as server:
        assert server.verify().worked_around is None
    last = mend(host)
    assert last.ok, str(last)
    assert update.consistent
    assert told_of(last) == {"d1e8a4a4-0000-4000-8000-000000000000"}


def test_what_nobody_switched_stays_as_somebody_set_it_meanwhile(lab: Lab) -> None:
    host = rtm(lab, upstream="wsus-top")
    host.faults.kill_job(phase="declined")
    assert mend(host).failed
    # Somebody makes it a replica, and ends its timetable.
    host.update_service.replica, host.update_service.automatic = True, False
    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(logs=False)
        assert "then a replica again" in str(plan)
        assert "timetable" not in str(plan)
        outcome = server.apply(plan, consent=True)
    assert outcome.ok, str(outcome)
    assert state(host)[1:] == (True, False)


def test_what_was_cut_off_is_put_back_even_where_nothing_else_is_to_be_done(lab: Lab) -> None:
    host = rtm(lab, wsus="3.0 SP1", **REPLICA)
    before = state(host)[1:]
    host.faults.kill_job(phase="switched")
    assert mend(host, workaround=True).failed
    assert state(host)[1:] == (False, False)
    # The update is installed meanwhile, by hand.
    host._wsus.install_update()
    with wsusfix.connect(**host.connection) as server:
        assert any("cut off" in note for note in server.diagnose(logs=False).notes)
        assert not server.verify().ok
        plan = server.plan(logs=False)
        outcome = server.apply(plan, consent=True)
    assert [step.name for step in plan.steps] == ["RestoreSettings"]
    assert outcome.ok, str(outcome)
    assert state(host)[1:] == before


def test_on_service_pack_1_it_is_a_stop_gap_that_the_update_may_follow(lab: Lab) -> None:
    host = rtm(lab, wsus="3.0 SP1")
    assert mend(host).blocked
    outcome = mend(host, workaround=True)
    assert outcome.ok, str(outcome)
    assert (outcome.verdict, outcome.to_dict()["worked_around"]) == ("exposed_sp1", True)
    host.install_seconds = 0.02
    after = mend(host, package=lab.package("WSUS-KB954960-x86.exe", arch="x86"))
    assert after.verdict == "fixed"


def test_a_reset_of_another_controller_is_joined(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    joined: list[wsusfix.Outcome] = []
    with wsusfix.connect(**host.connection) as first, wsusfix.connect(**host.connection) as second:
        plans = first.plan(logs=False), second.plan(logs=False)
        # The job waits until both follow it.
        heard = goes_on_at(host, "started")
        another = threading.Thread(target=lambda: joined.append(second.apply(plans[1], consent=True, on_event=heard)))
        host.faults.at_phase(another.start, phase="started")
        host.faults.hold_job(phase="started")
        outcome = first.apply(plans[0], consent=True)
        another.join()
    assert outcome.ok, str(outcome)
    assert joined[0].ok, str(joined[0])
    assert len(host.jobs) == 1
    assert state(host)[1:] == before[1:]


def test_what_wsus_refuses_to_reset_is_put_back_and_told_with_what_to_do_by_hand(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    host.update_service.takes_no_blocks_for = frozenset({ALL_COMPUTERS, UNASSIGNED})
    with wsusfix.connect(**host.connection) as server:
        outcome = server.apply(server.plan(logs=False), consent=True)
    assert (outcome.failed, outcome.ok, outcome.changed) == (True, False, True)
    assert "WSUS did not let an update be approved for nothing" in outcome.message
    assert "A block approval cannot be created" in outcome.message
    (step,) = outcome.steps
    assert (step.phase, "console of WSUS" in step.hint) == ("declined", True)
    assert outcome.saved is not None
    assert outcome.saved.approvals
    assert (host.replica, host.update_service.automatic) == (True, True)


def confirmed(lab: Lab) -> tuple[Host, Update, Update]:
    """A server with the update, and with one that only an operator can confirm."""
    host = rtm(lab, catalogue="two")
    first, second = broken(host)
    second.titles = {"nb": "Office 2003 oppdateringspakke 1"}
    return host, first, second


@pytest.mark.parametrize(
    ("cleared", "words"), [(False, "which has not treated Office 2003 oppd"), (True, "cleared the job away")]
)
def test_a_reset_of_other_updates_that_was_joined_is_not_taken_for_the_own(lab: Lab, cleared: bool, words: str) -> None:
    host, first, second = confirmed(lab)
    host.faults.hold_job(phase="started")
    with wsusfix.connect(**host.connection) as one, wsusfix.connect(**host.connection) as another:
        plans = one.plan(logs=False), another.plan(wsusfix.Options(update_ids=[second.id]), logs=False)
        with pytest.raises(KeyboardInterrupt):
            one.apply(plans[0], consent=True, on_event=interrupted_at("started"))

        def hear(event: wsusfix.Event) -> None:
            if isinstance(event, wsusfix.JobState) and event.phase == "started":
                host.faults.let_job_go()
                if cleared:
                    until(lambda: bool(host.jobs[0].ended))
                    one.cleanup()

        outcome = another.apply(plans[1], consent=True, on_event=hear)
    assert (len(host.jobs), first.approvals, bool(second.approvals)) == (1, [], True)
    assert outcome.failed
    assert words in outcome.message
    again = mend(host, update_ids=[second.id])
    assert again.ok, str(again)
    for update in (first, second):
        assert (update.declined, update.approvals, update.consistent) == (True, [], True)


def test_a_newer_revision_of_what_was_confirmed_once_is_reset_with_the_rest(lab: Lab) -> None:
    host, first, second = confirmed(lab)
    assert mend(host, update_ids=[first.id, second.id]).ok
    for update in (first, second):
        update.revisions.insert(0, update.revisions[0] + 1)
        update.declined = update.consistent = False
    outcome = mend(host)
    assert outcome.ok, str(outcome)
    assert (first.consistent, second.consistent) == (True, True)


def test_a_way_back_whose_end_another_controller_saw_is_gone_though_the_rest_is_blocked(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    host.faults.kill_job(phase="switched")
    assert mend(host).failed
    host.faults.clear()
    options = wsusfix.Options(update_ids=["00000000-0000-0000-0000-000000000000"])
    host.synchronizing(3600)
    with wsusfix.connect(**host.connection) as server, wsusfix.connect(**host.connection) as another:

        def other(event: wsusfix.Event) -> None:
            if isinstance(event, wsusfix.JobState) and event.phase == "restoring" and not host.replica:
                host.update_service.restarted()
                until(lambda: bool(host.jobs[-1].ended))
                another.cleanup()

        outcome = server.apply(server.plan(options, logs=False), consent=True, on_event=other)
    assert not outcome.failed, str(outcome)
    assert "has cleared it away" in str(outcome)
    assert outcome.blocked
    assert state(host)[1:] == before[1:]


def test_a_reset_whose_end_another_controller_saw_is_told_with_what_was_saved(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    quicker: list[wsusfix.Outcome] = []
    host.faults.hold_job(phase="started")

    def other(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and not quicker:
            host.faults.let_job_go()
            with wsusfix.connect(**host.connection) as server:
                quicker.append(server.apply(server.plan(logs=False), consent=True))

    with wsusfix.connect(**host.connection) as server:
        outcome = server.apply(server.plan(logs=False), consent=True, on_event=other)
    assert quicker[0].ok, str(quicker[0])
    assert outcome.ok, str(outcome)
    assert "has cleared it away" in str(outcome)
    assert outcome.saved is not None
    assert quicker[0].saved is not None
    assert outcome.saved.approvals == quicker[0].saved.approvals != ()
    assert len(host.jobs) == 1
    assert state(host)[1:] == before[1:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda host: broken(host)[0].revisions.insert(0, 103), "revision 103 has not been reset"),
        (lambda host: broken(host)[0].approvals.append(Approval(102, "a0a08746")), "approved again"),
        (lambda host: setattr(host.update_service, "replica", False), "replica: no"),
        (lambda host: setattr(host.update_service, "automatic", False), "synchronises by its timetable: no"),
        (lambda host: host.machine.web.clear(), "ClientWebService: 404"),
        (lambda host: host.services.update(wsusservice="stopped"), "service wsusservice: stopped"),
        (
            lambda host: [host.files.remove_file(path) for path in list(host.files) if path.endswith(".marker")],
            "no marker",
        ),
    ],
)
def test_what_is_no_longer_as_the_reset_left_it_is_never_verified(lab: Lab, change: Any, words: str) -> None:
    host = rtm(lab, **REPLICA)
    assert mend(host).ok
    change(host)
    with wsusfix.connect(**host.connection) as server:
        proof = server.verify()
    assert not proof.ok
    assert words in str(proof)


def test_a_server_that_tells_no_port_is_not_verified_for_nobody_asked_whether_it_serves(lab: Lab) -> None:
    host = rtm(lab)
    assert mend(host).ok
    host.machine.registry.remove(advisory.SETUP_KEY, "PortNumber")
    with wsusfix.connect(**host.connection) as server:
        proof = server.verify()
    assert not proof.ok
    assert "NOT OK: ClientWebService: not asked" in str(proof)


def test_over_tls_the_web_service_itself_has_to_answer(lab: Lab) -> None:
    host = rtm(lab)
    host.machine.registry.set(advisory.SETUP_KEY, UsingSSL=1, PortNumber=8531)
    assert mend(host).ok
    host.machine.web.clear()
    with wsusfix.connect(**host.connection) as server:
        assert "NOT OK: ClientWebService: 404" in str(server.verify())


def test_an_update_that_got_a_newer_revision_since_the_plan_is_not_treated(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(logs=False)
        broken(host)[0].revisions.insert(0, 103)
        before = state(host)
        with pytest.raises(wsusfix.PlanChangedError, match="103"):
            server.apply(plan, consent=True)
    assert state(host) == before


@pytest.mark.parametrize("revision", [False, True])
def test_what_a_synchronisation_brings_before_the_switch_is_not_taken_away_unsaved(lab: Lab, revision: bool) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    (update,) = broken(host)
    late = "d1e8a4a4-0000-4000-8000-000000000000"

    def arrives() -> None:
        if revision:
            update.revisions.insert(0, 103)
        update.approvals.append(Approval(update.revisions[0], late))

    host.faults.at_phase(arrives, phase="suspended")
    outcome = mend(host)
    assert outcome.failed
    assert "it was not touched, and the settings are as before" in outcome.message
    assert (late in groups_of(host), update.declined) == (True, False)
    assert state(host)[1:] == before[1:]
    last = mend(host)
    assert last.ok, str(last)
    assert late in told_of(last)


def test_an_update_that_vanishes_before_it_is_touched_has_changed(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    host.faults.at_phase(lambda: host.update_service.updates.remove(broken(host)[0]), phase="switched")
    outcome = mend(host)
    assert "another revision than was planned for" in outcome.message
    assert "it was not touched, and the settings are as before" in outcome.message
    assert state(host)[1:] == before[1:]


def test_cleaning_up_leaves_record_and_marker(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    host.faults.kill_job(phase="switched")
    assert mend(host).failed
    with wsusfix.connect(**host.connection) as server:
        assert server.cleanup().clean
        assert "is put back from its record" in str(server.plan(logs=False))
    assert mend(host).ok
    assert host.replica
    with wsusfix.connect(**host.connection) as server:
        server.cleanup()
        assert server.verify().ok


def test_a_look_at_the_approvals_costs_three_requests(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # However long a busy machine takes from the output to the end of a pipeline, one Receive brings both.
    monkeypatch.setattr("wsusfix.lab.wsman._GRACE", 30.0)
    counts = []
    for number, wsus in enumerate(("3.0 SP1", "3.0 RTM")):
        host = rtm(lab, f"wsus{number}", wsus=wsus)
        with wsusfix.connect(**host.connection) as server:
            before = host.request_count
            server.diagnose(logs=False)
            counts.append(host.request_count - before)
    assert counts[1] - counts[0] <= 3


def test_the_command_line_says_by_its_exit_code_what_holds(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = rtm(lab, catalogue="no English titles", culture="nb-NO")
    (update,) = (known for known in host.updates if len(known.revisions) == 3)
    reach = [host.connection["host"], "--port", str(host.connection["port"]), "--username", host.connection["username"]]
    monkeypatch.setenv("WSUSFIX_PASSWORD", host.connection["password"])
    assert main(["diagnose", *reach, "--no-logs"]) == 3
    assert main(["verify", *reach]) == 3
    assert main(["remediate", "--yes", *reach]) == 4
    chosen = [*reach, "--update-id", update.id]
    assert main(["plan", *chosen]) == 3
    assert main(["remediate", "--dry-run", *chosen]) == 3
    assert main(["remediate", *chosen]) == 2
    assert main(["remediate", "--yes", *chosen]) == 0
    assert main(["diagnose", *reach]) == 3
    assert main(["verify", *reach]) == 0
    assert main(["plan", *chosen]) == 0
    assert main(["remediate", "--dry-run", *chosen]) == 0
    assert main(["remediate", *chosen]) == 0
    assert "worked around" in capsys.readouterr().out


def _other_job(host: Host) -> None:
    """A job of another kind, at work: its claim, its state, and its process."""
    process = host.machine.processes.start("powershell.exe", "powershell.exe", SYSTEM)
    folder = f"{host.staging_path}\\jobs\\other"
    host.files.make_folder(host.staging_path, CLOSED)
    host.files.make_folders(f"{folder}\\state")
    now = host.session().get_clock()
    host.files.create(
        f"{host.staging_path}\\jobs\\00001.claim", f"job_id=other\nkind=restart\ntime={now}\nend\n".encode()
    )
    state = f"phase=started\ntime={now}\npid={process.pid}\ncreated={process.created}\naccount_sid=x\nend\n"
    host.files.create(f"{folder}\\state\\00001.txt", state.encode())


def test_a_job_of_another_kind_is_neither_joined_nor_is_anything_begun_beside_it(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(logs=False)
        _other_job(host)
        with pytest.raises(wsusfix.RefusedByServerError, match="another kind is at work") as caught:
            server.apply(plan, consent=True)
        assert "restart" in str(caught.value)
        assert "let it end" in caught.value.hint
        blocked = server.plan(logs=False)
    assert any("another kind" in reason.reason for reason in blocked.blocked)
    assert state(host) == before
    assert host.jobs == ()


def test_a_job_of_another_kind_that_begins_in_the_last_moment_is_not_taken_for_ours(lab: Lab) -> None:
    host = rtm(lab, **REPLICA)
    before = state(host)
    with wsusfix.connect(**host.connection) as server:
        plan = server.plan(logs=False)
        run = server._session.run

        def late(script: Any, *given: Any, **named: Any) -> Any:
            if script.name == "start_job":
                _other_job(host)
            return run(script, *given, **named)

        server._session.run = late  # type: ignore[method-assign]
        with pytest.raises(wsusfix.RefusedByServerError, match=r"other \(restart\)"):
            server.apply(plan, consent=True)
    assert state(host) == before
    assert host.jobs == ()
