"""What a server says becomes facts, or an error that names the key; nothing it says acts on who reads it."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from tests import builders
from tests.builders import DLL, facts
from wsusfix.advisory import Architecture, InstallType, Product
from wsusfix.diagnosis import diagnose
from wsusfix.errors import AnswerError
from wsusfix.facts import DatabasePlace, HostFacts, PendingRestart, parse, parse_version, probe_parameters
from wsusfix.options import Options, Timeouts
from wsusfix.plan import plan
from wsusfix.scripts.contracts import FACTS, JobStatus, StagingState
from wsusfix.verify import verify

FORGED = "FORGED"
HOSTILE = f"\r\n{FORGED}: all is well\x1b[2J\x9b\u202e\x00</pre><script>"


# --- an ordinary server ---------------------------------------------------------------------------------------------


def test_the_ordinary_answer_is_read_word_for_word() -> None:
    found = facts(
        job_id="0123456789ab",
        job_status="interrupted",
        job_phase="installing",
        leftovers=3,
        neighbours="configmgr\nessentials",
        restart_keys="KEY",
        restart_renames="\\??\\C:\\a\n!\\??\\C:\\b",
        os_suites="Terminal Server\nSmall Business",
        installer_busy=True,
        staging_state="refused",
        staging_detail="owned by S-1-5-21",
        execution_policy="AllSigned",
    )
    assert (found.host, found.computer_name) == ("wsus01", "WSUS01")
    assert found.os.version == Version("6.0.6002")
    assert (found.os.service_pack, found.os.product_type, found.os.suite_mask) == (2, 3, 274)
    assert found.os.suites == ("Terminal Server", "Small Business")
    assert found.os.architecture is Architecture.X64
    assert found.os.culture == "nb-NO"
    assert found.wsus.present
    assert found.wsus.install_type is InstallType.SERVER_3
    assert found.wsus.version == Version("3.1.6001.65")
    assert found.wsus.product is Product.SP1
    assert found.wsus.dll_path == DLL
    assert found.wsus.dll_version == Version("3.1.6001.65")
    assert found.wsus.services == {"wsusservice": "running", "w3svc": "running"}
    assert found.wsus.front_ends is None
    assert found.session.administrator
    assert (found.session.account, found.session.sid) == ("CORP\\admin", "S-1-5-21-1-2-3-1104")
    assert (found.session.authentication, found.session.execution_policy) == ("Kerberos", "AllSigned")
    assert found.restart == PendingRestart(("KEY",), ("\\??\\C:\\a", "!\\??\\C:\\b"))
    assert (found.staging.path, found.staging.state) == ("C:\\Windows\\wsusfix", StagingState.REFUSED)
    assert (found.staging.detail, found.staging.leftovers) == ("owned by S-1-5-21", 3)
    assert (found.staging.free, found.staging.system_free) == (20_000_000_000, 20_000_000_000)
    assert found.job is not None
    assert (found.job.job_id, found.job.status, found.job.phase) == (
        "0123456789ab",
        JobStatus.INTERRUPTED,
        "installing",
    )
    assert found.neighbours == ("configmgr", "essentials")
    assert found.installer_busy
    assert found.boot_time == datetime(2008, 9, 1, 4, tzinfo=timezone.utc)
    assert found.clock == datetime(2008, 9, 2, 10, tzinfo=timezone.utc)


def test_what_is_not_there_is_told_as_nothing() -> None:
    found = facts(**builders.ABSENT)
    assert not found.wsus.present
    assert found.wsus.install_type is None
    assert found.wsus.version is None
    assert found.wsus.product is None
    assert found.wsus.dll_version is None
    assert found.wsus.database is None
    assert found.wsus.services == {"w3svc": "running"}
    assert found.job is None
    assert not found.restart.pending


def test_facts_are_compared_printed_and_written_as_plain_data() -> None:
    found = facts()
    assert found == facts()
    assert found != facts(dll_version="3.1.6001.66")
    data = found.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["wsus"]["dll_version"] == "3.1.6001.65"
    assert data["wsus"]["product"] == "WSUS 3.0 SP1"
    assert data["os"]["name"] == "Windows Server 2008"
    assert data["boot_time"] == "2008-09-01T04:00:00+00:00"
    for words in ("wsus01", "Windows Server 2008 SP2 x64", "WSUS 3.0 SP1", "3.1.6001.65", "embedded", "CORP\\admin"):
        assert words in str(found)


def test_a_dll_without_a_version_is_told_apart_from_no_dll() -> None:
    assert "no file version" in str(facts(dll_version=""))
    assert "proof DLL" not in str(facts(dll_version="", dll_present=False))


@pytest.mark.parametrize(
    ("status", "active"), [(status.value, status in (JobStatus.RUNNING, JobStatus.CLAIMED)) for status in JobStatus]
)
def test_a_job_is_active_while_it_runs_or_is_about_to(status: str, active: bool) -> None:
    job = facts(job_id="0123456789ab", job_status=status).job
    assert job is not None
    assert job.active is active


# --- the operating system -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        (builders.SERVER_2003, "Windows Server 2003"),
        ({**builders.SERVER_2003, "os_suites": "Small Business"}, "Windows Server 2003 (Small Business Server)"),
        (
            {**builders.SERVER_2003, "os_suites": "Small Business(Restricted)"},
            "Windows Server 2003 (Small Business Server)",
        ),
        (builders.SERVER_2008, "Windows Server 2008"),
        (builders.SERVER_2008_R2, "Windows Server 2008 R2"),
        (builders.SERVER_2012, "Windows Server 2012"),
        (builders.SERVER_2016, "Windows Server 2016 or later"),
        ({"os_version": "6.0.6002", "os_product_type": 1}, "Windows 6.0"),
        ({"os_version": "7.5.1"}, "Windows 7.5"),
    ],
)
def test_windows_is_named_by_its_numbers_and_never_by_its_caption(changes: dict[str, Any], name: str) -> None:
    assert facts(os_caption="Windows Server 2099", **changes).os.name == name


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("x86", Architecture.X86),
        ("x64", Architecture.X64),
        ("ia64", Architecture.IA64),
        ("", None),
        ("arm", None),
        ("X64", None),
    ],
)
def test_an_architecture_nobody_knows_is_none(word: str, expected: Architecture | None) -> None:
    assert facts(architecture=word).os.architecture is expected


# --- versions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.1.6001.66", "3.1.6001.66"),
        (" 3.1.6001.66\n", "3.1.6001.66"),
        ("03.01.06001.066", "3.1.6001.66"),
        ("0.0.0.0", "0.0.0.0"),
    ],
)
def test_four_numbers_are_a_version(text: str, expected: str) -> None:
    assert parse_version(text) == Version(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3.1",
        "3.1.6001",
        "3.1.6001.66.1",
        "3.1.6001.x",
        "3.1.6001.-1",
        "v3.1.6001.66",
        "3,1,6001,66",
        "3.1.6001.66 SP1",
        "3.1..66",
        "3.1.6001.٦٦",
        "3.1.6001.66rc1",
        "1!3.1.6001.66",
        "3.1.6001.+66",
        "3.1.6001.6_6",
        "9" * 11 + ".1.1.1",
        "...",
    ],
)
def test_whatever_is_not_four_numbers_is_no_version(text: str) -> None:
    assert parse_version(text) is None


def test_versions_compare_as_numbers_and_not_as_text() -> None:
    def version(text: str) -> Version:
        found = parse_version(text)
        assert found is not None
        return found

    assert version("3.1.6001.7") < version("3.1.6001.66")
    assert version("3.1.6001.100") > version("3.1.6001.66")
    assert version("3.1.10000.0") > version("3.1.6001.66")
    assert version("3.1.7600.226") > version("3.1.6001.66")
    assert version("3.10.0.0") > version("3.9.9999.9999")
    assert version("3.1.6001.066") == version("3.1.6001.66")


_four = st.lists(st.integers(0, 2**32), min_size=4, max_size=4)


@given(_four, _four)
@settings(deadline=None)
def test_versions_are_ordered_as_their_numbers_are(left: list[int], right: list[int]) -> None:
    def version(numbers: list[int]) -> Version | None:
        return parse_version(".".join(map(str, numbers)))

    first, second = version(left), version(right)
    assert first is not None
    assert second is not None
    assert (first < second, first == second) == (left < right, left == right)


@given(st.text(alphabet="0123456789.٣ -+eE_x", max_size=20))
@settings(deadline=None)
def test_a_version_is_never_guessed(text: str) -> None:
    found = parse_version(text)
    if found is None:
        assert not re.fullmatch(r"\s*[0-9]{1,10}(\.[0-9]{1,10}){3}\s*", text)
    else:
        assert found.release == tuple(int(part) for part in text.strip().split("."))


@pytest.mark.parametrize(
    ("version", "product"),
    [
        ("2.0.0.2472", Product.WSUS_2),
        ("2.0.0.2620", Product.WSUS_2),
        ("3.0.6000.374", Product.RTM),
        ("3.1.6001.65", Product.SP1),
        ("3.1.6001.9999", Product.SP1),
        ("3.2.7600.226", Product.SP2),
        ("3.2.7600.274", Product.SP2),
        ("6.2.9200.16384", Product.LATER),
        ("6.3.9600.16384", Product.LATER),
        ("10.0.14393.0", Product.LATER),
        ("1.0.0.0", None),
        ("3.3.0.0", None),
        ("3.10.0.0", None),
        ("4.0.0.0", None),
        ("5.7.0.0", None),
        ("3.1", None),
        ("", None),
    ],
)
def test_a_generation_is_told_by_major_and_minor(version: str, product: Product | None) -> None:
    assert facts(setup_VersionString=version).wsus.product is product


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("1", InstallType.SERVER_3),
        ("2", InstallType.CONSOLE),
        ("32", InstallType.FRONT_END_2),
        ("64", InstallType.BACK_END_2),
        ("128", InstallType.FULL_2),
        ("0", None),
        ("3", None),
        ("01", None),
        ("1 ", None),
        ("-1", None),
        ("", None),
    ],
)
def test_an_install_type_is_known_or_none(raw: str, expected: InstallType | None) -> None:
    found = facts(setup_InstallType=raw).wsus
    assert found.install_type is expected
    assert found.install_type_raw == raw


# --- the database ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "place"),
    [
        ("%computername%\\MICROSOFT##SSEE", DatabasePlace.EMBEDDED),
        ("WSUS01\\microsoft##ssee", DatabasePlace.EMBEDDED),
        (r"\\.\pipe\MSSQL$MICROSOFT##SSEE\sql\query", DatabasePlace.EMBEDDED),
        ("%computername%\\WSUS", DatabasePlace.LOCAL),
        ("%COMPUTERNAME%", DatabasePlace.LOCAL),
        ("WSUS01", DatabasePlace.LOCAL),
        ("wsus01\\SQL2005", DatabasePlace.LOCAL),
        (".", DatabasePlace.LOCAL),
        (".\\SQLEXPRESS", DatabasePlace.LOCAL),
        ("(local)", DatabasePlace.LOCAL),
        ("localhost\\X", DatabasePlace.LOCAL),
        ("SQL01", DatabasePlace.REMOTE),
        ("SQL01\\WSUS", DatabasePlace.REMOTE),
        ("wsus010", DatabasePlace.REMOTE),
        ("", DatabasePlace.UNKNOWN),
        (None, DatabasePlace.UNKNOWN),
    ],
)
def test_the_database_is_placed_by_the_name_of_its_server(server: str | None, place: DatabasePlace) -> None:
    database = facts(setup_SqlServerName=server).wsus.database
    assert database is not None
    assert database.place is place
    assert database.name == "SUSDB"
    assert place.value in str(database)


# --- pending restarts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rename",
    [
        DLL,
        f"\\??\\{DLL}",
        f"!\\??\\{DLL}",
        f"*1\\??\\{DLL}",
        f"*2!\\??\\{DLL}",
        f"!{DLL}",
        DLL.upper(),
        f"!\\??\\{DLL.lower()}",
    ],
)
def test_a_file_to_be_renamed_is_recognised_however_windows_writes_it(rename: str) -> None:
    assert PendingRestart((), ("\\??\\C:\\other", rename)).concerns(DLL)
    found = facts(restart_renames=f"\\??\\C:\\Windows\\Temp\\new.tmp\n{rename}\n")
    assert found.restart.concerns(found.wsus.dll_path)
    assert found.restart.pending


@pytest.mark.parametrize(
    "rename",
    [f"{DLL}.bak", DLL[:-1], f"D{DLL[1:]}", f"\\??\\{DLL}\\x", "!", "\\??\\", "", "C:\\Windows\\Temp\\new.tmp"],
)
def test_another_file_to_be_renamed_is_not_taken_for_it(rename: str) -> None:
    assert not PendingRestart((), (rename,)).concerns(DLL)


@pytest.mark.parametrize("rename", ["!", "\\??\\", "*1", "!\\??\\"])
def test_a_server_without_the_dll_has_none_to_be_renamed(rename: str) -> None:
    assert not PendingRestart((), (rename,)).concerns("")


def test_marks_and_renames_make_a_restart_pending() -> None:
    assert not PendingRestart((), ()).pending
    assert PendingRestart(("KEY",), ()).pending
    assert PendingRestart((), ("\\??\\C:\\x",)).pending
    assert not PendingRestart(("KEY",), ()).concerns(DLL)
    assert str(PendingRestart(("KEY",), ("a", "b"))) == "pending (1 marks, 2 renames)"


# --- what no server can have ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("os_version", ""),
        ("os_version", "Vista"),
        ("os_version", "1!6.2"),
        ("os_version", "6.2rc1"),
        ("os_version", "6.0.٦"),
        ("os_version", "6..2"),
        ("os_version", "9" * 4000),
        ("os_service_pack", -1),
        ("os_product_type", -3),
        ("os_suite_mask", "-1"),
        ("os_suite_mask", "0x112"),
        ("os_suite_mask", ""),
        ("staging_free", "much"),
        ("staging_free", "1e9"),
        ("system_free", "9" * 21),
        ("system_free", "٣"),
        ("boot_time", "yesterday"),
        ("boot_time", "2008-13-01T00:00:00Z"),
        ("clock", "2008-09-02 10:00:00"),
        ("clock", ""),
        ("staging_state", "open"),
        ("job_status", "asleep"),
        ("leftovers", -1),
    ],
)
def test_a_value_no_server_can_have_is_refused_by_the_name_of_its_key(key: str, value: Any) -> None:
    with pytest.raises(AnswerError, match=rf" for {key}\b") as caught:
        facts(**{"job_id": "0123456789ab", key: value})
    assert (caught.value.host, caught.value.phase) == ("wsus01", "facts")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("key", sorted(FACTS.answer))
def test_an_answer_nobody_checked_is_refused_as_well(key: str) -> None:
    strangers: tuple[Any, ...] = (None, 1.5, [], "x", 5, True)
    for stranger in strangers:
        if type(stranger) is FACTS.answer[key].kind:
            continue
        answer: dict[str, Any] = {**builders.answer(job_id="0123456789ab"), key: stranger}
        if key == "windows_directory":  # of use to the scripts alone
            parse("wsus01", answer)
            continue
        with pytest.raises(AnswerError, match=rf" for {key}\b"):
            parse("wsus01", answer)


_hostile_text = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=[]), max_size=60),
    st.text(alphabet="0123456789.-:TZ \n\\!?*", max_size=40),
    st.builds(lambda head, tail: head + HOSTILE + tail, st.text(max_size=10), st.text(max_size=10)),
    st.sampled_from(
        ["x" * 4096, HOSTILE, "configmgr\nessentials\n" + HOSTILE, "1", "32", "3.1.6001.65", "6.2.9200.1", "running"]
    ),
)
_ORDINARY: dict[str, Any] = builders.answer(job_id="0123456789ab", job_status="running", job_phase="installing")


@st.composite
def _answers(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an answer that follows the contract: mostly what a server says, here and there whatever fits the type."""
    told: dict[str, Any] = dict(_ORDINARY)
    for key in draw(st.sets(st.sampled_from(sorted(_ORDINARY.keys() - {"script"})), max_size=8)):
        value = _ORDINARY[key]
        if isinstance(value, bool):
            told[key] = draw(st.booleans())
        elif isinstance(value, int):
            told[key] = draw(st.integers(-5, 2**31 - 1))
        else:
            told[key] = draw(_hostile_text)
    for key in draw(st.sets(st.sampled_from(["setup_VersionString", "setup_InstallType", "service_w3svc"]))):
        told.pop(key)
    return FACTS.read(told) | {"script": "facts"}


