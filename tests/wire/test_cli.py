"""The command line over the wire: what it prints, what it exits with, and what it never shows."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from tests.wire.servers import wait_until
from wsusfix import cli
from wsusfix.cli import main
from wsusfix.lab import Host, Lab
from wsusfix.options import Options
from wsusfix.server import WsusServer

STATES = [
    (None, "not_a_server", 0),
    ("console", "not_a_server", 0),
    ("2.0", "not_affected", 0),
    ("2.0 SP1", "not_affected", 0),
    ("3.0 RTM", "exposed_rtm", 3),
    ("3.0 SP1", "exposed_sp1", 3),
    ("3.0 SP1 KB954960", "fixed", 0),
    ("3.0 SP2", "not_affected", 0),
]


AsAdmin = Callable[[Host], list[str]]


@pytest.fixture
def as_admin(monkeypatch: pytest.MonkeyPatch) -> AsAdmin:
    def use(host: Host) -> list[str]:
        reach = host.connection
        monkeypatch.setenv("WSUSFIX_USERNAME", str(reach["username"]))
        monkeypatch.setenv("WSUSFIX_PASSWORD", str(reach["password"]))
        return [str(reach["host"]), "--port", str(reach["port"])]

    return use


@pytest.mark.parametrize(("wsus", "verdict", "code"), STATES)
def test_diagnose_prints_the_verdict_and_exits_with_its_code(
    lab: Lab, as_admin: AsAdmin, capsys: pytest.CaptureFixture[str], wsus: str | None, verdict: str, code: int
) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2003", arch="x86", wsus=wsus)
    assert main(["diagnose", *as_admin(host)]) == code
    shown = capsys.readouterr()
    assert verdict in shown.out
    assert str(host.connection["password"]) not in shown.out + shown.err


def test_the_module_runs_as_a_program_of_its_own(lab: Lab) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    reach = host.connection
    environment = {
        **os.environ,
        "WSUSFIX_USERNAME": str(reach["username"]),
        "WSUSFIX_PASSWORD": str(reach["password"]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "wsusfix", "diagnose", str(reach["host"]), "--port", str(reach["port"]), "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 3, done.stderr
    (told,) = json.loads(done.stdout)["hosts"]
    assert (told["host"], told["verdict"], told["exposed"], told["observed"], told["error"]) == (
        reach["host"],
        "exposed_sp1",
        True,
        "no",
        None,
    )


def test_plan_tells_exposed_from_blocked(lab: Lab, as_admin: AsAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    reach = as_admin(host)
    assert main(["plan", *reach]) == 4
    assert "no package was given" in capsys.readouterr().out
    assert main(["plan", *reach, "--package", str(lab.package("WSUS-KB954960-x64.exe"))]) == 3
    assert "CANNOT BE UNDONE" in capsys.readouterr().out
    assert host.jobs == ()


def test_remediate_needs_yes_and_then_mends_once(
    lab: Lab, as_admin: AsAdmin, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    command = ["remediate", *as_admin(host), "--package", str(lab.package("WSUS-KB954960-x64.exe"))]
    assert main(command) == 2
    assert "--yes" in capsys.readouterr().out
    assert main([*command, "--dry-run"]) == 3
    assert host.jobs == ()
    capsys.readouterr()
    assert main([*command, "--yes", "--json", "--report", str(tmp_path / "report")]) == 0
    shown = capsys.readouterr()
    (told,) = json.loads(shown.out)["hosts"]
    assert told["verdict"] == "fixed"
    assert told["outcome"]["changed"] is True
    assert "upload" in shown.err
    assert "installing" in shown.err
    assert f"report: {tmp_path / 'report' / 'report.html'} " in shown.err
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.md", "report.html", "report.json"}
    assert main([*command, "--yes"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["verify", *as_admin(host), "--report", str(tmp_path / "public"), "--anonymous"]) == 0
    assert len(host.installations) == 1
    for path in (tmp_path / "public").iterdir():
        assert str(host.connection["host"]) not in path.read_text(), path.name
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Timeline" in page
    assert hashlib.sha256((tmp_path / "report" / "report.json").read_bytes()).hexdigest() in page


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("give the package (such as x.exe) as package", "(such as x.exe) as --package"),
        (
            "pin its hash with package_sha256, or say vouch_for_package if",
            "--package-sha256, or say --vouch-for-package",
        ),
        ("restart the server, or say reboot='if-needed'; then run again", "or say --reboot if-needed; then"),
        ("run the same command again; server.job() tells how the job stands", "; wsusfix diagnose tells how the job"),
        ("the task stay for the next run, or for server.cleanup()", "the task stay for the next run"),
        ("see its end, or call it off: server.withdraw()", "see its end, or call it off: wsusfix withdraw"),
        ("server.job() tells how it stands, applying again joins it", "how it stands, running again joins it"),
        ("has ended; plan and apply again for what is left to do", "has ended; run again for what is left to do"),
        ("to join it, or give timeouts.job more seconds", "or give --timeout more seconds"),
        ("has; or give timeouts.upload_total more seconds", "has"),
        ("then pass consent=True (--yes)", "then say --yes"),
        ("back the database up by hand and say backup=False", "and say --no-backup"),
        ("or, if WSUS is not to come back, say removal_meant", "is not to come back, say --removal-meant"),
        ("use encryption='always', or ssl=True", "use --encryption always, or --ssl"),
        ("confirm it: update_ids=['80db6c6c', '90']", "confirm it: --update-id 80db6c6c --update-id 90"),
        ("correct update_ids, or leave it out", "correct --update-id, or leave it out"),
        ("give the authority that issued it as ca_cert=, or use", "as --ca-cert, or use"),
        ("the server? without proxy= the way is direct", "without --proxy the way"),
        ("C:\\x\\package_sha256.log package_sha256", "C:\\x\\package_sha256.log --package-sha256"),
        ("the update's package", "the update's package"),
    ],
)
def test_hints_are_in_the_words_of_the_command_line(said: str, told: str) -> None:
    worded = cli._worded(said)
    assert told in worded
    helps = _help_of("remediate")
    for option in re.findall(r"--[a-z][a-z0-9-]+", worded):
        assert option in helps, option


def _help_of(command: str) -> str:
    actions = cli._parser()._subparsers
    assert actions is not None
    (choices,) = [action.choices for action in actions._group_actions]
    assert isinstance(choices, dict)
    return str(choices[command].format_help())


def test_what_unblocks_a_plan_is_said_as_options_and_kept_as_it_is_in_data(
    lab: Lab, as_admin: AsAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    there = as_admin(lab.add_server("wsus01", wsus="3.0 SP1"))
    assert main(["plan", *there]) == 4
    assert "(such as WSUS-KB954960-x64.exe) as --package\n" in capsys.readouterr().out
    assert main(["plan", *there, "--json"]) == 4
    assert "as package" in capsys.readouterr().out


def test_a_failed_installation_exits_with_five_and_says_why(
    lab: Lab, as_admin: AsAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    package = lab.package("WSUS-KB954960-x64.exe", exit_code=1603)
    assert main(["remediate", *as_admin(host), "--package", str(package), "--yes"]) == 5
    assert "exit code 1603" in capsys.readouterr().out
    assert host.dll_version == "3.1.6001.65"


def test_of_several_hosts_the_worst_counts(lab: Lab, as_admin: AsAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1 KB954960")
    reach = as_admin(fixed)
    assert main(["diagnose", "nosuchhost.invalid", *reach, "--json"]) == 6
    unknown, well = json.loads(capsys.readouterr().out)["hosts"]
    assert unknown["verdict"] is None
    assert unknown["error"]["type"] == "UnknownHostError"
    assert unknown["error"]["hint"]
    assert well["verdict"] == "fixed"


def test_a_wrong_password_exits_with_six_and_is_not_shown(
    lab: Lab, as_admin: AsAdmin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    reach = as_admin(host)
    monkeypatch.setenv("WSUSFIX_PASSWORD", "Wr0ng-Geheim")
    assert main(["diagnose", *reach]) == 6
    shown = capsys.readouterr()
    assert "Wr0ng-Geheim" not in shown.out + shown.err
    assert "DOMAIN\\user" in shown.out
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["diagnose"],
        ["mend", "wsus01"],
        ["diagnose", "bad host name"],
        ["diagnose", "wsus01", "--port", "70000"],
        ["plan", "wsus01", "--package", "/no/such/file.exe"],
        ["plan", "wsus01", "--package-sha256", "xyz"],
        ["remediate", "wsus01", "--accept-unverifiable-signature"],
        ["diagnose", "wsus01", "--encryption", "auto"],
        ["diagnose", "wsus01", "--timeout", "-1"],
        ["lab", "--wsus", "4.0"],
    ],
    ids=" ".join,
)
def test_what_cannot_mean_anything_is_usage_and_sends_nothing(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSUSFIX_USERNAME", "LAB\\admin")
    monkeypatch.setenv("WSUSFIX_PASSWORD", "geheim")
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err


def test_missing_credentials_are_refused_before_anything_is_sent(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    assert main(["diagnose", str(host.connection["host"]), "--port", str(host.connection["port"])]) == 2
    assert "WSUSFIX_PASSWORD" in capsys.readouterr().out
    assert host.request_count == 0


def test_every_option_has_its_flag() -> None:
    words = {
        "package": "u.exe",
        "package_sha256": "5a" * 32,
        "package_arguments": "/q",
        "vouch_for_package": None,
        "accept_unverifiable_signature": None,
        "rtm": "upgrade",
        "upgrade_package": "s.exe",
        "upgrade_package_sha256": "6b" * 32,
        "upgrade_target": "3.0 SP2",
        "vouch_for_upgrade_package": None,
        "upstream_version": "none",
        "upgrade_beside_others": None,
        "removal_meant": None,
        "backup": None,
        "reboot": "if-needed",
        "not_before": "2008-09-06T22:00Z",
        "not_after": "2008-09-07T02:00+02:00",
        "workaround": None,
        "update_ids": "954960ab-0000-4000-8000-000000000001",
    }
    assert set(words) == {item.name for item in fields(Options)}
    arguments = ["plan", "wsus01"]
    for name, value in words.items():
        # The ids of updates are given one by one, each by a flag of its own.
        flag = f"--{'update_id' if name == 'update_ids' else name}".replace("_", "-")
        arguments += [flag] if value is None else [flag, value]
    told = cli._options(cli._parser().parse_args(arguments)).to_dict()
    assert (told.pop("not_before"), told.pop("not_after")) == ("2008-09-06T22:00:00+00:00", "2008-09-07T00:00:00+00:00")
    for name, found in told.items():
        wanted: object = [words[name]] if name in ("package_arguments", "update_ids") else words[name]
        assert found == (True if wanted is None else wanted), name
    assert cli._options(cli._parser().parse_args(["plan", "wsus01", "--no-backup"])).backup is False


def test_a_time_that_is_none_or_knows_no_offset_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("22:00", "2008-09-06T22:00", "tomorrow"):
        assert cli.main(["plan", "wsus01", "--not-before", text]) == cli.ExitCode.USAGE
        told = capsys.readouterr().err
        assert "2008, 9, 6, 22" in told or "2008-09-06T22:00+02:00" in told


# --- whatever ends a run ---------------------------------------------------------------------------------------------


def as_program(host: Host, *arguments: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of a program of its own that asks *host*."""
    reach = host.connection
    known = {"WSUSFIX_USERNAME": str(reach["username"]), "WSUSFIX_PASSWORD": str(reach["password"])}
    line = [sys.executable, "-m", "wsusfix", *arguments, "--port", str(reach["port"])]
    return line, {**os.environ, **known, **environment}


