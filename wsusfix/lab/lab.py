"""The lab: servers and clients are stood up here, and packages for them written.

This module knows which servers there are to be had, and how the parts of one are put together; what each part does,
others know.
"""

from __future__ import annotations

import itertools
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from wsusfix import advisory
from wsusfix.lab import packages
from wsusfix.lab.accounts import Account
from wsusfix.lab.approvals import CATALOGUES
from wsusfix.lab.engine import Engine
from wsusfix.lab.faults import one_of
from wsusfix.lab.filesystem import (
    ADMINISTRATORS,
    AUTHENTICATED_USERS,
    EVERYONE,
    SYSTEM_SID,
    USERS,
    Security,
    Token,
)
from wsusfix.lab.host import Host
from wsusfix.lab.http import Quotas
from wsusfix.lab.installer import Installer
from wsusfix.lab.releases import CLIENT_RELEASES, PROGRAM_FILES, RELEASES, Release
from wsusfix.lab.update_logs import ENCODINGS, AgentProgram, ServerLog, UpdateAgent
from wsusfix.lab.windows import Machine, System
from wsusfix.lab.wsus import DATABASES, GENERATIONS, Wsus

__all__ = ["Host", "Lab"]

#: What can run the scripts in place of their transcription.
ENGINES: Final = ("pwsh",)
_DOMAIN: Final = "LAB"
_USER: Final = "admin"
#: Of one process, not of one lab: the NTLM acceptor knows one password for an account in a process.
_PASSWORD: Final = secrets.token_urlsafe(18)
_SID: Final = "S-1-5-21-954960-2008-701-1001"
_WORKSTATION: Final = 1
#: A client has looked for updates so many hours ago when it is stood up: automatic updates do about once a day.
_DETECTIONS: Final = (45, 23)


