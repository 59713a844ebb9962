"""Servers for tests that need more than the lab's usual manners, and what such tests ask and watch.

An :class:`Asked` answers scripts as a test says, behind the lab's own endpoint; :func:`bent` twists that endpoint's
envelopes after a real log-on; :func:`raw` is a bare socket for those that never speak WinRM at all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests import builders
from wsusfix import scripts
from wsusfix.lab import Lab
from wsusfix.lab.accounts import Account, Accounts
from wsusfix.lab.http import Endpoint
from wsusfix.lab.psrp import Output, ScriptCall
from wsusfix.lab.wsman import Caller, Reply
from wsusfix.options import Connection, Credentials, Timeouts
from wsusfix.remote import dial
from wsusfix.remote.session import Session

#: Fit for a user file, for NTLM and for the eye.
PASSWORD: Final = "Geheim-7 no?"
ACCOUNT: Final = Account("wire", PASSWORD)
#: Short enough for a test, long enough for a busy machine.
SHORT: Final = Timeouts(connect=3, operation=2, script=20, opening=20, upload=6)

Behaviour = Callable[[ScriptCall, Output], object]


def polled(**changes: Any) -> dict[str, Any]:
    """Return an answer of the smallest script there is."""
    return {"script": "poll_job", "kind": "", "status": "none", "states": "", "last": 0, "clock": "", **changes}


class Asked:
    """Answers scripts by name with what a test put there, and remembers the calls; facts are those of the builders.

    What is put there is an object to answer, or a function that writes answers by itself and returns ``None``.
    """

    def __init__(self, **answers: object) -> None:
        self.answers: dict[str, object] = {
            "facts": builders.answer(),
            "search_logs": builders.no_logs(),
            "poll_job": polled(),
            **answers,
        }
        self.calls: list[ScriptCall] = []

    def run(self, call: ScriptCall, output: Output) -> None:
        self.calls.append(call)
        answer = self.answers[scripts.name_of(call.script) or ""]
        if not callable(answer):
            output.write(answer)
            return
        written = answer(call, output)
        if written is not None:
            output.write(written)

    @property
    def names(self) -> list[str]:
        """Which scripts were asked for, in order."""
        return [scripts.name_of(call.script) or "" for call in self.calls]


@contextlib.contextmanager
def serving(
    asked: Asked | None = None, *, account: Account = ACCOUNT, orphans: bool = False, **options: Any
) -> Iterator[Endpoint]:
    """Serve at an endpoint; when nothing went wrong meanwhile, no shell may be left on it at the end.

    Args:
        asked: answers the scripts.
        account: may log on.
        orphans: shells may be left, for a farewell cannot be said in this test.
        options: of the endpoint.
    """
    with Endpoint(asked or Asked(), accounts=Accounts([account]), **options) as endpoint:
        yield endpoint

        def none_left() -> bool:
            if orphans:
                endpoint.faults.lose_shells()
            return not endpoint.shells

        wait_until(none_left)


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this"
        time.sleep(0.005)


def reach(endpoint: Endpoint | RawServer, **changes: Any) -> dict[str, Any]:
    """Return the keyword arguments of :func:`wsusfix.connect`."""
    return {
        "host": endpoint.address,
        "port": endpoint.port,
        "username": ACCOUNT.name,
        "password": PASSWORD,
        "timeouts": SHORT,
        **changes,
    }


def session(endpoint: Endpoint | RawServer, *, on_retry: Any = None, **changes: Any) -> Session:
    """Return a session with the endpoint, not open yet."""
    arguments = reach(endpoint, **changes)
    credentials = Credentials(arguments.pop("username"), arguments.pop("password"))
    return Session(Connection(**arguments), credentials, on_retry=on_retry)


def ask(asking: Session, within: float | None = None) -> Mapping[str, Any]:
    """Run the smallest script there is."""
    parameters = {"staging_name": "wsusfix", "job_id": "abc", "after": 0, "start_seconds": 60}
    return asking.run(scripts.compose("poll_job"), parameters, phase="job", within=within)


def send(asking: Session, chunks: Callable[[], Iterator[bytes]], within: float | None = None) -> Mapping[str, Any]:
    """Run a script that takes input."""
    parameters = {"staging_name": "wsusfix", "sha256": "5a" * 32, "offset": "0", "length": "9", "segment": "9"}
    return asking.run(scripts.compose("receive"), parameters, phase="upload", within=within, chunks=chunks)


def received(call: ScriptCall, _: Output) -> dict[str, Any]:
    """Take all input and say how much it was."""
    size = sum(len(piece) for piece in call.input if isinstance(piece, bytes))
    return {"script": "receive", "refused": "", "detail": "", "received": str(size)}


# --- names ----------------------------------------------------------------------------------------------------------


class Name:
    """A name in our own names' service, which a test can let fail: the next *fails* questions, ``None`` for all.

    Args:
        address: what it stands for.
        error: what a question that fails ends in (``EAI_AGAIN`` is "no answer for the moment").
    """

    def __init__(self, address: str, *, fails: int | None = 0, error: int = socket.EAI_AGAIN) -> None:
        self.name = f"h{next(_NUMBERS)}.names.test"
        self.addresses: tuple[str, ...] = (address,)
        self.fails, self.error = fails, error
        #: How often it was asked for.
        self.asked = 0
        #: Nobody has an answer before it is set.
        self.answers = threading.Event()
        self.answers.set()
        _NAMES[self.name] = self

    def look_up(self, port: int) -> list[Any]:
        self.asked += 1
        self.answers.wait(60)
        if self.fails is None or self.fails > 0:
            self.fails = None if self.fails is None else self.fails - 1
            raise socket.gaierror(self.error, "the names' service of the tests says so")
        return [found for address in self.addresses for found in _look_up(address, port)]


_NUMBERS: Final = itertools.count(1)
_NAMES: Final[dict[str, Name]] = {}
_look_up: Final = dial._look_up


def _look_up_here_first(host: str, port: int) -> list[Any]:
    return _NAMES[host].look_up(port) if host in _NAMES else _look_up(host, port)


dial._look_up = _look_up_here_first


# --- an endpoint that is bent ---------------------------------------------------------------------------------------


def bent(endpoint: Endpoint, bend: Callable[[bytes, Reply], Reply], *, action: str = "") -> None:
    """Let *bend* make of every reply what it wants, given the request's envelope; those of one action only, if named.

    The replies are encrypted as ever: this is a server that knows the account and means ill, or is broken.
    """
    handle = endpoint._service.handle

    def bending(envelope: bytes, caller: Caller) -> Reply:
        reply = handle(envelope, caller)
        return bend(envelope, reply) if action.encode() in envelope else reply

    _handle(endpoint, bending)


def instead(endpoint: Endpoint, answer: Callable[[bytes], Reply], *, action: str) -> None:
    """Let *answer* take the place of what the endpoint does for one action, given the request's envelope."""
    handle = endpoint._service.handle

    def answering(envelope: bytes, caller: Caller) -> Reply:
        return answer(envelope) if action.encode() in envelope else handle(envelope, caller)

    _handle(endpoint, answering)


