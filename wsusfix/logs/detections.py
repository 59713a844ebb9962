"""When a client looked for updates, whom it asked, and how that went: entries of its log in, detections out.

It serves the proof after a fix: only a detection that is seen to come through, with no error on its way, counts as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from wsusfix import advisory
from wsusfix.logs.entries import Entry, EntryReader, Of
from wsusfix.logs.stamps import decoded, offset_of_header, zone_of
from wsusfix.present import Presentable, printable, rows

__all__ = ["Detection", "Detections", "detections"]

_FRAME: Final = re.compile(
    rb"\*\*\s*(?:(?P<begins>%b)|%b)\s*\*\*\s*%b"
    % tuple(re.escape(text.encode()) for text in (advisory.CLIENT_BEGINS, advisory.CLIENT_ENDS, advisory.CLIENT_SEARCH))
)
_SYNC: Final = advisory.CLIENT_SYNC.encode()
_PART: Final = re.compile(
    rb"(?P<sync>%b)|%b\s{0,8}=\s{0,8}(?P<url>https?://\S{1,200})|(?P<found>\b%b\s\d{1,9}\s)"
    % (re.escape(_SYNC), advisory.CLIENT_URL.encode(), advisory.CLIENT_FOUND.encode())
)
#: An error of the synchronisation, or the one with which the search ends; others on the way are nothing unusual.
_EXIT_CODE: Final = advisory.CLIENT_EXIT_CODE.encode()
_ERROR: Final = re.compile(
    rb"(?:%b[^\n]{0,200}?|%b\s{0,4}=\s{0,4})(?P<error>0x8[0-9A-Fa-f]{7})"
    % (advisory.CLIENT_WARNING.encode(), _EXIT_CODE)
)
_PROTOCOL: Final = advisory.CLIENT_PROTOCOL.encode()


@dataclass(frozen=True, repr=False)
class Detection(Presentable):
    """One search for updates, as the client logged it.

    Args:
        file, line: where it begins.
        time: when it began, the client's own; with its zone where that is known.
        server_url: whom it asked.
        came_through: whether the search was answered and ended.
        error: the first error of the synchronisation.
    """

    file: str
    line: int
    time: datetime | None
    server_url: str | None
    came_through: bool
    error: str | None

    @property
    def ended(self) -> bool:
        """Whether anything can be said of how it went."""
        return self.came_through or self.error is not None

    @property
    def served(self) -> bool:
        """Whether the server was asked and answered, without any error."""
        return self.server_url is not None and self.came_through and self.error is None

    def _summary(self) -> str:
        return f"{self.file}:{self.line} {'served' if self.served else self.error or 'not ended'}"

    def __str__(self) -> str:
        when = self.time.isoformat(sep=" ", timespec="seconds") if self.time else "at an unknown time"
        state = "came through" if self.served else f"failed with {self.error}" if self.error else "did not end yet"
        head = f"{printable(self.file)}:{self.line}: detection, {when}: {state}"
        return "\n".join([head, *filter(None, [rows([("asked", printable(self.server_url or "", 200))])])])


class _Search:
    """A search for updates that is under way."""

    def __init__(self, line: int, time: datetime | None) -> None:
        self.line = line
        self.time = time
        self.synchronised = False
        self.url: str | None = None
        self.found = False
        self.error: str | None = None


class Detections:
    """Collects the searches for updates of a client's log, part by part: one may begin in this part and end in that.

    Whoever leaves lines out must not leave out any by which a search is judged.

    Args:
        name: what they are called by.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: dict[tuple[bytes, bytes], _Search] = {}
        self._done: list[Detection] = []

    def take(self, data: bytes, line: int = 1, utc_offset: timedelta | None = None) -> None:
        """Take the next part of the log.

        Args:
            data: lines of the log.
            line: number of the first of them.
            utc_offset: the client's, until a header says another.
        """
        reader = EntryReader()
        reader.begin(line)
        offset = utc_offset
        for entry in _entries(reader, data):
            if entry.of != Of.CLIENT or entry.head is None:
                continue
            text = entry.joined()
            given = offset_of_header(text) if b"tz:" in text else None
            offset = offset if given is None else given
            self._take(entry, entry.head, text, offset)

    def close(self) -> tuple[Detection, ...]:
        """Return the searches in the order in which they ended, then those that did not."""
        return (*self._done, *(_told(search, self._name, over=False) for search in self._open.values()))

    def _take(self, entry: Entry, head: re.Match[bytes], text: bytes, offset: timedelta | None) -> None:
        key = head["pid"], head["tid"]
        frame = _FRAME.search(text)
        begins = frame is not None and frame["begins"] is not None
        if begins or (key not in self._open and _SYNC in text):
            moment = entry.moment
            self._open[key] = _Search(entry.number, None if moment is None else moment.replace(tzinfo=zone_of(offset)))
        search = self._open.get(key)
        if search is None:
            return
        _judge(search, head["component"], text)
        if frame is not None and not begins:
            del self._open[key]
            self._done.append(_told(search, self._name, over=True))


def detections(data: bytes, name: str, utc_offset: timedelta | None = None) -> list[Detection]:
    """Return the searches for updates in a client's log, or in one part of it; see :class:`Detections`."""
    found = Detections(name)
    found.take(data, utc_offset=utc_offset)
    return list(found.close())


def _entries(reader: EntryReader, data: bytes) -> Iterable[Entry]:
    yield from reader.feed(data)
    yield from reader.end()


def _judge(search: _Search, component: bytes, text: bytes) -> None:
    for part in _PART.finditer(text):
        if part["sync"] is not None:
            search.synchronised = True
        elif part["url"] is not None and search.synchronised:
            search.url = decoded(part["url"])
        elif part["found"] is not None and search.synchronised:
            search.found = True
    error = _ERROR.search(text)
    if error is not None and search.error is None and (component == _PROTOCOL or _EXIT_CODE in text):
        search.error = decoded(error["error"])


def _told(search: _Search, name: str, *, over: bool) -> Detection:
    return Detection(name, search.line, search.time, search.url, over and search.found, search.error)
