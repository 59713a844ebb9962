"""WSUS as its programming interface shows it: updates with revisions and approvals, settings, roles, refusals.

It refuses what the product refuses: a replica takes no approvals, an expired update is not approved for installation,
nothing is saved while a synchronisation or an earlier saving runs, and who is no administrator of WSUS changes nothing.
This module knows neither scripts nor jobs nor the wire.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from wsusfix import advisory
from wsusfix.lab.filesystem import WindowsError_

__all__ = ["CATALOGUES", "Approval", "Revision", "Update", "UpdateService"]

_REPORTER: Final = "Reporter"
_INVALID: Final = "System.InvalidOperationException"
_DENIED: Final = "System.UnauthorizedAccessException"
_NOT_FOUND: Final = "Microsoft.UpdateServices.Administration.WsusObjectNotFoundException"
_SAVING: Final = "ProcessingSave"
_SYNCHRONISING: Final = "SynchronizationInProgress"
#: The action that makes nothing available to anybody.
NOT_APPROVED: Final = "NotApproved"
INSTALL: Final = "Install"
#: Groups have ids of their own; these two every server has (WSUS SDK, ComputerTargetGroupId).
ALL_COMPUTERS: Final = str(uuid.uuid5(uuid.NAMESPACE_OID, "all computers of a simulated server"))
UNASSIGNED: Final = str(uuid.uuid5(uuid.NAMESPACE_OID, "unassigned computers of a simulated server"))
#: How long the background work after a saving takes, in seconds.
_SAVE_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Approval:
    """One approval of one revision for one group of computers."""

    revision: int
    group: str
    action: str = INSTALL
    optional: bool = False
    deadline: str = "9999-12-31T23:59:59Z"
    created: str = "2005-02-01T08:00:00Z"
    administrator: str = "LAB\\admin"


@dataclass(frozen=True)
class Revision:
    """One revision of an update, as it is told."""

    revision: int
    declined: bool
    title: str
    articles: str


@dataclass
class Update:
    """One update of the catalogue.

    Args:
        id: its GUID.
        titles: by culture; English where the server synchronised that language.
        kb: numbers of its articles.
        revisions: their numbers, the newest first.
        approvals: of all revisions; change them to arrange something.
        consistent: whether the database's own rows of them agree; nothing that can be asked shows it, and approving
            anew writes them anew.
    """

    id: str
    titles: Mapping[str, str]
    kb: tuple[str, ...] = ()
    revisions: list[int] = field(default_factory=lambda: [100])
    expired: bool = True
    declined: bool = False
    approvals: list[Approval] = field(default_factory=list)
    consistent: bool = True

    @property
    def title(self) -> str:
        """In English, or else in the first language there is."""
        return self.titles.get("en", next(iter(self.titles.values())))


def _id_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"update of a simulated server: {name}"))


def _broken(english: bool, culture: str) -> Update:
    """The update itself: expired, revised twice, approved on an old revision and on the newest."""
    titles = {"en": advisory.BROKEN_UPDATE_TITLE} if english else {}
    if not english or culture != "en-US":
        titles[culture] = f"{advisory.BROKEN_UPDATE_TITLE.replace('Service Pack', 'SP')} ({culture})"
    return Update(
        _id_of("the broken one"),
        titles,
        (advisory.BROKEN_UPDATE_ARTICLE,),
        revisions=[102, 101, 100],
        approvals=[Approval(101, ALL_COMPUTERS), Approval(102, UNASSIGNED)],
        consistent=False,
    )


def _near(english: bool, culture: str) -> Iterator[Update]:
    for number, title in enumerate(advisory.NEAR_TITLES):
        titles = {"en": title} if english else {culture: f"{title.partition(' ')[0]} ({culture}, {number})"}
        # The packs for other languages name the same article.
        kb = (advisory.BROKEN_UPDATE_ARTICLE,) if number == 0 else (str(842_000 + number),)
        yield Update(_id_of(title), titles, kb, approvals=[Approval(100, ALL_COMPUTERS)])


def _usual(culture: str) -> list[Update]:
    return [*_near(True, culture), _broken(True, culture)]


def _without_english(culture: str) -> list[Update]:
    local = culture if culture != "en-US" else "nb-NO"
    return [*_near(False, local), _broken(False, local)]


def _declined(culture: str) -> list[Update]:
    broken = _broken(True, culture)
    broken.declined, broken.approvals = True, []
    return [*_near(True, culture), broken]


def _two(culture: str) -> list[Update]:
    second = _broken(True, culture)
    second.id, second.revisions = _id_of("a second one"), [7]
    second.approvals = [Approval(7, ALL_COMPUTERS)]
    return [*_usual(culture), second]


#: What a catalogue may hold, by the name it is asked for; each is made for the server's culture.
CATALOGUES: Final[Mapping[str, Callable[[str], list[Update]]]] = MappingProxyType(
    {
        "usual": _usual,
        "near titles only": lambda culture: list(_near(True, culture)),
        "no English titles": _without_english,
        "declined": _declined,
        "two": _two,
        "empty": lambda culture: [],
    }
)


class UpdateService:
    """The server side of the programming interface.  Every method is told the role of who asks.

    Args:
        updates: the catalogue.
        replica: whether it is one.
        upstream: name of the server that it synchronises with; ``""`` for Microsoft Update.
        front_ends: names of the servers that share the database.
        log: takes what is written into the server's own log.
    """

    def __init__(
        self,
        updates: Sequence[Update],
        *,
        replica: bool,
        upstream: str,
        front_ends: Sequence[str] = (),
        log: Callable[[str], None],
    ) -> None:
        self.updates = list(updates)
        self.replica = replica
        self.automatic = True
        self.upstream = upstream
        self.front_ends = tuple(front_ends)
        self.save_seconds = _SAVE_SECONDS
        #: How often something was saved; and how many savings from now on are refused as by somebody else's work.
        self.saves = 0
        self.refuses_saves = 0
        #: The groups for which nothing can be approved for nothing (WSUS SDK, IUpdate.Approve).
        self.takes_no_blocks_for = frozenset({ALL_COMPUTERS})
        self._log = log
        self._lock = threading.RLock()
        self._busy = (0.0, "")
        self._numbers = itertools.count(1)

    # --- questions --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Of the configuration."""
        until, what = self._busy
        return what if time.monotonic() < until else advisory.READY_STATE

    def settings(self, role: str) -> dict[str, object]:
        """How the server is set, and who asks."""
        self._need(role, _REPORTER)
        return {
            "state": self.state,
            "role": role,
            "replica": self.replica,
            "upstream": self.upstream,
            "automatic": self.automatic,
            "front_ends": "\n".join(self.front_ends),
        }

    def find(self, role: str, texts: Sequence[str]) -> list[str]:
        """Ids of the updates in whose titles or articles one of the texts is."""
        self._need(role, _REPORTER)
        found = (
            update.id
            for text in texts
            for update in self.updates
            if text.lower() in update.title.lower() or text in update.kb
        )
        return list(dict.fromkeys(found))

    def revisions(self, role: str, update_id: str) -> list[Revision]:
        """Every revision of an update, the newest first; nothing for one that is not there."""
        self._need(role, _REPORTER)
        update = next((known for known in self.updates if known.id == update_id), None)
        if update is None:
            return []
        articles = ",".join(update.kb)
        return [Revision(number, update.declined, update.title, articles) for number in update.revisions]

    def approvals(self, role: str, update_id: str) -> list[Approval]:
        """Those of every revision that make something available."""
        self._need(role, _REPORTER)
        return [approval for approval in self._update(update_id).approvals if approval.action != NOT_APPROVED]

    # --- deeds ------------------------------------------------------------------------------------------------------

    def save_replica(self, role: str, replica: bool) -> None:
        """Change what kind of server it is, and save."""
        with self._lock:
            self._save(role)
            if replica and not self.upstream:
                raise WindowsError_("A replica has an upstream server.", exception=_INVALID)
            self.replica = replica
            self._busy = (time.monotonic() + self.save_seconds, _SAVING)

    def save_automatic(self, role: str, automatic: bool) -> None:
        """Change whether it synchronises by its timetable, and save."""
        with self._lock:
            self._save(role)
            self.automatic = automatic

    def decline(self, role: str, update_id: str) -> None:
        """Decline an update: the approvals of all its revisions go."""
        with self._lock:
            self._change(role)
            update = self._update(update_id)
            update.declined, update.approvals = True, []

    def approve(self, role: str, update_id: str, action: str, group: str) -> None:
        """Approve the newest revision of an update, which is declined no longer."""
        with self._lock:
            self._change(role)
            update = self._update(update_id)
            if update.expired and action == INSTALL:
                raise WindowsError_("The update has expired and cannot be approved.", exception=_INVALID)
            if action == NOT_APPROVED and group in self.takes_no_blocks_for:
                raise WindowsError_("A block approval cannot be created for this target group.", exception=_INVALID)
            update.declined, update.consistent = False, True
            update.approvals = [known for known in update.approvals if known.group != group]
            update.approvals.append(Approval(update.revisions[0], group, action))

    def log_message(self, role: str, text: str) -> None:
        """Write a line into the server's own log; it formats, so braces must be doubled."""
        self._need(role, _REPORTER)
        try:
            line = text.format()
        except (ValueError, IndexError, KeyError) as error:
            raise WindowsError_(
                "Input string was not in a correct format.", exception="System.FormatException"
            ) from error
        self._log(line)

    def synchronise(self, seconds: float) -> None:
        """Let a synchronisation run for so long."""
        with self._lock:
            self._busy = (time.monotonic() + seconds, _SYNCHRONISING)

    def elapse(self, seconds: float) -> None:
        """Bring what runs so much nearer to its end."""
        with self._lock:
            until, what = self._busy
            self._busy = (until - seconds, what)

    def restarted(self) -> None:
        """Nothing runs after a restart."""
        self._busy = (0.0, "")

    # --- within -----------------------------------------------------------------------------------------------------

    def _update(self, update_id: str) -> Update:
        for update in self.updates:
            if update.id == update_id:
                return update
        raise WindowsError_(f"The update {update_id} was not found.", exception=_NOT_FOUND)

    def _need(self, role: str, least: str = advisory.ADMINISTRATOR_ROLE) -> None:
        if role != advisory.ADMINISTRATOR_ROLE and role != least:
            raise WindowsError_("Attempted to perform an unauthorized operation.", exception=_DENIED)

    def _save(self, role: str) -> None:
        self._need(role)
        if self.refuses_saves > 0:
            self.refuses_saves -= 1
            raise WindowsError_("The configuration was changed by somebody else.", exception=_INVALID)
        if self.state != advisory.READY_STATE:
            raise WindowsError_(f"Cannot save configuration: {self.state}.", exception=_INVALID)
        self.saves += 1

    def _change(self, role: str) -> None:
        self._need(role)
        if self.replica:
            raise WindowsError_("This operation is not allowed on a replica server.", exception=_INVALID)
