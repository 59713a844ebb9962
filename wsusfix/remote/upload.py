"""A file to the server: in segments over several lanes, resumed from what is there, hashed as a whole at the end.

A lane is a pipeline of the session's own shell over a connection of its own: the line's latency is shared, the shell's
quota is not touched.  This room knows files, not packages, and refuses to overwrite anything: a file's place on the
server is named by its hash.
"""

from __future__ import annotations

import collections
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wsusfix import scripts
from wsusfix.errors import JobError, NotReachedError, PackageError, WsusFixError
from wsusfix.events import Observer, UploadProgress
from wsusfix.options import Timeouts
from wsusfix.present import Presentable
from wsusfix.remote.refusals import raise_refusal
from wsusfix.scripts.contracts import STAGING_NAME

if TYPE_CHECKING:
    from wsusfix.remote.session import Session

__all__ = ["Upload", "safe_name", "upload"]

#: Bytes that fill one Send envelope of 150 KiB: base64 in CLIXML, and that as base64 in the envelope.
_CHUNK: Final = 85_000
#: Messages to a segment: what a broken line can cost each lane at most.
_CHUNKS: Final = 3
#: Segments to a stretch, which is what one pipeline brings: three round trips for each, whatever its length.
_SEGMENTS: Final = 8
#: A lane costs three round trips for its authentication: worth it from so many segments on.
_SEGMENTS_A_LANE: Final = 4
#: After a fault, in seconds.
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
#: A rate is told only after so many seconds.
_TELLING: Final = 0.2
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


def safe_name(name: str) -> str:
    """Return *name* fit for a path without blanks in any code page: the job's command line must not need quotes.

    >>> safe_name("WSUS KB954960 (x64).exe")
    'WSUS_KB954960_x64_.exe'
    """
    cleaned = _UNSAFE.sub("_", name).strip("._")[-80:].lstrip("._-")
    return cleaned or "file"


def upload(
    session: Session, path: str, *, sha256: str, size: int, reserve: int, timeouts: Timeouts, on_event: Observer
) -> Upload:
    """Bring a file to the server and return where it is; what is there already is not sent again.

    Args:
        path: the file here.
        sha256: of the whole file, lower-case hexadecimal; the server hashes what it got and compares.
        size: in bytes.
        reserve: free bytes the server's drive must keep besides the file.

    Raises:
        RefusedByServerError: the staging folder is not closed, or the drive is too full.
        PackageError: the file here cannot be read any more, or has changed.
    """
    name = safe_name(path.replace("\\", "/").rsplit("/", 1)[-1])
    file = {"staging_name": STAGING_NAME, "sha256": sha256, "size": str(size), "name": name}
    resumed: int | None = None
    progress: _Progress | None = None
    faults = _Faults(timeouts.upload, session.lanes)
    while True:
        staged = session.run(
            scripts.compose("stage"), {**file, "reserve": str(reserve)}, phase="upload", within=timeouts.assemble
        )
        raise_refusal(staged, host=session.host, phase="upload")
        missing = [] if staged["complete"] else _missing(size, _CHUNK * _CHUNKS, str(staged["segments"]))
        there = size - sum(segment.length for segment in missing)
        if resumed is None or progress is None:
            resumed = there
            progress = _Progress(session.host, name, size, resumed, on_event)
        progress.reached(there)
        if staged["complete"]:
            return Upload(path=str(staged["path"]), sha256=sha256, size=size, sent=size - resumed)
        if not missing:
            break
        faults.struck(_Sending(session, path, sha256, missing, progress, timeouts, faults.lanes).run(), there)
    answer = session.run(scripts.compose("assemble"), file, phase="upload", within=timeouts.assemble)
    raise_refusal(answer, host=session.host, phase="upload")
    return Upload(path=str(answer["path"]), sha256=sha256, size=size, sent=size - resumed)


def _missing(size: int, length: int, there: str) -> list[_Stretch]:
    """Return the segments of the file that the server does not have; the grid depends on nothing but the sizes."""
    known = {line.strip() for line in there.split("\n")}
    segments = (_Stretch(offset, min(length, size - offset)) for offset in range(0, size, length))
    return [segment for segment in segments if segment.key not in known]


def _stretches(segments: list[_Stretch], most: int) -> Iterator[_Stretch]:
    """Join segments that lie side by side, up to *most* of them: one pipeline brings them all."""
    joined: _Stretch | None = None
    count = 0
    for segment in segments:
        if joined is not None and count < most and segment.offset == joined.offset + joined.length:
            joined = _Stretch(joined.offset, joined.length + segment.length)
            count += 1
            continue
        if joined is not None:
            yield joined
        joined, count = segment, 1
    if joined is not None:
        yield joined


