"""Small builders of frozen data for tests: each gives something ordinary, changed only where a test says so.

The ordinary server is ``wsus01``: WSUS 3.0 SP1 without the update, on Windows Server 2008 SP2 x64, with everything in
place for an installation.  Facts are always made through :func:`wsusfix.facts.parse`, so that no test reasons about
facts that no server could tell.  Values stand here as literals, not taken from ``advisory``: what is written down
twice is checked by being compared.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any, Final

from wsusfix.advisory import Architecture
from wsusfix.diagnosis import Diagnosis, diagnose
from wsusfix.facts import Approvals, HostFacts, parse, read_approvals
from wsusfix.options import Options
from wsusfix.package import Package, PackageKind
from wsusfix.plan import InstallUpdate, Plan
from wsusfix.plan import plan as make_plan
from wsusfix.remote.job import JobStep, LogFile
from wsusfix.results import Check, JobEvidence, Outcome, StepOutcome, StepStatus, Verification
from wsusfix.scripts.contracts import APPROVALS, FACTS, STAGING_NAME, SURROUNDINGS, TASK_NAME, JobPhase, Scalar
from wsusfix.surroundings import Surroundings, record_parameters
from wsusfix.surroundings import parse as parse_around
from wsusfix.verify import verify

__all__ = [
    "ABSENT",
    "CONSOLE",
    "DLL",
    "FIXED",
    "HOST",
    "RTM",
    "SERVER_2003",
    "SERVER_2008",
    "SERVER_2008_R2",
    "SERVER_2012",
    "SERVER_2016",
    "SHA256",
    "SP1",
    "SP2",
    "UPDATE_ID",
    "WSUS_2",
    "answer",
    "approvals",
    "approvals_answer",
    "asked",
    "around",
    "around_answer",
    "check",
    "diagnosis",
    "evidence",
    "facts",
    "no_logs",
    "outcome",
    "install_step",
    "package",
    "plan",
    "restarted",
    "setup",
    "upgrade_plan",
    "upgraded",
    "verification",
]

HOST: Final = "wsus01"
SHA256: Final = "5a" * 32
TARGET: Final = "C:\\Program Files\\Update Services\\"
DLL: Final = TARGET + r"WebServices\ClientWebService\bin\Microsoft.UpdateServices.WebServices.Client.Dll"

#: The parameters of the script that cleans up.
CLEANUP: Final[dict[str, Any]] = {
    **record_parameters(),
    "staging_name": STAGING_NAME,
    "task_name": TASK_NAME,
    "start_seconds": 60,
    "removal_meant": False,
}

#: What is asked to call off the job that waits.
WITHDRAW: Final[dict[str, Any]] = {"staging_name": STAGING_NAME, "start_seconds": 60}

Changes = dict[str, Any]

# --- what may stand on a server, as changes to the ordinary answer ------------------------------------------------

SERVER_2003: Final[Changes] = {"os_version": "5.2.3790", "os_service_pack": 2, "os_suite_mask": "272"}
SERVER_2008: Final[Changes] = {"os_version": "6.0.6002", "os_service_pack": 2}
SERVER_2008_R2: Final[Changes] = {"os_version": "6.1.7601", "os_service_pack": 1}
SERVER_2012: Final[Changes] = {"os_version": "6.2.9200", "os_service_pack": 0}
SERVER_2016: Final[Changes] = {"os_version": "10.0.14393", "os_service_pack": 0}

#: No WSUS at all.
ABSENT: Final[Changes] = {
    "setup_present": False,
    "setup_InstallType": None,
    "setup_VersionString": None,
    "setup_TargetDir": None,
    "setup_SqlServerName": None,
    "setup_SqlDatabaseName": None,
    "service_wsusservice": None,
    "dll_path": "",
    "dll_present": False,
    "dll_version": "",
}
CONSOLE: Final[Changes] = {
    "setup_InstallType": "2",
    "setup_SqlServerName": None,
    "setup_SqlDatabaseName": None,
    "service_wsusservice": None,
    "dll_present": False,
    "dll_version": "",
}
WSUS_2: Final[Changes] = {
    "setup_InstallType": "128",
    "setup_VersionString": "2.0.0.2620",
    "wsus2_product": True,
    "dll_present": False,
    "dll_version": "",
}
RTM: Final[Changes] = {"setup_VersionString": "3.0.6000.374", "dll_version": "3.0.6000.374"}
SP1: Final[Changes] = {"setup_VersionString": "3.1.6001.65", "dll_version": "3.1.6001.65"}
FIXED: Final[Changes] = {"setup_VersionString": "3.1.6001.65", "dll_version": "3.1.6001.66"}
SP2: Final[Changes] = {"setup_VersionString": "3.2.7600.226", "dll_version": "3.1.7600.226"}


def answer(**changes: Scalar | None) -> dict[str, Scalar]:
    """Return an answer of the facts script; a change of ``None`` takes a key away."""
    told: dict[str, Scalar | None] = {
        "script": "facts",
        "computer_name": "WSUS01",
        **SERVER_2008,
        "os_product_type": 3,
        "os_suite_mask": "274",
        "os_suites": "Terminal Server",
        "os_caption": "Microsoft® Windows Server® 2008 Standard",
        "architecture": "x64",
        "culture": "nb-NO",
        "powershell_version": "2.0",
        "boot_time": "2008-09-01T04:00:00Z",
        "clock": "2008-09-02T10:00:00Z",
        "administrator": True,
        "account": "CORP\\admin",
        "account_sid": "S-1-5-21-1-2-3-1104",
        "authentication": "Kerberos",
        "restart_keys": "",
        "restart_renames": "",
        "setup_present": True,
        "wsus2_product": False,
        "dll_path": DLL,
        "dll_present": True,
        "dll_version": "3.1.6001.65",
        "neighbours": "",
        "windows_directory": "C:\\Windows",
        "staging_path": "C:\\Windows\\wsusfix",
        "staging_state": "absent",
        "staging_detail": "",
        "staging_free": "20000000000",
        "system_free": "20000000000",
        "execution_policy": "",
        "installer_busy": False,
        "job_id": "",
        "job_status": "none",
        "job_kind": "",
        "job_phase": "",
        "reset_state": "none",
        "upgrade_state": "none",
        "upgrade_number": "",
        "upgrade_record": "",
        "upgrade_setup": "",
        "upgrade_end": "",
        "ran_number": "",
        "ran_record": "",
        "leftovers": 0,
        "setup_PortNumber": "80",
        "setup_InstallType": "1",
        "setup_VersionString": "3.1.6001.65",
        "setup_TargetDir": TARGET,
        "setup_SqlServerName": "%computername%\\MICROSOFT##SSEE",
        "setup_SqlDatabaseName": "SUSDB",
        "service_wsusservice": "running",
        "service_w3svc": "running",
        **changes,
    }
    return {key: value for key, value in told.items() if value is not None}


def upgraded(state: str, *, restart: bool = False) -> Changes:
    """Return what an upgrade keeps of what it had stopped, an hour ago, as changes to the ordinary answer."""
    record = (
        "time=2008-09-02T08:50:00Z\njob_id=0123456789ab\nversion=3.0.6000.374\nservices=wsusservice/w3svc/was\n"
        "sites=1/7\nidle_sites=2\nbackup=C:\\Windows\\wsusfix-backup\\a\\SUSDB.bak\nend\n"
    )
    end = f"time=2008-09-02T09:00:00Z\nrestart={str(restart).lower()}\nend\n"
    return {
        "upgrade_state": state,
        "upgrade_number": "3",
        "upgrade_record": record,
        "upgrade_end": end if state == "closed" else "",
    }


def restarted(*, boot: str = "2008-09-02T09:00:00Z") -> Changes:
    """Return what a restart keeps of what ran before it, as changes to the ordinary answer.

    Args:
        boot: when the server was started last.
    """
    record = (
        "time=2008-09-02T08:50:00Z\nboot=2008-08-01T06:00:00Z\njob_id=0123456789ab\nservices=wsusservice/w3svc/was\n"
        "sites=1/7\nidle_sites=2\nend\n"
    )
    return {"ran_number": "2", "ran_record": record, "boot_time": boot}


def no_logs() -> dict[str, Scalar]:
    """Return an answer of the script that searches logs, where there are none."""
    return {
        "script": "search_logs",
        "clock": "2008-09-02T10:00:00Z",
        "utc_offset": 0,
        "named": TARGET + "LogFiles\\SoftwareDistribution.log",
        "places": TARGET + "LogFiles\\SoftwareDistribution.log",
        "denied": "",
        "files": 0,
        "left_out": 0,
    }


def facts(*, host: str = HOST, front_ends: tuple[str, ...] | None = None, **changes: Scalar | None) -> HostFacts:
    """Return facts parsed from :func:`answer` with *changes*; *front_ends* is what no single server's answer tells."""
    looked = parse(host, FACTS.read(answer(**changes)))
    if front_ends is None:
        return looked
    return dataclasses.replace(looked, wsus=dataclasses.replace(looked.wsus, front_ends=front_ends))


