"""WSUS setup in the lab refuses what the real one refuses, by the state of the server, and says so by its exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wsusfix.lab import Host, Lab
from wsusfix.lab.database import Connection
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.scheduler import SYSTEM, Process

STRANGER = Connection("DESK7", "4711", "Query Analyzer")


def run(lab: Lab, host: Host, arguments: str = "/q /g", *, as_system: bool = True, **package: Any) -> int | None:
    """Run setup on the server as a job would, with WSUS stopped, and return its exit code."""
    machine = host.machine
    path = f"C:\\{len(list(host.files))}.exe"
    host.files.create(path, lab.setup_package(size=20_000, **package).read_bytes())
    host.files.make_folders("C:\\temp")
    token = SYSTEM if as_system else host.session().process.token
    parent = machine.processes.start("powershell.exe", "powershell.exe", token)
    for name in ("wsusservice", "w3svc"):
        machine.switch_service(name, run=False)
    assert machine.programs is not None
    started: Process = machine.programs.start(machine, parent, path, arguments, "C:\\temp")
    assert started.wait(parent, 20.0)
    return started.exit_code


def server(lab: Lab, **options: Any) -> Host:
    host = lab.add_server(f"wsus{len(lab.hosts)}", **{"wsus": "3.0 RTM", **options})
    host.install_seconds = 0.01
    return host


def old_sql(host: Host) -> None:
    host.database.version = "8.00.2039"


def no_triggers(host: Host) -> None:
    host.database.nested_triggers = False


def little_space(host: Host) -> None:
    host.faults.disk_full(free=900_000_000)


def nothing(host: Host) -> None:
    return


@pytest.mark.parametrize(
    ("code", "state", "options", "how"),
    [
        (5200, nothing, {"arch": "x86"}, {"arch": "x64"}),
        (5200, nothing, {}, {"as_system": False}),
        (5201, nothing, {"wsus": None}, {}),
        (5203, nothing, {}, {"arguments": "/q /g CONTENT_DIR=D:\\"}),
        (5204, old_sql, {}, {}),
        (5205, no_triggers, {}, {}),
        (5211, little_space, {}, {}),
        (5216, nothing, {"os": "Windows Server 2008 R2", "wsus": "3.0 SP2"}, {"target": "3.0 SP1"}),
        (5217, nothing, {"wsus": "2.0 SP1", "os": "Windows Server 2003"}, {}),
        (5218, nothing, {}, {"arguments": "/q"}),
        (5205, no_triggers, {}, {"arguments": "/q /p"}),
        (5216, nothing, {}, {"arguments": "/q /p", "prerequisites": 5216}),
    ],
)
def test_setup_refuses_by_the_state_of_the_server_and_changes_nothing(
    lab: Lab, code: int, state: Callable[[Host], None], options: dict[str, Any], how: dict[str, Any]
) -> None:
    host = server(lab, **options)
    state(host)
    version = host.wsus_version
    assert run(lab, host, **how) == code
    assert host.wsus_version == version


def test_a_check_of_the_prerequisites_changes_nothing(lab: Lab) -> None:
    host = server(lab)
    assert run(lab, host, "/q /p") == 0
    assert host.wsus_version == "3.0.6000.374"


@pytest.mark.parametrize(("target", "version"), [("3.0 SP1", "3.1.6001.65"), ("3.0 SP2", "3.2.7600.226")])
def test_setup_upgrades_where_nothing_speaks_against_it(lab: Lab, target: str, version: str) -> None:
    host = server(lab)
    assert run(lab, host, target=target) == 0
    assert host.wsus_version == version


@pytest.mark.parametrize("how", ["connected", "renamed"])
def test_what_makes_setup_fail_in_its_middle_removes_wsus(lab: Lab, how: str) -> None:
    host = server(lab)
    if how == "connected":
        host.database.foreign.append(STRANGER)
    else:
        host.database.own_name = "OLD\\MICROSOFT##SSEE"
    assert run(lab, host) == 5201
    assert (host.wsus_version, host.dll_version) == (None, None)
    assert "wsusservice" not in host.services


# --- the database -----------------------------------------------------------------------------------------------------


def test_a_backup_is_written_by_the_account_of_the_sql_server_and_counts_while_it_lies_there(lab: Lab) -> None:
    host = server(lab)
    with pytest.raises(WindowsError_, match="Operating system error 5"):
        host.database.back_up("C:\\Windows\\SUSDB.bak")
    host.session().new_shared_folder("C:\\Windows\\kept", host.database.account.sid)
    path = "C:\\Windows\\kept\\SUSDB.bak"
    host.database.back_up(path)
    assert [backup.verified for backup in host.backups] == [False]
    host.database.read_back(path)
    assert [(backup.path, backup.verified, backup.version) for backup in host.backups] == [(path, True, "3.0.6000.374")]
    host.files.append(path, b"x")
    with pytest.raises(WindowsError_, match="incorrectly formed"):
        host.database.read_back(path)
    host.files.remove_file(path)
    assert host.backups == ()


@pytest.mark.parametrize(
    ("place", "asked", "answers"),
    [
        ("embedded", "np:\\\\.\\pipe\\mssql$microsoft##ssee\\sql\\query", True),
        ("embedded", "WSUS0\\MICROSOFT##SSEE", False),
        ("local", "WSUS0", True),
        ("remote", "SQL01", False),
    ],
)
def test_a_database_lets_in_whoever_asks_for_it_as_it_is_reached(
    lab: Lab, place: str, asked: str, answers: bool
) -> None:
    host = server(lab, database=place)
    if answers:
        host.database.ask(asked)
        return
    with pytest.raises(WindowsError_):
        host.database.ask(asked)


def test_connections_of_wsus_itself_vanish_with_its_services(lab: Lab) -> None:
    host = server(lab)
    host.database.foreign.append(STRANGER)
    assert len(host.database.connections) == 3
    for name in ("wsusservice", "w3svc"):
        host.machine.switch_service(name, run=False)
    assert list(host.database.connections) == [STRANGER]


def test_services_stop_with_what_they_need_and_start_with_it(lab: Lab) -> None:
    host = server(lab)
    machine = host.machine
    assert machine.dependents("was") == ["w3svc"]
    assert machine.switch_service("was", run=False) == ""
    assert (host.stopped_services, host.sites[0].running) == (("w3svc", "was"), False)
    assert machine.switch_service("w3svc", run=True) == ""
    assert (host.stopped_services, host.sites[0].running) == ((), True)
    assert machine.switch_service("nobody", run=True)
    host.faults.service_stuck("was")
    assert "Time out" in machine.switch_service("was", run=False)
    host.faults.clear()
    assert machine.switch_service("was", run=False) == ""
