"""Every error of pypsrp, requests and spnego, mapped to one of ours in one table.

It knows the libraries' error classes and WinRM's fault codes (MS-WSMV section 2.2.4.43; trap by trap as measured) and
nothing of what was being attempted beyond the phase's name.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import xml.etree.ElementTree as ET  # only its exception; parsing is pypsrp's
from collections.abc import Callable
from typing import Final
from xml.parsers.expat import ExpatError

from wsusfix.remote import _quiet as _quiet  # before pypsrp is imported

# isort: split
import requests
import spnego.exceptions
import urllib3.exceptions
from cryptography.exceptions import UnsupportedAlgorithm
from pypsrp import exceptions as psrp
from pypsrp._pool_manager import NewConnectionDisabled
from urllib3.util.ssl_match_hostname import CertificateError as WrongNameError

from wsusfix import errors
from wsusfix.errors import WsusFixError
from wsusfix.present import printable
from wsusfix.remote.dial import NotResolvedInTime

__all__ = ["FAULTS", "NOTHING_YET", "translate"]

#: "Nothing to receive yet": no error, ask again.
NOTHING_YET: Final = 2150858793
_ACCESS_DENIED: Final = 5
_ABORTED: Final = 995
_SHELL_GONE: Final = 2150858843
_QUOTAS: Final = range(2150859173, 2150859180)

_RESOLVER_HINT: Final = "does this machine's resolver answer? try again, or give the address"
_PROXY_HINT: Final = "is the proxy the right one, and does it reach the server? without proxy= the way is direct"
_NOT_WINRM_HINT: Final = "is this really the server, and is WinRM up on it? look there, or try again in a minute"

#: What OpenSSL calls it when the other end speaks no TLS that is new enough; and when it speaks none at all.
_OLD_TLS: Final = frozenset(
    {
        "DH_KEY_TOO_SMALL",
        "NO_PROTOCOLS_AVAILABLE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSAFE_LEGACY_RENEGOTIATION_DISABLED",
        "UNSUPPORTED_PROTOCOL",
    }
)
_NO_TLS: Final = frozenset({"HTTP_REQUEST", "RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER"})

Factory = Callable[[Exception], WsusFixError]


def translate(error: Exception, *, host: str, phase: str) -> WsusFixError:
    """Return our error for a library's; one of ours comes back with host and phase filled in."""
    mapped = _mapped(error).at(host=host, phase=phase)
    general = mapped.hint == mapped.default_hint
    if phase == "connect" and general and isinstance(mapped, errors.DeadlineError | errors.BrokenConnectionError):
        # Nothing runs on the server yet, which is what these are about elsewhere.
        mapped.hint = _NOT_WINRM_HINT
    return mapped


def _mapped(error: Exception) -> WsusFixError:
    if isinstance(error, WsusFixError):
        return error
    for kinds, factory in FAULTS:
        if isinstance(error, kinds):
            return factory(error)
    return errors.ProtocolError(f"unexpected {type(error).__name__}: {_text(error)}")


