"""The road of WSUS 3.0 RTM: the updates whose approvals are reset, what is in the way of that, and the step itself.

Pure functions; it refuses to look at anything but the facts, what WSUS said of itself and of its updates, and the
options.  On 3.0 SP1 the same road is a stop-gap, for as long as no package is at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from wsusfix import advisory
from wsusfix.diagnosis import Diagnosis, Verdict
from wsusfix.facts import Approvals, DatabasePlace, HostFacts
from wsusfix.facts.approvals import UpdateState
from wsusfix.options import Options
from wsusfix.package import Package
from wsusfix.plan.common import Blocked, job_obstacles, join_warnings, session_obstacles
from wsusfix.present import Presentable, bytes_text, counted, printable
from wsusfix.scripts.contracts import RESET_APPROVALS, ResetState

__all__ = [
    "ResetApprovals",
    "RestoreSettings",
    "as_before",
    "chosen",
    "obstacles",
    "proof",
    "reset",
    "restore",
    "restore_obstacles",
    "restore_warnings",
    "treated",
    "warnings",
]

_TITLE: Final = f"'{advisory.BROKEN_UPDATE_TITLE}'"
_BY_HAND: Final = (
    f"upgrade WSUS to 3.0 SP1 and then install KB954960, or apply the documented workaround to the update {_TITLE} by "
    "hand (decline, approve, decline)"
)


@dataclass(frozen=True, repr=False)
class ResetApprovals(Presentable):
    """Decline, approve for nothing, and decline again each of the updates, as a detached job of the SYSTEM account.

    Irreversible in part: declining takes away the approvals of all revisions, and the update is expired, so that no
    approval for installation can be given again (advisory 954960, workaround; WSUS SDK).

    Args:
        updates: what is treated.
        replica: whether the server is a replica, and is made autonomous for the time of it.
        automatic: whether it synchronises by a timetable, which rests meanwhile.
        restore_first: whether an earlier run was cut off, so that its way back is gone first.
    """

    updates: tuple[UpdateState, ...]
    replica: bool
    automatic: bool
    restore_first: bool
    reason: str
    source: str
    irreversible: bool = True

    @property
    def name(self) -> str:
        """The step's name, as outcomes and reports use it."""
        return "ResetApprovals"

    @property
    def job(self) -> str:
        """The kind of the job that carries it out: the name of its script."""
        return RESET_APPROVALS.name

    def _extra(self) -> Mapping[str, object]:
        return {"name": self.name}

    def _summary(self) -> str:
        return counted(len(self.updates), "update")

    def __str__(self) -> str:
        lines = [
            f"{self.name}: reset the approvals of {counted(len(self.updates), 'update')} as a detached job of SYSTEM"
        ]
        if self.restore_first:
            lines.append("  first: an earlier run was cut off; what it had switched is put back from its record")
        lines.append("  save: every revision and approval, on the server and in the report, before anything is changed")
        if self.replica:
            timetable = "; its timetable of synchronisation rests meanwhile" if self.automatic else ""
            lines.append(f"  switch: the replica is autonomous for the time of it, then a replica again{timetable}")
        lines += [f"  decline, approve for nothing, decline: {update}" for update in self.updates]
        lines.append(f"  why: {self.reason} [{self.source}]")
        if self.irreversible:
            lines.append(
                "  CANNOT BE UNDONE in part: the approvals go, and an expired update takes none for installation again"
            )
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class RestoreSettings(Presentable):
    """Go the way back of a reset that was cut off: what it had switched is put back from its record, nothing else."""

    reason: str
    source: str
    irreversible: bool = False

    @property
    def name(self) -> str:
        """The step's name, as outcomes and reports use it."""
        return "RestoreSettings"

    @property
    def job(self) -> str:
        """The kind of the job that carries it out: the name of its script."""
        return RESET_APPROVALS.name

    def _extra(self) -> Mapping[str, object]:
        return {"name": self.name}

    def _summary(self) -> str:
        return self.reason

    def __str__(self) -> str:
        return f"{self.name}: put back what an earlier run had switched\n  why: {self.reason} [{self.source}]"


def reset(diagnosis: Diagnosis, options: Options) -> ResetApprovals | None:
    """Make the step; ``None`` where nothing is to be treated."""
    approvals = diagnosis.facts.approvals
    if approvals is None:
        return None
    replica, automatic = _settings(approvals)
    return ResetApprovals(
        updates=chosen(approvals, options),
        replica=replica,
        automatic=automatic,
        restore_first=diagnosis.facts.cut_off,
        reason=diagnosis.why,
        source=advisory.SOURCE_WORKAROUND,
    )


