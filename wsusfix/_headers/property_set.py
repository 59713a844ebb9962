"""Decodes the summary information of an installer package: title, subject, template and their like.

Written by [MS-OLEPS] (sections named in the docstrings) and the Windows Installer documentation of the "Summary
Information Stream Property Set".  It gets the stream as bytes and refuses to know what the values mean.
"""

from __future__ import annotations

import codecs
import enum
import uuid
from typing import Final

from .reader import HeaderError, text_utf16, u16, u32

__all__ = ["STREAM_NAME", "Summary", "decode"]

#: Name of the stream that holds the set ([MS-OLEPS] 2.25.1).
STREAM_NAME: Final = "\x05SummaryInformation"
_FORMAT: Final = uuid.UUID("F29F85E0-4FF9-1068-AB91-08002B27B3D9")
_BYTE_ORDER: Final = 0xFFFE
_CODE_PAGE: Final = 1
#: An honest set has less than twenty properties.
_COUNT_LIMIT: Final = 256
_VT_I2: Final = 2
_VT_LPSTR: Final = 30
_VT_LPWSTR: Final = 31
_UTF_16: Final = 1200
_WESTERN: Final = 1252
_CODECS: Final = {_UTF_16: "utf-16-le", 65001: "utf-8"}


class Summary(enum.IntEnum):
    """The text properties of the summary information that tell what a package is, by their numbers."""

    TITLE = 2
    SUBJECT = 3
    KEYWORDS = 5
    COMMENTS = 6
    TEMPLATE = 7


def decode(stream: bytes) -> dict[Summary, str]:
    """Return the text properties of a summary information *stream* (2.21 PropertySetStream, 2.20 PropertySet).

    Properties that are missing, or are no text, are left out.

    Raises:
        HeaderError: the stream is no summary information, or is damaged or cut off.
    """
    if len(stream) < 48 or u16(stream, 0) != _BYTE_ORDER or uuid.UUID(bytes_le=stream[28:44]) != _FORMAT:
        raise HeaderError("its summary information does not begin as one")
    properties = stream[u32(stream, 44) :]
    count = u32(properties, 4)
    if count > _COUNT_LIMIT or len(properties) < 8 + 8 * count:
        raise HeaderError(f"its summary information is cut off, or claims too many properties ({count})")
    places = {u32(properties, at): u32(properties, at + 4) for at in range(8, 8 + 8 * count, 8)}
    code_page = _code_page(properties, places.get(_CODE_PAGE))
    found = {key: _text(properties, places[key], code_page) for key in Summary if key in places}
    return {key: text for key, text in found.items() if text}


def _code_page(properties: bytes, place: int | None) -> int:
    """Return the code page of the set's narrow strings (2.18.2); Western European when it does not say."""
    if place is None or u16(properties, place) != _VT_I2:
        return _WESTERN
    return u16(properties, place + 4) or _WESTERN


def _text(properties: bytes, place: int, code_page: int) -> str:
    """Return the text of the typed value at *place* (2.15), ``""`` when it is no text.

    Raises:
        HeaderError: the value leaves the set.
    """
    kind, length = u16(properties, place), u32(properties, place + 4)
    if kind not in (_VT_LPSTR, _VT_LPWSTR):
        return ""
    start = place + 8
    end = start + (length * 2 if kind == _VT_LPWSTR else length)
    if end > len(properties):
        raise HeaderError("a text of its summary information is cut off")
    value = properties[start:end]
    if kind == _VT_LPWSTR or code_page == _UTF_16:
        return text_utf16(value)
    return _narrow(value, code_page)


def _narrow(value: bytes, code_page: int) -> str:
    """Return narrow text up to its first NUL; an unknown code page is read as Western European."""
    name = _CODECS.get(code_page, f"cp{code_page}")
    try:
        codecs.lookup(name)
    except LookupError:
        name = f"cp{_WESTERN}"
    return value.partition(b"\0")[0].decode(name, "replace")
