"""What happens when a package is run on a simulated server: the exit code follows from what stands there.

Only the lab's own stand-ins can be run; what such a run does is told by their control section and by the state of the
machine.  This module refuses to know who started the program and what becomes of its exit code.
"""

from __future__ import annotations

import hashlib
import ntpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wsusfix import advisory
from wsusfix.advisory import ExitMeaning
from wsusfix.lab import packages, setup
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.scheduler import SYSTEM, Process
from wsusfix.lab.windows import Machine, time_text
from wsusfix.lab.wsus import Wsus

__all__ = ["Installation", "Installer"]

_WORD: Final = re.compile(r'(?:"[^"]*"|[^\s"])+')
_QUIET: Final = frozenset({"/q", "/quiet", "-q", "-quiet"})
_QUIET_MSI: Final = _QUIET | {"/qn", "-qn"}
_PATCH: Final = frozenset({"/p", "/update", "-p"})
_PRODUCT: Final = frozenset({"/i", "/package", "-i"})
_NO_RESTART: Final = frozenset({"/norestart", "reboot=reallysuppress"})

#: From the end of an installer that restarts the server to the restart, in seconds.
_RESTART_DELAY: Final = 0.2


@dataclass(frozen=True)
class Installation:
    """One run of an installer; ``exit_code`` is ``None`` when it was ended before its own end."""

    package_sha256: str
    exit_code: int | None
    account: str
    program: str
    arguments: str
    started: str
    ended: str


@dataclass(frozen=True)
class _Order:
    """What a command line asks for."""

    package: str
    kind: str
    quiet: bool
    no_restart: bool
    log: str


class Installer:
    """Starts packages on one machine.

    Args:
        wsus: what a package changes.
        on_end: told of every run when it is over.
    """

    def __init__(self, wsus: Wsus, on_end: Callable[[Installation], None]) -> None:
        self._wsus = wsus
        self._on_end = on_end

    def start(self, machine: Machine, parent: Process, program: str, arguments: str, temp: str) -> Process:
        """Start *program* as a child of *parent*.

        Raises:
            WindowsError_: there is no such program, it is none, or it is a real one, which the lab cannot run.
        """
        words = [word.replace('"', "") for word in _WORD.findall(arguments)]
        msiexec = ntpath.basename(program).lower() == advisory.MSIEXEC
        order = _msiexec(words) if msiexec else _self_extractor(program, words)
        data = machine.files.read(order.package) if order.package else None
        if order.kind == "exe":
            _check_runnable(program, data)
        process = machine.processes.start(
            ntpath.basename(program),
            f'"{program}" {arguments}',
            parent.token,
            parent=parent,
            environment={"TEMP": temp, "TMP": temp},
        )
        machine.processes.work(process, lambda: self._run(machine, process, program, arguments, order, data))
        return process

    def _run(
        self, machine: Machine, process: Process, program: str, arguments: str, order: _Order, data: bytes | None
    ) -> int:
        started = time_text(machine.now())
        code: int | None = None
        try:
            code = self._install(machine, process, order, data, arguments)
            self._write_log(machine, order, code)
            return code
        finally:
            self._on_end(
                Installation(
                    hashlib.sha256(data or b"").hexdigest(),
                    code,
                    process.token.account,
                    program,
                    arguments,
                    started,
                    time_text(machine.now()),
                )
            )

    def _install(self, machine: Machine, process: Process, order: _Order, data: bytes | None, arguments: str) -> int:
        if not order.package:
            return advisory.EXIT_BAD_COMMAND_LINE
        control = packages.read_control(data or b"")
        if data is None or control is None or control.kind != order.kind:
            return _unreadable(order, data)
        if not machine.claim_installer(process):
            return advisory.EXIT_BUSY
        if machine.installer_hangs or not order.quiet:
            # A dialog in a session without a screen: nobody answers it, unless the fault is cleared.
            process.stand_still()
        while machine.installer_hangs or not order.quiet:
            process.pause(0.02)
        unpacked = f"{process.environment['TEMP']}\\{machine.name}-{process.pid}.tmp"
        try:
            machine.files.create(unpacked, data)
        except WindowsError_:
            return advisory.EXIT_FATAL
        seconds = machine.install_seconds if control.seconds is None else control.seconds
        if control.setup:
            return setup.run(machine, self._wsus, process, control, arguments, seconds)
        process.pause(seconds)
        machine.files.remove_file(unpacked)
        if control.arch != machine.architecture:
            return advisory.EXIT_WRONG_PLATFORM
        if not self._wsus.takes_update:
            return advisory.EXIT_NO_TARGET
        if machine.system.elevates and not process.token.system:
            return advisory.EXIT_FATAL
        return self._change(machine, control.exit_code, restarts=order.kind != "exe" and not order.no_restart)

    def _change(self, machine: Machine, code: int, *, restarts: bool) -> int:
        if code == advisory.EXIT_INSTALLED:
            self._wsus.install_update()
            return code
        if code == advisory.EXIT_RESTART_NEEDED and restarts:
            code = advisory.EXIT_RESTART_BEGUN
        if advisory.exit_code(code).meaning in (ExitMeaning.RESTART_NEEDED, ExitMeaning.RESTART_BEGUN):
            self._wsus.install_update_at_restart()
        if code == advisory.EXIT_RESTART_BEGUN:
            _restart(machine)
        return code

    def _write_log(self, machine: Machine, order: _Order, code: int) -> None:
        if not order.log:
            return
        lines = [
            "=== Verbose logging started: stand-in of the wsusfix lab ===",
            f"Package: {order.package}",
            f"MainEngineThread is returning {code}",
            "=== Verbose logging stopped ===",
            "",
        ]
        try:
            # Windows Installer writes its logs in UTF-16 with a mark.
            machine.files.replace(order.log, b"\xff\xfe" + "\r\n".join(lines).encode("utf-16-le"))
        except WindowsError_:
            return  # an installer that cannot write its log installs nevertheless


