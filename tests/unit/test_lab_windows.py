"""The simulated Windows and the scripts' behaviours on it, without any network."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests import builders
from wsusfix import advisory
from wsusfix.facts import parse, probe_parameters
from wsusfix.lab import Host, Lab
from wsusfix.lab.behaviours import BEHAVIOURS, JOBS, UnknownScript, recognise
from wsusfix.lab.filesystem import Drive, FileSystem, Messages, WindowsError_
from wsusfix.lab.host import HostFaults
from wsusfix.lab.scheduler import SYSTEM, ProcessEnded
from wsusfix.lab.windows import SimulatedWindows, from_clixml, primitives, to_clixml
from wsusfix.options import Timeouts
from wsusfix.scripts import compose, functions_of, source
from wsusfix.scripts.contracts import CONTRACTS, STAGING_NAME, TASK_NAME, JobPhase, JobStatus

DLL = f"C:\\Program Files\\Update Services\\{advisory.CLIENT_DLL}"
STAGING = "C:\\Windows\\wsusfix"


class Driver:
    """Asks the behaviours of one server as a session would, and holds them to their contracts."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.windows = host.session()

    def ask(self, name: str, chunks: Iterable[object] = (), /, **parameters: object) -> dict[str, Any]:
        CONTRACTS[name].check_parameters(parameters)
        answer = BEHAVIOURS[name](self.windows, parameters, iter(chunks))
        return dict(CONTRACTS[name].read({"script": name, **answer}))

    def facts(self) -> dict[str, Any]:
        return self.ask("facts", **probe_parameters(Timeouts()))

    def upload(self, package: Path, *, segment: int = 1 << 20) -> dict[str, Any]:
        data = package.read_bytes()
        about = {"staging_name": STAGING_NAME, "sha256": hashlib.sha256(data).hexdigest()}
        named = {**about, "size": str(len(data)), "name": package.name}
        staged = self.ask("stage", **named, reserve="0")
        assert staged["refused"] == ""
        if staged["complete"]:
            return staged
        for offset in range(0, len(data), segment):
            piece = data[offset : offset + segment]
            chunks = [piece[at : at + 100_000] for at in range(0, len(piece), 100_000)]
            answer = self.ask(
                "receive", chunks, **about, offset=str(offset), length=str(len(piece)), segment=str(len(piece))
            )
            assert answer == {"refused": "", "detail": "", "received": str(len(piece))}
        return self.ask("assemble", **named)

    def start(self, job_id: str = "", **changed: Any) -> dict[str, Any]:
        text = compose("install_update").text
        return self.ask(
            "start_job",
            **{
                "staging_name": STAGING_NAME,
                "task_name": TASK_NAME,
                "job_id": job_id or uuid.uuid4().hex,
                "job_kind": "install_update",
                "job_script": text,
                "job_sha256": compose("install_update").staged_sha256,
                "job_parameters": {},
                "start_seconds": 60,
                **changed,
            },
        )

    def poll(self, job_id: str, after: int = 0, start_seconds: int = 60) -> dict[str, Any]:
        return self.ask("poll_job", staging_name=STAGING_NAME, job_id=job_id, after=after, start_seconds=start_seconds)

    def install(self, package: Path, **changed: Any) -> tuple[str, dict[str, str]]:
        """Upload and install; the job's status at its end and its last state."""
        path = self.upload(package)["path"]
        answer = self.start(job_parameters=job_parameters(path, package, **changed))
        assert answer["refused"] == ""
        return self.end_of(answer["job_id"])

    def end_of(self, job_id: str) -> tuple[str, dict[str, str]]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = self.poll(job_id)
            if answer["status"] not in (JobStatus.CLAIMED.value, JobStatus.RUNNING.value):
                return answer["status"], states_of(answer["states"])[-1]
            time.sleep(0.02)
        raise AssertionError(f"the job does not end: {self.poll(job_id)}")


def states_of(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.split("\nend") if block.strip()]
    return [dict(line.split("=", 1) for line in block.strip().splitlines()) for block in blocks] or [{}]


def job_parameters(path: str, package: Path, **changed: Any) -> dict[str, Any]:
    parameters = {
        "package": path,
        "package_sha256": hashlib.sha256(package.read_bytes()).hexdigest(),
        "program": "",
        "arguments": advisory.EXE_ARGUMENTS,
        "dll": DLL,
        "required_version": str(advisory.FIXED_DLL),
        "busy_exit_code": str(advisory.EXIT_BUSY),
        "rename_key": advisory.RENAME_KEY,
        "rename_value": advisory.RENAME_VALUE,
        "roots": list(advisory.MICROSOFT_ROOTS),
        "accept_unverifiable": False,
        "signature_seconds": 30,
        "busy_seconds": 0,
        "still_seconds": 600,
        "event_source": "wsusfix",
        "audit": "asked by LAB\\admin",
        "not_before": "",
        "not_after": "",
        **changed,
    }
    CONTRACTS["install_update"].check_parameters(parameters)
    return parameters


@pytest.fixture
def stand(lab: Lab) -> Callable[..., Driver]:
    def up(**options: Any) -> Driver:
        host = lab.add_server(f"wsus{len(lab.hosts)}", **options)
        host.install_seconds = 0.02
        return Driver(host)

    return up


@pytest.fixture
def server(stand: Callable[..., Driver]) -> Driver:
    return stand()


# --- primitives -------------------------------------------------------------------------------------------------------


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("-", "_")).replace("__", "_").lower()


def called_functions() -> set[str]:
    """Functions of windows.ps1 that other scripts call directly."""
    known = functions_of(source("windows")).keys()
    texts = [source(name) for name in (*CONTRACTS, "jobs")]
    return {
        word for text in texts for word in re.findall(r"\b[A-Z][A-Za-z]*-[A-Z][A-Za-z0-9]*\b", text) if word in known
    }


@pytest.mark.parametrize("name", sorted(called_functions()))
def test_every_function_of_windows_that_a_script_calls_is_a_primitive_with_the_same_parameters(name: str) -> None:
    block = re.search(r"^\s*param\(([^)]*)\)", functions_of(source("windows"))[name], re.MULTILINE)
    wanted = re.findall(r"\$([A-Za-z0-9]+)", block.group(1)) if block else []
    assert snake(name) in primitives()
    method = inspect.signature(getattr(SimulatedWindows, snake(name)))
    assert [parameter.rstrip("_") for parameter in method.parameters][1:] == [snake(each) for each in wanted]


