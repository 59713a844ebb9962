"""Bytes in, log entries out: a line with its beginning, and the lines without one that follow it.

Lines without a beginning are the frames of a stack, the rest of a wrapped line, or a copy that lost all its beginnings.
Whatever is kept has a bound, so that neither a line nor an entry without end costs more than its length.
"""

from __future__ import annotations

import bisect
import codecs
import itertools
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from wsusfix.logs.encodings import BYTES, Encoding
from wsusfix.logs.stamps import CLIENT_LINE, SERVER_LINE, STAMPED_LINE, moment

__all__ = ["LONGEST_LINE", "Entry", "EntryReader", "Of"]

#: A line longer than this is taken in pieces, an entry with more lines or bytes is handed on in parts.
LONGEST_LINE: Final = 8192
MOST_LINES: Final = 96
LARGEST_ENTRY: Final = 16384
#: The lines that a wrapped beginning has: so many characters and lines in front of its last.
_SHORT: Final = 80
_FEW: Final = 3


class Of:
    """Whose line an entry begins with; plain numbers, because one is compared for every line."""

    NOBODY: Final = 0
    CLIENT: Final = 1
    SERVER: Final = 2


class Entry:
    """One entry: the number of its first line, what its beginning says, and its lines as bytes."""

    __slots__ = ("head", "lines", "number", "of", "size")

    def __init__(self, number: int, of: int, head: re.Match[bytes] | None, line: bytes) -> None:
        self.number = number
        self.of = of
        self.head = head
        self.lines = [line]
        self.size = len(line)

    @property
    def moment(self) -> datetime | None:
        """The time in its beginning, without a zone."""
        return None if self.head is None else moment(self.head["date"], self.head["time"])

    def joined(self) -> bytes:
        """Return the entry without line ends: names and numbers that were broken in the middle are whole again."""
        return self.lines[0] if len(self.lines) == 1 else b"".join(map(_whole, self.lines))

    def parts(self, pattern: re.Pattern[bytes]) -> list[tuple[re.Match[bytes], int]]:
        """Return where *pattern* is found, each with its line's number.

        An entry of several lines is read joined, as a wrapped one has to be, and with its line ends, should words that
        must stand apart have run together: of the second reading those parts count that the first one has not.
        """
        if len(self.lines) == 1:
            return [(part, self.number) for part in pattern.finditer(self.lines[0])]
        whole = [*map(_whole, self.lines)]
        joined = list(pattern.finditer(b"".join(whole)))
        ends = list(itertools.accumulate(map(len, whole)))
        found = [(part.start(), part.end(), part) for part in joined]
        # With a part for every line, as in a whole stack, there is nothing to win by reading it again.
        if len(joined) < len(whole):
            found = _merged(found, pattern.finditer(b"\n".join(whole)))
        return [(part, self.number + bisect.bisect_right(ends, start)) for start, _, part in found]


_Spans = list[tuple[int, int, re.Match[bytes]]]


def _merged(joined: _Spans, apart: Iterator[re.Match[bytes]]) -> _Spans:
    """Return the parts of both readings in their order, by their places in the joined one."""
    found: _Spans = []
    before = passed = at = 0
    for part in apart:
        before += part.string.count(b"\n", passed, part.start())
        passed = part.start()
        start, end = part.start() - before, part.end() - before - part[0].count(b"\n")
        while at < len(joined) and joined[at][1] <= start:
            found.append(joined[at])
            at += 1
        if at == len(joined) or joined[at][0] >= end:
            found.append((start, end, part))
    return found + joined[at:]


def _whole(line: bytes) -> bytes:
    return line.lstrip(b" \t\r>")


