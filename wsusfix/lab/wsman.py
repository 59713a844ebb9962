"""WS-Management shells: Create, Command, Send, Receive, Signal, Delete, Get and Identify, with WinRM's quotas.

A request is an envelope in clear text and the caller it came from; the answer is a status and an envelope. This
module does not know how the text travelled or was encrypted, nor what the bytes inside a shell mean: those go to a
``Plugin``, as in Windows.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from xml.sax.saxutils import escape as _escape_text

from .faults import Faults

__all__ = [
    "Caller",
    "ConnectionReset",
    "Pipe",
    "Plugin",
    "PluginShell",
    "Quotas",
    "Reply",
    "Service",
    "ShellInfo",
    "WSManFault",
]

log = logging.getLogger("wsusfix.lab")


def escape(text: str) -> str:
    """Text made fit for an element as well as for a double-quoted attribute."""
    return _escape_text(text, {'"': "&quot;"})


NAMESPACES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "cfg": "http://schemas.microsoft.com/wbem/wsman/1/config",
    "wsmid": "http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd",
    "ps": "http://schemas.microsoft.com/powershell",
}
_DECLARATIONS = " ".join(
    f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items() if prefix not in ("wsmid", "ps")
)

_TRANSFER = NAMESPACES["x"]
_SHELL = NAMESPACES["rsp"]
_ANONYMOUS = NAMESPACES["a"] + "/role/anonymous"
_POWERSHELL = NAMESPACES["ps"] + "/"
_DONE = _SHELL + "/CommandState/Done"
_RUNNING = _SHELL + "/CommandState/Running"

# The most of an answer that is not payload: header, fault details, namespaces.
_ENVELOPE_OVERHEAD = 2048
# What one Stream element adds to the base64 text in it.
_STREAM_OVERHEAD = 160
# How long an answer with output waits for the end of its pipeline, so that a quick script costs one Receive.
_GRACE = 0.05
_LONGEST_WAIT = 3600.0
# Windows puts no more into one PSRP fragment.
_LARGEST_PIECE = 32_768
# DSP0226 lets a service refuse clients that cannot take even this much.
_SMALLEST_ENVELOPE = 8192


@dataclass(frozen=True)
class Quotas:
    """The limits of WinRM; the defaults are those of WinRM 2.0 on Windows Server 2003 and 2008."""

    envelope: int = 153_600
    shells_per_user: int = 5
    pipelines_per_shell: int = 15
    users: int = 5
    idle_connection: float = 120.0
    idle_shell: float = 180.0

    @classmethod
    def for_powershell(cls, version: str) -> Quotas:
        """What the WinRM that comes with this PowerShell allows by default."""
        if int(version.partition(".")[0]) < 3:
            return cls()
        return cls(envelope=512_000, shells_per_user=30, pipelines_per_shell=25, users=10, idle_shell=7200.0)


@dataclass(frozen=True)
class Caller:
    """Who asks, as the connection authenticated; ``gone`` is set when the connection is cut."""

    user: str
    administrator: bool
    address: str
    generation: int
    gone: threading.Event = field(repr=False)


@dataclass(frozen=True)
class Reply:
    """An answer in clear text, and the HTTP status that goes with it."""

    status: int
    envelope: bytes


@dataclass(frozen=True)
class ShellInfo:
    """A shell as it is seen from outside."""

    id: str
    user: str
    created: float
    pipelines: int


class ConnectionReset(Exception):
    """The connection must be cut without an answer."""


class WSManFault(Exception):
    """A request that is answered by a SOAP fault."""

    def __init__(self, code: int, message: str, *, sender: bool = False, subcode: str = "w:InternalError") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.sender = sender
        self.subcode = subcode


def _shell_gone() -> WSManFault:
    return WSManFault(
        2150858843,
        "The request for the Windows Remote Shell with the given ShellId failed because the shell was not found "
        "on the server. Possible causes are: the specified ShellId is incorrect or the shell no longer exists on "
        "the server. Provide the correct ShellId or create a new shell and retry the operation.",
        sender=True,
        subcode="w:InvalidSelectors",
    )


def _timed_out() -> WSManFault:
    return WSManFault(
        2150858793,
        "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.",
        subcode="w:TimedOut",
    )


def _aborted() -> WSManFault:
    return WSManFault(
        995, "The I/O operation has been aborted because of either a thread exit or an application request."
    )


def _access_denied() -> WSManFault:
    return WSManFault(5, "Access is denied.", sender=True, subcode="w:AccessDenied")


def _quota(code: int, what: str, limit: int) -> WSManFault:
    return WSManFault(
        code,
        f"The WS-Management service cannot process the request. {what} of {limit} has been exceeded. Close existing "
        "ones or raise the quota.",
        subcode="w:QuotaLimit",
    )


def _malformed(why: str) -> WSManFault:
    return WSManFault(
        2150858817,
        f"The SOAP XML in the message does not match the corresponding XML schema definition: {why}.",
        sender=True,
        subcode="w:SchemaValidationError",
    )


class Pipe:
    """What flows back to the client from a shell or one of its commands, in pieces that stay whole."""

    def __init__(self, largest_piece: int) -> None:
        self.largest_piece = largest_piece
        self._changed = threading.Condition()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._finished = False
        self._broken: WSManFault | None = None

    def put(self, piece: bytes) -> None:
        """Add bytes that must stay together."""
        with self._changed:
            self._pieces.append(piece)
            self._size += _encoded_size(piece)
            self._changed.notify_all()

    def finish(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def cut(self, why: WSManFault) -> None:
        """Nothing can be received any more: whoever waits is told why."""
        with self._changed:
            self._broken = why
            self._changed.notify_all()

    def take(self, *, room: int, timeout: float, grace: float) -> tuple[list[bytes], bool]:
        """Pieces that fit into ``room`` and whether they are the last.

        Waits for the first piece until the timeout; then a little longer, because the end of a quick pipeline
        belongs into the same answer.
        """
        deadline = time.monotonic() + timeout
        enough: float | None = None
        with self._changed:
            while True:
                if self._broken is not None:
                    raise self._broken
                now = time.monotonic()
                if self._finished or self._size >= room:
                    break
                if self._pieces:
                    if enough is None:
                        enough = min(now + grace, deadline)
                    if now >= enough:
                        break
                    self._changed.wait(enough - now)
                elif now >= deadline:
                    raise _timed_out()
                else:
                    self._changed.wait(deadline - now)
            pieces: list[bytes] = []
            while self._pieces and (size := _encoded_size(self._pieces[0])) <= room:
                pieces.append(self._pieces.popleft())
                self._size -= size
                room -= size
            return pieces, self._finished and not self._pieces


def _encoded_size(piece: bytes) -> int:
    return (len(piece) + 2) // 3 * 4 + _STREAM_OVERHEAD


class PluginShell(Protocol):
    """What a plug-in makes of one shell. Calls may come from several threads at once."""

    def command(self, command_id: str, payload: bytes, out: Pipe) -> None:
        """Begin a command whose output goes to ``out``."""

    def send(self, command_id: str | None, payload: bytes) -> None:
        """Bytes for a command, or for the shell itself."""

    def stop(self, command_id: str) -> None:
        """Ctrl-C: what runs ends, what it has said so far can still be received."""

    def terminate(self, command_id: str) -> None:
        """The client is done with this command; stop it if it still runs."""

    def close(self) -> None:
        """The shell is gone; stop everything in it."""


class Plugin(Protocol):
    """The side of WinRM that gives shells their meaning."""

    @property
    def numbers_by_itself(self) -> bool:
        """Whether shells and commands get ids of the server's own, whatever the client proposes."""

    def open(self, shell_id: str, user: str, payload: bytes, out: Pipe) -> PluginShell:
        """A new shell, with what the client sent along to create it."""