class Lab:
    """Simulated servers on loopback, for as long as the ``with`` block lasts.

    Args:
        engine: ``None`` to answer the scripts by their transcription in Python; ``"pwsh"`` to let a PowerShell run
            them, the one that ``WSUSFIX_PWSH`` names or ``pwsh`` on the path.  Only what Windows itself does is
            simulated then.

    Raises:
        ValueError: there is no such engine.
        EngineError: it is not at hand.
    """

    def __init__(self, engine: str | None = None) -> None:
        if engine is not None:
            one_of("engine", engine, ENGINES)
        self._engine = Engine() if engine is not None else None
        self._hosts: dict[str, Host] = {}
        self._folder: Path | None = None
        self._numbers = itertools.count(1)
        self._port = 0
        self._closed = False

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lab({', '.join(self._hosts)})"

    @property
    def engine(self) -> Engine | None:
        """The PowerShell that runs the scripts; ``None`` where they are answered in Python."""
        return self._engine

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The servers, in the order in which they were added."""
        return tuple(self._hosts.values())

    def add_server(
        self,
        name: str,
        *,
        os: str = "Windows Server 2008",
        arch: str | None = None,
        wsus: str | None = "3.0 SP1",
        service_pack: int | None = None,
        culture: str = "en-US",
        database: str = "embedded",
        neighbours: Sequence[str] = (),
        administrator: bool = True,
        session_allowed: bool = False,
        pending_restart: bool = False,
        free_space: int | None = None,
        execution_policy: str | None = None,
        powershell_version: str = "2.0",
        clock_offset: float = 0.0,
        log_folder: str | None = advisory.SERVER_LOG_FOLDERS[0],
        replica: bool = False,
        upstream: str = "",
        catalogue: str = "usual",
        front_ends: Sequence[str] = (),
        roles: tuple[str, str] = ("Administrator", "Administrator"),
        quotas: Quotas | None = None,
    ) -> Host:
        """Stand up a server and open its endpoint.

        Args:
            name: the computer's name.
            os: "Windows Server 2003", "Windows Server 2008", "Windows Server 2008 R2" or "Small Business Server 2003".
            arch: "x86" or "x64"; ``None`` for the usual one of *os*.
            wsus: ``None``, "console", "2.0", "2.0 SP1", "3.0 RTM", "3.0 SP1", "3.0 SP1 KB954960" or "3.0 SP2".
            service_pack: of Windows; ``None`` for the last one.
            culture: of the installed language: "en-US", "nb-NO", "de-DE" or "ja-JP".
            database: "embedded", "local" or "remote".
            neighbours: of "configmgr" and "essentials".
            administrator: whether the account is one; if not, WinRM refuses its shell.
            session_allowed: let the account in nevertheless, as a changed session configuration would.
            pending_restart: whether Windows waits for a restart.
            free_space: bytes free on the system drive.
            execution_policy: set by group policy, "AllSigned" for example.
            powershell_version: that the endpoint poses as.
            clock_offset: seconds by which the server's clock is wrong.
            log_folder: in which WSUS writes its log: a name below where WSUS is, or a path; ``None`` for no log at all.
            replica: whether its WSUS is a replica of *upstream*.
            upstream: name of the server that it synchronises with; ``""`` for Microsoft Update.
            catalogue: what its WSUS holds: "usual" (the update with approvals and an older revision, and near titles),
                "near titles only", "no English titles", "declined" (untreated), "two" or "empty".
            front_ends: names of the servers that share its database, itself among them; empty for one that is alone.
            roles: in WSUS, of the account and of the system itself: "Administrator", "Reporter" or "Unauthorized".
            quotas: of WinRM, in place of those of its version.

        Raises:
            ValueError: there is no such thing, or it does not go together with the rest.
            OSError: no address and port could be had on loopback.
        """
        release = RELEASES[one_of("os", os, RELEASES)]
        if wsus is not None:
            one_of("wsus", wsus, GENERATIONS)
            one_of("wsus", wsus, release.generations, os)
        one_of("database", database, DATABASES)
        one_of("catalogue", catalogue, CATALOGUES)
        if replica and not upstream:
            raise ValueError("a replica has an upstream server: give upstream")
        for neighbour in neighbours:
            one_of("neighbour", neighbour, advisory.NEIGHBOUR_KEYS)
        host = self._host(
            name,
            os,
            release,
            arch=arch,
            service_pack=service_pack,
            culture=culture,
            wsus=wsus,
            database=database,
            neighbours=neighbours,
            administrator=administrator,
            session_allowed=session_allowed,
            log_folder=log_folder,
            catalogue=catalogue,
            replica=replica,
            upstream=upstream,
            front_ends=front_ends,
        )
        machine = host.machine
        machine.wsus_roles = roles
        machine.powershell_version = powershell_version
        machine.clock_offset = clock_offset
        machine.boot_time += clock_offset
        machine.registry.set(advisory.SUITE_KEY, **{advisory.SUITE_VALUE: list(release.suites)})
        if pending_restart:
            # The first mark came with Server 2008.
            machine.registry.set(advisory.RESTART_KEYS[0 if machine.system.elevates else 1])
        if execution_policy is not None:
            # What allows no script at all has no value that says which.
            none = execution_policy.lower() == "restricted"
            machine.registry.set(advisory.POLICY_KEY, **{advisory.POLICY_SWITCH: int(not none)})
            if not none:
                machine.registry.set(advisory.POLICY_KEY, **{advisory.POLICY_VALUE: execution_policy})
        if host.wsus.serves and log_folder is not None:
            host.log = ServerLog(machine, host.wsus.log_path)
            for hours in (47, 24, 1):
                host.log.ordinary(_ago(machine, hours))
        if free_space is not None:
            machine.files.drive("C:\\").free = free_space
        self._open(host, quotas)
        self._hosts[name] = host
        return host

    def add_client(
        self,
        name: str,
        *,
        server: Host | str | None = None,
        os: str = "Windows XP",
        arch: str | None = None,
        service_pack: int | None = None,
        culture: str = "en-US",
        office_2003: bool = True,
        automatic_updates: bool = True,
        utc_offset: int = 0,
        encoding: str = "ansi",
        clock_offset: float = 0.0,
        quotas: Quotas | None = None,
    ) -> Host:
        """Stand up a client of updates and open its endpoint; it has looked for updates twice before.

        Args:
            name: the computer's name.
            server: whose updates it gets: a server of this lab, or the address of one that is not there.
            os: "Windows XP", "Windows Vista", or a system that :meth:`add_server` takes.
            arch: "x86" or "x64"; ``None`` for the usual one of *os*.
            service_pack: of Windows; ``None`` for the last one.
            culture: of the installed language, as for :meth:`add_server`.
            office_2003: whether it has Office 2003, or a component of it.
            automatic_updates: whether they are on; if not, it does not look for updates even when asked to.
            utc_offset: minutes by which its local time is ahead of UTC.
            encoding: of its log: "ansi", "utf-8" or "utf-16".
            clock_offset: seconds by which its clock is wrong.
            quotas: of WinRM, in place of those of its version.

        Raises:
            ValueError: there is no such thing, or it does not go together with the rest.
            OSError: no address and port could be had on loopback.
        """
        releases = {**CLIENT_RELEASES, **RELEASES}
        release = releases[one_of("os", os, releases)]
        one_of("encoding", encoding, ENCODINGS)
        host = self._host(
            name,
            os,
            release,
            arch=arch,
            service_pack=service_pack,
            culture=culture,
            product_type=_WORKSTATION if os in CLIENT_RELEASES else 3,
        )
        machine = host.machine
        machine.utc_offset, machine.clock_offset = utc_offset, clock_offset
        machine.boot_time += clock_offset
        address = f"http://{server.name}/" if isinstance(server, Host) else server or ""
        _set_up_updates(machine, address, office_2003=office_2003, automatic_updates=automatic_updates)
        host.agent = UpdateAgent(
            machine,
            address=address,
            reach=lambda: (server.wsus, server.log, server.machine) if isinstance(server, Host) else None,
            encoding=encoding,
        )
        host.agent.office_2003, host.agent.works = office_2003, automatic_updates
        machine.programs = AgentProgram(host.agent)
        host.agent.start(_ago(machine, _DETECTIONS[0] + 1))
        for hours in _DETECTIONS:
            host.agent.detect(_ago(machine, hours))
        self._open(host, quotas)
        self._hosts[name] = host
        return host

    def _host(
        self,
        name: str,
        os: str,
        release: Release,
        *,
        arch: str | None,
        service_pack: int | None,
        culture: str,
        product_type: int = 3,
        **more: Any,
    ) -> Host:
        """Put a machine together, without its endpoint.

        Raises:
            ValueError: there is no such thing, or it does not go together with the rest.
        """
        if self._closed:
            raise ValueError("this lab is closed")
        if not name or name in self._hosts:
            raise ValueError(f"a server needs a name that no other has, not {name!r}")
        arch = arch or release.architectures[-1]
        one_of("arch", arch, release.architectures, os)
        service_pack = release.service_pack if service_pack is None else service_pack
        one_of("service_pack", service_pack, release.builds, os)
        one_of("culture", culture, PROGRAM_FILES)
        return _stand_up(
            name,
            System(
                os,
                release.builds[service_pack],
                service_pack,
                release.caption,
                release.suites,
                release.suite_mask,
                release.windows_directory,
                product_type,
            ),
            release.profiles,
            arch=arch,
            culture=culture,
            engine=self._engine,
            **more,
        )

    def package(
        self,
        name: str = advisory.PACKAGE_NAMES[advisory.Architecture.X64],
        *,
        arch: str = "x64",
        size: int = 2 << 20,
        exit_code: int = 0,
        **more: Any,
    ) -> Path:
        """Write a stand-in of the update's package on the local disk; it is gone with the lab.

        Args:
            name: of the file; its suffix says which kind it is.
            arch: processor that it is for.
            size: in bytes.
            exit_code: with which its installer ends where nothing else speaks against it.
            more: as :func:`wsusfix.lab.packages.write_stand_in` takes it.
        """
        if self._closed:
            raise ValueError("this lab is closed")
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="wsusfix-lab-"))
        # A folder for each, so that one of the same name does not take the place of an earlier one.
        folder = self._folder / str(next(self._numbers))
        return packages.write_stand_in(folder, name, arch=arch, size=size, exit_code=exit_code, **more)

    def setup_package(
        self, name: str | None = None, *, target: str = "3.0 SP1", arch: str = "x64", size: int = 1 << 20, **more: Any
    ) -> Path:
        """Write a stand-in of WSUS setup for a service pack on the local disk; it is gone with the lab.

        Args:
            name: of the file; ``None`` for Microsoft's own.
            target: "3.0 SP1" or "3.0 SP2".
            arch: processor that it is for.
            size: in bytes.
            more: as :func:`wsusfix.lab.packages.write_stand_in` takes it, ``exit_code`` and ``removes`` among them.
        """
        usual = advisory.UPGRADES[one_of("target", target, advisory.UPGRADES)].packages
        name = usual[advisory.Architecture(arch)] if name is None else name
        return self.package(name, arch=arch, size=size, setup=target, **more)

    def close(self) -> None:
        """End all servers and remove the packages; again is allowed."""
        self._closed = True
        for host in self._hosts.values():
            host.close()
        if self._engine is not None:
            self._engine.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _open(self, host: Host, quotas: Quotas | None) -> None:
        """Give *host* an address of its own and the port of the others, as far as that can be had."""
        number = len(self._hosts) + 2
        address = f"127.0.{number // 250}.{number % 250 or 250}"
        for place, port in ((address, self._port), (address, 0)):
            try:
                host.listen(place, port, quotas=quotas)
                break
            except OSError:
                continue  # the port is taken there, or loopback has one address only
        else:
            host.listen("127.0.0.1", 0, quotas=quotas)
        self._port = self._port or host.connection["port"]


def _ago(machine: Machine, hours: float) -> datetime:
    """So many hours before now, by the machine's clock."""
    return datetime.fromtimestamp(machine.now(), timezone.utc) - timedelta(hours=hours)