def test_paths_and_registry_keys_are_found_whatever_their_case(server: Driver) -> None:
    assert server.windows.get_file_version(DLL.upper()) == "3.1.6001.65"
    key = advisory.SETUP_KEY
    assert server.windows.get_registry_value(key.upper(), "versionstring") == "3.1.6001.65"
    assert server.windows.get_registry_value(key, "InstallType") == "1"
    assert server.windows.get_registry_value(key, "NoSuchValue") is None


def test_a_text_file_is_created_once_and_never_written_over(server: Driver) -> None:
    windows = server.windows
    assert windows.add_text_file("C:\\Windows\\a.txt", "first")
    assert not windows.add_text_file("C:\\Windows\\A.TXT", "second")
    assert windows.read_text_file("C:\\Windows\\a.txt") == "first"


def test_a_file_is_moved_only_where_nothing_stands(server: Driver) -> None:
    windows = server.windows
    windows.add_text_file("C:\\Windows\\a", "a")
    windows.add_text_file("C:\\Windows\\b", "b")
    assert not windows.move_file_to_new("C:\\Windows\\a", "C:\\Windows\\b")
    assert windows.move_file_to_new("C:\\Windows\\a", "C:\\Windows\\c")
    assert (windows.read_text_file("C:\\Windows\\b"), windows.read_text_file("C:\\Windows\\c")) == ("b", "a")
    assert not windows.test_file("C:\\Windows\\a")


def test_a_locked_file_can_be_read_but_neither_changed_nor_removed_until_its_holder_ends(server: Driver) -> None:
    windows, holder = server.windows, server.host.session()
    windows.add_binary_file("C:\\Windows\\a", b"a")
    holder.lock_file("C:\\Windows\\a")
    with pytest.raises(WindowsError_, match="being used by another process"):
        windows.add_binary_file("C:\\Windows\\a", b"b")
    with pytest.raises(WindowsError_, match="being used by another process"):
        windows.remove_file("C:\\Windows\\a")
    assert windows.read_text_file("C:\\Windows\\a") == "a"
    server.host.machine.processes.end(holder.process)
    windows.remove_file("C:\\Windows\\a")
    assert not windows.test_file("C:\\Windows\\a")


def test_a_write_beyond_the_free_space_fails_and_changes_nothing(server: Driver) -> None:
    server.host.faults.disk_full(free=10)
    with pytest.raises(WindowsError_, match="not enough space"):
        server.windows.add_binary_file("C:\\Windows\\a", bytes(11))
    assert not server.windows.test_file("C:\\Windows\\a")
    server.windows.add_binary_file("C:\\Windows\\a", bytes(10))
    assert server.windows.get_free_space("C:\\") == "0"
    server.windows.remove_file("C:\\Windows\\a")
    assert server.windows.get_free_space("C:\\") == "10"


def test_removing_a_tree_leaves_what_a_junction_in_it_leads_to(server: Driver) -> None:
    files = server.host.files
    files.make_folders("C:\\elsewhere")
    files.create("C:\\elsewhere\\precious", b"x")
    files.make_folders("C:\\Windows\\tree")
    files.make_folder("C:\\Windows\\tree\\link", reparse="C:\\elsewhere")
    server.windows.remove_tree("C:\\Windows\\tree")
    assert not server.windows.test_folder("C:\\Windows\\tree")
    assert files.read("C:\\elsewhere\\precious") == b"x"


@pytest.mark.parametrize(
    ("text", "encoding"), [("one\r\ntwo æ", "utf-8"), ("\ufeffone\r\ntwo æ", "utf-16-le")], ids=["utf-8", "utf-16"]
)
def test_the_tail_of_a_log_is_read_in_the_encoding_of_its_mark(server: Driver, text: str, encoding: str) -> None:
    server.host.files.create("C:\\Windows\\a.log", text.encode(encoding))
    assert server.windows.read_file_tail("C:\\Windows\\a.log", 100_000) == "one\r\ntwo æ"
    tail = server.windows.read_file_tail("C:\\Windows\\a.log", 7)
    assert len(tail) in range(3, 8)
    assert "one\r\ntwo æ".endswith(tail)


def test_a_closed_folder_is_closed_to_all_but_administrators(stand: Callable[..., Driver]) -> None:
    administrator, other = stand(), stand(administrator=False, session_allowed=True)
    administrator.windows.new_closed_folder(STAGING)
    assert administrator.windows.get_folder_trust(STAGING) == ""
    other.host.machine.files.make_folder(STAGING, administrator.host.files.own_security(STAGING))
    with pytest.raises(WindowsError_, match="denied") as refused:
        other.windows.get_folder_entries(STAGING)
    assert refused.value.exception == "System.UnauthorizedAccessException"
    with pytest.raises(WindowsError_, match="denied"):
        other.windows.add_text_file(f"{STAGING}\\a", "a")


@pytest.mark.parametrize("how", ["owner", "acl", "reparse", "file"])
def test_a_staging_folder_that_somebody_made_before_is_told_by_what_is_wrong_with_it(server: Driver, how: str) -> None:
    server.host.faults.precreate_staging(how=how)
    expected = f"staging_{'is_file' if how == 'file' else how}"
    assert server.windows.get_folder_trust(STAGING) == expected
    answer = server.ask("stage", staging_name=STAGING_NAME, sha256="0" * 64, size="1", name="a.exe", reserve="0")
    assert (answer["refused"], answer["detail"]) == (expected, STAGING)
    facts = server.facts()
    assert (facts["staging_state"], facts["staging_detail"]) == ("refused", expected)


def test_errors_are_told_in_the_language_of_the_server(stand: Callable[..., Driver]) -> None:
    norwegian = stand(culture="nb-NO")
    norwegian.host.faults.disk_full()
    with pytest.raises(WindowsError_, match="ikke nok plass"):
        norwegian.windows.add_text_file("C:\\Windows\\a", "a")


