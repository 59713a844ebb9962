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
from wsusfix.errors import NotReachedError, PackageError, WsusFixError
from wsusfix.events import Observer, UploadProgress
from wsusfix.options import Timeouts
from wsusfix.present import Presentable
from wsusfix.remote.refusals import raise_refusal
from wsusfix.scripts.contracts import STAGING_NAME

if TYPE_CHECKING:
    from wsusfix.remote.session import Session

__all__ = ["Upload", "safe_name", "upload"]

#: Messages to a segment: what a broken line can cost each lane, against three round trips for each segment.
_CHUNKS: Final = 16
#: A lane costs three round trips for its authentication: worth it from so many segments on.
_SEGMENTS_A_LANE: Final = 2
#: After a fault, in seconds.
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
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
class _Segment:
    """A stretch of the file."""

    offset: int
    length: int

    @property
    def key(self) -> str:
        """Its name on the server."""
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
    staged = session.run(
        scripts.compose("stage"),
        {"staging_name": STAGING_NAME, "sha256": sha256, "size": str(size), "name": name, "reserve": str(reserve)},
        phase="upload",
        within=timeouts.assemble,
    )
    raise_refusal(staged, host=session.host, phase="upload")
    if staged["complete"]:
        on_event(UploadProgress(session.host, name, size, size, size, 0.0))
        return Upload(path=str(staged["path"]), sha256=sha256, size=size, sent=0)
    segments = _segments(size, session.chunk_size * _CHUNKS)
    there = {line.strip() for line in str(staged["segments"]).split("\n")}
    missing = [segment for segment in segments if segment.key not in there]
    resumed = size - sum(segment.length for segment in missing)
    progress = _Progress(session.host, name, size, resumed, on_event)
    _Sending(session, path, sha256, missing, progress, timeouts).run()
    answer = session.run(
        scripts.compose("assemble"),
        {"staging_name": STAGING_NAME, "sha256": sha256, "size": str(size), "name": name},
        phase="upload",
        within=timeouts.assemble,
    )
    raise_refusal(answer, host=session.host, phase="upload")
    return Upload(path=str(answer["path"]), sha256=sha256, size=size, sent=size - resumed)


def _segments(size: int, length: int) -> list[_Segment]:
    return [_Segment(offset, min(length, size - offset)) for offset in range(0, size, length)]


class _Sending:
    """The missing segments, spread over lanes; whatever a lane loses goes back and is sent again."""

    def __init__(
        self,
        session: Session,
        path: str,
        sha256: str,
        missing: list[_Segment],
        progress: _Progress,
        timeouts: Timeouts,
    ) -> None:
        self._session, self._path, self._sha256 = session, path, sha256
        self._progress, self._timeouts = progress, timeouts
        self._waiting = collections.deque(missing)
        self._reports: queue.SimpleQueue[_Segment | Exception | None] = queue.SimpleQueue()
        self._stop = threading.Event()

    def run(self) -> None:
        """Send everything, with fewer lanes after every fault.

        Raises:
            WsusFixError: the last fault, when no byte got through within ``timeouts.upload`` seconds.
        """
        lanes = min(self._session.lanes, max(1, len(self._waiting) // _SEGMENTS_A_LANE))
        deadline = time.monotonic() + self._timeouts.upload
        pause = _FIRST_PAUSE
        while self._waiting:
            before = len(self._waiting)
            fault = self._over_lanes(lanes) if lanes > 1 else self._over_session()
            if fault is None:
                continue
            if len(self._waiting) < before:
                deadline, pause = time.monotonic() + self._timeouts.upload, _FIRST_PAUSE
            if not isinstance(fault, WsusFixError) or not fault.retryable or time.monotonic() + pause > deadline:
                raise fault
            lanes = max(1, lanes // 2)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _over_session(self) -> Exception | None:
        """Send one segment after the other in the session itself, which takes up lost connections by its own rules."""
        while self._waiting:
            segment = self._waiting[0]
            try:
                self._send(self._session, segment, self._progress.under_way)
            except NotReachedError as error:
                return error
            self._waiting.popleft()
            self._progress.done(segment.length)
        return None

    def _over_lanes(self, count: int) -> Exception | None:
        """Send over lanes until all is sent or one of them fails; return its error."""
        self._stop.clear()
        lanes = [self._session.lane(number) for number in range(1, count + 1)]
        threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"wsusfix-upload-{number}", daemon=True)
            for number, lane in enumerate(lanes, 1)
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
                    case _Segment() as sent:
                        # Here and not in the lanes: an observer is called in the caller's thread.
                        self._progress.done(sent.length)
                    case Exception() as error:
                        fault = fault or error
        finally:
            # Also on Ctrl-C: no lane may go on behind the caller's back. Each ends with the message it is sending.
            self._stop.set()
            for thread in threads:
                thread.join()
        return fault

    def _work(self, lane: Session) -> None:
        segment: _Segment | None = None
        try:
            while not self._stop.is_set() and self._waiting:
                try:
                    segment = self._waiting.popleft()
                except IndexError:
                    break
                self._send(lane, segment, self._keep_going)
                self._reports.put(segment)
                segment = None
        except Exception as error:  # noqa: BLE001  (whatever it is, it is raised in the caller's thread)
            self._stop.set()
            self._reports.put(error)
        finally:
            if segment is not None:
                self._waiting.appendleft(segment)
            lane.close()
            self._reports.put(None)

    def _keep_going(self, _: int) -> None:
        """Called between two messages of a lane: end early when the others have failed or the caller has gone."""
        if self._stop.is_set():
            raise NotReachedError("the upload's other lanes have stopped")

    def _send(self, session: Session, segment: _Segment, under_way: Callable[[int], None]) -> None:
        answer = session.run(
            scripts.compose("receive"),
            {
                "staging_name": STAGING_NAME,
                "sha256": self._sha256,
                "offset": str(segment.offset),
                "length": str(segment.length),
            },
            phase="upload",
            within=self._timeouts.upload,
            chunks=_chunks(self._path, segment, session.chunk_size, under_way),
        )
        raise_refusal(answer, host=session.host, phase="upload")


class _Progress:
    """Counts bytes and tells the observer; bytes of a segment that is repeated do not count twice."""

    def __init__(self, host: str, name: str, total: int, resumed: int, on_event: Observer) -> None:
        self._host, self._name, self._total, self._resumed, self._tell = host, name, total, resumed, on_event
        self._sent = resumed
        self._began = time.monotonic()

    def done(self, count: int) -> None:
        """A whole segment is on the server."""
        self._sent += count
        self.under_way(0)

    def under_way(self, count: int) -> None:
        """So many bytes of the present segment are on their way."""
        sent = self._sent + count
        took = time.monotonic() - self._began
        rate = (sent - self._resumed) / took if took > 0.05 else 0.0
        self._tell(UploadProgress(self._host, self._name, sent, self._total, self._resumed, rate))


def _chunks(path: str, segment: _Segment, size: int, under_way: Callable[[int], None]) -> Callable[[], Iterator[bytes]]:
    """Return a function that reads the segment anew, for every try, in pieces that fill one message each."""

    def read() -> Iterator[bytes]:
        left = segment.length
        try:
            with open(path, "rb") as file:
                file.seek(segment.offset)
                while left:
                    chunk = file.read(min(size, left))
                    if not chunk:
                        raise PackageError("the file became shorter while it was uploaded", phase="upload")
                    left -= len(chunk)
                    yield chunk
                    if left:
                        under_way(segment.length - left)
        except OSError as error:
            raise PackageError(f"{path} can no longer be read: {error.strerror}", phase="upload") from error

    return read
