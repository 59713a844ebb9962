"""One session with one server: one thread, one WSMan, one runspace pool, scripts in and contract answers out.

It opens, repeats what may be repeated, keeps deadlines, reopens what idled away, and closes whatever happens.  It
knows scripts by their contracts only and refuses to know what they are for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import requests
import tenacity
from pypsrp.complex_objects import GenericComplexObject, PSInvocationState
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.shell import SignalCode
from pypsrp.wsman import WSMan, _TransportHTTP

from wsusfix import errors
from wsusfix.errors import WsusFixError
from wsusfix.options import Connection, Credentials
from wsusfix.present import printable
from wsusfix.remote import faults
from wsusfix.scripts import Script
from wsusfix.scripts.contracts import ContractError, Scalar

__all__ = ["Session"]

_log: Final = logging.getLogger("wsusfix")

#: Asked of the server for our shells, in seconds: a killed controller's shell must not block one of five for long.
_IDLE_TIMEOUT: Final = 60
#: After idling so long we open a new shell before the old one fails us; Windows drops connections after about 120.
_IDLE: Final = 45.0
#: Pipelines that may run in the shell at once: WinRM 2.0 allows 15 processes a shell, and one is our own.
_MAX_LANES: Final = 8
#: WinRM 2.0's envelope is 150 KiB; one byte more keeps pypsrp from asking whether it may be larger.
_ENVELOPE: Final = 153601
#: The largest HTTP body that is read: several envelopes of the largest size that anybody configures.
_MAX_BODY: Final = 16 * 1024 * 1024
#: For the farewell, which must not keep anybody waiting.
_CLOSING: Final = 5.0
#: A deadline strikes between chunks of a body that is arriving only this much later.
_GRACE: Final = 5.0
#: A pipeline that gives more than this is not answering by any contract.
_MAX_OUTPUTS: Final = 100

#: What one try may end in: the libraries' errors, and our own from below.
_CAUGHT: Final[tuple[type[BaseException], ...]] = (*faults.LIBRARY_ERRORS, WsusFixError)

_T = TypeVar("_T")


class Session:
    """A session with one server; not for use by several threads at once.

    Args:
        connection: how to reach the server.
        credentials: who asks.
        on_retry: is told the error and the seconds until the next try.

    Raises (every method):
        WsusFixError: with host and phase.
    """

    def __init__(
        self,
        connection: Connection,
        credentials: Credentials,
        *,
        on_retry: Callable[[WsusFixError, float], None] | None = None,
    ) -> None:
        # The library logs envelopes and scripts, decrypted, and tracebacks of errors that are mapped here.
        logging.getLogger("pypsrp").setLevel(logging.CRITICAL)
        logging.getLogger("spnego").setLevel(logging.CRITICAL)
        self.connection = connection
        self._credentials = credentials
        self._on_retry = on_retry
        self._wsman: _WSMan | None = None
        self._pool: RunspacePool | None = None
        self._pipeline: PowerShell | None = None
        self._used = 0.0
        self._authentication = ""

    def __enter__(self) -> Session:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.connection} {'open' if self._pool else 'closed'}>"

    @property
    def host(self) -> str:
        """The name the server is asked by."""
        return self.connection.host

    @property
    def authentication(self) -> str:
        """How we authenticated in the end: "kerberos" or "ntlm"; ``""`` before the first connection."""
        return self._authentication

    @property
    def powershell_version(self) -> str:
        """The server's PowerShell version as it said when the pool was opened (MS-PSRP 2.2.2.13)."""
        data = self._pool.application_private_data if self._pool else None
        table = (data.data if data is not None else None) or {}
        version = table.get("PSVersionTable", {}) if isinstance(table, Mapping) else {}
        return printable(str(version.get("PSVersion", "")), 40) if isinstance(version, Mapping) else ""

    # --- opening and closing ----------------------------------------------------------------------------------------

    def open(self, *, within: float | None = None) -> None:
        """Open the session, within ``timeouts.opening`` seconds; a server that just started may refuse at first."""
        deadline = time.monotonic() + (self.connection.timeouts.opening if within is None else within)
        self._repeat(self._open_once, "connect", deadline, _worth_another_opening)

    def close(self) -> None:
        """Close the session; never raises, and never waits longer than a few seconds."""
        try:
            self._part()
        except _CAUGHT as error:
            _log.debug("%s: closing: %s", self.host, error)
        finally:
            self._forget()

    def _open_once(self) -> None:
        if self._pool is not None:
            return
        try:
            wsman = _WSMan(self.connection, self._credentials)
            self._wsman = wsman
            wsman.deadline = time.monotonic() + self.connection.timeouts.opening
            pool = RunspacePool(wsman, max_runspaces=1 + _MAX_LANES, idle_timeout=_IDLE_TIMEOUT)
            self._pool = pool
            pool.open()
            self._authentication = wsman.authentication
            self._used = time.monotonic()
        except _CAUGHT as error:
            # A failed open leaves a shell behind on the server: delete it, but tell of the first error.
            self._abandon()
            assert isinstance(error, Exception)
            raise faults.translate(error, host=self.host, phase="connect") from error
        except BaseException:
            self.close()
            raise

    def _part(self) -> None:
        """Take leave of the server: delete the shell, and with it every pipeline."""
        pool, wsman = self._pool, self._wsman
        if pool is None or wsman is None or not pool.shell.opened:
            return
        wsman.deadline = time.monotonic() + _CLOSING
        pool.shell.close()

    def _abandon(self) -> None:
        """After an error: delete the shell over a new connection, for the old one may be dead, and forget it all."""
        if self._wsman is not None:
            self._wsman.renew()
        self.close()

    def _forget(self) -> None:
        """Drop everything that belongs to the connection, without a word to the server."""
        if self._wsman is not None:
            self._wsman.close()
        self._wsman = self._pool = self._pipeline = None

    @property
    def lanes(self) -> int:
        """How many lanes may be in use together."""
        return _MAX_LANES

    def lane(self, number: int) -> Session:
        """Return a session of the same shell over a connection of its own, for one other thread at a time.

        Closing it leaves the shell; when the shell is gone, it fails and does not open another.

        Args:
            number: 1 and up, different for the lanes that are in use together.
        """
        if self._pool is None:
            self.open()
        assert self._pool is not None
        return _Lane(self, self._pool, number, self._credentials)

    # --- running scripts --------------------------------------------------------------------------------------------

    def run(
        self,
        script: Script,
        parameters: Mapping[str, Any],
        *,
        phase: str,
        within: float | None = None,
        chunks: Callable[[], Iterator[bytes]] | None = None,
    ) -> dict[str, Scalar]:
        """Run a script and return its checked answer.

        Every script may be repeated (its contract says so), so a lost connection is taken up again until the deadline.

        Args:
            script: a composed script.
            parameters: exactly those of its contract.
            phase: for errors.
            within: seconds for the answer, retries included; ``timeouts.script`` when ``None``.
            chunks: gives the pipeline's input, anew for every try.

        Raises:
            ScriptError: the script ended in an error on the server.
            AnswerError: its answer breaks the contract.
            NotReachedError, NotAllowedError, DeadlineError: as their names say.
        """
        try:
            script.contract.check_parameters(parameters)
        except ContractError as error:
            raise errors.UsageError(str(error), host=self.host, phase=phase) from error
        deadline = time.monotonic() + (self.connection.timeouts.script if within is None else within)
        return self._repeat(
            lambda: self._run_once(script, parameters, phase, deadline, chunks),
            phase,
            deadline,
            self._worth_another_try,
        )

    def _run_once(
        self,
        script: Script,
        parameters: Mapping[str, Any],
        phase: str,
        deadline: float,
        chunks: Callable[[], Iterator[bytes]] | None,
    ) -> dict[str, Scalar]:
        try:
            self._wake()
            self._open_once()
            pipeline = self._invoke(script, parameters, deadline, chunks)
        except _CAUGHT as error:
            assert isinstance(error, Exception)
            mapped = faults.translate(error, host=self.host, phase=phase)
            if isinstance(mapped, errors.ShellGoneError):
                self._forget()
            else:
                self._abandon()
            raise mapped from error
        except BaseException:
            # Ctrl-C and the like: end the pipeline with its shell, and let the original through.
            self.close()
            raise
        self._used = time.monotonic()
        return self._answer(script, pipeline, phase)

    def _wake(self) -> None:
        """After idling, let go of a shell that is about to expire, or has: the next step opens a new one."""
        if self._pool is not None and time.monotonic() - self._used > _IDLE:
            self._abandon()

    def _invoke(
        self,
        script: Script,
        parameters: Mapping[str, Any],
        deadline: float,
        chunks: Callable[[], Iterator[bytes]] | None,
    ) -> PowerShell:
        assert self._pool is not None
        assert self._wsman is not None
        self._wsman.deadline = deadline
        if self._pipeline is not None:
            # Closed only now: when the session ends first, deleting the shell saves this round trip.
            self._pipeline.close()
            self._pipeline = None
        pipeline = self._pipeline = PowerShell(self._pool)
        pipeline.add_script(script.text)
        pipeline.add_parameters({"Parameters": dict(parameters)})
        pipeline.begin_invoke(None if chunks is None else chunks())
        operation = int(self.connection.timeouts.operation)
        while pipeline.state == PSInvocationState.RUNNING:
            left = deadline - time.monotonic()
            if left <= 0:
                raise errors.DeadlineError(f"no answer of script {script.name} within the time allowed")
            pipeline.poll_invoke(timeout=max(1, min(operation, int(left))))
            if len(pipeline.output) > _MAX_OUTPUTS:
                raise errors.AnswerError(f"script {script.name} does not stop answering")
        return pipeline

    def _answer(self, script: Script, pipeline: PowerShell, phase: str) -> dict[str, Scalar]:
        problems: Sequence[Any] = pipeline.streams.error
        if problems or pipeline.state != PSInvocationState.COMPLETED:
            message = printable(str(problems[0]), 500) if problems else "it did not complete"
            identity = printable(str(getattr(problems[0], "fq_error", "") or ""), 120) if problems else ""
            raise errors.ScriptError(
                f"script {script.name} failed on the server: {message}",
                error_id=identity,
                host=self.host,
                phase=phase,
                hint="the server's own words; look there, then run again",
            )
        if len(pipeline.output) != 1 or isinstance(pipeline.output[0], GenericComplexObject):
            raise errors.AnswerError(
                f"script {script.name} gave {len(pipeline.output)} objects, expected one hashtable",
                host=self.host,
                phase=phase,
            )
        try:
            return script.contract.read(pipeline.output[0])
        except ContractError as error:
            raise errors.AnswerError(str(error), host=self.host, phase=phase) from error

    def _repeat(self, call: Callable[[], _T], phase: str, deadline: float, worth: Callable[[WsusFixError], bool]) -> _T:
        """Repeat *call* while its error is worth it and the deadline allows."""

        def tell(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            pause = state.next_action.sleep if state.next_action else 0.0
            if isinstance(error, WsusFixError):
                _log.info("%s: %s: %s; next try in %.1f s", self.host, phase, error.message, pause)
                if self._on_retry is not None:
                    self._on_retry(error, pause)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, WsusFixError) and worth(error)),
            wait=tenacity.wait_exponential(multiplier=0.2, max=5.0) + tenacity.wait_random(0, 0.2),
            stop=lambda state: time.monotonic() + state.upcoming_sleep >= deadline,
            before_sleep=tell,
            reraise=True,
        )
        return retrying(call)

    def _worth_another_try(self, error: WsusFixError) -> bool:
        """In the middle of the road even a closed port may be a server that restarts; only time will tell."""
        return isinstance(error, errors.NotReachedError) and error.retryable


