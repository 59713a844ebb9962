"""What a report is about: a run, and every server's result in it; and what all ways to write it down ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from wsusfix.diagnosis import Diagnosis
from wsusfix.errors import WsusFixError
from wsusfix.events import Moment
from wsusfix.plan import Plan
from wsusfix.present import Presentable, counted, printable
from wsusfix.remote.job import Withdrawal
from wsusfix.results import JobEvidence, Outcome, Verification

__all__ = ["HEADINGS", "HostResult", "Run", "row"]


@dataclass(frozen=True, repr=False)
class HostResult(Presentable):
    """What a run found and did on one server; whatever was not reached stays ``None``.

    Args:
        events: what an observer was told, with times; see :class:`wsusfix.Recorder`.
        begun: whether it had its turn; a run that is ended before that leaves it as it was.
        withdrawal: of a run that calls jobs off, the one that was.
    """

    host: str
    diagnosis: Diagnosis | None = None
    plan: Plan | None = None
    outcome: Outcome | None = None
    verification: Verification | None = None
    error: WsusFixError | None = None
    events: tuple[Moment, ...] = ()
    begun: bool = True
    withdrawal: Withdrawal | None = None

    @property
    def known(self) -> Diagnosis | None:
        """The diagnosis, whether it came by itself or with a plan."""
        return self.diagnosis or (self.plan.diagnosis if self.plan is not None else None)

    @property
    def checked(self) -> Verification | None:
        """The newest verification."""
        return self.verification or (self.outcome.verification if self.outcome is not None else None)

    @property
    def evidence(self) -> tuple[JobEvidence, ...]:
        """What each job left."""
        return self.outcome.evidence if self.outcome is not None else ()

    @property
    def verdict(self) -> str | None:
        """The newest verdict there is, ``None`` where the server was not reached."""
        if self.checked is not None:
            return self.checked.verdict
        return self.known.verdict.value if self.known is not None else None

    @property
    def exposed(self) -> bool | None:
        """Whether the product has the fault now; ``None`` where that is unknown."""
        verdict = self.verdict
        if verdict is None or verdict == "unknown":
            return None
        return verdict.startswith("exposed")

    @property
    def observed(self) -> str | None:
        """Whether logs show the fault, ``None`` where nobody looked."""
        return self.known.observed.value if self.known is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what was not reached is left out, ``error`` is always there, if only as ``None``."""
        data: dict[str, Any] = {
            "host": self.host,
            "begun": self.begun,
            "verdict": self.verdict,
            "exposed": self.exposed,
            "observed": self.observed,
            "error": self.error.to_dict() if self.error is not None else None,
        }
        for name in ("diagnosis", "plan", "outcome", "verification", "withdrawal"):
            value = getattr(self, name)
            if value is not None:
                data[name] = value.to_dict()
        if self.events:
            data["events"] = [moment.to_dict() for moment in self.events]
        return data

    def _summary(self) -> str:
        return f"{self.host}: {self.error or self.verdict}"

    def __str__(self) -> str:
        parts = [self.withdrawal or self.outcome or self.verification or self.plan or self.diagnosis]
        lines = [str(part) for part in parts if part is not None]
        if self.error is not None:
            told = f"ERROR: {self.error}" if self.begun else self.error.message
            lines.append(f"{printable(self.host, 260)}: {printable(told, 1000)}")
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class Run(Presentable):
    """A whole run: which command, when, and every server's result in the order in which they were named."""

    command: str
    began: datetime
    ended: datetime
    hosts: tuple[HostResult, ...]

    def _summary(self) -> str:
        return f"{self.command}: {counted(len(self.hosts), 'host')}"

    def _extra(self) -> Mapping[str, object]:
        return {}

    @property
    def when(self) -> str:
        """Its beginning and end, for people."""
        return f"{self.began:%Y-%m-%d %H:%M:%S %Z} to {self.ended:%H:%M:%S %Z}"

    def __str__(self) -> str:
        return "\n\n".join(str(host) for host in self.hosts)


#: Of the table that has a row for each server.
HEADINGS: Final = ("Host", "Verdict", "DLL before", "DLL now", "Changed", "Proof", "Remark")


def row(result: HostResult) -> tuple[str, ...]:
    """Return what the table of all servers says of one."""
    outcome, checked = result.outcome, result.checked
    before = (outcome.before if outcome is not None else None) or (
        result.known.facts.wsus.dll_version if result.known is not None else None
    )
    if result.error is not None:
        remark = result.error.message
    elif outcome is not None:
        remark = outcome.message
    elif result.withdrawal is not None:
        remark = str(result.withdrawal)
    elif result.plan is not None and result.plan.blocked:
        remark = "; ".join(item.reason for item in result.plan.blocked)
    else:
        remark = result.known.why if result.known is not None else ""
    return (
        result.host,
        result.verdict or ("not looked at" if result.withdrawal else "not reached" if result.begun else "not begun"),
        str(before) if before else "",
        str(checked.found) if checked is not None and checked.found is not None else "",
        "" if outcome is None else ("yes" if outcome.changed else "no"),
        "" if checked is None else ("ok" if checked.ok else "not ok"),
        printable(remark, 300),
    )