class _Faults:
    """Decides whether a broken upload goes on: while bytes get through, with fewer lanes after every fault."""

    def __init__(self, patience: float, lanes: int) -> None:
        self.lanes = lanes
        self._patience = patience
        self._reached = -1
        self._deadline = 0.0
        self._pause = _FIRST_PAUSE

    def struck(self, fault: Exception | None, reached: int) -> None:
        """Wait before the next attempt.

        Args:
            fault: what the attempt ended in, ``None`` when it ended well.
            reached: how many bytes the server had before it.

        Raises:
            Exception: the fault, when repeating is no use or nothing got through for too long.
        """
        if reached > self._reached:
            self._reached, self._deadline = reached, time.monotonic() + self._patience
            self._pause = _FIRST_PAUSE
        elif fault is None:
            fault = JobError("the server does not keep what is sent to it", phase="upload", hint="look at its drive")
        if fault is None:
            return
        if not isinstance(fault, WsusFixError) or not fault.retryable:
            raise fault
        if time.monotonic() + self._pause > self._deadline:
            raise fault
        self.lanes = max(1, self.lanes // 2)
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


class _Sending:
    """One attempt at the missing segments, spread over lanes; it ends with all of them sent, or with a fault."""

    def __init__(
        self,
        session: Session,
        path: str,
        sha256: str,
        missing: list[_Stretch],
        progress: _Progress,
        timeouts: Timeouts,
        lanes: int,
    ) -> None:
        self._session, self._path, self._sha256 = session, path, sha256
        self._progress, self._timeouts = progress, timeouts
        self._segment = max(segment.length for segment in missing)
        self._lanes = min(lanes, max(1, len(missing) // _SEGMENTS_A_LANE))
        # Short stretches for short files, so that every lane has its share.
        most = max(1, min(_SEGMENTS, len(missing) // self._lanes))
        self._waiting = collections.deque(_stretches(missing, most))
        self._reports: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()
        self._stop = threading.Event()

    def run(self) -> Exception | None:
        """Send everything; return the first fault, if there was one."""
        return self._over_lanes() if self._lanes > 1 else self._over_session()

    def _over_session(self) -> Exception | None:
        while self._waiting:
            try:
                self._send(self._session, self._waiting.popleft(), self._progress.more)
            except NotReachedError as error:
                return error
        return None

    def _over_lanes(self) -> Exception | None:
        threads = [
            threading.Thread(
                target=self._work, args=(self._session.lane(number),), name=f"wsusfix-upload-{number}", daemon=True
            )
            for number in range(1, self._lanes + 1)
        ]
        for thread in threads:
            thread.start()
        fault: Exception | None = None
        working = len(threads)
        try:
            while working:
                match self._reports.get():
                    case None:
                        working -= 1
                    case int() as sent:
                        # Here and not in the lanes: an observer is called in the caller's thread.
                        self._progress.more(sent)
                    case Exception() as error:
                        fault = fault or error
        finally:
            # Also on Ctrl-C: no lane may go on behind the caller's back. Each ends with the message it is sending,
            # which has a deadline of its own.
            self._stop.set()
            for thread in threads:
                thread.join()
        return fault

    def _work(self, lane: Session) -> None:
        try:
            while not self._stop.is_set():
                try:
                    stretch = self._waiting.popleft()
                except IndexError:
                    break
                self._send(lane, stretch, self._report)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is raised in the caller's thread)
            self._stop.set()
            self._reports.put(error)
        finally:
            lane.close()
            self._reports.put(None)

    def _report(self, sent: int) -> None:
        """Called between two messages of a lane: end early when the others have failed or the caller has gone."""
        if self._stop.is_set():
            raise NotReachedError("the upload's other lanes have stopped")
        self._reports.put(sent)

    def _send(self, session: Session, stretch: _Stretch, sent: Callable[[int], None]) -> None:
        answer = session.run(
            scripts.compose("receive"),
            {
                "staging_name": STAGING_NAME,
                "sha256": self._sha256,
                "offset": str(stretch.offset),
                "length": str(stretch.length),
                "segment": str(self._segment),
            },
            phase="upload",
            within=self._timeouts.upload,
            chunks=_chunks(self._path, stretch, sent),
        )
        raise_refusal(answer, host=session.host, phase="upload")


class _Progress:
    """Counts bytes and tells the observer."""

    def __init__(self, host: str, name: str, total: int, resumed: int, on_event: Observer) -> None:
        self._host, self._name, self._total, self._resumed, self._tell = host, name, total, resumed, on_event
        self._sent = -1
        self._began = time.monotonic()

    def reached(self, there: int) -> None:
        """So many bytes are on the server for certain; what was on its way beyond them is lost."""
        if there != self._sent:
            self._sent = there
            self._report()

    def more(self, count: int) -> None:
        """So many more bytes are on their way."""
        self._sent = min(self._sent + count, self._total)
        self._report()

    def _report(self) -> None:
        took = time.monotonic() - self._began
        rate = max(0.0, (self._sent - self._resumed) / took) if took > _TELLING else 0.0
        self._tell(UploadProgress(self._host, self._name, self._sent, self._total, self._resumed, rate))


def _chunks(path: str, stretch: _Stretch, sent: Callable[[int], None]) -> Callable[[], Iterator[bytes]]:
    """Return a function that reads the stretch anew, for every try, in pieces that fill one message each."""

    def read() -> Iterator[bytes]:
        left = stretch.length
        try:
            with open(path, "rb") as file:
                file.seek(stretch.offset)
                while left:
                    chunk = file.read(min(_CHUNK, left))
                    if not chunk:
                        raise PackageError("the file became shorter while it was uploaded", phase="upload")
                    left -= len(chunk)
                    yield chunk
                    sent(len(chunk))
        except WsusFixError:
            raise
        except OSError as error:
            raise PackageError(f"{path} can no longer be read: {error.strerror}", phase="upload") from error

    return read
