"""Logs that go on in another file: which files are one log, and calls whose lines stand in two of them.

WSUS begins a new file by size, in the middle of a call if it so happens (product); people's copies carry numbers.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

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
    stands where the earlier half stood.
    """
    kept: dict[int, Finding] = dict(enumerate(findings))
    by_thread: dict[tuple[object, ...], list[tuple[datetime, int]]] = {}
    for index, finding in kept.items():
        if isinstance(finding, LogProblem) or finding.time is None or finding.caller is None or _is_whole(finding):
            continue
        key = (finding.kind, log_of(finding.file), finding.caller)
        # Times of one log are all with a zone or all without, but for a header in the middle.
        by_thread.setdefault(key, []).append((finding.time.replace(tzinfo=None), index))
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
    return [kept[index] for index in sorted(kept)]


def _is_whole(finding: ClientFinding | ServerFinding) -> bool:
    return finding.conclusive and finding.call_id is not None


def _both(one: Any, other: Any) -> ClientFinding | ServerFinding | None:
    """Return two findings of one thread as one, ``None`` when they are not halves of one call."""
    if one.file == other.file or abs(one.time.replace(tzinfo=None) - other.time.replace(tzinfo=None)) > _SOON:
        return None
    first, second = (one, other) if _begins(one) else (other, one)
    if not _begins(first) or _begins(second):
        return None
    added: dict[str, Any] = {}
    for item in dataclasses.fields(first):
        here, there = getattr(first, item.name), getattr(second, item.name)
        if item.name in ("file", "line", "time", "pid", "tid", "thread") or not there:
            continue
        if here and item.name != "server_url":
            return None
        added[item.name] = here or there
    whole: ClientFinding | ServerFinding = dataclasses.replace(first, **added)
    return whole


def _begins(finding: ClientFinding | ServerFinding) -> bool:
    """Return whether it holds what a call's lines begin with."""
    return (finding.error if isinstance(finding, ClientFinding) else finding.exception) is not None
