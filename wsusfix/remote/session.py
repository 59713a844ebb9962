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

#: Windows drops an idle connection after about 2 minutes and an idle shell after about 3 (WinRM 2.0); we act before.
_CONNECTION_IDLE: Final = 60.0
_SHELL_IDLE: Final = 150.0
#: WinRM 2.0's envelope is 150 KiB; one byte more keeps pypsrp from asking whether it may be larger.
_ENVELOPE: Final = 153601
#: The largest HTTP body that is read: several envelopes of the largest size that anybody configures.
_MAX_BODY: Final = 16 * 1024 * 1024
#: For the farewell, which must not keep anybody waiting.
_CLOSING: Final = 5.0
#: Fragment and message headers, the CLIXML around a byte array, and the end of the input in the last message.
_SEND_OVERHEAD: Final = 400
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
        idle_timeout: seconds after which the server may drop the shell on its own; ``None``: the server's own.

    Raises (every method):
        WsusFixError: with host and phase.
    """

    def __init__(
        self,
        connection: Connection,
        credentials: Credentials,
        *,
        on_retry: Callable[[WsusFixError, float], None] | None = None,
        idle_timeout: int | None = None,
    ) -> None:
        # The library logs envelopes and scripts, decrypted, and tracebacks of errors that are mapped here.
        logging.getLogger("pypsrp").setLevel(logging.CRITICAL)
        logging.getLogger("spnego").setLevel(logging.CRITICAL)
        self.connection = connection
        self._credentials = credentials
        self._on_retry = on_retry
        self._idle_timeout = idle_timeout
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
            self._delete_shell()
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
            pool = RunspacePool(wsman, idle_timeout=self._idle_timeout)
            self._pool = pool
            pool.open()
            self._authentication = wsman.authentication
            self._used = time.monotonic()
        except _CAUGHT as error:
            # A failed open leaves a shell behind on the server: delete it, but tell of the first error.
            self.close()
            assert isinstance(error, Exception)
            raise faults.translate(error, host=self.host, phase="connect") from error
        except BaseException:
            self.close()
            raise

    def _delete_shell(self) -> None:
        pool, wsman = self._pool, self._wsman
        if pool is None or wsman is None or not pool.shell.opened:
            return
        if time.monotonic() - self._used > _CONNECTION_IDLE:
            wsman.renew()
        wsman.deadline = time.monotonic() + _CLOSING
        pool.shell.close()

    def _forget(self) -> None:
        """Drop everything that belongs to the connection, without a word to the server."""
        if self._wsman is not None:
            self._wsman.close()
        self._wsman = self._pool = self._pipeline = None

    @property
    def chunk_size(self) -> int:
        """Bytes that fill one Send envelope: they travel as base64 in CLIXML, and that as base64 in the envelope."""
        payload = self._wsman.max_payload_size if self._wsman is not None else 110_000
        return (payload - _SEND_OVERHEAD) * 3 // 4

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
            lambda: self._run_once(script, parameters, phase, deadline, chunks), phase, deadline, _worth_another_try
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
            if isinstance(mapped, errors.DeadlineError):
                self.close()
            else:
                self._forget()
            raise mapped from error
        except BaseException:
            # Ctrl-C and the like: end the pipeline with its shell, and let the original through.
            self.close()
            raise
        self._used = time.monotonic()
        return self._answer(script, pipeline, phase)

    def _wake(self) -> None:
        """After idling, open a new connection for the same shell, or a new shell, before the old one fails us."""
        if self._wsman is None or self._pool is None:
            return
        idle = time.monotonic() - self._used
        if idle > _SHELL_IDLE:
            self.close()
        elif idle > _CONNECTION_IDLE:
            self._wsman.renew()

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
        pipeline = PowerShell(self._pool)
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
        self._pipeline = pipeline
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
            wait=tenacity.wait_exponential_jitter(initial=0.2, max=5.0, jitter=0.2),
            stop=lambda state: time.monotonic() + state.upcoming_sleep >= deadline,
            before_sleep=tell,
            reraise=True,
        )
        return retrying(call)


def _worth_another_opening(error: WsusFixError) -> bool:
    """A closed port, a silent address and a wrong name stay what they are: whoever waits there should hear at once."""
    return isinstance(error, errors.UnavailableError | errors.BrokenConnectionError | errors.QuotaError)


def _worth_another_try(error: WsusFixError) -> bool:
    """In the middle of the road even a closed port may be a server that restarts; only time will tell."""
    return isinstance(error, errors.NotReachedError) and error.retryable


class _Transport(_TransportHTTP):
    """pypsrp's transport with two more rules: no endless bodies, and no plain answer where encryption is required."""

    deadline: float = 0.0
    allowed: tuple[float, float] = (15.0, 25.0)

    def send(self, message: bytes, *, retries_on_read_timeout: int = 0, timeout: Any = None) -> bytes:
        """Send one message once, within ``allowed`` (seconds to connect, to read)."""
        return super().send(message, retries_on_read_timeout=0, timeout=self.allowed)

    def _build_session(self) -> requests.Session:
        session = super()._build_session()
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
