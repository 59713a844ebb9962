"""The logs of one machine, searched there: what the search is told, and what is made of what it brought back.

The script ``search_logs`` brings only the text around hits, with the beginning and the end of each file; all judging is
done here, by the same readers that read whole files.  Whatever was not read is told: it may have held the symptom.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from wsusfix import advisory, errors
from wsusfix.logs.correlate import Correlation, correlate
from wsusfix.logs.detections import Detection, Detections
from wsusfix.logs.findings import ClientFinding, FileKind, Finding, LogFile, LogProblem, ServerFinding
from wsusfix.logs.reading import scan
from wsusfix.logs.rollover import joined
from wsusfix.logs.stamps import SERVER_LINE, offset_of_header
from wsusfix.present import Presentable, bytes_text, counted, printable
from wsusfix.scripts.contracts import Scalar

__all__ = [
    "MachineLogs",
    "client_search",
    "detection_search",
    "not_read",
    "parse",
    "parse_detections",
    "server_search",
]

#: What is read of one machine's logs at most, in bytes: ten of the files that WSUS begins anew by size.
MOST_BYTES: Final = 200_000_000
MOST_FILES: Final = 8
#: Groups that are brought back of each file, and characters of them in all: the answer travels in one message, whose
#: size WinRM bounds, and on its way becomes about twice as long.
MOST_GROUPS: Final = 24
MOST_TEXT: Final = 60_000
#: Of a log that is followed, so much of its end is read each time.
_NEWEST: Final = 1_000_000
#: Characters before and behind a hit that belong to its call, lines of other threads among them.
_BEFORE: Final = 2048
_AFTER: Final = 6144
#: The same of a line that tells of a search for updates; its others are sought themselves.
_LINE_BEFORE: Final = 512
_LINE_AFTER: Final = 1024
_MOST_LINES: Final = 48
_BLOCK: Final = 256 * 1024
#: Of the beginning and the end of each file so much is told, by which its kind and its reach are judged.
_EDGE: Final = 480
#: What is sought, character by character: a client's error in either spelling of its last digit, the error code that
#: both logs name, and the first frame of the server's stack. The header gives a client's time zone.
_ERROR: Final = (*advisory.CLIENT_ERROR[:-1], "[Ee]")
_FAULT: Final = tuple(advisory.SERVER_ERROR_CODE)
_FRAME: Final = tuple("[.]" if char == "." else char for char in advisory.SERVER_FRAME_INSERT)
_HEADER: Final = tuple(advisory.CLIENT_LOG_HEADER)
_NUL: Final = r"\x00?"
_GROUP: Final = re.compile(r"(\d{1,18}) (\d{1,18}) (\d{1,18}) (\d{1,9}) ([^\n]{0,400})\n")
#: A frame, in whichever language: a word, and a method with its class.
_STACK_LINE: Final = re.compile(rb"\s{1,8}\S{1,40}\s\S{0,200}\w\.+\w{1,80}(?:\[[^\]]{0,200}\])?\(")
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
#: What the script says of a file in place of Windows' own words.
_PROBLEMS: Final = {
    "time": "not all of it was read in the time given",
    "changed": "it was rolled over while it was read",
}
_MOST_SHOWN: Final = 5
#: Minutes from UTC that a zone can be away.
_LARGEST_OFFSET: Final = 14 * 60


def server_search(seconds: int) -> dict[str, Any]:
    """Return the parameters of the search for a server's logs: where the registry says, and in both usual folders."""
    return {
        **_search((_FAULT, _FRAME), seconds),
        "key": advisory.SETUP_KEY,
        "folders": list(advisory.SERVER_LOG_FOLDERS),
        "name": advisory.SERVER_LOG,
    }


def client_search(seconds: int) -> dict[str, Any]:
    """Return the parameters of the search for a client's log."""
    return {**_search((_ERROR, _FAULT), seconds), "key": "", "folders": [], "name": advisory.CLIENT_LOG}


