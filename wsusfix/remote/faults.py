"""Every error of pypsrp, requests and spnego, mapped to one of ours in one table.

It knows the libraries' error classes and WinRM's fault codes (MS-WSMV section 2.2.4.43; trap by trap as measured) and
nothing of what was being attempted beyond the phase's name.
"""

from __future__ import annotations

import binascii
import socket
import ssl
import struct
import xml.etree.ElementTree as ET  # only its exception; parsing is pypsrp's
from collections.abc import Callable
from typing import Final

import requests
import spnego.exceptions
import urllib3.exceptions
from pypsrp import exceptions as psrp
from pypsrp._pool_manager import NewConnectionDisabled

from wsusfix import errors
from wsusfix.errors import WsusFixError
from wsusfix.present import printable

__all__ = ["FAULTS", "LIBRARY_ERRORS", "NOTHING_YET", "translate"]

#: "Nothing to receive yet": no error, ask again.
NOTHING_YET: Final = 2150858793
_ACCESS_DENIED: Final = 5
_ABORTED: Final = 995
_SHELL_GONE: Final = 2150858843
_QUOTAS: Final = range(2150859173, 2150859180)

Factory = Callable[[Exception], WsusFixError]


def translate(error: Exception, *, host: str, phase: str) -> WsusFixError:
    """Return our error for a library's; one of ours comes back with host and phase filled in."""
    if isinstance(error, WsusFixError):
        return error.at(host=host, phase=phase)
    for kinds, factory in FAULTS:
        if isinstance(error, kinds):
            return factory(error).at(host=host, phase=phase)
    return errors.ProtocolError(f"unexpected {type(error).__name__}: {_text(error)}", host=host, phase=phase)


def _text(error: BaseException) -> str:
    return printable(str(error), 300)


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and all it wraps: causes, contexts, and the arguments in which requests hides urllib3's."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 50:
        item = waiting.pop(0)
        if not isinstance(item, BaseException) or item in found:
            continue
        found.append(item)
        waiting += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
    return found


def _fault(error: Exception) -> WsusFixError:
    assert isinstance(error, psrp.WSManFaultError)
    code = error.code
    if isinstance(code, str):
        code = int(code) if code.isdigit() else 0
    said = printable(str(error.reason or error.provider_fault or f"WSMan fault {code}"), 300)
    if code == _ACCESS_DENIED:
        return errors.AccessDeniedError(f"access denied: {said}")
    if code == _SHELL_GONE:
        return errors.ShellGoneError(f"the shell is gone: {said}")
    if code == _ABORTED:
        return errors.UnavailableError(f"WinRM is stopping: {said}")
    if code in _QUOTAS:
        return errors.QuotaError(f"a quota of WinRM is full: {said}")
    if code == NOTHING_YET:
        return errors.DeadlineError("the server had nothing to say within the operation's time")
    return errors.ProtocolError(f"WSMan fault {code}: {said}")


def _http_status(error: Exception) -> WsusFixError:
    assert isinstance(error, psrp.WinRMTransportError)
    code = error.code
    match code:
        case 400:
            return errors.BrokenConnectionError("HTTP 400: the server dropped the idle connection and its encryption")
        case 401 | 403:
            return errors.AuthenticationError(f"HTTP {code}: not let in")
        case 404:
            return errors.UnavailableError(
                "HTTP 404: a web server answers, but not WinRM", hint="another port? WinRM listens on 5985 and 5986"
            )
        case 407:
            return errors.NotReachedError("HTTP 407: the proxy wants credentials", hint="check the proxy")
        case 413:
            return errors.EnvelopeTooLargeError("HTTP 413: the message is larger than the server allows")
        case 502 | 504:
            return errors.NotReachedError(f"HTTP {code}: a proxy could not reach the server", hint="check the proxy")
        case 503:
            return errors.UnavailableError("HTTP 503: WinRM is starting or stopping")
        case _:
            return errors.ProtocolError(f"HTTP {code}: {printable(str(error.response_text), 200)}")


def _authentication(error: Exception) -> WsusFixError:
    return errors.AuthenticationError(f"not authenticated: {_text(error)}")


def _no_ticket(error: Exception) -> WsusFixError:
    return errors.AuthenticationError(
        f"could not authenticate: {_text(error)}",
        hint="for Kerberos: is there a ticket, and is the server named by its full DNS name? else use auth='ntlm'",
    )


