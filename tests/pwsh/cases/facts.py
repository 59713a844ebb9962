"""The cases of ``facts``."""

from __future__ import annotations

from typing import Any

from tests.pwsh.cases.stage import Stage, case, state
from wsusfix.facts import probe_parameters
from wsusfix.lab.filesystem import CLOSED, WindowsError_
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.options import Timeouts


@case("facts", "a server with everything")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(
        os="Small Business Server 2003",
        neighbours=("configmgr", "essentials"),
        pending_restart=True,
        execution_policy="AllSigned",
        culture="nb-NO",
    )
    host.machine.rename_at_restart("C:\\Windows\\ny-å.dll", "C:\\Windows\\gammel.dll")
    answer = stage.facts(host)
    assert answer["neighbours"] == "configmgr\nessentials"
    assert answer["restart_renames"] == "\\??\\C:\\Windows\\ny-å.dll\n!\\??\\C:\\Windows\\gammel.dll"
    assert answer["dll_path"].startswith("C:\\Programfiler\\")
    assert (answer["culture"], answer["execution_policy"]) == ("nb-NO", "AllSigned")
    assert answer["service_wsusservice"] == "running"
    assert answer["powershell_version"] == "2.0"
    return answer


@case("facts", "group policy allows no script, or some")
def _(stage: Stage) -> dict[str, Any]:
    assert stage.facts(stage.server(execution_policy="RemoteSigned"))["execution_policy"] == "RemoteSigned"
    answer = stage.facts(stage.server(execution_policy="Restricted"))
    assert answer["execution_policy"] == "Restricted"
    return answer


@case("facts", "no WSUS")
def _(stage: Stage) -> dict[str, Any]:
    answer = stage.facts(stage.server(wsus=None))
    assert (answer["setup_present"], answer["dll_path"], answer["dll_present"]) == (False, "", False)
    assert not [key for key in answer if key.startswith("setup_") and key != "setup_present"]
    return answer


@case("facts", "empty collections, and collections of one")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(neighbours=("configmgr",))
    known = probe_parameters(Timeouts())
    none = stage.facts(host, services=[], setup_values=[], neighbours={}, restart_keys=[])
    assert not [key for key in none if key.startswith(("service_", "setup_V"))]
    assert (none["neighbours"], none["restart_keys"]) == ("", "")
    host.machine.registry.set("SOFTWARE\\One")
    one = stage.facts(host, services=["wsusservice"], setup_values=["VersionString"], restart_keys=["SOFTWARE\\One"])
    assert (one["service_wsusservice"], one["restart_keys"]) == ("running", "SOFTWARE\\One")
    assert one["setup_VersionString"] == stage.facts(host, **known)["setup_VersionString"]
    return one


@case("facts", "an empty value in the registry")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.machine.registry.set(probe_parameters(Timeouts())["setup_key"], SqlServerName="")
    answer = stage.facts(host, setup_values=["SqlServerName", "NoSuchValue"])
    assert answer["setup_SqlServerName"] == ""
    assert "setup_NoSuchValue" not in answer
    return answer


@case("facts", "an installer removes what it had unpacked while its files are counted")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("started"), kind="install_update")
    gone = [f"{host.staging_path}\\jobs\\a\\temp\\{name}" for name in ("one", "two")]
    for folder in gone:
        host.files.make_folders(folder)

    class Clearing(SimulatedWindows):
        def get_folder_entries(self, path: str) -> list[str]:
            if path == gone[0]:
                self.machine.files.remove_tree(path)
                raise WindowsError_("gone", exception="System.IO.DirectoryNotFoundException")
            return super().get_folder_entries(path)

        def test_reparse_point(self, path: str) -> bool:
            if path == gone[1]:
                self.machine.files.remove_tree(path)
                raise WindowsError_("gone", exception="System.IO.FileNotFoundException")
            return super().test_reparse_point(path)

    windows = Clearing(host.machine, host.session().process)
    answer = stage.ask(host, "facts", windows=windows, **probe_parameters(Timeouts()))
    assert (answer["leftovers"], answer["staging_state"], answer["job_id"]) == (2, "closed", "a")
    assert not [folder for folder in gone if host.files.is_folder(folder)]
    return answer


@case("facts", "a folder that cannot be read", "may not be read", fails=True)
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("started"), kind="install_update")

    class Closed(SimulatedWindows):
        def get_folder_entries(self, path: str) -> list[str]:
            if path.endswith("\\temp"):
                raise WindowsError_("it may not be read", exception="System.UnauthorizedAccessException")
            return super().get_folder_entries(path)

    return stage.ask(
        host, "facts", windows=Closed(host.machine, host.session().process), **probe_parameters(Timeouts())
    )


@case("facts", "more pending renames than fit")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    for number in range(2000):
        host.machine.rename_at_restart(f"C:\\{'å' * 100}{number}", None)
    answer = stage.facts(host)
    assert len(answer["restart_renames"]) == 200_000
    return answer


@case("facts", "a DLL without a version")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    path = stage.facts(host)["dll_path"]
    host.files.replace(path, b"x")
    answer = stage.facts(host)
    assert (answer["dll_present"], answer["dll_version"]) == (True, "")
    return answer


@case("facts", "staging absent", "absent")
def _(stage: Stage) -> dict[str, Any]:
    return stage.facts(stage.server())


@case("facts", "staging closed, with a running job and leftovers", "closed")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    own = host.session().get_own_process()
    stage.job(host, state("started", **own), state("launching", **own))
    answer = stage.facts(host)
    assert (answer["job_id"], answer["job_status"], answer["job_phase"]) == ("a", "running", "launching")
    assert answer["leftovers"] == 5
    return answer


@case("facts", "staging made by somebody else", "refused")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.precreate_staging(how="owner")
    answer = stage.facts(host)
    assert answer["staging_detail"] == "staging_owner"
    return answer


@case("facts", "staging that may not be looked at", "refused")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(administrator=False, session_allowed=True, culture="nb-NO")
    host.files.make_folder(host.staging_path, CLOSED)
    answer = stage.facts(host)
    assert (answer["administrator"], "avslått" in answer["staging_detail"]) == (False, True)
    return answer


@case("facts", "another installation runs")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.installer_busy()
    answer = stage.facts(host)
    assert answer["installer_busy"] is True
    return answer
