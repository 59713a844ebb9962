"""The scripts about jobs told once more in Python: ``start_job.ps1``, ``poll_job.ps1``, ``collect_job.ps1``,
``withdraw_job.ps1`` and ``cleanup.ps1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from wsusfix.lab.behaviours.shared import (
    ABSENT,
    Answer,
    Parameters,
    add_claim,
    add_state,
    add_state_at,
    complete_removal,
    job_folder,
    job_standing,
    newest_claim,
    newest_job,
    numbers_of,
    refused_answer,
    staging_path,
    staging_refusal,
    tree_files,
    whole_states,
)
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import JobPhase, JobReason, JobStatus, Refusal

__all__ = ["INSTALL_LOG", "cleanup", "collect_job", "poll_job", "start_job", "withdraw_job"]

#: What the installer of the update is told to write; the log that is shown, where it is there.
INSTALL_LOG: Final = "install.log"


def start_job(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``start_job.ps1``: start a job as SYSTEM, or name the one that runs already."""
    staging = staging_path(windows, parameters["staging_name"])
    job_id, kind = parameters["job_id"], parameters["job_kind"]
    folder = job_folder(staging, job_id)
    answer: Answer = {"refused": "", "detail": "", "job_id": job_id, "job_kind": kind, "joined": False}
    refusal = staging_refusal(windows, staging)
    if refusal == ABSENT:
        windows.new_closed_folder(staging)
        refusal = windows.get_folder_trust(staging)
    if refusal:
        return refused_answer(answer, refusal, staging)
    free = windows.get_free_space(staging)
    if int(free) < 1_048_576 + 2 * len(parameters["job_script"]):
        return refused_answer(answer, Refusal.NO_SPACE, f"bytes free: {free}")
    # A job that was asked for before is not started again: the answer was lost.
    if newest_claim(windows, staging, job_id) is not None:
        return {**answer, "joined": True}
    windows.remove_tree(folder)
    while True:
        numbers = numbers_of(windows, f"{staging}\\jobs", ".claim")
        newest = newest_job(windows, staging)
        job = job_standing(windows, staging, newest, parameters["start_seconds"])
        if _joins(windows, staging, newest, job.status):
            # The same question, asked before and given up, may just have been answered: then it is this job that runs.
            if newest != job_id:
                windows.remove_tree(folder)
            return {**answer, "job_id": newest, "job_kind": job.kind, "joined": True}
        if not windows.test_folder(folder):
            windows.new_plain_folder(f"{folder}\\state")
            windows.new_plain_folder(f"{folder}\\temp")
            windows.add_script_file(f"{folder}\\job.ps1", parameters["job_script"])
            windows.save_parameters(f"{folder}\\parameters.xml", parameters["job_parameters"])
            found = windows.get_file_sha256(f"{folder}\\job.ps1") or ""
            if found != parameters["job_sha256"]:
                windows.remove_tree(folder)
                return refused_answer(answer, Refusal.JOB_SCRIPT_CHANGED, found)
        if add_claim(windows, staging, numbers[-1] + 1 if numbers else 1, job_id, kind):
            break
    trouble = windows.register_system_task(parameters["task_name"], f"{folder}\\job.ps1")
    refused = Refusal.TASK_NOT_CREATED
    if not trouble:
        trouble = windows.start_system_task(parameters["task_name"])
        refused = Refusal.TASK_NOT_STARTED
    # The claim is given back, unless the job began all the same.
    if trouble and add_state(windows, folder, JobPhase.ABANDONED):
        return refused_answer(answer, refused, trouble)
    return answer


def _joins(windows: SimulatedWindows, staging: str, newest: str, status: JobStatus) -> bool:
    """Whether the newest job runs or is about to; one that never started is kept from starting late."""
    if status is JobStatus.NEVER_STARTED:
        folder = job_folder(staging, newest)
        # It may have been removed but for its claim.
        windows.new_plain_folder(f"{folder}\\state")
        return not add_state(windows, folder, JobPhase.ABANDONED)
    return status in (JobStatus.CLAIMED, JobStatus.RUNNING)


def _running(windows: SimulatedWindows, staging: str, start_seconds: int) -> str:
    """The newest job, if it is at work or about to be."""
    newest = newest_job(windows, staging)
    job = job_standing(windows, staging, newest, start_seconds)
    return newest if _joins(windows, staging, newest, job.status) else ""


