"""Every case of every script's contract, told as how a simulated server comes into it and what is asked there.

A case is a function that is given a :class:`Stage` and returns the answer, or raises what the script failed with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from tests.pwsh.shell import Shell, hasty
from tests.unit.test_lab_windows import job_parameters, states_of
from wsusfix.facts import probe_parameters
from wsusfix.lab import Host, Lab
from wsusfix.lab.filesystem import CLOSED, Failure
from wsusfix.lab.windows import SimulatedWindows, to_clixml
from wsusfix.options import Timeouts
from wsusfix.scripts import compose
from wsusfix.scripts.contracts import STAGING_NAME, TASK_NAME

__all__ = ["CASES", "DATA", "Case", "Stage"]

#: What is uploaded where nothing has to be run.
DATA: Final = b"abcdef"
SHA: Final = hashlib.sha256(DATA).hexdigest()
ABOUT: Final = {"staging_name": STAGING_NAME, "sha256": SHA}
NAMED: Final = {**ABOUT, "size": str(len(DATA)), "name": "a.exe"}
CLEANUP: Final = {"staging_name": STAGING_NAME, "task_name": TASK_NAME, "start_seconds": 60}
LONG_AGO: Final = "2008-07-15T10:00:00Z"
NOT_ASCII: Final = "sørlandet-更新.exe"


@dataclass
class Stage:
    """A lab, an engine, and what a case needs of both."""

    lab: Lab
    shell: Shell

    def server(self, **options: Any) -> Host:
        host = self.lab.add_server(f"wsus{len(self.lab.hosts)}", **options)
        host.install_seconds = 0.02
        return host

    def ask(
        self, host: Host, name: str, chunks: Iterable[bytes] = (), /, windows: Any = None, **parameters: Any
    ) -> dict[str, Any]:
        return self.shell.ask(windows or host.session(), name, parameters, chunks)

    def facts(self, host: Host, **changed: Any) -> dict[str, Any]:
        return self.ask(host, "facts", **{**probe_parameters(Timeouts()), **changed})

    def poll(self, host: Host, job_id: str = "a", after: int = 0, start_seconds: int = 60) -> dict[str, Any]:
        return self.ask(
            host, "poll_job", staging_name=STAGING_NAME, job_id=job_id, after=after, start_seconds=start_seconds
        )

    def collect(self, host: Host, tail: int = 1000) -> dict[str, Any]:
        return self.ask(host, "collect_job", staging_name=STAGING_NAME, job_id="a", tail=tail)

    def start(self, host: Host, job_id: str = "a", windows: Any = None, **changed: Any) -> dict[str, Any]:
        script = compose("install_update")
        given = {
            "staging_name": STAGING_NAME,
            "task_name": TASK_NAME,
            "job_id": job_id,
            "job_script": script.text,
            "job_sha256": script.staged_sha256,
            "job_parameters": {},
            "start_seconds": 60,
            **changed,
        }
        return self.ask(host, "start_job", windows=windows, **given)

    def staged(self, **options: Any) -> Host:
        """A server with a closed staging folder, and DATA in two segments."""
        host = self.server(**options)
        folder = f"{host.staging_path}\\files\\{SHA[:16]}\\parts"
        host.files.make_folder(host.staging_path, CLOSED)
        host.files.make_folders(folder)
        host.files.create(f"{folder}\\{0:012d}-4.seg", DATA[:4])
        host.files.create(f"{folder}\\{4:012d}-2.seg", DATA[4:])
        return host

    def job(self, host: Host, *states: str, claimed: str = "", job_id: str = "a") -> str:
        """Put a claim and states of a job into the staging folder; the job's folder."""
        if not host.files.is_folder(host.staging_path):
            host.files.make_folder(host.staging_path, CLOSED)
        folder = f"{host.staging_path}\\jobs\\{job_id}"
        host.files.make_folders(f"{folder}\\state")
        host.files.make_folders(f"{folder}\\temp")
        time = claimed or host.session().get_clock()
        host.files.create(f"{host.staging_path}\\jobs\\00001.claim", f"job_id={job_id}\ntime={time}\nend\n".encode())
        for number, state in enumerate(states, 1):
            host.files.create(f"{folder}\\state\\{number:05d}.txt", state.encode())
        return folder

    def install(self, host: Host, *, windows: SimulatedWindows | None = None, **changed: Any) -> dict[str, str]:
        """Run the job to its end in the engine; its last state, with all phases beside it."""
        package = self.lab.package(**changed.pop("package", {}))
        path = f"{host.staging_path}\\files\\{NOT_ASCII}"
        host.files.make_folder(host.staging_path, CLOSED)
        host.files.make_folders(f"{host.staging_path}\\files")
        host.files.create(path, changed.pop("data", package.read_bytes()))
        parameters = job_parameters(changed.pop("path", path), package, **changed)
        folder = self.job(host)
        host.files.create(f"{folder}\\parameters.xml", to_clixml(parameters))
        result = self.shell.work(host, f"{folder}\\job.ps1", windows)
        assert (result.state, result.errors, result.output) == ("Completed", [], [])
        states = states_of(host.session().read_text_file(f"{folder}\\state\\00001.txt") or "")
        for number in range(2, 30):
            text = host.session().read_text_file(f"{folder}\\state\\{number:05d}.txt")
            states += states_of(text) if text else []
        return {**states[-1], "phases": " ".join(state["phase"] for state in states)}


