"""The cases of ``start_job``, ``poll_job``, ``collect_job``, ``withdraw_job`` and ``cleanup``."""

from __future__ import annotations

from typing import Any

from tests.pwsh.cases.stage import CLEANUP, LONG_AGO, SHA, WITHDRAW, Stage, case, state
from tests.pwsh.shell import hasty
from wsusfix.lab import Host
from wsusfix.lab.filesystem import CLOSED
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts import compose
from wsusfix.scripts.contracts import KEPT_NAME, STAGING_NAME, TASK_NAME


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


@case("start_job", "another one was called off, and has not seen it yet")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("waiting_for_window"), state("withdrawn", **host.session().get_own_process()))
    answer = stage.start(host, "b")
    assert (answer["job_id"], answer["joined"]) == ("a", True)
    return answer


@case("start_job", "another one was called off, and a restart has ended it")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.task_never_starts()
    stage.job(host, state("waiting_for_window"), state("withdrawn"))
    answer = stage.start(host, "b")
    assert (answer["job_id"], answer["joined"]) == ("b", False)
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


@case("start_job", "the same one, asked twice at a time")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    own = host.session().get_own_process()
    answered: list[str] = []

    class AskedTwice(SimulatedWindows):
        def remove_tree(self, path: str) -> None:
            super().remove_tree(path)
            if not answered:
                # The question that was given up is answered just now: its job runs.
                answered.append(stage.job(host, state("started", **own)))

    answer = stage.start(host, windows=AskedTwice(host.machine, host.session().process))
    assert (answer["job_id"], answer["joined"]) == ("a", True)
    assert host.files.is_file(f"{host.staging_path}\\jobs\\a\\state\\00001.txt")
    return answer


@case("start_job", "another one's first state was cut off")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.task_never_starts()
    stage.job(host, "", claimed=LONG_AGO)
    answer = stage.start(host, "b", windows=hasty(host))
    assert (answer["job_id"], answer["joined"]) == ("b", False)
    return answer


@case("start_job", "of another one only its claim is left")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.task_never_starts()
    host.files.remove_tree(stage.job(host, claimed=LONG_AGO))
    answer = stage.start(host, "b")
    assert (answer["job_id"], answer["joined"]) == ("b", False)
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


@case("poll_job", "its first state was cut off", "interrupted")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    # What a power cut leaves of a file that was just written.
    stage.job(host, "\0" * 40, claimed=LONG_AGO)
    return stage.ask(
        host, "poll_job", windows=hasty(host), staging_name=STAGING_NAME, job_id="a", after=0, start_seconds=60
    )


@case("poll_job", "its first state was cut off, and what it started runs", "running")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host, "", claimed=LONG_AGO)
    host.machine.processes.start("setup.exe", f'"{folder}\\temp\\setup.exe" /q', host.session().process.token)
    return stage.ask(
        host, "poll_job", windows=hasty(host), staging_name=STAGING_NAME, job_id="a", after=0, start_seconds=60
    )


@case("poll_job", "its first state is written just now, late", "running")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host, "", claimed=LONG_AGO)
    whole = state("started", **host.session().get_own_process()).encode()

    class Written(SimulatedWindows):
        def wait_seconds(self, seconds: float) -> None:
            host.files.replace(f"{folder}\\state\\00001.txt", whole)

    windows = Written(host.machine, host.session().process)
    return stage.ask(
        host, "poll_job", windows=windows, staging_name=STAGING_NAME, job_id="a", after=0, start_seconds=60
    )


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


@case("poll_job", "called off, and it has not seen it yet", "running")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("waiting_for_window"), state("withdrawn", **host.session().get_own_process()))
    return stage.poll(host)


@case("poll_job", "called off, and a restart has ended it", "finished")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("waiting_for_window"), state("withdrawn"))
    return stage.poll(host)


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


@case("collect_job", "what tells most comes first, and the text of each is bounded")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    temp = f"{stage.job(host)}\\temp"
    host.files.make_folders(f"{temp}\\inner")
    for name, data in (("A.log", b"aaaaa"), ("inner\\WSUSPreReqCheck.xml", b"<x/>"), ("WSUSSetup.log", b"0123456789")):
        host.files.create(f"{temp}\\{name}", data)
    answer = stage.collect(host, each=6, most=13)
    assert [line.split(" ", 2)[2] for line in answer["logs"].splitlines()] == [
        "temp\\WSUSSetup.log",
        "temp\\inner\\WSUSPreReqCheck.xml",
        "temp\\A.log",
    ]
    assert [answer.get(f"log_{number}") for number in (1, 2, 3, 4)] == ["456789", "<x/>", "aaa", None]
    fewer = stage.collect(host, each=6, most=10)
    assert [fewer.get(f"log_{number}") for number in (1, 2, 3)] == ["456789", "<x/>", None]
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
    asked = {"first": [], "each": 1, "most": 1}
    return stage.ask(stage.server(), "collect_job", staging_name=STAGING_NAME, job_id="å", tail=1, **asked)