def _text(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  (pypsrp puts words together from what the server said, and may fail at it)
        said = ""
    return printable(said, 300) or type(error).__name__


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
        code = int(code) if code.isascii() and code.isdigit() and len(code) <= 10 else 0
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
            # After an encrypted message it is the connection that idled away: the transport knows.
            return errors.ProtocolError("HTTP 400: whoever answers there does not take the request")
        case 401 | 403:
            return errors.AuthenticationError(f"HTTP {code}: not let in")
        case 404 | 405 | 501:
            return errors.UnavailableError(
                f"HTTP {code}: a web server answers, but not WinRM",
                hint="another port? WinRM listens on 5985 and 5986; is its service running?",
                retryable=False,
            )
        case 407:
            return errors.NotReachedError(
                "HTTP 407: the proxy wants credentials",
                hint="none can be given: use one that asks for none, or go without proxy=",
                retryable=False,
            )
        case 413:
            return errors.EnvelopeTooLargeError("HTTP 413: the message is larger than the server allows")
        case 502 | 504:
            return errors.NotReachedError(f"HTTP {code}: a proxy could not reach the server", hint=_PROXY_HINT)
        case 503:
            return errors.UnavailableError("HTTP 503: WinRM is starting or stopping")
        case _:
            return errors.ProtocolError(f"HTTP {code}: {printable(str(error.response_text), 200)}")


def _authentication(error: Exception) -> WsusFixError:
    said = _text(error)
    if "authentication methods" in said:
        return errors.AuthenticationError(
            f"the server offers no way to authenticate that is safe: {said}",
            hint="on the server: winrm get winrm/config/service/auth should have Negotiate = true",
        )
    return errors.AuthenticationError(f"not authenticated: {said}")


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


def _no_algorithm(error: Exception) -> WsusFixError:
    return errors.AuthenticationError(
        f"this machine lacks an algorithm that authenticating needs: {_text(error)}",
        hint="NTLM needs MD4, MD5 and RC4, which a machine in FIPS mode does not offer: use auth='kerberos'",
    )


def _tls(error: Exception) -> WsusFixError:
    chain = _chain(error)
    if any(isinstance(item, ssl.SSLCertVerificationError | WrongNameError) for item in chain):
        return errors.CertificateError(f"the server's certificate is not trusted: {_innermost(chain)}")
    reasons = {getattr(item, "reason", None) for item in chain if isinstance(item, ssl.SSLError)}
    if reasons & _OLD_TLS:
        return errors.TlsError(f"the server speaks no TLS that is new enough for this machine: {_innermost(chain)}")
    if reasons & _NO_TLS:
        return errors.TlsError(
            f"what answers there speaks no TLS: {_innermost(chain)}",
            hint="WinRM speaks TLS on port 5986; on port 5985 go without ssl=True, with encryption='always'",
        )
    return errors.TlsError(f"no TLS connection: {_innermost(chain)}")


def _innermost(chain: list[BaseException]) -> str:
    named = [item for item in chain if isinstance(item, OSError)]
    return _text(named[-1] if named else chain[-1])


def _not_connected(error: Exception) -> WsusFixError:
    chain = _chain(error)
    if any(isinstance(item, ssl.SSLError) for item in chain):
        return _tls(error)
    if any(isinstance(item, socket.gaierror | urllib3.exceptions.NameResolutionError) for item in chain):
        if any(isinstance(item, socket.gaierror) and item.errno == socket.EAI_AGAIN for item in chain):
            return errors.UnknownHostError(
                "the name does not resolve for the moment", hint=_RESOLVER_HINT, retryable=True
            )
        return errors.UnknownHostError("the name does not resolve")
    if any(isinstance(item, ConnectionRefusedError) for item in chain):
        return errors.RefusedError("the port is closed: nothing listens there")
    if any(_is_time_out(item) for item in chain):
        return _time_out(error)
    for item in chain:
        if _is_no_http(item):
            return errors.ProtocolError(f"what answers there does not speak HTTP: {_text(item)}")
    if any(isinstance(item, ConnectionError | urllib3.exceptions.ProtocolError) for item in chain):
        return errors.BrokenConnectionError(f"the connection broke: {_innermost(chain)}")
    return errors.NotReachedError(
        f"not reached: {_innermost(chain)}", hint="is the server on, and is there a route and an open firewall to it?"
    )


def _is_time_out(error: BaseException) -> bool:
    """Whether it took too long; urllib3 counts among its time outs whatever keeps a connection from being made."""
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    return isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError) and not refused


def _is_no_http(error: BaseException) -> bool:
    """Whether the other end said something that is no HTTP; one that says nothing, or stops, has broken off."""
    broken_off = isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead)
    return isinstance(error, http.client.HTTPException) and not broken_off


def _time_out(error: Exception) -> WsusFixError:
    connecting = requests.ConnectTimeout | urllib3.exceptions.ConnectTimeoutError
    chain = _chain(error)
    if any(isinstance(item, NotResolvedInTime) for item in chain):
        return errors.DeadlineError("the name was not resolved within the time allowed", hint=_RESOLVER_HINT)
    if any(isinstance(item, connecting) for item in chain):
        return errors.DeadlineError(
            "no connection within the time allowed", hint="is the server on, and does a firewall drop the port?"
        )
    return errors.DeadlineError("no answer within the time allowed")


