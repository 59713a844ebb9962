"""What the behaviours share: ``jobs.ps1`` told once more in Python, over the same primitives.

It refuses to touch a machine in any other way than through :class:`~wsusfix.lab.windows.SimulatedWindows`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import JobPhase, JobStatus, Refusal, ResetState, UpgradeState

__all__ = [
    "ABSENT",
    "Answer",
    "Behaviour",
    "JobBehaviour",
    "Parameters",
    "Standing",
    "TIME_FORMAT",
    "add_claim",
    "add_kept",
    "add_setup_end",
    "add_state",
    "add_state_at",
    "add_upgrade_record",
    "age_seconds",
    "alive",
    "close_restart_record",
    "close_upgrade_record",
    "complete_removal",
    "from_lines",
    "job_folder",
    "job_standing",
    "newest_claim",
    "newest_kept",
    "newest_job",
    "numbered_path",
    "numbers_of",
    "open_records",
    "one_line",
    "package_folder",
    "package_path",
    "refused_answer",
    "reset_state",
    "restart_record",
    "segment_name",
    "staging_path",
    "staging_refusal",
    "tree_files",
    "upgrade_record",
    "whole_lines",
    "whole_segments",
    "whole_states",
    "wsus_server",
]

Answer = dict[str, Any]
Parameters = Mapping[str, Any]
#: Answers a script that is sent over a session.
Behaviour = Callable[[SimulatedWindows, Parameters, Iterator[object]], Answer]
#: Does the work of a script that a task runs; it is given the job's folder.
JobBehaviour = Callable[[SimulatedWindows, str], None]

#: There is no staging folder yet.
ABSENT: Final = "absent"
_SEGMENT: Final = re.compile(r"(\d{12})-(\d{1,12})\.seg")
_NUMBERED: Final = re.compile(r"\d{5}\.[a-z]+")
#: How scripts write times.
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def staging_path(windows: SimulatedWindows, name: str) -> str:
    """Where everything of a run lies."""
    return f"{windows.get_windows_directory()}\\{name}"


def staging_refusal(windows: SimulatedWindows, staging: str) -> str:
    """``""`` when the folder is there and closed; ``absent`` is for the caller to judge."""
    if not windows.get_session_identity()["administrator"]:
        return Refusal.NOT_ADMINISTRATOR.value
    return windows.get_folder_trust(staging)


def package_folder(staging: str, sha256: str) -> str:
    """Where one file and its segments lie."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise WindowsError_(f"not a SHA-256 in lower case: {sha256}")
    return f"{staging}\\files\\{sha256[:16]}"


def package_path(folder: str, name: str) -> str:
    """Where the whole file lies."""
    if re.search(r'[\\/:*?"<>|]', name) or name in ("", ".."):
        raise WindowsError_(f"not a plain file name: {name}")
    return f"{folder}\\{name}"


def segment_name(offset: int, length: int) -> str:
    """The name of the file that holds a segment."""
    return f"{offset:012d}-{length}.seg"


def whole_segments(windows: SimulatedWindows, folder: str) -> list[tuple[int, int, str]]:
    """The whole segments, by offset: offset, length, path."""
    found = []
    for name in windows.get_folder_entries(f"{folder}\\parts"):
        match = _SEGMENT.fullmatch(name)
        path = f"{folder}\\parts\\{name}"
        length = windows.get_file_length(path) if match else None
        if match and length is not None and int(length) == int(match.group(2)):
            found.append((int(match.group(1)), int(length), path))
    return found


def tree_files(windows: SimulatedWindows, folder: str, prefix: str = "") -> list[str]:
    """Every file below *folder*, as a path relative to it."""
    found = []
    for name in windows.get_folder_entries(folder):
        inner = f"{folder}\\{name}"
        if not windows.test_folder(inner):
            found.append(prefix + name)
        elif not windows.test_reparse_point(inner):
            found += tree_files(windows, inner, f"{prefix}{name}\\")
    return found


def age_seconds(since: str, now: str) -> float:
    """Seconds between two times, without a sign."""
    begin, end = (datetime.strptime(text, TIME_FORMAT) for text in (since, now))
    return abs((end - begin).total_seconds())


def from_lines(text: str | None) -> dict[str, str] | None:
    """Lines of ``key=value``; ``None`` when the last line is not ``end``: then it is not whole."""
    lines = (text or "").replace("\r", "").rstrip("\n").split("\n")
    if lines[-1] != "end":
        return None
    return dict(line.split("=", 1) for line in lines if line.find("=") > 0)


