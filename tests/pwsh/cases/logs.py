"""Cases of the script that searches logs: what it brings back is what the lab's own search brings back."""

from __future__ import annotations

from typing import Any

from tests.pwsh.cases.stage import Stage, case
from wsusfix import advisory
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
    written = {".old": "2008-03-01", ".log.1": "2008-05-01", "_1.log": "2008-04-01"}

    class Written(SimulatedWindows):
        """Says of each file when it was last written: not in the order of their names."""

        def get_file_time(self, path: str) -> str | None:
            return next(f"{day}T00:00:00Z" for end, day in written.items() if path.lower().endswith(end))

    windows = Written(host.machine, host.session().process)
    answer = both(stage, host, server_search(60), windows)
    paths = [answer[f"file_{number}"].split("\n")[0] for number in range(answer["files"])]
    newest = [f"C:\\Logs å\\{name}" for name in ("SoftwareDistribution.log.1", "softwaredistribution_1.LOG")]
    assert paths == [host.log.path, f"{other}\\SoftwareDistribution.log", *newest, older]
    left = both(stage, host, server_search(60), windows, most_files=3)
    assert [left[f"file_{number}"].split("\n")[0] for number in range(left["files"])] == paths[:3]
    assert left["left_out"] == 2
    return answer


@case("search_logs", "zeros in a log, and one that is half of one encoding and half of another")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1")
    stage.lab.add_client("pc01", server=host)
    failing = host.files.read(host.wsus.log_path) or b""
    healthy = b"2008-07-14 02:50:00.642 UTC\tInfo\tw3wp.1\tThreadEntry\tThreadHelper.ThreadStart\r\n" * 20
    wide, wide_failing = (each.decode("utf-8").encode("utf-16-le") for each in (healthy, failing))
    answer: dict[str, Any] = {}
    for text in (
        b"bro\0ken\r\n" + healthy + failing,
        b"\0" * 300 + b"\r\n" + healthy + failing,
        b"\xff\xfe" + wide + failing + healthy,
        healthy + wide_failing + healthy,
        b"x" + wide_failing + healthy,
    ):
        host.files.replace(host.wsus.log_path, text)
        answer = both(stage, host, server_search(60))
        assert answer["groups_0"].count("System.Collections.Hashtable.Insert(") == 2
        both(stage, host, server_search(60), **{**SMALL, "after": 900})
    return answer


@case("search_logs", "more than fits into the answer, in one log and in several")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1")
    assert host.log is not None
    client = stage.lab.add_client("pc01", server=host)
    for _ in range(3):
        client.detect()
    host.log.roll_over()
    client.detect()
    client.detect()
    whole = both(stage, host, server_search(60), **SMALL)
    cut = both(stage, host, server_search(60), most_text=2500, **SMALL)
    assert len(cut["groups_0"] + cut["groups_1"]) <= 2500 < len(whole["groups_0"] + whole["groups_1"])
    assert sum(int(cut[f"file_{number}"].split("\n")[3]) for number in range(2)) > 1
    for name in ("groups_0", "groups_1"):  # first and last are kept
        assert cut[name][:20] == whole[name][:20]
        assert cut[name][-20:] == whole[name][-20:]
    none = both(stage, host, server_search(60), most_text=0, **SMALL)
    assert none["groups_0"] + none["groups_1"] == ""
    return cut


@case("search_logs", "a header in the middle of a stretch, and a hit near the end of one")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1")
    client = stage.lab.add_client("pc01", server=host, utc_offset=120)
    assert client.agent is not None
    failing = client.files.read(client.agent.path) or b""
    header = b"2008-10-26\t01:00:00:000\t 788\tee4\tMisc\t=====  Logging initialized (build: 7.1, tz: +0100)  =====\r\n"
    filler = b"2008-10-26\t01:00:00:000\t 788\tee4\tAU\tnothing to see\r\n"
    client.files.replace(client.agent.path, failing + header + filler * 200 + failing[failing.index(b"WARNING") :])
    answer = both(stage, client, client_search(60))
    assert answer["groups_0"].rpartition("tz: +0")[2].startswith("100")
    for after in range(200, 2000, 150):
        both(stage, client, client_search(60), before=120, after=after, block=3000)
    return answer


@case("search_logs", "a registry that names a file, a folder, and what is not there")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP1")
    folder, _, name = host.wsus.log_path.rpartition("\\")
    for named, place in (
        (host.wsus.log_path, host.wsus.log_path),
        (f"{folder}\\", f"{folder}\\{name}"),
        ("E:\\gone\\", "E:\\gone"),
        ("wsus.log", ""),
    ):
        host.machine.registry.set(advisory.SETUP_KEY, LogFilePath=named)
        answer = both(stage, host, server_search(60))
        assert (answer["named"], answer["files"]) == (place, 1)
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
    assert "avslått" in answer["denied"]
    # Whatever the log is called; and what can be read elsewhere is read.
    folder = f"{host.wsus.target}Log Files"
    host.files.make_folders(folder)
    host.files.create(f"{folder}\\SoftwareDistribution.log", b"2008-07-14 02:50:00.642 UTC\tInfo\tw3wp.1\tA.B\tx\r\n")
    host.machine.registry.set(advisory.SETUP_KEY, LogFilePath=host.wsus.log_path.rpartition(".")[0] + ".txt")
    answer = both(stage, host, server_search(60))
    assert answer["files"] == 1
    denied = answer["denied"].split("\n")
    assert [each.partition(": ")[0].rpartition(".")[2] for each in denied] == ["txt", "log"]
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
