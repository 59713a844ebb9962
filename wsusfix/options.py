"""What the operator chooses: how to reach a server, what to do there, and how long things may take.

Value objects without behaviour beyond checking themselves; no secret stands in any repr.  They know nothing of
servers or plans.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from wsusfix.errors import CredentialsError, UsageError
from wsusfix.present import Presentable, rows

__all__ = ["AUTHENTICATIONS", "REBOOTS", "WAYS_OUT_OF_RTM", "Connection", "Credentials", "Options", "Timeouts"]

USERNAME_VARIABLE: Final = "WSUSFIX_USERNAME"
PASSWORD_VARIABLE: Final = "WSUSFIX_PASSWORD"  # noqa: S105  (the variable's name, not a password)
#: Ways to authenticate; "basic" is left out on purpose: it sends the password to whoever answers.
AUTHENTICATIONS: Final = ("negotiate", "kerberos", "ntlm")
ENCRYPTIONS: Final = ("always", "auto")
#: The two documented ways out of WSUS 3.0 without a service pack.
WAYS_OUT_OF_RTM: Final = ("workaround", "upgrade")
#: Whether the server may be restarted.
REBOOTS: Final = ("never", "if-needed")
#: What an upgrade may lead to.
UPGRADE_TARGETS: Final = ("3.0 SP1", "3.0 SP2")
#: What an operator says who knows that there is no server above this one.
NO_UPSTREAM: Final = "none"
DEFAULT_PORT: Final = 5985
DEFAULT_TLS_PORT: Final = 5986

#: A name or an IPv4 address: labels of up to 63 characters, 253 in all (RFC 1035, with the underscores of Windows).
_NAME: Final = re.compile(r"(?=.{1,254}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.(?!\Z)|\.?\Z))+")
_NAME_AND_PORT: Final = re.compile(r"[\w.-]+:\d+|\[[0-9A-Fa-f:.]+\]:\d+", re.ASCII)
#: Longer than any that Windows takes, and short enough for every field that carries it.
_LONGEST_CREDENTIAL: Final = 1024
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_VERSION: Final = re.compile(r"\d{1,5}(?:\.\d{1,5}){1,3}", re.ASCII)
#: A job may wait so long for its maintenance window, and a window may be so long.
_LONGEST_WINDOW: Final = timedelta(days=7)


@dataclass(frozen=True, repr=False)
class Credentials:
    """A user name and password; neither repr, str nor pickle ever shows the password.

    Raises:
        CredentialsError: one of them is missing or cannot be one.
    """

    username: str
    password: str

    def __post_init__(self) -> None:
        for name in ("username", "password"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise CredentialsError(f"no {name} given")
            if any(char in "\0\r\n" or "\ud800" <= char <= "\udfff" for char in value):
                # The last are what is left of bytes in an environment that is not in its own encoding.
                raise CredentialsError(f"the {name} contains a character no {name} can have")
            if name == "username" and any(char < " " for char in value):
                # No account of Windows has one, and "LAB\admin" is one in Python and in YAML.
                raise CredentialsError(
                    "the username contains a control character",
                    hint=r"where \a and the like are escapes, write the backslash twice: DOMAIN\\user",
                )
            if len(value) > _LONGEST_CREDENTIAL:
                raise CredentialsError(f"the {name} is longer than any {name} can be")

    @classmethod
    def find(
        cls, username: str | None, password: str | None, environment: Mapping[str, str] | None = None
    ) -> Credentials:
        """Return what was given, falling back to ``WSUSFIX_USERNAME`` and ``WSUSFIX_PASSWORD``."""
        known = os.environ if environment is None else environment
        return cls(
            known.get(USERNAME_VARIABLE, "") if username is None else username,
            known.get(PASSWORD_VARIABLE, "") if password is None else password,
        )

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, password=...)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("credentials are not pickled: pass them on yourself")


@dataclass(frozen=True, repr=False)
class Timeouts(Presentable):
    """How long things may take, in seconds; every wait has one of these as its deadline.

    >>> wsusfix.Timeouts(job=7200)
    <Timeouts job=7200>
    >>> print(wsusfix.Timeouts(job=7200))
      connect    15 s
      operation  20 s
      ...
      job        7200 s
      ...

    Args:
        connect: for a TCP connection and the TLS handshake.
        operation: for which the server may hold one WSMan request open; the client waits some seconds longer.
        script: for the answer of one ordinary script.
        opening: for opening the session, retries included (a server that has just started refuses for a while).
        upload: without progress; a slow line that gets through at all is let go on, with fewer messages at once where
            it is too slow for several. A message, of 85,000 bytes, may take as long as ``operation``, and its answer.
        upload_total: for a whole upload, attempts after a broken line included; the next one goes on from what the
            server has.
        assemble: for joining and hashing an uploaded file on the server.
        start: for the scheduled task to begin.
        busy: for which a job waits for another installation, or for WSUS to end a synchronisation.
        logs: for searching the logs on a machine; what was not read by then is told.
        detection: for a client that was asked to look for updates, until its log tells how that went.
        signature: for which a job tries to verify the package's signature (closed networks stall here).
        still: an installer that used no processor for so long is told as standing still.
        job: for the whole job, seen from here; past it the job goes on by itself and can be joined.
        lost: for which a lost connection is tried again while a job runs, and no longer than what is left of ``job``.
        restart: for a server that restarts to be reached again.
        backup: for a backup of the database, and for reading it back.
        stop: for the services of IIS and of WSUS to stop, and to start again.
        restore: for which the job of a reset tries to put back what it had switched, whatever fails; it goes on by
            itself when ``job`` is over.
    """

    connect: float = 15.0
    operation: float = 20.0
    script: float = 120.0
    opening: float = 90.0
    upload: float = 120.0
    upload_total: float = 86400.0
    assemble: float = 600.0
    start: float = 120.0
    busy: float = 900.0
    logs: float = 60.0
    detection: float = 900.0
    signature: float = 180.0
    still: float = 300.0
    job: float = 3600.0
    lost: float = 300.0
    restart: float = 1200.0
    backup: float = 7200.0
    stop: float = 300.0
    restore: float = 86400.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 7 * 86400:
                raise UsageError(f"the time out {item.name} must be a number of seconds above 0, at most a week")

    def _summary(self) -> str:
        given = (
            (item.name, getattr(self, item.name)) for item in fields(self) if getattr(self, item.name) != item.default
        )
        return ", ".join(f"{name}={value:.10g}" for name, value in given) or "defaults"

    def __str__(self) -> str:
        return rows((item.name, f"{getattr(self, item.name):.10g} s") for item in fields(self))


def whole_seconds(seconds: float) -> int:
    """Return a time out as scripts take it: whole seconds, rounded up, so that none becomes "at once"."""
    return math.ceil(seconds)


@dataclass(frozen=True, repr=False)
class Connection(Presentable):
    """How to reach a server.

    Args:
        host: name or address.
        port: 5985, or 5986 with *ssl*, unless given.
        ssl: HTTPS. Servers of this age speak TLS 1.0 only, which today's OpenSSL refuses: plain HTTP with message
            encryption is what Windows' own client uses.
        auth: "negotiate" (Kerberos, else NTLM), "kerberos" (the strict choice: proves the server's identity), "ntlm".
        encryption: "always" encrypts every message, by NTLM or Kerberos over HTTP; "auto" leaves that to TLS.
        ca_cert: path of the authority's certificate for HTTPS, a file in PEM or a folder of them.
        proxy: URL of an HTTP proxy; proxies of the environment are never used.
        timeouts: see :class:`Timeouts`.

    Raises:
        UsageError: a value that cannot mean anything.
    """

    host: str
    port: int | None = None
    ssl: bool = False
    auth: str = "negotiate"
    encryption: str = "always"
    ca_cert: str | os.PathLike[str] | None = None
    proxy: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not _is_host(self.host):
            given = str(self.host)[:80]
            hint = "give the port by itself, as port= or --port" if _NAME_AND_PORT.fullmatch(given) else ""
            raise UsageError(f"not a host name or address: {given!r}", hint=hint)
        if self.port is not None and (
            isinstance(self.port, bool) or not isinstance(self.port, int) or not 1 <= self.port <= 65535
        ):
            raise UsageError(f"not a port: {str(self.port)[:20]}", host=self.host, hint="a port is 1 to 65535")
        if not isinstance(self.ssl, bool):
            raise UsageError(f"ssl must be True or False, not {str(self.ssl)[:40]!r}", host=self.host)
        if self.auth not in AUTHENTICATIONS:
            raise UsageError(
                f"unknown auth {str(self.auth)[:40]!r}", host=self.host, hint="one of " + ", ".join(AUTHENTICATIONS)
            )
        if self.encryption not in ENCRYPTIONS:
            raise UsageError(
                f"unknown encryption {str(self.encryption)[:40]!r}",
                host=self.host,
                hint="one of " + ", ".join(ENCRYPTIONS),
            )
        if self.encryption == "auto" and not self.ssl:
            raise UsageError(
                "messages would go unencrypted over HTTP", host=self.host, hint="use encryption='always', or ssl=True"
            )
        if not isinstance(self.timeouts, Timeouts):
            raise UsageError("timeouts must be a wsusfix.Timeouts", host=self.host)
        if self.ca_cert is not None:
            object.__setattr__(self, "ca_cert", self._readable_authority(self.ca_cert))
        if isinstance(self.proxy, str) and "@" in self.proxy:
            # It would stand in every report and error that names the connection.
            raise UsageError(
                "the proxy's URL must not carry a user name or password",
                host=self.host,
                hint="name it without them; a proxy that asks for them cannot be used",
            )
        if self.proxy is not None and not _is_proxy(self.proxy):
            given = str(self.proxy)[:80]
            raise UsageError(f"proxy is not a URL: {given!r}", host=self.host, hint="one such as http://proxy:3128")

    def _readable_authority(self, given: object) -> str:
        """Return the path of the authority's certificates, after a look at what is there."""
        path = os.fspath(given) if isinstance(given, str | os.PathLike) else given
        if not isinstance(path, str) or not os.path.exists(path):
            raise UsageError(f"ca_cert: there is no file {str(given)[:200]!r}", host=self.host)
        if not (os.path.isfile(path) or os.path.isdir(path)):
            # To read a pipe would wait for its other end.
            raise UsageError(f"ca_cert: {path[:200]!r} is neither a file nor a folder", host=self.host)
        if self.ssl and os.path.isfile(path):
            try:
                ssl.create_default_context(cafile=path)
            except OSError as error:
                raise UsageError(
                    f"ca_cert: no certificate can be read from {path[:200]!r}: {error.strerror}",
                    host=self.host,
                    hint="it takes certificates in PEM, one or several",
                ) from error
        return path

    @property
    def effective_port(self) -> int:
        """The port that is used."""
        return self.port or (DEFAULT_TLS_PORT if self.ssl else DEFAULT_PORT)

    def _summary(self) -> str:
        return f"{self._address()} {self.auth}"

    def __str__(self) -> str:
        scheme = "https" if self.ssl else "http"
        return f"{scheme}://{self._address()} ({self.auth}, encryption {self.encryption})"

    def _address(self) -> str:
        bare = ":" in self.host and not self.host.startswith("[")
        return f"{f'[{self.host}]' if bare else self.host}:{self.effective_port}"


def _update_ids(given: Any) -> tuple[str, ...]:
    """Return ids of updates as WSUS writes them, each once.

    Raises:
        UsageError: one of them is none.
    """
    if not isinstance(given, Sequence) or isinstance(given, str | bytes) or not given:
        raise UsageError("update_ids must be a sequence of ids", hint="leave it out to go by the title")
    ids = [str(item).strip().strip("{}").lower() for item in given]
    for text in ids:
        if not _GUID.fullmatch(text):
            raise UsageError(f"not the id of an update: {text[:60]!r}", hint="a GUID, as the plan shows it")
    return tuple(dict.fromkeys(ids))


def _is_host(text: str) -> bool:
    if ":" not in text and "[" not in text:
        return _NAME.fullmatch(text) is not None
    try:
        ipaddress.IPv6Address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return False
    return True


def _is_proxy(given: object) -> bool:
    if not isinstance(given, str) or not given.isprintable() or " " in given:
        return False
    try:
        url = urllib.parse.urlsplit(given)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


@dataclass(frozen=True, repr=False)
class Options(Presentable):
    """What the operator wants done.

    >>> print(wsusfix.Options(package="WSUS-KB954960-x64.exe", package_sha256="5a" * 32))
    package = WSUS-KB954960-x64.exe
    package_sha256 = 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a

    Args:
        package: path of the update's package file on this machine.
        package_sha256: pinned hash of it; a pinned hash is identity enough.
        package_arguments: the installer's own arguments in place of the usual silent ones; ``{package}`` and ``{log}``
            in them stand for the paths on the server.
        vouch_for_package: accept a package that does not name KB954960 itself and has no pinned hash.
        accept_unverifiable_signature: together with a pinned hash, accept a signature that the server cannot verify
            (closed networks); an invalid one is refused all the same.
        rtm: the way out of WSUS 3.0 without a service pack: "workaround", or "upgrade" to a service pack.
        upgrade_package: path of WSUS setup for a service pack; after one for SP1 the update itself is installed.
        upgrade_package_sha256: pinned hash of it.
        upgrade_target: "3.0 SP1" or "3.0 SP2", for a setup that does not say itself which it brings.
        vouch_for_upgrade_package: accept a setup that does not name itself and has no pinned hash.
        upstream_version: of the server that this one synchronizes with, as a version such as its console shows it;
            "none" when there is none.
        upgrade_beside_others: upgrade although another product stands on this WSUS.
        removal_meant: WSUS that its own setup has removed is not to come back: that is written down on the server, and
            nobody is told of it any more.
        backup: back the database up before anything is changed; ``None`` does so before an upgrade only, ``False``
            upgrades without one.
        reboot: "never", or "if-needed": restart the server where an installer asks for it.
        not_before: aware time; no job begins to work on the server earlier, by the server's own clock.
        not_after: aware time; no job begins to work, and no restart is begun, later.
        workaround: on WSUS 3.0 SP1 without a package, reset the approvals of the update for the time being; on 3.0 RTM
            that is done anyway.
        update_ids: ids of the updates whose approvals are reset, where the title does not name them (a server without
            English titles); what is named here is treated, and nothing else but what an earlier reset has treated and
            nobody has changed since: of that the proof is made anew.

    Raises:
        UsageError: a value that cannot mean anything.
    """

    package: str | os.PathLike[str] | None = None
    package_sha256: str | None = None
    package_arguments: Sequence[str] | None = None
    vouch_for_package: bool = False
    accept_unverifiable_signature: bool = False
    rtm: str = "workaround"
    upgrade_package: str | os.PathLike[str] | None = None
    upgrade_package_sha256: str | None = None
    upgrade_target: str | None = None
    vouch_for_upgrade_package: bool = False
    upstream_version: str | None = None
    upgrade_beside_others: bool = False
    removal_meant: bool = False
    backup: bool | None = None
    reboot: str = "never"
    not_before: datetime | None = None
    not_after: datetime | None = None
    workaround: bool = False
    update_ids: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for name in ("package", "upgrade_package"):
            self._take_path(name)
        for name in ("package_sha256", "upgrade_package_sha256"):
            self._take_hash(name)
        if self.package_arguments is not None:
            arguments: Any = self.package_arguments
            listed = isinstance(arguments, Sequence) and not isinstance(arguments, str | bytes)
            if not listed or not all(isinstance(item, str) for item in arguments):
                raise UsageError("package_arguments must be a sequence of strings, one for each argument")
            object.__setattr__(self, "package_arguments", tuple(arguments))
        if self.update_ids is not None:
            object.__setattr__(self, "update_ids", _update_ids(self.update_ids))
        for name in (
            "vouch_for_package",
            "accept_unverifiable_signature",
            "vouch_for_upgrade_package",
            "upgrade_beside_others",
            "removal_meant",
            "workaround",
        ):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be True or False")
        if self.backup is not None and not isinstance(self.backup, bool):
            raise UsageError("backup must be True or False, or None for the usual")
        if self.accept_unverifiable_signature and self.package_sha256 is None and self.upgrade_package_sha256 is None:
            raise UsageError(
                "accept_unverifiable_signature needs package_sha256 or upgrade_package_sha256",
                hint="without a verified signature only a pinned hash says that this is the right file",
            )
        self._check_upgrade()
        self._check_window()

    def _take_path(self, name: str) -> None:
        given = getattr(self, name)
        if given is None:
            return
        try:
            path = os.fspath(given)
        except TypeError:
            raise UsageError(f"{name} must be a path, not {type(given).__name__}") from None
        if not isinstance(path, str) or not path:
            raise UsageError(f"{name} must be the path of a file")
        object.__setattr__(self, name, path)

    def _take_hash(self, name: str) -> None:
        given = getattr(self, name)
        if given is None:
            return
        pinned = str(given).strip().lower()
        if not _SHA256.fullmatch(pinned):
            raise UsageError(f"{name} is not a SHA-256", hint="64 hexadecimal digits")
        object.__setattr__(self, name, pinned)

    def _check_upgrade(self) -> None:
        for name, known in (
            ("rtm", WAYS_OUT_OF_RTM),
            ("reboot", REBOOTS),
            ("upgrade_target", (None, *UPGRADE_TARGETS)),
        ):
            if getattr(self, name) not in known:
                given = str(getattr(self, name))[:40]
                raise UsageError(f"unknown {name} {given!r}", hint="one of " + ", ".join(filter(None, known)))
        upstream: Any = self.upstream_version
        if upstream is not None:
            if not isinstance(upstream, str) or not (upstream == NO_UPSTREAM or _VERSION.fullmatch(upstream)):
                raise UsageError(
                    f"upstream_version is no version: {str(upstream)[:40]!r}",
                    hint=f"two to four numbers with points between them, or '{NO_UPSTREAM}'",
                )
        if self.rtm != "upgrade":
            for name in ("upgrade_package", "upgrade_package_sha256", "upgrade_target", "upstream_version"):
                if getattr(self, name) is not None:
                    raise UsageError(f"{name} is for rtm='upgrade'", hint="say rtm='upgrade', or leave it out")
            for name in ("vouch_for_upgrade_package", "upgrade_beside_others"):
                if getattr(self, name):
                    raise UsageError(f"{name} is for rtm='upgrade'", hint="say rtm='upgrade', or leave it out")

    def _check_window(self) -> None:
        for name in ("not_before", "not_after"):
            given: Any = getattr(self, name)
            if given is None:
                continue
            if not isinstance(given, datetime) or given.utcoffset() is None:
                raise UsageError(
                    f"{name} must be a datetime that knows its offset from UTC",
                    hint="as in datetime(2008, 9, 6, 22, 0, tzinfo=timezone.utc)",
                )
            object.__setattr__(self, name, given.astimezone(timezone.utc).replace(microsecond=0))
        if self.not_before is not None and self.not_after is not None:
            length = self.not_after - self.not_before
            if not timedelta() < length <= _LONGEST_WINDOW:
                raise UsageError("not_after must be later than not_before, and at most a week")

    def _given(self) -> list[tuple[str, object]]:
        """What differs from what nobody had to say."""
        values = ((item.name, getattr(self, item.name), item.default) for item in fields(self))
        return [(name, value) for name, value, usual in values if value != usual]

    def _summary(self) -> str:
        return ", ".join(name for name, _ in self._given()) or "defaults"

    def __str__(self) -> str:
        return "\n".join(f"{name} = {value}" for name, value in self._given()) or "defaults"
