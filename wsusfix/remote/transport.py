"""pypsrp's connection with rules of its own: whatever a server answers is bounded in time, size and shape.

It stands between pypsrp and the wire: deadlines over every request, no redirects, no retries, no plain answer where
encryption is required, no XML out of all proportion.  It refuses to know sessions, scripts and what is asked.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.etree import ElementTree as ET
from xml.parsers import expat

from wsusfix.remote import _quiet  # before pypsrp is imported

# isort: split
import requests
from pypsrp.exceptions import SerializationError, WinRMTransportError
from pypsrp.powershell import RunspacePool
from pypsrp.serializer import Serializer
from pypsrp.wsman import WSMan, _TransportHTTP

from wsusfix import errors
from wsusfix.options import Connection, Credentials
from wsusfix.present import printable
from wsusfix.remote.dial import dial

__all__ = ["CarefulPool", "CarefulTransport", "CarefulWSMan"]

#: WinRM 2.0's envelope is 150 KiB; one byte more keeps pypsrp from asking whether it may be larger.
_ENVELOPE: Final = 153601
#: The largest body of one HTTP answer that is read: several times the largest envelope that is asked for.
_MAX_BODY: Final = 1024 * 1024
#: The most that is read until one script has answered.
_MAX_ANSWER: Final = 4 * 1024 * 1024
#: Elements below each other, and in all, of one XML text; an honest error record has some hundred.
_MAX_DEPTH: Final = 100
_MAX_ELEMENTS: Final = 10_000
#: Read at once, in bytes.
_PIECE: Final = 64 * 1024
#: The one kind of encrypted answer there is without CredSSP; pypsrp would build patterns of whatever boundary comes.
_SEALED: Final = re.compile(
    r'multipart/encrypted;\s*protocol="[\w./-]{1,80}";\s*boundary="Encrypted Boundary"', re.ASCII
)
#: So many seconds longer than the server may hold a request its answer is waited for.
_SLACK: Final = 5.0


def _check_xml(text: bytes | str) -> None:
    """Refuse XML that no WinRM server sends and that costs time or memory out of all proportion to its size.

    Raises:
        ProtocolError: it declares a document type (and with it entities), or nests without end.
        expat.ExpatError: it is not well-formed, which pypsrp would pass on as if it were text.
    """
    parser = expat.ParserCreate()
    depth = count = 0

    def begin(*_: object) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > _MAX_DEPTH or count > _MAX_ELEMENTS:
            raise errors.ProtocolError("the server's answer nests or goes on without end")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> None:
        raise errors.ProtocolError("the server's answer declares a document type")

    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = begin, end, doctype
    parser.Parse(text, True)


class _Serializer(Serializer):
    """pypsrp's serializer, which looks at a text before it parses it and does not warn about what it cannot read."""

    def deserialize(self, element: Any, metadata: Any = None, clear: bool = True) -> Any:
        if isinstance(element, str):
            _check_xml(element)
        try:
            return super().deserialize(element, metadata, clear)
        except SerializationError as error:
            raise errors.ProtocolError(f"an object cannot be read: {printable(str(error), 200)}") from error


