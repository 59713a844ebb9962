"""Where scripts that run in a real PowerShell ask the simulated servers: JSON lines over loopback.

Whoever connects names a token first, and with it the one simulated process in whose name it asks; every other line
asks one primitive by name and is answered by one line.  This module passes questions on to
:class:`~wsusfix.lab.windows.SimulatedWindows`, and refuses to know who asks them and why.
"""

from __future__ import annotations

import base64
import contextlib
import inspect
import json
import logging
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.scheduler import ProcessEnded
from wsusfix.lab.windows import SimulatedWindows, primitives

__all__ = ["Switchboard"]

log = logging.getLogger("wsusfix.lab")

#: How long a caller may take to name its token.
_GREETING: Final = 10.0
_PATIENCE: Final = 10.0
#: Nothing that a script asks is longer: a piece of an upload is a few hundred kilobytes.
_LONGEST_LINE: Final = 64 << 20
#: Marks what JSON has no form for; no script uses these words as keys of a table of one.
_BYTES: Final = "base64"
_HANDLE: Final = "handle"

#: For each primitive its parameters, by the name that the other side uses.
_PARAMETERS: Final[Mapping[str, Mapping[str, str]]] = {
    name: {each.rstrip("_"): each for each in list(inspect.signature(getattr(SimulatedWindows, name)).parameters)[1:]}
    for name in primitives()
}


@dataclass(eq=False)
class _Line:
    """One simulated process that may be asked, and what it was given to hold."""

    windows: SimulatedWindows
    handles: list[object] = field(default_factory=list)
    callers: list[socket.socket] = field(default_factory=list)


class Switchboard:
    """A listener on loopback, and the simulated processes that can be asked there.  End it with :meth:`close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="wsusfix-lab-switchboard", daemon=True)
        self._acceptor.start()

    def open(self, windows: SimulatedWindows) -> str:
        """Let *windows* be asked; the token under which it can be."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._lines[token] = _Line(windows)
        return token

    def cut(self, token: str) -> None:
        """Nothing can be asked under *token* any more; who waits for an answer finds the line dead."""
        with self._lock:
            line = self._lines.pop(token, None)
            callers = line.callers if line is not None else []
            for caller in callers:
                _hang_up(caller)

    def close(self) -> None:
        """End the listener and all lines, and wait for their threads; again is allowed."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            tokens = list(self._lines)
            threads = [self._acceptor, *self._threads]
        for token in tokens:
            self.cut(token)
        _hang_up(self._listener)
        # Closing a listener does not wake who waits on it everywhere; a caller does.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        for thread in threads:
            thread.join(_PATIENCE)
        self._listener.close()

    # --- callers ----------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    caller.close()
                    return
                thread = threading.Thread(target=self._serve, args=(caller,), name="wsusfix-lab-line", daemon=True)
                self._threads.add(thread)
                thread.start()

    def _serve(self, caller: socket.socket) -> None:
        try:
            with caller, caller.makefile("rb") as reader:
                caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                caller.settimeout(_GREETING)
                line = self._connect(caller, reader.readline(256))
                if line is None:
                    return
                caller.settimeout(None)
                self._converse(caller, reader, line)
        except OSError as error:
            log.debug("a line went dead: %s", error)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _connect(self, caller: socket.socket, greeting: bytes) -> _Line | None:
        token = greeting.decode("ascii", errors="replace").strip()
        with self._lock:
            line = self._lines.get(token)
            if line is not None:
                line.callers.append(caller)
            return line

    def _converse(self, caller: socket.socket, reader: BinaryIO, line: _Line) -> None:
        while question := reader.readline(_LONGEST_LINE):
            try:
                answer = _answer(line, question)
            except ProcessEnded:
                return
            caller.sendall(json.dumps(answer).encode("ascii") + b"\n")


def _answer(line: _Line, question: bytes) -> dict[str, object]:
    """Put one question to the simulated process."""
    try:
        asked = json.loads(question)
        name, given = asked["ask"], asked["with"]
        names = _PARAMETERS[name]
        arguments = {names[key]: _received(line, value) for key, value in given.items()}
        return {"answer": _sent(line, getattr(line.windows, name)(**arguments))}
    except WindowsError_ as error:
        return {"failure": {"message": error.message, "exception": error.exception}}
    except Exception as error:
        # A defect of the lab, not of the script: it must not look like silence.
        log.exception("a primitive failed")
        message = f"{type(error).__name__}: {error}"
        return {"failure": {"message": message, "exception": "System.Management.Automation.RuntimeException"}}


def _received(line: _Line, value: Any) -> Any:
    """A value of the other side's, as the primitives take it."""
    if isinstance(value, dict) and set(value) == {_BYTES}:
        return base64.b64decode(value[_BYTES])
    if isinstance(value, dict) and set(value) == {_HANDLE}:
        return line.handles[value[_HANDLE]]
    return value


def _sent(line: _Line, value: object) -> object:
    """What a primitive answered, in JSON's forms; anything else is held here, and a number stands for it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _sent(line, item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_sent(line, item) for item in value]
    line.handles.append(value)
    return {_HANDLE: len(line.handles) - 1}


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)
