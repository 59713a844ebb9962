"""Servers that mean ill or are broken: a clear error in bounded time and memory, nothing done, nothing printed.

From outside in: before the log-on (a bare socket), in envelopes (an endpoint that is bent), in PowerShell's messages
inside of them, and in what scripts answer.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
import socket
import struct
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wsusfix
from tests import builders
from tests.sampling import spread
from tests.wire.servers import (
    ACCOUNT,
    PASSWORD,
    Asked,
    answer_to,
    answering,
    ask,
    bent,
    fault,
    instead,
    nothing_left,
    polled,
    raw,
    reach,
    read_request,
    send,
    serving,
    session,
    straight,
    wait_until,
)
from wsusfix import errors
from wsusfix.cli import main
from wsusfix.errors import AnswerError, DeadlineError, ProtocolError, ScriptError, WsusFixError
from wsusfix.lab import packages
from wsusfix.lab.http import Endpoint, _Connection, _Request, _Response
from wsusfix.lab.psrp import Output, ScriptCall, TerminatingError
from wsusfix.lab.wsman import Reply
from wsusfix.options import Timeouts
from wsusfix.remote import session as module
from wsusfix.remote import transport as wire

#: What takes over a terminal that prints it.
ANSI = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\u202egnp"
SOAP = "application/soap+xml;charset=UTF-8"


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.03)


def harmless(error: WsusFixError) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 1200
    assert error.host
    assert error.phase
    assert error.hint


# --- before anybody is logged on -------------------------------------------------------------------------------------


def endless(*head: str, body: bytes) -> tuple[Callable[[socket.socket], None], list[int]]:
    """Return a talk that answers with a head and then with *body* as fast as it is taken, and how much it was."""
    sent = [0]

    def talk(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        while True:
            connection.sendall(body)
            sent[0] += len(body)

    return talk, sent


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (("HTTP/1.1 401 Unauthorized", "WWW-Authenticate: Negotiate"), b"x" * 65536),
        (("HTTP/1.1 401 Unauthorized", "WWW-Authenticate: Negotiate", "Content-Length: 99999999999"), b"x" * 65536),
        (
            ("HTTP/1.1 401 Unauthorized", "WWW-Authenticate: Negotiate", "Transfer-Encoding: chunked"),
            b"10000\r\n" + b"x" * 65536 + b"\r\n",
        ),
        (("HTTP/1.1 401 Unauthorized", "WWW-Authenticate: Negotiate", "Transfer-Encoding: chunked"), b"0" * 65536),
        (("HTTP/1.1 503 Service Unavailable",), b"x" * 65536),
        (("HTTP/1.1 200 OK", "X-Long: " + "x" * 60000), b"X-Long: " + b"x" * 60000 + b"\r\n"),
        (("HTTP/1.1 200 OK", "X-Long: x"), b"x" * 65536),
    ],
    ids=["without length", "false length", "chunks", "chunk size", "503", "headers", "header"],
)
def test_an_answer_without_end_is_not_read_to_its_end(head: tuple[str, ...], body: bytes) -> None:
    talk, sent = endless(*head, body=body)
    if head[0].endswith("OK"):
        talk, sent = endless_head(*head, body=body)
    with raw(talk) as server:
        began = time.monotonic()
        with pytest.raises(WsusFixError) as caught:
            session(server, timeouts=Timeouts(opening=8)).open()
        assert time.monotonic() - began < 8
    # Four tries at most, and what lies in the buffers of two sockets.
    assert sent[0] < 64 << 20
    assert type(caught.value) is ProtocolError
    harmless(caught.value)


def endless_head(*head: str, body: bytes) -> tuple[Callable[[socket.socket], None], list[int]]:
    """Return a talk whose head goes on and on."""
    sent = [0]

    def talk(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall("\r\n".join(head).encode())
        while True:
            connection.sendall(body)
            sent[0] += len(body)

    return talk, sent


def test_a_compressed_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(64 << 20), 6)
    assert len(bomb) < 1 << 20
    talk = answering("401 Unauthorized", "WWW-Authenticate: Negotiate", "Content-Encoding: gzip", body=bomb)
    seen: list[int] = []
    with raw(talk) as server, pytest.MonkeyPatch.context() as patch:
        read = wire.CarefulTransport.read

        def counting(self: Any, *args: Any, **options: Any) -> Iterator[bytes]:
            for piece in read(self, *args, **options):
                seen.append(len(piece))
                yield piece

        patch.setattr(wire.CarefulTransport, "read", counting)
        with pytest.raises(WsusFixError):
            session(server).open()
    assert 0 < sum(seen) < 1 << 19


@pytest.mark.parametrize(
    "challenge",
    [
        "Negotiate !!!!",
        "Negotiate AAAA",
        "Negotiate " + base64.b64encode(b"NTLMSSP\0\2\0\0\0").decode(),
        "Negotiate " + base64.b64encode(b"\x60\x84\xff\xff\xff\xff" + bytes(64)).decode(),
        "Negotiate " + base64.b64encode(b"\x60" + b"\x80" * 4000).decode(),
        "Negotiate " + "A" * 60000,
        "NTLM TlRMTVNTUAACAAAA",
        "Kerberos YIIB",
        "Negotiate, NTLM",
        "",
    ],
    ids=["no base64", "zeros", "short", "long length", "nested lengths", "long", "NTLM", "Kerberos", "two", "none"],
)
def test_a_challenge_that_is_none_is_told_and_nobody_is_logged_on(challenge: str) -> None:
    with raw(answering("401 Unauthorized", f"WWW-Authenticate: {challenge}")) as server:
        began = time.monotonic()
        with pytest.raises((errors.AuthenticationError, ProtocolError, errors.UsageError)) as caught:
            session(server).open()
        assert time.monotonic() - began < 10
        assert len(server.accepted) <= 2
    assert not isinstance(caught.value, errors.UsageError)
    harmless(caught.value)


def test_a_server_that_never_ends_the_handshake_is_given_up() -> None:
    """Every challenge is a good one, and none is the last."""
    with serving() as endpoint:
        refuse = _Response(401, headers=(("WWW-Authenticate", "Negotiate"),))
        authenticator = vars(endpoint)["_authenticator"]
        step = authenticator.step

        def forever(connection: _Connection, token: bytes) -> _Response:
            connection.handshake = None
            return step(connection, token) or refuse

        authenticator.step = forever
        began = time.monotonic()
        with pytest.raises(WsusFixError) as caught:
            session(endpoint, timeouts=Timeouts(opening=2)).open()
        assert time.monotonic() - began < 10
    harmless(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_to_whoever_would_like_the_log_on(status: int) -> None:
    with raw(answering("401 Unauthorized", "WWW-Authenticate: Negotiate")) as other:
        place = f"Location: http://127.0.0.1:{other.port}/wsman"
        with raw(answering(f"{status} Elsewhere", place)) as server, pytest.raises(ProtocolError) as caught:
            session(server).open()
        assert other.accepted == []
    assert "another address" in caught.value.message


# --- in envelopes ---------------------------------------------------------------------------------------------------

LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a "ha ha ha ha ha ha ha ha ha ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]>"
)
RECEIVED = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"


def told(body: str) -> Callable[[bytes], Reply]:
    return lambda envelope: Reply(200, answer_to(envelope, body))


def after(prefix: str, body: str = "&j;") -> Callable[[bytes], Reply]:
    return lambda envelope: Reply(200, prefix.encode() + answer_to(envelope, body))


def stream(text: str) -> str:
    return f'<r:ReceiveResponse xmlns:r="{RECEIVED}"><r:Stream Name="stdout">{text}</r:Stream></r:ReceiveResponse>'


ENVELOPES: dict[str, Callable[[bytes], Reply]] = {
    "nothing": lambda _: Reply(200, b""),
    "text": lambda _: Reply(200, b"all is well"),
    "bytes": lambda _: Reply(200, bytes(range(256)) * 4),
    "cut off": lambda envelope: Reply(200, answer_to(envelope, "<a/>")[:-20]),
    "another document": lambda _: Reply(200, b"<html/>"),
    "no body": lambda envelope: Reply(200, answer_to(envelope, "").replace(b"s:Body", b"s:Soul")),
    "answer to another": lambda envelope: Reply(200, answer_to(envelope, stream(""), relates_to="uuid:0")),
    "answer to nobody": lambda envelope: Reply(200, answer_to(envelope, stream(""), relates_to="")),
    "billion laughs": after(LAUGHS),
    "external entity": after('<!DOCTYPE l SYSTEM "file:///etc/passwd" [<!ENTITY j SYSTEM "file:///etc/passwd">]>'),
    "document type": after("<!DOCTYPE l>", stream("")),
    "document type in UTF-16": lambda envelope: Reply(
        200, ("\ufeff<!DOCTYPE l>" + answer_to(envelope, stream("")).decode()).encode("utf-16-le")
    ),
    "document type in EBCDIC": lambda envelope: Reply(
        200,
        b'<?xml version="1.0" encoding="cp037"?>'
        + ("<!DOCTYPE l>" + answer_to(envelope, stream("")).decode()).encode("cp037"),
    ),
    "deep": told("<a>" * 40_000 + "</a>" * 40_000),
    "deep, but small": told("<a>" * 150 + "</a>" * 150),
    "deep and open": told("<a>" * 150_000),
    "wide": told("<a/>" * 200_000),
    "a million bytes": told("x" * 900_000),
    "no base64": told(stream("A")),
    "half of base64": told(stream("AAAAA")),
    "stream without name": told(
        f'<r:ReceiveResponse xmlns:r="{RECEIVED}"><r:Stream>AAAA</r:Stream></r:ReceiveResponse>'
    ),
    "another stream": told(
        f'<r:ReceiveResponse xmlns:r="{RECEIVED}"><r:Stream Name="stderr">AAAA</r:Stream></r:ReceiveResponse>'
    ),
    "state without state": told(f'<r:ReceiveResponse xmlns:r="{RECEIVED}"><r:CommandState/></r:ReceiveResponse>'),
    "fault without code": lambda _: Reply(500, fault("")),
    "fault with a word": lambda _: Reply(500, fault("w:Surprise", ANSI.replace("\x1b", "").replace("\x07", ""))),
    "fault with letters": lambda _: Reply(500, fault("²", "x" * 100_000)),
    "fault with many digits": lambda _: Reply(500, fault("9" * 4400)),
    "fault with a document type": lambda _: Reply(500, LAUGHS.encode() + fault(5, "&j;")),
    "fault with a harmless document type": lambda _: Reply(
        500, b'<!DOCTYPE l [<!ENTITY j "words">]>' + fault(5, "&j;")
    ),
    "status without a fault": lambda _: Reply(500, b"<html/>"),
}


#: Who noticed it, where more than one would in the end: what comes later has more to lose.
NOTICED: dict[str, str] = {
    "billion laughs": "document type",
    "external entity": "document type",
    "document type": "document type",
    "deep": "nests or goes on without end",
    "deep, but small": "nests or goes on without end",
    "deep and open": "nests or goes on without end",
    "wide": "nests or goes on without end",
    "fault with a document type": "HTTP 500",
    "fault with a harmless document type": "HTTP 500",
}


@pytest.mark.parametrize("name", spread(ENVELOPES, 10))
def test_an_envelope_that_is_none_is_told_and_the_session_goes_on_afterwards(name: str) -> None:
    with serving() as endpoint, session(endpoint) as asking:
        ask(asking)
        instead(endpoint, ENVELOPES[name], action="shell/Receive")
        began = time.monotonic()
        with pytest.raises(ProtocolError) as caught:
            ask(asking, within=20)
        assert time.monotonic() - began < 19, "it was noticed by the deadline only"
        assert NOTICED.get(name, "") in caught.value.message
        harmless(caught.value)
        straight(endpoint)
        assert ask(asking)["status"] == "none"


@pytest.mark.parametrize("action", ["transfer/Create", "shell/Command", "shell/Signal", "transfer/Delete"])
@pytest.mark.parametrize("name", ["nothing", "billion laughs", "deep", "answer to another", "no body"])
def test_no_other_kind_of_request_is_more_trusting(action: str, name: str) -> None:
    with serving(orphans=True) as endpoint:
        instead(endpoint, ENVELOPES[name], action=action)
        began = time.monotonic()
        try:
            with session(endpoint, timeouts=Timeouts(opening=1, operation=1)) as asking:
                for _ in range(3):  # the first pipeline is closed before the third
                    ask(asking, within=1)
        except WsusFixError as error:
            harmless(error)
        else:
            # What is answered to a farewell is nobody's business, nor what is not looked at.
            assert action == "transfer/Delete" or name == "no body"
        assert time.monotonic() - began < 10
        straight(endpoint)


def unsealed(endpoint: Endpoint, response: Callable[[bytes], _Response]) -> None:
    """Answer what comes in sealed with *response*, made of the answer in clear text."""
    context = vars(endpoint)

    def answer(connection: _Connection, _: bytes) -> _Response:
        assert connection.context is not None
        return response(b"<s:Envelope/>")

    context["_answer_sealed"] = answer


def plain(envelope: bytes, kind: str, status: int = 200) -> _Response:
    return _Response(status, envelope, (("Content-Type", kind),) if kind else ())


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (SOAP, 200),
        ("", 200),
        ("text/html", 200),
        ("multipart/encrypted", 200),
        ("Multipart/encrypted;x", 200),
        ("multipart/mixed;boundary=x", 200),
        ("multipart/related;protocol=x", 200),
        (SOAP, 500),
    ],
)
def test_an_answer_in_clear_text_is_not_taken_where_encryption_was_agreed(kind: str, status: int) -> None:
    with serving(orphans=True) as endpoint, session(endpoint) as asking:
        ask(asking)
        unsealed(endpoint, lambda _: plain(fault(5) if status == 500 else b"<s:Envelope/>", kind, status))
        with pytest.raises(ProtocolError) as caught:
            ask(asking, within=20)
        harmless(caught.value)
        assert "unencrypted" in caught.value.message or "several parts" in caught.value.message
        del vars(endpoint)["_answer_sealed"]
        assert ask(asking)["status"] == "none"


@pytest.mark.parametrize(
    "parts",
    [
        b"",
        b"--Encrypted Boundary\r\n",
        b"--Encrypted Boundary\r\nLength=5\r\n--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n",
        b"--Encrypted Boundary\r\nLength=x\r\n--Encrypted Boundary\r\n" + b"\xff" * 64,
        b"--Encrypted Boundary\r\nLength=5\r\n--Encrypted Boundary\r\n" + struct.pack("<i", -1) + bytes(64),
        b"--Encrypted Boundary\r\nLength=5\r\n--Encrypted Boundary\r\n" + struct.pack("<i", 16) + bytes(64),
        b"--Encrypted Boundary\r\n" * 20_000,
    ],
    ids=["empty", "half", "without data", "no length", "negative", "forged", "many"],
)
def test_a_seal_that_is_broken_or_none_is_told(parts: bytes) -> None:
    sealed = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'
    with serving(orphans=True) as endpoint, session(endpoint) as asking:
        ask(asking)
        unsealed(endpoint, lambda _: plain(parts, sealed))
        began = time.monotonic()
        with pytest.raises(ProtocolError) as caught:
            ask(asking, within=20)
        assert time.monotonic() - began < 19
        harmless(caught.value)
        del vars(endpoint)["_answer_sealed"]
        assert ask(asking)["status"] == "none"


@pytest.mark.parametrize("name", ["deep and open", "wide", "a million bytes", "billion laughs"])
def test_an_envelope_costs_no_more_memory_than_its_size_explains(name: str) -> None:
    with serving() as endpoint, session(endpoint) as asking:
        ask(asking)
        instead(endpoint, ENVELOPES[name], action="shell/Receive")
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError):
                ask(asking)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        straight(endpoint)
    # Both ends of it: the envelope, sealed and in clear text, some times over.
    assert peak < 20_000_000


@pytest.mark.parametrize("status", [200, 500])
def test_a_boundary_is_no_pattern_to_be_searched_for(status: int) -> None:
    pattern = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="(x+x+)+y"'
    body = b"--(x+x+)+y\r\nLength=5\r\n--(x+x+)+y\r\n--" + b"x" * 40
    with serving(orphans=True) as endpoint, session(endpoint) as asking:
        ask(asking)
        unsealed(endpoint, lambda _: plain(body, pattern, status))
        began = time.monotonic()
        with pytest.raises(ProtocolError):
            ask(asking, within=20)
        assert time.monotonic() - began < 19
        del vars(endpoint)["_answer_sealed"]


@pytest.mark.parametrize("size", [1_200_000, 17 << 20])
def test_a_body_of_more_than_any_envelope_is_not_read_to_its_end(size: int) -> None:
    with serving(orphans=True) as endpoint, session(endpoint) as asking:
        ask(asking)
        begun: list[int] = []
        took: list[float] = []
        write = endpoint._write

        def counting(connection: _Connection, response: _Response) -> None:
            began = time.monotonic()
            begun.append(len(response.body))
            try:
                write(connection, response)
            finally:
                took.append(time.monotonic() - began)

        vars(endpoint)["_write"] = counting
        instead(endpoint, told("x" * size), action="shell/Receive")
        with pytest.raises(ProtocolError, match="does not end") as caught:
            ask(asking)
        harmless(caught.value)
        assert len([each for each in begun if each > size]) == 1
        straight(endpoint)
        assert ask(asking)["status"] == "none"
        wait_until(lambda: len(took) == len(begun))
        assert max(took) < 20


def test_a_request_that_nobody_reads_does_not_hang_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLOSING", 0.3)
    with serving(orphans=True) as endpoint, session(endpoint, timeouts=Timeouts(connect=1)) as asking:
        ask(asking)
        stopped = time.monotonic() + 20

        def deaf(connection: _Connection) -> _Request | None:
            connection.gone.wait(max(0.0, stopped - time.monotonic()))
            return None

        vars(endpoint)["_read"] = deaf
        began = time.monotonic()
        with pytest.raises((DeadlineError, errors.BrokenConnectionError)):
            # More than the buffers of both ends hold.
            send(asking, lambda: iter([bytes(80_000)] * 200), within=1)
        assert time.monotonic() - began < 15
        del vars(endpoint)["_read"]


# --- in PowerShell's messages ---------------------------------------------------------------------------------------

OUTPUT, ERROR, STATE, POOL_STATE, POOL_WARNING = 0x41004, 0x41005, 0x41006, 0x21005, 0x41009


def message(kind: int, text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<II", 1, kind) + bytes(32) + b"\xef\xbb\xbf" + data


def fragment(data: bytes, *, number: int = 1, piece: int = 0, flags: int = 3) -> bytes:
    return struct.pack(">QQBI", number, piece, flags, len(data)) + data


def saying(*parts: bytes) -> Callable[[bytes], Reply]:
    return told(stream(base64.b64encode(b"".join(parts)).decode()))


TABLE = "<TN RefId='0'><T>System.Collections.Hashtable</T><T>System.Object</T></TN>"


def table(entries: str) -> str:
    return f"<Obj RefId='0'>{TABLE}<DCT>{entries}</DCT></Obj>"


MESSAGES: dict[str, Callable[[bytes], Reply]] = {
    "bytes": saying(bytes(range(256))),
    "short": saying(b"\0" * 5),
    "fragment out of turn": saying(fragment(b"x", piece=7)),
    "fragment longer than it is": saying(struct.pack(">QQBI", 1, 0, 3, 2**31) + b"x"),
    "message without head": saying(fragment(b"\0" * 7)),
    "message of no kind": saying(fragment(message(0xFFFF, "<S>x</S>"))),
    "message for the server": saying(fragment(message(0x21006, "<S>x</S>"))),
    "no UTF-8": saying(fragment(message(STATE, b"\xff\xfe\xfd"))),
    "state that is none": saying(fragment(message(STATE, "<S>x</S>"))),
    "state without number": saying(fragment(message(STATE, "<Obj RefId='0'><MS/></Obj>"))),
    "state without text": saying(fragment(message(STATE, "<Obj RefId='0'><MS><I32 N='PipelineState'/></MS></Obj>"))),
    "billion laughs": saying(fragment(message(OUTPUT, LAUGHS + "<S>&j;</S>"))),
    "billion laughs in a state": saying(fragment(message(STATE, LAUGHS + "<S>&j;</S>"))),
    "deep": saying(fragment(message(OUTPUT, table("<En>" * 5000 + "</En>" * 5000)))),
    "deep, but small": saying(fragment(message(OUTPUT, table("<En>" * 150 + "</En>" * 150)))),
    "deep objects": saying(
        fragment(
            message(
                OUTPUT,
                "".join(f"<Obj RefId='{n}'>{TABLE}<DCT><En><S N='Key'>k</S>" for n in range(300))
                + "<S N='Value'/>"
                + "</En></DCT></Obj>" * 300,
            )
        )
    ),
    "wide": saying(fragment(message(OUTPUT, table("<En><S N='Key'>a</S><S N='Value'>b</S></En>" * 8000)))),
    "reference to nothing": saying(fragment(message(OUTPUT, "<Ref RefId='99'/>"))),
    "type of nothing": saying(fragment(message(OUTPUT, "<Obj RefId='0'><TNRef RefId='9'/><DCT/></Obj>"))),
    "key that is a list": saying(
        fragment(message(OUTPUT, table("<En><Obj N='Key' RefId='1'><TN RefId='1'><T>System.Array</T></TN><LST/></Obj>"
                                       "<S N='Value'/></En>")))
    ),
    "number that is none": saying(fragment(message(OUTPUT, "<I32>x</I32>"))),
    "number without end": saying(fragment(message(OUTPUT, f"<I64>{'9' * 5000}</I64>"))),
    "character out of range": saying(fragment(message(OUTPUT, f"<C>{2**40}</C>"))),
    "no GUID": saying(fragment(message(OUTPUT, "<G>x</G>"))),
    "bytes that are none": saying(fragment(message(OUTPUT, "<BA>!!!</BA>"))),
    "half a character": saying(fragment(message(OUTPUT, "<S>_xD800_</S>"))),
    "broken error record": saying(fragment(message(ERROR, "<Obj RefId='0'><MS><S N='Exception'>x</S></MS></Obj>"))),
    "runspaces broken": saying(
        fragment(message(POOL_STATE, "<Obj RefId='0'><MS><I32 N='RunspaceState'>5</I32></MS></Obj>"))
    ),
    "endless message": lambda envelope: saying(fragment(b"x" * 600_000, flags=0, piece=next(COUNT)))(envelope),
    "a hundred thousand keys": lambda envelope: saying(next(KEYS))(envelope),
    "many small fragments": saying(b"".join(fragment(b"", number=n) for n in range(30_000))),
}  # fmt: skip
COUNT: Iterator[int] = itertools.count()


def _in_pieces(data: bytes) -> Iterator[bytes]:
    size = 500_000
    for start in range(0, len(data), size):
        flags = (1 if start == 0 else 0) | (2 if start + size >= len(data) else 0)
        yield fragment(data[start : start + size], piece=start // size, flags=flags)


def _keys() -> Iterator[bytes]:
    entries = "".join(f"<En><S N='Key'>{n}</S><S N='Value'/></En>" for n in range(100_000))
    return _in_pieces(message(OUTPUT, table(entries)))


KEYS: Iterator[bytes] = iter(())
#: As above: pypsrp would notice some of them, too, after it has built what they ask for.
NOTICED_INSIDE: dict[str, str] = {
    "billion laughs": "document type",
    "billion laughs in a state": "document type",
    "deep": "nests or goes on without end",
    "deep, but small": "nests or goes on without end",
    "deep objects": "nests or goes on without end",
    "wide": "nests or goes on without end",
}


@pytest.mark.parametrize("name", spread(MESSAGES, 10))
def test_a_message_that_is_none_is_told_and_the_session_goes_on_afterwards(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    global COUNT, KEYS
    COUNT, KEYS = itertools.count(), _keys()
    with serving() as endpoint, session(endpoint) as asking:
        ask(asking)
        instead(endpoint, MESSAGES[name], action="shell/Receive")
        began = time.monotonic()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with pytest.raises((ProtocolError, errors.UnavailableError)) as caught:
                ask(asking, within=20)
        assert time.monotonic() - began < 19, "it was noticed by the deadline only"
        assert NOTICED_INSIDE.get(name, "") in caught.value.message
        harmless(caught.value)
        assert not [str(one.message) for one in warned if one.category is not ResourceWarning]
        straight(endpoint)
        assert ask(asking)["status"] == "none"


def test_what_a_server_warns_of_while_the_session_opens_is_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    said = "<S N='InformationalRecord_Message'>owned</S><B N='InformationalRecord_SerializeInvocationInfo'>false</B>"
    warning = fragment(message(POOL_WARNING, f"<Obj RefId='0'><ToString>owned</ToString><MS>{said}</MS></Obj>"))
    opened = fragment(message(POOL_STATE, "<Obj RefId='0'><MS><I32 N='RunspaceState'>2</I32></MS></Obj>"), number=2)
    with serving(orphans=True) as endpoint, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        instead(endpoint, saying(warning, opened), action="shell/Receive")
        asking = session(endpoint)
        asking.open()
        straight(endpoint)
        asking.close()
    assert not [one for one in warned if "owned" in str(one.message)]
    shown = capfd.readouterr()
    assert "owned" not in shown.out + shown.err


# --- in what scripts answer -----------------------------------------------------------------------------------------


def without(*keys: str) -> dict[str, object]:
    return {key: value for key, value in builders.answer().items() if key not in keys}


def two(_: ScriptCall, output: Output) -> None:
    output.write(builders.answer())
    output.write(builders.answer())


#: The lab writes some texts of an error record as they are, where PowerShell escapes them: :func:`marked` does.
MARK = "MARKED"
ESCAPED = b"".join(f"_x{ord(char):04X}_".encode() if not char.isalnum() else char.encode() for char in ANSI)


def complains(_: ScriptCall, output: Output) -> dict[str, Any]:
    output.error(MARK * 100, error_id=MARK)
    return builders.answer()


def throws(_: ScriptCall, __: Output) -> None:
    raise TerminatingError(MARK * 100, error_id=MARK, exception="System." + MARK)


def marked(_: bytes, reply: Reply) -> Reply:
    """Put control characters in the place of marks, as PowerShell would write them."""

    def escaped(found: re.Match[bytes]) -> bytes:
        data, pieces = base64.b64decode(found[2]), b""
        while data:
            number, piece, flags, size = struct.unpack_from(">QQBI", data)
            text = data[21 : 21 + size].replace(MARK.encode(), ESCAPED)
            pieces += fragment(text, number=number, piece=piece, flags=flags)
            data = data[21 + size :]
        return found[1] + base64.b64encode(pieces)

    return Reply(reply.status, re.sub(rb"(<rsp:Stream [^>]*>)([^<]*)", escaped, reply.envelope))


def nested(depth: int) -> dict[str, object]:
    deep: dict[str, object] = {}
    for _ in range(depth):
        deep = {"deeper": deep}
    return {**builders.answer(), "more": deep}


ANSWERS: dict[str, tuple[object, type[WsusFixError]]] = {
    "nothing": (lambda _, __: None, AnswerError),
    "null": (lambda _, output: output.write(None), AnswerError),
    "text": (ANSI, AnswerError),
    "list": ([builders.answer()], AnswerError),
    "two tables": (two, AnswerError),
    "empty table": ({}, AnswerError),
    "answer of another script": (polled(), AnswerError),
    "name that is a table": ({**builders.answer(), "script": {}}, AnswerError),
    "key missing": (without("os_version"), AnswerError),
    "text for a number": ({**builders.answer(), "leftovers": "0"}, AnswerError),
    "number for text": ({**builders.answer(), "account": 7}, AnswerError),
    "number for a flag": ({**builders.answer(), "administrator": 1}, AnswerError),
    "table for text": ({**builders.answer(), "account": {"a": "b"}}, AnswerError),
    "text too long": (builders.answer(account="x" * 5000), AnswerError),
    "a megabyte of text": (builders.answer(account="x" * 1_000_000), AnswerError),
    "megabytes of text": (builders.answer(account="x" * 5_000_000), ProtocolError),
    "thousands of keys": ({**builders.answer(), **{f"k{n}": "" for n in range(4000)}}, ProtocolError),
    "deep table": (nested(60), ProtocolError),
    "no version": (builders.answer(os_version=ANSI), AnswerError),
    "no time": (builders.answer(clock=ANSI), AnswerError),
    "no size": (builders.answer(staging_free=ANSI), AnswerError),
    "no state": (builders.answer(staging_state=ANSI), AnswerError),
    "error record": (complains, ScriptError),
    "error that ends it": (throws, ScriptError),
}


@pytest.fixture
def as_admin(monkeypatch: pytest.MonkeyPatch) -> Callable[[Endpoint], list[str]]:
    def use(endpoint: Endpoint) -> list[str]:
        monkeypatch.setenv("WSUSFIX_USERNAME", ACCOUNT.name)
        monkeypatch.setenv("WSUSFIX_PASSWORD", PASSWORD)
        return [endpoint.address, "--port", str(endpoint.port)]

    return use


def clean(shown: pytest.CaptureFixture[str]) -> str:
    """Return what was printed, after making sure that printing it harmed nobody."""
    both = "".join(shown.readouterr())
    bad = {char for char in both if not char.isprintable() and char != "\n"}
    assert not bad, f"{bad!r} reached the terminal"
    assert "Traceback" not in both
    return both


@pytest.mark.parametrize("name", spread(ANSWERS, 8))
def test_facts_that_are_none_are_told_and_nothing_is_done(
    name: str, as_admin: Callable[[Endpoint], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    answer, kind = ANSWERS[name]
    asked = Asked(facts=answer)
    with serving(asked) as endpoint:
        bent(endpoint, marked, action="shell/Receive")
        began = time.monotonic()
        with wsusfix.connect(**reach(endpoint, timeouts=Timeouts())) as server, pytest.raises(WsusFixError) as caught:
            server.diagnose()
        assert time.monotonic() - began < Timeouts().script / 4
        assert type(caught.value) is kind, repr(caught.value)
        harmless(caught.value)
        assert caught.value.phase == "facts"
        capsys.readouterr()
        assert main(["remediate", "--yes", *as_admin(endpoint)]) == (5 if kind is ScriptError else 6)
    shown = clean(capsys)
    assert "ERROR" in shown
    assert set(asked.names) == {"facts"}


def everywhere(text: str, *but: str) -> dict[str, object]:
    """Return facts with *text* in every value that may be any text."""
    decided = {
        *but,
        *("script", "os_version", "os_suite_mask", "boot_time", "clock", "staging_state", "staging_free"),
        *("system_free", "job_status", "reset_state", "upgrade_state", "ran_number"),
    }
    return {
        key: text if isinstance(value, str) and key not in decided else value
        for key, value in builders.answer().items()
    }


@pytest.mark.parametrize(
    "command", [["diagnose"], ["diagnose", "--json"], ["plan"], ["verify"], ["remediate", "--yes"]]
)
def test_facts_full_of_control_characters_do_no_harm_where_they_are_shown(
    command: list[str],
    as_admin: Callable[[Endpoint], list[str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    hostile = f"{ANSI}<script>alert(1)</script>|`*\n{ANSI}"
    for facts in (
        everywhere(hostile),
        everywhere(hostile, "architecture", "setup_InstallType", "setup_VersionString", "dll_version", "dll_path"),
    ):
        with serving(Asked(facts=facts)) as endpoint:
            assert main([*command, *as_admin(endpoint), "--report", str(tmp_path)]) in (3, 4, 5)
        shown = clean(capsys)
        if "--json" in command:
            json.loads(shown.partition("\nreport")[0][shown.index("{") :].rpartition("}")[0] + "}")
        for path in tmp_path.iterdir():
            text = path.read_text(encoding="utf-8")
            assert all(char.isprintable() or char == "\n" for char in text), path.name
            if path.suffix == ".html":
                assert "<script>" not in text
            if path.suffix == ".md":
                # What is indented is shown as it is.
                assert not [line for line in text.splitlines() if "<script>" in line and not line.startswith("    ")]


def road(package: Path, **changes: object) -> Asked:
    """Return answers for a whole remediation, full of what does harm where it is shown, and otherwise in order."""
    plain = {"refused": "", "detail": ""}
    states = "\n".join(
        [
            *("number=1", "phase=started", f"time={ANSI}", f"account_sid={ANSI}", "end"),
            *("number=2", "phase=launching", f"command_line={ANSI}", f"signer={ANSI}", f"signature={ANSI}", "end"),
            *("number=3", "phase=installing", f"still={ANSI}", "end"),
            *(
                "number=4",
                "phase=finished",
                "reason=done",
                f"detail={ANSI}",
                "exit_code=1603",
                f"dll_before={ANSI}",
                "end",
            ),
        ]
    )
    return Asked(
        **{
            "stage": {
                "script": "stage", **plain, "path": f"C:\\{ANSI}", "complete": True, "segments": "", "free": "1"
            },
            "start_job": {
                "script": "start_job", **plain, "job_id": "abc", "job_kind": "install_update", "joined": False
            },
            "poll_job": polled(status="finished", kind="install_update", states=states, last=4),
            "collect_job": {
                "script": "collect_job", "log_tail": f"{ANSI}\r\n" * 20, "logs": f"{'5a' * 32} 5 {ANSI}"
            },
            "cleanup": {"script": "cleanup", **plain, "removed": ANSI, "remaining": f"{ANSI}\n{ANSI}"},
            **changes,
        }
    )  # fmt: skip


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return packages.write_stand_in(tmp_path / "package", "WSUS-KB954960-x64.exe", arch="x64", size=300_000)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_job_full_of_control_characters_does_no_harm_where_it_is_shown(
    as_json: bool,
    package: Path,
    as_admin: Callable[[Endpoint], list[str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    asked = road(package)
    report = tmp_path / "report"
    with serving(asked) as endpoint:
        command = ["remediate", "--yes", *as_admin(endpoint), "--package", str(package), "--report", str(report)]
        assert main([*command, *(["--json"] if as_json else [])]) == 5
    clean(capsys)
    assert {"start_job", "poll_job", "collect_job"} <= set(asked.names)
    for path in report.iterdir():
        assert all(char.isprintable() or char == "\n" for char in path.read_text(encoding="utf-8")), path.name


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"stage": {"script": "stage"}}, 6),
        ({"stage": complains}, 5),
        ({"stage": {"script": "stage", "refused": "staging_acl", "detail": ANSI, "path": "", "complete": False,
                    "segments": "", "free": ""}}, 5),
        ({"start_job": {"script": "start_job", "refused": "", "detail": "", "job_id": ANSI, "job_kind": "x",
                        "joined": False}}, 6),
        ({"start_job": {"script": "start_job", "refused": ANSI, "detail": "", "job_id": "", "job_kind": "x",
                        "joined": False}}, 6),
        ({"poll_job": polled(status=ANSI)}, 6),
        ({"poll_job": polled(status="none")}, 5),
        ({"poll_job": polled(status="running", states=f"number=1\nphase={ANSI}\nend")}, 6),
        ({"cleanup": throws}, 5),
    ],
    ids=["stage short", "stage fails", "stage refuses", "id", "refusal", "status", "no job", "phase", "cleanup fails"],
)  # fmt: skip
def test_a_job_that_is_answered_for_wrongly_is_told_with_its_exit_code(
    changes: dict[str, object],
    code: int,
    package: Path,
    as_admin: Callable[[Endpoint], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(road(package, **changes)) as endpoint:
        bent(endpoint, marked, action="shell/Receive")
        assert main(["remediate", "--yes", *as_admin(endpoint), "--package", str(package)]) == code
    shown = clean(capsys)
    assert "ERROR" in shown or "failed" in shown


def test_a_script_cannot_make_the_session_wait_for_its_own_output_for_ever() -> None:
    """Progress that never says anything: an answer every now and then, and no end."""

    def drips(call: ScriptCall, output: Output) -> None:
        while not call.stopped.wait(0.2):
            output.write("drip")

    with serving(Asked(poll_job=drips)) as endpoint, session(endpoint) as asking:
        began = time.monotonic()
        with pytest.raises((DeadlineError, AnswerError)):
            ask(asking, within=1)
        assert time.monotonic() - began < 10
        wait_until(lambda: not endpoint.shells)


def test_numbers_of_messages_are_not_reused_for_another_pipeline() -> None:
    """A late answer to a script that was given up is not taken for the next one's."""
    first = ""

    def slow_first(call: ScriptCall, _: Output) -> dict[str, Any]:
        if call.shell_id != first:
            return polled(clock="right")
        call.stopped.wait(30)
        return polled(clock="late")

    with serving(Asked(poll_job=slow_first)) as endpoint, session(endpoint) as asking:
        first = endpoint.shells[0].id
        with pytest.raises(DeadlineError):
            ask(asking, within=0.5)
        assert ask(asking)["clock"] == "right"
