"""The written contract of every script: which parameters it takes, which answer it gives.

This module is the one place where the PowerShell half and the Python half meet: the session checks what it sends
and what comes back against it, the lab answers by it, the tests hold the real scripts to it.  It knows nothing of
WSUS facts (they arrive as parameters) and nothing of how a script travels.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

#: Name of the folder below ``%windir%`` in which everything of a run lies, closed to all but SYSTEM and Administrators.
STAGING_NAME: Final = "wsusfix"
#: Name of the folder below ``%windir%``, closed in the same way, that outlives a run: what was saved before approvals
#: were reset, the way back while it is open, and the marker that proves a reset; and what an upgrade has stopped, with
#: how far its way back has gone; and what ran before a restart.  What is in it is never changed.
KEPT_NAME: Final = "wsusfix-kept"
#: The one scheduled task: a server runs at most one job at a time, so one name is enough and always found again.
TASK_NAME: Final = "wsusfix-job"
#: Name of the folder below ``%windir%`` that keeps backups of the database; it outlives runs and is never cleaned up.
BACKUP_NAME: Final = "wsusfix-backup"
#: Lies beside a backup from before it is begun until it has been read back; what it lies beside is no backup.
UNVERIFIED_NAME: Final = "unverified.txt"
#: Strings in an answer are bounded: nothing a server says may exhaust the controller's memory.
DEFAULT_LIMIT: Final = 4096
#: The log tail, the list of states and the like.
LONG_LIMIT: Final = 256 * 1024
#: What a reset of approvals saves: the job writes no longer record, and the look brings all of it back.
RECORD_LIMIT: Final = 300_000


class ContractError(ValueError):
    """Parameters or an answer that do not follow the script's contract; says which script, which key, and how."""


class Refusal(str, enum.Enum):
    """Why a script did not do what it was asked to; ``NONE`` means that it did.

    A refusal is an answer, not an error record: it is expected, has a reason a person can act on, and leaves the
    server as it was.
    """

    NONE = ""
    NOT_ADMINISTRATOR = "not_administrator"
    STAGING_OWNER = "staging_owner"
    STAGING_REPARSE = "staging_reparse"
    STAGING_ACL = "staging_acl"
    STAGING_IS_FILE = "staging_is_file"
    NO_SPACE = "no_space"
    NOT_STAGED = "not_staged"
    SHORT_SEGMENT = "short_segment"
    MISSING_SEGMENT = "missing_segment"
    HASH_MISMATCH = "hash_mismatch"
    JOB_SCRIPT_CHANGED = "job_script_changed"
    TASK_NOT_CREATED = "task_not_created"
    TASK_NOT_STARTED = "task_not_started"
    JOB_RUNNING = "job_running"
    NO_JOB = "no_job"
    NOT_WAITING = "not_waiting"


class JobStatus(str, enum.Enum):
    """What can be told of a job from its state files and the processes that live."""

    NONE = "none"  #: no such job
    CLAIMED = "claimed"  #: the task was asked to start and has not yet
    RUNNING = "running"  #: the job's process, its installer, or one started from the staging folder lives
    FINISHED = "finished"  #: the last state is an end
    INTERRUPTED = "interrupted"  #: it began, did not end, was not withdrawn, and nothing of it lives
    NEVER_STARTED = "never_started"  #: asked to start longer ago than the start deadline


class JobPhase(str, enum.Enum):
    """The phases of every kind of job; the state files name them.

    Which of them a job has, in which order, its contract says (:attr:`Contract.states`).
    """

    STARTED = "started"
    WAITING_FOR_WINDOW = "waiting_for_window"  #: the maintenance window is not open yet
    WITHDRAWN = "withdrawn"  #: somebody called it off while it waited; written by whoever did
    WINDOW_OPEN = "window_open"  #: it has waited, and begins: nobody can call it off any more
    ASKING_DATABASE = "asking_database"
    BACKING_UP = "backing_up"
    VERIFYING_BACKUP = "verifying_backup"
    CHECKING_PACKAGE = "checking_package"
    CHECKING_SIGNATURE = "checking_signature"
    WAITING_FOR_INSTALLER = "waiting_for_installer"
    LAUNCHING = "launching"
    INSTALLING = "installing"
    INSTALLED = "installed"
    STOPPING = "stopping"  #: what ran stands in this state, before the first of it stops
    CHECKING_CONNECTIONS = "checking_connections"  #: to the database, now that WSUS has stopped
    STARTING_SERVICES = "starting_services"
    RESTARTING = "restarting"
    RESTART_ORDERED = "restart_ordered"
    WAITING_FOR_WSUS = "waiting_for_wsus"
    RESTORED_FIRST = "restored_first"  #: what an earlier run had left switched
    SAVED = "saved"
    SUSPENDED = "suspended"
    SWITCHED = "switched"
    DECLINED = "declined"
    APPROVED = "approved"
    TREATED = "treated"  #: declined again: one update is done
    MARKED = "marked"
    RESTORING = "restoring"  #: what was switched could not be put back yet, and is tried again
    RESTORED = "restored"
    FINISHED = "finished"
    ABANDONED = "abandoned"  #: written in place of ``started`` to keep a late task from ever beginning