def _handle(endpoint: Endpoint, handle: Callable[[bytes, Caller], Reply]) -> None:
    vars(endpoint._service)["handle"] = handle


def straight(endpoint: Endpoint) -> None:
    """Take back :func:`bent` and :func:`instead`."""
    vars(endpoint._service).pop("handle", None)


def when(endpoint: Endpoint, happen: Callable[[], object], *, action: str) -> None:
    """Let *happen* whatever it is, once, when a request of one action has come and before it is carried out."""
    handle = endpoint._service.handle

    def looking(envelope: bytes, caller: Caller) -> Reply:
        if action.encode() in envelope:
            straight(endpoint)
            happen()
        return handle(envelope, caller)

    _handle(endpoint, looking)


def idle_away(endpoint: Endpoint) -> None:
    """Let every connection end on the server's side, as one that was idle for too long."""
    with endpoint._lock:
        connections = dict(endpoint._connections)
    for connection, thread in connections.items():
        connection.socket.shutdown(socket.SHUT_RD)
        thread.join(60)
        assert not thread.is_alive()


def answer_to(envelope: bytes, body: str, *, relates_to: str | None = None) -> bytes:
    """Return an answer to the request in *envelope*, as a reply's content."""
    asked = envelope.split(b"MessageID>")[1].split(b"<")[0].decode() if relates_to is None else relates_to
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing">'
        f"<s:Header><a:RelatesTo>{asked}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def fault(code: int | str, text: str = "in the server's language") -> bytes:
    """Return a WSMan fault's envelope, as a reply's content."""
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body><s:Fault>'
        "<s:Code><s:Value>s:Receiver</s:Value></s:Code>"
        f'<s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>'
        f'<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{code}" Machine="W">'
        f"<f:Message>{text}</f:Message></f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>"
    ).encode()


# --- a bare socket --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RawServer:
    """Where a bare server listens."""

    address: str
    port: int
    accepted: list[socket.socket]


@contextlib.contextmanager
def raw(talk: Callable[[socket.socket], None]) -> Iterator[RawServer]:
    """Serve every connection with *talk*, in a thread of its own; whatever it waits in ends with the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = RawServer("127.0.0.1", listener.getsockname()[1], [])
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            talk(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.accepted.append(connection)
            thread = threading.Thread(target=serve, args=(connection,), name="raw-connection", daemon=True)
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept, name="raw-acceptor", daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        # close() alone does not wake who waits in accept().
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for connection in server.accepted:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)


def read_request(connection: socket.socket) -> bytes:
    """Read one HTTP request, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise OSError("the client has gone")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(status: str, *headers: str, body: bytes = b"") -> Callable[[socket.socket], None]:
    """Return a talk that answers every request alike."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]

    def talk(connection: socket.socket) -> None:
        while True:
            read_request(connection)
            connection.sendall("\r\n".join(lines).encode() + body)

    return talk


def trickling(*pieces: bytes, pause: float = 0.1) -> Callable[[socket.socket], None]:
    """Return a talk that answers one request with *pieces*, the last one again and again, with pauses, for ever."""

    def talk(connection: socket.socket) -> None:
        read_request(connection)
        for piece in pieces[:-1]:
            connection.sendall(piece)
        while True:
            connection.sendall(pieces[-1])
            time.sleep(pause)

    return talk


def silent(connection: socket.socket) -> None:
    """A talk that takes everything and never says a word."""
    while connection.recv(65536):
        pass


def lab_engine() -> str | None:
    """What runs the scripts in the labs of the tests, ``None`` for the lab's own answers."""
    return os.environ.get("WSUSFIX_LAB_ENGINE") or None


def new_lab() -> Lab:
    """A lab of one's own, in the mode that the tests run in."""
    return Lab(engine=lab_engine())


# --- what may not be left -------------------------------------------------------------------------------------------


def _sockets() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("socket:"):
                found.add(target)
    return found


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Make sure that no thread and no socket more is there afterwards than before."""
    counted = Path("/proc/self/fd").is_dir()
    threads = set(threading.enumerate())
    sockets = _sockets() if counted else set()
    yield
    wait_until(lambda: not set(threading.enumerate()) - threads)
    if counted:
        # Without a collection: a socket that only the collector closes was left open.
        assert not _sockets() - sockets, "sockets were left open"
