"""Sessions over the wire: what pypsrp does to whoever trusts it, what servers do, and what is told of both.

Each trap of pypsrp 0.9.1 that the session was built against, and the tests that fail when it snaps:

-  1, an idle connection answers 400 for ever: test_a_connection_that_idled_away_is_made_anew_and_nobody_notices,
   test_a_server_that_forgot_the_encryption_is_authenticated_to_anew,
   test_after_idling_a_new_shell_is_opened_before_the_old_one_fails
-  2, a 503 is never tried again, a dead Receive five times: test_a_server_that_is_starting_is_waited_for_...,
   test_winrm_that_restarts_in_the_middle_is_waited_for, test_a_receive_that_is_never_answered_ends_by_the_deadline
-  3, errors of six families: test_every_way_of_not_getting_in_is_told_apart_..., all of tests/unit/test_faults.py
-  4, ``had_errors`` knows terminating errors only: test_an_error_record_is_an_error_though_the_pipeline_completed
-  5, errors are hidden, shells and pipelines left behind: test_ctrl_c_..., test_a_failed_opening_leaves_no_shell,
   test_an_error_is_not_hidden_by_the_farewell, test_twenty_scripts_leave_no_more_than_two_pipelines_and_one_shell
-  6, one connection in two threads is garbled: test_a_second_thread_is_told_to_use_a_connection_of_its_own,
   test_lanes_run_side_by_side_over_connections_of_their_own_and_close_them
-  7, numbers are cut, tuples fail, empty input fails: test_what_would_arrive_as_something_else_is_refused_...,
   test_empty_input_is_refused_with_a_reason
-  8, scripts and envelopes are logged: test_neither_scripts_nor_envelopes_are_logged
-  9, ``Client.copy``: test_pypsrps_own_client_is_not_even_loaded
- 10, a pool for every question: test_two_scripts_cost_ten_requests_and_each_further_one_three
- 11, no overall deadline: test_a_script_that_never_ends_is_given_up_with_its_shell, test_outputs_without_end_...
- 12, options are ignored, proxies of the environment are not: test_every_option_arrives_...,
   test_proxies_of_the_environment_are_not_used
- 13, the true version: test_the_powershell_version_is_the_servers_own
- 14, fault codes and statuses: test_every_way_of_not_getting_in_is_told_apart_..., test_a_shell_that_is_gone_...,
   test_a_message_that_is_too_large_is_no_reason_to_try_again, test_what_the_server_sends_as_a_fault_...,
   test_winrm_that_is_stopping_..., test_a_script_that_takes_longer_than_one_request_may_is_asked_after_again
- 15, the first connection after a boot fails: test_a_first_connection_that_breaks_after_a_boot_is_made_once_more
- 16, hashtables and objects: test_a_hashtable_arrives_as_a_dict_of_plain_values, test_an_object_is_no_answer
- 17, process-wide settings: test_a_session_hides_no_warning_of_a_certificate
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import urllib3.exceptions
from pypsrp.negotiate import HTTPNegotiateAuth
from pypsrp.powershell import PowerShell

import wsusfix
from tests.wire import certificates
from tests.wire.servers import (
    ACCOUNT,
    PASSWORD,
    Asked,
    Name,
    RawServer,
    answer_to,
    answering,
    ask,
    bent,
    fault,
    idle_away,
    instead,
    nothing_left,
    polled,
    raw,
    reach,
    received,
    send,
    serving,
    session,
    silent,
    straight,
    trickling,
    wait_until,
    when,
)
from wsusfix import errors, scripts
from wsusfix.errors import WsusFixError
from wsusfix.lab.accounts import Account
from wsusfix.lab.http import Endpoint, _Response
from wsusfix.lab.psrp import Output, PipelineStopped, ScriptCall
from wsusfix.lab.wsman import Quotas, Reply
from wsusfix.options import Timeouts
from wsusfix.remote import dial
from wsusfix.remote import session as module
from wsusfix.remote import transport as wire


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.03)


Told = list[tuple[WsusFixError, float]]


def telling(told: Told) -> Callable[[WsusFixError, float], None]:
    return lambda error, pause: told.append((error, pause))


def waits(call: ScriptCall, _: Output) -> None:
    """A script that never ends by itself."""
    call.stopped.wait(30)
    raise PipelineStopped


# --- not getting in -------------------------------------------------------------------------------------------------


def wrong_password(stack: ExitStack, _: Path) -> dict[str, Any]:
    return reach(stack.enter_context(serving()), password="wrong")


def wrong_user(stack: ExitStack, _: Path) -> dict[str, Any]:
    return reach(stack.enter_context(serving()), username="LAB\\nobody")


def no_administrator(stack: ExitStack, _: Path) -> dict[str, Any]:
    guest = Account("guest", PASSWORD, administrator=False)
    return reach(stack.enter_context(serving(account=guest)), username=guest.name)


def closed_port(stack: ExitStack, _: Path) -> dict[str, Any]:
    # Bound, but deaf: nobody else gets the port meanwhile.
    deaf = stack.enter_context(socket.socket())
    deaf.bind(("127.0.0.1", 0))
    return reach(RawServer("127.0.0.1", deaf.getsockname()[1], []))


def unknown_name(_: ExitStack, __: Path) -> dict[str, Any]:
    return reach(RawServer(Name("127.0.0.1", fails=None, error=socket.EAI_NONAME).name, 5985, []))


def no_resolver(_: ExitStack, __: Path) -> dict[str, Any]:
    return reach(RawServer(Name("127.0.0.1", fails=None).name, 5985, []))


def tls_too_old(stack: ExitStack, folder: Path) -> dict[str, Any]:
    certificate = certificates.self_signed(folder, "127.0.0.1")
    server = stack.enter_context(certificates.tls(certificate, silent, oldest_only=True))
    return reach(server, ssl=True, ca_cert=certificate)


def no_tls_at_all(stack: ExitStack, _: Path) -> dict[str, Any]:
    return reach(stack.enter_context(serving()), ssl=True)


def tls_without_tls(stack: ExitStack, folder: Path) -> dict[str, Any]:
    certificate = certificates.self_signed(folder, "127.0.0.1")
    return reach(stack.enter_context(certificates.tls(certificate, silent)))


def untrusted_certificate(stack: ExitStack, folder: Path) -> dict[str, Any]:
    certificate = certificates.self_signed(folder, "127.0.0.1")
    return reach(stack.enter_context(certificates.tls(certificate, silent)), ssl=True)


def certificate_of_another(stack: ExitStack, folder: Path) -> dict[str, Any]:
    certificate = certificates.self_signed(folder, "192.0.2.1")
    return reach(stack.enter_context(certificates.tls(certificate, silent)), ssl=True, ca_cert=certificate)


def a_web_server(*answer: str, body: bytes = b"<html>It works!</html>") -> Any:
    return lambda stack, _: reach(stack.enter_context(raw(answering(*answer, body=body))))


def another_protocol(stack: ExitStack, _: Path) -> dict[str, Any]:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        silent(connection)

    return reach(stack.enter_context(raw(greet)))


def hangs_up(stack: ExitStack, _: Path) -> dict[str, Any]:
    return reach(stack.enter_context(raw(lambda connection: None)))


def impatient(stack: ExitStack) -> Timeouts:
    """Return timeouts that leave the first try time enough and a second one none, so that nobody waits for it."""
    stack.enter_context(pytest.MonkeyPatch.context()).setattr(module, "_PAUSE", 20)
    return Timeouts(opening=5)


def starting_for_ever(stack: ExitStack, _: Path) -> dict[str, Any]:
    endpoint = stack.enter_context(serving())
    endpoint.faults.unavailable(seconds=60)
    return reach(endpoint, timeouts=impatient(stack))


def quota_full(stack: ExitStack, _: Path) -> dict[str, Any]:
    endpoint = stack.enter_context(serving())
    endpoint.faults.quota()
    return reach(endpoint, timeouts=impatient(stack))


def never_answers(stack: ExitStack, _: Path) -> dict[str, Any]:
    return reach(stack.enter_context(raw(silent)), timeouts=Timeouts(opening=1))


def too_large(stack: ExitStack, _: Path) -> dict[str, Any]:
    endpoint = stack.enter_context(serving())
    endpoint.faults.too_large(above=200)
    return reach(endpoint)


def without_kerberos(stack: ExitStack, _: Path) -> dict[str, Any]:
    return reach(stack.enter_context(serving()), auth="kerberos")


def a_dead_proxy(stack: ExitStack, _: Path) -> dict[str, Any]:
    dead = closed_port(stack, _)["port"]
    return reach(stack.enter_context(serving()), proxy=f"http://127.0.0.1:{dead}")


#: How it goes wrong; the error; words of its message and of its hint; whether time may mend it.
WAYS: list[tuple[Any, type[WsusFixError], str, str, bool]] = [
    (wrong_password, errors.AuthenticationError, "authenticat", "DOMAIN\\user", False),
    (wrong_user, errors.AuthenticationError, "authenticat", "DOMAIN\\user", False),
    (without_kerberos, errors.AuthenticationError, "", "ntlm", False),
    (no_administrator, errors.AccessDeniedError, "access denied", "LocalAccountTokenFilterPolicy", False),
    (closed_port, errors.RefusedError, "closed", "winrm quickconfig", True),
    (unknown_name, errors.UnknownHostError, "does not resolve", "spelling", False),
    (no_resolver, errors.UnknownHostError, "for the moment", "resolver", True),
    (tls_too_old, errors.TlsError, "no TLS that is new enough", "port 5985 with encryption='always'", False),
    (no_tls_at_all, errors.TlsError, "speaks no TLS", "without ssl=True", False),
    (untrusted_certificate, errors.CertificateError, "not trusted", "ca_cert", False),
    (certificate_of_another, errors.CertificateError, "not trusted", "ca_cert", False),
    (a_web_server("400 Bad Request"), errors.ProtocolError, "HTTP 400", "another service", False),
    (
        a_web_server("407 Proxy Authentication Required"),
        errors.NotReachedError,
        "407: the proxy",
        "without proxy=",
        False,
    ),
    (a_web_server("404 Not Found"), errors.UnavailableError, "not WinRM", "5985", False),
    (a_web_server("405 Method Not Allowed"), errors.UnavailableError, "not WinRM", "5985", False),
    (
        a_web_server("404 Not Found", body=b"<html xmlns='http://www.w3.org/1999/xhtml'><body/></html>"),
        errors.UnavailableError,
        "404",
        "5985",
        False,
    ),
    (a_web_server("200 OK"), errors.ProtocolError, "not WinRM", "5985", False),
    (a_web_server("302 Found", "Location: /login"), errors.ProtocolError, "another address", "proxy", False),
    (
        a_web_server("401 Unauthorized", 'WWW-Authenticate: Basic realm="WSMAN"'),
        errors.AuthenticationError,
        "no way to authenticate that is safe",
        "Negotiate",
        False,
    ),
    (another_protocol, errors.ProtocolError, "does not speak HTTP: SSH-2.0-OpenSSH_9.6", "another service", False),
    (hangs_up, errors.BrokenConnectionError, "broke", "is WinRM up", True),
    (starting_for_ever, errors.UnavailableError, "503", "wait", True),
    (quota_full, errors.QuotaError, "quota", "close other sessions", True),
    (never_answers, errors.DeadlineError, "no answer", "is WinRM up", True),
    (too_large, errors.EnvelopeTooLargeError, "413", "MaxEnvelopeSizekb", False),
    (a_dead_proxy, errors.NotReachedError, "the proxy failed", "without proxy=", True),
]


@pytest.mark.parametrize(
    ("way", "kind", "message", "hint", "retryable"),
    WAYS,
    ids=[f"{getattr(row[0], '__name__', '').strip('<>')} {row[1].__name__}" for row in WAYS],
)
def test_every_way_of_not_getting_in_is_told_apart_with_the_next_thing_to_try(
    tmp_path: Path, way: Any, kind: type[WsusFixError], message: str, hint: str, retryable: bool
) -> None:
    with ExitStack() as stack:
        arguments = way(stack, tmp_path)
        began = time.monotonic()
        with pytest.raises(WsusFixError) as caught:
            wsusfix.connect(**arguments)
        took = time.monotonic() - began
    error = caught.value
    assert type(error) is kind, repr(error)
    assert (error.host, error.phase) == (arguments["host"], "connect")
    assert message in error.message
    assert hint in error.hint
    assert error.retryable is retryable
    assert took < 10


def test_http_to_a_port_that_wants_tls_is_told_without_delay(tmp_path: Path) -> None:
    with ExitStack() as stack:
        arguments = tls_without_tls(stack, tmp_path)
        with pytest.raises((errors.ProtocolError, errors.BrokenConnectionError)):
            wsusfix.connect(**arguments)


def test_a_wrong_password_is_tried_once_for_accounts_get_locked() -> None:
    with serving() as endpoint:
        with pytest.raises(errors.AuthenticationError):
            session(endpoint, password="wrong").open()
        assert endpoint.request_count == 3


def test_an_error_is_told_without_the_libraries_own_and_the_log_says_where_it_came_from(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "wsusfix")
    with serving() as endpoint, pytest.raises(errors.AuthenticationError) as caught:
        session(endpoint, password="wrong").open()
    shown = "".join(traceback.format_exception(caught.value))
    assert not re.search("pypsrp|tenacity|requests|direct cause|another exception", shown), shown
    assert shown.count("\n") < 20
    told = [record.getMessage() for record in caplog.records if record.name == "wsusfix"]
    assert any(
        re.search(r"it came of pypsrp\.exceptions\.AuthenticationError at \w+\.py:\d+", line) for line in told
    ), told
    assert not any("wrong" in line for line in told)


def test_an_account_that_is_shut_out_in_the_middle_is_not_tried_again_for_a_farewell() -> None:
    with serving(orphans=True) as endpoint, session(endpoint) as asking:
        ask(asking)
        endpoint.faults.stale_encryption()
        endpoint.faults.reject_credentials()
        with pytest.raises(errors.AuthenticationError):
            ask(asking)
        assert endpoint.faults.counts["reject_credentials"] == 1


def test_a_log_on_that_is_refused_in_the_middle_is_not_tried_again_for_a_farewell() -> None:
    with serving(orphans=True) as endpoint, session(endpoint) as asking:
        ask(asking)
        challenge = _Response(401, headers=(("WWW-Authenticate", "Negotiate"),))
        vars(endpoint)["_answer_sealed"] = lambda connection, body: challenge
        endpoint.faults.reject_credentials()
        with pytest.raises(errors.AuthenticationError):
            ask(asking)
        assert endpoint.faults.counts["reject_credentials"] == 1


def test_https_with_a_trusted_certificate_works_and_binds_the_log_on_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: list[bytes | None] = []
    look = HTTPNegotiateAuth._get_cbt_data

    def looked(response: Any) -> Any:
        bound.append(look(response))
        return bound[-1]

    monkeypatch.setattr(HTTPNegotiateAuth, "_get_cbt_data", staticmethod(looked))
    certificate = certificates.self_signed(tmp_path, "127.0.0.1")
    with (
        serving() as endpoint,
        certificates.tls(certificate, certificates.relay_to(endpoint.address, endpoint.port)) as front,
        session(front, ssl=True, ca_cert=str(certificate)) as asking,
    ):
        assert ask(asking)["status"] == "none"
    assert bound
    assert bound[0] is not None
    assert bound[0].startswith(b"tls-server-end-point:")


# --- deadlines ------------------------------------------------------------------------------------------------------

#: The body of this answer is read before the log-on goes on.
HEAD = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\n"


@pytest.mark.parametrize(
    "talk",
    [
        trickling(b"HTTP/1.1 200 OK\r\n", b"X"),
        trickling(b"HTTP/1.1 200 OK\r\n", b"X-Header: x\r\n"),
        trickling(b"HTTP/1.1 100 Continue\r\n\r\n"),
        trickling(b"HTTP/1.1 100 Continue\r\n\r\n", pause=0),
        trickling(HEAD + b"Content-Length: 60000\r\n\r\n", b"x"),
        trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n", pause=0.001),
        trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        trickling(HEAD + b"\r\n", b"x"),
        silent,
    ],
    ids=[
        "header",
        "headers",
        "continue",
        "continue fast",
        "body",
        "chunks",
        "trailers",
        "chunk size",
        "till it ends",
        "nothing",
    ],
)
def test_an_answer_that_trickles_does_not_outlast_the_deadline(talk: Callable[[socket.socket], None]) -> None:
    with raw(talk) as server:
        began = time.monotonic()
        with pytest.raises(errors.DeadlineError) as caught:
            session(server, timeouts=Timeouts(opening=0.5)).open()
        assert time.monotonic() - began < 6
    assert caught.value.phase == "connect"


def test_a_message_may_take_longer_to_go_out_than_a_connection_to_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    # So little fits into the line that the other end has to take what is sent for it to be sent.
    little = (socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connect = dial._connect
    monkeypatch.setattr(dial, "_connect", lambda found, options, end: connect(found, [*options, little], end))
    told: Told = []
    stalled: list[bool] = []

    def stall(connection: socket.socket) -> None:
        """Hand everything on, and take nothing for a second in the middle of the first message that is large."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        taken = 0
        with socket.create_connection((endpoint.address, endpoint.port)) as other:
            back = threading.Thread(target=certificates.pump, args=(other, connection), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := connection.recv(2048):
                    taken += len(data)
                    if taken > 90_000 and not stalled:
                        stalled.append(True)
                        time.sleep(1.0)
                    other.sendall(data)
                other.shutdown(socket.SHUT_RDWR)
            back.join(5)

    with (
        serving(Asked(receive=received)) as endpoint,
        raw(stall) as line,
        session(line, timeouts=Timeouts(connect=0.4, operation=20), on_retry=telling(told)) as asking,
    ):
        assert send(asking, lambda: iter([b"x" * 80_000] * 2), within=20)["received"] == "160000"
    assert stalled
    assert not told


def test_opening_takes_no_longer_than_the_caller_allows() -> None:
    with raw(silent) as server:
        began = time.monotonic()
        with pytest.raises(errors.DeadlineError):
            session(server, timeouts=Timeouts(opening=60)).open(within=0.5)
        assert time.monotonic() - began < 20


def test_a_script_that_opens_the_session_first_does_not_take_longer_for_it() -> None:
    with raw(silent) as server:
        began = time.monotonic()
        with pytest.raises(errors.DeadlineError):
            ask(session(server, timeouts=Timeouts(opening=60)), within=0.5)
        assert time.monotonic() - began < 20


def test_a_script_that_never_ends_is_given_up_with_its_shell() -> None:
    with serving(Asked(poll_job=waits)) as endpoint:
        asking = session(endpoint)
        asking.open()
        began = time.monotonic()
        with pytest.raises(errors.DeadlineError) as caught:
            ask(asking, within=1.2)
        assert time.monotonic() - began < 10
        assert (caught.value.host, caught.value.phase) == (endpoint.address, "job")
        wait_until(lambda: not endpoint.shells)
        asking.close()


def test_between_two_polls_the_deadline_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = PowerShell.poll_invoke
    with serving(Asked(poll_job=waits)) as endpoint, session(endpoint) as asking:

        def polled_until_late(pipeline: Any, timeout: int) -> None:
            poll(pipeline, timeout=timeout)
            assert asking._wsman is not None
            asking._wsman.begin(time.monotonic())

        monkeypatch.setattr(PowerShell, "poll_invoke", polled_until_late)
        with pytest.raises(errors.DeadlineError, match="no answer of script poll_job"):
            ask(asking, within=5)


def test_after_the_deadline_nothing_is_sent() -> None:
    with serving() as endpoint, session(endpoint) as asking:
        wsman = asking._wsman
        assert wsman is not None
        before = endpoint.request_count
        wsman.begin(time.monotonic())
        with pytest.raises(errors.DeadlineError, match="no answer within the time allowed"):
            wsman.invoke("http://schemas.xmlsoap.org/ws/2004/09/transfer/Get", "http://example.org", None)
        assert endpoint.request_count == before


def test_a_try_that_was_cut_short_does_not_hide_what_it_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    connections: list[socket.socket] = []
    tries: list[float] = []
    open_once = module.Session._open_once

    def refuses_once(connection: socket.socket) -> None:
        connections.append(connection)
        (answering("503 Service Unavailable") if len(connections) == 1 else silent)(connection)

    def cut_short(asking: module.Session, deadline: float, phase: str = "connect") -> None:
        tries.append(deadline)
        open_once(asking, deadline if len(tries) == 1 else time.monotonic() + 0.3, phase)

    monkeypatch.setattr(module.Session, "_open_once", cut_short)
    with raw(refuses_once) as server:
        with pytest.raises(errors.UnavailableError, match="503") as caught:
            session(server, timeouts=Timeouts(operation=60)).open(within=30)
        assert len(tries) == 2
    # At the prompt, too: the try that was cut short is not shown above it.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_outputs_without_end_are_given_up_at_once() -> None:
    def floods(call: ScriptCall, output: Output) -> None:
        while not call.stopped.is_set():
            output.write("more")
            time.sleep(0.0005)

    with serving(Asked(poll_job=floods)) as endpoint, session(endpoint) as asking:
        began = time.monotonic()
        with pytest.raises(errors.AnswerError, match="does not stop"):
            ask(asking)
        assert time.monotonic() - began < 10


def test_error_records_without_end_are_given_up_within_bounds() -> None:
    def floods(call: ScriptCall, output: Output) -> None:
        while not call.stopped.is_set():
            output.error("x" * 100_000, error_id="Flood")

    with serving(Asked(poll_job=floods)) as endpoint, session(endpoint) as asking:
        with pytest.raises((errors.ProtocolError, errors.DeadlineError)) as caught:
            ask(asking, within=20)
        assert type(caught.value) is errors.ProtocolError
        assert "does not end" in caught.value.message


def test_empty_answers_without_end_are_given_up_by_the_deadline() -> None:
    with serving(Asked(poll_job=waits)) as endpoint, session(endpoint) as asking:
        nothing = '<r:ReceiveResponse xmlns:r="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"/>'
        instead(endpoint, lambda envelope: Reply(200, answer_to(envelope, nothing)), action="shell/Receive")
        began = time.monotonic()
        with pytest.raises(errors.DeadlineError):
            ask(asking, within=1)
        assert time.monotonic() - began < 10
        straight(endpoint)


def give_up_soon(monkeypatch: pytest.MonkeyPatch, worth: Callable[[], object] = lambda: True) -> None:
    """Wait hardly longer for a script's answer than the server may take, and for everything else as long as ever."""
    poll = PowerShell.poll_invoke

    def poll_impatiently(pipeline: Any, timeout: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if worth():
                patch.setattr(wire, "_SLACK", 0.2)
            poll(pipeline, timeout=timeout)

    monkeypatch.setattr(PowerShell, "poll_invoke", poll_impatiently)


def test_a_receive_that_is_never_answered_ends_by_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    give_up_soon(monkeypatch)
    with serving() as endpoint, session(endpoint, timeouts=Timeouts(operation=1)) as asking:
        endpoint.faults.hang_in_receive(seconds=60, times=None)
        began = time.monotonic()
        with pytest.raises(errors.DeadlineError):
            ask(asking, within=6)
        assert time.monotonic() - began < 20
        assert 2 <= endpoint.faults.counts["hang_in_receive"] <= 6


def test_a_receive_that_hangs_once_is_taken_up_again_in_a_new_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    told: Told = []
    give_up_soon(monkeypatch, lambda: not told)
    with (
        serving() as endpoint,
        session(endpoint, timeouts=Timeouts(operation=1), on_retry=telling(told)) as asking,
    ):
        endpoint.faults.hang_in_receive(seconds=60)
        assert ask(asking, within=30)["status"] == "none"
    assert [type(error) for error, _ in told] == [errors.DeadlineError]


def test_a_server_that_hangs_does_not_hold_up_the_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLOSING", 0.5)
    with serving(orphans=True) as endpoint:
        asking = session(endpoint)
        asking.open()
        endpoint.latency = 30
        began = time.monotonic()
        asking.close()
        assert time.monotonic() - began < 10


def test_a_resolver_that_does_not_answer_does_not_outlast_the_deadline() -> None:
    name = Name("127.0.0.1")
    name.answers.clear()
    began = time.monotonic()
    try:
        with pytest.raises(errors.DeadlineError, match="name was not resolved") as caught:
            session(RawServer(name.name, 5985, []), timeouts=Timeouts(opening=60, connect=0.5)).open()
        assert time.monotonic() - began < 20
    finally:
        name.answers.set()
    assert "resolver" in caught.value.hint
    assert caught.value.retryable


@contextlib.contextmanager
def mute() -> Iterator[tuple[str, int]]:
    """Yield an address that never answers who connects: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.9", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_all_addresses_of_a_name_share_one_deadline() -> None:
    with mute() as (address, port):
        name = Name(address)
        name.addresses *= 6
        began = time.monotonic()
        with pytest.raises(errors.DeadlineError, match="no connection"):
            session(RawServer(name.name, port, []), timeouts=Timeouts(opening=30, connect=1.2)).open()
        # Each for itself, they would take 7.
        assert 0.3 < time.monotonic() - began < 6
        assert name.asked == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_an_address_that_is_silent_leaves_the_others_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[float | None] = []

    class Line(socket.socket):
        def settimeout(self, value: float | None, /) -> None:
            allowed.append(value)
            super().settimeout(value)

    with mute() as (address, port), serving(port=port) as endpoint:
        name = Name(address)
        name.addresses += (endpoint.address,)
        with session(endpoint, host=name.name, timeouts=Timeouts(connect=1)) as asking:
            assert ask(asking)["status"] == "none"
        found = name.look_up(port)
        monkeypatch.setattr(dial, "socket", SimpleNamespace(**{**vars(socket), "socket": Line}))
        with dial._connect(found, (), time.monotonic() + 1) as line:
            assert line.getpeername()[0] == endpoint.address
    silent_one, other = allowed
    assert silent_one is not None
    assert silent_one <= 0.5
    assert other is not None


# --- trying again ---------------------------------------------------------------------------------------------------


def test_a_server_that_is_starting_is_waited_for_and_the_wait_is_told() -> None:
    told: Told = []
    with serving() as endpoint:
        endpoint.faults.unavailable(seconds=60)

        def tell(error: WsusFixError, pause: float) -> None:
            told.append((error, pause))
            if len(told) == 2:
                endpoint.faults.clear()

        with session(endpoint, timeouts=Timeouts(), on_retry=tell) as asking:
            assert ask(asking)["status"] == "none"
    assert [type(error) for error, _ in told] == [errors.UnavailableError] * 2
    assert all(0 < pause < 6 for _, pause in told)


def test_winrm_that_restarts_in_the_middle_is_waited_for() -> None:
    with serving() as endpoint, session(endpoint) as asking:
        ask(asking)
        endpoint.faults.unavailable(seconds=0.5)
        endpoint.faults.lose_shells()
        assert ask(asking)["status"] == "none"


def test_a_server_that_restarts_in_the_middle_is_waited_for() -> None:
    with serving() as endpoint, session(endpoint) as asking:
        ask(asking)
        endpoint.reboot(0.5)
        assert ask(asking)["status"] == "none"


def test_winrm_that_is_stopping_in_the_middle_is_waited_for() -> None:
    told: Told = []
    with serving() as endpoint, session(endpoint, on_retry=telling(told)) as asking:
        ask(asking)
        aborted: list[bool] = []

        def stops_once(envelope: bytes) -> Reply:
            straight(endpoint)
            aborted.append(True)
            return Reply(500, fault(995))

        instead(endpoint, stops_once, action="shell/Receive")
        assert ask(asking)["status"] == "none"
    assert aborted
    assert [type(error) for error, _ in told] == [errors.UnavailableError]
    assert "stopping" in told[0][0].message


def test_a_script_that_takes_longer_than_one_request_may_is_asked_after_again() -> None:
    told: Told = []
    answered = threading.Event()
    nothing_yet = 0

    def patient(_: ScriptCall, __: Output) -> dict[str, Any]:
        answered.wait(20)
        return polled()

    def look(_: bytes, reply: Reply) -> Reply:
        nonlocal nothing_yet
        if b"2150858793" in reply.envelope:
            nothing_yet += 1
            if nothing_yet == 2:
                answered.set()
        return reply

    with (
        serving(Asked(poll_job=patient)) as endpoint,
        session(endpoint, timeouts=Timeouts(operation=1), on_retry=telling(told)) as asking,
    ):
        bent(endpoint, look, action="shell/Receive")
        assert ask(asking, within=30)["status"] == "none"
        straight(endpoint)
    assert nothing_yet >= 2
    assert not told


def test_a_first_connection_that_breaks_after_a_boot_is_made_once_more() -> None:
    told: Told = []
    with serving() as endpoint:
        endpoint.faults.reset_in_response(1)
        with session(endpoint, on_retry=telling(told)) as asking:
            assert ask(asking)["status"] == "none"
    assert [type(error) for error, _ in told] == [errors.BrokenConnectionError]


def test_a_server_that_hangs_up_again_and_again_is_given_up_soon() -> None:
    told: Told = []
    with raw(lambda connection: None) as server:
        with pytest.raises(errors.BrokenConnectionError):
            session(server, timeouts=Timeouts(opening=60), on_retry=telling(told)).open()
        assert len(server.accepted) == len(told) + 1 <= 4


def test_a_web_server_without_winrm_is_not_asked_again() -> None:
    with raw(answering("404 Not Found")) as server:
        with pytest.raises(errors.UnavailableError):
            session(server, timeouts=Timeouts(opening=60)).open()
        assert len(server.accepted) == 1


@pytest.mark.parametrize("response", range(1, 5))
def test_whichever_answer_breaks_off_the_script_has_its_answer_in_the_end(response: int) -> None:
    with serving(orphans=True) as endpoint, session(endpoint) as asking:
        ask(asking)
        endpoint.faults.reset_in_response(response)
        for _ in range(3):
            assert ask(asking)["status"] == "none"
        assert endpoint.faults.counts["reset_in_response"] == 1


def test_a_shell_that_is_gone_is_replaced_and_told() -> None:
    told: Told = []
    with serving() as endpoint, session(endpoint, on_retry=telling(told)) as asking:
        ask(asking)
        endpoint.faults.lose_shells()
        assert ask(asking)["status"] == "none"
    assert [type(error) for error, _ in told] == [errors.ShellGoneError]


def test_a_message_that_is_too_large_is_no_reason_to_try_again() -> None:
    told: Told = []
    with serving() as endpoint, session(endpoint, on_retry=telling(told)) as asking:
        ask(asking)
        endpoint.faults.too_large(above=2000)
        with pytest.raises(errors.EnvelopeTooLargeError) as caught:
            ask(asking)
        endpoint.faults.clear()
        assert caught.value.phase == "job"
        assert not told
        assert ask(asking)["status"] == "none"


def test_what_the_server_sends_as_a_fault_in_the_middle_has_its_class() -> None:
    for code, kind in ((5, errors.AccessDeniedError), (2150858817, errors.ProtocolError)):
        with serving(orphans=True) as endpoint, session(endpoint) as asking:
            said = Reply(500, fault(code))
            instead(endpoint, lambda _, said=said: said, action="shell/Command")  # type: ignore[misc]
            with pytest.raises(kind):
                ask(asking)
            straight(endpoint)


def test_a_name_that_does_not_resolve_for_the_moment_is_asked_for_again_and_in_the_end_given_up() -> None:
    told: Told = []
    with serving() as endpoint:
        name = Name(endpoint.address, fails=2)
        with session(endpoint, host=name.name, on_retry=telling(told)) as asking:
            assert ask(asking)["status"] == "none"
        assert [type(error) for error, _ in told] == [errors.UnknownHostError] * 2
        never = Name(endpoint.address, fails=None)
        with pytest.raises(errors.UnknownHostError, match="for the moment"):
            session(endpoint, host=never.name, timeouts=Timeouts(opening=60)).open()
        assert never.asked == 4
        wrong = Name(endpoint.address, fails=None, error=socket.EAI_NONAME)
        with pytest.raises(errors.UnknownHostError):
            session(endpoint, host=wrong.name, timeouts=Timeouts(opening=60)).open()
        assert wrong.asked == 1


@pytest.mark.parametrize("error", [socket.EAI_AGAIN, socket.EAI_NONAME], ids=["no answer", "no such name"])
def test_a_name_that_did_resolve_is_asked_for_until_the_deadline(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told: Told = []
    with serving(orphans=True) as endpoint:
        name = Name(endpoint.address, error=error)
        with session(endpoint, host=name.name, on_retry=telling(told)) as asking:
            ask(asking)
            endpoint.faults.reset_request(1)
            name.fails = 8
            assert ask(asking, within=20)["status"] == "none"
            assert [type(each) for each, _ in told][:2] == [errors.BrokenConnectionError, errors.UnknownHostError]
            assert asking._wsman is not None
            asking._wsman.renew()
            name.fails = None
            # There is no time for another try, so that nobody waits for it.
            monkeypatch.setattr(module, "_PAUSE", 20)
            with pytest.raises(errors.UnknownHostError) as caught:
                ask(asking, within=5)
    assert caught.value.retryable
    assert "did resolve before" in caught.value.hint


def test_a_lane_whose_name_no_longer_resolves_may_be_tried_again() -> None:
    with serving(Asked(receive=received)) as endpoint:
        name = Name(endpoint.address, error=socket.EAI_NONAME)
        with session(endpoint, host=name.name) as asking:
            lane = asking.lane(1)
            name.fails = None
            with pytest.raises(errors.UnknownHostError) as caught:
                send(lane, lambda: iter([b"one"]))
            name.fails = 0
    assert caught.value.retryable


def test_a_script_with_input_is_not_repeated_by_itself() -> None:
    began = 0

    def chunks() -> Iterator[bytes]:
        nonlocal began
        began += 1
        yield b"one"
        yield b"two"

    with serving(Asked(receive=received)) as endpoint, session(endpoint) as asking:
        assert send(asking, chunks)["received"] == "6"
        endpoint.faults.drop_after(sends=1)
        with pytest.raises(errors.BrokenConnectionError):
            send(asking, chunks)
    assert began == 2


# --- idling ---------------------------------------------------------------------------------------------------------


def test_a_connection_that_idled_away_is_made_anew_and_nobody_notices() -> None:
    with serving() as endpoint, session(endpoint) as asking:
        ask(asking)
        idle_away(endpoint)
        assert ask(asking)["status"] == "none"


def test_a_server_that_forgot_the_encryption_is_authenticated_to_anew() -> None:
    told: Told = []
    with serving() as endpoint, session(endpoint, on_retry=telling(told)) as asking:
        ask(asking)
        endpoint.faults.stale_encryption()
        assert ask(asking)["status"] == "none"
        assert endpoint.faults.counts["stale_encryption"] >= 1
    assert [type(error) for error, _ in told] == [errors.IdleDropError]


def test_a_400_before_anybody_is_logged_on_is_no_idle_drop_and_not_asked_again() -> None:
    told: Told = []
    with raw(answering("400 Bad Request")) as server:
        with pytest.raises(errors.ProtocolError, match="HTTP 400"):
            session(server, timeouts=Timeouts(opening=60), on_retry=telling(told)).open()
        assert len(server.accepted) == 1
    assert not told


def test_after_idling_a_new_shell_is_opened_before_the_old_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told = Asked(), Told()
    with serving(asked) as endpoint, session(endpoint, on_retry=telling(told)) as asking:
        ask(asking)
        ask(asking)
        monkeypatch.setattr(module, "_IDLE", 0.05)
        time.sleep(0.1)
        ask(asking)
    first, second, third = (call.shell_id for call in asked.calls)
    assert first == second != third
    assert not told, "it failed first"


def test_the_limits_of_idling_fit_into_those_of_windows() -> None:
    # A connection is dropped after about 120 seconds, a shell after what we ask for; a probe in time needs some room.
    assert module._IDLE + 10 <= module._IDLE_TIMEOUT <= 60


def test_a_shell_is_asked_to_expire_soon() -> None:
    with serving() as endpoint, session(endpoint):
        (shell,) = endpoint._service._shells.values()
        assert shell.idle_timeout == 60


def test_five_killed_sessions_keep_the_sixth_out_no_longer_than_their_shells_idle() -> None:
    told: Told = []
    with serving(quotas=Quotas(idle_shell=3600)) as endpoint:
        for _ in range(5):
            killed = session(endpoint)
            killed.open()
            killed._forget()
        assert len(endpoint.shells) == 5

        def idle(error: WsusFixError, pause: float) -> None:
            told.append((error, pause))
            for shell in list(endpoint._service._shells.values()):
                # Not the server's own limit, but the one that was asked for; and it is over now.
                assert shell.idle_timeout == module._IDLE_TIMEOUT
                shell.idle_timeout = 0.0

        with session(endpoint, timeouts=Timeouts(), on_retry=idle) as asking:
            assert ask(asking)["status"] == "none"
    assert [type(error) for error, _ in told] == [errors.QuotaError]


# --- what is left behind --------------------------------------------------------------------------------------------


def test_a_failed_opening_leaves_no_shell() -> None:
    with serving() as endpoint:
        instead(endpoint, lambda _: Reply(500, fault(2150858817)), action="shell/Receive")
        with pytest.raises(errors.ProtocolError):
            session(endpoint).open()
        assert endpoint.request_count > 5
        assert not endpoint.shells


def test_an_opening_that_breaks_off_and_succeeds_leaves_one_shell() -> None:
    with serving() as endpoint:
        endpoint.faults.reset_in_response(5)  # the first Receive: the shell is there by then
        with session(endpoint):
            assert len(endpoint.shells) == 1


def test_runspaces_that_do_not_open_are_no_session() -> None:
    with serving() as endpoint:
        asking = session(endpoint)
        opening = wire.CarefulPool.open

        def closes(pool: Any, *_: Any) -> None:
            opening(pool)
            pool.state = 3

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wire.CarefulPool, "open", closes)
            with pytest.raises(errors.ProtocolError, match="did not open"):
                asking.open()


def test_an_error_is_not_hidden_by_the_farewell() -> None:
    def fails(endpoint: Endpoint) -> None:
        with session(endpoint):
            endpoint.faults.unavailable(seconds=1)
            raise ZeroDivisionError

    with serving(orphans=True) as endpoint, pytest.raises(ZeroDivisionError):
        fails(endpoint)


def test_closing_twice_or_a_session_that_never_was_open_is_no_error() -> None:
    with serving() as endpoint:
        asking = session(endpoint)
        asking.close()
        assert endpoint.request_count == 0
        asking.open()
        (_,) = endpoint.shells
        asking.close()
        asking.close()
        assert endpoint.shells == ()


def test_twenty_scripts_leave_no_more_than_two_pipelines_and_one_shell() -> None:
    with serving() as endpoint, session(endpoint) as asking:
        most = 0
        for _ in range(20):
            ask(asking)
            (shell,) = endpoint.shells
            most = max(most, shell.pipelines)
        assert most == 2


def test_an_error_that_is_kept_keeps_no_connection_open() -> None:
    with nothing_left(), serving(orphans=True) as endpoint, session(endpoint) as asking:
        ask(asking)
        # Looked at while the answer is at hand, which holds on to its connection.
        vars(endpoint)["_answer_sealed"] = lambda connection, body: _Response(200, b"in clear text")
        with pytest.raises(errors.ProtocolError) as caught:
            ask(asking)
    assert caught.value.__traceback__ is not None


@pytest.mark.usefixtures("whole_answers")
@pytest.mark.parametrize(("scripts", "requests"), [(1, 8), (2, 10), (3, 13), (4, 16)])
def test_a_second_script_costs_two_requests_and_each_further_one_three(scripts: int, requests: int) -> None:
    with serving() as endpoint:
        with session(endpoint, timeouts=Timeouts()) as asking:
            for _ in range(scripts):
                ask(asking)
        assert endpoint.request_count == requests


def interrupts(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_while_a_script_is_waited_for_leaves_no_shell_and_stays_what_it_is() -> None:
    with serving(Asked(poll_job=waits)) as endpoint:
        asking = session(endpoint)
        asking.open()
        # In the middle of a Receive, whose connection is of no use for anything afterwards.
        when(endpoint, lambda: os.kill(os.getpid(), signal.SIGINT), action="shell/Receive")
        with pytest.raises(KeyboardInterrupt):
            ask(asking, within=60)
        assert not endpoint.shells


def test_ctrl_c_in_the_input_leaves_no_shell_and_stays_what_it_is() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise KeyboardInterrupt

    with serving(Asked(receive=received)) as endpoint:
        asking = session(endpoint)
        asking.open()
        with pytest.raises(KeyboardInterrupt):
            send(asking, chunks)
        assert not endpoint.shells


def test_ctrl_c_in_an_observer_of_retries_leaves_no_shell_and_stays_what_it_is() -> None:
    with serving() as endpoint:
        asking = session(endpoint, on_retry=interrupts)
        asking.open()
        endpoint.faults.stale_encryption()
        with pytest.raises(KeyboardInterrupt):
            ask(asking)
        assert not endpoint.shells


def test_ctrl_c_while_the_session_opens_leaves_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as endpoint:
        with monkeypatch.context() as patch:
            patch.setattr(wire.CarefulPool, "_receive", interrupts)
            with pytest.raises(KeyboardInterrupt):
                session(endpoint).open()
        assert endpoint.request_count > 4
        assert not endpoint.shells


def test_an_observer_that_fails_is_heard_and_the_shell_is_closed() -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    with serving() as endpoint:
        asking = session(endpoint, on_retry=fails)
        asking.open()
        endpoint.faults.lose_shells()
        with pytest.raises(ZeroDivisionError):
            ask(asking)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a process")
def test_ctrl_c_ends_the_program_with_one_line_and_without_a_shell() -> None:
    begun = threading.Event()

    def begins(call: ScriptCall, output: Output) -> None:
        begun.set()
        waits(call, output)

    with serving(Asked(facts=begins)) as endpoint:
        process = subprocess.Popen(
            [sys.executable, "-m", "wsusfix", "diagnose", endpoint.address, "--port", str(endpoint.port)],
            env={**os.environ, "WSUSFIX_USERNAME": ACCOUNT.name, "WSUSFIX_PASSWORD": PASSWORD},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert begun.wait(60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait(10)
        wait_until(lambda: not endpoint.shells)
    assert process.returncode == 1
    assert "interrupted" in err
    assert "Traceback" not in out + err


# --- one at a time, and side by side --------------------------------------------------------------------------------


def test_a_second_thread_is_told_to_use_a_connection_of_its_own() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(_: ScriptCall, __: Output) -> dict[str, Any]:
        begun.set()
        go.wait(60)
        return polled()

    answers: list[Any] = []
    with serving(Asked(poll_job=slow)) as endpoint, session(endpoint) as asking:
        other = threading.Thread(target=lambda: answers.append(ask(asking)))
        other.start()
        assert begun.wait(60)
        with pytest.raises(errors.UsageError, match="in use") as caught:
            ask(asking)
        assert "connection of its own" in caught.value.hint
        go.set()
        other.join(60)
    assert [answer["status"] for answer in answers] == ["none"]


def test_lanes_run_side_by_side_over_connections_of_their_own_and_close_them() -> None:
    together = threading.Barrier(4, timeout=60)

    def meets(call: ScriptCall, output: Output) -> dict[str, Any]:
        together.wait()
        return received(call, output)

    asked = Asked(receive=meets)
    with serving(asked) as endpoint, session(endpoint) as asking:
        ask(asking)
        lanes = [asking.lane(number) for number in range(1, 5)]
        answers: list[str] = []

        def work(lane: module.Lane) -> None:
            answers.append(str(send(lane, lambda: iter([b"x" * 200_000] * 3))["received"]))
            lane.close()

        threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert answers == ["600000"] * 4
        assert len(endpoint.shells) == 1
        assert ask(asking)["status"] == "none"
    assert len({call.shell_id for call in asked.calls}) == 1


def test_a_lane_that_was_cut_is_not_tried_again() -> None:
    told: Told = []
    begun = threading.Event()

    def begins(call: ScriptCall, output: Output) -> None:
        begun.set()
        waits(call, output)

    with serving(Asked(poll_job=begins)) as endpoint, session(endpoint) as asking:
        lane = asking.lane(1)
        lane._on_retry = telling(told)

        def cut() -> None:
            begun.wait(60)
            lane.cut()

        cutter = threading.Thread(target=cut)
        cutter.start()
        with pytest.raises(errors.BrokenConnectionError):
            ask(lane, within=20)
        cutter.join()
        lane.close()
    assert not told


def test_a_lane_that_is_cut_while_it_connects_waits_for_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    connected, go = threading.Event(), threading.Event()
    dials = dial.dial

    def slowly(connection: Any, deadline: float) -> socket.socket:
        line = dials(connection, deadline)
        connected.set()
        go.wait(60)
        return line

    with serving() as endpoint, session(endpoint) as asking:
        lane = asking.lane(1)
        monkeypatch.setattr(wire, "dial", slowly)
        endpoint.latency = 60

        def cut() -> None:
            connected.wait(60)
            lane.cut()
            go.set()

        cutter = threading.Thread(target=cut)
        cutter.start()
        with pytest.raises(errors.BrokenConnectionError, match="cut on this side"):
            ask(lane, within=30)
        cutter.join()
        monkeypatch.undo()
        endpoint.latency = 0
        lane.close()


def test_a_lane_of_a_shell_that_is_gone_fails_and_opens_no_other() -> None:
    with serving(Asked(receive=received)) as endpoint, session(endpoint) as asking:
        lane = asking.lane(1)
        endpoint.faults.lose_shells()
        with pytest.raises(errors.ShellGoneError):
            ask(lane)
        lane.close()
        assert not endpoint.shells


def test_a_lane_that_is_interrupted_ends_its_pipeline_and_leaves_the_shell() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise KeyboardInterrupt

    with serving(Asked(receive=received)) as endpoint, session(endpoint) as asking:
        lane = asking.lane(1)
        with pytest.raises(KeyboardInterrupt):
            send(lane, chunks)
        (shell,) = endpoint.shells
        assert shell.pipelines == 0
        assert ask(asking)["status"] == "none"


# --- what goes over the wire ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (2**31, "2147483648"),
        (-(2**31) - 1, "Int32"),
        ({"deep": [2**40]}, "Int32"),
        ({"deep": (1, 2)}, "tuple"),
        ({"deep": 1.5}, "float"),
        ({"half": "\ud83d"}, "half a character"),
    ],
)
def test_what_would_arrive_as_something_else_is_refused_before_it_is_sent(value: object, named: str) -> None:
    start = scripts.compose("start_job")
    key = "start_seconds" if isinstance(value, int) else "job_parameters"
    parameters = {
        **{name: {str: "x", int: 1, dict: {}}[kind] for name, kind in start.contract.parameters.items()},
        key: value,
    }
    with serving() as endpoint, session(endpoint) as asking:
        before = endpoint.request_count
        with pytest.raises(errors.UsageError, match=named):
            asking.run(start, parameters, phase="job")
        assert endpoint.request_count == before


def test_what_parameters_may_be_arrives_as_it_is() -> None:
    asked = Asked(
        start_job={
            "script": "start_job",
            "refused": "",
            "detail": "",
            "job_id": "abc",
            "job_kind": "x",
            "joined": False,
        }
    )
    start = scripts.compose("start_job")
    parameters: dict[str, Any] = {
        **{name: {str: "x", int: 1, dict: {}}[kind] for name, kind in start.contract.parameters.items()},
        "start_seconds": 2**31 - 1,
        "job_parameters": {"text": "Blåbær \U0001f600\x1b", "list": ["a", 1, True], "none": None, "table": {"a": {}}},
    }
    with serving(asked) as endpoint, session(endpoint) as asking:
        asking.run(start, parameters, phase="job")
    assert asked.calls[0].parameters == {"Parameters": parameters}


def test_empty_input_is_refused_with_a_reason() -> None:
    with (
        serving(Asked(receive=received)) as endpoint,
        session(endpoint) as asking,
        pytest.raises(errors.UsageError, match="empty"),
    ):
        send(asking, lambda: iter(()))


def test_an_error_record_is_an_error_though_the_pipeline_completed() -> None:
    def complains(_: ScriptCall, output: Output) -> dict[str, Any]:
        output.error("Zugriff verweigert", error_id="UnauthorizedAccess")
        return polled()

    with (
        serving(Asked(poll_job=complains)) as endpoint,
        session(endpoint) as asking,
        pytest.raises(errors.ScriptError) as caught,
    ):
        ask(asking)
    assert "Zugriff verweigert" in caught.value.message
    assert caught.value.error_id == "UnauthorizedAccess"
    assert (caught.value.host, caught.value.phase) == (endpoint.address, "job")


def test_a_hashtable_arrives_as_a_dict_of_plain_values() -> None:
    states = "number=1\nphase=started\nend\n"
    asked = Asked(poll_job=polled(states=states, clock="Å\U0001f600", more=[1]))
    with serving(asked) as endpoint, session(endpoint) as asking:
        answer = ask(asking)
    assert answer == {"kind": "", "status": "none", "states": states, "last": 0, "clock": "Å\U0001f600"}
    assert {type(value) for value in answer.values()} == {str, int}


@pytest.mark.parametrize("thing", ["text", 7, None, True, [polled()], b"bytes"], ids=str)
def test_an_object_is_no_answer(thing: object) -> None:
    with (
        serving(Asked(poll_job=lambda _, output: output.write(thing))) as endpoint,
        session(endpoint) as asking,
        pytest.raises(errors.AnswerError, match="poll_job"),
    ):
        ask(asking)


@pytest.mark.parametrize("version", ["2.0", "3.0", "5.1"])
def test_the_powershell_version_is_the_servers_own(version: str) -> None:
    with serving(powershell_version=version) as endpoint, session(endpoint) as asking:
        assert asking.powershell_version == version
        assert asking.authentication == "ntlm"
        assert ask(asking)["status"] == "none"
    assert asking.powershell_version == ""


def test_neither_scripts_nor_envelopes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(orphans=True) as endpoint, session(endpoint) as asking:
        ask(asking)
        endpoint.faults.reset_in_response(1)
        ask(asking)
    ours = [record for record in caplog.records if not record.name.startswith(("wsusfix.lab", "psrpcore"))]
    assert any(record.name == "wsusfix" for record in ours), "nothing was captured at all"
    assert not [record for record in ours if record.name.startswith(("pypsrp", "spnego"))]
    text = "\n".join(record.getMessage() for record in ours)
    assert "param($Parameters)" not in text
    assert "Envelope" not in text


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], logging.Logger]]:
    """Give loggers of the libraries a level of their own, as whoever looks for a fault in them does."""
    given: list[tuple[logging.Logger, int]] = []

    def at_debug(name: str) -> logging.Logger:
        logger = logging.getLogger(name)
        given.append((logger, logger.level))
        logger.setLevel(logging.DEBUG)
        return logger

    yield at_debug
    for logger, level in reversed(given):
        logger.setLevel(level)


def test_loggers_below_the_libraries_own_say_nothing_either(
    caplog: pytest.LogCaptureFixture, libraries: Callable[[str], logging.Logger]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("pypsrp.wsman", "pypsrp.powershell", "spnego._ntlm", "spnego.made.later"):
        libraries(name)
    with serving() as endpoint:
        asking = session(endpoint)
        with asking:
            # Set by whoever does so while a session is there.
            for name in ("pypsrp", "pypsrp.wsman"):
                libraries(name)
            ask(asking)
    names = {record.name for record in caplog.records}
    assert "urllib3.connectionpool" in names, "nothing was captured at all"
    assert not [name for name in names if name.startswith(("pypsrp", "spnego"))]


@pytest.mark.parametrize("broken", [False, True], ids=["set up", "broken"])
def test_the_variable_by_which_pypsrp_sets_up_logging_is_not_followed(tmp_path: Path, broken: bool) -> None:
    log, setup = tmp_path / "pypsrp.log", tmp_path / "setup.json"
    handler = {"class": "logging.FileHandler", "filename": str(log), "level": "DEBUG"}
    names = ("pypsrp", "pypsrp.wsman", "pypsrp.powershell")
    loggers = {name: {"level": "DEBUG", "handlers": ["file"]} for name in names}
    told = {"version": 1, "handlers": {"file": handler}, "loggers": loggers}
    setup.write_text("{no JSON" if broken else json.dumps(told))
    with serving() as endpoint:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import os, sys, wsusfix\n"
                "with wsusfix.connect(sys.argv[1], port=int(sys.argv[2])) as server:\n"
                "    server.facts()\n"
                "print(os.environ['PYPSRP_LOG_CFG'])\n",
                endpoint.address,
                str(endpoint.port),
            ],
            env={
                **os.environ,
                "PYPSRP_LOG_CFG": str(setup),
                "WSUSFIX_USERNAME": ACCOUNT.name,
                "WSUSFIX_PASSWORD": PASSWORD,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(setup), "it is the caller's"
    assert not log.exists()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_proxies_of_the_environment_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with ExitStack() as stack, serving() as endpoint:
        dead = closed_port(stack, tmp_path)["port"]
        monkeypatch.setenv(name, f"http://127.0.0.1:{dead}")
        with session(endpoint) as asking:
            assert ask(asking)["status"] == "none"


def test_the_environment_is_not_read_anew_for_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    with serving() as endpoint, session(endpoint) as asking:
        monkeypatch.setattr(requests.utils, "should_bypass_proxies", lambda url, no_proxy: read.append(url))
        assert ask(asking)["status"] == "none"
    assert not read


def test_a_proxy_that_is_asked_for_is_used() -> None:
    seen: list[bytes] = []
    with serving() as endpoint:
        # What a proxy gets first is the whole address; this one is none, and only looks.
        def look(connection: socket.socket) -> None:
            seen.append(connection.recv(4096, socket.MSG_PEEK).split(b"\r\n")[0])

        with raw(look) as proxy, pytest.raises(errors.NotReachedError):
            session(endpoint, proxy=f"http://127.0.0.1:{proxy.port}").open()
        assert seen[0] == f"POST http://{endpoint.address}:{endpoint.port}/wsman HTTP/1.1".encode()
        assert endpoint.request_count == 0


def test_every_option_arrives_where_pypsrp_would_not_complain_of_a_wrong_name() -> None:
    connection = wsusfix.Connection(
        "[::1]",
        port=15986,
        ssl=True,
        auth="ntlm",
        encryption="auto",
        ca_cert=os.path.dirname(__file__),
        proxy="http://proxy:3128",
        timeouts=Timeouts(connect=7, operation=11),
    )
    wsman = wire.CarefulWSMan(connection, wsusfix.Credentials("LAB\\me", "secret"))
    transport = wsman.transport
    assert transport.endpoint == "https://[::1]:15986/wsman"
    assert (transport.username, transport.password) == ("LAB\\me", "secret")
    assert (transport.auth, transport.wrap_required, str(transport.cert_validation)) == (
        "ntlm",
        False,
        os.path.dirname(__file__),
    )
    assert (transport.proxy, transport.no_proxy) == ("http://proxy:3128", False)
    assert (wsman.operation_timeout, wsman.max_envelope_size) == (11, 153601)
    both = wsusfix.Connection("wsus01", ssl=True)
    assert wire.CarefulWSMan(both, wsusfix.Credentials("LAB\\me", "secret")).transport.wrap_required
    plain = wire.CarefulWSMan(wsusfix.Connection("wsus01"), wsusfix.Credentials("LAB\\me", "secret")).transport
    assert plain.endpoint == "http://wsus01:5985/wsman"
    assert (plain.wrap_required, plain.no_proxy, plain.cert_validation) == (True, True, True)


@pytest.mark.parametrize("host", ["::1", "[::1]", "fe80::1%eth0", "[fe80::1%eth0]"])
def test_an_address_of_ipv6_is_asked_for_as_it_was_given(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    asked: list[str] = []
    with serving() as endpoint:

        def look_up(name: str, port: int) -> Any:
            asked.append(name)
            return socket.getaddrinfo(endpoint.address, port, socket.AF_UNSPEC, socket.SOCK_STREAM)

        monkeypatch.setattr(dial, "_look_up", look_up)
        with session(endpoint, host=host) as asking:
            assert ask(asking)["status"] == "none"
    assert set(asked) == {host.strip("[]")}
    bare = host.strip("[]")
    assert str(wsusfix.Connection(host)) == f"http://[{bare}]:5985 (negotiate, encryption always)"
    assert f"[{bare}]:5985" in repr(wsusfix.Connection(host))


def test_pypsrps_own_client_is_not_even_loaded() -> None:
    code = "import sys, wsusfix.remote.session; sys.exit('pypsrp.client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_a_session_hides_no_warning_of_a_certificate(tmp_path: Path) -> None:
    certificate = certificates.self_signed(tmp_path, "127.0.0.1")
    with (
        serving() as endpoint,
        certificates.tls(certificate, certificates.relay_to(endpoint.address, endpoint.port)) as front,
        warnings.catch_warnings(),
    ):
        before = list(warnings.filters)
        for server, more in ((endpoint, {}), (front, {"ssl": True, "ca_cert": str(certificate)})):
            with session(server, **more) as asking:
                ask(asking)
        added = [entry for entry in warnings.filters if entry not in before]
        # One about platforms without TLS is pypsrp's own; nobody's certificate goes unlooked at for it.
        assert {kind for _, _, kind, *_ in added} <= {urllib3.exceptions.InsecurePlatformWarning}


def test_a_closed_server_says_that_it_is_closed() -> None:
    with serving() as endpoint:
        with wsusfix.connect(**reach(endpoint)) as server:
            server.facts()
        before = endpoint.request_count
        for deed in (
            server.facts,
            server.diagnose,
            server.plan,
            server.verify,
            server.job,
            server.withdraw,
            server.cleanup,
        ):
            with pytest.raises(errors.UsageError, match="closed"):
                deed()
        assert endpoint.request_count == before
        with server.open():
            server.facts()
