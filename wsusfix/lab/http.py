"""The door of a simulated server: HTTP/1.1 on loopback, NTLM for each connection, message encryption.

Connections live and die here, with everything that can happen to them on the way. What the messages say is unknown:
in clear text they go to the WS-Management service. ``Endpoint`` at the end is where the layers are put together.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import ipaddress
import logging
import math
import re
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import BinaryIO, Protocol, final

import spnego

from .accounts import Account, Accounts
from .faults import Faults
from .psrp import PowerShellPlugin, ScriptRunner
from .wsman import Caller, ConnectionReset, Plugin, Quotas, Service, ShellInfo

__all__ = ["Account", "Accounts", "Endpoint", "EndpointPlugin", "Faults", "Quotas", "ShellInfo"]

log = logging.getLogger("wsusfix.lab")
log.addHandler(logging.NullHandler())

_SEALED = "application/HTTP-SPNEGO-session-encrypted"
_BOUNDARY = b"--Encrypted Boundary"
_SEALED_TYPE = f'multipart/encrypted;protocol="{_SEALED}";boundary="Encrypted Boundary"'
_LONGEST_HEAD = 65_536
_LONGEST_BODY = 16 * 1024 * 1024
# What encryption adds to an envelope: MIME headers and a signature.
_SEAL_OVERHEAD = 1024
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    411: "Length Required", 413: "Request Entity Too Large", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip
# How long stop() waits for threads before it gives them up.
_PATIENCE = 10.0
_JANITOR_PERIOD = 1.0


class _BadRequest(Exception):
    """The bytes are no request that could be answered in step; the connection ends with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class _Response:
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    last: bool = False

    def encode(self) -> bytes:
        head = [
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}",
            *(f"{name}: {value}" for name, value in self.headers),
            "Server: Microsoft-HTTPAPI/2.0",
            f"Date: {formatdate(usegmt=True)}",
            *(["Connection: close"] if self.last else []),
            f"Content-Length: {len(self.body)}",
        ]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + self.body


@dataclass(eq=False)
class _Connection:
    """One TCP connection, and who it turned out to be."""

    socket: socket.socket
    reader: BinaryIO
    address: str
    generation: int
    gone: threading.Event = field(default_factory=threading.Event)
    handshake: spnego.ContextProxy | None = None
    context: spnego.ContextProxy | None = None
    account: Account | None = None
    epoch: int = 0

    def abort(self) -> None:
        """Cut the connection from any thread: whoever reads or waits on it wakes up."""
        self.gone.set()
        _reset_on_close(self.socket)
        with contextlib.suppress(OSError):  # closed already
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.gone.set()
        with contextlib.suppress(OSError):
            self.reader.close()
        self.socket.close()

    def forget(self) -> None:
        self.handshake = self.context = self.account = None


def _reset_on_close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Authenticator:
    """NTLM, raw or within SPNEGO, and the encryption that it agrees on."""

    def __init__(self, accounts: Accounts, faults: Faults) -> None:
        self._accounts = accounts
        self._faults = faults

    def step(self, connection: _Connection, token: bytes) -> _Response | None:
        """One leg of the handshake: the response to send, or None when the client is in (its answer comes later)."""
        if connection.handshake is None:
            connection.forget()
            connection.handshake = spnego.server(
                protocol="negotiate",
                # Always the pure Python acceptor: what GSSAPI offers differs from machine to machine.
                options=spnego.NegotiateOptions.wrapping_winrm | spnego.NegotiateOptions.use_negotiate,
            )
        context = connection.handshake
        try:
            answer = context.step(token)
        except Exception:  # whatever a token can break, it is a refusal
            log.debug("log-on refused", exc_info=True)
            connection.forget()
            return _unauthorized()
        if not context.complete:
            return _unauthorized(answer or b"")
        account = self._accounts.find(context.client_principal)
        connection.forget()
        if account is None or self._faults.rejects_credentials():
            return _unauthorized()
        connection.context, connection.account = context, account
        connection.epoch = self._faults.encryption_epoch
        return None if answer is None else _Response(200, headers=(_challenge(answer),))


def _challenge(token: bytes = b"") -> tuple[str, str]:
    return "WWW-Authenticate", f"Negotiate {base64.b64encode(token).decode()}".rstrip()


def _unauthorized(token: bytes = b"") -> _Response:
    return _Response(401, headers=(_challenge(token),))