def detection_search(seconds: int) -> dict[str, Any]:
    """Return the parameters of the search for the newest searches for updates in a client's log.

    Every line by which a search is judged is sought itself, for hundreds of others may stand between two of them.
    """
    sought = (
        advisory.CLIENT_SEARCH,
        advisory.CLIENT_SYNC,
        advisory.CLIENT_URL,
        f"{advisory.CLIENT_FOUND} ",
        advisory.CLIENT_EXIT_CODE,
        advisory.CLIENT_WARNING,
    )
    return {
        **_search(tuple(map(tuple, sought)), seconds),
        "key": "",
        "folders": [],
        "name": advisory.CLIENT_LOG,
        "before": _LINE_BEFORE,
        "after": _LINE_AFTER,
        "most_bytes": str(_NEWEST),
        "most_files": 1,
        "most_groups": _MOST_LINES,
    }


def _search(sought: tuple[tuple[str, ...], ...], seconds: int) -> dict[str, Any]:
    return {
        "path_value": advisory.LOG_PATH_VALUE,
        "target_value": advisory.TARGET_VALUE,
        "default_target": advisory.DEFAULT_TARGET,
        "pattern": _pattern(sought),
        "before": _BEFORE,
        "after": _AFTER,
        "block": _BLOCK,
        "edge": _EDGE,
        "most_bytes": str(MOST_BYTES),
        "most_files": MOST_FILES,
        "most_groups": MOST_GROUPS,
        "most_text": MOST_TEXT,
        "seconds": seconds,
    }


def _pattern(sought: tuple[tuple[str, ...], ...]) -> str:
    """Return a pattern as .NET and Python read it.

    A character may have one byte or two, in every part of a file anew: a copy may be half the one and half the other,
    and a zero that a crash left in a line says nothing of the rest.
    """
    parts = [_NUL.join(characters) for characters in sought]
    # What follows a header is looked at only: something that is sought may stand there.
    return "|".join([*parts, f"{_NUL.join(_HEADER)}(?=(?<header>[^\\n]{{0,200}}))"])


@dataclass(frozen=True, repr=False)
class MachineLogs(Presentable):
    """What the logs of one machine prove, read on the machine itself.

    Args:
        host: the name it was asked by.
        side: ``FileKind.SERVER`` or ``FileKind.CLIENT``: whose logs were looked for.
        files: the logs that were found, the newest first, with how far each reaches.
        findings: failed calls, whole and inconclusive ones; their files are named as other machines would open them.
        correlation: what they say together.
        clock: the machine's own time when it was asked; ``None`` when nothing was answered.
        unread: why something may have been missed, in words; nothing when all was read.
        zone_doubt_seconds: how far a client's zone of now is from the one in its log: summer time may have begun or
            ended since its agent started, so that times may be off by so much.
    """

    host: str
    side: FileKind
    files: tuple[LogFile, ...]
    findings: tuple[Finding, ...]
    correlation: Correlation
    clock: datetime | None
    unread: tuple[str, ...]
    zone_doubt_seconds: int = 0

    @property
    def complete(self) -> bool:
        """Whether there is a log, and all that matters of all of them was read."""
        return bool(self.files) and not self.unread

    @property
    def proven(self) -> bool:
        """Whether a conclusive finding shows the symptom."""
        return any(finding.conclusive for finding in self.findings)

    @property
    def begins(self) -> datetime | None:
        """The first time in any of the logs, as far as it is known."""
        return min((file.begins for file in self.files if file.begins and file.begins.tzinfo), default=None)

    @property
    def ends(self) -> datetime | None:
        """The last time in any of the logs, as far as it is known."""
        return max((file.ends for file in self.files if file.ends and file.ends.tzinfo), default=None)

    def none_since(self, moment: datetime) -> bool | None:
        """Return whether no call failed at or after *moment*, by the machine's clock.

        ``False`` when one did; ``None`` when the logs do not prove it: not all was read, a call has no known time, or
        none that is known well enough, or they do not reach to *moment*.

        Raises:
            UsageError: *moment* has no zone.
        """
        none = self.correlation.none_since(moment)
        until = self.correlation.until
        if until is not None and until - self._doubt < moment <= until + self._doubt:
            return None
        if not none:
            return none
        reaches = self.ends is not None and self.ends - self._doubt >= moment
        return True if reaches and self.complete and not self.correlation.inconclusive else None

    @property
    def _doubt(self) -> timedelta:
        return timedelta(seconds=self.zone_doubt_seconds)

    def since_text(self, moment: datetime) -> str:
        """Return in words what :meth:`none_since` says, and why it does not say more."""
        told = f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
        match self.none_since(moment):
            case True:
                return f"none since {told}; the log reaches to {self.ends:%Y-%m-%d %H:%M:%S}"
            case False:
                return f"seen again since {told}, last at {self.correlation.until:%Y-%m-%d %H:%M:%S} UTC"
        if self.unread:
            why = self.unread[0]
        elif not self.files:
            why = "there is no log"
        elif self.ends is None or self.ends - self._doubt < moment:
            why = "the log does not reach so far" if self.ends else "the log's times are not known"
            why += self._doubt_text
        elif self._doubt_text and not self.correlation.unplaced and not self.correlation.inconclusive:
            why = "a call failed about then" + self._doubt_text
        elif self.correlation.unplaced:
            why = f"the time of {self.correlation.unplaced} calls is not known"
        else:
            why = f"{self.correlation.inconclusive} findings are inconclusive"
        return f"unknown since {told}: {why}"

    @property
    def _doubt_text(self) -> str:
        if not self.zone_doubt_seconds:
            return ""
        return f", and its times may be off by {self.zone_doubt_seconds // 60} min: its zone is not the one of now"

    def _extra(self) -> Mapping[str, object]:
        return {"complete": self.complete, "proven": self.proven, "begins": self.begins, "ends": self.ends}

    def _summary(self) -> str:
        return f"{self.host}: {counted(len(self.files), 'log')}, {counted(self.correlation.calls, 'failed call')}"

    def __str__(self) -> str:
        shown = "the symptom is proven" if self.proven else "no proof of the symptom"
        count = "1 log" if len(self.files) == 1 else f"{len(self.files)} logs"
        lines = [f"{self.host}: {count} of the {self.side.value}, {shown}"]
        lines += [f"  {file}" for file in self.files]
        if self.findings:
            lines.append(str(self.correlation))
        lines += [f"  not read: {why}" for why in self.unread]
        told = sorted(self.findings, key=lambda finding: not finding.conclusive)[:_MOST_SHOWN]
        lines += [f"  {line}" for finding in told for line in str(finding).splitlines()]
        if len(self.findings) > len(told):
            lines.append(f"  ... and {len(self.findings) - len(told)} more findings")
        return "\n".join(lines)


