"""Plans, walked exhaustively: what may be done, what stands in the way, and that nothing is ever done on a guess.

What each choice of a walk means for a plan is said here in plain words, beside the choice; the plan's own conditions
are nowhere asked.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from tests import builders
from tests.builders import DLL, SHA256, diagnosis, facts, package, upgraded
from wsusfix.advisory import Architecture
from wsusfix.diagnosis import Diagnosis
from wsusfix.facts import HostFacts
from wsusfix.options import Options
from wsusfix.package import Package, PackageKind
from wsusfix.plan import Basis, Blocked, InstallUpdate, Plan, plan

# --- what stands in the way, and how a plan says so -----------------------------------------------------------------

OBSTACLES: Final = {
    "the DLL waits for a restart": r"waits for a restart",
    "not a system for it": r"is no system that WSUS 3\.0 SP1 runs on",
    "no service pack": r"has service pack 0",
    "processor": r"the processor architecture is",
    "rights": r"is not an administrator",
    "another kind of job": r"a job of another kind is at work",
    "policy": r"sets the execution policy",
    "staging": r"wsusfix is not closed as it must be",
    "no package": r"no package was given",
    "no installer": r"is not a PE, MSI or MSP",
    "damaged": r"cannot be trusted",
    "other architecture": r"\bis for \w+, the server is",
    "other hash": r"not the pinned one",
    "nameless": r"does not name KB954960",
    "staging space": r"free for staging",
    "system space": r"on the system drive",
    # Of a reset of approvals; walked through in test_plan_reset.
    "not asked": r"nobody asked WSUS",
    "no answer": r"WSUS could not be asked",
    "role": r"the role of .* in WSUS is",
    "database elsewhere": r"the database is",
    "kept folder": r"keeps what was saved is not closed",
    "too many": r"told of more updates",
    "no upstream": r"a replica that names no server above it",
    "another front end": r"front ends share the database, which is treated once",
    "unknown id": r"knows no update",
    "candidates only": r"by the number of the article it may be",
    "near titles only": r"only others are called so in part",
    "no update": r"holds no update",
}


@dataclass(frozen=True)
class Choice:
    """One state of one thing: what the server then tells, and what of it stands in the way of an installation."""

    name: str
    told: dict[str, Any] = field(default_factory=dict)
    stands: str = ""


#: What stands on the server, and what may be done about it at all.
WSUS: Final = {
    "install": [
        Choice("SP1 without the update", builders.SP1),
        Choice("SP1 with an older DLL", {"dll_version": "3.1.6001.7"}),
    ],
    "nothing": [
        Choice("no WSUS", builders.ABSENT),
        Choice("console", builders.CONSOLE),
        Choice("2.0", builders.WSUS_2),
        Choice("2.0 by product", {**builders.ABSENT, "wsus2_product": True}),
        Choice("SP1 fixed", builders.FIXED),
        Choice("SP2", builders.SP2),
    ],
    "ways out of RTM": [
        Choice("RTM", builders.RTM),
        Choice("RTM with a fixed DLL", {**builders.RTM, "dll_version": "3.1.6001.66"}),
    ],
    "never on a guess": [
        Choice("SP1 without DLL", {"dll_present": False, "dll_version": ""}),
        Choice("SP1, DLL without version", {"dll_version": ""}),
        Choice("SP2 with an old DLL", {**builders.SP2, "dll_version": "3.1.6001.65"}),
        Choice("unknown InstallType", {"setup_InstallType": "5"}),
        Choice("unknown VersionString", {"setup_VersionString": "3.3.0.0"}),
        Choice("contradiction", {"setup_VersionString": "2.0.0.2620"}),
    ],
}
ALL_WSUS: Final = [(deed, choice) for deed, choices in WSUS.items() for choice in choices]
EXPOSED: Final = ("install", WSUS["install"][0])

SYSTEMS: Final = [
    Choice("2003", {"os_version": "5.2.3790", "os_service_pack": 0}, "no service pack"),
    Choice("2003 SP1", {"os_version": "5.2.3790", "os_service_pack": 1}),
    Choice("2003 SP2", builders.SERVER_2003),
    Choice("2008 without service pack", {"os_version": "6.0.6000", "os_service_pack": 0}, "no service pack"),
    Choice("2008 SP1", {"os_version": "6.0.6001", "os_service_pack": 1}),
    Choice("2008 SP2", builders.SERVER_2008),
    Choice("2008 as domain controller", {**builders.SERVER_2008, "os_product_type": 2}),
    Choice("2008 R2", builders.SERVER_2008_R2, "not a system for it"),
    Choice("2016", builders.SERVER_2016, "not a system for it"),
    Choice("2000", {"os_version": "5.0.2195", "os_service_pack": 4}, "not a system for it"),
    Choice("Vista", {"os_version": "6.0.6002", "os_service_pack": 2, "os_product_type": 1}, "not a system for it"),
    Choice("Windows nobody knows", {"os_version": "11.0.1", "os_service_pack": 1}, "not a system for it"),
]
PROCESSORS: Final = [
    Choice("x64", {"architecture": "x64"}),
    Choice("x86", {"architecture": "x86"}),
    Choice("ia64", {"architecture": "ia64"}, "processor"),
    Choice("unknown", {"architecture": ""}, "processor"),
]
RIGHTS: Final = [Choice("administrator"), Choice("user", {"administrator": False}, "rights")]
STAGING: Final = [
    Choice("absent"),
    Choice("closed", {"staging_state": "closed", "leftovers": 2}),
    Choice("open", {"staging_state": "refused", "staging_detail": "owned by somebody"}, "staging"),
]
POLICIES: Final = [
    Choice("none"),
    Choice("RemoteSigned", {"execution_policy": "RemoteSigned"}),
    Choice("AllSigned", {"execution_policy": "AllSigned"}, "policy"),
    Choice("Restricted", {"execution_policy": "restricted"}, "policy"),
]
#: The fit package has 4.5 MB, of which twice as much and 256 MiB are needed; the system drive keeps 512 MiB free.
_ENOUGH: Final = 2 * 4_500_000 + 256 * 1024 * 1024
SPACE: Final = [
    Choice("plenty"),
    Choice("just enough", {"staging_free": str(_ENOUGH), "system_free": str(512 * 1024 * 1024)}),
    Choice("a byte too little to stage", {"staging_free": str(_ENOUGH - 1)}, "staging space"),
    Choice("a byte too little for Windows", {"system_free": str(512 * 1024 * 1024 - 1)}, "system space"),
]
RESTARTS: Final = [
    Choice("none"),
    Choice("of others", {"restart_keys": "KEY", "restart_renames": "\\??\\C:\\x"}),
    Choice("of the DLL", {"restart_renames": f"C:\\x.tmp\n!\\??\\{DLL}"}, "the DLL waits for a restart"),
]
_JOB: Final = {"job_id": "0123456789ab", "job_kind": "install_update"}
JOBS: Final = [
    Choice("none"),
    Choice("running", {**_JOB, "job_status": "running", "job_phase": "installing"}),
    Choice("another running", {**_JOB, "job_kind": "other", "job_status": "claimed"}, "another kind of job"),
    Choice("finished", {**_JOB, "job_status": "finished", "job_phase": "finished"}),
]
SURROUNDINGS: Final = [RIGHTS, STAGING, POLICIES, SPACE, RESTARTS, JOBS]
ORDINARY: Final = tuple(choices[0] for choices in SURROUNDINGS)


@dataclass(frozen=True)
class Hand:
    """What the operator hands over and says of it."""

    kind: PackageKind | None = PackageKind.EXE
    architecture: Architecture | None = Architecture.X64
    names_update: bool = True
    problem: str | None = None
    pinned: str | None = None
    vouched: bool = False

    @functools.cached_property
    def package(self) -> Package | None:
        """The package as read."""
        if self.kind is None:
            return None
        return package(
            kind=self.kind, architecture=self.architecture, names_update=self.names_update, problem=self.problem
        )

    @functools.cached_property
    def options(self) -> Options:
        """What the operator said."""
        return Options(package="a.exe", package_sha256=self.pinned, vouch_for_package=self.vouched)

    def stands(self, processor: str) -> Iterator[str]:
        """Say in plain words what is wrong with it for a server with this *processor*."""
        if self.kind is None:
            yield "no package"
            return
        if self.kind is PackageKind.UNKNOWN:
            yield "no installer"
        elif self.problem:
            yield "damaged"
        elif self.architecture is not None and self.architecture.value != processor:
            # A 32-bit program may be a self-extractor with the 64-bit update inside: then somebody has to vouch for it.
            extractor = self.kind is PackageKind.EXE and (self.architecture.value, processor) == ("x86", "x64")
            if not (extractor and self.vouched):
                yield "other architecture"
        if self.pinned is not None and self.pinned != SHA256:
            yield "other hash"
        if self.kind is not PackageKind.UNKNOWN and self.pinned is None and not self.names_update and not self.vouched:
            yield "nameless"


HANDS: Final = [
    Hand(None),
    *(
        Hand(kind, architecture, names_update, problem, pinned, vouched)
        for kind, architecture, names_update, problem, pinned, vouched in itertools.product(
            PackageKind,
            (Architecture.X64, Architecture.X86, None),
            (True, False),
            (None, "it is cut off"),
            (None, SHA256, "00" * 32),
            (False, True),
        )
    ),
]
FEW_HANDS: Final = [
    Hand(),
    Hand(None),
    Hand(architecture=Architecture.X86),
    Hand(PackageKind.MSP, None),
    Hand(PackageKind.UNKNOWN, None, False, "it is a web page"),
    Hand(names_update=False),
    Hand(names_update=False, pinned=SHA256),
    Hand(names_update=False, vouched=True),
    Hand(pinned="00" * 32),
]


# --- one case of a walk ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One combination."""

    deed: str
    wsus: Choice
    system: Choice
    processor: Choice
    surroundings: tuple[Choice, ...]
    hand: Hand

    def __str__(self) -> str:
        around = ", ".join(choice.name for choice in self.surroundings)
        return f"{self.wsus.name} on {self.system.name} {self.processor.name} ({around}) with {self.hand}"

    def expected(self) -> set[str]:
        """Say in plain words what stands in the way of installing the update in this case."""
        wrong = {self.system.stands, *(choice.stands for choice in self.surroundings)}
        if self.system.stands != "not a system for it":
            wrong.add(self.processor.stands)
        if self.hand.kind is None:
            wrong -= {"staging space", "system space"}  # how much is needed is known with the package
        if any(choice.name == "running" for choice in self.surroundings):
            wrong -= {"staging space", "system space"}  # a job that runs has its package there
        return (wrong | set(self.hand.stands(self.processor.told["architecture"]))) - {""}


