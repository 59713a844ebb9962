"""Client computers: which of them were hit, by which server and since when; and one that proves the fix from its end.

A survey asks many at once and loses none: whoever is not reached is listed.  A canary is one client that is asked to
look for updates now; its log is the only witness, and what the log does not show is unknown, never well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Final

from wsusfix import advisory
from wsusfix.agent import ClientSettings, same_server
from wsusfix.errors import UsageError, WsusFixError
from wsusfix.events import Note, Observer, ignore
from wsusfix.facts import HostFacts
from wsusfix.logs.correlate import Correlation, correlate
from wsusfix.logs.detections import Detection
from wsusfix.logs.findings import ClientFinding, Finding
from wsusfix.logs.machine import MachineLogs
from wsusfix.options import Connection, Credentials, Timeouts
from wsusfix.present import Presentable, counted, printable
from wsusfix.results import Canary, CanaryState
from wsusfix.scripts.contracts import JobReason, JobStatus
from wsusfix.server import WsusServer, connect

__all__ = ["ClientReport", "Survey", "canary", "survey"]

#: So many clients are asked at a time: each costs a connection, and the account's logons are counted.
_AT_ONCE: Final = 16
_MOST_AT_ONCE: Final = 64
_MOST_SHOWN: Final = 200
#: Between two looks at a client's log: first and longest pause, in seconds.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0
#: So far the clocks of two computers of one domain may be apart: Kerberos allows no more.
_CLOCKS_APART: Final = timedelta(minutes=5)


@dataclass(frozen=True, repr=False)
class ClientReport(Presentable):
    """What one client's log says; ``error`` where it was not reached.

    ``correlation`` is what it says together with the servers' logs of the same calls: they prove what it leaves open.
    """

    host: str
    logs: MachineLogs | None = None
    error: WsusFixError | None = None
    correlation: Correlation | None = None

    @property
    def _told(self) -> Correlation | None:
        return self.correlation or (self.logs.correlation if self.logs is not None else None)

    @property
    def hit(self) -> bool | None:
        """Whether calls of it failed by the fault; ``None`` where that is not known."""
        told = self._told
        if self.logs is None or told is None:
            return None
        if told.calls:
            return True
        return False if self.logs.complete and not told.inconclusive else None

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers that it asked when calls failed, by URL."""
        findings = self.logs.findings if self.logs is not None else ()
        pairs = self._told.pairs if self._told is not None else ()
        paired = {pair.call_id for pair in pairs if pair.server.conclusive}
        clients = (found for found in findings if isinstance(found, ClientFinding))
        urls = (found.server_url for found in clients if found.conclusive or found.call_id in paired)
        return tuple(dict.fromkeys(printable(url, 200) for url in urls if url))

    @property
    def why(self) -> str:
        """What is said of it, in words."""
        if self.error is not None:
            return printable(self.error.message, 300)
        found = self._told
        assert self.logs is not None
        assert found is not None
        if not self.hit:
            return (
                "no failed call" if self.hit is False else "; ".join(self.logs.unread) or "inconclusive findings only"
            )
        told = counted(found.calls, "failed call")
        if found.since is not None and found.until is not None:
            told += f", {found.since:%Y-%m-%d %H:%M:%S} to {found.until:%Y-%m-%d %H:%M:%S} UTC"
        return told + (f", by {', '.join(self.servers)}" if self.servers else "")

    def _extra(self) -> Mapping[str, object]:
        return {"hit": self.hit, "servers": self.servers, "why": self.why}

    def _summary(self) -> str:
        return f"{self.host}: {self._word}"

    @property
    def _word(self) -> str:
        if self.error is not None:
            return "not reached"
        return {True: "hit", False: "not hit", None: "unknown"}[self.hit]

    def __str__(self) -> str:
        return f"{printable(self.host, 260)}: {self._word}: {self.why}"


@dataclass(frozen=True, repr=False)
class Survey(Presentable):
    """What the logs of many clients say, in the order in which they were named, and together."""

    clients: tuple[ClientReport, ...]
    correlation: Correlation

    @property
    def hit(self) -> tuple[ClientReport, ...]:
        """Those of which calls failed."""
        return tuple(client for client in self.clients if client.hit)

    @property
    def unknown(self) -> tuple[ClientReport, ...]:
        """Those of which it is not known, those that were not reached among them."""
        return tuple(client for client in self.clients if client.hit is None)

    @property
    def unreached(self) -> tuple[ClientReport, ...]:
        """Those that could not be asked."""
        return tuple(client for client in self.clients if client.error is not None)

    def _extra(self) -> Mapping[str, object]:
        return {
            "hit": [client.host for client in self.hit],
            "unknown": [client.host for client in self.unknown],
            "unreached": [client.host for client in self.unreached],
        }

    def _summary(self) -> str:
        return f"{counted(len(self.clients), 'client')}, {len(self.hit)} hit, {len(self.unreached)} not reached"

    def __str__(self) -> str:
        lines = [self._summary()]
        lines += [f"  {client}" for client in self.clients[:_MOST_SHOWN]]
        if len(self.clients) > _MOST_SHOWN:
            lines.append(f"  ... and {len(self.clients) - _MOST_SHOWN} more")
        return "\n".join([*lines, str(self.correlation)])


