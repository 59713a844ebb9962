"""What came out: checks and verifications, what each step did, and the evidence an auditor keeps.

Frozen data only; how it comes about is ``verify``'s and ``apply``'s business.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from packaging.version import Version

from wsusfix import advisory
from wsusfix.facts.approvals import Saved
from wsusfix.logs.detections import Detection
from wsusfix.present import Presentable, bytes_text, printable, rows, seconds_text
from wsusfix.remote.job import JobStep, LogFile

__all__ = [
    "Canary",
    "CanaryState",
    "Check",
    "DatabaseBackup",
    "JobEvidence",
    "Outcome",
    "StepOutcome",
    "StepStatus",
    "Verification",
]


@dataclass(frozen=True, repr=False)
class Check(Presentable):
    """One thing looked at: what was found and what is required.

    ``decides`` tells whether the verification stands or falls with it; a check that does not decide is a warning.
    """

    name: str
    ok: bool
    found: str
    required: str
    decides: bool = True

    def _summary(self) -> str:
        return f"{self.name}: {'ok' if self.ok else 'not ok'}"

    def __str__(self) -> str:
        mark = "ok" if self.ok else ("NOT OK" if self.decides else "note")
        return f"{mark}: {self.name}: {self.found}" + ("" if self.ok else f" (required: {self.required})")


@dataclass(frozen=True, repr=False)
class Verification(Presentable):
    """The proof: whether the server is without the fault, by the DLL's file version and the checks around it.

    Args:
        found: file version of the DLL, ``None`` where there is none.
        required: the lowest fixed version (KB954960), ``None`` where the product never had the fault.
        restart_pending: the new DLL waits for a restart, or WSUS setup has asked for one.
        worked_around: whether the approvals of the update are known to have been reset; ``None`` when that is unknown.
            The verdict stays what it is: the fault is still in the product.

    >>> proof = server.verify()
    >>> [check.name for check in proof.checks if not check.ok]
    ['without the fault', 'file version of the proof DLL']
    """

    host: str
    ok: bool
    verdict: str
    found: Version | None
    required: Version | None
    restart_pending: bool
    checks: tuple[Check, ...]
    worked_around: bool | None = None

    def _summary(self) -> str:
        return f"{self.host}: {'ok' if self.ok else 'not ok'}, {self.verdict}, DLL {self.found}"

    def __str__(self) -> str:
        if self.ok:
            state = "worked around; the fault is still in the product" if self.worked_around else "verified"
        else:
            state = "a restart is pending" if self.restart_pending else "NOT VERIFIED"
        return f"{self.host}: {state} ({self.verdict})\n" + "\n".join(f"  {check}" for check in self.checks)


class CanaryState(str, enum.Enum):
    """What a client that was asked to look for updates proves."""

    SERVED = "served"
    HIT = "hit"
    UNKNOWN = "unknown"


@dataclass(frozen=True, repr=False)
class Canary(Presentable):
    """The proof from a client's end: whether one that could be hit is served now.

    Args:
        host: the client.
        state: served; hit, as its log shows the symptom again; or unknown.
        server: URL of the server that it gets its updates from, ``""`` for none.
        office_2003: whether it has a mark of Office 2003.
        failed_before: whether its log shows calls that failed by the fault.
        missing: what keeps it from proving anything, in words; nothing unless it is unknown.
        asked_at: when it was asked, by its own clock; ``None`` when it was not.
        detection: its search for updates, as its log tells it.
        since: the change that it was asked after, by whichever clock; ``None`` when it was told of none.
    """

    host: str
    state: CanaryState
    server: str
    office_2003: bool
    failed_before: bool
    missing: tuple[str, ...] = ()
    asked_at: datetime | None = None
    detection: Detection | None = None
    since: datetime | None = None

    def asked_before(self, change: datetime) -> bool:
        """Return whether it was asked before *change*: by its clock, unless it was asked with that change in view.

        A client that was asked after a change may have a clock that is behind the one by which the change is known.
        """
        in_view = self.since is not None and self.since >= change
        return self.asked_at is not None and self.asked_at < change and not in_view

    @property
    def ok(self) -> bool:
        """Whether it proves that clients are served."""
        return self.state is CanaryState.SERVED

    @property
    def why(self) -> str:
        """What it says, in words."""
        match self.state:
            case CanaryState.SERVED:
                kind = "that failed before" if self.failed_before else f"with {advisory.OFFICE_2003}"
                return f"a client {kind} is served by {printable(self.server, 200)}"
            case CanaryState.HIT:
                return f"a client is still not served by {printable(self.server, 200)}: the symptom again"
            case CanaryState.UNKNOWN:
                return "; ".join(self.missing)

    def _extra(self) -> Mapping[str, object]:
        return {"ok": self.ok, "why": self.why}

    def _summary(self) -> str:
        return f"{self.host}: {self.state.value}"

    def __str__(self) -> str:
        lines = [f"{self.host}: {self.state.value}: {self.why}"]
        if self.asked_at is not None:
            lines.append(f"  asked at {self.asked_at:%Y-%m-%d %H:%M:%S} UTC by its clock")
        if self.detection is not None:
            lines += [f"  {line}" for line in str(self.detection).splitlines()]
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class DatabaseBackup(Presentable):
    """A verified backup of the database, on the server; ``size`` is ``None`` where an earlier run made it."""

    path: str
    size: int | None

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return self.path + (f" ({bytes_text(self.size)})" if self.size is not None else "")


@dataclass(frozen=True, repr=False)
class JobEvidence(Presentable):
    """What an auditor keeps of a job: who asked and how they got in, what ran, by whose signature, how it ended.

    ``kind`` is the name of the job's script.  What a kind of job has no use for is empty: no exit code without an
    installer.  Of a job that another run has started, who asked, their plan and their package's hash are empty: the
    server's event log has them.
    """

    job_id: str
    kind: str
    account: str
    account_sid: str
    authentication: str
    plan_digest: str
    package_sha256: str
    command_line: str
    signature: str
    signer: str
    signed_at: str
    exit_code: int | None
    dll_before: str
    dll_after: str
    event_logged: bool
    server_clock: str
    controller_clock: datetime
    steps: tuple[JobStep, ...]
    logs: tuple[LogFile, ...]
    log_tail: str
    #: Whether the line in WSUS's own log was written; ``None`` of a job that writes none there.
    wsus_logged: bool | None = None

    @property
    def _asked_by(self) -> str:
        if not self.account:
            return "another run; the server's event log says who"
        return f"{self.account} ({self.account_sid}, {self.authentication})"

    def _summary(self) -> str:
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        return f"job {self.job_id} ({self.kind}){code}"

    def __str__(self) -> str:
        return "\n".join(
            [
                f"job {self.job_id} ({self.kind})",
                rows(
                    [
                        ("asked by", self._asked_by),
                        ("plan", self.plan_digest),
                        ("package SHA-256", self.package_sha256),
                        ("command line", self.command_line),
                        ("signature", f"{self.signature}: {self.signer}" if self.signature else ""),
                        ("signed at", self.signed_at),
                        ("exit code", self.exit_code),
                        ("DLL before", self.dll_before),
                        ("DLL after", self.dll_after),
                        ("event log entry", "written" if self.event_logged else "not written"),
                        (
                            "line in WSUS's log",
                            "" if self.wsus_logged is None else "written" if self.wsus_logged else "not written",
                        ),
                        ("server's clock", self.server_clock),
                        ("own clock", self.controller_clock.isoformat()),
                    ]
                ),
                *(f"  {step}" for step in self.steps),
                *(f"  log {log}" for log in self.logs),
                *(f"  | {printable(line, 300)}" for line in self.log_tail.splitlines()[-12:]),
            ]
        )


class StepStatus(str, enum.Enum):
    """What became of a step."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    NOT_BEGUN = "not_begun"  #: one before it failed


