"""The client's log: entries in, failed calls out, each the group of lines of one process and thread.

What belongs to a call is told by codes, names and identifiers; words around them are translated in people's copies
(Danish ones say ``SOAP-fejl`` and ``Metode``) and are not looked at.  Source: the client samples of advisory 954960 and
KB954960.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from datetime import timedelta
from typing import Final

from wsusfix import advisory
from wsusfix.logs.calls import FEW_LINES, GUID, MOST_OPEN, Place, call_id, remember
from wsusfix.logs.entries import Entry, Of
from wsusfix.logs.findings import ClientFinding
from wsusfix.logs.stamps import decoded, offset_of_header, zone_of

__all__ = ["ECHO", "ClientCalls"]

_CODE: Final = advisory.CLIENT_ERROR[2:-1].encode()
_SERVICE: Final = advisory.CLIENT_METHOD.partition("/")[0].encode()
_METHOD: Final = b"/" + advisory.CLIENT_METHOD.encode()
_ERROR_CODE: Final = advisory.SERVER_ERROR_CODE.encode()
_CALL: Final = advisory.CLIENT_METHOD.partition("/")[2].encode()
#: What an entry must hold to be looked at any closer.
_FAULT_LABEL: Final = advisory.CLIENT_FAULT_LABEL.encode()
_CODE_LABEL: Final = advisory.CLIENT_CODE_LABEL.encode()
_ID_LABEL: Final = advisory.CLIENT_ID_LABEL.encode()
_WORTH: Final = re.compile(b"|".join((_CODE, _FAULT_LABEL, _CODE_LABEL, _SERVICE, _ID_LABEL, b"tz:")))

#: The parts of a group. An error that is followed by codes (", soap client error = 7, soap error code = 400, HTTP
#: status code = 200") begins one; the same error without them is an echo of it further up in the agent. Each part is
#: only taken whole: what a wrapped line cut off is found where the lines are joined. Every alternative begins with
#: plain letters, which lets the search skip what cannot begin one.
_PARTS: Final = re.compile(
    _CODE
    + rb"(?P<error>[Ee])(?P<codes>(?:,\s{0,8}\D{1,60}?=\s{0,8}\d{1,6}){1,3})?"
    + b"|"
    + _FAULT_LABEL
    + rb"[^:]{0,40}:\s{0,8}0x(?P<soap>[0-9A-Fa-f]{6})"
    + b"|"
    + _CODE_LABEL
    + rb"\s{0,8}:\s{0,8}(?P<code>[A-Za-z]\w{0,60})\s?\(\d{1,4}\)"
    + rb"|http(?P<method>s?://[^\s\"]{1,150}WebService/\w{1,60})(?=[\"'\x94\xbb]|\xe2\x80|\xc2\xbb|&quot;)"
    + b"|"
    + _ID_LABEL
    + rb"(?<![A-Za-z]"
    + _ID_LABEL
    + rb")\s{0,8}\{?(?P<call_id>"
    + GUID
    + rb")"
    + rb"|URL\s{0,8}=\s{0,8}(?P<url>https?://[^\n]{0,200}?\.asmx)"
)
_NUMBER: Final = re.compile(rb"=\s{0,8}(\d+)")
#: The name of the call right before its error, where the codes behind it were cut off (not ``..._WithRecovery``).
_NAMED: Final = re.compile(rb"(?<![\w.:])" + _CALL + rb"(?!\w)")
#: How far before an error its name may stand.
_BEFORE: Final = 60

#: Lines of one call follow each other at once; what comes later is another call's.
_SOON: Final = timedelta(seconds=10)
#: An error goes up through the agent and is logged by other threads of the process for a while.
ECHO: Final = timedelta(seconds=60)

#: Error, head, fault, code, method, ID.
_ALL_PARTS: Final = 6

_Key = tuple[bytes, bytes] | None
_NOTHING: Final[list[ClientFinding]] = []


class _Call:
    """What was seen of one call so far."""

    __slots__ = ("later", "offset", "parts", "place", "status", "url")

    def __init__(self, place: Place, offset: timedelta | None, url: bytes | None, later: bool) -> None:
        self.place = place
        self.later = later
        self.offset = offset
        self.url = url
        self.status: int | None = None
        self.parts: dict[str, bytes] = {}


class ClientCalls:
    """Collects the parts of calls; many threads at once, in a bounded number of open calls.

    Args:
        file: the name that findings carry.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        #: Offset from UTC by the last header; whoever leaves lines out sets it from the headers among them.
        self.offset: timedelta | None = None
        self._open: OrderedDict[_Key, _Call] = OrderedDict()
        self._urls: OrderedDict[_Key, bytes] = OrderedDict()
        self._heads: OrderedDict[_Key | bytes, Place] = OrderedDict()
        self._done: list[ClientFinding] = []
        self._later = False

    def take(self, entry: Entry) -> list[ClientFinding]:
        """Take the next entry; return the calls that are over by it."""
        text = entry.joined()
        if _WORTH.search(text) is None:
            return _NOTHING
        key: _Key = None
        if entry.of == Of.CLIENT and entry.head is not None:
            key = entry.head["pid"], entry.head["tid"]
            # Agents of the advisory's time write their days with dashes.
            self._later = b"/" in (entry.head["date"] or b"")
            if b"tz:" in text:
                given = offset_of_header(text)
                self.offset = self.offset if given is None else given
        moment = entry.moment
        for part, number in entry.parts(_PARTS):
            self._part(part, key, Place(number, moment))
        return self._over()

    def close(self) -> list[ClientFinding]:
        """Return what is still open: the lines end here, or go on elsewhere."""
        while self._open:
            self._finish(next(iter(self._open)))
        self._urls.clear()
        self._heads.clear()
        return self._over()

    def _over(self) -> list[ClientFinding]:
        if not self._done:
            return _NOTHING
        done, self._done = self._done, []
        return done

    # --- parts to calls ---------------------------------------------------------------------------------------------

    def _part(self, part: re.Match[bytes], key: _Key, place: Place) -> None:
        name = "error" if part.lastgroup == "codes" else str(part.lastgroup)
        value = b"http" + part[name] if name == "method" else part[name]
        if name == "url":
            remember(self._urls, key, value)
            return
        call = self._open.get(key)
        if call is not None and not call.place.near(place, _SOON):
            self._finish(key)
            call = None
        if name == "error":
            if not _is_head(part):
                self._echo(call, key, place, value)
                return
            for whose in _of(key):
                remember(self._heads, whose, place)
            name = "head"
        if call is not None and name in call.parts:
            self._finish(key)
            call = None
        if call is None:
            if name == "call_id":
                return  # by itself an ID says nothing
            call = self._begin(key, place)
        call.parts[name] = value
        if name == "head":
            call.parts["error"] = value
            codes = _NUMBER.findall(part["codes"] or b"")
            # A status that is not of three digits was cut off: nothing is known of it.
            call.status = int(codes[2]) if len(codes) == 3 and len(codes[2]) == 3 else None
        if len(call.parts) == _ALL_PARTS:
            self._finish(key)

    def _echo(self, call: _Call | None, key: _Key, place: Place, value: bytes) -> None:
        if call is None:
            heads = filter(None, map(self._heads.get, _of(key)))
            if any(head.near(place, ECHO) for head in heads):
                return
            call = self._begin(key, place)
        call.parts.setdefault("error", value)

    def _begin(self, key: _Key, place: Place) -> _Call:
        self._give_up_before(place)
        call = self._open[key] = _Call(place, self.offset, self._urls.get(key), self._later)
        return call

    def _give_up_before(self, place: Place) -> None:
        """End the oldest calls that nothing will be added to any more, and one when there are too many."""
        while self._open:
            key, oldest = next(iter(self._open.items()))
            if len(self._open) < MOST_OPEN and place.number - oldest.place.number <= FEW_LINES:
                return
            self._finish(key)

    def _finish(self, key: _Key) -> None:
        call = self._open.pop(key)
        parts = call.parts
        ours = parts.get("code") == _ERROR_CODE and parts.get("method", b"").endswith(_METHOD)
        if "error" not in parts and not ours:
            return  # another fault's lines
        moment = call.place.moment
        self._done.append(
            ClientFinding(
                file=self._file,
                line=call.place.number,
                time=None if moment is None else moment.replace(tzinfo=zone_of(call.offset)),
                pid=None if key is None else int(key[0]),
                tid=None if key is None else decoded(key[1]),
                error=advisory.CLIENT_ERROR if "error" in parts else None,
                http_status=call.status,
                soap_code=None if "soap" not in parts else f"0x{int(parts['soap'], 16):06x}",
                error_code=decoded(parts.get("code")),
                method=decoded(parts.get("method")),
                call_id=call_id(parts.get("call_id")),
                server_url=decoded(call.url),
                later_agent=call.later,
            )
        )


def _of(key: _Key) -> tuple[_Key | bytes, ...]:
    """Return the thread and its process: either may echo the error of a call."""
    return (None,) if key is None else (key, key[0])


def _is_head(part: re.Match[bytes]) -> bool:
    if part["codes"]:
        return True
    return _NAMED.search(part.string, max(0, part.start() - _BEFORE), part.start()) is not None