_diagnoses: dict[tuple[str, ...], Diagnosis] = {}


def _diagnosis(case: Case) -> Diagnosis:
    """Return the diagnosis of a case, made once for all packages."""
    choices = (case.wsus, case.system, case.processor, *case.surroundings)
    key = tuple(choice.name for choice in choices)
    if key not in _diagnoses:
        told: dict[str, Any] = {}
        for choice in choices:
            told.update(choice.told)
        _diagnoses[key] = diagnosis(**told)
    return _diagnoses[key]


#: What of the ordinary obstacles keeps approvals from being reset too.
_RESET_OBSTACLES: Final = {"not asked", "rights", "policy", "staging", "another kind of job", "system space"}


def test_reasons_are_counted_as_a_person_does() -> None:
    assert repr(builders.plan(administrator=False)) == "<Plan wsus01: blocked, 1 reason>"


def _named(reason: str) -> str:
    """Return which obstacle a reason tells of; exactly one."""
    (found,) = (name for name, words in OBSTACLES.items() if re.search(words, reason))
    return found


def _check(case: Case) -> Plan:
    """Make the plan of a case and hold it against what has to be so, whatever the case."""
    found = _diagnosis(case)
    made = plan(found, case.hand.package, case.hand.options)
    text = str(made)

    # A plan has steps, or is blocked, or has nothing to do: exactly one of them.
    assert [bool(made.steps), bool(made.blocked), bool(made.nothing)].count(True) == 1

    # Whatever is blocked says why and what would unblock it.
    for reason in made.blocked:
        assert reason.reason.strip()
        assert reason.unblock.strip()
        assert reason.reason in text
        assert reason.unblock in text

    # Whatever has steps says how success is proved, and whatever cannot be undone says so.
    assert bool(made.proof) is bool(made.steps)
    assert made.irreversible is bool(made.steps)
    assert ("CANNOT BE UNDONE" in text) is bool(made.steps)
    for step in made.steps:
        assert isinstance(step, InstallUpdate)
        assert step.irreversible
        assert step.package is case.hand.package
        assert step.reason
        assert step.source == "KB954960"
        assert made.proof in text
        assert DLL in made.proof
        assert "3.1.6001.66" in made.proof

    # The update is installed on WSUS 3.0 SP1 without it, and nowhere else.
    match case.deed:
        case "install":
            assert {_named(reason.reason) for reason in made.blocked} == case.expected()
            assert len(made.blocked) == len(case.expected())
            assert bool(made.steps) is not bool(case.expected())
        case "nothing":
            assert made.nothing
            assert made.nothing in text
        case "ways out of RTM":
            # Nothing is planned for an update that nobody looked at; what that takes, test_plan_reset walks through.
            (block,) = (reason for reason in made.blocked if _named(reason.reason) == "not asked")
            assert {_named(reason.reason) for reason in made.blocked} <= _RESET_OBSTACLES
            assert "upgrade" in block.unblock
            assert "3.0 SP1" in block.unblock
            assert "KB954960" in block.unblock
            assert "workaround" in block.unblock
            assert "Office 2003 Service Pack 1" in block.unblock
        case "never on a guess":
            (block,) = made.blocked
            assert "unknown" in block.reason
        case _:
            raise AssertionError(case.deed)
    return made