def _shown_of(found: HostFacts) -> list[Any]:
    diagnosis = diagnose(found)
    made = plan(diagnosis, builders.package(), Options())
    parts = [found.os, found.wsus, found.session, found.restart, found.staging, made.basis, *diagnosis.evidence]
    parts += [part for part in (found.job, found.wsus.database) if part is not None]
    return [found, diagnosis, made, verify(found), verify(found, facts()), *parts]


@given(_answers())
@example(FACTS.read({**_ORDINARY, "dll_path": DLL + HOSTILE}))
@example(FACTS.read({**_ORDINARY, "job_phase": HOSTILE, "job_id": HOSTILE}))
@example(FACTS.read({**_ORDINARY, "dll_path": DLL + HOSTILE, "restart_renames": DLL}))
@settings(deadline=None, max_examples=150)
def test_any_answer_that_follows_the_contract_is_read_or_refused_by_the_name_of_a_key(answer: dict[str, Any]) -> None:
    try:
        found = parse("wsus01", answer)
    except AnswerError as error:
        said = str(error)
        named = re.search(r" for (\w+) \(", said)
        assert named is not None
        assert named[1] in FACTS.answer
        assert said.isprintable()
        assert len(said) < 400
        return
    for shown in _shown_of(found):
        text, data = str(shown), shown.to_dict()
        assert json.loads(json.dumps(data)) == data
        assert all(line.isprintable() and not line.startswith(FORGED) for line in text.split("\n"))
        assert repr(shown).isprintable()
        assert len(repr(shown)) < 200
        assert "<script" not in shown._repr_html_()


