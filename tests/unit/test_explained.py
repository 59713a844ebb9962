"""What is said of a step that failed where the server's own state tells why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import builders
from wsusfix.apply.working import NEVER_BEGAN, WINDOW_OVER, Ended, explained
from wsusfix.results import StepStatus


@pytest.mark.parametrize(
    ("system", "told"), [(builders.SERVER_2003, True), (builders.SERVER_2008, False), (builders.SERVER_2012, False)]
)
def test_a_task_that_the_old_scheduler_never_began_may_have_waited_for_power(
    system: builders.Changes, told: bool
) -> None:
    facts = builders.facts(**system)
    hint = explained(NEVER_BEGAN, facts).hint
    assert ("battery" in hint) is told
    assert hint.endswith(NEVER_BEGAN.hint)
    assert explained(WINDOW_OVER, facts) == WINDOW_OVER


def test_a_policy_that_stops_scripts_explains_a_job_that_never_began_and_nothing_else() -> None:
    facts = builders.facts(execution_policy="AllSigned")
    assert explained(NEVER_BEGAN, facts).why.endswith("group policy sets the execution policy AllSigned")
    assert explained(WINDOW_OVER, facts) == WINDOW_OVER


def test_a_full_drive_is_told_with_any_failure_and_not_where_nothing_failed() -> None:
    facts = builders.facts()
    full = replace(facts, staging=replace(facts.staging, system_free=1))
    assert "only 1 bytes are free" in explained(WINDOW_OVER, full).why
    assert explained(WINDOW_OVER, full).hint == f"make room there; {WINDOW_OVER.hint}"
    done = Ended(StepStatus.DONE, "all is well")
    assert explained(done, full) == done