def state(phase: str, **values: object) -> str:
    """The text of a state file."""
    lines = {"phase": phase, "time": LONG_AGO, "pid": "4", "created": "1", **values}
    return "".join(f"{key}={value}\n" for key, value in lines.items()) + "end\n"


@dataclass(frozen=True)
class Case:
    """One case: of which script, its name, how it is come into, and how it ends.

    ``ends`` is the refusal, the status or the reason that is to be answered; for an error, a part of its text.
    """

    script: str
    name: str
    act: Callable[[Stage], dict[str, Any]]
    ends: str = ""
    fails: bool = False

    def __str__(self) -> str:
        return f"{self.script}-{self.name}"


CASES: Final[list[Case]] = []

_Act = Callable[[Stage], dict[str, Any]]


def case(script: str, name: str, ends: str = "", *, fails: bool = False) -> Callable[[_Act], _Act]:
    def add(act: _Act) -> _Act:
        CASES.append(Case(script, name, act, ends, fails))
        return act

    return add


# --- facts ------------------------------------------------------------------------------------------------------------


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


# --- the refusals of the staging folder, the same for five scripts ----------------------------------------------------

_CHANGING: Final[dict[str, Callable[[Stage, Host], dict[str, Any]]]] = {
    "stage": lambda stage, host: stage.ask(host, "stage", **NAMED, reserve="0"),
    "receive": lambda stage, host: stage.ask(host, "receive", [DATA], **ABOUT, offset="0", length="6", segment="6"),
    "assemble": lambda stage, host: stage.ask(host, "assemble", **NAMED),
    "start_job": lambda stage, host: stage.start(host),
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


# --- stage ------------------------------------------------------------------------------------------------------------


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


# --- receive ----------------------------------------------------------------------------------------------------------


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


# --- assemble ---------------------------------------------------------------------------------------------------------


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


# --- start_job --------------------------------------------------------------------------------------------------------


@case("start_job", "the first one")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.task_never_starts()
    kept = {"text": "æ <&>'\"", "one": ["å"], "none": [], "two": [1, "b"], "yes": True, "no": False, "number": -7}
    answer = stage.start(host, job_parameters=kept)
    assert (answer["job_id"], answer["joined"]) == ("a", False)
    windows = host.session()
    folder = f"{host.staging_path}\\jobs\\a"
    assert windows.get_file_sha256(f"{folder}\\job.ps1") == compose("install_update").staged_sha256
    assert windows.read_parameters(f"{folder}\\parameters.xml") == kept
    assert host.files.entries(f"{host.staging_path}\\jobs") == ["00001.claim", "a"]
    assert [(task.name, task.script) for task in host.tasks] == [(TASK_NAME, f"{folder}\\job.ps1")]
    return answer


@case("start_job", "the same one again")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host)
    answer = stage.start(host)
    assert (answer["job_id"], answer["joined"]) == ("a", True)
    return answer


@case("start_job", "another one runs")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("started", **host.session().get_own_process()))
    answer = stage.start(host, "b")
    assert (answer["job_id"], answer["joined"]) == ("a", True)
    assert not host.files.is_folder(f"{host.staging_path}\\jobs\\b")
    return answer


@case("start_job", "another one was interrupted")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.task_never_starts()
    stage.job(host, state("started"))
    answer = stage.start(host, "b")
    assert (answer["job_id"], answer["joined"]) == ("b", False)
    assert host.files.is_file(f"{host.staging_path}\\jobs\\00002.claim")
    return answer


