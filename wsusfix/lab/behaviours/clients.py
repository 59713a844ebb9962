"""``client.ps1`` and ``detect_now.ps1`` told once more in Python: what an update agent is set to, and asking it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import cast

from wsusfix.lab.behaviours.shared import Answer, Parameters, add_state
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.scheduler import Process
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import JobPhase, JobReason

__all__ = ["client", "detect_now"]


def client(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``client.ps1``: what the update agent is set to."""

    def value(key: str, name: str) -> str:
        return windows.get_registry_value(parameters[key], parameters[name]) or ""

    return {
        "computer_name": windows.get_computer_name(),
        "clock": windows.get_clock(),
        "server": value("policy_key", "server_value"),
        "uses_server": value("automatic_key", "uses_server_value"),
        "disabled": value("automatic_key", "disabled_value"),
        "policy_options": value("automatic_key", "options_value"),
        "own_options": value("own_key", "options_value"),
        "service": windows.get_service_status(parameters["service"]) or "",
        "office": any(windows.test_registry_key(key) for key in parameters["office_keys"]),
    }


@dataclass
class _Result:
    """How the job ended, as its last state tells it."""

    reason: JobReason = JobReason.BROKEN
    detail: str = ""
    exit_code: str = ""


def detect_now(windows: SimulatedWindows, folder: str) -> None:
    """``detect_now.ps1``: ask the update agent to look for updates now."""
    identity = windows.get_session_identity()
    # The first state is the token: a task that fires a second time, or too late, ends here.
    if not add_state(windows, folder, JobPhase.STARTED, account_sid=identity["sid"]):
        return
    result = _Result()
    try:
        _start_detection(windows, folder, windows.read_parameters(f"{folder}\\parameters.xml"), result)
    except WindowsError_ as error:
        result.detail = error.message
    add_state(windows, folder, JobPhase.FINISHED, **{**asdict(result), "reason": result.reason.value})


def _start_detection(windows: SimulatedWindows, folder: str, parameters: Parameters, result: _Result) -> None:
    program = f"{windows.get_windows_directory()}\\System32\\{parameters['program']}"
    add_state(windows, folder, JobPhase.LAUNCHING, command_line=f'"{program}" {parameters["arguments"]}')
    try:
        child = windows.start_installer(program, parameters["arguments"], f"{folder}\\temp")
    except WindowsError_ as error:
        result.reason, result.detail = JobReason.NOT_LAUNCHED, error.message
        return
    started = cast(Process, child["process"])
    # It only passes the question on, and ends; one that does not is left alone.
    if windows.wait_installer(started, parameters["seconds"] * 1000):
        result.exit_code = windows.get_installer_exit_code(started)
    result.reason = JobReason.DONE