#: The update's id on the ordinary server, and lines about it and its neighbours as the script tells them.
UPDATE_ID: Final = "9dcb0f0a-0000-4000-8000-000000000001"
NEAR_ID: Final = "9dcb0f0a-0000-4000-8000-000000000002"
UPDATE: Final = f"{UPDATE_ID} 102,101 false 2 842532 Office 2003 Service Pack 1"
TREATED: Final = f"{UPDATE_ID} 102,101 true 0 842532 Office 2003 Service Pack 1"
LOCAL: Final = f"{UPDATE_ID} 102,101 false 2 842532,1 Office 2003 oppdateringspakke 1"
NEAR: Final = f"{NEAR_ID} 7 false 1 842532 Office 2003 Service Pack 1 Multilingual User Interface Pack"
MARKER: Final = f"time=2008-09-02T10:00:00Z\nreplica=false\nautomatic=true\nupdate1={UPDATE_ID} 102\nend\n"
SAVED: Final = (
    "kind=reset_approvals\njob_id=0123456789ab\ntime=2008-09-02T09:59:00Z\nreplica=true\nautomatic=true\n"
    f"update1={UPDATE_ID} 102 false Office 2003 Service Pack 1\n"
    f"approval1={UPDATE_ID} 101 a0a08746-4dbe-4a37-9adf-9e7652c0b421 Install false 9999-12-31T23:59:59Z "
    "2005-02-01T08:00:00Z CORP\\admin\nend\n"
)