@case("start_job", "another one never started")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.task_never_starts()
    folder = stage.job(host, claimed=LONG_AGO)
    answer = stage.start(host, "b")
    assert (answer["job_id"], answer["joined"]) == ("b", False)
    assert "phase=abandoned" in (host.session().read_text_file(f"{folder}\\state\\00001.txt") or "")
    return answer


@case("start_job", "another one takes the claim meanwhile")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()

    class Outrun(SimulatedWindows):
        def add_text_file(self, path: str, text: str) -> bool:
            if path.endswith("00001.claim"):
                super().add_text_file(path, text.replace("job_id=b", "job_id=a"))
            return super().add_text_file(path, text)

    answer = stage.start(host, "b", windows=Outrun(host.machine, host.session().process))
    assert (answer["job_id"], answer["joined"]) == ("a", True)
    assert not host.files.is_folder(f"{host.staging_path}\\jobs\\b")
    return answer


@case("start_job", "no space", "no_space")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    host.faults.disk_full(free=1_000_000)
    return stage.start(host)


@case("start_job", "the script arrived changed", "job_script_changed")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    answer = stage.start(host, job_sha256="0" * 64)
    assert answer["detail"] == compose("install_update").staged_sha256
    assert not host.files.is_folder(f"{host.staging_path}\\jobs\\a")
    return answer


@case("start_job", "the task cannot be made", "task_not_created")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.machine.scheduler.running = False
    answer = stage.start(host)
    assert answer["detail"] == "0x80070422"
    assert stage.poll(host)["status"] == "finished"
    return answer


@case("start_job", "the task cannot be started", "task_not_started")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(os="Windows Server 2003", arch="x86")

    class Deaf(SimulatedWindows):
        def start_system_task(self, name: str) -> str:
            return "schtasks.exe ended with exit code 1"

    return stage.start(host, windows=Deaf(host.machine, host.session().process))


@case("start_job", "the name of no job", "not the name of a job", fails=True)
def _(stage: Stage) -> dict[str, Any]:
    return stage.start(stage.server(), "a\\..\\b")


# --- poll_job ---------------------------------------------------------------------------------------------------------


@case("poll_job", "no staging folder", "none")
def _(stage: Stage) -> dict[str, Any]:
    return stage.poll(stage.server())


@case("poll_job", "no such job", "none")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("started"))
    return stage.poll(host, "b")


@case("poll_job", "a folder that somebody else made", "none")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.precreate_staging(how="acl")
    return stage.poll(host)


@case("poll_job", "claimed", "claimed")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host)
    return stage.poll(host)


@case("poll_job", "claimed, with a first state that is not whole yet", "claimed")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, "phase=started\ntime=2008")
    return stage.poll(host)


@case("poll_job", "never started", "never_started")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, claimed=LONG_AGO)
    return stage.poll(host)


@case("poll_job", "running by its own process", "running")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    own = host.session().get_own_process()
    stage.job(host, state("started", **own), state("checking_package", **own))
    answer = stage.poll(host, after=1)
    assert (answer["last"], answer["states"].splitlines()[0]) == (2, "number=2")
    assert answer["states"].endswith("\nend")
    return answer


@case("poll_job", "running by its installer", "running")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    own = host.session().get_own_process()
    stage.job(host, state("installing", child_pid=own["pid"], child_created=own["created"], still=0))
    return stage.poll(host)


@case("poll_job", "running by what was started from its folder", "running")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("installing"))
    path = f"{host.staging_path}\\jobs\\a\\temp\\Setup.EXE".upper()
    host.machine.processes.start("setup.exe", f'"{path}" /q', host.session().process.token)
    return stage.poll(host)


@case("poll_job", "its number is another process's now", "interrupted")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    own = host.session().get_own_process()
    stage.job(host, state("started", pid=own["pid"], created="1"))
    return stage.poll(host)


@case("poll_job", "finished", "finished")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("started"), state("finished", reason="done", detail="æøå 更新"))
    answer = stage.poll(host)
    assert "detail=æøå 更新" in answer["states"]
    assert answer["last"] == 2
    return answer


@case("poll_job", "abandoned", "finished")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("abandoned"))
    return stage.poll(host)


@case("poll_job", "a claim that stays broken", "none")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("started"))
    host.files.replace(f"{host.staging_path}\\jobs\\00001.claim", b"job_id=a\n")
    return stage.ask(
        host, "poll_job", windows=hasty(host), staging_name=STAGING_NAME, job_id="a", after=0, start_seconds=60
    )


