"""The lab with a real PowerShell in it: every composed script is executed, and only the primitives are simulated.

What stands between the markers of a script is replaced by ``primitives.ps1``, whose functions ask the simulated server
by the switchboard; so the script's own lines, and the fragments that carry them, are PowerShell's.  This module knows
how a shell of the endpoint and a job of the scheduler are given to PowerShell; it refuses to run any text that the
``Desk`` has not let in, and to know what the scripts do.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final, Protocol

from psrpcore import (
    ClientPowerShell,
    ClientRunspacePool,
    CreatePipelineEvent,
    PSRPPayload,
    ServerPipeline,
    ServerRunspacePool,
    StreamType,
)
from psrpcore.types import PSInvocationState, PSRPMessageType

from wsusfix.lab.bridge import Bridge, EngineError
from wsusfix.lab.psrp import (
    FRAGMENT,
    Messages,
    ScriptCall,
    TerminatingError,
    pieces,
    pipeline_of,
    protocol_version,
    statement,
)
from wsusfix.lab.scheduler import ProcessEnded
from wsusfix.lab.switchboard import Switchboard
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.lab.wsman import Pipe, PluginShell, WSManFault
from wsusfix.scripts import BEGIN_WINDOWS, compose

__all__ = ["ENGINE_VARIABLE", "Desk", "Engine", "EngineError", "EnginePlugin", "find_engine", "swapped"]

log = logging.getLogger("wsusfix.lab")

#: Names the engine where it is not ``pwsh`` on the path.
ENGINE_VARIABLE: Final = "WSUSFIX_PWSH"
#: How the engine is made to serve a shell, and to run a file.
_SERVER: Final = ("-NoProfile", "-SSHServerMode")
_FILE: Final = ("-NoProfile", "-NonInteractive", "-File")
#: How long a runspace pool may take to open.
_OPENING: Final = 60.0
#: How often a job's process and its simulated process are compared, in seconds.
_GLANCE: Final = 0.02
#: How long a stopped pipeline may take to say so before it is said for it.
_STOPPING: Final = 5.0
_FAREWELL: Final = 10.0
_LARGEST_PIECE: Final = 32_768
_SECRETS: Final = ("WSUSFIX_USERNAME", "WSUSFIX_PASSWORD", "NTLM_USER_FILE")
#: Of a message: destination and type stand before the ids of pool and pipeline, the XML behind them.
_MESSAGE_TYPE: Final = struct.Struct("<I")
_MESSAGE_HEADER: Final = 40
_STATE: Final = re.compile(rb'<I32 N="PipelineState">(\d+)<')
_OVER: Final = (PSInvocationState.Stopped, PSInvocationState.Completed, PSInvocationState.Failed)
_MARK: Final = b"\xef\xbb\xbf"
_REFUSAL: Final = """\
$exception = [System.Management.Automation.RuntimeException]::new({message})
throw [System.Management.Automation.ErrorRecord]::new($exception, {error_id}, {category}, $null)
"""


class Desk(Protocol):
    """Who decides about scripts: the simulated server."""

    @property
    def profile(self) -> str:
        """The home folder of the account that connects."""

    def admit(self, call: ScriptCall) -> tuple[str | None, SimulatedWindows]:
        """Let a pipeline begin: which script of the library's it is, or ``None`` for pypsrp's own copy, and the
        simulated process that it runs in.

        Raises:
            TerminatingError: it is none that may run.
            ProcessEnded: the server is going down.
        """


def find_engine() -> str | None:
    """The engine that is at hand: what ``WSUSFIX_PWSH`` names, or ``pwsh`` on the path."""
    named = os.environ.get(ENGINE_VARIABLE)
    return shutil.which(named) if named else shutil.which("pwsh")


@functools.cache
def _source(name: str) -> str:
    return resources.files(__package__).joinpath(f"{name}.ps1").read_text(encoding="utf-8").replace("\r\n", "\n")


def swapped(name: str | None, *, port: int, token: str, culture: str, script: str = "", profile: str = "") -> str:
    """Return the script *name* as the engine runs it.

    Args:
        name: of the script, ``None`` for what stands in for pypsrp's own copy script.
        port: of the switchboard.
        token: under which the switchboard knows the simulated process.
        culture: that the script runs under.
        script: path of a job's script on the simulated server.
        profile: home folder of the account, where what is copied may go.
    """
    place = (
        f"$SimulatedServer = @{{ port = {port}; token = {_quoted(token)}; culture = {_quoted(culture)}; "
        f"script = {_quoted(script)}; profile = {_quoted(profile)}; reader = $null; writer = $null }}"
    )
    if name is None:
        return _source("copying").replace(BEGIN_WINDOWS, f"{BEGIN_WINDOWS}\n{place}\n{_source('primitives')}", 1)
    return compose(name, windows=_source("primitives")).text.replace(BEGIN_WINDOWS, f"{BEGIN_WINDOWS}\n{place}", 1)


class Engine:
    """A PowerShell, the switchboard that its scripts ask, and the processes it was started in.

    Args:
        program: what starts it, as words of a command line; ``None`` for the one at hand.

    Raises:
        EngineError: there is none.
    """

    def __init__(self, program: Sequence[str] | None = None) -> None:
        found = find_engine()
        if program is None and found is None:
            named = os.environ.get(ENGINE_VARIABLE)
            raise EngineError(
                f"there is no PowerShell at {named!r}, which {ENGINE_VARIABLE} names"
                if named
                else f"there is no pwsh on the path, and {ENGINE_VARIABLE} names none"
            )
        self._program = tuple(program) if program is not None else (str(found),)
        # Short, because sockets get their names here; and private, because job scripts lie here.
        self._folder = Path(tempfile.mkdtemp(prefix="wsf-"))
        self._lock = threading.Lock()
        self._bridges: set[Bridge] = set()
        self._closed = False
        self.switchboard = Switchboard()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_bridge(self, on_data: Callable[[uuid.UUID | None, bytes], None], on_end: Callable[[], None]) -> Bridge:
        """Start a process that serves one shell; end it with :meth:`close_bridge`.

        Raises:
            EngineError: it cannot be started.
        """
        bridge = Bridge(
            (*self._program, *_SERVER),
            environment=self._environment(),
            log_file=self._folder / f"{uuid.uuid4().hex}.log",
            on_data=on_data,
            on_end=on_end,
        )
        with self._lock:
            self._bridges.add(bridge)
            closed = self._closed
        if closed:
            self.close_bridge(bridge)
            raise EngineError("the engine is closed")
        return bridge

    def close_bridge(self, bridge: Bridge) -> None:
        """End a shell's process."""
        with self._lock:
            self._bridges.discard(bridge)
        bridge.close()

    def run_job(self, name: str, windows: SimulatedWindows, script: str) -> int:
        """Run the job *name* in a process of its own for as long as its simulated process lives; its exit code.

        Raises:
            EngineError: it cannot be started.
            ProcessEnded: the simulated process was ended, and so was the real one.
        """
        token = self.switchboard.open(windows)
        place = self._folder / f"{uuid.uuid4().hex}.ps1"
        culture = windows.machine.culture
        text = swapped(name, port=self.switchboard.port, token=token, culture=culture, script=script)
        place.touch(mode=0o600)
        place.write_bytes(_MARK + text.encode("utf-8"))
        try:
            with place.with_suffix(".log").open("wb") as words:
                process = subprocess.Popen(  # noqa: S603  (the engine, and a file of ours)
                    (*self._program, *_FILE, str(place)),
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                return _live_together(process, windows)
            finally:
                self.switchboard.cut(token)
                process.kill()
                process.wait(_FAREWELL)
        except OSError as error:
            raise EngineError(f"the engine {self._program[0]!r} cannot be started: {error}") from error
        finally:
            self.switchboard.cut(token)
            place.unlink()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        return {
            **kept,
            "TMPDIR": str(self._folder),
            "POWERSHELL_TELEMETRY_OPTOUT": "1",
            "POWERSHELL_UPDATECHECK": "Off",
            "DOTNET_EnableDiagnostics": "0",
            "DOTNET_TieredPGO": "0",
            "NO_COLOR": "1",
        }

    def close(self) -> None:
        """End every shell's process and the switchboard; jobs end with their simulated processes. Again is allowed."""
        with self._lock:
            self._closed = True
            bridges = list(self._bridges)
        for bridge in bridges:
            self.close_bridge(bridge)
        self.switchboard.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _live_together(process: subprocess.Popen[bytes], windows: SimulatedWindows) -> int:
    """Wait for the end of *process*, and see that it does not outlive its simulated process."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(_GLANCE)
            # Its lines are cut before it is: what it makes of that is no end of its own.
            windows.process.check()
            return code
        windows.process.check()


class EnginePlugin:
    """PowerShell's side of the shells of one simulated server: each is a process of the engine's."""

    def __init__(self, engine: Engine, desk: Desk, version: str) -> None:
        self.engine = engine
        self.desk = desk
        self._old = protocol_version(version) == "2.1"

    @property
    def numbers_by_itself(self) -> bool:
        """As the WinRM of the simulated server does; that the PowerShell behind it is a later one changes nothing."""
        return self._old

    def open(self, shell_id: str, user: str, payload: bytes, out: Pipe) -> PluginShell:
        """Start a process, and return when its runspace pool is open.

        Raises:
            EngineError: it does not come to that.
        """
        shell = _Shell(self, shell_id, user, out)
        try:
            shell.send(None, payload)
            shell.wait_open()
        except BaseException:
            shell.close()
            raise
        return shell

    def join(self, timeout: float) -> None:
        """Nothing is left to wait for: a shell's process has ended when the shell is closed."""


@dataclass(eq=False)
class _Run:
    """One pipeline, between its client and the engine."""

    id: uuid.UUID
    out: Pipe
    stopped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    turn: threading.RLock = field(default_factory=threading.RLock)
    asked: Messages = field(default_factory=Messages)
    answered: Messages = field(default_factory=Messages)
    begun: bool = False
    windows: SimulatedWindows | None = None
    token: str = ""


class _Shell:
    """One shell: a process of the engine, and the pipelines in it."""

    def __init__(self, plugin: EnginePlugin, shell_id: str, user: str, out: Pipe) -> None:
        self._plugin = plugin
        self._engine = plugin.engine
        self._shell_id = shell_id
        self._user = user
        self._out = out
        self._lock = threading.RLock()
        self._open = threading.Event()
        self._over = False
        self._asked, self._answered = Messages(), Messages()
        self._numbers = 0
        self._runs: dict[uuid.UUID, _Run] = {}
        self._by_command: dict[str, _Run] = {}
        #: Listens to the client and says nothing: it takes the messages apart that the desk is to judge.
        self._listener = ServerRunspacePool()
        self._bridge = self._engine.open_bridge(self._take, self._ended)

    def wait_open(self) -> None:
        """Wait until the engine's runspace pool is open.

        Raises:
            EngineError: it is not.
        """
        if not self._open.wait(_OPENING) or self._over:
            raise EngineError("the engine opens no runspace pool")

    # --- from the client ------------------------------------------------------------------------------------------

    def command(self, command_id: str, payload: bytes, out: Pipe) -> None:
        """Begin a pipeline."""
        run = _Run(pipeline_of(payload), out)
        with self._lock:
            if run.id in self._runs:
                raise ValueError(f"the pipeline {run.id} exists already")
            self._runs[run.id] = self._by_command[command_id] = run
        try:
            self._feed(run, payload)
        except BaseException:
            self.terminate(command_id)
            raise

    def send(self, command_id: str | None, payload: bytes) -> None:
        """Pass on what the client sends."""
        if command_id is not None:
            with self._lock:
                run = self._by_command[command_id]
            self._feed(run, payload)
            return
        messages = list(self._asked.take(payload))
        for message in messages:
            self._listen(message)
        self._pass_on(messages, None)

    def stop(self, command_id: str) -> None:
        """End what runs; what it has said can still be received."""
        with self._lock:
            run = self._by_command.get(command_id)
        if run is None or run.ended.is_set():
            return
        run.stopped.set()
        if run.begun:
            self._bridge.signal(run.id)
            if not run.ended.wait(_STOPPING):
                log.warning("the engine does not say that a pipeline was stopped")
        self._end(run)

    def terminate(self, command_id: str) -> None:
        """Stop what runs, and forget it."""
        self.stop(command_id)
        with self._lock:
            run = self._by_command.pop(command_id, None)
        if run is None:
            return
        if run.begun:
            self._bridge.end(run.id)
        self._end(run)
        with self._lock:
            self._runs.pop(run.id, None)

    def close(self) -> None:
        """End the process, and with it everything in the shell."""
        with self._lock:
            self._over = True
            runs = list(self._runs.values())
        for run in runs:
            run.stopped.set()
        self._engine.close_bridge(self._bridge)
        for run in runs:
            self._end(run)
        self._open.set()

    def _feed(self, run: _Run, payload: bytes) -> None:
        with run.turn:
            messages = [self._let_in(run, message) for message in run.asked.take(payload)]
            if run.ended.is_set() or not messages:
                return
            if not run.begun:
                self._bridge.begin(run.id)
                run.begun = True
            self._pass_on(messages, run.id)

    def _let_in(self, run: _Run, message: bytes) -> bytes:
        """Return *message* as it goes to the engine: the one that creates the pipeline brings its script."""
        kind = _kind(message)
        if kind == PSRPMessageType.GetCommandMetadata:
            raise ValueError("the lab has no command metadata")
        if kind != PSRPMessageType.CreatePipeline:
            return message
        try:
            name, run.windows = self._plugin.desk.admit(self._call(run, message))
        except TerminatingError as refusal:
            return _replaced(message, _refusal(refusal))
        except ProcessEnded:
            raise EngineError("the server is going down") from None
        run.token = self._engine.switchboard.open(run.windows)
        text = swapped(
            name,
            port=self._engine.switchboard.port,
            token=run.token,
            culture=run.windows.machine.culture,
            profile=self._plugin.desk.profile,
        )
        return _rewritten(message, text)

    def _call(self, run: _Run, message: bytes) -> ScriptCall:
        """Take the message that creates a pipeline apart, for the desk."""
        with self._lock:
            ServerPipeline(self._listener, run.id)
            try:
                events = self._listen(message)
            finally:
                self._listener.pipeline_table.pop(run.id, None)
        (created,) = (event for event in events if isinstance(event, CreatePipelineEvent))
        commands = tuple(statement(command) for command in created.pipeline.commands)
        first = commands[0]
        return ScriptCall(
            script=first.text,
            is_script=first.is_script,
            parameters=first.parameters,
            arguments=first.arguments,
            input=iter(()),
            stopped=run.stopped,
            user=self._user,
            shell_id=self._shell_id,
            commands=commands,
        )

    def _listen(self, message: bytes) -> list[object]:
        with self._lock:
            self._numbers += 1
            self._listener.receive_data(PSRPPayload(_whole(self._numbers, message), StreamType.default, None))
            events: list[object] = []
            while (event := self._listener.next_event()) is not None:
                events.append(event)
            while self._listener.data_to_send() is not None:
                continue
            return events

    def _pass_on(self, messages: Sequence[bytes], command: uuid.UUID | None) -> None:
        for piece in pieces(self._numbered(messages), _LARGEST_PIECE):
            self._bridge.send(piece, command)

    def _numbered(self, messages: Sequence[bytes]) -> bytes:
        with self._lock:
            first, self._numbers = self._numbers + 1, self._numbers + len(messages)
        return b"".join(_whole(number, message) for number, message in enumerate(messages, first))

    # --- from the engine: the thread of the bridge, which must never wait for an acknowledgement ------------------

    def _take(self, command: uuid.UUID | None, data: bytes) -> None:
        if command is None:
            for message in self._answered.take(data):
                self._give(self._out, message)
                if _kind(message) == PSRPMessageType.RunspacePoolState:
                    self._open.set()
            return
        with self._lock:
            run = self._runs.get(command)
        if run is None:
            return
        for message in run.answered.take(data):
            if _ends_pipeline(message):
                self._leave(run)
                self._give(run.out, message)
                self._end(run)
            else:
                self._give(run.out, message)

    def _give(self, out: Pipe, message: bytes) -> None:
        for piece in pieces(self._numbered([message]), out.largest_piece):
            out.put(piece)

    def _ended(self) -> None:
        """The process is over; if nobody closed the shell, whoever waits in it is told."""
        with self._lock:
            over, self._over = self._over, True
            runs = list(self._runs.values())
        if not over:
            log.warning("the engine's process has ended by itself")
            for out in (self._out, *(run.out for run in runs)):
                out.cut(WSManFault(2150858843, "The process that served this shell has ended.", sender=True))
        for run in runs:
            self._end(run)
        self._open.set()

    def _leave(self, run: _Run) -> None:
        """End the simulated process of a pipeline."""
        if run.windows is not None:
            self._engine.switchboard.cut(run.token)
            run.windows.machine.processes.end(run.windows.process, 0)

    def _end(self, run: _Run) -> None:
        self._leave(run)
        run.ended.set()
        run.out.finish()


# --- messages -------------------------------------------------------------------------------------------------------


def _whole(number: int, message: bytes) -> bytes:
    """A message as one fragment."""
    return FRAGMENT.pack(number, 0, 3, len(message)) + message


def _kind(message: bytes) -> int:
    return int(_MESSAGE_TYPE.unpack_from(message, 4)[0]) if len(message) >= _MESSAGE_HEADER else 0


def _ends_pipeline(message: bytes) -> bool:
    """Whether this tells that a pipeline is over, and not only that it runs (MS-PSRP 2.2.3.5)."""
    state = _STATE.search(message) if _kind(message) == PSRPMessageType.PipelineState else None
    return state is not None and int(state.group(1)) in _OVER


def _rewritten(message: bytes, text: str) -> bytes:
    """Return the message that creates a pipeline of one script with *text* in its place, and all else as it came."""
    root = ET.fromstring(message[_MESSAGE_HEADER:].removeprefix(_MARK))  # noqa: S314  (the listener has read it)
    for command in root.iterfind(".//Obj[@N='Cmds']/LST/Obj/MS/S[@N='Cmd']"):
        command.text = _escaped(text)
    return message[:_MESSAGE_HEADER] + bytes(ET.tostring(root, encoding="utf-8"))


def _replaced(message: bytes, text: str) -> bytes:
    """Return a message that creates a pipeline of the script *text* and nothing else, in the place of *message*."""
    pool = ClientRunspacePool()
    pipeline = ClientPowerShell(pool)
    pipeline.add_script(text)
    pipeline.start()
    payload = pool.data_to_send()
    assert payload is not None
    (whole,) = Messages().take(bytes(payload.data))
    return message[:_MESSAGE_HEADER] + whole[_MESSAGE_HEADER:]


def _escaped(text: str) -> str:
    """Text as CLIXML writes it: control characters, and what looks like one that was written so."""
    return "".join(
        f"_x{ord(char):04X}_" if ord(char) < 32 or (char == "_" and text[at + 1 : at + 2] in ("x", "X")) else char
        for at, char in enumerate(text)
    )


def _refusal(refusal: TerminatingError) -> str:
    """A script that ends as the desk decided."""
    return _REFUSAL.format(
        message=_quoted(refusal.message), error_id=_quoted(refusal.error_id), category=_quoted(refusal.category)
    )


def _quoted(text: str) -> str:
    """A plain string of PowerShell's; all four of its quotation marks are doubled."""
    for mark in "'\u2018\u2019\u201a\u201b":
        text = text.replace(mark, mark * 2)
    return f"'{text}'"