def _missing_library(error: Exception) -> WsusFixError:
    return errors.AuthenticationError(
        f"a library for this way of authenticating is missing: {_text(error)}",
        hint="for auth='kerberos' install pypsrp[kerberos]; auth='ntlm' needs nothing more",
    )


def _tls(error: Exception) -> WsusFixError:
    chain = _chain(error)
    if any(isinstance(item, ssl.SSLCertVerificationError) for item in chain):
        return errors.CertificateError(f"the server's certificate is not trusted: {_innermost(chain)}")
    return errors.TlsError(f"no TLS connection: {_innermost(chain)}")


def _innermost(chain: list[BaseException]) -> str:
    named = [item for item in chain if isinstance(item, OSError)]
    return _text(named[-1] if named else chain[-1])


def _not_connected(error: Exception) -> WsusFixError:
    chain = _chain(error)
    if any(isinstance(item, ssl.SSLError) for item in chain):
        return _tls(error)
    if any(isinstance(item, socket.gaierror | urllib3.exceptions.NameResolutionError) for item in chain):
        return errors.UnknownHostError("the name does not resolve")
    if any(isinstance(item, ConnectionRefusedError) for item in chain):
        return errors.RefusedError("the port is closed: nothing listens there")
    if any(isinstance(item, socket.timeout | urllib3.exceptions.TimeoutError) for item in chain):
        return _time_out(error)
    if any(isinstance(item, ConnectionError | urllib3.exceptions.ProtocolError) for item in chain):
        return errors.BrokenConnectionError(f"the connection broke: {_innermost(chain)}")
    return errors.NotReachedError(
        f"not reached: {_innermost(chain)}", hint="is the server on, and is there a route and an open firewall to it?"
    )


def _time_out(error: Exception) -> WsusFixError:
    if any(
        isinstance(item, requests.ConnectTimeout | urllib3.exceptions.ConnectTimeoutError) for item in _chain(error)
    ):
        return errors.DeadlineError(
            "no connection within the time allowed", hint="is the server on, and does a firewall drop the port?"
        )
    return errors.DeadlineError("no answer within the time allowed")


def _proxy(error: Exception) -> WsusFixError:
    return errors.NotReachedError(f"the proxy failed: {_innermost(_chain(error))}", hint="check proxy=")


def _broken(error: Exception) -> WsusFixError:
    return errors.BrokenConnectionError(f"the answer broke off: {_text(error)}")


def _state(error: Exception) -> WsusFixError:
    return errors.ShellGoneError(f"the session is no longer usable: {_text(error)}")


def _garbled(error: Exception) -> WsusFixError:
    return errors.ProtocolError(f"the server's answer cannot be read: {type(error).__name__}: {_text(error)}")


def _arguments(error: Exception) -> WsusFixError:
    return errors.UsageError(f"these connection options do not go together: {_text(error)}")


#: Classes and what becomes of them; the first that fits counts, so the narrow stand before the wide.
FAULTS: Final[tuple[tuple[tuple[type[BaseException], ...], Factory], ...]] = (
    ((psrp.AuthenticationError,), _authentication),
    ((psrp.WSManFaultError,), _fault),
    ((psrp.WinRMTransportError,), _http_status),
    ((psrp.InvalidRunspacePoolStateError, psrp.InvalidPipelineStateError), _state),
    ((psrp.WinRMError,), _garbled),
    ((NewConnectionDisabled,), _state),
    ((spnego.exceptions.FeatureMissingError, ImportError), _missing_library),
    ((spnego.exceptions.SpnegoError, spnego.exceptions.NativeError), _no_ticket),
    ((requests.exceptions.ProxyError,), _proxy),
    ((requests.exceptions.SSLError,), _tls),
    ((requests.exceptions.Timeout,), _time_out),
    ((requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError), _broken),
    ((requests.exceptions.ConnectionError, requests.exceptions.RetryError), _not_connected),
    (
        (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema),
        _arguments,
    ),
    ((requests.exceptions.RequestException,), _garbled),
    ((urllib3.exceptions.TimeoutError,), _time_out),
    ((urllib3.exceptions.HTTPError,), _not_connected),
    ((ssl.SSLError,), _tls),
    ((TimeoutError,), _time_out),
    ((OSError,), _not_connected),
    ((ET.ParseError, binascii.Error, struct.error, UnicodeError, ValueError, LookupError), _garbled),
    ((TypeError, AttributeError, RecursionError), _garbled),
)

#: What the session catches at its one seam: everything the table names.
LIBRARY_ERRORS: Final[tuple[type[BaseException], ...]] = tuple(kind for kinds, _ in FAULTS for kind in kinds)
