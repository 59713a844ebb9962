"""One simulated server as it is used: reached by the ordinary road, looked into, and made to fail.

A ``Host`` puts one simulated machine behind one endpoint, and lets the library's scripts be answered by their
behaviours.  How Windows, WSUS and the wire work, others know; so do they which servers there are to be had.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ntpath
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_args

from pypsrp._utils import get_pwsh_script

from wsusfix import advisory
from wsusfix.lab import behaviours, packages
from wsusfix.lab.accounts import Account, Accounts
from wsusfix.lab.approvals import Update, UpdateService
from wsusfix.lab.database import Backup, Database
from wsusfix.lab.engine import Engine, EngineError, EnginePlugin
from wsusfix.lab.faults import Faults, as_number, as_seconds, one_of
from wsusfix.lab.filesystem import (
    ADMINISTRATORS,
    CLOSED,
    USERS,
    FileSystem,
    Security,
    Token,
    WindowsError_,
)
from wsusfix.lab.http import Endpoint, Quotas, ShellInfo
from wsusfix.lab.installer import Installation
from wsusfix.lab.psrp import Output, PipelineStopped, ScriptCall, TerminatingError
from wsusfix.lab.scheduler import Process, ProcessEnded, Task
from wsusfix.lab.update_logs import ServerLog, UpdateAgent
from wsusfix.lab.windows import LogEntry, Machine, SimulatedWindows, Site, time_text
from wsusfix.lab.wsus import Wsus
from wsusfix.scripts.contracts import CONTRACTS, KEPT_NAME, STAGING_NAME, ContractError, JobPhase

__all__ = ["Host", "HostFaults", "Job"]

#: The script that pypsrp's own ``Client.copy`` sends.
_COPY: Final = get_pwsh_script("copy.ps1")
_SOMEBODY: Final = "S-1-5-21-954960-2008-701-1105"
#: How long a server that restarts is not reached, in seconds.
_RESTART_SECONDS: Final = 0.3
#: After so many seconds a job that is held goes on by itself: whoever was to let it go is no longer there.
_LONGEST_HELD: Final = 300.0


@dataclass(frozen=True)
class Job:
    """A detached job: a script that a scheduled task began, finished or not.

    Args:
        id: of the job; the name of its folder.
        script: name of the script.
        account: that it ran as.
        started: by the server's clock.
        ended: by the server's clock; ``""`` while it runs.
        phases: the phases that it wrote down, in order.
        exit_code: of its process; ``None`` while it runs.
    """

    id: str
    script: str
    account: str
    started: str
    ended: str = ""
    phases: tuple[str, ...] = ()
    exit_code: int | None = None


class HostFaults(Faults):
    """What can be made to go wrong at one server: all that the endpoint has, and what happens inside of Windows.

    Every fault stays until :meth:`clear`; those of a phase happen once.
    """

    def __init__(self, machine: Machine, restart: Callable[[float], None]) -> None:
        super().__init__()
        self._machine = machine
        self._restart = restart
        self._at_phase: dict[JobPhase, list[tuple[str, Callable[[Process], object]]]] = {}
        self._free: int | None = None
        self._held: list[threading.Event] = []

    def kill_job(self, *, phase: JobPhase | str) -> None:
        """End the job's process when it has written down *phase*; what it started runs on."""
        self._when_written(phase, "kill_job", lambda process: self._machine.processes.end(process))

    def reboot_during(self, *, phase: JobPhase | str, seconds: float = _RESTART_SECONDS) -> None:
        """Restart the server when the job has written down *phase*."""
        as_seconds(seconds)
        self._when_written(phase, "reboot_during", lambda process: self._restart(seconds))

    def swap_package(self, *, phase: JobPhase | str = JobPhase.STARTED) -> None:
        """Change the uploaded package when the job has written down *phase*; one that is held open cannot be."""
        self._when_written(phase, "swap_package", lambda process: self._swap())

    def at_phase(self, happen: Callable[[], object], *, phase: JobPhase | str) -> None:
        """Let *happen* whatever it is when the job has written down *phase*; it is called in the job's own thread."""
        self._when_written(phase, "at_phase", lambda process: happen())

    def hold_job(self, *, phase: JobPhase | str) -> None:
        """Let the job stand still when it has written down *phase*, until :meth:`let_job_go` or :meth:`clear`.

        What it has started runs on.  Who rehearses what happens beside a job that is at work needs no luck then.
        """
        go = threading.Event()
        self._when_written(phase, "hold_job", lambda process: process.pause(_LONGEST_HELD, go))
        self._held.append(go)

    def let_job_go(self) -> None:
        """Let every job go on that is held, and the next one not be held either."""
        for go in self._held:
            go.set()
        self._held.clear()

    def task_never_starts(self) -> None:
        """Accept the order to run a task, and do not carry it out; see :meth:`task_starts_after_all`."""
        self._machine.tasks_start = False
        self.note("task_never_starts")

    def task_starts_after_all(self) -> None:
        """Carry out now, late, every order to run a task that was accepted since :meth:`task_never_starts`."""
        self._machine.tasks_start = True
        self._machine.start_ordered()
        self.note("task_starts_after_all")

    def task_scheduler_stopped(self) -> None:
        """Let the service be stopped that keeps tasks."""
        self._machine.scheduler.running = False
        self.note("task_scheduler_stopped")

    def clock_jumps(self, *, seconds: float) -> None:
        """Set the server's clock forward, or back; processes keep the time at which they were created."""
        self._machine.clock_offset += as_seconds(seconds, back=True)
        self._machine.boot_time += seconds
        self.note("clock_jumps")

    def task_starts_late(self, *, seconds: float) -> None:
        """Let so long pass between the order to run a task and its beginning."""
        self._machine.task_delay = as_seconds(seconds)
        self.note("task_starts_late")

    def installer_hangs(self) -> None:
        """Let every installer stand still, as before a dialog that nobody sees; :meth:`clear` answers the dialog."""
        self._machine.installer_hangs = True
        self.note("installer_hangs")

    def installer_busy(self) -> None:
        """Let somebody else's installation run."""
        self._machine.foreign_installer = True
        self.note("installer_busy")

    def backup_fails(self, how: str = "refused") -> None:
        """Let the next backups of the database fail.

        Args:
            how: they are ``"refused"``, are ``"damaged"`` when read back, or the database is ``"unreachable"``.

        Raises:
            ValueError: *how* is none of these.
        """
        if how not in ("refused", "damaged", "unreachable"):
            raise ValueError(f"a backup is refused, damaged or unreachable, not {how!r}")
        if self._machine.database is not None:
            self._machine.database.fails = how
        self.note("backup_fails")

    def service_stuck(self, name: str) -> None:
        """Let a service neither start nor stop."""
        self._machine.stuck_services.add(name)
        self.note("service_stuck")

    def restart_refused(self) -> None:
        """Let Windows refuse every order to restart."""
        self._machine.restarts = False
        self.note("restart_refused")

    def disk_full(self, *, free: int = 0) -> None:
        """Leave only so many bytes free on the system drive."""
        as_number("free", free)
        drive = self._machine.files.drive("C:\\")
        self._free = drive.free if self._free is None else self._free
        drive.free = free
        self.note("disk_full")

    def signature(self, status: packages.Signature) -> None:
        """Find every signature ``"valid"``, ``"invalid"`` or ``"unverifiable"``.

        Raises:
            ValueError: *status* is none of these.
        """
        self._machine.signature = one_of("signature", status, get_args(packages.Signature))
        self.note("signature")

    def signature_stalls(self) -> None:
        """Let whoever checks a signature wait for a revocation list until they give up."""
        self._machine.signature_stalls = True
        self.note("signature_stalls")

    def precreate_staging(self, *, owner: str = _SOMEBODY, how: str = "owner") -> None:
        """Let somebody have made the staging folder before.

        Args:
            owner: SID of whoever owns it.
            how: what is wrong with it: ``"owner"``, ``"acl"`` (others may write), ``"reparse"`` or ``"file"``.

        Raises:
            ValueError: *how* is none of these.
        """
        files, path = self._machine.files, f"{self._machine.system.windows_directory}\\{STAGING_NAME}"
        wide = CLOSED.writers | {USERS}
        if how == "file":
            files.create(path, b"")
        elif how == "reparse":
            files.make_folders("C:\\elsewhere")
            files.make_folder(path, CLOSED, reparse="C:\\elsewhere")
        elif how in ("owner", "acl"):
            by_owner = Security(owner, wide, wide)
            files.make_folder(path, by_owner if how == "owner" else Security(ADMINISTRATORS, wide, wide))
        else:
            raise ValueError(f"a staging folder is wrong by owner, acl, reparse or file, not by {how!r}")
        self.note("precreate_staging")

    def clear(self) -> None:
        """Nothing goes wrong any more; what has happened stays."""
        super().clear()
        self._at_phase.clear()
        self.let_job_go()
        self._machine.tasks_start, self._machine.task_delay = True, 0.0
        self._machine.scheduler.running = True
        self._machine.installer_hangs = self._machine.foreign_installer = False
        self._machine.signature = None
        self._machine.signature_stalls = False
        self._machine.stuck_services.clear()
        self._machine.restarts = True
        if self._machine.database is not None:
            self._machine.database.fails = ""
        if self._free is not None:
            self._machine.files.drive("C:\\").free = self._free
            self._free = None

    def phase_written(self, process: Process, phase: JobPhase) -> None:
        """Let happen what is to happen now that *process* has written down *phase*."""
        for name, happen in self._at_phase.pop(phase, ()):
            self.note(name)
            happen(process)

    def _when_written(self, phase: JobPhase | str, name: str, happen: Callable[[Process], object]) -> None:
        """Keep it for the phase, after what is to happen there already."""
        self._at_phase.setdefault(JobPhase(phase), []).append((name, happen))

    def _swap(self) -> None:
        files = self._machine.files
        folder = f"{self._machine.system.windows_directory}\\{STAGING_NAME}\\files\\".lower()
        for path in files:
            if path.lower().startswith(folder):
                with contextlib.suppress(WindowsError_):
                    files.append(path, b"swapped")


