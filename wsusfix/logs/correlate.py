"""The same failed call seen from both ends: the client's ``ID:`` is the server's ``ID=`` (advisory 954960, samples).

What comes along: how far the client's clock is off, how many clients are hit, since when and until when.
"""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from wsusfix import errors
from wsusfix.logs.findings import ClientFinding, Finding, ServerFinding
from wsusfix.logs.rollover import log_of
from wsusfix.present import Presentable, counted, printable, rows

__all__ = ["Correlation", "Pair", "correlate"]

#: Offsets of zones are whole quarters of an hour, from 12 hours behind to 14 ahead; clocks in a domain differ by less
#: than the half of one (Kerberos allows five minutes). So a client's zone can be told from one call seen by both ends.
_QUARTER: Final = timedelta(minutes=15)
_CLOCKS_APART: Final = timedelta(minutes=5)
_OFFSETS: Final = (timedelta(hours=-12), timedelta(hours=14))
_MOST_SHOWN: Final = 10


@dataclass(frozen=True, repr=False)
class Pair(Presentable):
    """One failed call, seen by client and server.

    ``skew_seconds`` is the client's clock minus the server's, ``utc_offset_seconds`` the client's zone; the zone is
    taken from the client's log, or (``zone_inferred``) is the quarter of an hour that leaves the smallest skew.  Both
    are ``None`` where a copy lost a time.
    """

    call_id: str
    client: ClientFinding
    server: ServerFinding
    skew_seconds: float | None = None
    utc_offset_seconds: int | None = None
    zone_inferred: bool = False

    @property
    def zone_doubtful(self) -> bool:
        """Whether the zone of the client's header explains its time so badly that another one would do better.

        An agent writes its zone when it starts, and goes on for months: summer time may have begun or ended since.
        """
        if self.skew_seconds is None or self.zone_inferred:
            return False
        apart = timedelta(seconds=self.skew_seconds)
        nearest = round(apart / _QUARTER) * _QUARTER
        return bool(nearest) and abs(apart - nearest) <= _CLOCKS_APART

    def _extra(self) -> Mapping[str, object]:
        return {"zone_doubtful": self.zone_doubtful}

    def _summary(self) -> str:
        return self.call_id

    def __str__(self) -> str:
        skew = ""
        if self.skew_seconds is not None and self.utc_offset_seconds is not None:
            how = "inferred" if self.zone_inferred else "by its log"
            how += "; summer time may have changed since" if self.zone_doubtful else ""
            skew = (
                f", its clock {self.skew_seconds:+.3f} s, its zone UTC{_offset_text(self.utc_offset_seconds)} ({how})"
            )
        client = f"{printable(self.client.file)}:{self.client.line}"
        return f"call {self.call_id}: client {client}, server {printable(self.server.file)}:{self.server.line}{skew}"


@dataclass(frozen=True, repr=False)
class Correlation(Presentable):
    """What all findings together say.

    Args:
        pairs: calls seen from both ends, one for each client log.
        calls: failed calls that are proven, each counted once however many logs show it.
        clients: computers that they failed on, by their logs; logs that show the same call are of one computer.
        since, until: the first and the last of these calls, in UTC; ``None`` when there are none, or without a time.
        unplaced: proven calls whose time in UTC is not known, so that they may lie outside.
        inconclusive: findings that prove nothing.
    """

    pairs: tuple[Pair, ...]
    calls: int
    clients: int
    since: datetime | None
    until: datetime | None
    unplaced: int
    inconclusive: int

    @property
    def last_seen(self) -> datetime | None:
        """When the fault was last seen."""
        return self.until

    def none_since(self, moment: datetime) -> bool | None:
        """Return whether no call failed at or after *moment*; ``None`` when a call without a known time may have.

        It speaks of the logs that were read, which may end before *moment*: their ``ends`` say so.

        Raises:
            UsageError: *moment* has no zone.
        """
        if moment.tzinfo is None:
            raise errors.UsageError("a moment needs its time zone to be compared with logs", phase="logs")
        if self.until is not None and self.until >= moment:
            return False
        return None if self.unplaced else True

    def _extra(self) -> Mapping[str, object]:
        return {"last_seen": self.last_seen}

    def _summary(self) -> str:
        return (
            f"{counted(self.calls, 'call')} of {counted(self.clients, 'client')}, {len(self.pairs)} seen from both ends"
        )

    def __str__(self) -> str:
        shown = [str(pair) for pair in self.pairs[:_MOST_SHOWN]]
        if len(self.pairs) > _MOST_SHOWN:
            shown.append(f"and {len(self.pairs) - _MOST_SHOWN} more")
        return rows(
            [
                ("failed calls", self.calls),
                ("clients", self.clients),
                ("first", _time_text(self.since)),
                ("last", _time_text(self.until)),
                ("without a time", self.unplaced or None),
                ("inconclusive", self.inconclusive or None),
                *(("both ends", text) for text in shown),
            ]
        )


