"""The Ansible collection says what the library takes: no option forgotten, none invented, each documented as it is."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, fields
from typing import Any

import pytest
import yaml

import wsusfix
from tests.ansible.collection import FOLDER, MODULES, load
from wsusfix.options import AUTHENTICATIONS, ENCRYPTIONS

SHARED = load("module_utils.kb954960")


def test_the_options_of_the_library_are_those_of_the_collection() -> None:
    assert list(SHARED.OPTION_ARGUMENTS) == [item.name for item in fields(wsusfix.Options)]


def test_the_ways_to_reach_a_server_are_those_of_the_collection() -> None:
    ways = {item.name for item in (*fields(wsusfix.Credentials), *fields(wsusfix.Connection))}
    assert set(SHARED.CONNECTION_ARGUMENTS) == ways
    assert list(SHARED.TIMEOUTS) == [item.name for item in fields(wsusfix.Timeouts)]
    assert SHARED.CONNECTION_ARGUMENTS["auth"]["choices"] == list(AUTHENTICATIONS)
    assert SHARED.CONNECTION_ARGUMENTS["encryption"]["choices"] == list(ENCRYPTIONS)


def test_what_a_look_may_leave_out_is_that_of_the_collection() -> None:
    told = inspect.signature(wsusfix.WsusServer.plan).parameters.values()
    asked = {item.name: item.default for item in told if item.kind is inspect.Parameter.KEYWORD_ONLY}
    assert {name: argument["default"] for name, argument in SHARED.LOOK_ARGUMENTS.items()} == asked


def test_what_is_left_out_means_the_same_here_and_there() -> None:
    for item in (*fields(wsusfix.Connection), *fields(wsusfix.Options)):
        if item.name not in ("host", "timeouts"):
            assert item.default is not MISSING
            assert SHARED.ARGUMENTS[item.name].get("default") == item.default, item.name


def documented(module: Any) -> dict[str, Any]:
    """Return the options in a module's documentation, those of its fragments too."""
    document = yaml.safe_load(module.DOCUMENTATION)
    options: dict[str, Any] = dict(document.get("options", {}))
    for name in document["extends_documentation_fragment"]:
        fragment = load(f"doc_fragments.{name.rpartition('.')[2]}").ModuleDocFragment
        options.update(yaml.safe_load(fragment.DOCUMENTATION)["options"])
    return options


def agree(spec: dict[str, Any], told: dict[str, Any]) -> None:
    assert set(spec) == set(told)
    for name, argument in spec.items():
        assert told[name]["description"], name
        for key in ("type", "elements", "choices", "default", "required"):
            assert argument.get(key) == told[name].get(key), f"{name}: {key}"
        if "fallback" in argument:
            assert f"E({argument['fallback'][1][0]})" in " ".join(told[name]["description"]), name
        agree(argument.get("options", {}), told[name].get("suboptions", {}))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_what_its_documentation_says(name: str) -> None:
    module = load(f"modules.{name}")
    agree({**SHARED.ARGUMENTS, **getattr(module, "STATE_ARGUMENTS", {})}, documented(module))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_with_samples_what_it_returns(name: str) -> None:
    told = yaml.safe_load(load(f"modules.{name}").RETURN)
    assert all({"description", "returned", "type", "sample"} <= set(value) for value in told.values())


def test_every_parameter_that_is_a_secret_is_marked() -> None:
    assert [name for name, argument in SHARED.ARGUMENTS.items() if argument.get("no_log")] == ["password", "proxy"]


def test_both_modules_are_in_the_action_group() -> None:
    runtime = yaml.safe_load((FOLDER / "meta" / "runtime.yml").read_text())
    assert sorted(runtime["action_groups"]["kb954960"]) == list(MODULES)


def test_the_collection_has_the_version_of_the_library() -> None:
    galaxy = yaml.safe_load((FOLDER / "galaxy.yml").read_text())
    assert galaxy["version"] == wsusfix.__version__