def not_read(host: str, side: FileKind, why: str) -> MachineLogs:
    """Return what is known of logs that could not be read."""
    return MachineLogs(host, side, (), (), correlate(()), None, (printable(why, 300),))


def parse(host: str, side: FileKind, answer: Mapping[str, Scalar]) -> MachineLogs:
    """Turn the checked answer of ``search_logs`` into findings.

    Args:
        host: the name it was asked by.
        side: ``FileKind.SERVER`` or ``FileKind.CLIENT``.
        answer: by the script's contract.

    Raises:
        AnswerError: a value that no machine can have.
    """
    count = _number(host, "files", str(answer["files"]), MOST_FILES)
    minutes = int(answer["utc_offset"])
    offset = timedelta(minutes=minutes) if abs(minutes) <= _LARGEST_OFFSET else None
    found: list[Finding] = []
    files: list[LogFile] = []
    unread: list[str] = []
    for number in range(count):
        file, findings, missing = _file(host, side, number, answer, offset)
        files.append(file)
        found += findings
        unread += missing
    whole = tuple(joined(found))
    places = [place for place in str(answer["places"]).split("\n") if place]
    unread += [printable(place, 300) for place in str(answer["denied"]).split("\n") if place]
    named = str(answer["named"])
    elsewhere = all(file.path.lower() != _shared(host, named).lower() for file in files)
    if files and named and elsewhere and not any(each.startswith(f"{named}: ") for each in unread):
        # What lies in the usual places may be what was left there when the log was moved.
        unread.append(f"there is no log at {printable(named, 260)}, where the registry says that it is")
    if not files:
        unread.append("no log was found: " + printable(", ".join(places), 400))
    left_out = _number(host, "left_out", str(answer["left_out"]), 10**6)
    if left_out:
        unread.append(f"{left_out} older files")
    return MachineLogs(
        host=host,
        side=side,
        files=tuple(files),
        findings=whole,
        correlation=correlate(whole),
        clock=_clock(host, str(answer["clock"])),
        unread=tuple(unread),
        zone_doubt_seconds=_zone_doubt(host, answer, offset) if files and side is FileKind.CLIENT else 0,
    )


