"""What the behaviours of jobs share: the job's frame, its maintenance window, and a package checked and run.

The second half of ``jobs.ps1``, told once more in Python over the same primitives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from wsusfix.lab.behaviours.jobs import INSTALL_LOG
from wsusfix.lab.behaviours.shared import (
    TIME_FORMAT,
    Parameters,
    add_state,
    add_state_at,
    from_lines,
    numbered_path,
    numbers_of,
    whole_states,
)
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.scheduler import Process
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import JobPhase, JobReason

__all__ = [
    "Checked",
    "Result",
    "Turn",
    "add_quietly",
    "check_package",
    "complete_package",
    "connection_text",
    "copy_setup_logs",
    "cut_text",
    "log_entry",
    "pending_rename",
    "run_job",
    "run_package",
    "running_services",
    "seconds_between",
    "start_services",
    "wait_turn",
    "wait_window",
    "window_open",
]

#: How a job ended, as its last state tells it; ``reason`` is the value of a ``JobReason``.
Result = dict[str, Any]
Work = Callable[[SimulatedWindows, str, Parameters, Result], None]
Complete = Callable[[SimulatedWindows, Parameters, Result], None]


def run_job(
    windows: SimulatedWindows, folder: str, result: Result, work: Work, complete: Complete | None = None
) -> None:
    """Take the token, do the *work*, *complete* it whatever came of it, and write down the end."""
    identity = windows.get_session_identity()
    # The first state is the token: a task that fires a second time, or too late, ends here.
    if not add_state(windows, folder, JobPhase.STARTED, account_sid=identity["sid"]):
        return
    result |= {"reason": JobReason.BROKEN.value, "detail": ""}
    parameters: Parameters = {}
    try:
        parameters = windows.read_parameters(f"{folder}\\parameters.xml")
        work(windows, folder, parameters, result)
    except WindowsError_ as error:
        result["detail"] = error.message
    if parameters and complete is not None:
        try:
            complete(windows, parameters, result)
        except WindowsError_ as error:
            result["detail"] = f"{result['detail']} {error.message}"
    for _ in range(20):
        try:
            add_state(windows, folder, JobPhase.FINISHED, **result)
            break
        except WindowsError_:
            windows.wait_seconds(15)  # a disk that the work filled may have room again in a moment


def log_entry(windows: SimulatedWindows, parameters: Parameters, failed: bool, *lines: object) -> bool:
    """Write the job's entry in the event log."""
    text = "\r\n".join([parameters["audit"], *map(str, lines)])
    return windows.write_application_log(parameters["event_source"], text, failed)


def add_quietly(windows: SimulatedWindows, folder: str, phase: JobPhase, **values: object) -> None:
    """While work is under way that nobody can take back, a full disk must not keep the job from its end."""
    with contextlib.suppress(WindowsError_):
        add_state(windows, folder, phase, **values)


# --- the maintenance window -----------------------------------------------------------------------------------------


def seconds_between(since: str, until: str) -> float:
    """Below zero when the second time is the earlier one."""
    begin, end = (datetime.strptime(text, TIME_FORMAT) for text in (since, until))
    return (end - begin).total_seconds()


def window_open(windows: SimulatedWindows, parameters: Parameters) -> bool:
    """Whether the maintenance window is not over yet."""
    until = parameters["not_after"]
    return until == "" or seconds_between(windows.get_clock(), until) >= 0


