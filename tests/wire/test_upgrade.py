"""The second way out of WSUS 3.0 without a service pack, over the wire: every road ends in one of four known states.

Upgraded and verified; untouched; services as before, and what happened is told; WSUS removed by its setup, told with
the backup.
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import wsusfix
from tests.sampling import spread
from wsusfix import advisory
from wsusfix.apply import working
from wsusfix.apply.upgrade import UpgradeWork
from wsusfix.cli import main
from wsusfix.lab import Host, Lab
from wsusfix.lab.database import Connection
from wsusfix.lab.windows import UNINSTALL_KEY, Site

RTM = "3.0.6000.374"
SP1 = "3.1.6001.65"
SP2 = "3.2.7600.226"
#: The same as setup's own appendix has them.
CODES = [5200, 5201, 5203, 5204, 5205, 5206, 5207, 5208, 5209, 5210, 5211, 5212, 5213, 5216, 5217, 5218]
STAGES = ["started", "checking_package", "checking_signature"]
STANDSTILL = ["stopping", "checking_connections", "launching", "installing", "installed", "starting_services"]
QUICK = wsusfix.Timeouts(restart=30, stop=5)


@pytest.fixture
def host(lab: Lab) -> Host:
    made = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 RTM")
    made.install_seconds = 0.02
    made.machine.pace = 0.02
    return made


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give services that do not run a moment to come back, instead of a minute; everything else has its time."""
    defaults = working.Site.settled.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "seconds", 0.5)
    monkeypatch.setattr("wsusfix.apply.upgrade.SERVICES_BACK", 0.5)


def options(lab: Lab, target: str = "3.0 SP1", **changed: Any) -> wsusfix.Options:
    setup = lab.setup_package(target=target, size=40_000, **changed.pop("setup", {}))
    update = lab.package("WSUS-KB954960-x64.exe", size=40_000) if target == "3.0 SP1" else None
    return wsusfix.Options(**{"rtm": "upgrade", "upgrade_package": setup, "package": update, **changed})


def connect(host: Host, **changed: Any) -> wsusfix.WsusServer:
    return wsusfix.connect(**host.connection, timeouts=QUICK, **changed)


def walk(host: Host, chosen: wsusfix.Options) -> wsusfix.Outcome:
    with connect(host) as server:
        return server.apply(server.plan(chosen, logs=False), consent=True)


def only_upgrade(plan: wsusfix.Plan) -> wsusfix.Plan:
    """The one step that may go wrong in earnest, without those before it."""
    steps = tuple(step for step in plan.steps if isinstance(step, wsusfix.UpgradeServicePack))
    return dataclasses.replace(plan, steps=steps)


def walk_from_upgrade(host: Host, chosen: wsusfix.Options) -> wsusfix.Outcome:
    """Walk the road without the steps that come before the upgrade."""
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        kept = [step.name for step in plan.steps].index("UpgradeServicePack")
        return server.apply(dataclasses.replace(plan, steps=plan.steps[kept:]), consent=True)


def with_setup(plan: wsusfix.Plan, setup: wsusfix.Package) -> wsusfix.Plan:
    """The same plan with another setup."""
    (step,) = plan.steps
    assert isinstance(step, wsusfix.UpgradeServicePack)
    return dataclasses.replace(plan, steps=(dataclasses.replace(step, package=setup),))


def statuses(outcome: wsusfix.Outcome) -> list[tuple[str, str]]:
    return [(step.step, step.status.value) for step in outcome.steps]


def nothing_left(host: Host) -> bool:
    return not [path for path in host.files if "\\wsusfix\\" in path.lower()]


# --- the two roads to the end -----------------------------------------------------------------------------------------


def test_from_rtm_to_sp1_to_the_update_with_one_restart(lab: Lab, host: Host) -> None:
    host.services["smtpsvc"] = "stopped"
    host.machine.manual_services.add("smtpsvc")
    chosen = options(lab, setup={"exit_code": 5202}, reboot="if-needed")
    booted = host.machine.boot_time
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        outcome = server.apply(plan, consent=True)
        again = server.plan(chosen, logs=False)
    assert outcome.ok, str(outcome)
    assert (host.wsus_version, host.dll_version) == (SP1, "3.1.6001.66")
    assert statuses(outcome) == [
        ("CheckPrerequisites", "done"),
        ("BackUpDatabase", "done"),
        ("UpgradeServicePack", "done"),
        ("Restart", "done"),
        ("InstallUpdate", "done"),
        ("Restart", "skipped"),
    ]
    assert [job.script for job in host.jobs].count("restart") == 1
    assert host.machine.boot_time > booted
    assert [step.name for step in plan.steps] == [step.step for step in outcome.steps]
    (backup,) = host.backups
    assert backup.verified
    assert backup.version == RTM
    assert outcome.backup == wsusfix.DatabaseBackup(backup.path, backup.size)
    assert host.stopped_services == ("smtpsvc",)
    assert nothing_left(host)
    assert [each.kind for each in outcome.evidence if each.logs] == ["check_prerequisites", "upgrade", "install_update"]
    assert again.nothing


def test_from_rtm_to_sp2_which_carries_the_fix(lab: Lab, host: Host) -> None:
    host.sites.append(Site("7", "Intranet", starts=False))
    chosen = options(lab, "3.0 SP2")
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        outcome = server.apply(plan, consent=True)
    assert "services wsusservice, w3svc, was" in str(plan)
    assert "sites Default Web Site, Intranet" in str(plan)
    assert "CANNOT BE UNDONE" in str(plan)
    assert outcome.ok, str(outcome)
    assert outcome.changed
    assert host.wsus_version == SP2
    assert (host.stopped_services, [site.running for site in host.sites]) == ((), [True, True])
    assert outcome.backup is not None
    assert f"backup: {outcome.backup.path}" in str(outcome)
    assert host.installations[-1].arguments == "/q /g"
    assert host.installations[-1].account.endswith("SYSTEM")


def test_without_leave_to_restart_the_road_ends_and_the_next_run_goes_on(lab: Lab, host: Host) -> None:
    chosen = options(lab, setup={"exit_code": 5202})
    first = walk(host, chosen)
    assert (first.restart_pending, first.failed, first.ok) == (True, False, False)
    assert first.message == "upgraded to WSUS 3.0 SP1; a restart of the server is pending"
    assert statuses(first)[-1] == ("InstallUpdate", "not_begun")
    assert host.wsus_version == SP1
    # Nothing has restarted: still the same, and nothing is begun.
    second = walk(host, chosen)
    assert (second.restart_pending, second.changed) == (True, False)
    assert "waits for a restart" in str(second)
    third = walk(host, dataclasses.replace(chosen, reboot="if-needed"))
    assert third.ok, str(third)
    assert statuses(third) == [("Restart", "done"), ("InstallUpdate", "done"), ("Restart", "skipped")]
    assert host.dll_version == "3.1.6001.66"


def test_sp2_that_waits_for_a_restart_is_neither_failed_nor_fixed(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202})
    first = walk_from_upgrade(host, chosen)
    assert (first.restart_pending, first.failed, first.ok) == (True, False, False)
    second = walk(host, dataclasses.replace(chosen, reboot="if-needed"))
    assert second.ok, str(second)
    assert statuses(second) == [("Restart", "done")]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_every_exit_code_of_setup_is_told_with_what_to_do_and_services_run_as_before(lab: Lab, host: Host) -> None:
    host.install_seconds = 0.0
    with connect(host) as server:
        plan = only_upgrade(server.plan(options(lab), logs=False))
        for code in spread(CODES, 5):
            setup = wsusfix.Package.read(lab.setup_package(size=40_000, exit_code=code))
            outcome = server.apply(with_setup(plan, setup), consent=True)
            known = advisory.EXIT_CODES[code]
            (step,) = outcome.steps
            assert (step.status.value, step.phase) == ("failed", "installed"), code
            assert f"exit code {code}: {known.text}" in step.why
            assert step.hint == known.advice
            assert "the services run as before" in step.why
            assert (host.wsus_version, host.stopped_services, outcome.changed) == (RTM, (), False)
            assert any("WSUSSetup.log" in log.name for log in outcome.evidence[-1].logs)
            server.cleanup()
        setup = wsusfix.Package.read(lab.setup_package(size=40_000, exit_code=4711))
        (step,) = server.apply(with_setup(plan, setup), consent=True).steps
        assert "exit code 4711: none that is documented; WSUS is still" in step.why
    assert set(CODES) | {5202} == {code for code in advisory.EXIT_CODES if 5200 <= code <= 5299}