def _walk(*axes: Any) -> Iterator[Case]:
    for (deed, wsus), system, processor, surroundings, hand in itertools.product(*axes):
        yield Case(deed, wsus, system, processor, surroundings, hand)


def _walked(cases: Iterator[Case]) -> tuple[int, int]:
    """Check every case; return how many there were, and how many of them had steps."""
    count = with_steps = 0
    for case in cases:
        try:
            made = _check(case)
        except AssertionError as error:
            raise AssertionError(f"{case}: {error}") from error
        count += 1
        with_steps += bool(made.steps)
    return count, with_steps


# --- the walks ------------------------------------------------------------------------------------------------------


def test_every_wsus_on_every_windows_with_every_sort_of_package() -> None:
    around = [ORDINARY, tuple(choices[-1] for choices in SURROUNDINGS)]
    count, with_steps = _walked(_walk(ALL_WSUS, SYSTEMS, PROCESSORS, around, FEW_HANDS))
    assert count == 16 * 12 * 4 * 2 * 9
    assert with_steps > 0


def test_every_state_of_an_exposed_server_with_every_sort_of_package() -> None:
    systems = [choice for choice in SYSTEMS if choice.name in ("2003 SP2", "2008 R2")]
    count, with_steps = _walked(
        _walk([EXPOSED], systems, PROCESSORS[:1], list(itertools.product(*SURROUNDINGS)), FEW_HANDS[:4])
    )
    assert count == 2 * (2 * 3 * 4 * 4 * 3 * 4) * 4
    assert with_steps > 0


