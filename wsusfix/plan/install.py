"""The road of WSUS 3.0 SP1: what is in the way of KB954960, what is worth a warning, and the step that installs it.

Pure functions; it refuses to look at anything but the facts, the package as read, and the options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timezone

from wsusfix import advisory
from wsusfix.advisory import Architecture
from wsusfix.diagnosis import Diagnosis
from wsusfix.errors import PackageError
from wsusfix.facts import DatabasePlace, HostFacts
from wsusfix.options import Options
from wsusfix.package import Command, Package, PackageKind, command
from wsusfix.plan.common import Blocked, job_obstacles, join_warnings, session_obstacles
from wsusfix.present import Presentable, bytes_text, printable
from wsusfix.scripts.contracts import INSTALL_UPDATE

__all__ = ["InstallUpdate", "install", "obstacles", "package_obstacles", "proof", "warnings"]


@dataclass(frozen=True, repr=False)
class InstallUpdate(Presentable):
    """Install KB954960, elevated, as a detached job of the SYSTEM account.

    Irreversible: the update cannot be removed through Add or Remove Programs; the only way back is to uninstall WSUS
    (KB954960, removal information).
    """

    package: Package
    command: Command
    accept_unverifiable_signature: bool
    reason: str
    source: str
    irreversible: bool = True

    @property
    def name(self) -> str:
        """The step's name, as outcomes and reports use it."""
        return "InstallUpdate"

    @property
    def job(self) -> str:
        """The kind of the job that carries it out: the name of its script."""
        return INSTALL_UPDATE.name

    def _extra(self) -> Mapping[str, object]:
        return {"name": self.name}

    def _summary(self) -> str:
        return f"{self.package.name}"

    def __str__(self) -> str:
        lines = [
            f"{self.name}: install {printable(self.package.name, 80)} as a detached job of SYSTEM",
            f"  package: {bytes_text(self.package.size)}, SHA-256 {self.package.sha256}",
            f"  command line: {self.command}",
            f"  why: {self.reason} [{self.source}]",
        ]
        if self.irreversible:
            lines.append("  CANNOT BE UNDONE: the only way back is to uninstall WSUS")
        return "\n".join(lines)


def install(package: Package, options: Options, diagnosis: Diagnosis) -> InstallUpdate:
    """Make the step, when nothing is in its way."""
    arguments = None if options.package_arguments is None else tuple(options.package_arguments)
    return InstallUpdate(
        package=package,
        command=command(package, arguments=arguments),
        accept_unverifiable_signature=options.accept_unverifiable_signature and options.package_sha256 is not None,
        reason=diagnosis.why,
        source=advisory.SOURCE_KB,
    )


def proof(facts: HostFacts) -> str:
    """Say how success will be verified."""
    return f"the file version of {printable(facts.wsus.dll_path)} is {advisory.FIXED_DLL} or higher"


def obstacles(facts: HostFacts, package: Package | None, options: Options) -> Iterator[Blocked]:
    """Yield everything that keeps the update from being installed; all of it, not only the first."""
    yield from _restart_obstacles(facts, options)
    yield from _system_obstacles(facts)
    yield from session_obstacles(facts)
    yield from job_obstacles(facts, (INSTALL_UPDATE.name,))
    if package is None:
        name = advisory.PACKAGE_NAMES.get(facts.os.architecture or Architecture.X86, "the package")
        yield Blocked(
            "no package was given", f"give the package of KB954960 for this server (such as {name}) as package"
        )
        return
    yield from package_obstacles(facts, package, options)
    if facts.job is None or not (facts.job.active and facts.job.kind == INSTALL_UPDATE.name):
        # A job that runs has its package there already.
        yield from _space_obstacles(facts, package)


def _restart_obstacles(facts: HostFacts, options: Options) -> Iterator[Blocked]:
    if facts.restart.concerns(facts.wsus.dll_path) and options.reboot == "never":
        yield Blocked(
            "something is installed, but the DLL that is the proof waits for a restart",
            "restart the server, or say reboot='if-needed'; then run again",
        )
    elif facts.restart_asked and options.reboot == "never":
        yield Blocked(
            "WSUS setup has asked for a restart of the server, and something waits for it",
            "restart the server, or say reboot='if-needed'; then run again",
        )


def _system_obstacles(facts: HostFacts) -> Iterator[Blocked]:
    system = facts.os
    supported = next((known for known in advisory.SUPPORTED_SYSTEMS if known.release == system.release), None)
    runs_on = "Windows Server 2003 SP1 and later, or Windows Server 2008, x86 or x64"
    if system.workstation or supported is None:
        yield Blocked(
            f"{system} is no system that WSUS 3.0 SP1 runs on", f"the update is for {runs_on}: look at this by hand"
        )
        return
    if system.service_pack < supported.minimum_service_pack:
        yield Blocked(
            f"{system.name} has service pack {system.service_pack}",
            f"install service pack {supported.minimum_service_pack} or later of Windows",
        )
    if system.architecture not in supported.architectures:
        processor = system.architecture.value if system.architecture else "unknown"
        yield Blocked(f"the processor architecture is {processor}", f"the update is for {runs_on}")


