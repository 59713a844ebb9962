"""Whatever cannot mean anything is refused by name before a byte is sent, from Python and from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wsusfix
from tests import builders
from tests.wire.servers import (
    ACCOUNT,
    PASSWORD,
    Asked,
    RawServer,
    nothing_left,
    raw,
    reach,
    serving,
    silent,
)
from wsusfix.cli import main
from wsusfix.lab import packages

HOSTS: list[Any] = [
    "",
    " ",
    "a b",
    "http://wsus01",
    "wsus01/",
    "wsus01:5985",
    "127.0.0.1:5985",
    "[::1]:5985",
    "-x",
    "wsus01-",
    ".",
    "..",
    "a..b",
    ".a",
    "wsus01\n",
    "\x1b[2J",
    "wsüs",
    "a" * 64,
    "a" * 64 + ".corp",
    ".".join(["a" * 60] * 5),
    "::x",
    ":::",
    "[::1",
    "::1]",
    "[wsus01]",
    "[]",
    "\ud800",
    None,
    7,
    b"wsus01",
    ["wsus01"],
]

#: An argument, what is wrong about it, and the word that names it in the error.
WRONG: list[tuple[str, Any, str]] = [
    *(("host", host, "host") for host in HOSTS),
    *(("port", port, "port") for port in (0, -1, 65536, "5985", 5985.0, True, [5985])),
    *(("username", name, "username") for name in ("", 7, b"admin", "a\0", "a\nb", "a\rb", "\udce9", "x" * 5000)),
    *(("password", word, "password") for word in ("", 7, b"x", "x\0", "x\n", "\udce9", "x" * 5000)),
    *(("auth", auth, "auth") for auth in ("basic", "", "Kerberos", None, 7, ["ntlm"], "x" * 5000)),
    *(("encryption", how, "encryption") for how in ("never", "auto", "", None, 7)),
    *(("ssl", ssl, "ssl") for ssl in ("no", 1, None)),
    *(("ca_cert", path, "ca_cert") for path in ("", "/no/such.pem", 7, b"x", "\0", Path("/no/such.pem"))),
    *(
        ("proxy", url, "proxy")
        for url in (
            *("", "proxy", "proxy:3128", "ftp://proxy", "http://", "http://proxy:x", "http://proxy:99999"),
            *("http://pro xy", "http://[::1", "http://proxy\n", 7, b"http://proxy"),
        )
    ),
    *(("timeouts", value, "timeouts") for value in (0, 5, {}, {"connect": 5}, "5")),
    ("on_event", "print", "on_event"),
]


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def server() -> Iterator[RawServer]:
    """A server that nobody has any business with."""
    with raw(silent) as listening:
        yield listening
        assert listening.accepted == [], "something was sent"


@pytest.fixture
def as_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSUSFIX_USERNAME", ACCOUNT.name)
    monkeypatch.setenv("WSUSFIX_PASSWORD", PASSWORD)


@pytest.mark.parametrize(("argument", "value", "named"), WRONG, ids=lambda value: repr(value)[:30])
def test_an_argument_that_cannot_mean_anything_is_refused_by_its_name(
    server: RawServer, argument: str, value: Any, named: str
) -> None:
    with pytest.raises(wsusfix.UsageError) as caught:
        wsusfix.connect(**reach(server, **{argument: value}))
    said = str(caught.value)
    assert named in said
    assert said.isprintable()
    assert len(said) < 600
    if argument == "password":
        assert not isinstance(value, str) or len(value) < 2 or value not in said


def test_no_error_about_credentials_holds_them_anywhere() -> None:
    with pytest.raises(wsusfix.CredentialsError) as caught:
        wsusfix.Credentials("admin", "secret\udce9")
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in repr(error) + repr(error.args) + repr(vars(error))
        error = error.__cause__ or error.__context__


def test_a_host_with_its_port_is_told_where_the_port_belongs() -> None:
    for host in ("wsus01:5985", "127.0.0.1:5985", "[::1]:5985"):
        with pytest.raises(wsusfix.UsageError) as caught:
            wsusfix.Connection(host)
        assert "--port" in caught.value.hint


@pytest.mark.parametrize(
    "host", ["wsus01", "WSUS_01.corp.example.", "a", "1", "127.0.0.1", "::1", "[::1]", "fe80::1%eth0", "a" * 63]
)
def test_what_is_a_name_or_an_address_is_taken(host: str) -> None:
    assert wsusfix.Connection(host).host == host


def test_a_certificate_that_is_none_is_told_before_anything_is_sent(server: RawServer, tmp_path: Path) -> None:
    for content in (b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        (tmp_path / "ca.pem").write_bytes(content)
        with pytest.raises(wsusfix.UsageError, match="ca_cert"):
            wsusfix.connect(**reach(server, ssl=True, ca_cert=tmp_path / "ca.pem"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.timeout(10)
def test_certificates_in_a_pipe_are_refused_and_not_waited_for(server: RawServer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.pem")
    for path in (tmp_path / "ca.pem", Path(os.devnull)):
        with pytest.raises(wsusfix.UsageError, match="neither a file nor a folder"):
            wsusfix.connect(**reach(server, ssl=True, ca_cert=path))
    assert not server.accepted


def test_missing_credentials_say_where_they_come_from(server: RawServer) -> None:
    for missing in ("username", "password"):
        with pytest.raises(wsusfix.CredentialsError, match=missing) as caught:
            wsusfix.connect(**reach(server, **{missing: None}))
        assert "WSUSFIX_PASSWORD" in caught.value.hint


# --- the package ----------------------------------------------------------------------------------------------------


def missing(folder: Path) -> Any:
    return folder / "missing.exe"


def a_folder(folder: Path) -> Any:
    return folder


def empty(folder: Path) -> Any:
    (folder / "empty.exe").write_bytes(b"")
    return folder / "empty.exe"


def a_pipe(folder: Path) -> Any:
    os.mkfifo(folder / "pipe.exe")
    return folder / "pipe.exe"


def a_device(_: Path) -> Any:
    return "/dev/zero"


def below_a_file(folder: Path) -> Any:
    return empty(folder) / "package.exe"


def a_name_too_long(folder: Path) -> Any:
    return folder / ("x" * 5000)


def a_name_with_a_nul(_: Path) -> Any:
    return "a\0b"


def no_path_at_all(_: Path) -> Any:
    return ""


UNREADABLE = [
    *(missing, a_folder, empty, a_device, below_a_file, a_name_too_long, a_name_with_a_nul),
    *([a_pipe] if hasattr(os, "mkfifo") else []),
    no_path_at_all,
]


@pytest.mark.parametrize("make", UNREADABLE)
def test_a_package_that_cannot_be_read_is_told_before_anything_is_sent(
    server: RawServer, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    path = make(tmp_path)
    said = refused(server, path)
    assert "package" in said or "path" in said or os.path.basename(str(path))[:20] in said


def refused(server: RawServer, path: Any) -> str:
    """Return what is said of a package that cannot be read."""
    arguments = reach(server)
    host = arguments.pop("host")
    with pytest.raises((wsusfix.PackageError, wsusfix.UsageError)) as caught:
        wsusfix.remediate(host, wsusfix.Options(package=path), consent=True, **arguments)
    said = str(caught.value)
    assert said.isprintable()
    return said


def test_a_package_that_this_account_may_not_read_is_told_before_anything_is_sent(
    server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "closed.exe"
    path.write_bytes(b"MZ" * 100)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("wsusfix.package.open", denied, raising=False)
    said = refused(server, path)
    assert "closed.exe" in said
    assert "ermission" in said or "read" in said


@pytest.mark.parametrize(
    "package", [7, b"package.exe", ["package.exe"], object()], ids=["number", "bytes", "list", "object"]
)
def test_a_package_that_is_no_path_is_refused_by_its_name(package: Any) -> None:
    with pytest.raises(wsusfix.UsageError, match="package"):
        wsusfix.Options(package=package)


@pytest.mark.parametrize("pinned", ["", "xyz", "5a" * 31, "5a" * 33, "5g" * 32, 7, b"5a" * 32, "\u0665a" * 32])
def test_a_hash_of_the_wrong_shape_is_refused_by_its_name(pinned: Any) -> None:
    with pytest.raises(wsusfix.UsageError, match="package_sha256") as caught:
        wsusfix.Options(package_sha256=pinned)
    assert "64" in caught.value.hint


def one_byte(folder: Path) -> Path:
    (folder / "byte.exe").write_bytes(b"M")
    return folder / "byte.exe"


def text(folder: Path) -> Path:
    (folder / "text.exe").write_text("The download has failed.")
    return folder / "text.exe"


def cut_off(folder: Path) -> Path:
    whole = packages.write_stand_in(folder / "whole", "package.exe", arch="x64", size=300_000)
    (folder / "cut.exe").write_bytes(whole.read_bytes()[:700])
    return folder / "cut.exe"


@pytest.mark.parametrize("make", [one_byte, text, cut_off])
def test_a_file_that_is_no_package_blocks_the_plan_and_nothing_is_done(tmp_path: Path, make: Any) -> None:
    asked = Asked()
    path = make(tmp_path)
    with serving(asked) as endpoint:
        arguments = reach(endpoint)
        outcome = wsusfix.remediate(arguments.pop("host"), wsusfix.Options(package=path), consent=True, **arguments)
    assert outcome.blocked
    assert not outcome.changed
    assert path.name in str(outcome) or "package" in str(outcome)
    assert set(asked.names) == {"facts", "search_logs"}


# --- from the command line ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_admin")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["diagnose", ""], "host"),
        (["diagnose", "wsus01:5985"], "--port"),
        (["diagnose", "\x1b[2Jwsus01"], "host"),
        (["diagnose", "\udcff"], "host"),
        (["diagnose", "x" * 5000], "host"),
        (["diagnose", "wsus01", "--port", "0"], "port"),
        (["diagnose", "wsus01", "--port", "-1"], "port"),
        (["diagnose", "wsus01", "--port", "x"], "--port"),
        (["diagnose", "wsus01", "--port", "9" * 5000], "port"),
        (["diagnose", "wsus01", "--timeout", "0"], "time out"),
        (["diagnose", "wsus01", "--timeout", "nan"], "time out"),
        (["diagnose", "wsus01", "--timeout", "inf"], "time out"),
        (["diagnose", "wsus01", "--timeout", "x"], "--timeout"),
        (["diagnose", "wsus01", "--username", ""], "username"),
        (["diagnose", "wsus01", "--auth", "basic"], "--auth"),
        (["diagnose", "wsus01", "--ca-cert", "/no/such.pem"], "--ca-cert:"),
        (["diagnose", "wsus01", "--proxy", "proxy"], "proxy"),
        (["diagnose", "wsus01", "--proxy", "http://me:secret@proxy"], "proxy"),
        (["plan", "wsus01", "--package", ""], "package"),
        (["plan", "wsus01", "--package", "/no/such.exe"], "no/such.exe"),
        (["plan", "wsus01", "--package", "/tmp"], "tmp"),
        (["plan", "wsus01", "--package", "/dev/zero"], "zero"),
        (["plan", "wsus01", "--package", "a\0b"], "path"),
        (["plan", "wsus01", "--package", "\x1b[2J.exe"], "exe"),
        (["plan", "wsus01", "--package-sha256", "5a"], "--package-sha256"),
        (["remediate", "wsus01", "--yes", "--accept-unverifiable-signature"], "--package-sha256"),
        (["diagnose", "wsus01", "--report", __file__], "report"),
        (["diagnose", "wsus01", "--report", "a\0b"], "report"),
        (["remediate", "wsus01", "--yes", "--report", __file__ + "/below"], "report"),
        (["diagnose", "wsus01", "--password", "secret"], "--password"),
    ],
    ids=lambda value: " ".join(value)[:60].encode("ascii", "replace").decode() if isinstance(value, list) else "",
)
def test_the_command_line_refuses_it_with_two_and_one_line(
    arguments: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sent(*_: object, **__: object) -> None:
        raise AssertionError("something was sent")

    monkeypatch.setattr("wsusfix.remote.session.Session.open", sent)
    assert main(arguments) == 2
    shown = "".join(capsys.readouterr())
    assert named in shown
    assert "Traceback" not in shown
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert len(shown) < 6000
    assert "secret" not in shown or "--password" in arguments


def test_output_that_the_terminal_cannot_show_does_not_end_the_run() -> None:
    with serving(Asked(facts=builders.answer(setup_VersionString="3.1 Blåbær"))) as endpoint:
        done = subprocess.run(
            [sys.executable, "-m", "wsusfix", "diagnose", endpoint.address, "--port", str(endpoint.port)],
            env={
                **os.environ,
                "WSUSFIX_USERNAME": ACCOUNT.name,
                "WSUSFIX_PASSWORD": PASSWORD,
                "PYTHONIOENCODING": "ascii",
            },
            capture_output=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    assert done.returncode == 3, done.stderr
    assert b"3.1 Bl\\xe5b\\xe6r" in done.stdout