def test_every_package_on_every_windows_that_is_exposed() -> None:
    count, with_steps = _walked(_walk([EXPOSED], SYSTEMS, PROCESSORS, [ORDINARY], HANDS))
    assert count == 12 * 4 * (1 + 4 * 3 * 2 * 2 * 3 * 2)
    assert with_steps > 0


def test_every_verdict_blocks_or_rests_whatever_else_is_so_unless_it_is_exposed_sp1() -> None:
    others = [(deed, choice) for deed, choice in ALL_WSUS if deed != "install"]
    count, with_steps = _walked(_walk(others, SYSTEMS[5:6], PROCESSORS[:1], [ORDINARY], HANDS))
    assert count == 14 * len(HANDS)
    assert with_steps == 0


_cases = st.builds(
    lambda wsus, *others: Case(wsus[0], wsus[1], *others),
    st.sampled_from([*ALL_WSUS, *[EXPOSED] * len(ALL_WSUS)]),
    st.sampled_from(SYSTEMS),
    st.sampled_from(PROCESSORS),
    st.tuples(*(st.sampled_from(choices) for choices in SURROUNDINGS)),
    st.sampled_from(HANDS),
)


@given(_cases)
@settings(deadline=None, max_examples=300)
def test_any_combination_at_all(case: Case) -> None:
    made = _check(case)
    data = made.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["irreversible"] is bool(data["steps"]) is any(step["irreversible"] for step in data["steps"])
    assert data["digest"] == made.digest
    assert all(line.isprintable() for line in str(made).split("\n"))
    assert len(repr(made)) < 200