def test_parameters_come_back_from_their_file_as_they_were_kept(server: Driver) -> None:
    kept = {
        "text": "æ <&>\r\nsecond _x000A_ line",
        "yes": True,
        "number": -5,
        "list": ["a", "b"],
        "empty": [],
        "in": {},
    }
    server.windows.save_parameters("C:\\Windows\\p.xml", kept)
    assert server.windows.read_parameters("C:\\Windows\\p.xml") == kept
    assert from_clixml(to_clixml({"a": {"b": [1, True]}})) == {"a": {"b": [1, True]}}
    with pytest.raises(WindowsError_, match="no CLIXML"):
        from_clixml(b"nonsense")


def test_a_process_that_has_ended_can_ask_nothing_any_more(server: Driver) -> None:
    own = server.windows.get_own_process()
    other = server.host.session()
    assert other.get_process_created(int(str(own["pid"]))) == own["created"]
    server.host.machine.processes.end(server.windows.process)
    with pytest.raises(ProcessEnded):
        server.windows.get_clock()
    assert other.get_process_created(int(str(own["pid"]))) is None


def test_a_pid_comes_again_after_a_restart_but_not_with_the_same_creation_time(server: Driver) -> None:
    before = server.windows.get_own_process()
    server.host.reboot(0.0)
    after = server.host.session().get_own_process()
    assert after["pid"] == before["pid"]
    assert after["created"] != before["created"]


def test_waiting_ends_when_the_session_is_stopped(server: Driver) -> None:
    stopped = threading.Event()
    windows = server.host.session(stopped)
    threading.Timer(0.05, stopped.set).start()
    began = time.monotonic()
    with pytest.raises(ProcessEnded):
        windows.wait_seconds(30)
    assert time.monotonic() - began < 5


def test_the_old_scheduler_takes_no_long_command_line_and_the_new_one_does(stand: Callable[..., Driver]) -> None:
    script = f"C:\\{'a' * 240}.ps1"
    old = stand(os="Windows Server 2003").windows.register_system_task("job", script)
    assert "too long" in old
    assert stand(os="Windows Server 2008").windows.register_system_task("job", script) == ""


def test_a_task_that_is_not_there_cannot_be_started(server: Driver) -> None:
    assert server.windows.start_system_task("nothing").startswith("0x")
    assert not server.windows.remove_system_task("nothing")


def test_no_task_can_be_made_by_who_is_no_administrator(stand: Callable[..., Driver]) -> None:
    other = stand(administrator=False, session_allowed=True)
    assert other.windows.register_system_task("job", "C:\\a.ps1") == "0x80070005"
    assert other.host.tasks == ()


# --- what servers there are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "there"),
    [
        ({"os": "Windows 95"}, "'Windows Server 2003'"),
        ({"arch": "arm"}, "'x86', 'x64'"),
        ({"wsus": "3.0 SP9"}, "'3.0 SP1'"),
        ({"culture": "xx-XX"}, "'nb-NO'"),
        ({"service_pack": 7}, "1, 2"),
        ({"database": "oracle"}, "'embedded'"),
        ({"neighbours": ["exchange"]}, "'configmgr'"),
        ({"os": "Windows Server 2008 R2", "wsus": "3.0 SP1"}, "'3.0 SP2'"),
        ({"os": "Windows Server 2008 R2", "wsus": "3.0 SP2", "arch": "x86"}, "'x64'"),
        ({"os": "Small Business Server 2003", "arch": "x64"}, "'x86'"),
    ],
)
def test_a_server_that_cannot_be_is_refused_with_what_there_is(lab: Lab, wrong: dict[str, Any], there: str) -> None:
    with pytest.raises(ValueError, match="there is no") as refused:
        lab.add_server("wsus01", **wrong)
    assert there in str(refused.value)
    assert lab.hosts == ()


@pytest.mark.parametrize(
    ("wsus", "version", "dll", "install_type"),
    [
        ("console", "3.1.6001.65", "", "2"),
        ("2.0", "2.0.0.2472", "2.0.0.2472", "128"),
        ("3.0 RTM", "3.0.6000.374", "3.0.6000.374", "1"),
        ("3.0 SP1", "3.1.6001.65", "3.1.6001.65", "1"),
        ("3.0 SP1 KB954960", "3.1.6001.65", "3.1.6001.66", "1"),
        ("3.0 SP2", "3.2.7600.226", "3.1.7600.226", "1"),
    ],
)
def test_every_generation_of_wsus_is_found_with_its_version_and_dll(
    stand: Callable[..., Driver], wsus: str, version: str, dll: str, install_type: str
) -> None:
    facts = stand(wsus=wsus).facts()
    assert facts["setup_present"]
    assert (facts["setup_VersionString"], facts["setup_InstallType"]) == (version, install_type)
    assert (facts["dll_present"], facts["dll_version"]) == (bool(dll), dll)
    assert facts["wsus2_product"] == (wsus == "2.0")
    assert facts.get("service_wsusservice") == (None if wsus == "console" else "running")


def test_a_server_without_wsus_has_no_setup_key_and_no_dll(stand: Callable[..., Driver]) -> None:
    server = stand(wsus=None)
    facts = server.facts()
    assert (facts["setup_present"], facts["dll_path"], facts["dll_present"]) == (False, "", False)
    assert server.host.dll_version is None


def test_a_norwegian_server_has_wsus_below_programfiler(stand: Callable[..., Driver]) -> None:
    facts = stand(culture="nb-NO", os="Windows Server 2003", arch="x86").facts()
    assert facts["dll_path"].startswith("C:\\Programfiler\\Update Services\\")
    assert (facts["dll_version"], facts["culture"]) == ("3.1.6001.65", "nb-NO")


@pytest.mark.parametrize(
    ("options", "place"),
    [({"database": "embedded"}, "embedded"), ({"database": "local"}, "local"), ({"database": "remote"}, "remote")],
)
def test_the_place_of_the_database_can_be_told_from_the_registry(
    stand: Callable[..., Driver], options: dict[str, str], place: str
) -> None:
    database = parse("x", stand(**options).facts()).wsus.database
    assert database is not None
    assert database.place.value == place


