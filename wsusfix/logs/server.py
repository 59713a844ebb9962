"""The server's log: entries in, failed calls out, each the exception of one thread, its frames and its fault's ID.

Types, methods and frames are names and stay what they are in every language; the sentences of .NET are translated and
are not looked at, but for the quoted key.  Source: the server sample of advisory 954960.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from datetime import timedelta
from typing import Final

from wsusfix import advisory
from wsusfix.logs.calls import FEW_LINES, GUID, MOST_OPEN, Place, call_id
from wsusfix.logs.entries import Entry, Of
from wsusfix.logs.findings import ServerFinding
from wsusfix.logs.stamps import decoded, zone_of

__all__ = ["ServerCalls"]

_EXCEPTION: Final = advisory.SERVER_EXCEPTION.encode()
_METHOD: Final = advisory.SERVER_METHOD.encode()
_ERROR_CODE: Final = advisory.SERVER_ERROR_CODE.encode()
_INSERT: Final = advisory.SERVER_FRAME_INSERT.encode()
_SYNC: Final = advisory.SERVER_FRAME_SYNC.encode()
#: What an entry must hold to be looked at any closer.
_WORTH: Final = re.compile(b"|".join(map(re.escape, (b"Exception", _INSERT, _SYNC, _ERROR_CODE))))

#: The parts of a group, in the order in which they are logged. The key is quoted, in whichever way the language does.
_QUOTE: Final = (
    rb"(?:['\"\x82\x84\x8b\x91-\x94\x9b\xab\xbb]|\xe2\x80[\x98-\x9f\xb9\xba]|\xc2[\xab\xbb]|\xe3\x80[\x8c-\x8f])"
)
#: What French has between a quote and the key: a blank, which does not break a line.
_BLANK: Final = rb"(?:\s|\xa0|\xc2\xa0|\xe2\x80\xaf)?"
_PARTS: Final = re.compile(
    rb"(?:(?<![\w.])|(?<="
    + re.escape(_METHOD.rpartition(b".")[2])
    + rb"))(?P<exception>(?:System|Microsoft)\.[\w.]{0,120}Exception)(?=[:\s]|$)(?:(?=[^\n(]{0,200}?"
    + _QUOTE
    + _BLANK
    + rb"(?P<key>[\w{}-]{1,80})"
    + _BLANK
    + _QUOTE
    + rb"))?"
    + rb"|(?<![\w.])(?:(?P<frame>[A-Za-z_]\w{0,80}(?:\.{1,2}[A-Za-z_]\w{0,80}){1,12})\s?\("
    + rb"|actor\s?=\s?(?P<actor>[^\s,]{1,200})"
    + rb"|ID\s?=\s?(?P<call_id>"
    + GUID
    + rb")"
    + rb"|ErrorCode\s?=\s?(?P<code>[A-Za-z]\w{0,60})(?=[\s,;)]|$))"
)

#: The fault is logged right behind its exception.
_SOON: Final = timedelta(seconds=10)
#: No stack of these services is deeper.
_MOST_FRAMES: Final = 64

_NOTHING: Final[list[ServerFinding]] = []
_UTC: Final = zone_of(timedelta(0))


class _Call:
    """What was seen of one call so far."""

    __slots__ = ("actor", "call_id", "code", "exception", "frames", "key", "method", "place")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.exception: bytes | None = None
        self.method: bytes | None = None
        self.key: bytes | None = None
        self.frames: list[bytes] = []
        self.actor: bytes | None = None
        self.call_id: bytes | None = None
        self.code: bytes | None = None


class ServerCalls:
    """Collects the parts of calls; many threads at once, in a bounded number of open calls.

    Args:
        file: the name that findings carry.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._open: OrderedDict[bytes | None, _Call] = OrderedDict()
        self._done: list[ServerFinding] = []

    def take(self, entry: Entry) -> list[ServerFinding]:
        """Take the next entry; return the calls that are over by it."""
        text = entry.joined()
        if _WORTH.search(text) is None:
            return _NOTHING
        thread = source = None
        if entry.of == Of.SERVER and entry.head is not None:
            thread, source = entry.head["thread"], entry.head["source"]
        moment = entry.moment
        fault: dict[str, bytes] = {}
        for part, number in entry.parts(_PARTS):
            self._part(part, thread, source, Place(number, moment), fault)
        return self._over()

    def close(self) -> list[ServerFinding]:
        """Return what is still open: the lines end here, or go on elsewhere."""
        while self._open:
            self._finish(next(iter(self._open)))
        return self._over()

    def _over(self) -> list[ServerFinding]:
        if not self._done:
            return _NOTHING
        done, self._done = self._done, []
        return done

    # --- parts to calls ---------------------------------------------------------------------------------------------

    def _part(
        self, part: re.Match[bytes], thread: bytes | None, source: bytes | None, place: Place, fault: dict[str, bytes]
    ) -> None:
        call = self._open.get(thread)
        if call is not None and not call.place.near(place, _SOON):
            self._finish(thread)
            call = None
        if part["exception"] is not None:
            self._exception(call, part, thread, source, place)
        elif part["frame"] is not None:
            self._frame(call, part["frame"], thread, place)
        elif part["code"] is not None:
            self._fault(call, part["code"], thread, place, fault)
            fault.clear()
        else:
            name = str(part.lastgroup)
            fault[name] = part[name]

    def _exception(
        self, call: _Call | None, part: re.Match[bytes], thread: bytes | None, source: bytes | None, place: Place
    ) -> None:
        if call is not None:
            again = place.moment is not None and place.moment == call.place.moment and call.code is None
            if again and (call.exception, call.key) == (part["exception"], part["key"]):
                return  # the same one, logged once more on its way up
            self._finish(thread)
        # An exception of another type is kept, too: it is why the fault that follows is none of ours.
        call = self._begin(thread, place)
        call.exception, call.key = part["exception"], part["key"]
        # In front of the exception stands the method that caught it, in copies without beginnings, too.
        named = _METHOD in part.string[max(0, part.start() - 2 * len(_METHOD)) : part.start()]
        call.method = _METHOD if source is None and named else source

    def _frame(self, call: _Call | None, frame: bytes, thread: bytes | None, place: Place) -> None:
        ours = frame.endswith((_INSERT, _SYNC))
        if call is not None and call.code is not None and ours:
            self._finish(thread)
            call = None
        if call is None:
            if not ours:
                return
            call = self._begin(thread, place)  # the line of the exception was lost
        if len(call.frames) < (2 if ours else 1) * _MOST_FRAMES:
            call.frames.append(frame)

    def _fault(
        self, call: _Call | None, code: bytes, thread: bytes | None, place: Place, fault: dict[str, bytes]
    ) -> None:
        if code != _ERROR_CODE:
            return
        if call is None:
            thread = self._cause_of(thread, place)
            call = self._open.get(thread)
        if call is None:
            call = self._begin(thread, place)  # an exception that is not in this log, or not any more
        call.code, call.actor, call.call_id = code, fault.get("actor"), fault.get("call_id")
        self._finish(thread)

    def _cause_of(self, thread: bytes | None, place: Place) -> bytes | None:
        """Return whose the fault is: where its line, or its cause's, lost the thread, that of the same moment."""
        if place.moment is None:
            return thread
        for other, call in reversed(self._open.items()):
            if _may_be_same(thread, other) and call.place.moment == place.moment and call.code is None:
                return other
        return thread

    def _begin(self, thread: bytes | None, place: Place) -> _Call:
        self._give_up_before(place)
        call = self._open[thread] = _Call(place)
        return call

    def _give_up_before(self, place: Place) -> None:
        """End the oldest calls that nothing will be added to any more, and one when there are too many."""
        while self._open:
            thread, oldest = next(iter(self._open.items()))
            if len(self._open) < MOST_OPEN and place.number - oldest.place.number <= FEW_LINES:
                return
            self._finish(thread)

    def _finish(self, thread: bytes | None) -> None:
        call = self._open.pop(thread)
        if not _may_be_ours(call):
            return
        moment = call.place.moment
        self._done.append(
            ServerFinding(
                file=self._file,
                line=call.place.number,
                time=None if moment is None else moment.replace(tzinfo=_UTC),
                thread=decoded(thread),
                exception=decoded(call.exception),
                method=decoded(call.method),
                key=decoded(call.key),
                frames=tuple(filter(None, map(decoded, call.frames))),
                call_id=call_id(call.call_id),
                error_code=decoded(call.code),
                server_url=decoded(call.actor),
            )
        )


def _may_be_same(thread: bytes | None, other: bytes | None) -> bool:
    """Return whether two names may be one thread's: a copy lost one of them, or cut it (``w3w``, ``p.12``)."""
    return thread is None or other is None or thread.endswith(other) or other.endswith(thread)


def _may_be_ours(call: _Call) -> bool:
    """Return whether a call may have failed by the fault: what is there of it says so, or nothing says otherwise."""
    if call.exception is None and not call.frames:
        return True  # a fault without its cause
    if call.exception not in (None, _EXCEPTION):
        return False
    if any(frame.endswith(_SYNC) for frame in call.frames):
        return True
    if call.frames and not any(frame.endswith(_INSERT) for frame in call.frames):
        return False
    return call.method == _METHOD or any(frame.endswith(_METHOD) for frame in call.frames)