def test_a_wrong_plan_would_be_noticed() -> None:
    case = Case(*EXPOSED, SYSTEMS[5], PROCESSORS[0], (RIGHTS[1], *ORDINARY[1:]), Hand())
    assert _check(case).blocked
    with pytest.raises(AssertionError):
        _check(dataclasses.replace(case, surroundings=(Choice("taken for one", RIGHTS[1].told), *ORDINARY[1:])))
    with pytest.raises(AssertionError):
        _check(dataclasses.replace(case, deed="nothing"))


# --- what a plan says -----------------------------------------------------------------------------------------------


def test_the_ordinary_plan_installs_and_says_everything_a_person_consents_to() -> None:
    made = builders.plan()
    step = builders.install_step(made)
    text = str(made)
    for words in (
        "wsus01: exposed_sp1",
        "1. InstallUpdate",
        "WSUS-KB954960-x64.exe",
        "4.5 MB",
        SHA256,
        "SYSTEM",
        "/q {log}",
        "[KB954960]",
        "the only way back is to uninstall WSUS",
        made.digest[:16],
    ):
        assert words in text
    assert made.to_dict()["steps"][0]["name"] == step.name == "InstallUpdate"
    assert not builders.install_step(made).accept_unverifiable_signature


@pytest.mark.parametrize(
    ("kind", "program", "arguments"),
    [
        (PackageKind.EXE, "", "/q {log}"),
        (PackageKind.MSI, "msiexec.exe", "/i {package} /qn /norestart /l*v {log}"),
        (PackageKind.MSP, "msiexec.exe", "/p {package} /qn /norestart /l*v {log}"),
    ],
)
def test_every_kind_of_package_has_its_silent_command(kind: PackageKind, program: str, arguments: str) -> None:
    step = builders.install_step(builders.plan(given=package(kind=kind)))
    assert (step.command.program, step.command.arguments) == (program, arguments)
    assert step.command.arguments in str(step)


def test_the_operators_own_arguments_take_the_place_of_the_usual_ones() -> None:
    step = builders.install_step(builders.plan(Options(package_arguments=("/quiet", "a b"))))
    assert step.command.arguments == '/quiet "a b"'
    step = builders.install_step(builders.plan(Options(package_arguments=())))
    assert step.command.arguments == ""


