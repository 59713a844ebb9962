"""Logs made up for tests: clients' and servers', in the documented formats, healthy and failing, whole and damaged.

Plain functions write lines of one call; the strategies put calls of several threads, noise and damage together and say
what was put in.  The formats are those of advisory 954960's samples; names, numbers and times are made up.
"""

from __future__ import annotations

import re
import textwrap
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Final

from hypothesis import strategies as st

from wsusfix import advisory

START: Final = datetime(2008, 6, 16, 7, 0, 0, tzinfo=timezone.utc)
CLIENT_PARTS: Final = ("soap", "code", "method", "id")
SERVER_PARTS: Final = ("exception", "insert", "sync", "fault")
INTERNAL: Final = "Microsoft.UpdateServices.Internal."


@dataclass(frozen=True)
class Call:
    """A failed call: when, whose, and which of its parts the log has."""

    call_id: str
    time: datetime = START
    pid: int = 912
    tid: str = "b54"
    thread: str = "w3wp.7"
    key: str = "4711"
    parts: tuple[str, ...] = (*CLIENT_PARTS, *SERVER_PARTS)

    def without(self, *parts: str) -> Call:
        return replace(self, parts=tuple(part for part in self.parts if part not in parts))


def call(number: int = 1, **changed: object) -> Call:
    return replace(Call(str(uuid.UUID(int=number))), **changed)  # type: ignore[arg-type]


# --- lines ----------------------------------------------------------------------------------------------------------


def client_line(time: datetime, pid: int, tid: str, component: str, text: str) -> str:
    return f"{time:%Y-%m-%d\t%H:%M:%S}:{time.microsecond // 1000:03d}\t{pid:4d}\t{tid}\t{component}\t{text}"


def server_line(time: datetime, level: str, thread: str, source: str, text: str) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d} UTC\t{level}\t{thread}\t{source}\t{text}"


def client_header(offset: timedelta, time: datetime = START) -> str:
    minutes = int(offset.total_seconds()) // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
    text = f"===========  Logging initialized (build: 7.1.6001.65, tz: {zone})  ==========="
    return client_line(time + offset, 912, "7c8", "Misc", text)


def client_call(one: Call, offset: timedelta = timedelta(0), url: str = "http://wsus.example/") -> list[str]:
    """The lines of a failed call at the client, whose clock shows UTC plus *offset*."""
    texts = [
        "+++++++++++  PT: Synchronizing server updates  +++++++++++",
        f"  + ServiceId = {{{uuid.UUID(int=9)}}}, Server URL = {url}ClientWebService/client.asmx",
        "WARNING: SyncUpdates failure, error = 0x8024400E, soap client error = 7, soap error code = 400, "
        "HTTP status code = 200",
    ]
    texts += ["WARNING: SOAP Fault: 0x000190"] * ("soap" in one.parts)
    texts += ["WARNING:     faultstring:Fault occurred"]
    texts += ["WARNING:     ErrorCode:InternalServerError(5)"] * ("code" in one.parts)
    texts += ["WARNING:     Message:(null)"]
    service = "http://www.microsoft.com/SoftwareDistribution/Server/ClientWebService/"
    texts += [f'WARNING:     Method:"{service}SyncUpdates"'] * ("method" in one.parts)
    texts += [f"WARNING:     ID:{one.call_id}"] * ("id" in one.parts)
    texts += ["WARNING: PTError: 0x8024400e", "WARNING: SyncUpdates_WithRecovery failed.: 0x8024400e"]
    return [client_line(one.time + offset, one.pid, one.tid, "PT", text) for text in texts]


def server_call(one: Call) -> list[str]:
    """The entries of a failed call at the server; an entry is a line with the stack that follows it."""
    said = f"{advisory.SERVER_EXCEPTION}: Item has already been added. Key in dictionary: '{one.key}'  Key being added"
    stack = [server_line(one.time, "Error", one.thread, advisory.SERVER_METHOD, f"{said}: '{one.key}'")]
    stack += ["   at System.Collections.Hashtable.Insert(Object key, Object nvalue, Boolean add)"] * (
        "insert" in one.parts
    )
    stack += ["   at System.Collections.Hashtable.Add(Object key, Object value)"] * ("insert" in one.parts)
    stack += [f"   at {INTERNAL}ClientImplementation.GetSyncInfo(DataAccess dataAccess, Hashtable stateTable)"] * (
        "sync" in one.parts
    )
    if "insert" in one.parts or "sync" in one.parts:
        stack += [f"   at {INTERNAL}ClientImplementation.SyncUpdates(Cookie cookie, SyncUpdateParameters parameters)"]
    entries = ["\n".join(stack)] if "exception" in one.parts else []
    return entries + [server_fault(one)] * ("fault" in one.parts)


def server_fault(one: Call, code: str = "InternalServerError") -> str:
    text = (
        f"ThrowException: actor = http://wsus.example/ClientWebService/client.asmx, ID={one.call_id}, "
        f"ErrorCode={code}, Message=, Client=?"
    )
    return server_line(one.time, "Warning", one.thread, advisory.SERVER_FAULT_SOURCE, text)


