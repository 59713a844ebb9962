"""What a server told us: one probe's answer, parsed and checked into frozen data.

Everything here is as the server said it; what it *means* (exposed, fixed, unknown) is decided in ``diagnosis``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from packaging.version import Version

from wsusfix import advisory
from wsusfix.advisory import Architecture, InstallType, Product
from wsusfix.facts.answers import AnswerReader
from wsusfix.facts.approvals import Approvals, look_parameters, not_asked, parse_approvals
from wsusfix.options import Timeouts, whole_seconds
from wsusfix.present import Presentable, bytes_text, printable, rows
from wsusfix.scripts.contracts import (
    KEPT_NAME,
    RESET_APPROVALS,
    RESTART,
    STAGING_NAME,
    UPGRADE,
    JobPhase,
    JobStatus,
    ResetState,
    Scalar,
    StagingState,
    UpgradeState,
)

__all__ = [
    "AnswerReader",
    "Approvals",
    "Database",
    "DatabasePlace",
    "HostFacts",
    "JobFacts",
    "OperatingSystem",
    "PendingRestart",
    "RestartRecord",
    "Session",
    "Staging",
    "UpgradeRecord",
    "WsusInstallation",
    "approvals_parameters",
    "not_asked",
    "parse",
    "parse_version",
    "probe_parameters",
    "read_approvals",
]


#: Clock and boot time are told in whole seconds.
_ROUNDED: Final = timedelta(seconds=2)


class DatabasePlace(str, enum.Enum):
    """Where SUSDB lives, seen from the WSUS server."""

    EMBEDDED = "embedded"
    LOCAL = "local"
    REMOTE = "remote"
    UNKNOWN = "unknown"


@dataclass(frozen=True, repr=False)
class OperatingSystem(Presentable):
    """The Windows release, decided by numbers only; ``caption`` is the server's own, localised name for it."""

    version: Version
    service_pack: int
    product_type: int
    suite_mask: int
    suites: tuple[str, ...]
    caption: str
    architecture: Architecture | None
    culture: str

    @property
    def release(self) -> Version:
        """Major and minor: 5.2 is Server 2003, 6.0 Server 2008, 6.1 Server 2008 R2."""
        return Version(f"{self.version.major}.{self.version.minor}")

    @property
    def small_business(self) -> bool:
        """Whether it is a Small Business Server (*recalled* way of telling)."""
        return any(suite in advisory.SBS_SUITES for suite in self.suites)

    @property
    def workstation(self) -> bool:
        """Whether it is no server system at all."""
        return self.product_type == advisory.WORKSTATION

    @property
    def name(self) -> str:
        """The release's name in English."""
        known = advisory.SERVER_NAMES.get((self.version.major, self.version.minor))
        if self.workstation or known is None:
            return f"Windows {self.version.major}.{self.version.minor}"
        return f"{known} (Small Business Server)" if self.small_business else known

    def _extra(self) -> Mapping[str, object]:
        return {"name": self.name, "small_business": self.small_business}

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        pack = f" SP{self.service_pack}" if self.service_pack else ""
        processor = self.architecture.value if self.architecture else "unknown processor"
        return f"{self.name}{pack} {processor} ({self.version}, {self.culture})"


@dataclass(frozen=True, repr=False)
class Database(Presentable):
    """The WSUS database: its place, and server and name as the registry gives them."""

    place: DatabasePlace
    server: str
    name: str

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.place.value} ({self.server or 'no server named'})"


