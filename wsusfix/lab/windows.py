"""One simulated Windows server: its state (``Machine``) and what a process on it can ask and do (``SimulatedWindows``).

``SimulatedWindows`` has one method for each function of ``windows.ps1``, of the same name in snake case, with the same
parameters and answers, and lets a process do only what its account may.  This module refuses to know WSUS, the
scripts, and the network; the facts of the update reach it as registry values and files that others put there.
"""

from __future__ import annotations

import functools
import hashlib
import ntpath
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar, cast
from xml.etree import ElementTree

from wsusfix.lab import packages
from wsusfix.lab.approvals import ALL_COMPUTERS, NOT_APPROVED, UNASSIGNED
from wsusfix.lab.database import Database
from wsusfix.lab.filesystem import (
    ADMINISTRATORS,
    CLOSED,
    OF_WINDOWS,
    OPEN,
    SYSTEM_SID,
    Drive,
    Failure,
    FileLock,
    FileSystem,
    Messages,
    Security,
    Token,
    WindowsError_,
)
from wsusfix.lab.scheduler import SYSTEM, Process, ProcessTable, Task, TaskScheduler

__all__ = ["LogEntry", "Machine", "Registry", "SimulatedWindows", "Site", "System", "UpdateServices", "primitives"]

_Method = TypeVar("_Method", bound=Callable[..., Any])

#: Where Windows Installer lists what it installed, below HKLM (Windows Installer, uninstall registry key).
UNINSTALL_KEY: Final = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall"
#: What the primitive reads of a text file at most.
TEXT_LIMIT: Final = 1024 * 1024
#: How a session is started by WinRM's host process.
SESSION_PROCESS: Final = "wsmprovhost.exe"
TASK_PROCESS: Final = "powershell.exe"
SCHEDULER_PROCESS: Final = "taskeng.exe"
_SQL_EXCEPTION: Final = "System.Data.SqlClient.SqlException"

_PRIMITIVES: Final[list[str]] = []

RegistryData = str | int | Sequence[str]


@dataclass(frozen=True)
class System:
    """A Windows release as the lab can stand one up."""

    name: str
    version: str
    service_pack: int
    caption: str
    suites: tuple[str, ...]
    suite_mask: int
    windows_directory: str
    product_type: int = 3

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor of the version number."""
        major, minor, *_ = self.version.split(".")
        return int(major), int(minor)

    @property
    def elevates(self) -> bool:
        """Whether there is a difference between an administrator and an elevated one (Server 2008 and later)."""
        return self.release >= (6, 0)


@dataclass(frozen=True)
class LogEntry:
    """One entry of the Application event log."""

    source: str
    text: str
    failed: bool
    account: str
    time: str


class Registry:
    """HKEY_LOCAL_MACHINE; keys and names are compared without case, a key brings those above it with it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._keys: dict[str, dict[str, RegistryData]] = {}

    def set(self, key: str, **values: RegistryData) -> None:
        """Create *key* and set *values* in it."""
        with self._lock:
            parts = key.lower().split("\\")
            for count in range(1, len(parts) + 1):
                self._keys.setdefault("\\".join(parts[:count]), {})
            self._keys[key.lower()].update({name.lower(): value for name, value in values.items()})

    def get(self, key: str, name: str) -> RegistryData | None:
        """The value, or ``None``."""
        with self._lock:
            return self._keys.get(key.lower(), {}).get(name.lower())

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return isinstance(key, str) and key.lower() in self._keys

    def remove(self, key: str, name: str | None = None) -> None:
        """Remove one value, or the key with all below it."""
        with self._lock:
            if name is not None:
                self._keys.get(key.lower(), {}).pop(name.lower(), None)
                return
            for known in [k for k in self._keys if k == key.lower() or k.startswith(key.lower() + "\\")]:
                del self._keys[known]


@dataclass
class Site:
    """A site of IIS; ``starts`` says whether IIS starts it by itself."""

    number: str
    name: str
    running: bool = True
    starts: bool = True


class Programs(Protocol):
    """What happens when a program is started: someone else knows the programs there are."""

    def start(self, machine: Machine, parent: Process, program: str, arguments: str, temp: str) -> Process:
        """Start *program*, or raise :class:`WindowsError_` when it cannot be started."""


class UpdateServices(Protocol):
    """The programming interface of WSUS: someone else knows what is behind it.  Each call is told the caller's role."""

    def settings(self, role: str) -> dict[str, object]:
        """How the server is set, and who asks."""

    def find(self, role: str, texts: Sequence[str]) -> list[str]:
        """Ids of the updates in which one of the texts is."""

    def revisions(self, role: str, update_id: str) -> Sequence[Any]:
        """Every revision of an update, the newest first."""

    def approvals(self, role: str, update_id: str) -> Sequence[Any]:
        """The approvals of every revision."""

    def save_replica(self, role: str, replica: bool) -> None:
        """Change what kind of server it is."""

    def save_automatic(self, role: str, automatic: bool) -> None:
        """Change whether it synchronises by its timetable."""

    def decline(self, role: str, update_id: str) -> None:
        """Decline an update."""

    def approve(self, role: str, update_id: str, action: str, group: str) -> None:
        """Approve an update for a group."""

    def log_message(self, role: str, text: str) -> None:
        """Write into the server's own log."""

    def elapse(self, seconds: float) -> None:
        """Bring what runs so much nearer to its end."""

    def restarted(self) -> None:
        """Nothing runs after a restart."""