def one_line(value: object) -> str:
    """A value as one line of a state says it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("\r", " ").replace("\n", " ").strip()[:2000]


def numbers_of(windows: SimulatedWindows, folder: str, ending: str) -> list[int]:
    """The numbers of the files 00001.txt, 00002.txt, ... in order."""
    names = windows.get_folder_entries(folder)
    return [int(name[:5]) for name in names if _NUMBERED.fullmatch(name) and name[5:] == ending]


def job_folder(staging: str, job_id: str) -> str:
    """Where everything of one job lies."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", job_id):
        raise WindowsError_(f"not the name of a job: {job_id}")
    return f"{staging}\\jobs\\{job_id}"


def _state_text(windows: SimulatedWindows, phase: JobPhase, process: Mapping[str, Any], values: Answer) -> str:
    own = {key: process.get(key, "") for key in ("pid", "created")}
    lines = {"phase": phase.value, "time": windows.get_clock(), **own, **values}
    return "".join(f"{key}={one_line(value)}\n" for key, value in lines.items()) + "end\n"


def add_state(windows: SimulatedWindows, folder: str, phase: JobPhase, **values: object) -> bool:
    """Write the next state; of the first one, which is the job's token, tell whether it was still to be had."""
    text = _state_text(windows, phase, windows.get_own_process(), values)
    for _ in range(10):
        numbers = numbers_of(windows, f"{folder}\\state", ".txt")
        if phase in (JobPhase.STARTED, JobPhase.ABANDONED) and numbers:
            return False
        number = numbers[-1] + 1 if numbers else 1
        if windows.add_text_file(f"{folder}\\state\\{number:05d}.txt", text):
            return True
    raise WindowsError_(f"no state can be written in {folder}")


def add_state_at(
    windows: SimulatedWindows,
    folder: str,
    phase: JobPhase,
    number: int,
    process: Mapping[str, Any],
    **values: object,
) -> bool:
    """Write a state with this number and no other; whether nobody else was quicker to take it."""
    path = numbered_path(f"{folder}\\state", number, ".txt")
    return windows.add_text_file(path, _state_text(windows, phase, process, values))


def whole_states(windows: SimulatedWindows, folder: str, after: int = 0) -> list[tuple[int, str]]:
    """The whole states that are newer, in order: number and text."""
    found = []
    for number in numbers_of(windows, f"{folder}\\state", ".txt"):
        if number > after:
            text = windows.read_text_file(f"{folder}\\state\\{number:05d}.txt")
            if text is not None and from_lines(text) is not None:
                found.append((number, text.replace("\r", "").rstrip("\n")))
    return found


def add_claim(windows: SimulatedWindows, staging: str, number: int, job_id: str, kind: str) -> bool:
    """Take a number for a job; whether it was still to be had."""
    text = f"job_id={job_id}\nkind={one_line(kind)}\ntime={windows.get_clock()}\nend\n"
    return windows.add_text_file(f"{staging}\\jobs\\{number:05d}.claim", text)


def newest_claim(windows: SimulatedWindows, staging: str, job_id: str = "") -> dict[str, str] | None:
    """The newest claim, or the newest of one job."""
    for number in reversed(numbers_of(windows, f"{staging}\\jobs", ".claim")):
        path = f"{staging}\\jobs\\{number:05d}.claim"
        values = from_lines(windows.read_text_file(path))
        for _ in range(10):
            if values is not None:
                break
            windows.wait_seconds(0.2)
            values = from_lines(windows.read_text_file(path))
        if values is not None and job_id in ("", values.get("job_id")):
            return values
    return None


def newest_job(windows: SimulatedWindows, staging: str) -> str:
    """The id of the newest job, ``""`` when there is none."""
    return (newest_claim(windows, staging) or {}).get("job_id", "")


def alive(windows: SimulatedWindows, pid: str, created: str) -> bool:
    """Whether that very process lives; a time that cannot be told is a doubt, and in doubt it lives."""
    found = windows.get_process_created(int(pid)) if pid else None
    return found is not None and (found == created or "" in (found, created))


@dataclass(frozen=True)
class Standing:
    """How a job stands: of which kind it is, its status, and the phase, the number and all keys of its last state."""

    kind: str = ""
    status: JobStatus = JobStatus.NONE
    phase: str = ""
    last: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)