def _zone_doubt(host: str, answer: Mapping[str, Scalar], offset: timedelta | None) -> int:
    """Return how far the zone of now is from that of the last header in the log that is being written, in seconds."""
    given = offset_of_header(_about(host, 0, answer)[2].encode("latin-1", "replace"))
    return 0 if given is None or offset is None else abs(round((given - offset).total_seconds()))


def parse_detections(host: str, answer: Mapping[str, Scalar]) -> tuple[tuple[Detection, ...], str]:
    """Return the newest searches for updates that a client's log tells of, and why there may be more of them.

    Raises:
        AnswerError: a value that no machine can have.
    """
    if not _number(host, "files", str(answer["files"]), MOST_FILES):
        return (), printable(str(answer["denied"]), 300) or "there is no log"
    path, (_, _, dropped), header, trouble = _about(host, 0, answer)
    minutes = int(answer["utc_offset"])
    zone = timedelta(minutes=minutes) if abs(minutes) <= _LARGEST_OFFSET else None
    pieces = _pieces(host, 0, str(answer.get("groups_0", "")))
    # Of too many the oldest two are kept, too: what was left out behind them may have ended what they begin.
    groups = _joined_pieces(pieces[2:] if dropped else pieces)
    searches = Detections(_shared(host, path))
    for group in groups:
        given = zone
        if given is None:
            given = offset_of_header((group.header or header).encode("latin-1", "replace"))
        searches.take(*group.whole_lines(), given)
    return searches.close(), _PROBLEMS.get(trouble, trouble)


def _about(host: str, number: int, answer: Mapping[str, Scalar]) -> tuple[str, tuple[int, int, int], str, str]:
    """Return of one file: path; length, start and groups that were left out; the last header; what went wrong."""
    about = str(answer.get(f"file_{number}", "")).split("\n")
    if len(about) < 6:
        raise _broken(host, f"file_{number}", "\n".join(about))
    length, start, dropped = (_number(host, f"file_{number}", text, 10**15) for text in about[1:4])
    return about[0], (length, start, dropped), about[4], printable(" ".join(about[5:]).strip(), 300)


def _file(
    host: str, side: FileKind, number: int, answer: Mapping[str, Scalar], offset: timedelta | None
) -> tuple[LogFile, list[Finding], list[str]]:
    """Return one file, what was found in it, and what of it may have been missed."""
    path, (length, start, dropped), header, trouble = _about(host, number, answer)
    name = _shared(host, path)
    zone = offset if side is FileKind.CLIENT else None
    findings: list[Finding] = []
    refused: list[str] = []
    for group in _joined_pieces(_pieces(host, number, str(answer.get(f"groups_{number}", "")))):
        given = offset_of_header(group.header.encode("latin-1", "replace"))
        log = scan(io.BytesIO(group.data), name=name, utc_offset=zone if given is None else given)
        own: list[ClientFinding | ServerFinding] = []
        for each in log:
            if isinstance(each, LogProblem):
                refused.append(f"what stands around line {group.line} {each.problem}")
            else:
                own.append(each)
        if own and _is_bare_fault(own[0]) and group.start > start and _begins_in_stack(bytes(group.data)):
            # The stack that it follows is of another cause: of ours the first frame is sought, and was brought back.
            del own[0]
        findings += [replace(finding, line=finding.line + group.line - 1) for finding in own]
    known = offset_of_header(header.encode("latin-1", "replace"))
    edges = scan(
        io.BytesIO(_bytes(str(answer.get(f"edges_{number}", "")))),
        name=name,
        utc_offset=zone if known is None else known,
    )
    # What the edges show of calls is in the groups, too, but for one whose lines so far hold nothing that is sought.
    lines = str(answer.get(f"edges_{number}", "")).rstrip("\r\n").count("\n")
    begun = any(_has_only_begun(each) and (each.line or 0) >= lines for each in edges)
    kind, problem = edges.file.kind, edges.file.problem
    missing = refused
    if begun:
        missing.append("it ends where a failed call may have begun")
    if trouble:
        missing.append(_PROBLEMS.get(trouble, trouble))
        kind = kind if length and kind is not FileKind.EMPTY else FileKind.UNREADABLE
    elif not length:
        kind, problem = FileKind.EMPTY, "is empty"
    elif kind not in (side, FileKind.MIXED):
        missing.append(problem or f"does not look like the log of a {side.value}")
    if start:
        missing.append(f"of {bytes_text(length)} only the last {bytes_text(length - start)} were read")
    if dropped:
        missing.append(f"{dropped} places that may show failed calls were not brought back")
    told_problem = "; ".join(printable(item, 300) for item in missing) or problem
    file = LogFile(name, kind, len(findings), told_problem, edges.file.begins, edges.file.ends)
    return file, findings, [f"{printable(name, 260)}: {told_problem}"] if missing else []


