"""A change that is called off while its job waits for the maintenance window, and the races with its beginning."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import wsusfix
from tests.wire.servers import wait_until
from wsusfix.cli import main
from wsusfix.lab import Host, Lab
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.remote import job as jobs
from wsusfix.remote.job import Withdrawal


@pytest.fixture
def host(lab: Lab) -> Host:
    made = lab.add_server("wsus01", wsus="3.0 SP1")
    # What a job waits for passes quickly here: a look every 20 ms.
    made.machine.pace = 0.001
    return made


@pytest.fixture
def chosen(lab: Lab) -> wsusfix.Options:
    """Options whose window does not open by itself while a test runs."""
    return waiting(package=lab.package("WSUS-KB954960-x64.exe", size=40_000))


def waiting(**options: Any) -> wsusfix.Options:
    opens = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=5)
    return wsusfix.Options(not_before=opens, **options)


def opens_now(host: Host) -> None:
    """Let the window open, by the server's own clock."""
    host.faults.clock_jumps(seconds=timedelta(hours=6).total_seconds())


class Following:
    """A controller in a thread of its own that applies a plan and follows its job."""

    def __init__(self, host: Host, options: wsusfix.Options) -> None:
        self.told: list[str] = []
        self.outcome: wsusfix.Outcome | None = None
        self._thread = threading.Thread(target=self._walk, args=(host, options), daemon=True)
        self._thread.start()

    def _walk(self, host: Host, options: wsusfix.Options) -> None:
        with wsusfix.connect(**host.connection) as server:
            plan = server.plan(options, logs=False)
            self.outcome = server.apply(plan, consent=True, on_event=lambda event: self.told.append(str(event)))

    def ended(self) -> wsusfix.Outcome:
        self._thread.join(110)
        assert self.outcome is not None
        return self.outcome


def in_phase(host: Host, phase: str, number: int = 1) -> None:
    wait_until(lambda: bool(host.jobs) and host.jobs[-1].phases.count(phase) >= number, 60)


def held(host: Host, options: wsusfix.Options) -> Following:
    """A controller whose job stands still while it waits for its window."""
    host.faults.hold_job(phase="waiting_for_window")
    following = Following(host, options)
    in_phase(host, "waiting_for_window")
    return following


def states(host: Host) -> list[str]:
    """The phases of all states of the newest job, by whomever they were written."""
    folder = f"{host.staging_path}\\jobs\\{host.jobs[-1].id}\\state"
    texts = (host.files.read(f"{folder}\\{name}") or b"" for name in host.files.entries(folder))
    return [text.decode().partition("\n")[0].removeprefix("phase=") for text in texts]


def untouched(host: Host) -> bool:
    return (host.dll_version, host.installations, host.backups) == ("3.1.6001.65", (), ())


@pytest.fixture
def server(host: Host) -> Iterator[wsusfix.WsusServer]:
    with wsusfix.connect(**host.connection) as opened:
        yield opened


def test_a_job_that_waits_is_called_off_and_whoever_follows_it_is_told(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options
) -> None:
    following = Following(host, chosen)
    in_phase(host, "waiting_for_window")
    told = server.withdraw()
    assert (told.job_id, told.kind, told.already, told.ended) == (host.jobs[0].id, "install_update", False, True)
    assert "was withdrawn, and changes nothing; it has ended" in str(told)
    outcome = following.ended()
    assert (outcome.ok, outcome.changed, outcome.failed) == (False, False, True)
    sid = str(host.session().get_session_identity()["sid"])
    assert outcome.message == (
        f"failed: the job was withdrawn by {sid} while it waited for its maintenance window; nothing was changed"
    )
    (step,) = outcome.steps
    assert (step.status.value, step.phase) == ("failed", "withdrawn")
    assert "plan again" in step.hint
    assert any(f"job: withdrawn (by {sid})" in line for line in following.told)
    assert untouched(host)
    assert host.jobs[0].exit_code == 0
    (entry,) = host.event_log
    assert "result: withdrawn" in entry.text
    assert sid in entry.text
    # Nothing waits any more, and who plans again mends the server.
    again = server.plan(wsusfix.Options(package=chosen.package), logs=False)
    assert server.apply(again, consent=True).ok
    assert len(host.installations) == 1


def test_once_more_is_safe_and_says_that_it_was_called_off_already(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options
) -> None:
    following = held(host, chosen)
    assert not ask(server).already
    # It has not seen that yet.
    told = ask(server)
    assert (told.already, told.ended) == (True, False)
    assert "was withdrawn already, and changes nothing; it ends as soon as it has seen that" in str(told)
    assert states(host) == ["started", "waiting_for_window", "withdrawn"]
    host.faults.let_job_go()
    assert following.ended().failed
    assert server.withdraw().already
    assert states(host) == ["started", "waiting_for_window", "withdrawn", "finished"]


