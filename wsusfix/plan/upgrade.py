"""The second documented way out of WSUS 3.0 without a service pack: the upgrade, and what is in its way.

Everything that is known to make setup fail is looked at before anything is stopped, for a setup that fails may remove
WSUS.  Pure functions; it refuses to look at anything but the facts, the surroundings, the packages as read, and the
options.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from packaging.version import Version

from wsusfix import advisory
from wsusfix.advisory import Architecture, Product, Upgrade
from wsusfix.diagnosis import Diagnosis
from wsusfix.facts import DatabasePlace, HostFacts
from wsusfix.options import NO_UPSTREAM, Options
from wsusfix.package import Command, Package, PackageKind, setup_command
from wsusfix.plan import install
from wsusfix.plan.backup import back_up, database_obstacles, order, room_obstacles
from wsusfix.plan.common import Blocked, Way, job_obstacles, join_warnings, session_obstacles
from wsusfix.plan.restart import restarts
from wsusfix.present import Presentable, bytes_text, printable
from wsusfix.scripts.contracts import (
    BACK_UP_DATABASE,
    CHECK_PREREQUISITES,
    INSTALL_UPDATE,
    RESTART,
    START_SERVICES,
    UPGRADE,
)
from wsusfix.surroundings import DatabaseState, Surroundings, database_server

__all__ = ["CheckPrerequisites", "UpgradeServicePack", "last_look", "target_of", "too_old", "way"]

#: While one of these runs, services and WSUS itself may stand still: whoever began it had looked before.
_DISTURBING: Final = (UPGRADE.name, RESTART.name, START_SERVICES.name)


@dataclass(frozen=True, repr=False)
class CheckPrerequisites(Presentable):
    """Let WSUS setup check its prerequisites, and nothing else, as a detached job of the SYSTEM account."""

    package: Package
    command: Command
    accept_unverifiable_signature: bool
    reason: str
    source: str
    irreversible: bool = False

    @property
    def name(self) -> str:
        """The step's name, as outcomes and reports use it."""
        return "CheckPrerequisites"

    @property
    def job(self) -> str:
        """The kind of the job that carries it out: the name of its script."""
        return CHECK_PREREQUISITES.name

    def _extra(self) -> Mapping[str, object]:
        return {"name": self.name}

    def _summary(self) -> str:
        return self.package.name

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.name}: let {printable(self.package.name, 80)} check its prerequisites; changes nothing",
                f"  package: {bytes_text(self.package.size)}, SHA-256 {self.package.sha256}",
                f"  command line: {self.command}",
                f"  why: {self.reason} [{self.source}]",
            ]
        )


@dataclass(frozen=True, repr=False)
class UpgradeServicePack(Presentable):
    """Stop IIS and WSUS, run WSUS setup, and start again exactly what ran, as one detached job of the SYSTEM account.

    ``services`` and ``sites`` are all that may stop; ``beside_others`` and ``upstream_version`` what the operator said,
    which counts once more when the server is looked at right before.

    Irreversible: the way back is a new installation of the old version with the database restored.
    """

    package: Package
    command: Command
    target: str
    version: str
    database_server: str
    database: str
    services: tuple[str, ...]
    sites: tuple[str, ...]
    site_numbers: tuple[str, ...]
    accept_unverifiable_signature: bool
    reason: str
    source: str
    beside_others: bool = False
    upstream_version: str | None = None
    irreversible: bool = True

    @property
    def name(self) -> str:
        """The step's name, as outcomes and reports use it."""
        return "UpgradeServicePack"

    @property
    def job(self) -> str:
        """The kind of the job that carries it out: the name of its script."""
        return UPGRADE.name

    @property
    def upgrade(self) -> Upgrade:
        """What it leads to."""
        return advisory.UPGRADES[self.target]

    def _extra(self) -> Mapping[str, object]:
        return {"name": self.name}

    def _summary(self) -> str:
        return f"to WSUS {self.target}"

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.name}: upgrade {printable(self.version, 40)} to WSUS {self.target}, in a detached SYSTEM job",
                f"  package: {printable(self.package.name, 80)}, SHA-256 {self.package.sha256}",
                f"  command line: {self.command}",
                f"  stops, and starts again: services {', '.join(self.services) or 'none'}",
                f"  with them stop: sites {', '.join(self.sites) or 'none'}",
                f"  why: {self.reason} [{self.source}]",
                "  CANNOT BE UNDONE: a setup that fails may remove WSUS; the way back is to install WSUS again and to "
                "restore the database",
            ]
        )