# --- noise ----------------------------------------------------------------------------------------------------------

CLIENT_NOISE: Final = (
    ("Agent", "  * Found 0 updates and 51 categories in search; evaluated appl. rules of 683 out of 1146 entities"),
    ("Agent", "  * WARNING: Failed to filter search results, error = 0x8024000B"),
    (
        "PT",
        "WARNING: SyncUpdates failure, error = 0x8024400D, soap client error = 7, soap error code = 300, HTTP = 200",
    ),
    ("PT", "WARNING: Exceeded max server round trips: 0x80244010"),
    ("Misc", "WARNING: Send failed with hr = 80072ee7, error = 0x8024402C."),
    ("PT", "WARNING: GetCookie failure, error = 0x8024400D, soap client error = 7, soap error code = 300, HTTP = 200"),
    ("PT", "WARNING:     ErrorCode:InvalidCookie(1)"),
    ("PT", "WARNING:     ID:7d3c2f0e-2222-4444-8888-0123456789ab"),
    ("AU", "AU setting next detection timeout to 2008-06-17 05:12:41"),
)
SERVER_NOISE: Final = (
    ("Info", "ThreadEntry", "ThreadHelper.ThreadStart"),
    ("Info", "ClientImplementation.SyncUpdates", "27 updates were returned"),
    ("Warning", "SoapUtilities.CreateException", "ThrowException: actor = x, ID=0, ErrorCode=ConfigChanged, Message="),
    (
        "Error",
        "DataAccess.ExecuteSPRegisterComputer",
        "System.Data.SqlClient.SqlException: Timeout expired.\n"
        "   at System.Data.SqlClient.SqlConnection.OnError(SqlException exception, Boolean breakConnection)\n"
        "   at System.Data.SqlClient.SqlCommand.ExecuteReader(CommandBehavior behavior, String method)",
    ),
    (
        "Error",
        "IISCustomAction.Install",
        'System.ArgumentException: Item has already been added. Key in dictionary: "enableasp.net"  Key being added',
    ),
    (
        "Error",
        "CatalogSync.Load",
        "System.ArgumentException: Item has already been added. Key in dictionary: 'a'  Key being added: 'a'\n"
        "   at System.Collections.Hashtable.Insert(Object key, Object nvalue, Boolean add)\n"
        f"   at {INTERNAL}CatalogSync.Load(String name)",
    ),
)


def client_noise(number: int, time: datetime) -> str:
    component, text = CLIENT_NOISE[number % len(CLIENT_NOISE)]
    return client_line(time, 912, f"{0x900 + number % 7:x}", component, text)


def server_noise(number: int, time: datetime) -> str:
    level, source, text = SERVER_NOISE[number % len(SERVER_NOISE)]
    return server_line(time, level, f"w3wp.{500 + number % 7}", source, text)


# --- damage ---------------------------------------------------------------------------------------------------------

Damage = Callable[[str], str]


def _same(text: str) -> str:
    return text


def blanks(text: str) -> str:
    """Tabs as blanks, as documents and mails render them."""
    return re.sub(r"\t+ *", "    ", text)


def commas(text: str) -> str:
    """A comma before the milliseconds."""
    return re.sub(r"(?m)^(\d{4}-\d\d-\d\d[ \t]\d\d:\d\d:\d\d)[:.](\d{3})", r"\1,\2", text)


def quoted(text: str) -> str:
    """Quoted in a mail."""
    return re.sub(r"(?m)^", "> ", text)


def translated(text: str) -> str:
    """The words in another language; names and codes stay."""
    for word, other in (
        ("failure, error =", "-fejl, fejl ="),
        ("SyncUpdates -fejl", "SyncUpdates-fejl"),
        ("WARNING", "ADVARSEL"),
        ("SOAP Fault", "SOAP-fejl"),
        ("soap client error", "soap-klientfejl"),
        ("soap error code", "soap-fejlkode"),
        ("HTTP status code", "HTTP-statuskode"),
        ("Method:", "Metode:"),
        ("Server URL", "Server-URL"),
        ("   at ", "p\u00e5 "),
        ("UTC\tError", "UTC-fejl"),
        ("UTC\tWarning", "UTC Advarsel"),
        ("Item has already been added. Key in dictionary", "Elementet er allerede tilf\u00f8jet. N\u00f8gle i ordbog"),
    ):
        text = text.replace(word, other)
    return text


def broken(text: str, width: int = 76) -> str:
    """Broken at a column, in the middle of words if it so happens."""
    return "\n".join(line[at : at + width] for line in text.split("\n") for at in range(0, max(1, len(line)), width))


def wrapped(text: str) -> str:
    """Wrapped between words, as mail programs do."""
    lines = []
    for line in text.split("\n"):
        lines += textwrap.wrap(
            line, 90, break_long_words=False, break_on_hyphens=False, drop_whitespace=True, expand_tabs=False
        ) or [""]
    return "\n".join(lines)


DAMAGES: Final[tuple[Damage, ...]] = (_same, blanks, commas, quoted, translated, broken, wrapped)


