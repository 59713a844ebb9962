"""The cases of ``stage``, ``receive`` and ``assemble``, and the refusals of the staging folder in all that touch it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from tests.pwsh.cases.stage import ABOUT, CLEANUP, DATA, NAMED, NOT_ASCII, SHA, WITHDRAW, Stage, case
from wsusfix.lab import Host
from wsusfix.lab.filesystem import CLOSED
from wsusfix.lab.windows import SimulatedWindows

_CHANGING: Final[dict[str, Callable[[Stage, Host], dict[str, Any]]]] = {
    "stage": lambda stage, host: stage.ask(host, "stage", **NAMED, reserve="0"),
    "receive": lambda stage, host: stage.ask(host, "receive", [DATA], **ABOUT, offset="0", length="6", segment="6"),
    "assemble": lambda stage, host: stage.ask(host, "assemble", **NAMED),
    "start_job": lambda stage, host: stage.start(host),
    "withdraw_job": lambda stage, host: stage.ask(host, "withdraw_job", **WITHDRAW),
    "cleanup": lambda stage, host: stage.ask(host, "cleanup", **CLEANUP),
}


def _refusing(script: str, how: str) -> Callable[[Stage], dict[str, Any]]:
    def act(stage: Stage) -> dict[str, Any]:
        host = stage.server()
        host.faults.precreate_staging(how=how)
        before = list(host.files)
        answer = _CHANGING[script](stage, host)
        assert answer["detail"] == host.staging_path
        assert list(host.files) == before
        return answer

    return act


def _not_administrator(script: str) -> Callable[[Stage], dict[str, Any]]:
    return lambda stage: _CHANGING[script](stage, stage.server(administrator=False, session_allowed=True))


for _script in _CHANGING:
    for _how in ("owner", "acl", "reparse", "file"):
        _refusal = f"staging_{'is_file' if _how == 'file' else _how}"
        case(_script, _refusal, _refusal)(_refusing(_script, _how))
    case(_script, "not an administrator", "not_administrator")(_not_administrator(_script))


@case("stage", "nothing there yet")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    answer = stage.ask(host, "stage", **{**NAMED, "name": NOT_ASCII}, reserve="0")
    assert answer["path"] == f"{host.staging_path}\\files\\{SHA[:16]}\\{NOT_ASCII}"
    assert (answer["complete"], answer["segments"]) == (False, "")
    assert host.session().get_folder_trust(host.staging_path) == ""
    assert host.files.is_folder(f"{host.staging_path}\\files\\{SHA[:16]}\\parts")
    return answer


@case("stage", "segments there")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    parts = f"{host.staging_path}\\files\\{SHA[:16]}\\parts"
    # Neither a broken segment, nor one under way, nor a foreign name counts.
    host.files.create(f"{parts}\\{9:012d}-5.seg", b"x")
    host.files.create(f"{parts}\\incoming-x", b"x")
    answer = stage.ask(host, "stage", **NAMED, reserve="0")
    assert answer["segments"] == "0-4\n4-2"
    return answer


@case("stage", "one segment there")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    host.files.remove_file(f"{host.staging_path}\\files\\{SHA[:16]}\\parts\\{4:012d}-2.seg")
    answer = stage.ask(host, "stage", **NAMED, reserve="0")
    assert answer["segments"] == "0-4"
    return answer


@case("stage", "complete")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    host.files.create(f"{host.staging_path}\\files\\{SHA[:16]}\\a.exe", DATA)
    answer = stage.ask(host, "stage", **NAMED, reserve="0")
    assert answer["complete"] is True
    return answer


@case("stage", "no space", "no_space")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(free_space=3_000_000_000)
    answer = stage.ask(host, "stage", **{**NAMED, "size": "2500000000"}, reserve="1")
    assert (answer["detail"], answer["free"]) == ("bytes needed: 5000000001", "3000000000")
    assert not host.files.is_folder(host.staging_path)
    return answer


@case("stage", "made by somebody at the same moment", "staging_owner")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()

    class Outrun(SimulatedWindows):
        def new_closed_folder(self, path: str) -> None:
            host.faults.precreate_staging(how="owner")

    return stage.ask(host, "stage", windows=Outrun(host.machine, host.session().process), **NAMED, reserve="0")


@case("stage", "a hash that is none", "not a SHA-256 in lower case", fails=True)
def _(stage: Stage) -> dict[str, Any]:
    return stage.ask(stage.server(), "stage", **{**NAMED, "sha256": SHA.upper()}, reserve="0")


@case("stage", "a name with a path", "not a plain file name", fails=True)
def _(stage: Stage) -> dict[str, Any]:
    return stage.ask(stage.server(), "stage", **{**NAMED, "name": "..\\a.exe"}, reserve="0")


@case("receive", "one segment in one piece")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.ask(host, "stage", **NAMED, reserve="0")
    answer = stage.ask(host, "receive", [DATA], **ABOUT, offset="0", length="6", segment="6")
    assert answer["received"] == "6"
    assert host.files.read(f"{host.staging_path}\\files\\{SHA[:16]}\\parts\\{0:012d}-6.seg") == DATA
    return answer


@case("receive", "several segments in many pieces")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.ask(host, "stage", **NAMED, reserve="0")
    data = bytes(range(256)) * 2000
    chunks = [data[at : at + 40_000] for at in range(0, len(data), 40_000)]
    given = {"offset": "5000000000", "length": str(len(data)), "segment": "100000"}
    answer = stage.ask(host, "receive", chunks, **ABOUT, **given)
    parts = f"{host.staging_path}\\files\\{SHA[:16]}\\parts"
    names = host.files.entries(parts)
    assert names[0] == "005000000000-120000.seg"
    assert b"".join(host.files.read(f"{parts}\\{name}") or b"" for name in names) == data
    return answer


@case("receive", "a segment that is there already")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    answer = stage.ask(host, "receive", [b"WXYZ"], **ABOUT, offset="0", length="4", segment="4")
    assert host.files.read(f"{host.staging_path}\\files\\{SHA[:16]}\\parts\\{0:012d}-4.seg") == DATA[:4]
    return answer


@case("receive", "not staged", "not_staged")
def _(stage: Stage) -> dict[str, Any]:
    return _CHANGING["receive"](stage, stage.server())


@case("receive", "no folder for this package", "not_staged")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.files.make_folder(host.staging_path, CLOSED)
    return _CHANGING["receive"](stage, host)


@case("receive", "short", "short_segment")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.ask(host, "stage", **NAMED, reserve="0")
    answer = stage.ask(host, "receive", [b"a", b"b", b"c"], **ABOUT, offset="0", length="6", segment="2")
    assert (answer["received"], answer["detail"]) == ("3", "bytes expected: 6")
    assert host.files.entries(f"{host.staging_path}\\files\\{SHA[:16]}\\parts") == [f"{0:012d}-2.seg"]
    return answer


@case("receive", "nothing at all", "short_segment")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.ask(host, "stage", **NAMED, reserve="0")
    return stage.ask(host, "receive", **ABOUT, offset="0", length="6", segment="2")


@case("receive", "no space", "no_space")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    host.faults.disk_full(free=3)
    answer = _CHANGING["receive"](stage, host)
    assert answer["detail"] == "bytes free: 3"
    return answer


@case("receive", "the disk fills up", "ikke nok plass", fails=True)
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged(culture="nb-NO")
    host.faults.disk_full(free=3)

    class Hopeful(SimulatedWindows):
        def get_free_space(self, path: str) -> str:
            return "1000"

    windows = Hopeful(host.machine, host.session().process)
    return stage.ask(host, "receive", [DATA], windows=windows, **ABOUT, offset="0", length="6", segment="6")


@case("assemble", "from segments")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    # A shorter one beside a longer one is passed over.
    host.files.create(f"{host.staging_path}\\files\\{SHA[:16]}\\parts\\{0:012d}-1.seg", b"a")
    answer = stage.ask(host, "assemble", **{**NAMED, "name": NOT_ASCII})
    assert answer["found_sha256"] == SHA
    assert host.files.read(answer["path"]) == DATA
    assert host.files.entries(f"{host.staging_path}\\files\\{SHA[:16]}") == [NOT_ASCII]
    return answer


@case("assemble", "over a file with another hash")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    host.files.create(f"{host.staging_path}\\files\\{SHA[:16]}\\a.exe", b"old")
    answer = stage.ask(host, "assemble", **NAMED)
    assert host.files.read(answer["path"]) == DATA
    return answer


@case("assemble", "whole already")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    host.files.create(f"{host.staging_path}\\files\\{SHA[:16]}\\a.exe", DATA)
    answer = stage.ask(host, "assemble", **NAMED)
    assert not host.files.is_folder(f"{host.staging_path}\\files\\{SHA[:16]}\\parts")
    return answer


@case("assemble", "not staged", "not_staged")
def _(stage: Stage) -> dict[str, Any]:
    return stage.ask(stage.server(), "assemble", **NAMED)


@case("assemble", "a segment missing", "missing_segment")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    host.files.remove_file(f"{host.staging_path}\\files\\{SHA[:16]}\\parts\\{4:012d}-2.seg")
    answer = stage.ask(host, "assemble", **NAMED)
    assert answer["detail"] == "offset: 4"
    return answer


@case("assemble", "another hash", "hash_mismatch")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    part = f"{host.staging_path}\\files\\{SHA[:16]}\\parts\\{4:012d}-2.seg"
    host.files.replace(part, b"XX")
    answer = stage.ask(host, "assemble", **NAMED)
    assert answer["found_sha256"] == hashlib.sha256(DATA[:4] + b"XX").hexdigest()
    assert host.files.entries(f"{host.staging_path}\\files\\{SHA[:16]}") == []
    return answer


@case("assemble", "no space", "no_space")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    host.faults.disk_full(free=5)
    return stage.ask(host, "assemble", **NAMED)


@case("assemble", "what stands there is held", "being used by another process", fails=True)
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    path = f"{host.staging_path}\\files\\{SHA[:16]}\\a.exe"
    host.files.create(path, b"old")
    holder = host.session()
    holder.lock_file(path)
    try:
        return stage.ask(host, "assemble", **NAMED)
    finally:
        # What was joined has gone again, the segments have not.
        assert host.files.entries(f"{host.staging_path}\\files\\{SHA[:16]}") == ["a.exe", "parts"]