def test_arguments_that_cannot_be_a_command_line_block_the_plan() -> None:
    for made, words in (
        (builders.plan(Options(package_arguments=("/q\n/x",))), "line break"),
        (builders.plan(Options(package_arguments=("/q",)), package(kind=PackageKind.MSI)), "do not name the package"),
    ):
        (block,) = made.blocked
        assert words in block.reason
        assert block.unblock
        assert not made.steps


def test_an_unverifiable_signature_goes_into_the_step_and_is_warned_of() -> None:
    made = builders.plan(Options(package_sha256=SHA256, accept_unverifiable_signature=True))
    assert builders.install_step(made).accept_unverifiable_signature
    assert any("cannot verify" in warning for warning in made.warnings)


def test_all_that_stands_in_the_way_is_told_at_once() -> None:
    case = Case(
        *EXPOSED, SYSTEMS[0], PROCESSORS[2], tuple(choices[-1] for choices in SURROUNDINGS), Hand(names_update=False)
    )
    assert len(_check(case).blocked) == 9


def test_a_package_is_asked_for_by_the_name_that_fits_the_server() -> None:
    for architecture, name in (("x86", "WSUS-KB954960-x86.exe"), ("x64", "WSUS-KB954960-x64.exe")):
        made = plan(diagnosis(architecture=architecture), None, Options())
        assert [block.reason for block in made.blocked] == ["no package was given"]
        assert name in made.blocked[0].unblock


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (JOBS[1].told, "joined"),
        ({"installer_busy": True}, "another installation"),
        ({"restart_keys": "KEY"}, "restart of the server is pending"),
        ({"setup_SqlServerName": "SQL01"}, "every front end"),
        ({"neighbours": "configmgr"}, "Configuration Manager"),
        ({"neighbours": "essentials"}, "System Center Essentials"),
    ],
)
def test_what_an_operator_should_know_of_the_server_is_warned_of(changes: dict[str, Any], words: str) -> None:
    made = builders.plan(given=package(linked_at=None), **changes)
    assert made.steps
    assert len(made.warnings) == 1
    assert words in made.warnings[0]
    assert f"warning: {made.warnings[0]}" in str(made)


def test_several_front_ends_are_warned_of() -> None:
    assert any("every front end" in warning for warning in builders.plan(front_ends=("a", "b")).warnings)
    assert not any("every front end" in warning for warning in builders.plan(front_ends=("a",)).warnings)


def test_what_an_operator_should_know_of_the_package_is_warned_of() -> None:
    def warnings(options: Options | None = None, **changes: Any) -> str:
        return "\n".join(builders.plan(options, package(**{"linked_at": None, **changes})).warnings)

    assert warnings() == ""
    assert "2008-07-31" in warnings(linked_at=datetime(2008, 7, 31, 23, 59, tzinfo=timezone.utc))
    assert warnings(linked_at=datetime(2008, 8, 1, tzinfo=timezone.utc)) == ""
    assert "architecture" in warnings(architecture=None, kind=PackageKind.MSP)
    assert "vouches" in warnings(Options(vouch_for_package=True), names_update=False)
    assert warnings(Options(vouch_for_package=True)) == ""
    assert "another processor" in warnings(Options(vouch_for_package=True), architecture=Architecture.X86)
    assert "ends in .msi" in warnings(remark="its name ends in .msi")


def test_nothing_to_do_mentions_what_an_earlier_run_left() -> None:
    made = builders.plan(**{**builders.FIXED, "leftovers": 3, "staging_state": "closed"})
    assert made.nothing
    assert any("3 files" in warning for warning in made.warnings)
    assert builders.plan(**builders.FIXED).warnings == ()


def test_a_hostile_name_of_a_package_cannot_forge_a_line_of_the_plan() -> None:
    for changes in ({}, {"names_update": False}, {"architecture": Architecture.X86}, {"kind": PackageKind.UNKNOWN}):
        made = builders.plan(given=package(name="a\x1b[2J\nFORGED: nothing to do\u202e.exe", **changes))
        assert all(line.isprintable() and not line.startswith("FORGED") for line in str(made).split("\n"))