def _proxy(error: Exception) -> WsusFixError:
    return errors.NotReachedError(f"the proxy failed: {_innermost(_chain(error))}", hint=_PROXY_HINT)


def _broken(error: Exception) -> WsusFixError:
    return errors.BrokenConnectionError(f"the answer broke off: {_text(error)}")


def _state(error: Exception) -> WsusFixError:
    return errors.ShellGoneError(f"the session is no longer usable: {_text(error)}")


def _not_opened(error: Exception) -> WsusFixError:
    return errors.UnavailableError(
        f"PowerShell on the server refused: {_text(error)}",
        hint="log on there: does PowerShell start, and has the machine memory left?",
        retryable=False,
    )


def _redirect(error: Exception) -> WsusFixError:
    return errors.ProtocolError("the server sends us to another address, which no WinRM server does")


def _garbled(error: Exception) -> WsusFixError:
    return errors.ProtocolError(f"the server's answer cannot be read: {type(error).__name__}: {_text(error)}")


def _arguments(error: Exception) -> WsusFixError:
    return errors.UsageError(f"these connection options do not go together: {_text(error)}")


#: Classes and what becomes of them; the first that fits counts, so the narrow stand before the wide.
FAULTS: Final[tuple[tuple[tuple[type[BaseException], ...], Factory], ...]] = (
    ((psrp.AuthenticationError,), _authentication),
    ((psrp.WSManFaultError,), _fault),
    ((psrp.WinRMTransportError,), _http_status),
    ((psrp._InvalidStateError, NewConnectionDisabled), _state),
    ((psrp.InvalidPSRPOperation,), _not_opened),
    ((psrp.WinRMError,), _garbled),
    ((spnego.exceptions.FeatureMissingError, ImportError), _missing_library),
    ((UnsupportedAlgorithm,), _no_algorithm),
    ((spnego.exceptions.BadMICError,), _garbled),
    ((spnego.exceptions.SpnegoError, spnego.exceptions.NativeError), _no_ticket),
    ((requests.exceptions.ProxyError, urllib3.exceptions.ProxyError), _proxy),
    ((requests.exceptions.SSLError, urllib3.exceptions.SSLError, ssl.SSLError, WrongNameError), _tls),
    ((requests.exceptions.Timeout,), _time_out),
    (
        (
            requests.exceptions.ChunkedEncodingError,
            urllib3.exceptions.IncompleteRead,
            urllib3.exceptions.InvalidChunkLength,
        ),
        _broken,
    ),
    ((requests.exceptions.ConnectionError, requests.exceptions.RetryError), _not_connected),
    ((requests.exceptions.TooManyRedirects,), _redirect),
    (
        (
            requests.exceptions.InvalidURL,
            requests.exceptions.MissingSchema,
            requests.exceptions.InvalidSchema,
            requests.exceptions.URLRequired,
            urllib3.exceptions.LocationValueError,
            urllib3.exceptions.ProxySchemeUnknown,
            urllib3.exceptions.ProxySchemeUnsupported,
        ),
        _arguments,
    ),
    ((requests.exceptions.RequestException, requests.cookies.CookieConflictError), _garbled),
    ((urllib3.exceptions.NewConnectionError,), _not_connected),
    ((urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ConnectTimeoutError), _time_out),
    (
        (
            urllib3.exceptions.DecodeError,
            urllib3.exceptions.HeaderParsingError,
            urllib3.exceptions.InvalidHeader,
            urllib3.exceptions.ResponseError,
            urllib3.exceptions.ResponseNotChunked,
            urllib3.exceptions.BodyNotHttplibCompatible,
        ),
        _garbled,
    ),
    ((urllib3.exceptions.ClosedPoolError, urllib3.exceptions.TimeoutStateError), _state),
    ((urllib3.exceptions.HTTPError,), _not_connected),
    ((TimeoutError,), _time_out),
    ((http.client.HTTPException, OSError), _not_connected),
    # ValueError is also binascii's, json's and the codecs'; these are what a parser that was told nonsense ends in.
    ((ET.ParseError, ExpatError, struct.error, ValueError, LookupError, ArithmeticError), _garbled),
    ((TypeError, AttributeError, RuntimeError, EOFError, Warning), _garbled),
)
