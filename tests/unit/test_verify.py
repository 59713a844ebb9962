"""The proof: the DLL decides, whatever else was said."""

from __future__ import annotations

import dataclasses
import itertools
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from packaging.version import Version

from tests import builders
from tests.builders import DLL, facts
from tests.log_generator import START
from wsusfix.facts import HostFacts
from wsusfix.logs import FileKind
from wsusfix.logs.machine import not_read
from wsusfix.results import Canary, CanaryState, Check, Verification
from wsusfix.verify import verify

WAITING: dict[str, Any] = {"restart_renames": f"C:\\Windows\\Temp\\new.tmp\n!\\??\\{DLL}"}


def _check(found: Verification, name: str) -> Check:
    (check,) = (check for check in found.checks if name in check.name)
    return check


def _fixed(**changes: Any) -> HostFacts:
    return facts(**{**builders.FIXED, **changes})


# --- the DLL --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "ok"),
    [
        ("3.1.6001.65", False),
        ("3.1.6001.7", False),
        ("3.1.6001.66", True),
        ("3.1.6001.67", True),
        ("3.1.10000.0", True),
        ("", False),
    ],
)
def test_the_version_of_the_dll_decides(version: str, ok: bool) -> None:
    found = verify(facts(dll_version=version))
    assert found.ok is ok
    assert found.found == (Version(version) if version else None)
    assert found.required == Version("3.1.6001.66")
    check = _check(found, "DLL")
    assert check.decides
    assert check.ok is ok
    assert check.required == "3.1.6001.66 or higher"
    assert check.found == (version or "none found")


def test_a_missing_dll_is_no_proof() -> None:
    found = verify(facts(dll_present=False, dll_version=""))
    assert not found.ok
    assert found.verdict == "unknown"
    assert found.found is None


# --- what is no WSUS 3.0 SP1 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        (builders.RTM, "exposed_rtm"),
        ({**builders.RTM, "dll_version": "3.1.6001.66"}, "exposed_rtm"),
        ({"setup_VersionString": "3.3.0.0", "dll_version": "3.1.6001.66"}, "unknown"),
        ({"setup_InstallType": "5", "dll_version": "3.1.6001.66"}, "unknown"),
        ({**builders.SP2, "dll_version": "3.1.6001.66"}, "unknown"),
        ({"setup_VersionString": None, "dll_version": "3.1.6001.66"}, "unknown"),
    ],
)
def test_rtm_and_the_unknown_are_never_verified_whatever_the_dll_says(changes: dict[str, Any], verdict: str) -> None:
    for before in (None, facts(**changes)):
        found = verify(facts(**changes), before)
        assert not found.ok
        assert found.verdict == verdict
        assert not _check(found, "without the fault").ok
        assert not found.restart_pending


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        (builders.ABSENT, "not_a_server"),
        (builders.CONSOLE, "not_a_server"),
        (builders.WSUS_2, "not_affected"),
        (builders.SP2, "not_affected"),
    ],
)
def test_what_never_had_the_fault_is_verified_without_a_dll_and_without_services(
    changes: dict[str, Any], verdict: str
) -> None:
    stopped = {**changes, "service_wsusservice": None, "service_w3svc": "stopped"}
    found = verify(facts(**stopped), facts(**changes))
    assert found.ok
    assert found.verdict == verdict
    assert found.required is None
    assert [check.name for check in found.checks] == ["without the fault"]


# --- the services ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wsusservice", "w3svc"])
@pytest.mark.parametrize("state", ["stopped", "start_pending", "stop_pending", "paused", None])
def test_a_service_that_ran_before_and_does_not_run_now_decides(name: str, state: str | None) -> None:
    found = verify(_fixed(**{f"service_{name}": state}), facts())
    assert not found.ok
    assert found.verdict == "fixed"
    check = _check(found, name)
    assert check.decides
    assert not check.ok
    assert (check.found, check.required) == (state or "absent", "running")
    assert "NOT OK" in str(check)


@pytest.mark.parametrize("name", ["wsusservice", "w3svc"])
@pytest.mark.parametrize("state", ["stopped", "start_pending", None])
def test_a_service_that_did_not_run_before_does_not_decide(name: str, state: str | None) -> None:
    down: dict[str, Any] = {f"service_{name}": state}
    found = verify(_fixed(**down), facts(**down))
    assert found.ok
    check = _check(found, name)
    assert not check.decides
    assert not check.ok
    assert str(check).startswith("note: ")


def test_without_a_look_from_before_no_service_decides() -> None:
    found = verify(_fixed(service_wsusservice="stopped", service_w3svc=None))
    assert found.ok
    assert [check.decides for check in found.checks if "service" in check.name] == [False, False]


def test_a_service_that_runs_now_is_well_whatever_it_was_before() -> None:
    found = verify(_fixed(), facts(service_wsusservice="stopped"))
    assert found.ok
    assert all(check.ok for check in found.checks)


# --- the restart ----------------------------------------------------------------------------------------------------


