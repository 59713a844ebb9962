"""The scripts of an upgrade told once more in Python: the look around, and the jobs on its road."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from wsusfix.lab.behaviours.shared import (
    ABSENT,
    Answer,
    Parameters,
    add_kept,
    add_setup_end,
    add_state,
    add_upgrade_record,
    close_restart_record,
    close_upgrade_record,
    numbers_of,
    one_line,
    staging_path,
    tree_files,
    wsus_server,
)
from wsusfix.lab.behaviours.working import (
    Checked,
    Result,
    Turn,
    add_quietly,
    check_package,
    complete_package,
    connection_text,
    copy_setup_logs,
    cut_text,
    log_entry,
    pending_rename,
    run_job,
    run_package,
    running_services,
    start_services,
    wait_turn,
    wait_window,
    window_open,
)
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import JobPhase, JobReason

__all__ = ["back_up_database", "check_prerequisites", "restart", "start_stopped", "surroundings", "upgrade"]


def surroundings(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``surroundings.ps1``: database, services, sites, drives, and the servers around."""
    answer: Answer = {
        "database_trouble": "",
        "database_version": "",
        "own_name": "",
        "network_name": "",
        "sysadmin": False,
        "nested_triggers": False,
        "database_size": "0",
        "database_files": "",
        "connections": "",
        "hierarchy_trouble": "",
        "upstream": "",
        "front_ends": "",
        "services": "\n".join(running_services(windows, parameters["service_roots"])),
        "sites": "",
        "sites_trouble": "",
        "clock": windows.get_clock(),
    }
    if parameters["server"]:
        try:
            answer |= _database(windows, parameters)
        except WindowsError_ as error:
            answer["database_trouble"] = cut_text(error.message)
    if parameters["hierarchy"]:
        try:
            hierarchy = windows.get_wsus_hierarchy()
            answer |= {"upstream": hierarchy["upstream"], "front_ends": hierarchy["front_ends"]}
        except WindowsError_ as error:
            answer["hierarchy_trouble"] = cut_text(error.message)
    try:
        answer["sites"] = "\n".join(
            f"{site['number']} {'running' if site['running'] else 'stopped'} {site['name']}"
            for site in windows.get_web_sites()
        )
    except WindowsError_ as error:
        answer["sites_trouble"] = cut_text(error.message)
    paths = [*parameters["paths"], *filter(None, answer["database_files"].split("\n"))]
    answer["drives"] = "\n".join(line for path in paths if (line := _drive(windows, path)))
    return {**answer, "backups": _backups(windows, parameters)}


def _drive(windows: SimulatedWindows, path: str) -> str:
    """What matters of a path's drive; ``""`` for one on the network."""
    try:
        state = "compressed" if windows.test_compressed(path) else "plain"
        return f"{windows.get_free_space(path)} {state} {path}"
    except WindowsError_:
        return ""


def _database(windows: SimulatedWindows, parameters: Parameters) -> Answer:
    state = windows.get_database_state(parameters["server"], parameters["database"], parameters["seconds"])
    return {
        "database_version": state["version"],
        "own_name": state["own_name"],
        "network_name": state["network_name"],
        "sysadmin": state["sysadmin"],
        "nested_triggers": state["nested_triggers"],
        "database_size": state["size"],
        "database_files": state["files"],
        "connections": connection_text(windows, parameters, parameters["own_programs"]),
    }


def _backups(windows: SimulatedWindows, parameters: Parameters) -> str:
    outer = staging_path(windows, parameters["backup_folder"])
    try:
        names = [
            name
            for name in tree_files(windows, outer, f"{outer}\\")
            if not windows.test_file(f"{name.rpartition(chr(92))[0]}\\{parameters['unverified']}")
        ]
        return "\n".join(f"{windows.get_file_length(name)} {name}" for name in names[:100])
    except WindowsError_:
        return ""  # who is no administrator may not even look at it