class Machine:
    """The state of one server, from its clock to its registry.  It ends with :meth:`close`.

    Args:
        name: the computer's name.
        system: its Windows.
        architecture: ``"x86"`` or ``"x64"``.
        culture: of the installed language.
        program_files: full path of Program Files, localised perhaps.
        renames: key below HKLM and name of the value in which renames wait for the next restart.
        passing_keys: keys that a restart removes.
    """

    def __init__(
        self,
        name: str,
        system: System,
        *,
        architecture: str,
        culture: str,
        program_files: str,
        renames: tuple[str, str],
        passing_keys: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.system = system
        self.architecture = architecture
        self.culture = culture
        self.program_files = program_files
        self.programs: Programs | None = None
        self.update_services: UpdateServices | None = None
        #: Role in WSUS of the accounts that connect, and of the system itself.
        self.wsus_roles = ("Administrator", "Administrator")
        #: What answers over HTTP here: the status by path; a path that nobody knows is 404.
        self.web: dict[str, int] = {}
        self.on_task: Callable[[Machine, Process, Task], int] = lambda machine, process, task: 1
        self.powershell_version = "2.0"
        self.messages = Messages(culture)
        self.registry = Registry()
        self.files = FileSystem(self.messages, {"C": Drive(80 << 30, 40 << 30)})
        self.services: dict[str, str] = {}
        #: By service the ones it needs; those that Windows does not start by itself; those that do not do as told.
        self.needs: dict[str, tuple[str, ...]] = {}
        self.manual_services: set[str] = set()
        self.stuck_services: set[str] = set()
        #: Service of IIS, with whose start and stop its sites start and stop.
        self.web_service = "w3svc"
        self.sites: list[Site] = []
        self.compressed: set[str] = set()
        self.database: Database | None = None
        self.ask_hierarchy: Callable[[], Mapping[str, str]] = self._no_administration
        #: Whether Windows carries out the order to restart.
        self.restarts = True
        self.event_log: list[LogEntry] = []
        self.clock_offset = 0.0
        #: Minutes by which the machine's local time is ahead of UTC.
        self.utc_offset = 0
        self.install_seconds = 0.3
        self.foreign_installer = False
        self.installer_hangs = False
        self.tasks_start = True
        self.task_delay = 0.0
        self.signature: str | None = None
        self.signature_stalls = False
        #: How much of the time that scripts wait for really passes; a hundredth lets an hour pass in half a minute.
        self.pace = 1.0
        self._ordered: list[Task] = []
        self.boot_time = self.now() - 86_400.0
        self.processes = ProcessTable(name, self.now, self._let_go)
        self.scheduler = TaskScheduler(old=system.release < (6, 0), launch=self._launch)
        #: Told of every text file that a process creates; what it returns happens right afterwards.
        self.on_text: Callable[[Process, str, str], Callable[[], None] | None] = lambda process, path, text: None
        self.on_restart: Callable[[], None] = self.boot
        self._renames = renames
        self._passing_keys = tuple(passing_keys)
        self._installing: Process | None = None
        self._lock = threading.RLock()
        for folder, security in (
            (system.windows_directory, OF_WINDOWS),
            (f"{system.windows_directory}\\System32", OF_WINDOWS),
            (f"{system.windows_directory}\\Temp", OPEN),
            (program_files, OF_WINDOWS),
        ):
            self.files.make_folders(folder)
            self.files.protect(folder, security)

    # --- who is there -----------------------------------------------------------------------------------------------

    def session(self, token: Token, cancelled: threading.Event | None = None) -> SimulatedWindows:
        """A process of WinRM's for one pipeline of *token*'s; end it with :meth:`ProcessTable.end`."""
        process = self.processes.start(
            SESSION_PROCESS,
            f"{self.system.windows_directory}\\system32\\{SESSION_PROCESS} -Embedding",
            token,
            cancelled=cancelled,
        )
        return SimulatedWindows(self, process)

    def start_ordered(self) -> None:
        """Begin now what was ordered while no task started."""
        with self._lock:
            ordered, self._ordered = self._ordered, []
        for task in ordered:
            self._begin(task)

    def _launch(self, task: Task) -> None:
        if self.tasks_start:
            self._begin(task)
            return
        with self._lock:
            self._ordered.append(task)

    def _begin(self, task: Task) -> None:
        service = self.processes.start(SCHEDULER_PROCESS, SCHEDULER_PROCESS, SYSTEM)
        delay = self.task_delay

        def begin() -> int:
            service.pause(delay)
            process = self.processes.start(TASK_PROCESS, task_command(task.script), SYSTEM, parent=service)
            self.processes.work(process, lambda: self.on_task(self, process, task))
            return 0

        self.processes.work(service, begin)

    def _let_go(self, process: Process) -> None:
        for held in process.locks:
            self.files.unlock(held)
        process.locks.clear()

    # --- time -------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The server's clock, in seconds since 1970."""
        return time.time() + self.clock_offset

    def boot(self) -> None:
        """Restart at once: nothing survives but what is on the disk; waiting renames are carried out."""
        self.processes.boot()
        with self._lock:
            self._ordered.clear()
            self.apply_renames()
            for key in self._passing_keys:
                self.registry.remove(key)
            self.services.update({name: "running" for name in self.services if name not in self.manual_services})
            for name in self.manual_services & self.services.keys():
                self.services[name] = "stopped"
            self._web_started()
            self.foreign_installer = False
            if self.update_services is not None:
                self.update_services.restarted()
            self.boot_time = self.now()

    def rename_at_restart(self, source: str, target: str | None) -> None:
        """Let *source* take the place of *target* at the next restart, or be removed."""
        with self._lock:
            waiting = self.pending_renames
            self.registry.set(
                self._renames[0],
                **{self._renames[1]: [*waiting, f"\\??\\{source}", f"!\\??\\{target}" if target else ""]},
            )

    @property
    def pending_renames(self) -> tuple[str, ...]:
        """The strings of ``PendingFileRenameOperations``, in pairs."""
        waiting = self.registry.get(*self._renames)
        return tuple(waiting) if isinstance(waiting, Sequence) and not isinstance(waiting, str) else ()

    def apply_renames(self) -> None:
        """Carry out what waits, as the session manager does before anything else runs."""
        waiting = [text.removeprefix("!").removeprefix("\\??\\") for text in self.pending_renames]
        for source, target in zip(waiting[::2], waiting[1::2], strict=False):
            if target and source in self.files:
                self.files.remove_file(target)
                self.files.move(source, target)
            elif source in self.files:
                self.files.remove_file(source)
        self.registry.remove(*self._renames)

    # --- services -----------------------------------------------------------------------------------------------------

    def dependents(self, name: str) -> list[str]:
        """The services that need *name*, directly or through others, in the order in which they have to stop."""
        found: list[str] = []
        for service, needed in self.needs.items():
            if name.lower() in needed and service in self.services:
                found += [each for each in (*self.dependents(service), service) if each not in found]
        return found

    def switch_service(self, name: str, *, run: bool) -> str:
        """Start or stop a service as its control does, with what needs it, or what it needs; what went wrong."""
        known = {service.lower(): service for service in self.services}.get(name.lower())
        if known is None:
            return f"there is no service {name}"
        if self.services[known] == ("running" if run else "stopped"):
            return ""
        if known in self.stuck_services:
            return "0x80131500 Time out has expired and the operation has not been completed."
        for other in self.needs.get(known, ()) if run else self.dependents(known):
            if trouble := self.switch_service(other, run=run):
                return trouble
        self.services[known] = "running" if run else "stopped"
        if known == self.web_service:
            self._web_started() if run else self._web_stopped()
        return ""

    def _web_started(self) -> None:
        for site in self.sites:
            site.running = site.starts

    def _web_stopped(self) -> None:
        for site in self.sites:
            site.running = False

    def _no_administration(self) -> Mapping[str, str]:
        raise WindowsError_("the administration interface of WSUS is not installed")

    # --- Windows Installer ------------------------------------------------------------------------------------------

    @property
    def installer_busy(self) -> bool:
        """Whether an installation runs, ours or anybody's."""
        with self._lock:
            return self.foreign_installer or (self._installing is not None and self._installing.alive)

    def claim_installer(self, process: Process) -> bool:
        """Let *process* be the one installation that runs; ``False`` when there is another."""
        with self._lock:
            if self.installer_busy:
                return False
            self._installing = process
            return True

    def close(self) -> None:
        """End everything that runs."""
        self.processes.close()


def task_command(script: str) -> str:
    """The command line of the task that runs *script*."""
    return f"{TASK_PROCESS} -NoLogo -NoProfile -NonInteractive -ExecutionPolicy RemoteSigned -File {script}"


def _primitive(method: _Method) -> _Method:
    """Let *method* act only while its process lives: work stops at the next thing it asks of Windows."""

    @functools.wraps(method)
    def checked(self: SimulatedWindows, *args: Any, **kwargs: Any) -> Any:
        self.process.check()
        return method(self, *args, **kwargs)

    _PRIMITIVES.append(method.__name__)
    return cast(_Method, checked)


class SimulatedWindows:
    """What one process on a machine sees of it.  A missing thing is ``None`` or ``False``, a failure is raised.

    Every method may raise :class:`WindowsError_` (it failed, or the account may not) and
    :class:`~wsusfix.lab.scheduler.ProcessEnded` (nobody is there any more to be answered).
    """

    def __init__(self, machine: Machine, process: Process) -> None:
        self.machine = machine
        self.process = process

    @property
    def _token(self) -> Token:
        return self.process.token

    @property
    def _files(self) -> FileSystem:
        return self.machine.files

    # --- the system -------------------------------------------------------------------------------------------------

    @_primitive
    def get_registry_value(self, key: str, name: str) -> str | None:
        """A value below HKLM as text; several strings one a line."""
        found = self.machine.registry.get(key, name)
        if found is None or isinstance(found, str):
            return found
        return str(found) if isinstance(found, int) else "\n".join(found)

    @_primitive
    def test_registry_key(self, key: str) -> bool:
        """Whether a key below HKLM exists."""
        return key in self.machine.registry

    @_primitive
    def get_operating_system(self) -> dict[str, object]:
        """Version, service pack, product type, suite mask, caption and boot time."""
        system = self.machine.system
        return {
            "version": system.version,
            "service_pack": system.service_pack,
            "product_type": system.product_type,
            "suite_mask": str(system.suite_mask),
            "caption": system.caption,
            "boot_time": time_text(self.machine.boot_time),
        }

    @_primitive
    def get_processor_architecture(self) -> str:
        """Of the system, not of the process."""
        return self.machine.architecture

    @_primitive
    def get_culture_name(self) -> str:
        """The language that Windows was installed in."""
        return self.machine.culture

    @_primitive
    def get_computer_name(self) -> str:
        """The computer's own name."""
        return self.machine.name

    @_primitive
    def get_windows_directory(self) -> str:
        """Where Windows is."""
        return self.machine.system.windows_directory

    @_primitive
    def get_program_files_directory(self) -> str:
        """Where programs are, under its localised name."""
        return self.machine.program_files

    @_primitive
    def get_clock(self) -> str:
        """The server's own time, UTC."""
        return time_text(self.machine.now())

    @_primitive
    def get_utc_offset(self) -> int:
        """Minutes by which local time is ahead of UTC."""
        return self.machine.utc_offset

    @_primitive
    def get_power_shell_version(self) -> str:
        """Of the PowerShell that runs the session."""
        return self.machine.powershell_version

    @_primitive
    def get_session_identity(self) -> dict[str, object]:
        """Who this process runs as."""
        token = self._token
        return {
            "account": token.account,
            "sid": token.sid,
            "authentication": token.authentication,
            "administrator": token.administrator,
        }

    @_primitive
    def test_installer_busy(self) -> bool:
        """Whether Windows Installer carries out an installation."""
        return self.machine.installer_busy

    @_primitive
    def get_file_version(self, path: str) -> str | None:
        """Four numeric parts, ``""`` for a file without any, ``None`` for no file."""
        return self._files.version(path) if self._files.may_read(self._token, path) else None

    @_primitive
    def get_service_status(self, name: str) -> str | None:
        """State of a service, ``None`` when there is none of that name."""
        return next((state for known, state in self.machine.services.items() if known.lower() == name.lower()), None)

    @_primitive
    def get_free_space(self, path: str) -> str:
        """Bytes free on the drive of *path*."""
        return str(self._files.drive(path).free)

    @_primitive
    def test_msi_product(self, code: str) -> bool:
        """Whether Windows Installer lists the product, 64-bit or 32-bit."""
        keys = (UNINSTALL_KEY, UNINSTALL_KEY.replace("SOFTWARE", r"SOFTWARE\Wow6432Node", 1))
        return any(f"{key}\\{code}" in self.machine.registry for key in keys)

    # --- processes --------------------------------------------------------------------------------------------------

    @_primitive
    def get_process_created(self, process_id: int) -> str | None:
        """When a process was created, in ticks, or ``None``."""
        found = self.machine.processes.get(int(process_id))
        return found.created if found else None

    @_primitive
    def get_own_process(self) -> dict[str, object]:
        """Number and creation time of this process."""
        return {"pid": self.process.pid, "created": self.process.created}

    @_primitive
    def test_folder_process(self, folder: str) -> bool:
        """Whether a process other than this one has *folder* in its path or command line."""
        wanted = folder.rstrip("\\").lower() + "\\"
        return any(
            wanted in process.command_line.lower()
            for process in self.machine.processes.all()
            if process is not self.process
        )

    @_primitive
    def get_process_time(self, process_id: int) -> str:
        """Processor time of a process and its children in units of 100 ns."""
        found = self.machine.processes.get(int(process_id))
        return str(self.machine.processes.family_time(found)) if found else ""

    # --- files: questions -------------------------------------------------------------------------------------------

    @_primitive
    def test_file(self, path: str) -> bool:
        """Whether *path* is a file that can be seen."""
        return self._files.may_read(self._token, ntpath.dirname(path)) and self._files.is_file(path)

    @_primitive
    def test_folder(self, path: str) -> bool:
        """Whether *path* is a folder that can be seen."""
        return self._files.may_read(self._token, ntpath.dirname(path)) and self._files.is_folder(path)

    @_primitive
    def test_reparse_point(self, path: str) -> bool:
        """Whether *path* is a junction."""
        return self._files.reparse(path) is not None

    @_primitive
    def get_folder_entries(self, path: str) -> list[str]:
        """Names in a folder, ordinally sorted."""
        if self._files.is_folder(path):
            self._need_read(path)
        return self._files.entries(path)

    @_primitive
    def get_file_length(self, path: str) -> str | None:
        """Length in bytes, or ``None``."""
        length = self._files.length(path) if self._files.may_read(self._token, path) else None
        return None if length is None else str(length)

    @_primitive
    def get_file_sha256(self, path: str) -> str | None:
        """SHA-256 in lower-case hexadecimal, or ``None``."""
        data = self._read(path)
        return None if data is None else hashlib.sha256(data).hexdigest()

    @_primitive
    def read_text_file(self, path: str) -> str | None:
        """The first megabyte as UTF-8 text, or ``None``."""
        data = self._read(path, count=TEXT_LIMIT)
        return None if data is None else data.decode("utf-8-sig", errors="replace")

    @_primitive
    def read_file_tail(self, path: str, bytes: int) -> str:
        """The last *bytes* as text, UTF-16 where the file's mark says so."""
        if not self._read(path):
            return ""
        wide = self._read(path, count=2) == b"\xff\xfe"
        length = self._files.length(path) or 0
        start = max(0, length - bytes)
        # The tail begins at a whole character; half of one would turn all that follows into another script.
        start += start % 2 if wide else 0
        data = self._read(path, start=start) or b""
        return data.decode("utf-16-le" if wide else "utf-8", errors="replace").lstrip("\ufeff")

    @_primitive
    def read_file_block(self, path: str, offset: int, count: int) -> str:
        """So many bytes of a file, a character each."""
        data = self._read(path, start=int(offset), count=int(count))
        if data is None:
            raise self.machine.messages.error(Failure.NO_FILE, path)
        return data.decode("latin-1")

    @_primitive
    def get_folder_trust(self, path: str) -> str:
        """``""`` when the folder is closed as it must be, else what is wrong with it."""
        if self._files.is_file(path):
            return "staging_is_file"
        if not self._files.is_folder(path):
            return "absent"
        if self._files.reparse(path) is not None:
            return "staging_reparse"
        self._need_read(path)
        security = self._files.security(path)
        if security.owner not in (ADMINISTRATORS, SYSTEM_SID):
            return "staging_owner"
        own = self._files.own_security(path)
        return "" if own is not None and own.closed else "staging_acl"

    # --- files: deeds -----------------------------------------------------------------------------------------------

    @_primitive
    def add_text_file(self, path: str, text: str) -> bool:
        """Create a text file; ``False`` when something of that name is there."""
        follow: Callable[[], None] | None = None
        # Who watches has taken note of the file before anybody can read it.
        with self._files.held():
            created = self._create(path, text.encode("utf-8"))
            if created:
                follow = self.machine.on_text(self.process, path, text)
        if follow is not None:
            follow()
            # That may have ended this very process.
            self.process.check()
        return created

    @_primitive
    def add_binary_file(self, path: str, bytes: bytes) -> None:
        """Create a file, or write behind what it holds."""
        self._need_write(path)
        self._files.append(path, bytes)

    @_primitive
    def add_script_file(self, path: str, text: str) -> None:
        """Create a script file, with mark and CRLF."""
        lines = text.replace("\r\n", "\n").replace("\n", "\r\n")
        if not self._create(path, b"\xef\xbb\xbf" + lines.encode("utf-8")):
            raise WindowsError_(f"there is a file already: {path}")

    @_primitive
    def join_files(self, sources: Sequence[str], target: str) -> None:
        """Write *sources* one after the other into a new file."""
        self._need_write(target)
        if not self._files.create(target, b""):
            raise self.machine.messages.error(Failure.EXISTS, target)
        for source in sources:
            data = self._read(source)
            if data is None:
                raise self.machine.messages.error(Failure.NO_FILE, source)
            self._files.append(target, data)

    @_primitive
    def move_file_to_new(self, from_: str, to: str) -> bool:
        """Move a file; ``False`` when something is in its place."""
        self._need_write(from_)
        self._need_write(to)
        return self._files.move(from_, to)

    @_primitive
    def remove_file(self, path: str) -> None:
        """Remove a file, if there is one."""
        if self._files.is_file(path):
            self._need_write(path)
            self._files.remove_file(path)

    @_primitive
    def remove_tree(self, path: str) -> None:
        """Remove a folder with all in it; of a junction only the junction."""
        if self._files.is_folder(path):
            self._need_write(path)
            self._files.remove_tree(path)

    @_primitive
    def new_plain_folder(self, path: str) -> None:
        """Create a folder and what is missing above it, with the access list of its parent."""
        self._need_write(ntpath.dirname(path))
        self._files.make_folders(path)

    @_primitive
    def new_closed_folder(self, path: str) -> None:
        """Create a folder for SYSTEM and Administrators only; one that is there stays as it is."""
        self._need_write(ntpath.dirname(path))
        self._files.make_folder(path, CLOSED)

    @_primitive
    def lock_file(self, path: str) -> FileLock:
        """Hold a file so that nobody can change, replace or remove it."""
        self._need_read(path)
        held = self._files.lock(path)
        self.process.locks.append(held)
        return held

    @_primitive
    def unlock_file(self, handle: FileLock) -> None:
        """Let go of a file."""
        if handle in self.process.locks:
            self.process.locks.remove(handle)
            self._files.unlock(handle)

    @_primitive
    def save_parameters(self, path: str, parameters: Mapping[str, object]) -> None:
        """Keep a hashtable in a file."""
        self._need_write(path)
        self._files.replace(path, to_clixml(parameters))

    @_primitive
    def read_parameters(self, path: str) -> dict[str, Any]:
        """The hashtable that a file keeps."""
        data = self._read(path)
        if data is None:
            raise self.machine.messages.error(Failure.NO_FILE, path)
        return from_clixml(data)

    # --- deeds ------------------------------------------------------------------------------------------------------

    @_primitive
    def register_system_task(self, name: str, script: str) -> str:
        """Make a task that runs *script* as SYSTEM; ``""``, or what went wrong."""
        if " " in script or '"' in script:
            return f"the path of the script has a blank or a quotation mark: {script}"
        if not self._token.administrator:
            return self.machine.scheduler.denied
        return self.machine.scheduler.register(name, script, task_command(script))

    @_primitive
    def start_system_task(self, name: str) -> str:
        """Order a task to run; ``""``, or what went wrong."""
        if not self._token.administrator:
            return self.machine.scheduler.denied
        return self.machine.scheduler.start(name)

    @_primitive
    def remove_system_task(self, name: str) -> bool:
        """Remove a task; whether there was one."""
        if not self._token.administrator:
            raise self.machine.messages.error(Failure.ACCESS_DENIED, name)
        return self.machine.scheduler.remove(name)

    @_primitive
    def test_system_task(self, name: str) -> bool:
        """Whether there is a task of that name."""
        return name in self.machine.scheduler

    @_primitive
    def get_package_signature(self, path: str, roots: Sequence[str], seconds: int) -> dict[str, str]:
        """Whether a package is signed as it must be, by whom, and when."""
        data = self._read(path)
        if data is None:
            raise self.machine.messages.error(Failure.NO_FILE, path)
        if self.machine.signature_stalls:
            self.process.pause(seconds * self.machine.pace)
            return {**_UNVERIFIABLE, "detail": f"not checked within {seconds} seconds"}
        return signature_of(data, roots, self.machine.signature)

    @_primitive
    def start_installer(self, program: str, arguments: str, temp: str) -> dict[str, object]:
        """Start a program; its number, creation time and handle."""
        if self.machine.programs is None:
            raise self.machine.messages.error(Failure.NO_FILE, program)
        started = self.machine.programs.start(self.machine, self.process, program, arguments, temp)
        return {"pid": started.pid, "created": started.created, "process": started}

    @_primitive
    def wait_installer(self, handle: Process, milliseconds: int) -> bool:
        """Wait for its end; whether it came."""
        return handle.wait(self.process, milliseconds / 1000 * self.machine.pace) or not handle.alive

    @_primitive
    def get_installer_exit_code(self, handle: Process) -> str:
        """How it ended."""
        return str(handle.exit_code)

    @_primitive
    def write_application_log(self, source: str, text: str, failed: bool) -> bool:
        """Write an entry; whether it was written."""
        if not self._token.administrator:
            return False
        self.machine.event_log.append(
            LogEntry(source, text, bool(failed), self._token.account, time_text(self.machine.now()))
        )
        return True

    # --- the programming interface of WSUS --------------------------------------------------------------------------

    @property
    def _role(self) -> str:
        return self.machine.wsus_roles[self._token.sid == SYSTEM_SID]

    @property
    def _services(self) -> UpdateServices:
        if self.machine.update_services is None:
            raise WindowsError_("there is no Microsoft.UpdateServices.Administration")
        return self.machine.update_services

    @_primitive
    def get_wsus_settings(self) -> dict[str, object]:
        """How WSUS is set, and the role of who asks."""
        return self._services.settings(self._role)

    @_primitive
    def set_wsus_replica(self, replica: bool) -> None:
        """Make it a replica, or an autonomous server."""
        self._services.save_replica(self._role, bool(replica))

    @_primitive
    def set_wsus_automatic(self, automatic: bool) -> None:
        """Let it synchronise by its timetable, or not."""
        self._services.save_automatic(self._role, bool(automatic))

    @_primitive
    def find_wsus_updates(self, texts: Sequence[str]) -> list[str]:
        """Ids of the updates in which one of the texts is found."""
        return self._services.find(self._role, texts)

    @_primitive
    def get_wsus_revisions(self, id: str) -> list[dict[str, Any]]:
        """Every revision of an update, the newest first."""
        return [asdict(each) for each in self._services.revisions(self._role, id)]

    @_primitive
    def get_wsus_approvals(self, id: str) -> list[dict[str, Any]]:
        """The approvals of every revision of an update."""
        return [asdict(each) for each in self._services.approvals(self._role, id)]

    @_primitive
    def deny_wsus_update(self, id: str) -> None:
        """Decline an update."""
        self._services.decline(self._role, id)

    @_primitive
    def reset_wsus_update(self, id: str) -> None:
        """Approve an update for nothing, for all computers or, where that is refused, for those of no group."""
        try:
            self._services.approve(self._role, id, NOT_APPROVED, ALL_COMPUTERS)
        except WindowsError_:
            self._services.approve(self._role, id, NOT_APPROVED, UNASSIGNED)

    @_primitive
    def write_wsus_log(self, text: str) -> bool:
        """Write into the log of WSUS; whether it was written."""
        try:
            self._services.log_message(self._role, text.replace("{", "{{").replace("}", "}}"))
        except WindowsError_:
            return False
        return True

    @_primitive
    def get_web_status(self, url: str) -> str:
        """What this server answers over HTTP, or what keeps it from answering."""
        if self.machine.services.get("w3svc") != "running":
            # Over TLS it is the connection itself that is told of.
            return "SocketException" if url.startswith("https://") else "ConnectFailure"
        path = "/".join(url.split("/")[3:]).lower()
        return str(self.machine.web.get(path, 404))

    @_primitive
    def wait_seconds(self, seconds: float) -> None:
        """Let time pass."""
        self.process.pause(seconds * self.machine.pace)

    # --- database, services and sites -------------------------------------------------------------------------------

    def _database(self, server: str) -> Database:
        """The database server of that name, if it lets this account in."""
        if self.machine.database is None:
            raise WindowsError_("A network-related or instance-specific error occurred", exception=_SQL_EXCEPTION)
        if not self._token.administrator:
            raise WindowsError_(f"Login failed for user '{self._token.account}'.", exception=_SQL_EXCEPTION)
        self.machine.database.ask(server)
        return self.machine.database

    @_primitive
    def get_database_state(self, server: str, database: str, seconds: int) -> dict[str, object]:
        """Version, names, process and options of a database server, and the size and files of one database."""
        found = self._database(server)
        there = database.lower() == found.name.lower()
        return {
            "version": found.version,
            "own_name": found.server if found.own_name is None else found.own_name,
            "network_name": found.server,
            "process_id": found.process.pid,
            "sysadmin": found.sysadmin,
            "nested_triggers": found.nested_triggers,
            "size": str(found.size if there else 0),
            "files": "\n".join(found.files if there else ()),
        }

    @_primitive
    def get_database_connections(self, server: str, database: str, seconds: int) -> list[dict[str, object]]:
        """Who else uses a database: host, process, program."""
        return [
            {"host": each.host, "process": each.process, "program": each.program}
            for each in self._database(server).connections
        ]

    @_primitive
    def save_database(self, server: str, database: str, path: str, seconds: int) -> None:
        """Back a database up."""
        self._database(server).back_up(path)

    @_primitive
    def test_database_backup(self, server: str, path: str, seconds: int) -> None:
        """Read a backup back."""
        self._database(server).read_back(path)

    @_primitive
    def get_process_owner(self, process_id: int) -> str:
        """SID of the account that a process runs as, ``""`` for no process."""
        found = self.machine.processes.get(int(process_id))
        return found.token.sid if found else ""

    @_primitive
    def get_process_name(self, process_id: int) -> str:
        """Name of a process's program in lower case, ``""`` for no process."""
        found = self.machine.processes.get(int(process_id))
        return found.name.lower() if found else ""

    @_primitive
    def new_shared_folder(self, path: str, sid: str) -> None:
        """Create a folder for SYSTEM, Administrators and one more account; one that is there stays as it is."""
        self._need_write(ntpath.dirname(path))
        allowed = CLOSED.writers | {sid}
        self._files.make_folder(path, Security(ADMINISTRATORS, allowed, allowed))

    @_primitive
    def get_dependent_services(self, name: str) -> list[str]:
        """Names of the services that run and need this one, in the order in which they have to stop."""
        services = self.machine.services
        return [each for each in self.machine.dependents(name) if services[each] != "stopped"]

    @_primitive
    def switch_service(self, name: str, run: bool, seconds: int) -> str:
        """Start or stop a service; ``""``, or what went wrong."""
        if not self._token.administrator:
            return "0x80004005 Access is denied"
        return self.machine.switch_service(name, run=bool(run))

    @_primitive
    def get_web_sites(self) -> list[dict[str, object]]:
        """The sites of IIS: number, name, and whether each runs."""
        if self.machine.web_service not in self.machine.services:
            raise WindowsError_("Unknown error (0x80005000)")
        return [{"number": each.number, "name": each.name, "running": each.running} for each in self.machine.sites]

    @_primitive
    def switch_web_site(self, number: str, run: bool) -> str:
        """Start or stop a site; ``""``, or what went wrong."""
        for site in self.machine.sites:
            if site.number == number:
                if self.machine.services.get(self.machine.web_service) != "running":
                    return "0x80070426 The service has not been started."
                site.running = bool(run)
                return ""
        return "0x80070003 The system cannot find the path specified."

    @_primitive
    def get_wsus_hierarchy(self) -> dict[str, object]:
        """The server above, ``""`` for none, and the names of those that share the database, one a line."""
        if not self._token.administrator:
            raise WindowsError_("Request for principal permission failed.")
        return dict(self.machine.ask_hierarchy())

    @_primitive
    def test_compressed(self, path: str) -> bool:
        """Whether a file or folder is compressed, or its drive."""
        marked = {each.lower() for each in self.machine.compressed}
        return path.lower() in marked or ntpath.splitdrive(path)[0].lower() + "\\" in marked

    @_primitive
    def get_file_time(self, path: str) -> str | None:
        """When a file was last written, or ``None``."""
        written = self._files.written(path)
        return None if written is None else time_text(written + self.machine.clock_offset)

    @_primitive
    def start_restart(self, text: str, seconds: int) -> str:
        """Order a restart; ``""``, or what went wrong."""
        if not self._token.administrator or not self.machine.restarts:
            return "shutdown.exe ended with exit code 5"
        shutdown = self.machine.processes.start("shutdown.exe", "shutdown.exe /r", SYSTEM)

        def work() -> int:
            shutdown.pause(min(seconds * self.machine.pace, 0.3))
            self.machine.on_restart()
            return 0

        self.machine.processes.work(shutdown, work)
        return ""

    # --- within -----------------------------------------------------------------------------------------------------

    def _need_read(self, path: str) -> None:
        if not self._files.may_read(self._token, path):
            raise self.machine.messages.error(Failure.ACCESS_DENIED, path)

    def _need_write(self, path: str) -> None:
        if not self._files.may_write(self._token, path):
            raise self.machine.messages.error(Failure.ACCESS_DENIED, path)

    def _read(self, path: str, *, start: int = 0, count: int | None = None) -> bytes | None:
        if path in self._files:
            self._need_read(path)
        return self._files.read(path, start=start, count=count)

    def _create(self, path: str, data: bytes) -> bool:
        self._need_write(path)
        return self._files.create(path, data)


def primitives() -> tuple[str, ...]:
    """Names of the methods of :class:`SimulatedWindows` that stand for functions of ``windows.ps1``."""
    return tuple(_PRIMITIVES)


def time_text(moment: float) -> str:
    """Return a time in seconds since 1970 as the scripts write it."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


_UNVERIFIABLE: Final = MappingProxyType(
    {"status": "unverifiable", "signer": "", "root": "", "signed_at": "", "detail": ""}
)


def signature_of(data: bytes, roots: Sequence[str], forced: str | None = None) -> dict[str, str]:
    """Tell how a package is signed; only a stand-in's control section says so, and *forced* overrides it."""
    answer = dict(_UNVERIFIABLE)
    control = packages.read_control(data)
    if control is None and forced is None:
        return {**answer, "detail": "the lab can tell only how its own stand-ins are signed"}
    status = forced or (control.signature if control else "unverifiable")
    if status == "unverifiable":
        return {**answer, "detail": "the revocation server was offline"}
    signer = {"signer": "CN=wsusfix lab stand-in", "signed_at": "2008-08-01T00:00:00Z"}
    if status != "valid" or not roots:
        detail = "the chain ends in none of the roots given" if status == "valid" else "file: HashMismatch"
        return {**answer, **signer, "status": "invalid", "detail": detail}
    return {**answer, **signer, "status": "valid", "root": str(roots[0]).upper()}


# --- CLIXML: how PowerShell keeps a hashtable in a file ---------------------------------------------------------------

_CLIXML: Final = "http://schemas.microsoft.com/powershell/2004/04"
_ESCAPED: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_TO_ESCAPE: Final = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)|[\x00-\x1f]")


