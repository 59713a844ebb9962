"""``search_logs.ps1`` told once more in Python: a machine's logs searched by blocks, over the simulated primitives.

It follows the script line by line, so that what the lab answers is what the script would answer; it refuses to know
what is sought, and what a log says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from wsusfix.lab.behaviours.shared import Answer, Parameters, age_seconds
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.windows import SimulatedWindows

__all__ = ["search_logs"]

_OLDER: Final = re.compile(r"\.(log|old|bak|[0-9]+)$", re.IGNORECASE)


@dataclass
class _Log:
    """A log that is searched: what is told of it, and where in it the search is."""

    path: str
    length: int = 0
    start: int = 0
    dropped: int = 0
    header: str = ""
    problem: str = ""
    edges: str = ""
    size: int = 0
    groups: list[str] = field(default_factory=list)
    base: int = 0
    sought: int = 0
    told: int = 0
    line: int = 1
    counted: int = 0


def search_logs(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``search_logs.ps1``: search logs by blocks, and bring back what stands around what is sought."""
    began = windows.get_clock()
    places: list[str] = []
    denied: list[str] = []
    paths: list[str] = []
    older: list[str] = []
    named = _named_place(windows, parameters)
    for place in _places(windows, parameters, named):
        if place.lower() in map(str.lower, places):
            continue
        places.append(place)
        try:
            if windows.test_file(place):
                paths.append(place)
            older += _older_logs(windows, place)
        except WindowsError_ as error:
            denied.append(f"{place}: " + error.message.replace("\r", "").replace("\n", " "))
    for log_file in sorted(older, key=str.lower, reverse=True):
        path = log_file.partition(" ")[2]
        if path.lower() not in map(str.lower, paths):
            paths.append(path)
    files = paths[: parameters["most_files"]]
    left = int(parameters["most_bytes"])
    logs: list[_Log] = []
    for path in files:
        log = _Log(path)
        logs.append(log)
        try:
            _search_log(windows, log, parameters, left, began)
        except WindowsError_ as error:
            log.problem = error.message
        left = max(0, left - log.length + log.start)
    while sum(log.size for log in logs) > parameters["most_text"]:
        _remove_group(max(logs, key=lambda log: log.size))
    answer: Answer = {
        "clock": began,
        "utc_offset": windows.get_utc_offset(),
        "named": named,
        "places": "\n".join(places),
        "denied": "\n".join(denied),
        "files": len(files),
        "left_out": len(paths) - len(files),
    }
    for number, log in enumerate(logs):
        about = (log.path, log.length, log.start, log.dropped, log.header, log.problem.replace("\n", " "))
        answer[f"file_{number}"] = "\n".join(map(str, about))
        answer[f"edges_{number}"] = log.edges
        answer[f"groups_{number}"] = "".join(log.groups)
    return answer


def _named_place(windows: SimulatedWindows, parameters: Parameters) -> str:
    """Where the registry says that the log is; what is named may be the file, or its folder."""
    if not parameters["key"]:
        return ""
    named = (windows.get_registry_value(parameters["key"], parameters["path_value"]) or "").rstrip("\\")
    if windows.test_folder(named):
        return f"{named}\\{parameters['name']}"
    return named if "\\" in named else ""


def _places(windows: SimulatedWindows, parameters: Parameters, named: str) -> Iterator[str]:
    name = parameters["name"]
    if not parameters["key"]:
        yield f"{windows.get_windows_directory()}\\{name}"
        return
    target = windows.get_registry_value(parameters["key"], parameters["target_value"])
    target = target or f"{windows.get_program_files_directory()}\\{parameters['default_target']}"
    if named:
        yield named
    for folder in parameters["folders"]:
        yield target.rstrip("\\") + f"\\{folder}\\{name}"


def _older_logs(windows: SimulatedWindows, path: str) -> Iterator[str]:
    """What the log was rolled over into, each with when it was last written in front."""
    folder, _, name = path.rpartition("\\")
    stem = name.partition(".")[0].lower()
    for entry in windows.get_folder_entries(folder):
        if entry.lower().startswith(stem) and entry.lower() != name.lower() and _OLDER.search(entry):
            file = f"{folder}\\{entry}"
            yield f"{windows.get_file_time(file) or ''} {file}"


def _add_lines(log: _Log, text: str, place: int) -> None:
    """Count the lines up to *place* in the text."""
    if place > log.counted:
        log.line += text.count("\n", log.counted, place)
        log.counted = place


def _remove_group(log: _Log) -> None:
    """Leave out a group in the middle: the first two and the last ones are kept."""
    log.size -= len(log.groups.pop(max(0, min(2, len(log.groups) - 2))))
    log.dropped += 1


def _search_text(log: _Log, text: str, parameters: Parameters, limit: int) -> None:
    for match in re.finditer(parameters["pattern"].replace("(?<", "(?P<"), text):
        hit = match.start()
        if hit >= limit:
            break
        if log.base + hit < log.sought:
            continue
        if match["header"] is not None:
            log.header = match["header"].replace("\0", "").strip()
            continue
        if log.base + hit + parameters["before"] < log.told:
            continue
        start = max(log.told - log.base, hit - parameters["before"])
        at = min(len(text), hit + parameters["after"])
        if at <= start:
            continue
        _add_lines(log, text, start)
        group = text[start:at].replace("\0", "")
        log.told = log.base + at
        log.groups.append(f"{log.base + start} {log.told} {log.line} {len(group)} {log.header}\n{group}")
        log.size += len(log.groups[-1])
        if len(log.groups) > parameters["most_groups"]:
            _remove_group(log)
    log.sought = log.base + limit


def _search_log(windows: SimulatedWindows, log: _Log, parameters: Parameters, left: int, began: str) -> None:
    log.length = int(windows.get_file_length(log.path) or 0)
    place = log.start = log.base = log.sought = log.told = max(0, log.length - left)
    edge = parameters["edge"]
    head = windows.read_file_block(log.path, place, edge)
    tail = windows.read_file_block(log.path, max(place, log.length - edge), edge)
    log.edges = f"{head}\n{tail}".replace("\0", "")
    text = ""
    while place < log.length:
        if age_seconds(began, windows.get_clock()) >= parameters["seconds"]:
            log.problem = "time"
            return
        size = min(parameters["block"], log.length - place)
        block = windows.read_file_block(log.path, place, size)
        if len(block) < size:
            log.problem = "changed"
            return
        place += size
        text += block
        limit = len(text) if place >= log.length else max(0, len(text) - parameters["after"])
        _search_text(log, text, parameters, limit)
        gone = max(0, log.sought - log.base - parameters["before"])
        _add_lines(log, text, gone)
        text = text[gone:]
        log.base += gone
        log.counted -= gone
