"""The modules in this very process, against simulated servers: what they answer in every case that a playbook meets.

Ansible's own way to hand a module its arguments in tests came with ansible-core 2.19; older ones skip.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import wsusfix
from tests.ansible.collection import load
from tests.wire.servers import wait_until
from wsusfix.lab import Host, Lab
from wsusfix.remote import job as jobs
from wsusfix.remote.job import Job

testing = pytest.importorskip("ansible.module_utils.testing", reason="needs ansible-core 2.19 or later")

Asked = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Asked:
    """Run a module with arguments, and return what it answers."""

    def run(name: str = "wsus_kb954960", /, *, server: Host | None = None, check: bool = False, **more: Any) -> Any:
        reach = {} if server is None else server.connection
        arguments = {**reach, **more, "_ansible_check_mode": check}
        with testing.patch_module_args(arguments), pytest.raises(SystemExit):
            load(f"modules.{name}").main()
        written = capsys.readouterr().out
        assert server is None or str(server.connection["password"]) not in written
        return json.loads(written)

    return run


def _listens(host: Host) -> bool:
    with socket.socket() as client:
        return client.connect_ex((host.connection["host"], host.connection["port"])) == 0


def test_without_consent_nothing_is_changed_and_a_check_says_so(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("consent", wsus="3.0 SP1")
    package = str(estate.package("WSUS-KB954960-x64.exe"))
    checked = ask(server=host, package=package, check=True)
    assert checked["changed"] is True
    assert "consent: true" in json.dumps(checked["warnings"])
    told = ask(server=host, package=package)
    assert told["failed"] is True
    assert told["error"]["type"] == "ConsentError"
    assert "consent: true" in told["msg"]
    assert told["plan"]["irreversible"] is True
    assert host.jobs == ()


def test_a_failed_installation_fails_with_the_reason_and_is_cleared_away_when_asked(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("failing", wsus="3.0 SP1")
    told = ask(server=host, package=str(estate.package("WSUS-KB954960-x64.exe", exit_code=1603)), consent=True)
    assert told["failed"] is True
    assert "exit code 1603" in told["msg"]
    assert told["outcome"]["evidence"][0]["exit_code"] == 1603
    assert (told["changed"], told["verdict"]) == (False, "exposed_sp1")
    assert "stay for the next run" in json.dumps(told["warnings"])
    assert ask(server=host, state="cleaned", check=True)["changed"] is True
    assert [path for path in host.files if "wsusfix" in path.lower()]
    cleaned = ask(server=host, state="cleaned")
    assert cleaned["changed"] is True
    assert cleaned["removed"]
    assert not [path for path in host.files if "wsusfix" in path.lower()]
    assert ask(server=host, state="cleaned")["changed"] is False


def test_a_change_is_called_off_while_its_job_waits_and_never_later(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("waits", wsus="3.0 SP1")
    host.machine.pace = 0.001
    for check in (True, False):
        told = ask(server=host, state="withdrawn", check=check)
        assert (told["failed"], told.get("changed", False)) == (True, False)
        assert "job" in told["msg"]
    opens = datetime.now(timezone.utc) + timedelta(hours=5)

    def lose(event: wsusfix.Event) -> None:
        if isinstance(event, wsusfix.JobState) and event.phase == "waiting_for_window":
            raise KeyboardInterrupt

    chosen = wsusfix.Options(package=estate.package("WSUS-KB954960-x64.exe"), not_before=opens)
    with wsusfix.connect(**host.connection) as server, pytest.raises(KeyboardInterrupt):
        server.apply(server.plan(chosen, logs=False), consent=True, on_event=lose)
    assert ask(server=host, state="withdrawn", check=True)["changed"] is True
    assert not host.jobs[0].ended
    told = ask(server=host, state="withdrawn")
    assert told["changed"] is True
    assert (told["withdrawal"]["kind"], told["withdrawal"]["ended"]) == ("install_update", True)
    for check in (True, False):
        assert ask(server=host, state="withdrawn", check=check)["changed"] is False
    assert (host.installations, host.dll_version) == ((), "3.1.6001.65")
    assert ask(server=host, state="cleaned")["changed"] is True


def test_what_cannot_be_removed_is_a_warning(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("held", wsus="3.0 SP1")
    package = estate.package("WSUS-KB954960-x64.exe", exit_code=1603)
    assert ask(server=host, package=str(package), consent=True)["failed"] is True
    held = next(path for path in host.files if path.endswith(package.name))
    lock = host.files.lock(held)
    checked = ask(server=host, state="cleaned", check=True)
    assert (checked["changed"], checked["removed"], checked["verdict"]) == (True, [], "exposed_sp1")
    told = ask(server=host, state="cleaned")
    assert told["changed"] is True
    assert (told["verdict"], told["exposed"], told["restart_pending"]) == ("exposed_sp1", True, False)
    warnings = json.dumps(told["warnings"]).replace("\\\\", "\\")
    assert "could not be removed: " in warnings
    assert held.lower() in warnings.lower()
    assert held in host.files
    host.files.unlock(lock)
    told = ask(server=host, state="cleaned")
    assert told["changed"] is True
    assert not [path for path in host.files if "wsusfix" in path.lower()]


def test_an_error_in_the_middle_says_what_was_begun_and_that_it_changed_something(
    estate: Lab, ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = estate.add_server("slow", wsus="3.0 SP1")
    host.faults.installer_hangs()
    # Long enough for the job to come to the installer.
    within = 6 if estate.engine is None else 30
    package = str(estate.package("WSUS-KB954960-x64.exe"))
    told = ask(server=host, package=package, consent=True, timeouts={"job": within})
    assert (told["failed"], told["error"]["type"], told["error"]["unreached"]) == (True, "DeadlineError", False)
    assert told["changed"] is True
    assert any("upload" in event for event in told["events"])
    assert any("installing" in event for event in told["events"])
    # The job goes on there, and whoever comes next joins it: the installer ends when that has happened.
    follow = jobs.follow

    def followed(*given: Any, **named: Any) -> Job:
        host.machine.installer_hangs = False
        return follow(*given, **named)

    monkeypatch.setattr(jobs, "follow", followed)
    told = ask(server=host, package=package, consent=True)
    assert ("failed" in told, told["changed"], len(host.installations)) == (False, True, 1)
    again = ask(server=host, package=package, consent=True)
    assert (again["changed"], [event for event in again["events"] if ": job" in event or ": upload" in event]) == (
        False,
        [],
    )


def test_what_was_done_before_an_error_is_in_the_result(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("halfway", wsus="3.0 SP1")
    host.faults.at_phase(host.faults.task_scheduler_stopped, phase="verifying_backup")
    told = ask(server=host, package=str(estate.package("WSUS-KB954960-x64.exe")), consent=True, backup=True)
    assert (told["failed"], told["error"]["type"]) == (True, "RefusedByServerError")
    assert [(step["step"], step["status"]) for step in told["outcome"]["steps"]] == [("BackUpDatabase", "done")]
    assert told["outcome"]["backup"]["path"] == host.backups[0].path
    assert (told["outcome"]["ok"], told["changed"], told["verdict"]) == (False, True, "exposed_sp1")


def test_a_proxy_with_a_password_is_refused_and_shown_nowhere(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("proxy", wsus="3.0 SP1")
    reach = {**host.connection, "proxy": "http://eva:Pr0xy-Geheim@proxy:3128"}
    for name in ("host", ""):
        told = ask("wsus_kb954960_info", **{key: value for key, value in reach.items() if key != name})
        assert told["failed"] is True
        assert "Pr0xy-Geheim" not in json.dumps(told)
        assert "eva:" not in json.dumps(told)
    assert "must not carry a user name or password" in told["msg"]
    assert "without" in told["error"]["hint"]


def test_a_restart_that_is_pending_is_no_failure_until_it_is_verified(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("restart", wsus="3.0 SP1")
    told = ask(server=host, package=str(estate.package("WSUS-KB954960-x64.exe", exit_code=3010)), consent=True)
    assert "failed" not in told, told["msg"]
    assert (told["changed"], told["restart_pending"]) == (True, True)
    assert "a restart is pending" in told["diff"]["after"]
    proof = ask(server=host, state="verified")
    assert proof["failed"] is True
    assert proof["restart_pending"] is True
    assert proof["verification"]["ok"] is False
    host.reboot(0)
    wait_until(lambda: _listens(host))
    assert ask(server=host, state="verified")["verification"]["ok"] is True


def test_what_the_library_refuses_is_a_plain_sentence(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("usage", wsus="3.0 SP1")
    for arguments, kind in (
        ({"package": "/no/such/file.exe"}, "PackageError"),
        ({"package_sha256": "xyz"}, "UsageError"),
        ({"encryption": "auto"}, "UsageError"),
        ({"not_before": "tomorrow"}, "UsageError"),
        ({"not_after": "2008-09-06T22:00"}, "UsageError"),
        ({"timeouts": {"job": -1}}, "UsageError"),
        ({"password": "Wr0ng-Geheim"}, "AuthenticationError"),
    ):
        told = ask("wsus_kb954960_info", **{**host.connection, **arguments})
        assert told["failed"] is True
        assert told["error"]["type"] == kind
        assert host.connection["host"] in told["msg"]
        assert "Wr0ng-Geheim" not in json.dumps(told)


def test_a_missing_parameter_comes_from_the_environment(
    estate: Lab, ask: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = estate.add_server("environment", wsus="3.0 SP1 KB954960")
    for name, value in {**host.connection, "timeouts": json.dumps({"script": 60, "job": 90})}.items():
        monkeypatch.setenv(f"WSUSFIX_{name.upper()}", str(value))
    told = ask("wsus_kb954960_info")
    assert told["verdict"] == "fixed"
    monkeypatch.setenv("WSUSFIX_TIMEOUTS", "script=60,job=-1")
    assert "time out job" in ask("wsus_kb954960_info")["msg"]
    monkeypatch.delenv("WSUSFIX_PASSWORD")
    assert "password" in ask("wsus_kb954960_info")["msg"]


def test_without_the_library_the_module_says_what_to_install(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load("module_utils.kb954960"), "WITHOUT_LIBRARY", "ImportError: no wsusfix")
    told = ask(host="wsus01", username="LAB\\admin", password="Geheim-7", state="verified")
    assert "Failed to import the required Python library (wsusfix)" in told["msg"]


def test_every_option_of_the_upgrade_reaches_the_plan(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("rtm", wsus="3.0 RTM")
    told = ask(
        server=host,
        check=True,
        consent=True,
        package=str(estate.package("WSUS-KB954960-x64.exe", size=40_000)),
        rtm="upgrade",
        upgrade_package=str(estate.setup_package(target="3.0 SP1", size=40_000)),
        upstream_version="none",
        reboot="if-needed",
        backup=False,
        not_before="2008-09-06T22:00+02:00",
    )
    steps = [step["name"] for step in told["plan"]["steps"]]
    assert steps == ["CheckPrerequisites", "UpgradeServicePack", "Restart", "InstallUpdate", "Restart"]
    assert told["changed"] is True
    assert "UpgradeServicePack" in told["diff"]["after"]
    assert host.jobs == ()


def test_a_server_that_is_worked_around_is_verified_and_still_has_the_fault(estate: Lab, ask: Asked) -> None:
    host = estate.add_server("reset", wsus="3.0 RTM")
    told = ask(server=host, consent=True)
    assert "failed" not in told, told["msg"]
    assert (told["changed"], told["worked_around"], told["verdict"]) == (True, True, "exposed_rtm")
    assert "worked around" not in told["diff"]["before"]
    assert "worked around: yes" in told["diff"]["after"]
    proof = ask(server=host, state="verified")
    assert (proof["worked_around"], proof["verification"]["ok"]) == (True, True)
    assert ask(server=host, consent=True)["changed"] is False