def by_shell(command: tuple[list[str], dict[str, str]], redirected: str) -> subprocess.CompletedProcess[str]:
    line, environment = command
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *line],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def told_in(folder: Path) -> dict[str, dict[str, object]]:
    """Return what the report in *folder* says of each host; its three files are there, and nothing else."""
    assert {path.name for path in folder.iterdir()} == {"report.md", "report.html", "report.json"}
    hosts = json.loads((folder / "report.json").read_text())["hosts"]
    for name in ("report.md", "report.html"):
        assert all(host["host"] in (folder / name).read_text() for host in hosts), name
    return {host["host"]: host for host in hosts}


def address(host: Host) -> str:
    return str(host.connection["host"])


@pytest.fixture
def two(lab: Lab) -> tuple[Host, Host]:
    return lab.add_server("wsus01"), lab.add_server("wsus02")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals to a process")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ended_in_the_middle_of_a_host_it_keeps_what_was_done_to_it_and_to_those_before(
    lab: Lab, two: tuple[Host, Host], tmp_path: Path, how: str
) -> None:
    first, second = two
    third, fourth = (lab.add_server(name) for name in ("wsus03", "wsus04"))
    second.faults.installer_hangs()
    package = lab.package("WSUS-KB954960-x64.exe", size=60_000)
    line, environment = as_program(first, "remediate", *map(address, (first, second, third, fourth)), "--json")
    process = subprocess.Popen(
        [*line, "--package", str(package), "--yes", "--report", str(tmp_path)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: any("installing" in job.phases for job in second.jobs), 60)
        # Written down before the next server is asked: a run that is killed has it, too.
        assert told_in(tmp_path)[address(first)]["verdict"] == "fixed"
        process.send_signal(signal.Signals[how])
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(10)
        second.faults.clear()
    assert process.returncode == 1
    assert "interrupted" in err
    told = told_in(tmp_path)
    assert told[address(first)]["verdict"] == "fixed"
    error, events = told[address(second)]["error"], told[address(second)]["events"]
    assert isinstance(error, dict)
    assert error["message"].startswith("interrupted; the job on the server goes on")
    assert '"phase": "job"' in json.dumps(events)
    assert planned(told[address(second)]) == ["InstallUpdate"]
    assert second.shells == ()
    # And what is left to do, in the order in which it was named.
    assert json.loads(out)["hosts"] == list(told.values())
    assert list(told) == [address(host) for host in (first, second, third, fourth)]
    assert [each["begun"] for each in told.values()] == [True, True, False, False]
    for host in (third, fourth):
        error = told[address(host)]["error"]
        assert isinstance(error, dict)
        assert (error["message"], error["retryable"]) == ("not begun: the run ended before its turn", True)
        assert f"\n{address(host)}: not begun: the run ended before its turn\n" in err
        assert re.search(rf"^\| {address(host)} \| not begun \| ", (tmp_path / "report.md").read_text(), re.MULTILINE)
        assert host.request_count == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals to a process")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_a_look_that_is_ended_says_which_servers_it_has_not_looked_at(
    two: tuple[Host, Host], tmp_path: Path, how: str
) -> None:
    first, second = two
    # So long that the signal comes while the first one is asked.
    first.latency = 1.0
    line, environment = as_program(first, "diagnose", address(first), address(second), "--report", str(tmp_path))
    process = subprocess.Popen(
        line, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: first.request_count > 0, 60)
        process.send_signal(signal.Signals[how])
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(10)
    assert (process.returncode, out) == (1, "")
    assert f"\n{address(second)}: not begun: the run ended before its turn\n" in err
    assert err.endswith("\ninterrupted\n")
    told = told_in(tmp_path)
    assert [each["begun"] for each in told.values()] == [True, False]
    assert second.request_count == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_second_signal_to_end_does_not_keep_the_farewell_from_being_said(monkeypatch: pytest.MonkeyPatch) -> None:
    # A terminal that closes tells it twice.
    said = []

    def end_twice() -> None:
        with cli._ended_like_by_hand():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGHUP)
                said.append("farewell")

    with pytest.raises(KeyboardInterrupt):
        end_twice()
    assert said == ["farewell"]
    assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    # One that comes when it ought to be over ends that, too.
    monkeypatch.setattr(cli, "_FAREWELL", -1.0)
    with pytest.raises(KeyboardInterrupt):
        end_twice()
    assert said == ["farewell"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal to a process")
def test_a_signal_that_is_ignored_stays_so(lab: Lab, two: tuple[Host, Host], tmp_path: Path) -> None:
    two[0].faults.at_phase(lambda: process.send_signal(signal.SIGHUP), phase="installing")
    package = lab.package("WSUS-KB954960-x64.exe", size=60_000)
    line, environment = as_program(two[0], "remediate", address(two[0]), "--package", str(package), "--yes")
    process = subprocess.Popen(
        ["nohup", *line, "--report", str(tmp_path)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(10)
    assert told_in(tmp_path)[address(two[0])]["verdict"] == "fixed"


def planned(told: dict[str, object]) -> list[str]:
    """Return the steps of the plan that a report tells of a host."""
    plan = told["plan"]
    assert isinstance(plan, dict)
    return [step["name"] for step in plan["steps"]]


def test_an_error_in_the_middle_of_a_change_keeps_the_plan_and_what_it_was_made_of(
    lab: Lab, two: tuple[Host, Host], as_admin: AsAdmin, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second = two
    first.install_seconds, second.install_seconds = 3600, 0.0
    package = lab.package("WSUS-KB954960-x64.exe", size=60_000)
    wait = "6" if lab.engine is None else "30"  # long enough for the other one
    command = ["remediate", address(second), *as_admin(first), "--package", str(package), "--yes", "--timeout", wait]
    assert main([*command, "--json", "--report", str(tmp_path)]) == 5
    told = told_in(tmp_path)
    assert list(told.values()) == json.loads(capsys.readouterr().out)["hosts"]
    error = told[address(first)]["error"]
    assert isinstance(error, dict)
    assert error["type"] == "DeadlineError"
    assert planned(told[address(first)]) == ["InstallUpdate"]
    assert "diagnosis" in told[address(first)]
    # Of one server nothing is said of another.
    assert told[address(second)]["verdict"] == "fixed"
    assert "CANNOT BE UNDONE" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    "arguments", [["canary", "--server", "wsus01"], ["survey", "127.0.0.2", "--server"]], ids=["canary", "survey"]
)
def test_what_cannot_be_asked_is_an_object_too(
    two: tuple[Host, Host], as_admin: AsAdmin, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    reach = as_admin(two[0])
    assert main([*arguments, "127.0.0.99", *reach[1:], "--json"]) == 6
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert told["host"] == "127.0.0.99"
    assert told["error"]["type"] == "RefusedError"
    assert "nothing listens there" in shown.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_broken_stream_does_not_end_a_survey(lab: Lab, two: tuple[Host, Host]) -> None:
    clients = [lab.add_client(name, server=two[0]) for name in ("pc01", "pc02")]
    named = [str(client.connection["host"]) for client in clients]
    done = by_shell(as_program(two[0], "survey", *named, "--json"), "2> /dev/full")
    assert done.returncode == 3
    assert json.loads(done.stdout)["hit"] == named


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals to a process")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_a_survey_that_is_ended_says_which_clients_it_has_not_asked(lab: Lab, two: tuple[Host, Host], how: str) -> None:
    clients = [lab.add_client(f"pc{number}", server=two[0]) for number in range(3)]
    told, slow, waiting = (address(client) for client in clients)
    clients[1].latency = 1.0
    line, environment = as_program(two[0], "survey", told, slow, waiting, "--at-once", "1")
    process = subprocess.Popen(
        line, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: clients[1].request_count > 0, 60)
        process.send_signal(signal.Signals[how])
        clients[1].latency = 0.0
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(10)
    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[0].startswith(f"{told}: hit: ")
    # The one that was being asked is waited for.
    assert err.splitlines()[1].startswith(f"{slow}: hit: ")
    assert err.splitlines()[2:] == [f"{waiting}: not asked", "interrupted"]
    assert clients[2].request_count == 0


def test_an_error_that_nobody_has_thought_of_keeps_what_was_done_to_the_hosts_before_it(
    lab: Lab,
    two: tuple[Host, Host],
    as_admin: AsAdmin,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    first, second = two
    package = lab.package("WSUS-KB954960-x64.exe", size=60_000)
    plan = WsusServer.plan_with

    def fails(server: WsusServer, *args: object, **options: object) -> object:
        if server.host == address(second):
            raise ZeroDivisionError("nobody thought of it")
        return plan(server, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(WsusServer, "plan_with", fails)
    command = ["remediate", address(first), *as_admin(second), "--package", str(package), "--yes", "--json"]
    assert main([*command, "--report", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "unexpected ZeroDivisionError" in shown.err
    told = told_in(tmp_path)
    assert list(told.values()) == json.loads(shown.out)["hosts"]
    assert told[address(first)]["verdict"] == "fixed"
    error = told[address(second)]["error"]
    assert isinstance(error, dict)
    assert error["message"] == "unexpected ZeroDivisionError: nobody thought of it"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("redirected", ["> /dev/full", "| true", ">&-", "2>&-", "2> /dev/full"])
def test_a_broken_stream_neither_ends_a_remediation_nor_takes_its_exit_code(
    lab: Lab, two: tuple[Host, Host], tmp_path: Path, redirected: str
) -> None:
    package = lab.package("WSUS-KB954960-x64.exe", size=60_000)
    line, environment = as_program(two[0], "remediate", *map(address, two))
    line += ["--package", str(package), "--yes", "--report", str(tmp_path / "report")]
    if redirected == "| true":
        # What a shell without PIPESTATUS tells is the exit code of the other program.
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            line,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        os.close(writer)
    else:
        done = by_shell((line, environment), redirected)
    assert done.returncode == 0, done.stderr
    assert [host.dll_version for host in two] == ["3.1.6001.66"] * 2
    assert {host["verdict"] for host in told_in(tmp_path / "report").values()} == {"fixed"}
    assert ("output could not be written" in done.stderr) is (redirected in ("> /dev/full", "| true"))
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_look_that_cannot_be_shown_was_of_no_use(two: tuple[Host, Host], options: list[str]) -> None:
    done = by_shell(as_program(two[0], "diagnose", address(two[0]), *options), "> /dev/full")
    assert done.returncode == 1
    assert "output could not be written" in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_report_that_can_no_longer_be_written_does_not_hide_what_was_done(
    lab: Lab, two: tuple[Host, Host], as_admin: AsAdmin, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    package = lab.package("WSUS-KB954960-x64.exe", size=60_000)
    reach = as_admin(two[0])
    folder = tmp_path / "report"
    two[0].faults.at_phase(lambda: shutil.rmtree(folder), phase="installed")
    command = ["remediate", address(two[1]), *reach, "--package", str(package), "--yes", "--report", str(folder)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "report could not be written" in shown.err
    assert shown.out.count("fixed and verified") == 2


def test_a_report_that_is_there_stays_whole_when_another_cannot_be_written(
    two: tuple[Host, Host], as_admin: AsAdmin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reach = as_admin(two[0])
    assert main(["diagnose", *reach, "--report", str(tmp_path)]) == 3
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_text

    def full(path: Path, text: str, **options: str) -> int:
        write(path, text[:100], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert main(["diagnose", *reach, "--report", str(tmp_path)]) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["report.md", "report.html", "report.json"])
def test_a_report_whose_files_cannot_be_written_is_refused_before_anything_is_sent(
    two: tuple[Host, Host], as_admin: AsAdmin, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    assert main(["diagnose", *as_admin(two[0]), "--report", str(tmp_path)]) == 2
    assert name in capsys.readouterr().err
    assert two[0].request_count == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(sys.platform == "win32", reason="no shell that closes streams")
@pytest.mark.parametrize("redirected", ["<&-", "2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_before_are_no_terminals(two: tuple[Host, Host], redirected: str) -> None:
    command = as_program(two[0], "diagnose", address(two[0]), "--json")
    done = by_shell(command, redirected)
    assert done.returncode == 3, done.stderr
    if ">&- " not in redirected:
        assert json.loads(done.stdout)["hosts"][0]["verdict"] == "exposed_sp1"
    # Nobody can be asked for it.
    command[1]["WSUSFIX_PASSWORD"] = ""
    done = by_shell(command, redirected)
    assert done.returncode == 2
    if ">&- " not in redirected:
        assert json.loads(done.stdout)["hosts"][0]["error"]["type"] == "CredentialsError"
