"""Every script of the library, told once more in Python over the same primitives.

Each behaviour follows its ``.ps1`` line by line and answers by the written contract, so that whatever the simulated
server is like decides the answer.  This module refuses to touch a machine in any other way than through
:class:`~wsusfix.lab.windows.SimulatedWindows`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ntpath
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, cast

from packaging.version import Version

from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.scheduler import Process
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts import compose, name_of
from wsusfix.scripts.contracts import (
    ContractError,
    JobPhase,
    JobReason,
    JobStatus,
    Refusal,
    StagingState,
)

__all__ = ["BEHAVIOURS", "JOBS", "Behaviour", "UnknownScript", "copy", "install_update", "recognise"]

Answer = dict[str, Any]
Parameters = Mapping[str, Any]
Behaviour = Callable[[SimulatedWindows, Parameters, Iterator[object]], Answer]

_SEGMENT: Final = re.compile(r"(\d{12})-(\d{1,12})\.seg")
_NUMBERED: Final = re.compile(r"\d{5}\.[a-z]+")
_UNKNOWN: Final = "the lab knows only the scripts of wsusfix and pypsrp's own copy: it does not run PowerShell"
_ABSENT: Final = "absent"
_LOG: Final = "install.log"
#: Exit code of an installer that found another one at work (Windows Installer error codes).
_ANOTHER_INSTALLATION: Final = "1618"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class UnknownScript(Exception):
    """The text is no script of the library's as it stands today; the message says what is wrong with it."""


def recognise(text: str) -> str:
    """Return which script *text* is.

    Raises:
        UnknownScript: none, or one that was changed.
    """
    name = name_of(text)
    if name is None:
        raise UnknownScript(_UNKNOWN)
    try:
        known = compose(name)
    except (ContractError, FileNotFoundError) as error:
        raise UnknownScript(f"the lab does not know the script {name!r}: {error}") from error
    if known.text != text:
        raise UnknownScript(
            f"this is not the script {name!r} of this wsusfix: it was changed, or is of another version"
        )
    return name


# --- jobs.ps1: what the scripts share ---------------------------------------------------------------------------------


def _staging_path(windows: SimulatedWindows, name: str) -> str:
    return f"{windows.get_windows_directory()}\\{name}"


def _staging_refusal(windows: SimulatedWindows, staging: str) -> str:
    """``""`` when the folder is there and closed; ``absent`` is for the caller to judge."""
    if not windows.get_session_identity()["administrator"]:
        return Refusal.NOT_ADMINISTRATOR.value
    return windows.get_folder_trust(staging)


