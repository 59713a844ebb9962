"""Every error of the libraries below becomes one of ours that says what to do, and a new class of theirs is noticed."""

from __future__ import annotations

import binascii
import http.client
import importlib
import inspect
import pkgutil
import socket
import ssl
import struct
import types
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.parsers import expat

import cryptography.exceptions
import pypsrp
import pytest
import requests
import spnego
import spnego.exceptions
import urllib3
from pypsrp.exceptions import InvalidPipelineStateError, WinRMTransportError, WSManFaultError
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from wsusfix import errors
from wsusfix.errors import WsusFixError
from wsusfix.remote import dial, faults
from wsusfix.remote.faults import translate

AUTHENTICATION: Final = errors.AuthenticationError
BROKEN: Final = errors.BrokenConnectionError
LATE: Final = errors.DeadlineError
NOT_REACHED: Final = errors.NotReachedError
PROTOCOL: Final = errors.ProtocolError
USAGE: Final = errors.UsageError

#: Every exception class that the libraries define, and what it becomes when all that is known of it is its class.
EXPECTED: Final[dict[str, type[WsusFixError]]] = {
    "pypsrp._pool_manager.NewConnectionDisabled": errors.ShellGoneError,
    "pypsrp.exceptions.AuthenticationError": AUTHENTICATION,
    "pypsrp.exceptions.FragmentError": PROTOCOL,
    "pypsrp.exceptions.InvalidPSRPOperation": errors.UnavailableError,
    "pypsrp.exceptions.InvalidPipelineStateError": errors.ShellGoneError,
    "pypsrp.exceptions.InvalidRunspacePoolStateError": errors.ShellGoneError,
    "pypsrp.exceptions.SerializationError": PROTOCOL,
    "pypsrp.exceptions.WSManFaultError": PROTOCOL,
    "pypsrp.exceptions.WinRMError": PROTOCOL,
    "pypsrp.exceptions.WinRMTransportError": PROTOCOL,
    "pypsrp.exceptions._InvalidStateError": errors.ShellGoneError,
    "pypsrp.negotiate.NoCertificateRetrievedWarning": PROTOCOL,
    "pypsrp.negotiate.UnknownSignatureAlgorithmOID": PROTOCOL,
    "pypsrp.powershell.RunspacePoolWarning": PROTOCOL,
    "requests.cookies.CookieConflictError": PROTOCOL,
    "requests.exceptions.ChunkedEncodingError": BROKEN,
    "requests.exceptions.ConnectTimeout": LATE,
    "requests.exceptions.ConnectionError": NOT_REACHED,
    "requests.exceptions.ContentDecodingError": PROTOCOL,
    "requests.exceptions.FileModeWarning": PROTOCOL,
    "requests.exceptions.HTTPError": PROTOCOL,
    "requests.exceptions.InvalidHeader": PROTOCOL,
    "requests.exceptions.InvalidJSONError": PROTOCOL,
    "requests.exceptions.InvalidProxyURL": USAGE,
    "requests.exceptions.InvalidSchema": USAGE,
    "requests.exceptions.InvalidURL": USAGE,
    "requests.exceptions.JSONDecodeError": PROTOCOL,
    "requests.exceptions.MissingSchema": USAGE,
    "requests.exceptions.ProxyError": NOT_REACHED,
    "requests.exceptions.ReadTimeout": LATE,
    "requests.exceptions.RequestException": PROTOCOL,
    "requests.exceptions.RequestsDependencyWarning": PROTOCOL,
    "requests.exceptions.RequestsWarning": PROTOCOL,
    "requests.exceptions.RetryError": NOT_REACHED,
    "requests.exceptions.SSLError": errors.TlsError,
    "requests.exceptions.StreamConsumedError": PROTOCOL,
    "requests.exceptions.Timeout": LATE,
    "requests.exceptions.TooManyRedirects": PROTOCOL,
    "requests.exceptions.URLRequired": USAGE,
    "requests.exceptions.UnrewindableBodyError": PROTOCOL,
    "spnego.exceptions.BadBindingsError": AUTHENTICATION,
    "spnego.exceptions.BadMICError": PROTOCOL,
    "spnego.exceptions.BadMechanismError": AUTHENTICATION,
    "spnego.exceptions.BadNameError": AUTHENTICATION,
    "spnego.exceptions.ContextExpiredError": AUTHENTICATION,
    "spnego.exceptions.CredentialsExpiredError": AUTHENTICATION,
    "spnego.exceptions.FeatureMissingError": AUTHENTICATION,
    "spnego.exceptions.InvalidCredentialError": AUTHENTICATION,
    "spnego.exceptions.InvalidTokenError": AUTHENTICATION,
    "spnego.exceptions.NativeError": AUTHENTICATION,
    "spnego.exceptions.NoContextError": AUTHENTICATION,
    "spnego.exceptions.NoCredentialError": AUTHENTICATION,
    "spnego.exceptions.OperationNotAvailableError": AUTHENTICATION,
    "spnego.exceptions.SpnegoError": AUTHENTICATION,
    "spnego.exceptions.UnsupportedQop": AUTHENTICATION,
    "urllib3.exceptions.BodyNotHttplibCompatible": PROTOCOL,
    "urllib3.exceptions.ClosedPoolError": errors.ShellGoneError,
    "urllib3.exceptions.ConnectTimeoutError": LATE,
    "urllib3.exceptions.DecodeError": PROTOCOL,
    "urllib3.exceptions.DependencyWarning": PROTOCOL,
    "urllib3.exceptions.EmptyPoolError": NOT_REACHED,
    "urllib3.exceptions.FullPoolError": NOT_REACHED,
    "urllib3.exceptions.HTTPError": NOT_REACHED,
    "urllib3.exceptions.HTTPWarning": PROTOCOL,
    "urllib3.exceptions.HeaderParsingError": PROTOCOL,
    "urllib3.exceptions.HostChangedError": NOT_REACHED,
    "urllib3.exceptions.IncompleteRead": BROKEN,
    "urllib3.exceptions.InsecurePlatformWarning": PROTOCOL,
    "urllib3.exceptions.InsecureRequestWarning": PROTOCOL,
    "urllib3.exceptions.InvalidChunkLength": BROKEN,
    "urllib3.exceptions.InvalidHeader": PROTOCOL,
    "urllib3.exceptions.LocationParseError": USAGE,
    "urllib3.exceptions.LocationValueError": USAGE,
    "urllib3.exceptions.MaxRetryError": NOT_REACHED,
    "urllib3.exceptions.NameResolutionError": errors.UnknownHostError,
    "urllib3.exceptions.NewConnectionError": NOT_REACHED,
    "urllib3.exceptions.NotOpenSSLWarning": PROTOCOL,
    "urllib3.exceptions.PoolError": NOT_REACHED,
    "urllib3.exceptions.ProtocolError": BROKEN,
    "urllib3.exceptions.ProxyError": NOT_REACHED,
    "urllib3.exceptions.ProxySchemeUnknown": USAGE,
    "urllib3.exceptions.ProxySchemeUnsupported": USAGE,
    "urllib3.exceptions.ReadTimeoutError": LATE,
    "urllib3.exceptions.RequestError": NOT_REACHED,
    "urllib3.exceptions.ResponseError": PROTOCOL,
    "urllib3.exceptions.ResponseNotChunked": PROTOCOL,
    "urllib3.exceptions.SSLError": errors.TlsError,
    "urllib3.exceptions.SecurityWarning": PROTOCOL,
    "urllib3.exceptions.SystemTimeWarning": PROTOCOL,
    "urllib3.exceptions.TimeoutError": LATE,
    "urllib3.exceptions.TimeoutStateError": errors.ShellGoneError,
    "urllib3.exceptions.URLSchemeUnknown": USAGE,
    "urllib3.exceptions.UnrewindableBodyError": NOT_REACHED,
    "urllib3.util.ssl_match_hostname.CertificateError": errors.CertificateError,
}
#: Modules of theirs that need what nobody here has, or what never runs here: a browser, HTTP/2, SOCKS.
OUT_OF_REACH: Final = ("urllib3.contrib", "urllib3.http2")