def to_clixml(value: Mapping[str, object]) -> bytes:
    """Return *value* as ``Export-Clixml`` writes a hashtable."""
    root = ElementTree.Element("Objs", {"Version": "1.1.0.1", "xmlns": _CLIXML})
    root.append(_to_element(value))
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root)


def _to_element(value: object, **attributes: str) -> ElementTree.Element:
    if isinstance(value, Mapping):
        element = ElementTree.Element("Obj", attributes)
        table = ElementTree.SubElement(element, "DCT")
        for key, item in value.items():
            entry = ElementTree.SubElement(table, "En")
            entry.append(_to_element(str(key), N="Key"))
            entry.append(_to_element(item, N="Value"))
        return element
    if isinstance(value, (list, tuple)):
        element = ElementTree.Element("Obj", attributes)
        items = ElementTree.SubElement(element, "LST")
        items.extend(_to_element(item) for item in value)
        return element
    tag = "B" if isinstance(value, bool) else "I32" if isinstance(value, int) else "S" if isinstance(value, str) else ""
    if not tag:
        raise WindowsError_(f"a parameter of type {type(value).__name__} cannot be kept")
    element = ElementTree.Element(tag, attributes)
    text = str(value).lower() if tag == "B" else str(value)
    element.text = _TO_ESCAPE.sub(lambda found: f"_x{ord(found.group()):04X}_", text)
    return element


def from_clixml(data: bytes) -> dict[str, Any]:
    """Return the hashtable of a file that :func:`to_clixml` or ``Export-Clixml`` wrote."""
    try:
        value = _from_element(ElementTree.fromstring(data)[0])  # noqa: S314  (a file of the simulated server)
    except (ElementTree.ParseError, IndexError, ValueError) as error:
        raise WindowsError_(f"the file is no CLIXML: {error}", exception="System.Xml.XmlException") from error
    if not isinstance(value, dict):
        raise WindowsError_("the file holds no hashtable", exception="System.Xml.XmlException")
    return value


def _from_element(element: ElementTree.Element) -> object:
    tag = element.tag.rpartition("}")[2]
    text = element.text or ""
    if tag == "S":
        return _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), text)
    if tag == "B":
        return text == "true"
    if tag == "I32":
        return int(text)
    inner = next(child for child in element if child.tag.rpartition("}")[2] in ("DCT", "LST", "IE"))
    if inner.tag.endswith("DCT"):
        return {str(_from_element(entry[0])): _from_element(entry[1]) for entry in inner}
    return [_from_element(item) for item in inner]