def too_old(facts: HostFacts) -> tuple[Blocked, ...]:
    """Say why an upgrade that was asked for is not this tool's, on a server with WSUS 2.0; it needs none."""
    if not (facts.wsus.product is Product.WSUS_2 or facts.wsus.wsus2_product):
        return ()
    if facts.os.architecture is not Architecture.X86:
        return (
            Blocked(
                "from WSUS 2.0 on 64-bit Windows there is no upgrade to 3.0",
                "leave this server out: WSUS 2.0 does not have the fault; or install WSUS 3.0 anew, by hand",
            ),
        )
    return (
        Blocked(
            "an upgrade from WSUS 2.0 to 3.0 is another one, which is not made here",
            "leave this server out: WSUS 2.0 does not have the fault; or upgrade it by hand",
        ),
    )


def target_of(package: Package, options: Options) -> Upgrade | None:
    """Return what a setup leads to: by its own word, else by the operator's."""
    return advisory.UPGRADES.get(package.setup_of or options.upgrade_target or "")


def way(
    diagnosis: Diagnosis,
    package: Package | None,
    setup: Package | None,
    around: Surroundings | None,
    options: Options,
) -> Way:
    """Decide the road of the upgrade.

    Args:
        diagnosis: a server with WSUS 3.0 without a service pack.
        package: of KB954960, which an upgrade to SP1 needs afterwards.
        setup: the operator's WSUS setup.
        around: what the server is like around its WSUS.
        options: what else the operator said.
    """
    facts = diagnosis.facts
    blocked = tuple(_obstacles(facts, package, setup, around, options))
    target = target_of(setup, options) if setup is not None else None
    warnings = tuple(_warnings(facts, around, options, _kinds(package, setup, options)))
    if blocked or setup is None or target is None:
        return Way(blocked=blocked, warnings=warnings)
    accept = options.accept_unverifiable_signature and options.upgrade_package_sha256 is not None
    database = facts.wsus.database
    steps: list[object] = [
        CheckPrerequisites(
            package=setup,
            command=setup_command(setup, check_only=True),
            accept_unverifiable_signature=accept,
            reason="setup itself knows what it needs, and a setup that fails may remove WSUS",
            source=advisory.SOURCE_SETUP,
        )
    ]
    if options.backup is not False and around is not None:
        why = "a setup that fails may remove WSUS: no backup, no upgrade"
        steps.append(back_up(facts, around, why, reserve=_room(facts, around)))
    steps.append(
        UpgradeServicePack(
            package=setup,
            command=setup_command(setup),
            target=target.name,
            version=facts.wsus.version_raw,
            database_server=database_server(facts),
            database=database.name if database is not None else "",
            services=around.services if around is not None else (),
            sites=tuple(site.name or site.number for site in around.running_sites) if around is not None else (),
            site_numbers=tuple(site.number for site in around.running_sites) if around is not None else (),
            accept_unverifiable_signature=accept,
            reason=diagnosis.why,
            source=advisory.SOURCE_ADVISORY,
            beside_others=options.upgrade_beside_others,
            upstream_version=options.upstream_version,
        )
    )
    steps += restarts(options, "setup may leave files that only a restart replaces")
    proof = f"VersionString is of WSUS {target.name}"
    if not target.carries_fix and package is not None:
        steps.append(install.install(package, options, diagnosis))
        steps += restarts(options, "the update may leave a DLL that only a restart replaces")
        proof = f"{proof}, and {install.proof(facts)}"
    return Way(steps=tuple(steps), warnings=warnings, proof=proof)


