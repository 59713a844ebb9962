"""Every documented fact about advisory 954960 and its surroundings, once, each with its source.

Facts are read from Microsoft's advisory 954960 ("advisory"), Knowledge Base article 954960 ("KB954960"), the product's
own registry and type library ("product"), or Windows' documentation; a fact that nobody could show a copy of is marked
*recalled*, and no recalled fact alone makes a server safe.  This module decides nothing: it is data.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final

from packaging.version import Version

# --- names ----------------------------------------------------------------------------------------------------------

#: The advisory's and the update's number (advisory 954960; KB954960).
ADVISORY: Final = "954960"
UPDATE_KB: Final = "954960"
SOURCE_ADVISORY: Final = "Microsoft security advisory 954960"
SOURCE_KB: Final = "KB954960"
#: Title of the update whose approvals are inconsistent on an affected server (advisory 954960, workaround).
BROKEN_UPDATE_TITLE: Final = "Office 2003 Service Pack 1"
#: Number of that update's own article; without an English title it finds candidates, for an operator to confirm
#: (the update's metadata).
BROKEN_UPDATE_ARTICLE: Final = "842532"
#: What else is called so in part, and is not it (Office 2003's other updates; *recalled*, for the simulated servers).
NEAR_TITLES: Final = (
    "Office 2003 Service Pack 1 Multilingual User Interface Pack",
    "Visio 2003 Service Pack 1",
    "OneNote 2003 Service Pack 1",
    "Project 2003 Service Pack 1",
)
#: What tells the packs for other languages from the update itself (*recalled*; one too many is only left untreated).
NEAR_WORD: Final = "Multilingual"
#: Where the workaround by hand and by the programming interface is described (advisory 954960, workarounds; WSUS SDK).
#: The SDK (``IUpdate.Approve``) says that "a block approval" cannot be made for all computers; whether ``NotApproved``
#: is one nobody could try, so that the reset falls back to the computers of no group.
SOURCE_WORKAROUND: Final = "Microsoft security advisory 954960, workaround"
#: From this day the packages elevate themselves (KB954960, revision history: re-released 1 August 2008).
REVISED_PACKAGES: Final = date(2008, 8, 1)


class Architecture(str, enum.Enum):
    """A processor architecture as setup packages name it."""

    X86 = "x86"
    X64 = "x64"
    IA64 = "ia64"


class Product(str, enum.Enum):
    """A generation of WSUS, by the major and minor part of ``VersionString`` (product)."""

    WSUS_2 = "WSUS 2.0"
    RTM = "WSUS 3.0 RTM"
    SP1 = "WSUS 3.0 SP1"
    SP2 = "WSUS 3.0 SP2"
    LATER = "WSUS of Windows Server 2012 or later"


#: Major and minor of ``VersionString`` to product; 2.x and 6.x/10.x are told by their major alone (product; the
#: generations before 3.2 and after it are *recalled*, so what is called safe by them needs a second witness).
PRODUCT_BY_RELEASE: Final[Mapping[tuple[int, int], Product]] = MappingProxyType(
    {(3, 0): Product.RTM, (3, 1): Product.SP1, (3, 2): Product.SP2}
)
WSUS_2_MAJOR: Final = 2
LATER_MAJORS: Final = (6, 10)
#: WSUS became a part of Windows with Server 2012, which is Windows 6.2 (Windows).
FIRST_OS_WITH_WSUS_INSIDE: Final = Version("6.2")

#: Version strings of untouched installations (SP2: product, sure; the others *recalled*).
VERSION_STRINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "2.0": "2.0.0.2472",
        "2.0 SP1": "2.0.0.2620",
        "3.0 RTM": "3.0.6000.374",
        "3.0 SP1": "3.1.6001.65",
        "3.0 SP2": "3.2.7600.226",
    }
)

# --- the proof ------------------------------------------------------------------------------------------------------

#: The DLL below ``TargetDir`` whose *file* version is the proof (KB954960, file information).
CLIENT_DLL: Final = r"WebServices\ClientWebService\bin\Microsoft.UpdateServices.WebServices.Client.Dll"
#: File version of the fixed DLL; equal or higher is fixed (KB954960, file information).
FIXED_DLL: Final = Version("3.1.6001.66")
#: SP2's copies of the DLL carry file versions from this one on, though the product is 3.2 (product).
SP2_DLL: Final = Version("3.1.7600.0")
#: Default folder below Program Files, for a Setup key without ``TargetDir`` (product).
DEFAULT_TARGET: Final = "Update Services"

# --- where WSUS stands on a server ----------------------------------------------------------------------------------

#: Below HKLM, native view (product).
SETUP_KEY: Final = r"SOFTWARE\Microsoft\Update Services\Server\Setup"
SETUP_VALUES: Final = (
    "InstallType",
    "VersionString",
    "TargetDir",
    "ContentDir",
    "SqlServerName",
    "SqlDatabaseName",
    "PortNumber",
    "UsingSSL",
    "IISTargetWebSiteIndex",
    "LogFilePath",
    "LogLevel",
    "WmsdeInstalled",
)

#: Of these: where WSUS is, and where its log is said to be (product).
TARGET_VALUE: Final = "TargetDir"
LOG_PATH_VALUE: Final = "LogFilePath"


class InstallType(enum.IntEnum):
    """``InstallType`` of the Setup key (product)."""

    SERVER_3 = 1
    CONSOLE = 2
    FRONT_END_2 = 32
    BACK_END_2 = 64
    FULL_2 = 128


INSTALL_TYPES_2: Final = frozenset({InstallType.FRONT_END_2, InstallType.BACK_END_2, InstallType.FULL_2})
#: MSI product of WSUS 2.0; WSUS 3.0 has none (product).
WSUS_2_PRODUCT: Final = "{A0D46DC6-8950-451A-8990-53C86E17666E}"
#: The services a WSUS 3.0 server needs: its own, and IIS (product).
WSUS_SERVICE: Final = "wsusservice"
IIS_SERVICE: Final = "w3svc"
DATABASE_NAME: Final = "SUSDB"
SERVICES: Final = (WSUS_SERVICE, IIS_SERVICE)
#: The web service that clients call, below the site of WSUS (product).
CLIENT_WEB_SERVICE: Final = "ClientWebService/Client.asmx"
#: The role that may decline, approve and save (WSUS SDK, UpdateServerUserRole).
ADMINISTRATOR_ROLE: Final = "Administrator"
#: The state in which a configuration may be saved (WSUS SDK, UpdateServerConfigurationState).
READY_STATE: Final = "Ready"
#: Instance of the embedded database, and how it is reached (product).
EMBEDDED_INSTANCE: Final = "MICROSOFT##SSEE"
EMBEDDED_PIPE: Final = r"\\.\pipe\mssql$microsoft##ssee\sql\query"
#: How Setup writes the name of the instance of WSUS 2.0's own database engine, WMSDE (*recalled*).
WMSDE_INSTANCE: Final = "WSUS"

# --- neighbours -----------------------------------------------------------------------------------------------------

#: Products that may stand on this WSUS, by a key below HKLM (*recalled*; only ever named, never decided by).
NEIGHBOUR_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "configmgr": r"SOFTWARE\Microsoft\SMS",
        "essentials": r"SOFTWARE\Microsoft\System Center Essentials",
    }
)
NEIGHBOUR_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"configmgr": "Configuration Manager", "essentials": "System Center Essentials"}
)
#: Where and how Small Business Server names itself (*recalled*).
SUITE_KEY: Final = r"SYSTEM\CurrentControlSet\Control\ProductOptions"
SUITE_VALUE: Final = "ProductSuite"
SBS_SUITES: Final = ("Small Business", "Small Business(Restricted)")

# --- Windows --------------------------------------------------------------------------------------------------------

#: The scheduler of Windows before 6.0 ends what it has started after three days, and its schtasks has no switch for
#: that (Task Scheduler 1.0, ``ITask::SetMaxRunTime``; that 2003 keeps the default of 72 hours is *recalled*).
#: Nor has it one for power: on battery such a task is not begun, and it is ended where mains fails ("Set power
#: management options for a scheduled task", Windows Server 2003; that a task of schtasks has both set is *recalled*).
OLD_SCHEDULER_BEFORE: Final = Version("6.0")
OLD_SCHEDULER_ENDS: Final = timedelta(hours=72)

#: Group policy's execution policy for the machine (Windows, about_Group_Policy_Settings).
POLICY_KEY: Final = r"SOFTWARE\Policies\Microsoft\Windows\PowerShell"
POLICY_VALUE: Final = "ExecutionPolicy"
#: The same policy's other value: 0 where it is set to allow no script at all, and then the first one is absent.
POLICY_SWITCH: Final = "EnableScripts"
#: Policies that keep an unsigned script file from running, whatever the command line says (about_Execution_Policies).
BLOCKING_POLICIES: Final = frozenset({"allsigned", "restricted"})
#: Keys below HKLM whose presence means that a restart is pending (Windows).
RESTART_KEYS: Final = (
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired",
)
RENAME_KEY: Final = r"SYSTEM\CurrentControlSet\Control\Session Manager"
RENAME_VALUE: Final = "PendingFileRenameOperations"


@dataclass(frozen=True)
class SupportedSystem:
    """A Windows release on which WSUS 3.0 SP1 and its update run."""

    name: str
    release: Version
    minimum_service_pack: int
    architectures: frozenset[Architecture]


#: WSUS 3.0 SP1 runs on Server 2003 SP1 and later and on Server 2008, not on 2008 R2 (WSUS 3.0 SP1 release notes).
SUPPORTED_SYSTEMS: Final = (
    SupportedSystem("Windows Server 2003", Version("5.2"), 1, frozenset({Architecture.X86, Architecture.X64})),
    SupportedSystem("Windows Server 2008", Version("6.0"), 1, frozenset({Architecture.X86, Architecture.X64})),
)
#: Names of Windows Server releases by major and minor (Windows).
SERVER_NAMES: Final[Mapping[tuple[int, int], str]] = MappingProxyType(
    {
        (5, 0): "Windows 2000 Server",
        (5, 2): "Windows Server 2003",
        (6, 0): "Windows Server 2008",
        (6, 1): "Windows Server 2008 R2",
        (6, 2): "Windows Server 2012",
        (6, 3): "Windows Server 2012 R2",
        (10, 0): "Windows Server 2016 or later",
    }
)
#: Win32_OperatingSystem.ProductType of a workstation (Windows).
WORKSTATION: Final = 1
#: What a job needs beside the package itself: room for the self-extractor's files and logs, in bytes (own estimate).
STAGING_RESERVE: Final = 256 * 1024 * 1024
SYSTEM_RESERVE: Final = 512 * 1024 * 1024

# --- the package ----------------------------------------------------------------------------------------------------

#: File names (*recalled*): shown as an example only.
PACKAGE_NAMES: Final[Mapping[Architecture, str]] = MappingProxyType(
    {Architecture.X86: "WSUS-KB954960-x86.exe", Architecture.X64: "WSUS-KB954960-x64.exe"}
)
#: No package is larger, in bytes: the offsets in a program's headers are 32 bits wide (PE Format), and Windows starts
#: none beyond them; setup of WSUS 3.0 SP2, the largest there is, has less than 100 MB.
LARGEST_PACKAGE: Final = 2**32 - 1
#: Silent switches by kind. Sibling WSUS patches run as ``/q LOGFILE`` (KB2720211, command line); for Windows
#: Installer: msiexec's documentation. ``{package}`` and ``{log}`` are filled in on the server.
EXE_ARGUMENTS: Final = "/q {log}"
MSI_ARGUMENTS: Final = "/i {package} /qn /norestart /l*v {log}"
MSP_ARGUMENTS: Final = "/p {package} /qn /norestart /l*v {log}"
MSIEXEC: Final = "msiexec.exe"
#: SHA-1 thumbprints of the roots behind Microsoft's code signatures (*recalled*; a signature that ends elsewhere is
#: refused, and a valid one alone never lets a package through: it must also name the update or be pinned).
MICROSOFT_ROOTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "A43489159A520F0D93D032CCAF37E7FE20A8B419": "Microsoft Root Authority",
        "CDD4EEAE6000AC7F40C3802C171E30148030C072": "Microsoft Root Certificate Authority",
        "3B1EFD3A66EA28B16697394703A72CA340A05BD5": "Microsoft Root Certificate Authority 2010",
        "8F43288AD272F3103B6FB1428485EA3014C0BCFE": "Microsoft Root Certificate Authority 2011",
    }
)

# --- exit codes -----------------------------------------------------------------------------------------------------


class ExitMeaning(str, enum.Enum):
    """What an installer's exit code says, as far as it decides what comes next."""

    INSTALLED = "installed"
    RESTART_NEEDED = "restart_needed"
    RESTART_BEGUN = "restart_begun"
    BUSY = "busy"
    CANCELLED = "cancelled"
    FATAL = "fatal"
    BAD_PACKAGE = "bad_package"
    FORBIDDEN = "forbidden"
    WRONG_PLATFORM = "wrong_platform"
    OTHER_VERSION = "other_version"
    NO_TARGET = "no_target"
    SETUP_REFUSED = "setup_refused"
    SETUP_FAILED = "setup_failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ExitCode:
    """An exit code of Windows Installer or WSUS setup: what it means and what to do (Windows Installer error codes)."""

    code: int
    meaning: ExitMeaning
    text: str
    advice: str