class Host:
    """One simulated server or client; made by :meth:`Lab.add_server` and :meth:`Lab.add_client`.

    ``connection`` holds the keyword arguments of :func:`wsusfix.connect`.  Everything else looks into the server, or
    changes it, from outside.
    """

    def __init__(
        self,
        name: str,
        machine: Machine,
        wsus: Wsus,
        *,
        account: Account,
        token: Token,
        profile: str,
        engine: Engine | None = None,
    ) -> None:
        self.name = name
        self.faults = HostFaults(machine, self.reboot)
        self._machine = machine
        self._wsus = wsus
        self._account = account
        self._token = token
        self._profile = profile
        self._engine = engine
        self._lock = threading.Lock()
        self._jobs: dict[Process, Job] = {}
        self._installations: list[Installation] = []
        self._endpoint: Endpoint | None = None
        #: What the server's web services write, ``None`` where none is written.
        self.log: ServerLog | None = None
        #: The update agent of a client.
        self.agent: UpdateAgent | None = None
        machine.on_text = self._text_written
        machine.on_restart = self.reboot

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {self._machine.system.name}, {self._machine.architecture})"

    # --- how it is reached ------------------------------------------------------------------------------------------

    def listen(self, address: str, port: int, *, quotas: Quotas | None) -> None:
        """Open the door at *address*.

        Raises:
            OSError: it cannot be had.
        """
        endpoint = Endpoint(
            self,
            address=address,
            port=port,
            accounts=Accounts([self._account]),
            powershell_version=self._machine.powershell_version,
            quotas=quotas,
            faults=self.faults,
            plugin=EnginePlugin(self._engine, self, self._machine.powershell_version) if self._engine else None,
        )
        endpoint.start()
        self._endpoint = endpoint

    @property
    def _door(self) -> Endpoint:
        if self._endpoint is None:
            raise RuntimeError(f"{self.name} has no endpoint")
        return self._endpoint

    @property
    def connection(self) -> dict[str, Any]:
        """Host, port, username and password, for :func:`wsusfix.connect`."""
        return {
            "host": self._door.address,
            "port": self._door.port,
            "username": self._account.name,
            "password": self._account.password,
        }

    @property
    def shells(self) -> tuple[ShellInfo, ...]:
        """The shells that are open now."""
        return self._door.shells

    @property
    def request_count(self) -> int:
        """HTTP requests answered so far."""
        return self._door.request_count

    @property
    def bytes_received(self) -> int:
        """Bytes of request bodies received so far."""
        return self._door.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Bytes of answers sent so far."""
        return self._door.bytes_sent

    @property
    def latency(self) -> float:
        """Seconds by which every answer is delayed."""
        return self._door.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        """Delay every answer from now on by *seconds*."""
        self._door.latency = seconds

    # --- what can be seen -------------------------------------------------------------------------------------------

    @property
    def dll_version(self) -> str | None:
        """File version of the DLL that is the proof, as it lies there now; ``None`` without a WSUS server."""
        return self._wsus.dll_version

    @property
    def wsus_version(self) -> str | None:
        """``VersionString`` of the registry, as it stands there now; ``None`` without WSUS."""
        return self._wsus.version

    @property
    def database(self) -> Database:
        """The database of WSUS: its place, its options, and whoever is connected; change it as you like."""
        return self._wsus.database

    @property
    def backups(self) -> tuple[Backup, ...]:
        """The backups of the database that lie on the server, in the order in which they were written."""
        return self._wsus.database.backups

    @property
    def stopped_services(self) -> tuple[str, ...]:
        """Names of the services that do not run."""
        return tuple(name for name, state in self._machine.services.items() if state != "running")

    @property
    def sites(self) -> list[Site]:
        """The sites of IIS."""
        return self._machine.sites

    @property
    def update_service(self) -> UpdateService:
        """WSUS as its programming interface shows it.

        Raises:
            ValueError: there is no WSUS 3.0 server here.
        """
        if self._wsus.service is None:
            raise ValueError(f"{self.name} has no WSUS 3.0 server")
        return self._wsus.service

    @property
    def replica(self) -> bool:
        """Whether its WSUS is a replica now."""
        return self.update_service.replica

    @property
    def updates(self) -> tuple[Update, ...]:
        """The updates of its WSUS, each with title, articles, whether it is declined, and approvals, as of now."""
        return tuple(self.update_service.updates)

    @property
    def wsus_log(self) -> str:
        """What stands in the log of its WSUS."""
        return (self._machine.files.read(self._wsus.log_path) or b"").decode("utf-8")

    @property
    def kept_path(self) -> str:
        """Where the library keeps what outlives a run on this server."""
        return f"{self._machine.system.windows_directory}\\{KEPT_NAME}"

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every detached job that ever began, in order, finished ones too."""
        with self._lock:
            return tuple(self._jobs.values())

    @property
    def installations(self) -> tuple[Installation, ...]:
        """Every run of an installer that is over, in order, whatever came of it."""
        with self._lock:
            return tuple(self._installations)

    @property
    def files(self) -> FileSystem:
        """The drives; iterate over it for every file's path."""
        return self._machine.files

    @property
    def event_log(self) -> tuple[LogEntry, ...]:
        """The entries of the Application event log."""
        return tuple(self._machine.event_log)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The scheduled tasks there are."""
        return self._machine.scheduler.tasks

    @property
    def processes(self) -> tuple[Process, ...]:
        """The processes that live."""
        return self._machine.processes.all()

    @property
    def services(self) -> dict[str, str]:
        """State by name of service; change it to stop one."""
        return self._machine.services

    @property
    def staging_path(self) -> str:
        """Where the library keeps its things on this server."""
        return f"{self._machine.system.windows_directory}\\{STAGING_NAME}"

    @property
    def machine(self) -> Machine:
        """The simulated Windows itself."""
        return self._machine

    # --- what can be done -------------------------------------------------------------------------------------------

    def detect(self) -> str | None:
        """Let the client look for updates now; the ID of the call that failed, or ``None`` when it was served.

        Raises:
            ValueError: it is no client.
        """
        if self.agent is None:
            raise ValueError(f"{self.name} is no client: add_client makes one")
        return self.agent.detect()

    @property
    def wsus(self) -> Wsus:
        """WSUS as it stands on this server."""
        return self._wsus

    @property
    def install_seconds(self) -> float:
        """How long an installer takes that does not say so itself."""
        return self._machine.install_seconds

    @install_seconds.setter
    def install_seconds(self, seconds: float) -> None:
        """Let the next installers take *seconds*."""
        self._machine.install_seconds = seconds

    def reboot(self, seconds: float = _RESTART_SECONDS) -> None:
        """Restart: every connection, shell, process and job ends now, and nothing is reached for so many seconds."""
        self._door.reboot(seconds)
        self._machine.boot()

    def synchronizing(self, seconds: float) -> None:
        """Let its WSUS synchronise for so many seconds from now."""
        self.update_service.synchronise(seconds)

    def close(self) -> None:
        """End the server and everything that runs on it; again is allowed."""
        if self._endpoint is not None:
            self._endpoint.stop()
        self._machine.close()

    def session(self, cancelled: threading.Event | None = None) -> SimulatedWindows:
        """A process of the account that connects, without any network; for looking at what a script would see."""
        return self._machine.session(self._token, cancelled)

    # --- what runs on it: this is the endpoint's runner and the scheduler's ------------------------------------------

    def run(self, call: ScriptCall, output: Output) -> None:
        """Answer one pipeline.

        Raises:
            TerminatingError: the script failed, or is none the lab knows.
            PipelineStopped: it was stopped, or the server restarted under it.
        """
        try:
            windows = self.session(call.stopped)
        except ProcessEnded:
            raise PipelineStopped from None
        try:
            output.write(self._answer(windows, call))
        except ProcessEnded:
            raise PipelineStopped from None
        except WindowsError_ as error:
            raise TerminatingError(error.message, exception=error.exception) from error
        finally:
            self._machine.processes.end(windows.process, 0)

    @property
    def profile(self) -> str:
        """The home folder of the account that connects."""
        return self._profile

    def admit(self, call: ScriptCall) -> tuple[str | None, SimulatedWindows]:
        """Let a script of the library, or pypsrp's own copy (``None``), begin in the engine, as a process of the
        account that connects.

        Raises:
            TerminatingError: it is none, or its parameters are not those of its contract.
            ProcessEnded: the server is going down.
        """
        name = None if call.is_script and call.script == _COPY else self._recognised(call)[0]
        return name, self.session(call.stopped)

    def _answer(self, windows: SimulatedWindows, call: ScriptCall) -> object:
        if call.is_script and call.script == _COPY:
            return behaviours.copy(windows, call.arguments, call.input, self._profile)
        name, parameters = self._recognised(call)
        return {"script": name, **behaviours.BEHAVIOURS[name](windows, parameters, call.input)}

    def _recognised(self, call: ScriptCall) -> tuple[str, dict[str, Any]]:
        """Which script of the library's is asked for, and its parameters."""
        try:
            name = behaviours.recognise(call.script if call.is_script and len(call.commands) <= 1 else "")
            contract = CONTRACTS[name]
            if contract.is_job:
                raise behaviours.UnknownScript(f"the script {name!r} is a job: it is staged, and run by a task")
            parameters = call.parameters.get("Parameters")
            if not isinstance(parameters, dict):
                raise ContractError(f"script {name}: there is no hashtable Parameters")
            contract.check_parameters(parameters)
        except behaviours.UnknownScript as error:
            raise TerminatingError(str(error), error_id="UnknownScript", category="NotImplemented") from error
        except ContractError as error:
            raise TerminatingError(str(error), error_id="ContractError", category="InvalidArgument") from error
        return name, parameters

    def run_task(self, machine: Machine, process: Process, task: Task) -> int:
        """Run the script of a scheduled task as *process*; the exit code of PowerShell."""
        policy, switch = (
            machine.registry.get(advisory.POLICY_KEY, name) for name in (advisory.POLICY_VALUE, advisory.POLICY_SWITCH)
        )
        data = machine.files.read(task.script)
        if data is None or str(policy or "").lower() in advisory.BLOCKING_POLICIES or str(switch) == "0":
            return 1
        try:
            name = behaviours.recognise(data.decode("utf-8-sig").replace("\r\n", "\n"))
        except (behaviours.UnknownScript, UnicodeDecodeError):
            return 1
        if name not in behaviours.JOBS:
            return 1
        folder = ntpath.dirname(task.script)
        begun = Job(ntpath.basename(folder), name, process.token.account, time_text(machine.now()))
        with self._lock:
            self._jobs[process] = begun
        code = 1
        try:
            windows = SimulatedWindows(machine, process)
            if self._engine is not None:
                code = self._engine.run_job(name, windows, task.script)
            else:
                behaviours.JOBS[name](windows, folder)
                code = 0
        except (WindowsError_, EngineError):
            code = 1  # what PowerShell ends with after an error that nobody caught
        finally:
            with self._lock:
                ended = dataclasses.replace(self._jobs[process], ended=time_text(machine.now()), exit_code=code)
                self._jobs[process] = ended
        return code

    def installation_ended(self, installation: Installation) -> None:
        """Take note of the run of an installer."""
        with self._lock:
            self._installations.append(installation)

    def _text_written(self, process: Process, path: str, text: str) -> Callable[[], None] | None:
        """Look for a job's state among the text files that are written; a fault of its phase is to happen then."""
        lines = text.splitlines()
        if process not in self._jobs or not lines or not lines[0].startswith("phase="):
            return None
        phase = lines[0].removeprefix("phase=")
        with self._lock:
            job = self._jobs[process]
            self._jobs[process] = dataclasses.replace(job, phases=(*job.phases, phase))
        if phase not in {known.value for known in JobPhase}:
            return None
        return lambda: self.faults.phase_written(process, JobPhase(phase))