class _Shell:
    """One shell: its pipes, its commands, and when it was used last."""

    def __init__(
        self, shell_id: str, caller: Caller, resource_uri: str, *, idle_timeout: float, largest_piece: int
    ) -> None:
        self.id = shell_id
        self.user = caller.user
        self.address = caller.address
        self.resource_uri = resource_uri
        self.idle_timeout = idle_timeout
        self.created = time.time()
        self.out = Pipe(largest_piece)
        self._plugin: PluginShell | None = None
        self._commands: dict[str, Pipe] = {}
        self._lock = threading.Lock()
        self._under_way = 0
        self._last_used = time.monotonic()
        self._closed = False

    def __enter__(self) -> PluginShell:
        with self._lock:
            if self._closed or self._plugin is None:
                raise _shell_gone()
            self._under_way += 1
            return self._plugin

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._lock:
            self._under_way -= 1
            self._last_used = time.monotonic()
            lost = self._closed and not isinstance(error, WSManFault)
        if error is not None and lost:
            # Whatever it was that failed, it failed because the shell was closed underneath.
            raise _shell_gone() from error

    @property
    def idle_for(self) -> float:
        """Seconds since the last operation ended; an operation under way keeps a shell awake."""
        with self._lock:
            return 0.0 if self._under_way else time.monotonic() - self._last_used

    @property
    def age(self) -> float:
        return time.time() - self.created

    @property
    def info(self) -> ShellInfo:
        with self._lock:
            return ShellInfo(self.id, self.user, self.created, len(self._commands))

    def attach(self, plugin: PluginShell) -> None:
        """Put in what the plug-in made; a shell that was closed meanwhile (a reboot) closes it at once."""
        with self._lock:
            self._plugin = plugin
            if not self._closed:
                return
        plugin.close()
        raise _shell_gone()

    def add_command(self, command_id: str, most: int) -> Pipe:
        with self._lock:
            if self._closed:
                raise _shell_gone()
            if command_id in self._commands:
                raise WSManFault(
                    2150858843,
                    "A command with this CommandId exists already.",
                    sender=True,
                    subcode="w:InvalidSelectors",
                )
            if len(self._commands) >= most:
                raise _quota(2150859174, "The maximum number of concurrent operations for this user", most)
            pipe = self._commands[command_id] = Pipe(self.out.largest_piece)
            return pipe

    def pipe(self, command_id: str) -> Pipe:
        with self._lock:
            try:
                return self._commands[command_id]
            except KeyError:
                raise _shell_gone() from None

    def drop_command(self, command_id: str) -> None:
        with self._lock:
            pipe = self._commands.pop(command_id, None)
        if pipe is not None:
            pipe.cut(_aborted())

    def close(self, why: WSManFault) -> None:
        """End everything in the shell; who waits for its output is told why."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            pipes = [self.out, *self._commands.values()]
            self._commands.clear()
            plugin = self._plugin
        for pipe in pipes:
            pipe.cut(why)
        if plugin is not None:
            plugin.close()


@dataclass(frozen=True)
class _Request:
    """An envelope, taken apart."""

    action: str
    message_id: str
    resource_uri: str
    shell_id: str
    timeout: float
    max_envelope: int
    body: ET.Element

    def child(self, path: str) -> ET.Element:
        found = self.body.find(path, NAMESPACES)
        if found is None:
            raise _malformed(f"no {path} in the body")
        return found


class Service:
    """The WS-Management service of one server: its shells, from Create to Delete."""

    def __init__(self, plugin: Plugin, quotas: Quotas, faults: Faults, machine: str) -> None:
        self._plugin = plugin
        self._quotas = quotas
        self._faults = faults
        self._machine = machine
        self._lock = threading.Lock()
        self._shells: dict[str, _Shell] = {}
        self._generation = 0
        self._operations: dict[str, Callable[[_Request, Caller], str]] = {
            _TRANSFER + "/Create": self._create,
            _TRANSFER + "/Delete": self._delete,
            _TRANSFER + "/Get": self._get,
            _SHELL + "/Command": self._command,
            _SHELL + "/Send": self._send,
            _SHELL + "/Receive": self._receive,
            _SHELL + "/Signal": self._signal,
        }

    @property
    def generation(self) -> int:
        """Grows with every reboot; requests of an older one come to nothing."""
        with self._lock:
            return self._generation

    @property
    def shells(self) -> tuple[ShellInfo, ...]:
        """The shells that are open now."""
        self.expire()
        with self._lock:
            shells = tuple(self._shells.values())
        return tuple(shell.info for shell in shells)

    def expire(self) -> None:
        """End the shells that have been idle for too long."""
        with self._lock:
            idle = [shell for shell in self._shells.values() if shell.idle_for >= shell.idle_timeout]
            for shell in idle:
                del self._shells[shell.id]
        for shell in idle:
            log.debug("shell %s expired", shell.id)
            shell.close(_shell_gone())

    def close_shells(self, *, reboot: bool = False) -> int:
        """End all shells and what runs in them; tells how many there were."""
        with self._lock:
            shells = list(self._shells.values())
            self._shells.clear()
            if reboot:
                self._generation += 1
        for shell in shells:
            shell.close(_shell_gone())
        return len(shells)

    def handle(self, envelope: bytes, caller: Caller) -> Reply:
        """Answer one request; everything that goes wrong with it is a SOAP fault."""
        message_id = ""
        try:
            root = _parse(envelope)
            message_id = root.findtext("s:Header/a:MessageID", "", NAMESPACES).strip()
            if root.find("s:Body/wsmid:Identify", NAMESPACES) is not None:
                return Reply(200, self._identify())
            request = _take_apart(root)
            operation = self._operations.get(request.action)
            if operation is None:
                raise WSManFault(
                    2150858753,
                    f"The WS-Management service cannot process the request: this server does not support the action "
                    f"{request.action!r}.",
                    sender=True,
                    subcode="a:ActionNotSupported",
                )
            self.expire()
            body = operation(request, caller)
            return Reply(200, _envelope(_answer_to(request.action), message_id, body))
        except WSManFault as fault:
            return Reply(500, _fault_envelope(fault, message_id, self._machine))
        except ConnectionReset:
            raise
        except Exception:
            log.exception("a request could not be carried out")
            internal = WSManFault(1359, "An internal error occurred.")
            return Reply(500, _fault_envelope(internal, message_id, self._machine))

    # --- operations ----------------------------------------------------------------------------------------

    def _create(self, request: _Request, caller: Caller) -> str:
        if not caller.administrator or self._faults.denies_access():
            raise _access_denied()
        if not request.resource_uri.startswith(_POWERSHELL):
            raise WSManFault(
                2150858752,
                "The WS-Management service cannot process the request. The service cannot find the resource "
                f"identified by the resource URI {request.resource_uri!r}: this server offers PowerShell only.",
                sender=True,
                subcode="a:DestinationUnreachable",
            )
        if self._faults.exceeds_quota():
            raise self._too_many_shells()
        element = request.child("rsp:Shell")
        payload = _decode(element.findtext("ps:creationXml", "", NAMESPACES))
        if not payload:
            raise _malformed("no creationXml in the Shell")
        proposed = element.get("ShellId", "")
        shell_id = proposed if proposed and not self._plugin.numbers_by_itself else str(uuid.uuid4()).upper()
        asked = element.findtext("rsp:IdleTimeOut", "", NAMESPACES)
        idle = min(_seconds(asked), self._quotas.idle_shell) if asked else self._quotas.idle_shell
        shell = _Shell(
            shell_id,
            caller,
            request.resource_uri,
            idle_timeout=idle,
            # What base64 leaves of the envelope that the client takes, but never more than Windows' own fragments.
            largest_piece=min(_LARGEST_PIECE, (self._room(request) - _STREAM_OVERHEAD) // 4 * 3),
        )
        self._register(shell, caller)
        try:
            shell.attach(self._plugin.open(shell_id, caller.user, payload, shell.out))
        except Exception:
            self._forget(shell)
            raise
        return (
            "<x:ResourceCreated>"
            f"<a:Address>http://{escape(self._machine)}/wsman</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{escape(shell.resource_uri)}</w:ResourceURI>"
            f'<w:SelectorSet><w:Selector Name="ShellId">{escape(shell_id)}</w:Selector></w:SelectorSet>'
            f"</a:ReferenceParameters></x:ResourceCreated>{self._describe(shell)}"
        )

    def _register(self, shell: _Shell, caller: Caller) -> None:
        with self._lock:
            if caller.generation != self._generation:
                raise ConnectionReset
            of_user = [other for other in self._shells.values() if other.user == shell.user]
            if len(of_user) >= self._quotas.shells_per_user:
                raise self._too_many_shells()
            users = {other.user for other in self._shells.values()}
            if shell.user not in users and len(users) >= self._quotas.users:
                raise _quota(2150859179, "The maximum number of users executing shell operations", self._quotas.users)
            if shell.id in self._shells:
                raise WSManFault(
                    2150858843,
                    "A shell with this ShellId exists already.",
                    sender=True,
                    subcode="w:InvalidSelectors",
                )
            self._shells[shell.id] = shell

    def _too_many_shells(self) -> WSManFault:
        return _quota(2150859173, "The maximum number of concurrent shells for this user", self._quotas.shells_per_user)

    def _forget(self, shell: _Shell) -> None:
        with self._lock:
            if self._shells.get(shell.id) is shell:
                del self._shells[shell.id]

    def _command(self, request: _Request, caller: Caller) -> str:
        line = request.child("rsp:CommandLine")
        proposed = line.get("CommandId", "")
        command_id = proposed if proposed and not self._plugin.numbers_by_itself else str(uuid.uuid4()).upper()
        payload = _decode("".join(part.text or "" for part in line.findall("rsp:Arguments", NAMESPACES)))
        shell = self._find(request, caller)
        with shell as plugin:
            pipe = shell.add_command(command_id, self._quotas.pipelines_per_shell)
            try:
                plugin.command(command_id, payload, pipe)
            except Exception:
                shell.drop_command(command_id)
                raise
        return f"<rsp:CommandResponse><rsp:CommandId>{escape(command_id)}</rsp:CommandId></rsp:CommandResponse>"

    def _send(self, request: _Request, caller: Caller) -> str:
        if self._faults.drops_send():
            raise ConnectionReset
        shell = self._find(request, caller)
        with shell as plugin:
            for stream in request.child("rsp:Send").findall("rsp:Stream", NAMESPACES):
                command_id = stream.get("CommandId")
                if command_id is not None:
                    shell.pipe(command_id)  # refuses a command that is not there
                plugin.send(command_id, _decode(stream.text or ""))
        return "<rsp:SendResponse/>"

    def _receive(self, request: _Request, caller: Caller) -> str:
        seconds = self._faults.hang()
        if seconds and caller.gone.wait(seconds):
            raise ConnectionReset
        shell = self._find(request, caller)
        command_id = request.child("rsp:Receive/rsp:DesiredStream").get("CommandId")
        room = self._room(request)
        with shell:
            if command_id is None:
                pieces, _ = shell.out.take(room=room, timeout=request.timeout, grace=0.0)
                return f"<rsp:ReceiveResponse>{_streams(pieces, '')}</rsp:ReceiveResponse>"
            pieces, done = shell.pipe(command_id).take(room=room, timeout=request.timeout, grace=_GRACE)
        attribute = f' CommandId="{escape(command_id)}"'
        state = f'<rsp:CommandState{attribute} State="{_DONE if done else _RUNNING}"/>'
        return f"<rsp:ReceiveResponse>{_streams(pieces, attribute)}{state}</rsp:ReceiveResponse>"

    def _signal(self, request: _Request, caller: Caller) -> str:
        signal = request.child("rsp:Signal")
        command_id = signal.get("CommandId")
        code = signal.findtext("rsp:Code", "", NAMESPACES).strip().lower()
        if command_id is None:
            raise _malformed("no CommandId in the Signal")
        shell = self._find(request, caller)
        with shell as plugin:
            shell.pipe(command_id)
            if code.endswith("/terminate"):
                plugin.terminate(command_id)
                shell.drop_command(command_id)
            elif code.endswith(("/ctrl_c", "/ctrl_break")):
                plugin.stop(command_id)
            else:
                raise _malformed(f"unknown signal {code!r}")
        return "<rsp:SignalResponse/>"

    def _delete(self, request: _Request, caller: Caller) -> str:
        shell = self._find(request, caller)
        self._forget(shell)
        shell.close(_aborted())
        return ""

    def _get(self, request: _Request, caller: Caller) -> str:
        if request.resource_uri.rstrip("/") == NAMESPACES["cfg"]:
            kilobytes = self._quotas.envelope // 1024
            return f"<cfg:Config><cfg:MaxEnvelopeSizekb>{kilobytes}</cfg:MaxEnvelopeSizekb></cfg:Config>"
        return self._describe(self._find(request, caller))

    def _room(self, request: _Request) -> int:
        """How much payload an answer may carry, as base64."""
        return min(request.max_envelope, self._quotas.envelope) - _ENVELOPE_OVERHEAD

    def _find(self, request: _Request, caller: Caller) -> _Shell:
        with self._lock:
            shell = self._shells.get(request.shell_id)
        if shell is None or caller.generation != self.generation:
            raise _shell_gone()
        if shell.user != caller.user:
            raise _access_denied()
        return shell

    def _describe(self, shell: _Shell) -> str:
        return (
            f"<rsp:Shell><rsp:ShellId>{escape(shell.id)}</rsp:ShellId>"
            f"<rsp:ResourceUri>{escape(shell.resource_uri)}</rsp:ResourceUri>"
            f"<rsp:Owner>{escape(shell.user)}</rsp:Owner><rsp:ClientIP>{escape(shell.address)}</rsp:ClientIP>"
            f"<rsp:IdleTimeOut>PT{shell.idle_timeout:.3f}S</rsp:IdleTimeOut>"
            "<rsp:InputStreams>stdin pr</rsp:InputStreams><rsp:OutputStreams>stdout</rsp:OutputStreams>"
            f"<rsp:ShellRunTime>PT{shell.age:.0f}S</rsp:ShellRunTime>"
            f"<rsp:ShellInactivity>PT{shell.idle_for:.0f}S</rsp:ShellInactivity>"
            "<rsp:State>Connected</rsp:State></rsp:Shell>"
        )

    def _identify(self) -> bytes:
        stack = "2.0" if self._plugin.numbers_by_itself else "3.0"
        text = (
            f'<s:Envelope xmlns:s="{NAMESPACES["s"]}"><s:Header/><s:Body>'
            f'<wsmid:IdentifyResponse xmlns:wsmid="{NAMESPACES["wsmid"]}">'
            f"<wsmid:ProtocolVersion>{NAMESPACES['w']}</wsmid:ProtocolVersion>"
            "<wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
            f"<wsmid:ProductVersion>OS: 0.0.0 SP: 0.0 Stack: {stack}</wsmid:ProductVersion>"
            "</wsmid:IdentifyResponse></s:Body></s:Envelope>"
        )
        return text.encode()


# --- envelopes ---------------------------------------------------------------------------------------------


class _NoDoctype(ET.TreeBuilder):
    """A request has no business declaring a document type; with it go all entity attacks."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called by the parser as soon as a declaration begins."""
        raise _malformed("document type declarations are not allowed")