def _seal(context: spnego.ContextProxy, envelope: bytes) -> bytes:
    header, data, padding = context.wrap_winrm(envelope)
    lines = (
        _BOUNDARY,
        f"\tContent-Type: {_SEALED}".encode(),
        f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(envelope) + padding}".encode(),
        _BOUNDARY,
        b"\tContent-Type: application/octet-stream",
        b"",
    )
    return b"\r\n".join(lines) + struct.pack("<i", len(header)) + header + data + _BOUNDARY + b"--\r\n"


_SEALED_BODY = re.compile(
    rb"--\s?Encrypted Boundary\r\n"
    rb"\s*Content-Type:\s*" + re.escape(_SEALED.encode()) + rb"\r\n"
    rb"\s*OriginalContent:[^\r\n]*?Length=(\d{1,9})\r\n"
    rb"--\s?Encrypted Boundary\r\n"
    rb"\s*Content-Type:\s*application/octet-stream\r\n",
    re.IGNORECASE,
)
_SEALED_END = re.compile(rb"--\s?Encrypted Boundary--(?:\r\n)?\Z")


def _unseal(context: spnego.ContextProxy, body: bytes) -> bytes:
    """The envelope in an encrypted body; raises ValueError for anything else."""
    begin = _SEALED_BODY.match(body)
    end = _SEALED_END.search(body, max(0, len(body) - 64))
    if begin is None or end is None:
        raise ValueError("not an encrypted message")
    sealed = body[begin.end() : end.start()]
    if len(sealed) < 4:
        raise ValueError("the encrypted message is empty")
    (length,) = struct.unpack("<i", sealed[:4])
    if not 0 <= length <= len(sealed) - 4:
        raise ValueError("the encrypted message has a wrong signature length")
    try:
        envelope = context.unwrap_winrm(sealed[4 : 4 + length], sealed[4 + length :])
    except Exception as error:  # spnego has several roots of errors; all of them mean a broken seal
        raise ValueError(f"the seal is broken: {error}") from error
    if len(envelope) != int(begin.group(1)):
        raise ValueError("the encrypted message has a wrong length")
    return envelope


class EndpointPlugin(Plugin, Protocol):
    """A plug-in whose work an endpoint can wait for when it stops."""

    def join(self, timeout: float) -> None:
        """Wait until everything that was stopped has really ended."""


