"""From a diagnosis, a package and the operator's options to a plan: what would be done, why, what is in the way.

Pure functions over frozen data.  A plan has steps, or is blocked with reasons and what would unblock each, or has
nothing to do and says why.  Here it is only decided which road is taken; each road has a module of its own, with its
steps, its obstacles and its warnings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from packaging.version import Version

from wsusfix import advisory
from wsusfix.advisory import Architecture, Product
from wsusfix.diagnosis import Diagnosis, Verdict, removal
from wsusfix.facts import HostFacts
from wsusfix.options import Options
from wsusfix.package import Package
from wsusfix.plan import install, reset, upgrade
from wsusfix.plan.backup import BackUpDatabase, back_up, backup_obstacles
from wsusfix.plan.common import Blocked, Way, leftover_warnings, window_obstacles
from wsusfix.plan.install import InstallUpdate
from wsusfix.plan.reset import ResetApprovals, RestoreSettings
from wsusfix.plan.restart import Restart, StartServices, restarts, services_way
from wsusfix.plan.upgrade import CheckPrerequisites, UpgradeServicePack
from wsusfix.present import Presentable, counted, plain, printable
from wsusfix.scripts.contracts import ResetState
from wsusfix.surroundings import Surroundings

__all__ = [
    "BackUpDatabase",
    "Basis",
    "Blocked",
    "CheckPrerequisites",
    "InstallUpdate",
    "Plan",
    "ResetApprovals",
    "Restart",
    "RestoreSettings",
    "StartServices",
    "Step",
    "UpgradeServicePack",
    "looks_around",
    "plan",
]


#: The closed set of steps.
Step = (
    InstallUpdate
    | ResetApprovals
    | RestoreSettings
    | CheckPrerequisites
    | BackUpDatabase
    | UpgradeServicePack
    | Restart
    | StartServices
)


@dataclass(frozen=True, repr=False)
class Basis(Presentable):
    """What a plan rests on; when a second look finds any of it changed, the plan is not applied."""

    os_version: Version
    service_pack: int
    product_type: int
    architecture: Architecture | None
    install_type: str
    wsus_version: str
    dll_path: str
    dll_version: Version | None
    updates: tuple[str, ...] = ()
    replica: bool | None = None
    reset: str = ResetState.NONE.value
    upgrade: str = ""

    @classmethod
    def of(cls, facts: HostFacts) -> Basis:
        """Take from the facts what decides; not free space, not time."""
        return cls(
            os_version=facts.os.version,
            service_pack=facts.os.service_pack,
            product_type=facts.os.product_type,
            architecture=facts.os.architecture,
            install_type=facts.wsus.install_type_raw,
            wsus_version=facts.wsus.version_raw,
            dll_path=facts.wsus.dll_path,
            dll_version=facts.wsus.dll_version,
            updates=_updates(facts),
            replica=facts.approvals.replica if facts.approvals is not None else None,
            reset=facts.reset.value,
            # What an upgrade keeps of the past makes no difference, but what it has left open.
            upgrade=(facts.standing_still and "stopped")
            or (facts.restarted_unseen and "restarted")
            or (facts.removed and "removed")
            or "",
        )

    def changes(self, other: Basis) -> tuple[str, ...]:
        """Return in words what is different in *other*."""
        mine, theirs = self.to_dict(), other.to_dict()
        return tuple(printable(f"{key}: {mine[key]} -> {theirs[key]}") for key in mine if mine[key] != theirs[key])

    def _summary(self) -> str:
        return f"{self.wsus_version}, DLL {self.dll_version}"

    def __str__(self) -> str:
        return "\n".join(printable(f"{key} = {value}") for key, value in self.to_dict().items())


@dataclass(frozen=True, repr=False)
class Plan(Presentable):
    """What would be done on one server.

    Exactly one of ``steps``, ``blocked`` and ``nothing`` is not empty.  ``proof`` says how success will be verified.
    ``afterwards`` is what will still be in the way of mending the server when the steps are done: they only put back
    what an earlier run had left switched.  ``removal_meant`` is that WSUS, which its setup has removed, is not to come
    back: applying the plan writes that down on the server.

    >>> for obstacle in server.plan().blocked:
    ...     print(obstacle.reason)
    no package was given
    """

    host: str
    diagnosis: Diagnosis
    steps: tuple[Step, ...]
    blocked: tuple[Blocked, ...]
    nothing: str
    warnings: tuple[str, ...]
    proof: str
    basis: Basis
    not_before: datetime | None = None
    not_after: datetime | None = None
    afterwards: tuple[Blocked, ...] = ()
    removal_meant: bool = False

    @property
    def irreversible(self) -> bool:
        """Whether any step cannot be undone: then applying needs consent."""
        return any(step.irreversible for step in self.steps)

    @property
    def digest(self) -> str:
        """SHA-256 over host, steps and basis: what was consented to, as the audit entry names it."""
        window = [self.not_before, self.not_after]
        text = json.dumps([self.host, plain(self.steps), plain(self.basis), plain(window)], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def _window(self) -> Iterator[str]:
        """Say when a job may begin; the jobs themselves see to it, wherever the controller is."""
        clock = "by the server's own clock"
        if self.not_before is not None:
            yield f"nothing begins before {self.not_before:%Y-%m-%d %H:%M} UTC, {clock}"
        if self.not_after is not None:
            yield f"nothing begins after {self.not_after:%Y-%m-%d %H:%M} UTC, {clock}"

    def _extra(self) -> Mapping[str, object]:
        return {"irreversible": self.irreversible, "digest": self.digest, "verdict": self.diagnosis.verdict}

    def _summary(self) -> str:
        if self.blocked:
            return f"{self.host}: blocked, {counted(len(self.blocked), 'reason')}"
        return f"{self.host}: " + (", ".join(step.name for step in self.steps) or "nothing to do")

    def __str__(self) -> str:
        lines = [f"{self.host}: {self.diagnosis.verdict.value}: {self.diagnosis.why}"]
        if self.nothing:
            lines.append(f"  nothing to do: {self.nothing}")
        for reason in self.blocked:
            lines += [f"  blocked: {reason.reason}", f"    to unblock: {reason.unblock}"]
        for number, step in enumerate(self.steps, 1):
            first, *rest = str(step).splitlines()
            lines += [f"  {number}. {first}", *(f"   {line}" for line in rest)]
        if self.steps:
            lines += [f"  {line}" for line in self._window()]
        if self.proof:
            lines.append(f"  then verify: {self.proof}")
        lines += [f"  warning: {warning}" for warning in self.warnings]
        if self.steps:
            lines.append(f"  plan {self.digest[:16]}")
        return "\n".join(lines)


def looks_around(diagnosis: Diagnosis, options: Options) -> bool:
    """Whether a plan needs the server's surroundings: for an upgrade, and for a backup."""
    match diagnosis.verdict:
        case Verdict.EXPOSED_RTM:
            return options.rtm == "upgrade" or options.backup is True
        case Verdict.EXPOSED_SP1:
            return options.backup is True
        case Verdict.FIXED | Verdict.NOT_AFFECTED | Verdict.NOT_A_SERVER | Verdict.UNKNOWN:
            return False


