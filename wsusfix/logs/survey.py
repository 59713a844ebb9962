"""Many logs at once: files, folders and patterns in, one report out, by one process or several."""

from __future__ import annotations

import glob
import multiprocessing
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from wsusfix import errors
from wsusfix.logs.correlate import Correlation, correlate
from wsusfix.logs.findings import Finding, LogFile, LogProblem
from wsusfix.logs.reading import scan
from wsusfix.logs.rollover import joined
from wsusfix.logs.stamps import offset_of_header
from wsusfix.present import Presentable, counted, printable

__all__ = ["LogReport", "examine", "parse_offset", "sensible_processes"]

#: Starting another process takes about as long as reading so many bytes.
_WORTH_A_PROCESS: Final = 128_000_000
_MOST_PROCESSES: Final = 4
#: And handing over a file, as long as so many.
_WORTH_A_MESSAGE: Final = 1_000_000
_MOST_SHOWN: Final = 20
#: Standard input, where no file is called so.
_INPUT: Final = "-"
_OFFSET: Final = re.compile(r"[+-]\d\d:?\d\d", re.ASCII)

#: The first ``**`` that is a part of a path by itself, and what separates it from the rest.
_DEEP: Final = re.compile(
    r"(?:^|(?<=[%s]))(?P<deep>\*\*)(?:$|[%s]+(?:\*\*(?:$|[%s]+))*)" % ((re.escape(os.sep + "/"),) * 3)
)

_Path = str | os.PathLike[str]


