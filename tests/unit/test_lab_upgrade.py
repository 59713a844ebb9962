"""The lab's own answers for the scripts of an upgrade, case by case, as PowerShell is held to them in its own tier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import pytest

from tests.pwsh.cases import CASES, Case, Stage, install, upgrade
from tests.pwsh.shell import Result, Shell
from wsusfix.lab import Host, Lab
from wsusfix.lab.behaviours import BEHAVIOURS, JOBS
from wsusfix.lab.scheduler import SYSTEM
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import CONTRACTS

#: Cases of the job that installs the update which came with the maintenance window, and all of the upgrade's.
MINE = [each for each in CASES if each.act.__module__ == upgrade.__name__]
WINDOW = [each for each in CASES if each.act.__module__ == install.__name__ and "window" in each.name]


class InPython:
    """Takes the place of the engine: the behaviours answer, and do the work of jobs."""

    def ask(
        self, windows: SimulatedWindows, name: str, parameters: Mapping[str, Any], chunks: Iterable[bytes] = ()
    ) -> dict[str, Any]:
        CONTRACTS[name].check_parameters(parameters)
        return dict(CONTRACTS[name].read({"script": name, **BEHAVIOURS[name](windows, parameters, iter(chunks))}))

    def work(
        self, host: Host, script: str, windows: SimulatedWindows | None = None, kind: str = "install_update"
    ) -> Result:
        process = host.machine.processes.start("powershell.exe", f"powershell.exe -File {script}", SYSTEM)
        windows = windows or SimulatedWindows(host.machine, process)
        windows.process = process
        try:
            JOBS[kind](windows, script.rpartition("\\")[0])
        finally:
            host.machine.processes.end(process, 0)
        return Result(state="Completed")


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        yield Stage(lab, cast(Shell, InPython()))


@pytest.mark.parametrize("each", [*MINE, *WINDOW], ids=str)
def test_a_case_of_a_contract_ends_in_the_lab_as_it_is_written(each: Case, stage: Stage) -> None:
    answer = each.act(stage)
    if each.ends:
        assert answer["reason"] == each.ends