def plan(
    diagnosis: Diagnosis,
    package: Package | None,
    options: Options,
    *,
    upgrade_package: Package | None = None,
    surroundings: Surroundings | None = None,
) -> Plan:
    """Decide what to do about a diagnosis.

    Args:
        diagnosis: what the server is, with its facts.
        package: the operator's package as read, ``None`` when there is none.
        options: what else the operator said.
        upgrade_package: the operator's WSUS setup as read, ``None`` when there is none.
        surroundings: what the server is like around its WSUS, where :func:`looks_around` says so.
    """
    facts = diagnosis.facts
    nothing = ""
    left = facts.standing_still or facts.restarted_unseen
    meant = facts.removed and options.removal_meant and not left
    match diagnosis.verdict:
        case _ if left:
            way = services_way(facts)
        case _ if meant:
            way = Way(warnings=(removal(facts)[0],))
            nothing = "WSUS was removed by its setup, and is not to come back: that is written down on the server"
        case Verdict.NOT_AFFECTED if options.rtm == "upgrade" and upgrade.too_old(facts):
            way = Way(blocked=upgrade.too_old(facts), warnings=tuple(leftover_warnings(facts)))
        case Verdict.FIXED | Verdict.NOT_AFFECTED | Verdict.EXPOSED_RTM if facts.restart_asked:
            way = _restart_asked(facts, options)
        case Verdict.FIXED | Verdict.NOT_AFFECTED | Verdict.NOT_A_SERVER:
            way = Way(warnings=tuple(leftover_warnings(facts)))
            nothing = diagnosis.why
        case Verdict.UNKNOWN:
            way = _unknown(diagnosis, options)
        case Verdict.EXPOSED_RTM:
            if options.rtm == "upgrade":
                way = upgrade.way(diagnosis, package, upgrade_package, surroundings, options)
            else:
                way, nothing = _reset(diagnosis, package, options)
                way = _backed_up(facts, way, surroundings, options)
        case Verdict.EXPOSED_SP1 if options.workaround and package is None:
            way, nothing = _reset(diagnosis, package, options)
            way = _backed_up(facts, way, surroundings, options)
        case Verdict.EXPOSED_SP1:
            way = _service_pack_1(diagnosis, package, surroundings, options)
    if way.steps and not left and not (facts.job is not None and facts.job.active):
        if late := tuple(window_obstacles(facts, options)):
            way = dataclasses.replace(way, steps=(), blocked=late, proof="")
    afterwards: tuple[Blocked, ...] = ()
    if facts.cut_off and advisory.WSUS_SERVICE in facts.wsus.services:
        way, nothing, afterwards = _restored_first(facts, way, nothing)
    return Plan(
        host=diagnosis.host,
        diagnosis=diagnosis,
        steps=way.steps,
        blocked=way.blocked,
        nothing=nothing,
        warnings=way.warnings,
        proof=way.proof,
        basis=Basis.of(facts),
        not_before=options.not_before,
        not_after=options.not_after,
        afterwards=afterwards,
        removal_meant=meant,
    )


