"""The beginnings of log lines: when, which process and thread, which component or method.

Client (Windows, ``WindowsUpdate.log``): date, time with a colon before the milliseconds or none at all, process in
decimal, thread in hexadecimal, component, text; tab separated.  Server (product, ``SoftwareDistribution.log``): date,
time with a point, ``UTC``, level, process and thread, method, text.  People's copies have blanks for tabs, a comma
before the milliseconds, a translated level, marks of a quotation in front, or no time at all: all of that is taken as
it comes.

Everything here works on bytes: what is looked for is ASCII in every code page, so lines need no decoding.
"""

from __future__ import annotations

import functools
import re
from datetime import datetime, timedelta, timezone
from typing import Final

__all__ = ["CLIENT_LINE", "SERVER_LINE", "STAMPED_LINE", "decoded", "moment", "offset_of_header", "zone_of"]

_FRONT: Final = rb"[> \t\r]{0,8}(?:\xef\xbb\xbf)?"
_DATE: Final = rb"(?P<date>\d{4}[-/]\d\d[-/]\d\d)"
_TIME: Final = rb"(?P<time>\d\d:\d\d:\d\d(?:[:.,]\d{1,7})?)"

#: A client's line. KB954960 prints its sample with the words ``Date Time`` in place of the stamps.
CLIENT_LINE: Final = re.compile(
    _FRONT
    + rb"(?:(?:"
    + _DATE
    + rb"[ \t]+)?(?:"
    + _TIME
    + rb"[ \t]+)?|Date[ \t]+Time[ \t]+)"
    + rb"(?P<pid>\d{1,8})[ \t]+(?P<tid>[0-9A-Fa-f]{1,8})[ \t]+(?P<component>[A-Za-z]\w{0,19})(?=[ \t\r]|$)"
)
#: A server's line. The level stands between ``UTC`` and the thread and may be any word of any language.
#: Without ``UTC`` in front only a method with its class is one, for many texts have a word, a point and a number.
SERVER_LINE: Final = re.compile(
    _FRONT
    + rb"(?:"
    + _DATE
    + rb"[ \tT]+"
    + _TIME
    + rb"[ \t]*)?(?:(?P<utc>UTC)[^\s.]{0,20}[ \t]+)?(?:[^\s.]{1,40}[ \t]+){0,3}?"
    + rb"(?P<thread>[A-Za-z][\w-]{0,31}(?:\.exe)?\.\d{1,7})[ \t]+"
    + rb"(?P<source>[A-Za-z_]\w{0,80}(?(utc)(?:\.\w{1,80}){0,10}|(?:\.[A-Za-z_]\w{0,80}){1,10}))(?=[ \t\r]|$)"
)
#: A line of which only the time is left, or of another log.
STAMPED_LINE: Final = re.compile(_FRONT + _DATE + rb"[ \tT]+" + _TIME + rb"(?=\D)")

_MOMENT: Final = re.compile(rb"(\d{4}).(\d\d).(\d\d) (\d\d):(\d\d):(\d\d)(?:[:.,](\d{1,7}))?")
#: Windows' own calendar begins in 1601. A day at either end of Python's is none in another zone; that is damage, too.
_YEARS: Final = range(1601, 9999)
_ZONE: Final = re.compile(rb"\btz:\s*([+-])(\d\d):?(\d\d)")
#: What an offset from UTC can be; anything else in a header is damage.
_LARGEST_OFFSET: Final = timedelta(hours=14)


@functools.lru_cache(maxsize=64)  # the lines of a call share their time
def moment(date: bytes | None, time: bytes | None) -> datetime | None:
    """Return date and time as one, without a zone; ``None`` when either is lost or no day or time is called so.

    >>> moment(b"2008-06-13", b"19:59:56:617")
    datetime.datetime(2008, 6, 13, 19, 59, 56, 617000)
    """
    found = _MOMENT.match(b"%b %b" % (date, time)) if date is not None and time is not None else None
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction = found.groups()
    if int(year) not in _YEARS:
        return None
    microsecond = int(fraction.ljust(6, b"0")[:6]) if fraction else 0
    try:
        return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), microsecond)
    except ValueError:
        return None


def offset_of_header(text: bytes) -> timedelta | None:
    """Return the offset from UTC that a client's header gives (``tz: -0600`` is six hours behind), if it does."""
    found = _ZONE.search(text)
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if offset > _LARGEST_OFFSET:
        return None
    return -offset if sign == b"-" else offset


def zone_of(offset: timedelta | None) -> timezone | None:
    """Return the zone of an offset from UTC; ``None`` for none, so that a time stays without."""
    return None if offset is None else timezone(offset)


def decoded(value: bytes | None) -> str | None:
    """Return part of a line as text: UTF-8 where it is that, the ANSI code page of western Windows elsewhere."""
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", errors="replace")
