"""The lab's endpoint under the real pypsrp: what passes on Windows passes, what Windows refuses is refused."""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import http.client
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pypsrp.client import Client
from pypsrp.complex_objects import ObjectMeta
from pypsrp.exceptions import AuthenticationError, WinRMTransportError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.shell import SignalCode
from pypsrp.wsman import WSMan

from wsusfix.lab.accounts import Account, Accounts
from wsusfix.lab.faults import Faults
from wsusfix.lab.http import Endpoint, _Connection, _Request, _Response
from wsusfix.lab.psrp import Output, PipelineStopped, ScriptCall, TerminatingError
from wsusfix.lab.wsman import Quotas

PASSWORD = "S3cret, no?"
LOST = 2150858843
TIMED_OUT = 2150858793
TOO_MANY_SHELLS = 2150859173

Behaviour = Callable[[ScriptCall, Output], None]


class Scripts:
    """A runner that knows behaviours by the script's text and remembers what it was called with."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {
            "echo": self._echo,
            "quick": lambda _, output: output.write("done"),
        }
        self.calls: list[ScriptCall] = []
        self.stopped: list[str] = []

    def run(self, call: ScriptCall, output: Output) -> None:
        self.calls.append(call)
        try:
            self.behaviours.get(call.script, self._name)(call, output)
        except PipelineStopped:
            self.stopped.append(call.script)
            raise

    @staticmethod
    def _name(call: ScriptCall, output: Output) -> None:
        output.write(call.script)

    @staticmethod
    def _echo(call: ScriptCall, output: Output) -> None:
        for value in call.input:
            output.write(value)

    def wait_stopped(self, script: str) -> None:
        wait_until(lambda: script in self.stopped)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def wait_for_stop(call: ScriptCall, output: Output) -> None:
    for _ in call.input:
        pass
    assert call.stopped.wait(20)
    raise PipelineStopped


Connect = Callable[..., WSMan]


@pytest.fixture
def scripts() -> Scripts:
    return Scripts()


@pytest.fixture
def connect() -> Iterator[Connect]:
    with contextlib.ExitStack() as opened:

        def to(endpoint: Endpoint, user: str = "LAB\\admin", password: str = PASSWORD, **options: Any) -> WSMan:
            options = {"auth": "negotiate", "encryption": "always", "operation_timeout": 5, **options}
            return opened.enter_context(
                WSMan(
                    endpoint.address,
                    port=endpoint.port,
                    ssl=False,
                    username=user,
                    password=password,
                    no_proxy=True,
                    **options,
                )
            )

        yield to


@pytest.fixture
def serve(scripts: Scripts) -> Iterator[Callable[..., Endpoint]]:
    with contextlib.ExitStack() as started:

        def start(**options: Any) -> Endpoint:
            options.setdefault("accounts", Accounts.of("admin", PASSWORD))
            return started.enter_context(Endpoint(scripts, **options))

        yield start


@pytest.fixture
def endpoint(serve: Callable[..., Endpoint]) -> Endpoint:
    return serve()


def script(pool: RunspacePool, text: str) -> PowerShell:
    return PowerShell(pool).add_script(text)


def iter_of(*values: object) -> Iterator[object]:
    """Input as pypsrp wants it: it looks for a generator, and takes anything else for a single object."""
    yield from values


def fault_of(answer: pytest.ExceptionInfo[WSManFaultError]) -> int:
    assert isinstance(answer.value.code, int)
    return answer.value.code


def reauthenticate(wsman: WSMan) -> None:
    if wsman.transport.session is not None:
        wsman.transport.session.close()
    wsman.transport.session = None
    wsman.transport.encryption = None


# --- the road ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whole_answers")
@pytest.mark.parametrize("auth", ["negotiate", "ntlm"])
def test_opening_a_pool_running_one_script_and_closing_takes_eight_requests(
    endpoint: Endpoint, connect: Connect, auth: str
) -> None:
    with RunspacePool(connect(endpoint, auth=auth)) as pool:
        assert script(pool, "quick").invoke() == ["done"]
    assert endpoint.request_count == 8


@pytest.mark.usefixtures("whole_answers")
def test_output_that_comes_just_before_the_end_is_received_together_with_the_end(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    def several(_: ScriptCall, output: Output) -> None:
        for number in range(4):
            output.write(number)
            time.sleep(0.005)

    scripts.behaviours["several"] = several
    with RunspacePool(connect(endpoint)) as pool:
        before = endpoint.request_count
        assert script(pool, "several").invoke() == [0, 1, 2, 3]
        assert endpoint.request_count - before == 2


@pytest.mark.parametrize("user", ["LAB\\admin", "lab\\ADMIN", "admin", ".\\admin", "admin@lab"])
def test_a_user_may_be_spelled_in_every_way_that_windows_takes(
    endpoint: Endpoint, scripts: Scripts, connect: Connect, user: str
) -> None:
    with RunspacePool(connect(endpoint, user)) as pool:
        script(pool, "quick").invoke()
    assert scripts.calls[0].user == "LAB\\admin"


@pytest.mark.parametrize(("version", "protocol"), [("2.0", "2.1"), ("3.0", "2.2"), ("4.0", "2.2"), ("5.1", "2.3")])
def test_the_server_poses_as_the_powershell_it_is_told_to_be(
    serve: Callable[..., Endpoint], connect: Connect, version: str, protocol: str
) -> None:
    with RunspacePool(connect(serve(powershell_version=version))) as pool:
        assert pool.protocol_version == protocol
        private = pool.application_private_data
        assert private is not None
        assert private.data["PSVersionTable"]["PSVersion"] == version


def test_windows_server_2003_numbers_shells_and_pipelines_by_itself_and_2012_does_not(
    serve: Callable[..., Endpoint], connect: Connect
) -> None:
    with RunspacePool(connect(serve(powershell_version="2.0"))) as pool:
        ps = script(pool, "quick")
        ps.invoke()
        assert pool.shell.id != pool.id
        assert ps._command_id != ps.id
    with RunspacePool(connect(serve(powershell_version="3.0"))) as pool:
        ps = script(pool, "quick")
        ps.invoke()
        assert pool.shell.id == pool.id
        assert ps._command_id == ps.id


def test_plain_values_travel_both_ways_as_they_are(endpoint: Endpoint, scripts: Scripts, connect: Connect) -> None:
    value = {
        "text": "Blåbærsyltetøy \U0001f600 _x0041_ \x07",
        "empty": "",
        "int": -(2**31),
        "yes": True,
        "nothing": None,
        "bytes": b"\x00\xff",
        "list": [1, [2, "three"], {}],
        "table": {"deep": {"deeper": False}},
    }
    scripts.behaviours["back"] = lambda call, output: output.write(call.parameters["Parameters"])
    with RunspacePool(connect(endpoint)) as pool:
        ps = script(pool, "back").add_parameter("Parameters", value).add_argument("first").add_argument(2)
        assert ps.invoke() == [value]
    call = scripts.calls[0]
    assert call.parameters == {"Parameters": value}
    assert call.arguments == ["first", 2]
    assert [type(argument) for argument in call.arguments] == [str, int]
    assert type(call.parameters["Parameters"]) is dict


@pytest.mark.parametrize("value", [None, True, 7, "text", b"bytes", [1, None], {"a": "b"}, []])
def test_every_kind_of_output_arrives(endpoint: Endpoint, scripts: Scripts, connect: Connect, value: object) -> None:
    scripts.behaviours["value"] = lambda _, output: output.write(value)
    with RunspacePool(connect(endpoint)) as pool:
        assert script(pool, "value").invoke() == [value]


@pytest.mark.parametrize(
    ("value", "error"), [(2**31, OverflowError), ({"n": [-(2**31) - 1]}, OverflowError), ({1: 2}, TypeError),
                         ({1, 2}, TypeError), (1.5, TypeError)]
)  # fmt: skip
def test_output_that_powershell_would_send_as_something_else_is_refused_where_it_is_written(
    endpoint: Endpoint, scripts: Scripts, connect: Connect, value: object, error: type[Exception]
) -> None:
    def write(_: ScriptCall, output: Output) -> None:
        with pytest.raises(error):
            output.write(value)
        output.write("refused")

    scripts.behaviours["write"] = write
    with RunspacePool(connect(endpoint)) as pool:
        assert script(pool, "write").invoke() == ["refused"]


def test_all_commands_of_a_pipeline_are_told_to_the_runner(endpoint: Endpoint, scripts: Scripts) -> None:
    with Client(endpoint.address, port=endpoint.port, ssl=False, username="admin", password=PASSWORD) as client:
        output, streams, had_errors = client.execute_ps("$PSVersionTable")
    assert (output, streams.error, had_errors) == ("Invoke-Expression", [], False)
    first, second = scripts.calls[0].commands
    assert (first.text, first.is_script, first.parameters) == (
        "Invoke-Expression", False, {"Command": "$PSVersionTable"}
    )  # fmt: skip
    assert (second.text, second.parameters, second.end_of_statement) == ("Out-String", {"Stream": None}, True)


# --- errors ------------------------------------------------------------------------------------------------


def test_a_non_terminating_error_leaves_the_pipeline_completed(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    def complain(_: ScriptCall, output: Output) -> None:
        output.error("no such file", error_id="FileNotFound", category="ObjectNotFound")
        output.write("went on")

    scripts.behaviours["complain"] = complain
    with RunspacePool(connect(endpoint)) as pool:
        ps = script(pool, "complain")
        assert ps.invoke() == ["went on"]
        assert not ps.had_errors
        (error,) = ps.streams.error
    assert str(error) == "no such file"
    assert (error.fq_error, error.category) == ("FileNotFound", 13)


def test_a_terminating_error_ends_the_pipeline_as_failed(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    def throw(_: ScriptCall, output: Output) -> None:
        output.write("before")
        raise TerminatingError(
            "access denied",
            error_id="Denied",
            category="PermissionDenied",
            exception="System.UnauthorizedAccessException",
        )

    scripts.behaviours["throw"] = throw
    with RunspacePool(connect(endpoint)) as pool:
        ps = script(pool, "throw")
        assert ps.invoke() == ["before"]
        assert ps.had_errors
        (error,) = ps.streams.error
        ps.close()
        assert script(pool, "quick").invoke() == ["done"]
    assert (str(error), error.fq_error, error.category) == ("access denied", "Denied", 18)
    assert error.exception is not None
    assert error.exception.types[0].endswith("System.UnauthorizedAccessException")


def test_a_defect_of_the_runner_reaches_the_client_as_an_error_record(
    endpoint: Endpoint, scripts: Scripts, connect: Connect, capfd: pytest.CaptureFixture[str]
) -> None:
    def defect(_: ScriptCall, __: Output) -> None:
        raise KeyError("nobody thought of this")

    scripts.behaviours["defect"] = defect
    with RunspacePool(connect(endpoint)) as pool:
        ps = script(pool, "defect")
        ps.invoke()
        assert ps.had_errors
    assert "KeyError: 'nobody thought of this'" in str(ps.streams.error[0])
    assert "Traceback" not in capfd.readouterr().err


def test_an_error_category_that_powershell_does_not_know_is_a_mistake_of_the_runner() -> None:
    with pytest.raises(KeyError):
        TerminatingError("x", category="Unheard")


# --- input and output streams ------------------------------------------------------------------------------


def test_a_script_reads_its_input_while_the_client_still_sends(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    seen: list[object] = []
    scripts.behaviours["collect"] = lambda call, output: seen.extend(call.input)

    def words() -> Iterator[str]:
        for number in range(5):
            yield f"word {number}"
            if number < 4:
                # pypsrp looks one object ahead: the one before has been sent when the next is asked for.
                wait_until(lambda sent=number: len(seen) >= sent)  # type: ignore[misc]

    with RunspacePool(connect(endpoint)) as pool:
        script(pool, "collect").invoke(words())
    assert seen == [f"word {number}" for number in range(5)]


def test_a_script_without_input_finds_its_input_ended(endpoint: Endpoint, scripts: Scripts, connect: Connect) -> None:
    with RunspacePool(connect(endpoint)) as pool:
        assert script(pool, "echo").invoke() == []
    assert list(scripts.calls[0].input) == []


def test_pypsrp_copies_and_fetches_files(
    endpoint: Endpoint, scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk: dict[str, bytes] = {}

    def copy_or_fetch(call: ScriptCall, output: Output) -> None:
        path = str(call.arguments[0])
        if "GetTempFileName" in call.script:
            *parts, digest = [base64.b64decode(str(part)) for part in call.input]
            disk[path] = b"".join(parts)
            assert hashlib.sha1(disk[path]).hexdigest() == digest.decode()
            output.write(path)
        else:
            output.write(base64.b64encode(disk[path]).decode())
            output.write(hashlib.sha1(disk[path]).hexdigest())

    monkeypatch.setattr(scripts, "run", copy_or_fetch)
    content = os.urandom(300_000)
    (tmp_path / "there").write_bytes(content)
    with Client(endpoint.address, port=endpoint.port, ssl=False, username="admin", password=PASSWORD) as client:
        assert client.copy(str(tmp_path / "there"), "C:\\here.bin") == "C:\\here.bin"
        client.fetch("C:\\here.bin", str(tmp_path / "back"))
    assert disk["C:\\here.bin"] == content
    assert (tmp_path / "back").read_bytes() == content
    assert endpoint.bytes_received > 1.78 * len(content)


@pytest.mark.parametrize("envelope", [8192, 40_000, 153_600])
def test_large_output_comes_in_envelopes_that_the_client_can_take(
    endpoint: Endpoint, scripts: Scripts, connect: Connect, monkeypatch: pytest.MonkeyPatch, envelope: int
) -> None:
    value = base64.b64encode(os.urandom(150_000)).decode()

    def large(_: ScriptCall, output: Output) -> None:
        output.write("small")
        output.write(value)
        output.write({"last": True})

    scripts.behaviours["large"] = large
    wsman = connect(endpoint, max_envelope_size=envelope)
    sizes: list[int] = []
    send = wsman.transport.send

    def measure(message: bytes, **options: Any) -> bytes:
        answer = send(message, **options)
        sizes.append(len(answer))
        return answer

    monkeypatch.setattr(wsman.transport, "send", measure)
    with RunspacePool(wsman) as pool:
        assert script(pool, "large").invoke() == ["small", value, {"last": True}]
    assert max(sizes) <= envelope
    # Not wasteful either: most answers are well filled.
    assert len(sizes) <= 6 + 1.7 * len(value) / (envelope * 0.55)


def test_a_receive_without_output_ends_with_the_operation_timeout(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    scripts.behaviours["silent"] = wait_for_stop
    with RunspacePool(connect(endpoint)) as pool:
        ps = script(pool, "silent")
        ps.begin_invoke()
        begin = time.monotonic()
        with pytest.raises(WSManFaultError) as answer:
            pool._receive(ps.id, timeout=1)
        assert fault_of(answer) == TIMED_OUT
        assert 0.9 < time.monotonic() - begin < 5
        ps.poll_invoke(timeout=1)
        assert ps.output == []


def test_pipelines_of_one_shell_run_side_by_side_over_connections_of_their_own(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    together = threading.Barrier(3, timeout=10)

    def meet(call: ScriptCall, output: Output) -> None:
        together.wait()
        output.write(call.arguments[0])
        for value in call.input:
            output.write(value)

    scripts.behaviours["meet"] = meet
    results: dict[int, list[object]] = {}
    with RunspacePool(connect(endpoint)) as pool:

        def lane(number: int) -> None:
            mine = RunspacePool(connect(endpoint))
            mine.id, mine.state, mine.protocol_version = pool.id, pool.state, pool.protocol_version
            mine.shell.id, mine.shell._selector_set = pool.shell.id, pool.shell._selector_set
            ps = script(mine, "meet").add_argument(number)
            results[number] = ps.invoke(iter_of(f"{number}" * 300_000, "end"))

        lanes = [threading.Thread(target=lane, args=(number,)) for number in (1, 2, 3)]
        for thread in lanes:
            thread.start()
        for thread in lanes:
            thread.join(15)
        assert len(endpoint.shells) == 1
        assert endpoint.shells[0].pipelines == 3
    assert results == {number: [number, f"{number}" * 300_000, "end"] for number in (1, 2, 3)}


def test_secure_strings_arrive_in_clear_after_the_keys_were_exchanged(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    with RunspacePool(connect(endpoint)) as pool:
        pool.exchange_keys()
        secret = pool.serialize("påssword", ObjectMeta("SS"))
        script(pool, "quick").add_parameter("Secret", secret).invoke()
    assert scripts.calls[0].parameters == {"Secret": "påssword"}


def test_the_number_of_runspaces_can_be_asked(endpoint: Endpoint, connect: Connect) -> None:
    with RunspacePool(connect(endpoint), max_runspaces=3) as pool:
        assert pool.get_available_runspaces() == 3


def test_a_shell_tells_that_it_is_alive_until_it_is_closed(endpoint: Endpoint, connect: Connect) -> None:
    pool = RunspacePool(connect(endpoint))
    pool.open()
    assert pool.is_alive(timeout=2)
    (shell,) = endpoint.shells
    assert (shell.id, shell.user, shell.pipelines) == (pool.shell.id, "LAB\\admin", 0)
    pool.close()
    assert endpoint.shells == ()


def test_the_server_tells_its_envelope_size(endpoint: Endpoint, connect: Connect) -> None:
    wsman = connect(endpoint)
    wsman.update_max_payload_size()
    assert wsman.max_envelope_size == 153_600


def test_the_server_identifies_itself(endpoint: Endpoint, connect: Connect) -> None:
    answer = connect(endpoint).transport.send(
        b"<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope' "
        b"xmlns:i='http://schemas.dmtf.org/wbem/wsman/identify/1/wsmanidentity.xsd'>"
        b"<s:Header/><s:Body><i:Identify/></s:Body></s:Envelope>"
    )
    assert b"Stack: 2.0" in answer


# --- stopping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [SignalCode.PS_CTRL_C, SignalCode.CTRL_C, SignalCode.TERMINATE])
def test_a_signal_stops_the_pipeline(endpoint: Endpoint, scripts: Scripts, connect: Connect, code: str) -> None:
    scripts.behaviours["wait"] = wait_for_stop
    with RunspacePool(connect(endpoint)) as pool:
        ps = script(pool, "wait")
        ps.begin_invoke()
        pool.shell.signal(code, ps._command_id or "")
        scripts.wait_stopped("wait")
        if code != SignalCode.TERMINATE:
            ps.end_invoke()
            assert ps.state == 3  # stopped
            ps.close()
        assert script(pool, "quick").invoke() == ["done"]


def test_pypsrp_stops_a_pipeline_of_powershell_5(
    serve: Callable[..., Endpoint], scripts: Scripts, connect: Connect
) -> None:
    scripts.behaviours["wait"] = wait_for_stop
    with RunspacePool(connect(serve(powershell_version="5.1"))) as pool:
        ps = script(pool, "wait")
        ps.begin_invoke()
        ps.stop()
        scripts.wait_stopped("wait")


def test_a_signal_for_the_id_that_the_client_made_up_is_refused_by_powershell_2(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    scripts.behaviours["wait"] = wait_for_stop
    with RunspacePool(connect(endpoint)) as pool:
        ps = script(pool, "wait")
        ps.begin_invoke()
        with pytest.raises(WSManFaultError) as answer:
            ps.stop()
        assert fault_of(answer) == LOST
        assert scripts.stopped == []


def test_a_stopped_script_cannot_write_any_more(endpoint: Endpoint, scripts: Scripts, connect: Connect) -> None:
    stopped = threading.Event()

    def stubborn(call: ScriptCall, output: Output) -> None:
        call.stopped.wait(10)
        with pytest.raises(PipelineStopped):
            output.write("too late")
        stopped.set()

    scripts.behaviours["stubborn"] = stubborn
    with RunspacePool(connect(endpoint)) as pool:
        ps = script(pool, "stubborn")
        ps.begin_invoke()
        pool.shell.signal(SignalCode.PS_CTRL_C, ps._command_id or "")
        ps.end_invoke()
    assert stopped.wait(5)
    assert ps.output == []


@pytest.mark.parametrize("how", ["delete", "reboot", "lose_shells", "stop"])
def test_a_script_that_waits_for_input_is_stopped_when_its_shell_goes(
    serve: Callable[..., Endpoint], scripts: Scripts, connect: Connect, how: str
) -> None:
    endpoint = serve()
    scripts.behaviours["read"] = lambda call, output: output.write(next(call.input))
    pool = RunspacePool(connect(endpoint))
    pool.open()
    begun = script(pool, "read")

    def never_ending() -> Iterator[object]:
        wait_until(lambda: bool(scripts.calls))
        {
            "delete": pool.close,
            "reboot": endpoint.reboot,
            "lose_shells": endpoint.faults.lose_shells,
            "stop": endpoint.stop,
        }[how]()
        yield "never read"

    with contextlib.suppress(WSManFaultError, requests.ConnectionError, WinRMTransportError):
        begun.begin_invoke(never_ending())
    scripts.wait_stopped("read")
    assert endpoint.shells == ()


# --- who is let in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["negotiate", "ntlm"])
@pytest.mark.parametrize(
    ("user", "password"), [("LAB\\admin", "wrong"), ("LAB\\nobody", PASSWORD), ("OTHER\\admin", PASSWORD)]
)
def test_wrong_credentials_are_refused(
    endpoint: Endpoint, connect: Connect, auth: str, user: str, password: str
) -> None:
    with pytest.raises(AuthenticationError):
        RunspacePool(connect(endpoint, user, password, auth=auth)).open()


def test_each_endpoint_lets_in_only_its_own_accounts(serve: Callable[..., Endpoint], connect: Connect) -> None:
    serve(accounts=Accounts.of("olga", "other", domain="OSLO"))
    here = serve()
    with pytest.raises(AuthenticationError):
        RunspacePool(connect(here, "OSLO\\olga", "other")).open()


def test_one_account_cannot_have_two_passwords_in_one_process(serve: Callable[..., Endpoint]) -> None:
    serve()
    other = Endpoint(Scripts(), accounts=Accounts.of("ADMIN", "another"))
    with pytest.raises(ValueError, match="another password"):
        other.start()
    other.stop()


@pytest.mark.parametrize(
    "name", [("a:b", "x", "LAB"), ("a", "x:y", "LAB"), ("a", "x\n", "LAB"), ("", "x", "LAB"), ("L\\a", "x", "LAB")]
)
def test_accounts_that_the_user_file_cannot_hold_are_refused(name: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="lab account"):
        Account(*name)


def test_no_password_shows_in_an_account_as_printed() -> None:
    assert PASSWORD not in repr(Account("admin", PASSWORD))


def test_the_user_file_is_there_only_while_endpoints_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTLM_USER_FILE", "/elsewhere")
    first, second = (Endpoint(Scripts(), accounts=Accounts.of("admin", PASSWORD)) for _ in range(2))
    first.start()
    path = os.environ["NTLM_USER_FILE"]
    second.start()
    first.stop()
    assert os.environ["NTLM_USER_FILE"] == path
    assert Path(path).stat().st_mode & 0o077 == 0
    second.stop()
    assert os.environ["NTLM_USER_FILE"] == "/elsewhere"
    assert not Path(path).exists()


def test_a_user_who_is_no_administrator_may_not_open_a_shell(serve: Callable[..., Endpoint], connect: Connect) -> None:
    endpoint = serve(accounts=Accounts.of("clerk", PASSWORD, administrator=False))
    with pytest.raises(WSManFaultError) as answer:
        RunspacePool(connect(endpoint, "LAB\\clerk")).open()
    assert fault_of(answer) == 5


def test_a_shell_belongs_to_the_user_who_opened_it(serve: Callable[..., Endpoint], connect: Connect) -> None:
    endpoint = serve(accounts=Accounts([Account("admin", PASSWORD), Account("other", PASSWORD)]))
    with RunspacePool(connect(endpoint)) as pool:
        thief = RunspacePool(connect(endpoint, "LAB\\other"))
        thief.shell._selector_set = pool.shell._selector_set
        with pytest.raises(WSManFaultError) as answer:
            thief.shell._get_shell()
        assert fault_of(answer) == 5


def test_unencrypted_messages_are_refused_after_authentication(endpoint: Endpoint, connect: Connect) -> None:
    with pytest.raises(WinRMTransportError) as answer:
        RunspacePool(connect(endpoint, encryption="never")).open()
    assert answer.value.code == 500
    assert endpoint.shells == ()


def test_basic_authentication_is_refused(endpoint: Endpoint, connect: Connect) -> None:
    with pytest.raises(AuthenticationError):
        RunspacePool(connect(endpoint, "admin", auth="basic", encryption="never")).open()


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1", "::", "8.8.8.8"])
def test_an_address_that_others_could_reach_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Endpoint(Scripts(), address=address, accounts=Accounts.of("admin", PASSWORD))


@pytest.mark.usefixtures("whole_answers")
def test_many_servers_listen_on_the_same_port_of_different_addresses(
    serve: Callable[..., Endpoint], connect: Connect
) -> None:
    first = serve(address="127.0.0.2")
    second = serve(address="127.0.0.3", port=first.port)
    for endpoint in (first, second):
        with RunspacePool(connect(endpoint)) as pool:
            assert script(pool, "quick").invoke() == ["done"]
    assert first.request_count == second.request_count == 8


# --- what is no proper request -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/wsman", {}, 401),
        ("POST", "/wsman", {"Authorization": "Negotiate !!!"}, 401),
        ("POST", "/wsman", {"Authorization": "Negotiate " + base64.b64encode(b"NTLMSSP\0garbage").decode()}, 401),
        ("POST", "/wsman", {"Authorization": "Kerberos AAAA"}, 401),
        ("POST", "/elsewhere", {}, 404),
        ("GET", "/wsman", {}, 405),
        ("POST", "/wsman", {"Transfer-Encoding": "chunked"}, 411),
        ("POST", "/wsman", {"Content-Length": "-1"}, 400),
        ("POST", "/wsman", {"Content-Length": "99999999999"}, 413),
        ("POST", "/wsman", {"Content-Type": 'multipart/encrypted;protocol="x";boundary="Encrypted Boundary"'}, 400),
    ],
)
def test_requests_that_do_not_belong_here_get_the_status_they_deserve(
    endpoint: Endpoint, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    connection = http.client.HTTPConnection(endpoint.address, endpoint.port, timeout=5)
    with contextlib.closing(connection):
        connection.putrequest(method, path)
        for name, value in ({"Content-Length": "0"} | headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == status
        assert (response.getheader("WWW-Authenticate") == "Negotiate") is (status == 401)


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"POST /wsman\r\n\r\n", b"POST /wsman HTTP/1.1\r\nno colon\r\n\r\n"]
)
def test_bytes_that_are_no_http_are_answered_400_and_nothing_is_printed(
    endpoint: Endpoint, capfd: pytest.CaptureFixture[str], garbage: bytes
) -> None:
    with socket.create_connection((endpoint.address, endpoint.port), timeout=5) as client:
        client.sendall(garbage)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    assert capfd.readouterr().err == ""


def test_a_client_that_hangs_up_in_the_middle_of_a_message_harms_nobody(
    endpoint: Endpoint, connect: Connect, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection((endpoint.address, endpoint.port), timeout=5) as client:
        client.sendall(b"POST /wsman HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf")
    with RunspacePool(connect(endpoint)) as pool:
        assert script(pool, "quick").invoke() == ["done"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"no xml at all", 2150858817),
        (b"<other/>", 2150858817),
        (b"<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'/>", 2150858817),
        (
            b"<!DOCTYPE lol [<!ENTITY a 'b'>]><s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'/>",
            2150858817,
        ),
        ("<?xml version='1.0' encoding='utf-16'?><!DOCTYPE lol><lol/>".encode("utf-16"), 2150858817),
    ],
)
def test_an_envelope_that_is_none_gets_a_fault_on_a_connection_that_lives_on(
    endpoint: Endpoint, connect: Connect, message: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    # At DEBUG the client decodes what it sends, as if it were text.
    caplog.set_level(logging.INFO, "pypsrp.wsman")
    wsman = connect(endpoint)
    with pytest.raises(WinRMTransportError) as answer:
        wsman.transport.send(message)
    assert answer.value.code == 500
    assert wsman._parse_wsman_fault(answer.value.response_text).code == code
    with RunspacePool(wsman) as pool:
        assert script(pool, "quick").invoke() == ["done"]


def test_a_document_type_is_named_as_the_reason_of_its_refusal(endpoint: Endpoint, connect: Connect) -> None:
    with pytest.raises(WinRMTransportError, match="document type declarations are not allowed"):
        connect(endpoint).transport.send(b"<!DOCTYPE lol><lol/>")


def test_an_unknown_action_and_an_unknown_resource_get_faults_of_their_own(
    endpoint: Endpoint, connect: Connect
) -> None:
    wsman = connect(endpoint)
    with pytest.raises(WSManFaultError) as answer:
        wsman.invoke("http://example.com/Dance", "http://schemas.microsoft.com/powershell/Microsoft.PowerShell", None)
    assert fault_of(answer) == 2150858753
    with (
        Client(endpoint.address, port=endpoint.port, ssl=False, username="admin", password=PASSWORD) as client,
        pytest.raises(WSManFaultError) as answer,
    ):
        client.execute_cmd("dir")
    assert fault_of(answer) == 2150858752


def test_bytes_that_are_no_psrp_get_a_fault_and_the_shell_lives_on(
    endpoint: Endpoint, connect: Connect, capfd: pytest.CaptureFixture[str]
) -> None:
    with RunspacePool(connect(endpoint)) as pool:
        with pytest.raises(WSManFaultError) as answer:
            pool.shell.command("", arguments=[base64.b64encode(b"x" * 80).decode()])
        assert fault_of(answer) == 1359
        assert endpoint.shells[0].pipelines == 0
    assert "Traceback" not in capfd.readouterr().err


# --- quotas ------------------------------------------------------------------------------------------------


def test_the_quotas_are_those_of_winrm_2_unless_told_otherwise() -> None:
    quotas = Quotas()
    assert (quotas.envelope, quotas.shells_per_user, quotas.pipelines_per_shell, quotas.users) == (153_600, 5, 15, 5)
    assert (quotas.idle_connection, quotas.idle_shell) == (120.0, 180.0)
    assert Endpoint(Scripts(), accounts=Accounts([]), powershell_version="5.1").quotas.envelope == 512_000


def test_a_sixth_shell_of_a_user_is_refused_until_one_is_closed(endpoint: Endpoint, connect: Connect) -> None:
    pools = [RunspacePool(connect(endpoint)) for _ in range(6)]
    for pool in pools[:5]:
        pool.open()
    with pytest.raises(WSManFaultError) as answer:
        pools[5].open()
    assert fault_of(answer) == TOO_MANY_SHELLS
    pools[0].close()
    again = RunspacePool(pools[5].connection)
    again.open()
    assert len(endpoint.shells) == 5


def test_pipelines_count_until_they_are_closed(serve: Callable[..., Endpoint], connect: Connect) -> None:
    with RunspacePool(connect(serve(quotas=Quotas(pipelines_per_shell=2)))) as pool:
        first, second = script(pool, "quick"), script(pool, "quick")
        first.invoke()
        second.invoke()
        with pytest.raises(WSManFaultError) as answer:
            script(pool, "quick").invoke()
        assert fault_of(answer) == 2150859174
        first.close()
        assert script(pool, "quick").invoke() == ["done"]


def test_only_so_many_users_have_shells_at_once(serve: Callable[..., Endpoint], connect: Connect) -> None:
    endpoint = serve(accounts=Accounts([Account(f"user{n}", PASSWORD) for n in range(3)]), quotas=Quotas(users=2))
    pools = [RunspacePool(connect(endpoint, f"LAB\\user{n}")) for n in range(3)]
    pools[0].open()
    pools[1].open()
    with pytest.raises(WSManFaultError) as answer:
        pools[2].open()
    assert fault_of(answer) == 2150859179


def test_an_envelope_above_the_quota_is_answered_413_and_one_within_is_not(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    scripts.behaviours["measure"] = lambda call, output: output.write(sum(len(str(part)) for part in call.input))
    with RunspacePool(connect(endpoint)) as pool:
        assert script(pool, "measure").invoke(iter_of("x" * 500_000)) == [500_000]
    with RunspacePool(connect(endpoint, max_envelope_size=160_000)) as pool:
        with pytest.raises(WinRMTransportError) as answer:
            script(pool, "measure").invoke(iter_of("x" * 500_000))
        assert answer.value.code == 413
        reauthenticate(pool.connection)


@contextlib.contextmanager
def soon_idle(endpoint: Endpoint) -> Iterator[None]:
    """Take the connection of every request that has come for idle a moment after its answer."""
    answer = endpoint._answer

    def answering(connection: _Connection, request: _Request) -> _Response:
        connection.socket.settimeout(0.1)
        return answer(connection, request)

    vars(endpoint)["_answer"] = answering
    yield
    del vars(endpoint)["_answer"]


def test_an_idle_connection_is_dropped_and_the_shell_survives_it(
    serve: Callable[..., Endpoint], connect: Connect
) -> None:
    endpoint = serve(quotas=Quotas(idle_connection=77))
    wsman = connect(endpoint)
    with RunspacePool(wsman) as pool:
        ((connection, thread),) = endpoint._connections.items()
        assert connection.socket.gettimeout() == 77
        with soon_idle(endpoint):
            pool.shell._get_shell()
        thread.join(60)
        assert not thread.is_alive()
        for _ in range(2):
            with pytest.raises(WinRMTransportError) as answer:
                script(pool, "quick").invoke()
            assert answer.value.code == 400
        reauthenticate(wsman)
        assert script(pool, "quick").invoke() == ["done"]


def test_a_silent_receive_is_no_idle_connection(
    endpoint: Endpoint, scripts: Scripts, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: ScriptCall, output: Output) -> None:
        (shell,) = endpoint._service._shells.values()
        (connection,) = endpoint._connections
        assert received.wait(60)
        wait_until(lambda: shell._under_way == 1)
        usual = shell.idle_timeout, connection.socket.gettimeout()
        shell.idle_timeout = 0.01
        connection.socket.settimeout(0.01)
        time.sleep(0.05)
        assert len(endpoint.shells) == 1  # looked through for idle ones
        shell.idle_timeout = usual[0]
        connection.socket.settimeout(usual[1])
        output.write("at last")

    received = threading.Event()

    def hang() -> float:  # asked for every Receive
        received.set()
        return 0.0

    scripts.behaviours["slow"] = slow
    with RunspacePool(connect(endpoint)) as pool:
        monkeypatch.setattr(endpoint.faults, "hang", hang)
        assert script(pool, "slow").invoke() == ["at last"]


def test_an_idle_shell_expires_with_what_runs_in_it(
    serve: Callable[..., Endpoint], scripts: Scripts, connect: Connect
) -> None:
    scripts.behaviours["wait"] = wait_for_stop
    endpoint = serve(quotas=Quotas(idle_shell=77))
    pool = RunspacePool(connect(endpoint))
    pool.open()
    ps = script(pool, "wait")
    ps.begin_invoke()
    (shell,) = endpoint._service._shells.values()
    assert shell.idle_timeout == 77
    shell.idle_timeout = 0.2
    scripts.wait_stopped("wait")  # nobody asks: the server notices by itself
    with pytest.raises(WSManFaultError) as answer:
        ps.poll_invoke()
    assert fault_of(answer) == LOST


# --- faults ------------------------------------------------------------------------------------------------


def texts(count: int) -> Iterator[str]:
    yield from (f"text {number}" for number in range(count))


def test_a_connection_is_dropped_after_so_many_sends_and_only_once(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    endpoint.faults.drop_after(sends=2)
    wsman = connect(endpoint)
    with RunspacePool(wsman) as pool:
        with pytest.raises(requests.ConnectionError):
            script(pool, "echo").invoke(texts(5))
        assert endpoint.faults.counts == {"drop_after": 1}
        reauthenticate(wsman)
        assert script(pool, "echo").invoke(texts(5)) == [f"text {number}" for number in range(5)]


def test_a_connection_can_be_dropped_at_every_send(endpoint: Endpoint, connect: Connect) -> None:
    endpoint.faults.drop_after(sends=1, times=None)
    wsman = connect(endpoint)
    with RunspacePool(wsman) as pool:
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                script(pool, "echo").invoke(texts(3))
            reauthenticate(wsman)
        assert endpoint.faults.counts["drop_after"] == 2
        endpoint.faults.clear()
        assert script(pool, "echo").invoke(texts(1)) == ["text 0"]


def test_a_server_that_still_starts_answers_503_for_a_while(endpoint: Endpoint, connect: Connect) -> None:
    endpoint.faults.unavailable(seconds=60)
    with pytest.raises(WinRMTransportError) as answer:
        RunspacePool(connect(endpoint)).open()
    assert answer.value.code == 503
    assert endpoint.faults.counts["unavailable"] >= 1
    endpoint.faults.unavailable(seconds=0.1)
    wait_until(lambda: not endpoint.faults.is_unavailable())
    with RunspacePool(connect(endpoint)) as pool:
        assert script(pool, "quick").invoke() == ["done"]


def test_stale_encryption_is_answered_400_for_ever_until_the_client_logs_on_again(
    endpoint: Endpoint, connect: Connect
) -> None:
    wsman = connect(endpoint)
    with RunspacePool(wsman) as pool:
        endpoint.faults.stale_encryption()
        for _ in range(3):
            with pytest.raises(WinRMTransportError) as answer:
                script(pool, "quick").invoke()
            assert answer.value.code == 400
        reauthenticate(wsman)
        assert script(pool, "quick").invoke() == ["done"]
    assert endpoint.faults.counts == {"stale_encryption": 1}


def test_right_credentials_can_be_rejected(endpoint: Endpoint, connect: Connect) -> None:
    endpoint.faults.reject_credentials(times=1)
    with pytest.raises(AuthenticationError):
        RunspacePool(connect(endpoint)).open()
    with RunspacePool(connect(endpoint)) as pool:
        endpoint.faults.reject_credentials()
        assert script(pool, "quick").invoke() == ["done"]  # who is in stays in
    assert endpoint.faults.counts == {"reject_credentials": 1}


def test_bodies_above_a_size_can_be_refused(endpoint: Endpoint, connect: Connect) -> None:
    endpoint.faults.too_large(above=20_000)
    with RunspacePool(connect(endpoint)) as pool:
        assert script(pool, "quick").invoke() == ["done"]
        with pytest.raises(WinRMTransportError) as answer:
            script(pool, "echo").invoke(iter_of("x" * 20_000))
        assert answer.value.code == 413
        reauthenticate(pool.connection)
    assert endpoint.faults.counts == {"too_large": 1}


@pytest.mark.parametrize(("name", "code"), [("quota", TOO_MANY_SHELLS), ("access_denied", 5)])
def test_opening_a_shell_can_be_refused_for_a_number_of_times(
    endpoint: Endpoint, connect: Connect, name: str, code: int
) -> None:
    getattr(endpoint.faults, name)(times=2)
    wsman = connect(endpoint)
    for _ in range(2):
        with pytest.raises(WSManFaultError) as answer:
            RunspacePool(wsman).open()
        assert fault_of(answer) == code
    with RunspacePool(wsman):
        assert len(endpoint.shells) == 1
    assert endpoint.faults.counts == {name: 2}


def test_a_receive_can_hang_beyond_its_operation_timeout(endpoint: Endpoint, connect: Connect) -> None:
    with RunspacePool(connect(endpoint, operation_timeout=1, read_timeout=10)) as pool:
        endpoint.faults.hang_in_receive(seconds=1.3)
        ps = script(pool, "quick")
        ps.begin_invoke()
        begin = time.monotonic()
        assert ps.end_invoke() == ["done"]
        assert time.monotonic() - begin >= 1.3
    assert endpoint.faults.counts == {"hang_in_receive": 1}


def test_a_lost_shell_is_told_to_whoever_waits_in_it_and_whoever_comes_later(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    scripts.behaviours["wait"] = wait_for_stop
    pool = RunspacePool(connect(endpoint))
    pool.open()
    ps = script(pool, "wait")
    ps.begin_invoke()
    timer = threading.Timer(0.2, endpoint.faults.lose_shells)
    timer.start()
    for _ in range(2):
        with pytest.raises(WSManFaultError) as answer:
            ps.poll_invoke()
        assert fault_of(answer) == LOST
    timer.join()
    scripts.wait_stopped("wait")
    assert endpoint.faults.counts == {"lose_shells": 1}


def test_a_response_can_break_in_the_middle_after_its_request_was_carried_out(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    wsman = connect(endpoint)
    with RunspacePool(wsman) as pool:
        endpoint.faults.reset_in_response(2)
        ps = script(pool, "quick")
        ps.begin_invoke()
        with pytest.raises(requests.RequestException):
            ps.poll_invoke()
        assert len(scripts.calls) == 1
        reauthenticate(wsman)
    assert endpoint.faults.counts == {"reset_in_response": 1}


def test_the_next_response_is_number_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Faults().reset_in_response(0)


# --- a reboot ----------------------------------------------------------------------------------------------


def test_a_reboot_cuts_connections_refuses_new_ones_and_comes_back_on_the_same_port(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    scripts.behaviours["wait"] = wait_for_stop
    pool = RunspacePool(connect(endpoint))
    pool.open()
    ps = script(pool, "wait")
    ps.begin_invoke()
    port = endpoint.port
    timer = threading.Timer(0.1, endpoint.reboot, kwargs={"seconds": 3600})
    timer.start()
    with pytest.raises(requests.ConnectionError):
        ps.poll_invoke()
    timer.join()
    assert endpoint.shells == ()
    scripts.wait_stopped("wait")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((endpoint.address, port), timeout=5).close()
    begin = time.monotonic()
    endpoint.reboot(0.5)
    wait_until(lambda: _accepts(endpoint))
    assert time.monotonic() - begin >= 0.5
    assert endpoint.port == port
    reauthenticate(pool.connection)
    with pytest.raises(WSManFaultError) as answer:
        ps.poll_invoke()
    assert fault_of(answer) == LOST
    with RunspacePool(pool.connection) as after:
        assert script(after, "quick").invoke() == ["done"]


def _accepts(endpoint: Endpoint) -> bool:
    try:
        socket.create_connection((endpoint.address, endpoint.port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_script_may_restart_the_server_it_runs_on(endpoint: Endpoint, scripts: Scripts, connect: Connect) -> None:
    def shutdown(call: ScriptCall, output: Output) -> None:
        endpoint.reboot()
        output.write("nobody hears this")

    scripts.behaviours["shutdown"] = shutdown
    wsman = connect(endpoint)
    pool = RunspacePool(wsman)
    pool.open()
    with pytest.raises(requests.ConnectionError):
        script(pool, "shutdown").invoke()
    scripts.wait_stopped("shutdown")
    until_up(endpoint)
    reauthenticate(wsman)
    with RunspacePool(wsman) as after:
        assert script(after, "quick").invoke() == ["done"]


def until_up(endpoint: Endpoint, seconds: float = 10.0) -> None:
    """A restart does not wait for the server to be back, so a client may come too early."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((endpoint.address, endpoint.port), timeout=1).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the server did not come back"
            time.sleep(0.02)
        else:
            return