def _backed_up(facts: HostFacts, way: Way, around: Surroundings | None, options: Options) -> Way:
    """Put the backup that was asked for before the steps of a road."""
    if options.backup is not True or not way.steps or (facts.job is not None and facts.job.active):
        return way
    blocked = tuple(backup_obstacles(facts, around))
    if blocked or around is None:
        return dataclasses.replace(way, steps=(), blocked=blocked, proof="")
    step = back_up(facts, around, "the operator asks for it before anything is changed")
    return dataclasses.replace(way, steps=(step, *way.steps))


def _restart_asked(facts: HostFacts, options: Options) -> Way:
    """Finish an upgrade that takes effect only with a restart which setup has asked for."""
    steps = restarts(options, "WSUS setup has asked for a restart, and there was none since")
    if steps:
        return Way(steps=steps, proof="the server has restarted, and nothing of the upgrade waits any more")
    return Way(
        blocked=(
            Blocked(
                "WSUS setup has asked for a restart of the server, and there was none since",
                "restart the server, or say reboot='if-needed'; then run again",
            ),
        )
    )


def _unknown(diagnosis: Diagnosis, options: Options) -> Way:
    """Do nothing on a guess; but an upgrade that waits for a restart is none."""
    facts = diagnosis.facts
    if facts.restart.concerns(facts.wsus.dll_path) and facts.wsus.product is Product.SP2:
        steps = restarts(options, "the service pack is installed, and its DLL waits for a restart")
        if steps:
            return Way(steps=steps, proof="VersionString and DLL are both of the service pack")
        return Way(
            blocked=(
                Blocked(
                    f"the verdict is unknown: {diagnosis.why}; the service pack's DLL waits for a restart",
                    "restart the server, or say reboot='if-needed'; then run again",
                ),
            )
        )
    if facts.removed:
        return Way(blocked=(Blocked(*removal(facts)),))
    if facts.upgrading:
        return Way(
            blocked=(Blocked(f"the verdict is unknown: {diagnosis.why}", "let the upgrade end, then plan again"),)
        )
    return Way(
        blocked=(
            Blocked(
                f"the verdict is unknown: {diagnosis.why}",
                "find out which WSUS this is; nothing is done on a guess",
            ),
        )
    )