class _Lane(Session):
    """A session that shares another's shell; see :meth:`Session.lane`."""

    def __init__(self, owner: Session, shell: RunspacePool, number: int, credentials: Credentials) -> None:
        super().__init__(owner.connection, credentials, on_retry=None)
        self._shell = shell
        self._number = number

    def _open_once(self) -> None:
        if self._pool is not None:
            return
        self._wsman = _WSMan(self.connection, self._credentials)
        pool = RunspacePool(self._wsman)
        # pypsrp has no way to join a shell that is open on PowerShell 2.0: give it what opening would have set.
        pool.id = self._shell.id
        pool.state = self._shell.state
        pool.protocol_version = self._shell.protocol_version
        pool.ps_version = self._shell.ps_version
        pool.serialization_version = self._shell.serialization_version
        pool.shell.id = self._shell.shell.id
        pool.shell.opened = True
        pool.shell._selector_set = self._shell.shell._selector_set
        # Fragments are told apart by object id (MS-PSRP 2.2.4): keep the lanes' numbers apart.
        pool._fragmenter.outgoing_counter = 1 + (self._number << 32)
        self._pool = pool

    def _wake(self) -> None:
        """A lane lives shorter than any idle limit."""

    def _part(self) -> None:
        """End a pipeline that may still wait for its input: it would hold one of the shell's runspaces."""
        if self._pipeline is None or self._wsman is None or self._pool is None:
            return
        self._wsman.deadline = time.monotonic() + _CLOSING
        self._pool.shell.signal(SignalCode.TERMINATE, self._pipeline._command_id or self._pipeline.id)

    def _worth_another_try(self, error: WsusFixError) -> bool:
        return super()._worth_another_try(error) and not isinstance(error, errors.ShellGoneError | errors.QuotaError)