def test_neighbours_small_business_policy_and_pending_restart_are_seen(stand: Callable[..., Driver]) -> None:
    facts = parse(
        "x",
        stand(
            os="Small Business Server 2003",
            neighbours=("configmgr", "essentials"),
            pending_restart=True,
            execution_policy="AllSigned",
            free_space=1234,
        ).facts(),
    )
    assert facts.os.small_business
    assert facts.neighbours == ("configmgr", "essentials")
    assert facts.restart.pending
    assert facts.session.execution_policy == "AllSigned"
    assert (facts.staging.free, facts.staging.system_free) == (1234, 1234)


def test_a_restart_clears_what_waited_for_it_and_moves_the_boot_time(stand: Callable[..., Driver]) -> None:
    server = stand(pending_restart=True)
    before = parse("x", server.facts())
    server.host.reboot(0.0)
    server.windows = server.host.session()
    after = parse("x", server.facts())
    assert (before.restart.pending, after.restart.pending) == (True, False)
    assert after.boot_time > before.boot_time
    assert after.wsus == before.wsus


# --- staging ----------------------------------------------------------------------------------------------------------


def test_a_package_arrives_whole_and_is_not_sent_twice(server: Driver, lab: Lab) -> None:
    package = lab.package(size=1_500_000)
    answer = server.upload(package, segment=400_000)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    assert answer["path"] == f"{STAGING}\\files\\{digest[:16]}\\{package.name}"
    assert server.host.files.read(answer["path"]) == package.read_bytes()
    again = server.ask(
        "stage", staging_name=STAGING_NAME, sha256=digest, size="1500000", name=package.name, reserve="0"
    )
    assert (again["complete"], again["segments"]) == (True, "")


def test_segments_that_are_there_are_told_and_a_missing_one_is_named(server: Driver) -> None:
    data = b"abcdef"
    about = {"staging_name": STAGING_NAME, "sha256": hashlib.sha256(data).hexdigest()}
    named = {**about, "size": "6", "name": "a.exe"}
    server.ask("stage", **named, reserve="0")
    server.ask("receive", [data[:2]], **about, offset="0", length="2", segment="2")
    server.ask("receive", [data[4:]], **about, offset="4", length="2", segment="2")
    assert server.ask("stage", **named, reserve="0")["segments"] == "0-2\n4-2"
    missing = server.ask("assemble", **named)
    assert (missing["refused"], missing["detail"]) == ("missing_segment", "offset: 2")
    server.ask("receive", [data[2:]], **about, offset="2", length="4", segment="4")
    assert server.ask("assemble", **named)["found_sha256"] == about["sha256"]


@pytest.mark.parametrize("quicker", [True, False])
def test_segments_that_vanish_are_no_loss_when_somebody_else_has_joined_them(
    server: Driver, monkeypatch: pytest.MonkeyPatch, quicker: bool
) -> None:
    data = b"abcdef"
    about = {"staging_name": STAGING_NAME, "sha256": hashlib.sha256(data).hexdigest()}
    named = {**about, "size": "6", "name": "a.exe"}
    server.ask("stage", **named, reserve="0")
    server.ask("receive", [data], **about, offset="0", length="6", segment="6")
    join = SimulatedWindows.join_files

    def late(windows: SimulatedWindows, sources: list[str], target: str) -> None:
        monkeypatch.undo()
        if quicker:
            assert server.ask("assemble", **named)["found_sha256"] == about["sha256"]
        else:
            windows.remove_file(sources[0])
        join(windows, sources, target)

    monkeypatch.setattr(SimulatedWindows, "join_files", late)
    if quicker:
        answer = server.ask("assemble", **named)
        assert (answer["refused"], answer["found_sha256"]) == ("", about["sha256"])
        assert server.host.files.read(answer["path"]) == data
    else:
        with pytest.raises(WindowsError_):
            server.ask("assemble", **named)
    assert not [path for path in server.host.files if "joined-" in path]


def test_a_segment_that_comes_short_leaves_nothing_behind(server: Driver) -> None:
    about = {"staging_name": STAGING_NAME, "sha256": "0" * 64}
    server.ask("stage", **about, size="6", name="a.exe", reserve="0")
    answer = server.ask("receive", [b"ab"], **about, offset="0", length="6", segment="6")
    assert (answer["refused"], answer["received"]) == ("short_segment", "2")
    assert [path for path in server.host.files if path.startswith(STAGING)] == []


def test_of_a_stretch_that_breaks_off_the_whole_segments_stay(server: Driver) -> None:
    about = {"staging_name": STAGING_NAME, "sha256": "0" * 64}
    named = {**about, "size": "6", "name": "a.exe"}
    server.ask("stage", **named, reserve="0")
    answer = server.ask("receive", [b"a", b"b", b"c"], **about, offset="0", length="6", segment="2")
    assert (answer["refused"], answer["received"]) == ("short_segment", "3")
    assert server.ask("stage", **named, reserve="0")["segments"] == "0-2"


def test_a_package_that_arrived_changed_is_refused_and_its_segments_are_dropped(server: Driver) -> None:
    about = {"staging_name": STAGING_NAME, "sha256": hashlib.sha256(b"abcdef").hexdigest()}
    named = {**about, "size": "6", "name": "a.exe"}
    server.ask("stage", **named, reserve="0")
    server.ask("receive", [b"abcdeX"], **about, offset="0", length="6", segment="6")
    answer = server.ask("assemble", **named)
    assert answer["refused"] == "hash_mismatch"
    assert answer["found_sha256"] == hashlib.sha256(b"abcdeX").hexdigest()
    assert [path for path in server.host.files if path.startswith(STAGING)] == []


def test_nothing_is_staged_without_room_for_it(stand: Callable[..., Driver]) -> None:
    server = stand(free_space=1_000_000)
    answer = server.ask("stage", staging_name=STAGING_NAME, sha256="0" * 64, size="600000", name="a.exe", reserve="0")
    assert (answer["refused"], answer["detail"]) == ("no_space", "bytes needed: 1200000")
    assert not server.windows.test_folder(STAGING)


def test_nothing_is_staged_for_who_is_no_administrator(stand: Callable[..., Driver]) -> None:
    server = stand(administrator=False, session_allowed=True)
    answer = server.ask("stage", staging_name=STAGING_NAME, sha256="0" * 64, size="1", name="a.exe", reserve="0")
    assert answer["refused"] == "not_administrator"
    assert server.facts()["administrator"] is False