#: Exit codes that the program or the lab goes by (Windows Installer error codes).
EXIT_INSTALLED: Final = 0
EXIT_FATAL: Final = 1603
EXIT_BUSY: Final = 1618
EXIT_PACKAGE_NOT_OPENED: Final = 1619
EXIT_BAD_PACKAGE: Final = 1620
EXIT_WRONG_PLATFORM: Final = 1633
EXIT_PATCH_NOT_OPENED: Final = 1635
EXIT_BAD_PATCH: Final = 1636
EXIT_BAD_COMMAND_LINE: Final = 1639
EXIT_RESTART_BEGUN: Final = 1641
EXIT_NO_TARGET: Final = 1642
EXIT_RESTART_NEEDED: Final = 3010

_CODES: Final = (
    ExitCode(EXIT_INSTALLED, ExitMeaning.INSTALLED, "installed", ""),
    ExitCode(
        EXIT_RESTART_NEEDED,
        ExitMeaning.RESTART_NEEDED,
        "installed, a restart is needed",
        "restart the server, then verify",
    ),
    ExitCode(5202, ExitMeaning.RESTART_NEEDED, "installed, a restart is needed", "restart the server, then verify"),
    ExitCode(
        EXIT_RESTART_BEGUN,
        ExitMeaning.RESTART_BEGUN,
        "installed, the restart has begun",
        "wait for the server, then verify",
    ),
    ExitCode(
        EXIT_BUSY, ExitMeaning.BUSY, "another installation was running all the time", "let it end, then run again"
    ),
    ExitCode(1602, ExitMeaning.CANCELLED, "the installer was cancelled", "look at its log, then run again"),
    ExitCode(EXIT_FATAL, ExitMeaning.FATAL, "a fatal error in the installer", "look at the end of its log"),
    ExitCode(1612, ExitMeaning.BAD_PACKAGE, "the installation source is not available", "use the original package"),
    ExitCode(
        EXIT_PACKAGE_NOT_OPENED, ExitMeaning.BAD_PACKAGE, "the package could not be opened", "use the original package"
    ),
    ExitCode(EXIT_BAD_PACKAGE, ExitMeaning.BAD_PACKAGE, "the package could not be opened", "use the original package"),
    ExitCode(
        EXIT_PATCH_NOT_OPENED, ExitMeaning.BAD_PACKAGE, "the patch could not be opened", "use the original package"
    ),
    ExitCode(EXIT_BAD_PATCH, ExitMeaning.BAD_PACKAGE, "the patch is not valid", "use the original package"),
    ExitCode(
        1625,
        ExitMeaning.FORBIDDEN,
        "forbidden by system policy",
        "allow the installation in the server's software policy",
    ),
    ExitCode(
        1643,
        ExitMeaning.FORBIDDEN,
        "the patch is forbidden by system policy",
        "allow patches in Windows Installer policy",
    ),
    ExitCode(
        EXIT_WRONG_PLATFORM,
        ExitMeaning.WRONG_PLATFORM,
        "the package is for another processor",
        "use the right architecture",
    ),
    ExitCode(1638, ExitMeaning.OTHER_VERSION, "another version is installed already", "diagnose again"),
    ExitCode(
        EXIT_NO_TARGET, ExitMeaning.NO_TARGET, "what the patch mends is not there", "only WSUS 3.0 SP1 can be patched"
    ),
    # WSUS setup's own (WSUS 3.0 deployment guide, "Setup Return Codes"); what to do is our word.
    ExitCode(
        5200,
        ExitMeaning.SETUP_REFUSED,
        "setup's launch conditions are not met",
        "read WSUSSetup.log for the condition, meet it, then run again",
    ),
    ExitCode(5201, ExitMeaning.SETUP_FAILED, "setup failed for an unknown reason", "read WSUSSetup.log"),
    ExitCode(
        5203,
        ExitMeaning.SETUP_REFUSED,
        "setup does not take its command line",
        "is the package really WSUS setup for a service pack?",
    ),
    ExitCode(
        5204,
        ExitMeaning.SETUP_REFUSED,
        "the SQL server is too old",
        "bring it to SQL Server 2005 SP1 or later, then run again",
    ),
    ExitCode(
        5205,
        ExitMeaning.SETUP_REFUSED,
        "the SQL server has nested triggers turned off",
        "turn on its option 'nested triggers', then run again",
    ),
    ExitCode(5206, ExitMeaning.SETUP_REFUSED, "the content path is not valid", "mend the content folder of WSUS"),
    ExitCode(
        5207, ExitMeaning.SETUP_REFUSED, "the content path is on the network", "move the content to a local drive"
    ),
    ExitCode(5208, ExitMeaning.SETUP_REFUSED, "the content path is not on NTFS", "move the content to an NTFS drive"),
    ExitCode(
        5209, ExitMeaning.SETUP_REFUSED, "the content path is not on a fixed drive", "move the content to a fixed drive"
    ),
    ExitCode(5210, ExitMeaning.SETUP_REFUSED, "there is no NTFS drive", "WSUS needs an NTFS drive"),
    ExitCode(
        5211,
        ExitMeaning.SETUP_REFUSED,
        "there is too little space for the content",
        "free 6 GB on the drive of the content folder, then run again",
    ),
    ExitCode(
        5212,
        ExitMeaning.SETUP_REFUSED,
        "setup wants the server and the port of a replica's upstream",
        "run setup by hand: it takes this server for a new replica",
    ),
    ExitCode(
        5213,
        ExitMeaning.SETUP_REFUSED,
        "setup refuses the upstream server's name",
        "correct the upstream server's name",
    ),
    ExitCode(
        5216,
        ExitMeaning.SETUP_REFUSED,
        "setup's check of its prerequisites failed",
        "WSUSPreReqCheck.xml beside setup's logs names what is missing: install it, then run again",
    ),
    ExitCode(
        5217,
        ExitMeaning.SETUP_REFUSED,
        "the database is too old to be upgraded",
        "there is no way from this version to the service pack: see the release notes",
    ),
    ExitCode(
        5218,
        ExitMeaning.SETUP_REFUSED,
        "setup wants to be told that it upgrades",
        "is the package really WSUS setup for a service pack?",
    ),
)
EXIT_CODES: Final[Mapping[int, ExitCode]] = MappingProxyType({known.code: known for known in _CODES})


