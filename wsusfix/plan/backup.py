"""The backup of the database: the step, and what keeps it from being made.

Pure functions; it refuses to look at anything but the facts and the surroundings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wsusfix import advisory
from wsusfix.facts import DatabasePlace, HostFacts
from wsusfix.plan.common import Blocked
from wsusfix.present import Presentable, bytes_text, printable
from wsusfix.scripts.contracts import BACK_UP_DATABASE, BACKUP_NAME
from wsusfix.surroundings import Surroundings, database_server

__all__ = ["BackUpDatabase", "back_up", "backup_obstacles", "database_obstacles", "order", "room_obstacles"]


@dataclass(frozen=True, repr=False)
class BackUpDatabase(Presentable):
    """Back the database up and read the backup back, as a detached job of the SYSTEM account.

    The backup stays on the server when everything else is cleaned up; *reserve* bytes of the drive stay free beside it.
    """

    server: str
    database: str
    size: int
    folder: str
    reason: str
    source: str
    reserve: int = advisory.SYSTEM_RESERVE
    irreversible: bool = False

    @property
    def name(self) -> str:
        """The step's name, as outcomes and reports use it."""
        return "BackUpDatabase"

    @property
    def job(self) -> str:
        """The kind of the job that carries it out: the name of its script."""
        return BACK_UP_DATABASE.name

    def _extra(self) -> Mapping[str, object]:
        return {"name": self.name}

    def _summary(self) -> str:
        return f"{self.database}, {bytes_text(self.size)}"

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.name}: back up {printable(self.database, 80)} ({bytes_text(self.size)}), and verify the backup",
                f"  into: a new folder in %windir%\\{self.folder}, closed but to SYSTEM, Administrators and SQL",
                f"  why: {self.reason} [{self.source}]",
            ]
        )


def back_up(
    facts: HostFacts, around: Surroundings, reason: str, reserve: int = advisory.SYSTEM_RESERVE
) -> BackUpDatabase:
    """Make the step, when nothing is in its way."""
    database = facts.wsus.database
    return BackUpDatabase(
        server=database_server(facts),
        database=database.name if database is not None else "",
        size=around.database.size if around.database is not None else 0,
        folder=BACKUP_NAME,
        reason=reason,
        source=advisory.SOURCE_SETUP,
        reserve=reserve,
    )


def backup_obstacles(facts: HostFacts, around: Surroundings | None) -> Iterator[Blocked]:
    """Yield everything that keeps a backup from being made."""
    yield from database_obstacles(facts, around)
    yield from room_obstacles(facts, around)


def room_obstacles(
    facts: HostFacts, around: Surroundings | None, reserve: int = advisory.SYSTEM_RESERVE
) -> Iterator[Blocked]:
    """Yield the room that a backup lacks, with *reserve* bytes that must stay free beside it."""
    if around is None or around.database is None:
        return
    needed = around.database.size + reserve
    if facts.staging.system_free < needed:
        yield Blocked(
            f"{bytes_text(facts.staging.system_free)} on the system drive, "
            f"{bytes_text(needed)} needed for a backup and for what comes after it",
            "make room on the system drive, or back the database up by hand and say backup=False",
        )


def database_obstacles(facts: HostFacts, around: Surroundings | None) -> Iterator[Blocked]:
    """Yield what keeps the database from being worked on from this server."""
    database = facts.wsus.database
    place = database.place if database is not None else DatabasePlace.UNKNOWN
    shown = printable(database.server, 80) if database is not None else "no server named"
    match place:
        case DatabasePlace.REMOTE:
            yield Blocked(
                f"the database is on another server ({shown}), where SYSTEM is only the computer's account",
                f"do it by hand, in this order: {order()}",
            )
        case DatabasePlace.UNKNOWN:
            yield Blocked(f"nobody knows where the database is ({shown})", "look at SqlServerName of WSUS's Setup key")
        case DatabasePlace.EMBEDDED | DatabasePlace.LOCAL if around is None:
            yield Blocked("the server's surroundings were not looked at", "plan again")
        case DatabasePlace.EMBEDDED | DatabasePlace.LOCAL if around is not None and around.database is None:
            yield Blocked(
                f"the database does not answer: {around.database_trouble}",
                "is its service running, and is this account an administrator of it?",
            )
        case DatabasePlace.EMBEDDED | DatabasePlace.LOCAL:
            if around is not None and around.database is not None and not around.database.sysadmin:
                yield Blocked(
                    "this account is no sysadmin of the database's server, so nobody can tell whether SYSTEM is",
                    "let Administrators and SYSTEM be sysadmin there",
                )


def order() -> str:
    """Microsoft's order for several front ends and for a database on another server, as one sentence."""
    return "; ".join(f"({number}) {text}" for number, text in enumerate(advisory.FRONT_ENDS_UPGRADE, 1))