def test_a_self_extractor_for_another_processor_is_let_through_only_by_who_vouches_for_it() -> None:
    x86 = package(architecture=Architecture.X86)
    (block,) = builders.plan(given=x86).blocked
    assert "vouch_for_package" in block.unblock
    assert builders.plan(Options(vouch_for_package=True), x86).steps
    hopeless: list[tuple[Package, dict[str, Any]]] = [
        (package(architecture=Architecture.X64), {"architecture": "x86"}),
        (package(architecture=Architecture.IA64), {}),
        (package(architecture=Architecture.X86, kind=PackageKind.MSI), {}),
    ]
    for other, changes in hopeless:
        (block,) = builders.plan(Options(vouch_for_package=True), other, **changes).blocked
        assert "vouch" not in block.unblock


def test_a_block_prints_as_one_sentence() -> None:
    assert str(Blocked("no package was given", "give one")) == "no package was given; to unblock: give one"


# --- the digest -----------------------------------------------------------------------------------------------------


def test_the_digest_is_the_same_for_the_same_deed_whenever_it_is_planned() -> None:
    first = builders.plan()
    assert re.fullmatch(r"[0-9a-f]{64}", first.digest)
    for changes in (
        {},
        {"clock": "2009-01-01T00:00:00Z"},
        {"boot_time": "2009-01-01T00:00:00Z"},
        {"staging_free": "10000000000"},
        {"system_free": "10000000000"},
        {"leftovers": 5, "staging_state": "closed"},
        {"account": "CORP\\other"},
        {"restart_keys": "KEY"},
        {"os_caption": "Windows"},
        JOBS[1].told,
    ):
        assert builders.plan(**changes).digest == first.digest


def test_no_time_stands_in_what_the_digest_is_made_of() -> None:
    # Were there one, it would be a date of today or a number of seconds; the digest of this very plan is known.
    digests = {builders.plan(clock=f"2008-09-02T10:00:{second:02d}Z").digest for second in range(60)}
    assert len(digests) == 1


def test_the_digest_differs_with_whatever_is_consented_to() -> None:
    digests = [
        builders.plan().digest,
        builders.plan(host="wsus02").digest,
        builders.plan(given=package(sha256="6b" * 32)).digest,
        builders.plan(given=package(name="other.exe")).digest,
        builders.plan(given=package(size=4_500_001)).digest,
        builders.plan(given=package(kind=PackageKind.MSP)).digest,
        builders.plan(Options(package_arguments=("/quiet",))).digest,
        builders.plan(Options(package_sha256=SHA256, accept_unverifiable_signature=True)).digest,
        builders.plan(dll_version="3.1.6001.64").digest,
        builders.plan(setup_VersionString="3.1.6001.1").digest,
        builders.plan(os_version="6.0.6001").digest,
        builders.plan(os_service_pack=1).digest,
        builders.plan(os_product_type=2).digest,
        builders.plan(dll_path="D:\\other.dll").digest,
    ]
    assert len(set(digests)) == len(digests)


def test_a_blocked_plan_and_one_with_nothing_to_do_have_digests_of_their_own() -> None:
    blocked, nothing = builders.plan(administrator=False), builders.plan(**builders.FIXED)
    assert len({blocked.digest, nothing.digest, builders.plan().digest}) == 3


# --- the basis ------------------------------------------------------------------------------------------------------

