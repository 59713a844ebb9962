"""The lab over the wire: its servers are reached by the real pypsrp, as an operator's program would."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pypsrp.client import Client
from pypsrp.exceptions import WinRMError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from tests.wire.servers import new_lab
from wsusfix import advisory
from wsusfix.facts import parse, probe_parameters
from wsusfix.lab import Host, Lab
from wsusfix.lab.filesystem import CLOSED
from wsusfix.options import Timeouts
from wsusfix.scripts import compose
from wsusfix.scripts.contracts import CONTRACTS, STAGING_NAME, TASK_NAME

ACCESS_DENIED = 5


def wsman_of(host: Host) -> WSMan:
    reach = host.connection
    return WSMan(
        reach["host"],
        port=reach["port"],
        username=reach["username"],
        password=reach["password"],
        ssl=False,
        auth="ntlm",
        encryption="always",
        no_proxy=True,
        max_envelope_size=153_601,
    )


@contextlib.contextmanager
def pool_of(host: Host) -> Iterator[RunspacePool]:
    with wsman_of(host) as wsman, RunspacePool(wsman) as pool:
        yield pool


def invoke(pool: RunspacePool, text: str, parameters: object = None, chunks: list[bytes] | None = None) -> PowerShell:
    shell = PowerShell(pool)
    shell.add_script(text)
    if parameters is not None:
        shell.add_parameter("Parameters", parameters)
    shell.invoke(input=None if chunks is None else (chunk for chunk in chunks))
    return shell


def ask(pool: RunspacePool, name: str, chunks: list[bytes] | None = None, /, **parameters: Any) -> dict[str, Any]:
    CONTRACTS[name].check_parameters(parameters)
    shell = invoke(pool, compose(name).text, parameters, chunks)
    assert not shell.streams.error
    (answer,) = shell.output
    return dict(CONTRACTS[name].read(answer))


def errors_of(shell: PowerShell) -> str:
    assert shell.had_errors
    assert shell.output == []
    (error,) = shell.streams.error
    return str(error)


def test_facts_are_answered_over_the_wire_by_the_contract(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2003", arch="x86", culture="ja-JP")
    with pool_of(host) as pool:
        facts = parse("wsus01", ask(pool, "facts", **probe_parameters(Timeouts())))
    assert (facts.computer_name, facts.os.culture, str(facts.wsus.dll_version)) == ("WSUS01", "ja-JP", "3.1.6001.65")
    assert facts.session.account == host.connection["username"]
    assert facts.session.administrator
    assert host.request_count > 0
    assert host.bytes_received > 0


def test_servers_of_one_lab_have_addresses_of_their_own(lab: Lab) -> None:
    hosts = [lab.add_server(f"wsus{number}") for number in range(3)]
    places = {(host.connection["host"], host.connection["port"]) for host in hosts}
    assert len(places) == 3
    assert all(place.startswith("127.") for place, _ in places)
    assert {*hosts[0].connection} == {"host", "port", "username", "password"}
    assert hosts[0].connection["password"] not in repr(hosts) + repr(lab)


def test_two_labs_at_once_do_not_disturb_each_other(lab: Lab) -> None:
    first = lab.add_server("wsus01")
    with new_lab() as other:
        second = other.add_server("wsus01", wsus=None)
        for host, present in ((first, True), (second, False)):
            with pool_of(host) as pool:
                assert ask(pool, "facts", **probe_parameters(Timeouts()))["setup_present"] is present
    with pool_of(first) as pool:
        assert ask(pool, "facts", **probe_parameters(Timeouts()))["setup_present"]


def test_a_script_that_is_not_the_librarys_is_answered_with_an_error_record(lab: Lab) -> None:
    with pool_of(lab.add_server("wsus01")) as pool:
        assert "only the scripts of wsusfix" in errors_of(invoke(pool, "Get-Process"))
        assert "was changed" in errors_of(invoke(pool, compose("facts").text + "# more", {}))
        assert "is a job" in errors_of(invoke(pool, compose("install_update").text, {}))
        assert "is missing" in errors_of(invoke(pool, compose("poll_job").text, {"job_id": "a"}))
        assert "no hashtable" in errors_of(invoke(pool, compose("poll_job").text))
        assert ask(pool, "facts", **probe_parameters(Timeouts()))["setup_present"]


def test_pypsrps_own_commands_but_copy_are_refused(lab: Lab) -> None:
    reach = lab.add_server("wsus01").connection
    with _client(reach) as client:
        _, streams, failed = client.execute_ps("$PSVersionTable")
    assert failed
    assert "only the scripts of wsusfix" in str(streams.error[0])


def test_a_copied_file_lies_on_the_server_byte_for_byte(lab: Lab, tmp_path: Path) -> None:
    host = lab.add_server("wsus01")
    source = tmp_path / "package.exe"
    source.write_bytes(bytes(range(256)) * 1000)
    with _client(host.connection) as client:
        assert client.copy(str(source), "C:\\Windows\\Temp\\package.exe") == "C:\\Windows\\Temp\\package.exe"
        copied = client.copy(str(source), "%TEMP%\\again.exe", expand_variables=True)
        assert client.copy(str(source), "C:\\Windows\\Temp\\package.exe") == "C:\\Windows\\Temp\\package.exe"
        with pytest.raises(WinRMError, match="Could not find a part of the path"):
            client.copy(str(source), "C:\\nowhere\\package.exe")
    assert host.files.read("c:\\windows\\temp\\PACKAGE.exe") == source.read_bytes()
    assert host.files.read(copied) == source.read_bytes()
    assert not [path for path in host.files if path.endswith(".tmp")]


def test_who_is_no_administrator_gets_no_shell_by_default(lab: Lab) -> None:
    host = lab.add_server("wsus01", administrator=False)
    with pytest.raises(WSManFaultError) as refused, pool_of(host):
        pass
    assert refused.value.code == ACCESS_DENIED


def test_who_is_let_in_without_being_administrator_is_told_so_and_may_change_nothing(lab: Lab) -> None:
    host = lab.add_server("wsus01", administrator=False, session_allowed=True)
    with pool_of(host) as pool:
        assert ask(pool, "facts", **probe_parameters(Timeouts()))["administrator"] is False
        answer = ask(pool, "stage", staging_name=STAGING_NAME, sha256="0" * 64, size="1", name="a.exe", reserve="0")
    assert answer["refused"] == "not_administrator"


def test_an_error_of_windows_arrives_as_an_error_record_in_the_servers_language(lab: Lab) -> None:
    host = lab.add_server("wsus01", culture="de-DE", administrator=False, session_allowed=True)
    host.files.make_folder(host.staging_path, CLOSED)
    parameters = {"staging_name": STAGING_NAME, "job_id": "a", "after": 0, "start_seconds": 1}
    with pool_of(host) as pool:
        assert "wurde verweigert" in errors_of(invoke(pool, compose("poll_job").text, parameters))


def test_a_package_is_uploaded_and_installed_while_nobody_is_connected(lab: Lab) -> None:
    host = lab.add_server("wsus01")
    package = lab.package(size=300_000)
    data = package.read_bytes()
    about = {"staging_name": STAGING_NAME, "sha256": hashlib.sha256(data).hexdigest()}
    named = {**about, "size": str(len(data)), "name": package.name}
    with pool_of(host) as pool:
        dll = ask(pool, "facts", **probe_parameters(Timeouts()))["dll_path"]
        assert ask(pool, "stage", **named, reserve="0")["refused"] == ""
        chunks = [data[at : at + 50_000] for at in range(0, len(data), 50_000)]
        received = ask(pool, "receive", chunks, **about, offset="0", length=str(len(data)), segment="1000000")
        assert received["received"] == str(len(data))
        path = ask(pool, "assemble", **named)["path"]
        answer = ask(
            pool,
            "start_job",
            staging_name=STAGING_NAME,
            task_name=TASK_NAME,
            job_id="the-job",
            job_kind="install_update",
            job_script=compose("install_update").text,
            job_sha256=compose("install_update").staged_sha256,
            job_parameters={
                "package": path,
                "package_sha256": about["sha256"],
                "program": "",
                "arguments": advisory.EXE_ARGUMENTS,
                "dll": dll,
                "required_version": str(advisory.FIXED_DLL),
                "busy_exit_code": str(advisory.EXIT_BUSY),
                "rename_key": advisory.RENAME_KEY,
                "rename_value": advisory.RENAME_VALUE,
                "roots": list(advisory.MICROSOFT_ROOTS),
                "accept_unverifiable": False,
                "signature_seconds": 5,
                "busy_seconds": 0,
                "still_seconds": 600,
                "event_source": "wsusfix",
                "audit": "",
                "not_before": "",
                "not_after": "",
            },
            start_seconds=60,
        )
        assert (answer["refused"], answer["joined"]) == ("", False)
    assert host.dll_version == "3.1.6001.65"
    wait_until(lambda: bool(host.jobs and host.jobs[0].ended))
    assert host.dll_version == "3.1.6001.66"
    assert [job.id for job in host.jobs] == ["the-job"]
    with pool_of(host) as pool:
        polled = ask(pool, "poll_job", staging_name=STAGING_NAME, job_id="the-job", after=0, start_seconds=60)
    assert polled["status"] == "finished"


def test_a_restart_cuts_every_connection_and_the_server_comes_back_with_its_disk(lab: Lab) -> None:
    host = lab.add_server("wsus01")
    with pool_of(host) as pool:
        ask(pool, "stage", staging_name=STAGING_NAME, sha256="0" * 64, size="1", name="a.exe", reserve="0")
        before = parse("x", ask(pool, "facts", **probe_parameters(Timeouts())))
    with contextlib.suppress(requests.ConnectionError), pool_of(host) as pool:
        host.reboot(3600)
        with pytest.raises(requests.ConnectionError):
            invoke(pool, compose("facts").text, probe_parameters(Timeouts()))
    host.reboot(0.0)
    wait_until(lambda: listens(host))
    with pool_of(host) as pool:
        after = parse("x", ask(pool, "facts", **probe_parameters(Timeouts())))
    assert after.boot_time > before.boot_time
    assert (before.staging.state.value, after.staging.state.value) == ("closed", "closed")


def test_latency_is_added_to_every_answer(lab: Lab) -> None:
    host = lab.add_server("wsus01")
    with pool_of(host) as pool:
        host.latency = 0.1
        began = time.monotonic()
        ask(pool, "facts", **probe_parameters(Timeouts()))
        assert time.monotonic() - began >= 0.1
        host.latency = 0.0


def test_closing_a_lab_ends_its_threads_and_is_allowed_twice() -> None:
    before = set(threading.enumerate())
    lab = new_lab()
    host = lab.add_server("wsus01")
    with pool_of(host) as pool:
        ask(pool, "facts", **probe_parameters(Timeouts()))
    lab.close()
    lab.close()
    wait_until(lambda: set(threading.enumerate()) <= before)
    with pytest.raises(ValueError, match="closed"):
        lab.add_server("wsus02")
    with pytest.raises(ValueError, match="closed"):
        lab.package()


def test_a_name_is_given_to_one_server_only(lab: Lab) -> None:
    lab.add_server("wsus01")
    with pytest.raises(ValueError, match="wsus01"):
        lab.add_server("wsus01")


def _client(reach: dict[str, Any]) -> Client:
    return Client(
        reach["host"],
        port=reach["port"],
        username=reach["username"],
        password=reach["password"],
        ssl=False,
        auth="ntlm",
        encryption="always",
        no_proxy=True,
        max_envelope_size=153_601,
    )


def listens(host: Host) -> bool:
    with socket.socket() as line:
        return line.connect_ex((host.connection["host"], host.connection["port"])) == 0


def wait_until(happened: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)
