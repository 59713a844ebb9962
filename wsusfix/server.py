"""The road for one server: connect, facts, diagnosis, plan, apply, verify.

``WsusServer`` owns the session and hands values from room to room; what the values mean is decided elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from wsusfix import advisory, scripts
from wsusfix import agent as agents
from wsusfix import apply as applying
from wsusfix import diagnosis as diagnosing
from wsusfix import facts as probing
from wsusfix import plan as planning
from wsusfix import surroundings as exploring
from wsusfix import verify as verifying
from wsusfix.agent import ClientSettings
from wsusfix.diagnosis import Diagnosis, Verdict
from wsusfix.errors import (
    AnswerError,
    DeadlineError,
    JobError,
    PackageError,
    RefusedByServerError,
    ScriptError,
    UsageError,
    WsusFixError,
)
from wsusfix.events import Event, JobState, Note, Observer, PhaseBegun, ignore
from wsusfix.facts import Approvals, HostFacts
from wsusfix.logs import machine as logs_there
from wsusfix.logs.detections import Detection
from wsusfix.logs.findings import FileKind
from wsusfix.logs.machine import MachineLogs
from wsusfix.options import Connection, Credentials, Options, Timeouts, whole_seconds
from wsusfix.package import Package
from wsusfix.plan import Plan
from wsusfix.results import Canary, Outcome, Verification
from wsusfix.scripts.contracts import RESET_APPROVALS, JobPhase, JobStatus, ResetState, Scalar
from wsusfix.surroundings import Surroundings

if TYPE_CHECKING:
    from wsusfix.remote.job import Cleanup, Job, Withdrawal

__all__ = ["Packages", "WsusServer", "checked_options", "connect", "read_packages", "remediate"]

#: For which the agent's own program is waited for, in seconds: it passes the question on and ends.
_ASKING: Final = 60
#: For which a job that was called off is waited for, in seconds: it looks every 20 of them.
_SEES: Final = 60.0


class WsusServer:
    """A server reached over PowerShell remoting; made by :func:`connect`.

    One thread at a time.  Only :meth:`apply`, :meth:`stage`, :meth:`upload` and :meth:`cleanup` change anything there;
    :meth:`withdraw` calls off what has not begun, and :meth:`detect_now` lets a client do what it would do by itself
    later.

    >>> with wsusfix.connect("wsus01", username="CORP\\\\admin", password=secret) as server:  # doctest: +SKIP
    ...     print(server.diagnose())
    """

    def __init__(self, connection: Connection, credentials: Credentials, on_event: Observer = ignore) -> None:
        # Here and not above: whoever imports wsusfix to read a plan need not load pypsrp and requests.
        from wsusfix.remote.session import Session

        self._connection = connection
        self._tell = on_event
        self._session = Session(connection, credentials, on_retry=self._told_to_wait)
        self._closed = False

    def _told_to_wait(self, error: WsusFixError, pause: float) -> None:
        self._tell(Note(self.host, error.phase or "connect", f"{error.message}; next try in {pause:.1f} s"))

    @property
    def host(self) -> str:
        """The name the server is asked by."""
        return self._connection.host

    @property
    def authentication(self) -> str:
        """How the session authenticated: "kerberos" or "ntlm" ("ntlm" does not prove the server's identity)."""
        return self._session.authentication

    @property
    def powershell_version(self) -> str:
        """The server's PowerShell version."""
        return self._session.powershell_version

    def __enter__(self) -> WsusServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<WsusServer {self._connection}>"

    def open(self) -> WsusServer:
        """Open the session; :func:`connect` has done so already."""
        self._tell(PhaseBegun(self.host, "connect", str(self._connection)))
        self._session.open()
        self._closed = False
        return self

    def close(self) -> None:
        """Close the session. A job that runs on the server goes on."""
        self._closed = True
        self._session.close()

    def _check_open(self, phase: str) -> None:
        """Refuse what would open the session anew after :meth:`close`, for nobody would close it again.

        Raises:
            UsageError: the session was closed.
        """
        if self._closed:
            raise UsageError("the session is closed", host=self.host, phase=phase, hint="connect again")

    def _begin(self, phase: str, detail: str = "") -> None:
        self._check_open(phase)
        self._tell(PhaseBegun(self.host, phase, detail))

    def facts(self) -> HostFacts:
        """Look at the server once and return what it says. Changes nothing.

        One script and one round trip, some tenths of a second. Where the product keeps what is read stands in
        ``wsusfix.advisory``.

        >>> facts = server.facts()
        >>> str(facts.wsus), str(facts.wsus.dll_version)
        ('WSUS 3.0 SP1 (3.1.6001.65)', '3.1.6001.65')

        Raises:
            AnswerError: the answer is not one that the script gives.
            WsusFixError: the server was lost meanwhile; see ``docs/errors.md``.
        """
        self._begin("facts")
        return self._look()

    def _look(self, update_ids: tuple[str, ...] = (), *, approvals: bool = False, unseen: bool = False) -> HostFacts:
        """Look once; then at what WSUS says of the update, where that decides something or *approvals* is set.

        Where a reset was cut off, or nobody saw its end (*unseen*), that is done whatever the server is by now: what
        was saved is to be told.
        """
        parameters = probing.probe_parameters(self._connection.timeouts)
        facts = probing.parse(self.host, self._session.run(scripts.compose("facts"), parameters, phase="facts"))
        verdict = diagnosing.diagnose(facts).verdict
        exposed = verdict in (Verdict.EXPOSED_RTM, Verdict.EXPOSED_SP1)
        wanted = verdict is Verdict.EXPOSED_RTM or (exposed and (approvals or facts.reset is ResetState.MARKED))
        if wanted or unseen or _unseen(facts):
            facts = facts.with_approvals(self._ask_wsus(facts, update_ids))
        return facts

    def _ask_wsus(self, facts: HostFacts, update_ids: tuple[str, ...]) -> Approvals:
        asked = probing.approvals_parameters(facts, update_ids)
        try:
            answer = self._session.run(scripts.compose("approvals"), asked, phase="facts")
            return probing.read_approvals(self.host, answer)
        except (AnswerError, DeadlineError, ScriptError) as error:
            # Nothing is planned on what WSUS did not say; what the server is can be told all the same.
            return probing.not_asked(error.message, facts.reset)

    def logs(self) -> MachineLogs:
        """Search the server's own logs, there, and say what they prove. Changes nothing.

        Logs that cannot be read are told as such, and so is what was not read of long ones.

        >>> server.logs().complete
        True

        Raises:
            WsusFixError: as of :meth:`facts`.
        """
        return self._search(FileKind.SERVER)

    def client_log(self) -> MachineLogs:
        """Search the log of this machine's own update agent, there: any client may be connected to for it.

        Raises:
            WsusFixError: as of :meth:`facts`.
        """
        return self._search(FileKind.CLIENT)

    def client_settings(self) -> ClientSettings:
        """Look at what this machine's own update agent is set to. Changes nothing.

        Raises:
            AnswerError: the answer is not one that the script gives.
            WsusFixError: as of :meth:`facts`.
        """
        self._begin("client")
        answer = self._session.run(scripts.compose("client"), agents.probe_parameters(), phase="client")
        return agents.parse(self.host, answer)

    def detections(self) -> tuple[tuple[Detection, ...], str]:
        """Return the newest searches for updates of this machine's own agent, and why there may be more of them.

        Raises:
            WsusFixError: as of :meth:`facts`.
        """
        self._check_open("logs")
        return logs_there.parse_detections(self.host, self._run_search(logs_there.detection_search))

    def detect_now(self, *, on_event: Observer | None = None) -> Job:
        """Ask this machine's own update agent, by a job of SYSTEM's, to look for updates now; its log tells the rest.

        Returns:
            The job, ended one way or another; nothing of it is left on the machine.

        Raises:
            RefusedByServerError: the job could not be started.
            JobError: a job of another kind is at work there.
        """
        from wsusfix.remote import job as jobs

        self._begin("detect")
        timeouts = self._connection.timeouts
        parameters = {
            "program": advisory.CLIENT_PROGRAM,
            "arguments": advisory.CLIENT_DETECT_NOW,
            "seconds": _ASKING,
        }
        script = scripts.compose("detect_now")
        started = jobs.start(self._session, script, parameters, timeouts)
        if started.kind != script.name:
            raise JobError(
                f"a job of another kind is at work on this machine ({started.kind})",
                host=self.host,
                phase="detect",
                hint="let it end, then ask again",
            )
        job = jobs.follow(self._session, started.job_id, timeouts, on_event or self._tell)
        if job.status is JobStatus.NONE:
            raise jobs.unknown(self.host)
        try:
            jobs.cleanup(self._session, timeouts, exploring.record_parameters())
        except RefusedByServerError as error:
            # Somebody else's job by now: whoever started that one clears away both.
            self._tell(Note(self.host, "cleanup", error.message))
        return job

    def _run_search(self, search: Callable[[int], dict[str, Any]]) -> dict[str, Scalar]:
        seconds = self._connection.timeouts.logs
        return self._session.run(
            scripts.compose("search_logs"),
            search(whole_seconds(seconds)),
            phase="logs",
            # It stops by itself; what it takes beyond that is the machine's and the network's.
            within=seconds + self._connection.timeouts.script,
        )

    def _search(self, side: FileKind) -> MachineLogs:
        self._begin("logs", side.value)
        search = logs_there.server_search if side is FileKind.SERVER else logs_there.client_search
        try:
            return logs_there.parse(self.host, side, self._run_search(search))
        except (AnswerError, DeadlineError, ScriptError) as error:
            # What cannot be read proves nothing, and keeps nobody from what else there is to say.
            return logs_there.not_read(self.host, side, error.message)

    def diagnose(self, *, logs: bool = True) -> Diagnosis:
        """Look anew and say what the server is with regard to advisory 954960. Changes nothing.

        Args:
            logs: whether to search the server's logs, too, for whether the fault was observed.

        >>> server.diagnose(logs=False)
        <Diagnosis 127.0.0.2: exposed_sp1, observed unknown>

        Sources: advisory 954960 (who is affected) and KB954960 (file information).

        Raises:
            WsusFixError: as of :meth:`facts`.
        """
        return self._diagnose(self.facts(), logs)

    def _diagnose(self, facts: HostFacts, logs: bool) -> Diagnosis:
        found = self.logs() if logs and facts.wsus.serves else None
        return diagnosing.diagnose(facts, found)

    def _diagnose_for(self, options: Options, package: Package | None, logs: bool) -> Diagnosis:
        self._begin("facts")
        looked = self._look(tuple(options.update_ids or ()), approvals=options.workaround and package is None)
        return self._diagnose(looked, logs)

    def plan(self, options: Options | None = None, *, logs: bool = True) -> Plan:
        """Look anew, read the package, and say what would be done. Changes nothing.

        Args:
            options: what is wanted.
            logs: as for :meth:`diagnose`; what is done does not depend on it.

        >>> server.plan(wsusfix.Options(package=package))
        <Plan 127.0.0.2: InstallUpdate>

        Raises:
            PackageError: the package file cannot be read.
        """
        chosen = checked_options(options)
        return self.plan_with(chosen, read_packages(chosen), logs=logs)

    def plan_with(self, options: Options, packages: Packages, *, logs: bool = True) -> Plan:
        """Look anew, and say what would be done with packages that were read before. Changes nothing."""
        diagnosis = self._diagnose_for(options, packages.update, logs)
        around = self._look_around(diagnosis.facts) if planning.looks_around(diagnosis, options) else None
        return planning.plan(diagnosis, packages.update, options, upgrade_package=packages.upgrade, surroundings=around)

    def surroundings(self) -> Surroundings:
        """Look at what is around WSUS: database, services, sites, drives, other servers. Changes nothing.

        What an upgrade asks of the server; :meth:`plan` looks by itself where it matters.

        >>> str(server.surroundings().database)
        '...'

        Raises:
            AnswerError: the answer is not one that the script gives.
            WsusFixError: as of :meth:`facts`.
        """
        return self._look_around(self.facts())

    def _look_around(self, facts: HostFacts) -> Surroundings:
        self._begin("surroundings")
        parameters = exploring.probe_parameters(facts, self._connection.timeouts)
        answer = self._session.run(scripts.compose("surroundings"), parameters, phase="surroundings")
        return exploring.parse(facts, answer)

    def stage(self, plan: Plan, *, on_event: Observer | None = None) -> tuple[str, ...]:
        """Bring the packages of a plan to the server ahead of time, and return their paths there; starts nothing.

        Applying the plan then sends nothing of them; :meth:`cleanup` removes them.

        Raises:
            UsageError: the plan is of another server, or blocked; nothing was sent.
            PackageError: a file cannot be read, or is no longer the one that was planned with.
            RefusedByServerError: the staging folder is not closed as it must be, or the drive is too full.
        """
        if not isinstance(plan, Plan) or plan.host != self.host:
            raise UsageError("this plan was made for another server", host=self.host, phase="stage")
        if plan.blocked:
            raise UsageError(
                "the plan is blocked, so nothing is staged: " + "; ".join(each.reason for each in plan.blocked),
                host=self.host,
                phase="stage",
                hint="; ".join(each.unblock for each in plan.blocked),
            )
        packages = {step.package.sha256: step.package for step in plan.steps if hasattr(step, "package")}
        for package in packages.values():
            if Package.read(package.path).sha256 != package.sha256:
                raise PackageError(f"the package {package.name} has changed since the plan was made", hint="plan again")
        return tuple(self.upload(package.path, on_event=on_event) for package in packages.values())

    def apply(self, plan: Plan, *, consent: bool = False, on_event: Observer | None = None) -> Outcome:
        """Carry out a plan; the one thing that changes the server's software.

        Args:
            plan: made by :meth:`plan` for this server.
            consent: that what cannot be undone may be done.
            on_event: is called with every event; ``print`` will do.

        Returns:
            The outcome. A blocked plan and an installer that failed are outcomes that say so, and no errors.

        >>> plan = server.plan(wsusfix.Options(package=package))
        >>> outcome = server.apply(plan, consent=True)
        >>> outcome.ok, outcome.changed, str(outcome.after)
        (True, True, '3.1.6001.66')

        Source: KB954960 (the update, its proof, and that it cannot be removed).

        Raises:
            ConsentError: the plan is irreversible and *consent* is not ``True``; nothing was sent.
            PlanChangedError: the server is no longer as the plan found it; nothing was changed.
            KeyboardInterrupt: Ctrl-C; its message says whether a job goes on, which it does by itself.
        """
        if not isinstance(plan, Plan) or plan.host != self.host:
            raise UsageError("this plan was made for another server", host=self.host, phase="apply")
        self._check_open("apply")
        planned = plan.diagnosis.facts
        approvals = planned.approvals
        ids = tuple(update.id for update in approvals.updates) if approvals is not None else ()
        watched = _Watched(on_event or self._tell)
        try:
            return applying.apply(
                plan,
                self._session,
                lambda: self._look(ids, approvals=approvals is not None, unseen=_unseen(planned)),
                consent=consent,
                timeouts=self._connection.timeouts,
                on_event=watched,
                look_around=self._look_around,
            )
        except KeyboardInterrupt as interrupt:
            interrupt.args = (f"{self.host}: interrupted; {watched.left}",)
            raise

    def verify(self, *, since: datetime | None = None, canary: Canary | None = None) -> Verification:
        """Look anew and say whether the server is without the fault. Changes nothing.

        The file version of one DLL decides, whatever an installer said (KB954960, file information), and so does the
        symptom where it is seen again; a log or a client that proves nothing is told, and decides nothing.

        Args:
            since: when it was mended, by its own clock: then its logs are searched, too, for failed calls since then.
            canary: what a client says, see :func:`wsusfix.clients.canary`.

        >>> proof = server.verify()
        >>> proof.ok, str(proof.found), str(proof.required)
        (False, '3.1.6001.65', '3.1.6001.66')

        Raises:
            UsageError: *since* has no zone; nothing was sent.
            WsusFixError: as of :meth:`facts`.
        """
        if since is not None and since.tzinfo is None:
            raise UsageError("a moment needs its time zone to be compared with logs", host=self.host, phase="verify")
        facts = self.facts()
        logs = self.logs() if since is not None else None
        return verifying.verify(facts, logs=logs, since=since, canary=canary)

    def upload(self, path: str | os.PathLike[str], *, on_event: Observer | None = None) -> str:
        """Bring a file to the server's closed staging folder and return its path there, hash checked.

        Uploading the same file again sends nothing; :meth:`cleanup` removes it.  :meth:`apply` does this by itself.

        >>> server.upload(package)
        'C:\\\\Windows\\\\wsusfix\\\\files\\\\...\\\\WSUS-KB954960-x64.exe'

        Raises:
            PackageError: the file cannot be read.
            RefusedByServerError: the staging folder is not closed as it must be, or the drive is too full.
        """
        from wsusfix.remote.upload import upload

        package = Package.read(path)
        self._begin("upload", package.name)
        return upload(
            self._session,
            package.path,
            sha256=package.sha256,
            size=package.size,
            reserve=advisory.STAGING_RESERVE,
            timeouts=self._connection.timeouts,
            on_event=on_event or self._tell,
        ).path

    def job(self) -> Job | None:
        """Return the job that runs on the server, or the last one that left something there, or ``None``.

        Changes nothing. A job that ended well was cleared away, and is ``None``.

        >>> print(server.job())
        None

        Raises:
            WsusFixError: as of :meth:`facts`.
        """
        from wsusfix.remote import job

        known = self.facts().job
        return None if known is None else job.look(self._session, known.job_id, self._connection.timeouts)

    def withdraw(self) -> Withdrawal:
        """Call off the job that waits for its maintenance window, and wait until it has seen that.

        It has changed nothing then, and whoever follows it is told. Again is safe. What was uploaded stays for the next
        run, or for :meth:`cleanup`.

        >>> server.withdraw()
        Traceback (most recent call last):
        ...
        wsusfix.errors.RefusedByServerError: 127.0.0.2, withdraw: there is no job of wsusfix on the server, ...

        Raises:
            RefusedByServerError: there is no job, or it does not wait: ``reason`` is ``"no_job"`` or ``"not_waiting"``.
                One that is at work goes on.
        """
        from wsusfix.remote import job

        self._begin("withdraw")
        timeouts = self._connection.timeouts
        told = job.withdraw(self._session, timeouts)
        try:
            job.follow(self._session, told.job_id, timeouts, self._tell, patience=_SEES)
        except WsusFixError as error:
            # It is called off all the same.
            self._tell(Note(self.host, "withdraw", error.message))
            return told
        return replace(told, ended=True)

    def cleanup(self) -> Cleanup:
        """Remove the task and everything else that wsusfix left on the server.

        Audit entries in its event log stay, and so do backups, what a reset of approvals keeps (its record and its
        marker), what an upgrade does (what it had stopped, what its setup asked for, and whether WSUS was there at its
        end), and what ran before a restart.

        :meth:`apply` does so by itself when it ends well; this is for what a failed run has left.

        >>> print(server.cleanup())
        127.0.0.2: nothing of wsusfix was left

        Raises:
            RefusedByServerError: a job is running.
        """
        from wsusfix.remote import job

        self._begin("cleanup")
        return job.cleanup(self._session, self._connection.timeouts, exploring.record_parameters())


def _unseen(facts: HostFacts) -> bool:
    """Whether a reset of approvals was cut off, or nobody saw its end."""
    left = facts.job is not None and facts.job.kind == RESET_APPROVALS.name
    return left or facts.reset is ResetState.OPEN


class _Watched:
    """An observer before the caller's own, which remembers how far things went: so that Ctrl-C can say what goes on."""

    def __init__(self, tell: Observer) -> None:
        self._tell = tell
        self.left = "no job was started; what was uploaded stays, and the next run goes on from there"

    def __call__(self, event: Event) -> None:
        match event:
            case JobState(phase=JobPhase.FINISHED.value) | PhaseBegun(phase="collect" | "verify" | "cleanup"):
                self.left = "the job on the server has ended; plan and apply again for what is left to do"
            case JobState(phase=JobPhase.WAITING_FOR_WINDOW.value):
                self.left = (
                    "the job on the server waits for its maintenance window; applying again joins it, "
                    "server.withdraw() calls it off"
                )
            case JobState() | PhaseBegun(phase="job") | Note(phase="job"):
                self.left = "the job on the server goes on; server.job() tells how it stands, applying again joins it"
            case _:
                pass
        self._tell(event)


def connect(
    host: str,
    *,
    username: str | None = None,
    password: str | None = None,
    port: int | None = None,
    ssl: bool = False,
    auth: str = "negotiate",
    encryption: str = "always",
    ca_cert: str | os.PathLike[str] | None = None,
    proxy: str | None = None,
    timeouts: Timeouts | None = None,
    on_event: Observer | None = None,
) -> WsusServer:
    """Connect to a server and return it, open; use it in a ``with`` statement.

    Args:
        host: name or address.
        username: as ``DOMAIN\\user`` or ``SERVER\\user``; falls back to ``WSUSFIX_USERNAME``.
        password: falls back to ``WSUSFIX_PASSWORD``.
        on_event: is called with every event of the session's life.

    The other arguments are those of :class:`wsusfix.Connection`.

    >>> with wsusfix.connect("wsus01", username="LAB\\\\admin", password=password) as server:
    ...     print(server.diagnose().verdict.value)
    exposed_sp1

    Raises:
        UsageError: an argument that cannot mean anything; nothing was sent.
        CredentialsError: user name or password is missing; nothing was sent.
        NotReachedError: the server was not reached.
        NotAllowedError: it did not let us in.
        DeadlineError: it did not answer in time.
    """
    connection = Connection(
        host=host,
        port=port,
        ssl=ssl,
        auth=auth,
        encryption=encryption,
        ca_cert=ca_cert,
        proxy=proxy,
        timeouts=Timeouts() if timeouts is None else timeouts,
    )
    if on_event is not None and not callable(on_event):
        raise UsageError("on_event must be something to call, such as print", host=host)
    return WsusServer(connection, Credentials.find(username, password), on_event or ignore).open()


def remediate(
    host: str,
    options: Options | None = None,
    *,
    username: str | None = None,
    password: str | None = None,
    consent: bool = False,
    logs: bool = True,
    on_event: Observer | None = None,
    port: int | None = None,
    ssl: bool = False,
    auth: str = "negotiate",
    encryption: str = "always",
    ca_cert: str | os.PathLike[str] | None = None,
    proxy: str | None = None,
    timeouts: Timeouts | None = None,
) -> Outcome:
    """Walk the whole road for one server: connect, diagnose, plan, apply, verify.

    A server that needs nothing, or whose plan is blocked, gives an unchanged outcome that says why.

    >>> outcome = wsusfix.remediate("wsus01", wsusfix.Options(package=package), consent=True)
    >>> print(outcome.message)
    fixed and verified

    Raises:
        ConsentError: the plan is irreversible and *consent* is not ``True``; nothing was changed.
        WsusFixError: see :func:`connect`, :meth:`WsusServer.plan` and :meth:`WsusServer.apply`.
    """
    # Read before anything is sent: a package nobody can read is told at once, and not by every server of a run.
    chosen = checked_options(options)
    packages = read_packages(chosen)
    with connect(
        host,
        username=username,
        password=password,
        port=port,
        ssl=ssl,
        auth=auth,
        encryption=encryption,
        ca_cert=ca_cert,
        proxy=proxy,
        timeouts=timeouts,
        on_event=on_event,
    ) as server:
        return server.apply(server.plan_with(chosen, packages, logs=logs), consent=consent, on_event=on_event)


@dataclass(frozen=True)
class Packages:
    """The packages that the options name, as read: of the update, and WSUS setup."""

    update: Package | None
    upgrade: Package | None


def checked_options(options: Options | None) -> Options:
    """Return the options, the usual ones for ``None``.

    Raises:
        UsageError: something else than options was given.
    """
    chosen = Options() if options is None else options
    if not isinstance(chosen, Options):
        raise UsageError("options must be wsusfix.Options")
    return chosen


def read_packages(options: Options) -> Packages:
    """Read the packages that the options name.

    Raises:
        PackageError: one cannot be read.
    """
    paths = (options.package, options.upgrade_package)
    update, upgrade = (None if path is None else Package.read(path) for path in paths)
    return Packages(update, upgrade)