class CarefulPool(RunspacePool):
    """pypsrp's runspace pool with a careful serializer; what a server wants to warn of is not for our terminal."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._serializer = self._fragmenter.serializer = _Serializer()

    def _process_runspacepool_warning(self, message: object) -> None:
        """Drop it."""


class _Timed(io.RawIOBase):
    """A socket's bytes, read until a deadline however slowly they trickle in; a time out begins anew with each."""

    def __init__(self, raw: Any, transport: CarefulTransport) -> None:
        self._raw = raw
        self._transport = transport
        #: By this name pypsrp asks for the certificate to bind the authentication to.
        self._sock: socket.socket = raw._sock

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def readinto(self, buffer: Any) -> int | None:
        self._transport.check_not_cut()
        left = self._transport.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer trickled in too slowly")
        self._sock.settimeout(min(left, self._sock.gettimeout() or left))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """The standard library's response, read through :class:`_Timed`, head and body."""

    def __init__(self, transport: CarefulTransport, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), transport))


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter; what it brings is read in bounded time and memory, and never unpacked."""

    def __init__(self, transport: CarefulTransport) -> None:
        self._transport = transport
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        self._watch(manager)
        return manager

    def _watch(self, manager: Any) -> None:
        """Let the transport know every connection that *manager* makes: there is no other way to find one in use."""

        def watched(make_pool: Callable[..., Any]) -> Callable[..., Any]:
            def make(*args: Any, **options: Any) -> Any:
                pool = make_pool(*args, **options)
                connect = pool.ConnectionCls
                pool.ConnectionCls = lambda *args, **options: self._transport.take(connect(*args, **options))
                return pool

            return make

        classes = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: watched(make) for scheme, make in classes.items()}

    def send(self, *args: Any, **options: Any) -> requests.Response:
        response = super().send(*args, **options)
        # Whoever asks for the content reads it so: requests, its hooks, and pypsrp's authentication.
        response.iter_content = functools.partial(self._transport.read, response.raw)  # type: ignore[method-assign]
        return response


class CarefulTransport(_TransportHTTP):
    """pypsrp's transport with rules of its own: deadlines, bounds, no redirects, and no plain answer where encryption
    is required.
    """

    deadline: float = 0.0
    allowed: tuple[float, float] = (15.0, 25.0)
    received: int = 0
    _is_cut = False
    _line: Any = None

    def send(self, message: bytes, *, retries_on_read_timeout: int = 0, timeout: Any = None) -> bytes:
        """Send one message once, within ``allowed`` (seconds to connect; to send, and again to answer)."""
        known = self.encryption is not None
        try:
            # urllib3 sends within the time for connecting, which is too short for a slow line: see _dial for that.
            answer = super().send(message, retries_on_read_timeout=0, timeout=self.allowed[1])
        except WinRMTransportError as error:
            if error.code == 400 and known:
                raise errors.IdleDropError(
                    "HTTP 400: the server dropped the idle connection and its encryption"
                ) from error
            raise
        _check_xml(answer)
        return answer

    def cut(self) -> None:
        """Cut the connection, from any thread, and allow no other; whoever waits for an answer wakes up."""
        self._is_cut = True
        line = getattr(self._line, "sock", None)
        if line is not None:
            with contextlib.suppress(OSError):  # closed already
                line.shutdown(socket.SHUT_RDWR)

    def check_not_cut(self) -> None:
        """Looked at before every wait for an answer, for whoever cuts may find no connection yet.

        Raises:
            BrokenConnectionError: the connection was cut.
        """
        if self._is_cut:
            raise errors.BrokenConnectionError("the connection was cut on this side")

    def take(self, connection: Any) -> Any:
        """Remember a connection that was made last, and let its making and its answers keep the deadline."""
        connection.response_class = functools.partial(_Answer, self)
        connection._new_conn = functools.partial(self._dial, connection)
        self._line = connection
        return connection

    def _dial(self, connection: Any) -> socket.socket:
        line = dial(connection, min(self.deadline, time.monotonic() + self.allowed[0]))
        # For the handshake of TLS, and for the first request, which is small.
        line.settimeout(max(0.001, min(self.deadline - time.monotonic(), self.allowed[0])))
        return line

    def close(self) -> None:
        """Close the connection, too, which urllib3 would leave to whatever collects its pool."""
        super().close()
        if self._line is not None:
            self._line.close()
            self._line = None

    def read(self, raw: Any, *_: object, **__: object) -> Iterator[bytes]:
        """Read a body as it is sent, never unpacked, within bounds for itself and for the whole answer of a script."""
        size = 0
        while piece := raw.read(_PIECE, decode_content=False):
            size += len(piece)
            self.received += len(piece)
            if size > _MAX_BODY or self.received > _MAX_ANSWER:
                raw.close()
                raise errors.ProtocolError("the server's answer does not end")
            yield piece

    def _send_request(self, request: requests.PreparedRequest, timeout: Any = None) -> bytes:
        self.check_not_cut()
        return super()._send_request(request, timeout)

    def _build_session(self) -> requests.Session:
        session = super()._build_session()
        # What counts of the environment has been read; to read it for every message takes longer than to encrypt that.
        session.trust_env = False
        # WinRM does not redirect; whoever does would be given the log-on.
        session.max_redirects = 0
        session.hooks["response"].append(self._look_at)
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self))
        return session

    def _look_at(self, response: requests.Response, **_: object) -> requests.Response:
        """Refuse what only somebody in between or another service answers; called when the log-on is through."""
        kind = response.headers.get("content-type", "")
        sealed = _SEALED.fullmatch(kind) is not None
        if kind.startswith("multipart/") and not sealed:
            raise errors.ProtocolError("an answer of several parts that no WinRM server gives")
        if not self.wrap_required or sealed or response.is_redirect:
            return response
        if response.ok and not getattr(self.session.auth if self.session else None, "contexts", None):
            raise errors.ProtocolError(
                "a web server answers that asks for no authentication: it is not WinRM",
                hint="another port? WinRM listens on 5985 and 5986",
            )
        if response.content and (response.ok or "soap" in kind):
            raise errors.ProtocolError(
                "an unencrypted answer on an encrypted connection",
                hint="somebody in between may be altering the traffic",
            )
        if response.encoding is None:
            response.encoding = "utf-8"  # to guess it takes requests longer than anything else here
        return response


class CarefulWSMan(WSMan):
    """pypsrp's WSMan made from typed options, with a deadline over all requests and none of its own retries."""

    def __init__(self, connection: Connection, credentials: Credentials) -> None:
        _quiet.hold()
        timeouts = connection.timeouts
        operation = int(timeouts.operation)
        super().__init__(
            server=connection.host.strip("[]"), max_envelope_size=_ENVELOPE, operation_timeout=max(1, operation)
        )
        self.transport: CarefulTransport = CarefulTransport(
            server=connection.host.strip("[]"),
            port=connection.effective_port,
            username=credentials.username,
            password=credentials.password,
            ssl=connection.ssl,
            auth=connection.auth,
            cert_validation=connection.ca_cert or True,  # type: ignore[arg-type]  # a path is taken too
            encryption=connection.encryption,
            proxy=connection.proxy,
            no_proxy=connection.proxy is None,
        )
        # As a URL writes the zone of an address, and as requests will: pypsrp looks the log-on up by it.
        self.transport.endpoint = self.transport.endpoint.replace("%", "%25")
        self._timeouts = timeouts

    def begin(self, deadline: float) -> None:
        """Give all requests from here on until *deadline*, monotonic, and their answers a fresh measure of bytes."""
        self.transport.deadline, self.transport.received = deadline, 0

    @property
    def deadline(self) -> float:
        """Monotonic time at which every request must have ended."""
        return self.transport.deadline

    @deadline.setter
    def deadline(self, value: float) -> None:
        """Put it off, or nearer."""
        self.transport.deadline = value

    @property
    def authentication(self) -> str:
        """The protocol that the negotiation ended in, ``""`` before it."""
        auth = getattr(self.transport.session, "auth", None)
        contexts = list(getattr(auth, "contexts", {}).values())
        return str(getattr(contexts[-1], "negotiated_protocol", "") or "") if contexts else ""

    def renew(self) -> None:
        """Let the next request open a new connection and authenticate anew; shells are not tied to connections."""
        self.transport.close()
        self.transport.session = None
        self.transport.encryption = None

    def invoke(
        self,
        action: str,
        resource_uri: str,
        resource: Any,
        option_set: Any = None,
        selector_set: Any = None,
        timeout: int | None = None,
        *,
        retries_on_read_timeout: int = 0,
    ) -> Any:
        """Send one request, bounded by the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise errors.DeadlineError("no answer within the time allowed")
        timeout = max(1, min(timeout or self.operation_timeout, int(left)))
        # The server holds a request for its operation time at most; a little longer, and it is in trouble.
        self.transport.allowed = (min(self._timeouts.connect, left), min(timeout + _SLACK, left))
        return super().invoke(action, resource_uri, resource, option_set, selector_set, timeout)

    @staticmethod
    def _parse_wsman_fault(xml_text: str) -> Any:
        """Return the fault in *xml_text*.

        Raises:
            ET.ParseError: there is none, which pypsrp takes for an error of HTTP.
        """
        try:
            _check_xml(xml_text)
        except (errors.ProtocolError, expat.ExpatError) as error:
            raise ET.ParseError(str(error)) from error
        fault = WSMan._parse_wsman_fault(xml_text)
        if fault.code is None and fault.reason is None:
            raise ET.ParseError("not a fault")
        return fault