def ask(server: wsusfix.WsusServer) -> Withdrawal:
    """Call the job off without waiting for its end."""
    return jobs.withdraw(server._session, wsusfix.Timeouts())


def test_until_it_has_seen_that_it_counts_as_at_work_and_its_place_is_not_taken(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options
) -> None:
    following = held(host, chosen)
    ask(server)
    job = server.job()
    assert job is not None
    assert (job.status.value, job.last is not None and job.last.phase.value) == ("running", "withdrawn")
    with pytest.raises(wsusfix.RefusedByServerError) as refused:
        server.cleanup()
    assert refused.value.reason == "job_running"
    # It has changed nothing, so that it is in the way of no proof.
    proof = server.verify()
    assert [check.decides for check in proof.checks if check.name == "no job at work"] == [False]
    # Whoever starts the same meanwhile joins it, and is told the same: nothing is begun beside it.
    joins = Following(host, wsusfix.Options(package=chosen.package))
    wait_until(lambda: any("joining the job" in line for line in joins.told), 60)
    assert len(host.jobs) == 1
    host.faults.let_job_go()
    for each in (following, joins):
        assert not each.ended().changed
    assert untouched(host)
    assert len(host.jobs) == 1


def test_a_job_at_work_is_left_alone(host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options) -> None:
    host.faults.hold_job(phase="launching")
    following = Following(host, wsusfix.Options(package=chosen.package))
    in_phase(host, "launching")
    with pytest.raises(wsusfix.RefusedByServerError, match="does not wait for its maintenance window") as refused:
        server.withdraw()
    assert refused.value.reason == "not_waiting"
    assert f"{host.jobs[0].id} (install_update) running launching" in refused.value.message
    assert "withdrawn" not in states(host)
    host.faults.let_job_go()
    assert following.ended().ok
    with pytest.raises(wsusfix.RefusedByServerError) as refused:
        server.withdraw()
    assert refused.value.reason == "no_job"


def test_a_job_that_has_only_been_ordered_is_not_called_off(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options
) -> None:
    host.faults.task_never_starts()
    following = Following(host, chosen)
    wait_until(lambda: bool(host.tasks), 60)
    with pytest.raises(wsusfix.RefusedByServerError, match="claimed") as refused:
        server.withdraw()
    assert refused.value.reason == "not_waiting"
    host.faults.task_starts_after_all()
    in_phase(host, "waiting_for_window")
    assert server.withdraw().ended
    assert not following.ended().changed