def approvals_answer(**changes: Scalar | None) -> dict[str, Scalar]:
    """Return an answer of the approvals script about an untreated, autonomous server."""
    told: dict[str, Scalar | None] = {
        "script": "approvals",
        "trouble": "",
        "role": "Administrator",
        "state": "Ready",
        "replica": False,
        "automatic": True,
        "upstream": "",
        "front_ends": "",
        "updates": f"{NEAR}\n{UPDATE}",
        "cut": False,
        "reset_state": "none",
        "saved": "",
        "marker": "",
        "web_service": "200",
        **changes,
    }
    return {key: value for key, value in told.items() if value is not None}


def approvals(**changes: Any) -> Approvals:
    """Return what WSUS says of itself and the update, parsed from :func:`approvals_answer` with *changes*."""
    return read_approvals(HOST, APPROVALS.read(approvals_answer(**changes)))


#: Of a server whose approvals were reset.
WORKED_AROUND: Final[Changes] = {"updates": TREATED, "reset_state": "marked", "marker": MARKER}


def asked(told: Changes | None = None, **changes: Any) -> HostFacts:
    """Return facts of a server without a service pack, with *changes*, where WSUS was asked and told *told*."""
    return facts(**{**RTM, **changes}).with_approvals(approvals(**(told or {})))


def diagnosis(**changes: Any) -> Diagnosis:
    """Return the diagnosis of :func:`facts` with *changes*."""
    return diagnose(facts(**changes))


def package(**changes: Any) -> Package:
    """Return a fit package for the ordinary server, as if it had been read from a file."""
    told: dict[str, Any] = {
        "path": "/srv/packages/WSUS-KB954960-x64.exe",
        "name": "WSUS-KB954960-x64.exe",
        "size": 4_500_000,
        "sha256": SHA256,
        "kind": PackageKind.EXE,
        "architecture": Architecture.X64,
        "names_update": True,
        "description": "Update for Windows Server Update Services 3.0 SP1 (KB954960)",
        "file_version": "3.1.6001.66",
        "linked_at": datetime(2008, 7, 30, 12, 0, tzinfo=timezone.utc),
        "problem": None,
        "remark": None,
    }
    return Package(**{**told, **changes})


def setup(**changes: Any) -> Package:
    """Return WSUS setup for SP1, fit for the ordinary server, as if it had been read from a file."""
    told: dict[str, Any] = {
        "path": "/srv/packages/WSUSSetup-x64.exe",
        "name": "WSUSSetup-x64.exe",
        "size": 90_000_000,
        "sha256": "6b" * 32,
        "names_update": False,
        "description": "Windows Server Update Services 3.0 SP1",
        "file_version": "3.1.6001.65",
        "setup_of": "3.0 SP1",
    }
    return package(**{**told, **changes})


