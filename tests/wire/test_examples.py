"""The example scripts, run as they stand against simulated servers."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

import wsusfix
from wsusfix.lab import Host, Lab

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
LONGEST = 60

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a script on a server: its exit code, and what it wrote to both of its streams."""

    def go(name: str, host: Host, *arguments: object, first: object = None) -> tuple[int, str, str]:
        reach = host.connection
        monkeypatch.setenv("WSUSFIX_USERNAME", str(reach["username"]))
        monkeypatch.setenv("WSUSFIX_PASSWORD", str(reach["password"]))
        words = [name, first or reach["host"], *arguments, "--port", reach["port"]]
        monkeypatch.setattr("sys.argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        out, err = capsys.readouterr()
        assert str(reach["password"]) not in out + err
        return int(ended.value.code or 0), out, err

    return go


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_an_example_is_short_and_says_what_it_is_for(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < LONGEST
    assert lines[0].startswith('"""')
    assert any(f"python {path.name} " in line for line in lines)


def test_diagnose_one_says_what_a_server_is(lab: Lab, run: Run) -> None:
    code, out, _ = run("diagnose_one.py", lab.add_server("wsus01", wsus="3.0 SP1"))
    assert (code, "exposed_sp1" in out) == (1, True)
    fixed = lab.add_server("wsus02", wsus="3.0 SP1 KB954960")
    assert run("diagnose_one.py", fixed)[0] == 0
    fixed.close()
    code, _, err = run("diagnose_one.py", fixed)
    assert code == 1
    assert err.startswith("not reached: ")


def test_remediate_one_shows_the_plan_and_mends_when_told_to(
    lab: Lab, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    package = lab.package("WSUS-KB954960-x64.exe")
    code, out, _ = run("remediate_one.py", host, package)
    assert (code, "CANNOT BE UNDONE" in out, host.jobs) == (1, True, ())
    with caplog.at_level("INFO"):
        code, out, _ = run("remediate_one.py", host, package, "--yes")
    assert (code, "fixed and verified" in out) == (0, True)
    assert host.dll_version == "3.1.6001.66"
    phases = [vars(record)["event"]["phase"] for record in caplog.records if record.name == "remediate_one"]
    assert phases[-1] == "cleanup"
    assert "installing" in phases
    code, out, _ = run("remediate_one.py", host, package, "--yes")
    assert (code, "nothing to do" in out, len(host.installations)) == (0, True, 1)


def test_change_ticket_writes_the_evidence_and_its_hashes(
    lab: Lab, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    lab.add_client("pc01", server=host)
    package = lab.package("WSUS-KB954960-x64.exe")
    code, out, _ = run("change_ticket.py", host, package, tmp_path / "planned")
    assert (code, "CANNOT BE UNDONE" in out, "--yes consents" in out, host.jobs) == (1, True, True, ())
    assert "CANNOT BE UNDONE" in (tmp_path / "planned" / "report.md").read_text()
    code, out, _ = run("change_ticket.py", host, package, tmp_path / "ticket", "--yes")
    assert (code, "installed (exit code 0)" in out) == (0, True)
    assert "fixed and verified" in out
    assert out.endswith(f"report: {tmp_path / 'ticket' / 'report.html'}\n")
    folder = tmp_path / "ticket"
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    (told,) = json.loads((folder / "report.json").read_text())["hosts"]
    assert told["verdict"] == "fixed"
    page = (folder / "report.html").read_text()
    assert "Timeline" in page
    assert "yes: 2 failed calls" in page
    assert "SoftwareDistribution.log:" in page
    assert hashlib.sha256((folder / "report.json").read_bytes()).hexdigest() in page
    wrong = {**host.connection, "password": "Wr0ng-Geheim"}
    monkeypatch.setattr(Host, "connection", property(lambda _: wrong))
    assert run("change_ticket.py", host, package, tmp_path / "refused", "--anonymous")[0] == 1
    for path in (tmp_path / "refused").iterdir():
        assert not re.search(r"LAB|admin(?!istrator)", path.read_text()), path.name
    assert "user-1" in (tmp_path / "refused" / "report.md").read_text()
    monkeypatch.undo()
    host.close()
    code, out, _ = run("change_ticket.py", host, lab.package(), tmp_path / "failed", "--anonymous")
    assert code == 1
    assert "the port is closed" in out
    failed = (tmp_path / "failed" / "report.md").read_text()
    assert "RefusedError" not in failed
    assert "the port is closed" in failed
    assert str(host.connection["host"]) not in failed


def test_change_ticket_writes_down_what_ctrl_c_ended(
    lab: Lab, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("127.0.0.2: interrupted; the job goes on")

    monkeypatch.setattr(wsusfix.WsusServer, "apply", pressed)
    assert run("change_ticket.py", lab.add_server("wsus01"), lab.package(), tmp_path / "ticket", "--yes")[0] == 1
    (told,) = json.loads((tmp_path / "ticket" / "report.json").read_text())["hosts"]
    assert told["error"]["message"] == "127.0.0.2: interrupted; the job goes on"
    assert [step["name"] for step in told["plan"]["steps"]] == ["InstallUpdate"]


def test_survey_clients_says_who_was_hit_and_by_which_server(lab: Lab, run: Run, tmp_path: Path) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    clients = [
        lab.add_client("pc01", server=host),
        lab.add_client("pc02", server=host, office_2003=False),
        lab.add_client("pc03", server=host),
    ]
    clients[2].close()
    names = tmp_path / "clients.txt"
    names.write_text("".join(f"{client.connection['host']}\n" for client in clients))
    code, out, _ = run(
        "survey_clients.py", host, "--server", host.connection["host"], "--csv", tmp_path / "out.csv", first=names
    )
    assert code == 1
    assert "3 clients, 1 hit, 1 not reached" in out
    with (tmp_path / "out.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert [line["hit"] for line in told] == ["yes", "no", "unknown"]
    assert "http://wsus01/" in told[0]["server"]
    assert "the port is closed" in told[2]["why"]
    # As an editor of Windows writes it, with its mark.
    names.write_text(clients[1].connection["host"], encoding="utf-8-sig")
    assert run("survey_clients.py", host, first=names)[0] == 0


@pytest.mark.parametrize("bad", ["not there", "a folder", "no text"])
def test_survey_clients_says_what_is_the_matter_with_its_list(lab: Lab, run: Run, tmp_path: Path, bad: str) -> None:
    names = tmp_path / "clients.txt"
    if bad == "a folder":
        names.mkdir()
    elif bad == "no text":
        names.write_bytes(b"\xff\xfe\x00")
    code, out, err = run("survey_clients.py", lab.add_server("wsus01"), first=names)
    assert (code, out) == (2, "")
    assert "the list cannot be read" in err.splitlines()[-1]


def test_what_cannot_be_written_is_said_before_anything_is_sent(lab: Lab, run: Run, tmp_path: Path) -> None:
    host = lab.add_server("wsus01")
    (tmp_path / "clients.txt").write_text(str(host.connection["host"]))
    away = tmp_path / "clients.txt" / "folder"
    for name, *arguments in (
        ("survey_clients.py", "--csv", away),
        ("change_ticket.py", lab.package(), away),
    ):
        first = tmp_path / "clients.txt" if name == "survey_clients.py" else None
        code, out, err = run(name, host, *arguments, first=first)
        assert (code, out, host.request_count) == (2, "", 0)
        assert str(away) in err.splitlines()[-1]