@dataclass(frozen=True, repr=False)
class LogReport(Presentable):
    """What a set of log files proves: each file, each finding, and what they say together."""

    findings: tuple[Finding, ...]
    files: tuple[LogFile, ...]
    correlation: Correlation

    @property
    def proven(self) -> bool:
        """Whether a conclusive finding shows the symptom."""
        return any(finding.conclusive for finding in self.findings)

    @property
    def problems(self) -> tuple[LogFile, ...]:
        """The files of which nothing, or not all, could be read or understood."""
        return tuple(file for file in self.files if file.problem is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: ``findings``, ``pairs``, ``files``, and a ``summary``."""
        told = self.correlation.to_dict()
        pairs = told.pop("pairs")
        return {
            "findings": [finding.to_dict() for finding in self.findings],
            "pairs": pairs,
            "files": [file.to_dict() for file in self.files],
            "summary": {"proven": self.proven, **told},
        }

    def _summary(self) -> str:
        shown = "the symptom is proven" if self.proven else "no proof of the symptom"
        return f"{counted(len(self.files), 'file')}, {shown}"

    def __str__(self) -> str:
        kinds: dict[str, int] = {}
        for file in self.files:
            kinds[file.kind.words] = kinds.get(file.kind.words, 0) + 1
        lines = [
            "the logs show the symptom of the advisory" if self.proven else "the logs do not prove the symptom",
            f"{counted(len(self.files), 'file')}: "
            + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        ]
        if self.findings:
            lines.append(str(self.correlation))
        lines += _some([str(file) for file in self.files if file.findings or file.problem], "files")
        lines += _some([str(finding) for finding in self.findings], "findings; --json shows all")
        return "\n".join(lines)


def _some(lines: list[str], what: str) -> list[str]:
    left = len(lines) - _MOST_SHOWN
    return lines if left <= 0 else [*lines[:_MOST_SHOWN], f"... and {left} more {what}"]


def examine(paths: Iterable[_Path] | _Path, *, processes: int = 1, utc_offset: timedelta | None = None) -> LogReport:
    """Read logs and say what they prove.

    Args:
        paths: files, folders (with all that is in them) and patterns such as ``*/WindowsUpdate.log``; ``-`` is standard
            input.
        processes: read so many files at a time; a script that asks for more than one must be importable.
        utc_offset: the clients' offset from UTC, for client logs without a header that says it.

    Raises:
        UsageError: there is no file to read.
    """
    if processes < 1:
        raise errors.UsageError("at least one process has to read", phase="logs")
    files = list(dict.fromkeys(_files([paths] if isinstance(paths, (str, os.PathLike)) else paths)))
    if _INPUT in files:
        processes = 1  # others would not have it
    elif not any(map(_exists, files)):
        told = ", ".join(printable(file, 200) for file in files[:5]) or "nothing was named, or empty folders"
        raise errors.UsageError(f"there is no file to read: {told}", phase="logs")
    findings: list[Finding] = []
    told_files: list[LogFile] = []
    for file, found in _read_all(files, min(processes, len(files)), utc_offset):
        told_files.append(file)
        findings += found
    whole = tuple(joined(findings))
    return LogReport(findings=whole, files=tuple(told_files), correlation=correlate(whole))


def sensible_processes(paths: Iterable[_Path]) -> int:
    """Return how many processes are worth starting for *paths*, by their size and this machine's processors."""
    size = count = 0
    for file in _files(paths):
        count += 1
        try:
            size += os.stat(file).st_size
        except (OSError, ValueError):
            continue
    return max(1, min(_MOST_PROCESSES, os.cpu_count() or 1, count, 1 + size // _WORTH_A_PROCESS))


def parse_offset(text: str) -> timedelta:
    """Return an offset from UTC as an operator writes it: ``-0700``, ``+05:30``.

    Raises:
        UsageError: *text* is no offset.
    """
    offset = offset_of_header(f"tz: {text}".encode()) if _OFFSET.fullmatch(text) else None
    if offset is None:
        raise errors.UsageError(f"no offset from UTC: {printable(text, 40)}", phase="logs", hint="write it as -0700")
    return offset


# --- which files ----------------------------------------------------------------------------------------------------


def _files(paths: Iterable[_Path]) -> Iterator[str]:
    """Return the files that are named; a path that names nothing is returned as it is, to be told."""
    for path in (os.fspath(each) for each in paths):
        if _exists(path) or not glob.has_magic(path):
            yield from _below(path)
            continue
        matching = sorted(dict.fromkeys(_matching(path)))
        for match in matching:
            yield from _below(match)
        if not matching:
            yield path


def _matching(pattern: str) -> Iterator[str]:
    """Return what *pattern* names; ``**`` stands for any folders, each taken once though links may lead to it again."""
    found = _DEEP.search(pattern)
    if found is None:
        yield from glob.iglob(pattern)
        return
    front, rest = pattern[: found.start("deep")], pattern[found.end() :]
    for top in glob.iglob(front) if front else (os.curdir,):
        for folder, names in _walk(top, hidden=False):
            if rest:
                yield from _matching(os.path.join(glob.escape(folder), rest))
            else:
                yield from (os.path.join(folder, name) for name in names if not name.startswith("."))


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:
        return False  # no name that a file can have


def _below(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    unreadable: list[str] = []
    for folder, names in _walk(path, lambda error: unreadable.append(str(error.filename))):
        yield from (os.path.join(folder, name) for name in names)
    yield from unreadable


def _walk(
    top: str, on_error: Callable[[OSError], object] | None = None, *, hidden: bool = True
) -> Iterator[tuple[str, list[str]]]:
    """Yield *top* and the folders below it with the names of their files; one that links lead to again is left out."""
    seen = {_identity(top)}
    for folder, folders, names in os.walk(top, onerror=on_error, followlinks=True):
        known = sorted(folders, key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        folders.clear()
        for name in known:
            identity = _identity(os.path.join(folder, name))
            if identity not in seen and (hidden or not name.startswith(".")):
                seen.add(identity)
                folders.append(name)
        yield folder, sorted(names)


def _identity(folder: str) -> object:
    """Return what tells a folder apart from all others, by whichever path it is reached."""
    try:
        known = os.stat(folder)
    except OSError:
        return folder
    return known.st_dev, known.st_ino


# --- reading them ---------------------------------------------------------------------------------------------------

_Read = tuple[LogFile, list[Finding]]


def _read_all(files: list[str], processes: int, utc_offset: timedelta | None) -> Iterator[_Read]:
    read = partial(_read, utc_offset=utc_offset)
    if processes > 1:
        try:
            yield from _read_side_by_side(files, processes, read)
            return
        except (BrokenExecutor, OSError):
            pass  # no processes to be had here (an interactive session, say): one does it, too
    yield from map(read, files)


def _read_side_by_side(files: list[str], processes: int, read: partial[_Read]) -> list[_Read]:
    # Forking is the faster way by far, but not where other threads may hold a lock at that moment.
    forks = sys.platform == "linux" and threading.active_count() == 1
    context = multiprocessing.get_context("fork" if forks else "spawn")
    # Large files first, so that none is begun when the others have ended.
    sizes = [_size(file) for file in files]
    order = sorted(range(len(files)), key=lambda index: sizes[index], reverse=True)
    # Small files are handed over several at a time, large ones one by one: at the end nobody waits for long.
    share = max(1, min(32, len(files) // (8 * processes), _WORTH_A_MESSAGE * len(files) // (sum(sizes) + 1)))
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        results = dict(zip(order, pool.map(read, [files[index] for index in order], chunksize=share), strict=True))
    return [results[index] for index in range(len(files))]


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except (OSError, ValueError):
        return 0


def _read(file: str, *, utc_offset: timedelta | None) -> _Read:
    piped = file == _INPUT and not _exists(file) and sys.stdin is not None
    log = scan(getattr(sys.stdin, "buffer", sys.stdin) if piped else file, name=file, utc_offset=utc_offset)
    found: list[Finding] = [finding for finding in log if not isinstance(finding, LogProblem)]
    found.sort(key=lambda finding: finding.line or 0)
    return log.file, found