def package_obstacles(facts: HostFacts, package: Package, options: Options) -> Iterator[Blocked]:
    """Yield what is wrong with the package and its arguments, for this server."""
    yield from _identity_obstacles(facts, package, options)
    yield from _argument_obstacles(package, options)


def _identity_obstacles(facts: HostFacts, package: Package, options: Options) -> Iterator[Blocked]:
    name = printable(package.name, 80)
    if package.kind is PackageKind.UNKNOWN:
        why = f" ({package.problem})" if package.problem else ""
        yield Blocked(f"{name} is not a PE, MSI or MSP file{why}", "give the original package of KB954960")
    elif package.problem:
        yield Blocked(f"{name} cannot be trusted: {package.problem}", "give the original package of KB954960")
    elif _wrong_processor(facts, package) and not (_may_carry_another(facts, package) and options.vouch_for_package):
        wanted = facts.os.architecture.value if facts.os.architecture else "this server's architecture"
        has = package.architecture.value if package.architecture else "another"
        unblock = f"give the package for {wanted}"
        if _may_carry_another(facts, package):
            unblock += ", or say vouch_for_package if it is a self-extractor that carries it"
        yield Blocked(f"{name} is for {has}, the server is {wanted}", unblock)
    if options.package_sha256 is not None:
        if options.package_sha256 != package.sha256:
            yield Blocked(
                f"{name} has SHA-256 {package.sha256}, not the pinned one",
                "give the pinned file, or correct package_sha256",
            )
    elif package.kind is not PackageKind.UNKNOWN and not package.names_update and not options.vouch_for_package:
        yield Blocked(
            f"{name} does not name KB{advisory.UPDATE_KB} in its own metadata",
            "pin its hash with package_sha256, or say vouch_for_package if you are certain what it is",
        )


def _argument_obstacles(package: Package, options: Options) -> Iterator[Blocked]:
    if options.package_arguments is None or package.kind is PackageKind.UNKNOWN:
        return
    try:
        command(package, arguments=tuple(options.package_arguments))
    except PackageError as error:
        yield Blocked(f"package_arguments do not fit: {error.message}", error.hint or "leave them out, or correct them")


def _wrong_processor(facts: HostFacts, package: Package) -> bool:
    return package.architecture is not None and package.architecture is not facts.os.architecture


def _may_carry_another(facts: HostFacts, package: Package) -> bool:
    """A self-extractor's processor is its own, not its cargo's: an x86 program may carry the x64 update."""
    return (
        package.kind is PackageKind.EXE
        and package.architecture is Architecture.X86
        and facts.os.architecture is Architecture.X64
    )


def _space_obstacles(facts: HostFacts, package: Package) -> Iterator[Blocked]:
    # The segments of an upload and the joined file lie side by side for a moment.
    needed = 2 * package.size + advisory.STAGING_RESERVE
    if facts.staging.free < needed:
        yield Blocked(
            f"{bytes_text(facts.staging.free)} free for staging, {bytes_text(needed)} needed",
            f"make room on the drive of {facts.staging.path}",
        )
    if facts.staging.system_free < advisory.SYSTEM_RESERVE:
        yield Blocked(
            f"{bytes_text(facts.staging.system_free)} on the system drive, not {bytes_text(advisory.SYSTEM_RESERVE)}",
            "make room on the system drive",
        )


def warnings(facts: HostFacts, package: Package | None, options: Options) -> Iterator[str]:
    """Yield what the operator should know before consenting."""
    yield from join_warnings(facts, (INSTALL_UPDATE.name,))
    if facts.installer_busy:
        yield "another installation is running: the job waits for it, within a limit"
    if facts.restart.pending:
        yield "a restart of the server is pending from earlier work: the installer may ask for it first"
    if facts.wsus.front_ends is not None and len(facts.wsus.front_ends) > 1:
        yield advisory.FRONT_ENDS_TEXT
    elif facts.wsus.database is not None and facts.wsus.database.place is DatabasePlace.REMOTE:
        yield f"the database is on another server: {advisory.FRONT_ENDS_TEXT}"
    for neighbour in facts.neighbours:
        yield f"{advisory.NEIGHBOUR_NAMES[neighbour]} stands on this WSUS: its clients pause while the update installs"
    if package is None:
        return
    revised = datetime.combine(advisory.REVISED_PACKAGES, time(), timezone.utc)
    if package.linked_at is not None and package.linked_at < revised:
        yield (
            f"the package was built on {package.linked_at:%Y-%m-%d}, before the re-release of "
            f"{advisory.REVISED_PACKAGES}: it does not elevate itself, which the job makes up for"
        )
    if package.architecture is None and package.kind is not PackageKind.UNKNOWN:
        yield "the package does not say for which architecture it is: the installer itself will refuse a wrong one"
    if package.remark:
        yield f"{printable(package.name, 80)}: {package.remark}"
    if options.vouch_for_package and _wrong_processor(facts, package):
        yield "the program is for another processor; the operator vouches that it carries the right update"
    if options.vouch_for_package and not package.names_update and options.package_sha256 is None:
        yield "the package does not name the update: the operator vouches for it"
    if options.accept_unverifiable_signature:
        yield "a signature that the server cannot verify is accepted, because the hash is pinned"