def test_a_prerequisite_that_setup_misses_ends_the_road_before_anything_stops(lab: Lab, host: Host) -> None:
    outcome = walk(host, options(lab, setup={"prerequisites": 5216}))
    assert statuses(outcome) == [
        ("CheckPrerequisites", "failed"),
        ("BackUpDatabase", "not_begun"),
        ("UpgradeServicePack", "not_begun"),
        ("InstallUpdate", "not_begun"),
    ]
    assert "nothing was changed" in outcome.message
    assert any("WSUSPreReqCheck.xml" in log.name for log in outcome.evidence[0].logs)
    assert (host.wsus_version, host.backups, host.stopped_services) == (RTM, (), ())
    assert [job.script for job in host.jobs] == ["check_prerequisites"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("refused", "the backup failed"),
        ("damaged", "could not be read back"),
    ],
)
def test_without_a_verified_backup_there_is_no_upgrade(lab: Lab, host: Host, how: str, told: str) -> None:
    chosen = options(lab)
    host.faults.backup_fails(how)
    outcome = walk(host, chosen)
    assert told in outcome.message
    assert statuses(outcome)[1:3] == [("BackUpDatabase", "failed"), ("UpgradeServicePack", "not_begun")]
    assert (outcome.backup, host.backups, host.wsus_version, host.stopped_services) == (None, (), RTM, ())


def test_a_setup_that_removes_wsus_is_told_first_with_the_backup_and_how_to_restore_it(lab: Lab, host: Host) -> None:
    chosen = options(lab, setup={"exit_code": 5201, "removes": True})
    with connect(host) as server:
        outcome = server.apply(server.plan(chosen, logs=False), consent=True)
        after = server.diagnose(logs=False)
        proof = server.verify()
    first, *_ = str(outcome).splitlines()
    (backup,) = host.backups
    assert "WSUS WAS REMOVED" in first
    assert backup.path in first
    assert "RESTORE DATABASE" in first
    assert RTM in first
    assert (outcome.ok, outcome.changed, host.wsus_version) == (False, True, None)
    # Everything else runs as before, and nobody calls a server safe because its WSUS is gone.
    assert host.stopped_services == ()
    assert (after.verdict, proof.ok) == ("unknown", False)
    assert any("WSUSSetup.log" in log.name for log in outcome.evidence[-1].logs)


def test_who_connects_to_the_database_after_the_plan_was_made_is_seen_after_the_stop(lab: Lab, host: Host) -> None:
    chosen = options(lab)
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        stranger = Connection("DESK7", "4711", "Query Analyzer")
        host.faults.at_phase(lambda: host.database.foreign.append(stranger), phase="stopping")
        outcome = server.apply(plan, consent=True)
    assert "after WSUS had stopped" in outcome.message
    assert "DESK7" in outcome.message
    assert (host.wsus_version, host.stopped_services, host.installations) == (RTM, (), ())


def test_a_service_that_nobody_consented_to_is_not_stopped(lab: Lab, host: Host) -> None:
    chosen = options(lab)
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        host.services["mailsvc"] = "running"
        host.machine.needs["mailsvc"] = ("w3svc",)
        outcome = server.apply(plan, consent=True)
    assert "mailsvc would have stopped too" in outcome.message
    assert (host.stopped_services, host.installations) == ((), ())


@pytest.mark.usefixtures("hasty")
def test_an_upgrade_after_which_a_service_does_not_run_has_failed_and_says_which(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2")
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        host.faults.at_phase(lambda: host.faults.service_stuck("wsusservice"), phase="launching")
        outcome = server.apply(plan, consent=True)
    assert (outcome.failed, outcome.ok, host.wsus_version) == (True, False, SP2)
    assert "upgraded to WSUS 3.0 SP2" in outcome.message
    assert "not running again: wsusservice" in outcome.message


def test_a_restart_that_windows_refuses_is_told(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    host.faults.restart_refused()
    outcome = walk_from_upgrade(host, chosen)
    assert statuses(outcome)[-1] == ("Restart", "failed")
    assert "refused to restart" in outcome.message
    assert outcome.restart_pending


# --- what is cut off --------------------------------------------------------------------------------------------------


@pytest.fixture
def steady(lab: Lab, host: Host) -> tuple[Host, wsusfix.Options]:
    """A server with a service that Windows starts by itself, one that it does not, and one that never ran."""
    host.services.update({"byhand": "running", "never": "stopped"})
    host.machine.needs.update({"byhand": ("was",), "never": ("was",)})
    host.machine.manual_services.update({"byhand", "never"})
    # The same of sites: IIS starts the second by itself, and not the first.
    host.sites.extend([Site("7", "by hand", starts=False), Site("8", "not to run", running=False)])
    return host, options(lab, "3.0 SP2")


def as_before(host: Host) -> None:
    """Let run by hand what a restart has not started, and stop what it has, where nothing of ours had stopped it."""
    host.services["byhand"] = "running"
    for site in host.sites:
        site.running = site.number != "8"


def check_cut(host: Host, outcome: wsusfix.Outcome, phase: str) -> None:
    """What was cut off is told, what ran runs, and the server is upgraded and verified, or as it was."""
    assert "interrupted" in str(outcome), phase
    if phase in STANDSTILL:
        assert [each.kind for each in outcome.evidence][-2:] == ["upgrade", "start_services"], phase
    assert host.stopped_services == ("never",), f"{phase}: {outcome}"
    assert [site.running for site in host.sites] == [True, True, False], phase
    assert host.wsus_version in (RTM, SP2), phase
    assert outcome.ok is (host.wsus_version == SP2), phase


def test_power_that_fails_in_any_phase_before_setup_has_ended_leaves_a_server_that_serves(
    steady: tuple[Host, wsusfix.Options],
) -> None:
    host, chosen = steady
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        for phase in spread((*STAGES, *STANDSTILL[:4]), 3):
            # Setup is still at work when the power fails in the phase in which it is.
            host.machine.installer_hangs = phase == "installing"
            host.faults.reboot_during(phase=phase)
            outcome = server.apply(plan, consent=True)
            host.machine.installer_hangs = False
            if phase in STAGES:
                # Windows itself does not start again what somebody had started by hand; nothing of ours had stopped it.
                assert host.stopped_services == ("byhand", "never")
                as_before(host)
            check_cut(host, outcome, phase)
            assert host.wsus_version == RTM
        again = server.apply(plan, consent=True)
    assert again.ok, str(again)
    assert (host.wsus_version, host.stopped_services) == (SP2, ("never",))


@pytest.mark.parametrize("phase", STANDSTILL[4:])
def test_power_that_fails_after_setup_has_ended_leaves_an_upgraded_server(
    steady: tuple[Host, wsusfix.Options], phase: str
) -> None:
    host, chosen = steady
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        host.faults.reboot_during(phase=phase)
        outcome = server.apply(plan, consent=True)
    check_cut(host, outcome, phase)
    assert host.wsus_version == SP2


@pytest.mark.parametrize("phase", ["stopping", "installing"])
def test_a_job_that_is_killed_leaves_a_server_that_serves(steady: tuple[Host, wsusfix.Options], phase: str) -> None:
    host, chosen = steady
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        host.faults.kill_job(phase=phase)
        outcome = server.apply(plan, consent=True)
    check_cut(host, outcome, phase)


@pytest.mark.usefixtures("hasty")
def test_what_cannot_be_started_again_after_a_cut_is_told(steady: tuple[Host, wsusfix.Options]) -> None:
    host, chosen = steady
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))

        host.faults.at_phase(lambda: host.faults.service_stuck("byhand"), phase="checking_connections")
        host.faults.kill_job(phase="launching")
        outcome = server.apply(plan, consent=True)
    assert outcome.failed
    assert "not running again: byhand" in outcome.message
    assert host.stopped_services == ("byhand", "never")