@dataclass(frozen=True, repr=False)
class WsusInstallation(Presentable):
    """WSUS as it stands on the server; an absent one has no install type, no version and no DLL.

    ``content`` is the folder of the updates' files, ``wmsde`` what Setup wrote down of an embedded database engine;
    ``front_ends`` names every server that shares the database; ``None`` means that nobody asked.
    """

    present: bool
    install_type: InstallType | None
    install_type_raw: str
    version: Version | None
    version_raw: str
    target: str
    dll_path: str
    dll_present: bool
    dll_version: Version | None
    wsus2_product: bool
    database: Database | None
    services: Mapping[str, str] = field(default_factory=dict)
    content: str = ""
    wmsde: bool = False
    front_ends: tuple[str, ...] | None = None
    port: str = ""
    ssl: bool = False

    @property
    def serves(self) -> bool:
        """Whether a WSUS server is installed, or may be: then it has logs."""
        return (self.present and self.install_type is not InstallType.CONSOLE) or self.wsus2_product

    @property
    def is_server(self) -> bool:
        """Whether a WSUS server of any generation is installed, by what its Setup key says."""
        return self.present and self.install_type not in (None, InstallType.CONSOLE)

    @property
    def product(self) -> Product | None:
        """The generation by major and minor of ``VersionString``, or ``None`` for one nobody knows."""
        if self.version is None:
            return None
        if self.version.major == advisory.WSUS_2_MAJOR:
            return Product.WSUS_2
        if self.version.major in advisory.LATER_MAJORS:
            return Product.LATER
        return advisory.PRODUCT_BY_RELEASE.get((self.version.major, self.version.minor))

    def _extra(self) -> Mapping[str, object]:
        return {"product": self.product}

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if not self.present:
            return "WSUS 2.0 (by its MSI product)" if self.wsus2_product else "not installed"
        if self.install_type is InstallType.CONSOLE:
            return f"console only ({printable(self.version_raw, 40)})"
        name = self.product.value if self.product else "WSUS of an unknown build"
        return f"{name} ({printable(self.version_raw, 40) or 'no version'})"


@dataclass(frozen=True, repr=False)
class Session(Presentable):
    """Who we are on the server, and how we got in."""

    account: str
    sid: str
    authentication: str
    administrator: bool
    powershell_version: str
    execution_policy: str

    def _summary(self) -> str:
        return self.account

    def __str__(self) -> str:
        role = "administrator" if self.administrator else "no administrator"
        return f"{self.account} ({role}, {self.authentication})"


@dataclass(frozen=True, repr=False)
class PendingRestart(Presentable):
    """What waits for the next restart: marks of Windows' own servicing, and files to be renamed."""

    keys: tuple[str, ...]
    renames: tuple[str, ...]

    @property
    def pending(self) -> bool:
        """Whether anything at all waits."""
        return bool(self.keys or self.renames)

    def concerns(self, path: str) -> bool:
        """Whether a file to be renamed at the next restart is, or becomes, *path*."""
        wanted = path.lower()
        renamed = (item.lower().lstrip("!*1234567890").removeprefix("\\??\\") for item in self.renames)
        return bool(wanted) and wanted in renamed

    def _extra(self) -> Mapping[str, object]:
        return {"pending": self.pending}

    def _summary(self) -> str:
        return "pending" if self.pending else "none"

    def __str__(self) -> str:
        return f"pending ({len(self.keys)} marks, {len(self.renames)} renames)" if self.pending else "none"


@dataclass(frozen=True, repr=False)
class Staging(Presentable):
    """The folder in which everything of a run lies on the server."""

    path: str
    state: StagingState
    detail: str
    free: int
    system_free: int
    leftovers: int

    def _summary(self) -> str:
        return f"{self.path} {self.state.value}"

    def __str__(self) -> str:
        return f"{self.path} ({self.state.value}, {bytes_text(self.free)} free)"


@dataclass(frozen=True, repr=False)
class JobFacts(Presentable):
    """The newest job of wsusfix on the server; ``kind`` is the name of its script, ``""`` where nothing tells it."""

    job_id: str
    kind: str
    status: JobStatus
    phase: str

    @property
    def active(self) -> bool:
        """Whether it runs, or is about to: then it is joined, and no second one is started."""
        return self.status in (JobStatus.RUNNING, JobStatus.CLAIMED)

    @property
    def waits_for_window(self) -> bool:
        """Whether it waits until its maintenance window opens, and has changed nothing yet.

        One that was withdrawn is still at work until it has seen that, and changes nothing either.
        """
        return self.active and self.phase in (JobPhase.WAITING_FOR_WINDOW.value, JobPhase.WITHDRAWN.value)

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        kind = f" ({self.kind})" if self.kind else ""
        return f"{self.job_id}{kind} {self.status.value}" + (f" in {self.phase}" if self.phase else "")


