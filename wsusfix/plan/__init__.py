"""From a diagnosis, a package and the operator's options to a plan: what would be done, why, what is in the way.

Pure functions over frozen data.  A plan has steps, or is blocked with reasons and what would unblock each, or has
nothing to do and says why.  Here it is only decided which road is taken; each road has a module of its own, with its
steps, its obstacles and its warnings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from packaging.version import Version

from wsusfix import advisory
from wsusfix.advisory import Architecture
from wsusfix.diagnosis import Diagnosis, Verdict
from wsusfix.facts import HostFacts
from wsusfix.options import Options
from wsusfix.package import Package
from wsusfix.plan import install
from wsusfix.plan.common import Blocked, leftover_warnings
from wsusfix.plan.install import InstallUpdate
from wsusfix.present import Presentable, plain, printable

__all__ = ["Basis", "Blocked", "InstallUpdate", "Plan", "Step", "plan"]


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
            warnings = tuple(leftover_warnings(facts))
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
            blocked = tuple(install.obstacles(facts, package, options))
            if not blocked and package is not None:
                steps = (install.install(package, options, diagnosis),)
                proof = install.proof(facts)
            warnings = tuple(install.warnings(facts, package, options))
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
