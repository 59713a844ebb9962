"""A file to the server: in segments over several lanes, resumed from what is there, hashed as a whole at the end.

A lane is a pipeline of the session's own shell over a connection of its own: the line's latency is shared, the shell's
quota is not touched.  This room knows files, not packages, and refuses to overwrite anything: a file's place on the
server is named by its hash.

What the server has decides, never what was sent: a broken attempt ends with a look at the server, and the next one
brings what is missing there.
"""

from __future__ import annotations

import collections
import hashlib
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wsusfix import scripts
from wsusfix.errors import (
    DeadlineError,
    NotReachedError,
    PackageError,
    RefusedByServerError,
    ScriptError,
)
from wsusfix.events import Note, Observer, UploadProgress
from wsusfix.options import Timeouts
from wsusfix.present import Presentable, printable
from wsusfix.remote.refusals import raise_refusal
from wsusfix.scripts.contracts import STAGING_NAME, Refusal

if TYPE_CHECKING:
    from wsusfix.remote.session import Lane, Session

__all__ = ["Upload", "safe_name", "upload"]

#: Bytes that fill one Send envelope of 150 KiB: base64 in CLIXML, and that as base64 in the envelope.
_CHUNK: Final = 85_000
#: A segment, three messages, is what a broken line can cost each lane at most.
_SEGMENT: Final = 3 * _CHUNK
#: Segments that one pipeline brings at most: it costs three round trips of its own, however many it brings.
_SEGMENTS_A_STRETCH: Final = 32
#: A lane costs three round trips for its authentication: worth it from so many segments on.
_SEGMENTS_A_LANE: Final = 3
#: After a fault, in seconds.
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
#: A rate is told only after so many seconds.
_TELLING: Final = 0.2
#: Ctrl-C is heard everywhere; on Windows only between two waits, which are so long, in seconds.
_TICK: Final = 0.5
#: Refusals that somebody else's upload of the same file explains, or a line that broke: another look decides.
_LOOK_AGAIN: Final = frozenset({Refusal.NOT_STAGED, Refusal.SHORT_SEGMENT, Refusal.MISSING_SEGMENT})
#: What costs a lane its connection, or its place in the shell, but not the others theirs.
_LOST: Final = (NotReachedError, DeadlineError)
_CHANGED_HINT: Final = "run again when nobody writes to it"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, repr=False)
class Upload(Presentable):
    """A file on the server: its path there, hash checked; ``sent`` bytes of it in this run."""

    path: str
    sha256: str
    size: int
    sent: int

    def _summary(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class _Stretch:
    """A part of the file: a segment, or several side by side."""

    offset: int
    length: int

    @property
    def key(self) -> str:
        """A segment's name in the server's answer."""
        return f"{self.offset}-{self.length}"

    def after(self, length: int) -> _Stretch:
        """What is left of it without its first *length* bytes."""
        return _Stretch(self.offset + length, self.length - length)


def safe_name(name: str) -> str:
    """Return *name* fit for a path without blanks in any code page: the job's command line must not need quotes.

    Its suffix stays: Windows goes by it.

    >>> safe_name("WSUS KB954960 (x64).exe")
    'WSUS_KB954960_x64.exe'
    """
    stem, suffix = os.path.splitext(name)
    cleaned = _UNSAFE.sub("_", stem).strip("._-")[-80:].lstrip("._-") or "file"
    return cleaned + _UNSAFE.sub("", suffix)[:10].rstrip(".")


def upload(
    session: Session, path: str, *, sha256: str, size: int, reserve: int, timeouts: Timeouts, on_event: Observer
) -> Upload:
    """Bring a file to the server and return where it is; what is there already is not sent again.

    Whatever ends it early, an observer's exception and Ctrl-C too, ends all its lanes at once.

    Args:
        session: stays usable whatever happens; its shell may be another one afterwards.
        path: the file here.
        sha256: of the whole file, lower-case hexadecimal; the server hashes what it got and compares.
        size: in bytes.
        reserve: free bytes the server's drive must keep besides the file.
        timeouts: ``upload`` is how long nothing may get through; what gets through, however slowly, is let go on.
        on_event: is called in this thread.

    Raises:
        RefusedByServerError: the staging folder is not closed, or the drive is too full.
        PackageError: the file here cannot be read any more, or has changed.
        NotReachedError, DeadlineError: nothing got through for too long.
    """
    name = safe_name(path.replace("\\", "/").rsplit("/", 1)[-1])
    file = {"staging_name": STAGING_NAME, "sha256": sha256, "size": str(size), "name": name}
    progress = _Progress(session.host, name, size, on_event)
    patience = _Patience(timeouts.upload, session.lanes)
    again = False
    while True:
        staged = session.run(
            scripts.compose("stage"), {**file, "reserve": str(reserve)}, phase="upload", within=timeouts.assemble
        )
        raise_refusal(staged, host=session.host, phase="upload")
        missing = [] if staged["complete"] else _missing(size, str(staged["segments"]))
        there = size - sum(segment.length for segment in missing)
        progress.reached(there)
        if staged["complete"]:
            return Upload(path=str(staged["path"]), sha256=sha256, size=size, sent=size - progress.resumed)
        patience.reached(there)
        if missing:
            fault = _Sending(session, path, sha256, missing, patience.lanes, progress, timeouts).run()
            if fault is not None:
                patience.wait(fault)
                on_event(
                    Note(session.host, "upload", f"{getattr(fault, 'message', fault)}; going on with what is missing")
                )
                continue
        answer = session.run(scripts.compose("assemble"), file, phase="upload", within=timeouts.assemble)
        try:
            raise_refusal(answer, host=session.host, phase="upload")
        except RefusedByServerError as refusal:
            if refusal.reason != Refusal.HASH_MISMATCH.value or again:
                patience.wait(refusal)
                continue
            # The server has thrown everything away. If it was the file here that changed, another try is no use.
            _check(session.host, path, sha256)
            on_event(Note(session.host, "upload", f"{refusal.message}; sending all of it once more"))
            again, patience = True, _Patience(timeouts.upload, session.lanes)
        else:
            return Upload(path=str(answer["path"]), sha256=sha256, size=size, sent=size - progress.resumed)


def _missing(size: int, there: str) -> list[_Stretch]:
    """Return the segments of the file that the server does not have; the grid depends on nothing but the sizes."""
    known = {line.strip() for line in there.split("\n")}
    segments = (_Stretch(offset, min(_SEGMENT, size - offset)) for offset in range(0, size, _SEGMENT))
    return [segment for segment in segments if segment.key not in known]


def _stretches(segments: list[_Stretch], lanes: int) -> Iterator[_Stretch]:
    """Join segments that lie side by side, so that every lane has as many stretches as the others, and as long."""
    share = -(-len(segments) // lanes)
    most = -(-share // -(-share // _SEGMENTS_A_STRETCH))
    joined, count = segments[0], 1
    for segment in segments[1:]:
        if count < most and segment.offset == joined.offset + joined.length:
            joined = _Stretch(joined.offset, joined.length + segment.length)
            count += 1
        else:
            yield joined
            joined, count = segment, 1
    yield joined


class _Patience:
    """Decides whether a broken upload goes on: while bytes get through, and for some time when none do.

    Not by tenacity, which knows errors and attempts: here what the server has decides, puts the deadline off, and says
    how many lanes are next.
    """

    def __init__(self, seconds: float, lanes: int) -> None:
        self.lanes = lanes
        self._seconds = seconds
        self._reached = -1
        self._deadline = 0.0
        self._pause = _FIRST_PAUSE
        self._doubt: Exception | None = None

    def reached(self, there: int) -> None:
        """So many bytes are on the server now.

        Raises:
            Exception: the last fault, if a look at the server was to decide about it and shows no gain.
        """
        if there > self._reached:
            self._reached, self._deadline = there, time.monotonic() + self._seconds
            self._pause, self._doubt = _FIRST_PAUSE, None
            return
        if self._doubt is not None:
            raise self._doubt
        # Fewer, for a line or a server that cannot bear as many.
        self.lanes = max(1, self.lanes // 2)

    def wait(self, fault: Exception) -> None:
        """Pause before the next look at the server.

        Raises:
            Exception: the fault, when repeating is no use or nothing got through for too long.
        """
        if isinstance(fault, ScriptError) or getattr(fault, "reason", "") in _LOOK_AGAIN:
            self._doubt = fault
        elif not getattr(fault, "retryable", False) or time.monotonic() + self._pause > self._deadline:
            raise fault
        else:
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)


class _Sending:
    """One attempt at the missing segments, spread over lanes.

    A lane that loses its connection, or that the shell has no room for, leaves its work to the others; when none is
    left, the attempt has failed.
    """

    def __init__(
        self,
        session: Session,
        path: str,
        sha256: str,
        missing: list[_Stretch],
        lanes: int,
        progress: _Progress,
        timeouts: Timeouts,
    ) -> None:
        self._session, self._path, self._sha256 = session, path, sha256
        self._progress, self._timeouts = progress, timeouts
        self._lanes = max(1, min(lanes, len(missing) // _SEGMENTS_A_LANE))
        self._waiting = collections.deque(_stretches(missing, self._lanes))
        #: From the lanes to the caller's thread: bytes that got through or were lost, an error, and None at the end.
        self._reports: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()

    def run(self) -> Exception | None:
        """Send everything; return what the attempt failed in, if it did.

        Raises:
            BaseException: what the observer raised, or Ctrl-C.
        """
        lanes = [self._session.lane(number) for number in range(1, self._lanes + 1)]
        threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"wsusfix-upload-{number}", daemon=True)
            for number, lane in enumerate(lanes, 1)
        ]
        cut = True
        try:
            for thread in threads:
                thread.start()
            fault = self._follow(len(threads))
            cut = fault is not None and not isinstance(fault, _LOST)
        finally:
            # However it ended: no lane goes on behind the caller's back.
            for lane in lanes if cut else ():
                lane.cut()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            if cut:
                # With the shell end the pipelines that still wait for their input; the next run opens another.
                self._session.close()
        return fault if cut or self._waiting else None

    def _follow(self, working: int) -> Exception | None:
        """Tell of progress until all lanes have ended, or one in more than a broken line; return the first fault."""
        fault: Exception | None = None
        while working:
            try:
                report = self._reports.get(timeout=_TICK)
            except queue.Empty:
                continue
            match report:
                case None:
                    working -= 1
                case int():
                    self._progress.more(report)
                case NotReachedError() | DeadlineError():
                    fault = fault or report
                case Exception():
                    return report
        return fault

    def _work(self, lane: Lane) -> None:
        """Send stretches until there are none; runs in a thread of its own."""
        try:
            while True:
                try:
                    stretch = self._waiting.popleft()
                except IndexError:
                    break
                self._send(lane, stretch)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is looked at in the caller's thread)
            self._reports.put(error)
        finally:
            lane.close()
            self._reports.put(None)

    def _send(self, lane: Lane, stretch: _Stretch) -> None:
        told = 0

        def taken(count: int) -> None:
            nonlocal told
            told += count
            self._reports.put(count)

        try:
            answer = lane.run(
                scripts.compose("receive"),
                {
                    "staging_name": STAGING_NAME,
                    "sha256": self._sha256,
                    "offset": str(stretch.offset),
                    "length": str(stretch.length),
                    "segment": str(_SEGMENT),
                },
                phase="upload",
                within=self._timeouts.upload,
                chunks=lambda: _chunks(lane.host, self._path, stretch, taken),
            )
        except _LOST:
            whole = told // _SEGMENT * _SEGMENT
            self._waiting.appendleft(stretch.after(whole))
            self._reports.put(whole - told)
            raise
        raise_refusal(answer, host=lane.host, phase="upload")
        self._reports.put(stretch.length - told)


class _Progress:
    """Counts bytes and tells the observer."""

    def __init__(self, host: str, name: str, total: int, on_event: Observer) -> None:
        self.resumed = -1  #: bytes that were there before this run; -1 before the first look
        self._host, self._name, self._total, self._tell = host, name, total, on_event
        self._sent = -1
        self._began = time.monotonic()

    def reached(self, there: int) -> None:
        """So many bytes are on the server for certain; what was on its way beyond them is lost."""
        if self.resumed < 0:
            self.resumed = there
        if there != self._sent:
            self._sent = there
            self._report()

    def more(self, count: int) -> None:
        """So many more bytes got through; fewer than none were lost again."""
        if count:
            self._sent = max(0, min(self._sent + count, self._total))
            self._report()

    def _report(self) -> None:
        took = time.monotonic() - self._began
        rate = max(0.0, (self._sent - self.resumed) / took) if took > _TELLING else 0.0
        self._tell(UploadProgress(self._host, self._name, self._sent, self._total, self.resumed, rate))


def _chunks(host: str, path: str, stretch: _Stretch, taken: Callable[[int], None]) -> Iterator[bytes]:
    """Read the stretch in pieces that fill one message each.

    Args:
        host: for errors.
        path: the file here.
        stretch: of it.
        taken: is told of every piece that the server has taken. Whoever sends reads one piece ahead: when it asks for
            the next one, the last one is still to be sent, and the one before that was taken.
    """
    left, before, last = stretch.length, 0, 0
    try:
        with open(path, "rb") as file:
            file.seek(stretch.offset)
            while left:
                if before:
                    taken(before)
                chunk = file.read(min(_CHUNK, left))
                if not chunk:
                    raise PackageError(
                        "the file became shorter while it was uploaded", host=host, phase="upload", hint=_CHANGED_HINT
                    )
                before, last = last, len(chunk)
                left -= last
                yield chunk
    except OSError as error:
        raise _unreadable(host, path, error) from error


def _unreadable(host: str, path: str, error: OSError) -> PackageError:
    return PackageError(
        f"{printable(path, 260)} can no longer be read: {error.strerror or type(error).__name__}",
        host=host,
        phase="upload",
        hint="is it still there, and the drive or share it is on? then run again: what came through is kept",
    )


def _check(host: str, path: str, sha256: str) -> None:
    """Look whether the file here is still the one that was hashed before.

    Raises:
        PackageError: it is not.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise _unreadable(host, path, error) from error
    if digest.hexdigest() != sha256:
        raise PackageError("the file changed while it was uploaded", host=host, phase="upload", hint=_CHANGED_HINT)
