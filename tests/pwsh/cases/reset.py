"""The cases of ``approvals``, the look at updates, and of ``reset_approvals``, the job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from tests.pwsh.cases.stage import Stage, called_off, case
from tests.pwsh.shell import hasty
from wsusfix import advisory
from wsusfix.advisory import BROKEN_UPDATE_TITLE
from wsusfix.lab import Host
from wsusfix.lab.approvals import ALL_COMPUTERS, UNASSIGNED, Approval
from wsusfix.lab.filesystem import CLOSED, WindowsError_
from wsusfix.lab.windows import SimulatedWindows, time_text

RECORD: Final = "job_id=earlier\nreplica=true\nautomatic=true\napproval1=as it was\nend\n"


def _rtm(stage: Stage, **options: Any) -> Host:
    return stage.server(wsus="3.0 RTM", **options)


def _replica(stage: Stage, **options: Any) -> Host:
    return _rtm(stage, replica=True, upstream="wsus-top", **options)


def state_of(host: Host) -> list[tuple[str, bool, int]]:
    """What a reset changes."""
    return [(update.id, update.declined, len(update.approvals)) for update in host.updates]


def _kept(host: Host, name: str, text: str) -> None:
    host.files.make_folder(host.kept_path, CLOSED)
    host.files.create(f"{host.kept_path}\\{name}", text.encode())


# --- approvals --------------------------------------------------------------------------------------------------------


@case("approvals", "a server with everything")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage, culture="ja-JP", front_ends=("WSUS01", "WSUS02"))
    answer = stage.look(host)
    broken = next(update for update in host.updates if update.title == BROKEN_UPDATE_TITLE)
    lines = answer["updates"].split("\n")
    assert f"{broken.id} 102,101,100 false 2 842532 {BROKEN_UPDATE_TITLE}" in lines
    assert len(lines) == 2
    assert (answer["role"], answer["state"], answer["replica"]) == ("Administrator", "Ready", True)
    assert (answer["upstream"], answer["front_ends"]) == ("wsus-top", "WSUS01\nWSUS02")
    assert (answer["reset_state"], answer["web_service"], answer["trouble"]) == ("none", "200", "")
    return answer


@case("approvals", "no update at all, and a web server that is stopped")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage, catalogue="empty")
    host.services["w3svc"] = "stopped"
    answer = stage.look(host)
    assert (answer["updates"], answer["web_service"]) == ("", "ConnectFailure")
    return answer


@case("approvals", "a web service that is asked over TLS")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    host.machine.registry.set(advisory.SETUP_KEY, UsingSSL=1, PortNumber=8531)
    answer = stage.look(host)
    assert answer["web_service"] == "200"
    host.machine.web.clear()
    assert stage.look(host)["web_service"] == "404"
    return answer


@case("approvals", "one update named by its id, and one that is not there")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage, catalogue="no English titles")
    (broken,) = (update for update in host.updates if len(update.revisions) == 3)
    answer = stage.look(host, broken.id, "00000000-0000-0000-0000-000000000000")
    assert answer["updates"].split("\n")[0].startswith(f"{broken.id} 102,101,100 false 2 842532 ")
    return answer


@case("approvals", "what may not be asked")
def _(stage: Stage) -> dict[str, Any]:
    answer = stage.look(_rtm(stage, roles=("Unauthorized", "Administrator")))
    assert "unauthorized" in answer["trouble"]
    assert answer["updates"] == ""
    return answer


@case("approvals", "no WSUS 3.0")
def _(stage: Stage) -> dict[str, Any]:
    answer = stage.look(stage.server(wsus="2.0"))
    assert "Microsoft.UpdateServices.Administration" in answer["trouble"]
    return answer


@case("approvals", "after a reset, with an update marked that no title names")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage, catalogue="no English titles")
    (broken,) = (update for update in host.updates if len(update.revisions) == 3)
    broken.kb = ()
    assert stage.reset(host, revisions={broken.id: "102"})["reason"] == "done"
    answer = stage.look(host)
    assert answer["reset_state"] == "marked"
    assert f"update1={broken.id} 102\n" in answer["marker"]
    assert "approval2=" in answer["saved"]
    assert any(line.startswith(f"{broken.id} 102,101,100 true 0 - ") for line in answer["updates"].split("\n"))
    return answer


@case("approvals", "a way back that is open, with a closing that was cut off")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    _kept(host, "00001.record", RECORD)
    _kept(host, "00001.closed", "time=")
    answer = stage.look(host)
    assert (answer["reset_state"], answer["saved"]) == ("open", RECORD)
    return answer


@case("approvals", "a reset that was begun after the one that is marked, and gone back")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    assert stage.reset(host)["reason"] == "done"
    _kept(host, "00002.record", RECORD)
    _kept(host, "00002.closed", "time=later\nend\n")
    answer = stage.look(host)
    assert answer["reset_state"] == "none"
    assert answer["marker"]
    return answer


@case("approvals", "a record that was cut off says nothing")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    _kept(host, "00001.record", RECORD.replace("end\n", ""))
    answer = stage.look(host)
    assert (answer["reset_state"], answer["saved"]) == ("none", "")
    return answer


@case("approvals", "the longest record that a job writes comes back whole")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    (broken,) = (update for update in host.updates if update.title == BROKEN_UPDATE_TITLE)
    broken.approvals = [Approval(102, f"group-{number:04}", administrator="x" * 1800) for number in range(155)]
    assert stage.reset(host)["approvals"] == "155"
    answer = stage.look(host)
    assert 280_000 < len(answer["saved"]) <= 300_000
    assert answer["saved"].endswith("\nend\n")
    return answer


@case("approvals", "a kept folder that somebody else made")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    host.files.create(host.kept_path, b"")
    answer = stage.look(host)
    assert answer["reset_state"] == "refused"
    return answer


# --- reset_approvals --------------------------------------------------------------------------------------------------


def _treated(host: Host, answer: dict[str, str], phases: str) -> dict[str, str]:
    """Make sure that it was treated, and that everything else is as it was before."""
    assert answer["phases"] == phases
    for update in host.updates:
        treated = update.title == BROKEN_UPDATE_TITLE
        assert (update.declined, bool(update.approvals)) == (treated, not treated), update.title
    assert host.update_service.automatic
    assert "result: " + answer["reason"] in host.wsus_log
    assert "asked by {somebody}" in host.wsus_log
    return answer


@case("reset_approvals", "an autonomous server", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    answer = stage.reset(host)
    assert (answer["treated"], answer["approvals"], answer["record"]) == ("1", "2", "1")
    assert host.update_service.saves == 0
    return _treated(host, answer, "started saved declined approved treated marked restored finished")


@case("reset_approvals", "a replica", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    answer = stage.reset(host)
    assert host.replica
    assert host.update_service.saves == 4
    phases = "started saved suspended switched declined approved treated marked restored finished"
    return _treated(host, answer, phases)


@case("reset_approvals", "two updates, one declined already", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage, catalogue="two")
    host.updates[-1].declined = True
    answer = stage.reset(host)
    assert (answer["treated"], answer["approvals"]) == ("2", "3")
    one = "declined approved treated"
    return _treated(host, answer, f"started saved {one} {one} marked restored finished")


@case("reset_approvals", "an earlier run was cut off", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage, upstream="wsus-top")
    host.update_service.automatic = False
    host.update_service.save_seconds = 0.0
    _kept(host, "00001.record", RECORD)
    answer = stage.reset(host)
    assert host.replica
    assert answer["record"] == "2"
    # What the earlier run saved is kept on: it may have been gone already.
    assert "approval1=as it was\napproval2=" in stage.look(host)["saved"]
    phases = "started restored_first saved suspended switched declined approved treated marked restored finished"
    return _treated(host, answer, phases)


@case("reset_approvals", "an earlier run of an autonomous server, whose settings are others by now", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.automatic = False
    _kept(host, "00001.record", RECORD.replace("replica=true", "replica=false"))
    answer = stage.reset(host, revisions={})
    assert answer["phases"] == "started restored_first finished"
    assert (host.replica, host.update_service.automatic, host.update_service.saves) == (True, False, 0)
    assert stage.look(host)["reset_state"] == "none"
    return answer


@case("reset_approvals", "only the way back", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage, upstream="wsus-top")
    host.update_service.save_seconds = 0.0
    _kept(host, "00001.record", RECORD)
    answer = stage.reset(host, revisions={})
    assert answer["phases"] == "started restored_first finished"
    assert host.replica
    assert stage.look(host)["reset_state"] == "none"
    return answer


@case("reset_approvals", "a synchronisation that ends", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    host.synchronizing(3600)
    windows = hasty(host)
    windows.wait_seconds = lambda seconds: host.update_service.restarted()  # type: ignore[method-assign]
    answer = stage.reset(host, windows=windows)
    assert answer["phases"].startswith("started waiting_for_wsus saved ")
    return answer


@case("reset_approvals", "the maintenance window is over", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    before = state_of(host)
    answer = stage.reset(host, not_after="2008-07-15T10:00:00Z")
    assert answer["phases"] == "started finished"
    assert state_of(host) == before
    return answer


@case("reset_approvals", "called off while it waits", "withdrawn")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    before = state_of(host)
    answer = stage.reset(host, windows=called_off(host), not_before=time_text(host.machine.now() + 3000))
    assert answer["phases"] == "started waiting_for_window withdrawn finished"
    assert state_of(host) == before
    assert not host.files.is_folder(host.kept_path)
    return answer


@case("reset_approvals", "a synchronisation that does not end", "wsus_not_ready")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    host.synchronizing(3600)
    answer = stage.reset(host)
    assert answer["detail"] == "SynchronizationInProgress"
    assert list(host.files.entries(host.kept_path)) == []
    return answer


@case("reset_approvals", "a synchronisation that outlasts the maintenance window", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    host.synchronizing(3600)
    before = state_of(host)
    windows = hasty(host)

    def waits(seconds: float) -> None:
        host.faults.clock_jumps(seconds=7200)
        host.update_service.restarted()

    windows.wait_seconds = waits  # type: ignore[method-assign]
    closes = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = stage.reset(host, windows=windows, not_after=closes)
    assert answer["phases"] == "started waiting_for_wsus finished"
    assert state_of(host) == before
    return answer


@case("reset_approvals", "the system is no administrator of WSUS", "not_wsus_administrator")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage, roles=("Reporter", "Reporter"))
    windows = hasty(host)
    windows.machine.wsus_roles = ("Reporter", "Reporter")
    return stage.reset(host, windows=windows)


@case("reset_approvals", "a kept folder that somebody else made", "kept_refused")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    host.files.create(host.kept_path, b"")
    return stage.reset(host)


@case("reset_approvals", "a newer revision", "updates_changed")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    (broken,) = (update for update in host.updates if update.title == BROKEN_UPDATE_TITLE)
    answer = stage.reset(host, revisions={broken.id: "101"})
    assert len(broken.approvals) == 2
    return answer


@case("reset_approvals", "an approval that came after the saving", "updates_changed")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    (broken,) = (update for update in host.updates if update.title == BROKEN_UPDATE_TITLE)
    windows = hasty(host)
    _when(windows, "suspended", lambda: broken.approvals.append(Approval(102, "late")))
    answer = stage.reset(host, windows=windows)
    assert (len(broken.approvals), broken.declined) == (3, False)
    assert (host.replica, host.update_service.automatic) == (True, True)
    assert answer["phases"] == "started saved suspended switched restored finished"
    return answer


@case("reset_approvals", "an update that vanished after the saving", "updates_changed")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    windows = hasty(host)
    _when(windows, "switched", host.update_service.updates.clear)
    answer = stage.reset(host, windows=windows)
    assert answer["phases"] == "started saved suspended switched restored finished"
    assert (host.replica, host.update_service.automatic) == (True, True)
    return answer


@case("reset_approvals", "an update that is not there", "updates_changed")
def _(stage: Stage) -> dict[str, Any]:
    return stage.reset(_rtm(stage), revisions={"00000000-0000-0000-0000-000000000000": "1"})


@case("reset_approvals", "more approvals than can be saved", "too_many_approvals")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage)
    (broken,) = (update for update in host.updates if update.title == BROKEN_UPDATE_TITLE)
    broken.approvals = [Approval(102, f"group {number}", administrator="x" * 1900) for number in range(160)]
    answer = stage.reset(host)
    assert len(broken.approvals) == 160
    return answer


@case("reset_approvals", "a saving that is refused every time", "not_switched")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.refuses_saves = 5
    answer = stage.reset(host)
    assert host.replica
    assert host.update_service.automatic
    assert "restored" in answer["phases"]
    return answer


@case("reset_approvals", "WSUS takes an approval for nothing for all computers, too", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    assert host.update_service.takes_no_blocks_for
    host.update_service.takes_no_blocks_for = frozenset()
    answer = stage.reset(host)
    assert stage.look(host)["reset_state"] == "marked"
    return answer


@case("reset_approvals", "WSUS takes no approval for nothing", "reset_refused")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    host.update_service.takes_no_blocks_for = frozenset({ALL_COMPUTERS, UNASSIGNED})
    (broken,) = (update for update in host.updates if update.title == BROKEN_UPDATE_TITLE)
    answer = stage.reset(host)
    assert answer["detail"].startswith(f"{broken.id}: ")
    assert answer["phases"] == "started saved suspended switched declined restored finished"
    assert (broken.declined, host.replica, host.update_service.automatic) == (True, True, True)
    assert stage.look(host)["reset_state"] == "none"
    return answer


@case("reset_approvals", "an update that does not stay declined", "not_treated")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    (broken,) = (update for update in host.updates if update.title == BROKEN_UPDATE_TITLE)
    windows = hasty(host)
    decline = windows.deny_wsus_update
    calls: list[str] = []

    def undone(id: str) -> None:
        decline(id)
        calls.append(id)
        broken.declined = len(calls) < 2

    windows.deny_wsus_update = undone  # type: ignore[method-assign]
    answer = stage.reset(host, windows=windows)
    assert host.replica
    assert stage.look(host)["reset_state"] == "none"
    return answer


@case("reset_approvals", "what was switched cannot be put back", "not_restored")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    windows = hasty(host)
    windows.set_wsus_replica = _only_off(windows)  # type: ignore[method-assign]
    answer = stage.reset(host, windows=windows)
    assert answer["detail"].startswith("replica: ")
    assert not host.replica
    assert stage.look(host)["reset_state"] == "open"
    return answer


def _only_off(windows: SimulatedWindows) -> Any:
    save = windows.set_wsus_replica

    def switch(replica: bool) -> None:
        if replica:
            raise WindowsError_("not now")
        save(replica)

    return switch


@case("reset_approvals", "every look and every saving of the way back fails once", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    windows = hasty(host)
    _when(windows, "marked", lambda: _fails_once(windows))
    answer = stage.reset(host, windows=windows)
    assert host.update_service.saves == 4
    assert (host.replica, host.update_service.automatic) == (True, True)
    assert stage.look(host)["reset_state"] == "marked"
    phases = "started saved suspended switched declined approved treated marked restored finished"
    return _treated(host, answer, phases)


def _when(windows: SimulatedWindows, phase: str, happen: Callable[[], object]) -> None:
    """Let it happen as soon as the job has written down the phase."""
    add = windows.add_text_file

    def added(path: str, text: str) -> bool:
        done = add(path, text)
        if f"phase={phase}\n" in text:
            happen()
        return done

    windows.add_text_file = added  # type: ignore[method-assign]


def _fails_once(windows: SimulatedWindows) -> None:
    """From now on every kind of call to WSUS fails when it is made first."""
    for name in ("get_wsus_settings", "set_wsus_replica", "set_wsus_automatic"):
        setattr(windows, name, _after_one_error(getattr(windows, name)))


def _after_one_error(ask: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[object] = []

    def asked(**given: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            raise WindowsError_("Timeout expired")
        return ask(**given)

    return asked


@case("reset_approvals", "a synchronisation that outlasts the switching", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    windows = hasty(host)
    wait, waited = windows.wait_seconds, [0.0]

    def waits(seconds: float) -> None:
        wait(seconds)
        waited[0] += seconds
        if waited[0] >= 7200:
            host.update_service.restarted()

    windows.wait_seconds = waits  # type: ignore[method-assign]
    _when(windows, "marked", lambda: host.synchronizing(36000))
    answer = stage.reset(host, windows=windows, restore_seconds=86400)
    assert (host.replica, host.update_service.automatic) == (True, True)
    assert answer["trouble"] == "replica: WSUS was not ready: SynchronizationInProgress"
    # Often at first, and then every ten minutes.
    assert answer["phases"].split().count("restoring") == 20 + 10
    return answer


@case("reset_approvals", "an earlier run was cut off, and the maintenance window is over", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage, upstream="wsus-top")
    host.update_service.save_seconds = 0.0
    _kept(host, "00001.record", RECORD)
    before = state_of(host)
    answer = stage.reset(host, not_after="2008-07-15T10:00:00Z")
    assert answer["phases"] == "started restored_first finished"
    assert host.replica
    assert state_of(host) == before
    return answer


@case("reset_approvals", "an earlier run was cut off, and the maintenance window opens later", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = _rtm(stage, upstream="wsus-top")
    host.update_service.save_seconds = 0.0
    _kept(host, "00001.record", RECORD)
    seen: list[bool] = []
    windows = hasty(host)
    _when(windows, "waiting_for_window", lambda: seen.append(host.replica))
    opens = (datetime.now(timezone.utc) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = stage.reset(host, windows=windows, not_before=opens)
    assert seen == [True]
    assert answer["phases"].startswith(
        "started restored_first waiting_for_window window_open saved suspended switched "
    )
    return answer


@case("reset_approvals", "an error in the middle", "broken")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    windows = hasty(host)

    def fails(id: str) -> None:
        raise WindowsError_("the database is gone")

    windows.deny_wsus_update = fails  # type: ignore[method-assign]
    answer = stage.reset(host, windows=windows)
    assert "the database is gone" in answer["detail"]
    assert host.replica
    assert answer["phases"] == "started saved suspended switched restored finished"
    return answer


@case("reset_approvals", "a record that cannot be closed", "broken")
def _(stage: Stage) -> dict[str, Any]:
    host = _replica(stage)
    host.update_service.save_seconds = 0.0
    windows = hasty(host)
    add = windows.add_text_file

    def added(path: str, text: str) -> bool:
        if path.endswith(".closed"):
            raise WindowsError_("There is not enough space on the disk.")
        return add(path, text)

    windows.add_text_file = added  # type: ignore[method-assign]
    answer = stage.reset(host, windows=windows)
    assert "not enough space" in answer["detail"]
    assert answer["phases"].endswith(" marked finished")
    assert (host.replica, host.event_log[0].failed) == (True, True)
    assert stage.look(host)["reset_state"] == "open"
    return answer