def test_power_that_fails_while_setup_has_removed_wsus_is_told_with_the_backup(
    lab: Lab, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(lab, setup={"removes": True})
    _when_removed(monkeypatch, host, host.reboot)
    outcome = walk(host, chosen)
    (backup,) = host.backups
    assert "WSUS WAS REMOVED" in str(outcome).splitlines()[0]
    assert backup.path in str(outcome).splitlines()[0]
    assert (host.wsus_version, host.stopped_services) == (None, ())


def _when_removed(monkeypatch: pytest.MonkeyPatch, host: Host, happen: Callable[[], object]) -> None:
    """Let it happen in the middle of a setup that has just removed WSUS."""
    remove = host.wsus.remove

    def removed() -> None:
        remove()
        happen()

    monkeypatch.setattr(host.wsus, "remove", removed)


@pytest.mark.parametrize("phase", ["asking_database", "backing_up", "verifying_backup"])
def test_power_that_fails_during_a_backup_leaves_everything_as_it_was(lab: Lab, host: Host, phase: str) -> None:
    chosen = options(lab, "3.0 SP2")
    host.faults.reboot_during(phase=phase)
    outcome = walk(host, chosen)
    assert statuses(outcome)[1:] == [("BackUpDatabase", "failed"), ("UpgradeServicePack", "not_begun")]
    assert "what it wrote is no backup" in outcome.message
    assert (outcome.backup, host.wsus_version, host.stopped_services) == (None, RTM, ())


def test_power_that_fails_while_a_restart_is_ordered_is_that_restart(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    host.faults.reboot_during(phase="restarting")
    outcome = walk_from_upgrade(host, chosen)
    assert outcome.ok, str(outcome)
    assert statuses(outcome)[-1] == ("Restart", "done")


def test_what_a_cut_off_upgrade_had_stopped_is_started_by_the_next_run_of_anybody(
    steady: tuple[Host, wsusfix.Options],
) -> None:
    host, chosen = steady
    host.faults.kill_job(phase="checking_connections")
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        events: list[wsusfix.Event] = []

        def lose(event: wsusfix.Event) -> None:
            events.append(event)
            if "checking connections" in str(event):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            server.apply(plan, consent=True, on_event=lose)
    _wait_for_the_end(host)
    assert "byhand" in host.stopped_services
    mended = walk(host, chosen)
    assert statuses(mended) == [("StartServices", "done")]
    assert host.stopped_services == ("never",)
    outcome = walk(host, chosen)
    assert outcome.ok, str(outcome)


def test_a_running_upgrade_is_joined_and_never_doubled(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2")
    # Not the setup that only looks at what it needs.
    host.faults.at_phase(host.faults.installer_hangs, phase="stopping")
    with connect(host) as server:
        _lose(server, server.plan(chosen, logs=False), "installing", lambda: bool(host.machine.installer_hangs))

        def answer(event: wsusfix.Event) -> None:
            if isinstance(event, wsusfix.JobState):
                host.faults.clear()

        outcome = server.apply(server.plan(chosen, logs=False), consent=True, on_event=answer)
    assert outcome.ok, str(outcome)
    assert [run.arguments for run in host.installations] == ["/q /p", "/q /g"]
    assert outcome.backup is not None
    assert outcome.backup.path == host.backups[0].path
    assert nothing_left(host)


def test_a_running_upgrade_is_waited_for_though_its_setup_has_ended_and_nothing_seems_left_to_do(
    lab: Lab, host: Host
) -> None:
    chosen = options(lab, "3.0 SP2")
    host.faults.at_phase(lambda: host.faults.hold_job(phase="installed"), phase="stopping")
    with connect(host) as server:
        _lose(server, server.plan(chosen, logs=False), "installed", lambda: host.wsus_version == SP2)
        plan = server.plan(chosen, logs=False)
        assert plan.nothing
        assert "a job of wsusfix is at work" in str(plan)
        proof = server.verify()
        assert not proof.ok
        assert "NOT OK: no job at work" in str(proof)
        assert host.stopped_services
        outcome = server.apply(plan, on_event=_let_go(host))
    assert outcome.ok, str(outcome)
    assert (host.stopped_services, len(host.installations)) == ((), 2)
    assert nothing_left(host)


def test_a_job_that_is_waited_for_and_fails_is_told_though_nothing_had_seemed_left_to_do(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2")
    host.faults.at_phase(lambda: host.faults.hold_job(phase="installed"), phase="stopping")
    with connect(host) as server:
        _lose(server, server.plan(chosen, logs=False), "installed", lambda: host.wsus_version == SP2)
        host.faults.kill_job(phase="starting_services")
        outcome = server.apply(server.plan(chosen, logs=False), on_event=_let_go(host))
    assert not outcome.ok
    assert "the server is not well now: plan again" in outcome.message
    assert "NOT OK: what an upgrade had stopped" in str(outcome)
    again = walk(host, chosen)
    assert again.ok, str(again)
    assert host.stopped_services == ()


def _let_go(host: Host) -> Callable[[wsusfix.Event], None]:
    """Make an observer that lets a held job go when it hears of a job."""

    def hear(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState):
            host.faults.let_job_go()

    return hear


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("moment", ["verify", "surroundings"])
def test_an_upgrade_that_another_controller_begins_meanwhile_is_joined_and_in_nobodys_way(
    lab: Lab, host: Host, moment: str
) -> None:
    chosen = options(lab, "3.0 SP2")
    host.faults.at_phase(lambda: host.faults.hold_job(phase="installing"), phase="stopping")
    planned, begun = threading.Event(), threading.Event()

    def begin(event: wsusfix.Event) -> None:
        if begun.is_set():
            _let_go(host)(event)
        # The backup has ended, or the last look has begun: what is planned next, somebody else begins now.
        if planned.is_set() and isinstance(event, wsusfix.PhaseBegun) and event.phase == moment and not begun.is_set():
            begun.set()
            with connect(host) as quicker:
                _lose(quicker, only_upgrade(quicker.plan(chosen, logs=False)), "stopping")
            deadline = time.monotonic() + 60
            while "was" not in host.stopped_services and time.monotonic() < deadline:
                time.sleep(0.005)
            assert "was" in host.stopped_services

    with connect(host, on_event=begin) as server:
        plan = server.plan(chosen, logs=False)
        planned.set()
        outcome = server.apply(dataclasses.replace(plan, steps=plan.steps[1:]), consent=True, on_event=begin)
    assert begun.is_set()
    assert outcome.ok, str(outcome)
    assert statuses(outcome) == [("BackUpDatabase", "done"), ("UpgradeServicePack", "done")]
    assert [run.arguments for run in host.installations] == ["/q /g"]


def test_a_setup_that_has_failed_for_another_controller_meanwhile_is_not_run_again(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5201})
    failed: list[wsusfix.Outcome] = []

    def fail(event: wsusfix.Event) -> None:
        begins = isinstance(event, wsusfix.PhaseBegun) and event.phase == "surroundings"
        if planned.is_set() and begins and not failed:
            with connect(host) as quicker:
                failed.append(quicker.apply(only_upgrade(quicker.plan(chosen, logs=False)), consent=True))

    planned = threading.Event()
    with connect(host, on_event=fail) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        planned.set()
        outcome = server.apply(plan, consent=True)
    assert failed[0].failed
    assert (outcome.failed, outcome.changed, len(host.installations)) == (True, False, 1)
    assert "which has ended without success" in outcome.message


# --- what is in the way ---------------------------------------------------------------------------------------------


def _moved(host: Host) -> None:
    host.machine.registry.set(advisory.SETUP_KEY, WmsdeInstalled=1)


def _connected(host: Host) -> None:
    host.database.foreign.append(Connection("DESK7", "4711", "Query Analyzer"))


def _renamed(host: Host) -> None:
    host.database.own_name = "OLD\\MICROSOFT##SSEE"


def _no_triggers(host: Host) -> None:
    host.database.nested_triggers = False


def _compressed(host: Host) -> None:
    host.machine.compressed.add("C:\\")


def _not_running(host: Host) -> None:
    host.services["wsusservice"] = "stopped"


def _little_room(host: Host) -> None:
    host.machine.files.drive("C:\\").free = 3_600_000_000


def _upstream(host: Host) -> None:
    host.wsus.upstream = "top"


def _waits(host: Host) -> None:
    host.files.create("C:\\x.new", b"1")
    host.machine.rename_at_restart("C:\\x.new", "C:\\x.dll")


def _two_front_ends(host: Host) -> None:
    host.wsus.front_ends.append("other")


def _nothing(host: Host) -> None:
    return


@pytest.mark.parametrize(
    ("server", "state", "told"),
    [
        ({"database": "remote"}, _nothing, "on another server"),
        ({"front_ends": ("a", "b")}, _nothing, "several front ends"),
        ({"database": "local"}, _not_running, "whether other front ends"),
        ({}, _renamed, "was renamed"),
        ({"database": "local"}, _moved, "WmsdeInstalled"),
        ({}, _connected, "connected to the database"),
        ({}, _no_triggers, "nested triggers"),
        ({}, _little_room, "needed for a backup and for what comes after it"),
        ({}, _compressed, "lies compressed"),
        ({"upstream": "top"}, _nothing, "version of the upstream server top is unknown"),
        ({"pending_restart": True}, _nothing, "a restart of the server is pending"),
        ({"neighbours": ("essentials",)}, _nothing, "System Center Essentials"),
        ({"neighbours": ("configmgr",)}, _nothing, "stands on this WSUS"),
        ({"wsus": "2.0 SP1", "os": "Windows Server 2003"}, _nothing, "there is no upgrade"),
    ],
)
def test_what_is_known_to_make_setup_fail_blocks_before_anything_is_begun(
    lab: Lab, server: dict[str, Any], state: Any, told: str
) -> None:
    host = lab.add_server("wsus02", **{"wsus": "3.0 RTM", **server})
    state(host)
    stopped, version = host.stopped_services, host.wsus_version
    with connect(host) as connected:
        plan = connected.plan(options(lab), logs=False)
        outcome = connected.apply(plan, consent=True)
        with pytest.raises(wsusfix.UsageError, match="blocked, so nothing is staged") as caught:
            connected.stage(plan)
    assert any(told in reason for reason in outcome.blocked), outcome.blocked
    assert told in str(caught.value)
    assert outcome.message == "blocked: nothing was changed"
    assert (host.jobs, host.backups, host.stopped_services, host.wsus_version) == ((), (), stopped, version)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (_no_triggers, "nested triggers"),
        (_renamed, "was renamed"),
        (_compressed, "lies compressed"),
        (_waits, "a restart of the server is pending"),
        (_two_front_ends, "several front ends"),
        (_upstream, "upstream server top"),
    ],
)
def test_what_comes_into_the_way_after_the_plan_is_seen_before_anything_stops(
    lab: Lab, host: Host, state: Any, told: str
) -> None:
    with connect(host) as server:
        plan = only_upgrade(server.plan(options(lab), logs=False))
        state(host)
        outcome = server.apply(plan, consent=True)
    assert (outcome.failed, outcome.changed) == (True, False)
    assert told in outcome.message
    assert outcome.message.startswith("blocked before UpgradeServicePack")
    assert any(told in reason for reason in outcome.blocked)
    assert (host.jobs, host.stopped_services, host.wsus_version) == ((), (), RTM)


def test_what_the_operator_said_counts_once_more_right_before_anything_stops(lab: Lab) -> None:
    host = lab.add_server("wsus02", wsus="3.0 RTM", upstream="top", neighbours=("configmgr",))
    outcome = walk(host, options(lab, "3.0 SP2", upstream_version=SP2, upgrade_beside_others=True))
    assert outcome.ok, str(outcome)
    assert (host.wsus_version, host.stopped_services) == (SP2, ())


def test_what_was_done_before_an_error_in_the_middle_is_told_with_it(
    lab: Lab, host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(lab, "3.0 SP2")
    host.faults.at_phase(host.faults.task_scheduler_stopped, phase="verifying_backup")
    with pytest.raises(wsusfix.RefusedByServerError) as error:
        walk(host, chosen)
    outcome = error.value.outcome
    assert isinstance(outcome, wsusfix.Outcome)
    assert statuses(outcome) == [("CheckPrerequisites", "done"), ("BackUpDatabase", "done")]
    assert [each.kind for each in outcome.evidence] == ["check_prerequisites", "back_up_database"]
    assert (outcome.ok, outcome.failed, outcome.changed, outcome.verification) == (False, False, False, None)
    assert outcome.message.endswith("then an error ended it")
    assert outcome.backup is not None
    assert outcome.backup.path == host.backups[0].path
    host.faults.clear()
    with connect(host) as server:
        server.cleanup()
    # The same on the command line, as text and as data; and nothing where nothing was done.
    reach = host.connection
    monkeypatch.setenv("WSUSFIX_PASSWORD", str(reach["password"]))
    asked = [str(reach["host"]), "--port", str(reach["port"]), "--username", str(reach["username"]), "--no-logs"]
    asked += ["--yes", "--rtm", "upgrade", "--upgrade-package", str(chosen.upgrade_package)]
    host.faults.at_phase(host.faults.task_scheduler_stopped, phase="verifying_backup")
    assert main(["remediate", *asked]) == 5
    told = capsys.readouterr().out
    assert "BackUpDatabase: done" in told
    assert told.index("BackUpDatabase: done") < told.index("ERROR: ")
    assert host.backups[-1].path in told
    host.faults.clear()
    with connect(host) as server:
        server.cleanup()
    host.faults.task_scheduler_stopped()
    assert main(["remediate", *asked, "--json"]) == 5
    (data,) = json.loads(capsys.readouterr().out)["hosts"]
    assert "outcome" not in data
    assert data["error"]["type"] == "RefusedByServerError"


@pytest.mark.parametrize("left", [100_000_000, 10_000_000_000])
def test_room_that_is_gone_since_the_plan_is_seen_before_anything_stops(lab: Lab, host: Host, left: int) -> None:
    with connect(host) as server:
        plan = only_upgrade(server.plan(options(lab, "3.0 SP2"), logs=False))
        host.faults.disk_full(free=left)
        outcome = server.apply(plan, consent=True)
    if left < advisory.SETUP_SYSTEM_SPACE:
        assert outcome.message.startswith("blocked before UpgradeServicePack")
        assert (host.jobs, host.stopped_services, host.wsus_version) == ((), (), RTM)
    else:
        assert outcome.ok, str(outcome)


def test_a_site_that_nobody_consented_to_is_not_stopped(lab: Lab, host: Host) -> None:
    with connect(host) as server:
        plan = only_upgrade(server.plan(options(lab), logs=False))
        host.sites.append(Site("9", "Payroll"))
        outcome = server.apply(plan, consent=True)
    assert "the site Payroll would have stopped too" in outcome.message
    assert (host.stopped_services, host.installations) == ((), ())


def test_a_process_of_wsus_that_outlives_its_service_keeps_setup_from_beginning(lab: Lab, host: Host) -> None:
    hung = host.machine.processes.start("w3wp.exe", "w3wp.exe -ap Other", host.database.account)
    host.database.foreign.append(Connection(host.machine.name, str(hung.pid), ".Net SqlClient"))
    with connect(host) as server:
        outcome = server.apply(only_upgrade(server.plan(options(lab), logs=False)), consent=True)
    assert "after WSUS had stopped" in outcome.message
    assert "w3wp.exe" in outcome.message
    assert (host.wsus_version, host.stopped_services, host.installations) == (RTM, (), ())


def test_an_upgrade_to_another_service_pack_is_not_joined(lab: Lab, host: Host) -> None:
    first = options(lab)
    host.faults.hold_job(phase="stopping")
    with connect(host) as server:
        _lose(server, only_upgrade(server.plan(first, logs=False)), "stopping")
        with pytest.raises(wsusfix.RefusedByServerError, match=r"an upgrade to WSUS 3\.0 SP1"):
            server.apply(server.plan(options(lab, "3.0 SP2"), logs=False), consent=True)
    host.faults.let_job_go()
    _wait_for_the_end(host)
    assert (host.wsus_version, host.stopped_services) == (SP1, ())


def test_what_setup_starts_that_had_not_run_before_is_told(lab: Lab, host: Host) -> None:
    host.services.update({"extra": "stopped"})
    host.machine.needs["extra"] = ("was",)
    chosen = options(lab, "3.0 SP2")
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        host.faults.at_phase(lambda: host.machine.switch_service("extra", run=True), phase="installed")
        outcome = server.apply(plan, consent=True)
    assert outcome.ok, str(outcome)
    assert "had not run before, and it runs on: extra" in str(outcome)


def test_the_texts_of_setups_logs_come_back_the_telling_ones_first(lab: Lab, host: Host) -> None:
    outcome = walk(host, options(lab, setup={"prerequisites": 5216}))
    first, second, *_ = outcome.evidence[0].logs
    assert first.name.endswith("WSUSSetup.log")
    assert second.name.endswith("WSUSPreReqCheck.xml")
    assert "prerequisites checked: 5216" in first.text
    assert "<PrerequisiteCheck><Failed/></PrerequisiteCheck>" in second.text
    assert not [each for each in host.files if "PreReqCheck" in each and "\\wsusfix\\" not in each]


# --- a restart that setup asks for ----------------------------------------------------------------------------------


def _other_file_waits(host: Host) -> None:
    """What setup has left waiting is no longer the DLL, but something else of WSUS."""
    host.machine.apply_renames()
    _waits(host)


def _version_waits(host: Host) -> None:
    """The Setup key is written only by the restart."""
    host.machine.registry.set(advisory.SETUP_KEY, VersionString=RTM)
    restart = host.machine.on_restart

    def upgraded() -> None:
        restart()
        host.machine.registry.set(advisory.SETUP_KEY, VersionString=SP1)

    host.machine.on_restart = upgraded


def test_a_restart_that_setup_asks_for_is_waited_for_whatever_it_is_that_waits(lab: Lab, host: Host) -> None:
    chosen = options(lab, setup={"exit_code": 5202})
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        plan = dataclasses.replace(plan, steps=plan.steps[-2:])
        host.faults.at_phase(lambda: _other_file_waits(host), phase="installed")
        first = server.apply(plan, consent=True)
        again = server.apply(server.plan(chosen, logs=False), consent=True)
    assert statuses(first) == [("UpgradeServicePack", "done"), ("InstallUpdate", "not_begun")]
    for outcome in (first, again):
        assert (outcome.restart_pending, outcome.failed, outcome.ok) == (True, False, False)
    assert first.message == "upgraded to WSUS 3.0 SP1; a restart of the server is pending"
    assert "asked for a restart" in again.blocked[0]
    assert (host.wsus_version, host.dll_version) == (SP1, SP1)
    done = walk(host, dataclasses.replace(chosen, reboot="if-needed"))
    assert done.ok, str(done)
    assert statuses(done) == [("Restart", "done"), ("InstallUpdate", "done"), ("Restart", "skipped")]


def test_sp2_whose_setup_asks_for_a_restart_is_not_verified_before_it(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202})
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        host.faults.at_phase(lambda: _other_file_waits(host), phase="installed")
        first = server.apply(plan, consent=True)
        assert not server.verify().ok
        assert server.plan(chosen, logs=False).blocked
        second = server.apply(server.plan(dataclasses.replace(chosen, reboot="if-needed"), logs=False), consent=True)
    assert (first.restart_pending, first.ok, first.failed) == (True, False, False)
    assert second.ok, str(second)
    assert statuses(second) == [("Restart", "done")]


def test_a_clock_that_is_set_forward_does_not_take_the_place_of_a_restart(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202})
    host.machine.boot_time = host.machine.now() - 600
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        host.faults.at_phase(lambda: _other_file_waits(host), phase="installed")
        server.apply(plan, consent=True)
        host.faults.clock_jumps(seconds=4000)
        proof = server.verify()
        assert (proof.ok, proof.restart_pending) == (False, True)
        assert "asked for a restart" in server.plan(chosen, logs=False).blocked[0].reason
        host.reboot()
        assert (server.verify().ok, server.verify().restart_pending) == (True, False)


