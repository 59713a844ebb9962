"""Whatever fault strikes wherever on the road, the next run brings the server to its end: once, and never half.

The table itself is in ``fault_table``; it is walked by processes of its own, side by side, while these tests wait for
its cells one after the other.  What takes more than a fault and two runs is tested singly, further down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

import wsusfix
from tests.sampling import WHOLE
from tests.told import WALKED
from tests.wire.fault_table import CELLS, EXIT_CODES, Walkers, document, row
from tests.wire.faulty_road import BEFORE, FIXED, Cell, Walk, Walked, walk
from wsusfix import advisory
from wsusfix.lab import Lab
from wsusfix.lab.faults import Faults
from wsusfix.lab.filesystem import CLOSED, SYSTEM_SID, Security
from wsusfix.scripts.contracts import INSTALL_UPDATE, TASK_NAME

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "faults.md"
FAULTS: Final = list(dict.fromkeys(cell.fault for cell in CELLS))


def in_turn(cell: Cell) -> bool:
    """Whether it is the one cell of its fault: in the first of its phases, or in the middle one, and so on."""
    phases = [each.phase for each in CELLS if each.fault == cell.fault]
    return cell.phase == (phases[0], phases[len(phases) // 2])[FAULTS.index(cell.fault) % 2]


#: All cells where the whole is asked for; else every fault in one of its phases.
ASKED: Final = [number for number, cell in enumerate(CELLS) if WHOLE or in_turn(cell)]
#: Longer than any cell may take, with those before it in the same process.
PATIENCE: Final = 100.0


# --- the table ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walkers(request: pytest.FixtureRequest) -> Iterator[Walkers]:
    """Walk the cells that are asked for, and no others."""
    asked = [item.callspec.params.get("number") for item in request.session.items if hasattr(item, "callspec")]
    walkers = Walkers(sorted({number for number in asked if isinstance(number, int)}))
    complaints = ""
    try:
        yield walkers
    finally:
        complaints = walkers.close()
    assert complaints == ""


def walked_in_time(walked: Walked, walk_again: Callable[[], Walked]) -> tuple[Walked, bool]:
    """Return what came of a cell, and whether it was walked a second time.

    Deadlines of a few seconds strike too early on a machine that is busy otherwise, and then another error is told:
    what is wrong in that way is wrong twice. A server that was changed twice, or half, was so once too often.
    """
    assert walked.violations == ()
    if not walked.problems and row(walked) in DOCUMENT.read_text(encoding="utf-8"):
        return walked, False
    return walk_again(), True


def test_a_cell_is_walked_again_for_time_and_wording_and_for_nothing_else() -> None:
    good = DOCUMENT.read_text(encoding="utf-8").splitlines()[-1].strip("| ").split(" | ")
    well = Walked(good[0], good[1], good[2], good[3])
    late = replace(well, problems=("the last run took 41 s",))
    twice = replace(well, problems=("changed once more", "took 41 s"), violations=("changed once more",))

    def never() -> Walked:
        raise AssertionError("walked again")

    assert walked_in_time(well, never) == (well, False)
    assert walked_in_time(late, lambda: well) == (well, True)
    assert walked_in_time(replace(well, first="something else"), lambda: well) == (well, True)
    with pytest.raises(AssertionError, match="changed once more"):
        walked_in_time(twice, never)


def test_a_dll_that_is_neither_the_old_nor_the_new_one_is_no_matter_of_time() -> None:
    def halve(road: Walk) -> None:
        dll = f"{road.host.machine.program_files}\\{advisory.DEFAULT_TARGET}\\{advisory.CLIENT_DLL}"
        road.faults.at_phase(lambda: road.host.files.replace(dll, b"half", "3.1.6001.7"), phase="installed")

    walked = walk(Cell("the DLL is another", "job: installed", halve))
    assert any("the DLL is 3.1.6001.7" in violation for violation in walked.violations)
    assert set(walked.violations) <= set(walked.problems)


@pytest.mark.parametrize("number", [pytest.param(number, id=CELLS[number].name) for number in ASKED])
def test_whatever_strikes_the_server_ends_fixed_once_or_untouched_and_told(
    number: int, walkers: Walkers, record_property: Callable[[str, object], None]
) -> None:
    walked, again = walked_in_time(walkers.result(number, PATIENCE), lambda: walk(CELLS[number]))
    record_property(WALKED, (walked.fault, walked.phase, walked.first, walked.end, again))
    assert walked.problems == ()
    assert row(walked) in DOCUMENT.read_text(encoding="utf-8"), (
        f"docs/faults.md says otherwise than what was walked: {row(walked)}"
        "write it anew with: python -m tests.wire.fault_table > docs/faults.md"
    )


def test_the_document_has_every_cell_in_the_order_of_the_table_and_no_other() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.startswith(document(()))
    rows = re.findall(r"^\| (.*?) \| (.*?) \|", text, re.MULTILINE)
    assert rows[2:] == [(cell.fault, cell.phase) for cell in CELLS]


def test_every_fault_is_walked_in_every_run() -> None:
    assert {CELLS[number].fault for number in ASKED} == {cell.fault for cell in CELLS}
    assert len(ASKED) >= 60


def test_no_two_cells_are_the_same() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    assert len(CELLS) >= 100


def test_every_documented_exit_code_and_every_phase_of_a_job_is_in_the_table() -> None:
    names = {cell.name for cell in CELLS}
    assert {f"job: installed: exit code {code}" for code in EXIT_CODES} <= names
    windows = {"waiting_for_window", "withdrawn", "window_open"}
    phases = {phase.value for phase in INSTALL_UPDATE.states} - {"abandoned", *windows}
    for fault in ("job's process killed", "server restarts"):
        assert {f"job: {phase}: {fault}" for phase in phases} <= names


# --- what is not told in one line -----------------------------------------------------------------------------------


@pytest.fixture
def road(lab: Lab) -> Walk:
    return Walk(Cell("none", "none", lambda walk: None), lab)


def outcome_of(road: Walk) -> wsusfix.Outcome:
    report = road.run()
    assert isinstance(report, wsusfix.Outcome), repr(report)
    return report


def proof_of(road: Walk) -> wsusfix.Verification:
    with wsusfix.connect(**road.host.connection) as server:
        return server.verify()


def give_up(road: Walk) -> wsusfix.Outcome:
    """Walk the road with a task that does not begin in time."""
    road.faults.task_never_starts()
    road.before("poll_job", lambda: road.faults.clock_jumps(seconds=3600), 2)
    return outcome_of(road)


@pytest.mark.parametrize("code", [3010, 5202])
def test_a_pending_restart_is_no_failure_and_the_restart_brings_the_proof(road: Walk, code: int) -> None:
    road.options = wsusfix.Options(package=road.package(exit_code=code))
    outcome = outcome_of(road)
    assert (outcome.restart_pending, outcome.changed, outcome.failed, outcome.ok) == (True, True, False, False)
    assert (str(outcome.before), str(outcome.after)) == (BEFORE, BEFORE)
    assert not proof_of(road).ok
    again = outcome_of(road)
    assert (again.changed, again.restart_pending) == (False, True)
    assert "restart the server" in str(again)
    road.host.reboot(0.0)
    road.until_reached()
    proof = proof_of(road)
    assert proof.ok
    assert str(proof.found) == FIXED
    assert len(road.host.installations) == 1


def test_an_installer_that_restarts_the_server_is_waited_for(road: Walk) -> None:
    road.options = wsusfix.Options(package=road.package(exit_code=1641))
    booted = road.host.machine.boot_time
    outcome = outcome_of(road)
    assert outcome.ok, str(outcome)
    assert (outcome.changed, outcome.restart_pending) == (True, False)
    assert (str(outcome.before), str(outcome.after)) == (BEFORE, FIXED)
    assert road.host.machine.boot_time > booted


def test_a_job_that_is_given_up_leaves_nothing_that_could_begin_later(road: Walk) -> None:
    outcome = give_up(road)
    assert outcome.failed
    assert "never began" in outcome.message
    assert (road.host.tasks, [path for path in road.host.files if "wsusfix" in path.lower()]) == ((), [])
    road.faults.task_starts_after_all()
    road.until(lambda: not road.host.processes)
    assert (road.host.jobs, road.host.installations, road.host.dll_version) == ((), (), BEFORE)


def test_a_job_that_is_given_up_is_abandoned_even_where_its_files_cannot_be_removed(road: Walk) -> None:
    files = road.host.files

    def hold() -> None:
        road.held = [files.lock(path) for path in files if path.endswith(("job.ps1", "parameters.xml"))]

    road.before("cleanup", hold)
    outcome = give_up(road)
    assert outcome.failed
    (script,) = (path for path in files if path.endswith("job.ps1"))
    assert any(script in note for note in outcome.notes)
    road.faults.task_starts_after_all()
    road.until(lambda: not road.host.processes)
    # It did begin, found its token gone, and wrote down nothing.
    assert [job.phases for job in road.host.jobs] == [()]
    assert (road.host.installations, road.host.dll_version) == ((), BEFORE)


def test_a_job_that_cannot_be_given_up_is_told_of_and_the_next_run_mends(road: Walk) -> None:
    road.before("cleanup", road.faults.disk_full)
    outcome = give_up(road)
    assert outcome.failed
    assert any("could not be given up" in note for note in outcome.notes)
    assert "only 0 bytes are free" in outcome.message
    road.quiet()
    road.faults.clear()
    assert outcome_of(road).ok
    assert len(road.host.installations) == 1


def test_a_job_that_begins_while_it_is_given_up_is_followed_to_its_end(road: Walk) -> None:
    def begins() -> None:
        road.faults.task_starts_after_all()
        road.until(lambda: any("installing" in job.phases for job in road.host.jobs))

    road.before("cleanup", begins)
    road.while_it_installs(lambda: None)
    outcome = give_up(road)
    assert outcome.ok, str(outcome)
    assert outcome.changed
    assert len(road.host.installations) == 1


def test_a_task_that_was_given_up_begins_for_nothing_while_the_next_run_installs(road: Walk) -> None:
    assert give_up(road).failed
    road.quiet()
    road.host.machine.tasks_start = True
    road.while_it_installs(road.faults.task_starts_after_all)
    outcome = outcome_of(road)
    assert outcome.ok, str(outcome)
    assert (len(road.host.jobs), len(road.host.installations)) == (1, 1)


def test_two_operators_at_once_install_once_and_both_hear_of_it(lab: Lab, road: Walk) -> None:
    quicker: list[wsusfix.Outcome] = []

    def other() -> None:
        with wsusfix.connect(**road.host.connection) as server:
            quicker.append(server.apply(server.plan(road.options), consent=True))

    road.before("start_job", other)
    outcome = outcome_of(road)
    assert quicker[0].ok
    assert quicker[0].changed
    assert outcome.ok, str(outcome)
    assert not outcome.changed
    assert "somebody else" in str(outcome)
    assert len(road.host.installations) == 1
    assert (road.host.tasks, [path for path in road.host.files if "wsusfix" in path.lower()]) == ((), [])


@pytest.mark.parametrize("code", [0, 1603])
def test_a_job_that_somebody_else_has_cleared_away_is_judged_by_what_the_server_is_like(road: Walk, code: int) -> None:
    road.options = wsusfix.Options(package=road.package(exit_code=code))
    # Nobody has seen the job's end before the other is done with it.
    road.faults.installer_hangs()

    def other() -> None:
        road.goes_on()
        with wsusfix.connect(**road.host.connection) as server:
            assert server.apply(server.plan(road.options), consent=True).ok is (code == 0)
            assert server.cleanup().clean

    road.when_told("installing", other)
    outcome = outcome_of(road)
    assert (outcome.ok, outcome.changed) == (code == 0, code == 0)
    (step,) = outcome.steps
    assert "cleared" in step.why
    assert (step.status is wsusfix.StepStatus.FAILED, step.phase != "", step.hint != "") == (code != 0,) * 3
    assert road.host.dll_version == (FIXED if code == 0 else BEFORE)
    assert [run.exit_code for run in road.host.installations].count(0) == (code == 0)


def test_a_job_that_ended_after_the_plan_named_it_is_reported_and_not_taken_for_a_change(road: Walk) -> None:
    road.faults.installer_hangs()
    road.when_told("installing", lambda: road.hurry(0.1))
    road.when_told("installing", lambda: road.faults.unavailable(seconds=3600))
    # The answer may take longer than that, too.
    assert isinstance(road.run(), wsusfix.NotReachedError | wsusfix.DeadlineError)
    # The endpoint's faults only: the installer must not go on for a moment in between.
    Faults.clear(road.faults)
    road.quiet()

    def ends() -> None:
        road.goes_on()
        road.until(lambda: bool(road.host.jobs[0].ended))

    road.before("facts", ends, 2)
    outcome = outcome_of(road)
    assert outcome.ok, str(outcome)
    assert outcome.changed
    (evidence,) = outcome.evidence
    assert evidence.exit_code == 0
    assert len(road.host.installations) == 1


def test_a_good_exit_code_with_the_old_dll_is_a_failure(road: Walk) -> None:
    dll = f"{road.host.machine.program_files}\\{advisory.DEFAULT_TARGET}\\{advisory.CLIENT_DLL}"
    road.faults.at_phase(lambda: road.host.files.replace(dll, b"old", BEFORE), phase="installed")
    outcome = outcome_of(road)
    assert outcome.failed
    assert not outcome.changed
    assert f"exit code 0: installed, but the DLL is {BEFORE}" in outcome.message


def test_a_bad_exit_code_with_the_fixed_dll_is_a_success(road: Walk) -> None:
    dll = f"{road.host.machine.program_files}\\{advisory.DEFAULT_TARGET}\\{advisory.CLIENT_DLL}"
    road.options = wsusfix.Options(package=road.package(exit_code=1603))
    road.faults.at_phase(lambda: road.host.files.replace(dll, b"new", FIXED), phase="installed")
    outcome = outcome_of(road)
    assert outcome.ok, str(outcome)
    assert outcome.changed
    assert "1603" in str(outcome)


def test_logs_that_cannot_be_read_do_not_cost_the_outcome_and_are_brought_by_the_next_run(road: Walk) -> None:
    folders: list[str] = []

    def lock_out() -> None:
        folders.append(f"{road.host.staging_path}\\jobs\\{road.host.jobs[0].id}\\temp")
        nobody = frozenset({SYSTEM_SID})
        road.host.files.protect(folders[0], Security(SYSTEM_SID, nobody, nobody))

    road.before("collect_job", lock_out)
    road.before("facts", lambda: road.host.files.protect(folders[0], CLOSED), 3)
    outcome = outcome_of(road)
    assert outcome.ok, str(outcome)
    assert "logs could not be read" in str(outcome)
    (evidence,) = outcome.evidence
    assert (evidence.exit_code, evidence.logs) == (0, ())
    again = outcome_of(road)
    assert again.ok
    assert not again.changed
    (evidence,) = again.evidence
    assert evidence.logs
    assert not [path for path in road.host.files if "wsusfix" in path.lower()]


def test_the_task_of_a_failed_run_is_told_of(road: Walk) -> None:
    road.options = wsusfix.Options(package=road.package(exit_code=1603))
    outcome = outcome_of(road)
    assert [task.name for task in road.host.tasks] == [TASK_NAME]
    assert any("server.cleanup()" in note for note in outcome.notes)
    with wsusfix.connect(**road.host.connection) as server:
        assert server.cleanup().clean
    assert road.host.tasks == ()
