"""``install_update.ps1`` told once more in Python: the job that installs the update."""

from __future__ import annotations

from packaging.version import Version

from wsusfix.lab.behaviours.shared import Parameters, add_state
from wsusfix.lab.behaviours.working import (
    Checked,
    Result,
    Turn,
    add_quietly,
    check_package,
    complete_package,
    log_entry,
    pending_rename,
    run_job,
    run_package,
    wait_turn,
    wait_window,
)
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import JobPhase, JobReason

__all__ = ["install_update"]


def install_update(windows: SimulatedWindows, folder: str) -> None:
    """``install_update.ps1``: check the package once more, run it, and write down how it went."""
    result: Result = {
        "exit_code": "",
        "dll_before": "",
        "dll_after": "",
        "pending_rename": False,
        "event_logged": False,
    }
    run_job(windows, folder, result, _install, _complete)


def _fixed(version: str | None, required: str) -> bool:
    return bool(version) and Version(version or "0") >= Version(required)


def _install(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    """Write the states up to ``installed``, and into *result* how it ended."""
    if not wait_window(windows, folder, parameters, result):
        return
    add_state(windows, folder, JobPhase.CHECKING_PACKAGE)
    if not windows.test_file(parameters["package"]):
        result["reason"] = JobReason.PACKAGE_MISSING.value
        return
    # Held from before it is hashed until after it has run: what runs is what was hashed.
    lock = windows.lock_file(parameters["package"])
    try:
        result["dll_before"] = windows.get_file_version(parameters["dll"]) or ""
        if _fixed(result["dll_before"], parameters["required_version"]):
            result["reason"] = JobReason.ALREADY_FIXED.value
            return
        checked = check_package(windows, folder, parameters)
        if checked.reason is not None:
            result |= {"reason": checked.reason.value, "detail": checked.detail}
            return
        _run(windows, folder, parameters, checked, result)
    finally:
        windows.unlock_file(lock)


def _run(windows: SimulatedWindows, folder: str, parameters: Parameters, checked: Checked, result: Result) -> None:
    turn = Turn()
    while True:
        reason = wait_turn(windows, folder, parameters, turn)
        # The other installation may have been this very update.
        if reason is None and _fixed(windows.get_file_version(parameters["dll"]), parameters["required_version"]):
            reason = JobReason.ALREADY_FIXED
        if reason is None:
            reason = run_package(windows, folder, parameters, checked.signature, result)
        if reason is not None:
            result["reason"] = reason.value
            return
        if result["exit_code"] != parameters["busy_exit_code"]:
            break
        if turn.waited >= parameters["busy_seconds"]:
            result["reason"] = JobReason.INSTALLER_BUSY.value
            return
        add_quietly(windows, folder, JobPhase.WAITING_FOR_INSTALLER, waited=turn.waited)
        windows.wait_seconds(15)
        turn.waited += 15
    complete_package(windows, folder, parameters, result)


def _complete(windows: SimulatedWindows, parameters: Parameters, result: Result) -> None:
    """Tell what the DLL says afterwards, and write the entry in the event log."""
    result["dll_after"] = windows.get_file_version(parameters["dll"]) or ""
    result["pending_rename"] = pending_rename(windows, parameters)
    waits = result["pending_rename"] and result["reason"] == JobReason.DONE.value
    failed = not waits and not _fixed(result["dll_after"], parameters["required_version"])
    result["event_logged"] = log_entry(
        windows,
        parameters,
        failed,
        f"result: {result['reason']}",
        f"exit code: {result['exit_code']}",
        f"DLL before: {result['dll_before']}",
        f"DLL after: {result['dll_after']}",
        result["detail"],
    )
