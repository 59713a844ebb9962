"""In which encoding a file is written, and whether it is text at all, by its first bytes.

Logs of this age are ANSI, UTF-8 or UTF-16; copies made with PowerShell's redirection are UTF-16, and may have lost
their mark.  Code pages need not be told apart: what is looked for is ASCII in all of them.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace
from typing import Final

__all__ = [
    "BYTES",
    "TEXT",
    "Encoding",
    "archive_of",
    "encoding_of",
    "is_utf_32",
    "looks_binary",
    "marked",
    "with_line_ends_of",
]


@dataclass(frozen=True)
class Encoding:
    """How characters are stored: ``wide`` names Python's codec for two bytes each, ``None`` is ANSI or UTF-8.

    Lines end with ``newline``; some copies have carriage returns alone.
    """

    wide: str | None
    mark: int = 0
    newline: str = "\n"

    @property
    def unit(self) -> int:
        """Bytes of one ASCII character."""
        return 1 if self.wide is None else 2

    def encode(self, text: str) -> bytes:
        """Return ASCII *text* as the file would store it."""
        return text.encode(self.wide or "ascii")


BYTES: Final = Encoding(None)
_MARKS: Final = (
    (codecs.BOM_UTF8, Encoding(None, 3)),
    (codecs.BOM_UTF16_LE, Encoding("utf-16-le", 2)),
    (codecs.BOM_UTF16_BE, Encoding("utf-16-be", 2)),
)
#: First bytes of archives in which people send logs (the formats' own documentation).
_ARCHIVES: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"MSCF", "cabinet"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"Rar!", "RAR"),
)
#: Control characters that text has: tab, line ends, form feed, and the end mark of old editors.
_TEXT_CONTROLS: Final = b"\t\n\v\f\r\x1a"
#: Where in a file its text begins: crashes leave runs of zeros, and people blank lines.
TEXT: Final = re.compile(rb"[^\0\t\n\v\f\r ]")
_CONTROLS: Final = bytes(code for code in (*range(32), 127) if code not in _TEXT_CONTROLS)


def marked(head: bytes) -> Encoding:
    """Return the encoding of which *head* begins with the mark; :data:`BYTES` for none."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), BYTES)


def encoding_of(head: bytes) -> Encoding:
    """Return the encoding of text that begins with *head* and has no mark."""
    half = len(head) // 2
    if half and b"\0" in head:
        # Stamps, names and codes are ASCII in every language, so one byte of two is zero in a good part of the text.
        even, odd = head[0::2].count(0), head[1::2].count(0)
        if odd > half / 4 and odd > 4 * even:
            return Encoding("utf-16-le")
        if even > half / 4 and even > 4 * odd:
            return Encoding("utf-16-be")
    return BYTES


def is_utf_32(head: bytes) -> bool:
    """Return whether text that begins with *head* has four bytes for each character, nearly all of them ASCII."""
    fewest, *others = sorted(head[at::4].count(0) for at in range(4))
    quarter = len(head) / 4
    return fewest < 0.1 * quarter and min(others) > 0.9 * quarter


def with_line_ends_of(text: bytes, encoding: Encoding) -> Encoding:
    """Return *encoding* with the line ends of the decoded *text* that begins the file."""
    return replace(encoding, newline="\r") if b"\r" in text and b"\n" not in text else encoding


def archive_of(head: bytes) -> str | None:
    """Return which kind of archive *head* begins, ``None`` for none."""
    return next((name for magic, name in _ARCHIVES if head.startswith(magic)), None)


def looks_binary(head: bytes) -> bool:
    """Return whether decoded *head* holds more control characters than a text does, even a damaged one."""
    return len(head) - len(head.translate(None, _CONTROLS)) > len(head) / 20
