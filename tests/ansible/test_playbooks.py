"""The collection as an operator uses it: playbooks, run by the real ansible-playbook, against simulated servers."""

from __future__ import annotations

import pytest

from tests.ansible.conftest import Ansible
from wsusfix.lab import Lab

pytestmark = pytest.mark.timeout(240)


def test_the_first_run_changes_and_the_second_does_not(estate: Lab, ansible: Ansible) -> None:
    host = estate.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
    package = estate.package("WSUS-KB954960-x64.exe")
    ansible.inventory({"upstream": [host]}, wsus_package=str(package), wsus_consent=True)
    first = ansible.play("wsusfix.wsus.remediate")
    assert first.code == 0, first.text
    told = first.of("wsus01", "Mend the server")
    assert (told["changed"], told["verdict"], host.dll_version) == (True, "fixed", "3.1.6001.66")
    second = ansible.play("wsusfix.wsus.remediate")
    assert second.code == 0, second.text
    assert second.of("wsus01", "Mend the server")["changed"] is False
    assert len(host.installations) == 1