@dataclass(frozen=True, repr=False)
class StepOutcome(Presentable):
    """What became of one step: done, skipped and why, failed in which phase and how, or not begun and why."""

    step: str
    status: StepStatus
    why: str
    phase: str = ""
    hint: str = ""
    seconds: float = 0.0

    def _summary(self) -> str:
        return f"{self.step}: {self.status.value}"

    def __str__(self) -> str:
        where = f" in {self.phase}" if self.phase and self.status is StepStatus.FAILED else ""
        took = f" ({seconds_text(self.seconds)})" if self.seconds else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.step}: {self.status.value.replace('_', ' ')}{where}: {self.why}{hint}{took}"


@dataclass(frozen=True, repr=False)
class Outcome(Presentable):
    """What applying a plan did to one server.

    Args:
        changed: whether anything of the server's software was changed.
        restart_pending: whether the change takes effect only with a restart.
        blocked: the reasons why nothing was done, when the plan was blocked; or why nothing more was done than to put
            back what an earlier run had left switched, or why an upgrade was not begun, when what is in its way has
            come since the plan was made.
        verification: the proof afterwards.
        evidence: what each job left, in order.
        saved: what a reset of approvals saved before it changed anything, some of which cannot be given again.
        notes: what else is worth knowing, such as a cleanup that could not be finished.
        backup: the backup of the database that stays on the server, if one was made.

    >>> outcome = server.apply(server.plan())
    >>> outcome.ok, outcome.changed, outcome.message
    (False, False, 'blocked: nothing was changed')
    """

    host: str
    message: str
    changed: bool
    restart_pending: bool
    steps: tuple[StepOutcome, ...]
    blocked: tuple[str, ...]
    verification: Verification | None
    evidence: tuple[JobEvidence, ...]
    plan_digest: str
    before: Version | None
    after: Version | None
    notes: tuple[str, ...] = ()
    backup: DatabaseBackup | None = None
    saved: Saved | None = None

    @property
    def ok(self) -> bool:
        """Whether the server is verified to be without the fault now."""
        return self.verification is not None and self.verification.ok and not self.failed

    @property
    def failed(self) -> bool:
        """Whether a step failed."""
        return any(step.status is StepStatus.FAILED for step in self.steps)

    @property
    def ended_at(self) -> datetime | None:
        """When the last job ended, by the server's own clock, in whole seconds; ``None`` without a job.

        What its logs show since then, ``server.verify(since=...)`` tells.
        """
        for kept in reversed(self.evidence):
            try:
                return datetime.strptime(kept.server_clock, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
            except ValueError:
                continue  # a job that ended without a word
        return None

    @property
    def verdict(self) -> str:
        """The verdict afterwards, ``"unknown"`` when it was not looked at."""
        return self.verification.verdict if self.verification else "unknown"

    def _extra(self) -> Mapping[str, object]:
        return {
            "ok": self.ok,
            "failed": self.failed,
            "verdict": self.verdict,
            "worked_around": self.verification.worked_around if self.verification else None,
        }

    def _summary(self) -> str:
        return f"{self.host}: {self.message}, changed={self.changed}, restart_pending={self.restart_pending}"

    def __str__(self) -> str:
        lines = [f"{self.host}: {self.message}"]
        if self.before is not None or self.after is not None:
            lines.append(f"  DLL {self.before or 'none'} -> {self.after or 'none'}")
        lines += [f"  {step}" for step in self.steps]
        lines += [f"  blocked: {reason}" for reason in self.blocked]
        lines += [f"  backup: {self.backup}"] if self.backup is not None else []
        lines += [f"  note: {note}" for note in self.notes]
        if self.saved is not None:
            lines += [f"  {line}" for line in str(self.saved).splitlines()]
        if self.verification is not None:
            lines += [f"  {check}" for check in self.verification.checks]
        return "\n".join(lines)