def exit_code(code: int) -> ExitCode:
    """Return what *code* means; an unknown one has the meaning ``UNKNOWN``."""
    return EXIT_CODES.get(
        code, ExitCode(code, ExitMeaning.UNKNOWN, f"exit code {code}", "look at the end of the installer's log")
    )


# --- the upgrade ----------------------------------------------------------------------------------------------------

SOURCE_SETUP: Final = "WSUS 3.0 deployment guide, upgrade"


@dataclass(frozen=True)
class Upgrade:
    """A service pack of WSUS 3.0 as what an upgrade leads to.

    Args:
        name: as operators say it.
        product: what stands on the server afterwards.
        release: major and minor of ``VersionString`` then, and of setup's own file version (*recalled* for setup).
        kb: the number by which its package names itself, ``""`` for none.
        carries_fix: whether the fault is gone with it (advisory 954960: SP2 carries the fix).
        packages: file names, shown as examples only.
        systems: on which it runs (release notes).
    """

    name: str
    product: Product
    release: tuple[int, int]
    kb: str
    carries_fix: bool
    packages: Mapping[Architecture, str]
    systems: tuple[SupportedSystem, ...]


#: SP1 does not run on 2008 R2, SP2 does (release notes of both).
UPGRADES: Final[Mapping[str, Upgrade]] = MappingProxyType(
    {
        "3.0 SP1": Upgrade(
            "3.0 SP1",
            Product.SP1,
            (3, 1),
            "",
            carries_fix=False,
            packages=MappingProxyType(
                {Architecture.X86: "WSUSSetup-x86.exe", Architecture.X64: "WSUSSetup-x64.exe"},
            ),
            systems=SUPPORTED_SYSTEMS,
        ),
        "3.0 SP2": Upgrade(
            "3.0 SP2",
            Product.SP2,
            (3, 2),
            "972455",
            carries_fix=True,
            packages=MappingProxyType(
                {Architecture.X86: "WSUS30-KB972455-x86.exe", Architecture.X64: "WSUS30-KB972455-x64.exe"},
            ),
            systems=(
                *SUPPORTED_SYSTEMS,
                SupportedSystem("Windows Server 2008 R2", Version("6.1"), 0, frozenset({Architecture.X64})),
            ),
        ),
    }
)
#: How WSUS setup calls its product in its version resource (*recalled*: it recognises a package, and where it does not
#: the operator pins or vouches; which version stands afterwards is read from the server).
SETUP_NAME: Final = "Windows Server Update Services"
#: Setup's switches: silent; upgrade; check the prerequisites and nothing else (deployment guide).
SETUP_ARGUMENTS: Final = "/q /g"
PREREQUISITE_ARGUMENTS: Final = "/q /p"
#: How the names of setup's logs begin, in the ``%TEMP%`` of whoever runs it, and where that is for the services that
#: SYSTEM runs, below ``%windir%`` (deployment guide; Windows).
SETUP_LOGS: Final = ("WSUSSetup", "WSUSCa_", "WSUSPreReqCheck")
#: Those of them that tell most: how it ended, and which prerequisites it missed.
SETUP_LOGS_FIRST: Final = ("WSUSSetup.log", "WSUSPreReqCheck.xml")
SYSTEM_TEMP: Final = "Temp"
#: The services of IIS that stop with ``iisreset /stop``: these, and what depends on them (Windows).
IIS_SERVICES: Final = ("iisadmin", "was", "w3svc")
#: Programs of this server whose connections to the database are WSUS's own, and vanish with its stop (product).
WSUS_PROCESSES: Final = frozenset({"wsusservice.exe", "w3wp.exe"})
#: Free space that setup wants, in bytes: on the system drive and on the database's (deployment guide).
SETUP_SYSTEM_SPACE: Final = 1 << 30
SETUP_DATABASE_SPACE: Final = 2 << 30
#: Microsoft's order for several front ends on one database (*recalled* from articles on later WSUS packages, which
#: agree with the deployment guide); printed, never carried out.
FRONT_ENDS_UPGRADE: Final = (
    "suspend load balancing, and stop IIS and wsusservice on every front end",
    "make sure that nothing else is connected to the database",
    "back up the database",
    "upgrade the front ends one after the other, never two at the same time, and read WSUSSetup.log after each",
    "start IIS and wsusservice on every front end, then load balancing",
)

