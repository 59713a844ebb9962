"""``install_update.ps1`` told once more in Python: the job that installs the update."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

from packaging.version import Version

from wsusfix.lab.behaviours.jobs import INSTALL_LOG
from wsusfix.lab.behaviours.shared import Parameters, add_state
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.scheduler import Process
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import JobPhase, JobReason

__all__ = ["install_update"]

#: Exit code of an installer that found another one at work (Windows Installer error codes).
_ANOTHER_INSTALLATION: Final = "1618"


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
    if not add_state(windows, folder, JobPhase.STARTED, account_sid=identity["sid"]):
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
            add_state(windows, folder, JobPhase.FINISHED, **values)
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
            add_state(windows, folder, JobPhase.WAITING_FOR_INSTALLER, waited=waited)
            told = waited
        windows.wait_seconds(5)
        waited += 5
    return waited


def _add_quietly(windows: SimulatedWindows, folder: str, phase: JobPhase, **values: object) -> None:
    """While the installer is at work, a full disk must not keep the job from waiting for its end."""
    with contextlib.suppress(WindowsError_):
        add_state(windows, folder, phase, **values)


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
    add_state(windows, folder, JobPhase.CHECKING_PACKAGE)
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
        add_state(windows, folder, JobPhase.CHECKING_SIGNATURE)
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
    arguments = parameters["arguments"].replace("{package}", package).replace("{log}", f"{folder}\\{INSTALL_LOG}")
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
        add_state(windows, folder, JobPhase.LAUNCHING, command_line=f'"{program}" {arguments}', **told)
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
