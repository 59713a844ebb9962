"""Every case of every script's contract, run in PowerShell and held to the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.pwsh.cases import CASES, Case, Stage
from tests.pwsh.shell import Failed, Shell
from wsusfix.lab import Lab
from wsusfix.scripts.contracts import CONTRACTS, JOBS, JobReason, JobStatus, Refusal, StagingState

#: The key that tells how a case ended.
ENDS = {"facts": "staging_state", "poll_job": "status", **dict.fromkeys(JOBS, "reason")}


@pytest.fixture
def stage(shell: Shell) -> Any:
    with Lab() as lab:
        yield Stage(lab, shell)


@pytest.mark.parametrize("each", CASES, ids=str)
def test_a_case_of_a_contract_ends_in_powershell_as_it_is_written(
    each: Case, stage: Stage, covers: Callable[[str, str, str], None]
) -> None:
    if each.fails:
        with pytest.raises(Failed) as failed:
            each.act(stage)
        assert each.ends in str(failed.value)
        covers(each.script, each.name, f"error: {each.ends}")
        return
    answer = each.act(stage)
    key = ENDS.get(each.script, "refused")
    # Facts are told whatever the staging folder is like; only some cases are about it.
    if each.ends or key == "refused":
        assert answer.get(key, "") == each.ends
    covers(each.script, each.name, each.ends or "answered")


def test_every_refusal_status_reason_and_state_of_the_contracts_has_its_case() -> None:
    ends = {name: {each.ends for each in CASES if each.script == name and not each.fails} for name in CONTRACTS}
    for name, contract in CONTRACTS.items():
        if contract.refusals:
            assert {Refusal(end) for end in ends[name]} - {Refusal.NONE} == contract.refusals, name
            assert "" in ends[name], name
    assert {JobStatus(end) for end in ends["poll_job"]} == set(JobStatus)
    for kind, contract in JOBS.items():
        assert {JobReason(end) for end in ends[kind] - {""}} == contract.reasons, kind
    assert {StagingState(end) for end in ends["facts"] - {""}} == set(StagingState)


def test_the_names_of_cases_are_different() -> None:
    assert len({str(each) for each in CASES}) == len(CASES)
