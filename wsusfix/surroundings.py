"""What a server is like around its WSUS: database, services, sites, drives, and the other servers it belongs to.

An upgrade and a backup must know it, a diagnosis need not, so it is asked for by itself.  Everything here is as the
server said it; whether an upgrade may be begun on it is decided in ``plan``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from wsusfix import advisory
from wsusfix.advisory import InstallType
from wsusfix.facts import AnswerReader, DatabasePlace, HostFacts
from wsusfix.options import Timeouts, whole_seconds
from wsusfix.present import Presentable, bytes_text, printable, rows
from wsusfix.scripts.contracts import BACKUP_NAME, KEPT_NAME, UNVERIFIED_NAME, Scalar

__all__ = [
    "DatabaseState",
    "Drive",
    "Site",
    "Surroundings",
    "database_server",
    "own_programs",
    "parse",
    "probe_parameters",
    "record_parameters",
    "service_roots",
]

#: How long a database may take to answer a question, in seconds.
_DATABASE_SECONDS: Final = 30


@dataclass(frozen=True, repr=False)
class DatabaseState(Presentable):
    """The database as its own server told it.

    Args:
        version: of the SQL server.
        own_name: by which the SQL server knows itself; another one than *network_name* on a renamed computer.
        network_name: by which it is known on the network now.
        sysadmin: whether the account that asked may do anything there.
        nested_triggers: the server's option of that name.
        size: of the database, in bytes.
        files: of the database.
        others: whoever else is connected to it, besides WSUS itself.
    """

    version: str
    own_name: str
    network_name: str
    sysadmin: bool
    nested_triggers: bool
    size: int
    files: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def renamed(self) -> bool:
        """Whether the computer had another name when the SQL server was installed."""
        return self.own_name.lower() != self.network_name.lower()

    def _extra(self) -> Mapping[str, object]:
        return {"renamed": self.renamed}

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.network_name} ({self.version}), {bytes_text(self.size)}, {len(self.others)} others connected"


@dataclass(frozen=True, repr=False)
class Site(Presentable):
    """A site of IIS."""

    number: str
    name: str
    running: bool

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.name or self.number} ({'running' if self.running else 'stopped'})"


@dataclass(frozen=True, repr=False)
class Drive(Presentable):
    """What matters of the drive of one path: bytes free, and whether it or the path is compressed."""

    path: str
    free: int
    compressed: bool

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.path}: {bytes_text(self.free)} free{', compressed' if self.compressed else ''}"


@dataclass(frozen=True, repr=False)
class Surroundings(Presentable):
    """Everything one look around gave.

    Args:
        database: ``None`` where it was not asked, or did not answer; *database_trouble* says why not.
        upstream: the server that this one synchronizes with, ``""`` for Microsoft Update.
        front_ends: every server that shares the database.
        hierarchy_trouble: why WSUS did not tell these two.
        services: that run and would stop with IIS and WSUS, in the order in which they stop.
        sites: of IIS; *sites_trouble* says why they cannot be told.
        drives: of the paths that matter.
        backups: of the database that lie on the server from earlier runs, and were read back.
        clock: the server's own.
    """

    host: str
    database: DatabaseState | None
    database_trouble: str
    upstream: str
    front_ends: tuple[str, ...]
    hierarchy_trouble: str
    services: tuple[str, ...]
    sites: tuple[Site, ...]
    sites_trouble: str
    drives: tuple[Drive, ...]
    backups: tuple[str, ...]
    clock: datetime

    @property
    def running_sites(self) -> tuple[Site, ...]:
        """The sites that would stop."""
        return tuple(site for site in self.sites if site.running)

    def _summary(self) -> str:
        return f"{self.host}: {len(self.services)} services, {len(self.sites)} sites"

    def __str__(self) -> str:
        return f"{self.host}\n" + rows(
            [
                ("database", self.database or self.database_trouble),
                ("connected", ", ".join(self.database.others) if self.database is not None else ""),
                ("upstream", self.hierarchy_trouble or self.upstream or "Microsoft Update"),
                ("front ends", ", ".join(self.front_ends)),
                ("services", ", ".join(self.services)),
                ("sites", self.sites_trouble or ", ".join(str(site) for site in self.sites)),
                *(("drive", drive) for drive in self.drives),
                *(("backup", backup) for backup in self.backups),
            ]
        )


def database_server(facts: HostFacts) -> str:
    """Return how the database's server is connected to from its own machine, ``""`` where that is not to be done.

    The embedded one is reached by its pipe and never by the name in the registry.
    """
    database = facts.wsus.database
    if database is None:
        return ""
    match database.place:
        case DatabasePlace.EMBEDDED:
            return f"np:{advisory.EMBEDDED_PIPE}"
        case DatabasePlace.LOCAL:
            return re.sub("%computername%", ".", database.server, flags=re.IGNORECASE)
        case DatabasePlace.REMOTE | DatabasePlace.UNKNOWN:
            return ""


def service_roots() -> list[str]:
    """Return the services that an upgrade stops, with whatever needs them."""
    return [advisory.WSUS_SERVICE, *advisory.IIS_SERVICES]


def record_parameters() -> dict[str, Any]:
    """Return where what an upgrade stops is kept, and how it is seen that a WSUS server is there."""
    types = (InstallType.SERVER_3, *sorted(advisory.INSTALL_TYPES_2))
    return {
        "kept_name": KEPT_NAME,
        "setup_key": advisory.SETUP_KEY,
        "server_types": [str(int(kind)) for kind in types],
    }


def own_programs() -> list[str]:
    """Return the programs whose connections to the database are WSUS's own."""
    return sorted(advisory.WSUS_PROCESSES)