def _settings(approvals: Approvals) -> tuple[bool, bool]:
    """Whether it is a replica and synchronises by its timetable: after the way back, where one is open."""
    saved = approvals.saved
    if approvals.reset is ResetState.OPEN and saved is not None and saved.replica:
        return True, saved.automatic or approvals.automatic
    return approvals.replica, approvals.automatic


def restore() -> RestoreSettings:
    """Make the step that only puts back what an earlier run had switched."""
    return RestoreSettings(
        reason="a reset of approvals was cut off, and the server may be switched still",
        source=advisory.SOURCE_WORKAROUND,
    )


def restore_obstacles(facts: HostFacts) -> Iterator[Blocked]:
    """Yield what keeps the way back of an earlier run from being gone."""
    yield from session_obstacles(facts)
    yield from job_obstacles(facts, (RESET_APPROVALS.name,))


def restore_warnings(facts: HostFacts) -> Iterator[str]:
    """Yield what the way back of an earlier run may have to wait for."""
    state = facts.wsus.services.get(advisory.WSUS_SERVICE)
    if state != "running":
        yield f"the service {advisory.WSUS_SERVICE} is {state}: start it, or what was switched may wait for it"


def as_before(facts: HostFacts) -> bool:
    """Whether nothing of the settings is other than the marker of the last reset says."""
    approvals = facts.approvals
    if approvals is None or approvals.marker is None:
        return False
    return (approvals.replica, approvals.automatic) == (approvals.marker.replica, approvals.marker.automatic)


def treated(facts: HostFacts, options: Options) -> bool:
    """Whether the marker of the last reset has all that the operator named."""
    approvals = facts.approvals
    if approvals is None or approvals.marker is None:
        return False
    return set(options.update_ids or ()) <= set(approvals.marker.updates)


def chosen(approvals: Approvals, options: Options) -> tuple[UpdateState, ...]:
    """Return the updates that are treated: those the operator named, or else those the title names.

    The marker proves one reset.  What an earlier one treated is treated along, lest its proof be lost: without names
    whatever it is like by now, beside names only what is still as that reset left it.
    """
    named, marker = options.update_ids, approvals.marker
    marked = {} if marker is None else marker.updates
    if named is None:
        return tuple(update for update in approvals.updates if update.named or update.id in marked)
    return tuple(
        update
        for update in approvals.updates
        if update.id in named or (marked.get(update.id) == update.revision and update.declined and not update.approvals)
    )


def proof() -> str:
    """Say how success will be verified."""
    return (
        "the marker of the reset matches the updates' revisions, all of them are declined without approvals, the "
        "settings are as before, and the services answer"
    )


def obstacles(facts: HostFacts, options: Options) -> Iterator[Blocked]:
    """Yield everything that keeps the approvals from being reset; all of it, not only the first."""
    yield from session_obstacles(facts)
    yield from job_obstacles(facts, (RESET_APPROVALS.name,))
    if facts.staging.system_free < advisory.SYSTEM_RESERVE:
        yield Blocked(
            f"{bytes_text(facts.staging.system_free)} on the system drive, not {bytes_text(advisory.SYSTEM_RESERVE)}",
            "make room on the system drive",
        )
    yield from _database_obstacles(facts)
    approvals = facts.approvals
    if approvals is None:
        yield Blocked("nobody asked WSUS about the update", _BY_HAND)
    elif approvals.trouble:
        yield Blocked(
            f"WSUS could not be asked: {approvals.trouble}",
            "see that its service and database run, and that the account is in the group WSUS Administrators",
        )
    else:
        yield from _approval_obstacles(facts, approvals, options)


def _database_obstacles(facts: HostFacts) -> Iterator[Blocked]:
    database = facts.wsus.database
    if database is None or database.place in (DatabasePlace.EMBEDDED, DatabasePlace.LOCAL):
        return
    where = f"on another server ({database.server})" if database.place is DatabasePlace.REMOTE else "nobody knows where"
    yield Blocked(
        f"the database is {where}: there the role of SYSTEM in WSUS cannot be confirmed beforehand",
        f"apply the documented workaround to {_TITLE} in the console (decline, approve, decline)",
    )