def last_look(facts: HostFacts, around: Surroundings, step: UpgradeServicePack) -> tuple[Blocked, ...]:
    """Return what is in the way right before WSUS is stopped; it may not have been when the plan was made.

    Args:
        facts: the server as it is now.
        around: the same of what is around its WSUS.
        step: as it was consented to.
    """
    if facts.standing_still:
        return (Blocked("an upgrade has left stopped what ran before", "plan again: that is started first"),)
    if facts.restarted_unseen:
        why = "the server was restarted, and nobody has seen all run again that ran before"
        return (Blocked(why, "plan again: that is started first"),)
    # By now there is a backup, or none was wanted.
    said = Options(
        rtm="upgrade",
        backup=False,
        upgrade_beside_others=step.beside_others,
        upstream_version=step.upstream_version,
    )
    return (*_state_obstacles(facts, around, said), *_space_obstacles(facts, around, said))


def _obstacles(
    facts: HostFacts, package: Package | None, setup: Package | None, around: Surroundings | None, options: Options
) -> Iterator[Blocked]:
    """Yield everything that keeps the upgrade from being begun; all of it, not only the first."""
    yield from session_obstacles(facts)
    yield from job_obstacles(facts, _kinds(package, setup, options))
    if setup is None:
        names = ", ".join(
            upgrade.packages[facts.os.architecture or Architecture.X86]
            for upgrade in advisory.UPGRADES.values()
            if (facts.os.architecture or Architecture.X86) in upgrade.packages
        )
        yield Blocked(
            "no WSUS setup was given",
            f"give WSUS setup for a service pack (such as {names or 'Microsoft names it'}) as upgrade_package",
        )
    else:
        yield from _setup_obstacles(facts, setup, options)
        target = target_of(setup, options)
        if target is not None:
            yield from _target_obstacles(facts, target, package, options)
    if facts.job is None or not (facts.job.active and facts.job.kind in _DISTURBING):
        yield from _state_obstacles(facts, around, options)
        yield from _space_obstacles(facts, around, options, *(each for each in (package, setup) if each is not None))


def _setup_obstacles(facts: HostFacts, setup: Package, options: Options) -> Iterator[Blocked]:
    name = printable(setup.name, 80)
    original = "give WSUS setup as Microsoft released it"
    if setup.kind is not PackageKind.EXE or setup.problem:
        yield Blocked(f"{name} is not WSUS setup: {setup.problem or 'it is no program'}", original)
        return
    architecture = facts.os.architecture
    if setup.architecture is not architecture:
        # A self-extractor's processor is its own, not its cargo's.
        carries = setup.architecture is Architecture.X86 and architecture is Architecture.X64
        if not (carries and options.vouch_for_upgrade_package):
            wanted = architecture.value if architecture else "this server's architecture"
            has = setup.architecture.value if setup.architecture else "another"
            yield Blocked(
                f"{name} is for {has}, the server is {wanted}",
                f"give the setup for {wanted}"
                + (", or say vouch_for_upgrade_package if it is a self-extractor that carries it" if carries else ""),
            )
    if options.upgrade_package_sha256 is not None and options.upgrade_package_sha256 != setup.sha256:
        yield Blocked(
            f"{name} has SHA-256 {setup.sha256}, not the pinned one",
            "give the pinned file, or correct upgrade_package_sha256",
        )
    known = options.upgrade_package_sha256 is not None or options.vouch_for_upgrade_package
    if setup.setup_of is None and not known:
        yield Blocked(
            f"{name} does not say that it is WSUS setup for a service pack",
            "pin its hash with upgrade_package_sha256, or say vouch_for_upgrade_package, and say upgrade_target",
        )
    elif setup.setup_of is None and options.upgrade_target is None:
        yield Blocked(
            f"{name} does not say which service pack it brings",
            "say upgrade_target, one of " + ", ".join(advisory.UPGRADES),
        )
    elif setup.setup_of is not None and options.upgrade_target not in (None, setup.setup_of):
        yield Blocked(
            f"{name} says that it brings WSUS {setup.setup_of}, not {options.upgrade_target}",
            "give the setup that was meant, or correct upgrade_target",
        )