# --- the machine room --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whole_answers")
def test_latency_is_added_to_every_post(endpoint: Endpoint, connect: Connect) -> None:
    endpoint.latency = 0.05
    begin = time.monotonic()
    with RunspacePool(connect(endpoint)) as pool:
        script(pool, "quick").invoke()
    assert endpoint.request_count == 8
    assert time.monotonic() - begin >= 0.4


@pytest.mark.usefixtures("whole_answers")
def test_latency_of_one_client_does_not_hold_up_the_others(endpoint: Endpoint, connect: Connect) -> None:
    endpoint.latency = 0.3
    begin = time.monotonic()

    def one() -> None:
        with RunspacePool(connect(endpoint)) as pool:
            script(pool, "quick").invoke()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert endpoint.request_count == 32
    # One after the other, they would take 9.6.
    assert time.monotonic() - begin < 9


def test_stopping_ends_a_receive_that_waits_and_may_be_repeated(
    endpoint: Endpoint, scripts: Scripts, connect: Connect
) -> None:
    scripts.behaviours["wait"] = wait_for_stop
    pool = RunspacePool(connect(endpoint, operation_timeout=20))
    pool.open()
    ps = script(pool, "wait")
    ps.begin_invoke()
    begin = time.monotonic()
    timer = threading.Timer(0.2, endpoint.stop)
    timer.start()
    with pytest.raises(requests.ConnectionError):
        ps.poll_invoke()
    timer.join()
    endpoint.stop()
    assert time.monotonic() - begin < 15
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((endpoint.address, endpoint.port), timeout=5).close()


def test_a_stopped_endpoint_can_be_started_again_on_its_port(endpoint: Endpoint, connect: Connect) -> None:
    port = endpoint.port
    endpoint.stop()
    endpoint.start()
    assert endpoint.port == port
    with RunspacePool(connect(endpoint)) as pool:
        assert script(pool, "quick").invoke() == ["done"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_twenty_endpoints_leave_no_thread_and_no_descriptor_behind(connect: Connect) -> None:
    def open_and_close(count: int) -> None:
        for number in range(count):
            runner = Scripts()
            runner.behaviours["wait"] = wait_for_stop
            with Endpoint(runner, accounts=Accounts.of("admin", PASSWORD)) as endpoint:
                wsman = connect(endpoint)
                pool = RunspacePool(wsman)
                pool.open()
                script(pool, "quick").invoke()
                script(pool, "wait").begin_invoke()
                if number % 3 == 0:
                    endpoint.reboot()
            wsman.close()

    open_and_close(1)  # imports and caches may open things for good
    gc.collect()  # broken connections of other tests, on the client's side
    threads, descriptors = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    open_and_close(20)
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= threads)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