def _set_up_updates(machine: Machine, address: str, *, office_2003: bool, automatic_updates: bool) -> None:
    """Put into the registry what group policy and setup put there."""
    if address:
        machine.registry.set(
            advisory.CLIENT_POLICY_KEY, **{advisory.CLIENT_SERVER_VALUE: address.rstrip("/")}, WUStatusServer=address
        )
    machine.registry.set(
        advisory.CLIENT_AUTOMATIC_KEY,
        **{
            advisory.CLIENT_USES_SERVER_VALUE: int(bool(address)),
            advisory.CLIENT_DISABLED_VALUE: int(not automatic_updates),
        },
    )
    machine.services[advisory.CLIENT_SERVICE] = "running"
    machine.files.create(f"{machine.system.windows_directory}\\System32\\{advisory.CLIENT_PROGRAM}", b"MZ")
    if office_2003:
        machine.registry.set(advisory.OFFICE_2003_KEYS[machine.architecture == "x64"], Path="C:\\Office\\")


def _stand_up(
    name: str,
    system: System,
    profiles: str,
    *,
    arch: str,
    culture: str,
    engine: Engine | None,
    wsus: str | None = None,
    database: str = DATABASES[0],
    neighbours: Sequence[str] = (),
    administrator: bool = True,
    session_allowed: bool = False,
    log_folder: str | None = None,
    catalogue: str = "usual",
    replica: bool = False,
    upstream: str = "",
    front_ends: Sequence[str] = (),
) -> Host:
    """Put a machine, its WSUS, its account and what runs on it together."""
    machine = Machine(
        name.upper(),
        system,
        architecture=arch,
        culture=culture,
        program_files=PROGRAM_FILES[culture],
        renames=(advisory.RENAME_KEY, advisory.RENAME_VALUE),
        passing_keys=advisory.RESTART_KEYS,
    )
    account = Account(_USER, _PASSWORD, _DOMAIN, administrator=administrator or session_allowed)
    groups = frozenset({EVERYONE, USERS, AUTHENTICATED_USERS} | ({ADMINISTRATORS} if administrator else set()))
    token = Token(account.name, _SID, groups)
    own = frozenset({SYSTEM_SID, ADMINISTRATORS, token.sid})
    profile = f"{profiles}\\{_USER}"
    machine.files.make_folders(f"{profile}\\Temp")
    machine.files.protect(profile, Security(token.sid, own, own))
    wsus_there = Wsus(
        machine,
        wsus,
        database=database,
        neighbours=neighbours,
        log_folder=log_folder or advisory.SERVER_LOG_FOLDERS[0],
        catalogue=catalogue,
        replica=replica,
        upstream=upstream,
        front_ends=front_ends,
    )
    host = Host(name, machine, wsus_there, account=account, token=token, profile=profile, engine=engine)
    machine.programs = Installer(wsus_there, host.installation_ended)
    machine.on_task = host.run_task
    return host