def _parse(envelope: bytes) -> ET.Element:
    try:
        parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 (that target refuses what the rule fears)
        parser.feed(envelope)
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise _malformed(f"not well-formed ({error})") from error
    if not isinstance(root, ET.Element) or root.tag != f"{{{NAMESPACES['s']}}}Envelope":
        raise _malformed("not a SOAP 1.2 envelope")
    return root


def _take_apart(root: ET.Element) -> _Request:
    header = root.find("s:Header", NAMESPACES)
    body = root.find("s:Body", NAMESPACES)
    if header is None or body is None:
        raise _malformed("no header or no body")
    shell_id = ""
    for selector in header.findall("w:SelectorSet/w:Selector", NAMESPACES):
        if selector.get("Name") == "ShellId":
            shell_id = (selector.text or "").strip()
    timeout = header.findtext("w:OperationTimeout", "", NAMESPACES).strip()
    largest = header.findtext("w:MaxEnvelopeSize", "", NAMESPACES).strip()
    if largest and (not largest.isdecimal() or int(largest[:9]) < _SMALLEST_ENVELOPE):
        raise _malformed(f"MaxEnvelopeSize {largest!r}")
    return _Request(
        action=header.findtext("a:Action", "", NAMESPACES).strip(),
        message_id=header.findtext("a:MessageID", "", NAMESPACES).strip(),
        resource_uri=header.findtext("w:ResourceURI", "", NAMESPACES).strip(),
        shell_id=shell_id,
        timeout=min(_seconds(timeout), _LONGEST_WAIT) if timeout else 60.0,
        max_envelope=int(largest) if largest else Quotas().envelope,
        body=body,
    )