def test_every_playbook_is_described_and_every_one_described_is_there() -> None:
    there = {path.stem for path in (FOLDER / "playbooks").glob("*.yml")}
    page = (FOLDER.parents[4] / "docs" / "ansible.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \| ", page, re.MULTILINE)) == there
    assert set(re.findall(r"ansible-playbook .*wsusfix\.wsus\.(\w+)", page)) == there


#: Of the server, not of localhost, to which the tasks delegate.
REACHED = {
    "host": "hostvars[inventory_hostname].ansible_host | default(inventory_hostname)",
    "port": "hostvars[inventory_hostname].ansible_port | default(omit)",
    "username": "hostvars[inventory_hostname].ansible_user | default(omit)",
    "password": "hostvars[inventory_hostname].ansible_password | default(omit)",
}


def handed(option: str) -> str:
    """Return what a playbook hands over as *option*; a path is taken from where the operator stands."""
    if SHARED.ARGUMENTS[option]["type"] == "path":
        return f"['.' | realpath, wsus_{option} | expanduser] | path_join if wsus_{option} is defined else omit"
    return REACHED.get(option, f"wsus_{option} | default(omit)")


@pytest.mark.parametrize("name", ["survey", "dry_run", "remediate", "verify"])
def test_a_playbook_hands_over_every_argument(name: str) -> None:
    plays = yaml.safe_load((FOLDER / "playbooks" / f"{name}.yml").read_text(encoding="utf-8"))
    defaults = [play["module_defaults"]["group/wsusfix.wsus.kb954960"] for play in plays if "module_defaults" in play]
    assert len(defaults) == (2 if name == "remediate" else 1)
    for told in defaults:
        assert told == {option: f"{{{{ {handed(option)} }}}}" for option in SHARED.ARGUMENTS}


@pytest.mark.parametrize("name", MODULES)
def test_an_example_reaches_the_server_and_not_the_delegate(name: str) -> None:
    tasks = yaml.safe_load(load(f"modules.{name}").EXAMPLES)
    for task in tasks:
        told = task.get(f"wsusfix.wsus.{name}")
        if told is not None:
            assert {option: told[option] for option in ("host", "port")} == {
                option: f"{{{{ {REACHED[option]} }}}}" for option in ("host", "port")
            }
            assert all("hostvars[inventory_hostname]." in told[option] for option in ("username", "password"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("restart the server, or say reboot='if-needed'; then run again", "or say reboot: if-needed; then"),
        ("run the same command again; server.job() tells how the job stands", "; running the task again joins it"),
        ("stay for the next run, or for server.cleanup()", "stay for the next run, or for state: cleaned"),
        ("until it opens, server.withdraw() calls it off", "until it opens, state: withdrawn calls it off"),
        ("see its end, or call it off: server.withdraw()", "see its end, or call it off: state: withdrawn"),
        ("then pass consent=True (--yes)", "then say consent: true"),
        ("back the database up by hand and say backup=False", "say backup: false"),
        ("use encryption='always', or ssl=True", "use encryption: always, or ssl: true"),
        ("confirm it: update_ids=['80db6c6c', '90']", "update_ids: ['80db6c6c', '90']"),
        ("give the authority that issued it as ca_cert=, or use", "as ca_cert, or use"),
        ("command line: /q NAME=1 ver=1", "command line: /q NAME=1 ver=1"),
    ],
)
def test_hints_are_in_the_words_of_a_playbook(said: str, told: str) -> None:
    assert told in SHARED.worded(said)


def test_the_inventory_that_is_shown_names_what_the_playbooks_ask_for() -> None:
    shown = yaml.safe_load((FOLDER.parents[2] / "inventory.yml").read_text(encoding="utf-8"))
    groups = shown["all"]["children"]["wsus"]["children"]
    asked = re.findall(r"^  hosts: (wsus_\w+)$", (FOLDER / "playbooks" / "remediate.yml").read_text(), re.MULTILINE)
    assert len(asked) == 2
    assert list(groups) == asked
    assert "wsus_package" in shown["all"]["children"]["wsus"]["vars"]