@case("poll_job", "more states than fit at once", "interrupted")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, *(state("launching", command_line="x" * 50_000) for _ in range(6)))
    first = stage.poll(host)
    assert first["last"] == 3
    assert stage.poll(host, after=first["last"])["last"] == 6
    return first


@case("poll_job", "may not be looked at", "avslått", fails=True)
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(administrator=False, session_allowed=True, culture="nb-NO")
    host.files.make_folder(host.staging_path, CLOSED)
    return stage.poll(host)


# --- collect_job ------------------------------------------------------------------------------------------------------


@case("collect_job", "no staging folder")
def _(stage: Stage) -> dict[str, Any]:
    answer = stage.collect(stage.server())
    assert (answer["log_tail"], answer["logs"]) == ("", "")
    return answer


@case("collect_job", "no log")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host)
    answer = stage.collect(host)
    assert (answer["log_tail"], answer["logs"]) == ("", "")
    return answer


@case("collect_job", "one log")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host)
    host.files.create(f"{folder}\\install.log", b"\xff\xfe" + "en\r\nto å 更".encode("utf-16-le"))
    answer = stage.collect(host, tail=9)
    assert "en\r\nto å 更".endswith(answer["log_tail"])
    assert answer["logs"].endswith(" 22 install.log")
    return answer


@case("collect_job", "several logs, the longest shown")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host)
    host.files.make_folders(f"{folder}\\temp\\inner å")
    host.files.create(f"{folder}\\temp\\WSUSSetup.LOG", b"short")
    host.files.create(f"{folder}\\temp\\inner å\\msi.log", b"the longest of them")
    host.files.create(f"{folder}\\temp\\else.txt", b"the very longest of them all")
    answer = stage.collect(host)
    assert answer["log_tail"] == "the longest of them"
    assert [line.split(" ", 2)[2] for line in answer["logs"].splitlines()] == [
        "temp\\WSUSSetup.LOG",
        "temp\\inner å\\msi.log",
    ]
    return answer


@case("collect_job", "an empty log of the installer beside others")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host)
    host.files.create(f"{folder}\\install.log", b"")
    host.files.create(f"{folder}\\temp\\other.log", b"something")
    answer = stage.collect(host)
    assert answer["log_tail"] == "something"
    return answer


@case("collect_job", "more logs than are told")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host)
    for number in range(510):
        host.files.create(f"{folder}\\temp\\{number}.log", b"")
    answer = stage.collect(host)
    assert len(answer["logs"].splitlines()) == 500
    return answer


@case("collect_job", "the name of no job", "not the name of a job", fails=True)
def _(stage: Stage) -> dict[str, Any]:
    return stage.ask(stage.server(), "collect_job", staging_name=STAGING_NAME, job_id="å", tail=1)


# --- cleanup ----------------------------------------------------------------------------------------------------------


@case("cleanup", "nothing there")
def _(stage: Stage) -> dict[str, Any]:
    answer = stage.ask(stage.server(), "cleanup", **CLEANUP)
    assert (answer["removed"], answer["remaining"], answer["detail"]) == ("", "", "")
    return answer


@case("cleanup", "everything there")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    stage.job(host, state("finished", reason="done"))
    host.session().register_system_task(TASK_NAME, f"{host.staging_path}\\jobs\\a\\job.ps1")
    answer = stage.ask(host, "cleanup", **CLEANUP)
    assert answer["removed"] == f"{TASK_NAME}\n{host.staging_path}"
    assert (answer["remaining"], answer["detail"], host.tasks) == ("", "", ())
    assert not host.files.is_folder(host.staging_path)
    return answer


@case("cleanup", "a job that never started")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, claimed=LONG_AGO)
    answer = stage.ask(host, "cleanup", **CLEANUP)
    assert answer["removed"] == host.staging_path
    return answer


@case("cleanup", "a file is held")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged(culture="nb-NO")
    path = f"{host.staging_path}\\files\\{SHA[:16]}\\parts\\{0:012d}-4.seg"
    host.session().lock_file(path)
    answer = stage.ask(host, "cleanup", windows=hasty(host), **CLEANUP)
    assert answer["removed"] == ""
    assert answer["remaining"] == f"{host.staging_path}\n{path}"
    assert "brukes av en annen prosess" in answer["detail"]
    return answer


@case("cleanup", "a job runs", "job_running")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("started", **host.session().get_own_process()))
    answer = stage.ask(host, "cleanup", **CLEANUP)
    assert answer["detail"] == "a"
    return answer