def probe_parameters(facts: HostFacts, timeouts: Timeouts) -> dict[str, Any]:
    """Return the parameters of the ``surroundings`` script for a server with these facts."""
    return {
        "server": database_server(facts),
        "database": facts.wsus.database.name if facts.wsus.database is not None else "",
        "own_programs": own_programs(),
        "hierarchy": facts.wsus.present,
        "service_roots": service_roots(),
        "paths": [path for path in (facts.wsus.target, facts.wsus.content) if path],
        "backup_folder": BACKUP_NAME,
        "unverified": UNVERIFIED_NAME,
        "seconds": min(_DATABASE_SECONDS, whole_seconds(timeouts.script)),
    }


def parse(facts: HostFacts, answer: Mapping[str, Scalar]) -> Surroundings:
    """Turn the checked answer of the ``surroundings`` script into frozen data.

    Raises:
        AnswerError: a value that no server can have.
    """
    read = AnswerReader(facts.host, answer, phase="surroundings")
    return Surroundings(
        host=facts.host,
        database=_database(read) if database_server(facts) and not read.text("database_trouble") else None,
        database_trouble=printable(read.text("database_trouble")),
        upstream=printable(read.text("upstream"), 260),
        front_ends=read.lines("front_ends"),
        hierarchy_trouble=printable(read.text("hierarchy_trouble")),
        services=read.lines("services"),
        sites=tuple(_sites(read)),
        sites_trouble=printable(read.text("sites_trouble")),
        drives=tuple(_drives(read)),
        backups=tuple(line.partition(" ")[2] for line in read.lines("backups")),
        clock=read.time("clock"),
    )


def _database(read: AnswerReader) -> DatabaseState:
    return DatabaseState(
        version=printable(read.text("database_version"), 80),
        own_name=printable(read.text("own_name"), 260),
        network_name=printable(read.text("network_name"), 260),
        sysadmin=read.flag("sysadmin"),
        nested_triggers=read.flag("nested_triggers"),
        size=read.count("database_size"),
        files=read.lines("database_files"),
        others=read.lines("connections"),
    )


def _sites(read: AnswerReader) -> Iterator[Site]:
    for line in read.lines("sites"):
        number, _, rest = line.partition(" ")
        state, _, name = rest.partition(" ")
        yield Site(number=number, name=name, running=state == "running")


def _drives(read: AnswerReader) -> Iterator[Drive]:
    for line in read.lines("drives"):
        free, _, rest = line.partition(" ")
        state, _, path = rest.partition(" ")
        if not (free.isascii() and free.isdigit() and len(free) <= 20):
            raise read.broken("drives", line)
        yield Drive(path=path, free=int(free), compressed=state == "compressed")