def test_an_old_dll_that_waits_for_its_replacement_is_a_pending_restart_and_no_proof() -> None:
    found = verify(facts(**WAITING), facts())
    assert found.restart_pending
    assert not found.ok
    assert not _check(found, "restart").ok
    assert "a restart is pending" in str(found)
    assert "NOT VERIFIED" not in str(found)


def test_another_files_rename_is_no_pending_restart_of_ours() -> None:
    found = verify(facts(restart_keys="KEY", restart_renames="!\\??\\C:\\other.dll"))
    assert not found.restart_pending
    assert not found.ok
    assert "NOT VERIFIED" in str(found)


def test_the_fixed_dll_needs_no_restart_whatever_is_pending() -> None:
    found = verify(_fixed(restart_keys="KEY", **WAITING), facts())
    assert found.ok
    assert not found.restart_pending
    assert "verified (fixed)" in str(found)


# --- all of it ------------------------------------------------------------------------------------------------------


def test_a_server_is_verified_exactly_when_all_that_decides_is_well() -> None:
    states: tuple[dict[str, Any], ...] = (
        {},
        {"service_w3svc": "stopped"},
        {"service_wsusservice": None},
        WAITING,
        {"restart_keys": "KEY"},
    )
    products = (builders.SP1, builders.FIXED, builders.RTM, builders.SP2, builders.ABSENT, {"setup_InstallType": "9"})
    for product, now, then in itertools.product(products, states, (None, *states)):
        before = None if then is None else facts(**{**product, **then})
        found = verify(facts(**{**product, **now}), before)
        assert found.ok is all(check.ok for check in found.checks if check.decides)
        assert found.checks
        assert not (found.ok and found.restart_pending)
        if found.ok:
            assert found.verdict in ("fixed", "not_affected", "not_a_server")


def test_a_verification_says_what_it_found_for_people_and_programs() -> None:
    found = builders.verification()
    assert str(found).splitlines() == [
        "wsus01: verified (fixed)",
        f"  ok: without the fault: {found.checks[0].found}",
        "  ok: file version of the proof DLL: 3.1.6001.66",
        "  ok: service wsusservice: running",
        "  ok: service w3svc: running",
    ]
    data = found.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert (data["ok"], data["found"], data["required"]) == (True, "3.1.6001.66", "3.1.6001.66")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.ok = False  # type: ignore[misc]


def test_the_same_facts_always_give_the_same_verification() -> None:
    assert verify(facts(**WAITING), facts()) == verify(facts(**WAITING), facts())


def test_a_server_whose_wsus_is_gone_is_not_verified_though_nothing_has_the_fault() -> None:
    found = verify(facts(**builders.ABSENT), facts(**builders.RTM))
    assert (found.ok, found.verdict) == (False, "not_a_server")
    assert next(check.name for check in found.checks if check.decides and not check.ok) == "WSUS is there"
    # Who never had it misses nothing.
    assert verify(facts(**builders.ABSENT), facts(**builders.ABSENT)).ok


def test_after_an_upgrade_what_ran_before_must_run_again() -> None:
    found = verify(facts(**builders.SP2, service_wsusservice="stopped"), facts(**builders.RTM))
    assert (found.ok, found.verdict) == (False, "not_affected")


def test_a_service_pack_whose_dll_waits_for_a_restart_is_pending_and_not_verified() -> None:
    half = {
        **builders.SP2,
        "dll_version": "3.0.6000.374",
        "restart_renames": f"\\??\\C:\\new.dll\n!\\??\\{builders.DLL}",
    }
    found = verify(facts(**half))
    assert (found.ok, found.restart_pending, found.verdict) == (False, True, "unknown")


# --- what clients and logs say --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(CanaryState))
@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_what_a_client_said_before_the_change_says_nothing_of_the_time_since(state: CanaryState, hours: int) -> None:
    moment = datetime(2008, 7, 9, 12, tzinfo=timezone.utc)
    said = dataclasses.replace(canary(state), asked_at=moment + timedelta(hours=hours), missing=("something",))
    verified = verify(_fixed(), canary=said, since=moment)
    (check,) = (check for check in verified.checks if check.name.startswith("client "))
    late = hours >= 0
    assert check.ok is (late and state is CanaryState.SERVED)
    assert verified.ok is not (late and state is CanaryState.HIT)
    assert ("before the change at 2008-07-09 12:00:00 UTC" in check.found) is not late
    # Without a moment, or a client that was never asked, there is nothing to compare.
    assert verify(_fixed(), canary=said).ok is (state is not CanaryState.HIT)
    # By a clock that is behind, it may seem so of one that was asked with the change in view.
    in_view = verify(_fixed(), canary=dataclasses.replace(said, since=moment), since=moment)
    assert in_view.ok is (state is not CanaryState.HIT)
    other = verify(_fixed(), canary=dataclasses.replace(said, since=moment - timedelta(hours=9)), since=moment)
    assert other.ok is verified.ok
    never = dataclasses.replace(said, asked_at=None)
    assert verify(_fixed(), canary=never, since=moment).ok is (state is not CanaryState.HIT)