class JobReason(str, enum.Enum):
    """How a job ended; the last state file carries it.  Which job may end how, its contract says."""

    DONE = "done"  #: it did its work to the end; for an installer, exit code and DLL tell the rest
    ALREADY_FIXED = "already_fixed"
    PACKAGE_MISSING = "package_missing"
    PACKAGE_CHANGED = "package_changed"
    SIGNATURE_INVALID = "signature_invalid"
    SIGNATURE_UNVERIFIABLE = "signature_unverifiable"
    INSTALLER_BUSY = "installer_busy"
    NOT_LAUNCHED = "not_launched"
    WINDOW_OVER = "window_over"  #: the maintenance window was over before the work could begin
    WITHDRAWN = "withdrawn"  #: it was called off while it waited for the maintenance window, and has done nothing
    DATABASE_NOT_REACHED = "database_not_reached"
    NO_SPACE = "no_space"
    FOLDER_NOT_CLOSED = "folder_not_closed"  #: where backups are kept, somebody else has made a folder
    BACKUP_FAILED = "backup_failed"
    BACKUP_NOT_VERIFIED = "backup_not_verified"  #: it was written, could not be read back, and is gone again
    OTHER_VERSION = "other_version"  #: another WSUS than was planned for stands there now
    OTHER_SERVICES = "other_services"  #: more services would stop than were named
    OTHER_SITES = "other_sites"  #: more sites would stop than were named
    NOT_STOPPED = "not_stopped"
    CONNECTIONS = "connections"  #: somebody else was connected to the database after WSUS had stopped
    NOT_RESTARTED = "not_restarted"  #: Windows refused to restart
    STILL_UP = "still_up"  #: the order to restart was taken, and has not been carried out
    KEPT_REFUSED = "kept_refused"
    NOT_WSUS_ADMINISTRATOR = "not_wsus_administrator"
    WSUS_NOT_READY = "wsus_not_ready"
    UPDATES_CHANGED = "updates_changed"
    TOO_MANY_APPROVALS = "too_many_approvals"
    NOT_SWITCHED = "not_switched"
    RESET_REFUSED = "reset_refused"  #: WSUS does not let the update be approved for nothing
    NOT_TREATED = "not_treated"
    NOT_RESTORED = "not_restored"  #: the one end that leaves something open; the next run restores first
    BROKEN = "broken"  #: an error nobody foresaw; ``detail`` has its text


class ResetState(str, enum.Enum):
    """What lies in the kept folder of resets of approvals."""

    NONE = "none"
    OPEN = "open"  #: a way back that was not gone to its end: the server may be switched still
    MARKED = "marked"
    REFUSED = "refused"  #: there, but not closed as it must be: somebody else made it


class UpgradeState(str, enum.Enum):
    """How far the way back of the newest upgrade has gone that stopped services, by what it keeps."""

    NONE = "none"  #: no upgrade has stopped anything
    STOPPED = "stopped"  #: not all that it stopped was started again
    OPEN = "open"  #: all of it was, but nobody has seen WSUS there since
    CLOSED = "closed"  #: all of it was, and WSUS was there
    SETTLED = "settled"  #: all of it was, WSUS was gone, and has come back since or is not to


class StagingState(str, enum.Enum):
    """How the staging folder was found by the facts script."""

    ABSENT = "absent"
    CLOSED = "closed"
    REFUSED = "refused"  #: there, but not closed as it must be: somebody else made it


Scalar = str | int | bool


@dataclass(frozen=True)
class Field:
    """One key of an answer: its type, whether it must be there, and the most characters a string may have."""

    kind: type[str | int | bool] = str
    required: bool = True
    limit: int = DEFAULT_LIMIT

    def read(self, script: str, key: str, value: object) -> Scalar:
        """Return *value* if it is of this kind and within bounds.

        Raises:
            ContractError: it is not.
        """
        if type(value) is not self.kind and not (self.kind is str and isinstance(value, str)):
            raise ContractError(f"script {script}: {key} is {type(value).__name__}, expected {self.kind.__name__}")
        if isinstance(value, str):
            if len(value) > self.limit:
                raise ContractError(
                    f"script {script}: {key} has {len(value)} characters, at most {self.limit} expected"
                )
            return str(value)
        if isinstance(value, bool):
            return value
        assert isinstance(value, int)
        return int(value)


TEXT: Final = Field()
NUMBER: Final = Field(int)
FLAG: Final = Field(bool)
LONG: Final = Field(limit=LONG_LIMIT)
RECORD: Final = Field(limit=RECORD_LIMIT)

_REFUSED: Final[Mapping[str, Field]] = MappingProxyType({"refused": TEXT, "detail": TEXT})


