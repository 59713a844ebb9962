"""WSUS as it stands on a simulated server: a generation's registry values, files and services.

All numbers and paths come from :mod:`wsusfix.advisory`.  This module refuses to know sessions and scripts; what WSUS
holds and does, :mod:`wsusfix.lab.approvals` knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from packaging.version import Version

from wsusfix import advisory
from wsusfix.advisory import InstallType
from wsusfix.lab.approvals import CATALOGUES, UpdateService
from wsusfix.lab.database import Database
from wsusfix.lab.filesystem import OF_WINDOWS, WindowsError_
from wsusfix.lab.windows import UNINSTALL_KEY, Machine, Site, time_text

__all__ = ["DATABASES", "GENERATIONS", "Generation", "Wsus"]

#: Where the database may be.
DATABASES: Final = ("embedded", "local", "remote")
_UNFIXED: Final = advisory.VERSION_STRINGS["3.0 SP1"]


@dataclass(frozen=True)
class Generation:
    """One state of WSUS: what setup left in the registry and which DLL lies there (``""``: none)."""

    version: str
    dll: str
    install_type: InstallType

    @property
    def server(self) -> bool:
        """Whether there is a server, and not only the console."""
        return self.install_type is not InstallType.CONSOLE


def _server(version: str, dll: str | None = None) -> Generation:
    old = Version(version).major == advisory.WSUS_2_MAJOR
    return Generation(version, dll or version, InstallType.FULL_2 if old else InstallType.SERVER_3)


#: Every state of WSUS that the lab can stand up, by the name it is asked for.
GENERATIONS: Final[Mapping[str, Generation]] = MappingProxyType(
    {
        "console": Generation(_UNFIXED, "", InstallType.CONSOLE),
        "2.0": _server(advisory.VERSION_STRINGS["2.0"]),
        "2.0 SP1": _server(advisory.VERSION_STRINGS["2.0 SP1"]),
        "3.0 RTM": _server(advisory.VERSION_STRINGS["3.0 RTM"]),
        "3.0 SP1": _server(_UNFIXED),
        "3.0 SP1 KB954960": _server(_UNFIXED, str(advisory.FIXED_DLL)),
        # The product calls itself 3.2, its DLLs carry 3.1.7600 and the same last part.
        "3.0 SP2": _server(
            advisory.VERSION_STRINGS["3.0 SP2"],
            f"3.1.{advisory.VERSION_STRINGS['3.0 SP2'].split('.', 2)[2]}",
        ),
    }
)


class Wsus:
    """WSUS on one machine, absent (``None``) or of a generation."""

    def __init__(
        self,
        machine: Machine,
        generation: str | None,
        *,
        database: str,
        neighbours: Sequence[str] = (),
        log_folder: str = advisory.SERVER_LOG_FOLDERS[0],
        catalogue: str = "usual",
        replica: bool = False,
        upstream: str = "",
        front_ends: Sequence[str] = (),
    ) -> None:
        self._machine = machine
        self._log_folder = log_folder
        self._generation = GENERATIONS[generation] if generation else None
        self.target = f"{machine.program_files}\\{advisory.DEFAULT_TARGET}\\"
        #: The server that this one synchronizes with, ``""`` for Microsoft Update; and who shares its database.
        self.upstream = upstream
        self.front_ends: list[str] = [*front_ends] or [machine.name.lower()]
        machine.ask_hierarchy = self._hierarchy
        self.database = Database(machine, database, lambda: self.version or "")
        if self._generation is not None and self._generation.server:
            machine.database = self.database
        #: What its programming interface shows; only WSUS 3.0 servers have one that is simulated.
        self.service: UpdateService | None = None
        if self._generation is not None:
            self._set_up(self._generation, database)
            if self._generation.install_type is InstallType.SERVER_3:
                self.service = UpdateService(
                    CATALOGUES[catalogue](machine.culture),
                    replica=replica,
                    upstream=upstream,
                    front_ends=front_ends,
                    log=self._write_log,
                )
                machine.update_services = self.service
                machine.web[advisory.CLIENT_WEB_SERVICE.lower()] = 200
        for name in neighbours:
            machine.registry.set(advisory.NEIGHBOUR_KEYS[name])

    def _set_up(self, generation: Generation, database: str) -> None:
        machine = self._machine
        setup: dict[str, str | int] = {
            "InstallType": int(generation.install_type),
            "VersionString": generation.version,
            "TargetDir": self.target,
        }
        machine.files.make_folders(self.target.rstrip("\\"))
        machine.files.protect(self.target.rstrip("\\"), OF_WINDOWS)
        if generation.server:
            old = generation.install_type in advisory.INSTALL_TYPES_2
            instance = advisory.WMSDE_INSTANCE if old else advisory.EMBEDDED_INSTANCE
            setup |= {
                "ContentDir": "C:\\WSUS",
                "SqlServerName": {
                    "embedded": f"%computername%\\{instance}",
                    "local": machine.name.upper(),
                    "remote": "SQL01",
                }[database],
                "SqlDatabaseName": "SUSDB",
                "PortNumber": 80,
                "UsingSSL": 0,
                "IISTargetWebSiteIndex": 1,
                advisory.LOG_PATH_VALUE: self.log_path,
                "LogLevel": 1,
                "WmsdeInstalled": int(database == "embedded"),
            }
            machine.services |= dict.fromkeys(advisory.SERVICES, "running")
            # From IIS 7 on a service of its own starts the processes that serve sites.
            under = "was" if machine.system.elevates else "iisadmin"
            machine.services[under] = "running"
            machine.needs[advisory.IIS_SERVICE] = (under,)
            if not machine.sites:
                machine.sites.append(Site("1", "Default Web Site"))
            machine.files.make_folders(self.dll_path.rpartition("\\")[0])
            machine.files.create(self.dll_path, _dll(generation.dll), generation.dll)
            if old:
                machine.registry.set(f"{UNINSTALL_KEY}\\{advisory.WSUS_2_PRODUCT}")
        machine.registry.set(advisory.SETUP_KEY, **setup)

    def _hierarchy(self) -> Mapping[str, str]:
        """What WSUS's own interface says of other servers; the service answers it.

        Raises:
            WindowsError_: there is no server, or it does not run.
        """
        if self._machine.services.get(advisory.WSUS_SERVICE) != "running":
            raise WindowsError_("The administration interface of WSUS cannot be reached.")
        return {"upstream": self.upstream, "front_ends": "\n".join(self.front_ends)}

    @property
    def version(self) -> str | None:
        """``VersionString`` as it stands in the registry."""
        found = self._machine.registry.get(advisory.SETUP_KEY, "VersionString")
        return None if found is None else str(found)

    @property
    def generation(self) -> Generation | None:
        """What stands there."""
        return self._generation

    def upgrade(self, name: str, *, at_restart: bool = False) -> None:
        """Become the generation *name*, or have the old DLL exchanged at the next restart."""
        generation = GENERATIONS[name]
        self._generation = generation
        self._machine.registry.set(advisory.SETUP_KEY, VersionString=generation.version)
        self._put_dll(generation.dll, at_restart=at_restart)

    def install(self, name: str) -> None:
        """Be installed anew as the generation *name*, over the database that stayed."""
        self._generation = GENERATIONS[name]
        self._set_up(self._generation, self.database.place)

    def remove(self) -> None:
        """Be uninstalled: the service, the Setup key and the program are gone, the database stays."""
        self._generation = None
        self._machine.registry.remove(advisory.SETUP_KEY)
        self._machine.services.pop(advisory.WSUS_SERVICE, None)
        self._machine.files.remove_tree(self.target.rstrip("\\"))

    @property
    def log_path(self) -> str:
        """Where the log is, or would be: a folder of its own, or one below where WSUS is."""
        folder = self._log_folder if ":" in self._log_folder else f"{self.target}{self._log_folder}"
        return f"{folder}\\{advisory.SERVER_LOG}"

    def _write_log(self, line: str) -> None:
        self._machine.files.make_folders(self.log_path.rpartition("\\")[0])
        stamp = time_text(self._machine.now()).replace("T", " ").replace("Z", ".000 UTC")
        self._machine.files.append(self.log_path, f"{stamp}\tWarning\tw3wp.5\t{line}\r\n".encode())

    @property
    def dll_path(self) -> str:
        """Where the DLL is, or would be."""
        return f"{self.target}{advisory.CLIENT_DLL}"

    @property
    def dll_version(self) -> str | None:
        """File version of the DLL that lies there now."""
        return self._machine.files.version(self.dll_path)

    @property
    def serves(self) -> bool:
        """Whether there is a server that clients can ask."""
        return self._generation is not None and self._generation.server

    @property
    def faulty(self) -> bool:
        """Whether clients with Office 2003 are not served: faulty code meets approvals that do not agree."""
        if self._generation is None or not self._generation.server:
            return False
        version = Version(self._generation.version)
        affected = advisory.PRODUCT_BY_RELEASE.get((version.major, version.minor))
        dll = Version(self.dll_version or "0")
        if self.service is not None and all(update.consistent for update in self.service.updates):
            return False
        return affected in (advisory.Product.RTM, advisory.Product.SP1) and dll < advisory.FIXED_DLL

    @property
    def takes_update(self) -> bool:
        """Whether the update's target is there: WSUS 3.0 SP1, as server."""
        generation = self._generation
        return generation is not None and generation.server and generation.version == _UNFIXED

    def install_update(self) -> None:
        """Put the fixed DLL in its place."""
        self._put_dll(str(advisory.FIXED_DLL))

    def install_update_at_restart(self) -> None:
        """Put the fixed DLL beside the old one, which is in use, and let the restart exchange them."""
        self._put_dll(str(advisory.FIXED_DLL), at_restart=True)

    def _put_dll(self, version: str, *, at_restart: bool = False) -> None:
        place = f"{self.dll_path}.new" if at_restart else self.dll_path
        self._machine.files.replace(place, _dll(version), version)
        if at_restart:
            self._machine.rename_at_restart(place, self.dll_path)


def _dll(version: str) -> bytes:
    return f"stand-in of a simulated server for a DLL of version {version}".encode()