def _modules(package: types.ModuleType) -> Iterator[types.ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.startswith(OUT_OF_REACH):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    module = importlib.import_module(found.name)
            except ImportError:
                continue  # of another platform, such as spnego's SSPI
            yield module


def _classes() -> dict[str, type[Exception]]:
    return {
        f"{kind.__module__}.{kind.__name__}": kind
        for package in (pypsrp, requests, spnego, urllib3)
        for module in _modules(package)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__.startswith(package.__name__ + ".")
    }


CLASSES: Final = _classes()


def _made(kind: type[Exception]) -> Exception:
    """Return an instance without its constructor, whose arguments differ; what it says is whatever comes of that."""
    error = kind.__new__(kind)
    error.args = ("it broke", 418, "text", "more", "still more", "the rest")
    return error


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_exception_class_of_the_libraries_has_its_place_in_the_table(name: str) -> None:
    assert name in EXPECTED, "a class nobody has thought of: say what it means"
    said = translate(_made(CLASSES[name]), host="wsus01", phase="facts")
    assert type(said) is EXPECTED[name]
    assert (said.host, said.phase) == ("wsus01", "facts")
    assert "unexpected" not in said.message
    assert said.hint or EXPECTED[name] is USAGE


def test_the_walk_over_the_libraries_finds_what_it_is_about() -> None:
    assert CLASSES.keys() == EXPECTED.keys()


def test_a_class_that_the_table_does_not_know_is_told_as_unexpected_and_keeps_its_words() -> None:
    class Novel(Exception):
        pass

    said = translate(Novel("something else"), host="wsus01", phase="facts")
    assert type(said) is PROTOCOL
    assert said.message == "unexpected Novel: something else"


def test_no_row_of_the_table_is_shadowed_by_one_above_it() -> None:
    seen: list[type[BaseException]] = []
    for kinds, _ in faults.FAULTS:
        for kind in kinds:
            assert not any(issubclass(kind, wider) for wider in seen), f"{kind.__name__} never has its turn"
        seen += kinds


def test_an_error_of_ours_comes_back_as_it_is_with_the_place_filled_in() -> None:
    ours = errors.QuotaError("full", phase="connect")
    assert translate(ours, host="wsus01", phase="facts") is ours
    assert (ours.host, ours.phase) == ("wsus01", "connect")


# --- what the standard library and parsers end in ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ET.ParseError("no element found"), PROTOCOL),
        (expat.ExpatError("no element found"), PROTOCOL),
        (binascii.Error("Incorrect padding"), PROTOCOL),
        (struct.error("unpack requires a buffer of 4 bytes"), PROTOCOL),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), PROTOCOL),
        (KeyError("RefId"), PROTOCOL),
        (IndexError("list index out of range"), PROTOCOL),
        (OverflowError("Python int too large to convert to C int"), PROTOCOL),
        (TypeError("unhashable type: 'list'"), PROTOCOL),
        (AttributeError("'NoneType' object has no attribute 'text'"), PROTOCOL),
        (RecursionError("maximum recursion depth exceeded"), PROTOCOL),
        (NotImplementedError("no"), PROTOCOL),
        (EOFError(), PROTOCOL),
        (cryptography.exceptions.UnsupportedAlgorithm("MD4"), AUTHENTICATION),
        (ImportError("No module named 'gssapi'"), AUTHENTICATION),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), errors.TlsError),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), errors.CertificateError),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), errors.UnknownHostError),
        (dial.NotResolvedInTime("the name was not resolved in time"), LATE),
        (TimeoutError("timed out"), LATE),
        (ConnectionRefusedError(111, "Connection refused"), errors.RefusedError),
        (ConnectionResetError(104, "Connection reset by peer"), BROKEN),
        (BrokenPipeError(32, "Broken pipe"), BROKEN),
        (http.client.RemoteDisconnected("Remote end closed connection without response"), BROKEN),
        (http.client.BadStatusLine("SSH-2.0-OpenSSH"), PROTOCOL),
        (http.client.LineTooLong("header line"), PROTOCOL),
        (OSError(113, "No route to host"), NOT_REACHED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_standard_library_raises_is_told_in_our_words(error: Exception, kind: type[WsusFixError]) -> None:
    said = translate(error, host="wsus01", phase="facts")
    assert type(said) is kind
    assert said.hint
    assert "unexpected" not in said.message


# --- what wraps what ------------------------------------------------------------------------------------------------

_POOL: Final = HTTPConnectionPool("wsus01", 5985)


def _not_made(reason: OSError) -> requests.ConnectionError:
    """Return what requests makes of a connection that could not be made."""
    new = urllib3.exceptions.NewConnectionError(HTTPConnection("wsus01"), f"Failed to establish: {reason}")
    new.__cause__ = reason
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(_POOL, "/wsman", new))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_not_made(ConnectionRefusedError(111, "Connection refused")), errors.RefusedError),
        (_not_made(OSError(113, "No route to host")), NOT_REACHED),
        (
            requests.ConnectionError(
                urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "reset"))
            ),
            BROKEN,
        ),
        (
            requests.ConnectionError(
                urllib3.exceptions.ProtocolError("Connection aborted.", http.client.BadStatusLine("\x15\x03\x01"))
            ),
            PROTOCOL,
        ),
        (
            requests.ConnectionError(urllib3.exceptions.ReadTimeoutError(_POOL, "/wsman", "Read timed out.")),
            LATE,
        ),
        (
            requests.exceptions.SSLError(
                urllib3.exceptions.MaxRetryError(
                    _POOL, "/wsman", urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed"))
                )
            ),
            errors.CertificateError,
        ),
        (
            requests.exceptions.SSLError(
                urllib3.exceptions.MaxRetryError(
                    _POOL, "/wsman", urllib3.exceptions.SSLError(ssl.SSLError(1, "unsupported protocol"))
                )
            ),
            errors.TlsError,
        ),
    ],
    ids=["refused", "no route", "reset", "no HTTP", "read time out", "certificate", "TLS version"],
)
def test_what_requests_wraps_is_looked_at_inside(error: Exception, kind: type[WsusFixError]) -> None:
    assert type(translate(error, host="wsus01", phase="connect")) is kind