def survey(
    hosts: Iterable[str],
    *,
    servers: Iterable[MachineLogs] = (),
    at_once: int = _AT_ONCE,
    on_client: Callable[[ClientReport], object] | None = None,
    **connection: Any,
) -> Survey:
    """Read the logs of many clients, there, several at once, and say which were hit. Changes nothing.

    Args:
        hosts: names or addresses; each is asked once.
        servers: logs of servers (``server.logs()``) to pair the clients' failed calls with.
        at_once: how many are asked at a time, 1 to 64.
        on_client: is called with every report as it comes, from several threads.
        connection: the other arguments of :func:`wsusfix.connect`, the same for all of them.

    >>> found = wsusfix.survey(["pc01", "pc02"], servers=[server.logs()])
    >>> [client.hit for client in found.clients], len(found.unreached)
    ([True, False], 0)

    Raises:
        UsageError: an argument that cannot mean anything; nothing was sent.
        CredentialsError: user name or password is missing; nothing was sent.
    """
    if isinstance(hosts, str):
        raise UsageError("hosts must be several names, not one text")
    if isinstance(at_once, bool) or not isinstance(at_once, int) or not 1 <= at_once <= _MOST_AT_ONCE:
        raise UsageError(f"at_once must be a number from 1 to {_MOST_AT_ONCE}")
    named = list(dict.fromkeys(hosts))
    if named:
        _check_reach(connection)
    known = list(servers)
    by_id: dict[str, list[Finding]] = {}
    for finding in (finding for each in known for finding in each.findings):
        if finding.call_id is not None:
            by_id.setdefault(finding.call_id, []).append(finding)

    def ask(host: str) -> ClientReport:
        try:
            with connect(host, **connection) as client:
                found = client.client_log()
            report = ClientReport(host, logs=found, correlation=_with_servers(found, by_id))
        except WsusFixError as error:
            report = ClientReport(host, error=error)
        if on_client is not None:
            on_client(report)
        return report

    pool = ThreadPoolExecutor(min(at_once, len(named)) or 1, thread_name_prefix="wsusfix-survey")
    try:
        reports = tuple(pool.map(ask, named))
    finally:
        # Whoever interrupts waits for those that are being asked, and not for those that are still to come.
        pool.shutdown(cancel_futures=True)
    logs = [report.logs for report in reports if report.logs is not None]
    return Survey(reports, correlate(finding for each in (*logs, *known) for finding in each.findings))


def _check_reach(connection: Mapping[str, Any]) -> None:
    """Refuse what keeps every client alike from being reached; a name that is none concerns its own client only."""
    known = {item.name for item in fields(Connection)}
    try:
        Connection(
            "localhost", **{name: value for name, value in connection.items() if name in known and value is not None}
        )
        Credentials.find(connection.get("username"), connection.get("password"))
    except UsageError as error:
        error.host = ""
        raise


def _with_servers(found: MachineLogs, by_id: Mapping[str, list[Finding]]) -> Correlation:
    """Return what a client's findings say, together with what servers say of the same calls."""
    ids = dict.fromkeys(finding.call_id for finding in found.findings if finding.call_id is not None)
    return correlate([*found.findings, *(finding for each in ids for finding in by_id.get(each, ()))])


# --- the canary -----------------------------------------------------------------------------------------------------


def canary(
    host: str,
    *,
    server: HostFacts | str | Sequence[str],
    since: datetime | None = None,
    on_event: Observer | None = None,
    timeouts: Timeouts | None = None,
    username: str | None = None,
    password: str | None = None,
    port: int | None = None,
    ssl: bool = False,
    auth: str = "negotiate",
    encryption: str = "always",
    ca_cert: str | os.PathLike[str] | None = None,
    proxy: str | None = None,
) -> Canary:
    """Ask one client to look for updates now, and follow its log: the proof of a fix from the other end.

    It proves something only when the client has Office 2003 or failed before, gets its updates from *server*, and is
    served by it now; else it is unknown, and says what is missing.  A job asks the client's update agent, as SYSTEM,
    and leaves nothing behind; nothing else is changed.

    Args:
        host: the client.
        server: which server it must be served by: its facts, or the names that clients may know it by.
        since: when the server was mended; by the client's clock it must have been, give or take five minutes.
        on_event: is called with every event; ``print`` will do.

    The other arguments are those of :func:`wsusfix.connect`.

    >>> found = wsusfix.canary("pc01", server="wsus01")
    >>> found.ok, found.why
    (False, 'a client is still not served by http://wsus01: the symptom again')

    Raises:
        UsageError: an argument that cannot mean anything; nothing was sent.
        WsusFixError: the client was not reached, or the job could not be started.
    """
    names = _names(server)
    if since is not None and since.tzinfo is None:
        raise UsageError("a moment needs its time zone to be compared with logs", host=host, phase="canary")
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
    ) as client:
        return _Watch(client, names, since, timeouts or Timeouts(), on_event or ignore).walk()


