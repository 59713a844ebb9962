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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wsusfix import scripts
from wsusfix.errors import (
    DeadlineError,
    NotReachedError,
    PackageError,
    QuotaError,
    RefusedByServerError,
    ScriptError,
    WsusFixError,
)
from wsusfix.events import Note, Observer, UploadProgress
from wsusfix.options import Timeouts
from wsusfix.present import Presentable, bytes_text, printable
from wsusfix.remote.refusals import raise_refusal
from wsusfix.scripts.contracts import STAGING_NAME, Refusal, Scalar

if TYPE_CHECKING:
    import tenacity

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
_DOUBLINGS: Final = 10
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
        timeouts: ``upload`` is how long nothing may get through, ``upload_total`` how long it may take in all.
        on_event: is called in this thread.

    Raises:
        RefusedByServerError: the staging folder is not closed, or the drive is too full.
        PackageError: the file here cannot be read any more, or has changed.
        NotReachedError, DeadlineError: nothing got through for too long.
        DeadlineError: it took too long in all.
    """
    return _Uploading(session, path, sha256, size, reserve, timeouts, on_event).run()


class _Uploading:
    """An upload, in as many attempts as it takes."""

    def __init__(
        self, session: Session, path: str, sha256: str, size: int, reserve: int, timeouts: Timeouts, tell: Observer
    ) -> None:
        self._session, self._path, self._sha256, self._size = session, path, sha256, size
        self._timeouts, self._tell = timeouts, tell
        name = safe_name(path.replace("\\", "/").rsplit("/", 1)[-1])
        self._file = {"staging_name": STAGING_NAME, "sha256": sha256, "size": str(size), "name": name}
        self._reserve = str(reserve)
        self._progress = _Progress(session.host, name, size, tell)
        self._patience = _Patience(timeouts, session.lanes, self._progress)
        #: Whether the server has thrown everything away already, for it was another file.
        self._again = False

    def run(self) -> Upload:
        """Try until the file is there, a fault is of no use to try again after, or patience is at its end."""
        import tenacity  # like pypsrp, not before a server is talked to

        # What may be tried again is an attempt's result. An error that an attempt raises, an observer's own among
        # them, goes through.
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(self._patience.goes_on_after),
            wait=lambda _: self._patience.pause,
            stop=lambda state: self._patience.ends_within(state.upcoming_sleep),
            before_sleep=self._tell_fault,
            retry_error_callback=self._give_up,
        )
        result: Upload | WsusFixError = retrying(self._attempt)
        if isinstance(result, WsusFixError):
            raise result
        return result

    def _attempt(self) -> Upload | WsusFixError:
        """Bring what the server does not have; return the file there, or the fault that came in between."""
        staged = self._ask("stage", {**self._file, "reserve": self._reserve})
        raise_refusal(staged, host=self._session.host, phase="upload")
        missing = [] if staged["complete"] else _missing(self._size, str(staged["segments"]))
        self._progress.reached(self._size - sum(segment.length for segment in missing))
        if staged["complete"]:
            return self._arrived(staged)
        self._patience.look()
        if missing:
            if self._patience.was_full:
                try:
                    self._session.make_room("upload")
                except _LOST as lost:
                    return lost
            fault = _Sending(
                self._session, self._path, self._sha256, missing, self._patience, self._progress, self._timeouts
            ).run()
            if fault is not None:
                return fault
        answer = self._ask("assemble", self._file)
        try:
            raise_refusal(answer, host=self._session.host, phase="upload")
        except RefusedByServerError as refusal:
            if refusal.reason != Refusal.HASH_MISMATCH.value or self._again:
                return refusal
            # The server has thrown everything away. If it was the file here that changed, another try is no use.
            _check(self._session.host, self._path, self._sha256)
            self._tell(Note(self._session.host, "upload", f"{refusal.message}; sending all of it once more"))
            self._again = True
            self._patience.begin_anew()
            return self._attempt()
        return self._arrived(answer)

    def _ask(self, name: str, parameters: Mapping[str, str]) -> dict[str, Scalar]:
        """Run a script, which the session itself repeats where that is of use."""
        within = min(self._timeouts.assemble, self._patience.left)
        try:
            return self._session.run(scripts.compose(name), parameters, phase="upload", within=within)
        except _LOST as error:
            if error.retryable and within < self._timeouts.assemble:
                raise self._patience.late(error) from None
            raise

    def _arrived(self, answer: Mapping[str, Scalar]) -> Upload:
        sent = self._size - self._progress.resumed
        return Upload(path=str(answer["path"]), sha256=self._sha256, size=self._size, sent=sent)

    def _tell_fault(self, state: tenacity.RetryCallState) -> None:
        fault = _result(state)
        self._tell(Note(self._session.host, "upload", f"{fault.message}; going on with what is missing"))

    def _give_up(self, state: tenacity.RetryCallState) -> WsusFixError:
        fault = _result(state)
        return self._patience.late(fault) if state.upcoming_sleep >= self._patience.left else fault


def _result(state: tenacity.RetryCallState) -> WsusFixError:
    """Return the fault that the last attempt came to; tenacity asks only where there is one."""
    assert state.outcome is not None
    fault = state.outcome.result()
    assert isinstance(fault, WsusFixError)
    return fault


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
    """Decides whether a broken upload goes on: while bytes get through, for some time when none do, not for ever.

    What the server has decides: that puts the deadline off, and says how many lanes are next.
    """

    def __init__(self, timeouts: Timeouts, lanes: int, progress: _Progress) -> None:
        self._most = lanes
        self._timeouts = timeouts
        self._progress = progress
        self._end = time.monotonic() + timeouts.upload_total
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing is there any more, which is nobody's fault; how long it may take in all stays as it is."""
        self.lanes = self._most
        #: Bytes that the last look has shown, and the most that ever got through.
        self._reached = self._best = -1
        self._deadline = 0.0
        #: Looks at the server, one after the other, that have shown no gain.
        self._in_vain = 0
        #: The last fault, if a look at the server is to decide about it.
        self._doubt: WsusFixError | None = None
        #: Whether the shell had no place for any lane that was left with work to do.
        self.was_full = False

    @property
    def left(self) -> float:
        """Seconds until it has taken too long in all."""
        return self._end - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it has taken too long in all."""
        return self.left <= 0

    def late(self, fault: WsusFixError | None = None) -> DeadlineError:
        """Make the error that it took too long in all; *fault* was in the way, if anything was."""
        progress = self._progress
        text = (
            f"the upload has not ended within {self._timeouts.upload_total:.10g} s: "
            f"{bytes_text(max(0, progress.sent))} of {bytes_text(progress.total)} got through"
        )
        return DeadlineError(
            f"{text}; in the end {fault.message}" if fault is not None else text,
            host=progress.host,
            phase="upload",
            hint="run again: it goes on from what the server has; or give timeouts.upload_total more seconds",
        )

    def look(self) -> None:
        """What is there now was looked at, and told to the progress.

        Raises:
            WsusFixError: the last fault, if this look was to decide about it and shows no gain.
        """
        self._put_off()
        if self._progress.sent > self._reached:
            self._reached = self._progress.sent
            self._in_vain, self._doubt = 0, None
            return
        if self._doubt is not None:
            raise self._doubt
        self._in_vain += 1
        if self.lanes > 1:
            # Fewer, for a line or a server that cannot bear as many; they have as long as the others had.
            self.lanes //= 2
            self._deadline = time.monotonic() + self._timeouts.upload

    def _put_off(self) -> None:
        """Put the deadline off for what has never got through before, though a look may yet show that it was lost."""
        if self._progress.sent > self._best:
            self._best, self._deadline = self._progress.sent, time.monotonic() + self._timeouts.upload

    def goes_on_after(self, result: Upload | WsusFixError) -> bool:
        """Whether another attempt is of use, if there is time for it."""
        if isinstance(result, Upload):
            return False
        self._put_off()
        self.was_full = isinstance(result, QuotaError)
        if isinstance(result, ScriptError) or getattr(result, "reason", "") in _LOOK_AGAIN:
            self._doubt = result
        return result.retryable or self._doubt is not None

    @property
    def pause(self) -> float:
        """Seconds until the next attempt; a look that is to decide is taken at once."""
        # Hours of looks in vain would double it to more than a float holds.
        doubled = _FIRST_PAUSE * 2 ** min(self._in_vain, _DOUBLINGS)
        return 0.0 if self._doubt is not None else min(doubled, _LONGEST_PAUSE)

    def ends_within(self, pause: float) -> bool:
        """Whether there is no time for another attempt after the pause."""
        late = self._doubt is None and time.monotonic() + pause > self._deadline
        return late or pause >= self.left


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
        patience: _Patience,
        progress: _Progress,
        timeouts: Timeouts,
    ) -> None:
        self._session, self._path, self._sha256 = session, path, sha256
        self._patience, self._progress, self._timeouts = patience, progress, timeouts
        self._lanes = max(1, min(patience.lanes, len(missing) // _SEGMENTS_A_LANE))
        self._waiting = collections.deque(_stretches(missing, self._lanes))
        #: From the lanes to the caller's thread: bytes that got through or were lost, an error, and None at the end.
        self._reports: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()

    def run(self) -> WsusFixError | None:
        """Send everything; return what the attempt failed in, if it did.

        Raises:
            DeadlineError: it took too long in all.
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

    def _follow(self, working: int) -> WsusFixError | None:
        """Tell of progress until all lanes have ended, or one in more than a broken line; return the first fault."""
        fault: WsusFixError | None = None
        while working:
            if self._patience.is_over:
                raise self._patience.late(fault)
            try:
                report = self._reports.get(timeout=min(_TICK, max(0.0, self._patience.left)))
            except queue.Empty:
                continue
            match report:
                case None:
                    working -= 1
                case int():
                    self._progress.more(report)
                case NotReachedError() | DeadlineError():
                    fault = fault or report
                case WsusFixError():
                    return report
                case Exception():
                    raise report
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
        self.sent = -1  #: bytes that have got through; -1 before the first look
        self.host, self.total = host, total
        self._name, self._tell = name, on_event
        self._began = time.monotonic()

    def reached(self, there: int) -> None:
        """So many bytes are on the server for certain; what was on its way beyond them is lost."""
        if self.resumed < 0:
            self.resumed = there
        if there != self.sent:
            self.sent = there
            self._report()

    def more(self, count: int) -> None:
        """So many more bytes got through; fewer than none were lost again."""
        if count:
            self.sent = max(0, min(self.sent + count, self.total))
            self._report()

    def _report(self) -> None:
        took = time.monotonic() - self._began
        rate = max(0.0, (self.sent - self.resumed) / took) if took > _TELLING else 0.0
        self._tell(UploadProgress(self.host, self._name, self.sent, self.total, self.resumed, rate))


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
