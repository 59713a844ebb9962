"""What runs on one server: processes, their locks and processor time, and the scheduled tasks that start some.

A process here is an entry in a table, and perhaps a thread that does its work; it ends when the work ends or when
somebody ends it, and then its thread stops at the next thing it asks of Windows.  This module refuses to know what
any process does.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from wsusfix.lab.filesystem import ADMINISTRATORS, AUTHENTICATED_USERS, EVERYONE, SYSTEM_SID, FileLock, Token

__all__ = ["Process", "ProcessEnded", "ProcessTable", "SYSTEM", "Task", "TaskScheduler", "ticks_of"]

#: The machine's own account; its name is localised on real servers, its SID is not.
SYSTEM: Final = Token(
    "NT AUTHORITY\\SYSTEM",
    SYSTEM_SID,
    frozenset({ADMINISTRATORS, EVERYONE, AUTHENTICATED_USERS}),
    authentication="Negotiate",
)
#: Seconds between the year 1, from which .NET counts, and 1970.
_NET_EPOCH: Final = 62_135_596_800
#: How long ``close`` waits for one thread: they look at their end every few milliseconds.
_PATIENCE: Final = 10.0
#: schtasks of Server 2003 takes no longer command line (schtasks, ``/tr``).
_LONGEST_COMMAND: Final = 260
# Win32 errors.
_NOT_FOUND: Final = 2
_ACCESS_DENIED: Final = 5
_SERVICE_DISABLED: Final = 1058


class ProcessEnded(BaseException):
    """The simulated process in whose name something is asked has ended: its thread must not go on.

    Not an ``Exception``, so that no handler in the work itself can take it for an error and carry on.
    """


def ticks_of(moment: float) -> int:
    """Return a time in seconds since 1970 as .NET ticks of 100 nanoseconds."""
    return int((moment + _NET_EPOCH) * 10_000_000)


@dataclass(eq=False)
class Process:
    """One process; pid *and* creation time together are its identity, as a pid comes again after a restart."""

    pid: int
    created: str
    name: str
    command_line: str
    token: Token
    parent: int | None
    environment: Mapping[str, str]
    exit_code: int | None = None
    locks: list[FileLock] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _cancelled: threading.Event | None = None
    _began: float = field(default_factory=time.monotonic)
    _stood_still: float | None = None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._over.is_set()

    def check(self) -> None:
        """Let work go on only in the name of a living process.

        Raises:
            ProcessEnded: it has ended, or what it works for was called off.
        """
        if self._over.is_set() or (self._cancelled is not None and self._cancelled.is_set()):
            raise ProcessEnded

    def pause(self, seconds: float, until: threading.Event | None = None) -> bool:
        """Wait for so long, or until the event; tells whether the event came.

        Raises:
            ProcessEnded: the process ended meanwhile.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            left = deadline - time.monotonic()
            if until is not None and until.wait(max(0.0, min(left, 0.01))):
                return True
            if left <= 0:
                return False
            if until is None:
                self._over.wait(min(left, 0.05))

    def wait(self, waiter: Process, seconds: float) -> bool:
        """Let *waiter* wait for the end of this process."""
        return waiter.pause(seconds, self._over)

    def stand_still(self) -> None:
        """Use no processor time from now on, like a program that shows a dialog."""
        self._stood_still = time.monotonic()

    @property
    def processor_time(self) -> int:
        """Processor time used, in units of 100 nanoseconds."""
        if not self.alive and self._stood_still is None:
            self._stood_still = time.monotonic()
        return int(((self._stood_still or time.monotonic()) - self._began) * 10_000_000)