def wait_window(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> bool:
    """Whether the work may begin, the maintenance window being open; if not, *result* has the reason."""
    # The number behind the job's newest state belongs to whoever takes it first: to the job, or to who calls it off.
    following = numbers_of(windows, f"{folder}\\state", ".txt")[-1] + 1
    own = windows.get_own_process()
    waited, silent = False, 600
    while parameters["not_before"]:
        left = seconds_between(windows.get_clock(), parameters["not_before"])
        if left <= 0:
            break
        if silent >= 600:
            until = parameters["not_before"]
            mine = add_state_at(windows, folder, JobPhase.WAITING_FOR_WINDOW, following, own, until=until)
            following += 1
            waited, silent = True, 0
        else:
            mine = not windows.test_file(numbered_path(f"{folder}\\state", following, ".txt"))
        if not mine:
            return _withdrawn(windows, folder, result)
        windows.wait_seconds(min(left, 20))
        silent += 20
    if waited and not add_state_at(windows, folder, JobPhase.WINDOW_OPEN, following, own):
        return _withdrawn(windows, folder, result)
    if not window_open(windows, parameters):
        result["reason"] = JobReason.WINDOW_OVER.value
        return False
    return True


def _withdrawn(windows: SimulatedWindows, folder: str, result: Result) -> bool:
    result["reason"] = JobReason.WITHDRAWN.value
    *_, (_, text) = whole_states(windows, folder)
    last = from_lines(text) or {}
    if last.get("phase") == JobPhase.WITHDRAWN.value:
        result["detail"] = f"by {last.get('account_sid', '')}"
    return False


# --- a package ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """What was found of a package: the reason why it may not be run, ``None`` for none, and its signature."""

    reason: JobReason | None
    detail: str
    signature: Mapping[str, str] = field(default_factory=dict)


def check_package(windows: SimulatedWindows, folder: str, parameters: Parameters) -> Checked:
    """Hash the package and check its signature; the caller holds it."""
    found = windows.get_file_sha256(parameters["package"]) or ""
    if found != parameters["package_sha256"]:
        return Checked(JobReason.PACKAGE_CHANGED, found)
    add_state(windows, folder, JobPhase.CHECKING_SIGNATURE)
    signature = windows.get_package_signature(
        parameters["package"], parameters["roots"], parameters["signature_seconds"]
    )
    refused = {"invalid": JobReason.SIGNATURE_INVALID, "valid": None}.get(
        signature["status"],
        None if parameters["accept_unverifiable"] else JobReason.SIGNATURE_UNVERIFIABLE,
    )
    return Checked(refused, signature["detail"], signature)


@dataclass
class Turn:
    """How long other installations were waited for in all, in seconds."""

    waited: int = 0


def wait_turn(windows: SimulatedWindows, folder: str, parameters: Parameters, turn: Turn) -> JobReason | None:
    """``None`` when no other installation runs and the window is still open, else the reason why not."""
    told = turn.waited - 30
    while windows.test_installer_busy():
        if turn.waited >= parameters["busy_seconds"]:
            return JobReason.INSTALLER_BUSY
        if turn.waited - told >= 30:
            add_state(windows, folder, JobPhase.WAITING_FOR_INSTALLER, waited=turn.waited)
            told = turn.waited
        windows.wait_seconds(5)
        turn.waited += 5
    return None if window_open(windows, parameters) else JobReason.WINDOW_OVER


def _heartbeat(windows: SimulatedWindows, folder: str, child: Mapping[str, Any], still: int) -> None:
    values = {"child_pid": child["pid"], "child_created": child["created"], "still": still}
    add_quietly(windows, folder, JobPhase.INSTALLING, **values)


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


def run_package(
    windows: SimulatedWindows, folder: str, parameters: Parameters, signature: Mapping[str, str], result: Result
) -> JobReason | None:
    """Run it to its end and put its exit code into *result*; the reason why it did not begin, if it did not."""
    package, temp = parameters["package"], f"{folder}\\temp"
    program = f"{windows.get_windows_directory()}\\System32\\{parameters['program']}"
    program = program if parameters["program"] else package
    arguments = parameters["arguments"].replace("{package}", package).replace("{log}", f"{folder}\\{INSTALL_LOG}")
    windows.new_plain_folder(temp)
    told = {"signature": signature["status"], **{key: signature[key] for key in ("signer", "root", "signed_at")}}
    add_state(windows, folder, JobPhase.LAUNCHING, command_line=f'"{program}" {arguments}', **told)
    try:
        child = windows.start_installer(program, arguments, temp)
    except WindowsError_ as error:
        result["detail"] = error.message
        return JobReason.NOT_LAUNCHED
    _heartbeat(windows, folder, child, 0)
    _watch_installer(windows, folder, child, parameters["still_seconds"])
    result["exit_code"] = windows.get_installer_exit_code(cast(Process, child["process"]))
    return None


def complete_package(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    """It has ended; what it unpacked and started may outlive it for a while."""
    result["reason"] = JobReason.DONE.value
    add_quietly(windows, folder, JobPhase.INSTALLED, exit_code=result["exit_code"])
    for _ in range(0, parameters["busy_seconds"], 5):
        if not windows.test_folder_process(f"{folder}\\temp"):
            break
        windows.wait_seconds(5)


def pending_rename(windows: SimulatedWindows, parameters: Parameters) -> bool:
    """Whether the DLL waits for the next restart."""
    renames = windows.get_registry_value(parameters["rename_key"], parameters["rename_value"]) or ""
    return any(line.lower().endswith(parameters["dll"].lower()) for line in renames.split("\n"))


def copy_setup_logs(windows: SimulatedWindows, folder: str, parameters: Parameters, since: str) -> None:
    """Keep what was written beside SYSTEM's other temporary files; only logs of this run count."""
    source, target = f"{windows.get_windows_directory()}\\{parameters['system_temp']}", f"{folder}\\temp\\system"
    starts = tuple(name.lower() for name in parameters["log_names"])
    for name in windows.get_folder_entries(source):
        path = f"{source}\\{name}"
        if not name.lower().startswith(starts) or not windows.test_file(path):
            continue
        with contextlib.suppress(WindowsError_):
            if seconds_between(since, windows.get_file_time(path) or since) >= -1:
                windows.new_plain_folder(target)
                windows.join_files([path], f"{target}\\{name}")


# --- services -------------------------------------------------------------------------------------------------------


def running_services(windows: SimulatedWindows, roots: list[str]) -> list[str]:
    """Those of the roots that run, and all that needs them, in the order in which they have to stop."""
    names: list[str] = []
    for root in roots:
        if windows.get_service_status(root) in (None, "stopped"):
            continue
        for name in (*windows.get_dependent_services(root), root):
            if name.lower() not in (each.lower() for each in names):
                names.append(name)
    return names


def start_services(windows: SimulatedWindows, services: str, sites: str, idle_sites: str, seconds: int) -> str:
    """Start again what ran, each whatever becomes of the others; what does not run is told."""
    trouble = []
    for name in reversed(services.split("/")):
        if name and windows.get_service_status(name) is not None:
            told = windows.switch_service(name, True, seconds)
            trouble += [f"{name}: {told}"] if told else []
    try:
        for site in windows.get_web_sites():
            ran, idle = (site["number"] in text.split("/") for text in (sites, idle_sites))
            if (ran and not site["running"]) or (idle and site["running"]):
                told = windows.switch_web_site(str(site["number"]), ran)
                trouble += [f"site {site['name']}: {told}"] if told else []
    except WindowsError_ as error:
        trouble.append(f"sites: {error.message}")
    return "; ".join(trouble)


_TEXT: Final = 2000
_CONNECTIONS: Final = 20


def cut_text(text: str) -> str:
    """As much of *text* as an answer takes."""
    return text[:_TEXT]


def connection_text(windows: SimulatedWindows, parameters: Parameters, own_programs: Collection[str]) -> str:
    """One line for each connection to the database that is not of one of these programs on this server."""
    own = windows.get_computer_name().lower()
    lines: list[str] = []
    for each in windows.get_database_connections(parameters["server"], parameters["database"], 60):
        host, process = str(each["host"]), str(each["process"])
        local = host.lower() == own and process.isascii() and process.isdigit() and len(process) <= 9
        name = windows.get_process_name(int(process)) if local else ""
        if not (name and name in own_programs) and len(lines) < _CONNECTIONS:
            lines.append(f"{host}: {name} {each['program']}")
    return "\n".join(lines)
