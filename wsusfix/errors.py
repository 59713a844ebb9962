"""Every error the library raises, drawn as a tree, each with what a person needs to act on it.

This is the ground floor: every other room may import it, it imports none, and it does not know where errors come
from (``remote/faults.py`` maps the errors of the libraries below).

::

    WsusFixError
    ├── UsageError (ValueError)            an argument that cannot mean anything
    │   ├── CredentialsError               user name or password missing
    │   └── ConsentError                   an irreversible plan applied without consent
    ├── PackageError                       the package file cannot be read
    ├── NotReachedError (ConnectionError) the server was not reached, or was lost
    │   ├── UnknownHostError               the name does not resolve
    │   ├── RefusedError (ConnectionRefusedError)
    │   │                                  nothing listens on the port
    │   ├── TlsError                       no common TLS version, or another handshake failure
    │   │   └── CertificateError           the certificate is not trusted
    │   ├── UnavailableError               WinRM is absent, starting or stopping
    │   ├── QuotaError                     WinRM's quota of shells, processes or users is full
    │   ├── ShellGoneError                 the shell on the server no longer exists
    │   ├── EnvelopeTooLargeError          a message over the server's envelope limit
    │   └── BrokenConnectionError (ConnectionResetError)
    │       │                              the connection broke in the middle
    │       └── IdleDropError              the server dropped the connection while it idled
    ├── DeadlineError (TimeoutError)       something took longer than its deadline
    ├── NotAllowedError (PermissionError)  reached, but not let in
    │   ├── AuthenticationError            user name or password wrong
    │   └── AccessDeniedError              authenticated, but no administrator
    ├── ProtocolError                      an answer that no WinRM server gives
    │   └── AnswerError                    a script's answer that breaks its contract
    ├── ScriptError                        a script ended in an error on the server
    ├── RefusedByServerError               the server's state forbids the step (staging folder not closed, no space ...)
    ├── PlanChangedError                   what the plan rests on is no longer so
    └── JobError                           a detached job could not be started, joined or read
"""

from __future__ import annotations

__all__ = [
    "AccessDeniedError",
    "AnswerError",
    "AuthenticationError",
    "BrokenConnectionError",
    "CertificateError",
    "ConsentError",
    "CredentialsError",
    "DeadlineError",
    "EnvelopeTooLargeError",
    "IdleDropError",
    "JobError",
    "NotAllowedError",
    "NotReachedError",
    "PackageError",
    "PlanChangedError",
    "ProtocolError",
    "QuotaError",
    "RefusedByServerError",
    "RefusedError",
    "ScriptError",
    "ShellGoneError",
    "TlsError",
    "UnavailableError",
    "UnknownHostError",
    "UsageError",
    "WsusFixError",
]


class WsusFixError(Exception):
    """Something the caller must handle.

    Args:
        message: what happened, one sentence.
        host: on which server, ``""`` when none is concerned.
        phase: in which phase of the road ("connect", "facts", "upload", ...), ``""`` when none.
        hint: the next thing to try, ``""`` when nothing sensible can be said.
        retryable: whether the same call, repeated as it is, may succeed.

    Where a plan was being applied, ``outcome`` is the :class:`~wsusfix.Outcome` of the steps before, else ``None``.
    """

    #: What a class of errors says of itself where the place that raises it does not.
    default_hint: str = ""
    default_retryable: bool = False

    def __init_subclass__(cls, **more: object) -> None:
        """Put what a class says of itself into what ``help()`` shows of it."""
        super().__init_subclass__(**more)
        if cls.__doc__ is not None and cls.__module__ == __name__:
            does = f"What to do, unless it says otherwise: {cls.default_hint}." if cls.default_hint else ""
            again = "yes" if cls.default_retryable else "no"
            told = f"Worth the same call again: {again}, unless its ``retryable`` says otherwise."
            cls.__doc__ = "\n\n    ".join(filter(None, (cls.__doc__.rstrip(), does, told)))

    def __init__(
        self, message: str, *, host: str = "", phase: str = "", hint: str = "", retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.host = host
        self.phase = phase
        self.hint = hint or self.default_hint
        self.retryable = self.default_retryable if retryable is None else retryable
        self.outcome: object | None = None

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.host, self.phase) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.hint})" if self.hint else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message), dict(self.__dict__)

    def at(self, *, host: str = "", phase: str = "") -> WsusFixError:
        """Return this error with host and phase filled in where they are not known yet."""
        self.host = self.host or host
        self.phase = self.phase or phase
        return self

    def to_dict(self) -> dict[str, object]:
        """Return the error as plain data, for reports, which have an outcome's data beside it."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "host": self.host,
            "phase": self.phase,
            "hint": self.hint,
            "retryable": self.retryable,
        }


def _rebuild(cls: type[WsusFixError], message: str) -> WsusFixError:
    """Unpickle an error: keyword-only arguments do not survive the default way (process pools, Ansible)."""
    return cls(message)


class UsageError(WsusFixError, ValueError):
    """An argument that cannot mean anything, found before anything is sent."""


class CredentialsError(UsageError):
    """User name or password is missing."""

    default_hint = "pass username= and password=, or set WSUSFIX_USERNAME and WSUSFIX_PASSWORD"


class ConsentError(UsageError):
    """A plan that cannot be undone was to be applied without consent."""

    default_hint = "show the plan to whoever answers for the server, then pass consent=True (--yes)"


class PackageError(WsusFixError):
    """The package file cannot be read; one that can be read but is unfit blocks the plan instead."""


class NotReachedError(WsusFixError, ConnectionError):
    """The server was not reached, or the connection was lost."""

    default_retryable = True


class UnknownHostError(NotReachedError):
    """The host name does not resolve."""

    default_hint = "check the spelling, the DNS suffix and this machine's resolver, or give the address"
    default_retryable = False


class RefusedError(NotReachedError, ConnectionRefusedError):
    """Nothing listens on the port."""

    default_hint = (
        "on the server: is WinRM 2.0 (KB968930) installed and 'winrm quickconfig' done? It listens on 5985 "
        "(5986 for HTTPS); listeners from before WinRM 2.0 use 80 and 443"
    )


class TlsError(NotReachedError):
    """The TLS handshake failed: Windows Server 2003 and 2008 speak TLS 1.0 only, which OpenSSL 3 refuses."""

    default_hint = "use port 5985 with encryption='always' instead: messages are encrypted by NTLM or Kerberos"
    default_retryable = False


class CertificateError(TlsError):
    """The server's certificate is not trusted, or is for another name."""

    default_hint = "give the authority that issued it as ca_cert=, or use port 5985 with encryption='always'"