#: A change of what the server tells, and the one thing of the basis it changes.
_BASIS: Final[list[tuple[dict[str, Any], str]]] = [
    ({"os_version": "6.0.6001"}, "os_version: 6.0.6002 -> 6.0.6001"),
    ({"os_service_pack": 3}, "service_pack: 2 -> 3"),
    ({"os_product_type": 2}, "product_type: 3 -> 2"),
    ({"architecture": "x86"}, "architecture: x64 -> x86"),
    ({"architecture": ""}, "architecture: x64 -> None"),
    ({"setup_InstallType": "2"}, "install_type: 1 -> 2"),
    ({"setup_VersionString": "3.2.7600.226"}, "wsus_version: 3.1.6001.65 -> 3.2.7600.226"),
    ({"dll_path": "D:\\x.dll"}, f"dll_path: {DLL} -> D:\\x.dll"),
    ({"dll_version": "3.1.6001.66"}, "dll_version: 3.1.6001.65 -> 3.1.6001.66"),
    ({"dll_version": ""}, "dll_version: 3.1.6001.65 -> None"),
    ({"reset_state": "open"}, "reset: none -> open"),
    (upgraded("stopped"), "upgrade:  -> stopped"),
]
#: These WSUS itself tells; test_plan_reset tries them.
_TOLD_BY_WSUS: Final = {"updates", "replica"}


@pytest.mark.parametrize(("changes", "words"), _BASIS)
def test_a_change_of_what_a_plan_rests_on_is_told_in_words(changes: dict[str, Any], words: str) -> None:
    assert Basis.of(facts()).changes(Basis.of(facts(**changes))) == (words,)


def test_every_part_of_the_basis_is_tried_here() -> None:
    tried = {words.partition(":")[0] for _, words in _BASIS} | _TOLD_BY_WSUS
    assert tried == {item.name for item in dataclasses.fields(Basis)}


def test_space_time_and_the_like_are_no_part_of_the_basis() -> None:
    unmoved: HostFacts = facts(
        clock="2009-01-01T00:00:00Z",
        boot_time="2009-01-01T00:00:00Z",
        staging_free="1",
        system_free="1",
        leftovers=9,
        staging_state="closed",
        restart_keys="KEY",
        installer_busy=True,
        account="CORP\\other",
        administrator=False,
        service_wsusservice="stopped",
        job_id="0123456789ab",
        job_status="running",
        os_caption="x",
        culture="ja-JP",
        **upgraded("closed"),
    )
    assert Basis.of(facts()).changes(Basis.of(unmoved)) == ()
    assert Basis.of(facts()) == Basis.of(unmoved)


def test_the_words_of_a_change_cannot_act_on_a_terminal() -> None:
    (words,) = Basis.of(facts()).changes(Basis.of(facts(dll_path="D:\\\x1b[2J\nFORGED")))
    assert words.isprintable()


def test_a_basis_prints_line_by_line() -> None:
    text = str(Basis.of(facts()))
    assert "dll_version = 3.1.6001.65" in text.splitlines()
    assert Basis.of(facts()).dll_version == Version("3.1.6001.65")


def test_a_plan_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        builders.plan().steps = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("system", "hours", "blocked"),
    [
        (builders.SERVER_2003, 41, False),
        (builders.SERVER_2003, 43, True),
        (builders.SERVER_2003, 100, True),
        (builders.SERVER_2008, 100, False),
    ],
)
def test_a_window_that_the_old_scheduler_would_not_wait_for_blocks(
    system: dict[str, Any], hours: int, blocked: bool
) -> None:
    told = diagnosis(**{**builders.SP1, **system})
    opens = told.facts.clock + timedelta(hours=hours)
    assert plan(told, package(), Options()).steps
    made = plan(told, package(), Options(not_before=opens))
    assert (made.steps == (), len(made.blocked)) == (blocked, int(blocked))
    if blocked:
        assert f"opens in {hours} h" in made.blocked[0].reason
        assert "within 42 h" in made.blocked[0].unblock
        # The job that waits already is joined: what it was given stands.
        joined = diagnosis(
            **{**builders.SP1, **system, "job_id": "a", "job_kind": "install_update", "job_status": "running"}
        )
        assert plan(joined, package(), Options(not_before=opens)).steps