def test_errors_that_hold_each_other_are_looked_through_once() -> None:
    one, other = requests.ConnectionError("one"), OSError("other")
    one.__context__, other.__context__ = other, one
    assert type(translate(one, host="", phase="")) is NOT_REACHED


# --- WinRM's own words ----------------------------------------------------------------------------------------------


def _fault(code: object, reason: object = "in the server's language") -> WSManFaultError:
    return WSManFaultError(code, "WSUS01", reason, None, None, None)


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (5, errors.AccessDeniedError, False),
        ("5", errors.AccessDeniedError, False),
        (995, errors.UnavailableError, True),
        (2150858793, LATE, True),
        (2150858843, errors.ShellGoneError, True),
        *((code, errors.QuotaError, True) for code in range(2150859173, 2150859180)),
        (2150859172, PROTOCOL, False),
        (None, PROTOCOL, False),
        ("w:InternalError", PROTOCOL, False),
        ("²", PROTOCOL, False),
        ("9" * 5000, PROTOCOL, False),
    ],
)
def test_every_fault_code_has_its_meaning(code: object, kind: type[WsusFixError], retryable: bool) -> None:
    said = translate(_fault(code), host="wsus01", phase="facts")
    assert type(said) is kind
    assert said.retryable is retryable
    assert said.hint


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, PROTOCOL, False),
        (401, AUTHENTICATION, False),
        (403, AUTHENTICATION, False),
        (404, errors.UnavailableError, False),
        (405, errors.UnavailableError, False),
        (407, NOT_REACHED, False),
        (413, errors.EnvelopeTooLargeError, False),
        (500, PROTOCOL, False),
        (502, NOT_REACHED, True),
        (503, errors.UnavailableError, True),
        (504, NOT_REACHED, True),
    ],
)
def test_every_http_status_has_its_meaning(status: int, kind: type[WsusFixError], retryable: bool) -> None:
    said = translate(WinRMTransportError("http", status, "<html>"), host="wsus01", phase="connect")
    assert type(said) is kind
    assert said.retryable is retryable
    assert said.hint
    assert str(status) in said.message