@dataclass(frozen=True, repr=False)
class UpgradeRecord(Presentable):
    """What the newest upgrade has stopped, as its job wrote it down before, and how far the way back has gone.

    It outlives the job, and whatever else of a run is cleaned up.

    Args:
        number: of the record, in the folder that keeps it.
        state: how far the way back has gone.
        job_id: of the upgrade.
        time: when it was about to stop them, by the server's own clock.
        version: ``VersionString`` before.
        services: that ran, divided by ``/``, in the order in which they stopped.
        sites: that ran, by number.
        idle_sites: that did not run.
        backup: path of the database's backup, ``""`` without one.
        restart: whether setup has asked for a restart.
        setup: when setup has ended; ``None`` where it did not, or nobody saw it.
        ended: when WSUS was seen there at the upgrade's end; ``None`` when nobody saw it.
        boot: when the server had been started, as told when setup's wish was last written down.
        waits: the files that waited for a restart then, in one line.
    """

    number: int
    state: UpgradeState
    job_id: str
    time: str
    version: str
    services: str
    sites: str
    idle_sites: str
    backup: str
    restart: bool
    ended: datetime | None
    waits: str = ""
    setup: datetime | None = None
    boot: datetime | None = None

    @property
    def names(self) -> str:
        """The services that were stopped, for people."""
        return _named(self.services)

    @property
    def file(self) -> str:
        """Where it lies, for people."""
        return f"%windir%\\{KEPT_NAME}\\{self.number:05d}.upgrade"

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"of {self.version or 'an unknown version'} at {self.time}, services {self.names}: {self.state.value}"


@dataclass(frozen=True, repr=False)
class RestartRecord(Presentable):
    """What ran of IIS and WSUS right before a restart, as its job wrote it down, and was not seen to run again.

    It outlives the job, and whatever else of a run is cleaned up.

    Args:
        number: of the record, in the folder that keeps it.
        job_id: of the restart.
        time: when it was written, right before the restart was ordered, by the server's own clock.
        boot: when the server had been started then.
        services: that ran, divided by ``/``, in the order in which they have to stop.
        sites: that ran, by number.
        idle_sites: that did not run.
    """

    number: int
    job_id: str
    time: datetime
    boot: datetime
    services: str
    sites: str
    idle_sites: str

    @property
    def names(self) -> str:
        """The services that ran, for people."""
        return _named(self.services)

    @property
    def file(self) -> str:
        """Where it lies, for people."""
        return f"%windir%\\{KEPT_NAME}\\{self.number:05d}.restart"

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"at {self.time:%Y-%m-%d %H:%M:%S} UTC, services {self.names}"