def _is_bare_fault(finding: ClientFinding | ServerFinding) -> bool:
    """Return whether it is a server's fault without anything of its cause."""
    return isinstance(finding, ServerFinding) and finding.exception is None and not finding.frames


def _has_only_begun(finding: Finding) -> bool:
    """Return whether it is a server's exception whose stack is not there."""
    return isinstance(finding, ServerFinding) and finding.exception is not None and not finding.frames


def _begins_in_stack(data: bytes) -> bool:
    """Return whether part of a server's log begins in the middle of a stack."""
    cut, _, rest = data.partition(b"\n")
    if cut.rstrip().endswith(b")"):
        return True
    for line in rest.split(b"\n"):
        if SERVER_LINE.match(line) is not None:
            return False
        if _STACK_LINE.match(line) is not None:
            return True
    return False


@dataclass
class _Group:
    """Part of a file: from which byte to which, number of its first line, the header in front of it, its text."""

    start: int
    end: int
    line: int
    header: str
    data: bytearray

    def whole_lines(self) -> tuple[bytes, int]:
        """Return the text without the rest of a line that begins before it, and the number of its first line."""
        if not self.start:
            return bytes(self.data), self.line
        return bytes(self.data.partition(b"\n")[2]), self.line + 1


def _pieces(host: str, number: int, text: str) -> list[_Group]:
    """Return the groups of one file as they came, those that touch apart."""
    groups: list[_Group] = []
    at = 0
    while at < len(text):
        told = _GROUP.match(text, at)
        if told is None:
            raise _broken(host, f"groups_{number}", text[at : at + 80])
        at = told.end() + int(told[4])
        data = bytearray(_bytes(text[told.end() : at]))
        groups.append(_Group(int(told[1]), int(told[2]), int(told[3]), told[5], data))
    return groups


def _joined_pieces(pieces: list[_Group]) -> list[_Group]:
    """Return the groups of one file, those that touch as one."""
    groups: list[_Group] = []
    for piece in pieces:
        if groups and piece.start == groups[-1].end:
            groups[-1].data.extend(piece.data)  # the same stretch goes on
            groups[-1].end = piece.end
        else:
            groups.append(piece)
    return groups


def _bytes(text: str) -> bytes:
    """Return the bytes that stand behind characters, each one byte of a file; a mark of UTF-16 has lost its meaning."""
    return text.removeprefix("\xff\xfe").removeprefix("\xfe\xff").encode("latin-1", "replace")


def _shared(host: str, path: str) -> str:
    r"""Return *path* as other machines may open it: ``\\host\C$\...``; findings of several machines are told apart."""
    drive, colon, rest = path.partition(":")
    return f"\\\\{host}\\{drive}${rest}" if colon and len(drive) == 1 else f"\\\\{host}\\{path}"


def _number(host: str, key: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) <= most):
        raise _broken(host, key, text)
    return int(text)


def _clock(host: str, text: str) -> datetime:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        raise _broken(host, "clock", text) from None


def _broken(host: str, key: str, value: str) -> errors.AnswerError:
    shown = printable(repr(value), 80)
    return errors.AnswerError(f"the machine's answer has {shown} for {key}", host=host, phase="logs")