@dataclass(frozen=True)
class Contract:
    """What a script is called, takes and gives.

    Args:
        name: the script's name, also the file's and the one in its first line.
        purpose: one sentence.
        parameters: names and types (``str``, ``int``, ``bool``, ``list``, ``dict``, ``bytes``) of what it takes.
        answer: the keys of the one hashtable it gives, ``script`` aside, which all have.
        families: further keys by prefix, none of them required (``setup_`` + the name of a registry value).
        refusals: the refusals it may answer; empty for a question.
        takes_input: whether pipeline input (byte arrays) is sent to it.
        states: of a job, which is staged and run as SYSTEM, answers nothing and writes state files instead: its
            phases in the order in which they come, each with the keys that its state carries beyond ``phase``,
            ``time``, ``pid`` and ``created``.
        reasons: how such a job may end.
    """

    name: str
    purpose: str
    parameters: Mapping[str, type]
    answer: Mapping[str, Field] = field(default_factory=dict)
    families: Mapping[str, Field] = field(default_factory=dict)
    refusals: frozenset[Refusal] = frozenset()
    takes_input: bool = False
    states: Mapping[JobPhase, tuple[str, ...]] = field(default_factory=dict)
    reasons: frozenset[JobReason] = frozenset()

    @property
    def is_job(self) -> bool:
        """Whether it is staged and run as SYSTEM; its name is the job's kind."""
        return bool(self.states)

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Make sure that *parameters* are exactly those of the contract.

        Raises:
            ContractError: one is missing, unknown, or of another type.
        """
        for key in self.parameters.keys() - parameters.keys():
            raise ContractError(f"script {self.name}: parameter {key} is missing")
        for key, value in parameters.items():
            if key not in self.parameters:
                raise ContractError(f"script {self.name}: unknown parameter {key}")
            if type(value) is not self.parameters[key]:
                raise ContractError(f"script {self.name}: parameter {key} is {type(value).__name__}")

    def read(self, answer: object) -> dict[str, Scalar]:
        """Return the checked answer; keys the contract does not know are dropped.

        Raises:
            ContractError: not one hashtable, another script's answer, a key missing, of a wrong type or too long.
        """
        if not isinstance(answer, dict):
            raise ContractError(f"script {self.name}: answered {type(answer).__name__}, expected one hashtable")
        if answer.get("script") != self.name:
            raise ContractError(f"script {self.name}: the answer does not name this script")
        read: dict[str, Scalar] = {}
        for key, wanted in self.answer.items():
            if key in answer:
                read[key] = wanted.read(self.name, key, answer[key])
            elif wanted.required:
                raise ContractError(f"script {self.name}: {key} is missing from the answer")
        for key, value in answer.items():
            for prefix, wanted in self.families.items():
                if isinstance(key, str) and key.startswith(prefix) and key not in read:
                    read[key] = wanted.read(self.name, key, value)
        refused = read.get("refused", "")
        if self.refusals and refused not in {refusal.value for refusal in self.refusals | {Refusal.NONE}}:
            raise ContractError(f"script {self.name}: unknown refusal {str(refused)[:80]!r}")
        return read


_STAGING_REFUSALS: Final = frozenset(
    {
        Refusal.NOT_ADMINISTRATOR,
        Refusal.STAGING_OWNER,
        Refusal.STAGING_REPARSE,
        Refusal.STAGING_ACL,
        Refusal.STAGING_IS_FILE,
    }
)

FACTS: Final = Contract(
    name="facts",
    purpose="Everything a diagnosis needs, in one look; changes nothing.",
    parameters={
        "staging_name": str,
        "kept_name": str,
        "setup_key": str,  # below HKLM, the Setup key of WSUS
        "setup_values": list,  # names of the values to read
        "dll": str,  # path of the DLL below TargetDir
        "default_target": str,  # folder below Program Files, for a Setup key without TargetDir
        "services": list,  # names of services
        "wsus2_product": str,  # MSI product code of WSUS 2.0
        "neighbours": dict,  # name -> key below HKLM
        "suite_key": str,  # below HKLM
        "suite_value": str,
        "policy_key": str,  # below HKLM
        "policy_value": str,
        "policy_switch": str,  # 0 there: no script at all
        "restart_keys": list,  # keys below HKLM whose presence means a pending restart
        "rename_key": str,
        "rename_value": str,
        "start_seconds": int,  # how long a claimed job may take to begin
    },
    answer={
        "computer_name": TEXT,
        "os_version": TEXT,  # "6.0.6002"
        "os_service_pack": NUMBER,
        "os_product_type": NUMBER,  # Win32_OperatingSystem.ProductType: 1 workstation, 2 domain controller, 3 server
        "os_suite_mask": TEXT,  # OSProductSuite, decimal
        "os_suites": TEXT,  # ProductSuite of the registry, one a line
        "os_caption": TEXT,  # localised: shown, never decided by
        "architecture": TEXT,  # of the system: "x86", "x64", "ia64"
        "culture": TEXT,  # of the system's language, "nb-NO"
        "powershell_version": TEXT,
        "boot_time": TEXT,  # "2008-07-01T06:00:00Z"
        "clock": TEXT,  # the server's own, UTC
        "administrator": FLAG,
        "account": TEXT,
        "account_sid": TEXT,
        "authentication": TEXT,  # of the identity: "Kerberos", "NTLM", "Negotiate"
        "restart_keys": TEXT,  # those found, one a line
        "restart_renames": LONG,  # PendingFileRenameOperations, one a line, cut to the limit by the script
        "setup_present": FLAG,
        "wsus2_product": FLAG,
        "dll_path": TEXT,  # "" where there is no WSUS server
        "dll_present": FLAG,
        "dll_version": TEXT,  # file version, four parts; "" where it has none
        "neighbours": TEXT,  # names found, one a line
        "windows_directory": TEXT,
        "staging_path": TEXT,
        "staging_state": TEXT,  # StagingState
        "staging_detail": TEXT,
        "staging_free": TEXT,  # bytes, decimal
        "system_free": TEXT,
        "execution_policy": TEXT,  # set by group policy for the machine; "" for none
        "installer_busy": FLAG,
        "job_id": TEXT,  # newest job there, "" for none
        "job_kind": TEXT,  # name of its script, "" where its claim does not tell
        "job_status": TEXT,  # JobStatus
        "job_phase": TEXT,  # JobPhase of its newest state, "" before the first
        "reset_state": TEXT,  # ResetState
        "upgrade_state": TEXT,  # UpgradeState
        "upgrade_number": TEXT,  # of the newest record of what an upgrade has stopped, "" without one
        "upgrade_record": LONG,  # its text
        "upgrade_setup": LONG,  # text of the mark that setup has ended, and whether it asks for a restart, or ""
        "upgrade_end": LONG,  # text of the mark that WSUS was there at its end, "" without one
        "ran_number": TEXT,  # of the newest record of what ran before a restart, while nobody has seen it run again
        "ran_record": LONG,  # its text, "" without one
        "leftovers": NUMBER,  # files of wsusfix lying in the staging folder
    },
    families={
        "setup_": TEXT,  # setup_VersionString, ...: the registry value as text; absent where the value is
        "service_": TEXT,  # service_wsusservice: "running", "stopped", ...; absent where the service is
    },
)

STAGE: Final = Contract(
    name="stage",
    purpose="Make or check the closed staging folder, and tell what is already there of one file.",
    parameters={"staging_name": str, "sha256": str, "size": str, "name": str, "reserve": str},
    answer={
        **_REFUSED,
        "path": TEXT,  # where the whole file is, or will be
        "complete": FLAG,  # it is there and its hash is right
        "segments": LONG,  # whole segments there: "offset-length", one a line
        "free": TEXT,
    },
    refusals=_STAGING_REFUSALS | {Refusal.NO_SPACE},
)

RECEIVE: Final = Contract(
    name="receive",
    purpose="Write a stretch of a file, segment by segment, from byte arrays in the pipeline's input.",
    # A segment is there as soon as so many bytes of it have come; the last one of the stretch may be shorter.
    parameters={"staging_name": str, "sha256": str, "offset": str, "length": str, "segment": str},
    answer={**_REFUSED, "received": TEXT},
    refusals=_STAGING_REFUSALS | {Refusal.NOT_STAGED, Refusal.SHORT_SEGMENT, Refusal.NO_SPACE},
    takes_input=True,
)

ASSEMBLE: Final = Contract(
    name="assemble",
    purpose="Join the segments of a file, hash the whole, and put it in its place.",
    parameters={"staging_name": str, "sha256": str, "size": str, "name": str},
    answer={**_REFUSED, "path": TEXT, "found_sha256": TEXT},
    refusals=_STAGING_REFUSALS | {Refusal.NOT_STAGED, Refusal.MISSING_SEGMENT, Refusal.HASH_MISMATCH, Refusal.NO_SPACE},
)

START_JOB: Final = Contract(
    name="start_job",
    purpose="Start a job as SYSTEM, or name the one that runs already.",
    parameters={
        "staging_name": str,
        "task_name": str,
        "job_id": str,
        "job_kind": str,  # name of the job's script; its claim tells it
        "job_script": str,
        "job_sha256": str,  # of the script's UTF-8 text with its byte order mark
        "job_parameters": dict,
        "start_seconds": int,
    },
    answer={**_REFUSED, "job_id": TEXT, "job_kind": TEXT, "joined": FLAG},  # of the job that runs now
    refusals=_STAGING_REFUSALS
    | {Refusal.JOB_SCRIPT_CHANGED, Refusal.TASK_NOT_CREATED, Refusal.TASK_NOT_STARTED, Refusal.NO_SPACE},
)

POLL_JOB: Final = Contract(
    name="poll_job",
    purpose="Tell how a job stands, and the states that are newer than the last one known.",
    parameters={"staging_name": str, "job_id": str, "after": int, "start_seconds": int},
    answer={"kind": TEXT, "status": TEXT, "states": LONG, "last": NUMBER, "clock": TEXT},
)

COLLECT_JOB: Final = Contract(
    name="collect_job",
    purpose="Bring back what a job left: tail and hashes of its logs.",
    parameters={
        "staging_name": str,
        "job_id": str,
        "tail": int,  # bytes of the end of the log that is shown
        "first": list,  # names of the logs that come first
        "each": int,  # bytes of the end of each log
        "most": int,  # of all of them together
    },
    answer={
        "log_tail": LONG,
        "logs": LONG,  # "sha256 length name", one a line
    },
    families={"log_": LONG},  # by number of the line, from 1 on: the end of that log
)

WITHDRAW_JOB: Final = Contract(
    name="withdraw_job",
    purpose="Call off the job that waits for its maintenance window; one that is at work is left alone.",
    parameters={"staging_name": str, "start_seconds": int},
    answer={
        **_REFUSED,  # not_waiting: the job, how it stands, and its phase
        "job_id": TEXT,  # of the newest job, "" for none
        "job_kind": TEXT,
        "already": FLAG,  # it had been called off before
    },
    refusals=_STAGING_REFUSALS | {Refusal.NO_JOB, Refusal.NOT_WAITING},
)

CLEANUP: Final = Contract(
    name="cleanup",
    purpose="Remove the task and everything of wsusfix from the server, unless a job runs.",
    parameters={
        "staging_name": str,
        "task_name": str,
        "start_seconds": int,
        "kept_name": str,
        "setup_key": str,  # below HKLM, the Setup key of WSUS
        "server_types": list,  # values of InstallType there that are of a server
        "removal_meant": bool,  # WSUS that its setup has removed is not to come back: that is written down
    },
    answer={**_REFUSED, "removed": LONG, "remaining": LONG},
    refusals=_STAGING_REFUSALS | {Refusal.JOB_RUNNING},
)

#: What every job takes: the maintenance window as times in UTC, "" for none, and its entry in the event log.
_JOB_PARAMETERS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "not_before": str,
        "not_after": str,
        "event_source": str,
        "audit": str,  # what the entry says beyond the result: who asked, plan digest, hash
    }
)
#: What every job takes that runs a package.
_PACKAGE_PARAMETERS: Final[Mapping[str, type]] = MappingProxyType(
    {
        **_JOB_PARAMETERS,
        "package": str,  # path on the server
        "package_sha256": str,
        "program": str,  # "" to run the package itself, else what runs it: "msiexec.exe"
        "arguments": str,  # the whole command line after the program; "{package}" and "{log}" stand for the two paths
        "roots": list,  # thumbprints of root certificates that may stand behind the signature
        "accept_unverifiable": bool,
        "signature_seconds": int,
        "busy_seconds": int,  # how long to wait for another installation (before it, and where one was quicker)
        "still_seconds": int,  # a child that used no processor for so long is told as standing still
    }
)
#: How a job finds a DLL that waits for the next restart.
_RENAME_PARAMETERS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "dll": str,  # path of the DLL whose version is the proof
        "rename_key": str,  # below HKLM; a pending rename of the DLL there is told
        "rename_value": str,
    }
)
#: Which logs of WSUS setup lie elsewhere than in its own TEMP: how their names begin, in which folder below %windir%.
_LOG_PARAMETERS: Final[Mapping[str, type]] = MappingProxyType({"log_names": list, "system_temp": str})
_DATABASE_PARAMETERS: Final[Mapping[str, type]] = MappingProxyType({"server": str, "database": str})
#: Where an upgrade keeps what it has stopped, and how it is seen that WSUS is there.
_RECORD_PARAMETERS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "kept_name": str,
        "setup_key": str,  # below HKLM, the Setup key of WSUS
        "server_types": list,  # values of InstallType there that are of a server
    }
)
#: The states of a job while it waits for its window, in which it can be called off, and when that is over.
_WAITING: Final[Mapping[JobPhase, tuple[str, ...]]] = MappingProxyType(
    {
        JobPhase.WAITING_FOR_WINDOW: ("until",),
        JobPhase.WITHDRAWN: ("account_sid",),  # of whoever called it off; pid and created are the job's own
        JobPhase.WINDOW_OPEN: (),
    }
)
#: How every job may end that waits for its window.
_WAITING_REASONS: Final = frozenset({JobReason.WINDOW_OVER, JobReason.WITHDRAWN})
_LAUNCHING: Final = ("command_line", "signature", "signer", "root", "signed_at")
_INSTALLING: Final = ("child_pid", "child_created", "still")
#: The states of a job that does nothing but run a package, up to its end.
_PACKAGE_STATES: Final[Mapping[JobPhase, tuple[str, ...]]] = MappingProxyType(
    {
        JobPhase.STARTED: ("account_sid",),
        **_WAITING,
        JobPhase.CHECKING_PACKAGE: (),
        JobPhase.CHECKING_SIGNATURE: (),
        JobPhase.WAITING_FOR_INSTALLER: ("waited",),
        JobPhase.LAUNCHING: _LAUNCHING,
        JobPhase.INSTALLING: _INSTALLING,
        JobPhase.INSTALLED: ("exit_code",),
    }
)
_PACKAGE_REASONS: Final = frozenset(
    {
        *_WAITING_REASONS,
        JobReason.DONE,
        JobReason.PACKAGE_MISSING,
        JobReason.PACKAGE_CHANGED,
        JobReason.SIGNATURE_INVALID,
        JobReason.SIGNATURE_UNVERIFIABLE,
        JobReason.INSTALLER_BUSY,
        JobReason.NOT_LAUNCHED,
        JobReason.BROKEN,
    }
)

SURROUNDINGS: Final = Contract(
    name="surroundings",
    purpose="What an upgrade and a backup must know beyond the facts; changes nothing.",
    parameters={
        **_DATABASE_PARAMETERS,  # server "" not to ask it
        "own_programs": list,  # whose connections to the database are WSUS's own, in lower case
        "hierarchy": bool,  # whether to ask WSUS for the servers it belongs to
        "service_roots": list,  # services that would stop, with all that needs them
        "paths": list,  # whose drives matter besides those of the database's files
        "backup_folder": str,  # name below %windir%
        "unverified": str,  # name of the file beside which lies what is no backup
        "seconds": int,  # for which the database may take to answer
    },
    answer={
        "database_trouble": TEXT,  # "" when it answered, or was not asked
        "database_version": TEXT,
        "own_name": TEXT,  # @@SERVERNAME
        "network_name": TEXT,  # SERVERPROPERTY('ServerName')
        "sysadmin": FLAG,
        "nested_triggers": FLAG,
        "database_size": TEXT,  # bytes, decimal
        "database_files": TEXT,  # one a line
        "connections": LONG,  # those that are not WSUS's own, one a line
        "hierarchy_trouble": TEXT,
        "upstream": TEXT,  # "" for Microsoft Update
        "front_ends": TEXT,  # one a line
        "services": LONG,  # those that run and would stop, in the order in which they stop, one a line
        "sites": LONG,  # "number running name" or "number stopped name", one a line
        "sites_trouble": TEXT,
        "drives": LONG,  # "bytes plain path" or "bytes compressed path", one a line
        "backups": LONG,  # "bytes path" of those that were read back, one a line
        "clock": TEXT,
    },
)

INSTALL_UPDATE: Final = Contract(
    name="install_update",
    purpose="The job: check the package once more, run it, and write down how it went.",
    parameters={
        **_PACKAGE_PARAMETERS,
        **_RENAME_PARAMETERS,
        "required_version": str,
        "busy_exit_code": str,  # of an installer that found another one at work: it is run again
    },
    states={
        **_PACKAGE_STATES,
        JobPhase.FINISHED: (
            "reason",
            "detail",
            "exit_code",
            "dll_before",
            "dll_after",
            "pending_rename",
            "event_logged",
        ),
        JobPhase.ABANDONED: (),
    },
    reasons=_PACKAGE_REASONS | {JobReason.ALREADY_FIXED},
)

CHECK_PREREQUISITES: Final = Contract(
    name="check_prerequisites",
    purpose="The job that lets WSUS setup check its prerequisites, and nothing else.",
    parameters={**_PACKAGE_PARAMETERS, **_LOG_PARAMETERS},
    states={
        **_PACKAGE_STATES,
        JobPhase.FINISHED: ("reason", "detail", "exit_code", "event_logged"),
        JobPhase.ABANDONED: (),
    },
    reasons=_PACKAGE_REASONS,
)

BACK_UP_DATABASE: Final = Contract(
    name="back_up_database",
    purpose="The job that backs the database up into a folder of its own and reads the backup back.",
    parameters={
        **_JOB_PARAMETERS,
        **_DATABASE_PARAMETERS,
        "backup_folder": str,  # name below %windir%; each backup has a folder of its own in it
        "unverified": str,  # name of the file that lies in there until it has been read back
        "reserve": str,  # bytes that must stay free
        "backup_seconds": int,  # for the backup, and again for reading it back
    },
    states={
        JobPhase.STARTED: ("account_sid",),
        **_WAITING,
        JobPhase.ASKING_DATABASE: (),
        JobPhase.BACKING_UP: ("path", "size"),  # size of the database; the backup is smaller
        JobPhase.VERIFYING_BACKUP: (),
        JobPhase.FINISHED: ("reason", "detail", "path", "size", "event_logged"),
        JobPhase.ABANDONED: (),
    },
    reasons=frozenset(
        {
            *_WAITING_REASONS,
            JobReason.DONE,
            JobReason.DATABASE_NOT_REACHED,
            JobReason.NO_SPACE,
            JobReason.FOLDER_NOT_CLOSED,
            JobReason.BACKUP_FAILED,
            JobReason.BACKUP_NOT_VERIFIED,
            JobReason.BROKEN,
        }
    ),
)

UPGRADE: Final = Contract(
    name="upgrade",
    purpose="The job that stops IIS and WSUS, runs WSUS setup, and starts again exactly what ran.",
    parameters={
        **_PACKAGE_PARAMETERS,
        **_RENAME_PARAMETERS,
        **_LOG_PARAMETERS,
        **_DATABASE_PARAMETERS,
        **_RECORD_PARAMETERS,
        "version": str,  # VersionString that was planned for
        "release": str,  # how VersionString begins afterwards
        "backup": str,  # path of the backup, for whoever comes later
        "restart_codes": list,  # exit codes that ask for a restart
        "service_roots": list,
        "services": list,  # all that may be stopped: what was named to whoever consented
        "sites": list,  # the same of sites, by number
        "stop_seconds": int,
    },
    states={
        JobPhase.STARTED: ("account_sid",),
        **_WAITING,
        JobPhase.CHECKING_PACKAGE: ("release",),
        JobPhase.CHECKING_SIGNATURE: (),
        JobPhase.WAITING_FOR_INSTALLER: ("waited",),
        JobPhase.STOPPING: ("services", "sites", "idle_sites", "backup", "record"),  # each list divided by "/"
        JobPhase.CHECKING_CONNECTIONS: (),
        JobPhase.LAUNCHING: _LAUNCHING,
        JobPhase.INSTALLING: _INSTALLING,
        JobPhase.INSTALLED: ("exit_code",),
        JobPhase.STARTING_SERVICES: (),
        JobPhase.FINISHED: (
            "reason",
            "detail",
            "exit_code",
            "version_before",
            "version_after",
            "there",
            "pending_rename",
            "not_started",
            "also_running",  # what setup has started that had not run before
            "event_logged",
        ),
        JobPhase.ABANDONED: (),
    },
    reasons=_PACKAGE_REASONS
    | {
        JobReason.KEPT_REFUSED,
        JobReason.OTHER_VERSION,
        JobReason.OTHER_SERVICES,
        JobReason.OTHER_SITES,
        JobReason.NOT_STOPPED,
        JobReason.CONNECTIONS,
    },
)

START_SERVICES: Final = Contract(
    name="start_services",
    purpose="The job that starts again what an upgrade stopped that was cut off, or what ran before a restart.",
    parameters={
        **_RECORD_PARAMETERS,
        "record": str,  # number of the upgrade's record, which is closed when all runs again
        "ran": str,  # number of the record of what ran before a restart, which is closed then, too
        "restart": bool,  # whether setup had asked for a restart
        "rename_key": str,  # below HKLM; what waits there for a restart is kept with the record
        "rename_value": str,
        "services": str,  # the lists as the upgrade wrote them down
        "sites": str,
        "idle_sites": str,
        "stop_seconds": int,
        "event_source": str,
        "audit": str,
    },
    states={
        JobPhase.STARTED: ("account_sid",),
        JobPhase.STARTING_SERVICES: ("services", "sites", "idle_sites", "record"),
        JobPhase.FINISHED: ("reason", "detail", "not_started", "event_logged"),
        JobPhase.ABANDONED: (),
    },
    reasons=frozenset({JobReason.DONE, JobReason.BROKEN}),
)

RESTART: Final = Contract(
    name="restart",
    purpose="The job that restarts the server, when that was asked for.",
    parameters={
        **_JOB_PARAMETERS,
        "busy_seconds": int,
        "kept_name": str,
        "service_roots": list,  # what of them and of all that needs them runs is written down before
        "text": str,  # shown to whoever is logged on
        "delay_seconds": int,
        "restart_seconds": int,  # for which the order counts as about to be carried out
    },
    states={
        JobPhase.STARTED: ("account_sid",),
        **_WAITING,
        JobPhase.WAITING_FOR_INSTALLER: ("waited",),
        JobPhase.RESTARTING: (),
        JobPhase.RESTART_ORDERED: ("event_logged",),
        JobPhase.FINISHED: ("reason", "detail", "event_logged"),
        JobPhase.ABANDONED: (),
    },
    reasons=frozenset(
        {
            *_WAITING_REASONS,
            JobReason.INSTALLER_BUSY,
            JobReason.NOT_RESTARTED,
            JobReason.STILL_UP,
            JobReason.BROKEN,
        }
    ),
)

SEARCH_LOGS: Final = Contract(
    name="search_logs",
    purpose="Search a server's or a client's logs by blocks, and bring back what stands around what is sought.",
    parameters={
        "key": str,  # below HKLM, the Setup key of WSUS; "" for a client, whose log lies in Windows' own folder
        "path_value": str,  # of the key: where the log is said to be
        "target_value": str,  # of the key: where WSUS is
        "default_target": str,  # folder below Program Files, for a key without the latter
        "folders": list,  # below where WSUS is
        "name": str,  # of the log
        "pattern": str,  # what is sought, in one byte a character or two; its group "header" is told
        "before": int,  # characters in front of a hit that belong to it
        "after": int,  # and behind it
        "block": int,  # bytes read at once
        "edge": int,  # bytes of beginning and end that are told of each file
        "most_bytes": str,  # read of all files together, the end of the newest first
        "most_files": int,
        "most_groups": int,  # told of each file, the first two and the last ones
        "most_text": int,  # characters of them that are told of all files together
        "seconds": int,  # then it stops, and says so
    },
    answer={
        "clock": TEXT,
        "utc_offset": NUMBER,  # minutes, of the machine, now
        "named": TEXT,  # where the registry says that the log is, "" where it says nothing
        "places": LONG,  # where the log was looked for, one a line
        "denied": LONG,  # those that cannot be looked at, one a line, each with ": " and why
        "files": NUMBER,
        "left_out": NUMBER,  # files beyond the most
    },
    families={
        # By number, the log itself and then the newest first: path, length, place from which it was read, groups that
        # were left out, the last header, and what went wrong ("time", "changed", or Windows' own words), each on a line
        # of its own.
        "file_": LONG,
        "edges_": LONG,  # the beginning of what was read, and the end
        # Each "start end line length header", a line feed, and so many characters; a byte of the file each, but that
        # the zeros of UTF-16 are left out. Groups that touch are one.
        "groups_": LONG,
    },
)

CLIENT: Final = Contract(
    name="client",
    purpose="What a client's update agent is set to, and whether it would ask for the broken update; changes nothing.",
    parameters={
        "policy_key": str,  # below HKLM, as all keys here
        "server_value": str,
        "automatic_key": str,
        "uses_server_value": str,
        "disabled_value": str,
        "options_value": str,  # of the former key, and of the next
        "own_key": str,
        "service": str,
        "office_keys": list,  # any of them is a mark of Office 2003
    },
    answer={
        "computer_name": TEXT,
        "clock": TEXT,
        # Registry values as text, "" where there is none.
        "server": TEXT,
        "uses_server": TEXT,
        "disabled": TEXT,
        "policy_options": TEXT,
        "own_options": TEXT,
        "service": TEXT,  # "running", "stopped", ...; "" where there is none
        "office": FLAG,
    },
)

DETECT_NOW: Final = Contract(
    name="detect_now",
    purpose="The job: ask a client's update agent to look for updates now.",
    parameters={
        "program": str,  # below System32
        "arguments": str,
        "seconds": int,  # how long it is waited for; it goes on by itself
    },
    states={
        JobPhase.STARTED: ("account_sid",),
        JobPhase.LAUNCHING: ("command_line",),
        JobPhase.FINISHED: ("reason", "detail", "exit_code"),
        JobPhase.ABANDONED: (),
    },
    reasons=frozenset({JobReason.DONE, JobReason.NOT_LAUNCHED, JobReason.BROKEN}),
)

APPROVALS: Final = Contract(
    name="approvals",
    purpose="What WSUS says of itself and of some updates, and what earlier resets kept; changes nothing.",
    # Runs in the session, as the account that connects: its role is told, and the job asks again as SYSTEM.
    parameters={
        "kept_name": str,
        "title": str,
        "kb": str,  # number of an article
        "ids": list,  # of updates to look at whatever they are called
        "url": str,  # of the web service that clients call, "" not to ask it
    },
    answer={
        "trouble": TEXT,  # why WSUS could not be asked, "" when it was; nothing of it is told then
        "role": TEXT,  # UpdateServerUserRole
        "state": TEXT,  # of the configuration: "Ready", "ProcessingSave", "SynchronizationInProgress"
        "replica": FLAG,
        "automatic": FLAG,  # whether it synchronises by a timetable
        "upstream": TEXT,
        "front_ends": TEXT,  # names, one a line; "" where it cannot be told
        "updates": LONG,  # one a line: id, revisions with a comma, declined, approvals, articles with a comma, title
        "cut": FLAG,  # there were more updates than are told
        "reset_state": TEXT,  # ResetState
        "saved": RECORD,  # the newest record, all that a job writes into one
        "marker": RECORD,
        "web_service": TEXT,  # HTTP status, or what kept it from answering; "" when it was not asked
    },
)

RESET_APPROVALS: Final = Contract(
    name="reset_approvals",
    purpose="The job: save the approvals of updates, reset them, put back what had to be switched for it.",
    parameters={
        **_JOB_PARAMETERS,
        "kept_name": str,
        "revisions": dict,  # id of an update -> its newest revision, decimal; empty only to go the way back
        "ready_seconds": int,  # how long a synchronisation, or somebody's saving, is waited for each time
        "restore_seconds": int,  # for how long what was switched is tried to be put back, whatever fails
    },
    states={
        JobPhase.STARTED: ("account_sid",),
        # Told on the way back of an earlier run, and again on this one's own.
        JobPhase.RESTORING: ("waited", "trouble"),
        JobPhase.RESTORED_FIRST: ("record", "replica", "automatic"),
        **_WAITING,
        JobPhase.WAITING_FOR_WSUS: ("waited", "state"),
        JobPhase.SAVED: ("record", "approvals"),
        JobPhase.SUSPENDED: (),
        JobPhase.SWITCHED: (),
        JobPhase.DECLINED: ("update_id",),
        JobPhase.APPROVED: ("update_id",),
        JobPhase.TREATED: ("update_id",),
        JobPhase.MARKED: (),
        JobPhase.RESTORED: ("replica", "automatic"),
        JobPhase.FINISHED: ("reason", "detail", "record", "approvals", "treated", "wsus_logged", "event_logged"),
        JobPhase.ABANDONED: (),
    },
    reasons=frozenset(
        {
            *_WAITING_REASONS,
            JobReason.DONE,
            JobReason.KEPT_REFUSED,
            JobReason.NOT_WSUS_ADMINISTRATOR,
            JobReason.WSUS_NOT_READY,
            JobReason.UPDATES_CHANGED,
            JobReason.TOO_MANY_APPROVALS,
            JobReason.NOT_SWITCHED,
            JobReason.RESET_REFUSED,
            JobReason.NOT_TREATED,
            JobReason.NOT_RESTORED,
            JobReason.BROKEN,
        }
    ),
)

#: Every contract by its script's name.
CONTRACTS: Final[Mapping[str, Contract]] = MappingProxyType(
    {
        contract.name: contract
        for contract in (
            FACTS,
            SEARCH_LOGS,
            SURROUNDINGS,
            CLIENT,
            APPROVALS,
            STAGE,
            RECEIVE,
            ASSEMBLE,
            START_JOB,
            POLL_JOB,
            COLLECT_JOB,
            WITHDRAW_JOB,
            CLEANUP,
            INSTALL_UPDATE,
            CHECK_PREREQUISITES,
            BACK_UP_DATABASE,
            UPGRADE,
            START_SERVICES,
            RESTART,
            DETECT_NOW,
            RESET_APPROVALS,
        )
    }
)

#: The contracts of the jobs, by kind.
JOBS: Final[Mapping[str, Contract]] = MappingProxyType(
    {name: contract for name, contract in CONTRACTS.items() if contract.is_job}
)
