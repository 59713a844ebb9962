"""Decodes ``VS_VERSIONINFO``, the block in which a program tells its name and version.

Written by Microsoft's documentation of the structures VS_VERSIONINFO, VS_FIXEDFILEINFO, StringFileInfo, StringTable and
String.  It gets the block as bytes and refuses to know where it came from or what its strings mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .reader import HeaderError, text_utf16, u16, u32

__all__ = ["VersionInfo", "decode"]

_ROOT_KEY: Final = "VS_VERSION_INFO"
_STRINGS_KEY: Final = "StringFileInfo"
_FIXED_SIGNATURE: Final = 0xFEEF04BD
_FIXED_LENGTH: Final = 52
#: Every node begins with its length, its value's length and its value's type, 16 bits each, then its key.
_NODE_HEADER: Final = 6


@dataclass(frozen=True)
class VersionInfo:
    """What a version block says.

    Args:
        file_version: the four numbers of the fixed part; ``None`` when it has none.
        strings: key and value of every string of every language, in the block's order.
    """

    file_version: tuple[int, int, int, int] | None
    strings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Node:
    """One node: its key, and where what follows the key begins and ends within the block."""

    key: str
    value_length: int
    body: int
    end: int


def decode(block: bytes) -> VersionInfo:
    """Return what the version *block* says.

    The walk is three loops over stretches that do not overlap, so its time is proportional to the block.

    Raises:
        HeaderError: the block is no version block, or is damaged at its root.
    """
    root = next(_nodes(block, 0, len(block)), None)
    if root is None or root.key != _ROOT_KEY:
        raise HeaderError("its version resource does not begin as one")
    fixed = block[root.body : min(root.body + root.value_length, root.end)]
    strings = tuple(
        # The value's length is given in characters by some compilers and in bytes by others: its NUL decides.
        (string.key, text_utf16(block[string.body : string.end]))
        for group in _nodes(block, root.body + _aligned(len(fixed)), root.end)
        if group.key == _STRINGS_KEY
        for table in _nodes(block, group.body, group.end)
        for string in _nodes(block, table.body, table.end)
    )
    return VersionInfo(_file_version(fixed), strings)


def _file_version(fixed: bytes) -> tuple[int, int, int, int] | None:
    """Return dwFileVersionMS and dwFileVersionLS of VS_FIXEDFILEINFO as four numbers."""
    if len(fixed) < _FIXED_LENGTH or u32(fixed, 0) != _FIXED_SIGNATURE:
        return None
    return u16(fixed, 10), u16(fixed, 8), u16(fixed, 14), u16(fixed, 12)


def _nodes(block: bytes, start: int, end: int) -> Iterator[_Node]:
    """Yield the nodes that follow each other from *start* to *end*, each beginning at a multiple of four bytes."""
    at = _aligned(start)
    while at + _NODE_HEADER <= end:
        length = u16(block, at)
        if length < _NODE_HEADER:
            return  # zeros that fill the block up to its end
        last = min(at + length, end)
        key_start = at + _NODE_HEADER
        key_end = next((pos for pos in range(key_start, last - 1, 2) if block[pos] == block[pos + 1] == 0), last)
        body = _aligned(key_end + 2)
        yield _Node(text_utf16(block[key_start:key_end]), u16(block, at + 2), min(body, last), last)
        at = _aligned(at + length)


def _aligned(offset: int) -> int:
    """Return *offset* rounded up to a multiple of four."""
    return (offset + 3) & ~3