@final
class Endpoint:
    """One simulated server's WinRM listener. ``start`` it, point pypsrp at ``address`` and ``port``, ``stop`` it."""

    def __init__(
        self,
        runner: ScriptRunner,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        accounts: Accounts,
        powershell_version: str = "2.0",
        quotas: Quotas | None = None,
        faults: Faults | None = None,
        plugin: EndpointPlugin | None = None,
    ) -> None:
        if not ipaddress.ip_address(address).is_loopback:
            raise ValueError(f"{address} is no loopback address: the lab is reachable from this machine only")
        self.address = address
        self.port = port
        self.latency = 0.0
        self.faults = Faults() if faults is None else faults
        self.quotas = Quotas.for_powershell(powershell_version) if quotas is None else quotas
        self._accounts = accounts
        self._plugin: EndpointPlugin = PowerShellPlugin(runner, powershell_version) if plugin is None else plugin
        self._service = Service(self._plugin, self.quotas, self.faults, machine=address)
        self._authenticator = _Authenticator(accounts, self.faults)
        self._lock = threading.Lock()
        self._one_reboot = threading.Lock()
        self._request_count = 0
        self._bytes_received = 0
        self._bytes_sent = 0
        self._running = False
        self._listener: socket.socket | None = None
        self._down_until = 0.0
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._acceptor: threading.Thread | None = None
        self._connections: dict[_Connection, threading.Thread] = {}

    # --- from outside --------------------------------------------------------------------------------------

    @property
    def request_count(self) -> int:
        """POSTs answered, those of the NTLM handshake included."""
        with self._lock:
            return self._request_count

    @property
    def bytes_received(self) -> int:
        """Bytes of request bodies, as they came from the sockets."""
        with self._lock:
            return self._bytes_received

    @property
    def bytes_sent(self) -> int:
        """Bytes of responses, heads included, as they went into the sockets."""
        with self._lock:
            return self._bytes_sent

    @property
    def shells(self) -> tuple[ShellInfo, ...]:
        """The shells that are open now."""
        return self._service.shells

    def start(self) -> None:
        """Listen; from here on ``port`` is the real one."""
        with self._lock:
            if self._running:
                return
            listener = _listen(self.address, self.port)
            try:
                self._accounts.enrol()
            except Exception:
                listener.close()
                raise
            self.port = listener.getsockname()[1]
            self._listener = listener
            self._down_until = 0.0
            self._wake = socket.socketpair()
            self._running = True
            self.faults.on_lose_shells(self._service.close_shells)
            self._acceptor = threading.Thread(target=self._accept, name=f"wsusfix-lab-{self.address}", daemon=True)
            self._acceptor.start()

    def stop(self) -> None:
        """Close everything and wait for it; calling it again does nothing."""
        with self._lock:
            if not self._running:
                return
            self._running = False
            acceptor, wake, listener = self._acceptor, self._wake, self._listener
            self._acceptor = self._wake = self._listener = None
            threads = list(self._connections.values())
            for connection in self._connections:
                connection.abort()
        assert acceptor is not None
        assert wake is not None
        self.faults.forget_listener(self._service.close_shells)
        wake[1].send(b"x")
        self._service.close_shells(reboot=True)
        for thread in (acceptor, *threads):
            if thread is not threading.current_thread():
                thread.join(_PATIENCE)
        if listener is not None:
            listener.close()
        for end in wake:
            end.close()
        self._plugin.join(_PATIENCE)
        self._accounts.dismiss()

    def reboot(self, seconds: float = 0.0) -> None:
        """Go down at once, with every connection, shell and pipeline; refuse connections for so long; come back.

        Does not wait, so that a script may restart the server it runs on.
        """
        with self._one_reboot:
            with self._lock:
                if self._listener is None:
                    return
                self._down_until = math.inf
                self._listener.close()
                # Bound, but deaf: connections are refused, and nobody else gets the port meanwhile.
                self._listener = _bind(self.address, self.port)
                for connection in self._connections:
                    connection.abort()
            self._service.close_shells(reboot=True)
            with self._lock:
                self._down_until = time.monotonic() + seconds
                if self._wake is not None:
                    self._wake[1].send(b"x")

    def __enter__(self) -> Endpoint:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- connections ---------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            with self._lock:
                if self._wake is None or self._listener is None:
                    return
                wake, listener = self._wake[0], self._listener
                now = time.monotonic()
                if self._down_until and now >= self._down_until:
                    listener.listen()
                    self._down_until = 0.0
                down = self._down_until
            with selectors.DefaultSelector() as selector:
                selector.register(wake, selectors.EVENT_READ)
                try:
                    if not down:
                        selector.register(listener, selectors.EVENT_READ)
                    for key, _ in selector.select(min(_JANITOR_PERIOD, down - now) if down else _JANITOR_PERIOD):
                        if key.fileobj is wake:
                            wake.recv(64)
                        else:
                            self._welcome(listener.accept()[0])
                except (OSError, ValueError) as error:
                    # A reboot replaced the listener, or the client went away again; or this process is out of
                    # descriptors, which a short rest may mend and a busy loop would not.
                    log.debug("no connection: %s", error)
                    time.sleep(0.01)
            self._service.expire()

    def _welcome(self, client: socket.socket) -> None:
        try:
            client.settimeout(self.quotas.idle_connection)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = client.getpeername()[0]
        except OSError:
            client.close()
            raise
        connection = _Connection(client, client.makefile("rb"), peer, self._service.generation)
        thread = threading.Thread(target=self._serve, args=(connection,), name="wsusfix-lab-connection", daemon=True)
        with self._lock:
            if not self._running or self._down_until:
                _reset_on_close(client)
                connection.close()
                return
            self._connections[connection] = thread
            # Within the lock: stop() joins every thread that it finds here.
            thread.start()

    def _serve(self, connection: _Connection) -> None:
        try:
            while not connection.gone.is_set():
                try:
                    request = self._read(connection)
                    if request is None:
                        break
                    response = self._answer(connection, request)
                except _BadRequest as refusal:
                    response = _Response(refusal.status, last=True)
                with self._lock:
                    self._request_count += 1
                self._write(connection, response)
                if response.last:
                    break
        except ConnectionReset:
            _reset_on_close(connection.socket)
        except OSError as error:
            log.debug("connection from %s ended: %s", connection.address, error)
        except Exception:
            log.exception("a connection failed")
        finally:
            with self._lock:
                del self._connections[connection]
            connection.close()

    def _write(self, connection: _Connection, response: _Response) -> None:
        data = response.encode()
        with self._lock:
            self._bytes_sent += len(data)
        if self.faults.breaks_response():
            connection.socket.sendall(data[: len(data) // 2])
            raise ConnectionReset
        connection.socket.sendall(data)

    def _read(self, connection: _Connection) -> _Request | None:
        """The next request; None when the client has gone or has been idle for too long."""
        head = _read_head(connection.reader)
        if head is None:
            return None
        method, path, headers = head
        if "transfer-encoding" in headers:
            raise _BadRequest(411)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 12:
            raise _BadRequest(400)
        size = int(length)
        if size > _LONGEST_BODY:
            raise _BadRequest(413)
        if headers.get("expect", "").lower() == "100-continue":
            connection.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = connection.reader.read(size)
        with self._lock:
            self._bytes_received += len(body)
        if len(body) < size:
            raise ConnectionReset
        if self.faults.is_too_large(size) or size > self.quotas.envelope + _SEAL_OVERHEAD:
            # The message is never decrypted, so both sides' keys are out of step from here on.
            raise _BadRequest(413)
        return _Request(method, path, headers, body)

    # --- requests ------------------------------------------------------------------------------------------

    def _answer(self, connection: _Connection, request: _Request) -> _Response:
        if self.latency > 0 and connection.gone.wait(self.latency):
            raise ConnectionReset
        if self.faults.breaks_request():
            raise ConnectionReset
        if request.method != "POST":
            return _Response(405, headers=(("Allow", "POST"),), last=True)
        if request.path.partition("?")[0].rstrip("/").lower() != "/wsman":
            return _Response(404, last=True)
        if self.faults.is_unavailable():
            return _Response(503, last=True)
        if connection.context is not None and connection.epoch != self.faults.encryption_epoch:
            self.faults.note("stale_encryption")
            connection.forget()
        authorization = request.headers.get("authorization", "")
        if authorization:
            refusal = self._log_on(connection, authorization)
            if refusal is not None and (refusal.status != 200 or not request.body):
                return refusal
        if request.headers.get("content-type", "").lower().startswith("multipart/encrypted"):
            return self._answer_sealed(connection, request.body)
        if connection.account is None:
            return _unauthorized()
        if request.body:
            # AllowUnencrypted is off, as by default.
            return _Response(500)
        return _Response(200)

    def _log_on(self, connection: _Connection, authorization: str) -> _Response | None:
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() not in ("negotiate", "ntlm"):
            return _unauthorized()
        try:
            token = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            return _unauthorized()
        return self._authenticator.step(connection, token)

    def _answer_sealed(self, connection: _Connection, body: bytes) -> _Response:
        context, account = connection.context, connection.account
        if context is None or account is None:
            return _Response(400)
        try:
            envelope = _unseal(context, body)
        except ValueError as error:
            log.debug("message refused: %s", error)
            connection.forget()
            return _Response(400)
        if len(envelope) > self.quotas.envelope:
            return _Response(413, last=True)
        caller = Caller(
            user=account.name,
            administrator=account.administrator,
            address=connection.address,
            generation=connection.generation,
            gone=connection.gone,
        )
        reply = self._service.handle(envelope, caller)
        if connection.gone.is_set():
            raise ConnectionReset
        return _Response(reply.status, _seal(context, reply.envelope), (("Content-Type", _SEALED_TYPE),))


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _listen(address: str, port: int) -> socket.socket:
    listener = _bind(address, port)
    listener.listen()
    return listener


def _read_head(reader: BinaryIO) -> tuple[str, str, dict[str, str]] | None:
    """Request line and headers; None at the end of the connection, or when it has idled away."""
    try:
        line = reader.readline(_LONGEST_HEAD)
        while line in (b"\r\n", b"\n"):
            line = reader.readline(_LONGEST_HEAD)
    except TimeoutError:
        return None
    if not line:
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not line.endswith(b"\n"):
        raise _BadRequest(400)
    headers: dict[str, str] = {}
    left = _LONGEST_HEAD
    while True:
        line = reader.readline(left)
        left -= len(line)
        if line in (b"\r\n", b"\n"):
            return parts[0], parts[1], headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not line.endswith(b"\n") or left <= 0:
            raise _BadRequest(400)
        headers[name.strip().lower()] = value.strip()
