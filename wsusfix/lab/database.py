"""The database of WSUS on a simulated server: where it is, who is connected, what may be done, and its backups.

A database has a server process of its own, whose account decides where a backup may be written; whoever asks needs to
be let in.  This module refuses to know SQL: it has one method for each thing that a script asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wsusfix import advisory
from wsusfix.lab.filesystem import EVERYONE, Token, WindowsError_
from wsusfix.lab.scheduler import Process

if TYPE_CHECKING:
    from wsusfix.lab.windows import Machine

__all__ = ["Backup", "Connection", "Database"]

#: The account under which the embedded database and a local SQL server run (Windows, well-known SIDs).
NETWORK_SERVICE: Final = Token("NT AUTHORITY\\NETWORK SERVICE", "S-1-5-20", frozenset({EVERYONE}))
_EXCEPTION: Final = "System.Data.SqlClient.SqlException"
_MARK: Final = b"backup of a simulated server's database\n"
_SERVER_PROGRAM: Final = "sqlservr.exe"


@dataclass(frozen=True)
class Connection:
    """Somebody who uses the database: from which computer, as which process there, by which program."""

    host: str
    process: str
    program: str


@dataclass(frozen=True)
class Backup:
    """A backup that was written: where, how large, of which version of WSUS, and whether it was read back well."""

    path: str
    size: int
    version: str
    verified: bool


@dataclass
class Database:
    """One database, and the SQL server that it belongs to.  Everything may be changed at any time.

    Args:
        machine: the server it is seen from.
        place: "embedded", "local" or "remote".
        version_of_wsus: gives ``VersionString`` as it is now, ``""`` without WSUS.
        name: of the database.
        version: of the SQL server.
        own_name: by which the SQL server knows itself, ``@@SERVERNAME``; ``None`` for the computer's.
        nested_triggers: the server's option of that name.
        sysadmin: whether administrators of the server, and SYSTEM, are that in the database.
        size: in bytes.
        files: of the database.
        foreign: whoever is connected besides WSUS itself.
        account: that the SQL server runs as.
        fails: what goes wrong with the next backups: "", "refused", "damaged" or "unreachable".
    """

    machine: Machine
    place: str
    version_of_wsus: Callable[[], str]
    name: str = advisory.DATABASE_NAME
    version: str = "9.00.4035.00"
    own_name: str | None = None
    nested_triggers: bool = True
    sysadmin: bool = True
    size: int = 400_000_000
    files: tuple[str, ...] = ("C:\\WSUS\\UpdateServicesDbFiles\\SUSDB.mdf",)
    foreign: list[Connection] = field(default_factory=list)
    account: Token = NETWORK_SERVICE
    fails: str = ""
    _written: list[tuple[str, str, int]] = field(default_factory=list)
    _verified: set[str] = field(default_factory=set)

    @property
    def backups(self) -> tuple[Backup, ...]:
        """The backups that are still there."""
        files = self.machine.files
        return tuple(
            Backup(path, files.length(path) or 0, version, path in self._verified)
            for path, version, _ in self._written
            if files.is_file(path)
        )

    @property
    def server(self) -> str:
        """The SQL server's name on the network."""
        if self.place == "remote":
            return "SQL01"
        return f"{self.machine.name}\\{advisory.EMBEDDED_INSTANCE}" if self.place == "embedded" else self.machine.name

    def ask(self, server: str) -> None:
        """Let somebody in who asked for *server*.

        Raises:
            WindowsError_: it is not reached, or the account may not.
        """
        embedded = server == f"np:{advisory.EMBEDDED_PIPE}"
        known = {"embedded": embedded, "local": not embedded, "remote": not embedded}[self.place]
        if self.fails == "unreachable" or not known:
            raise WindowsError_("A network-related or instance-specific error occurred", exception=_EXCEPTION)
        if self.place == "remote" or not self.sysadmin:
            raise WindowsError_(f"Login failed for user '{self.machine.name}$'.", exception=_EXCEPTION)

    @property
    def process(self) -> Process:
        """The SQL server's own process on this machine."""
        return self._process(_SERVER_PROGRAM)

    def _process(self, program: str) -> Process:
        found = next((each for each in self.machine.processes.all() if each.name == program), None)
        return found or self.machine.processes.start(program, f"C:\\{program}", self.account)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Everybody who is connected: WSUS itself while its services run, and the foreign ones."""
        own = [
            Connection(self.machine.name, str(self._process(program).pid), ".Net SqlClient Data Provider")
            for program, service in zip(
                sorted(advisory.WSUS_PROCESSES), (advisory.IIS_SERVICE, advisory.WSUS_SERVICE), strict=True
            )
            if self.machine.services.get(service) == "running"
        ]
        return (*own, *self.foreign)

    def back_up(self, path: str) -> None:
        """Write a backup, as the SQL server's account; it takes as much room as the database has.

        Raises:
            WindowsError_: it cannot be written there, or there is no room for it.
        """
        files = self.machine.files
        if self.fails == "refused" or not files.may_write(self.account, path):
            raise WindowsError_(
                f"Cannot open backup device '{path}'. Operating system error 5. BACKUP DATABASE is terminating.",
                exception=_EXCEPTION,
            )
        content = _MARK + f"{self.name} {self.version_of_wsus()}\n".encode() * 200
        damaged = self.fails == "damaged"
        data = content + hashlib.sha256(content).digest()
        files.create(path, data[:-1] + b"?" if damaged else data, beyond=max(0, self.size - len(data)))
        self._written.append((path, self.version_of_wsus(), len(data)))

    def read_back(self, path: str) -> None:
        """Find a backup whole.

        Raises:
            WindowsError_: it is not.
        """
        data = self.machine.files.read(path) or b""
        if not data.startswith(_MARK) or hashlib.sha256(data[:-32]).digest() != data[-32:]:
            raise WindowsError_(
                f"The media family on device '{path}' is incorrectly formed. VERIFY DATABASE is terminating.",
                exception=_EXCEPTION,
            )
        self._verified.add(path)