def _worth_another_opening(error: WsusFixError) -> bool:
    """A closed port, a silent address and a wrong name stay what they are: whoever waits there should hear at once."""
    return isinstance(error, errors.UnavailableError | errors.BrokenConnectionError | errors.QuotaError)


class _Transport(_TransportHTTP):
    """pypsrp's transport with two more rules: no endless bodies, and no plain answer where encryption is required."""

    deadline: float = 0.0
    allowed: tuple[float, float] = (15.0, 25.0)

    def send(self, message: bytes, *, retries_on_read_timeout: int = 0, timeout: Any = None) -> bytes:
        """Send one message once, within ``allowed`` (seconds to connect, to read)."""
        return super().send(message, retries_on_read_timeout=0, timeout=self.allowed)

    def _build_session(self) -> requests.Session:
        session = super()._build_session()
        # What counts of the environment has been read; to read it for every message takes longer than to encrypt that.
        session.trust_env = False
        session.hooks["response"].append(self._read_bounded)
        return session

    def _read_bounded(self, response: requests.Response, **_: object) -> requests.Response:
        body = bytearray()
        for chunk in response.iter_content(64 * 1024):
            body += chunk
            if len(body) > _MAX_BODY:
                response.close()
                raise errors.ProtocolError(f"an answer of more than {_MAX_BODY} bytes")
            if time.monotonic() > self.deadline + _GRACE:
                response.close()
                raise errors.DeadlineError("the answer trickled in too slowly")
        kind = response.headers.get("content-type", "")
        if body and response.ok and self.wrap_required and not kind.startswith("multipart/"):
            raise errors.ProtocolError(
                "an unencrypted answer on an encrypted connection",
                hint="somebody in between may be altering the traffic",
            )
        response._content = bytes(body)
        return response


class _WSMan(WSMan):
    """pypsrp's WSMan made from typed options, with a deadline over all requests and none of its own retries."""

    def __init__(self, connection: Connection, credentials: Credentials) -> None:
        timeouts = connection.timeouts
        operation = int(timeouts.operation)
        super().__init__(
            server=connection.host.strip("[]"), max_envelope_size=_ENVELOPE, operation_timeout=max(1, operation)
        )
        self.transport: _Transport = _Transport(
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
        self._timeouts = timeouts

    @property
    def deadline(self) -> float:
        """Monotonic time at which every request must have ended."""
        return self.transport.deadline

    @deadline.setter
    def deadline(self, value: float) -> None:
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
        self.transport.allowed = (min(self._timeouts.connect, left), timeout + 5.0)
        return super().invoke(action, resource_uri, resource, option_set, selector_set, timeout)