@dataclass(frozen=True, repr=False)
class HostFacts(Presentable):
    """Everything one look at a server gave; ``host`` is the name it was asked by, ``computer_name`` its own.

    ``reset`` says whether an earlier reset of approvals left something; ``approvals`` is ``None`` where nobody asked
    WSUS; ``upgrade`` is what the newest upgrade has stopped here, ``None`` where none ever did; ``ran`` is what ran
    before a restart, ``None`` once it was seen to run again.
    """

    host: str
    computer_name: str
    os: OperatingSystem
    wsus: WsusInstallation
    session: Session
    restart: PendingRestart
    staging: Staging
    job: JobFacts | None
    neighbours: tuple[str, ...]
    installer_busy: bool
    boot_time: datetime
    clock: datetime
    reset: ResetState = ResetState.NONE
    approvals: Approvals | None = None
    upgrade: UpgradeRecord | None = None
    ran: RestartRecord | None = None

    @property
    def upgrading(self) -> bool:
        """Whether an upgrade is at work: what it has stopped, it starts again itself."""
        return self.job is not None and self.job.active and self.job.kind == UPGRADE.name

    @property
    def standing_still(self) -> bool:
        """Whether what an upgrade has stopped was not all started again, and no upgrade is at work that does it."""
        stopped = self.upgrade is not None and self.upgrade.state is UpgradeState.STOPPED
        return stopped and not self.upgrading

    @property
    def removed(self) -> bool:
        """Whether WSUS has not been there since an upgrade of it was begun: its setup has removed it."""
        record = self.upgrade
        if record is None or record.ended is not None or record.state is UpgradeState.SETTLED or self.upgrading:
            return False
        return not self.wsus.is_server

    @property
    def restarted_unseen(self) -> bool:
        """Whether a restart took place after which nobody has seen to what ran before."""
        ran = self.ran
        if ran is None or (self.job is not None and self.job.active and self.job.kind == RESTART.name):
            return False
        # Either of the two says so by itself; both are told in whole seconds.
        shorter = self.clock - self.boot_time + _ROUNDED < ran.time - ran.boot
        return shorter or self.boot_time >= ran.time

    @property
    def restart_due(self) -> bool:
        """Whether work on WSUS waits for a restart: its DLL's replacement, or what its setup has asked for."""
        return self.restart.concerns(self.wsus.dll_path) or self.restart_asked

    @property
    def restart_asked(self) -> bool:
        """Whether WSUS setup has asked for a restart, and there was none since, as far as anybody can tell."""
        record = self.upgrade
        if record is None or not record.restart:
            return False
        # What a setup asked for that has removed WSUS is of no interest to the one that is installed after it.
        if self.removed or record.state in (UpgradeState.OPEN, UpgradeState.SETTLED):
            return False
        told = record.ended or record.setup
        if told is None:
            return False
        if self.boot_time == record.boot and self.boot_time < told:
            return True
        # A clock that is corrected moves the time of the last start; what a restart would have taken away it leaves.
        waited = " ".join(record.waits.split())
        still = bool(waited) and " ".join(" ".join(self.restart.renames).split()).startswith(waited)
        return self.restart.pending and (self.boot_time < told or still)

    @property
    def resetting(self) -> bool:
        """Whether a job is at work that resets approvals: what it has switched, it puts back itself."""
        return self.job is not None and self.job.active and self.job.kind == RESET_APPROVALS.name

    @property
    def cut_off(self) -> bool:
        """Whether a reset of approvals was cut off: the server may be switched still."""
        return self.reset is ResetState.OPEN and not self.resetting

    def with_approvals(self, approvals: Approvals) -> HostFacts:
        """Return these facts with what WSUS says of the update in question."""
        told = approvals.front_ends or self.wsus.front_ends
        wsus = replace(self.wsus, front_ends=told)
        return replace(self, wsus=wsus, approvals=approvals, reset=approvals.reset)

    def _summary(self) -> str:
        return f"{self.host}: {self.os.name}, {self.wsus}"

    def __str__(self) -> str:
        wsus = self.wsus
        return f"{self.host}\n" + rows(
            [
                ("computer", self.computer_name),
                ("system", self.os),
                ("WSUS", wsus),
                ("proof DLL", wsus.dll_version or ("no file version" if wsus.dll_present else "")),
                ("database", wsus.database or ""),
                ("services", ", ".join(f"{name} {state}" for name, state in wsus.services.items())),
                ("beside it", ", ".join(advisory.NEIGHBOUR_NAMES.get(name, name) for name in self.neighbours)),
                ("session", self.session),
                ("restart", self.restart),
                ("staging", self.staging),
                ("job", self.job or ""),
                ("upgrade", self.upgrade or ""),
                ("before the restart", self.ran or ""),
                ("approvals", f"\n{self.approvals}" if self.approvals else ""),
            ]
        )


def probe_parameters(timeouts: Timeouts) -> dict[str, Any]:
    """Return the parameters of the ``facts`` script: which keys, values, files and services to look at."""
    return {
        "staging_name": STAGING_NAME,
        "kept_name": KEPT_NAME,
        "setup_key": advisory.SETUP_KEY,
        "setup_values": list(advisory.SETUP_VALUES),
        "dll": advisory.CLIENT_DLL,
        "default_target": advisory.DEFAULT_TARGET,
        "services": list(advisory.SERVICES),
        "wsus2_product": advisory.WSUS_2_PRODUCT,
        "neighbours": dict(advisory.NEIGHBOUR_KEYS),
        "suite_key": advisory.SUITE_KEY,
        "suite_value": advisory.SUITE_VALUE,
        "policy_key": advisory.POLICY_KEY,
        "policy_value": advisory.POLICY_VALUE,
        "policy_switch": advisory.POLICY_SWITCH,
        "restart_keys": list(advisory.RESTART_KEYS),
        "rename_key": advisory.RENAME_KEY,
        "rename_value": advisory.RENAME_VALUE,
        "start_seconds": whole_seconds(timeouts.start),
    }


