"""One process of the engine for many scripts: a client of its runspace pool, without any endpoint in between.

It knows how a script is put to the engine and what comes back; what is asked, and what the answers mean, the tests
know.
"""

from __future__ import annotations

import contextlib
import ntpath
import queue
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from psrpcore import (
    ClientPowerShell,
    ClientRunspacePool,
    ErrorRecordEvent,
    PipelineOutputEvent,
    PipelineStateEvent,
    PSRPPayload,
    StreamType,
)
from psrpcore.types import ErrorRecord, PSInvocationState, RunspacePoolState

from wsusfix.lab import Host
from wsusfix.lab.engine import Engine, swapped
from wsusfix.lab.psrp import to_python
from wsusfix.lab.scheduler import SYSTEM
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import CONTRACTS

__all__ = ["Failed", "Result", "Shell", "hasty"]

_PATIENCE: Final = 60.0
_PIECE: Final = 32_768


class Failed(Exception):
    """A script ended in an error; the text is the error record's."""


@dataclass
class Result:
    """What one pipeline gave."""

    state: str = ""
    output: list[object] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)


class Shell:
    """A process of the engine and a runspace pool in it; end it with :meth:`close`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._said: queue.Queue[tuple[uuid.UUID | None, bytes] | None] = queue.Queue()
        self._pool = ClientRunspacePool()
        self._bridge = engine.open_bridge(lambda command, data: self._said.put((command, data)), self._over)
        self._pool.open()
        self._flush(None)
        while self._pool.state != RunspacePoolState.Opened:
            self._hear()

    def _over(self) -> None:
        self._said.put(None)

    def close(self) -> None:
        """End the process."""
        self.engine.close_bridge(self._bridge)

    # --- any text ---------------------------------------------------------------------------------------------------

    def run(self, text: str, parameters: Mapping[str, Any] | None = None, chunks: Iterable[bytes] = ()) -> Result:
        """Run *text* and wait for its end."""
        pieces = list(chunks)
        pipeline = ClientPowerShell(self._pool, no_input=not pieces)
        pipeline.add_script(text)
        if parameters is not None:
            pipeline.add_parameter("Parameters", dict(parameters))
        identity = pipeline.pipeline_id
        self._bridge.begin(identity)
        pipeline.start()
        self._flush(identity)
        for piece in pieces:
            pipeline.send(piece)
            self._flush(identity)
        if pieces:
            pipeline.send_eof()
            self._flush(identity)
        result = Result()
        try:
            while not result.state:
                self._hear(identity, result)
        finally:
            self._bridge.end(identity)
        return result

    def _flush(self, command: uuid.UUID | None) -> None:
        while (payload := self._pool.data_to_send(_PIECE)) is not None:
            self._bridge.send(bytes(payload.data), command)

    def _hear(self, identity: uuid.UUID | None = None, result: Result | None = None) -> None:
        said = self._said.get(timeout=_PATIENCE)
        assert said is not None, "the engine has ended"
        command, data = said
        if command not in (None, identity):
            return  # of a pipeline that was given up
        self._pool.receive_data(PSRPPayload(data, StreamType.default, command))
        while (event := self._pool.next_event()) is not None:
            if result is None:
                continue
            if isinstance(event, PipelineOutputEvent):
                result.output.append(to_python(event.data))
            elif isinstance(event, ErrorRecordEvent):
                _note(result, event.record)
            elif isinstance(event, PipelineStateEvent):
                if event.reason is not None:
                    _note(result, event.reason)
                result.state = PSInvocationState(event.state).name

    # --- the library's scripts ----------------------------------------------------------------------------------------

    def ask(
        self, windows: SimulatedWindows, name: str, parameters: Mapping[str, Any], chunks: Iterable[bytes] = ()
    ) -> dict[str, Any]:
        """Run a script against *windows*, and hold its answer to its contract.

        Raises:
            Failed: it ended in an error.
            ContractError: its answer is not by the contract.
        """
        contract = CONTRACTS[name]
        contract.check_parameters(parameters)
        with self._put(windows, name) as text:
            result = self.run(text, parameters, chunks)
        if result.state != "Completed" or result.errors:
            raise Failed(f"{result.state}: {'; '.join(result.errors)}")
        assert len(result.output) == 1, result.output
        (answer,) = result.output
        assert isinstance(answer, dict)
        known = {"script", *contract.answer}
        extra = {key for key in answer if key not in known and not key.startswith(tuple(contract.families) or " ")}
        assert extra == set(), "the answer has keys that the contract does not know"
        return dict(contract.read(answer))

    def work(
        self, host: Host, script: str, windows: SimulatedWindows | None = None, kind: str = "install_update"
    ) -> Result:
        """Run the job whose script lies at *script* on the server, as SYSTEM, to its end."""
        process = host.machine.processes.start("powershell.exe", f"powershell.exe -File {script}", SYSTEM)
        windows = windows or SimulatedWindows(host.machine, process)
        windows.process = process
        try:
            with self._put(windows, kind, script) as text:
                return self.run(text)
        finally:
            host.machine.processes.end(process, 0)

    @contextlib.contextmanager
    def _put(self, windows: SimulatedWindows, name: str, script: str = "") -> Iterator[str]:
        board = self.engine.switchboard
        token = board.open(windows)
        culture = windows.machine.culture
        try:
            yield swapped(name, port=board.port, token=token, culture=culture, script=ntpath.normpath(script or "."))
        finally:
            board.cut(token)

    @contextlib.contextmanager
    def primitives(self, windows: SimulatedWindows) -> Iterator[str]:
        """The text of all primitives, asking *windows*, for a test that calls them by itself."""
        with self._put(windows, "poll_job") as text:
            begin = "# --- windows.ps1 begins ---\n"
            yield text[text.index(begin) : text.index("# --- windows.ps1 ends ---")]


def _note(result: Result, record: ErrorRecord) -> None:
    result.errors.append(str(record))
    result.identities.append(str(record.FullyQualifiedErrorId))


def hasty(host: Host) -> SimulatedWindows:
    """A process on *host* for which waiting takes no time, but moves the server's clock and what WSUS is busy with."""

    class Hasty(SimulatedWindows):
        def wait_seconds(self, seconds: float) -> None:
            self.machine.clock_offset += seconds
            if self.machine.update_services is not None:
                self.machine.update_services.elapse(seconds)

    return Hasty(host.machine, host.session().process)
