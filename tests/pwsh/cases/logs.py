"""Cases of the script that searches logs: what it brings back is what the lab's own search brings back."""

from __future__ import annotations

from typing import Any

from tests.pwsh.cases.stage import Stage, case
from wsusfix.lab import Host
from wsusfix.lab.behaviours import BEHAVIOURS
from wsusfix.lab.filesystem import ADMINISTRATORS, SYSTEM_SID, Security
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.logs.machine import client_search, server_search

#: Nobody but the system itself may look.
ONLY_SYSTEM = Security(ADMINISTRATORS, frozenset({SYSTEM_SID}), frozenset({SYSTEM_SID}))
#: Blocks and groups so small that every edge is met in a log of some kilobytes.
SMALL: dict[str, Any] = {"block": 700, "before": 60, "after": 400, "edge": 90}


def both(
    stage: Stage, host: Host, search: dict[str, Any], windows: SimulatedWindows | None = None, **changed: Any
) -> dict[str, Any]:
    """Ask PowerShell, and the lab's own search; they say the same."""
    asked = {**search, **changed}
    answer = stage.ask(host, "search_logs", windows=windows, **asked)
    told = {"script": "search_logs", **BEHAVIOURS["search_logs"](windows or host.session(), asked, iter(()))}
    clock = {"clock": answer["clock"]}
    assert {"script": "search_logs", **answer} == {**told, **clock}
    return answer


@case("search_logs", "a server's log with failed calls")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1", culture="de-DE")
    stage.lab.add_client("pc01", server=host)
    answer = both(stage, host, server_search(60))
    assert answer["files"] == 1
    # What touches is cut off nowhere: both calls lie in one stretch.
    assert answer["groups_0"].count("Hashtable.Insert") == 2
    assert answer["file_0"].startswith("C:\\Programme\\Update Services\\LogFiles\\SoftwareDistribution.log\n")
    return answer


@case("search_logs", "small blocks, and more groups than are brought back")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1", culture="ja-JP")
    for number in range(4):
        stage.lab.add_client(f"pc{number}", server=host)
    answer = both(stage, host, server_search(60), most_groups=5, **SMALL)
    assert int(answer["file_0"].split("\n")[3]) > 1
    return both(stage, host, server_search(60), **{**SMALL, "after": 3})


@case("search_logs", "a client's log in UTF-16")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1")
    client = stage.lab.add_client("pc01", server=host, encoding="utf-16", utc_offset=-420)
    answer = both(stage, client, client_search(60), **{**SMALL, "after": 900})
    assert answer["utc_offset"] == -420
    assert "tz: -0700" in answer["groups_0"].split("\n")[0]
    assert "tz: -0700" in answer["file_0"].split("\n")[4]
    return answer


@case("search_logs", "logs in other places, and rolled over")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1", log_folder="C:\\Logs å")
    assert host.log is not None
    older = host.log.roll_over()
    stage.lab.add_client("pc01", server=host)
    for name in ("SoftwareDistribution.log.1", "softwaredistribution_1.LOG", "SoftwareDistribution.zip"):
        host.files.create(f"C:\\Logs å\\{name}", b"x")
    other = f"{host.wsus.target}Log Files"
    host.files.make_folders(other)
    host.files.create(f"{other}\\SoftwareDistribution.log", b"y")
    answer = both(stage, host, server_search(60))
    paths = [answer[f"file_{number}"].split("\n")[0] for number in range(answer["files"])]
    assert paths[0] == host.log.path
    assert older in paths
    assert len(paths) == 5
    left = both(stage, host, server_search(60), most_files=2)
    assert (left["files"], left["left_out"]) == (2, 3)
    return answer


@case("search_logs", "no log, and a registry that names none")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1", log_folder=None)
    for name in ("LogFilePath", "TargetDir"):
        host.machine.registry.remove(server_search(60)["key"], name)
    answer = both(stage, host, server_search(60))
    assert answer["files"] == 0
    assert len(answer["places"].split("\n")) == 2
    return answer


@case("search_logs", "a folder and a file that may not be read")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1", culture="nb-NO")
    host.files.protect(host.wsus.log_path.rpartition("\\")[0], ONLY_SYSTEM)
    answer = both(stage, host, server_search(60))
    assert "avslått" in answer["places"] + answer.get("file_0", "")
    return answer


@case("search_logs", "a log too long to be read whole")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1")
    stage.lab.add_client("pc01", server=host)
    answer = both(stage, host, server_search(60), most_bytes="2000", **SMALL)
    length, start = map(int, answer["file_0"].split("\n")[1:3])
    assert length - start == 2000
    return answer


@case("search_logs", "no time, and a log that is rolled over meanwhile")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1")
    late = both(stage, host, server_search(0))
    assert late["file_0"].endswith("\ntime")

    class Rolling(SimulatedWindows):
        def read_file_block(self, path: str, offset: int, count: int) -> str:
            return super().read_file_block(path, offset, count)[: count // 2]

    answer = both(stage, host, server_search(60), Rolling(host.machine, host.session().process))
    assert answer["file_0"].endswith("\nchanged")
    return answer


@case("search_logs", "an empty log, and one that ends in the middle of a call")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1", log_folder=None)
    host.files.make_folders(host.wsus.log_path.rpartition("\\")[0])
    host.files.create(host.wsus.log_path, b"")
    assert both(stage, host, server_search(60))["groups_0"] == ""
    host.files.append(host.wsus.log_path, b"\x00\xff System.Collections.Hashtable.Insert(\x80")
    return both(stage, host, server_search(60))
