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
    paths: list[str] = []
    for place in _places(windows, parameters):
        if place.lower() in map(str.lower, places):
            continue
        places.append(place)
        try:
            paths += _logs(windows, place)
        except WindowsError_ as error:
            places[-1] = f"{place}: {error.message}"
    files = paths[: parameters["most_files"]]
    answer: Answer = {
        "clock": began,
        "utc_offset": windows.get_utc_offset(),
        "places": "\n".join(places),
        "files": len(files),
        "left_out": len(paths) - len(files),
    }
    left, most = int(parameters["most_bytes"]), parameters["most_groups"]
    for number, path in enumerate(files):
        log = _Log(path)
        try:
            _search_log(windows, log, parameters, left, most, began)
        except WindowsError_ as error:
            log.problem = error.message
        about = (log.path, log.length, log.start, log.dropped, log.header, log.problem.replace("\n", " "))
        answer[f"file_{number}"] = "\n".join(map(str, about))
        answer[f"edges_{number}"] = log.edges
        answer[f"groups_{number}"] = "".join(log.groups)
        left = max(0, left - log.length + log.start)
        most = max(4, most - len(log.groups))
    return answer


def _places(windows: SimulatedWindows, parameters: Parameters) -> Iterator[str]:
    name = parameters["name"]
    if not parameters["key"]:
        yield f"{windows.get_windows_directory()}\\{name}"
        return
    target = windows.get_registry_value(parameters["key"], parameters["target_value"])
    target = target or f"{windows.get_program_files_directory()}\\{parameters['default_target']}"
    named = (windows.get_registry_value(parameters["key"], parameters["path_value"]) or "").rstrip("\\")
    if windows.test_folder(named):
        yield f"{named}\\{name}"
    elif "\\" in named:
        yield named
    for folder in parameters["folders"]:
        yield target.rstrip("\\") + f"\\{folder}\\{name}"


def _logs(windows: SimulatedWindows, path: str) -> list[str]:
    """The log itself first, then what it was rolled over into."""
    folder, _, name = path.rpartition("\\")
    stem = name.partition(".")[0].lower()
    older = [
        f"{folder}\\{entry}"
        for entry in windows.get_folder_entries(folder)
        if entry.lower().startswith(stem) and entry.lower() != name.lower() and _OLDER.search(entry)
    ]
    return [path, *older] if windows.test_file(path) else older


def _add_lines(log: _Log, text: str, place: int) -> None:
    """Count the lines up to *place* in the text."""
    if place > log.counted:
        log.line += text.count("\n", log.counted, place)
        log.counted = place


def _search_text(log: _Log, text: str, pattern: str, parameters: Parameters, limit: int, most: int) -> None:
    at = log.sought - log.base
    for match in re.finditer(pattern.replace("(?<", "(?P<"), text):
        hit = match.start()
        if hit >= limit:
            break
        if hit < at:
            continue
        if match["header"] is not None:
            log.header = match.group().replace("\0", "").strip()
            continue
        start = max(log.told - log.base, hit - parameters["before"])
        at = min(len(text), hit + parameters["after"])
        _add_lines(log, text, start)
        group = text[start:at].replace("\0", "")
        log.told = log.base + at
        log.groups.append(f"{log.base + start} {log.told} {log.line} {len(group)} {log.header}\n{group}")
        if len(log.groups) > most:
            del log.groups[2]
            log.dropped += 1
    log.sought = log.base + max(at, limit)


def _search_log(windows: SimulatedWindows, log: _Log, parameters: Parameters, left: int, most: int, began: str) -> None:
    log.length = int(windows.get_file_length(log.path) or 0)
    place = log.start = log.base = log.sought = log.told = max(0, log.length - left)
    edge = parameters["edge"]
    head = windows.read_file_block(log.path, place, edge)
    tail = windows.read_file_block(log.path, max(place, log.length - edge), edge)
    log.edges = f"{head}\n{tail}".replace("\0", "")
    pattern = parameters["wide_pattern" if "\0" in head else "pattern"]
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
        _search_text(log, text, pattern, parameters, limit, most)
        gone = max(0, log.sought - log.base - parameters["before"])
        _add_lines(log, text, gone)
        text = text[gone:]
        log.base += gone
        log.counted -= gone
