"""The collection as an operator uses it: its playbooks, run by the real ansible-playbook, against simulated servers.

Each start of Ansible and of a module costs about a second of a processor, so that a few runs carry all assertions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.conftest import Ansible, Played
from tests.wire.servers import new_lab
from wsusfix.lab import Host, Lab
from wsusfix.lab.demo import inventory

pytestmark = pytest.mark.timeout(240)

LOOK, MEND, VERIFY = "Look at the server", "Mend the server", "Verify"
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
    found = {name: each.get("verdict", "not reached") for name, each in json.loads(sums.read_text()).items()}
    assert found == played.results["What was found"]["localhost"]["msg"]
    assert found == {
        **{host.name: VERDICTS[number % 5] for number, host in enumerate(hosts)},
        "wsus18": "not reached",
        "wsus19": "not reached",
    }
    assert all(host.jobs == () and host.installations == () for host in hosts)


def test_a_server_that_is_not_there_is_told_with_what_to_do(surveyed: tuple[Played, list[Host], Path]) -> None:
    played, _, _ = surveyed
    told = played.of("wsus18", LOOK)
    assert told["error"]["type"] == "RefusedError"
    assert "winrm quickconfig" in told["msg"]
    assert played.code != 0
    assert "wsus18, wsus19: not reached" in played.text


def test_a_wrong_password_is_told_and_never_shown(surveyed: tuple[Played, list[Host], Path]) -> None:
    played, hosts, _ = surveyed
    told = played.of("wsus19", LOOK)
    assert told["error"]["type"] == "AuthenticationError"
    assert "DOMAIN\\user" in told["msg"]
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
    assert (sp1["authentication"], sp1["powershell_version"], sp1["changed"]) == ("ntlm", "2.0", False)
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


# --- the documentation ----------------------------------------------------------------------------------------------


def test_the_documentation_of_each_module_can_be_read(ansible: Ansible) -> None:
    names = ("wsusfix.wsus.wsus_kb954960", "wsusfix.wsus.wsus_kb954960_info")
    code, text = ansible.run("doc", "-t", "module", *names)
    assert code == 0, text
    assert "WARNING" not in text
    for word in ("package_sha256", "WSUSFIX_PASSWORD", "consent", "RETURN VALUES", "verification", "ATTRIBUTES"):
        assert word in text, word
