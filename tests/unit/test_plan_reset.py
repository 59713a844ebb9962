"""The plan of a reset of approvals: every state of a server and of its WSUS, with every choice of the operator."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests import builders
from tests.builders import LOCAL, MARKER, NEAR, NEAR_ID, SAVED, TREATED, UPDATE, UPDATE_ID, WORKED_AROUND
from tests.unit.test_plan import OBSTACLES
from wsusfix.diagnosis import Verdict, diagnose
from wsusfix.options import Options
from wsusfix.plan import InstallUpdate, Plan, ResetApprovals, RestoreSettings, StartServices, plan

OPEN: Final[dict[str, Any]] = {"reset_state": "open", "saved": SAVED}
OTHER_ID: Final = "9dcb0f0a-0000-4000-8000-0000000000ff"


@dataclass(frozen=True)
class Told:
    """What WSUS told, and what of it stands in the way, whatever is named by its id or only as long as nothing is."""

    name: str
    told: dict[str, Any] = field(default_factory=dict)
    stands: frozenset[str] = frozenset()
    done: bool = False
    by_title: str = ""


def _told(name: str, *stands: str, done: bool = False, by_title: str = "", **told: Any) -> Told:
    return Told(name, told, frozenset(stands), done, by_title)


#: ``by_title`` is what stands in the way only as long as no id is given.
TOLD: Final = [
    _told("untreated"),
    _told("replica", replica=True, upstream="wsus-top"),
    _told("replica of nobody", "no upstream", replica=True),
    _told("synchronising", state="SynchronizationInProgress"),
    _told("declined and unmarked", updates=TREATED),
    _told("two", updates=f"{UPDATE}\n{UPDATE.replace(UPDATE_ID, OTHER_ID)}"),
    _told("near titles only", updates=NEAR, by_title="near titles only"),
    _told("candidates only", updates=f"{NEAR}\n{LOCAL}", by_title="candidates only"),
    _told("nothing", updates="", by_title="no update"),
    _told("cut", by_title="too many", cut=True),
    _told("reporter", "role", role="Reporter"),
    _told("no answer", "no answer", trouble="no database", updates="", role=""),
    _told("kept by somebody", "kept folder", reset_state="refused"),
    _told("another front end", front_ends="AAA\nWSUS01", by_title="another front end"),
    _told("first front end", front_ends="WSUS01\nWSUS02"),
    _told("worked around", done=True, **WORKED_AROUND),
    _told("worked around, with another", done=True, **{**WORKED_AROUND, "updates": f"{NEAR}\n{TREATED}"}),
    _told("begun later and broken off", **{**WORKED_AROUND, "reset_state": "none"}),
    _told("newer revision", updates=TREATED.replace("102,101", "103,102,101"), reset_state="marked", marker=MARKER),
    _told("approved again", updates=UPDATE, reset_state="marked", marker=MARKER),
    _told("settings changed", replica=True, upstream="x", **WORKED_AROUND),
    _told("cut off", **OPEN),
    _told("cut off, marked", **{**WORKED_AROUND, **OPEN}),
]
SESSIONS: Final[list[tuple[dict[str, Any], frozenset[str]]]] = [
    ({}, frozenset()),
    ({"administrator": False}, frozenset({"rights"})),
    ({"execution_policy": "AllSigned"}, frozenset({"policy"})),
    (
        {"job_id": "0123456789ab", "job_kind": "install_update", "job_status": "running"},
        frozenset({"another kind of job"}),
    ),
    ({"job_id": "0123456789ab", "job_kind": "reset_approvals", "job_status": "running"}, frozenset()),
    ({"system_free": "1000"}, frozenset({"system space"})),
    ({"setup_SqlServerName": "SQL01"}, frozenset({"database elsewhere"})),
    ({"setup_SqlServerName": "."}, frozenset()),
]
IDS: Final[list[tuple[str, ...] | None]] = [None, (UPDATE_ID,), (NEAR_ID,), ("00000000-0000-0000-0000-000000000000",)]
PRODUCTS: Final = [("RTM", builders.RTM, False), ("SP1", builders.SP1, True)]


#: With these no job is started, whatever it is for.
_NO_JOB: Final = {"rights", "policy", "another kind of job"}


def _name_of(reason: str) -> str:
    return next(name for name, words in OBSTACLES.items() if re.search(words, reason))


def _named(made: Plan) -> set[str]:
    return {_name_of(reason.reason) for reason in made.blocked}


def _expected(told: Told, stands: frozenset[str], ids: tuple[str, ...] | None) -> set[str]:
    wrong = set(stands | told.stands)
    if "no answer" in told.stands:
        return wrong
    if ids is None:
        return wrong | ({told.by_title} - {""})
    there = told.told.get("updates", f"{NEAR}\n{UPDATE}")
    return wrong | ({"unknown id"} if any(update_id not in there for update_id in ids) else set())


def _every() -> Iterator[tuple[Any, ...]]:
    return itertools.product(PRODUCTS, TOLD, SESSIONS, IDS)


def test_every_state_of_wsus_on_every_server_with_every_choice() -> None:
    count = with_steps = restored = 0
    for (product, changes, workaround), told, (session, stands), ids in _every():
        options = Options(workaround=workaround, update_ids=ids)
        found = diagnose(builders.asked(told.told, **{**changes, **session}))
        made = plan(found, None, options)
        case = f"{product}, {told.name}, {session}, {ids}"
        assert [bool(made.steps), bool(made.blocked), bool(made.nothing)].count(True) == 1, case
        count += 1
        # While a reset is at work, nothing is proved, and what is switched it puts back itself.
        running = session.get("job_kind") == "reset_approvals"
        opened = told.told.get("reset_state") == "open"
        proved = told.done or told.name == "settings changed"
        assert (found.worked_around is True) is (proved and not running), case
        if told.done and not running and set(ids or ()) <= {UPDATE_ID}:
            # What the operator names beside it has not been reset.
            assert made.nothing, case
            continue
        expected = _expected(told, stands, ids)
        if opened and not running and expected and not expected & _NO_JOB:
            # What is in the way of the reset is not in the way of its way back.
            restored += 1
            assert [type(step) for step in made.steps] == [RestoreSettings], case
            assert (made.blocked, made.irreversible, bool(made.proof)) == ((), False, True), case
            assert {_name_of(reason.reason) for reason in made.afterwards} == expected, case
            warned = [warning for warning in made.warnings if warning.startswith("afterwards blocked: ")]
            assert warned == [f"afterwards blocked: {reason}" for reason in made.afterwards], case
            continue
        assert made.afterwards == (), case
        assert _named(made) == expected, case
        assert len(made.blocked) == len(expected), case
        if made.blocked:
            assert all(reason.unblock for reason in made.blocked)
            continue
        with_steps += 1
        (step,) = made.steps
        assert isinstance(step, ResetApprovals), case
        assert step.updates, case
        assert {update.id for update in step.updates} <= {UPDATE_ID, OTHER_ID, *(ids or ())}, case
        assert made.irreversible, case
        assert "CANNOT BE UNDONE in part" in str(made), case
        assert all(update.id in str(made) for update in step.updates), case
        assert step.restore_first is (opened and not running), case
        assert ("is put back from its record" in str(made)) is step.restore_first, case
        assert step.replica is (told.told.get("replica", False) or opened), case
        assert ("autonomous for the time of it" in str(made)) is step.replica, case
        assert "marker" in made.proof, case
    assert count == 2 * len(TOLD) * len(SESSIONS) * len(IDS)
    assert with_steps == 230
    assert restored == 44


@pytest.mark.parametrize(
    ("options", "given", "kind"),
    [
        (Options(), False, None),
        (Options(workaround=True), False, ResetApprovals),
        (Options(workaround=True), True, InstallUpdate),
        (Options(), True, InstallUpdate),
    ],
)
def test_on_service_pack_1_the_update_is_the_way_out_and_the_workaround_a_stop_gap(
    options: Options, given: bool, kind: type | None
) -> None:
    made = plan(diagnose(builders.asked(**builders.SP1)), builders.package() if given else None, options)
    assert [type(step) for step in made.steps] == ([kind] if kind else [])
    assert made.diagnosis.verdict is Verdict.EXPOSED_SP1
    assert any("for the time being" in warning for warning in made.warnings) is (kind is ResetApprovals)


def test_what_an_earlier_reset_has_treated_is_treated_along_lest_its_proof_be_lost() -> None:
    other = f"{OTHER_ID} 9,8 true 0 842532 Office 2003 oppdateringspakke 1"
    marker = MARKER.replace("end\n", f"update2={OTHER_ID} 9\nend\n")

    def treated(told: dict[str, Any], ids: list[str] | None = None) -> set[str]:
        made = plan(diagnose(builders.asked({**WORKED_AROUND, **told})), None, Options(update_ids=ids))
        assert any("does not name all" in warning for warning in made.warnings) is bool(made.steps)
        return {update.id for step in made.steps if isinstance(step, ResetApprovals) for update in step.updates}

    both = f"{TREATED}\n{other}"
    assert treated({"updates": both, "marker": marker}) == set()
    # A newer revision of what an operator has confirmed once.
    assert treated({"updates": both.replace(" 9,8", " 10,9,8"), "marker": marker}) == {UPDATE_ID, OTHER_ID}
    # Another is named: the first one stays proved, and what somebody has approved again is left alone.
    assert treated({"updates": both}, [OTHER_ID]) == {UPDATE_ID, OTHER_ID}
    assert treated({"updates": f"{UPDATE}\n{other}"}, [OTHER_ID]) == {OTHER_ID}


def test_a_backup_waits_until_what_was_left_switched_is_put_back() -> None:
    found = diagnose(builders.asked(OPEN))
    made = plan(found, None, Options(backup=True), surroundings=builders.around(found.facts))
    assert [step.name for step in made.steps] == ["RestoreSettings", "BackUpDatabase", "ResetApprovals"]
    last = made.steps[-1]
    assert isinstance(last, ResetApprovals)
    assert (last.replica, last.automatic, last.restore_first) == (True, True, False)


def test_a_job_that_tries_to_put_back_what_was_switched_is_told_as_such_where_it_is_in_the_way() -> None:
    job = {"job_id": "0123456789ab", "job_kind": "reset_approvals", "job_status": "running"}
    for phase, words in (("restoring", "tries for a day: see that WSUS runs"), ("saved", "let it end")):
        made = plan(diagnose(builders.facts(**{**builders.SP1, **job, "job_phase": phase})), None, Options())
        (block,) = (reason for reason in made.blocked if "another kind" in reason.reason)
        assert words in block.unblock


def test_a_package_is_of_no_use_without_a_service_pack_and_the_plan_says_so() -> None:
    made = plan(diagnose(builders.asked()), builders.package(), Options())
    assert [step.name for step in made.steps] == ["ResetApprovals"]
    assert any("does not install" in warning for warning in made.warnings)


@pytest.mark.parametrize("changes", [builders.FIXED, builders.SP2, builders.SP1])
def test_what_a_run_left_switched_is_put_back_whatever_else_is_done(changes: dict[str, Any]) -> None:
    exposed = changes is builders.SP1
    found = diagnose(builders.facts(**{**changes, "reset_state": "open"}))
    made = plan(found, builders.package() if exposed else None, Options())
    assert [type(step) for step in made.steps] == ([RestoreSettings, InstallUpdate] if exposed else [RestoreSettings])
    assert made.irreversible is exposed
    assert made.proof
    assert any("cut off" in note for note in found.notes)
    blocked = plan(
        diagnose(builders.facts(**{**changes, "reset_state": "open", "administrator": False})), None, Options()
    )
    assert "rights" in _named(blocked)
    assert not blocked.steps
    stopped = plan(
        diagnose(builders.facts(**{**changes, "reset_state": "open", "service_wsusservice": "stopped"})),
        builders.package() if exposed else None,
        Options(),
    )
    assert isinstance(stopped.steps[0], RestoreSettings)
    assert any("wsusservice is stopped: start it" in warning for warning in stopped.warnings)
    assert not any("start it" in warning for warning in made.warnings)


@pytest.mark.parametrize("changes", [builders.SP1, {"setup_VersionString": "3.7"}, {"setup_VersionString": None}])
def test_a_road_that_is_blocked_keeps_nothing_from_being_put_back(changes: dict[str, Any]) -> None:
    found = diagnose(builders.facts(**{**changes, "reset_state": "open"}))
    other = plan(diagnose(builders.facts(**changes)), None, Options())
    made = plan(found, None, Options())
    assert other.blocked
    assert [type(step) for step in made.steps] == [RestoreSettings]
    assert (made.blocked, made.nothing, made.irreversible) == ((), "", False)
    assert made.afterwards == other.blocked
    assert all(f"afterwards blocked: {reason}" in made.warnings for reason in other.blocked)


def test_where_no_wsus_is_left_there_is_nothing_to_put_back() -> None:
    made = plan(diagnose(builders.facts(**{**builders.ABSENT, "reset_state": "open"})), None, Options())
    assert made.nothing


def test_services_that_an_upgrade_had_stopped_start_before_anything_is_put_back() -> None:
    stopped = {**builders.upgraded("stopped"), "service_wsusservice": "stopped", "reset_state": "open"}
    made = plan(diagnose(builders.facts(**{**builders.RTM, **stopped})), None, Options(rtm="upgrade"))
    assert [type(step) for step in made.steps] == [StartServices, RestoreSettings]
    assert not any("start it" in warning for warning in made.warnings)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"state": "SynchronizationInProgress"}, "SynchronizationInProgress"),
        ({"replica": True, "upstream": "wsus-top"}, "is wsus-top done"),
        ({"front_ends": "WSUS01\nWSUS02"}, "WSUS01, WSUS02"),
        (OPEN, "put back first"),
    ],
)
def test_what_an_operator_should_know_is_warned_of(told: dict[str, Any], words: str) -> None:
    made = plan(diagnose(builders.asked(told)), None, Options())
    assert any(words in warning for warning in made.warnings)
    assert any(words not in warning for warning in plan(diagnose(builders.asked()), None, Options()).warnings)


@pytest.mark.parametrize(
    ("ids", "left_out"), [(None, False), ([UPDATE_ID], False), ([NEAR_ID], True), ([NEAR_ID, UPDATE_ID], False)]
)
def test_ids_that_leave_out_what_the_title_names_are_warned_of(ids: list[str] | None, left_out: bool) -> None:
    made = plan(diagnose(builders.asked()), None, Options(update_ids=ids))
    warned = [warning for warning in made.warnings if "leaves out what the title names" in warning]
    assert [UPDATE_ID in warning for warning in warned] == [True] * left_out


@pytest.mark.parametrize(
    "told",
    [
        {"updates": UPDATE.replace("102,101", "103,102,101")},
        {"updates": NEAR},
        {"replica": True},
        OPEN,
    ],
)
def test_another_revision_role_or_state_is_another_basis(told: dict[str, Any]) -> None:
    first = plan(diagnose(builders.asked()), None, Options())
    second = plan(diagnose(builders.asked(told)), None, Options(update_ids=[UPDATE_ID]))
    assert first.basis.changes(second.basis)


def test_a_synchronisation_changes_no_basis() -> None:
    first = plan(diagnose(builders.asked()), None, Options())
    second = plan(diagnose(builders.asked({"state": "ProcessingSave"})), None, Options())
    assert first.basis == second.basis
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("told", "worked_around", "words"),
    [
        ({}, None, "no marker"),
        ({"updates": TREATED}, None, "no marker"),
        ({"front_ends": "WSUS01\nWSUS02"}, None, "on the front end that it was made from"),
        (WORKED_AROUND, True, "still in the product"),
        ({**WORKED_AROUND, "updates": TREATED.replace("102", "103")}, None, "revision 103"),
        ({**WORKED_AROUND, "updates": NEAR}, None, "not there any more"),
        ({**WORKED_AROUND, "updates": TREATED.replace("true 0", "true 1")}, False, "approved again"),
        ({**WORKED_AROUND, "updates": TREATED.replace("true 0", "false 0")}, False, "approved again"),
        ({**WORKED_AROUND, "updates": f"{TREATED}\n{UPDATE.replace(UPDATE_ID, OTHER_ID)}"}, None, "not been reset"),
        ({**WORKED_AROUND, "marker": MARKER.replace("end\n", "")}, None, "no marker"),
        ({**WORKED_AROUND, "marker": MARKER.replace(" 102", " newest")}, None, "no marker"),
        ({**WORKED_AROUND, "trouble": "no database"}, None, "could not be asked"),
        ({**WORKED_AROUND, "cut": True}, None, "more updates than can be looked at"),
        ({**WORKED_AROUND, "reset_state": "open"}, False, "cut off"),
        ({**WORKED_AROUND, "reset_state": "refused"}, None, "no marker"),
        ({**WORKED_AROUND, "reset_state": "none"}, None, "begun later did not come to its end"),
    ],
)
def test_only_a_marker_for_the_revisions_of_today_proves_a_reset(
    told: dict[str, Any], worked_around: bool | None, words: str
) -> None:
    found = diagnose(builders.asked(told))
    assert found.worked_around is worked_around
    assert words in found.workaround
    assert found.verdict is Verdict.EXPOSED_RTM
    assert found.exposed is True
    assert found.workaround in str(found)