def _withdraw(stage: Stage, host: Host, windows: SimulatedWindows | None = None) -> dict[str, Any]:
    return stage.ask(host, "withdraw_job", windows=windows, **WITHDRAW)


def _waiting(stage: Stage) -> tuple[Host, str]:
    """A server whose job has said twice that it waits for its window, and its folder of states."""
    host = stage.server()
    own = host.session().get_own_process()
    states = (state("started", **own), *(state("waiting_for_window", until="2008-07-16T01:00:00Z", **own),) * 2)
    return host, stage.job(host, *states) + "\\state"


@case("withdraw_job", "it waits")
def _(stage: Stage) -> dict[str, Any]:
    host, states = _waiting(stage)
    before = {name: host.files.read(f"{states}\\{name}") for name in host.files.entries(states)}
    answer = _withdraw(stage, host)
    assert (answer["job_id"], answer["job_kind"], answer["already"]) == ("a", "install_update", False)
    assert answer["detail"] == ""
    after = {name: host.files.read(f"{states}\\{name}") for name in host.files.entries(states)}
    text = (after.pop("00004.txt") or b"").decode()
    assert after == before
    lines = dict(line.split("=") for line in text.splitlines() if "=" in line)
    # It names the job's process, which lives on, and not that of whoever calls it off.
    first = dict(line.split("=") for line in (before["00003.txt"] or b"").decode().splitlines() if "=" in line)
    assert {key: lines[key] for key in ("pid", "created")} == {key: first[key] for key in ("pid", "created")}
    assert (lines["phase"], lines["account_sid"]) == ("withdrawn", host.session().get_session_identity()["sid"])
    assert stage.poll(host)["status"] == "running"
    return answer


@case("withdraw_job", "called off already")
def _(stage: Stage) -> dict[str, Any]:
    host, states = _waiting(stage)
    _withdraw(stage, host)
    answer = _withdraw(stage, host)
    assert (answer["job_id"], answer["already"], answer["detail"]) == ("a", True, "")
    assert host.files.entries(states)[3:] == ["00004.txt"]
    return answer


@case("withdraw_job", "called off already, and it has ended")
def _(stage: Stage) -> dict[str, Any]:
    host, states = _waiting(stage)
    _withdraw(stage, host)
    host.files.create(f"{states}\\00005.txt", state("finished", reason="withdrawn").encode())
    answer = _withdraw(stage, host)
    assert answer["already"] is True
    assert not host.files.is_file(f"{states}\\00006.txt")
    return answer


@case("withdraw_job", "called off already, and a restart has ended it")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("waiting_for_window"), state("withdrawn"))
    answer = _withdraw(stage, host)
    assert answer["already"] is True
    return answer


class _Quicker(SimulatedWindows):
    """Of whoever calls a job off: the job itself takes the number in the last moment, with another state."""

    taken = ""

    def add_text_file(self, path: str, text: str) -> bool:
        if self.taken:
            self.machine.files.create(path, self.taken.encode())
            self.taken = ""
        return super().add_text_file(path, text)


def _quicker(host: Host, taken: str) -> SimulatedWindows:
    windows = _Quicker(host.machine, host.session().process)
    windows.taken = taken
    return windows


@case("withdraw_job", "its window opens in the last moment", "not_waiting")
def _(stage: Stage) -> dict[str, Any]:
    host, states = _waiting(stage)
    own = host.session().get_own_process()
    answer = _withdraw(stage, host, _quicker(host, state("window_open", **own)))
    assert answer["detail"] == "a (install_update) running window_open"
    assert host.files.entries(states)[3:] == ["00004.txt"]
    return answer


@case("withdraw_job", "it says once more in the last moment that it waits")
def _(stage: Stage) -> dict[str, Any]:
    host, states = _waiting(stage)
    own = host.session().get_own_process()
    answer = _withdraw(stage, host, _quicker(host, state("waiting_for_window", **own)))
    assert (answer["detail"], answer["already"]) == ("", False)
    assert b"phase=withdrawn\n" in (host.files.read(f"{states}\\00005.txt") or b"")
    return answer


@case("withdraw_job", "what took the number stays broken", "not_waiting")
def _(stage: Stage) -> dict[str, Any]:
    host, states = _waiting(stage)
    host.files.create(f"{states}\\00004.txt", b"phase=w")
    answer = _withdraw(stage, host, hasty(host))
    assert host.files.read(f"{states}\\00004.txt") == b"phase=w"
    assert not host.files.is_file(f"{states}\\00005.txt")
    return answer


@case("withdraw_job", "it does not wait any more", "not_waiting")
def _(stage: Stage) -> dict[str, Any]:
    host, states = _waiting(stage)
    own = host.session().get_own_process()
    for number, phase in enumerate(("window_open", "checking_package"), 4):
        host.files.create(f"{states}\\{number:05d}.txt", state(phase, **own).encode())
    answer = _withdraw(stage, host)
    assert answer["detail"] == "a (install_update) running checking_package"
    assert not host.files.is_file(f"{states}\\00006.txt")
    return answer


