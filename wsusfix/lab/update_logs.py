"""What servers and clients of updates write down on the simulated machines, by the state that each of them is in.

A client that looks for updates asks its server; whether that call fails is decided by what is installed on both, and
each end writes it into its own log, by its own clock, under one call ID.  The lines are those of advisory 954960's
samples; this module refuses to know who will read them.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Final

from wsusfix import advisory
from wsusfix.lab.filesystem import Failure, WindowsError_
from wsusfix.lab.scheduler import Process
from wsusfix.lab.windows import Machine
from wsusfix.lab.wsus import Wsus

__all__ = ["ENCODINGS", "AgentProgram", "ServerLog", "UpdateAgent"]

#: In which a client's log may be written: the ANSI code page of western Windows, UTF-8, UTF-16 with its mark.
ENCODINGS: Final = ("ansi", "utf-8", "utf-16")
#: Of the service that both ends speak of.
_SERVICE: Final = "http://www.microsoft.com/SoftwareDistribution/Server/"
_INTERNAL: Final = "Microsoft.UpdateServices.Internal."
_ARGUMENTS: Final = "(Cookie cookie, SyncUpdateParameters parameters)"
#: How .NET says it in the language of the server; names are the same in all.
_TWICE: Final = {
    "nb-NO": "Elementet er allerede lagt til. N\u00f8kkel i ordlisten",
    "de-DE": "Das Element wurde bereits hinzugef\u00fcgt. Schl\u00fcssel im W\u00f6rterbuch",
    "ja-JP": "\u9805\u76ee\u306f\u65e2\u306b\u8ffd\u52a0\u3055\u308c\u3066\u3044\u307e\u3059\u3002\u30ad\u30fc",
}
_AT: Final = {"nb-NO": "ved", "de-DE": "bei", "ja-JP": "\u5834\u6240"}
#: Revision of the update whose approvals are inconsistent, in this server's database; and another of its threads.
_REVISION: Final = 8862
_THREAD: Final = "w3wp.12"
_PROCESS: Final = 788
_STEP: Final = timedelta(milliseconds=3)


class ServerLog:
    """The log of a WSUS server, as its web services write it: UTF-8, times in UTC, begun anew at a size.

    Args:
        machine: the server.
        path: of the log; its folder is made.
    """

    def __init__(self, machine: Machine, path: str) -> None:
        self._machine = machine
        self.path = path
        machine.files.make_folders(path.rpartition("\\")[0])

    def write(self, time: datetime, level: str, thread: str, source: str, text: str, *frames: str) -> None:
        """Write one entry, and the stack that follows it."""
        stamp = f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d}"
        at = _AT.get(self._machine.culture, "at")
        lines = [f"{stamp} UTC\t{level}\t{thread}\t{source}\t{text}", *(f"   {at} {frame}" for frame in frames)]
        self._append("".join(f"{line}\r\n" for line in lines).encode("utf-8"))

    def _append(self, data: bytes) -> None:
        if (self._machine.files.length(self.path) or 0) + len(data) > advisory.SERVER_LOG_ROLLOVER:
            self.roll_over()
        with contextlib.suppress(WindowsError_):  # with a full disk a service goes on without its log
            self._machine.files.append(self.path, data)

    def roll_over(self) -> str:
        """Begin the log anew; where the lines that were in it are now."""
        older = f"{self.path}.old"
        self._machine.files.remove_file(older)
        self._machine.files.move(self.path, older)
        return older

    def ordinary(self, time: datetime, calls: int = 4) -> None:
        """Write what a server writes when all is well."""
        for number in range(calls):
            moment = time + number * _STEP
            self.write(moment, "Info", f"w3wp.{5 + number}", "ThreadEntry", "ThreadHelper.ThreadStart")
            self.write(
                moment, "Info", f"w3wp.{5 + number}", advisory.SERVER_METHOD, f"{27 + number} updates were returned"
            )

    def failed_call(self, time: datetime, call_id: str, address: str) -> None:
        """Write how ``SyncUpdates`` failed because a key was there already."""
        twice = _TWICE.get(self._machine.culture, "Item has already been added. Key in dictionary")
        said = f"{advisory.SERVER_EXCEPTION}: {twice}: '{_REVISION}'  Key being added: '{_REVISION}'"
        implementation = f"{_INTERNAL}ClientImplementation."
        self.write(
            time,
            "Error",
            _THREAD,
            advisory.SERVER_METHOD,
            said,
            f"{advisory.SERVER_FRAME_INSERT}(Object key, Object nvalue, Boolean add)",
            "System.Collections.Hashtable.Add(Object key, Object value)",
            f"{_INTERNAL}{advisory.SERVER_FRAME_SYNC}(DataAccess dataAccess, Hashtable stateTable, "
            "Hashtable deploymentTable, Boolean haveGroupsChanged, Boolean doChunking)",
            f"{implementation}SoftwareSync(DataAccess dataAccess, UnencryptedCookieData cookieData)",
            f"{implementation}SyncUpdates{_ARGUMENTS}",
            f"{_INTERNAL}Client.SyncUpdates{_ARGUMENTS}",
        )
        self.write(
            time,
            "Warning",
            _THREAD,
            advisory.SERVER_FAULT_SOURCE,
            f"ThrowException: actor = {address}ClientWebService/client.asmx, ID={call_id}, "
            f"ErrorCode={advisory.SERVER_ERROR_CODE}, Message=, Client=?",
        )


class UpdateAgent:
    """The update agent of a client: what it is set to, and what it does and writes down when it looks for updates.

    Args:
        machine: the client.
        address: of the server that it is to use, ``http://wsus01/`` for example; ``""`` for none.
        reach: gives the server's WSUS and its log while the server is reached, else ``None``.
        encoding: of its log, one of :data:`ENCODINGS`.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        address: str,
        reach: Callable[[], tuple[Wsus, ServerLog | None, Machine] | None],
        encoding: str,
    ) -> None:
        self._machine = machine
        self._address = address
        self._reach = reach
        self._encoding = {"ansi": "cp1252", "utf-8": "utf-8", "utf-16": "utf-16-le"}[encoding]
        self.path = f"{machine.system.windows_directory}\\{advisory.CLIENT_LOG}"
        if encoding == "utf-16":
            machine.files.append(self.path, b"\xff\xfe")
        #: Whether an Office 2003 product or component is installed: only then is the broken update asked for.
        self.office_2003 = True
        #: How many updates a search finds; it tells each of them on a line.
        self.pending = 0
        #: Whether the agent acts on what it is asked to do.
        self.works = True
        self._detections = 0

    def _write(self, time: datetime, component: str, *texts: str) -> None:
        offset = timedelta(minutes=self._machine.utc_offset)
        local = time + offset
        stamp = f"{local:%Y-%m-%d\t%H:%M:%S}:{local.microsecond // 1000:03d}"
        thread = f"{0xEE4 + self._detections % 16:x}"
        lines = "".join(f"{stamp}\t{_PROCESS:4d}\t{thread}\t{component}\t{text}\r\n" for text in texts)
        self._machine.files.append(self.path, lines.encode(self._encoding, "replace"))

    def start(self, time: datetime) -> None:
        """Write what an agent writes when it starts."""
        sign, minutes = "-" if self._machine.utc_offset < 0 else "+", abs(self._machine.utc_offset)
        zone = f"{sign}{minutes // 60:02d}{minutes % 60:02d}"
        header = f"===========  {advisory.CLIENT_LOG_HEADER} (build: 7.1.6001.65, tz: {zone})  ==========="
        self._write(time, "Misc", header, "  = Process: C:\\Windows\\System32\\svchost.exe")
        self._write(time, "Service", "*************", "** START **  Service: Service startup", "*********")
        self._write(time, "Agent", f"  * WSUS server: {self._address.rstrip('/') or '<NULL>'}")

    def detect(self, time: datetime | None = None) -> str | None:
        """Look for updates; the ID of the call that failed, or ``None``."""
        own = time or datetime.fromtimestamp(self._machine.now(), timezone.utc)
        self._detections += 1
        self._write(own, "AU", "Triggering AU detection through DetectNow API")
        self._write(
            own, "Agent", "*************", f"** START **  {advisory.CLIENT_SEARCH} [CallerId = AutomaticUpdates]"
        )
        self._write(
            own,
            "PT",
            f"+++++++++++  {advisory.CLIENT_SYNC}  +++++++++++",
            f"  + ServiceId = {{{str(uuid.UUID(int=0x3DA21691)).upper()}}}, "
            f"Server URL = {self._address or 'http://localhost/'}ClientWebService/client.asmx",
        )
        reached = self._reach()
        if reached is None:
            self._end(own, "0x8024402C", "WARNING: Send failed with hr = 80072ee7.")
            return None
        wsus, log, server = reached
        there = own + timedelta(seconds=server.clock_offset - self._machine.clock_offset)
        if wsus.faulty and self.office_2003:
            call_id = str(uuid.uuid4())
            if log is not None:
                log.failed_call(there, call_id, self._address)
            self._end(own, advisory.CLIENT_ERROR, *_failure(call_id))
            return call_id
        if log is not None:
            log.ordinary(there, 1)
        self._write(
            own + _STEP,
            "Agent",
            *(f"  * Added update {{{uuid.UUID(int=each)}}}.101 to search result" for each in range(self.pending)),
            f"  * {advisory.CLIENT_FOUND} {self.pending} updates and 51 categories in search; "
            "evaluated appl. rules of 683 out of 1146 deployed entities",
        )
        self._end(own + _STEP, "")
        return None

    def _end(self, time: datetime, error: str, *warnings: str) -> None:
        if error:
            self._write(time, "PT", *warnings, f"WARNING: SyncUpdates_WithRecovery failed.: {error}")
            self._write(time, "Agent", f"  * WARNING: Exit code = {error}")
        self._write(time, "Agent", "*********", f"**  END  **  {advisory.CLIENT_SEARCH} [CallerId = AutomaticUpdates]")