def _self_extractor(program: str, words: list[str]) -> _Order:
    lowered = [word.lower() for word in words]
    log = next((word for word in words if not word.startswith(("/", "-"))), "")
    return _Order(program, "exe", bool(_QUIET.intersection(lowered)), no_restart=True, log=log)


def _msiexec(words: list[str]) -> _Order:
    package = kind = log = ""
    lowered = [word.lower() for word in words]
    for word, following in zip(lowered, [*words[1:], ""], strict=True):
        if word in _PATCH or word in _PRODUCT:
            package, kind = following, "msp" if word in _PATCH else "msi"
        elif word.startswith(("/l", "-l")):
            log = following
    return _Order(
        package,
        kind,
        quiet=bool(_QUIET_MSI.intersection(lowered)),
        no_restart=bool(_NO_RESTART.intersection(lowered)),
        log=log,
    )


def _check_runnable(program: str, data: bytes | None) -> None:
    """Refuse what is no program of the lab's.

    Raises:
        WindowsError_: with the number of the Windows error that a launch fails with.
    """
    win32 = "System.ComponentModel.Win32Exception"
    if data is None:
        raise WindowsError_(f"{program}: the system cannot find the file specified (2)", exception=win32)
    control = packages.read_control(data)
    if control is None:
        raise WindowsError_(
            f"{program}: the lab runs only its own stand-in packages, and this is none of them (216)", exception=win32
        )
    if control.kind != "exe":
        raise WindowsError_(f"{program}: is not a valid Win32 application (193)", exception=win32)


def _unreadable(order: _Order, data: bytes | None) -> int:
    """Return the exit code with which Windows Installer refuses a file that is missing or of another kind."""
    if order.kind == "msp":
        return advisory.EXIT_PATCH_NOT_OPENED if data is None else advisory.EXIT_BAD_PATCH
    return advisory.EXIT_PACKAGE_NOT_OPENED if data is None else advisory.EXIT_BAD_PACKAGE


def _restart(machine: Machine) -> None:
    process = machine.processes.start("shutdown.exe", "shutdown.exe /r", SYSTEM)

    def work() -> int:
        process.pause(_RESTART_DELAY)
        machine.on_restart()
        return 0

    machine.processes.work(process, work)