# --- jobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("os", ["Windows Server 2003", "Windows Server 2008"])
def test_the_update_is_installed_by_a_job_of_system(stand: Callable[..., Driver], lab: Lab, os: str) -> None:
    server = stand(os=os)
    status, last = server.install(lab.package(), dll=server.facts()["dll_path"])
    assert (status, last["phase"], last["reason"]) == ("finished", "finished", "done")
    assert (last["exit_code"], last["dll_before"], last["dll_after"]) == ("0", "3.1.6001.65", "3.1.6001.66")
    assert (last["pending_rename"], last["event_logged"]) == ("false", "true")
    assert server.host.dll_version == "3.1.6001.66"
    (job,) = server.host.jobs
    assert job.account == "NT AUTHORITY\\SYSTEM"
    assert job.account in repr(job).replace("\\\\", "\\")
    assert job.phases[0] == "started"
    assert job.phases[-1] == "finished"
    (installation,) = server.host.installations
    assert (installation.exit_code, installation.account) == (0, "NT AUTHORITY\\SYSTEM")
    (entry,) = server.host.event_log
    assert (entry.source, entry.failed) == ("wsusfix", False)
    assert "asked by LAB\\admin" in entry.text


def test_the_states_of_a_job_come_in_order_and_only_the_newer_ones(server: Driver, lab: Lab) -> None:
    server.install(lab.package())
    job = server.host.jobs[0].id
    answer = server.poll(job)
    phases = [state["phase"] for state in states_of(answer["states"])]
    assert phases == [
        "started",
        "checking_package",
        "checking_signature",
        "launching",
        "installing",
        "installed",
        "finished",
    ]
    assert answer["last"] == len(phases)
    rest = server.poll(job, after=answer["last"] - 1)
    assert rest["states"].startswith(f"number={answer['last']}\nphase=finished\n")
    assert rest["states"].endswith("\nend")


def test_the_log_of_a_job_is_brought_back_with_its_hash(server: Driver, lab: Lab) -> None:
    server.install(lab.package())
    asked = {"first": [], "each": 10_000, "most": 10_000}
    answer = server.ask("collect_job", staging_name=STAGING_NAME, job_id=server.host.jobs[0].id, tail=10_000, **asked)
    assert answer["log_1"] == answer["log_tail"]
    assert "MainEngineThread is returning 0" in answer["log_tail"]
    digest, length, name = answer["logs"].split("\n")[0].split(" ")
    log = server.host.files.read(f"{STAGING}\\jobs\\{server.host.jobs[0].id}\\install.log")
    assert log is not None
    assert (digest, int(length), name) == (hashlib.sha256(log).hexdigest(), len(log), "install.log")


@pytest.mark.parametrize(
    ("options", "package", "code"),
    [
        ({"wsus": "3.0 RTM"}, {}, "1642"),
        ({"wsus": "3.0 SP2"}, {}, "1642"),
        ({}, {"arch": "x86"}, "1633"),
        ({}, {"exit_code": 1603}, "1603"),
        ({}, {"exit_code": 1625}, "1625"),
    ],
)
def test_an_installer_that_cannot_install_says_why_and_changes_nothing(
    stand: Callable[..., Driver], lab: Lab, options: dict[str, str], package: dict[str, Any], code: str
) -> None:
    server = stand(**options)
    before = server.host.dll_version
    # A version that no DLL here has, so that the job does not find it fixed before it asks the installer.
    _, last = server.install(lab.package(**package), required_version="9.0.0.0")
    assert (last["reason"], last["exit_code"]) == ("done", code)
    assert server.host.dll_version == before
    assert [run.exit_code for run in server.host.installations] == [int(code)]
    assert server.host.event_log[0].failed


def test_an_installer_that_wants_a_restart_leaves_the_new_dll_to_it(server: Driver, lab: Lab) -> None:
    _, last = server.install(lab.package(exit_code=3010))
    assert (last["exit_code"], last["dll_after"], last["pending_rename"]) == ("3010", "3.1.6001.65", "true")
    assert parse("x", server.facts()).restart.concerns(DLL)
    assert not server.host.event_log[0].failed
    server.host.reboot(0.0)
    assert server.host.dll_version == "3.1.6001.66"
    server.windows = server.host.session()
    assert not parse("x", server.facts()).restart.pending


def test_an_installer_that_restarts_the_server_has_done_its_work_afterwards(server: Driver, lab: Lab) -> None:
    boot = server.host.machine.boot_time
    _, last = server.install(lab.package(exit_code=1641))
    assert last["exit_code"] == "1641"
    wait_until(lambda: server.host.machine.boot_time > boot)
    assert server.host.dll_version == "3.1.6001.66"


def test_windows_installer_restarts_the_server_by_itself_unless_told_not_to(server: Driver, lab: Lab) -> None:
    package = lab.package("WSUS-KB954960-x64.msp", exit_code=3010)
    restarted = threading.Event()
    server.host.machine.on_restart = restarted.set
    _, told = server.install(package, program=advisory.MSIEXEC, arguments=advisory.MSP_ARGUMENTS)
    assert told["exit_code"] == "3010"
    assert not restarted.wait(0.2)
    untold = advisory.MSP_ARGUMENTS.replace(" /norestart", "")
    _, begun = server.install(package, program=advisory.MSIEXEC, arguments=untold)
    assert begun["exit_code"] == "1641"
    assert restarted.wait(10)


@pytest.mark.parametrize(
    ("program", "arguments", "name", "code"),
    [
        (advisory.MSIEXEC, advisory.MSP_ARGUMENTS, "a.msp", "0"),
        (advisory.MSIEXEC, advisory.MSI_ARGUMENTS, "a.msi", "0"),
        (advisory.MSIEXEC, advisory.MSI_ARGUMENTS, "a.msp", "1620"),
        (advisory.MSIEXEC, advisory.MSP_ARGUMENTS, "a.exe", "1636"),
        (advisory.MSIEXEC, "/qn", "a.msp", "1639"),
    ],
)
def test_windows_installer_takes_its_own_kinds_and_command_lines_only(
    server: Driver, lab: Lab, program: str, arguments: str, name: str, code: str
) -> None:
    package = lab.package(name)
    _, last = server.install(package, program=program, arguments=arguments)
    assert (last["reason"], last["exit_code"]) == ("done", code)
    assert server.host.dll_version == ("3.1.6001.66" if code == "0" else "3.1.6001.65")


