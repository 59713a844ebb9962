"""A PowerShell that serves out of its process: one XML element a line on its standard streams, each acknowledged.

This is how PowerShell itself speaks to ``pwsh -SSHServerMode``.  The module starts such a process, puts lines and takes
lines, and ends it; what the bytes in them mean, who asked, and which scripts there are, it refuses to know.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import subprocess
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["Bridge", "EngineError"]

log = logging.getLogger("wsusfix.lab")

#: The shell itself, where a command has an id.
_SHELL: Final = uuid.UUID(int=0)
#: How long an acknowledgement may take; a busy machine starts the process in a few seconds.
_PATIENCE: Final = 60.0
#: How long an ended process is waited for.
_FAREWELL: Final = 10.0
_LAST_WORDS: Final = 500


class EngineError(RuntimeError):
    """The engine cannot be started, has ended, or does not answer; the message says which."""


class Bridge:
    """One process, and the conversation with it.  May be used by several threads; end it with :meth:`close`.

    Args:
        command: what starts the process.
        environment: of the process.
        log_file: takes what the process writes to its standard error.
        on_data: told the command (``None`` for the shell) and the bytes that it says, from a thread of its own.
        on_end: told once that nothing more will come, whatever the reason.
        patience: seconds that an acknowledgement may take.

    Raises:
        EngineError: the process cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log_file: Path,
        on_data: Callable[[uuid.UUID | None, bytes], None],
        on_end: Callable[[], None],
        patience: float = _PATIENCE,
    ) -> None:
        self._on_data = on_data
        self._on_end = on_end
        self._patience = patience
        self._log_file = log_file
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._awaited: tuple[str, uuid.UUID] | None = None
        self._ended = False
        try:
            with log_file.open("wb") as words:
                self._process = subprocess.Popen(  # noqa: S603  (what the lab was told to start)
                    command,
                    env=dict(environment),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=words,
                    # Ctrl-C in a terminal is for the lab, which then ends its processes itself.
                    start_new_session=True,
                )
        except OSError as error:
            raise EngineError(f"the engine {command[0]!r} cannot be started: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._reader = threading.Thread(target=self._read, name="wsusfix-lab-engine", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    # --- what is said to it ---------------------------------------------------------------------------------------

    def send(self, data: bytes, command: uuid.UUID | None = None) -> None:
        """Hand over bytes for a command, or for the shell.

        Raises:
            EngineError: as all methods here: it has ended, or does not answer.
        """
        text = base64.b64encode(data).decode("ascii")
        self._say("Data", command or _SHELL, f" Stream='Default' PSGuid='{command or _SHELL}'>{text}</Data>")

    def begin(self, command: uuid.UUID) -> None:
        """Announce a command."""
        self._say("Command", command)

    def signal(self, command: uuid.UUID) -> None:
        """Stop a command."""
        self._say("Signal", command)

    def end(self, command: uuid.UUID) -> None:
        """Forget a command: what it still says is not of interest."""
        self._say("Close", command)

    def _say(self, kind: str, identity: uuid.UUID, rest: str = "") -> None:
        line = f"<{kind}{rest or f' PSGuid={chr(39)}{identity}{chr(39)} />'}\n".encode("ascii")
        with self._turn:
            with self._changed:
                self._awaited = (f"{kind}Ack", identity)
            try:
                self._input.write(line)
                self._input.flush()
            except (OSError, ValueError) as error:
                raise EngineError(f"the engine has ended{self._last_words()}") from error
            with self._changed:
                self._changed.wait_for(lambda: self._awaited is None or self._ended, self._patience)
                missing, self._awaited = self._awaited, None
                if missing is not None and self._ended:
                    raise EngineError(f"the engine has ended{self._last_words()}")
                if missing is not None:
                    raise EngineError(f"the engine did not acknowledge {kind} within {self._patience:g} seconds")

    # --- what it says ---------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            for line in self._output:
                self._take(line)
        except (OSError, ValueError):
            log.debug("the engine's output broke off", exc_info=True)
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._on_end()

    def _take(self, line: bytes) -> None:
        try:
            element = ET.fromstring(line)  # noqa: S314  (of a process of our own)
            identity = uuid.UUID(element.get("PSGuid", ""))
        except (ET.ParseError, ValueError):
            # Not every word of the process is part of the conversation.
            log.debug("the engine said %r", line[:_LAST_WORDS])
            return
        if element.tag == "Data":
            try:
                data = base64.b64decode(element.text or "", validate=True)
            except binascii.Error:
                log.warning("the engine sent what is no base64")
                return
            self._on_data(None if identity == _SHELL else identity, data)
            return
        with self._changed:
            if self._awaited == (element.tag, identity):
                self._awaited = None
                self._changed.notify_all()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            words = self._log_file.read_text(encoding="utf-8", errors="replace").strip()[-_LAST_WORDS:]
            return f": {words}" if words else ""
        return ""

    # --- its end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the process and everything in it, at once, as WinRM ends a shell's host; again is allowed."""
        self._process.kill()
        try:
            self._process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            log.warning("the engine's process %d does not end", self.pid)
        if self._reader is not threading.current_thread():
            self._reader.join(_FAREWELL)
        for stream in (self._input, self._output):
            # What could not be written any more is of no interest.
            with contextlib.suppress(OSError, ValueError):
                stream.close()