_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)


def _seconds(duration: str) -> float:
    match = _DURATION.fullmatch(duration)
    if match is None or not any(match.groups()):
        raise _malformed(f"duration {duration!r}")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed(f"no base64 ({error})") from error


def _streams(pieces: list[bytes], attribute: str) -> str:
    return "".join(
        f'<rsp:Stream Name="stdout"{attribute}>{base64.b64encode(piece).decode()}</rsp:Stream>' for piece in pieces
    )


def _answer_to(action: str) -> str:
    return f"{action}Response"


def _envelope(action: str, relates_to: str, body: str) -> bytes:
    return (
        f'<s:Envelope xml:lang="en-US" {_DECLARATIONS}><s:Header><a:Action>{escape(action)}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{_ANONYMOUS}</a:To>"
        f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def _fault_envelope(fault: WSManFault, relates_to: str, machine: str) -> bytes:
    text = escape(fault.message)
    body = (
        f"<s:Fault><s:Code><s:Value>s:{'Sender' if fault.sender else 'Receiver'}</s:Value>"
        f"<s:Subcode><s:Value>{fault.subcode}</s:Value></s:Subcode></s:Code>"
        f'<s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason>'
        f'<s:Detail><f:WSManFault Code="{fault.code}" Machine="{escape(machine)}">'
        f"<f:Message>{text}</f:Message></f:WSManFault></s:Detail></s:Fault>"
    )
    return _envelope(NAMESPACES["w"].removesuffix(".xsd") + "/fault", relates_to, body)
