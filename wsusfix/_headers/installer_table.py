"""Reads the metadata that a Windows Installer patch carries in a table of its database: display name, description.

The layout of the table streams is not published by Microsoft; it is the one that Wine's and msitools' readers agree on.
It knows string pools and columns of strings, and refuses to know what the values mean.
"""

from __future__ import annotations

from typing import Final

from .compound import CompoundFile
from .reader import HeaderError, u16, u32

__all__ = ["patch_metadata", "string_rows"]

#: The "MsiPatchMetadata Table" of Windows Installer 3.0: company, property, value, all of them strings.
_METADATA: Final = "MsiPatchMetadata"
_METADATA_COLUMNS: Final = 3
_STRING_POOL: Final = "_StringPool"
_STRING_DATA: Final = "_StringData"
#: Table names are written two characters to one of UTF-16, behind a mark, so that they fit a directory entry.
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
_TABLE_MARK: Final = 0x4840
_PAIRS: Final = 0x3800
_SINGLES: Final = 0x4800
#: A patch has about ten standard properties.
_ROWS_LIMIT: Final = 4096
#: In the pool's first word: references to strings take three bytes instead of two.
_LONG_REFERENCES: Final = 0x8000_0000


def patch_metadata(file: CompoundFile) -> dict[str, str]:
    """Return the standard properties of a patch (those without a company) by name; empty when it carries none.

    Raises:
        HeaderError: the table or the strings it needs are damaged or cut off.
    """
    return {name: value for company, name, value in string_rows(file, _METADATA, _METADATA_COLUMNS) if not company}


def string_rows(file: CompoundFile, table: str, columns: int) -> list[tuple[str, ...]]:
    """Return the rows of a *table* whose *columns* are all strings; none when there is no such table.

    Raises:
        HeaderError: the table or the strings it needs are damaged or cut off.
    """
    cells = file.stream(_stream_name(table))
    if not cells:
        return []
    pool, data = file.stream(_stream_name(_STRING_POOL)), file.stream(_stream_name(_STRING_DATA))
    if pool is None or len(pool) < 4 or data is None:
        raise HeaderError(f"it has a table {table} and no strings for it")
    width = 3 if u32(pool, 0) & _LONG_REFERENCES else 2
    if len(cells) % (width * columns) or len(cells) > width * columns * _ROWS_LIMIT:
        raise HeaderError(f"its table {table} is cut off, or far larger than it can honestly be")
    numbers = [int.from_bytes(cells[at : at + width], "little") for at in range(0, len(cells), width)]
    texts = _strings(pool, data, set(numbers))
    # A table is written column by column.
    rows = len(numbers) // columns
    return [tuple(texts.get(numbers[row + column * rows], "") for column in range(columns)) for row in range(rows)]


def _strings(pool: bytes, data: bytes, wanted: set[int]) -> dict[int, str]:
    """Return the *wanted* strings by number, counted from 1; number 0 is "no value".

    The pool gives each string's length in bytes and its count of references, 16 bits each; where the length is 0 and
    the count is not, the count is the upper half of a length whose lower half follows.  The encoding is taken to be
    UTF-8 or a superset of ASCII: other letters may come out as U+FFFD, digits and Latin letters never.
    """
    found: dict[int, str] = {}
    number, at, place = 1, 4, 0
    while at + 4 <= len(pool):
        length, references = u16(pool, at), u16(pool, at + 2)
        if length == 0 and references and at + 8 <= len(pool):
            at += 4
            length = references << 16 | u16(pool, at)
        if number in wanted:
            if place + length > len(data):
                raise HeaderError("a text of its database is cut off")
            found[number] = data[place : place + length].decode("utf-8", "replace")
        number, at, place = number + 1, at + 4, place + length
    return found


def _stream_name(table: str) -> str:
    """Return the name of the stream that holds *table*."""
    codes = [_ALPHABET.index(char) for char in table]
    name = [chr(_TABLE_MARK)]
    name += [chr(_PAIRS + first + (second << 6)) for first, second in zip(codes[::2], codes[1::2], strict=False)]
    if len(codes) % 2:
        name.append(chr(_SINGLES + codes[-1]))
    return "".join(name)
