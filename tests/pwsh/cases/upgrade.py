"""The cases of the scripts of an upgrade: the look around, and its jobs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from tests.pwsh.cases.stage import Stage, called_off, case, state
from tests.pwsh.shell import hasty
from wsusfix import advisory
from wsusfix.lab import Host
from wsusfix.lab.database import Connection
from wsusfix.lab.filesystem import CLOSED, OPEN, Failure, WindowsError_
from wsusfix.lab.windows import SimulatedWindows, Site, time_text
from wsusfix.scripts.contracts import BACKUP_NAME, KEPT_NAME, UNVERIFIED_NAME
from wsusfix.surroundings import record_parameters

LONG_OVER: Final = "2008-07-15T10:00:00Z"
PIPE: Final = f"np:{advisory.EMBEDDED_PIPE}"
DATABASE: Final = {"server": PIPE, "database": "SUSDB"}
OWN: Final = sorted(advisory.WSUS_PROCESSES)
ROOTS: Final = [advisory.WSUS_SERVICE, *advisory.IIS_SERVICES]
JOB: Final = {"not_before": "", "not_after": "", "event_source": "wsusfix", "audit": "asked by LAB\\admin"}
STRANGER: Final = Connection("DESK7", "4711", "Query Analyzer")


def rtm(stage: Stage, **options: Any) -> Host:
    return stage.server(wsus="3.0 RTM", **options)


def _soon(host: Host) -> str:
    """When a window opens that is not open yet."""
    return time_text(host.machine.now() + 3000)


def around(stage: Stage, host: Host, **changed: Any) -> dict[str, Any]:
    """Ask what is around WSUS."""
    asked = {
        **DATABASE,
        "own_programs": OWN,
        "hierarchy": True,
        "service_roots": ROOTS,
        "paths": ["C:\\WSUS"],
        "backup_folder": BACKUP_NAME,
        "unverified": UNVERIFIED_NAME,
        "seconds": 30,
    }
    return stage.ask(host, "surroundings", **{**asked, **changed})


def packaged(stage: Stage, host: Host, **changed: Any) -> dict[str, Any]:
    """Bring WSUS setup to the server; the parameters that every job takes which runs a package."""
    package: Path = stage.lab.setup_package(**{"size": 20_000, **changed.pop("package", {})})
    path = f"{host.staging_path}\\files\\{package.name}"
    host.files.make_folder(host.staging_path, CLOSED)
    host.files.make_folders(f"{host.staging_path}\\files")
    host.files.create(path, changed.pop("data", package.read_bytes()))
    parameters = {
        **JOB,
        "package": path,
        "package_sha256": hashlib.sha256(package.read_bytes()).hexdigest(),
        "program": "",
        "arguments": advisory.SETUP_ARGUMENTS,
        "roots": list(advisory.MICROSOFT_ROOTS),
        "accept_unverifiable": False,
        "signature_seconds": 30,
        "busy_seconds": 0,
        "still_seconds": 600,
        "log_names": list(advisory.SETUP_LOGS),
        "system_temp": advisory.SYSTEM_TEMP,
    }
    return {**parameters, **changed}


def check(stage: Stage, host: Host, windows: SimulatedWindows | None = None, **changed: Any) -> dict[str, str]:
    changed.setdefault("arguments", advisory.PREREQUISITE_ARGUMENTS)
    return stage.work(host, "check_prerequisites", packaged(stage, host, **changed), windows)


def back_up(stage: Stage, host: Host, windows: SimulatedWindows | None = None, **changed: Any) -> dict[str, str]:
    asked = {
        **JOB,
        **DATABASE,
        "backup_folder": BACKUP_NAME,
        "unverified": UNVERIFIED_NAME,
        "reserve": "1000",
        "backup_seconds": 60,
    }
    return stage.work(host, "back_up_database", {**asked, **changed}, windows)


def upgrade(stage: Stage, host: Host, windows: SimulatedWindows | None = None, **changed: Any) -> dict[str, str]:
    own = {
        **DATABASE,
        "dll": host.wsus.dll_path,
        "rename_key": advisory.RENAME_KEY,
        "rename_value": advisory.RENAME_VALUE,
        **record_parameters(),
        "version": host.wsus_version or "",
        "release": "3.1.",
        "backup": "C:\\a.bak",
        "restart_codes": ["3010", "5202"],
        "service_roots": ROOTS,
        "services": ["wsusservice", "w3svc", "was", "iisadmin", "smtpsvc"],
        "sites": ["1", "2"],
        "stop_seconds": 5,
    }
    own |= {key: changed.pop(key) for key in list(changed) if key in own}
    return stage.work(host, "upgrade", {**packaged(stage, host, **changed), **own}, windows)


def kept_of(stage: Stage, host: Host) -> dict[str, Any]:
    """What facts tell of what the newest upgrade had stopped."""
    return {key: value for key, value in stage.facts(host).items() if key.startswith("upgrade_")}


def restart(stage: Stage, host: Host, windows: SimulatedWindows | None = None, **changed: Any) -> dict[str, str]:
    asked = {**JOB, "busy_seconds": 0, "text": "work on WSUS", "delay_seconds": 600}
    asked |= {"kept_name": KEPT_NAME, "service_roots": ROOTS, "restart_seconds": 0}
    return stage.work(host, "restart", {**asked, **changed}, windows)


class Unreadable(SimulatedWindows):
    """A process that may not read its own parameters."""

    def read_parameters(self, path: str) -> dict[str, Any]:
        raise self.machine.messages.error(Failure.ACCESS_DENIED, path)


def unreadable(host: Host) -> SimulatedWindows:
    return Unreadable(host.machine, host.session().process)


# --- surroundings -----------------------------------------------------------------------------------------------------


@case("surroundings", "a server with everything")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage, os="Windows Server 2003", culture="nb-NO")
    host.services["smtpsvc"] = "running"
    host.machine.needs["smtpsvc"] = ("iisadmin",)
    host.sites.extend([Site("7", "Intranett på sør", running=False)])
    host.wsus.upstream = "wsus-top"
    host.wsus.front_ends = ["a", "b"]
    host.database.own_name = "OLD\\MICROSOFT##SSEE"
    host.database.foreign.append(STRANGER)
    host.database.nested_triggers = False
    host.machine.compressed.add("C:\\")
    host.files.make_folder(f"C:\\WINDOWS\\{BACKUP_NAME}", CLOSED)
    host.files.make_folders(f"C:\\WINDOWS\\{BACKUP_NAME}\\b")
    host.files.create(f"C:\\WINDOWS\\{BACKUP_NAME}\\b\\SUSDB.bak", b"12345")
    host.files.make_folders(f"C:\\WINDOWS\\{BACKUP_NAME}\\c")
    host.files.create(f"C:\\WINDOWS\\{BACKUP_NAME}\\c\\SUSDB.bak", b"12")
    host.files.create(f"C:\\WINDOWS\\{BACKUP_NAME}\\c\\{UNVERIFIED_NAME}", b"")
    answer = around(stage, host)
    assert answer["services"].split("\n") == ["wsusservice", "w3svc", "smtpsvc", "iisadmin"]
    assert answer["sites"] == "1 running Default Web Site\n7 stopped Intranett på sør"
    assert (answer["upstream"], answer["front_ends"]) == ("wsus-top", "a\nb")
    assert (answer["own_name"], answer["network_name"]) == ("OLD\\MICROSOFT##SSEE", "WSUS0\\MICROSOFT##SSEE")
    assert answer["connections"] == "DESK7:  Query Analyzer"
    assert (answer["sysadmin"], answer["nested_triggers"]) == (True, False)
    assert [line.split(" ", 2)[1:] for line in answer["drives"].split("\n")] == [
        ["compressed", "C:\\WSUS"],
        ["compressed", "C:\\WSUS\\UpdateServicesDbFiles\\SUSDB.mdf"],
    ]
    assert answer["backups"] == f"5 C:\\WINDOWS\\{BACKUP_NAME}\\b\\SUSDB.bak"
    return answer


@case("surroundings", "an ordinary server")
def _(stage: Stage) -> dict[str, Any]:
    answer = around(stage, rtm(stage), paths=["\\\\files\\wsus", "C:\\WSUS"])
    assert len(answer["drives"].split("\n")) == 2
    assert (answer["connections"], answer["upstream"], answer["backups"]) == ("", "", "")
    assert (answer["services"], answer["database_size"]) == ("wsusservice\nw3svc\nwas", "400000000")
    assert not [key for key in answer if key.endswith("_trouble") and answer[key]]
    return answer


@case("surroundings", "nothing answers")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus=None)
    answer = around(stage, host)
    assert answer["database_trouble"]
    assert answer["sites_trouble"]
    assert answer["hierarchy_trouble"]
    assert (answer["services"], answer["sites"], answer["front_ends"]) == ("", "", "")
    return answer


@case("surroundings", "a database that is not to be asked, and nothing else either")
def _(stage: Stage) -> dict[str, Any]:
    answer = around(stage, rtm(stage), server="", hierarchy=False, paths=[], service_roots=[])
    assert (answer["database_trouble"], answer["drives"], answer["services"]) == ("", "", "")
    return answer


@case("surroundings", "an account that is no administrator")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage, administrator=False, session_allowed=True)
    host.files.make_folder(f"C:\\Windows\\{BACKUP_NAME}", CLOSED)
    answer = around(stage, host)
    assert "Login failed" in answer["database_trouble"]
    assert answer["backups"] == ""
    return answer


# --- check_prerequisites ----------------------------------------------------------------------------------------------

_CHECK: Final = "started checking_package checking_signature launching installing installed finished"


@case("check_prerequisites", "all is there", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = check(stage, host)
    assert (last["phases"], last["exit_code"], host.event_log[0].failed) == (_CHECK, "0", False)
    assert (host.wsus_version, host.stopped_services) == ("3.0.6000.374", ())
    return last


@case("check_prerequisites", "something is missing", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = check(stage, host, package={"prerequisites": 5216})
    assert (last["exit_code"], host.event_log[0].failed) == ("5216", True)
    assert f"{host.staging_path}\\jobs\\a\\temp\\WSUSPreReqCheck.xml" in list(host.files)
    logs = stage.collect(host)["logs"]
    assert "WSUSPreReqCheck.xml" in logs
    return last


@case("check_prerequisites", "the maintenance window is over", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    return check(stage, rtm(stage), not_after=LONG_OVER)


@case("check_prerequisites", "called off while it waits", "withdrawn")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = check(stage, host, called_off(host), not_before=_soon(host))
    assert host.installations == ()
    return last


@case("check_prerequisites", "no package", "package_missing")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    given = {**packaged(stage, host), "package": "C:\\nowhere.exe", "arguments": "/q /p"}
    return stage.work(host, "check_prerequisites", given)


@case("check_prerequisites", "another package", "package_changed")
def _(stage: Stage) -> dict[str, Any]:
    return check(stage, rtm(stage), data=b"swapped")


@case("check_prerequisites", "a bad signature", "signature_invalid")
def _(stage: Stage) -> dict[str, Any]:
    return check(stage, rtm(stage), package={"signature": "invalid"})


@case("check_prerequisites", "a signature that cannot be checked", "signature_unverifiable")
def _(stage: Stage) -> dict[str, Any]:
    return check(stage, rtm(stage), package={"signature": "unverifiable"})


@case("check_prerequisites", "another installation does not end", "installer_busy")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.installer_busy()
    return check(stage, host)


@case("check_prerequisites", "a program that cannot be run", "not_launched")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.signature("valid")
    data = b"MZ" + bytes(1000)
    return check(stage, host, data=data, package_sha256=hashlib.sha256(data).hexdigest())


@case("check_prerequisites", "parameters that cannot be read", "broken")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    return check(stage, host, unreadable(host))


# --- back_up_database -------------------------------------------------------------------------------------------------


@case("back_up_database", "backed up and read back", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = back_up(stage, host)
    (backup,) = host.backups
    assert last["phases"] == "started asking_database backing_up verifying_backup finished"
    assert (last["path"], last["size"]) == (backup.path, str(backup.size))
    assert (backup.path, backup.verified) == (f"C:\\Windows\\{BACKUP_NAME}\\a\\SUSDB.bak", True)
    assert host.files.entries(f"C:\\Windows\\{BACKUP_NAME}\\a") == ["SUSDB.bak"]
    assert around(stage, host)["backups"] == f"{backup.size} {backup.path}"
    assert host.session().get_folder_trust(f"C:\\Windows\\{BACKUP_NAME}") == ""
    # Beside SYSTEM and Administrators the SQL server's account, and nobody else, may come into the inner folder.
    inner = host.files.own_security(f"C:\\Windows\\{BACKUP_NAME}\\a")
    assert inner is not None
    assert inner.writers == CLOSED.writers | {"S-1-5-20"}
    assert not host.event_log[0].failed
    return last


@case("back_up_database", "what was cut off before it was read back goes, and makes room", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    outer = f"C:\\Windows\\{BACKUP_NAME}"
    host.files.make_folder(outer, CLOSED)
    for name in ("cut", "whole"):
        host.files.make_folders(f"{outer}\\{name}")
        host.files.create(f"{outer}\\{name}\\SUSDB.bak", b"12345", beyond=300_000_000)
    host.files.create(f"{outer}\\cut\\{UNVERIFIED_NAME}", b"")
    host.faults.disk_full(free=200_000_000)
    last = back_up(stage, host)
    assert host.files.entries(outer) == ["a", "whole"]
    return last


@case("back_up_database", "a database on SQL Server of this machine", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage, database="local")
    last = back_up(stage, host, server="WSUS0")
    assert host.backups[0].path == last["path"]
    return last


@case("back_up_database", "the maintenance window is over", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    return back_up(stage, rtm(stage), not_after=LONG_OVER)


@case("back_up_database", "called off while it waits", "withdrawn")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = back_up(stage, host, called_off(host), not_before=_soon(host))
    assert host.backups == ()
    return last


@case("back_up_database", "the maintenance window is waited for", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    opens = time_text(host.machine.now() + 1300)
    last = back_up(stage, host, hasty(host), not_before=opens)
    assert last["phases"].count("waiting_for_window") == 3
    return last


@case("back_up_database", "the database does not answer", "database_not_reached")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.backup_fails("unreachable")
    return back_up(stage, host)


@case("back_up_database", "the SQL server is on another machine", "database_not_reached")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)

    class Elsewhere(SimulatedWindows):
        def get_process_owner(self, process_id: int) -> str:
            return ""

    return back_up(stage, host, Elsewhere(host.machine, host.session().process))


@case("back_up_database", "little room", "no_space")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.disk_full(free=400_000_999)
    last = back_up(stage, host)
    assert last["detail"].endswith(", size of the database: 400000000")
    assert f"C:\\Windows\\{BACKUP_NAME}" not in host.files
    return last


@case("back_up_database", "somebody has made the folder", "folder_not_closed")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.files.make_folder(f"C:\\Windows\\{BACKUP_NAME}", OPEN)
    last = back_up(stage, host)
    assert (last["detail"], host.backups) == ("staging_acl", ())
    return last


@case("back_up_database", "somebody has made the inner folder", "folder_not_closed")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.files.make_folder(f"C:\\Windows\\{BACKUP_NAME}", CLOSED)
    host.files.make_folder(f"C:\\Windows\\{BACKUP_NAME}\\a", OPEN)
    return back_up(stage, host)


@case("back_up_database", "it cannot be written", "backup_failed")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.backup_fails("refused")
    last = back_up(stage, host)
    assert "terminating" in last["detail"]
    assert host.files.entries(f"C:\\Windows\\{BACKUP_NAME}") == []
    assert host.event_log[0].failed
    return last


@case("back_up_database", "it cannot be read back", "backup_not_verified")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.backup_fails("damaged")
    last = back_up(stage, host)
    assert (host.backups, last["path"]) == ((), last["path"])
    return last


@case("back_up_database", "parameters that cannot be read", "broken")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    return back_up(stage, host, unreadable(host))


# --- upgrade ----------------------------------------------------------------------------------------------------------

_UPGRADE: Final = (
    "started checking_package checking_signature stopping checking_connections launching installing installed "
    "starting_services finished"
)


@case("upgrade", "upgraded, and exactly what ran runs again", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage, os="Windows Server 2003")
    host.services["smtpsvc"] = "running"
    host.machine.needs["smtpsvc"] = ("iisadmin",)
    host.services["msftpsvc"] = "stopped"
    host.machine.needs["msftpsvc"] = ("iisadmin",)
    host.sites.extend([Site("2", "by hand", starts=False), Site("3", "not to run", running=False)])
    last = upgrade(stage, host, package={"target": "3.0 SP1"})
    assert (last["phases"], last["exit_code"]) == (_UPGRADE, "0")
    assert (last["version_before"], last["version_after"]) == ("3.0.6000.374", "3.1.6001.65")
    assert (last["there"], last["pending_rename"], last["not_started"]) == ("true", "false", "")
    assert (last["services"], last["sites"]) == ("wsusservice/w3svc/smtpsvc/iisadmin", "1/2")
    assert host.stopped_services == ("msftpsvc",)
    assert [site.running for site in host.sites] == [True, True, False]
    names = [line.split(" ", 2)[2] for line in stage.collect(host)["logs"].split("\n")]
    assert names == [
        "temp\\WSUSSetup.log",
        "temp\\WSUSSetupMsi_080906_2200.log",
        "temp\\system\\WSUSCa_080906_2200.log",
    ]
    assert not host.event_log[0].failed
    kept = kept_of(stage, host)
    assert (kept["upgrade_state"], kept["upgrade_number"], "restart=false\n" in kept["upgrade_end"]) == (
        "closed",
        "1",
        True,
    )
    for line in ("job_id=a", "version=3.0.6000.374", "services=wsusservice/w3svc/smtpsvc/iisadmin", "sites=1/2"):
        assert f"{line}\n" in kept["upgrade_record"]
    assert "idle_sites=3\n" in kept["upgrade_record"]
    assert "backup=C:\\a.bak\n" in kept["upgrade_record"]
    return last


@case("upgrade", "a restart is needed", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = upgrade(stage, host, package={"exit_code": 5202})
    assert (last["exit_code"], last["pending_rename"]) == ("5202", "true")
    assert "restart=true\n" in kept_of(stage, host)["upgrade_end"]
    assert "restart=true\n" in kept_of(stage, host)["upgrade_setup"]
    return last


@case("upgrade", "setup leaves the console alone", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)

    class Leaving(SimulatedWindows):
        def get_installer_exit_code(self, handle: Any) -> str:
            self.machine.registry.set(advisory.SETUP_KEY, InstallType=2)
            return super().get_installer_exit_code(handle)

    last = upgrade(stage, host, Leaving(host.machine, host.session().process), package={"exit_code": 5201})
    kept = kept_of(stage, host)
    assert (last["there"], kept["upgrade_state"], kept["upgrade_end"]) == ("false", "open", "")
    assert "restart=false\n" in kept["upgrade_setup"]
    return last


@case("upgrade", "setup starts what had not run before", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.machine.switch_service("wsusservice", run=False)

    class Starting(SimulatedWindows):
        def get_installer_exit_code(self, handle: Any) -> str:
            self.machine.switch_service("wsusservice", run=True)
            return super().get_installer_exit_code(handle)

    last = upgrade(stage, host, Starting(host.machine, host.session().process))
    assert (last["services"], last["also_running"]) == ("w3svc/was", "wsusservice")
    assert "started besides: wsusservice" in host.event_log[0].text
    return last


@case("upgrade", "setup removes WSUS, and everything else runs again", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = upgrade(stage, host, package={"exit_code": 5201, "removes": True})
    assert (last["there"], last["version_after"], host.wsus_version) == ("false", "", None)
    assert host.stopped_services == ()
    assert host.event_log[0].failed
    # All runs again, and nobody has seen WSUS: that stays open.
    kept = kept_of(stage, host)
    assert (kept["upgrade_state"], kept["upgrade_end"]) == ("open", "")
    return last


@case("upgrade", "a log of an earlier time stays where it is", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    old = "C:\\Windows\\Temp\\WSUSSetup_old.log"
    host.files.create(old, b"old")
    host.machine.clock_offset = 0.0

    class Earlier(SimulatedWindows):
        def get_file_time(self, path: str) -> str | None:
            return LONG_OVER if path == old else super().get_file_time(path)

    last = upgrade(stage, host, Earlier(host.machine, host.session().process))
    assert "WSUSSetup_old" not in stage.collect(host)["logs"]
    return last


@case("upgrade", "the maintenance window is over", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    return upgrade(stage, rtm(stage), not_after=LONG_OVER)


@case("upgrade", "called off while it waits", "withdrawn")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = upgrade(stage, host, called_off(host), not_before=_soon(host))
    assert (host.installations, host.stopped_services) == ((), ())
    assert kept_of(stage, host)["upgrade_state"] == "none"
    return last


@case("upgrade", "the maintenance window ends while connections are waited for", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.database.foreign.append(STRANGER)

    class Leaving(type(hasty(host))):  # type: ignore[misc]
        def wait_seconds(self, seconds: float) -> None:
            super().wait_seconds(seconds + 20)
            self.machine.database.foreign.clear()

    windows = Leaving(host.machine, host.session().process)
    last = upgrade(stage, host, windows, not_after=time_text(host.machine.now() + 10))
    assert (host.installations, host.stopped_services) == ((), ())
    return last


@case("upgrade", "no package", "package_missing")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)

    class Without(SimulatedWindows):
        def test_file(self, path: str) -> bool:
            return not path.endswith(".exe") and super().test_file(path)

    return upgrade(stage, host, Without(host.machine, host.session().process))


@case("upgrade", "another package", "package_changed")
def _(stage: Stage) -> dict[str, Any]:
    return upgrade(stage, rtm(stage), data=b"swapped")


@case("upgrade", "a bad signature", "signature_invalid")
def _(stage: Stage) -> dict[str, Any]:
    return upgrade(stage, rtm(stage), package={"signature": "invalid"})


@case("upgrade", "a signature that cannot be checked", "signature_unverifiable")
def _(stage: Stage) -> dict[str, Any]:
    return upgrade(stage, rtm(stage), package={"signature": "unverifiable"})


@case("upgrade", "another installation does not end", "installer_busy")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.installer_busy()
    return upgrade(stage, host)


@case("upgrade", "a program that cannot be run", "not_launched")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.signature("valid")
    data = b"MZ" + bytes(1000)
    last = upgrade(stage, host, data=data, package_sha256=hashlib.sha256(data).hexdigest())
    assert host.stopped_services == ()
    return last


@case("upgrade", "another WSUS than was planned for", "other_version")
def _(stage: Stage) -> dict[str, Any]:
    return upgrade(stage, rtm(stage), version="3.0.6000.318")


@case("upgrade", "a service that nobody named", "other_services")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = upgrade(stage, host, services=["WSUSSERVICE", "w3svc"])
    assert (last["detail"], "stopping" in last["phases"], host.stopped_services) == ("was", False, ())
    return last


@case("upgrade", "a site that nobody named", "other_sites")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.sites.append(Site("9", "Payroll"))
    last = upgrade(stage, host)
    assert (last["detail"], "stopping" in last["phases"], host.stopped_services) == ("Payroll", False, ())
    return last


@case("upgrade", "somebody has made the folder that keeps what was stopped", "kept_refused")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.files.make_folder(f"C:\\Windows\\{KEPT_NAME}", OPEN)
    last = upgrade(stage, host)
    assert (last["detail"], "stopping" in last["phases"], host.stopped_services) == ("staging_acl", False, ())
    return last


@case("upgrade", "a service does not stop", "not_stopped")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.service_stuck("was")
    last = upgrade(stage, host)
    assert last["detail"].startswith("was: 0x")
    assert (host.installations, host.stopped_services) == ((), ())
    return last


@case("upgrade", "a service does not start again", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)

    class Sticking(SimulatedWindows):
        def start_installer(self, program: str, arguments: str, temp: str) -> dict[str, object]:
            host.faults.service_stuck("wsusservice")
            return super().start_installer(program, arguments, temp)

    last = upgrade(stage, host, Sticking(host.machine, host.session().process))
    assert last["not_started"].startswith("wsusservice: 0x")
    assert host.stopped_services == ("wsusservice",)
    assert kept_of(stage, host)["upgrade_state"] == "stopped"
    return last


@case("upgrade", "somebody else is connected", "connections")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.database.foreign.append(STRANGER)
    last = upgrade(stage, host, hasty(host))
    assert last["detail"] == "DESK7:  Query Analyzer"
    assert (host.installations, host.stopped_services) == ((), ())
    return last


@case("upgrade", "a process of WSUS outlives its service", "connections")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    hung = host.machine.processes.start("w3wp.exe", "w3wp.exe -ap Other", host.database.account)
    host.database.foreign.append(Connection(host.machine.name, str(hung.pid), ".Net SqlClient"))
    last = upgrade(stage, host, hasty(host))
    assert "w3wp.exe .Net SqlClient" in last["detail"]
    assert (host.installations, host.stopped_services) == ((), ())
    return last


@case("upgrade", "what is asked of the database fails, and everything runs again", "broken")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.backup_fails("unreachable")
    last = upgrade(stage, host)
    assert "network-related" in last["detail"]
    assert (last["phases"].split()[-2:], host.stopped_services) == (["starting_services", "finished"], ())
    return last


# --- start_services ---------------------------------------------------------------------------------------------------


def start(stage: Stage, host: Host, windows: SimulatedWindows | None = None, **changed: Any) -> dict[str, str]:
    asked = {
        "services": "wsusservice/w3svc/was",
        "sites": "1/2",
        "idle_sites": "3",
        "record": "",
        "ran": "",
        "restart": False,
        "rename_key": advisory.RENAME_KEY,
        "rename_value": advisory.RENAME_VALUE,
        **record_parameters(),
        "stop_seconds": 5,
        "event_source": "wsusfix",
        "audit": "asked by LAB\\admin",
    }
    return stage.work(host, "start_services", {**asked, **changed}, windows)


@case("start_services", "started again", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.sites.extend([Site("2", "by hand", starts=False), Site("3", "stopped by hand")])
    for name in host.services:
        host.machine.switch_service(name, run=False)
    kept = f"C:\\Windows\\{KEPT_NAME}"
    host.files.make_folder(kept, CLOSED)
    host.files.create(f"{kept}\\00003.upgrade", b"time=2008-07-15T10:00:00Z\nend\n")
    assert kept_of(stage, host)["upgrade_state"] == "stopped"
    waits = {advisory.RENAME_VALUE: "\\??\\C:\\new.dll\n\\??\\C:\\old.dll"}
    host.machine.registry.set(advisory.RENAME_KEY, **waits)
    last = start(stage, host, record="3", restart=True)
    assert (last["not_started"], host.stopped_services) == ("", ())
    assert [site.running for site in host.sites] == [True, True, False]
    assert (last["services"], last["sites"], last["idle_sites"]) == ("wsusservice/w3svc/was", "1/2", "3")
    told = kept_of(stage, host)
    assert (told["upgrade_state"], told["upgrade_number"]) == ("closed", "3")
    assert "\nwaits=\\??\\C:\\new.dll \\??\\C:\\old.dll\nend\n" in told["upgrade_end"]
    assert "\nrestart=true\nboot=2" in told["upgrade_end"]
    return last


@case("start_services", "one is gone, one does not start, and sites cannot be told", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    for name in host.services:
        host.machine.switch_service(name, run=False)
    del host.services["w3svc"]
    host.faults.service_stuck("was")
    kept = f"C:\\Windows\\{KEPT_NAME}"
    host.files.make_folder(kept, CLOSED)
    host.files.create(f"{kept}\\00004.upgrade", b"time=2008-07-15T10:00:00Z\nend\n")
    host.files.create(f"{kept}\\00005.upgrade", b"not whole")
    last = start(stage, host, record="4")
    assert (kept_of(stage, host)["upgrade_state"], kept_of(stage, host)["upgrade_number"]) == ("stopped", "4")
    assert last["not_started"].startswith("was: 0x")
    assert "sites: " in last["not_started"]
    assert host.event_log[0].failed
    return last


@case("start_services", "after a restart", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    kept = f"C:\\Windows\\{KEPT_NAME}"
    host.files.make_folder(kept, CLOSED)
    host.files.create(f"{kept}\\00007.restart", b"time=2008-07-15T10:00:00Z\nend\n")
    host.files.create(f"{kept}\\00008.restart", b"not whole")
    host.machine.switch_service("wsusservice", run=False)
    last = start(stage, host, ran="7")
    assert (last["not_started"], stage.facts(host)["ran_number"]) == ("", "")
    assert host.stopped_services == ()
    return last


@case("start_services", "after a restart, and one does not start", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    kept = f"C:\\Windows\\{KEPT_NAME}"
    host.files.make_folder(kept, CLOSED)
    host.files.create(f"{kept}\\00007.restart", b"time=2008-07-15T10:00:00Z\nend\n")
    host.machine.switch_service("wsusservice", run=False)
    host.faults.service_stuck("wsusservice")
    last = start(stage, host, ran="7")
    assert last["not_started"].startswith("wsusservice: 0x")
    assert stage.facts(host)["ran_number"] == "7"
    return last


@case("start_services", "nothing had run", "done")
def _(stage: Stage) -> dict[str, Any]:
    return start(stage, rtm(stage), services="", sites="", idle_sites="")


@case("start_services", "parameters that cannot be read", "broken")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    return start(stage, host, unreadable(host))


# --- restart ----------------------------------------------------------------------------------------------------------


def kept_before_restart(host: Host) -> str:
    """What the job wrote down of what ran."""
    return (host.files.read(f"C:\\Windows\\{KEPT_NAME}\\00001.restart") or b"").decode()


@case("restart", "Windows is told to, and does not", "still_up")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    ordered: list[float] = []

    class Told(type(hasty(host))):  # type: ignore[misc]
        def start_restart(self, text: str, seconds: int) -> str:
            assert (text, seconds) == ("work on WSUS", 600)
            assert "\nend\n" in kept_before_restart(host)
            ordered.append(self.machine.now())
            return ""

    host.sites.extend([Site("2", "by hand", starts=False), Site("3", "not to run", running=False)])
    last = restart(stage, host, Told(host.machine, host.session().process), restart_seconds=1200)
    assert (last["phases"], last["event_logged"]) == ("started restarting restart_ordered finished", "true")
    # So long it is at work, and no longer is anything to be started again after a restart.
    assert 1200 <= host.machine.now() - ordered[0] < 1300
    assert stage.facts(host)["ran_number"] == ""
    lists = "job_id=a\nservices=wsusservice/w3svc/was\nsites=1/2\nidle_sites=3\nend\n"
    assert lists in kept_before_restart(host)
    assert f"\nboot={stage.facts(host)['boot_time']}\n" in kept_before_restart(host)
    return last


@case("restart", "nothing can be written down once it is ordered", "still_up")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)

    class Full(SimulatedWindows):
        ordered = False

        def start_restart(self, text: str, seconds: int) -> str:
            self.ordered = True
            return ""

        def add_text_file(self, path: str, text: str) -> bool:
            if self.ordered and "phase=restart_ordered" in text:
                raise WindowsError_("the disk is full")
            return super().add_text_file(path, text)

    last = restart(stage, host, Full(host.machine, host.session().process))
    assert last["phases"] == "started restarting finished"
    return last


@case("restart", "somebody has made the folder that keeps what ran", "still_up")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.files.make_folder(f"C:\\Windows\\{KEPT_NAME}", OPEN)

    class Told(SimulatedWindows):
        def start_restart(self, text: str, seconds: int) -> str:
            return ""

    last = restart(stage, host, Told(host.machine, host.session().process))
    assert stage.facts(host)["ran_number"] == ""
    return last


@case("restart", "the sites cannot be told", "still_up")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    del host.services["w3svc"]

    class Told(SimulatedWindows):
        def start_restart(self, text: str, seconds: int) -> str:
            return ""

    last = restart(stage, host, Told(host.machine, host.session().process))
    assert "services=wsusservice/was\nsites=\nidle_sites=\nend\n" in kept_before_restart(host)
    return last


@case("restart", "what ran cannot be written down", "still_up")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)

    class Told(SimulatedWindows):
        def start_restart(self, text: str, seconds: int) -> str:
            return ""

        def add_text_file(self, path: str, text: str) -> bool:
            if path.endswith(".restart"):
                raise WindowsError_("the disk is full")
            return super().add_text_file(path, text)

    last = restart(stage, host, Told(host.machine, host.session().process))
    assert (last["event_logged"], stage.facts(host)["ran_number"]) == ("true", "")
    return last


@case("restart", "Windows refuses", "not_restarted")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.restart_refused()
    last = restart(stage, host)
    assert "exit code 5" in last["detail"]
    assert host.files.is_file(f"C:\\Windows\\{KEPT_NAME}\\00001.restart")
    assert stage.facts(host)["ran_number"] == ""
    return last


@case("restart", "the maintenance window is over", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    return restart(stage, rtm(stage), not_after=LONG_OVER)


@case("restart", "called off while it waits", "withdrawn")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    last = restart(stage, host, called_off(host), not_before=_soon(host))
    assert last["phases"] == "started waiting_for_window withdrawn finished"
    assert not host.files.is_folder(f"C:\\Windows\\{KEPT_NAME}")
    return last


@case("restart", "the maintenance window is waited for", "still_up")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)

    class Told(type(hasty(host))):  # type: ignore[misc]
        def start_restart(self, text: str, seconds: int) -> str:
            assert self.machine.now() >= opens
            return ""

    # Times travel as whole seconds.
    opens = int(host.machine.now()) + 100
    last = restart(stage, host, Told(host.machine, host.session().process), not_before=time_text(opens))
    assert last["phases"] == "started waiting_for_window window_open restarting restart_ordered finished"
    return last


@case("restart", "another installation does not end", "installer_busy")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    host.faults.installer_busy()
    return restart(stage, host)


@case("restart", "the order cannot be given", "broken")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)

    class Broken(SimulatedWindows):
        def start_restart(self, text: str, seconds: int) -> str:
            raise WindowsError_("no such program")

    return restart(stage, host, Broken(host.machine, host.session().process))


@case("restart", "a second start finds the token gone", "")
def _(stage: Stage) -> dict[str, Any]:
    host = rtm(stage)
    folder = stage.job(host, state("abandoned"), kind="restart")
    result = stage.shell.work(host, f"{folder}\\job.ps1", None, "restart")
    assert (result.state, result.output, result.errors) == ("Completed", [], [])
    assert host.files.entries(f"{folder}\\state") == ["00001.txt"]
    return {"reason": ""}