def _service_pack_1(
    diagnosis: Diagnosis, package: Package | None, surroundings: Surroundings | None, options: Options
) -> Way:
    facts = diagnosis.facts
    warnings = tuple(install.warnings(facts, package, options))
    waits = facts.restart_due
    if waits and package is None and options.reboot == "if-needed":
        steps = restarts(options, "something is installed, and the DLL that is the proof waits for a restart")
        return Way(steps=steps, warnings=warnings, proof=install.proof(facts))
    blocked = tuple(install.obstacles(facts, package, options))
    if options.backup is True and (facts.job is None or not facts.job.active):
        blocked += tuple(backup_obstacles(facts, surroundings))
    if blocked or package is None:
        return Way(blocked=blocked, warnings=warnings)
    before: list[Step] = []
    if waits:
        before += restarts(options, "the DLL that is the proof waits for a restart")
    if options.backup is True and surroundings is not None:
        before.append(back_up(facts, surroundings, "the operator asks for it before anything is changed"))
    return Way(
        steps=(
            *before,
            install.install(package, options, diagnosis),
            *restarts(options, "the update may leave a DLL that only a restart replaces"),
        ),
        warnings=warnings,
        proof=install.proof(facts),
    )


def _updates(facts: HostFacts) -> tuple[str, ...]:
    """The updates in question and their revisions: a newer one is another state than the one planned for."""
    if facts.approvals is None:
        return ()
    marked = facts.approvals.marker.updates if facts.approvals.marker is not None else {}
    return tuple(
        sorted(
            f"{update.id} revision {update.revision}"
            for update in facts.approvals.updates
            if update.named or update.candidate or update.id in marked
        )
    )


def _reset(diagnosis: Diagnosis, package: Package | None, options: Options) -> tuple[Way, str]:
    """The way of a reset of approvals, and why nothing is to be done."""
    facts = diagnosis.facts
    warnings = tuple(reset.warnings(diagnosis, package, options))
    if diagnosis.worked_around is True and reset.as_before(facts) and reset.treated(facts, options):
        return Way(warnings=(*warnings, *leftover_warnings(facts))), diagnosis.workaround
    blocked = tuple(reset.obstacles(facts, options))
    step = reset.reset(diagnosis, options)
    if blocked or step is None:
        return Way(blocked=blocked, warnings=warnings), ""
    return Way(steps=(step,), warnings=warnings, proof=reset.proof()), ""


def _restored_first(facts: HostFacts, way: Way, nothing: str) -> tuple[Way, str, tuple[Blocked, ...]]:
    """Whatever else is done or is in the way: a server is not left switched."""
    if way.steps and isinstance(way.steps[0], ResetApprovals):
        # Its own job goes the way back before anything else.
        return way, nothing, ()
    # WSUS has to run for it.
    before = tuple(step for step in way.steps if isinstance(step, StartServices))
    blocked = tuple(reset.restore_obstacles(facts))
    if blocked:
        # What both are kept by is said once.
        return Way(blocked=tuple(dict.fromkeys((*way.blocked, *blocked))), warnings=way.warnings), "", ()
    steps = (*before, reset.restore(), *(_afterwards(step) for step in way.steps if step not in before))
    waits = () if before else tuple(reset.restore_warnings(facts))
    return (
        Way(
            steps=steps,
            warnings=(*way.warnings, *waits, *(f"afterwards blocked: {reason}" for reason in way.blocked)),
            proof=way.proof or "nothing of an earlier reset is open any more",
        ),
        "",
        way.blocked,
    )


def _afterwards(step: Step) -> Step:
    """The step, where what an earlier run had switched is put back already."""
    return dataclasses.replace(step, restore_first=False) if isinstance(step, ResetApprovals) else step