def test_a_restart_that_setup_asks_for_is_made_where_it_may_be_though_nothing_is_seen_to_wait(
    lab: Lab, host: Host
) -> None:
    chosen = options(lab, setup={"exit_code": 5202}, reboot="if-needed")
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        plan = dataclasses.replace(plan, steps=plan.steps[2:])
        host.faults.at_phase(host.machine.apply_renames, phase="installed")
        outcome = server.apply(plan, consent=True)
    assert outcome.ok, str(outcome)
    assert statuses(outcome)[1] == ("Restart", "done")


def test_a_server_that_is_up_for_a_moment_only_is_seen_to_restart(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    host.machine.boot_time = host.machine.now()
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        outcome = server.apply(dataclasses.replace(plan, steps=plan.steps[2:]), consent=True)
    assert outcome.ok, str(outcome)
    assert statuses(outcome)[-1] == ("Restart", "done")


@pytest.mark.parametrize("at_once", [True, False])
def test_an_upgrade_that_a_restart_completes_is_pending_and_no_failure(lab: Lab, host: Host, at_once: bool) -> None:
    chosen = options(lab, setup={"exit_code": 5202}, reboot="if-needed" if at_once else "never")
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        plan = dataclasses.replace(plan, steps=plan.steps[2:])
        host.faults.at_phase(lambda: _version_waits(host), phase="installed")
        outcome = server.apply(plan, consent=True)
    if not at_once:
        assert (outcome.restart_pending, outcome.failed, outcome.ok, outcome.changed) == (True, False, False, True)
        assert outcome.message == "setup for the upgrade to WSUS 3.0 SP1 has run; a restart of the server is pending"
        assert statuses(outcome)[-1] == ("InstallUpdate", "not_begun")
        with connect(host) as server:
            assert "restart" in server.plan(chosen, logs=False).blocked[0].reason
        restarted = walk(host, dataclasses.replace(chosen, reboot="if-needed"))
        assert statuses(restarted) == [("Restart", "done")]
        outcome = walk(host, dataclasses.replace(chosen, reboot="if-needed"))
    assert outcome.ok, str(outcome)
    assert (host.wsus_version, host.dll_version) == (SP1, "3.1.6001.66")


@pytest.mark.parametrize("target", ["3.0 SP1", "3.0 SP2"])
def test_an_upgrade_that_no_restart_completes_is_told_and_nothing_is_installed_on_it(
    lab: Lab, host: Host, target: str
) -> None:
    chosen = options(lab, target, setup={"exit_code": 5202}, reboot="if-needed")
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        plan = dataclasses.replace(plan, steps=plan.steps[2:])
        old = {"VersionString": RTM}
        host.faults.at_phase(lambda: host.machine.registry.set(advisory.SETUP_KEY, **old), phase="installed")
        outcome = server.apply(plan, consent=True)
    assert (outcome.ok, host.wsus_version) == (False, RTM)
    assert outcome.message == f"not upgraded: WSUS is still {RTM}"
    assert statuses(outcome)[:2] == [("UpgradeServicePack", "done"), ("Restart", "done")]
    update = [("InstallUpdate", "not_begun"), ("Restart", "not_begun")]
    assert statuses(outcome)[2:] == (update if target == "3.0 SP1" else [])
    assert len(host.installations) == 1


def test_what_ran_before_a_restart_and_does_not_start_by_itself_is_started_again(
    steady: tuple[Host, wsusfix.Options], lab: Lab
) -> None:
    host, _ = steady
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    outcome = walk_from_upgrade(host, chosen)
    assert outcome.ok, str(outcome)
    assert statuses(outcome)[-1] == ("Restart", "done")
    assert host.stopped_services == ("never",)
    assert [(site.number, site.running) for site in host.sites] == [("1", True), ("7", True), ("8", False)]
    assert "as before: byhand, by hand (running), not to run (stopped)" in str(outcome)
    assert [job.script for job in host.jobs] == ["upgrade", "restart", "start_services"]
    assert outcome.evidence[-1].kind == "start_services"
    assert nothing_left(host)


def test_what_does_not_start_again_after_a_restart_is_told(steady: tuple[Host, wsusfix.Options], lab: Lab) -> None:
    host, _ = steady
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    host.faults.at_phase(lambda: host.faults.service_stuck("byhand"), phase="restarting")
    outcome = walk_from_upgrade(host, chosen)
    assert (outcome.failed, outcome.ok, host.wsus_version) == (True, False, SP2)
    assert "does not run again: byhand" in outcome.message
    assert outcome.message.startswith("upgraded to WSUS 3.0 SP2")


def test_a_restart_that_another_controller_has_made_meanwhile_is_not_made_again(
    steady: tuple[Host, wsusfix.Options], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = steady
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    ended, restarted = UpgradeWork.ended, []

    def quicker(work: UpgradeWork, *told: Any) -> Any:
        # The upgrade was looked at, and its restart is next.
        with connect(host) as other:
            restarted.append(other.apply(other.plan(chosen, logs=False), consent=True))
        return ended(work, *told)

    monkeypatch.setattr(UpgradeWork, "ended", quicker)
    outcome = walk_from_upgrade(host, chosen)
    assert statuses(restarted[0]) == [("Restart", "done")]
    assert statuses(outcome)[1] == ("Restart", "skipped")
    assert [job.script for job in host.jobs].count("restart") == 1
    assert host.stopped_services == ("never",)


def test_what_another_controller_has_started_again_after_a_restart_runs(
    steady: tuple[Host, wsusfix.Options], lab: Lab
) -> None:
    host, _ = steady
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    cleaned: list[wsusfix.Cleanup] = []
    seen = threading.Event()

    def held() -> None:
        seen.wait(60)

    # The job that starts it is seen at work before it ends.
    host.faults.at_phase(lambda: host.faults.at_phase(held, phase="starting_services"), phase="restarting")

    def clear_away(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and host.jobs[-1].script == "start_services" and not cleaned:
            seen.set()
            _wait_for_the_end(host)
            with connect(host) as other:
                cleaned.append(other.cleanup())

    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        outcome = server.apply(dataclasses.replace(plan, steps=plan.steps[2:]), consent=True, on_event=clear_away)
    assert cleaned
    assert cleaned[0].clean
    assert outcome.ok, str(outcome)
    assert host.stopped_services == ("never",)


def test_a_clock_that_is_corrected_is_no_restart(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    boot = host.machine.on_restart
    waited = threading.Event()

    def late() -> None:
        # The order is given, the clock is corrected, and the server takes its time.
        host.faults.clock_jumps(seconds=120)
        waited.wait(60)
        boot()

    host.machine.on_restart = late
    seen: list[wsusfix.Event] = []

    def observe(event: wsusfix.Event) -> None:
        seen.append(event)
        if sum("waiting for the server to restart" in str(each) for each in seen) == 3:
            waited.set()

    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        plan = dataclasses.replace(plan, steps=plan.steps[2:])
        outcome = server.apply(plan, consent=True, on_event=observe)
    assert waited.is_set()
    assert outcome.ok, str(outcome)
    assert statuses(outcome)[-1] == ("Restart", "done")


def test_a_server_that_had_restarted_just_before_is_not_taken_for_one_that_has_again(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    host.machine.boot_time = host.machine.now() - 5
    host.machine.on_restart = lambda: None
    with wsusfix.connect(**host.connection, timeouts=wsusfix.Timeouts(restart=1)) as server:
        plan = server.plan(chosen, logs=False)
        outcome = server.apply(dataclasses.replace(plan, steps=plan.steps[2:]), consent=True)
    assert statuses(outcome)[-1] == ("Restart", "failed")
    # The job gives the order up about when the controller does; who looks late sees it say so.
    assert re.search(r"then failed: .* had not (restarted after 1 s|carried it out)", outcome.message)
    # What was done is said, too.
    assert outcome.message.startswith("upgraded to WSUS 3.0 SP2")


def test_a_restart_that_cuts_off_the_job_that_was_to_order_it_is_that_restart(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    host.faults.at_phase(lambda: host.faults.reboot_during(phase="started"), phase="starting_services")
    outcome = walk_from_upgrade(host, chosen)
    assert outcome.ok, str(outcome)
    assert statuses(outcome)[-1] == ("Restart", "done")
    assert "cut off the job in started" in str(outcome)


def test_a_window_that_is_over_before_the_restart_is_told_with_what_was_done(lab: Lab, host: Host) -> None:
    ends = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=30)
    chosen = options(lab, setup={"exit_code": 5202}, reboot="if-needed", not_after=ends)
    host.faults.at_phase(lambda: host.faults.clock_jumps(seconds=3600), phase="starting_services")
    outcome = walk_from_upgrade(host, chosen)
    assert outcome.message.startswith("upgraded to WSUS 3.0 SP1")
    assert "only the restart is missing" in outcome.message
    assert statuses(outcome)[1:3] == [("Restart", "failed"), ("InstallUpdate", "not_begun")]
    assert (outcome.restart_pending, host.wsus_version) == (True, SP1)


# --- what is cut off while it mends, or while nobody looks ------------------------------------------------------------


def _lose(server: wsusfix.WsusServer, plan: wsusfix.Plan, text: str, also: Callable[[], bool] = lambda: True) -> None:
    """Lose the controller when an event says *text*, and it is *also* so."""

    def lose(event: wsusfix.Event) -> None:
        if text in str(event) and also():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.apply(plan, consent=True, on_event=lose)


def _wait_for_the_end(host: Host) -> None:
    deadline = time.monotonic() + 60
    while not (host.jobs and host.jobs[-1].ended) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert host.jobs[-1].ended


def _wait_until_cut(server: wsusfix.WsusServer) -> None:
    """Wait until the newest job is seen to have been cut off."""
    deadline = time.monotonic() + 60
    while (found := server.job()) is not None and found.active and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found is not None
    assert found.status.value == "interrupted"


def _kill_jobs(host: Host) -> None:
    for process in host.machine.processes.all():
        if process.name == "powershell.exe":
            host.machine.processes.end(process)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("how", ["power", "killed"])
@pytest.mark.parametrize("phase", ["checking_connections", "installed"])
def test_what_an_upgrade_stopped_is_started_however_often_that_is_cut_off(
    steady: tuple[Host, wsusfix.Options], how: str, phase: str
) -> None:
    host, chosen = steady
    chosen = dataclasses.replace(chosen, upstream_version="none")

    def cut() -> None:
        host.reboot() if how == "power" else _kill_jobs(host)

    def first() -> None:
        # The upgrade itself, and then the job that was to mend it.
        host.faults.at_phase(cut, phase="starting_services")
        _kill_jobs(host)

    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        host.faults.at_phase(first, phase=phase)
        outcome = server.apply(plan, consent=True)
        assert "byhand" in host.stopped_services
        assert "byhand" in outcome.message
        assert (outcome.failed, outcome.ok) == (True, False)
        proof = server.verify()
        assert not proof.ok
        assert any(check.name == "what an upgrade had stopped" for check in proof.checks)
        # The next run mends that and nothing else; its job is cut off as well, and so on.
        host.faults.at_phase(cut, phase="starting_services")
        second = server.apply(server.plan(chosen, logs=False), consent=True)
        assert statuses(second) == [("StartServices", "failed")]
        assert "byhand" in second.message
        # Not even when everything else is cleaned up.
        server.cleanup()
        third = server.apply(server.plan(chosen, logs=False), consent=True)
        assert statuses(third) == [("StartServices", "done")]
        assert host.stopped_services == ("never",)
        assert [(site.number, site.running) for site in host.sites] == [("1", True), ("7", True), ("8", False)]
        last = server.apply(server.plan(chosen, logs=False), consent=True)
    assert last.ok, str(last)
    assert (host.wsus_version, host.stopped_services) == (SP2, ("never",))


def test_what_setup_left_behind_comes_back_and_counts_however_often_nobody_looks(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202})

    def cut() -> None:
        _other_file_waits(host)
        _kill_jobs(host)

    host.faults.at_phase(cut, phase="installed")
    with connect(host) as server:
        _lose(server, only_upgrade(server.plan(chosen, logs=False)), "stopping")
        _wait_until_cut(server)
        # The job that mends it is cut off as well, and again nobody looks.
        host.faults.at_phase(lambda: _kill_jobs(host), phase="starting_services")
        _lose(server, server.plan(chosen, logs=False), "started")
        _wait_until_cut(server)
        outcome = server.apply(server.plan(chosen, logs=False), consent=True)
        assert statuses(outcome) == [("StartServices", "done")]
        assert outcome.evidence[0].kind == "upgrade"
        assert outcome.evidence[0].exit_code == 5202
        assert any("WSUSSetup.log" in log.name for log in outcome.evidence[0].logs)
        # What setup asked for is not lost with the job that was to write it down.
        assert (outcome.restart_pending, outcome.ok, server.verify().ok) == (True, False, False)
        assert "asked for a restart" in server.plan(chosen, logs=False).blocked[0].reason
    assert (host.stopped_services, nothing_left(host)) == ((), True)


@pytest.mark.usefixtures("hasty")
def test_a_service_that_does_not_start_at_the_end_of_an_upgrade_is_started_by_the_next_run(
    steady: tuple[Host, wsusfix.Options],
) -> None:
    host, chosen = steady
    with connect(host) as server:
        plan = only_upgrade(server.plan(chosen, logs=False))
        host.faults.at_phase(lambda: host.faults.service_stuck("byhand"), phase="checking_connections")
        outcome = server.apply(plan, consent=True)
        assert "not running again: byhand" in outcome.message
        still = server.apply(server.plan(chosen, logs=False), consent=True)
        assert "byhand" in still.message
        assert "wsusfix-kept\\00001.upgrade" in still.steps[0].hint
        host.faults.clear()
        mended = server.apply(server.plan(chosen, logs=False), consent=True)
        assert statuses(mended) == [("StartServices", "done")]
        assert server.verify().ok
    assert host.stopped_services == ("never",)


@pytest.mark.parametrize("killed", [False, True])
def test_a_setup_that_removes_wsus_while_nobody_looks_is_told_by_every_later_run(
    steady: tuple[Host, wsusfix.Options], lab: Lab, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = steady
    chosen = options(lab, setup={"exit_code": 5201, "removes": True})
    if killed:
        _when_removed(monkeypatch, host, lambda: _kill_jobs(host))
    with connect(host) as server:
        _lose(server, server.plan(chosen, logs=False), "stopping")
        _wait_for_the_end(host)
        deadline = time.monotonic() + 60
        while (found := server.job()) is not None and found.active and time.monotonic() < deadline:
            time.sleep(0.05)
        assert host.wsus_version is None
        (backup,) = host.backups
        assert ("byhand" in host.stopped_services) is killed
        if killed:
            # What else it had stopped comes first, WSUS or not.
            started = server.apply(server.plan(chosen, logs=False), consent=True)
            assert statuses(started) == [("StartServices", "done")]
            assert started.message.startswith("WSUS WAS REMOVED by its setup")
            assert host.stopped_services == ("never",)
        outcome = server.apply(server.plan(chosen, logs=False), consent=True)
        assert outcome.message.startswith("WSUS WAS REMOVED by its setup")
        assert backup.path in str(outcome).splitlines()[0]
        assert "RESTORE DATABASE" in str(outcome).splitlines()[0]
        assert outcome.backup == wsusfix.DatabaseBackup(backup.path, None)
        if not killed:
            assert any("WSUSSetup.log" in log.name for log in outcome.evidence[-1].logs)
        server.cleanup()
        assert nothing_left(host)
        assert (server.diagnose(logs=False).verdict, server.verify().ok) == ("unknown", False)
        after = server.apply(server.plan(chosen, logs=False), consent=True)
    assert after.message.startswith("WSUS WAS REMOVED by its setup")
    assert (after.backup, host.backups) == (outcome.backup, (backup,))


def _removed(lab: Lab, host: Host, exit_code: int = 5201) -> None:
    """Let setup remove WSUS, and everything but what is kept be cleaned up."""
    with connect(host) as server:
        chosen = options(lab, setup={"exit_code": exit_code, "removes": True})
        assert server.apply(only_upgrade(server.plan(chosen, logs=False)), consent=True).failed
        server.cleanup()
    assert host.wsus_version is None


@pytest.mark.parametrize(
    ("again", "verdict"),
    [
        ("3.0 RTM", "exposed_rtm"),
        ("3.0 SP1", "exposed_sp1"),
        ("3.0 SP2", "not_affected"),
        ("2.0 SP1", "not_affected"),
    ],
)
def test_a_wsus_that_was_removed_and_has_come_back_is_told_no_more(
    lab: Lab, host: Host, again: str, verdict: str
) -> None:
    # What that setup asked for is over with it.
    _removed(lab, host, exit_code=5202)
    with connect(host) as server:
        lost = server.diagnose(logs=False)
        assert lost.verdict == "unknown"
        assert "its setup has removed it; no backup was made" in lost.why
        (way,) = (note for note in lost.notes if note.startswith(f"install WSUS {RTM} again"))
        assert "a backup of your own; then run again; or, if WSUS is not to come back, say removal_meant" in way
        host.wsus.install(again)
        assert server.diagnose(logs=False).verdict == verdict
        outcome = server.apply(server.plan(wsusfix.Options(), logs=False), consent=True)
        assert "REMOVED" not in str(outcome)
        assert not outcome.restart_pending
        # Any run that ends well writes down that it is back: who removes it after that has done so himself.
        server.cleanup()
        host.wsus.remove()
        host.machine.registry.remove(f"{UNINSTALL_KEY}\\{advisory.WSUS_2_PRODUCT}")
        assert server.diagnose(logs=False).verdict == "not_a_server"


def test_that_wsus_is_not_to_come_back_is_said_once_and_written_down(lab: Lab, host: Host) -> None:
    with connect(host) as server:
        # Where WSUS stands, it means nothing.
        meant = wsusfix.Options(removal_meant=True)
        server.apply(server.plan(meant, logs=False), consent=True)
        assert server.diagnose(logs=False).verdict == "exposed_rtm"
    _removed(lab, host)
    with connect(host) as server:
        (blocked,) = server.plan(wsusfix.Options(), logs=False).blocked
        assert blocked.reason.startswith("WSUS WAS REMOVED by its setup")
        assert blocked.unblock.endswith("if WSUS is not to come back, say removal_meant")
        # A cleanup alone says nothing.
        server.cleanup()
        assert server.diagnose(logs=False).verdict == "unknown"
        plan = server.plan(meant, logs=False)
        assert plan.nothing.startswith("WSUS was removed by its setup, and is not to come back")
        assert server.diagnose(logs=False).verdict == "unknown"
        outcome = server.apply(plan)
        assert (outcome.ok, outcome.changed, outcome.verdict) == (True, False, "not_a_server")
        assert outcome.message.startswith("nothing to do: WSUS was removed by its setup")
        later = server.apply(server.plan(wsusfix.Options(), logs=False))
    assert (later.ok, later.message) == (True, "nothing to do: WSUS is not installed")
    assert any(path.endswith("00001.settled") for path in host.files)


@pytest.mark.usefixtures("hasty")
def test_what_was_stopped_is_started_before_it_is_taken_for_settled_that_wsus_is_gone(
    steady: tuple[Host, wsusfix.Options], lab: Lab
) -> None:
    host, _ = steady
    chosen = options(lab, setup={"exit_code": 5201, "removes": True})
    host.faults.at_phase(lambda: host.faults.service_stuck("byhand"), phase="checking_connections")
    with connect(host) as server:
        server.apply(only_upgrade(server.plan(chosen, logs=False)), consent=True)
        host.faults.clear()
        meant = wsusfix.Options(removal_meant=True)
        first = server.apply(server.plan(meant, logs=False))
        assert statuses(first) == [("StartServices", "done")]
        assert first.message.startswith("WSUS WAS REMOVED")
        assert server.apply(server.plan(meant, logs=False)).ok
    assert host.stopped_services == ("never",)


def test_a_setup_that_leaves_the_console_alone_has_removed_wsus(lab: Lab, host: Host) -> None:
    chosen = options(lab, setup={"exit_code": 5201})
    console = {"InstallType": 2}
    host.faults.at_phase(lambda: host.machine.registry.set(advisory.SETUP_KEY, **console), phase="installed")
    with connect(host) as server:
        outcome = server.apply(only_upgrade(server.plan(chosen, logs=False)), consent=True)
        assert outcome.message.startswith("WSUS WAS REMOVED")
        server.cleanup()
        assert (server.diagnose(logs=False).verdict, server.verify().ok) == ("unknown", False)
        assert server.plan(chosen, logs=False).blocked[0].reason.startswith("WSUS WAS REMOVED")


def test_a_restart_that_setup_asks_for_is_not_forgotten_with_the_job_that_was_killed(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202})

    def cut() -> None:
        _other_file_waits(host)
        _kill_jobs(host)

    host.faults.at_phase(cut, phase="installed")
    with connect(host) as server:
        _lose(server, only_upgrade(server.plan(chosen, logs=False)), "stopping")
        _wait_until_cut(server)
        server.cleanup()
        assert nothing_left(host)
        assert statuses(server.apply(server.plan(chosen, logs=False))) == [("StartServices", "done")]
        proof = server.verify()
        assert (proof.ok, proof.restart_pending) == (False, True)
        assert "asked for a restart" in server.plan(chosen, logs=False).blocked[0].reason
        host.reboot()
        assert (server.verify().ok, server.verify().restart_pending) == (True, False)
        assert server.plan(chosen, logs=False).nothing


@pytest.mark.parametrize("lost", [False, True])
def test_power_that_fails_after_setup_has_asked_for_a_restart_is_that_restart(lab: Lab, host: Host, lost: bool) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    host.faults.reboot_during(phase="installed")

    def a_minute_passes() -> None:
        host.machine.clock_offset += 60

    # Between the restart and the moment in which all is seen to run again.
    host.faults.at_phase(a_minute_passes, phase="starting_services")
    if lost:
        with connect(host) as server:
            plan = server.plan(chosen, logs=False)
            _lose(server, dataclasses.replace(plan, steps=plan.steps[2:]), "stopping")
            _wait_until_cut(server)
            # Something else waits for a restart by now, which has nothing to do with setup.
            _waits(host)
            assert statuses(server.apply(server.plan(chosen, logs=False))) == [("StartServices", "done")]
            outcome = server.apply(server.plan(chosen, logs=False))
        assert outcome.steps == ()
    else:
        outcome = walk_from_upgrade(host, chosen)
        assert statuses(outcome) == [("UpgradeServicePack", "done"), ("Restart", "skipped")]
    assert outcome.ok, str(outcome)
    assert "restart" not in [job.script for job in host.jobs]


def test_a_restart_that_setup_asks_for_is_made_by_the_next_run_though_nothing_is_seen_to_wait(
    lab: Lab, host: Host
) -> None:
    chosen = options(lab, setup={"exit_code": 5202}, reboot="if-needed")
    host.faults.at_phase(host.machine.apply_renames, phase="installed")
    with connect(host) as server:
        _lose(server, only_upgrade(server.plan(chosen, logs=False)), "stopping")
        _wait_for_the_end(host)
        outcome = server.apply(server.plan(chosen, logs=False), consent=True)
    assert outcome.ok, str(outcome)
    assert statuses(outcome) == [("Restart", "done"), ("InstallUpdate", "done"), ("Restart", "skipped")]


@pytest.mark.parametrize("cleaned", [False, True])
def test_what_ran_before_a_restart_is_started_by_the_next_run_where_the_controller_was_lost(
    steady: tuple[Host, wsusfix.Options], lab: Lab, cleaned: bool
) -> None:
    host, _ = steady
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    booted = host.machine.boot_time
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        _lose(server, dataclasses.replace(plan, steps=plan.steps[2:]), "restarting")
        deadline = time.monotonic() + 60
        while host.machine.boot_time <= booted and time.monotonic() < deadline:
            time.sleep(0.01)
        _wait_for_the_end(host)
        assert sorted(host.stopped_services) == ["byhand", "never"]
        if cleaned:
            server.cleanup()
        assert not server.verify().ok
        assert any("before a restart (wsusservice" in note for note in server.diagnose(logs=False).notes)
        plan = server.plan(chosen, logs=False)
        assert "ran before a restart" in str(plan)
        mended = server.apply(plan)
        assert (mended.ok, statuses(mended)) == (True, [("StartServices", "done")])
        assert mended.steps[0].why == "what ran before the restart runs again"
        assert host.stopped_services == ("never",)
        assert [(site.number, site.running) for site in host.sites] == [("1", True), ("7", True), ("8", False)]
        # Once, and never again: what somebody stops later he has stopped himself.
        host.machine.switch_service("byhand", run=False)
        assert server.plan(chosen, logs=False).nothing


def test_a_restart_of_another_controller_is_joined_with_what_ran_before_it(
    steady: tuple[Host, wsusfix.Options], lab: Lab
) -> None:
    host, _ = steady
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    joined = threading.Event()
    # The order is given when the second one has joined.
    host.faults.at_phase(
        lambda: host.faults.at_phase(lambda: bool(joined.wait(60)), phase="started"), phase="starting_services"
    )
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        _lose(server, dataclasses.replace(plan, steps=plan.steps[2:]), "restart as SYSTEM")
        _lose(server, server.plan(chosen, logs=False), "started")

    def join(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState):
            joined.set()

    with connect(host) as server:
        outcome = server.apply(server.plan(chosen, logs=False), on_event=join)
    assert outcome.ok, str(outcome)
    assert statuses(outcome) == [("Restart", "done")]
    assert host.stopped_services == ("never",)
    assert "as before: byhand" in str(outcome)


def test_a_restart_that_did_not_come_leaves_nothing_to_be_started(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    host.faults.restart_refused()
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        assert server.apply(dataclasses.replace(plan, steps=plan.steps[2:]), consent=True).failed
        host.reboot()
        assert server.facts().ran is None
        assert server.plan(chosen, logs=False).nothing


def test_while_a_restart_is_ahead_nothing_is_begun_that_it_would_cut_off_and_nothing_is_cleared_away(
    steady: tuple[Host, wsusfix.Options], lab: Lab
) -> None:
    host, _ = steady
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    late = threading.Event()
    host.machine.on_restart = late.set
    booted = host.machine.boot_time
    patient = wsusfix.Timeouts(restart=1200, stop=5)
    with wsusfix.connect(**host.connection, timeouts=patient) as server:
        plan = server.plan(chosen, logs=False)
        _lose(server, dataclasses.replace(plan, steps=plan.steps[2:]), "restart ordered")
    with connect(host) as another:
        # Windows has been told, and has taken its time.
        assert late.wait(60)
        job = another.facts().job
        assert job is not None
        assert (job.kind, job.active, job.phase) == ("restart", True, "restart_ordered")
        with pytest.raises(wsusfix.RefusedByServerError, match="still running"):
            another.cleanup()
        assert not another.verify().ok
        joined = another.plan(chosen, logs=False)
        began = threading.Timer(0.5, host.reboot)
        began.start()
        outcome = another.apply(joined)
        began.join()
    assert outcome.ok, str(outcome)
    assert host.machine.boot_time > booted
    assert [job.script for job in host.jobs].count("restart") == 1
    assert host.stopped_services == ("never",)


def test_a_restart_that_somebody_calls_off_ends_its_job_and_nothing_is_started_after_the_next(
    steady: tuple[Host, wsusfix.Options], lab: Lab
) -> None:
    host, _ = steady
    chosen = options(lab, "3.0 SP2", setup={"exit_code": 5202}, reboot="if-needed")
    host.machine.on_restart = lambda: None
    with wsusfix.connect(**host.connection, timeouts=wsusfix.Timeouts(restart=2, stop=5)) as server:
        plan = server.plan(chosen, logs=False)
        outcome = server.apply(dataclasses.replace(plan, steps=plan.steps[2:]), consent=True)
        assert statuses(outcome)[-1] == ("Restart", "failed")
        assert "called it off" in outcome.steps[-1].hint
        _wait_for_the_end(host)
        job = server.facts().job
        assert job is not None
        assert not job.active
        host.reboot()
        assert server.facts().ran is None
        assert server.plan(chosen, logs=False).nothing


def test_power_that_fails_before_the_upgrade_or_after_it_leaves_what_stands_and_the_next_run_goes_on(
    lab: Lab, host: Host
) -> None:
    chosen = options(lab)
    for phase in spread(("checking_package", "launching", "installing", "installed"), 2):
        host.faults.reboot_during(phase=phase)
        outcome = walk(host, chosen)
        assert statuses(outcome)[0] == ("CheckPrerequisites", "failed"), phase
        assert "interrupted" in outcome.message
        assert (host.wsus_version, host.stopped_services, host.backups) == (RTM, (), ())

    def in_the_update(phase: str) -> None:
        host.faults.at_phase(lambda: host.faults.reboot_during(phase=phase), phase="starting_services")

    in_the_update("checking_package")
    outcome = walk_from_upgrade(host, chosen)
    assert statuses(outcome) == [("UpgradeServicePack", "done"), ("InstallUpdate", "failed")]
    assert outcome.message.startswith("upgraded to WSUS 3.0 SP1; then failed: ")
    assert (host.wsus_version, host.stopped_services) == (SP1, ())
    for phase in ("launching", "installed"):
        host.faults.reboot_during(phase=phase)
        cut = walk(host, chosen)
        assert "interrupted" in str(cut)
        assert host.stopped_services == ()
    assert walk(host, chosen).ok
    assert host.dll_version == "3.1.6001.66"


def test_power_that_fails_while_the_window_is_waited_for_leaves_everything_as_it_was(lab: Lab, host: Host) -> None:
    opens = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=30)
    host.faults.reboot_during(phase="waiting_for_window")
    outcome = walk(host, options(lab, "3.0 SP2", not_before=opens, not_after=opens + timedelta(hours=1)))
    assert "interrupted in waiting_for_window" in outcome.message
    assert statuses(outcome)[0] == ("CheckPrerequisites", "failed")
    assert (host.wsus_version, host.stopped_services, host.installations, host.backups) == (RTM, (), (), ())


def test_a_backup_that_was_cut_off_is_none_and_makes_room_for_the_next(lab: Lab, host: Host) -> None:
    chosen = options(lab, "3.0 SP2")
    host.database.size = 5_000_000_000
    free = host.machine.files.drive("C:\\").free
    host.faults.reboot_during(phase="verifying_backup")
    assert walk(host, chosen).failed
    assert free - host.machine.files.drive("C:\\").free >= host.database.size
    with connect(host) as server:
        assert server.surroundings().backups == ()
        plan = server.plan(chosen, logs=False)
        assert not [warning for warning in plan.warnings if "backups" in warning]
        outcome = server.apply(plan, consent=True)
        assert server.surroundings().backups == (host.backups[0].path,)
    assert outcome.ok, str(outcome)
    assert outcome.backup == wsusfix.DatabaseBackup(host.backups[0].path, host.database.size)
    assert len([path for path in host.files if path.endswith(".bak")]) == 1


# --- the road of SP1, the window, and what is brought ahead -----------------------------------------------------------


def test_the_same_backup_is_made_before_the_update_on_sp1_when_asked_for(lab: Lab) -> None:
    host = lab.add_server("wsus02", wsus="3.0 SP1")
    host.install_seconds = 0.02
    outcome = walk(host, wsusfix.Options(package=lab.package(size=40_000), backup=True))
    assert outcome.ok, str(outcome)
    assert statuses(outcome) == [("BackUpDatabase", "done"), ("InstallUpdate", "done")]
    (backup,) = host.backups
    assert (backup.verified, outcome.backup) == (True, wsusfix.DatabaseBackup(backup.path, backup.size))
    assert nothing_left(host)


def test_on_sp1_too_the_server_restarts_where_it_may_and_the_road_goes_on(lab: Lab) -> None:
    host = lab.add_server("wsus02", wsus="3.0 SP1")
    host.install_seconds = 0.02
    chosen = wsusfix.Options(package=lab.package(size=40_000, exit_code=3010), reboot="if-needed")
    outcome = walk(host, chosen)
    assert outcome.ok, str(outcome)
    assert statuses(outcome) == [("InstallUpdate", "done"), ("Restart", "done")]
    assert outcome.message == "restarted; fixed and verified"
    assert host.dll_version == "3.1.6001.66"


def test_a_window_that_is_over_keeps_every_job_from_beginning(lab: Lab, host: Host) -> None:
    past = datetime.now(timezone.utc) - timedelta(hours=1)
    outcome = walk(host, options(lab, not_after=past))
    assert "maintenance window was over" in outcome.message
    assert (host.installations, host.backups, host.wsus_version) == ((), (), RTM)


def test_the_job_itself_waits_for_its_window(lab: Lab, host: Host) -> None:
    opens = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=30)
    # Time passes quickly while the job waits.
    host.faults.at_phase(lambda: host.faults.clock_jumps(seconds=1790), phase="waiting_for_window")
    chosen = options(lab, not_before=opens, not_after=opens + timedelta(hours=1), backup=False)
    seen: list[wsusfix.Event] = []
    with connect(host, on_event=seen.append) as server:
        outcome = server.apply(server.plan(chosen, logs=False), consent=True)
    assert outcome.ok, str(outcome)
    assert any("the maintenance window opens at" in str(event) for event in seen)
    # And who says so in so many words upgrades without a backup.
    assert (outcome.backup, host.backups) == (None, ())
    # All was sent before the window opened.
    job = next(number for number, event in enumerate(seen) if isinstance(event, wsusfix.JobState))
    sent = [event.name for event in seen[:job] if isinstance(event, wsusfix.UploadProgress) and not event.resumed]
    assert set(sent) == {"WSUSSetup-x64.exe", "WSUS-KB954960-x64.exe"}
    later = [event for event in seen[job:] if isinstance(event, wsusfix.UploadProgress)]
    assert all(event.resumed == event.total for event in later)
    assert host.installations[0].started >= opens.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_what_is_staged_ahead_is_not_sent_again(lab: Lab, host: Host) -> None:
    chosen = options(lab)
    with connect(host) as server:
        plan = server.plan(chosen, logs=False)
        paths = server.stage(plan)
        assert host.jobs == ()
        sent = host.bytes_received
        events: list[wsusfix.Event] = []
        assert server.stage(plan, on_event=events.append) == paths
        outcome = server.apply(server.plan(chosen, logs=False), consent=True, on_event=events.append)
    assert [path.rpartition("\\")[2] for path in paths] == ["WSUSSetup-x64.exe", "WSUS-KB954960-x64.exe"]
    progress = [event for event in events if isinstance(event, wsusfix.UploadProgress)]
    assert progress
    assert all(event.resumed == event.total for event in progress)
    assert outcome.ok, str(outcome)
    assert host.bytes_received > sent