def job_standing(windows: SimulatedWindows, staging: str, job_id: str, start_seconds: int) -> Standing:
    """Tell how a job stands, by its claim, its states and the processes that live."""
    claim = newest_claim(windows, staging, job_id) if job_id else None
    if claim is None:
        return Standing()
    kind = claim.get("kind", "")
    folder = job_folder(staging, job_id)
    states = whole_states(windows, folder)
    if not states:
        if age_seconds(claim["time"], windows.get_clock()) <= start_seconds:
            return Standing(kind, JobStatus.CLAIMED)
        if not numbers_of(windows, f"{folder}\\state", ".txt"):
            return Standing(kind, JobStatus.NEVER_STARTED)
        # Its first state is not whole: the power failed when it was written, or it is written just now.
        windows.wait_seconds(1)
        if whole_states(windows, folder):
            return job_standing(windows, staging, job_id, start_seconds)
        return Standing(kind, JobStatus.RUNNING if windows.test_folder_process(staging) else JobStatus.INTERRUPTED)
    number, text = states[-1]
    values = from_lines(text) or {}
    phase = values.get("phase", "")
    if phase in (JobPhase.FINISHED.value, JobPhase.ABANDONED.value):
        return Standing(kind, JobStatus.FINISHED, phase, number, values)
    lives = (
        alive(windows, values.get("pid", ""), values.get("created", ""))
        or alive(windows, values.get("child_pid", ""), values.get("child_created", ""))
        or windows.test_folder_process(staging)
    )
    if not lives and whole_states(windows, folder, number):
        # It wrote its end and went between the two looks: what is told is looked at anew.
        return job_standing(windows, staging, job_id, start_seconds)
    # One that did not live to see that it was called off has ended by that.
    gone = JobStatus.FINISHED if phase == JobPhase.WITHDRAWN.value else JobStatus.INTERRUPTED
    return Standing(kind, JobStatus.RUNNING if lives else gone, phase, number, values)


def refused_answer(answer: Answer, refusal: Refusal | str, detail: str) -> Answer:
    """The answer of a script that does not do what it was asked to."""
    return {**answer, "refused": str(getattr(refusal, "value", refusal)), "detail": detail}


# --- the kept folder --------------------------------------------------------------------------------------------------


def numbered_path(folder: str, number: int, ending: str) -> str:
    """Where a numbered file lies."""
    return f"{folder}\\{number:05d}{ending}"


def whole_lines(windows: SimulatedWindows, path: str) -> bool:
    """Whether a file was written to its end."""
    return from_lines(windows.read_text_file(path)) is not None


def open_records(windows: SimulatedWindows, kept: str) -> list[int]:
    """The whole records whose way back was not gone to its end, the newest first."""
    return [
        number
        for number in reversed(numbers_of(windows, kept, ".record"))
        if whole_lines(windows, numbered_path(kept, number, ".record"))
        and not whole_lines(windows, numbered_path(kept, number, ".closed"))
    ]


def newest_kept(windows: SimulatedWindows, kept: str, ending: str) -> str:
    """The text of the newest whole file with this ending, or ``""``."""
    for number in reversed(numbers_of(windows, kept, ending)):
        text = windows.read_text_file(numbered_path(kept, number, ending))
        if from_lines(text) is not None:
            return text or ""
    return ""


def reset_state(windows: SimulatedWindows, kept: str) -> ResetState:
    """What lies in the kept folder."""
    try:
        trust = windows.get_folder_trust(kept)
    except WindowsError_:
        trust = ResetState.REFUSED.value  # who is no administrator may not even look at it
    if trust == ABSENT:
        return ResetState.NONE
    if trust:
        return ResetState.REFUSED
    if open_records(windows, kept):
        return ResetState.OPEN
    # A marker of an earlier reset proves nothing any more, once a later one was begun.
    for number in reversed(numbers_of(windows, kept, ".record")):
        if whole_lines(windows, numbered_path(kept, number, ".record")):
            marked = whole_lines(windows, numbered_path(kept, number, ".marker"))
            return ResetState.MARKED if marked else ResetState.NONE
    return ResetState.NONE


def add_kept(windows: SimulatedWindows, kept: str, number: int, ending: str, text: str) -> None:
    """Write a numbered file whole; what is not whole was cut off while it was written, and says nothing.

    Raises:
        WindowsError_: it could not be written.
    """
    path = numbered_path(kept, number, ending)
    if windows.test_file(path) and not whole_lines(windows, path):
        windows.remove_file(path)
    windows.add_text_file(path, text)
    if not whole_lines(windows, path):
        raise WindowsError_(f"not written: {path}")


def add_upgrade_record(windows: SimulatedWindows, kept: str, values: Mapping[str, object]) -> int:
    """Keep what an upgrade is about to stop; the record's number."""
    numbers = numbers_of(windows, kept, ".upgrade")
    number = numbers[-1] + 1 if numbers else 1
    told = {"time": windows.get_clock(), **values, "record": number}
    lines = [*(f"{key}={one_line(value)}" for key, value in told.items()), "end"]
    add_kept(windows, kept, number, ".upgrade", "\n".join(lines) + "\n")
    return number


def close_upgrade_record(
    windows: SimulatedWindows,
    kept: str,
    number: int,
    not_started: str,
    parameters: Parameters,
    *,
    there: bool,
    restart: bool,
) -> None:
    """Write down how far the way back has gone; what cannot be written stays open."""
    with contextlib.suppress(WindowsError_):
        text = _wish(windows, parameters, restart=restart)
        if there:
            add_kept(windows, kept, number, ".stands", text)
        if not not_started:
            add_kept(windows, kept, number, ".running", text)