def _target_obstacles(
    facts: HostFacts, target: Upgrade, package: Package | None, options: Options
) -> Iterator[Blocked]:
    system = facts.os
    supported = next((known for known in target.systems if known.release == system.release), None)
    names = ", ".join(known.name for known in target.systems)
    if system.workstation or supported is None:
        yield Blocked(f"WSUS {target.name} does not run on {system}", f"it runs on {names}")
    elif system.service_pack < supported.minimum_service_pack:
        yield Blocked(
            f"{system.name} has service pack {system.service_pack}",
            f"install service pack {supported.minimum_service_pack} or later of Windows",
        )
    elif system.architecture not in supported.architectures:
        processor = system.architecture.value if system.architecture else "unknown"
        yield Blocked(f"the processor architecture is {processor}", f"WSUS {target.name} is for x86 and x64")
    if not target.carries_fix:
        if package is None:
            yield Blocked(
                f"WSUS {target.name} has the fault until KB{advisory.UPDATE_KB} is installed, and no package was given",
                f"give the package of KB{advisory.UPDATE_KB} as package, or setup for one that carries the fix",
            )
        else:
            yield from install.package_obstacles(facts, package, options)
    yield from _upstream_version_obstacles(target, options)


def _upstream_version_obstacles(target: Upgrade, options: Options) -> Iterator[Blocked]:
    given = options.upstream_version
    if given is None or given == NO_UPSTREAM:
        return
    release = Version(given)
    if (release.major, release.minor) < target.release:
        yield Blocked(
            f"the upstream server is {given}, older than WSUS {target.name}",
            "a downstream server must not be newer than its upstream: upgrade the upstream server first",
        )


def _state_obstacles(facts: HostFacts, around: Surroundings | None, options: Options) -> Iterator[Blocked]:
    """Yield what is known to make setup fail in the state that the server is in."""
    if facts.restart.pending:
        yield Blocked("a restart of the server is pending from earlier work", "restart the server, then plan again")
    for neighbour in facts.neighbours:
        if not options.upgrade_beside_others:
            yield Blocked(
                f"{advisory.NEIGHBOUR_NAMES[neighbour]} stands on this WSUS",
                "find out whether it goes with the service pack, then say upgrade_beside_others",
            )
    database = facts.wsus.database
    place = database.place if database is not None else DatabasePlace.UNKNOWN
    if facts.wsus.wmsde and place in (DatabasePlace.LOCAL, DatabasePlace.REMOTE):
        yield Blocked(
            "WSUS was moved from its embedded database to SQL Server, and Setup's WmsdeInstalled is still 1",
            "finish the move: set WmsdeInstalled to 0 as the article on moving the database says",
        )
    yield from database_obstacles(facts, around)
    if around is None:
        return
    if around.database is not None:
        yield from _database_obstacles(around.database)
    if len(around.front_ends) > 1:
        names = ", ".join(printable(name, 80) for name in around.front_ends)
        yield Blocked(f"several front ends share the database ({names})", f"do it by hand, in this order: {order()}")
    elif around.hierarchy_trouble and place is DatabasePlace.LOCAL:
        yield Blocked(
            f"nobody knows whether other front ends share the database: {around.hierarchy_trouble}",
            "let WSUS run, so that it can tell, then plan again",
        )
    if around.sites_trouble:
        yield Blocked(
            f"the sites of IIS cannot be told, which all stop: {around.sites_trouble}",
            "is IIS installed with its compatibility with IIS 6?",
        )
    yield from _upstream_obstacles(around, options)


def _database_obstacles(database: DatabaseState) -> Iterator[Blocked]:
    if database.renamed:
        yield Blocked(
            f"the computer was renamed: SQL Server knows itself as {database.own_name}, not {database.network_name}",
            "give the SQL server its new name (sp_dropserver, sp_addserver), restart it, then plan again",
        )
    if not database.nested_triggers:
        yield Blocked("the SQL server has nested triggers turned off", "turn on its option 'nested triggers'")
    if database.others:
        shown = "; ".join(database.others[:3])
        yield Blocked(
            f"{len(database.others)} others are connected to the database: {printable(shown, 240)}",
            "end these connections: they make setup fail",
        )