def _approval_obstacles(facts: HostFacts, approvals: Approvals, options: Options) -> Iterator[Blocked]:
    if approvals.role != advisory.ADMINISTRATOR_ROLE:
        yield Blocked(
            f"the role of {facts.session.account} in WSUS is {approvals.role or 'unknown'}, not Administrator",
            "use an account of the group WSUS Administrators, or of the server's Administrators",
        )
    if approvals.reset is ResetState.REFUSED:
        yield Blocked(
            "the folder that keeps what was saved is not closed as it must be",
            "find out who made it, remove it by hand, and run again",
        )
    if approvals.replica and not approvals.upstream:
        yield Blocked(
            "the server is a replica that names no server above it: it might not become one again after the switch",
            "name its upstream server in the console (Options, Update Source), then plan again",
        )
    if approvals.cut and options.update_ids is None:
        yield Blocked("the server told of more updates than can be looked at", "name the ones by update_ids")
    others = sorted({name.lower() for name in approvals.front_ends})
    if len(others) > 1 and facts.computer_name.lower() != _first(others) and options.update_ids is None:
        yield Blocked(
            f"{len(others)} front ends share the database, which is treated once, from {printable(others[0], 80)}",
            "run it there; or name the updates by update_ids, to do it from here all the same",
        )
    yield from _choice_obstacles(approvals, options)


def _first(names: list[str]) -> str:
    return names[0].partition(".")[0]


def _choice_obstacles(approvals: Approvals, options: Options) -> Iterator[Blocked]:
    if options.update_ids is not None:
        for update_id in options.update_ids:
            if approvals.update(update_id) is None:
                yield Blocked(f"WSUS knows no update {update_id}", "correct update_ids, or leave it out")
        return
    if chosen(approvals, options):
        return
    candidates = [update for update in approvals.updates if update.candidate]
    if candidates:
        yield Blocked(
            f"no update has the English title {_TITLE}; by the number of the article it may be "
            + ", ".join(f"{update.title} ({update.id})" for update in candidates),
            f"look at it in the console, then confirm it: update_ids={[update.id for update in candidates]}",
        )
    elif approvals.updates:
        near = ", ".join(f"{update.title} ({update.id})" for update in approvals.updates[:5])
        yield Blocked(
            f"no update is called {_TITLE}; only others are called so in part: {near}",
            "if one of them is meant, confirm it by its id in update_ids; if none is, there is nothing to reset",
        )
    else:
        yield Blocked(
            f"WSUS holds no update {_TITLE}",
            "if it is there by another name, give its id in update_ids; if it never came, there is nothing to do",
        )


def warnings(diagnosis: Diagnosis, package: Package | None, options: Options) -> Iterator[str]:
    """Yield what the operator should know before consenting."""
    facts, approvals = diagnosis.facts, diagnosis.facts.approvals
    yield from join_warnings(facts, (RESET_APPROVALS.name,))
    if package is not None:
        yield "the package is not used: KB954960 does not install on WSUS 3.0 without Service Pack 1"
    if diagnosis.verdict is Verdict.EXPOSED_SP1:
        yield "this is for the time being: the fault is in the product until KB954960 is installed"
    else:
        yield "the fault stays in the product: a newer revision of the update may bring it back"
    if approvals is None or approvals.trouble:
        return
    if facts.cut_off:
        yield "an earlier run was cut off: what it had switched is put back first"
    if not approvals.ready:
        yield f"WSUS is not ready ({approvals.state}): the job waits for it, within a limit, before it changes anything"
    if _settings(approvals)[0]:
        yield f"in a hierarchy every server is treated, the top-level one first: is {approvals.upstream} done?"
    if len(approvals.front_ends) > 1:
        yield "several front ends share the database (" + ", ".join(approvals.front_ends) + "): once is enough"
    treats = chosen(approvals, options)
    if left := [update for update in approvals.updates if update.named and update not in treats]:
        names = ", ".join(str(update) for update in left)
        yield f"update_ids leaves out what the title names: nothing is proved until that is reset, too: {names}"
    proved = approvals.marker.updates if diagnosis.worked_around is True and approvals.marker is not None else {}
    if any(not (update.named or update.id in proved) for update in treats):
        yield "the title does not name all that is treated: the operator confirms it by its id, or did so earlier"
    for neighbour in facts.neighbours:
        yield f"{advisory.NEIGHBOUR_NAMES[neighbour]} stands on this WSUS, and manages approvals of its own"
