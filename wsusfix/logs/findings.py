"""What is found in logs: the client's side of a failed call, the server's side, and files that cannot be read.

A finding is *conclusive* when all that advisory 954960 shows of the symptom is there; else it says what is missing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from wsusfix import advisory
from wsusfix.present import Presentable, printable, rows

__all__ = ["ClientFinding", "FileKind", "Finding", "LogFile", "LogProblem", "ServerFinding"]


class FileKind(str, enum.Enum):
    """What a file is, judged by its lines and never by its name."""

    CLIENT = "client"
    CLIENT_LATER = "client_later"
    SERVER = "server"
    MIXED = "mixed"
    OTHER = "other"
    EMPTY = "empty"
    BINARY = "binary"
    UNREADABLE = "unreadable"

    @property
    def words(self) -> str:
        """The kind as a person says it."""
        return {"client_later": "client of Windows 10 or later", "mixed": "client and server"}.get(
            self.value, self.value
        )


@dataclass(frozen=True, repr=False)
class ClientFinding(Presentable):
    """One failed call as the client logged it: lines of one process and thread (advisory 954960, client sample).

    ``time`` carries its zone where the log's header gives it, and is the client's local time without one elsewhere;
    whatever a damaged copy lost is ``None``.  ``later_agent`` says that the lines are those of an agent of Windows 10
    or later, which the advisory does not speak of.
    """

    file: str
    line: int
    time: datetime | None = None
    pid: int | None = None
    tid: str | None = None
    error: str | None = None
    http_status: int | None = None
    soap_code: str | None = None
    error_code: str | None = None
    method: str | None = None
    call_id: str | None = None
    server_url: str | None = None
    later_agent: bool = False

    @property
    def kind(self) -> str:
        """``client``."""
        return FileKind.CLIENT.value

    @property
    def caller(self) -> tuple[object, ...] | None:
        """What tells the calls of one log apart: process and thread; ``None`` where the copy lost them."""
        return None if self.pid is None else (self.pid, self.tid)

    @property
    def missing(self) -> tuple[str, ...]:
        """What the proof lacks, in words; nothing when the finding is conclusive."""
        soap = None if self.soap_code is None else int(self.soap_code, 16)
        method = self.method or ""
        needed = (
            (f"error {advisory.CLIENT_ERROR}", self.error is not None),
            # A copy may have lost the end of the line: a status that is not there says nothing against it.
            (f"HTTP status {advisory.CLIENT_HTTP_STATUS}", self.http_status in (None, advisory.CLIENT_HTTP_STATUS)),
            (f"SOAP fault 0x{advisory.CLIENT_SOAP_FAULT:06x}", soap == advisory.CLIENT_SOAP_FAULT),
            (f"ErrorCode {advisory.SERVER_ERROR_CODE}", self.error_code == advisory.SERVER_ERROR_CODE),
            (f"method {advisory.CLIENT_METHOD}", method.endswith(f"/{advisory.CLIENT_METHOD}")),
            ("call ID", self.call_id is not None),
            ("an agent of the advisory's time", not self.later_agent),
        )
        return tuple(what for what, there in needed if not there)

    @property
    def conclusive(self) -> bool:
        """Whether the group shows all of the symptom; an error by itself never does."""
        return not self.missing

    def _extra(self) -> Mapping[str, object]:
        return {"kind": self.kind, "conclusive": self.conclusive, "missing": self.missing}

    def _summary(self) -> str:
        return f"{self.file}:{self.line} {_strength(self.conclusive)}"

    def __str__(self) -> str:
        process = None if self.pid is None else f"process {self.pid}, thread {self.tid}"
        return _text(self, [("of", process), ("HTTP status", self.http_status), ("server", self.server_url)])


@dataclass(frozen=True, repr=False)
class ServerFinding(Presentable):
    """One failed call as the server logged it: exception, frames, the fault's ID (advisory 954960, server sample).

    ``key`` is what could not be added twice: a revision's number in that server's database.  ``time`` is in UTC.
    """

    file: str
    line: int
    time: datetime | None = None
    thread: str | None = None
    exception: str | None = None
    method: str | None = None
    key: str | None = None
    frames: tuple[str, ...] = ()
    call_id: str | None = None
    error_code: str | None = None
    server_url: str | None = None

    @property
    def kind(self) -> str:
        """``server``."""
        return FileKind.SERVER.value

    @property
    def caller(self) -> tuple[object, ...] | None:
        """What tells the calls of one log apart: the worker process's thread; ``None`` where the copy lost it."""
        return None if self.thread is None else (self.thread,)

    @property
    def missing(self) -> tuple[str, ...]:
        """What the proof lacks, in words; the call ID is for pairing and no part of the server's own proof."""
        needed = (
            (advisory.SERVER_EXCEPTION, self.exception == advisory.SERVER_EXCEPTION),
            (f"frame {advisory.SERVER_FRAME_INSERT}", any(map(_is_insert_frame, self.frames))),
            (f"frame {advisory.SERVER_FRAME_SYNC}", any(map(_is_sync_frame, self.frames))),
        )
        return tuple(what for what, there in needed if not there)

    @property
    def conclusive(self) -> bool:
        """Whether exception and frames name the fault."""
        return not self.missing

    def _extra(self) -> Mapping[str, object]:
        return {"kind": self.kind, "conclusive": self.conclusive, "missing": self.missing}

    def _summary(self) -> str:
        return f"{self.file}:{self.line} {_strength(self.conclusive)}"

    def __str__(self) -> str:
        return _text(self, [("of", self.thread), ("key", self.key), ("actor", self.server_url)])