def poll_job(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``poll_job.ps1``: how a job stands, and its newer states."""
    staging = staging_path(windows, parameters["staging_name"])
    folder = job_folder(staging, parameters["job_id"])
    answer: Answer = {
        "kind": "",
        "status": "none",
        "states": "",
        "last": parameters["after"],
        "clock": windows.get_clock(),
    }
    if windows.get_folder_trust(staging):
        return answer
    # First the status, then the states: an end that is told is among them, or comes with the next question.
    job = job_standing(windows, staging, parameters["job_id"], parameters["start_seconds"])
    lines: list[str] = []
    length = 0
    for number, text in whole_states(windows, folder, parameters["after"]):
        length += len(text) + 20
        if length > 200_000:
            break
        lines += [f"number={number}", text]
        answer["last"] = number
    return {**answer, "kind": job.kind, "status": job.status.value, "states": "\n".join(lines)}


def collect_job(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``collect_job.ps1``: the end of the log that a job left, and hash and end of each of them."""
    staging = staging_path(windows, parameters["staging_name"])
    folder = job_folder(staging, parameters["job_id"])
    answer: Answer = {"log_tail": "", "logs": ""}
    if windows.get_folder_trust(staging):
        return answer
    names = [INSTALL_LOG] if windows.test_file(f"{folder}\\{INSTALL_LOG}") else []
    logs = [
        name for name in tree_files(windows, f"{folder}\\temp", "temp\\") if name.lower().endswith((".log", ".xml"))
    ]
    wanted = [each.lower() for each in parameters["first"]]
    firsts = [name for each in wanted for name in logs if name.rpartition("\\")[2].lower() == each]
    lines, shown, longest, left = [], "", 0, int(parameters["most"])
    for name in [*names, *firsts, *(name for name in logs if name not in firsts)][:500]:
        path = f"{folder}\\{name}"
        length = int(windows.get_file_length(path) or 0)
        lines.append(f"{windows.get_file_sha256(path)} {length} {name}")
        if left > 0:
            take = min(parameters["each"], left)
            answer[f"log_{len(lines)}"] = windows.read_file_tail(path, take)
            left -= min(take, length)
        if length > longest and shown != INSTALL_LOG:
            longest, shown = length, name
    answer["logs"] = "\n".join(lines)
    if shown:
        answer["log_tail"] = windows.read_file_tail(f"{folder}\\{shown}", parameters["tail"])
    return answer


def withdraw_job(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``withdraw_job.ps1``: call off the job that waits for its maintenance window."""
    staging = staging_path(windows, parameters["staging_name"])
    answer: Answer = {"refused": "", "detail": "", "job_id": "", "job_kind": "", "already": False}
    refusal = staging_refusal(windows, staging)
    if refusal not in ("", ABSENT):
        return refused_answer(answer, refusal, staging)
    job_id = "" if refusal else newest_job(windows, staging)
    if not job_id:
        return refused_answer(answer, Refusal.NO_JOB, "")
    answer["job_id"] = job_id
    folder = job_folder(staging, job_id)
    sid = windows.get_session_identity()["sid"]
    detail = ""
    for _ in range(10):
        job = job_standing(windows, staging, job_id, parameters["start_seconds"])
        answer["job_kind"] = job.kind
        ended = job.status is JobStatus.FINISHED and job.fields.get("reason") == JobReason.WITHDRAWN.value
        if ended or job.phase == JobPhase.WITHDRAWN.value:
            return {**answer, "already": True}
        detail = f"{job_id} ({job.kind}) {job.status.value} {job.phase}"
        if job.status is not JobStatus.RUNNING or job.phase != JobPhase.WAITING_FOR_WINDOW.value:
            break
        # Right behind that state or not at all: the job writes its next one there, too, before it does anything.
        if add_state_at(windows, folder, JobPhase.WITHDRAWN, job.last + 1, job.fields, account_sid=sid):
            return answer
        # Somebody was quicker, and may still be writing.
        windows.wait_seconds(0.5)
    return refused_answer(answer, Refusal.NOT_WAITING, detail)


def cleanup(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``cleanup.ps1``: remove the task and everything of wsusfix, unless a job runs."""
    staging = staging_path(windows, parameters["staging_name"])
    answer: Answer = {"refused": "", "detail": "", "removed": "", "remaining": ""}
    refusal = staging_refusal(windows, staging)
    if refusal not in ("", ABSENT):
        return refused_answer(answer, refusal, staging)
    if not refusal and (running := _running(windows, staging, parameters["start_seconds"])):
        return refused_answer(answer, Refusal.JOB_RUNNING, running)
    try:
        complete_removal(windows, parameters)
    except WindowsError_ as error:
        answer["detail"] = error.message
    removed = [parameters["task_name"]] if windows.remove_system_task(parameters["task_name"]) else []
    if not refusal:
        for attempt in range(3):
            if not windows.test_folder(staging):
                break
            if attempt:
                windows.wait_seconds(1)
                # Somebody may have begun a job since.
                if _running(windows, staging, parameters["start_seconds"]):
                    break
            try:
                windows.remove_tree(staging)
            except WindowsError_ as error:
                answer["detail"] = error.message
        if windows.test_folder(staging):
            left = [staging, *tree_files(windows, staging, f"{staging}\\")]
            answer["remaining"] = "\n".join(left[:500])
        else:
            answer["detail"] = ""
            removed.append(staging)
    answer["removed"] = "\n".join(removed)
    return answer