class EntryReader:
    """Takes a file's bytes, piece by piece, and gives its entries; ``gap`` says that something was left out."""

    def __init__(self, encoding: Encoding = BYTES) -> None:
        self._wide = encoding.wide
        self._newline = encoding.newline.encode()
        self._decoder: codecs.IncrementalDecoder | None = None
        self._number = 1
        self._rest = b""
        self._half = b""
        self._entry: Entry | None = None
        #: Bytes that were looked at and lines that were taken apart, for who asks whether work grows with length only.
        self.work = 0

    def begin(self, number: int) -> None:
        """Begin anew at line *number*."""
        self._number = number
        self._rest = self._half = b""
        self._entry = None
        self._decoder = codecs.getincrementaldecoder(self._wide)("replace") if self._wide else None

    def go_on_in_bytes(self) -> None:
        """Take what follows as ANSI or UTF-8, or as a mixture of that and UTF-16."""
        if self._decoder is not None:
            self._half = self._decoder.getstate()[0]
        self._wide = self._decoder = None

    def feed(self, data: bytes) -> list[Entry]:
        """Take more bytes; return the entries that are complete."""
        data, self._half = self._half + data, b""
        if self._decoder is not None:
            data = self._decoder.decode(data).encode("utf-8", "replace")
        if b"\0" in data:
            # A crash's zeros, or text that goes on in UTF-16: what is looked for is ASCII, and whole without them.
            data = data.replace(b"\0", b"")
        if self._newline == b"\r":
            data = data.replace(b"\r", b"\n")
        self.work += len(data) + len(self._rest)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        done: list[Entry] = []
        for line in lines:
            self._line(line, done)
            self._number += 1
        whole = len(self._rest) - len(self._rest) % LONGEST_LINE
        if whole:
            # Pieces of a line that does not end; its number stays.
            pieces, self._rest = self._rest[:whole], self._rest[whole:]
            self._line(pieces, done)
        return done

    def end(self) -> list[Entry]:
        """Return what is left, as far as it goes: the bytes end here, or the next ones lie elsewhere."""
        done: list[Entry] = []
        if self._rest:
            self._line(self._rest, done)
            self._rest = b""
        if self._entry is not None:
            done.append(self._entry)
            self._entry = None
        return done

    def _line(self, line: bytes, done: list[Entry]) -> None:
        if len(line) > LONGEST_LINE:
            for start in range(0, len(line), LONGEST_LINE):
                self._line(line[start : start + LONGEST_LINE], done)
            return
        line = line.rstrip(b"\r")
        of, head = _beginning(line)
        entry = self._entry
        if entry is not None:
            if _begins_in_part(entry, head):
                whole = _rejoined([*entry.lines, line])
                if whole is not None:
                    entry.of, entry.head = whole
                    entry.lines.append(line)
                    entry.size += len(line)
                    return
            if head is None and len(entry.lines) < MOST_LINES and entry.size < LARGEST_ENTRY:
                entry.lines.append(line)
                entry.size += len(line)
                return
            done.append(entry)
            if head is None:
                of, head = entry.of, entry.head  # the same entry goes on
        self._entry = Entry(self._number, of, head, line)


def _beginning(line: bytes) -> tuple[int, re.Match[bytes] | None]:
    head = CLIENT_LINE.match(line)
    if head is not None:
        return Of.CLIENT, head
    head = SERVER_LINE.match(line)
    if head is not None:
        return Of.SERVER, head
    return Of.NOBODY, STAMPED_LINE.match(line)


def _begins_in_part(entry: Entry, head: re.Match[bytes] | None) -> bool:
    """Return whether *entry* has the time of its beginning alone, and the next line may have the rest of it."""
    if entry.of != Of.NOBODY or entry.head is None or entry.size > _SHORT or len(entry.lines) > _FEW:
        return False
    return head is None or head["date"] is None


def _rejoined(lines: list[bytes]) -> tuple[int, re.Match[bytes]] | None:
    """Return what a beginning says that was broken, at a blank or in the middle of a word; ``None`` when it is none."""
    for between in (b" ", b""):
        of, head = _beginning(between.join(lines))
        if of != Of.NOBODY and head is not None and head["date"] is not None:
            return of, head
    return None