def parse_version(text: str) -> Version | None:
    """Return *text* as a version of four numeric parts, or ``None``; never a guess.

    >>> parse_version("3.1.6001.66")
    <Version('3.1.6001.66')>
    >>> parse_version("3.1") is None
    True
    """
    parts = text.strip().split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts):
        return None
    return Version(".".join(str(int(part)) for part in parts))


def parse(host: str, answer: Mapping[str, Scalar]) -> HostFacts:
    """Turn the checked answer of the ``facts`` script into facts.

    Raises:
        AnswerError: a value that no server can have (a size that is no number, a time that is none).
    """
    read = AnswerReader(host, answer)
    architecture = read.text("architecture")
    version = read.text("os_version")
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in version.split(".")):
        raise read.broken("os_version", version)
    job_id = printable(read.text("job_id"), 40)
    return HostFacts(
        host=host,
        computer_name=printable(read.text("computer_name"), 80),
        os=OperatingSystem(
            version=Version(version),
            service_pack=read.number("os_service_pack"),
            product_type=read.number("os_product_type"),
            suite_mask=read.count("os_suite_mask"),
            suites=read.lines("os_suites"),
            caption=printable(read.text("os_caption"), 160),
            architecture=Architecture(architecture) if architecture in set(Architecture) else None,
            culture=printable(read.text("culture"), 40),
        ),
        wsus=_wsus(read),
        session=Session(
            account=printable(read.text("account"), 160),
            sid=printable(read.text("account_sid"), 200),
            authentication=printable(read.text("authentication"), 40),
            administrator=read.flag("administrator"),
            powershell_version=printable(read.text("powershell_version"), 40),
            execution_policy=printable(read.text("execution_policy"), 40),
        ),
        restart=PendingRestart(keys=read.lines("restart_keys"), renames=read.lines("restart_renames")),
        staging=Staging(
            path=printable(read.text("staging_path"), 260),
            state=read.one_of("staging_state", StagingState),
            detail=printable(read.text("staging_detail")),
            free=read.count("staging_free"),
            system_free=read.count("system_free"),
            leftovers=read.number("leftovers"),
        ),
        job=JobFacts(
            job_id,
            kind=printable(read.text("job_kind"), 40),
            status=read.one_of("job_status", JobStatus),
            phase=printable(read.text("job_phase"), 40),
        )
        if job_id
        else None,
        neighbours=tuple(name for name in read.lines("neighbours") if name in advisory.NEIGHBOUR_KEYS),
        installer_busy=read.flag("installer_busy"),
        boot_time=read.time("boot_time"),
        clock=read.time("clock"),
        reset=read.one_of("reset_state", ResetState),
        upgrade=_upgrade_record(read),
        ran=_restart_record(read),
    )


def _upgrade_record(read: AnswerReader) -> UpgradeRecord | None:
    state = read.one_of("upgrade_state", UpgradeState)
    record, setup, end = (_values(read.text(f"upgrade_{key}")) for key in ("record", "setup", "end"))
    number = read.text("upgrade_number")
    if state is UpgradeState.NONE:
        return None
    if not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise read.broken("upgrade_number", number)
    # What was written down last tells most.
    last, key = (end, "upgrade_end") if end else (setup, "upgrade_setup")
    lists = {key: printable(record.get(key, ""), 2000) for key in ("services", "sites", "idle_sites", "backup")}
    return UpgradeRecord(
        number=int(number),
        state=state,
        job_id=printable(record.get("job_id", ""), 40),
        time=printable(record.get("time", ""), 40),
        version=printable(record.get("version", ""), 80),
        **lists,
        restart=last.get("restart") == "true",
        ended=_moment(read, "upgrade_end", end.get("time", "")) if end else None,
        waits=printable(last.get("waits", ""), 2000),
        setup=_moment(read, "upgrade_setup", setup.get("time", "")) if setup else None,
        boot=_moment(read, key, last["boot"]) if "boot" in last else None,
    )


