"""The collection as an operator uses it: its playbooks, run by the real ansible-playbook, against simulated servers.

Each start of Ansible and of a module costs about a second of a processor, so that a few runs carry all assertions.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.conftest import ROOT, Ansible, Played
from tests.wire.servers import lab_engine, new_lab
from wsusfix.lab import Host, Lab
from wsusfix.lab.demo import inventory

pytestmark = pytest.mark.timeout(300)

LOOK, MEND, VERIFY = "Look at the server", "Mend the server", "Verify"
FOUND = "What was found"
TOLD, PLACED = "The server told what it is", "Every server is upstream or downstream"
PLAN = "Make the plan and leave it at that"
#: More than the forks, so that the engine has to take turns.
MANY, FORKS = 20, 10
STATES = ("3.0 SP1", "3.0 RTM", "3.0 SP1 KB954960", "2.0", "3.0 SP2")
VERDICTS = ("exposed_sp1", "exposed_rtm", "fixed", "not_affected", "not_affected")
WRONG = "Wr0ng-Geheim"


# --- a survey of many -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Played, list[Host], Path]]:
    """One survey of twenty servers, of which one is not there and one is asked with a wrong password."""
    ansible = Ansible(tmp_path_factory.mktemp("survey"))
    with new_lab() as lab:
        hosts = [
            lab.add_server(f"wsus{number:02d}", os="Windows Server 2003", arch="x86", wsus=STATES[number % 5])
            for number in range(MANY)
        ]
        lab.add_client("pc01", server=hosts[0])
        hosts[18].close()
        path = ansible.inventory({"wsus_upstream": hosts[:1], "wsus_downstream": hosts[1:]})
        data = json.loads(path.read_text())
        down = data["all"]["children"]["wsus"]["children"]["wsus_downstream"]["hosts"]
        down["wsus19"]["ansible_password"] = WRONG
        path.write_text(json.dumps(data))
        sums = ansible.folder / "sums.json"
        played = ansible.play(
            "wsusfix.wsus.survey",
            *("--forks", str(FORKS), "-vvv", "-e", f"wsus_survey={sums}"),
            WSUSFIX_TIMEOUTS="connect=15,opening=60",
        )
        yield played, hosts, sums


def test_twenty_servers_are_surveyed_ten_at_a_time(surveyed: tuple[Played, list[Host], Path]) -> None:
    played, hosts, sums = surveyed
    written = json.loads(sums.read_text())
    found = {name: each["verdict"] for name, each in written.items() if "verdict" in each}
    assert found == {host.name: VERDICTS[number % 5] for number, host in enumerate(hosts[:18])}
    assert played.of("wsus00", FOUND)["msg"] == {
        **found,
        "wsus18": f"not reached: {written['wsus18']['msg']}",
        "wsus19": written["wsus19"]["msg"],
    }
    assert all(host.jobs == () and host.installations == () for host in hosts)


def test_a_server_that_is_not_there_is_told_with_what_to_do(surveyed: tuple[Played, list[Host], Path]) -> None:
    played, _, _ = surveyed
    told = played.of("wsus18", LOOK)
    assert told["error"]["type"] == "RefusedError"
    assert "winrm quickconfig" in told["msg"]
    assert played.code != 0
    assert played.of("wsus18", TOLD)["msg"] == f"wsus18: not reached: {told['msg']}"
    failed = [host for host, each in played.results[TOLD].items() if each["msg"] != "All assertions passed"]
    assert sorted(failed) == ["wsus18", "wsus19"]
    assert re.findall(r"^(\w+) .* failed=1 ", played.text, re.MULTILINE) == ["wsus18", "wsus19"]


def test_a_wrong_password_is_told_and_never_shown(surveyed: tuple[Played, list[Host], Path]) -> None:
    played, hosts, _ = surveyed
    told = played.of("wsus19", LOOK)
    assert told["error"]["type"] == "AuthenticationError"
    assert "DOMAIN\\user" in told["msg"]
    assert told["error"]["unreached"] is False
    assert played.of("wsus19", TOLD)["msg"] == f"wsus19: {told['msg']}"
    for secret in (WRONG, str(hosts[0].connection["password"])):
        assert secret not in played.text
        assert secret not in json.dumps(played.results)
    assert "ESTABLISH LOCAL CONNECTION" in played.text, "the run was not verbose"


def test_a_survey_tells_diagnosis_and_plan_as_data(surveyed: tuple[Played, list[Host], Path]) -> None:
    played, _, _ = surveyed
    sp1, rtm, fixed = (played.of(name, LOOK) for name in ("wsus00", "wsus01", "wsus02"))
    assert sp1["diagnosis"]["facts"]["wsus"]["dll_version"] == "3.1.6001.65"
    assert "no package was given" in sp1["plan"]["text"]
    assert [step["name"] for step in rtm["plan"]["steps"]] == ["ResetApprovals"]
    assert fixed["plan"]["nothing"]
    assert (sp1["exposed"], fixed["exposed"]) == (True, False)
    assert (sp1["observed"], fixed["observed"]) == ("yes", "no")
    assert sp1["diagnosis"]["logs"]["findings"]
    assert (sp1["authentication"], sp1["changed"]) == ("ntlm", False)
    # An engine says its own version.
    assert lab_engine() is not None or sp1["powershell_version"] == "2.0"
    assert "Traceback" not in played.text


# --- the road -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Played], dict[str, Host]]]:
    """A dry run, then twice the remediation, then the proof: in one run of Ansible, as a site playbook has it."""
    ansible = Ansible(tmp_path_factory.mktemp("road"))
    with new_lab() as lab:
        hosts = {name: lab.add_server(name, wsus="3.0 SP1") for name in ("top", "leaf")}
        # As `wsusfix lab --inventory` writes it, with the environment that it prints.
        told = inventory(list(hosts.values()), lab.package("WSUS-KB954960-x64.exe"))
        (ansible.folder / "inventory.json").write_text(json.dumps(told))
        reach = hosts["top"].connection
        account = {"WSUSFIX_USERNAME": str(reach["username"]), "WSUSFIX_PASSWORD": str(reach["password"])}
        for name in ("first", "second"):
            site = "".join(
                f"- ansible.builtin.import_playbook: wsusfix.wsus.{each}\n"
                for each in (("dry_run", "remediate") if name == "first" else ("remediate", "verify"))
            )
            (ansible.folder / f"{name}.yml").write_text(site)
        consent = ("-e", "wsus_consent=true")
        first = ansible.play(ansible.folder / "first.yml", "--diff", *consent, **account)
        second = ansible.play(ansible.folder / "second.yml", "--limit", "leaf", "-vvv", *consent, **account)
        yield [first, second], hosts


def test_a_dry_run_shows_what_would_be_done(road: tuple[list[Played], dict[str, Host]]) -> None:
    (first, _), _ = road
    told = first.of("top", PLAN)
    assert told["changed"] is True
    assert "CANNOT BE UNDONE" in told["plan"]["text"]
    assert "outcome" not in told
    assert "-DLL: 3.1.6001.65" in first.text
    assert "+will be done: InstallUpdate" in first.text
    assert "+will be verified: the file version of" in first.text


def test_the_first_run_changes_and_shows_the_difference(road: tuple[list[Played], dict[str, Host]]) -> None:
    (first, _), hosts = road
    assert first.code == 0, first.text
    for name, host in hosts.items():
        told = first.of(name, MEND)
        assert (told["changed"], told["verdict"], told["restart_pending"]) == (True, "fixed", False)
        assert told["outcome"]["evidence"][0]["exit_code"] == 0
        assert told["verification"]["found"] == "3.1.6001.66"
        assert any("installed (exit code 0)" in event for event in told["events"])
        assert host.dll_version == "3.1.6001.66"
    assert "-verdict: exposed_sp1" in first.text
    assert "+verdict: fixed" in first.text
    assert "+DLL: 3.1.6001.66" in first.text


def test_upstream_is_mended_before_downstream_begins(road: tuple[list[Played], dict[str, Host]]) -> None:
    _, hosts = road
    assert hosts["top"].jobs[0].ended <= hosts["leaf"].jobs[0].started


def test_the_second_run_changes_nothing_and_the_proof_holds(road: tuple[list[Played], dict[str, Host]]) -> None:
    (_, second), hosts = road
    assert second.code == 0, second.text
    assert second.of("leaf", MEND)["changed"] is False
    assert second.of("leaf", VERIFY)["verification"]["ok"] is True
    assert [len(host.installations) for host in hosts.values()] == [1, 1]


def test_the_password_is_in_no_output_of_the_road(road: tuple[list[Played], dict[str, Host]]) -> None:
    played, hosts = road
    secret = str(hosts["top"].connection["password"])
    for each in played:
        assert secret not in each.text
        assert secret not in json.dumps(each.results)
    assert "ESTABLISH LOCAL CONNECTION" in played[1].text, "the run was not verbose"


def test_what_is_blocked_upstream_keeps_downstream_from_being_begun(estate: Lab, ansible: Ansible) -> None:
    top, leaf = estate.add_server("top", wsus="3.0 SP1"), estate.add_server("leaf", wsus="3.0 RTM")
    # No package, without which the upper one cannot be mended; the lower one could.
    ansible.inventory({"wsus_upstream": [top], "wsus_downstream": [leaf]}, wsus_consent=True)
    played = ansible.play("wsusfix.wsus.remediate")
    assert played.code != 0
    told = played.of("top", MEND)
    assert told["changed"] is False
    assert "blocked: " in told["msg"]
    assert "to unblock: " in told["msg"]
    assert leaf.request_count == 0


def test_servers_named_by_address_are_reached_and_paths_are_the_operators(estate: Lab, ansible: Ansible) -> None:
    hosts = [estate.add_server(name, wsus="3.0 SP1") for name in ("one", "two")]
    named = {host.connection["host"]: ansible.reach(host) for host in hosts}
    for reach in named.values():
        del reach["ansible_host"]
    # What an inventory may say of the machine to which the tasks delegate, and what must not be taken for a server's.
    here = {
        "ansible_connection": "local",
        "ansible_host": "127.0.0.1",
        "ansible_port": 22,
        "ansible_user": "root",
        "ansible_password": WRONG,
        "ansible_python_interpreter": sys.executable,
    }
    groups = {"wsus": {"hosts": named}}
    told = {"all": {"hosts": {"localhost": here}, "children": groups}}
    (ansible.folder / "inventory.json").write_text(json.dumps(told))
    package = ansible.folder / "files" / "WSUS-KB954960-x64.exe"
    package.parent.mkdir()
    shutil.copy(estate.package("WSUS-KB954960-x64.exe"), package)
    given = ("wsus_package=files/WSUS-KB954960-x64.exe", "wsus_survey=sums.json", "wsus_logs=false")
    played = ansible.play("wsusfix.wsus.survey", *(word for each in given for word in ("-e", each)))
    assert played.code == 0, played.text
    sums = json.loads((ansible.folder / "sums.json").read_text())
    for address in named:
        assert sums[address]["host"] == address
        assert (sums[address]["verdict"], sums[address]["observed"]) == ("exposed_sp1", "unknown")
        assert sums[address]["plan"]["steps"][0]["package"]["path"] == str(package)


def test_a_part_of_the_servers_is_surveyed_and_summed_up(estate: Lab, ansible: Ansible) -> None:
    top, *leaves = (estate.add_server(name, wsus="3.0 SP1 KB954960") for name in ("above", "below", "beside"))
    ansible.inventory({"wsus_upstream": [top], "wsus_downstream": leaves})
    played = ansible.play("wsusfix.wsus.survey", "--limit", "wsus_downstream", "-e", "wsus_survey=part.json")
    assert played.code == 0, played.text
    assert played.of("below", FOUND)["msg"] == {"below": "fixed", "beside": "fixed"}
    written = json.loads((ansible.folder / "part.json").read_text())
    assert {name: each["verdict"] for name, each in written.items()} == {"below": "fixed", "beside": "fixed"}
    assert top.request_count == 0


def test_a_server_that_is_neither_upstream_nor_downstream_is_named_and_nothing_is_begun(
    estate: Lab, ansible: Ansible
) -> None:
    hosts = [estate.add_server(name, wsus="3.0 RTM") for name in ("high", "stray", "lost")]
    ansible.inventory({"wsus_upstream": hosts[:1], "wsus_others": hosts[1:]}, wsus_consent=True)
    played = ansible.play("wsusfix.wsus.remediate")
    assert played.code != 0
    (told,) = played.results[PLACED].values()
    assert told["msg"].startswith("stray, lost: in the group wsus, but neither")
    assert [host.request_count for host in hosts] == [0, 0, 0]


def test_the_playbook_in_the_documentation_runs_as_it_stands_there(estate: Lab, ansible: Ansible) -> None:
    page = (ROOT / "docs" / "ansible.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```yaml\n(- hosts:.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (ansible.folder / "site.yml").write_text(shown)
    package = ansible.folder / "files" / "WSUS-KB954960-x64.exe"
    package.parent.mkdir()
    shutil.copy(estate.package("WSUS-KB954960-x64.exe", exit_code=3010), package)
    host = estate.add_server("shown", wsus="3.0 SP1")
    ansible.inventory({"wsus_upstream": [host]})
    played = ansible.play(ansible.folder / "site.yml")
    assert played.code == 0, played.text
    assert "restart shown" in played.text
    assert len(host.installations) == 1


# --- the documentation ----------------------------------------------------------------------------------------------


def test_the_documentation_of_each_module_can_be_read(ansible: Ansible) -> None:
    names = ("wsusfix.wsus.wsus_kb954960", "wsusfix.wsus.wsus_kb954960_info")
    code, text = ansible.run("doc", "-t", "module", *names)
    assert code == 0, text
    assert "WARNING" not in text
    for word in ("package_sha256", "WSUSFIX_PASSWORD", "consent", "RETURN VALUES", "verification", "ATTRIBUTES"):
        assert word in text, word
