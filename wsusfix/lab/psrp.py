"""PowerShell remoting inside a shell: runspace pools and pipelines, posing as the PowerShell version asked for.

The protocol is psrpcore's; here are the locks it lacks, the threads that pipelines run in, and the translation
between its objects and plain Python. What a script *does* is unknown here: a ``ScriptRunner`` is given the text and
answers.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import logging
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from psrpcore import (
    Command,
    CreatePipelineEvent,
    EndOfPipelineInputEvent,
    GetAvailableRunspacesEvent,
    GetCommandMetadataEvent,
    PipelineInputEvent,
    PowerShell,
    PSRPEvent,
    PSRPPayload,
    ResetRunspaceStateEvent,
    ServerPipeline,
    ServerRunspacePool,
    SetMaxRunspacesEvent,
    SetMinRunspacesEvent,
    StreamType,
)
from psrpcore.types import (
    ErrorCategory,
    ErrorCategoryInfo,
    ErrorRecord,
    NETException,
    PSInvocationState,
    PSObject,
    PSRPMessageType,
    PSSecureString,
    PSVersion,
    SessionCapability,
)

from .wsman import Pipe, PluginShell

__all__ = [
    "FRAGMENT",
    "Messages",
    "Output",
    "PipelineStopped",
    "PowerShellPlugin",
    "ScriptCall",
    "ScriptRunner",
    "Statement",
    "TerminatingError",
    "pieces",
    "pipeline_of",
    "protocol_version",
    "statement",
    "to_python",
]

log = logging.getLogger("wsusfix.lab")

_INT32 = range(-(2**31), 2**31)
_SERIALIZATION = "1.1.0.1"
#: A fragment's header: object, number, flags, length.
FRAGMENT = struct.Struct(">QQBI")
_FIRST, _LAST = 1, 2
_RUNTIME_EXCEPTION = "System.Management.Automation.RuntimeException"


class PipelineStopped(Exception):
    """The pipeline was stopped, its shell closed or its host restarted: a runner lets this pass."""


class TerminatingError(Exception):
    """Raised by a runner: the pipeline ends as Failed, with this as its error record."""

    def __init__(
        self,
        message: str,
        *,
        error_id: str = "RuntimeException",
        category: str = "OperationStopped",
        exception: str = _RUNTIME_EXCEPTION,
    ) -> None:
        super().__init__(message)
        ErrorCategory[category]  # a category that PowerShell does not know is refused at once
        self.message = message
        self.error_id = error_id
        self.category = category
        self.exception = exception


@dataclass(frozen=True)
class Statement:
    """One command of a pipeline: a script's text or a command's name, with what it was given."""

    text: str
    is_script: bool
    parameters: dict[str, object]
    arguments: list[object]
    end_of_statement: bool = False


@dataclass(frozen=True)
class ScriptCall:
    """What a client asked for: the first command of the pipeline, and the rest in ``commands``."""

    script: str
    is_script: bool
    parameters: dict[str, object]
    arguments: list[object]
    input: Iterator[object]
    """Waits for the next object that the client sends; ends with the client's input; raises PipelineStopped."""
    stopped: threading.Event
    user: str
    shell_id: str
    commands: tuple[Statement, ...] = field(default=())


