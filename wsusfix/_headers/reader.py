"""Random access to a file whose content nobody vouches for: every read is checked and counted.

It knows offsets, lengths and budgets; it refuses to know any format.
"""

from __future__ import annotations

from typing import BinaryIO, Final

__all__ = ["HeaderError", "Reader", "text_utf16", "u16", "u32"]

#: All reads of one file, in bytes. Honest headers need a few hundred kilobytes.
TOTAL_LIMIT: Final = 8 << 20
#: Reads and links followed in one file, against lists that run in a circle. Honest headers need some thousands.
STEP_LIMIT: Final = 50_000


class HeaderError(ValueError):
    """A file breaks its format, or ends before its headers do; the message says what and where."""


class Reader:
    """A seekable binary file of known *size*, read piece by piece within fixed budgets.

    Args:
        file: opened for reading in binary mode; it is neither closed nor kept in memory.
        size: bytes the file has; nothing beyond is read.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self._bytes_left = TOTAL_LIMIT
        self._steps_left = STEP_LIMIT

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Return exactly *length* bytes from *offset*.

        Args:
            offset: bytes from the start of the file.
            length: bytes wanted.
            what: what is read, for the message.

        Raises:
            HeaderError: the range leaves the file, or a budget is spent.
            OSError: the file system failed.
        """
        if offset < 0 or offset + length > self.size:
            raise HeaderError(f"the file ends at {self.size} bytes, before the end of its {what}")
        if length > self._bytes_left:
            raise HeaderError(f"the {what} is far larger than it can honestly be")
        self.step(what)
        self._bytes_left -= length
        self._file.seek(offset)
        data = self._file.read(length)
        if len(data) != length:
            raise HeaderError(f"the file became shorter while its {what} was read")
        return data

    def step(self, what: str) -> None:
        """Count one link followed on the way through *what*.

        Raises:
            HeaderError: more links than an honest file has; most likely they run in a circle.
        """
        self._steps_left -= 1
        if self._steps_left < 0:
            raise HeaderError(f"the {what} never ends")


def u16(data: bytes, offset: int) -> int:
    """Return the little-endian 16-bit number at *offset*; bytes beyond the end of *data* count as zero."""
    return int.from_bytes(data[offset : offset + 2], "little")


def u32(data: bytes, offset: int) -> int:
    """Return the little-endian 32-bit number at *offset*; bytes beyond the end of *data* count as zero."""
    return int.from_bytes(data[offset : offset + 4], "little")


def text_utf16(data: bytes) -> str:
    """Return UTF-16LE text up to its first NUL; what is no valid UTF-16 becomes U+FFFD."""
    return data[: len(data) & ~1].decode("utf-16-le", "replace").partition("\0")[0]
