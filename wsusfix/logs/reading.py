"""Bytes in, findings out: whole blocks are searched for a few strings, and only what stands around them is parsed.

A healthy log is never taken apart into lines.  Whatever the size, one block and what stands before it are in memory;
every byte is searched once for each string, parsed at most once, and read a second time at most, for line numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Final

from wsusfix import advisory, errors
from wsusfix.logs.client import ClientCalls
from wsusfix.logs.encodings import (
    BYTES,
    TEXT,
    Encoding,
    archive_of,
    encoding_of,
    is_utf_32,
    looks_binary,
    marked,
    with_line_ends_of,
)
from wsusfix.logs.entries import LONGEST_LINE, Entry, EntryReader, Of
from wsusfix.logs.findings import ClientFinding, FileKind, Finding, LogFile, LogProblem, ServerFinding
from wsusfix.logs.server import ServerCalls
from wsusfix.logs.sources import BlockStream, NotALog, Source, name_of, opened
from wsusfix.logs.stamps import STAMPED_LINE, moment, offset_of_header, zone_of

__all__ = ["BLOCK", "NEEDLES", "LogScan", "scan"]


#: What the blocks are searched for: a client's error in either spelling of its last digit, the error code that both
#: logs name, the first frame of the server's stack, and the header that gives a client's time zone.
NEEDLES: Final = (
    advisory.CLIENT_ERROR[:-1],
    advisory.SERVER_ERROR_CODE,
    advisory.SERVER_FRAME_INSERT.rpartition(".")[0].rpartition(".")[2] + ".Insert",
    advisory.CLIENT_LOG_HEADER,
)
_HEADER: Final = advisory.CLIENT_LOG_HEADER
#: The same where a character has two bytes, whichever of them comes first.
_WIDE: Final = {needle: b"\0".join(bytes([char]) for char in needle.encode()) for needle in NEEDLES}

#: Bytes read at once: fits the caches of any processor.
BLOCK: Final = 256 * 1024
#: Characters before and after a hit that may belong to its call, other threads' lines between them.
_BEFORE: Final = 16 * 1024
_AFTER: Final = 32 * 1024
#: A hit so near the end of what was read waits until what follows it is there.
_MARGIN: Final = 512
#: Bytes that stay in front of the next block, in the widest encoding.
_KEPT: Final = 2 * (_BEFORE + _MARGIN)
#: A file that is not longer is parsed whole, so that an excerpt whose lines were broken inside a needle is read, too.
_HEAD: Final = 64 * 1024
#: By so much of its beginning a file is judged, and by so much of its end how far it reaches.
_JUDGED: Final = 16 * 1024
_TAIL: Final = 4096
_UTC: Final = timezone.utc


def scan(source: Source, *, name: str | None = None, utc_offset: timedelta | None = None) -> LogScan:
    """Read a log and yield what is found as it is read: client's and server's logs alike, in any encoding.

    A file that cannot be read, is empty, or is no text is a :class:`~wsusfix.logs.LogProblem` among the findings, never
    an exception.

    Args:
        source: a path, or a stream of bytes or text; a stream is read from where it stands, and stays open.
        name: what findings call it; default: the path, or the stream's own name.
        utc_offset: a client's offset from UTC, used until a header in the log says another.

    Raises:
        UsageError: *source* is neither a path nor a stream.
    """
    return LogScan(source, name=name, utc_offset=utc_offset)


class LogScan(Iterator[Finding]):
    """A log being read: iterate to get its findings; ``file`` says what is known of it so far."""

    def __init__(self, source: Source, *, name: str | None = None, utc_offset: timedelta | None = None) -> None:
        if not isinstance(source, (str, os.PathLike)) and not hasattr(source, "read"):
            raise errors.UsageError("a log is a path or a stream that can be read", phase="logs")
        self._source = source
        self._name = name if name is not None else name_of(source)
        self._blocks = _Blocks(self._name, utc_offset)
        self._problem: str | None = None
        self._kind: FileKind | None = None
        self._kinds: set[str] = set()
        self._count = 0
        self._found = self._read()

    def __iter__(self) -> LogScan:
        return self

    def __next__(self) -> Finding:
        return next(self._found)

    @property
    def file(self) -> LogFile:
        """What is known of the file: complete when the iteration has ended."""
        return LogFile(
            path=self._name,
            kind=self._kind or self._judged(),
            findings=self._count,
            problem=self._problem,
            begins=self._blocks.begins,
            ends=self._blocks.ends,
        )

    @property
    def work(self) -> int:
        """Bytes that were parsed, beyond being searched."""
        return self._blocks.entries.work

    def _judged(self) -> FileKind:
        kind = self._blocks.kind
        if kind not in (FileKind.OTHER, FileKind.CLIENT, FileKind.SERVER):
            return kind
        # What was found counts, too: a copy may have lost all its beginnings, or another log may follow in it.
        kinds = self._kinds if kind is FileKind.OTHER else self._kinds | {kind.value}
        return FileKind.MIXED if len(kinds) == 2 else FileKind(next(iter(kinds), kind))

    def _read(self) -> Iterator[Finding]:
        try:
            with opened(self._source) as stream:
                for finding in self._blocks.read(stream):
                    self._count += 1
                    self._kinds.add(finding.kind)
                    yield finding
        except NotALog as refusal:
            self._kind, self._problem = refusal.kind, refusal.problem
        except OSError as error:
            self._problem = f"cannot be read: {error.strerror or error}"
            if not self._blocks.length:
                self._kind = FileKind.UNREADABLE
        if self._problem is None and self._judged() is FileKind.CLIENT_LATER:
            # Not the format of the advisory's time: the log says nothing about it, so nothing is concluded.
            self._problem = "the log of a later agent, which writes other lines than the advisory's"
        elif self._problem is not None:
            yield LogProblem(self._name, self._problem)


# --- blocks ---------------------------------------------------------------------------------------------------------


class _Blocks:
    """Searches a stream block by block, and has what stands around each hit parsed.

    All offsets are of bytes from where the stream began; ``base`` is that of the buffer's first byte.
    """

    def __init__(self, name: str, utc_offset: timedelta | None) -> None:
        self.kind = FileKind.OTHER
        self.begins: datetime | None = None
        self.ends: datetime | None = None
        self.length = 0
        self.entries = EntryReader()
        self._client = ClientCalls(name)
        self._server = ServerCalls(name)
        self._offset = utc_offset
        self.encoding = BYTES
        self._buffer = bytearray(_KEPT + BLOCK)
        self.base = 0
        self._size = 0
        #: Where the text begins: in front of it are blanks and zeros only.
        self._text = 0
        self._zeros = False
        #: Up to where the needles were looked for, up to where lines were parsed, and up to where they have to be.
        self._searched = 0
        self._fed = 0
        self._due = 0
        self._lines = _LineNumbers()

    def read(self, stream: BlockStream) -> Iterator[ClientFinding | ServerFinding]:
        """Yield what is found."""
        ended = self._first(stream)
        while not self._text_begins() and not ended:
            ended = self._more(stream)
        self._judge()
        try:
            yield from self._rest(stream, ended)
        except OSError:
            yield from self._pause()  # what was there before it broke off counts
            raise
        self._last()

    def _rest(self, stream: BlockStream, ended: bool) -> Iterator[ClientFinding | ServerFinding]:
        if ended and not self.base and self._size <= _HEAD:
            self._begin(stream, self.encoding.mark)
            self._due = self._size
        while True:
            yield from self._search(stream, ended)
            if ended:
                break
            ended = self._more(stream)
        yield from self._pause()

    # --- filling the buffer -----------------------------------------------------------------------------------------

    def _first(self, stream: BlockStream) -> bool:
        """Read so much that the file can be judged; return whether that is all of it."""
        with memoryview(self._buffer) as view:
            while self._size <= _HEAD:
                count = stream.into(view[self._size : _KEPT + BLOCK if self._size else BLOCK])
                self._size += count
                self.length = self._size
                if not count:
                    return True
        return False

    def _more(self, stream: BlockStream) -> bool:
        """Read the next block behind the end of the last one; return whether there was none."""
        kept = min(self._size, _KEPT)
        gone = self._size - kept
        if stream.start is None:
            self._lines.leave(self.base + self._size, self)
        self._buffer[:kept] = self._buffer[gone : self._size]
        self.base += gone
        with memoryview(self._buffer) as view:
            count = stream.into(view[kept:])
        self._size = kept + count
        self.length += count
        return not count

    def lines_between(self, start: int, end: int) -> int:
        """Count the lines that end between two offsets in the buffer."""
        return self._buffer.count(self.encoding.encode(self.encoding.newline), start - self.base, end - self.base)

    # --- what kind of file ------------------------------------------------------------------------------------------

    def _text_begins(self) -> bool:
        """Look for where the text begins; return whether it does in the buffer."""
        if not self._text:
            self.encoding = marked(bytes(self._buffer[: min(self._size, 3)]))
            self._text = self.encoding.mark
        found = TEXT.search(self._buffer, self._text - self.base, self._size)
        at = self.base + (self._size if found is None else found.start())
        self._zeros = self._zeros or self._buffer.find(b"\0", self._text - self.base, at - self.base) >= 0
        # A character of two bytes may have its zero in front.
        self._text = max(self._text, at - (at - self.encoding.mark) % 2)
        self._searched = self._text
        return found is not None

    def _judge(self) -> None:
        start = self._text - self.base
        head = bytes(self._buffer[start : min(self._size, start + _JUDGED)])
        if not self.encoding.mark:
            self.encoding = encoding_of(head)
        text = self._decoded(head)
        if not text.strip(b" \t\r\n\v\f\0"):
            if self._zeros and not self.encoding.mark:
                raise NotALog(FileKind.BINARY, "is no text")
            raise NotALog(FileKind.EMPTY, "is empty")
        self.encoding = with_line_ends_of(text, self.encoding)
        if is_utf_32(head):
            raise NotALog(FileKind.BINARY, "is in UTF-32: save it as UTF-8 first")
        archive = archive_of(head)
        if archive is not None:
            raise NotALog(FileKind.BINARY, f"is an archive ({archive}): unpack it first")
        lines = text.split(self.encoding.newline.encode())
        reader = EntryReader(replace(BYTES, newline=self.encoding.newline))
        entries = [*reader.feed(text), *reader.end()]
        clients = _enough([entry.head for entry in entries if entry.of == Of.CLIENT], len(lines))
        servers = _enough([entry.head for entry in entries if entry.of == Of.SERVER], len(lines))
        if clients and servers:
            self.kind = FileKind.MIXED
        elif servers:
            self.kind = FileKind.SERVER
        elif clients:
            later = sum(b"/" in (found["date"] or b"") for found in clients)
            self.kind = FileKind.CLIENT_LATER if 2 * later > len(clients) else FileKind.CLIENT
        elif looks_binary(text):
            raise NotALog(FileKind.BINARY, "is no text")
        self.entries = EntryReader(self.encoding)
        self.begins = self._time(lines, offset_of_header(text))

    def _last(self) -> None:
        """Look how far the lines reach."""
        start = max(0, self._size - _TAIL)
        start -= (self.base + start - self.encoding.mark) % self.encoding.unit if start else 0
        text = self._decoded(bytes(self._buffer[start : self._size])).replace(b"\0", b"")
        self.ends = self._time(reversed(text.split(self.encoding.newline.encode())), self._offset) or self.begins

    def _decoded(self, data: bytes) -> bytes:
        wide = self.encoding.wide
        if wide is None:
            return data
        return data.decode(wide, "replace").encode("utf-8", "replace")

    def _time(self, lines: Iterable[bytes], header: timedelta | None) -> datetime | None:
        """Return the first time in *lines*, in the zone of the log as far as it is known."""
        client = self.kind is FileKind.CLIENT
        offset = (header if header is not None else self._offset) if client else None
        zone = _UTC if self.kind is FileKind.SERVER else zone_of(offset)
        for line in lines:
            found = STAMPED_LINE.match(line)
            when = found and moment(found["date"], found["time"])
            if when:
                return when.replace(tzinfo=zone)
        return None

    # --- searching --------------------------------------------------------------------------------------------------

    def _search(self, stream: BlockStream, ended: bool) -> Iterator[ClientFinding | ServerFinding]:
        end = self.base + self._size
        limit = end if ended else max(self._searched, end - _MARGIN)
        if self.encoding.wide is not None and self._goes_on_otherwise(limit):
            # From here on each line is read as it is, in either encoding, as a file that began in bytes is.
            self.encoding = replace(BYTES, newline=self.encoding.newline)
            self.entries.go_on_in_bytes()
        for hit, needle in self._hits(limit):
            if needle == _HEADER:
                self._header(hit)
                continue
            if hit >= self._due:
                yield from self._feed(min(self._due, limit))
                yield from self._pause()
                self._begin(stream, self._start_before(hit))
            self._due = max(self._due, hit + _AFTER * self.encoding.unit)
        self._searched = limit
        # Nothing is parsed before it was searched: it may be in another encoding than what stands before it.
        yield from self._feed(min(self._due, limit))
        if self._due < limit:
            yield from self._pause()

    def _goes_on_otherwise(self, limit: int) -> bool:
        """Return whether a file in UTF-16 goes on in bytes, or askew, as far as anything that is sought tells."""
        start, end = self._searched - self.base, limit - self.base
        for needle in NEEDLES:
            if self._buffer.find(needle.encode(), start, self._size) >= 0:
                return True
            sought, at = self.encoding.encode(needle), start
            while 0 <= (at := self._buffer.find(sought, at, self._size)) < end:
                if (self.base + at - self.encoding.mark) % 2:
                    return True
                at += len(sought)
        return False

    def _hits(self, limit: int) -> list[tuple[int, str]]:
        """Return the hits before *limit*, in order; of hits close together one is enough."""
        hits: list[tuple[int, str]] = []
        encoding, base = self.encoding, self.base
        sought = [(needle, encoding.encode(needle)) for needle in NEEDLES]
        # Zeros in a file of bytes: part of it may be in UTF-16.
        if encoding.wide is None and self._buffer.find(b"\0", self._searched - base, self._size) >= 0:
            sought += _WIDE.items()
        for needle, form in sought:
            step = len(form) if needle == _HEADER else _AFTER * encoding.unit // 2
            at = self._buffer.find(form, self._searched - base, self._size)
            while 0 <= at < limit - base:
                hits.append((base + at, needle))
                at = self._buffer.find(form, at + step, self._size)
        hits.sort()
        return hits

    def _header(self, hit: int) -> None:
        start = hit - self.base
        end = min(start + _MARGIN, self._size)
        line = (
            self._decoded(bytes(self._buffer[start:end]))
            .replace(b"\0", b"")
            .partition(self.encoding.newline.encode())[0]
        )
        given = offset_of_header(line)
        if given is not None:
            self._offset = given

    # --- parsing what stands around a hit ---------------------------------------------------------------------------

    def _start_before(self, hit: int) -> int:
        """Return the beginning of a line some way before *hit*, or, where no line ends, of any character."""
        unit, mark = self.encoding.unit, self.encoding.mark
        start = max(self._fed, self.base, mark, hit - _BEFORE * unit)
        if start in (self._fed, mark):
            return start
        start += (start - mark) % unit
        sought = self.encoding.encode(self.encoding.newline)
        at = self._buffer.find(sought, start - self.base, hit - self.base)
        while at >= 0 and (self.base + at - mark) % unit:
            at = self._buffer.find(sought, at + 1, hit - self.base)
        if at < 0 or self.base + at - start > LONGEST_LINE * unit:
            return start  # what stands in front of that line end is no line: zeros that a crash left, as a rule
        return self.base + at + unit

    def _begin(self, stream: BlockStream, start: int) -> None:
        self._fed = start
        self._client.offset = self._offset
        self.entries.begin(1 + self._lines.before(start, stream, self))

    def _feed(self, end: int) -> Iterator[ClientFinding | ServerFinding]:
        if end <= self._fed:
            return
        data = bytes(self._buffer[self._fed - self.base : end - self.base])
        self._fed = end
        yield from self._take(self.entries.feed(data))

    def _pause(self) -> Iterator[ClientFinding | ServerFinding]:
        """What follows is left out, or nothing follows."""
        yield from self._take(self.entries.end())
        yield from self._client.close()
        yield from self._server.close()

    def _take(self, entries: list[Entry]) -> Iterator[ClientFinding | ServerFinding]:
        for entry in entries:
            if entry.of != Of.SERVER:
                yield from self._client.take(entry)
            if entry.of != Of.CLIENT:
                yield from self._server.take(entry)


def _enough(heads: list[re.Match[bytes] | None], lines: int) -> list[re.Match[bytes]]:
    """Return the beginnings that tell whose log it is: one with a time will do, else many lines must have one."""
    known = [head for head in heads if head is not None]
    dated = any(head["date"] is not None for head in known)
    return known if dated or len(known) > lines / 4 else []


class _LineNumbers:
    """Counts line ends, but not before somebody asks: most files have nothing to show a line number for.

    What has left the buffer by then is read a second time; a stream that cannot go back is counted as it goes by.
    """

    def __init__(self) -> None:
        self._counted = 0
        self._lines = 0

    def leave(self, end: int, blocks: _Blocks) -> None:
        """What lies before *end* leaves the buffer of a stream that cannot go back."""
        end -= (end - blocks.encoding.mark) % blocks.encoding.unit
        self._lines += blocks.lines_between(self._counted, end)
        self._counted = end

    def before(self, offset: int, stream: BlockStream, blocks: _Blocks) -> int:
        """Return how many lines end before *offset*, which lies in the buffer."""
        first = blocks.base + (blocks.base - blocks.encoding.mark) % blocks.encoding.unit
        if self._counted < first and offset > self._counted:
            self._lines += _lines_in(stream, self._counted, first, blocks.encoding)
            self._counted = first
        if offset < self._counted:
            return self._lines - blocks.lines_between(offset, self._counted)
        self._lines += blocks.lines_between(self._counted, offset)
        self._counted = offset
        return self._lines


def _lines_in(stream: BlockStream, start: int, end: int, encoding: Encoding) -> int:
    """Read what lies between two offsets once more and count its lines."""
    sought = encoding.encode(encoding.newline)
    block = bytearray(BLOCK)
    lines = 0
    with stream.back_at(start), memoryview(block) as view:
        left = end - start
        while left > 0:
            size = stream.into(view[: min(left, BLOCK)])
            if not size:
                break
            lines += block.count(sought, 0, size)
            left -= size
    return lines