# --- install_update ---------------------------------------------------------------------------------------------------

_ROAD: Final = "started checking_package checking_signature launching installing installed finished"


@case("install_update", "installed", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    last = stage.install(host)
    assert (last["phases"], last["exit_code"]) == (_ROAD, "0")
    assert (last["dll_before"], last["dll_after"]) == ("3.1.6001.65", "3.1.6001.66")
    assert (last["pending_rename"], last["event_logged"]) == ("false", "true")
    (entry,) = host.event_log
    assert entry.text.startswith("asked by LAB\\admin\r\nresult: done\r\nexit code: 0\r\n")
    assert not entry.failed
    return last


@case("install_update", "a restart is needed", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(os="Windows Server 2003", culture="nb-NO")
    dll = stage.facts(host)["dll_path"]
    last = stage.install(host, package={"exit_code": 3010}, dll=dll)
    assert (last["exit_code"], last["pending_rename"], last["dll_after"]) == ("3010", "true", "3.1.6001.65")
    assert not host.event_log[0].failed
    return last


@case("install_update", "the installer failed", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    last = stage.install(host, package={"exit_code": 1603})
    assert (last["exit_code"], host.event_log[0].failed) == ("1603", True)
    return last


@case("install_update", "a signature that is vouched for", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    return stage.install(host, package={"signature": "unverifiable"}, accept_unverifiable=True)


@case("install_update", "fixed already", "already_fixed")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(wsus="3.0 SP1 KB954960"))


@case("install_update", "no package", "package_missing")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(), path="C:\\nowhere\\a.exe")


@case("install_update", "another package", "package_changed")
def _(stage: Stage) -> dict[str, Any]:
    last = stage.install(stage.server(), data=b"swapped")
    assert last["detail"] == hashlib.sha256(b"swapped").hexdigest()
    return last


@case("install_update", "a bad signature", "signature_invalid")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(), package={"signature": "invalid"}, accept_unverifiable=True)


@case("install_update", "a signature that cannot be checked", "signature_unverifiable")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(), package={"signature": "unverifiable"})


@case("install_update", "no roots", "signature_invalid")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(), roots=[])


@case("install_update", "another installation does not end", "installer_busy")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.installer_busy()
    last = stage.install(host, windows=hasty(host), busy_seconds=70)
    assert last["phases"].count("waiting_for_installer") == 3
    return last


@case("install_update", "another installation was quicker, then ended", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()

    class Crossed(type(hasty(host))):  # type: ignore[misc]
        looks = 0

        def test_installer_busy(self) -> bool:
            self.looks += 1
            self.machine.foreign_installer = self.looks == 1
            return False

    windows = Crossed(host.machine, host.session().process)
    last = stage.install(host, windows=windows, busy_seconds=60)
    assert "installing waiting_for_installer launching installing installed" in last["phases"]
    assert [run.exit_code for run in host.installations] == [1618, 0]
    return last


@case("install_update", "a program that cannot be run", "not_launched")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.signature("valid")
    data = b"MZ" + bytes(1000)
    return stage.install(host, data=data, package_sha256=hashlib.sha256(data).hexdigest())


@case("install_update", "the child stands still", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()

    class Watched(SimulatedWindows):
        waits = 0

        def wait_installer(self, handle: Any, milliseconds: int) -> bool:
            self.waits += 1
            return super().wait_installer(handle, milliseconds) if self.waits > 7 else False

        def get_process_time(self, process_id: int) -> str:
            return "12345678901"

    last = stage.install(host, windows=Watched(host.machine, host.session().process), still_seconds=20)
    # At its beginning, when it had stood still for so long, and at the beat after that.
    assert last["phases"].count("installing") == 3
    return last


@case("install_update", "parameters that cannot be read", "broken")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()

    class Unreadable(SimulatedWindows):
        def read_parameters(self, path: str) -> dict[str, Any]:
            raise self.machine.messages.error(Failure.ACCESS_DENIED, path)

    last = stage.install(host, windows=Unreadable(host.machine, host.session().process))
    assert (last["phases"], "denied" in last["detail"], host.event_log) == ("started finished", True, ())
    return last


@case("install_update", "a second start finds the token gone", "")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host, state("abandoned"))
    result = stage.shell.work(host, f"{folder}\\job.ps1")
    assert (result.state, result.output, result.errors) == ("Completed", [], [])
    assert host.files.entries(f"{folder}\\state") == ["00001.txt"]
    return {"reason": ""}