# --- the jobs -------------------------------------------------------------------------------------------------------


def check_prerequisites(windows: SimulatedWindows, folder: str) -> None:
    """``check_prerequisites.ps1``: let setup check its prerequisites, and nothing else."""
    run_job(windows, folder, {"exit_code": "", "event_logged": False}, _check_prerequisites)


def _check_prerequisites(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    _run_check(windows, folder, parameters, result)
    done = result["reason"] == JobReason.DONE.value and result["exit_code"] == "0"
    result["event_logged"] = log_entry(
        windows,
        parameters,
        not done,
        f"result: {result['reason']}",
        f"exit code: {result['exit_code']}",
        result["detail"],
    )


def _run_check(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    if not wait_window(windows, folder, parameters, result):
        return
    add_state(windows, folder, JobPhase.CHECKING_PACKAGE)
    if not windows.test_file(parameters["package"]):
        result["reason"] = JobReason.PACKAGE_MISSING.value
        return
    began = windows.get_clock()
    lock = windows.lock_file(parameters["package"])
    try:
        checked = check_package(windows, folder, parameters)
        if checked.reason is not None:
            result |= {"reason": checked.reason.value, "detail": checked.detail}
            return
        reason = wait_turn(windows, folder, parameters, Turn())
        if reason is None:
            reason = run_package(windows, folder, parameters, checked.signature, result)
        if reason is not None:
            result["reason"] = reason.value
            return
        complete_package(windows, folder, parameters, result)
    finally:
        windows.unlock_file(lock)
    copy_setup_logs(windows, folder, parameters, began)


def back_up_database(windows: SimulatedWindows, folder: str) -> None:
    """``back_up_database.ps1``: back the database up into a folder of its own, and read the backup back."""
    run_job(windows, folder, {"path": "", "size": "", "event_logged": False}, _back_up)


def _back_up(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    _save_verified(windows, folder, parameters, result)
    result["event_logged"] = log_entry(
        windows,
        parameters,
        result["reason"] != JobReason.DONE.value,
        f"result: {result['reason']}",
        f"backup: {result['path']}",
        f"bytes: {result['size']}",
        result["detail"],
    )


def _save_verified(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    server, database = parameters["server"], parameters["database"]
    if not wait_window(windows, folder, parameters, result):
        return
    add_state(windows, folder, JobPhase.ASKING_DATABASE)
    try:
        state: dict[str, Any] = windows.get_database_state(server, database, 60)
    except WindowsError_ as error:
        result |= {"reason": JobReason.DATABASE_NOT_REACHED.value, "detail": error.message}
        return
    outer = staging_path(windows, parameters["backup_folder"])
    _remove_unverified(windows, outer, parameters["unverified"])
    free = windows.get_free_space(outer)
    if int(free) < int(state["size"]) + int(parameters["reserve"]):
        detail = f"bytes free: {free}, size of the database: {state['size']}"
        result |= {"reason": JobReason.NO_SPACE.value, "detail": detail}
        return
    sid = windows.get_process_owner(state["process_id"])
    if not sid:
        detail = "the process of the SQL server is not on this server"
        result |= {"reason": JobReason.DATABASE_NOT_REACHED.value, "detail": detail}
        return
    place = _backup_folder(windows, outer, folder.rpartition("\\")[2], sid, result)
    if not place:
        return
    path = f"{place}\\{database}.bak"
    add_state(windows, folder, JobPhase.BACKING_UP, path=path, size=state["size"])
    reason = JobReason.BACKUP_FAILED
    mark = f"{place}\\{parameters['unverified']}"
    try:
        windows.add_text_file(mark, f"time={windows.get_clock()}\nend\n")
        windows.save_database(server, database, path, parameters["backup_seconds"])
        reason = JobReason.BACKUP_NOT_VERIFIED
        add_state(windows, folder, JobPhase.VERIFYING_BACKUP)
        windows.test_database_backup(server, path, parameters["backup_seconds"])
        result["size"] = windows.get_file_length(path) or ""
        if int(f"0{result['size']}") == 0:
            raise WindowsError_(f"there is no backup at {path}")
        # From here on it is one.
        windows.remove_file(mark)
        result |= {"path": path, "reason": JobReason.DONE.value}
    except WindowsError_ as error:
        # A backup that nobody can rely on only takes room.
        result |= {"reason": reason.value, "detail": error.message}
        windows.remove_tree(place)


def _remove_unverified(windows: SimulatedWindows, outer: str, mark: str) -> None:
    """Remove what a job has left that was cut off before it had read its backup back."""
    for name in [] if windows.get_folder_trust(outer) else windows.get_folder_entries(outer):
        if windows.test_file(f"{outer}\\{name}\\{mark}"):
            with contextlib.suppress(WindowsError_):
                windows.remove_tree(f"{outer}\\{name}")


def _backup_folder(windows: SimulatedWindows, outer: str, inner: str, sid: str, result: Result) -> str:
    """A folder that the account of the SQL server may write into, within one that is closed; ``""`` when it is not."""
    trust = windows.get_folder_trust(outer)
    if trust == ABSENT:
        windows.new_closed_folder(outer)
        trust = windows.get_folder_trust(outer)
    folder = f"{outer}\\{inner}"
    if trust or windows.test_folder(folder):
        result |= {"reason": JobReason.FOLDER_NOT_CLOSED.value, "detail": trust or folder}
        return ""
    windows.new_shared_folder(folder, sid)
    return folder


def upgrade(windows: SimulatedWindows, folder: str) -> None:
    """``upgrade.ps1``: stop IIS and WSUS, run setup, and start again exactly what ran."""
    result: Result = {
        "exit_code": "",
        "version_before": "",
        "version_after": "",
        "there": True,
        "pending_rename": False,
        "not_started": "",
        "also_running": "",
        "event_logged": False,
    }
    run_job(windows, folder, result, _upgrade, _complete_upgrade)


def _version(windows: SimulatedWindows, parameters: Parameters) -> str:
    return windows.get_registry_value(parameters["setup_key"], "VersionString") or ""


def _upgrade(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    if not wait_window(windows, folder, parameters, result):
        return
    add_state(windows, folder, JobPhase.CHECKING_PACKAGE, release=parameters["release"])
    if not windows.test_file(parameters["package"]):
        result["reason"] = JobReason.PACKAGE_MISSING.value
        return
    began = windows.get_clock()
    # Held from before it is hashed until after it has run: what runs is what was hashed.
    lock = windows.lock_file(parameters["package"])
    try:
        result["version_before"] = _version(windows, parameters)
        if result["version_before"] != parameters["version"]:
            result["reason"] = JobReason.OTHER_VERSION.value
            return
        checked = check_package(windows, folder, parameters)
        if checked.reason is not None:
            result |= {"reason": checked.reason.value, "detail": checked.detail}
            return
        reason = wait_turn(windows, folder, parameters, Turn())
        if reason is not None:
            result["reason"] = reason.value
            return
        _between(windows, folder, parameters, checked, result)
    finally:
        windows.unlock_file(lock)
    copy_setup_logs(windows, folder, parameters, began)


def _between(windows: SimulatedWindows, folder: str, parameters: Parameters, checked: Checked, result: Result) -> None:
    """Stop what was named to whoever consented, and start it again whatever happens in between."""
    running = running_services(windows, parameters["service_roots"])
    allowed = {name.lower() for name in parameters["services"]}
    for name in running:
        if name.lower() not in allowed:
            result |= {"reason": JobReason.OTHER_SERVICES.value, "detail": name}
            return
    sites = windows.get_web_sites()
    for site in sites:
        if site["running"] and site["number"] not in parameters["sites"]:
            result |= {"reason": JobReason.OTHER_SITES.value, "detail": site["name"]}
            return
    kept = staging_path(windows, parameters["kept_name"])
    if windows.get_folder_trust(kept) == ABSENT:
        windows.new_closed_folder(kept)
    if trust := windows.get_folder_trust(kept):
        result |= {"reason": JobReason.KEPT_REFUSED.value, "detail": trust}
        return
    ran = {
        "services": "/".join(running),
        "sites": "/".join(str(site["number"]) for site in sites if site["running"]),
        "idle_sites": "/".join(str(site["number"]) for site in sites if not site["running"]),
        "backup": parameters["backup"],
    }
    # Before the first of them stops: whoever comes after a power cut reads here what ran.
    job_id = folder.rpartition("\\")[2]
    number = add_upgrade_record(windows, kept, {**ran, "job_id": job_id, "version": result["version_before"]})
    add_state(windows, folder, JobPhase.STOPPING, **ran, record=number)
    try:
        if told := _stop(windows, running, parameters["stop_seconds"]):
            result |= {"reason": JobReason.NOT_STOPPED.value, "detail": told}
        else:
            _install_stopped(windows, folder, parameters, checked, result, kept, number)
    except WindowsError_ as error:
        result["detail"] = error.message
    finally:
        # What ended this very process, a power cut for one, ends it here too: nothing is asked in its name any more.
        add_quietly(windows, folder, JobPhase.STARTING_SERVICES)
        result["not_started"] = start_services(
            windows, ran["services"], ran["sites"], ran["idle_sites"], parameters["stop_seconds"]
        )
        restart = result["exit_code"] in parameters["restart_codes"]
        there = wsus_server(windows, parameters)
        close_upgrade_record(windows, kept, number, result["not_started"], parameters, there=there, restart=restart)
        # Setup has started it, and may need it: it is told and not stopped.
        before = {name.lower() for name in running}
        now = running_services(windows, parameters["service_roots"])
        result["also_running"] = ", ".join(name for name in now if name.lower() not in before)


def _stop(windows: SimulatedWindows, names: list[str], seconds: int) -> str:
    """Stop them in their order; what went wrong with the first that does not."""
    for name in names:
        if told := windows.switch_service(name, False, seconds):
            return f"{name}: {told}"
    return ""


def _install_stopped(
    windows: SimulatedWindows,
    folder: str,
    parameters: Parameters,
    checked: Checked,
    result: Result,
    kept: str,
    number: int,
) -> None:
    add_state(windows, folder, JobPhase.CHECKING_CONNECTIONS)
    if others := _wait_connections(windows, parameters):
        result |= {"reason": JobReason.CONNECTIONS.value, "detail": others}
        return
    if not window_open(windows, parameters):
        result["reason"] = JobReason.WINDOW_OVER.value
        return
    reason = run_package(windows, folder, parameters, checked.signature, result)
    if reason is not None:
        result["reason"] = reason.value
        return
    add_setup_end(windows, kept, number, parameters, restart=result["exit_code"] in parameters["restart_codes"])
    complete_package(windows, folder, parameters, result)


def _wait_connections(windows: SimulatedWindows, parameters: Parameters) -> str:
    """Who is still connected, whosever it is; those of WSUS vanish with its stop, the last of them a little later."""
    others = ""
    for _ in range(13):
        others = connection_text(windows, parameters, ())
        if not others:
            return ""
        windows.wait_seconds(5)
    return others


def _complete_upgrade(windows: SimulatedWindows, parameters: Parameters, result: Result) -> None:
    """Tell what stands on the server afterwards, and write the entry in the event log."""
    result["version_after"] = _version(windows, parameters)
    result["there"] = wsus_server(windows, parameters)
    result["pending_rename"] = pending_rename(windows, parameters)
    result["event_logged"] = log_entry(
        windows,
        parameters,
        not result["version_after"].startswith(parameters["release"]),
        f"result: {result['reason']}",
        f"exit code: {result['exit_code']}",
        f"version before: {result['version_before']}",
        f"version after: {result['version_after']}",
        f"not started again: {result['not_started']}",
        f"started besides: {result['also_running']}",
        result["detail"],
    )


def start_stopped(windows: SimulatedWindows, folder: str) -> None:
    """``start_services.ps1``: start again what a cut-off upgrade stopped, or what ran before a restart."""
    run_job(windows, folder, {"not_started": "", "event_logged": False}, _start_stopped)


def _start_stopped(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    lists = (parameters["services"], parameters["sites"], parameters["idle_sites"])
    told_lists = dict(zip(("services", "sites", "idle_sites"), lists, strict=True))
    add_state(windows, folder, JobPhase.STARTING_SERVICES, **told_lists, record=parameters["record"])
    result["not_started"] = start_services(windows, *lists, parameters["stop_seconds"])
    result["reason"] = JobReason.DONE.value
    kept = staging_path(windows, parameters["kept_name"])
    if parameters["ran"] and not result["not_started"]:
        close_restart_record(windows, kept, parameters["ran"])
    if parameters["record"]:
        number, there = int(parameters["record"]), wsus_server(windows, parameters)
        restart, left = parameters["restart"], result["not_started"]
        close_upgrade_record(windows, kept, number, left, parameters, there=there, restart=restart)
    told = (f"started again: {lists[0]}", f"not started again: {result['not_started']}")
    result["event_logged"] = log_entry(windows, parameters, bool(result["not_started"]), *told)


def restart(windows: SimulatedWindows, folder: str) -> None:
    """``restart.ps1``: restart the server."""
    run_job(windows, folder, {"event_logged": False}, _restart)


def _restart(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    if not wait_window(windows, folder, parameters, result):
        return
    reason = wait_turn(windows, folder, parameters, Turn())
    if reason is not None:
        result["reason"] = reason.value
        return
    kept = staging_path(windows, parameters["kept_name"])
    ran = _add_restart_record(windows, kept, folder.rpartition("\\")[2], parameters["service_roots"])
    add_state(windows, folder, JobPhase.RESTARTING)
    result["event_logged"] = log_entry(windows, parameters, False)
    result["detail"] = windows.start_restart(parameters["text"], parameters["delay_seconds"])
    result["reason"] = JobReason.NOT_RESTARTED.value
    if not result["detail"]:
        add_quietly(windows, folder, JobPhase.RESTART_ORDERED, event_logged=result["event_logged"])
        for _ in range(0, parameters["restart_seconds"], 5):
            windows.wait_seconds(5)
        result["reason"] = JobReason.STILL_UP.value
    if ran:
        close_restart_record(windows, kept, ran)


def _add_restart_record(windows: SimulatedWindows, kept: str, job_id: str, roots: list[str]) -> str:
    """Keep what runs right before a restart; the record's number, ``""`` where it cannot be kept."""
    try:
        if windows.get_folder_trust(kept) == ABSENT:
            windows.new_closed_folder(kept)
        if windows.get_folder_trust(kept):
            return ""
        sites: list[dict[str, object]] = []
        with contextlib.suppress(WindowsError_):
            sites = windows.get_web_sites()
        numbers = numbers_of(windows, kept, ".restart")
        number = numbers[-1] + 1 if numbers else 1
        told = {
            "time": windows.get_clock(),
            "boot": windows.get_operating_system()["boot_time"],
            "job_id": job_id,
            "services": "/".join(running_services(windows, roots)),
            "sites": "/".join(str(site["number"]) for site in sites if site["running"]),
            "idle_sites": "/".join(str(site["number"]) for site in sites if not site["running"]),
        }
        text = "".join(f"{key}={one_line(value)}\n" for key, value in told.items()) + "end\n"
        add_kept(windows, kept, number, ".restart", text)
    except WindowsError_:
        return ""  # the restart does not depend on it
    return str(number)