def _package_folder(staging: str, sha256: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise WindowsError_(f"not a SHA-256 in lower case: {sha256}")
    return f"{staging}\\files\\{sha256[:16]}"


def _package_path(folder: str, name: str) -> str:
    if re.search(r'[\\/:*?"<>|]', name) or name in ("", ".."):
        raise WindowsError_(f"not a plain file name: {name}")
    return f"{folder}\\{name}"


def _segment_name(offset: int, length: int) -> str:
    return f"{offset:012d}-{length}.seg"


def _segments(windows: SimulatedWindows, folder: str) -> list[tuple[int, int, str]]:
    """The whole segments, by offset: offset, length, path."""
    found = []
    for name in windows.get_folder_entries(f"{folder}\\parts"):
        match = _SEGMENT.fullmatch(name)
        path = f"{folder}\\parts\\{name}"
        length = windows.get_file_length(path) if match else None
        if match and length is not None and int(length) == int(match.group(2)):
            found.append((int(match.group(1)), int(length), path))
    return found


def _tree_files(windows: SimulatedWindows, folder: str, prefix: str = "") -> list[str]:
    """Every file below *folder*, as a path relative to it."""
    found = []
    for name in windows.get_folder_entries(folder):
        inner = f"{folder}\\{name}"
        if not windows.test_folder(inner):
            found.append(prefix + name)
        elif not windows.test_reparse_point(inner):
            found += _tree_files(windows, inner, f"{prefix}{name}\\")
    return found


def _age_seconds(since: str, now: str) -> float:
    begin, end = (datetime.strptime(text, _TIME) for text in (since, now))
    return abs((end - begin).total_seconds())


def _from_lines(text: str | None) -> dict[str, str] | None:
    """Lines of ``key=value``; ``None`` when the last line is not ``end``: then it is not whole."""
    lines = (text or "").replace("\r", "").rstrip("\n").split("\n")
    if lines[-1] != "end":
        return None
    return dict(line.split("=", 1) for line in lines if line.find("=") > 0)


def _one_line(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("\r", " ").replace("\n", " ").strip()[:2000]


def _numbers(windows: SimulatedWindows, folder: str, ending: str) -> list[int]:
    names = windows.get_folder_entries(folder)
    return [int(name[:5]) for name in names if _NUMBERED.fullmatch(name) and name[5:] == ending]


def _job_folder(staging: str, job_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", job_id):
        raise WindowsError_(f"not the name of a job: {job_id}")
    return f"{staging}\\jobs\\{job_id}"


def _add_state(windows: SimulatedWindows, folder: str, phase: JobPhase, **values: object) -> bool:
    """Write the next state; of the first one, which is the job's token, tell whether it was still to be had."""
    own = windows.get_own_process()
    lines = {"phase": phase.value, "time": windows.get_clock(), **own, **values}
    text = "".join(f"{key}={_one_line(value)}\n" for key, value in lines.items()) + "end\n"
    for _ in range(10):
        numbers = _numbers(windows, f"{folder}\\state", ".txt")
        if phase in (JobPhase.STARTED, JobPhase.ABANDONED) and numbers:
            return False
        number = numbers[-1] + 1 if numbers else 1
        if windows.add_text_file(f"{folder}\\state\\{number:05d}.txt", text):
            return True
    raise WindowsError_(f"no state can be written in {folder}")


def _states(windows: SimulatedWindows, folder: str, after: int = 0) -> list[tuple[int, str]]:
    """The whole states that are newer, in order: number and text."""
    found = []
    for number in _numbers(windows, f"{folder}\\state", ".txt"):
        if number > after:
            text = windows.read_text_file(f"{folder}\\state\\{number:05d}.txt")
            if text is not None and _from_lines(text) is not None:
                found.append((number, text.replace("\r", "").rstrip("\n")))
    return found


def _add_claim(windows: SimulatedWindows, staging: str, number: int, job_id: str) -> bool:
    text = f"job_id={job_id}\ntime={windows.get_clock()}\nend\n"
    return windows.add_text_file(f"{staging}\\jobs\\{number:05d}.claim", text)


def _claim(windows: SimulatedWindows, staging: str, job_id: str = "") -> dict[str, str] | None:
    """The newest claim, or the newest of one job."""
    for number in reversed(_numbers(windows, f"{staging}\\jobs", ".claim")):
        path = f"{staging}\\jobs\\{number:05d}.claim"
        values = _from_lines(windows.read_text_file(path))
        for _ in range(10):
            if values is not None:
                break
            windows.wait_seconds(0.2)
            values = _from_lines(windows.read_text_file(path))
        if values is not None and job_id in ("", values.get("job_id")):
            return values
    return None


def _newest_job(windows: SimulatedWindows, staging: str) -> str:
    return (_claim(windows, staging) or {}).get("job_id", "")


def _alive(windows: SimulatedWindows, pid: str, created: str) -> bool:
    """Whether that very process lives; a time that cannot be told is a doubt, and in doubt it lives."""
    found = windows.get_process_created(int(pid)) if pid else None
    return found is not None and (found == created or "" in (found, created))


def _job_status(windows: SimulatedWindows, staging: str, job_id: str, start_seconds: int) -> tuple[JobStatus, str, int]:
    """Status, phase and number of the last state."""
    claim = _claim(windows, staging, job_id) if job_id else None
    if claim is None:
        return JobStatus.NONE, "", 0
    states = _states(windows, _job_folder(staging, job_id))
    if not states:
        age = _age_seconds(claim["time"], windows.get_clock())
        return (JobStatus.NEVER_STARTED if age > start_seconds else JobStatus.CLAIMED), "", 0
    number, text = states[-1]
    values = _from_lines(text) or {}
    phase = values.get("phase", "")
    if phase in (JobPhase.FINISHED.value, JobPhase.ABANDONED.value):
        return JobStatus.FINISHED, phase, number
    lives = (
        _alive(windows, values.get("pid", ""), values.get("created", ""))
        or _alive(windows, values.get("child_pid", ""), values.get("child_created", ""))
        or windows.test_folder_process(staging)
    )
    if not lives and _states(windows, _job_folder(staging, job_id), number):
        # It wrote its end and went between the two looks: what is told is looked at anew.
        return _job_status(windows, staging, job_id, start_seconds)
    return (JobStatus.RUNNING if lives else JobStatus.INTERRUPTED), phase, number


# --- the scripts, in the order of the road --------------------------------------------------------------------------


def facts(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``facts.ps1``: everything a diagnosis needs, in one look."""
    system = windows.get_operating_system()
    identity = windows.get_session_identity()
    directory = windows.get_windows_directory()
    staging = _staging_path(windows, parameters["staging_name"])
    answer: Answer = {
        "computer_name": windows.get_computer_name(),
        "os_version": system["version"],
        "os_service_pack": system["service_pack"],
        "os_product_type": system["product_type"],
        "os_suite_mask": system["suite_mask"],
        "os_suites": windows.get_registry_value(parameters["suite_key"], parameters["suite_value"]) or "",
        "os_caption": system["caption"],
        "architecture": windows.get_processor_architecture(),
        "culture": windows.get_culture_name(),
        "powershell_version": windows.get_power_shell_version(),
        "boot_time": system["boot_time"],
        "clock": windows.get_clock(),
        "windows_directory": directory,
        "system_free": windows.get_free_space(directory),
        "execution_policy": windows.get_registry_value(parameters["policy_key"], parameters["policy_value"]) or "",
        "installer_busy": windows.test_installer_busy(),
        "administrator": identity["administrator"],
        "account": identity["account"],
        "account_sid": identity["sid"],
        "authentication": identity["authentication"],
        "restart_keys": "\n".join(key for key in parameters["restart_keys"] if windows.test_registry_key(key)),
        "restart_renames": (windows.get_registry_value(parameters["rename_key"], parameters["rename_value"]) or "")[
            :200_000
        ],
        "setup_present": windows.test_registry_key(parameters["setup_key"]),
        "wsus2_product": windows.test_msi_product(parameters["wsus2_product"]),
        "neighbours": "\n".join(
            sorted(name for name, key in parameters["neighbours"].items() if windows.test_registry_key(key))
        ),
        "staging_path": staging,
        "staging_free": windows.get_free_space(staging),
    }
    for name in parameters["setup_values"]:
        if (value := windows.get_registry_value(parameters["setup_key"], name)) is not None:
            answer[f"setup_{name}"] = value
    for name in parameters["services"]:
        if (status := windows.get_service_status(name)) is not None:
            answer[f"service_{name}"] = status
    return {**answer, **_facts_of_dll(windows, parameters, answer), **_facts_of_staging(windows, parameters, staging)}


def _facts_of_dll(windows: SimulatedWindows, parameters: Parameters, answer: Answer) -> Answer:
    if not answer["setup_present"]:
        return {"dll_path": "", "dll_present": False, "dll_version": ""}
    target = windows.get_registry_value(parameters["setup_key"], "TargetDir")
    target = target or f"{windows.get_program_files_directory()}\\{parameters['default_target']}"
    path = target.rstrip("\\") + "\\" + parameters["dll"]
    version = windows.get_file_version(path)
    return {"dll_path": path, "dll_present": version is not None, "dll_version": version or ""}


def _facts_of_staging(windows: SimulatedWindows, parameters: Parameters, staging: str) -> Answer:
    answer: Answer = {
        "staging_state": StagingState.ABSENT.value,
        "staging_detail": "",
        "job_id": "",
        "job_status": JobStatus.NONE.value,
        "job_phase": "",
        "leftovers": 0,
    }
    try:
        trust = windows.get_folder_trust(staging)
    except WindowsError_ as error:
        trust = error.message  # who is no administrator may not even look at it
    if trust == "":
        job_id = _newest_job(windows, staging)
        status, phase, _ = _job_status(windows, staging, job_id, parameters["start_seconds"])
        answer |= {
            "staging_state": StagingState.CLOSED.value,
            "leftovers": len(_tree_files(windows, staging)),
            "job_id": job_id,
            "job_status": status.value,
            "job_phase": phase,
        }
    elif trust != _ABSENT:
        answer |= {"staging_state": StagingState.REFUSED.value, "staging_detail": trust}
    return answer


def _refused(answer: Answer, refusal: Refusal | str, detail: str) -> Answer:
    return {**answer, "refused": str(getattr(refusal, "value", refusal)), "detail": detail}


def stage(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``stage.ps1``: make or check the closed folder, and tell what is there of one file."""
    staging = _staging_path(windows, parameters["staging_name"])
    folder = _package_folder(staging, parameters["sha256"])
    answer: Answer = {
        "refused": "",
        "detail": "",
        "path": _package_path(folder, parameters["name"]),
        "complete": False,
        "segments": "",
        "free": windows.get_free_space(staging),
    }
    refusal = _staging_refusal(windows, staging)
    if refusal not in ("", _ABSENT):
        return _refused(answer, refusal, staging)
    there = 0
    if not refusal:
        answer["complete"] = windows.get_file_sha256(answer["path"]) == parameters["sha256"]
        segments = _segments(windows, folder)
        there = sum(size for _, size, _ in segments)
        answer["segments"] = "\n".join(f"{offset}-{size}" for offset, size, _ in segments)
    if answer["complete"]:
        return answer
    needed = 2 * int(parameters["size"]) - there + int(parameters["reserve"])
    if int(answer["free"]) < needed:
        return _refused(answer, Refusal.NO_SPACE, f"bytes needed: {needed}")
    if refusal == _ABSENT:
        windows.new_closed_folder(staging)
        if refusal := windows.get_folder_trust(staging):
            return _refused(answer, refusal, staging)
    windows.new_plain_folder(f"{folder}\\parts")
    return answer


def receive(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``receive.ps1``: write a stretch of a file from the byte arrays of the input, each segment when it is whole."""
    staging = _staging_path(windows, parameters["staging_name"])
    folder = _package_folder(staging, parameters["sha256"]) + "\\parts"
    answer: Answer = {"refused": "", "detail": "", "received": "0"}
    refusal = _staging_refusal(windows, staging)
    if refusal == _ABSENT or (not refusal and not windows.test_folder(folder)):
        return _refused(answer, Refusal.NOT_STAGED, folder)
    if refusal:
        return _refused(answer, refusal, staging)
    free = windows.get_free_space(staging)
    if int(free) < int(parameters["length"]):
        return _refused(answer, Refusal.NO_SPACE, f"bytes free: {free}")
    expected, received, begun = int(parameters["length"]), 0, 0
    temporary = f"{folder}\\incoming-{uuid.uuid4().hex}"
    try:
        for chunk in chunks:
            data = _bytes_of(chunk)
            windows.add_binary_file(temporary, data)
            begun += len(data)
            received += len(data)
            if received <= expected and (begun >= int(parameters["segment"]) or received == expected):
                name = _segment_name(int(parameters["offset"]) + received - begun, begun)
                windows.move_file_to_new(temporary, f"{folder}\\{name}")
                windows.remove_file(temporary)
                begun = 0
    finally:
        windows.remove_file(temporary)
    answer["received"] = str(received)
    if received != expected:
        return _refused(answer, Refusal.SHORT_SEGMENT, f"bytes expected: {parameters['length']}")
    return answer


def _bytes_of(chunk: object) -> bytes:
    if not isinstance(chunk, (bytes, bytearray)):
        raise WindowsError_(f"cannot convert {type(chunk).__name__} to System.Byte[]")
    return bytes(chunk)


def assemble(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``assemble.ps1``: join the segments, hash the whole, and put it in its place."""
    staging = _staging_path(windows, parameters["staging_name"])
    folder = _package_folder(staging, parameters["sha256"])
    parts = f"{folder}\\parts"
    answer: Answer = {
        "refused": "",
        "detail": "",
        "path": _package_path(folder, parameters["name"]),
        "found_sha256": "",
    }
    refusal = _staging_refusal(windows, staging)
    if refusal not in ("", _ABSENT):
        return _refused(answer, refusal, staging)
    if not refusal:
        answer["found_sha256"] = windows.get_file_sha256(answer["path"]) or ""
        if answer["found_sha256"] == parameters["sha256"]:
            windows.remove_tree(parts)
            return answer
    if refusal == _ABSENT or not windows.test_folder(parts):
        return _refused(answer, Refusal.NOT_STAGED, folder)
    size = int(parameters["size"])
    paths, reached = _path_through(_segments(windows, folder), size)
    if reached < size:
        return _refused(answer, Refusal.MISSING_SEGMENT, f"offset: {reached}")
    free = windows.get_free_space(staging)
    if int(free) < size:
        return _refused(answer, Refusal.NO_SPACE, f"bytes free: {free}")
    joined = f"{folder}\\joined-{uuid.uuid4().hex}"
    try:
        windows.join_files(paths, joined)
        answer["found_sha256"] = windows.get_file_sha256(joined)
        if answer["found_sha256"] != parameters["sha256"]:
            windows.remove_tree(parts)
            return _refused(answer, Refusal.HASH_MISMATCH, answer["path"])
        windows.remove_file(answer["path"])
        windows.move_file_to_new(joined, answer["path"])
    finally:
        windows.remove_file(joined)
    windows.remove_tree(parts)
    return answer


def _path_through(segments: list[tuple[int, int, str]], size: int) -> tuple[list[str], int]:
    """From what is reached, the longest segment that begins there: the files, and how far they reach."""
    reached, paths = 0, []
    while reached < size:
        fitting = [
            (length, path) for offset, length, path in segments if offset == reached and 0 < length <= size - reached
        ]
        if not fitting:
            break
        length, path = max(fitting, key=lambda each: each[0])
        paths.append(path)
        reached += length
    return paths, reached


def start_job(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``start_job.ps1``: start a job as SYSTEM, or name the one that runs already."""
    staging = _staging_path(windows, parameters["staging_name"])
    job_id = parameters["job_id"]
    folder = _job_folder(staging, job_id)
    answer: Answer = {"refused": "", "detail": "", "job_id": job_id, "joined": False}
    refusal = _staging_refusal(windows, staging)
    if refusal == _ABSENT:
        windows.new_closed_folder(staging)
        refusal = windows.get_folder_trust(staging)
    if refusal:
        return _refused(answer, refusal, staging)
    free = windows.get_free_space(staging)
    if int(free) < 1_048_576 + 2 * len(parameters["job_script"]):
        return _refused(answer, Refusal.NO_SPACE, f"bytes free: {free}")
    # A job that was asked for before is not started again: the answer was lost.
    if _claim(windows, staging, job_id) is not None:
        return {**answer, "joined": True}
    windows.remove_tree(folder)
    while True:
        numbers = _numbers(windows, f"{staging}\\jobs", ".claim")
        newest = _newest_job(windows, staging)
        if _joins(windows, staging, newest, parameters["start_seconds"]):
            windows.remove_tree(folder)
            return {**answer, "job_id": newest, "joined": True}
        if not windows.test_folder(folder):
            windows.new_plain_folder(f"{folder}\\state")
            windows.new_plain_folder(f"{folder}\\temp")
            windows.add_script_file(f"{folder}\\job.ps1", parameters["job_script"])
            windows.save_parameters(f"{folder}\\parameters.xml", parameters["job_parameters"])
            found = windows.get_file_sha256(f"{folder}\\job.ps1") or ""
            if found != parameters["job_sha256"]:
                windows.remove_tree(folder)
                return _refused(answer, Refusal.JOB_SCRIPT_CHANGED, found)
        if _add_claim(windows, staging, numbers[-1] + 1 if numbers else 1, job_id):
            break
    trouble = windows.register_system_task(parameters["task_name"], f"{folder}\\job.ps1")
    refused = Refusal.TASK_NOT_CREATED
    if not trouble:
        trouble = windows.start_system_task(parameters["task_name"])
        refused = Refusal.TASK_NOT_STARTED
    # The claim is given back, unless the job began all the same.
    if trouble and _add_state(windows, folder, JobPhase.ABANDONED):
        return _refused(answer, refused, trouble)
    return answer


def _joins(windows: SimulatedWindows, staging: str, newest: str, start_seconds: int) -> bool:
    """Whether the newest job runs or is about to; one that never started is kept from starting late."""
    status, _, _ = _job_status(windows, staging, newest, start_seconds)
    if status is JobStatus.NEVER_STARTED:
        return not _add_state(windows, _job_folder(staging, newest), JobPhase.ABANDONED)
    return status in (JobStatus.CLAIMED, JobStatus.RUNNING)


def poll_job(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``poll_job.ps1``: how a job stands, and its newer states."""
    staging = _staging_path(windows, parameters["staging_name"])
    folder = _job_folder(staging, parameters["job_id"])
    answer: Answer = {"status": "none", "states": "", "last": parameters["after"], "clock": windows.get_clock()}
    if windows.get_folder_trust(staging):
        return answer
    # First the status, then the states: an end that is told is among them, or comes with the next question.
    status, _, _ = _job_status(windows, staging, parameters["job_id"], parameters["start_seconds"])
    lines: list[str] = []
    length = 0
    for number, text in _states(windows, folder, parameters["after"]):
        length += len(text) + 20
        if length > 200_000:
            break
        lines += [f"number={number}", text]
        answer["last"] = number
    return {**answer, "status": status.value, "states": "\n".join(lines)}


def collect_job(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``collect_job.ps1``: tail and hashes of the logs that a job left."""
    staging = _staging_path(windows, parameters["staging_name"])
    folder = _job_folder(staging, parameters["job_id"])
    answer: Answer = {"log_tail": "", "logs": ""}
    if windows.get_folder_trust(staging):
        return answer
    names = [_LOG] if windows.test_file(f"{folder}\\{_LOG}") else []
    logs = [name for name in _tree_files(windows, f"{folder}\\temp", "temp\\") if name.lower().endswith(".log")]
    lines, shown, longest = [], "", 0
    for name in (names + logs)[:500]:
        path = f"{folder}\\{name}"
        length = int(windows.get_file_length(path) or 0)
        lines.append(f"{windows.get_file_sha256(path)} {length} {name}")
        if length > longest and shown != _LOG:
            longest, shown = length, name
    answer["logs"] = "\n".join(lines)
    if shown:
        answer["log_tail"] = windows.read_file_tail(f"{folder}\\{shown}", parameters["tail"])
    return answer


def cleanup(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``cleanup.ps1``: remove the task and everything of wsusfix, unless a job runs."""
    staging = _staging_path(windows, parameters["staging_name"])
    answer: Answer = {"refused": "", "detail": "", "removed": "", "remaining": ""}
    refusal = _staging_refusal(windows, staging)
    if refusal not in ("", _ABSENT):
        return _refused(answer, refusal, staging)
    if not refusal:
        newest = _newest_job(windows, staging)
        if _joins(windows, staging, newest, parameters["start_seconds"]):
            return _refused(answer, Refusal.JOB_RUNNING, newest)
    removed = [parameters["task_name"]] if windows.remove_system_task(parameters["task_name"]) else []
    if not refusal:
        for attempt in range(3):
            if not windows.test_folder(staging):
                break
            if attempt:
                windows.wait_seconds(1)
            try:
                windows.remove_tree(staging)
            except WindowsError_ as error:
                answer["detail"] = error.message
        if windows.test_folder(staging):
            left = [staging, *_tree_files(windows, staging, f"{staging}\\")]
            answer["remaining"] = "\n".join(left[:500])
        else:
            answer["detail"] = ""
            removed.append(staging)
    answer["removed"] = "\n".join(removed)
    return answer


# --- install_update.ps1: the job ------------------------------------------------------------------------------------


@dataclass
class _Result:
    """How the job ended, as its last state tells it."""

    reason: JobReason = JobReason.BROKEN
    detail: str = ""
    exit_code: str = ""
    dll_before: str = ""
    dll_after: str = ""
    pending_rename: bool = False
    event_logged: bool = False


def install_update(windows: SimulatedWindows, folder: str) -> None:
    """``install_update.ps1``: check the package once more, run it, and write down how it went."""
    identity = windows.get_session_identity()
    # The first state is the token: a task that fires a second time, or too late, ends here.
    if not _add_state(windows, folder, JobPhase.STARTED, account_sid=identity["sid"]):
        return
    result = _Result()
    parameters: Parameters = {}
    try:
        parameters = windows.read_parameters(f"{folder}\\parameters.xml")
        _install_package(windows, folder, parameters, result)
    except WindowsError_ as error:
        # The reason stays: it is "broken", unless the installer ran to its end before.
        result.detail = error.message
    if parameters:
        _complete_job(windows, parameters, result)
    values = {**asdict(result), "reason": result.reason.value}
    for _ in range(20):
        try:
            _add_state(windows, folder, JobPhase.FINISHED, **values)
            break
        except WindowsError_:
            windows.wait_seconds(15)  # a disk that the installer filled may have room again in a moment


def _fixed(version: str | None, required: str) -> bool:
    return bool(version) and Version(version or "0") >= Version(required)


def _wait_other_installer(windows: SimulatedWindows, folder: str, waited: int, limit: int) -> int:
    """How long was waited in all, or -1 when another installation still runs after that long."""
    told = waited - 30
    while windows.test_installer_busy():
        if waited >= limit:
            return -1
        if waited - told >= 30:
            _add_state(windows, folder, JobPhase.WAITING_FOR_INSTALLER, waited=waited)
            told = waited
        windows.wait_seconds(5)
        waited += 5
    return waited


def _add_quietly(windows: SimulatedWindows, folder: str, phase: JobPhase, **values: object) -> None:
    """While the installer is at work, a full disk must not keep the job from waiting for its end."""
    with contextlib.suppress(WindowsError_):
        _add_state(windows, folder, phase, **values)


def _heartbeat(windows: SimulatedWindows, folder: str, child: Mapping[str, Any], still: int) -> None:
    values = {"child_pid": child["pid"], "child_created": child["created"], "still": still}
    _add_quietly(windows, folder, JobPhase.INSTALLING, **values)


def _watch_installer(windows: SimulatedWindows, folder: str, child: Mapping[str, Any], limit: int) -> None:
    """Wait for its end, however long that takes; one that stands still is told, and never killed."""
    seen, still, beat, told = "", 0, 0, False
    while not windows.wait_installer(child["process"], 10_000):
        beat += 10
        used = windows.get_process_time(child["pid"])
        still += 10
        if not used or used != seen:
            still, told = 0, False
        seen = used
        stands = still >= limit and still > 0
        if beat >= 30 or (stands and not told):
            _heartbeat(windows, folder, child, still if stands else 0)
            beat, told = 0, stands


def _install_package(windows: SimulatedWindows, folder: str, parameters: Parameters, result: _Result) -> None:
    """Write the states up to ``installed``, and into *result* how it ended."""
    package = parameters["package"]
    _add_state(windows, folder, JobPhase.CHECKING_PACKAGE)
    if not windows.test_file(package):
        result.reason = JobReason.PACKAGE_MISSING
        return
    # Held from before it is hashed until after it has run: what runs is what was hashed.
    lock = windows.lock_file(package)
    try:
        found = windows.get_file_sha256(package) or ""
        if found != parameters["package_sha256"]:
            result.reason, result.detail = JobReason.PACKAGE_CHANGED, found
            return
        result.dll_before = windows.get_file_version(parameters["dll"]) or ""
        if _fixed(result.dll_before, parameters["required_version"]):
            result.reason = JobReason.ALREADY_FIXED
            return
        _add_state(windows, folder, JobPhase.CHECKING_SIGNATURE)
        signature = windows.get_package_signature(package, parameters["roots"], parameters["signature_seconds"])
        refused = {"invalid": JobReason.SIGNATURE_INVALID, "valid": None}.get(
            signature["status"],
            None if parameters["accept_unverifiable"] else JobReason.SIGNATURE_UNVERIFIABLE,
        )
        if refused is not None:
            result.reason, result.detail = refused, signature["detail"]
            return
        _run_package(windows, folder, parameters, signature, result)
    finally:
        windows.unlock_file(lock)


def _run_package(
    windows: SimulatedWindows, folder: str, parameters: Parameters, signature: Mapping[str, str], result: _Result
) -> None:
    package, limit, temp = parameters["package"], parameters["busy_seconds"], f"{folder}\\temp"
    program = f"{windows.get_windows_directory()}\\System32\\{parameters['program']}"
    program = program if parameters["program"] else package
    arguments = parameters["arguments"].replace("{package}", package).replace("{log}", f"{folder}\\{_LOG}")
    windows.new_plain_folder(temp)
    waited = 0
    while True:
        waited = _wait_other_installer(windows, folder, waited, limit)
        if waited < 0:
            result.reason = JobReason.INSTALLER_BUSY
            return
        # The other installation may have been this very update.
        if _fixed(windows.get_file_version(parameters["dll"]), parameters["required_version"]):
            result.reason = JobReason.ALREADY_FIXED
            return
        told = {"signature": signature["status"], **{key: signature[key] for key in ("signer", "root", "signed_at")}}
        _add_state(windows, folder, JobPhase.LAUNCHING, command_line=f'"{program}" {arguments}', **told)
        try:
            child = windows.start_installer(program, arguments, temp)
        except WindowsError_ as error:
            result.reason, result.detail = JobReason.NOT_LAUNCHED, error.message
            return
        _heartbeat(windows, folder, child, 0)
        _watch_installer(windows, folder, child, parameters["still_seconds"])
        result.exit_code = windows.get_installer_exit_code(cast(Process, child["process"]))
        if result.exit_code != _ANOTHER_INSTALLATION:
            break
        if waited >= limit:
            result.reason = JobReason.INSTALLER_BUSY
            return
        _add_quietly(windows, folder, JobPhase.WAITING_FOR_INSTALLER, waited=waited)
        windows.wait_seconds(15)
        waited += 15
    result.reason = JobReason.DONE
    _add_quietly(windows, folder, JobPhase.INSTALLED, exit_code=result.exit_code)
    # What it unpacked and started may outlive it for a while.
    for _ in range(0, limit, 5):
        if not windows.test_folder_process(temp):
            break
        windows.wait_seconds(5)


def _complete_job(windows: SimulatedWindows, parameters: Parameters, result: _Result) -> None:
    """Tell what the DLL says afterwards, and write the entry in the event log."""
    result.dll_after = windows.get_file_version(parameters["dll"]) or ""
    renames = windows.get_registry_value(parameters["rename_key"], parameters["rename_value"]) or ""
    dll = parameters["dll"].lower()
    result.pending_rename = any(line.lower().endswith(dll) for line in renames.split("\n"))
    failed = not result.pending_rename and not _fixed(result.dll_after, parameters["required_version"])
    lines = (
        parameters["audit"],
        f"result: {result.reason.value}",
        f"exit code: {result.exit_code}",
        f"DLL before: {result.dll_before}",
        f"DLL after: {result.dll_after}",
        result.detail,
    )
    result.event_logged = windows.write_application_log(parameters["event_source"], "\r\n".join(lines), failed)


# --- pypsrp's own copy ----------------------------------------------------------------------------------------------


def copy(windows: SimulatedWindows, arguments: list[object], chunks: Iterator[object], profile: str) -> str:
    """Do as the script does that ``pypsrp.client.Client.copy`` sends; *profile* is the account's home folder.

    The input is base64 text, the file's SHA-1 in hexadecimal at its end; the answer is the path.
    """
    target, expand, *_ = [*arguments, "", False]
    path = str(target)
    if expand:
        path = _expanded(windows, path, profile)
    if not ntpath.isabs(path):
        path = f"{profile}\\{path}"
    path = ntpath.normpath(path)
    temporary = f"{profile}\\Temp\\tmp{uuid.uuid4().hex[:4].upper()}.tmp"
    digest = hashlib.sha1()  # noqa: S324  (the copy script's own choice)
    last: bytes | None = None
    try:
        windows.add_binary_file(temporary, b"")
        for chunk in chunks:
            if last is not None:
                digest.update(last)
                windows.add_binary_file(temporary, last)
            last = base64.b64decode(str(chunk))
        expected = (last or b"").decode("utf-8", errors="replace")
        if digest.hexdigest() != expected:
            raise WindowsError_(
                f"Transport failure, hash mismatch\r\nActual: {digest.hexdigest()}\r\nExpected: {expected}"
            )
        windows.remove_file(path)
        windows.move_file_to_new(temporary, path)
    finally:
        windows.remove_file(temporary)
    return path


def _expanded(windows: SimulatedWindows, path: str, profile: str) -> str:
    """Replace the environment variables that *path* names; an unknown one stays as it is."""
    directory = windows.get_windows_directory()
    known = {
        "temp": f"{profile}\\Temp",
        "tmp": f"{profile}\\Temp",
        "windir": directory,
        "systemroot": directory,
        "systemdrive": directory[:2],
        "programfiles": windows.get_program_files_directory(),
        "userprofile": profile,
        "computername": windows.get_computer_name(),
    }
    return re.sub(r"%([^%]+)%", lambda found: known.get(found.group(1).lower(), found.group(0)), path)


#: What answers each script that is sent over a session.
BEHAVIOURS: Final[Mapping[str, Behaviour]] = MappingProxyType(
    {
        "facts": facts,
        "stage": stage,
        "receive": receive,
        "assemble": assemble,
        "start_job": start_job,
        "poll_job": poll_job,
        "collect_job": collect_job,
        "cleanup": cleanup,
    }
)
#: What does the work of each script that a task runs; it is given the job's folder.
JOBS: Final[Mapping[str, Callable[[SimulatedWindows, str], None]]] = MappingProxyType(
    {"install_update": install_update}
)