class ProcessTable:
    """The processes of one server since it started, and the threads that do their work.

    Args:
        server: names the threads.
        now: the server's clock, in seconds since 1970.
        on_end: told of every process that ends, so that what it held can be let go.
    """

    def __init__(self, server: str, now: Callable[[], float], on_end: Callable[[Process], None]) -> None:
        self._server = server
        self._now = now
        self._on_end = on_end
        self._lock = threading.RLock()
        self._processes: dict[int, Process] = {}
        self._threads: list[threading.Thread] = []
        self._last_created = 0
        self._pids = itertools.count()
        self._closed = False
        self.boot()

    def boot(self) -> None:
        """Begin anew with an empty table; pids are given out from the start again."""
        self.end_all()
        with self._lock:
            self._pids = itertools.count(1200, 4)

    def start(
        self,
        name: str,
        command_line: str,
        token: Token,
        *,
        parent: Process | None = None,
        environment: Mapping[str, str] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Process:
        """Start a process without any work of its own."""
        with self._lock:
            if self._closed:
                raise ProcessEnded
            # Two processes never share a creation time here: it is half of an identity.
            self._last_created = max(self._last_created + 1, ticks_of(self._now()))
            process = Process(
                pid=next(self._pids),
                created=str(self._last_created),
                name=name,
                command_line=command_line,
                token=token,
                parent=parent.pid if parent else None,
                environment=MappingProxyType(dict(environment or {})),
                _cancelled=cancelled,
            )
            self._processes[process.pid] = process
            return process

    def work(self, process: Process, work: Callable[[], int]) -> None:
        """Do *work* in a thread of its own; what it returns is the exit code of *process*."""
        thread = threading.Thread(
            target=self._work,
            args=(process, work),
            name=f"wsusfix-lab-{self._server}-{process.name}-{process.pid}",
            daemon=True,
        )
        with self._lock:
            self._threads = [known for known in self._threads if known.is_alive()] + [thread]
            thread.start()

    def _work(self, process: Process, work: Callable[[], int]) -> None:
        try:
            self.end(process, work())
        except ProcessEnded:
            self.end(process, 1)
        finally:
            self.end(process, 255)

    def end(self, process: Process, exit_code: int = 1) -> None:
        """End *process*; one that has ended keeps its exit code.  Its children live on, as they do on Windows."""
        with self._lock:
            if not process.alive:
                return
            process.exit_code = exit_code
            if self._processes.get(process.pid) is process:
                del self._processes[process.pid]
            process.processor_time  # noqa: B018  (freezes it)
            self._on_end(process)
            process._over.set()

    def end_all(self) -> None:
        """End every process, as a restart does."""
        for process in self.all():
            self.end(process)

    def all(self) -> tuple[Process, ...]:
        """The processes that live."""
        with self._lock:
            return tuple(self._processes.values())

    def get(self, pid: int) -> Process | None:
        """The living process of this number."""
        with self._lock:
            return self._processes.get(pid)

    def family_time(self, process: Process) -> int:
        """Processor time of *process* and its living children, in units of 100 nanoseconds."""
        return process.processor_time + sum(
            self.family_time(child) for child in self.all() if child.parent == process.pid
        )

    def close(self) -> None:
        """End everything, and wait for the threads; none can be started afterwards."""
        with self._lock:
            self._closed = True
            threads = [thread for thread in self._threads if thread is not threading.current_thread()]
        self.end_all()
        for thread in threads:
            thread.join(_PATIENCE)


@dataclass(frozen=True)
class Task:
    """A scheduled task: its script, its account, and the program that made it."""

    name: str
    script: str
    account: str = SYSTEM.account
    made_with: str = "Schedule.Service"


class TaskScheduler:
    """The scheduled tasks of one server; they outlive sessions and restarts.

    Args:
        old: whether this is the scheduler of Server 2003, reached by schtasks.
        launch: starts the program of a task.
    """

    def __init__(self, *, old: bool, launch: Callable[[Task], None]) -> None:
        self._old = old
        self._launch = launch
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self.running = True

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks there are."""
        with self._lock:
            return tuple(self._tasks.values())

    @property
    def denied(self) -> str:
        """What is told to an account that may not touch tasks."""
        return self._trouble(_ACCESS_DENIED)

    def _trouble(self, code: int) -> str:
        """Tell a Win32 error as schtasks does, which has one exit code for all, or as an HRESULT."""
        return "schtasks.exe ended with exit code 1" if self._old else f"0x{0x80070000 + code:08X}"

    def register(self, name: str, script: str, command_line: str) -> str:
        """Make the task *name*, in place of one of that name; what went wrong, or ``""``."""
        if not self.running:
            return self._trouble(_SERVICE_DISABLED)
        if self._old and len(command_line) > _LONGEST_COMMAND:
            return f"the command line is too long for schtasks.exe: {command_line}"
        with self._lock:
            self._tasks[name.lower()] = Task(name, script, made_with="schtasks" if self._old else "Schedule.Service")
        return ""

    def start(self, name: str) -> str:
        """Run the task *name* now; what went wrong, or ``""``.  That it really begins is not promised."""
        with self._lock:
            task = self._tasks.get(name.lower())
        if task is None or not self.running:
            return self._trouble(_NOT_FOUND)
        self._launch(task)
        return ""

    def remove(self, name: str) -> bool:
        """Remove the task *name*; whether there was one.  What it started runs on."""
        with self._lock:
            return self._tasks.pop(name.lower(), None) is not None

    def __contains__(self, name: object) -> bool:
        with self._lock:
            return isinstance(name, str) and name.lower() in self._tasks
