"""From a diagnosis, a package and the operator's options to a plan: what would be done, why, what is in the way.

Pure functions over frozen data.  A plan has steps, or is blocked with reasons and what would unblock each, or has
nothing to do and says why.  It never installs on anything but WSUS 3.0 SP1, never touches a fixed or unaffected server,
and says when a step cannot be undone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timezone
from typing import Final

from packaging.version import Version

from wsusfix import advisory
from wsusfix.advisory import Architecture
from wsusfix.diagnosis import Diagnosis, Verdict
from wsusfix.errors import PackageError
from wsusfix.facts import DatabasePlace, HostFacts
from wsusfix.options import Options
from wsusfix.package import Command, Package, PackageKind, command
from wsusfix.present import Presentable, bytes_text, plain, printable
from wsusfix.scripts.contracts import StagingState

__all__ = ["Basis", "Blocked", "InstallUpdate", "Plan", "Step", "plan"]


@dataclass(frozen=True, repr=False)
class Blocked(Presentable):
    """One reason why a plan cannot be carried out, and what would unblock it."""

    reason: str
    unblock: str

    def _summary(self) -> str:
        return self.reason

    def __str__(self) -> str:
        return f"{self.reason}; to unblock: {self.unblock}"


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


#: The closed set of steps.
Step = InstallUpdate


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
    """

    host: str
    diagnosis: Diagnosis
    steps: tuple[Step, ...]
    blocked: tuple[Blocked, ...]
    nothing: str
    warnings: tuple[str, ...]
    proof: str
    basis: Basis

    @property
    def irreversible(self) -> bool:
        """Whether any step cannot be undone: then applying needs consent."""
        return any(step.irreversible for step in self.steps)

    @property
    def digest(self) -> str:
        """SHA-256 over host, steps and basis: what was consented to, as the audit entry names it."""
        text = json.dumps([self.host, plain(self.steps), plain(self.basis)], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def _extra(self) -> Mapping[str, object]:
        return {"irreversible": self.irreversible, "digest": self.digest, "verdict": self.diagnosis.verdict}

    def _summary(self) -> str:
        if self.blocked:
            return f"{self.host}: blocked, {len(self.blocked)} reasons"
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
        if self.proof:
            lines.append(f"  then verify: {self.proof}")
        lines += [f"  warning: {warning}" for warning in self.warnings]
        if self.steps:
            lines.append(f"  plan {self.digest[:16]}")
        return "\n".join(lines)


_WAYS_OUT_OF_RTM: Final = (
    "upgrade WSUS to 3.0 SP1 and then install KB954960, or apply the documented workaround to the update "
    f"'{advisory.BROKEN_UPDATE_TITLE}' (decline, approve, decline)"
)


def plan(diagnosis: Diagnosis, package: Package | None, options: Options) -> Plan:
    """Decide what to do about a diagnosis.

    Args:
        diagnosis: what the server is, with its facts.
        package: the operator's package as read, ``None`` when there is none.
        options: what else the operator said.
    """
    facts = diagnosis.facts
    steps: tuple[Step, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    nothing = proof = ""
    warnings: tuple[str, ...] = ()
    match diagnosis.verdict:
        case Verdict.FIXED | Verdict.NOT_AFFECTED | Verdict.NOT_A_SERVER:
            nothing = diagnosis.why
            warnings = tuple(_leftover_warnings(facts))
        case Verdict.UNKNOWN:
            blocked = (
                Blocked(
                    f"the verdict is unknown: {diagnosis.why}",
                    "find out which WSUS this is; nothing is done on a guess",
                ),
            )
        case Verdict.EXPOSED_RTM:
            blocked = (Blocked(f"{diagnosis.why}", _WAYS_OUT_OF_RTM),)
        case Verdict.EXPOSED_SP1:
            blocked = tuple(_obstacles(facts, package, options))
            if not blocked and package is not None:
                steps = (_install(package, options, diagnosis),)
                proof = f"the file version of {printable(facts.wsus.dll_path)} is {advisory.FIXED_DLL} or higher"
            warnings = tuple(_warnings(facts, package, options))
    return Plan(
        host=diagnosis.host,
        diagnosis=diagnosis,
        steps=steps,
        blocked=blocked,
        nothing=nothing,
        warnings=warnings,
        proof=proof,
        basis=Basis.of(facts),
    )


def _install(package: Package, options: Options, diagnosis: Diagnosis) -> InstallUpdate:
    arguments = None if options.package_arguments is None else tuple(options.package_arguments)
    return InstallUpdate(
        package=package,
        command=command(package, arguments=arguments),
        accept_unverifiable_signature=options.accept_unverifiable_signature,
        reason=diagnosis.why,
        source=advisory.SOURCE_KB,
    )


def _obstacles(facts: HostFacts, package: Package | None, options: Options) -> Iterator[Blocked]:
    """Yield everything that keeps the update from being installed; all of it, not only the first."""
    yield from _restart_obstacles(facts)
    yield from _system_obstacles(facts)
    yield from _session_obstacles(facts)
    if package is None:
        name = advisory.PACKAGE_NAMES.get(facts.os.architecture or Architecture.X86, "the package")
        yield Blocked(
            "no package was given", f"give the package of KB954960 for this server (such as {name}) as package"
        )
        return
    yield from _package_obstacles(facts, package, options)
    yield from _argument_obstacles(package, options)
    if facts.job is None or not facts.job.active:
        # A job that runs has its package there already.
        yield from _space_obstacles(facts, package)


def _restart_obstacles(facts: HostFacts) -> Iterator[Blocked]:
    if facts.restart.concerns(facts.wsus.dll_path):
        yield Blocked(
            "the update is installed, but its DLL waits for a restart",
            "restart the server, then verify; nothing to install",
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


def _session_obstacles(facts: HostFacts) -> Iterator[Blocked]:
    if not facts.session.administrator:
        yield Blocked(
            f"{facts.session.account} is not an administrator of the server",
            "use an administrator's account; a local one other than the built-in Administrator gets a filtered token "
            "over the network unless LocalAccountTokenFilterPolicy is 1",
        )
    if facts.session.execution_policy.lower() in advisory.BLOCKING_POLICIES:
        yield Blocked(
            f"group policy sets the execution policy {facts.session.execution_policy}, which stops the job's script",
            "have the policy set to RemoteSigned for this server while it is mended, or install the update by hand",
        )
    if facts.staging.state is StagingState.REFUSED:
        yield Blocked(
            f"the folder {facts.staging.path} is not closed as it must be: {facts.staging.detail}",
            "find out who made it, remove it by hand, and run again",
        )


def _package_obstacles(facts: HostFacts, package: Package, options: Options) -> Iterator[Blocked]:
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


def _leftover_warnings(facts: HostFacts) -> Iterator[str]:
    if facts.staging.leftovers:
        yield f"an earlier run left {facts.staging.leftovers} files in {facts.staging.path}: applying removes them"


def _warnings(facts: HostFacts, package: Package | None, options: Options) -> Iterator[str]:
    if facts.job is not None and facts.job.active:
        yield f"a job of wsusfix is at work ({facts.job}): it is joined, no second one is started"
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
