"""The plan of an upgrade: each thing that stands in its way blocks by itself, and nothing is planned that cannot go."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import pytest

import wsusfix.plan
from tests import builders
from wsusfix import advisory
from wsusfix.advisory import Architecture
from wsusfix.diagnosis import diagnose
from wsusfix.errors import AnswerError
from wsusfix.options import UPGRADE_TARGETS, Options, Timeouts
from wsusfix.package import PackageKind
from wsusfix.plan import Plan, looks_around, plan
from wsusfix.scripts.contracts import SURROUNDINGS, ContractError
from wsusfix.surroundings import database_server, parse, probe_parameters

#: What stands in the way of an upgrade, and how a plan says so.
OBSTACLES: Final = {
    "restart": r"a restart of the server is pending",
    "neighbour": r"stands on this WSUS$",
    "moved": r"WmsdeInstalled is still 1",
    "remote": r"the database is on another server",
    "nowhere": r"nobody knows where the database is",
    "not looked": r"surroundings were not looked at",
    "silent": r"the database does not answer",
    "no sysadmin": r"is no sysadmin",
    "room for a backup": r"needed for a backup",
    "renamed": r"the computer was renamed",
    "triggers": r"nested triggers turned off",
    "connected": r"others are connected to the database",
    "front ends": r"several front ends share the database",
    "front ends unasked": r"nobody knows whether other front ends",
    "sites": r"the sites of IIS cannot be told",
    "upstream unasked": r"nobody knows whether there is an upstream server",
    "upstream unknown": r"the version of the upstream server .* is unknown",
    "upstream denied": r"though upstream_version says that there is none",
    "upstream older": r"older than WSUS",
    "staging": r"free for staging",
    "system drive": r"on the system drive, 1\.1 GB needed by setup",
    "database drive": r"on the drive of",
    "compressed": r"lies compressed",
    "no setup": r"no WSUS setup was given",
    "no program": r"is not WSUS setup",
    "processor": r"is for x86, the server is x64|is for another, the server is|is for x64, the server is",
    "hash": r"not the pinned one",
    "nameless": r"does not say that it is WSUS setup",
    "no target": r"does not say which service pack it brings",
    "other target": r"says that it brings WSUS",
    "system": r"does not run on",
    "service pack": r"has service pack",
    "architecture": r"the processor architecture is",
    "no update": r"and no package was given",
    "rights": r"is not an administrator",
    "policy": r"sets the execution policy",
    "staging folder": r"is not closed as it must be",
    "another job": r"a job of another kind is at work",
    "update unfit": r"does not name KB954960",
}
UPGRADE: Final = Options(rtm="upgrade")
SP2: Final[dict[str, Any]] = {"setup_of": "3.0 SP2", "file_version": "3.2.7600.226"}


def named(made: Plan) -> set[str]:
    """The obstacles that a blocked plan tells of; each reason is exactly one."""
    found = set()
    for block in made.blocked:
        (name,) = (name for name, words in OBSTACLES.items() if re.search(words, block.reason))
        assert block.unblock.strip()
        found.add(name)
    return found


def planned(facts: dict[str, Any] | None = None, around: dict[str, Any] | None = None, **options: Any) -> Plan:
    """Plan an upgrade, with changes to what the server says, to what is around its WSUS, and to the options."""
    given = options.pop("given", None)
    update = options.pop("update", None)
    found = builders.diagnosis(**{**builders.RTM, **(facts or {})}).facts
    return builders.upgrade_plan(
        Options(**{"rtm": "upgrade", **options}),
        given=given,
        update=update,
        surroundings=builders.around(found, **(around or {})),
        **(facts or {}),
    )


BLOCKS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("restart", {"facts": {"restart_keys": "SOFTWARE\\X"}}),
    ("neighbour", {"facts": {"neighbours": "configmgr"}}),
    ("neighbour", {"facts": {"neighbours": "essentials"}}),
    ("moved", {"facts": {"setup_SqlServerName": "WSUS01", "setup_WmsdeInstalled": "1"}}),
    ("remote", {"facts": {"setup_SqlServerName": "SQL01"}}),
    ("nowhere", {"facts": {"setup_SqlServerName": None}}),
    ("silent", {"around": {"database_trouble": "Login failed"}}),
    ("no sysadmin", {"around": {"sysadmin": False}}),
    ("room for a backup", {"facts": {"system_free": "1800000000"}}),
    ("renamed", {"around": {"own_name": "OLD\\MICROSOFT##SSEE"}}),
    ("triggers", {"around": {"nested_triggers": False}}),
    ("connected", {"around": {"connections": "DESK7:  Query Analyzer"}}),
    ("front ends", {"around": {"front_ends": "a\nb"}}),
    (
        "front ends unasked",
        {
            "facts": {"setup_SqlServerName": "WSUS01"},
            "around": {"hierarchy_trouble": "not reached", "front_ends": ""},
            "upstream_version": "none",
        },
    ),
    ("sites", {"around": {"sites_trouble": "0x80005000"}}),
    ("upstream unasked", {"around": {"hierarchy_trouble": "not reached"}}),
    ("upstream unknown", {"around": {"upstream": "top"}}),
    ("upstream denied", {"around": {"upstream": "top"}, "upstream_version": "none"}),
    ("upstream older", {"around": {"upstream": "top"}, "upstream_version": "3.0.6000.374"}),
    ("upstream older", {"upstream_version": "3.1.6001.65", "given": builders.setup(**SP2)}),
    ("staging", {"facts": {"staging_free": "300000000"}}),
    ("system drive", {"facts": {"system_free": "900000000"}, "backup": False}),
    ("database drive", {"around": {"drives": "1000 plain C:\\WSUS\\UpdateServicesDbFiles\\SUSDB.mdf"}}),
    ("compressed", {"around": {"drives": "20000000000 compressed C:\\WSUS"}}),
    ("no program", {"given": builders.setup(kind=PackageKind.MSI)}),
    ("no program", {"given": builders.setup(problem="it is cut off")}),
    ("processor", {"given": builders.setup(architecture=Architecture.X86)}),
    ("processor", {"given": builders.setup(architecture=None)}),
    ("hash", {"upgrade_package_sha256": "77" * 32}),
    ("nameless", {"given": builders.setup(setup_of=None)}),
    ("nameless", {"given": builders.setup(setup_of=None), "upgrade_target": "3.0 SP1"}),
    ("no target", {"given": builders.setup(setup_of=None), "vouch_for_upgrade_package": True}),
    ("no target", {"given": builders.setup(setup_of=None), "upgrade_package_sha256": "6b" * 32}),
    ("other target", {"upgrade_target": "3.0 SP2"}),
    ("system", {"facts": builders.SERVER_2008_R2}),
    ("system", {"facts": builders.SERVER_2016, "given": builders.setup(**SP2)}),
    ("service pack", {"facts": {"os_version": "5.2.3790", "os_service_pack": 0}}),
    ("rights", {"facts": {"administrator": False}}),
    ("policy", {"facts": {"execution_policy": "AllSigned"}}),
    ("staging folder", {"facts": {"staging_state": "refused", "staging_detail": "staging_owner"}}),
    ("another job", {"facts": {"job_id": "a", "job_kind": "reset_approvals", "job_status": "running"}}),
    # Of a road that does not restart, or does not install the update, these jobs are no part.
    ("another job", {"facts": {"job_id": "a", "job_kind": "restart", "job_status": "running"}}),
    (
        "another job",
        {
            "facts": {"job_id": "a", "job_kind": "install_update", "job_status": "running"},
            "given": builders.setup(**SP2),
        },
    ),
    ("update unfit", {"update": builders.package(names_update=False)}),
]


@pytest.mark.parametrize(("name", "changes"), BLOCKS, ids=lambda value: value if isinstance(value, str) else "")
def test_each_thing_in_the_way_of_an_upgrade_blocks_by_itself(name: str, changes: dict[str, Any]) -> None:
    made = planned(**changes)
    assert named(made) == {name}
    assert not made.steps


def test_what_no_single_change_shows_blocks_too() -> None:
    facts = builders.facts(**builders.RTM)
    diagnosis = builders.diagnosis(**builders.RTM)
    assert named(plan(diagnosis, builders.package(), UPGRADE, surroundings=builders.around())) == {"no setup"}
    assert named(
        plan(diagnosis, None, UPGRADE, upgrade_package=builders.setup(), surroundings=builders.around(facts))
    ) == {"no update"}
    assert named(plan(diagnosis, builders.package(), UPGRADE, upgrade_package=builders.setup())) == {"not looked"}
    other = builders.setup(architecture=Architecture.IA64)
    unfit = planned({"architecture": "ia64"}, given=other, update=builders.package(architecture=None))
    assert named(unfit) == {"architecture"}


def test_every_obstacle_of_the_road_has_its_line_and_every_line_is_tried() -> None:
    folder = Path(wsusfix.plan.__file__).parent
    text = "".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in ("upgrade", "backup"))
    # Some of the reasons are those of what all roads share, and "the update is unfit" stands for those of its own.
    shared = {"rights", "policy", "staging folder", "another job", "update unfit"}
    assert text.count("yield Blocked(") == len(set(OBSTACLES) - shared)
    tried = {name for name, _ in BLOCKS} | {"no setup", "no update", "not looked", "architecture"}
    assert tried == set(OBSTACLES)


def test_all_that_stands_in_the_way_is_told_at_once() -> None:
    made = planned(
        {"neighbours": "configmgr", "restart_keys": "X"},
        {"nested_triggers": False, "upstream": "top", "front_ends": "a\nb"},
    )
    assert named(made) == {"neighbour", "restart", "triggers", "upstream unknown", "front ends"}


def test_microsofts_order_is_printed_where_several_front_ends_share_a_database() -> None:
    for made in (planned(around={"front_ends": "a\nb"}), planned({"setup_SqlServerName": "SQL01"})):
        told = str(made)
        for number, text in enumerate(advisory.FRONT_ENDS_UPGRADE, 1):
            assert f"({number}) {text}" in told


@pytest.mark.parametrize(
    "changes",
    [
        {"facts": {"neighbours": "configmgr"}, "upgrade_beside_others": True},
        {"around": {"upstream": "top"}, "upstream_version": "3.2.7600.226"},
        {"around": {"hierarchy_trouble": "not reached"}, "upstream_version": "none"},
        {"facts": {"system_free": "1800000000"}, "backup": False},
        {"given": builders.setup(setup_of=None), "vouch_for_upgrade_package": True, "upgrade_target": "3.0 SP1"},
        {"given": builders.setup(setup_of=None), "upgrade_package_sha256": "6b" * 32, "upgrade_target": "3.0 SP1"},
        {"given": builders.setup(architecture=Architecture.X86), "vouch_for_upgrade_package": True},
        {"facts": builders.SERVER_2008_R2, "given": builders.setup(**SP2)},
        {"facts": {"setup_SqlServerName": "WSUS01", "setup_WmsdeInstalled": "0"}},
        {"facts": {"setup_WmsdeInstalled": "1"}},
    ],
)
def test_what_the_operator_says_or_the_server_is_like_unblocks_it(changes: dict[str, Any]) -> None:
    made = planned(**changes)
    assert not made.blocked, str(made)
    assert made.irreversible


def test_the_steps_come_in_their_order() -> None:
    def names(made: Plan) -> list[str]:
        return [step.name for step in made.steps]

    assert names(planned()) == ["CheckPrerequisites", "BackUpDatabase", "UpgradeServicePack", "InstallUpdate"]
    assert names(planned(backup=False, given=builders.setup(**SP2))) == ["CheckPrerequisites", "UpgradeServicePack"]
    assert names(planned(reboot="if-needed", given=builders.setup(**SP2))) == [
        "CheckPrerequisites",
        "BackUpDatabase",
        "UpgradeServicePack",
        "Restart",
    ]


def test_the_plan_names_what_stops_and_when_nothing_may_begin() -> None:
    night = datetime(2008, 9, 6, 22, 0, tzinfo=timezone.utc)
    made = planned(not_before=night, not_after=night.replace(hour=23))
    told = str(made)
    assert "services wsusservice, w3svc, was" in told
    assert "sites Default Web Site\n" in told
    assert "nothing begins before 2008-09-06 22:00 UTC, by the server's own clock" in told
    assert "nothing begins after 2008-09-06 23:00 UTC" in told
    assert made.digest != planned().digest
    data = made.to_dict()
    assert json.loads(json.dumps(data)) == data


def test_an_unverifiable_signature_is_accepted_of_the_package_that_is_pinned_and_of_no_other() -> None:
    made = planned(upgrade_package_sha256="6b" * 32, accept_unverifiable_signature=True)
    accepted = {step.name: getattr(step, "accept_unverifiable_signature", None) for step in made.steps}
    assert accepted["UpgradeServicePack"] is accepted["CheckPrerequisites"] is True
    assert accepted["InstallUpdate"] is False


def test_an_upgrade_is_nobodys_way_unless_it_is_asked_for() -> None:
    made = plan(builders.diagnosis(**builders.RTM), builders.package(), Options(), upgrade_package=builders.setup())
    assert "UpgradeServicePack" not in [step.name for step in made.steps]


def test_a_backup_before_the_update_on_sp1_is_made_only_where_it_can_be() -> None:
    facts = builders.facts()
    options = Options(backup=True)
    good = plan(builders.diagnosis(), builders.package(), options, surroundings=builders.around(facts))
    assert [step.name for step in good.steps] == ["BackUpDatabase", "InstallUpdate"]
    bad = plan(
        builders.diagnosis(),
        builders.package(),
        options,
        surroundings=builders.around(facts, database_trouble="Login failed"),
    )
    assert named(bad) == {"silent"}


def test_a_backup_before_a_reset_of_approvals_is_made_only_where_it_can_be() -> None:
    diagnosis = diagnose(builders.asked({}, **builders.RTM))
    assert looks_around(diagnosis, Options(backup=True))
    assert not looks_around(diagnosis, Options())
    around = builders.around(diagnosis.facts)
    made = plan(diagnosis, None, Options(backup=True), surroundings=around)
    assert [step.name for step in made.steps] == ["BackUpDatabase", "ResetApprovals"]
    bad = builders.around(diagnosis.facts, database_trouble="Login failed")
    assert named(plan(diagnosis, None, Options(backup=True), surroundings=bad)) == {"silent"}


def test_what_a_cut_off_upgrade_had_stopped_is_started_first_of_all() -> None:
    left = builders.upgraded("stopped")
    assert [step.name for step in planned(left).steps] == ["StartServices"]
    for other in (builders.SP1, builders.FIXED, builders.SP2, {**builders.SP2, "dll_version": "3.0.6000.374"}):
        assert [step.name for step in builders.plan(**{**other, **left}).steps] == ["StartServices"]
    assert [step.name for step in plan(builders.diagnosis(**builders.RTM, **left), None, Options()).steps] == [
        "StartServices"
    ]
    assert "services: wsusservice, w3svc, was" in str(planned(left))
    # A job that was cut off in between makes no difference, and who is at work with it is joined or waited for.
    cut: dict[str, Any] = {"job_id": "a", "job_kind": "start_services", "job_status": "interrupted"}
    assert [step.name for step in planned({**left, **cut}).steps] == ["StartServices"]
    assert [step.name for step in planned({**left, **cut, "job_status": "running"}).steps] == ["StartServices"]
    assert named(planned({**left, **cut, "job_kind": "restart", "job_status": "running"})) == {"another job"}
    assert named(planned({**cut, "job_status": "running"})) == {"another job"}
    assert named(planned({**left, "administrator": False})) == {"rights"}
    assert planned({**left, **cut, "job_kind": "upgrade", "job_status": "running"}).steps[0].name != "StartServices"
    # What runs again is not started again.
    assert planned(builders.upgraded("closed")).steps[0].name == "CheckPrerequisites"


def test_a_wsus_that_an_upgrade_has_removed_is_told_whoever_asks_and_whenever() -> None:
    gone = builders.diagnosis(**builders.ABSENT, **builders.upgraded("open"))
    assert (gone.verdict.value, "its setup has removed it" in gone.why) == ("unknown", True)
    assert builders.diagnosis(**builders.CONSOLE, **builders.upgraded("open")).verdict.value == "unknown"
    (blocked,) = plan(gone, builders.package(), UPGRADE, upgrade_package=builders.setup()).blocked
    assert blocked.reason.startswith("WSUS WAS REMOVED by its setup")
    assert "C:\\Windows\\wsusfix-backup\\a\\SUSDB.bak" in blocked.reason
    assert "install WSUS 3.0.6000.374 again" in blocked.unblock
    assert "RESTORE DATABASE" in blocked.unblock
    # What else it had stopped is started first.
    first = builders.plan(**builders.ABSENT, **builders.upgraded("stopped"))
    assert [step.name for step in first.steps] == ["StartServices"]
    assert "WSUS WAS REMOVED" in first.warnings[0]
    # Whoever removes WSUS by hand after an upgrade that ended well has removed it himself.
    assert builders.diagnosis(**builders.ABSENT, **builders.upgraded("closed")).verdict.value == "not_a_server"
    left = {"job_id": "0123456789ab", "job_kind": "upgrade", "job_status": "finished"}
    seen = builders.diagnosis(**builders.ABSENT, **builders.upgraded("closed"), **left)
    assert seen.verdict.value == "not_a_server"
    for other in ({"job_id": "9"}, {"job_status": "running"}):
        unseen = builders.diagnosis(**builders.ABSENT, **builders.upgraded("closed"), **{**left, **other})
        assert unseen.verdict.value == "unknown"
    # And what nobody may read may say so.
    assert builders.diagnosis(**builders.ABSENT, reset_state="refused").verdict.value == "unknown"


def test_a_restart_that_setup_asked_for_comes_before_anything_else() -> None:
    asked = {**builders.upgraded("closed", restart=True), "restart_keys": "SOFTWARE\\X"}
    for state in (builders.RTM, builders.FIXED, builders.SP2):
        waits = builders.diagnosis(**{**state, **asked})
        assert waits.facts.restart_asked
        assert [step.name for step in plan(waits, None, Options(rtm="upgrade", reboot="if-needed")).steps] == [
            "Restart"
        ]
        (blocked,) = plan(waits, None, UPGRADE).blocked
        assert "has asked for a restart" in blocked.reason
    sp1 = builders.diagnosis(**{**builders.SP1, **asked})
    steps = plan(sp1, builders.package(), Options(reboot="if-needed")).steps
    assert [step.name for step in steps] == ["Restart", "InstallUpdate", "Restart"]
    assert "has asked for a restart" in plan(sp1, builders.package(), Options()).blocked[0].reason
    # The server has restarted since, or nothing waits: then it is over.
    for over in ({"boot_time": "2008-09-02T09:30:00Z"}, {"restart_keys": ""}):
        assert not builders.facts(**{**builders.SP2, **asked, **over}).restart_asked
    # Where nothing is seen to wait, the start of the server tells, to the second: two may come quickly.
    told = {**asked, "restart_keys": "", "upgrade_setup": "time=2008-09-02T09:00:00Z\nrestart=true\nend\n"}
    told["upgrade_end"] = "time=2008-09-02T09:00:00Z\nrestart=true\nboot=2008-09-02T08:59:59Z\nend\n"
    for boot, still in (("2008-09-02T08:59:59Z", True), ("2008-09-02T09:00:01Z", False)):
        assert builders.facts(**{**builders.SP2, **told, "boot_time": boot}).restart_asked is still


def test_an_upgrade_of_wsus_2_is_blocked_with_its_reason() -> None:
    made = plan(builders.diagnosis(**builders.WSUS_2), None, UPGRADE)
    assert ["there is no upgrade" in each.reason for each in made.blocked] == [True]
    on_x86 = plan(builders.diagnosis(**builders.WSUS_2, architecture="x86"), None, UPGRADE)
    assert ["not made here" in each.reason for each in on_x86.blocked] == [True]
    assert plan(builders.diagnosis(**builders.WSUS_2), None, Options()).nothing


def test_there_is_room_for_the_backup_and_for_setup_after_it() -> None:
    size, setup, database = 1_500_000_000, advisory.SETUP_SYSTEM_SPACE, advisory.SETUP_DATABASE_SPACE
    for drive, needed in (("C", size + setup + database), ("D", size + setup)):
        files = {"database_files": f"{drive}:\\SUSDB.mdf", "drives": f"20000000000 plain {drive}:\\SUSDB.mdf"}
        assert named(planned({"system_free": str(needed - 1)}, files)) == {"room for a backup"}
        enough = planned({"system_free": str(needed)}, files)
        (reserve,) = (step.reserve for step in enough.steps if isinstance(step, wsusfix.plan.BackUpDatabase))
        assert reserve == needed - size


def test_the_targets_that_can_be_named_are_those_that_are_known() -> None:
    assert set(UPGRADE_TARGETS) == set(advisory.UPGRADES)


# --- the look around --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "reached_by"),
    [
        ("%computername%\\MICROSOFT##SSEE", r"np:\\.\pipe\mssql$microsoft##ssee\sql\query"),
        ("WSUS01\\SQL", "WSUS01\\SQL"),
        ("%ComputerName%", "."),
        ("SQL01", ""),
        (None, ""),
    ],
)
def test_the_embedded_database_is_reached_by_its_pipe_and_a_remote_one_not_at_all(
    server: str | None, reached_by: str
) -> None:
    assert database_server(builders.facts(setup_SqlServerName=server)) == reached_by


def test_the_parameters_of_the_look_are_those_of_its_contract() -> None:

    for changes in (builders.RTM, builders.ABSENT, {"setup_ContentDir": "D:\\WSUS"}):
        SURROUNDINGS.check_parameters(probe_parameters(builders.facts(**changes), Timeouts()))


@pytest.mark.parametrize(
    "changes",
    [
        {"database_size": "-1"},
        {"database_size": "many"},
        {"drives": "much plain C:\\"},
        {"drives": "1" * 40 + " plain C:\\"},
        {"clock": "yesterday"},
    ],
)
def test_surroundings_that_no_server_can_have_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(AnswerError):
        builders.around(**changes)


def test_a_hostile_answer_cannot_act_on_a_terminal() -> None:
    hostile = "<b>\x1b[2J\u202e" + "x" * 3000
    told: dict[str, Any] = dict.fromkeys(("own_name", "upstream", "connections", "sites_trouble", "services"), hostile)
    around = builders.around(**told)
    assert all(line.isprintable() for line in str(around).split("\n"))
    with pytest.raises(ContractError):
        parse(builders.facts(), SURROUNDINGS.read(builders.around_answer(own_name="x" * 5000)))