def _upstream_obstacles(around: Surroundings, options: Options) -> Iterator[Blocked]:
    given = options.upstream_version
    if around.hierarchy_trouble and given is None:
        yield Blocked(
            f"nobody knows whether there is an upstream server: {around.hierarchy_trouble}",
            f"say upstream_version, '{NO_UPSTREAM}' if there is none",
        )
    elif around.upstream and given is None:
        yield Blocked(
            f"the version of the upstream server {around.upstream} is unknown",
            "say upstream_version: a downstream server must not be newer than its upstream",
        )
    elif around.upstream and given == NO_UPSTREAM:
        yield Blocked(
            f"there is an upstream server, {around.upstream}, though upstream_version says that there is none",
            "say the version of that server",
        )


def _room(facts: HostFacts, around: Surroundings | None) -> int:
    """How much room setup needs on the system drive beside a backup, in bytes."""
    files = around.database.files if around is not None and around.database is not None else ()
    drive = facts.staging.path[:2].lower()
    beside = advisory.SETUP_DATABASE_SPACE if any(path[:2].lower() == drive for path in files) else 0
    return advisory.SETUP_SYSTEM_SPACE + beside


def _space_obstacles(
    facts: HostFacts, around: Surroundings | None, options: Options, *packages: Package
) -> Iterator[Blocked]:
    # The segments of an upload and the joined file lie side by side for a moment.
    sizes = [package.size for package in packages]
    needed = sum(sizes) + max(sizes, default=0) + advisory.STAGING_RESERVE
    if facts.staging.free < needed:
        yield Blocked(
            f"{bytes_text(facts.staging.free)} free for staging, {bytes_text(needed)} needed",
            f"make room on the drive of {facts.staging.path}",
        )
    if options.backup is not False:
        # The room of the backup is not there any more when setup looks for its own.
        yield from room_obstacles(facts, around, _room(facts, around))
    elif facts.staging.system_free < advisory.SETUP_SYSTEM_SPACE:
        yield Blocked(
            f"{bytes_text(facts.staging.system_free)} on the system drive, "
            f"{bytes_text(advisory.SETUP_SYSTEM_SPACE)} needed by setup",
            "make room on the system drive",
        )
    if around is None:
        return
    files = around.database.files if around.database is not None else ()
    for drive in around.drives:
        if drive.path in files and drive.free < advisory.SETUP_DATABASE_SPACE:
            yield Blocked(
                f"{bytes_text(drive.free)} on the drive of {drive.path}, "
                f"{bytes_text(advisory.SETUP_DATABASE_SPACE)} needed by setup",
                "make room on the database's drive",
            )
        if drive.compressed:
            yield Blocked(
                f"{drive.path} lies compressed, or its whole drive is",
                "uncompress it: setup fails on compressed drives",
            )


def _kinds(package: Package | None, setup: Package | None, options: Options) -> tuple[str, ...]:
    """The kinds of jobs that this road has steps for: one that runs is joined."""
    kinds = [CHECK_PREREQUISITES.name, UPGRADE.name]
    if options.backup is not False:
        kinds.append(BACK_UP_DATABASE.name)
    if options.reboot == "if-needed":
        kinds.append(RESTART.name)
    target = target_of(setup, options) if setup is not None else None
    if target is not None and not target.carries_fix and package is not None:
        kinds.append(INSTALL_UPDATE.name)
    return tuple(kinds)


def _warnings(facts: HostFacts, around: Surroundings | None, options: Options, kinds: Collection[str]) -> Iterator[str]:
    yield from join_warnings(facts, kinds)
    if facts.installer_busy:
        yield "another installation is running: the jobs wait for it, within a limit"
    if facts.os.small_business:
        yield "Small Business Server: with IIS every site of the machine stops, and what needs IIS, mail for one"
    for neighbour in facts.neighbours:
        yield f"{advisory.NEIGHBOUR_NAMES[neighbour]} stands on this WSUS: it is without it while setup runs"
    if options.backup is False:
        yield "WITHOUT A BACKUP: the operator says so; if setup removes WSUS, its database may be lost"
    if options.reboot == "never":
        yield "the server is not restarted: if setup asks for it, the road ends there, and the next run goes on"
    if options.vouch_for_upgrade_package:
        yield "the operator vouches for the setup"
    if around is not None and around.backups:
        yield f"earlier backups lie on the server: {', '.join(printable(path, 120) for path in around.backups[:3])}"
