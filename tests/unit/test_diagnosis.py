"""Every row of the advisory's table, and that nothing is ever called safe on a guess."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import builders
from tests.builders import DLL, diagnosis, facts
from wsusfix.diagnosis import Evidence, Observed, Verdict, diagnose
from wsusfix.facts import HostFacts

SAFE = {Verdict.NOT_A_SERVER, Verdict.NOT_AFFECTED, Verdict.FIXED}
EXPOSED = {Verdict.EXPOSED_RTM, Verdict.EXPOSED_SP1}

#: What stands on the server, the verdict, and a word of the reason.
ROWS: dict[str, tuple[dict[str, Any], Verdict, str]] = {
    "no WSUS": (builders.ABSENT, Verdict.NOT_A_SERVER, "not installed"),
    "no Setup key, but the service": (
        {**builders.ABSENT, "service_wsusservice": "stopped"},
        Verdict.UNKNOWN,
        "without its Setup key",
    ),
    "console only": (builders.CONSOLE, Verdict.NOT_A_SERVER, "console"),
    "console only of RTM": (
        {**builders.CONSOLE, "setup_VersionString": "3.0.6000.374"},
        Verdict.NOT_A_SERVER,
        "console",
    ),
    "console only of nobody knows what": (
        {**builders.CONSOLE, "setup_VersionString": None},
        Verdict.NOT_A_SERVER,
        "console",
    ),
    "2.0 front end": ({**builders.WSUS_2, "setup_InstallType": "32"}, Verdict.NOT_AFFECTED, "2.0"),
    "2.0 back end": ({**builders.WSUS_2, "setup_InstallType": "64"}, Verdict.NOT_AFFECTED, "2.0"),
    "2.0 full": (builders.WSUS_2, Verdict.NOT_AFFECTED, "2.0"),
    "2.0 RTM": ({**builders.WSUS_2, "setup_VersionString": "2.0.0.2472"}, Verdict.NOT_AFFECTED, "2.0"),
    "2.0 without VersionString": ({**builders.WSUS_2, "setup_VersionString": None}, Verdict.NOT_AFFECTED, "2.0"),
    "2.0 by its MSI product alone": ({**builders.ABSENT, "wsus2_product": True}, Verdict.NOT_AFFECTED, "2.0"),
    "2.0 by InstallType, 3.1 by VersionString": (
        {**builders.WSUS_2, "setup_VersionString": "3.1.6001.65"},
        Verdict.UNKNOWN,
        "contradict",
    ),
    "2.0 by InstallType, a VersionString nobody can read": (
        {**builders.WSUS_2, "setup_VersionString": "3.1"},
        Verdict.UNKNOWN,
        "3.1",
    ),
    "2.0 by InstallType, an unknown VersionString": (
        {**builders.WSUS_2, "setup_VersionString": "4.0.0.0"},
        Verdict.UNKNOWN,
        "4.0.0.0",
    ),
    "3.0 by InstallType, 2.0 by VersionString": (
        {"setup_VersionString": "2.0.0.2620"},
        Verdict.UNKNOWN,
        "contradict",
    ),
    "RTM": (builders.RTM, Verdict.EXPOSED_RTM, "without a service pack"),
    "RTM with the DLL of SP1 fixed": (
        {**builders.RTM, "dll_version": "3.1.6001.66"},
        Verdict.EXPOSED_RTM,
        "does not fix",
    ),
    "RTM without DLL": ({**builders.RTM, "dll_present": False, "dll_version": ""}, Verdict.EXPOSED_RTM, ""),
    "SP1 .65": (builders.SP1, Verdict.EXPOSED_SP1, "3.1.6001.65"),
    "SP1 .66": (builders.FIXED, Verdict.FIXED, "3.1.6001.66"),
    "SP1 .7, which is less than .66": ({"dll_version": "3.1.6001.7"}, Verdict.EXPOSED_SP1, "3.1.6001.7,"),
    "SP1 .9, which is less than .66": ({"dll_version": "3.1.6001.9"}, Verdict.EXPOSED_SP1, "3.1.6001.9"),
    "SP1 .100, which is more than .66": ({"dll_version": "3.1.6001.100"}, Verdict.FIXED, "3.1.6001.100"),
    "SP1 with 3.1.10000.0": ({"dll_version": "3.1.10000.0"}, Verdict.FIXED, "3.1.10000.0"),
    "SP1 with a later DLL": ({"dll_version": "3.1.6001.70"}, Verdict.FIXED, "3.1.6001.70"),
    "SP1 with an older DLL": ({"dll_version": "3.0.6000.374"}, Verdict.EXPOSED_SP1, "3.0.6000.374"),
    "SP1 of a VersionString that later patches left behind": (
        {"setup_VersionString": "3.1.6001.1", "dll_version": "3.1.6001.66"},
        Verdict.FIXED,
        "",
    ),
    "SP1 whose VersionString alone says .66": ({"setup_VersionString": "3.1.6001.66"}, Verdict.EXPOSED_SP1, ".65"),
    "SP1 without DLL": ({"dll_present": False, "dll_version": ""}, Verdict.UNKNOWN, "not where it should be"),
    "SP1 whose DLL has no version": ({"dll_version": ""}, Verdict.UNKNOWN, "no file version"),
    "SP1 whose DLL has a version nobody can read": ({"dll_version": "3.1.6001"}, Verdict.UNKNOWN, "no file version"),
    "SP2": (builders.SP2, Verdict.NOT_AFFECTED, "SP2"),
    "SP2 patched": (
        {"setup_VersionString": "3.2.7600.226", "dll_version": "3.1.7600.274"},
        Verdict.NOT_AFFECTED,
        "SP2",
    ),
    "SP2 with the first of its DLLs": ({**builders.SP2, "dll_version": "3.1.7600.0"}, Verdict.NOT_AFFECTED, "SP2"),
    "SP2 with an old DLL": ({**builders.SP2, "dll_version": "3.1.6001.65"}, Verdict.UNKNOWN, "older"),
    "SP2 with SP1's fixed DLL": ({**builders.SP2, "dll_version": "3.1.6001.66"}, Verdict.UNKNOWN, "older"),
    "2012 on its own system": (
        {**builders.SERVER_2012, "setup_VersionString": "6.2.9200.16384"},
        Verdict.NOT_AFFECTED,
        "2012",
    ),
    "2016 on its own system": (
        {**builders.SERVER_2016, "setup_VersionString": "10.0.14393.0"},
        Verdict.NOT_AFFECTED,
        "2012",
    ),
    "2012 on Server 2008": ({"setup_VersionString": "6.2.9200.16384"}, Verdict.UNKNOWN, "Windows Server 2008"),
    "2016 on Server 2008 R2": (
        {**builders.SERVER_2008_R2, "setup_VersionString": "10.0.14393.0"},
        Verdict.UNKNOWN,
        "Windows Server 2008 R2",
    ),
    "4.0 on a system of today": (
        {**builders.SERVER_2016, "setup_VersionString": "4.0.0.0"},
        Verdict.UNKNOWN,
        "4.0.0.0",
    ),
    "3.3 on a system of today": (
        {**builders.SERVER_2016, "setup_VersionString": "3.3.0.0"},
        Verdict.UNKNOWN,
        "3.3.0.0",
    ),
    "11.0 on a system of today": (
        {**builders.SERVER_2016, "setup_VersionString": "11.0.0.0"},
        Verdict.UNKNOWN,
        "11.0.0.0",
    ),
    "unknown InstallType": ({"setup_InstallType": "256"}, Verdict.UNKNOWN, "256"),
    "unknown InstallType with the fixed DLL": (
        {"setup_InstallType": "3", "dll_version": "3.1.6001.66"},
        Verdict.UNKNOWN,
        "InstallType",
    ),
    "no InstallType": ({"setup_InstallType": None}, Verdict.UNKNOWN, "absent"),
    "VersionString 3.3": ({"setup_VersionString": "3.3.0.0"}, Verdict.UNKNOWN, "3.3.0.0"),
    "VersionString 3.10": ({"setup_VersionString": "3.10.0.0"}, Verdict.UNKNOWN, "3.10.0.0"),
    "VersionString 4.0": ({"setup_VersionString": "4.0.0.0"}, Verdict.UNKNOWN, "4.0.0.0"),
    "VersionString 1.0": ({"setup_VersionString": "1.0.0.0"}, Verdict.UNKNOWN, "1.0.0.0"),
    "VersionString malformed": ({"setup_VersionString": "3.1", "dll_version": "3.1.6001.66"}, Verdict.UNKNOWN, "3.1"),
    "VersionString in words": ({"setup_VersionString": "SP2"}, Verdict.UNKNOWN, "SP2"),
    "no VersionString": ({"setup_VersionString": None}, Verdict.UNKNOWN, "no VersionString"),
    "SBS 2003 with 2.0": (
        {**builders.SERVER_2003, **builders.WSUS_2, "os_suites": "Small Business(Restricted)", "architecture": "x86"},
        Verdict.NOT_AFFECTED,
        "2.0",
    ),
    "SBS 2003 with 3.0 RTM": (
        {**builders.SERVER_2003, **builders.RTM, "os_suites": "Small Business", "architecture": "x86"},
        Verdict.EXPOSED_RTM,
        "",
    ),
    "SBS 2003 with 3.0 SP1": (
        {**builders.SERVER_2003, "os_suites": "Small Business", "architecture": "x86"},
        Verdict.EXPOSED_SP1,
        "",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_table_has_its_verdict_and_its_reason(row: str) -> None:
    changes, verdict, word = ROWS[row]
    found = diagnosis(**changes)
    assert found.verdict is verdict
    assert word in found.why
    assert found.facts == facts(**changes)
    assert found.host == "wsus01"


@pytest.mark.parametrize("row", ROWS)
def test_exposed_follows_from_the_verdict_and_is_none_when_it_is_unknown(row: str) -> None:
    changes, verdict, _ = ROWS[row]
    found = diagnosis(**changes)
    assert found.exposed is {True: True, False: None if verdict is Verdict.UNKNOWN else False}[verdict in EXPOSED]


def test_every_verdict_is_reached_by_some_row() -> None:
    assert {verdict for _, verdict, _ in ROWS.values()} == set(Verdict)


def test_without_logs_nothing_was_observed_either_way() -> None:
    assert {diagnosis(**changes).observed for changes, _, _ in ROWS.values()} == {Observed.UNKNOWN}
    assert "logs not read" in str(diagnosis())


@pytest.mark.parametrize("row", ROWS)
def test_a_diagnosis_says_what_it_rests_on_and_where_that_is_written(row: str) -> None:
    found = diagnosis(**ROWS[row][0])
    assert found.evidence
    assert all(item.what and item.found and item.source for item in found.evidence)
    data = found.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["verdict"] == found.verdict.value
    assert data["exposed"] is found.exposed
    for item in found.evidence:
        assert str(item) in str(found)
    assert found.verdict.value in str(found)
    assert found.why in str(found)


def test_what_is_fixed_or_exposed_as_sp1_rests_on_the_dll_and_the_article() -> None:
    for changes in (builders.SP1, builders.FIXED):
        assert any(
            item.source == "KB954960" and item.found == changes["dll_version"] for item in diagnosis(**changes).evidence
        )


# --- unknown is never safe ------------------------------------------------------------------------------------------


def _numbers(text: str) -> tuple[int, ...] | None:
    parts = text.strip().split(".")
    return (
        tuple(map(int, parts)) if len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts) else None
    )


def _may_be_safe(answer: dict[str, Any]) -> Verdict | None:
    """Say in plain words what the raw answer proves: which verdict calls it safe, or ``None`` for no safe one."""
    kind = answer.get("setup_InstallType", "")
    raw = answer.get("setup_VersionString", "")
    version, dll = _numbers(raw), _numbers(answer["dll_version"])
    if not answer["setup_present"]:
        if answer["wsus2_product"]:
            return Verdict.NOT_AFFECTED
        return None if "service_wsusservice" in answer else Verdict.NOT_A_SERVER
    if kind == "2":
        return Verdict.NOT_A_SERVER
    if kind in ("32", "64", "128"):
        return Verdict.NOT_AFFECTED if raw == "" or (version is not None and version[0] == 2) else None
    if kind != "1" or version is None:
        return None
    if version[:2] == (3, 1) and dll is not None and dll >= (3, 1, 6001, 66):
        return Verdict.FIXED
    if version[:2] == (3, 2) and (dll is None or dll >= (3, 1, 7600, 0)):
        return Verdict.NOT_AFFECTED
    system = tuple(map(int, answer["os_version"].split(".")))
    if version[0] in (6, 10) and system >= (6, 2):
        return Verdict.NOT_AFFECTED
    return None


_versions = st.one_of(
    st.sampled_from(
        ["", "3.1", "SP2", "3.0.6000.374", "3.1.6001.65", "3.2.7600.226", "2.0.0.2620", "6.2.9200.0", "10.0.0.0"]
    ),
    st.builds(
        lambda *parts: ".".join(map(str, parts)),
        st.integers(0, 11),
        st.integers(0, 11),
        st.sampled_from([0, 1, 7, 6000, 6001, 6002, 7599, 7600, 10000]),
        st.sampled_from([0, 1, 7, 65, 66, 67, 100, 226]),
    ),
    st.text(alphabet="0123456789.", max_size=12),
)
_answers = st.fixed_dictionaries(
    {
        "setup_present": st.booleans(),
        "setup_InstallType": st.sampled_from(["", "0", "1", "1", "1", "2", "3", "16", "32", "64", "128", "256", "x"]),
        "setup_VersionString": _versions,
        "dll_present": st.booleans(),
        "dll_version": st.one_of(st.sampled_from(["3.1.6001.65", "3.1.6001.66", "3.1.7600.226"]), _versions),
        "wsus2_product": st.booleans(),
        "os_version": st.sampled_from(["5.2.3790", "6.0.6002", "6.1.7601", "6.2.9200", "6.3.9600", "10.0.14393"]),
        "service_wsusservice": st.sampled_from(["running", "stopped", None]),
    }
)


@given(_answers)
@settings(deadline=None, max_examples=600)
def test_a_server_is_called_safe_exactly_when_what_it_says_proves_it(changes: dict[str, Any]) -> None:
    found = diagnosis(**changes)
    proven = _may_be_safe(builders.answer(**changes))
    if proven is None:
        assert found.verdict not in SAFE
        assert found.exposed is not False
    else:
        assert found.verdict is proven


@given(_answers)
@settings(deadline=None, max_examples=300)
def test_what_is_called_exposed_is_a_known_product_and_never_a_guess(changes: dict[str, Any]) -> None:
    answer = builders.answer(**changes)
    found = diagnosis(**changes)
    if found.verdict in EXPOSED:
        version = _numbers(str(answer["setup_VersionString"]))
        assert version is not None
        assert version[:2] == {Verdict.EXPOSED_RTM: (3, 0), Verdict.EXPOSED_SP1: (3, 1)}[found.verdict]
        assert answer["setup_InstallType"] == "1"


def test_the_absence_of_any_one_witness_never_makes_a_server_safe() -> None:
    for row, (changes, verdict, _) in ROWS.items():
        if verdict in SAFE or verdict is Verdict.EXPOSED_RTM or not changes.get("setup_present", True):
            continue
        for key in ("setup_VersionString", "setup_InstallType", "service_wsusservice", "setup_SqlServerName"):
            told = {"setup_InstallType": "1", **changes, key: None}
            if key == "setup_VersionString" and told["setup_InstallType"] in ("32", "64", "128"):
                continue  # InstallType alone is proof of 2.0
            assert diagnosis(**told).verdict not in SAFE, (row, key)


#: Facts that are only recalled, localised, or nobody's proof.
_BESIDE: dict[str, tuple[Any, ...]] = {
    "os_suites": ("", "Small Business", "Small Business(Restricted)\nTerminal Server"),
    "neighbours": ("", "configmgr", "configmgr\nessentials"),
    "os_caption": ("", "Windows Server 2022"),
    "culture": ("en-US", "ja-JP"),
    "service_w3svc": (None, "stopped"),
    "setup_SqlServerName": (None, "SQL01"),
    "restart_renames": ("", f"!\\??\\{DLL}"),
    "administrator": (True, False),
    "installer_busy": (True, False),
    "job_status": ("none", "running"),
}


@pytest.mark.parametrize("row", ROWS)
def test_facts_that_are_only_recalled_never_decide(row: str) -> None:
    changes, verdict, _ = ROWS[row]
    for key, values in _BESIDE.items():
        for value in values:
            assert diagnosis(**{"job_id": "0123456789ab", **changes, key: value}).verdict is verdict
    for first, second in itertools.pairwise(_BESIDE):
        told = {**changes, first: _BESIDE[first][-1], second: _BESIDE[second][-1]}
        assert diagnosis(**told).verdict is verdict


def test_a_version_string_of_windows_2012_needs_the_system_as_a_second_witness() -> None:
    for system in (builders.SERVER_2003, builders.SERVER_2008, builders.SERVER_2008_R2):
        for version in ("6.0.0.0", "6.2.9200.16384", "6.3.9600.0", "10.0.20348.1"):
            assert diagnosis(**system, setup_VersionString=version).verdict is Verdict.UNKNOWN


def test_a_version_string_of_2_0_needs_the_install_type_as_a_second_witness() -> None:
    for kind in ("1", "0", "7", None):
        assert diagnosis(setup_VersionString="2.0.0.2620", setup_InstallType=kind).verdict is Verdict.UNKNOWN


# --- what else matters ----------------------------------------------------------------------------------------------


def _notes(front_ends: tuple[str, ...] | None = None, **changes: Any) -> str:
    return "\n".join(diagnose(facts(front_ends=front_ends, **changes)).notes)


def test_an_ordinary_server_has_no_notes() -> None:
    assert diagnosis().notes == ()


def test_neighbours_are_named_and_affected_only_through_an_exposed_server() -> None:
    assert _notes(neighbours="configmgr\nessentials").splitlines() == [
        "Configuration Manager stands on this WSUS and is affected through it",
        "System Center Essentials stands on this WSUS and is affected through it",
    ]
    assert _notes(neighbours="configmgr", **builders.SP2) == "Configuration Manager stands on this WSUS"


def test_a_small_business_server_is_named_as_one() -> None:
    assert "Small Business Server" in _notes(os_suites="Small Business")
    assert "Small Business Server" in _notes(os_suites="Small Business", **builders.WSUS_2)


def test_several_front_ends_all_need_the_update() -> None:
    noted = _notes(front_ends=("wsus01", "wsus02"))
    assert "wsus01, wsus02" in noted
    assert "every front end" in noted
    assert _notes(front_ends=("wsus01",)) == ""
    assert _notes(front_ends=()) == ""
    assert "front end" not in _notes(front_ends=("wsus01", "wsus02"), **builders.SP2)


def test_the_names_of_front_ends_cannot_forge_anything() -> None:
    assert _notes(front_ends=("a\x1b[2J\nFORGED", "b")).isprintable()


def test_a_remote_database_may_have_other_front_ends() -> None:
    assert "SQL01" in _notes(setup_SqlServerName="SQL01")
    assert "every front end" in _notes(setup_SqlServerName="SQL01")
    assert "SQL01" not in _notes(setup_SqlServerName="SQL01", **builders.SP2)
    # Who was asked already needs no guess.
    assert _notes(setup_SqlServerName="SQL01", front_ends=("a", "b")).count("every front end") == 1


def test_services_that_do_not_run_are_named_where_they_should() -> None:
    assert _notes(service_wsusservice="stopped") == "not running: wsusservice"
    assert _notes(service_wsusservice=None, service_w3svc="start_pending") == "not running: wsusservice, w3svc"
    assert _notes(**{**builders.CONSOLE, "service_w3svc": None}) == ""


def test_a_dll_that_waits_for_the_restart_is_told() -> None:
    assert "next restart" in _notes(restart_renames=f"C:\\x.tmp\n!\\??\\{DLL}")
    assert _notes(restart_renames="C:\\x.tmp\n!\\??\\C:\\y.dll") == ""
    assert _notes(restart_renames="!\n\\??\\", **builders.ABSENT) == ""


def test_a_job_at_work_is_told_and_one_that_ended_is_not() -> None:
    noted = _notes(job_id="0123456789ab", job_status="running", job_phase="installing")
    assert "0123456789ab running in installing" in noted
    assert _notes(job_id="0123456789ab", job_status="finished", job_phase="finished") == ""


def test_every_note_stands_in_what_a_person_reads() -> None:
    found = diagnosis(os_suites="Small Business", neighbours="essentials", service_w3svc="stopped")
    assert len(found.notes) == 3
    for note in found.notes:
        assert note in str(found)


def test_a_diagnosis_is_a_function_of_the_facts_alone() -> None:
    found: HostFacts = facts(neighbours="configmgr")
    assert diagnose(found) == diagnose(facts(neighbours="configmgr"))


def test_a_piece_of_evidence_prints_with_its_source() -> None:
    assert str(Evidence("InstallType", "1", "product, Setup key")) == "InstallType = 1 [product, Setup key]"
