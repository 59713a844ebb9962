"""The password is nowhere: not in a log, an event, a report, an error, a command line, on the server or on the wire.

It is looked for in every form in which it might hide, with a password that looks different in each.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import time
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import pytest
from spnego._ntlm_raw.crypto import ntowfv1

import wsusfix
from tests import builders
from tests.wire.servers import (
    ACCOUNT,
    Asked,
    answering,
    fault,
    instead,
    new_lab,
    nothing_left,
    raw,
    reach,
    serving,
    session,
)
from wsusfix import report
from wsusfix.cli import main
from wsusfix.errors import WsusFixError
from wsusfix.lab import Lab
from wsusfix.lab.wsman import Reply
from wsusfix.report import HostResult, Run

#: Different in UTF-8, UTF-16, base64, URLs, JSON, HTML, XML, reprs and PowerShell; no colon, for the lab's user file.
SECRET: Final = "Pä€w+/=&?%20<\"'\\ ~Geheim\U0001f511_x0041_$(x)"
WRONG: Final = "Falsch€+/=&%<\"'\\ ~nicht\U0001f511"


def _aligned(data: bytes) -> Iterator[bytes]:
    """Return what of *data* is told in base64 wherever it stands in what was encoded."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data)
        yield encoded[(8 * before + 5) // 6 : (before + len(data)) // 3 * 4]


def forms(secret: str, user: str) -> dict[str, bytes]:
    """Return every form of a secret that is looked for, by its name."""
    found: dict[str, bytes] = {}
    texts = {"secret": secret, "pair": f"{user}:{secret}"}
    for name, text in texts.items():
        for codec in ("utf-8", "utf-16-le", "utf-16-be"):
            data = text.encode(codec)
            found[f"{name} {codec}"] = data
            found[f"{name} {codec} hex"] = data.hex().encode()
            found[f"{name} {codec} HEX"] = data.hex().upper().encode()
            for number, encoded in enumerate(_aligned(data)):
                found[f"{name} {codec} base64 {number}"] = encoded
                found[f"{name} {codec} urlsafe {number}"] = encoded.replace(b"+", b"-").replace(b"/", b"_")
    for name, text in {
        "quoted": urllib.parse.quote(secret),
        "quoted whole": urllib.parse.quote(secret, safe=""),
        "quoted plus": urllib.parse.quote_plus(secret),
        "JSON": json.dumps(secret)[1:-1],
        "repr": repr(secret)[1:-1],
        "ascii": ascii(secret)[1:-1],
        "HTML": html.escape(secret),
        "first half": secret[: len(secret) // 2],
        "second half": secret[len(secret) // 2 :],
        "word": "Geheim" if secret == SECRET else "Falsch",
    }.items():
        found[name] = text.encode()
    key = ntowfv1(secret)
    found.update({"hash": key, "hash hex": key.hex().encode(), "hash base64": base64.b64encode(key)[:-2]})
    assert all(len(form) >= 6 for form in found.values())
    return found


FORMS: Final = {**{f"right: {name}": form for name, form in forms(SECRET, "LAB\\admin").items()},
                **{f"wrong: {name}": form for name, form in forms(WRONG, "LAB\\admin").items()}}  # fmt: skip


def found_in(what: object) -> list[str]:
    """Return the names of the forms that are in *what*, as text or as bytes."""
    data = what if isinstance(what, bytes) else str(what).encode("utf-8", "surrogatepass")
    return [name for name, form in FORMS.items() if form in data]


def test_the_search_finds_every_form_wherever_it_stands() -> None:
    for name, form in FORMS.items():
        assert name in found_in(b"before " + form + b" after")
    for text in (
        f"password={SECRET!r}",
        f"<p>{html.escape(SECRET)}</p>",
        json.dumps({"p": SECRET}),
        SECRET.encode().hex(),
    ):
        assert found_in(text)
    for before in ("", "a", "ab", "abc"):
        assert found_in(base64.b64encode(f"{before}{SECRET}{before}".encode()))
        assert found_in(base64.b64encode(f"{before}LAB\\admin:{SECRET}".encode("utf-16-le")))
    assert not found_in("what everybody may read")


# --- everything that is said ----------------------------------------------------------------------------------------


class Everything:
    """Collects what leaves the program: log records of every level, what is sent, and what a test adds."""

    def __init__(self) -> None:
        self.said: list[tuple[str, object]] = []
        self.records = 0
        self.bytes_sent = 0

    def add(self, where: str, *things: object) -> None:
        self.said += [(where, thing) for thing in things]

    def log(self, record: logging.LogRecord) -> None:
        self.records += 1
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self.add(f"log {record.name}", record.getMessage(), repr(record.args), trace, record.stack_info or "")

    def sent(self, data: bytes) -> None:
        self.bytes_sent += len(data)
        self.add("wire", data)

    def result(self, value: Any) -> None:
        """Add a result as it shows itself."""
        self.add(type(value).__name__, str(value), repr(value), value._repr_html_(), json.dumps(value.to_dict()))

    def error(self, error: BaseException) -> None:
        """Add an error and all it came from, as anybody might print them."""
        self.add("traceback", "".join(traceback.format_exception(error)))
        waiting: list[BaseException | None] = [error]
        while waiting:
            one = waiting.pop()
            if one is not None:
                self.add(type(one).__name__, str(one), repr(one), repr(one.args), repr(vars(one)))
                waiting += [one.__cause__, one.__context__]
        if isinstance(error, WsusFixError):
            self.add("plain data", json.dumps(error.to_dict()), repr(pickle.loads(pickle.dumps(error))))

    def assert_clean(self) -> None:
        leaks = [(where, names) for where, thing in self.said if (names := found_in(thing))]
        assert not leaks


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> Everything:
    """Open every tap: no logger holds anything back, whatever level anybody gave it."""
    collected = Everything()
    monkeypatch.setattr(logging.Logger, "isEnabledFor", lambda self, level: True)
    monkeypatch.setattr(logging.Logger, "callHandlers", lambda self, record: collected.log(record))
    send, sendall = socket.socket.send, socket.socket.sendall

    def sending(self: socket.socket, data: Any, *flags: int) -> int:
        collected.sent(bytes(data))
        return send(self, data, *flags)

    def sending_all(self: socket.socket, data: Any, *flags: int) -> None:
        collected.sent(bytes(data))
        sendall(self, data, *flags)

    monkeypatch.setattr(socket.socket, "send", sending)
    monkeypatch.setattr(socket.socket, "sendall", sending_all)
    return collected


@pytest.fixture
def secret_lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr("wsusfix.lab.lab._PASSWORD", SECRET)
    with new_lab() as lab:
        yield lab


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    with nothing_left():
        yield


def test_a_whole_road_and_a_log_on_that_fails_show_the_password_nowhere(
    secret_lab: Lab, everything: Everything
) -> None:
    host = secret_lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    arguments = host.connection
    assert arguments["password"] == SECRET
    events: list[wsusfix.Event] = []
    began = datetime.now(timezone.utc)
    options = wsusfix.Options(package=secret_lab.package("WSUS-KB954960-x64.exe", size=500_000))
    with wsusfix.connect(**arguments, on_event=events.append) as server:
        everything.add("server", repr(server), str(server), repr(server._session))
        diagnosis = server.diagnose()
        plan = server.plan(options)
        server.upload(builders.install_step(plan).package.path, on_event=events.append)
        server.cleanup()
        host.faults.stale_encryption()
        outcome = server.apply(plan, consent=True, on_event=events.append)
        proof = server.verify()
        job = server.job()
        cleaned = server.cleanup()
        everything.add("on the server", *(host.files.read(path) or b"" for path in host.files))
    assert outcome.ok, str(outcome)
    with pytest.raises(wsusfix.AuthenticationError) as caught:
        wsusfix.connect(**{**arguments, "password": WRONG}, on_event=events.append)
    for value in (diagnosis, plan, outcome, proof, cleaned, *([] if job is None else [job]), *events):
        everything.result(value)
    everything.error(caught.value)
    everything.add("event log", *(repr(entry) for entry in host.event_log), *(repr(task) for task in host.tasks))
    results = (
        HostResult("wsus01", diagnosis=diagnosis, plan=plan, outcome=outcome, verification=proof),
        HostResult("wsus02", error=caught.value),
    )
    run = Run("remediate", began, datetime.now(timezone.utc), results)
    for write in (report.to_text, report.to_markdown, report.to_html, report.to_json):
        everything.add(write.__name__, write(run))
    # Of the libraries that log envelopes, whose loggers are held, there is none.
    assert everything.records > 150, "the taps were not open"
    assert not [where for where, _ in everything.said if where.startswith(("log pypsrp", "log spnego"))]
    assert everything.bytes_sent > 1_000_000
    everything.assert_clean()


def a_closed_port(stack: contextlib.ExitStack) -> dict[str, Any]:
    # Bound, but deaf: nobody else gets the port meanwhile.
    deaf = stack.enter_context(socket.socket())
    deaf.bind(("127.0.0.1", 0))
    return {"host": "127.0.0.1", "port": deaf.getsockname()[1]}


def a_name_nobody_has(_: contextlib.ExitStack) -> dict[str, Any]:
    return {"host": "nosuchhost.invalid"}


def a_broken_challenge(stack: contextlib.ExitStack) -> dict[str, Any]:
    token = base64.b64encode(b"NTLMSSP\0\2\0\0\0" + bytes(20)).decode()
    server = stack.enter_context(raw(answering("401 Unauthorized", f"WWW-Authenticate: Negotiate {token}")))
    return {"host": server.address, "port": server.port}


def basic_only(stack: contextlib.ExitStack) -> dict[str, Any]:
    server = stack.enter_context(raw(answering("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')))
    return {"host": server.address, "port": server.port}


def no_winrm(stack: contextlib.ExitStack) -> dict[str, Any]:
    server = stack.enter_context(raw(answering("404 Not Found", body=b"<html/>")))
    return {"host": server.address, "port": server.port}


def plain_http_for_tls(stack: contextlib.ExitStack) -> dict[str, Any]:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = stack.enter_context(raw(answer))
    return {"host": server.address, "port": server.port, "ssl": True}


def without_kerberos(stack: contextlib.ExitStack) -> dict[str, Any]:
    server = stack.enter_context(raw(answering("401 Unauthorized", "WWW-Authenticate: Kerberos")))
    return {"host": server.address, "port": server.port, "auth": "kerberos"}


def a_dead_proxy(stack: contextlib.ExitStack) -> dict[str, Any]:
    return {"host": "wsus01", "proxy": f"http://127.0.0.1:{a_closed_port(stack)['port']}"}


def an_unreadable_password(stack: contextlib.ExitStack) -> dict[str, Any]:
    endpoint = stack.enter_context(serving())
    return {"host": endpoint.address, "port": endpoint.port, "password": SECRET + "\udce9"}


def a_password_with_a_line_break(_: contextlib.ExitStack) -> dict[str, Any]:
    return {"host": "wsus01", "password": SECRET + "\n"}


WAYS = [
    *(a_closed_port, a_name_nobody_has, a_broken_challenge, basic_only, no_winrm, plain_http_for_tls),
    *(without_kerberos, a_dead_proxy, an_unreadable_password, a_password_with_a_line_break),
]


@pytest.mark.parametrize("way", WAYS)
def test_no_error_shows_the_password_nor_does_what_it_came_from(
    way: Callable[[contextlib.ExitStack], dict[str, Any]], everything: Everything
) -> None:
    with contextlib.ExitStack() as stack:
        arguments = {"username": "LAB\\admin", "password": SECRET, **way(stack)}
        with pytest.raises(WsusFixError) as caught:
            wsusfix.connect(**arguments)
    everything.error(caught.value)
    everything.assert_clean()


def test_an_error_in_the_middle_shows_the_password_nowhere(everything: Everything) -> None:
    account = type(ACCOUNT)("secret", SECRET)
    asked = Asked()
    with serving(asked, account=account, orphans=True) as endpoint:
        arguments = reach(endpoint, username=account.name, password=SECRET)
        with wsusfix.connect(**arguments) as server:
            server.facts()
            instead(endpoint, lambda _: Reply(500, fault(2150858817)), action="shell/Command")
            with pytest.raises(WsusFixError) as caught:
                server.facts()
        everything.error(caught.value)
        everything.add("session", repr(session(endpoint, username=account.name, password=SECRET)))
    everything.assert_clean()


# --- the program ----------------------------------------------------------------------------------------------------


def _command_lines(pid: int) -> list[bytes]:
    """Return the command lines of a process and of all it started."""
    lines: list[bytes] = []
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            lines.append(Path(f"/proc/{one}/cmdline").read_bytes())
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
    return lines


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc to look at")
def test_neither_command_lines_nor_output_of_the_program_show_the_password(
    secret_lab: Lab, tmp_path: Path, everything: Everything
) -> None:
    host = secret_lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    reached = host.connection
    package = secret_lab.package("WSUS-KB954960-x64.exe", size=300_000)
    lines: set[bytes] = set()
    for password, code in ((WRONG, 6), (SECRET, 0)):
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "wsusfix", "remediate", str(reached["host"]), "--port", str(reached["port"])),
                *("--package", str(package), "--yes", "--verbose", "--report", str(tmp_path / "report")),
            ],
            env={**os.environ, "WSUSFIX_USERNAME": str(reached["username"]), "WSUSFIX_PASSWORD": password},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                lines.update(_command_lines(process.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
            out = process.communicate(timeout=30)[0]
        finally:
            process.kill()
            process.wait(10)
        assert process.returncode == code, out.decode()
        everything.add("output", out)
        for path in (tmp_path / "report").iterdir():
            everything.add(path.name, path.read_bytes())
    assert any(b"remediate" in line for line in lines)
    everything.add("command line", *lines)
    assert host.dll_version == "3.1.6001.66"
    everything.assert_clean()


def test_a_password_that_is_asked_for_is_not_shown_either(
    secret_lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], everything: Everything
) -> None:
    host = secret_lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    reached = host.connection
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return SECRET

    monkeypatch.setattr("getpass.getpass", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    command = ["diagnose", str(reached["host"]), "--port", str(reached["port"]), "--username", str(reached["username"])]
    assert main([*command, "--verbose"]) == 3
    assert asked
    everything.add("output", *capsys.readouterr())
    everything.assert_clean()


def test_a_question_that_nobody_answers_is_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", nobody)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    began = time.monotonic()
    assert main(["diagnose", "wsus01", "--username", "LAB\\admin"]) == 2
    assert time.monotonic() - began < 10
    assert "password" in capsys.readouterr().err