class Output:
    """Where a runner writes what its script says. May be used from several threads."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def write(self, value: object) -> None:
        """One output object: a dict becomes a hashtable, an int an Int32 (a larger one raises OverflowError)."""
        self._run.emit(_to_wire(value), PSRPMessageType.PipelineOutput)

    def error(
        self,
        message: str,
        *,
        error_id: str,
        category: str = "NotSpecified",
        exception: str = _RUNTIME_EXCEPTION,
    ) -> None:
        """A non-terminating error record; the script goes on."""
        self._run.emit(_error_record(message, error_id, category, exception), PSRPMessageType.ErrorRecord)


class ScriptRunner(Protocol):
    """What answers scripts."""

    def run(self, call: ScriptCall, output: Output) -> None:
        """Answer one pipeline; called in a thread of its own."""


class PowerShellPlugin:
    """PowerShell's side of a shell: one runspace pool each."""

    def __init__(self, runner: ScriptRunner, version: str) -> None:
        self._runner = runner
        self._version = version
        self._protocol = protocol_version(version)
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    @property
    def numbers_by_itself(self) -> bool:
        """Ids proposed by the client came with WinRM 3.0 (Windows Server 2012); before, the server has its own."""
        return self._protocol == "2.1"

    def open(self, shell_id: str, user: str, payload: bytes, out: Pipe) -> PluginShell:
        """Open a runspace pool with the messages that came with the shell's creation."""
        pool = _Pool(self, shell_id, user, out)
        pool.send(None, payload)
        return pool

    def new_pool(self) -> ServerRunspacePool:
        """A pool that poses as the right version."""
        pool = ServerRunspacePool({"PSVersionTable": _version_table(self._version, self._protocol)})
        pool.our_capability = SessionCapability(
            PSVersion=PSVersion("2.0"),
            protocolversion=PSVersion(self._protocol),
            SerializationVersion=PSVersion(_SERIALIZATION),
        )
        return pool

    def start(self, run: _Run, call: ScriptCall) -> None:
        """Run a pipeline in a thread of its own."""
        thread = threading.Thread(target=self._work, args=(run, call), name="wsusfix-lab-pipeline", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _work(self, run: _Run, call: ScriptCall) -> None:
        try:
            self._runner.run(call, Output(run))
        except PipelineStopped:
            run.stop()
        except TerminatingError as error:
            run.fail(_error_record(error.message, error.error_id, error.category, error.exception))
        except Exception as error:
            # A defect of the runner, not of the client: it must not look like a network problem.
            log.exception("the runner failed")
            run.fail(
                _error_record(f"{type(error).__name__}: {error}", "LabFailure", "NotSpecified", _RUNTIME_EXCEPTION)
            )
        else:
            run.complete()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def join(self, timeout: float) -> None:
        """Wait until all pipelines that were stopped have really ended; a runner's own thread does not wait."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = self._threads - {threading.current_thread()}
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("a script does not heed its stop and is left behind")


class _Pool:
    """One runspace pool. psrpcore has no lock of its own: everything that touches it happens under ``_lock``."""

    def __init__(self, plugin: PowerShellPlugin, shell_id: str, user: str, out: Pipe) -> None:
        self._plugin = plugin
        self._shell_id = shell_id
        self._user = user
        self._out = out
        self._lock = threading.RLock()
        self._pool = plugin.new_pool()
        self._messages = Messages()
        self._message_count = 0
        self._runs: dict[uuid.UUID, _Run] = {}
        self._by_command: dict[str, _Run] = {}
        self._closed = False

    def command(self, command_id: str, payload: bytes, out: Pipe) -> None:
        with self._lock:
            if self._closed:
                raise PipelineStopped
            # The pipeline's own id stands in its message; the command's id may be the server's.
            pipeline_id = pipeline_of(payload)
            if pipeline_id in self._runs:
                raise ValueError(f"the pipeline {pipeline_id} exists already")
            run = _Run(self._lock, self._pool, ServerPipeline(self._pool, pipeline_id), out, self._drain)
            self._runs[pipeline_id] = self._by_command[command_id] = run
            try:
                self._feed(run.messages, payload)
            except Exception:
                del self._runs[pipeline_id], self._by_command[command_id]
                self._pool.pipeline_table.pop(pipeline_id, None)
                raise

    def send(self, command_id: str | None, payload: bytes) -> None:
        with self._lock:
            if not self._closed:
                self._feed(self._messages if command_id is None else self._by_command[command_id].messages, payload)

    def stop(self, command_id: str) -> None:
        with self._lock:
            run = self._by_command.get(command_id)
        if run is not None:
            run.stop()

    def terminate(self, command_id: str) -> None:
        self.stop(command_id)
        with self._lock:
            run = self._by_command.pop(command_id, None)
            if run is not None:
                self._runs.pop(run.pipeline_id, None)
                self._pool.pipeline_table.pop(run.pipeline_id, None)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            runs = list(self._runs.values())
        for run in runs:
            run.stop()

    def _feed(self, messages: Messages, payload: bytes) -> None:
        for message in messages.take(payload):
            self._message_count += 1
            whole = FRAGMENT.pack(self._message_count, 0, _FIRST | _LAST, len(message)) + message
            self._pool.receive_data(PSRPPayload(whole, StreamType.default, None))
            while (event := self._pool.next_event()) is not None:
                self._react(event)
        self._drain()

    def _react(self, event: PSRPEvent) -> None:  # type: ignore[type-arg]
        if isinstance(event, CreatePipelineEvent):
            self._start(self._runs[event.pipeline_id], event.pipeline)
        elif isinstance(event, PipelineInputEvent):
            self._runs[event.pipeline_id].input.put(to_python(event.data))
        elif isinstance(event, EndOfPipelineInputEvent):
            self._runs[event.pipeline_id].input.end()
        elif isinstance(event, GetCommandMetadataEvent):
            run = self._runs[event.pipeline_id]
            run.begin()
            run.fail(
                _error_record(
                    "The lab has no command metadata.",
                    "NotSupported",
                    "NotImplemented",
                    "System.Management.Automation.PSNotSupportedException",
                )
            )
        elif isinstance(event, GetAvailableRunspacesEvent):
            self._pool.runspace_availability_response(event.ci, self._pool.max_runspaces)
        elif isinstance(event, (SetMaxRunspacesEvent, SetMinRunspacesEvent, ResetRunspaceStateEvent)):
            self._pool.runspace_availability_response(event.ci, True)

    def _start(self, run: _Run, pipeline: PowerShell) -> None:
        commands = tuple(statement(command) for command in pipeline.commands)
        first = commands[0]
        if pipeline.no_input:
            run.input.end()
        run.begin()
        self._plugin.start(
            run,
            ScriptCall(
                script=first.text,
                is_script=first.is_script,
                parameters=first.parameters,
                arguments=first.arguments,
                input=run.input,
                stopped=run.stopped,
                user=self._user,
                shell_id=self._shell_id,
                commands=commands,
            ),
        )

    def _drain(self) -> None:
        """Hand everything that psrpcore wants sent to the pipe it belongs to."""
        while (payload := self._pool.data_to_send()) is not None:
            out: Pipe | None = self._out
            if payload.pipeline_id is not None:
                run = self._runs.get(payload.pipeline_id)
                out = None if run is None else run.out
            if out is not None:
                for piece in pieces(payload.data, out.largest_piece):
                    out.put(piece)


class _Run:
    """One pipeline under way, between its thread and its client."""

    def __init__(
        self,
        lock: threading.RLock,
        pool: ServerRunspacePool,
        pipeline: ServerPipeline,
        out: Pipe,
        drain: Callable[[], None],
    ) -> None:
        self._lock = lock
        self._pool = pool
        self._pipeline = pipeline
        self._drain = drain
        self.out = out
        self.messages = Messages()
        self.stopped = threading.Event()
        self.input = _Input()

    @property
    def pipeline_id(self) -> uuid.UUID:
        return self._pipeline.pipeline_id

    def begin(self) -> None:
        # Windows does not announce that a pipeline runs, and an announcement would cost a Receive of its own:
        # psrpcore's public start() sends one.
        self._pipeline._change_state(PSInvocationState.Running, emit=False)

    def emit(self, value: Any, message_type: PSRPMessageType) -> None:
        with self._lock:
            if self._pipeline.state != PSInvocationState.Running:
                raise PipelineStopped
            self._pipeline.prepare_message(value, message_type=message_type)
            self._drain()

    def complete(self) -> None:
        self._end(PSInvocationState.Completed)

    def fail(self, error: ErrorRecord) -> None:
        self._end(PSInvocationState.Failed, error)

    def stop(self) -> None:
        """End the pipeline for its client now; its thread notices when it next reads, writes or looks."""
        error = _error_record(
            "The pipeline has been stopped.",
            "PipelineStopped",
            "OperationStopped",
            "System.Management.Automation.PipelineStoppedException",
        )
        with self._lock:
            if self._pipeline.state not in (PSInvocationState.NotStarted, PSInvocationState.Running):
                return
            self.stopped.set()
            self.input.stop()
            self._end(PSInvocationState.Stopped, error)

    def _end(self, state: PSInvocationState, error: ErrorRecord | None = None) -> None:
        with self._lock:
            if self._pipeline.state == PSInvocationState.Running:
                # psrpcore has no public way to end a pipeline as Failed.
                self._pipeline._change_state(state, error)
                self._drain()
        self.out.finish()


class Messages:
    """Messages put together from the fragments that a client sends.

    Windows does this for each pipeline by itself, so that lanes of one shell may number their messages alike;
    psrpcore does it once for the whole pool.
    """

    def __init__(self) -> None:
        self._begun: dict[int, list[bytes]] = {}

    def take(self, payload: bytes) -> Iterator[bytes]:
        """Give the messages that *payload* completes."""
        while payload:
            if len(payload) < FRAGMENT.size:
                raise ValueError("a fragment is cut off")
            object_id, number, flags, size = FRAGMENT.unpack_from(payload)
            data, payload = payload[FRAGMENT.size : FRAGMENT.size + size], payload[FRAGMENT.size + size :]
            parts = self._begun.setdefault(object_id, [])
            if len(data) < size or number != len(parts):
                del self._begun[object_id]
                raise ValueError(f"fragment {number} of message {object_id} is incomplete or out of turn")
            parts.append(data)
            if flags & _LAST:
                yield b"".join(self._begun.pop(object_id))


class _Input(Iterator[object]):
    """The objects that a client sends into a pipeline, as they come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: deque[object] = deque()
        self._ended = False
        self._stopped = False

    def put(self, value: object) -> None:
        with self._changed:
            self._objects.append(value)
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def __next__(self) -> object:
        with self._changed:
            while not (self._objects or self._ended or self._stopped):
                self._changed.wait()
            if self._stopped:
                raise PipelineStopped
            if self._objects:
                return self._objects.popleft()
            raise StopIteration


# --- versions ----------------------------------------------------------------------------------------------


def protocol_version(version: str) -> str:
    """The protocol that this PowerShell speaks."""
    major = int(version.partition(".")[0])
    if major < 2:
        raise ValueError(f"PowerShell {version} has no remoting")
    return {2: "2.1", 3: "2.2", 4: "2.2"}.get(major, "2.3")


def _version_table(version: str, protocol: str) -> dict[str, object]:
    """``$PSVersionTable`` as the pool's private data carries it."""
    major = int(version.partition(".")[0])
    compatible = [known for known in ("1.0", "2.0", "3.0", "4.0", "5.0", "5.1") if float(known) <= float(version[:3])]
    return {
        "PSVersion": PSVersion(version),
        "PSCompatibleVersions": [PSVersion(known) for known in compatible],
        "CLRVersion": PSVersion("2.0.50727.3655" if major < 3 else "4.0.30319.42000"),
        "BuildVersion": PSVersion("6.0.6002.18111" if major < 3 else "10.0.14393.0"),
        "WSManStackVersion": PSVersion("2.0" if major < 3 else "3.0"),
        "PSRemotingProtocolVersion": PSVersion(protocol),
        "SerializationVersion": PSVersion(_SERIALIZATION),
    }


# --- objects -----------------------------------------------------------------------------------------------


class _Nil:
    """``$null`` among the output: psrpcore would send nothing at all where Windows sends this element."""

    @classmethod
    def ToPSObjectForRemoting(cls, instance: _Nil, **_: object) -> None:
        return None


def _to_wire(value: object) -> Any:
    return _Nil() if value is None else _checked(value)


def _checked(value: object) -> object:
    """A value that PowerShell 2.0 and pypsrp understand alike; anything else is refused here, not on the wire."""
    if value is None or isinstance(value, (bool, str, bytes)):
        return value
    if isinstance(value, int):
        if value not in _INT32:
            raise OverflowError(f"{value} is no Int32: send it as a string")
        return value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} of a hashtable is not a string")
        return {key: _checked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_checked(item) for item in value]
    raise TypeError(f"a script of the lab cannot answer {type(value).__name__}")


