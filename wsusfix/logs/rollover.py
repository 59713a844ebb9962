"""Logs that go on in another file: which files are one log, and calls whose lines stand in two of them.

WSUS begins a new file by size, in the middle of a call if it so happens (product); people's copies carry numbers.
"""

from __future__ import annotations

import bisect
import dataclasses
import operator
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from wsusfix.logs.client import ECHO
from wsusfix.logs.findings import ClientFinding, Finding, LogProblem, ServerFinding

__all__ = ["joined", "log_of"]

_ROLLED: Final = re.compile(r"(?i)(?P<name>.+?\.(?:log|txt))(?:[._-](?:old|bak|\d{1,8}))+")
_SOON: Final = timedelta(seconds=10)


def log_of(file: str) -> str:
    r"""Return the name of the log that *file* is a part of: ``a.log.old`` and ``a.log.1`` are older parts of ``a.log``.

    >>> log_of(r"C:\logs\SoftwareDistribution.log.old") == log_of(r"c:\logs\softwaredistribution.log")
    True
    """
    found = _ROLLED.fullmatch(file)
    return (found["name"] if found else file).lower()


def joined(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, each call whose halves stand in two files of one log put together.

    Halves are of one thread and of about the same time, and neither says anything that the other says, too.  The whole
    stands where the earlier half stood.  A client's error that only echoes a call in the older file is left out.
    """
    kept: dict[int, Finding] = dict(enumerate(findings))
    by_thread: dict[tuple[object, ...], list[tuple[datetime, int]]] = {}
    for index, finding in kept.items():
        if isinstance(finding, LogProblem) or finding.time is None or finding.caller is None or _is_whole(finding):
            continue
        key = (finding.kind, log_of(finding.file), finding.caller)
        by_thread.setdefault(key, []).append((_clock(finding.time), index))
    for halves in by_thread.values():
        halves.sort()
        previous: int | None = None
        for _, index in halves:
            both = None if previous is None else _both(kept[previous], kept[index])
            if both is None or previous is None:
                previous = index
                continue
            first = min(previous, index) if kept[previous].file == both.file else max(previous, index)
            del kept[previous], kept[index]
            kept[first] = both
            previous = None
    for index in _echoes(kept):
        del kept[index]
    return [kept[index] for index in sorted(kept)]


def _clock(time: datetime) -> datetime:
    """Return the time as it stands in the log: those of one log are all in one zone, but for a header in the middle."""
    return time.replace(tzinfo=None)


def _echoes(findings: dict[int, Finding]) -> list[int]:
    """Return the lone errors of clients that echo a call of which another file of their log tells."""
    calls: dict[tuple[str, int], list[tuple[datetime, str]]] = {}
    lone: list[tuple[int, str, datetime, list[tuple[datetime, str]]]] = []
    for index, finding in findings.items():
        if not isinstance(finding, ClientFinding) or finding.time is None or finding.pid is None:
            continue
        known, time = calls.setdefault((log_of(finding.file), finding.pid), []), _clock(finding.time)
        if _is_lone(finding):
            lone.append((index, finding.file, time, known))
        else:
            known.append((time, finding.file))
    for known in calls.values():
        known.sort()
    echoes = []
    for index, file, time, known in lone:
        at = bisect.bisect(known, time, key=operator.itemgetter(0)) - 1  # the last call before it
        if at >= 0 and known[at][1] != file and time - known[at][0] <= ECHO:
            echoes.append(index)
    return echoes


def _is_lone(finding: ClientFinding) -> bool:
    """Return whether a client's error is all that there is."""
    others = (finding.http_status, finding.soap_code, finding.error_code, finding.method, finding.call_id)
    return all(other is None for other in others)


def _is_whole(finding: ClientFinding | ServerFinding) -> bool:
    # A client's error is logged again behind its call: all may be there but for the line that the call began with.
    headless = isinstance(finding, ClientFinding) and finding.http_status is None
    return finding.conclusive and finding.call_id is not None and not headless


def _both(one: Any, other: Any) -> ClientFinding | ServerFinding | None:
    """Return two findings of one thread as one, ``None`` when they are not halves of one call."""
    if one.file == other.file or abs(_clock(one.time) - _clock(other.time)) > _SOON:
        return None
    first, second = (one, other) if _begins(one, other) else (other, one)
    if not _begins(first, second) or _begins(second, first):
        return None
    added: dict[str, Any] = {}
    for item in dataclasses.fields(first):
        here, there = getattr(first, item.name), getattr(second, item.name)
        if item.name in ("file", "line", "time", "pid", "tid", "thread") or not there:
            continue
        # Each names the server, and a client's error is logged again behind its call.
        if here and item.name not in ("server_url", "error"):
            return None
        added[item.name] = here or there
    whole: ClientFinding | ServerFinding = dataclasses.replace(first, **added)
    return whole


def _begins(finding: ClientFinding | ServerFinding, other: ClientFinding | ServerFinding) -> bool:
    """Return whether it holds what a call's lines begin with, and the other one what they end with."""
    if isinstance(finding, ClientFinding):
        return finding.error is not None and finding.call_id is None and other.call_id is not None
    return finding.exception is not None