def placeholders(text: str) -> str:
    """The words ``Date Time`` in place of the stamps, as KB954960 prints its client sample."""
    return re.sub(r"(?m)^\d{4}-\d\d-\d\d\t\d\d:\d\d:\d\d:\d{3}", "Date\tTime", text)


def without_times(text: str) -> str:
    """No stamps at all."""
    return re.sub(r"(?m)^\d{4}-\d\d-\d\d[\t ]\d\d:\d\d:\d\d[:.]\d{3}(?: UTC)?\t *", "", text)


def messages_only(text: str) -> str:
    """A client's messages without any beginning."""
    return re.sub(r"(?m)^\S+\t\S+\t *\d+\t[0-9a-f]+\t\w+\t", "", text)


ENCODINGS: Final = ("utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be")


def word_wrapped(entries: Sequence[str], width: int, breaks: bool) -> str:
    """Entries as a mail program wraps them, words that are too long broken or not."""
    lines = [line for entry in entries for line in entry.expandtabs(1).split("\n")]
    cut = [
        piece for line in lines for piece in textwrap.wrap(line, width, break_on_hyphens=False, break_long_words=breaks)
    ]
    return "\n".join([*cut, ""])


def encoded(text: str, encoding: str, line_end: str = "\r\n") -> bytes:
    return text.replace("\n", line_end).encode(encoding)


# --- strategies -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Log:
    """A log that was made up, and the calls that were put in."""

    kind: str
    entries: tuple[str, ...]
    calls: tuple[Call, ...]
    offset: timedelta | None = None
    damage: Damage = field(default=_same)
    encoding: str = "utf-8"
    line_end: str = "\r\n"

    def text(self, first: int = 0, last: int | None = None) -> str:
        return "".join(entry + "\n" for entry in self.entries[first:last])

    def content(self, first: int = 0, last: int | None = None) -> bytes:
        return encoded(self.damage(self.text(first, last)), self.encoding, self.line_end)


@st.composite
def client_logs(draw: st.DrawFn, *, whole: bool = False) -> Log:
    """A client's log: calls of several threads, one after the other in each, noise of others in between."""
    offset = draw(st.sampled_from([None, *(timedelta(minutes=15 * quarter) for quarter in (-28, 0, 22, 56))]))
    calls = _calls(draw, CLIENT_PARTS, whole)
    threads = [
        [line for one in calls if one.tid == tid for line in client_call(one, offset or timedelta(0))]
        for tid in sorted({one.tid for one in calls})
    ]
    noise = [client_noise(draw(st.integers(0, 50)), START) for _ in range(draw(st.integers(0, 12)))]
    entries = _interleaved(draw, [*threads, noise])
    if offset is not None:
        entries = [client_header(offset), *entries]
    return _with_damage(draw, Log("client", tuple(entries), tuple(calls), offset))


@st.composite
def server_logs(draw: st.DrawFn, *, whole: bool = False) -> Log:
    """A server's log: calls of several threads, one after the other in each, noise of others in between."""
    calls = _calls(draw, SERVER_PARTS, whole)
    threads = [
        [entry for one in calls if one.thread == thread for entry in server_call(one)]
        for thread in sorted({one.thread for one in calls})
    ]
    noise = [server_noise(draw(st.integers(0, 50)), START) for _ in range(draw(st.integers(0, 12)))]
    return _with_damage(draw, Log("server", tuple(_interleaved(draw, [*threads, noise])), tuple(calls)))


def _calls(draw: st.DrawFn, parts: Sequence[str], whole: bool) -> list[Call]:
    calls = []
    for number in range(draw(st.integers(0, 5))):
        thread = draw(st.integers(0, 2))
        one = call(
            draw(st.integers(1, 2**100)) * 8 + number,
            # Calls of one thread do not overlap: one every minute.
            time=START + timedelta(minutes=number, milliseconds=draw(st.integers(0, 999))),
            tid=f"{0xB54 + thread:x}",
            thread=f"w3wp.{7 + thread}",
            key=str(draw(st.integers(1, 10**6))),
        )
        if not whole and draw(st.booleans()):
            one = one.without(*draw(st.sets(st.sampled_from(parts), min_size=1, max_size=2)))
            if not {"insert", "fault"} & set(one.parts) or not {"exception", "fault"} & set(one.parts):
                one = replace(one, parts=call().parts)
        calls.append(one)
    return calls


def _interleaved(draw: st.DrawFn, sources: list[list[str]]) -> list[str]:
    """Entries of several sources, each in its own order."""
    turns = [index for index, source in enumerate(sources) for _ in source]
    left = [iter(source) for source in sources]
    return [next(left[index]) for index in draw(st.permutations(turns))]


def _with_damage(draw: st.DrawFn, log: Log) -> Log:
    return replace(
        log,
        damage=draw(st.sampled_from(DAMAGES)),
        encoding=draw(st.sampled_from(ENCODINGS)),
        line_end=draw(st.sampled_from(["\r\n", "\n"])),
    )