def to_python(value: object) -> object:
    """An object from the wire as plain Python, without psrpcore's wrappers."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, PSSecureString):
        return str.__str__(value.decrypt())
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, enum.Enum):
        return to_python(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, dict):
        return {str(to_python(key)): to_python(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_python(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, PSObject) and not isinstance(value, (PSVersion, uuid.UUID, datetime.timedelta)):
        properties = value.PSObject.adapted_properties + value.PSObject.extended_properties
        if properties:
            return {each.name: to_python(each.get_value(value)) for each in properties}
    return str(value)


def statement(command: Command) -> Statement:
    """One command of a pipeline in plain Python."""
    parameters: dict[str, object] = {}
    arguments: list[object] = []
    for name, value in command.parameters:
        if name is None:
            arguments.append(to_python(value))
        else:
            # Windows takes both -Name and Name, with or without a colon at the end.
            parameters[str.__str__(name).removeprefix("-").removesuffix(":")] = to_python(value)
    return Statement(
        text=str.__str__(command.command_text),
        is_script=bool(command.is_script),
        parameters=parameters,
        arguments=arguments,
        end_of_statement=command.end_of_statement,
    )


def pieces(payload: bytes, largest: int) -> Iterator[bytes]:
    """Whole messages, cut into fragments and packed into pieces of no more than ``largest`` bytes.

    psrpcore would do it, but copies the rest of a message for each fragment: ten seconds for 40 MB.
    """
    view = memoryview(payload)
    piece = bytearray()
    while view:
        object_id, _, _, size = FRAGMENT.unpack_from(view)
        message, view = view[FRAGMENT.size : FRAGMENT.size + size], view[FRAGMENT.size + size :]
        fragment_id = 0
        while message:
            room = largest - len(piece) - FRAGMENT.size
            if room <= 0:
                yield bytes(piece)
                piece.clear()
                continue
            part, message = message[:room], message[room:]
            flags = (0 if fragment_id else _FIRST) | (0 if message else _LAST)
            piece += FRAGMENT.pack(object_id, fragment_id, flags, len(part)) + part
            fragment_id += 1
    if piece:
        yield bytes(piece)


def pipeline_of(payload: bytes) -> uuid.UUID:
    """The pipeline's id, from the first fragment of its first message: it stands 24 bytes into the message."""
    begin = FRAGMENT.size + 24
    if len(payload) < begin + 16:
        raise ValueError("the fragment is too short for a message")
    return uuid.UUID(bytes_le=payload[begin : begin + 16])


def _error_record(message: str, error_id: str, category: str, exception: str) -> ErrorRecord:
    thrown = NETException(Message=message, HResult=-2146233087)
    thrown.PSObject.type_names = list(
        dict.fromkeys([exception, _RUNTIME_EXCEPTION, "System.Exception", "System.Object"])
    )
    thrown.PSObject.to_string = f"{exception}: {message}"
    reason = exception.rpartition(".")[2]
    info = ErrorCategoryInfo(Category=ErrorCategory[category], Reason=reason)
    record = ErrorRecord(Exception=thrown, CategoryInfo=info, FullyQualifiedErrorId=error_id)
    record.PSObject.to_string = message
    return record