def around_answer(**changes: Scalar) -> dict[str, Scalar]:
    """Return an answer of the surroundings script: a server that may well be upgraded."""
    told: dict[str, Scalar] = {
        "script": "surroundings",
        "database_trouble": "",
        "database_version": "9.00.4035.00",
        "own_name": "WSUS01\\MICROSOFT##SSEE",
        "network_name": "WSUS01\\MICROSOFT##SSEE",
        "sysadmin": True,
        "nested_triggers": True,
        "database_size": "1500000000",
        "database_files": "C:\\WSUS\\UpdateServicesDbFiles\\SUSDB.mdf",
        "connections": "",
        "hierarchy_trouble": "",
        "upstream": "",
        "front_ends": "wsus01.corp.local",
        "services": "wsusservice\nw3svc\nwas",
        "sites": "1 running Default Web Site\n2 stopped Old intranet",
        "sites_trouble": "",
        "drives": "20000000000 plain C:\\WSUS\n20000000000 plain C:\\WSUS\\UpdateServicesDbFiles\\SUSDB.mdf",
        "backups": "",
        "clock": "2008-09-02T10:00:00Z",
    }
    return {**told, **changes}


def around(of: HostFacts | None = None, **changes: Scalar) -> Surroundings:
    """Return surroundings parsed from :func:`around_answer` with *changes*."""
    return parse_around(facts(**RTM) if of is None else of, SURROUNDINGS.read(around_answer(**changes)))


def plan(options: Options | None = None, given: Package | None = None, **changes: Any) -> Plan:
    """Return the plan for :func:`facts` with *changes*, a fit package unless *given*, and *options*."""
    return make_plan(
        diagnosis(**changes), package() if given is None else given, Options() if options is None else options
    )


def install_step(of: Plan) -> InstallUpdate:
    """Return the one step of a plan that installs the update and does nothing else."""
    (step,) = of.steps
    assert isinstance(step, InstallUpdate)
    return step


def upgrade_plan(
    options: Options | None = None,
    *,
    given: Package | None = None,
    update: Package | None = None,
    surroundings: Surroundings | None = None,
    **changes: Any,
) -> Plan:
    """Return the plan to upgrade :func:`facts` of WSUS 3.0 without a service pack, with *changes*."""
    found = diagnosis(**{**RTM, **changes})
    return make_plan(
        found,
        package() if update is None else update,
        Options(rtm="upgrade") if options is None else options,
        upgrade_package=setup() if given is None else given,
        surroundings=around(found.facts) if surroundings is None else surroundings,
    )


def verification(**changes: Any) -> Verification:
    """Return the verification of :func:`facts` with *changes*, fixed unless they say otherwise."""
    return verify(facts(**{**FIXED, **changes}))


def evidence(**changes: Any) -> JobEvidence:
    """Return what an auditor keeps of a job that went well."""
    told: dict[str, Any] = {
        "job_id": "0123456789ab",
        "kind": "install_update",
        "account": "CORP\\admin",
        "account_sid": "S-1-5-21-1-2-3-1104",
        "authentication": "Kerberos",
        "plan_digest": "d1" * 32,
        "package_sha256": SHA256,
        "command_line": r"C:\Windows\wsusfix\5a5a5a5a\WSUS-KB954960-x64.exe /q C:\Windows\wsusfix\job.log",
        "signature": "valid",
        "signer": "CN=Microsoft Corporation",
        "signed_at": "2008-07-30T12:00:00Z",
        "exit_code": 0,
        "dll_before": "3.1.6001.65",
        "dll_after": "3.1.6001.66",
        "event_logged": True,
        "server_clock": "2008-09-02T10:05:00Z",
        "controller_clock": datetime(2008, 9, 2, 10, 5, 1, tzinfo=timezone.utc),
        "steps": (JobStep(1, JobPhase.STARTED, "2008-09-02T10:01:00Z", {"pid": "1204"}),),
        "logs": (LogFile("job.log", 2048, "1a" * 32),),
        "log_tail": "begin\nend\n",
    }
    return JobEvidence(**{**told, **changes})


def outcome(**changes: Any) -> Outcome:
    """Return the outcome of an installation that went well."""
    checked = verification()
    told: dict[str, Any] = {
        "host": HOST,
        "message": "fixed and verified",
        "changed": True,
        "restart_pending": False,
        "steps": (StepOutcome("InstallUpdate", StepStatus.DONE, "exit code 0: installed", seconds=61.2),),
        "blocked": (),
        "verification": checked,
        "evidence": (evidence(),),
        "plan_digest": "d1" * 32,
        "before": facts().wsus.dll_version,
        "after": checked.found,
        "notes": (),
    }
    return Outcome(**{**told, **changes})


def check(**changes: Any) -> Check:
    """Return a check that is well."""
    told: dict[str, Any] = {"name": "service w3svc", "ok": True, "found": "running", "required": "running"}
    return Check(**{**told, **changes})