class UnavailableError(NotReachedError):
    """WinRM is not there, is starting, or is stopping."""

    default_hint = "wait a minute; after a restart WinRM starts late"


class QuotaError(NotReachedError):
    """A quota of WinRM is full: 5 shells a user, 15 processes a shell, 5 users at once by default."""

    default_hint = "idle shells expire after about three minutes; close other sessions of this account or wait"


class ShellGoneError(NotReachedError):
    """The shell on the server no longer exists: it idled too long, or the server restarted."""

    default_hint = "connect again; a job that was started goes on and will be joined"


class EnvelopeTooLargeError(NotReachedError):
    """A message was larger than the server's limit."""

    default_hint = "on the server: winrm get winrm/config shows MaxEnvelopeSizekb; 150 is the default wsusfix fits into"
    default_retryable = False


class BrokenConnectionError(NotReachedError, ConnectionResetError):
    """The connection broke in the middle of a request."""

    default_hint = "run the same command again: whatever runs on the server goes on and is joined"


class IdleDropError(BrokenConnectionError):
    """The server dropped the connection, and its encryption with it, while nothing was said over it."""


class DeadlineError(WsusFixError, TimeoutError):
    """Something took longer than its deadline; the server may still be at it."""

    default_hint = "run the same command again: what is still running on the server is joined, never doubled"
    default_retryable = True


class NotAllowedError(WsusFixError, PermissionError):
    """The server was reached and did not let us in."""


class AuthenticationError(NotAllowedError):
    """The server did not accept the user name and password."""

    default_hint = (
        "check user name and password, and that the account is not locked; name it as DOMAIN\\user or SERVER\\user"
    )


class AccessDeniedError(NotAllowedError):
    """Authenticated, but not allowed to do this."""

    default_hint = (
        "the account must be an administrator of the server; a local account other than the built-in Administrator "
        "gets a filtered token over the network unless LocalAccountTokenFilterPolicy is 1 there"
    )


class ProtocolError(WsusFixError):
    """The other end answered something no WinRM server answers."""

    default_hint = "is this really the server, or a proxy or another service on that port?"


class AnswerError(ProtocolError):
    """A script's answer breaks its contract: a key is missing, of a wrong type, or too long."""

    default_hint = "nothing was changed by it; run with logging at DEBUG and report what the server answered"


class ScriptError(WsusFixError):
    """A script ended in an error on the server; the message is the server's own, in its language.

    Args:
        error_id: PowerShell's FullyQualifiedErrorId, the same in every language; ``""`` when there is none.
    """

    def __init__(
        self,
        message: str,
        *,
        error_id: str = "",
        host: str = "",
        phase: str = "",
        hint: str = "",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, host=host, phase=phase, hint=hint, retryable=retryable)
        self.error_id = error_id

    def to_dict(self) -> dict[str, object]:
        """Return the error as plain data, for reports."""
        return {**super().to_dict(), "error_id": self.error_id}


class RefusedByServerError(WsusFixError):
    """The state of the server forbids the step; nothing was changed by it.

    Args:
        reason: a :class:`~wsusfix.scripts.contracts.Refusal` value, for programs.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        host: str = "",
        phase: str = "",
        hint: str = "",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, host=host, phase=phase, hint=hint, retryable=retryable)
        self.reason = reason

    def to_dict(self) -> dict[str, object]:
        """Return the error as plain data, for reports."""
        return {**super().to_dict(), "reason": self.reason}


class PlanChangedError(WsusFixError):
    """What the plan rests on is no longer so; nothing was changed."""

    default_hint = "make a new plan and look at it again"


class JobError(WsusFixError):
    """A detached job could not be started, joined or read."""

    default_hint = "run the same command again; server.job() tells how the job stands"