def test_a_real_program_is_not_run(server: Driver, tmp_path: Path) -> None:
    program = tmp_path / "real.exe"
    program.write_bytes(b"MZ" + bytes(1000))
    server.host.faults.signature("valid")
    _, last = server.install(program)
    assert last["reason"] == "not_launched"
    assert "stand-in" in last["detail"]
    assert server.host.installations == ()


def test_an_installer_with_a_dialog_stands_still_for_ever_and_is_told(server: Driver, lab: Lab) -> None:
    package = lab.package()
    path = server.upload(package)["path"]
    server.start(job_parameters=job_parameters(path, package, arguments="{log}"))
    wait_until(lambda: any(process.name == package.name for process in server.host.processes))
    (child,) = [process for process in server.host.processes if process.name == package.name]
    wait_until(lambda: child._stood_still is not None)
    used = server.windows.get_process_time(child.pid)
    server.windows.wait_seconds(0.2)
    assert server.windows.get_process_time(child.pid) == used
    assert server.host.dll_version == "3.1.6001.65"


@pytest.mark.parametrize(
    ("signature", "accept", "reason"),
    [
        ("invalid", True, "signature_invalid"),
        ("unverifiable", False, "signature_unverifiable"),
        ("unverifiable", True, "done"),
    ],
)
def test_a_package_is_run_only_with_a_signature_that_is_good_enough(
    server: Driver, lab: Lab, signature: str, accept: bool, reason: str
) -> None:
    _, last = server.install(lab.package(signature=signature), accept_unverifiable=accept)
    assert last["reason"] == reason
    assert len(server.host.installations) == (reason == "done")


def test_a_signature_below_none_of_the_given_roots_is_invalid(server: Driver, lab: Lab) -> None:
    _, last = server.install(lab.package(), roots=[])
    assert last["reason"] == "signature_invalid"


def test_a_package_that_was_swapped_after_its_upload_is_not_run(server: Driver, lab: Lab) -> None:
    server.host.faults.swap_package()
    _, last = server.install(lab.package())
    assert last["reason"] == "package_changed"
    assert server.host.installations == ()


def test_a_package_that_is_held_by_the_job_cannot_be_swapped(server: Driver, lab: Lab) -> None:
    server.host.faults.swap_package(phase="checking_signature")
    _, last = server.install(lab.package())
    assert last["reason"] == "done"
    assert server.host.dll_version == "3.1.6001.66"


def test_a_fixed_server_is_not_installed_on_again(stand: Callable[..., Driver], lab: Lab) -> None:
    server = stand(wsus="3.0 SP1 KB954960")
    _, last = server.install(lab.package())
    assert last["reason"] == "already_fixed"
    assert server.host.installations == ()


def test_another_installation_is_not_disturbed(server: Driver, lab: Lab) -> None:
    server.host.faults.installer_busy()
    _, last = server.install(lab.package())
    assert last["reason"] == "installer_busy"
    assert server.host.installations == ()


def test_a_second_order_joins_the_job_that_runs(server: Driver, lab: Lab) -> None:
    server.host.faults.hold_job(phase="started")
    package = lab.package()
    path = server.upload(package)["path"]
    first = server.start(job_parameters=job_parameters(path, package))
    second = server.start(job_parameters=job_parameters(path, package))
    assert (second["joined"], second["job_id"]) == (True, first["job_id"])
    server.host.faults.let_job_go()
    server.end_of(first["job_id"])
    assert len(server.host.jobs) == len(server.host.installations) == 1


def test_of_several_orders_at_once_one_job_comes(server: Driver, lab: Lab) -> None:
    server.host.faults.hold_job(phase="started")
    package = lab.package()
    path = server.upload(package)["path"]
    answers: list[dict[str, Any]] = []

    def order() -> None:
        answers.append(Driver(server.host).start(job_parameters=job_parameters(path, package)))

    threads = [threading.Thread(target=order) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer["job_id"] for answer in answers}) == 1
    assert sum(not answer["joined"] for answer in answers) == 1
    server.host.faults.let_job_go()
    server.end_of(answers[0]["job_id"])
    assert len(server.host.installations) == 1


def test_the_same_order_sent_twice_starts_nothing_new(server: Driver, lab: Lab) -> None:
    package = lab.package()
    path = server.upload(package)["path"]
    server.start("again", job_parameters=job_parameters(path, package))
    server.end_of("again")
    answer = server.start("again", job_parameters=job_parameters(path, package))
    assert (answer["joined"], answer["job_id"]) == (True, "again")
    assert len(server.host.jobs) == 1


def test_a_job_script_that_does_not_have_its_hash_is_not_run(server: Driver) -> None:
    answer = server.start("changed", job_sha256="0" * 64)
    assert answer["refused"] == "job_script_changed"
    assert server.poll("changed")["status"] == "none"
    assert server.host.tasks == ()


def test_a_script_that_is_not_the_librarys_never_begins_as_a_job(server: Driver) -> None:
    text = compose("install_update").text + "Get-Clock\n"
    digest = hashlib.sha256(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()).hexdigest()
    assert server.start("foreign", job_script=text, job_sha256=digest)["refused"] == ""
    server.windows.wait_seconds(0.1)
    assert server.host.jobs == ()
    assert server.poll("foreign", start_seconds=60)["status"] == "claimed"


def test_a_group_policy_for_signed_scripts_keeps_a_job_from_beginning(stand: Callable[..., Driver], lab: Lab) -> None:
    server = stand(execution_policy="AllSigned")
    package = lab.package()
    server.start("blocked", job_parameters=job_parameters(server.upload(package)["path"], package))
    server.windows.wait_seconds(0.1)
    assert server.host.jobs == ()


def test_a_task_that_never_starts_is_noticed_and_the_next_order_goes_ahead(server: Driver, lab: Lab) -> None:
    server.host.faults.task_never_starts()
    package = lab.package()
    given = job_parameters(server.upload(package)["path"], package)
    server.start("first", job_parameters=given)
    assert server.poll("first")["status"] == "claimed"
    server.host.machine.clock_offset += 61
    assert server.poll("first")["status"] == "never_started"
    server.host.faults.clear()
    second = server.start("second", job_parameters=given)
    assert (second["joined"], second["job_id"]) == (False, "second")
    assert server.end_of("second")[1]["reason"] == "done"
    assert server.poll("first")["status"] == "finished"