def correlate(findings: Iterable[Finding]) -> Correlation:
    """Pair what clients and servers saw of the same call, and count.

    Of several servers' logs (copies, say) that show a call, the one whose path is most like the client's is its pair.
    """
    clients: list[ClientFinding] = []
    servers: list[ServerFinding] = []
    for finding in findings:
        if isinstance(finding, ClientFinding):
            clients.append(finding)
        elif isinstance(finding, ServerFinding):
            servers.append(finding)
    pairs = _pairs(clients, servers)
    everything: list[ClientFinding | ServerFinding] = [*clients, *servers]
    # A client's lone error is proven by the server's stack with the same ID, and the other way round.
    proven_ids = {found.call_id for found in everything if found.conclusive and found.call_id is not None}
    proven = [found for found in everything if found.conclusive or found.call_id in proven_ids]
    times = _times(proven, _offsets(pairs))
    placed = [time for time in times.values() if time is not None]
    return Correlation(
        pairs=pairs,
        calls=len(times),
        clients=_computers([found for found in proven if isinstance(found, ClientFinding)]),
        since=min(placed, default=None),
        until=max(placed, default=None),
        unplaced=len(times) - len(placed),
        inconclusive=len(everything) - len(proven),
    )


# --- pairs ----------------------------------------------------------------------------------------------------------


def _pairs(clients: list[ClientFinding], servers: list[ServerFinding]) -> tuple[Pair, ...]:
    by_id: dict[str, list[tuple[str, int]]] = {}
    for index, server in enumerate(servers):
        if server.call_id is not None:
            by_id.setdefault(server.call_id, []).append((server.file, index))
    for known in by_id.values():
        known.sort()
    seen: set[tuple[str, str]] = set()
    pairs = []
    for client in clients:
        if client.call_id is None or client.call_id not in by_id or (client.call_id, client.file) in seen:
            continue
        seen.add((client.call_id, client.file))
        pairs.append(_pair(client.call_id, client, servers[_most_like(client.file, by_id[client.call_id])]))
    return tuple(pairs)


def _most_like(path: str, known: list[tuple[str, int]]) -> int:
    """Return which of the sorted paths begins most like *path*: a neighbour of the place where that would stand."""
    place = bisect.bisect(known, (path, -1))
    neighbours = known[max(0, place - 1) : place + 1]
    return max(neighbours, key=lambda each: _same_beginning(path, each[0]))[1]


def _same_beginning(one: str, other: str) -> int:
    return sum(1 for _ in itertools.takewhile(bool, map(operator.eq, one, other)))


def _pair(call_id: str, client: ClientFinding, server: ServerFinding) -> Pair:
    if client.time is None or server.time is None:
        return Pair(call_id, client, server)
    offset = client.time.utcoffset()
    inferred = offset is None
    apart = client.time.replace(tzinfo=None) - server.time.astimezone(timezone.utc).replace(tzinfo=None)
    if offset is None:
        offset = round(apart / _QUARTER) * _QUARTER
        if not _OFFSETS[0] <= offset <= _OFFSETS[1]:
            return Pair(call_id, client, server)
    return Pair(
        call_id,
        client,
        server,
        skew_seconds=round((apart - offset).total_seconds(), 6),
        utc_offset_seconds=round(offset.total_seconds()),
        zone_inferred=inferred,
    )


# --- counts ---------------------------------------------------------------------------------------------------------


_Offsets = dict[str, list[tuple[datetime, timedelta]]]


def _offsets(pairs: tuple[Pair, ...]) -> _Offsets:
    """Return the zone of each client's log, as far as pairs tell it: at which of its times, and which."""
    known: _Offsets = {}
    for pair in pairs:
        if pair.utc_offset_seconds is not None and pair.client.time is not None:
            told = pair.client.time.replace(tzinfo=None), timedelta(seconds=pair.utc_offset_seconds)
            known.setdefault(log_of(pair.client.file), []).append(told)
    for each in known.values():
        each.sort()
    return known


def _offset_at(time: datetime, known: list[tuple[datetime, timedelta]]) -> timedelta | None:
    """Return the zone by the pairs before and behind *time*; ``None`` where they differ, as across summer time."""
    place = bisect.bisect(known, (time, timedelta.min))
    zones = {offset for _, offset in known[max(0, place - 1) : place + 1]}
    return zones.pop() if len(zones) == 1 else None


def _times(proven: list[ClientFinding | ServerFinding], offsets: _Offsets) -> dict[tuple[object, ...], datetime | None]:
    """Return each proven call with its time in UTC; the server's time counts where both are known."""
    times: dict[tuple[object, ...], datetime | None] = {}
    for found in proven:
        call = (found.call_id,) if found.call_id is not None else (found.file, found.line)
        time = found.time
        if time is not None and time.tzinfo is None:
            offset = _offset_at(time, offsets.get(log_of(found.file), []))
            time = None if offset is None else time.replace(tzinfo=timezone(offset))
        if time is not None and (times.get(call) is None or isinstance(found, ServerFinding)):
            times[call] = time.astimezone(timezone.utc)
        else:
            times.setdefault(call, None)
    return times


def _computers(found: list[ClientFinding]) -> int:
    """Return of how many computers the logs are: each is one, but those that show the same call are of the same."""
    leader: dict[str, str] = {}

    def first(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    logs = set()
    for client in found:
        log = f"log {log_of(client.file)}"
        logs.add(log)
        here = first(log)
        if client.call_id is not None:
            leader[here] = first(f"call {client.call_id}")
    return len({first(log) for log in logs})


def _offset_text(seconds: int) -> str:
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    return f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"


def _time_text(time: datetime | None) -> str | None:
    return None if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"