def test_it_looks_after_every_wait_whether_it_was_called_off(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    wait = SimulatedWindows.wait_seconds

    def waiting_so_long(windows: SimulatedWindows, seconds: float) -> None:
        waited.append(seconds)
        wait(windows, seconds)

    following = held(host, chosen)
    ask(server)
    monkeypatch.setattr(SimulatedWindows, "wait_seconds", waiting_so_long)
    host.faults.let_job_go()
    assert following.ended().failed
    assert waited == [20]


# --- the races --------------------------------------------------------------------------------------------------------


def test_called_off_before_its_window_opens_it_does_nothing_though_it_has_opened(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options
) -> None:
    following = held(host, chosen)
    ask(server)
    opens_now(host)
    host.faults.let_job_go()
    assert "was withdrawn" in following.ended().message
    assert states(host) == ["started", "waiting_for_window", "withdrawn", "finished"]
    assert untouched(host)


def test_once_its_window_is_open_it_is_not_called_off_and_works_to_its_end(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options
) -> None:
    host.faults.at_phase(lambda: opens_now(host), phase="waiting_for_window")
    host.faults.hold_job(phase="window_open")
    following = Following(host, chosen)
    in_phase(host, "window_open")
    with pytest.raises(wsusfix.RefusedByServerError, match="running window_open") as refused:
        server.withdraw()
    assert refused.value.reason == "not_waiting"
    assert states(host) == ["started", "waiting_for_window", "window_open"]
    host.faults.let_job_go()
    outcome = following.ended()
    assert outcome.ok, str(outcome)
    assert host.dll_version == "3.1.6001.66"


def test_a_job_does_not_say_past_its_withdrawal_that_it_waits(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options
) -> None:
    # Every ten minutes it says once more that it waits; it is called off right behind the second time.
    host.faults.at_phase(lambda: host.faults.hold_job(phase="waiting_for_window"), phase="waiting_for_window")
    following = Following(host, chosen)
    in_phase(host, "waiting_for_window", 2)
    ask(server)
    host.faults.let_job_go()
    assert "was withdrawn" in following.ended().message
    assert states(host) == ["started", "waiting_for_window", "waiting_for_window", "withdrawn", "finished"]
    assert untouched(host)


def in_the_last_moment(host: Host, happen: Callable[[], object], phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen, once, right before a state of this phase is written, by whomever."""
    add = SimulatedWindows.add_text_file
    left = [happen]

    def adding(windows: SimulatedWindows, path: str, text: str) -> bool:
        if text.startswith(f"phase={phase}\n") and windows.machine is host.machine and left:
            left.pop()()
        return add(windows, path, text)

    monkeypatch.setattr(SimulatedWindows, "add_text_file", adding)


@pytest.mark.parametrize("phase", ["waiting_for_window", "window_open"])
def test_of_a_withdrawal_and_the_next_state_at_the_same_moment_one_is_written_here_the_withdrawal(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun() -> None:
        if phase == "window_open":
            opens_now(host)
        in_the_last_moment(host, lambda: ask(server), phase, monkeypatch)

    host.faults.at_phase(begun, phase="waiting_for_window")
    following = Following(host, chosen)
    assert "was withdrawn" in following.ended().message
    assert states(host) == ["started", "waiting_for_window", "withdrawn", "finished"]
    assert untouched(host)


def test_of_a_withdrawal_and_the_next_state_at_the_same_moment_one_is_written_here_the_state(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = held(host, chosen)

    def quicker() -> None:
        opens_now(host)
        host.faults.let_job_go()
        in_phase(host, "window_open")

    in_the_last_moment(host, quicker, "withdrawn", monkeypatch)
    with pytest.raises(wsusfix.RefusedByServerError) as refused:
        server.withdraw()
    assert refused.value.reason == "not_waiting"
    outcome = following.ended()
    assert outcome.ok, str(outcome)


# --- the other jobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted", ["check_prerequisites", "back_up_database", "upgrade", "reset_approvals", "restart", "first_restored"]
)
def test_every_job_that_waits_for_its_window_says_that_it_was_withdrawn(lab: Lab, wanted: str) -> None:
    sp1 = wanted in ("back_up_database", "restart")
    host = lab.add_server("wsus01", wsus="3.0 SP1" if sp1 else "3.0 RTM", replica=wanted == "first_restored",
                          upstream="wsus-top" if wanted == "first_restored" else "")  # fmt: skip
    host.machine.pace = 0.001
    host.install_seconds = 0.02
    update = lab.package("WSUS-KB954960-x64.exe", size=40_000, exit_code=3010 if wanted == "restart" else 0)
    options: dict[str, Any] = {}
    if sp1:
        options = {"package": update, "backup": wanted == "back_up_database", "reboot": "if-needed"}
    elif wanted in ("check_prerequisites", "upgrade"):
        package = lab.setup_package(target="3.0 SP2", size=40_000)
        options = {"rtm": "upgrade", "upgrade_package": package, "upstream_version": "none", "backup": False}
    if wanted == "first_restored":
        host.faults.kill_job(phase="switched")
        with wsusfix.connect(**host.connection) as server:
            assert server.apply(server.plan(logs=False), consent=True).failed
        assert not host.replica
    # Of several jobs the first one waits for the window; a clock that is set back makes the later one wait.
    later = wanted in ("upgrade", "restart")
    before = (host.wsus_version, host.dll_version, host.stopped_services)
    if later:
        opens = datetime.now(timezone.utc).replace(microsecond=0)
        chosen = wsusfix.Options(not_before=opens, **options)
        first = "installed"
        host.faults.at_phase(lambda: host.faults.clock_jumps(seconds=-7200), phase=first)
    else:
        chosen = waiting(**options)
    following = Following(host, chosen)
    in_phase(host, "waiting_for_window")
    assert host.jobs[-1].script == ("reset_approvals" if wanted == "first_restored" else wanted)
    with wsusfix.connect(**host.connection) as server:
        assert server.withdraw().ended
    outcome = following.ended()
    assert outcome.steps[-1].status.value in ("failed", "not_begun")
    failed = [step for step in outcome.steps if step.status.value == "failed"]
    assert len(failed) == 1
    assert "was withdrawn" in failed[0].why
    assert "plan again" in failed[0].hint
    if wanted == "first_restored":
        assert "what an earlier run had switched was put back, and no update was touched" in failed[0].why
        assert host.replica
    else:
        left = "only the restart is missing" if wanted == "restart" else "nothing was changed"
        assert left in failed[0].why
    if wanted != "restart":
        assert (host.wsus_version, host.dll_version, host.stopped_services) == before
        assert outcome.changed == (wanted == "first_restored")
    assert not host.backups
    assert [entry for entry in host.event_log if "withdrawn" in entry.text] or wanted == "restart"


def test_a_job_that_is_killed_before_it_has_seen_it_stays_withdrawn(
    host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options
) -> None:
    host.faults.hold_job(phase="waiting_for_window")
    host.faults.kill_job(phase="waiting_for_window")
    following = Following(host, chosen)
    in_phase(host, "waiting_for_window")
    ask(server)
    host.faults.let_job_go()
    outcome = following.ended()
    assert "was withdrawn" in outcome.message
    assert states(host) == ["started", "waiting_for_window", "withdrawn"]
    with wsusfix.connect(**host.connection) as another:
        told = another.withdraw()
    assert (told.already, told.ended) == (True, True)
    assert untouched(host)


# --- who may, and how it is asked -------------------------------------------------------------------------------------


def test_where_there_is_no_job_nothing_is_withdrawn_and_nothing_is_made(host: Host, server: wsusfix.WsusServer) -> None:
    before = list(host.files)
    with pytest.raises(wsusfix.RefusedByServerError, match="there is no job of wsusfix") as refused:
        server.withdraw()
    assert (refused.value.reason, refused.value.phase) == ("no_job", "withdraw")
    assert list(host.files) == before


def test_who_is_no_administrator_withdraws_nothing(lab: Lab) -> None:
    host = lab.add_server("wsus01", administrator=False, session_allowed=True)
    with wsusfix.connect(**host.connection) as server, pytest.raises(wsusfix.RefusedByServerError) as refused:
        server.withdraw()
    assert refused.value.reason == "not_administrator"


def test_an_answer_that_was_lost_is_asked_for_again_and_it_stays_withdrawn(host: Host, chosen: wsusfix.Options) -> None:
    following = Following(host, chosen)
    in_phase(host, "waiting_for_window")

    def cut(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.PhaseBegun) and event.phase == "withdraw":
            # The answer to the command is the first one, what the script answers the second.
            host.faults.reset_in_response(2)

    with wsusfix.connect(**host.connection, on_event=cut) as server:
        assert server.withdraw().job_id == host.jobs[0].id
    assert host.faults.counts["reset_in_response"] == 1
    assert states(host).count("withdrawn") == 1
    assert following.ended().failed


def test_from_the_command_line(
    lab: Lab,
    host: Host,
    chosen: wsusfix.Options,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    reach = host.connection
    monkeypatch.setenv("WSUSFIX_PASSWORD", str(reach["password"]))
    asked = ["withdraw", str(reach["host"]), "--port", str(reach["port"]), "--username", str(reach["username"])]
    assert main(asked) == 5
    assert "there is no job of wsusfix on the server" in capsys.readouterr().out
    following = Following(host, chosen)
    in_phase(host, "waiting_for_window")
    assert main([*asked, "--json", "--report", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert told["command"] == "withdraw"
    assert told["hosts"][0]["withdrawal"] == {
        "host": reach["host"], "job_id": host.jobs[0].id, "kind": "install_update", "already": False, "ended": True
    }  # fmt: skip
    assert "withdraw" in shown.err
    for name in ("report.md", "report.html", "report.json"):
        text = (tmp_path / name).read_text()
        assert "withdrawn" in text, name
        assert "not reached" not in text, name
    assert following.ended().failed
    assert main(asked) == 0
    assert "was withdrawn already" in capsys.readouterr().out


def test_who_waits_is_told_how_to_call_it_off(host: Host, server: wsusfix.WsusServer, chosen: wsusfix.Options) -> None:
    def lose(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and event.phase == "waiting_for_window":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"server\.withdraw\(\) calls it off"):
        server.apply(server.plan(chosen, logs=False), consent=True, on_event=lose)
    plan = server.plan(wsusfix.Options(package=chosen.package), logs=False)
    assert any("server.withdraw() calls it off" in warning for warning in plan.warnings)
    with wsusfix.connect(**host.connection, timeouts=wsusfix.Timeouts(job=0.1)) as impatient:
        with pytest.raises(wsusfix.DeadlineError) as late:
            impatient.apply(plan, consent=True)
        assert "or call it off: server.withdraw()" in late.value.hint
    # A job of another kind is in the way of nothing that cannot be called off.
    blocked = server.plan(wsusfix.Options(workaround=True), logs=False)
    assert "nothing is started beside it), then plan again; until its maintenance window opens, server.with" in str(
        blocked
    )
    assert server.withdraw().ended