#: The way back after a setup that removed WSUS (deployment guide, "restore the database"; wording is ours).
RESTORE: Final = (
    f"stop IIS and wsusservice, restore the backup over {DATABASE_NAME} (RESTORE DATABASE ... WITH REPLACE), "
    "and start them again"
)

# --- WinRM ----------------------------------------------------------------------------------------------------------

#: Microsoft's order for several front ends on one database, as far as this update goes (KB954960: every front end).
FRONT_ENDS_TEXT: Final = "every front end that shares the database needs the update; the fault is gone when all have it"

# --- clients of updates ---------------------------------------------------------------------------------------------

#: Below HKLM: where group policy names the server of updates, and how automatic updates are set (Windows, update
#: services registry settings): ``UseWUServer`` 1 uses that server, ``NoAutoUpdate`` 1 turns them off, ``AUOptions`` 1,
#: in either key, too.
CLIENT_POLICY_KEY: Final = r"SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate"
CLIENT_SERVER_VALUE: Final = "WUServer"
CLIENT_AUTOMATIC_KEY: Final = r"SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU"
CLIENT_OWN_KEY: Final = r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update"
CLIENT_USES_SERVER_VALUE: Final = "UseWUServer"
CLIENT_DISABLED_VALUE: Final = "NoAutoUpdate"
CLIENT_OPTIONS_VALUE: Final = "AUOptions"
CLIENT_OPTIONS_OFF: Final = 1
CLIENT_SERVICE: Final = "wuauserv"
#: The agent's program below ``System32``, and how it is asked to look for updates now (Windows).
CLIENT_PROGRAM: Final = "wuauclt.exe"
CLIENT_DETECT_NOW: Final = "/detectnow"
OFFICE_2003: Final = "Office 2003"
#: Left by any product or component of Office 2003, whose version is 11.0 (*recalled*; an absent key proves nothing, a
#: present one only says that a client is worth asking).
OFFICE_2003_KEYS: Final = (
    r"SOFTWARE\Microsoft\Office\11.0\Common\InstallRoot",
    r"SOFTWARE\Wow6432Node\Microsoft\Office\11.0\Common\InstallRoot",
)

