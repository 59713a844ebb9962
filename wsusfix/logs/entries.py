"""Bytes in, log entries out: a line with its beginning, and the lines without one that follow it.

Lines without a beginning are the frames of a stack, the rest of a wrapped line, or a copy that lost all its beginnings.
Whatever is kept has a bound, so that neither a line nor an entry without end costs more than its length.
"""

from __future__ import annotations

import bisect
import codecs
import itertools
import re
from datetime import datetime
from typing import Final

from wsusfix.logs.encodings import BYTES, Encoding
from wsusfix.logs.stamps import CLIENT_LINE, SERVER_LINE, STAMPED_LINE, moment

__all__ = ["Entry", "EntryReader", "Of"]

#: A line longer than this is taken in pieces, an entry with more lines or bytes is handed on in parts.
LONGEST_LINE: Final = 8192
MOST_LINES: Final = 96
LARGEST_ENTRY: Final = 16384


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
        must stand apart have run together; the reading with more parts is the better one.
        """
        if len(self.lines) == 1:
            return [(part, self.number) for part in pattern.finditer(self.lines[0])]
        whole = [*map(_whole, self.lines)]
        joined = list(pattern.finditer(b"".join(whole)))
        # With a part for every line, as in a whole stack, there is nothing to win by reading it again.
        apart = [] if len(joined) >= len(whole) else list(pattern.finditer(b"\n".join(self.lines)))
        if len(joined) >= len(apart):
            ends = list(itertools.accumulate(map(len, whole)))
            return [(part, self.number + bisect.bisect_right(ends, part.start())) for part in joined]
        return [(part, self.number + part.string.count(b"\n", 0, part.start())) for part in apart]


def _whole(line: bytes) -> bytes:
    return line.lstrip(b" \t>")


class EntryReader:
    """Takes a file's bytes, piece by piece, and gives its entries; ``gap`` says that something was left out."""

    def __init__(self, encoding: Encoding = BYTES) -> None:
        self._wide = encoding.wide
        self._newline = encoding.newline.encode()
        self._decoder: codecs.IncrementalDecoder | None = None
        self._number = 1
        self._rest = b""
        self._entry: Entry | None = None
        #: Bytes that were looked at and lines that were taken apart, for who asks whether work grows with length only.
        self.work = 0

    def begin(self, number: int) -> None:
        """Begin anew at line *number*."""
        self._number = number
        self._rest = b""
        self._entry = None
        self._decoder = codecs.getincrementaldecoder(self._wide)("replace") if self._wide else None

    def feed(self, data: bytes) -> list[Entry]:
        """Take more bytes; return the entries that are complete."""
        if self._decoder is not None:
            data = self._decoder.decode(data).encode("utf-8", "replace")
        elif b"\0" in data:
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