@pytest.mark.parametrize(("number", "retryable"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)])
def test_a_resolver_without_an_answer_for_the_moment_is_told_from_a_wrong_name(number: int, retryable: bool) -> None:
    said = translate(_not_made(socket.gaierror(number, "words of the resolver")), host="wsus01", phase="connect")
    assert type(said) is errors.UnknownHostError
    assert said.retryable is retryable
    assert ("for the moment" in said.message) is ("resolver answer" in said.hint) is retryable


@pytest.mark.parametrize(
    "make",
    [
        lambda text: _fault(5, text),
        lambda text: _fault(None, text),
        lambda text: WinRMTransportError("http", 500, text),
        lambda text: pypsrp.exceptions.WinRMError(text),
        lambda text: requests.ConnectionError(text),
        lambda text: ValueError(text),
    ],
    ids=["fault", "fault without code", "status", "WinRM", "connection", "value"],
)
def test_what_a_server_said_reaches_nobody_with_control_characters_or_without_end(
    make: Callable[[str], Exception],
) -> None:
    said = translate(make("\x1b[2J\x07\u202e" + "x" * 100_000), host="wsus01", phase="facts")
    assert said.message.isprintable()
    assert len(said.message) < 500


def test_an_error_that_cannot_even_say_what_it_is_becomes_one_that_can() -> None:
    unsayable = InvalidPipelineStateError(object(), [None], "stop")
    with pytest.raises((TypeError, ValueError, LookupError, AttributeError)):
        str(unsayable)
    said = translate(unsayable, host="wsus01", phase="facts")
    assert type(said) is errors.ShellGoneError
    assert "InvalidPipelineStateError" in said.message


def test_a_server_that_offers_only_basic_is_not_told_as_a_wrong_password() -> None:
    error: Any = pypsrp.exceptions.AuthenticationError(
        "The server did not response with one of the following authentication methods Negotiate, Kerberos, NTLM "
        "- actual: 'Basic realm=\"WSMAN\"'"
    )
    said = translate(error, host="wsus01", phase="connect")
    assert type(said) is AUTHENTICATION
    assert "Negotiate" in said.hint
