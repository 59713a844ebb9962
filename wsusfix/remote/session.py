"""One session with one server: one thread, one WSMan, one runspace pool, scripts in and contract answers out.

It opens, repeats what may be repeated, keeps deadlines, reopens what idled away, and closes whatever happens.  It
knows scripts by their contracts only and refuses to know what they are for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from wsusfix.remote import _quiet as _quiet  # before pypsrp is imported

# isort: split
import tenacity
from pypsrp.complex_objects import PSInvocationState, RunspacePoolState
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.shell import SignalCode

from wsusfix import errors
from wsusfix.errors import WsusFixError
from wsusfix.options import Connection, Credentials
from wsusfix.present import printable
from wsusfix.remote import faults
from wsusfix.remote.transport import CarefulPool, CarefulWSMan
from wsusfix.scripts import Script
from wsusfix.scripts.contracts import ContractError, Scalar

__all__ = ["Lane", "Session"]

_log: Final = logging.getLogger("wsusfix")

#: Asked of the server for our shells, in seconds: a killed controller's shell must not block one of five for long.
_IDLE_TIMEOUT: Final = 60
#: After idling so long we open a new shell before the old one fails us; Windows drops connections after about 120.
_IDLE: Final = 45.0
#: Pipelines that may run in the shell at once: WinRM 2.0 allows 15 processes a shell, and one is our own.
_MAX_LANES: Final = 8
#: Before the second try, in seconds, and twice as long before each further one, up to the longest.
_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
#: For the farewell, which must not keep anybody waiting.
_CLOSING: Final = 5.0
#: A connection that breaks so often while a session opens is not broken by a server that has just started; and a
#: resolver that has no answer so often has none to give.
_UNLIKELY_OPENINGS: Final = 4
#: A pipeline that gives more than this is not answering by any contract.
_MAX_OUTPUTS: Final = 100
_INT32: Final = range(-(2**31), 2**31)
_HALF: Final = re.compile("[\ud800-\udfff]")

_T = TypeVar("_T")


class Session:
    """A session with one server; for one thread and one call at a time.

    Args:
        connection: how to reach the server.
        credentials: who asks.
        on_retry: is told the error and the seconds until the next try.

    Raises (every method):
        WsusFixError: with host and phase.
    """

    #: So many pipelines that have answered may stay open beside the one at work: a diagnosis asks no more.
    _left_open = 1

    def __init__(
        self,
        connection: Connection,
        credentials: Credentials,
        *,
        on_retry: Callable[[WsusFixError, float], None] | None = None,
    ) -> None:
        self.connection = connection
        self._credentials = credentials
        self._on_retry = on_retry
        self._in_use = threading.Lock()
        self._wsman: CarefulWSMan | None = None
        self._pool: RunspacePool | None = None
        self._pipeline: PowerShell | None = None
        #: Pipelines that have answered, and are not closed.
        self._answered: list[PowerShell] = []
        self._used = 0.0
        self._authentication = ""
        #: Whether the server was there once: its name is no wrong one, then.
        self._reached = False

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
        with self._alone("connect"):
            self._repeat(lambda: self._open_once(deadline), "connect", deadline, _worth_another_opening)

    def close(self) -> None:
        """Close the session; never raises, and never waits longer than a few seconds. The next run opens another."""
        self._leave()

    def _leave(self) -> WsusFixError | None:
        """Close, and return what went wrong with the farewell: the server will expire the shell."""
        try:
            self._part()
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not hide what happened before)
            mapped = faults.translate(error, host=self.host, phase="close")
            _log.debug("%s: closing: %s", self.host, mapped.message)
            return mapped
        finally:
            self._forget()
        return None

    @contextlib.contextmanager
    def _alone(self, phase: str) -> Iterator[None]:
        """Refuse a second call while one is under way: two threads on one NTLM context garble each other."""
        if not self._in_use.acquire(blocking=False):
            raise errors.UsageError(
                "the session is in use already",
                host=self.host,
                phase=phase,
                hint="one call at a time, observers included; give every thread a connection of its own",
            )
        try:
            yield
        finally:
            self._in_use.release()

    def _open_once(self, deadline: float, phase: str = "connect") -> None:
        if self._pool is not None:
            return
        try:
            wsman = self._wsman = CarefulWSMan(self.connection, self._credentials)
            wsman.begin(min(deadline, time.monotonic() + self.connection.timeouts.opening))
            pool = self._pool = CarefulPool(wsman, max_runspaces=1 + _MAX_LANES, idle_timeout=_IDLE_TIMEOUT)
            pool.open()
            if pool.state != RunspacePoolState.OPENED:
                raise errors.ProtocolError("PowerShell on the server did not open its runspaces")
            self._authentication = wsman.authentication
            self._used = time.monotonic()
            self._reached = True
        except Exception as error:
            mapped = self._ended_by(error, phase)
            if mapped is error:
                raise
            raise mapped from None
        except BaseException:
            self._abandon()
            raise

    def _ended_by(self, error: Exception, phase: str) -> WsusFixError:
        """After an error nothing of the session is used any more: clear it away, and return the error as ours."""
        mapped = faults.translate(error, host=self.host, phase=phase)
        _log.debug("%s: %s: %s", self.host, phase, mapped.message)
        if mapped is not error:
            # Whoever is told the error is spared the libraries' own, which say nothing more to an operator.
            _log.debug("%s: %s: it came of %s", self.host, phase, _origin(error))
        if self._reached and isinstance(mapped, errors.UnknownHostError):
            mapped.retryable = True
            mapped.hint = "it did resolve before: does this machine's resolver answer? run again, or give the address"
        if isinstance(mapped, errors.ShellGoneError | errors.NotAllowedError):
            # Nothing to delete; or one more log-on that fails, which may lock the account.
            self._forget()
            return mapped
        farewell = self._abandon()
        if mapped.retryable and isinstance(farewell, errors.NotAllowedError):
            # So would be the next try.
            farewell.phase = phase
            return farewell
        return mapped

    def _abandon(self) -> WsusFixError | None:
        """Delete the shell over a new connection, for the old one may be dead or out of step, and forget it all."""
        if self._wsman is not None:
            self._wsman.renew()
        return self._leave()

    def _part(self) -> None:
        """Take leave of the server: delete the shell, and with it every pipeline."""
        pool, wsman = self._pool, self._wsman
        if pool is None or wsman is None or not pool.shell.opened:
            return
        wsman.begin(time.monotonic() + _CLOSING)
        pool.shell.close()

    def _forget(self) -> None:
        """Drop everything that belongs to the connection, without a word to the server."""
        if self._wsman is not None:
            self._wsman.close()
        self._wsman = self._pool = self._pipeline = None
        self._answered.clear()

    @property
    def lanes(self) -> int:
        """How many lanes may be in use together."""
        return _MAX_LANES

    def lane(self, number: int) -> Lane:
        """Return a session of the same shell over a connection of its own, for one other thread at a time.

        Closing it leaves the shell; when the shell is gone, it fails and does not open another.

        Args:
            number: 1 and up, different for the lanes that are in use together.
        """
        if self._pool is None:
            self.open()
        assert self._pool is not None
        return Lane(self, self._pool, number, self._credentials)

    def make_room(self, phase: str) -> None:
        """End on the server what has answered already: until then it holds a place in the shell that a lane may need.

        Args:
            phase: for errors.

        Raises:
            NotReachedError, NotAllowedError, DeadlineError: as their names say.
        """
        with self._alone(phase):
            if self._wsman is None:
                return
            try:
                self._wsman.begin(time.monotonic() + self.connection.timeouts.operation)
                self._end_answered(0)
            except Exception as error:
                mapped = self._ended_by(error, phase)
                if mapped is error:
                    raise
                raise mapped from None

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
            within: seconds for the answer, retries included; ``timeouts.script`` when ``None``. With *chunks* they are
                counted anew from every chunk.
            chunks: gives the pipeline's input. Such a run is not repeated: how far it came, the caller knows better.

        Raises:
            ScriptError: the script ended in an error on the server.
            AnswerError: its answer breaks the contract.
            NotReachedError, NotAllowedError, DeadlineError: as their names say.
        """
        try:
            script.contract.check_parameters(parameters)
            _check_sendable(parameters)
        except ContractError as error:
            raise errors.UsageError(str(error), host=self.host, phase=phase) from error
        deadline = time.monotonic() + (self.connection.timeouts.script if within is None else within)
        with self._alone(phase):
            return self._repeat(
                lambda: self._run_once(script, parameters, phase, deadline, chunks),
                phase,
                deadline,
                self._worth_another_try if chunks is None else _worth_nothing,
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
            self._open_once(deadline, phase)
            answer = self._answer(script, self._invoke(script, parameters, deadline, chunks))
        except Exception as error:
            mapped = self._ended_by(error, phase)
            if mapped is error:
                raise
            raise mapped from None
        except BaseException:
            # Ctrl-C and the like: end the pipeline with its shell, and let the original through.
            self._abandon()
            raise
        self._used = time.monotonic()
        return answer

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
        self._wsman.begin(deadline)
        # Only now: when the session ends first, deleting the shell saves this round trip.
        self._end_answered(self._left_open)
        pipeline = self._pipeline = PowerShell(self._pool)
        pipeline.add_script(script.text)
        pipeline.add_parameters({"Parameters": dict(parameters)})
        pipeline.begin_invoke(None if chunks is None else self._paced(chunks(), deadline - time.monotonic()))
        operation = int(self.connection.timeouts.operation)
        while pipeline.state == PSInvocationState.RUNNING:
            left = self._wsman.deadline - time.monotonic()
            if left <= 0:
                raise errors.DeadlineError(f"no answer of script {script.name} within the time allowed")
            pipeline.poll_invoke(timeout=max(1, min(operation, int(left))))
            if len(pipeline.output) > _MAX_OUTPUTS:
                raise errors.AnswerError(f"script {script.name} does not stop answering")
        return pipeline

    def _end_answered(self, left_open: int) -> None:
        """End the pipelines that have answered, the oldest first, but so many."""
        if self._pipeline is not None:
            self._answered.append(self._pipeline)
            self._pipeline = None
        while len(self._answered) > left_open:
            self._answered[0].close()
            del self._answered[0]

    def _paced(self, chunks: Iterator[bytes], seconds: float) -> Iterator[bytes]:
        """Put the deadline off with every chunk: what makes progress is not late."""
        chunk = None
        for chunk in chunks:
            assert self._wsman is not None
            self._wsman.deadline = time.monotonic() + seconds
            yield chunk
        if chunk is None:
            raise errors.UsageError("the pipeline's input is empty")

    def _answer(self, script: Script, pipeline: PowerShell) -> dict[str, Scalar]:
        problems: Sequence[Any] = pipeline.streams.error
        if problems or pipeline.state != PSInvocationState.COMPLETED:
            message = printable(str(problems[0]), 500) if problems else "it did not complete"
            identity = printable(str(getattr(problems[0], "fq_error", "") or ""), 120) if problems else ""
            raise errors.ScriptError(
                f"script {script.name} failed on the server: {message}",
                error_id=identity,
                hint="the server's own words; look there, then run again",
            )
        if len(pipeline.output) != 1:
            raise errors.AnswerError(
                f"script {script.name} gave {len(pipeline.output)} objects, expected one hashtable"
            )
        try:
            return script.contract.read(pipeline.output[0])
        except ContractError as error:
            raise errors.AnswerError(printable(str(error), 300)) from error

    def _repeat(
        self, call: Callable[[], _T], phase: str, deadline: float, worth: Callable[[WsusFixError, int], bool]
    ) -> _T:
        """Repeat *call* while its error is worth it and the deadline allows."""

        before: WsusFixError | None = None
        begun = 0.0

        def worthy(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            return isinstance(error, WsusFixError) and worth(error, state.attempt_number)

        def tell(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            pause = state.next_action.sleep if state.next_action else 0.0
            if isinstance(error, WsusFixError):
                nonlocal before, begun
                before, begun = error, time.monotonic() + pause
                _log.info("%s: %s: %s; next try in %.1f s", self.host, phase, error.message, pause)
                if self._on_retry is not None:
                    self._on_retry(error, pause)

        retrying = tenacity.Retrying(
            retry=worthy,
            wait=tenacity.wait_exponential(multiplier=_PAUSE, max=_LONGEST_PAUSE) + tenacity.wait_random(0, _PAUSE),
            stop=lambda state: time.monotonic() + state.upcoming_sleep >= deadline,
            before_sleep=tell,
            reraise=True,
        )
        try:
            return retrying(call)
        except WsusFixError as error:
            told = error
            late = isinstance(error, errors.DeadlineError)
            if late and before is not None and deadline - begun < self.connection.timeouts.operation:
                # A try that was cut short says less than the error that it was made for.
                told = before
            # How tries are repeated is no part of what went wrong.
            raise told.with_traceback(None) from None

    def _worth_another_try(self, error: WsusFixError, attempt: int) -> bool:
        """In the middle of the road a closed port or a silent one may be a server that restarts; time will tell."""
        return isinstance(error, errors.NotReachedError | errors.DeadlineError) and error.retryable


class Lane(Session):
    """A session that shares another's shell; see :meth:`Session.lane`."""

    #: The shell's quota is for the pipelines that are at work.
    _left_open = 0

    def __init__(self, owner: Session, shell: RunspacePool, number: int, credentials: Credentials) -> None:
        super().__init__(owner.connection, credentials, on_retry=None)
        self._shell = shell
        self._number = number
        self._is_cut = False
        self._reached = True

    def cut(self) -> None:
        """End the lane from any thread, at once and without a word to the server; whoever waits in it gets an error.

        A pipeline of it may then wait for its input until the shell is closed.
        """
        self._is_cut = True
        wsman = self._wsman
        if wsman is not None:
            wsman.transport.cut()

    def _open_once(self, deadline: float, phase: str = "connect") -> None:
        if self._pool is not None:
            return
        self._wsman = CarefulWSMan(self.connection, self._credentials)
        if self._is_cut:  # looked at only now: whoever cuts the lane a moment later finds the transport
            self._wsman.transport.cut()
        pool = CarefulPool(self._wsman)
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
        if self._pipeline is None or self._wsman is None or self._pool is None or self._is_cut:
            return
        self._wsman.begin(time.monotonic() + _CLOSING)
        self._pool.shell.signal(SignalCode.TERMINATE, self._pipeline._command_id or self._pipeline.id)

    def _worth_another_try(self, error: WsusFixError, attempt: int) -> bool:
        gone = isinstance(error, errors.ShellGoneError | errors.QuotaError)
        return super()._worth_another_try(error, attempt) and not gone and not self._is_cut


def _origin(error: BaseException) -> str:
    """Return which error of a library it was, and where it was raised; none of its text, which may be anything."""
    places = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{os.path.basename(each.filename)}:{each.lineno}" for each in reversed(places))
    return f"{type(error).__module__}.{type(error).__qualname__} at {where}"


def _worth_nothing(error: WsusFixError, attempt: int) -> bool:
    """Not repeated, whatever it was."""
    return False


def _worth_another_opening(error: WsusFixError, attempt: int) -> bool:
    """A closed port, a silent address and a wrong name stay what they are: whoever waits there should hear at once."""
    if isinstance(error, errors.BrokenConnectionError | errors.UnknownHostError):
        return error.retryable and attempt < _UNLIKELY_OPENINGS
    return isinstance(error, errors.UnavailableError | errors.QuotaError) and error.retryable


def _check_sendable(value: object) -> None:
    """Refuse what pypsrp would send as something else, unchecked, or would fail on half-way.

    Raises:
        ContractError: says which value.
    """
    match value:
        case bool() | None | bytes():
            pass
        case int() if value not in _INT32:
            raise ContractError(f"the number {printable(str(value), 40)} is no Int32: send it as a string")
        case str() if _HALF.search(value):
            raise ContractError(f"the text {printable(value, 40)!r} has half a character in it")
        case Mapping():
            for key, item in value.items():
                _check_sendable(key)
                _check_sendable(item)
        case list():
            for item in value:
                _check_sendable(item)
        case int() | str():
            pass
        case _:
            raise ContractError(f"a parameter cannot be {type(value).__name__}")
