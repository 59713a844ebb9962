"""Diagnose and mend WSUS 3.0 servers with the fault of security advisory 954960, over PowerShell remoting.

>>> import wsusfix
>>> with wsusfix.connect("wsus01", username="CORP\\\\admin", password=secret) as server:  # doctest: +SKIP
...     plan = server.plan(wsusfix.Options(package="WSUS-KB954960-x64.exe"))
...     print(plan)
...     outcome = server.apply(plan, consent=True, on_event=print)

Importing this package loads neither pypsrp nor requests; they are loaded when the first server is connected to.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsusfix.advisory import Architecture
    from wsusfix.agent import ClientSettings
    from wsusfix.clients import ClientReport, Survey, canary, survey
    from wsusfix.diagnosis import Diagnosis, Evidence, Observed, Verdict
    from wsusfix.errors import (
        AccessDeniedError,
        AnswerError,
        AuthenticationError,
        BrokenConnectionError,
        CertificateError,
        ConsentError,
        CredentialsError,
        DeadlineError,
        EnvelopeTooLargeError,
        IdleDropError,
        JobError,
        NotAllowedError,
        NotReachedError,
        PackageError,
        PlanChangedError,
        ProtocolError,
        QuotaError,
        RefusedByServerError,
        RefusedError,
        ScriptError,
        ShellGoneError,
        TlsError,
        UnavailableError,
        UnknownHostError,
        UsageError,
        WsusFixError,
    )
    from wsusfix.events import Event, JobState, Moment, Note, PhaseBegun, Recorder, UploadProgress
    from wsusfix.facts import HostFacts
    from wsusfix.logs.correlate import Correlation, Pair
    from wsusfix.logs.detections import Detection
    from wsusfix.logs.findings import ClientFinding, FileKind, LogFile, LogProblem, ServerFinding
    from wsusfix.logs.machine import MachineLogs
    from wsusfix.logs.survey import LogReport
    from wsusfix.options import Connection, Credentials, Options, Timeouts
    from wsusfix.package import Package
    from wsusfix.plan import (
        BackUpDatabase,
        Blocked,
        CheckPrerequisites,
        InstallUpdate,
        Plan,
        ResetApprovals,
        Restart,
        RestoreSettings,
        StartServices,
        UpgradeServicePack,
    )
    from wsusfix.remote.job import Cleanup, Job, Withdrawal
    from wsusfix.results import (
        Canary,
        CanaryState,
        Check,
        DatabaseBackup,
        JobEvidence,
        Outcome,
        StepOutcome,
        StepStatus,
        Verification,
    )
    from wsusfix.server import WsusServer, connect, remediate
    from wsusfix.surroundings import Surroundings

__version__ = "0.1.0"

#: Where each public name lives; the house's rooms are loaded when a name is first asked for.
_HOMES = {
    "wsusfix.advisory": ("Architecture",),
    "wsusfix.agent": ("ClientSettings",),
    "wsusfix.clients": ("ClientReport", "Survey", "canary", "survey"),
    "wsusfix.diagnosis": ("Diagnosis", "Evidence", "Observed", "Verdict"),
    "wsusfix.errors": (
        "AccessDeniedError",
        "AnswerError",
        "AuthenticationError",
        "BrokenConnectionError",
        "CertificateError",
        "ConsentError",
        "CredentialsError",
        "DeadlineError",
        "EnvelopeTooLargeError",
        "IdleDropError",
        "JobError",
        "NotAllowedError",
        "NotReachedError",
        "PackageError",
        "PlanChangedError",
        "ProtocolError",
        "QuotaError",
        "RefusedByServerError",
        "RefusedError",
        "ScriptError",
        "ShellGoneError",
        "TlsError",
        "UnavailableError",
        "UnknownHostError",
        "UsageError",
        "WsusFixError",
    ),
    "wsusfix.events": ("Event", "JobState", "Moment", "Note", "PhaseBegun", "Recorder", "UploadProgress"),
    "wsusfix.facts": ("HostFacts",),
    "wsusfix.logs.correlate": ("Correlation", "Pair"),
    "wsusfix.logs.detections": ("Detection",),
    "wsusfix.logs.findings": ("ClientFinding", "FileKind", "LogFile", "LogProblem", "ServerFinding"),
    "wsusfix.logs.machine": ("MachineLogs",),
    "wsusfix.logs.survey": ("LogReport",),
    "wsusfix.options": ("Connection", "Credentials", "Options", "Timeouts"),
    "wsusfix.package": ("Package",),
    "wsusfix.plan": (
        "BackUpDatabase",
        "Blocked",
        "CheckPrerequisites",
        "InstallUpdate",
        "Plan",
        "ResetApprovals",
        "Restart",
        "RestoreSettings",
        "StartServices",
        "UpgradeServicePack",
    ),
    "wsusfix.remote.job": ("Cleanup", "Job", "Withdrawal"),
    "wsusfix.results": (
        "Canary",
        "CanaryState",
        "Check",
        "DatabaseBackup",
        "JobEvidence",
        "Outcome",
        "StepOutcome",
        "StepStatus",
        "Verification",
    ),
    "wsusfix.server": ("WsusServer", "connect", "remediate"),
    "wsusfix.surroundings": ("Surroundings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AccessDeniedError",
    "AnswerError",
    "Architecture",
    "AuthenticationError",
    "BackUpDatabase",
    "Blocked",
    "BrokenConnectionError",
    "Canary",
    "CanaryState",
    "CertificateError",
    "Check",
    "CheckPrerequisites",
    "Cleanup",
    "ClientFinding",
    "ClientReport",
    "ClientSettings",
    "Connection",
    "ConsentError",
    "Correlation",
    "Credentials",
    "CredentialsError",
    "DatabaseBackup",
    "DeadlineError",
    "Detection",
    "Diagnosis",
    "EnvelopeTooLargeError",
    "Event",
    "Evidence",
    "FileKind",
    "HostFacts",
    "IdleDropError",
    "InstallUpdate",
    "Job",
    "JobError",
    "JobEvidence",
    "JobState",
    "LogFile",
    "LogProblem",
    "LogReport",
    "MachineLogs",
    "Moment",
    "NotAllowedError",
    "NotReachedError",
    "Note",
    "Observed",
    "Options",
    "Outcome",
    "Package",
    "PackageError",
    "Pair",
    "PhaseBegun",
    "Plan",
    "PlanChangedError",
    "ProtocolError",
    "QuotaError",
    "Recorder",
    "RefusedByServerError",
    "RefusedError",
    "ResetApprovals",
    "Restart",
    "RestoreSettings",
    "ScriptError",
    "ServerFinding",
    "ShellGoneError",
    "StartServices",
    "StepOutcome",
    "StepStatus",
    "Surroundings",
    "Survey",
    "Timeouts",
    "TlsError",
    "UnavailableError",
    "UnknownHostError",
    "UpgradeServicePack",
    "UploadProgress",
    "UsageError",
    "Verdict",
    "Verification",
    "Withdrawal",
    "WsusFixError",
    "WsusServer",
    "__version__",
    "canary",
    "connect",
    "remediate",
    "survey",
]


#: Rooms that are used by their names, as ``wsusfix.clients.survey``.
_ROOMS = ("clients", "logs", "report")


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name, f"{__name__}.{name}" if name in _ROOMS else None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(home)
    value = module if name in _ROOMS else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