def test_a_task_that_comes_too_late_finds_its_token_gone(server: Driver, lab: Lab) -> None:
    server.host.faults.task_never_starts()
    package = lab.package()
    given = job_parameters(server.upload(package)["path"], package)
    server.start("late", job_parameters=given)
    server.host.machine.clock_offset += 61
    server.host.faults.clear()
    server.start("next", job_parameters=given)
    assert server.end_of("next")[1]["reason"] == "done"
    server.host.faults.task_starts_after_all()
    wait_until(lambda: any(job.id == "late" and job.ended for job in server.host.jobs))
    assert len(server.host.installations) == 1
    assert states_of(server.poll("late")["states"])[0]["phase"] == "abandoned"


def test_a_job_that_is_killed_before_its_installer_is_interrupted_and_a_new_one_installs(
    server: Driver, lab: Lab
) -> None:
    server.host.faults.kill_job(phase="checking_signature")
    status, last = server.install(lab.package())
    assert (status, last["phase"]) == ("interrupted", "checking_signature")
    assert server.host.installations == ()
    status, last = server.install(lab.package())
    assert (status, last["reason"]) == ("finished", "done")
    assert len(server.host.installations) == 1


def test_the_installer_of_a_killed_job_runs_on_and_the_job_counts_as_running_until_then(
    server: Driver, lab: Lab
) -> None:
    server.host.faults.installer_hangs()
    server.host.faults.kill_job(phase="installing")
    package = lab.package()
    path = server.upload(package)["path"]
    job = server.start(job_parameters=job_parameters(path, package))["job_id"]
    wait_until(lambda: bool(server.host.jobs and server.host.jobs[0].ended))
    assert server.poll(job)["status"] == "running"
    assert server.start(job_parameters=job_parameters(path, package))["joined"]
    server.host.machine.installer_hangs = False
    status, last = server.end_of(job)
    assert (status, last["phase"]) == ("interrupted", "installing")
    assert server.host.dll_version == "3.1.6001.66"


def test_a_job_that_ends_between_two_looks_at_it_is_finished_and_not_interrupted(server: Driver) -> None:
    class LooksLate(SimulatedWindows):
        def test_folder_process(self, folder: str) -> bool:
            self.add_text_file(f"{folder}\\jobs\\a\\state\\00002.txt", "phase=finished\nreason=done\nend\n")
            return False

    windows = LooksLate(server.host.machine, server.windows.process)
    windows.new_closed_folder(STAGING)
    windows.new_plain_folder(f"{STAGING}\\jobs\\a\\state")
    windows.add_text_file(f"{STAGING}\\jobs\\00001.claim", f"job_id=a\ntime={windows.get_clock()}\nend\n")
    windows.add_text_file(f"{STAGING}\\jobs\\a\\state\\00001.txt", "phase=installed\npid=4\ncreated=1\nend\n")
    server.windows = windows
    answer = server.poll("a")
    assert (answer["status"], answer["last"]) == ("finished", 2)


def test_a_restart_under_the_installer_interrupts_job_and_installation(server: Driver, lab: Lab) -> None:
    server.host.faults.installer_hangs()
    server.host.faults.reboot_during(phase="installing", seconds=0.0)
    package = lab.package()
    path = server.upload(package)["path"]
    job = server.start(job_parameters=job_parameters(path, package))["job_id"]
    wait_until(lambda: len(server.host.installations) == 1)
    server.windows = server.host.session()
    status, _ = server.end_of(job)
    assert status == "interrupted"
    assert server.host.installations[0].exit_code is None
    assert server.host.dll_version == "3.1.6001.65"
    assert server.host.faults.counts["reboot_during"] == 1


def test_nothing_is_left_after_cleaning_up(server: Driver, lab: Lab) -> None:
    server.install(lab.package())
    answer = server.ask("cleanup", **builders.CLEANUP)
    assert (answer["removed"], answer["remaining"]) == (f"{TASK_NAME}\n{STAGING}", "")
    assert server.host.tasks == ()
    assert not server.host.files.is_folder(STAGING)
    assert server.ask("cleanup", **builders.CLEANUP)["removed"] == ""


def test_nothing_is_cleaned_up_while_a_job_runs(server: Driver, lab: Lab) -> None:
    server.host.faults.hold_job(phase="started")
    package = lab.package()
    path = server.upload(package)["path"]
    job = server.start(job_parameters=job_parameters(path, package))["job_id"]
    answer = server.ask("cleanup", **builders.CLEANUP)
    assert (answer["refused"], answer["detail"]) == ("job_running", job)
    server.host.faults.let_job_go()
    assert server.end_of(job)[1]["reason"] == "done"


# --- what runs and what does not --------------------------------------------------------------------------------------


def test_every_script_has_a_behaviour_and_is_recognised_by_its_text() -> None:
    assert {*BEHAVIOURS, *JOBS} == set(CONTRACTS)
    assert all(recognise(compose(name).text) == name for name in CONTRACTS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 + 1", "only the scripts of wsusfix"),
        ("# wsusfix script: nonsense\nparam($Parameters)\n", "does not know the script 'nonsense'"),
        (compose("facts").text + "\n", "was changed"),
    ],
)
def test_any_other_text_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UnknownScript, match=re.escape(why)):
        recognise(text)


def test_no_thread_outlives_the_lab() -> None:
    before = set(threading.enumerate())
    with Lab() as lab:
        server = Driver(lab.add_server("wsus01"))
        server.host.faults.installer_hangs()
        package = lab.package()
        server.start(job_parameters=job_parameters(server.upload(package)["path"], package))
        wait_until(lambda: server.windows.test_installer_busy())
    assert set(threading.enumerate()) <= before
    assert not package.exists()
    lab.close()
    assert len(server.host.installations) == 1