def _names(server: HostFacts | str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(server, HostFacts):
        return server.host, server.computer_name
    names = (server,) if isinstance(server, str) else tuple(server)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UsageError("server must be the server's facts, or the names that clients know it by", phase="canary")
    return names


class _Watch:
    """One client being asked, and watched."""

    def __init__(
        self, client: WsusServer, names: tuple[str, ...], since: datetime | None, timeouts: Timeouts, tell: Observer
    ) -> None:
        self._client = client
        self._names = names
        self._since = since
        self._timeouts = timeouts
        self._tell = tell

    def walk(self) -> Canary:
        """Look at what the client is set to, ask it, and wait for what its log says."""
        settings = self._client.client_settings()
        before = self._client.client_log()
        told = partial(
            Canary,
            host=self._client.host,
            server=settings.server,
            office_2003=settings.office_2003,
            failed_before=bool(before.correlation.calls),
            since=self._since,
        )
        missing = self._missing(settings, before)
        if missing:
            return told(state=CanaryState.UNKNOWN, missing=missing)
        known = [each.time for each in self._client.detections()[0] if each.time]
        earlier = max((time for time in known if time.tzinfo), default=None)
        job = self._client.detect_now(on_event=self._tell)
        begun = next((step.time for step in job.steps), "")
        if job.status is not JobStatus.FINISHED or job.reason is not JobReason.DONE or not begun:
            why = job.value("detail") or (job.reason.value if job.reason else job.status.value)
            return told(state=CanaryState.UNKNOWN, missing=(f"the client could not be asked: {why}",))
        asked_at = datetime.strptime(begun, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        detection, why = self._wait(asked_at, earlier)
        told = partial(told, asked_at=asked_at, detection=detection)
        if detection is None:
            return told(state=CanaryState.UNKNOWN, missing=(why,))
        if detection.served:
            return told(state=CanaryState.SERVED, missing=())
        if _failed_since(detection, self._client.client_log(), self._names):
            return told(state=CanaryState.HIT, missing=())
        if detection.error is None:
            why = "its search came through, and does not tell which server it asked"
        else:
            why = f"its search failed with {detection.error}, which does not show the fault"
        return told(state=CanaryState.UNKNOWN, missing=(why,))

    def _missing(self, settings: ClientSettings, before: MachineLogs) -> tuple[str, ...]:
        """Say what a detection of this client would lack to prove anything."""
        missing = []
        if not settings.office_2003 and not before.correlation.calls:
            missing.append(
                f"it has no mark of {advisory.OFFICE_2003}, and its log shows no failed call: it may never be hit"
            )
        if not settings.asks(self._names):
            asked = printable(settings.server, 200) if settings.uses_server else ""
            named = ", ".join(printable(name, 80) for name in self._names)
            missing.append(f"it gets its updates from {asked or 'no server of its own'}, not from {named}")
        if settings.disabled:
            missing.append("automatic updates are turned off")
        if not settings.service:
            missing.append("it has no update agent")
        if self._since is not None and settings.clock + _CLOCKS_APART < self._since:
            missing.append(
                f"by its clock it is {settings.clock:%Y-%m-%d %H:%M:%S} UTC, before the fix at "
                f"{self._since.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
            )
        return tuple(missing)

    def _wait(self, asked_at: datetime, earlier: datetime | None) -> tuple[Detection | None, str]:
        """Follow the log until a search that began after *asked_at* is over, or the deadline is.

        A job tells its beginning in whole seconds, so the search before it (*earlier*) may be of the same second.
        """
        deadline = time.monotonic() + self._timeouts.detection
        pause = _FIRST_PAUSE
        while True:
            found, why = self._client.detections()
            for detection in found:
                began = detection.time
                if began is None or began.tzinfo is None or began < asked_at or not detection.ended:
                    continue
                if earlier is not None and began <= earlier:
                    continue
                # A search that asked another server says nothing of this one, however it went.
                if detection.server_url is not None and not _is_one_of(detection.server_url, self._names):
                    why = f"it asked {printable(detection.server_url, 200)}"
                    continue
                return detection, ""
            if time.monotonic() + pause > deadline:
                waited = f"its log tells of no search that ended within {self._timeouts.detection:.0f} s"
                return None, f"{waited} ({why})" if why else waited
            self._tell(Note(self._client.host, "canary", "its log does not tell of a search yet; looking again"))
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)


def _failed_since(detection: Detection, log: MachineLogs, names: tuple[str, ...]) -> bool:
    """Return whether a call failed by the fault since *detection* began, and not at another server.

    Both times are of one log, and compared as they stand there: its header may give the zone of another season.
    """
    began = detection.time
    return began is not None and any(
        isinstance(found, ClientFinding)
        and found.conclusive
        and (found.server_url is None or _is_one_of(found.server_url, names))
        and found.time is not None
        and found.time.replace(tzinfo=None) >= began.replace(tzinfo=None)
        for found in log.findings
    )


def _is_one_of(url: str, names: tuple[str, ...]) -> bool:
    return any(same_server(url, name) for name in names)
