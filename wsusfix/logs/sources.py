"""What can be read, as blocks of bytes: a path is opened, a stream taken as it stands, what is no file is refused."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from wsusfix.logs.findings import FileKind

__all__ = ["BlockStream", "NotALog", "Readable", "Source", "name_of", "opened"]


class Readable(Protocol):
    """A stream, as far as it is needed; with ``readinto``, ``tell`` and ``seek`` it is read with less work."""

    def read(self, size: int = ..., /) -> bytes | str | None:
        """Return so many bytes or characters, or fewer; nothing at the end."""


Source = str | os.PathLike[str] | Readable


class NotALog(Exception):
    """Nothing to search here, and why."""

    def __init__(self, kind: FileKind, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind
        self.problem = problem


def name_of(source: Source) -> str:
    """Return what findings call *source*, unless another name is given."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return str(getattr(source, "name", "") or "<stream>")


@contextlib.contextmanager
def opened(source: Source) -> Iterator[BlockStream]:
    """Open a path for as long as it is read; a stream stays open.

    Raises:
        NotALog: it is a folder, a device or a pipe, or no name that a file can have.
        OSError: it cannot be opened.
    """
    if not isinstance(source, (str, os.PathLike)):
        yield BlockStream(source)
        return
    path = Path(source)
    try:
        kind = path.stat().st_mode
    except ValueError as error:
        raise NotALog(FileKind.UNREADABLE, f"is not the name of a file: {error}") from None
    if stat.S_ISDIR(kind):
        with os.scandir(path):  # one without rights is told as such
            pass
        raise NotALog(FileKind.UNREADABLE, "is a folder")
    if not stat.S_ISREG(kind):
        raise NotALog(FileKind.UNREADABLE, "is a device or a pipe, not a file")
    # Python opens files on Windows so that others may go on writing: both services keep their logs open.
    with open(path, "rb", buffering=0) as stream:
        yield BlockStream(stream)


class BlockStream:
    """A stream as blocks of bytes, whatever it is: raw, buffered, with ``read`` alone, or of text.

    ``start`` is where it stood at first, ``None`` where it cannot go back.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = cast(Any, stream)
        self._into = getattr(stream, "readinto", None)
        self._left = b""
        self.start = self._position()

    def _position(self) -> int | None:
        """Where the stream stands, ``None`` when it cannot go back or counts otherwise than in bytes."""
        if self._into is None:
            return None
        try:
            return int(self._stream.tell()) if self._stream.seekable() else None
        except (AttributeError, OSError, ValueError):
            return None

    def into(self, view: memoryview) -> int:
        """Fill *view* from its beginning, perhaps not to its end; return how many bytes, 0 at the end of the stream."""
        try:
            if self._into is not None:
                return self._into(view) or 0
            if not self._left:
                read = self._stream.read(len(view) // 4)
                self._left = read.encode("utf-8", "replace") if isinstance(read, str) else bytes(read or b"")
        except ValueError as error:  # closed meanwhile, or text in another encoding than it was opened with
            raise OSError(str(error)) from None
        piece, self._left = self._left[: len(view)], self._left[len(view) :]
        view[: len(piece)] = piece
        return len(piece)

    @contextlib.contextmanager
    def back_at(self, offset: int) -> Iterator[None]:
        """Read from *offset* for a while, then go on where it was."""
        assert self.start is not None
        here = self._stream.tell()
        self._stream.seek(self.start + offset)
        try:
            yield
        finally:
            self._stream.seek(here)