def test_faults_of_an_unknown_phase_or_kind_are_refused(server: Driver) -> None:
    faults: HostFaults = server.host.faults
    with pytest.raises(ValueError, match="nonsense"):
        faults.kill_job(phase="nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        faults.precreate_staging(how="nonsense")


def test_a_file_system_lists_its_files_in_order_and_refuses_bad_paths() -> None:
    files = FileSystem(Messages(), {"C": Drive(1000, 1000)})
    files.make_folders("C:\\b\\c")
    files.create("C:\\b\\c\\two", b"2")
    files.create("C:\\a", b"1")
    assert list(files) == ["C:\\a", "C:\\b\\c\\two"]
    assert "C:\\B\\C" in files
    for path in ("C:\\b\\x\\y", "D:\\a", "C:\\a|b", "a"):
        with pytest.raises(WindowsError_):
            files.create(path, b"")


def wait_until(happened: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


# --- faults ----------------------------------------------------------------------------------------------------------


def _each_fault_of_the_server(faults: HostFaults) -> dict[str, Callable[[], object]]:
    return {
        "task_never_starts": faults.task_never_starts,
        "task_starts_after_all": faults.task_starts_after_all,
        "task_scheduler_stopped": faults.task_scheduler_stopped,
        "clock_jumps": lambda: faults.clock_jumps(seconds=-5),
        "task_starts_late": lambda: faults.task_starts_late(seconds=0.1),
        "installer_hangs": faults.installer_hangs,
        "installer_busy": faults.installer_busy,
        "backup_fails": faults.backup_fails,
        "service_stuck": lambda: faults.service_stuck("w3svc"),
        "restart_refused": faults.restart_refused,
        "disk_full": faults.disk_full,
        "signature": lambda: faults.signature("invalid"),
        "signature_stalls": faults.signature_stalls,
        "precreate_staging": faults.precreate_staging,
    }


def test_every_fault_inside_of_the_server_is_counted() -> None:
    with Lab() as lab:
        faults = lab.add_server("wsus01").faults
        bring_about = _each_fault_of_the_server(faults)
        at_phases = {"kill_job", "hold_job", "reboot_during", "swap_package", "at_phase"}
        no_fault = {"clear", "phase_written", "let_job_go"}
        ways = {name for name in vars(HostFaults) if not name.startswith("_")} - no_fault
        assert ways == bring_about.keys() | at_phases
        for happen in bring_about.values():
            happen()
        assert faults.counts == dict.fromkeys(bring_about, 1)
        faults.clear()
        assert faults.counts == dict.fromkeys(bring_about, 1)


def test_two_faults_of_one_phase_both_happen_in_their_order() -> None:
    with Lab() as lab:
        host = lab.add_server("wsus01")
        happened: list[str] = []
        host.faults.at_phase(lambda: happened.append("first"), phase="installed")
        host.faults.at_phase(lambda: happened.append("second"), phase="installed")
        process = host.machine.processes.start("job", "job", SYSTEM)
        host.faults.phase_written(process, JobPhase.INSTALLED)
        assert happened == ["first", "second"]
        assert host.faults.counts["at_phase"] == 2
        host.faults.phase_written(process, JobPhase.INSTALLED)
        assert len(happened) == 2, "those of a phase happen once"


@pytest.mark.parametrize("end", [HostFaults.let_job_go, HostFaults.clear])
def test_a_held_job_stands_still_until_it_is_let_go(end: Callable[[HostFaults], None]) -> None:
    with Lab() as lab:
        host = lab.add_server("wsus01")
        process = host.machine.processes.start("job", "job", SYSTEM)
        host.faults.hold_job(phase="installed")
        job = threading.Thread(target=host.faults.phase_written, args=(process, JobPhase.INSTALLED))
        job.start()
        job.join(0.1)
        assert job.is_alive()
        end(host.faults)
        job.join(20)
        assert not job.is_alive()
        host.faults.hold_job(phase="installed")
        end(host.faults)
        host.faults.phase_written(process, JobPhase.INSTALLED)
        assert host.faults.counts["hold_job"] == (2 if end is HostFaults.let_job_go else 1)


def test_a_held_job_can_be_killed() -> None:
    with Lab() as lab:
        host = lab.add_server("wsus01")
        process = host.machine.processes.start("job", "job", SYSTEM)
        host.faults.hold_job(phase="installed")
        killer = threading.Timer(0.05, host.machine.processes.end, (process,))
        killer.start()
        with pytest.raises(ProcessEnded):
            host.faults.phase_written(process, JobPhase.INSTALLED)
        killer.join()


@pytest.mark.parametrize(
    "happen",
    [
        lambda faults: faults.drop_after(sends=-1),
        lambda faults: faults.drop_after(sends=1.5),
        lambda faults: faults.drop_after(sends=1, times=0),
        lambda faults: faults.quota(times=-1),
        lambda faults: faults.access_denied(times=True),
        lambda faults: faults.reject_credentials(times="2"),
        lambda faults: faults.too_large(above=-1),
        lambda faults: faults.unavailable(seconds=math.nan),
        lambda faults: faults.unavailable(seconds=math.inf),
        lambda faults: faults.unavailable(seconds=-1),
        lambda faults: faults.hang_in_receive(seconds=math.nan),
        lambda faults: faults.hang_in_receive(seconds=1, times=-1),
        lambda faults: faults.reset_request(0),
        lambda faults: faults.reset_in_response(-1),
        lambda faults: faults.clock_jumps(seconds=math.nan),
        lambda faults: faults.task_starts_late(seconds=-1),
        lambda faults: faults.reboot_during(phase="installing", seconds=math.nan),
        lambda faults: faults.disk_full(free=-1),
        lambda faults: faults.signature("nonsense"),
        lambda faults: faults.kill_job(phase="nonsense"),
        lambda faults: faults.hold_job(phase="nonsense"),
        lambda faults: faults.at_phase(lambda: None, phase=""),
        lambda faults: faults.backup_fails("nonsense"),
        lambda faults: faults.precreate_staging(how="nonsense"),
    ],
)
def test_a_fault_that_cannot_mean_anything_is_refused(happen: Callable[[HostFaults], object]) -> None:
    with Lab() as lab:
        faults = lab.add_server("wsus01").faults
        with pytest.raises(ValueError, match=r"must be|there is no|is not a valid|not by|not 'nonsense'"):
            happen(faults)
        assert faults.counts == {}