@pytest.mark.parametrize(
    "key", sorted(key for key, value in _ORDINARY.items() if isinstance(value, str) and key != "script")
)
def test_a_hostile_string_in_any_place_neither_acts_nor_forges_a_line(key: str) -> None:
    for hostile in (HOSTILE, str(_ORDINARY[key]) + HOSTILE):
        try:
            found = facts(**{**_ORDINARY, key: hostile})
        except AnswerError as error:
            said = str(error)
            assert said.isprintable()
            continue
        for shown in _shown_of(found):
            assert all(line.isprintable() and not line.startswith(FORGED) for line in str(shown).split("\n"))
            assert repr(shown).isprintable()


def test_neighbours_nobody_knows_are_left_out() -> None:
    assert facts(neighbours="configmgr\n<b>other\n\nessentials").neighbours == ("configmgr", "essentials")


# --- the question ---------------------------------------------------------------------------------------------------


def test_the_question_follows_the_contract_of_its_script() -> None:
    FACTS.check_parameters(probe_parameters(Timeouts(start=61.9)))
    assert probe_parameters(Timeouts(start=61.9))["start_seconds"] == 62


def test_the_question_names_the_documented_places() -> None:
    asked = probe_parameters(Timeouts())
    assert asked["setup_key"] == r"SOFTWARE\Microsoft\Update Services\Server\Setup"
    assert {"InstallType", "VersionString", "TargetDir", "SqlServerName", "SqlDatabaseName"} <= set(
        asked["setup_values"]
    )
    assert asked["dll"] == r"WebServices\ClientWebService\bin\Microsoft.UpdateServices.WebServices.Client.Dll"
    assert asked["wsus2_product"] == "{A0D46DC6-8950-451A-8990-53C86E17666E}"
    assert asked["services"] == ["wsusservice", "w3svc"]
    assert asked["neighbours"] == {
        "configmgr": r"SOFTWARE\Microsoft\SMS",
        "essentials": r"SOFTWARE\Microsoft\System Center Essentials",
    }
    assert asked["suite_key"] == r"SYSTEM\CurrentControlSet\Control\ProductOptions"
    assert asked["suite_value"] == "ProductSuite"


def test_the_question_that_is_asked_cannot_change_what_is_known() -> None:
    probe_parameters(Timeouts())["neighbours"]["other"] = "x"
    assert "other" not in probe_parameters(Timeouts())["neighbours"]


def test_facts_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts().host = "other"  # type: ignore[misc]