class AgentProgram:
    """Starts the agent's own program on a client, and nothing else; it asks the agent, and ends at once.

    Args:
        agent: that is asked.
    """

    def __init__(self, agent: UpdateAgent) -> None:
        self._agent = agent

    def start(self, machine: Machine, parent: Process, program: str, arguments: str, temp: str) -> Process:
        """Start *program* as a child of *parent*.

        Raises:
            WindowsError_: it is not there, or none that the lab can run.
        """
        ours = f"{machine.system.windows_directory}\\System32\\{advisory.CLIENT_PROGRAM}"
        if program.lower() != ours.lower() or program not in machine.files:
            raise machine.messages.error(Failure.NO_FILE, program)
        process = machine.processes.start(
            advisory.CLIENT_PROGRAM, f'"{program}" {arguments}', parent.token, parent=parent
        )
        # From a network logon the agent may not be asked; nor does it act when automatic updates are off.
        asked = arguments.strip() == advisory.CLIENT_DETECT_NOW and parent.token.system and self._agent.works
        machine.processes.work(process, lambda: self._ask(asked))
        return process

    def _ask(self, asked: bool) -> int:
        if asked:
            self._agent.detect()
        return 0


def _failure(call_id: str) -> tuple[str, ...]:
    return (
        f"WARNING: SyncUpdates failure, error = {advisory.CLIENT_ERROR}, soap client error = 7, soap error code = 400, "
        f"HTTP status code = {advisory.CLIENT_HTTP_STATUS}",
        f"WARNING: SOAP Fault: 0x{advisory.CLIENT_SOAP_FAULT:06x}",
        "WARNING:     faultstring:Fault occurred",
        f"WARNING:     ErrorCode:{advisory.SERVER_ERROR_CODE}(5)",
        "WARNING:     Message:(null)",
        f'WARNING:     Method:"{_SERVICE}{advisory.CLIENT_METHOD}"',
        f"WARNING:     ID:{call_id}",
    )