@dataclass(frozen=True, repr=False)
class LogProblem(Presentable):
    """A file of which nothing, or not all, could be read, and why."""

    file: str
    problem: str
    line: int | None = None
    time: datetime | None = None
    call_id: str | None = None

    @property
    def kind(self) -> str:
        """``problem``."""
        return "problem"

    @property
    def conclusive(self) -> bool:
        """Never: what could not be read proves nothing, for or against."""
        return False

    def _extra(self) -> Mapping[str, object]:
        return {"kind": self.kind, "conclusive": self.conclusive}

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{printable(self.file)}: {printable(self.problem)}"


Finding = ClientFinding | ServerFinding | LogProblem


@dataclass(frozen=True, repr=False)
class LogFile(Presentable):
    """One file that was read: what it is, how much was found, from when to when its lines reach.

    ``begins`` and ``ends`` are the first and the last time seen in it, in the log's own time: UTC in a server's log,
    the client's local time in a client's, with its zone where a header gives it.  They say how far "none" reaches.
    """

    path: str
    kind: FileKind
    findings: int = 0
    problem: str | None = None
    begins: datetime | None = None
    ends: datetime | None = None

    def _summary(self) -> str:
        return f"{self.path}: {self.kind.value}"

    def __str__(self) -> str:
        found = f"{self.findings} findings" if self.findings != 1 else "1 finding"
        text = f"{printable(self.path)}: {self.kind.words}, {found}"
        if self.begins is not None and self.ends is not None:
            text += f", {self.begins:%Y-%m-%d %H:%M:%S} to {self.ends:%Y-%m-%d %H:%M:%S}"
        return text + (f"; {printable(self.problem)}" if self.problem else "")


def _is_insert_frame(frame: str) -> bool:
    """Return whether *frame* is the method that refuses a key it has already."""
    return frame.endswith(advisory.SERVER_FRAME_INSERT)


def _is_sync_frame(frame: str) -> bool:
    """Return whether *frame* is the method that added the key twice."""
    return frame.endswith(advisory.SERVER_FRAME_SYNC)


def _strength(conclusive: bool) -> str:
    return "conclusive" if conclusive else "inconclusive"


def _text(finding: ClientFinding | ServerFinding, own: list[tuple[str, object]]) -> str:
    when = finding.time.isoformat(sep=" ", timespec="milliseconds") if finding.time else "at a time the copy lost"
    head = f"{printable(finding.file)}:{finding.line}: {finding.kind}: {_strength(finding.conclusive)}, {when}"
    told = [*own, ("call", finding.call_id), ("missing", ", ".join(finding.missing))]
    shown = rows([(label, None if value is None else printable(str(value), 200)) for label, value in told])
    return f"{head}\n{shown}" if shown else head
