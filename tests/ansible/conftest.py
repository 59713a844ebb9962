"""The real ``ansible-playbook`` against simulated servers: one lab for all, and as few runs as there can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.wire.servers import new_lab
from wsusfix.lab import Host, Lab

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "ansible"
#: What a run of Ansible must not take from this machine.
FOREIGN = ("ANSIBLE_", "WSUSFIX_", "COVERAGE_", "COV_CORE_")


@dataclass(frozen=True)
class Played:
    """What a run of ansible-playbook said: its exit code, its text, and each host's result of each task."""

    code: int
    text: str
    results: Mapping[str, Mapping[str, dict[str, Any]]]

    def of(self, host: str, task: str) -> dict[str, Any]:
        """Return what *task* gave on *host*."""
        return self.results[task][host]


class Ansible:
    """Runs Ansible's programs on an inventory of the lab's servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder),
            "ANSIBLE_COLLECTIONS_PATH": str(EXAMPLES),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
            "ANSIBLE_CALLBACKS_ENABLED": "told",
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"),
            **more,
        }

    def run(self, program: str, *arguments: str | Path, **more: str) -> tuple[int, str]:
        """Run one of Ansible's programs; its exit code, and all that it wrote."""
        done = subprocess.run(
            [sys.executable, "-m", "ansible", *program.split(), *(str(each) for each in arguments)],
            env=self.environment(**more),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=220,
            check=False,
        )
        return done.returncode, done.stdout

    def inventory(self, groups: Mapping[str, list[Host]], **variables: Any) -> Path:
        """Write an inventory of *groups* of servers, as an operator would have it."""
        children = {
            group: {"hosts": {host.name: self.reach(host) for host in hosts}} for group, hosts in groups.items()
        }
        path = self.folder / "inventory.json"
        path.write_text(json.dumps({"all": {"children": {"wsus": {"children": children, "vars": variables}}}}))
        return path

    @staticmethod
    def reach(host: Host) -> dict[str, Any]:
        """Return the variables by which an inventory says how a Windows server is reached."""
        reach = host.connection
        return {
            "ansible_host": reach["host"],
            "ansible_port": reach["port"],
            "ansible_user": reach["username"],
            "ansible_password": reach["password"],
            "ansible_connection": "psrp",
        }

    def play(self, playbook: str | Path, *arguments: str | Path, **more: str) -> Played:
        """Run a playbook."""
        told = self.folder / "told.json"
        told.unlink(missing_ok=True)
        code, text = self.run(
            "playbook", "-i", self.folder / "inventory.json", playbook, *arguments, **more, WSUSFIX_TOLD=str(told)
        )
        results: dict[str, dict[str, dict[str, Any]]] = {}
        for line in told.read_text().splitlines() if told.exists() else ():
            each = json.loads(line)
            results.setdefault(each["task"], {})[each["host"]] = each["result"]
        return Played(code, text, results)


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    # Not its command line: that would make this process a controller, whose modules hand their warnings to the screen.
    pytest.importorskip("ansible")
    return Ansible(tmp_path)


@pytest.fixture(scope="module")
def estate() -> Iterator[Lab]:
    """One lab for all tests of a module: each names its servers anew."""
    with new_lab() as lab:
        yield lab