def canary(state: CanaryState, server: str = "http://WSUS01.corp.example:8530") -> Canary:
    return Canary("pc01", state, server, office_2003=True, failed_before=True, missing=("it is asleep",))


@pytest.mark.parametrize(
    ("said", "ok", "decides"),
    [
        (canary(CanaryState.SERVED), True, False),
        (canary(CanaryState.HIT), False, True),
        (canary(CanaryState.UNKNOWN), False, False),
        (canary(CanaryState.SERVED, "http://wsus02"), False, False),
        (canary(CanaryState.HIT, "http://wsus02"), False, False),
        (canary(CanaryState.SERVED, ""), False, False),
    ],
)
def test_only_the_symptom_at_a_client_of_this_server_speaks_against_it(said: Canary, ok: bool, decides: bool) -> None:
    fixed = verify(_fixed(), canary=said)
    check = fixed.checks[-1]
    assert (check.name, check.ok, check.decides) == ("client pc01", ok, decides)
    assert fixed.ok is not decides
    assert not verify(facts(), canary=canary(CanaryState.SERVED)).ok


def test_a_log_is_asked_about_a_moment_and_decides_only_against() -> None:
    silent = not_read("wsus01", FileKind.SERVER, "Access is denied.")
    checked = verify(_fixed(), logs=silent, since=START)
    assert (checked.checks[-1].ok, checked.checks[-1].decides, checked.ok) == (False, False, True)
    assert "Access is denied." in checked.checks[-1].found
    assert verify(_fixed(), logs=silent).checks == verify(_fixed()).checks


@pytest.mark.parametrize(
    ("changes", "ok", "worked_around", "words"),
    [
        ({}, True, True, "still in the product"),
        ({"web_service": "TrustFailure"}, False, True, "NOT OK: ClientWebService: TrustFailure"),
        ({"web_service": ""}, False, True, "NOT OK: ClientWebService: not asked"),
        ({"web_service": "500"}, False, True, "NOT OK: ClientWebService: 500"),
        ({"replica": True}, False, True, "NOT OK: replica: yes"),
        ({"automatic": False}, False, True, "NOT OK: synchronises by its timetable: no"),
        ({"marker": ""}, False, None, "no marker"),
        ({"reset_state": "open"}, False, False, "NOT OK: way back of earlier resets: cut off"),
        ({"trouble": "no database"}, False, None, "could not be asked: no database"),
    ],
)
def test_a_reset_is_proved_by_marker_settings_and_services(
    changes: dict[str, Any], ok: bool, worked_around: bool | None, words: str
) -> None:
    proof = verify(builders.asked({**builders.WORKED_AROUND, **changes}))
    assert (proof.ok, proof.worked_around) == (ok, worked_around)
    assert proof.verdict == "exposed_rtm"
    assert words in str(proof)


@pytest.mark.parametrize("service", ["service_wsusservice", "service_w3svc"])
def test_a_reset_is_proved_only_where_the_services_run(service: str) -> None:
    assert not verify(builders.asked(builders.WORKED_AROUND, **{service: "stopped"})).ok


def test_on_service_pack_1_a_reset_stands_in_for_the_dll_for_the_time_being() -> None:
    proof = verify(builders.asked(builders.WORKED_AROUND, **builders.SP1))
    assert proof.ok
    assert proof.verdict == "exposed_sp1"
    assert proof.required == Version("3.1.6001.66")
    assert any(check.name.startswith("file version") and not check.ok for check in proof.checks)


def test_a_server_on_which_an_upgrade_has_left_services_stopped_is_not_verified() -> None:
    for state in (builders.SP2, builders.FIXED):
        found = verify(builders.facts(**state, **builders.upgraded("stopped")))
        assert not found.ok
        (check,) = (check for check in found.checks if not check.ok)
        assert check.found == "not all was started again of wsusservice, w3svc, was"
        assert verify(builders.facts(**state, **builders.upgraded("closed"))).ok
        assert verify(builders.facts(**state, **builders.upgraded("open"))).ok


def test_a_server_that_a_reset_has_left_switched_is_not_verified_whatever_its_product() -> None:
    for state in (builders.SP2, builders.FIXED):
        found = verify(builders.facts(**state, reset_state="open"))
        assert not found.ok
        (check,) = (check for check in found.checks if not check.ok)
        assert (check.name, check.found) == ("way back of earlier resets", "cut off")
        assert verify(builders.facts(**state, reset_state="marked")).ok
    # Where WSUS is gone, nothing is switched any more.
    assert verify(builders.facts(**builders.ABSENT, reset_state="open")).ok


def test_a_restart_that_setup_asked_for_is_pending_whatever_waits() -> None:
    asked = builders.upgraded("closed", restart=True)
    for state in (builders.RTM, builders.SP1, builders.FIXED, builders.SP2):
        waits = verify(builders.facts(**state, **asked, restart_renames="\\??\\C:\\x.new\n!\\??\\C:\\x.dll"))
        assert (waits.restart_pending, waits.ok) == (True, False)
        assert "has asked for a restart" in str(waits)
        over = verify(builders.facts(**state, **asked))
        assert not over.restart_pending
