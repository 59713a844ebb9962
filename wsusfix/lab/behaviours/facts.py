"""``facts.ps1`` told once more in Python: everything a diagnosis needs, in one look."""

from __future__ import annotations

from collections.abc import Iterator

from wsusfix.lab.behaviours.shared import (
    ABSENT,
    Answer,
    Parameters,
    job_standing,
    newest_job,
    reset_state,
    restart_record,
    staging_path,
    tree_files,
    upgrade_record,
)
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import JobStatus, StagingState

__all__ = ["facts"]


def facts(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``facts.ps1``: everything a diagnosis needs, in one look."""
    system = windows.get_operating_system()
    identity = windows.get_session_identity()
    directory = windows.get_windows_directory()
    staging = staging_path(windows, parameters["staging_name"])
    # First of all that a job may change: one that ends meanwhile is told as at work.
    staged = _facts_of_staging(windows, parameters, staging)
    policy = windows.get_registry_value(parameters["policy_key"], parameters["policy_value"]) or ""
    if windows.get_registry_value(parameters["policy_key"], parameters["policy_switch"]) == "0":
        policy = "Restricted"
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
        "execution_policy": policy,
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
        "reset_state": reset_state(windows, staging_path(windows, parameters["kept_name"])).value,
        **upgrade_record(windows, staging_path(windows, parameters["kept_name"])),
        **restart_record(windows, staging_path(windows, parameters["kept_name"])),
        "staging_path": staging,
        "staging_free": windows.get_free_space(staging),
    }
    for name in parameters["setup_values"]:
        if (value := windows.get_registry_value(parameters["setup_key"], name)) is not None:
            answer[f"setup_{name}"] = value
    for name in parameters["services"]:
        if (status := windows.get_service_status(name)) is not None:
            answer[f"service_{name}"] = status
    return {**answer, **_facts_of_dll(windows, parameters, answer), **staged}


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
        "job_kind": "",
        "job_status": JobStatus.NONE.value,
        "job_phase": "",
        "leftovers": 0,
    }
    try:
        trust = windows.get_folder_trust(staging)
    except WindowsError_ as error:
        trust = error.message  # who is no administrator may not even look at it
    if trust == "":
        job_id = newest_job(windows, staging)
        job = job_standing(windows, staging, job_id, parameters["start_seconds"])
        answer |= {
            "staging_state": StagingState.CLOSED.value,
            "leftovers": len(tree_files(windows, staging)),
            "job_id": job_id,
            "job_kind": job.kind,
            "job_status": job.status.value,
            "job_phase": job.phase,
        }
    elif trust != ABSENT:
        answer |= {"staging_state": StagingState.REFUSED.value, "staging_detail": trust}
    return answer