def _wish(windows: SimulatedWindows, parameters: Parameters, *, restart: bool) -> str:
    """Whether setup asks for a restart, and by what it is seen later that there was one."""
    waits = windows.get_registry_value(parameters["rename_key"], parameters["rename_value"]) or ""
    told = {
        "time": windows.get_clock(),
        "restart": restart,
        "boot": windows.get_operating_system()["boot_time"],
        "waits": waits,
    }
    return "".join(f"{key}={one_line(value)}\n" for key, value in told.items()) + "end\n"


def add_setup_end(windows: SimulatedWindows, kept: str, number: int, parameters: Parameters, *, restart: bool) -> None:
    """Keep that setup has ended, and what it asks for, at once when it has."""
    with contextlib.suppress(WindowsError_):
        add_kept(windows, kept, number, ".setup", _wish(windows, parameters, restart=restart))


def wsus_server(windows: SimulatedWindows, parameters: Parameters) -> bool:
    """Whether a WSUS server is there; a console alone is none."""
    kind = windows.get_registry_value(parameters["setup_key"], "InstallType") or ""
    return kind in parameters["server_types"]


def complete_removal(windows: SimulatedWindows, parameters: Parameters) -> None:
    """Write down that a WSUS which its setup had removed has come back, or is not to.

    Raises:
        WindowsError_: it cannot be written down.
    """
    kept = staging_path(windows, parameters["kept_name"])
    record = upgrade_record(windows, kept)
    if record["upgrade_state"] != UpgradeState.OPEN.value:
        return
    why = "returned" if wsus_server(windows, parameters) else "meant" if parameters["removal_meant"] else ""
    if why:
        sid = windows.get_session_identity()["sid"]
        text = f"time={windows.get_clock()}\nwhy={why}\naccount_sid={sid}\nend\n"
        add_kept(windows, kept, int(record["upgrade_number"]), ".settled", text)


def close_restart_record(windows: SimulatedWindows, kept: str, number: str) -> None:
    """All runs again that ran before, or there was no restart."""
    with contextlib.suppress(WindowsError_):
        add_kept(windows, kept, int(number), ".back", f"time={windows.get_clock()}\nend\n")


def restart_record(windows: SimulatedWindows, kept: str) -> Answer:
    """The newest whole record of what ran before a restart, as facts tell it, while it was not seen to run again."""
    try:
        trust = windows.get_folder_trust(kept)
    except WindowsError_:
        trust = ResetState.REFUSED.value  # who is no administrator may not even look at it
    for number in reversed([] if trust else numbers_of(windows, kept, ".restart")):
        path = numbered_path(kept, number, ".restart")
        if not whole_lines(windows, path):
            continue
        if whole_lines(windows, numbered_path(kept, number, ".back")):
            break
        return {"ran_number": str(number), "ran_record": windows.read_text_file(path) or ""}
    return {"ran_number": "", "ran_record": ""}


def upgrade_record(windows: SimulatedWindows, kept: str) -> Answer:
    """The newest whole record of what an upgrade has stopped, and how far its way back has gone, as facts tell it."""
    try:
        trust = windows.get_folder_trust(kept)
    except WindowsError_:
        trust = ResetState.REFUSED.value  # who is no administrator may not even look at it
    for number in reversed([] if trust else numbers_of(windows, kept, ".upgrade")):
        if not whole_lines(windows, numbered_path(kept, number, ".upgrade")):
            continue
        setup, end = (_whole_text(windows, numbered_path(kept, number, ending)) for ending in (".setup", ".stands"))
        state = UpgradeState.STOPPED
        if whole_lines(windows, numbered_path(kept, number, ".running")):
            settled = whole_lines(windows, numbered_path(kept, number, ".settled"))
            state = UpgradeState.CLOSED if end else UpgradeState.SETTLED if settled else UpgradeState.OPEN
        text = windows.read_text_file(numbered_path(kept, number, ".upgrade")) or ""
        return _told_record(state, str(number), text, setup, end)
    return _told_record(UpgradeState.NONE)


def _whole_text(windows: SimulatedWindows, path: str) -> str:
    """The text of a file that was written to its end, else ``""``."""
    return (windows.read_text_file(path) or "") if whole_lines(windows, path) else ""


def _told_record(state: UpgradeState, number: str = "", text: str = "", setup: str = "", end: str = "") -> Answer:
    return {
        "upgrade_state": state.value,
        "upgrade_number": number,
        "upgrade_record": text,
        "upgrade_setup": setup,
        "upgrade_end": end,
    }