# --- what the logs say ----------------------------------------------------------------------------------------------

#: The two logs (advisory 954960, "how do I know"): the client's below ``%windir%``, the server's in one of these
#: folders of ``TargetDir`` (product: ``LogFiles``; the advisory writes it in two words), or where the Setup key's
#: ``LogFilePath`` says. WSUS begins a new server log when one has so many bytes (product).
CLIENT_LOG: Final = "WindowsUpdate.log"
SERVER_LOG: Final = "SoftwareDistribution.log"
SERVER_LOG_FOLDERS: Final = ("LogFiles", "Log Files")
SERVER_LOG_ROLLOVER: Final = 20_000_000
#: The client's side of a failed call: five lines of one process and thread (advisory 954960 and KB954960, client
#: sample). The error alone proves nothing: it stands for any SOAP fault of the server.
CLIENT_ERROR: Final = "0x8024400E"
CLIENT_HTTP_STATUS: Final = 200
CLIENT_SOAP_FAULT: Final = 0x190
SERVER_ERROR_CODE: Final = "InternalServerError"
CLIENT_METHOD: Final = "ClientWebService/SyncUpdates"
#: What stands in front of the fault, its code and the call's ID (same samples; around the first, words are translated).
CLIENT_FAULT_LABEL: Final = "SOAP"
CLIENT_CODE_LABEL: Final = "ErrorCode"
CLIENT_ID_LABEL: Final = "ID:"
#: The first line that an update agent writes when it starts; it gives the time zone as ``tz: -0600`` (Windows).
CLIENT_LOG_HEADER: Final = "Logging initialized"
#: How a client logs that it looks for updates, that it asks its server for them (advisory 954960, client sample; the
#: first also in Windows' own logs), and that it came through (*recalled*; read as success only together with the
#: others, and only where no error is logged in between).
CLIENT_SEARCH: Final = "Agent: Finding updates"
CLIENT_SYNC: Final = "PT: Synchronizing server updates"
CLIENT_FOUND: Final = "Found"
#: Around the first: ``** START **`` and ``** END **``, the latter behind ``Exit code = 0x...`` where it failed. Of the
#: protocol's component ``PT`` every warning counts, and it names the server as ``Server URL = `` (as above).
CLIENT_BEGINS: Final = "START"
CLIENT_ENDS: Final = "END"
CLIENT_EXIT_CODE: Final = "xit code"
CLIENT_WARNING: Final = "WARNING"
CLIENT_PROTOCOL: Final = "PT"
CLIENT_URL: Final = "Server URL"
#: The server's side: an exception of this type, from this method, through these two frames; then the line of the SOAP
#: fault with the same ID that the client shows (advisory 954960, server sample). .NET's sentences are translated,
#: names are not.
SERVER_EXCEPTION: Final = "System.ArgumentException"
SERVER_METHOD: Final = "ClientImplementation.SyncUpdates"
SERVER_FRAME_INSERT: Final = "System.Collections.Hashtable.Insert"
SERVER_FRAME_SYNC: Final = "ClientImplementation.GetSyncInfo"
SERVER_FAULT_SOURCE: Final = "SoapUtilities.CreateException"
