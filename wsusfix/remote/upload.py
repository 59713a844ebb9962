"""A file to the server: in segments of several messages, resumed from what is there, hashed as a whole at the end.

It knows files, not packages, and refuses to overwrite anything: a file's place on the server is named by its hash.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wsusfix import scripts
from wsusfix.errors import PackageError
from wsusfix.events import Observer, UploadProgress
from wsusfix.options import Timeouts
from wsusfix.present import Presentable
from wsusfix.remote.refusals import raise_refusal
from wsusfix.scripts.contracts import STAGING_NAME

if TYPE_CHECKING:
    from wsusfix.remote.session import Session

__all__ = ["Upload", "safe_name", "upload"]

#: Messages to a segment: what a broken line can cost at most, against three round trips for each segment.
_CHUNKS: Final = 16
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
    for segment in missing:
        answer = session.run(
            scripts.compose("receive"),
            {
                "staging_name": STAGING_NAME,
                "sha256": sha256,
                "offset": str(segment.offset),
                "length": str(segment.length),
            },
            phase="upload",
            within=timeouts.upload,
            chunks=_chunks(path, segment, session.chunk_size, progress),
        )
        raise_refusal(answer, host=session.host, phase="upload")
        progress.done(segment.length)
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


def _chunks(path: str, segment: _Segment, size: int, progress: _Progress) -> Callable[[], Iterator[bytes]]:
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
                        progress.under_way(segment.length - left)
        except OSError as error:
            raise PackageError(f"{path} can no longer be read: {error.strerror}", phase="upload") from error

    return read