@case("withdraw_job", "it has not begun yet", "not_waiting")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host)
    answer = _withdraw(stage, host)
    assert answer["detail"] == "a (install_update) claimed "
    assert host.files.entries(f"{folder}\\state") == []
    return answer


@case("withdraw_job", "it has ended", "not_waiting")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("started"), state("waiting_for_window"), state("finished", reason="done"))
    answer = _withdraw(stage, host)
    assert answer["detail"] == "a (install_update) finished finished"
    return answer


@case("withdraw_job", "a restart has ended it while it waited", "not_waiting")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host, state("started"), state("waiting_for_window"))
    answer = _withdraw(stage, host)
    assert answer["detail"] == "a (install_update) interrupted waiting_for_window"
    assert host.files.entries(f"{folder}\\state") == ["00001.txt", "00002.txt"]
    return answer


@case("withdraw_job", "no staging folder", "no_job")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    answer = _withdraw(stage, host)
    assert not host.files.is_folder(host.staging_path)
    return answer


@case("withdraw_job", "no job", "no_job")
def _(stage: Stage) -> dict[str, Any]:
    answer = _withdraw(stage, stage.staged())
    assert (answer["job_id"], answer["job_kind"]) == ("", "")
    return answer


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


@case("cleanup", "somebody begins a job while a file is held")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.staged()
    path = f"{host.staging_path}\\files\\{SHA[:16]}\\parts\\{0:012d}-4.seg"
    host.session().lock_file(path)
    own = host.session().get_own_process()

    class Begun(SimulatedWindows):
        def wait_seconds(self, seconds: float) -> None:
            if not host.files.is_folder(f"{host.staging_path}\\jobs"):
                stage.job(host, state("started", **own))

    answer = stage.ask(host, "cleanup", windows=Begun(host.machine, host.session().process), **CLEANUP)
    assert stage.poll(host)["status"] == "running"
    assert f"{host.staging_path}\\jobs\\00001.claim" in answer["remaining"].split("\n")
    return answer


@case("cleanup", "a job's first state was cut off")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, "", claimed=LONG_AGO)
    answer = stage.ask(host, "cleanup", windows=hasty(host), **CLEANUP)
    assert answer["removed"] == host.staging_path
    return answer


def _kept(host: Host, *endings: str) -> str:
    """Let an upgrade have left files with these endings; where they lie."""
    kept = f"C:\\Windows\\{KEPT_NAME}"
    host.files.make_folder(kept, CLOSED)
    for ending in endings:
        host.files.create(f"{kept}\\00002{ending}", b"time=2008-07-15T10:00:00Z\nend\n")
    return kept


@case("cleanup", "a WSUS that its setup had removed is back")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="3.0 SP2")
    kept = _kept(host, ".upgrade", ".running")
    answer = stage.ask(host, "cleanup", **CLEANUP)
    assert b"why=returned\n" in (host.files.read(f"{kept}\\00002.settled") or b"")
    assert stage.facts(host)["upgrade_state"] == "settled"
    return answer


@case("cleanup", "a WSUS that its setup had removed is not to come back")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus="console")
    kept = _kept(host, ".upgrade", ".running")
    stage.ask(host, "cleanup", **CLEANUP)
    assert stage.facts(host)["upgrade_state"] == "open"
    answer = stage.ask(host, "cleanup", **{**CLEANUP, "removal_meant": True})
    sid = host.session().get_session_identity()["sid"]
    assert f"why=meant\naccount_sid={sid}\nend\n".encode() in (host.files.read(f"{kept}\\00002.settled") or b"")
    assert stage.facts(host)["upgrade_state"] == "settled"
    return answer


@case("cleanup", "what an upgrade had stopped is started before anything is settled")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus=None)
    kept = _kept(host, ".upgrade")
    answer = stage.ask(host, "cleanup", **{**CLEANUP, "removal_meant": True})
    assert host.files.entries(kept) == ["00002.upgrade"]
    return answer


@case("cleanup", "that a removal is meant cannot be written down")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(wsus=None)
    kept = _kept(host, ".upgrade", ".running")
    host.faults.disk_full()
    answer = stage.ask(host, "cleanup", **{**CLEANUP, "removal_meant": True})
    assert answer["detail"] != ""
    assert not host.files.is_file(f"{kept}\\00002.settled")
    return answer


@case("cleanup", "a job was called off, and has not seen it yet", "job_running")
def _(stage: Stage) -> dict[str, Any]:
    host, states = _waiting(stage)
    _withdraw(stage, host)
    answer = stage.ask(host, "cleanup", **CLEANUP)
    assert host.files.is_file(f"{states}\\00004.txt")
    return answer


@case("cleanup", "a job runs", "job_running")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    stage.job(host, state("started", **host.session().get_own_process()))
    answer = stage.ask(host, "cleanup", **CLEANUP)
    assert answer["detail"] == "a"
    return answer