def _restart_record(read: AnswerReader) -> RestartRecord | None:
    number, record = read.text("ran_number"), _values(read.text("ran_record"))
    if not number:
        return None
    if not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise read.broken("ran_number", number)
    lists = {key: printable(record.get(key, ""), 2000) for key in ("services", "sites", "idle_sites")}
    return RestartRecord(
        number=int(number),
        job_id=printable(record.get("job_id", ""), 40),
        time=_moment(read, "ran_record", record.get("time", "")),
        boot=_moment(read, "ran_record", record.get("boot", "")),
        **lists,
    )


def _moment(read: AnswerReader, key: str, text: str) -> datetime:
    """Read a time as the scripts write it.

    Raises:
        AnswerError: it is none.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        raise read.broken(key, text) from None


def _named(services: str) -> str:
    """Services divided by ``/``, for people."""
    return ", ".join(name for name in services.split("/") if name) or "none"


def _values(text: str) -> dict[str, str]:
    """Read lines of key=value."""
    pairs = (line.partition("=") for line in text.replace("\r", "").split("\n"))
    return {key: value for key, divided, value in pairs if divided}


def _wsus(read: AnswerReader) -> WsusInstallation:
    present = read.flag("setup_present")
    raw_type = read.text("setup_InstallType")
    known_types = {str(int(kind)): kind for kind in InstallType}
    version = read.text("setup_VersionString")
    return WsusInstallation(
        present=present,
        install_type=known_types.get(raw_type),
        install_type_raw=printable(raw_type, 40),
        version=parse_version(version),
        version_raw=printable(version, 80),
        target=read.text("setup_TargetDir"),
        dll_path=read.text("dll_path"),
        dll_present=read.flag("dll_present"),
        dll_version=parse_version(read.text("dll_version")),
        wsus2_product=read.flag("wsus2_product"),
        database=_database(read) if present else None,
        port=printable(read.text("setup_PortNumber"), 10),
        ssl=read.text("setup_UsingSSL") == "1",
        services={
            name: printable(read.text(f"service_{name}"), 40) for name in advisory.SERVICES if f"service_{name}" in read
        },
        content=read.text("setup_ContentDir"),
        wmsde=read.text("setup_WmsdeInstalled") == "1",
    )


def _database(read: AnswerReader) -> Database:
    """Tell where the database is from ``SqlServerName``: never used to connect, only to decide what is possible."""
    server = read.text("setup_SqlServerName")
    # As SQL Server's clients write it: [protocol:]machine[\\instance][,port], or a pipe.
    bare = server.lower().strip()
    for protocol in ("tcp:", "np:", "lpc:"):
        bare = bare.removeprefix(protocol)
    pipe = bare.startswith("\\\\")
    machine, _, instance = bare.lstrip("\\").partition("\\")
    machine = machine.partition(",")[0]
    own = read.text("computer_name").lower()
    is_own = machine in ("", ".", "(local)", "localhost", "%computername%", own)
    is_own = is_own or bool(own and machine.startswith(own + "."))
    embedded = bare == advisory.EMBEDDED_PIPE if pipe else instance == advisory.EMBEDDED_INSTANCE.lower()
    if is_own and embedded:
        place = DatabasePlace.EMBEDDED
    elif not server:
        place = DatabasePlace.UNKNOWN
    else:
        place = DatabasePlace.LOCAL if is_own else DatabasePlace.REMOTE
    return Database(place=place, server=printable(server, 160), name=printable(read.text("setup_SqlDatabaseName"), 160))


def approvals_parameters(facts: HostFacts, update_ids: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters of the ``approvals`` script: where to look, and for which updates."""
    return look_parameters(update_ids=update_ids, port=facts.wsus.port, ssl=facts.wsus.ssl)


def read_approvals(host: str, answer: Mapping[str, Scalar]) -> Approvals:
    """Turn the checked answer of the ``approvals`` script into facts.

    Raises:
        AnswerError: a value that no server can have.
    """
    return parse_approvals(AnswerReader(host, answer))
