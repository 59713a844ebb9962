"""The PowerShell half, held to the gate, to the contracts, and to the division of labour; and the loader."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from tree_sitter import Node

from tests import powershell_gate as gate
from wsusfix import scripts
from wsusfix.scripts import BEGIN_WINDOWS, END_WINDOWS, compose, functions_of, name_of, source
from wsusfix.scripts.contracts import (
    CONTRACTS,
    JOBS,
    Contract,
    ContractError,
    JobPhase,
    JobReason,
    JobStatus,
    Refusal,
    StagingState,
)

SAMPLES = Path(__file__).parents[1] / "data" / "gate"
#: What the samples may use besides the scripts' own short list, so that each breaks one rule only.
SAMPLE_COMMANDS = gate.COMMANDS | {"Export-Csv", "ForEach-Object", "Get-ChildItem", "Get-Content", "Where-Object"}
#: Commands and types that touch nothing: all that a script may use by itself.
PURE_COMMANDS = frozenset({"Sort-Object"})
PURE_TYPES = frozenset(
    {
        "bool",
        "int",
        "long",
        "string",
        "void",
        "System.Convert",
        "System.DateTime",
        "System.Globalization.CultureInfo",
        "System.Guid",
        "System.IO.Path",
        "System.Math",
        "System.StringComparison",
        "System.Text.RegularExpressions.Regex",
        "System.Version",
    }
)
STAGING_REFUSALS = frozenset(refusal for refusal in Refusal if refusal.value.startswith("staging_"))

each_script = pytest.mark.parametrize("name", sorted(CONTRACTS))
each_bad = pytest.mark.parametrize("sample", sorted(SAMPLES.glob("bad/*.ps1")), ids=lambda path: path.stem)
each_good = pytest.mark.parametrize("sample", sorted(SAMPLES.glob("good/*.ps1")), ids=lambda path: path.stem)


# --- reading the syntax tree ----------------------------------------------------------------------------------------


def text_of(node: Node) -> str:
    return (node.text or b"").decode("utf-8")


def nodes(text: str, *kinds: str) -> Iterator[Node]:
    return (node for node in gate.walk(gate.parse(text)) if node.type in kinds)


def literal(node: Node) -> str | None:
    """The text of a plain string between single quotes, else ``None``."""
    match = re.fullmatch(r"'([^']*)'", text_of(node))
    return match.group(1) if match else None


def commands_in(text: str) -> set[str]:
    return {text_of(node) for node in nodes(text, "command_name")}


def words_of(command: Node) -> list[Node]:
    """The words of a command behind its name."""
    return [
        word
        for child in command.children
        if child.type == "command_elements"
        for word in child.children
        if word.type != "command_argument_sep"
    ]


def table_keys(table: Node) -> set[str]:
    """The keys of a hashtable literal, its own and not those of tables within."""
    body = next((child for child in table.children if child.type == "hash_literal_body"), None)
    entries = [] if body is None else [child for child in body.children if child.type == "hash_entry"]
    return {text_of(entry.children[0]).strip("'") for entry in entries}


def tables_given_to(text: str, variable: str) -> list[tuple[int, set[str]]]:
    """Where a hashtable literal is assigned to *variable*, and its keys."""
    found = []
    for node in nodes(text, "assignment_expression"):
        if text_of(node.children[0]).lower() == variable.lower():
            table = next((child for child in gate.walk(node) if child.type == "hash_literal_expression"), None)
            if table is not None:
                found.append((node.start_byte, table_keys(table)))
    return found


def keys_read(text: str, variable: str) -> set[str]:
    """What is taken from a hashtable: ``$variable.key`` and ``$variable['key']``."""
    name = re.escape(variable)
    found = set()
    for node in nodes(text, "member_access", "invocation_expression", "element_access"):
        match = re.match(rf"{name}(?:\.(\w+)|\['(\w+)'\])", text_of(node), re.IGNORECASE)
        if match:
            found.add(match.group(1) or match.group(2))
    return found


def answer_keys(text: str) -> tuple[set[str], set[str]]:
    """The keys and the prefixes of keys that a script puts into ``$answer``."""
    keys = set().union(*(keys for _, keys in tables_given_to(text, "$answer")))
    prefixes = set()
    for node in nodes(text, "left_assignment_expression"):
        match = re.fullmatch(r"\$answer(?:\.(\w+)|\['(\w+)'\]|\['(\w+)' \+ .*\])", text_of(node))
        if match and match.group(3):
            prefixes.add(match.group(3))
        elif match:
            keys.add(match.group(1) or match.group(2))
    return keys, prefixes


def values_given(text: str, target: str) -> set[str]:
    """The plain strings that are assigned to *target*."""
    found = set()
    for node in nodes(text, "assignment_expression"):
        if text_of(node.children[0]).lower() == target.lower():
            found.add(literal(node.children[-1]))
    return {value for value in found if value is not None}


def returned(function: str) -> set[str]:
    """The plain strings that a function returns."""
    found = {literal(node.children[-1]) for node in nodes(function, "flow_control_statement") if node.child_count > 1}
    return {value for value in found if value is not None}


def own_part(name: str) -> str:
    """What a composed script has besides the inserted functions of the one file that touches Windows."""
    text = compose(name).text
    return text[text.index(END_WINDOWS) :]


def primitives() -> dict[str, str]:
    return functions_of(source("windows"))


def shared() -> dict[str, str]:
    return functions_of(source("jobs"))


# --- the gate -------------------------------------------------------------------------------------------------------


@each_bad
def test_the_gate_finds_in_a_bad_sample_the_one_thing_that_is_bad(sample: Path) -> None:
    found = gate.findings(sample.read_text(encoding="utf-8"), commands=SAMPLE_COMMANDS)
    assert {finding.rule for finding in found} == {sample.name.partition(".")[0]}


@each_good
def test_the_gate_lets_a_good_sample_through(sample: Path) -> None:
    assert gate.findings(sample.read_text(encoding="utf-8"), commands=SAMPLE_COMMANDS) == []


def test_the_gate_finds_a_script_that_is_too_long_and_only_that() -> None:
    line = "$name = 'a'\n"
    short, long = line * (gate.LIMIT // len(line)), line * (gate.LIMIT // len(line) + 1)
    assert gate.findings(short) == []
    assert {finding.rule for finding in gate.findings(long)} == {"too_long"}


def test_every_rule_of_the_gate_has_a_bad_sample() -> None:
    text = Path(gate.__file__).read_text(encoding="utf-8")
    rules = set(re.findall(r'yield (?:\d+, |number, )?"(\w+)"', text))
    rules |= set(re.findall(r'"\w+": "(later_\w+)"', text))
    samples = {path.name.partition(".")[0] for path in SAMPLES.glob("bad/*.ps1")}
    assert len(rules) > 20
    assert rules - samples == {"too_long"}
    assert samples - rules == set()


def test_a_finding_tells_line_rule_and_what_stands_there() -> None:
    (finding,) = gate.findings("$name = 'a'\n$folder = $PSScriptRoot\n")
    assert str(finding) == "line 2: later_variable: $PSScriptRoot"


def test_functions_of_the_same_text_may_be_called_and_others_may_not() -> None:
    function = "function Get-Thing {\n    return 1\n}\n"
    assert gate.findings(function + "Get-Thing\n") == []
    assert [finding.rule for finding in gate.findings("Get-Thing\n")] == ["unknown_command"]


@each_script
def test_a_composed_script_passes_the_gate(name: str) -> None:
    assert [str(finding) for finding in gate.findings(compose(name).text)] == []


def test_the_file_that_touches_windows_passes_the_gate_whole() -> None:
    assert [str(finding) for finding in gate.findings(source("windows"))] == []


def test_the_shared_functions_pass_the_gate_whole() -> None:
    found = gate.findings(source("jobs"), commands=gate.COMMANDS | frozenset(primitives()))
    assert [str(finding) for finding in found] == []


def test_the_short_list_of_commands_has_no_entry_that_no_script_uses() -> None:
    everything = "\n".join(source(name) for name in [*CONTRACTS, "windows", "jobs"])
    assert commands_in(everything) >= gate.COMMANDS


def test_the_short_list_of_types_has_no_entry_that_no_script_uses() -> None:
    roots = [gate.parse(source(name)) for name in [*CONTRACTS, "windows", "jobs"]]
    used = {name for root in roots for node in gate.walk(root) for name in gate.type_names(node)}
    assert used >= gate.TYPES


def test_the_facts_script_fits_one_envelope_of_winrm_2_0() -> None:
    # Each line feed becomes seven characters, base64 adds a third, and the framing and the parameters want room.
    text = compose("facts").text
    assert len(text) < 45_000
    assert (len(text) + 6 * text.count("\n")) * 4 // 3 < 100_000


# --- files and contracts --------------------------------------------------------------------------------------------


def test_every_contract_has_its_script_and_every_script_its_contract() -> None:
    files = {Path(str(file)).stem for file in resources.files(scripts).iterdir() if str(file).endswith(".ps1")}
    assert files == set(CONTRACTS) | {"windows", "jobs"}


@each_script
def test_a_script_reads_exactly_the_parameters_of_its_contract(name: str) -> None:
    assert keys_read(own_part(name), "$Parameters") == set(CONTRACTS[name].parameters)


@each_script
def test_a_script_answers_exactly_the_keys_of_its_contract(name: str) -> None:
    contract = CONTRACTS[name]
    keys, prefixes = answer_keys(source(name))
    assert keys == (set() if contract.is_job else {"script", *contract.answer})
    assert prefixes == set(contract.families)


@each_script
def test_the_answer_of_a_script_names_the_script(name: str) -> None:
    named = re.findall(r"\bscript = '(\w+)'", source(name))
    assert named == ([] if CONTRACTS[name].is_job else [name])


@each_script
def test_a_script_stops_at_the_first_error_and_shows_no_progress(name: str) -> None:
    lines = source(name).splitlines()
    assert "$ErrorActionPreference = 'Stop'" in lines
    assert "$ProgressPreference = 'SilentlyContinue'" in lines


@each_script
def test_a_script_refuses_with_all_reasons_of_its_contract_and_no_other(name: str) -> None:
    text = source(name)
    told = {Refusal(value) for value in values_given(text, "$answer.refused")} - {Refusal.NONE}
    if "Get-StagingRefusal" in text:
        told |= STAGING_REFUSALS | {Refusal.NOT_ADMINISTRATOR}
    assert told == CONTRACTS[name].refusals


def test_only_the_script_that_takes_input_reads_it() -> None:
    for name, contract in CONTRACTS.items():
        reads = any(text_of(node) == "$input" for node in nodes(source(name), "variable"))
        assert reads == contract.takes_input, name


def test_what_is_wrong_with_a_staging_folder_is_told_in_the_words_of_the_contract() -> None:
    assert returned(primitives()["Get-FolderTrust"]) == {"", "absent"} | {refusal.value for refusal in STAGING_REFUSALS}
    assert returned(shared()["Get-StagingRefusal"]) == {Refusal.NOT_ADMINISTRATOR.value}


def test_the_facts_script_tells_the_staging_folder_in_the_words_of_the_contract() -> None:
    assert values_given(source("facts"), "$answer.staging_state") == {state.value for state in StagingState}


def test_the_status_of_a_job_is_told_in_the_words_of_the_contract() -> None:
    function = shared()["Get-JobStatus"]
    told = values_given(function, "$answer.status") | set(re.findall(r"status = '(\w+)'", function))
    assert told == {status.value for status in JobStatus}
    assert set(re.findall(r"status = '(\w+)'", source("poll_job"))) <= told
    compared = set(re.findall(r"@\('claimed', 'running'\)|'never_started'", source("start_job") + source("cleanup")))
    assert compared == {"@('claimed', 'running')", "'never_started'"}


@pytest.mark.parametrize("kind", JOBS)
def test_a_job_ends_with_the_reasons_of_its_contract_and_no_other(kind: str) -> None:
    text = own_part(kind)
    told = set(re.findall(r"^    reason = '(\w+)'$", text, re.MULTILINE))
    for place in ("$Result.reason", "$found.reason", "$reason"):
        told |= values_given(text, place)
    for name in ("Wait-Turn", "Invoke-Package"):
        told |= returned(functions_of(text).get(name, ""))
    assert told - {""} == {reason.value for reason in JOBS[kind].reasons}


def states_written(text: str) -> dict[str, set[str]]:
    """The phases whose states a script writes, with their keys."""
    found: dict[str, set[str]] = {}
    for command in nodes(text, "command"):
        words = words_of(command)
        name = text_of(command.children[0])
        if name not in {"Add-State", "Add-StateAt", "Add-Quietly"} or literal(words[1]) is None:
            continue
        table = next((node for node in gate.walk(words[2]) if node.type == "hash_literal_expression"), None)
        if table is not None:
            keys = table_keys(table)
        else:
            # A table that is handed on from the end of the script to a function above is the only one of its name.
            tables = tables_given_to(text, text_of(words[2]))
            keys = ([keys for at, keys in tables if at < command.start_byte] or [keys for _, keys in tables])[-1]
        phase = literal(words[1]) or ""
        assert found.setdefault(phase, keys) == keys, f"{phase} is written with different keys"
    return found


@pytest.mark.parametrize("kind", JOBS)
def test_a_job_writes_every_state_of_its_contract_with_exactly_its_keys(kind: str) -> None:
    written = states_written(own_part(kind))
    states = JOBS[kind].states
    others = (JobPhase.ABANDONED, JobPhase.WITHDRAWN)
    wanted = {phase.value: set(keys) for phase, keys in states.items() if phase not in others}
    assert written == wanted


def test_a_job_that_is_given_up_is_told_so_by_the_first_state() -> None:
    for name in ("start_job", "cleanup"):
        assert {JobPhase.ABANDONED.value: set()} == states_written(compose(name).text)
    tokens = re.search(r"\$token = @\(([^)]*)\)", shared()["Add-State"])
    assert tokens is not None
    assert set(re.findall(r"'(\w+)'", tokens.group(1))) == {JobPhase.STARTED.value, JobPhase.ABANDONED.value}


def test_a_job_that_is_called_off_is_told_so_by_a_state_that_is_in_the_contract_of_each_that_waits() -> None:
    for name, job in JOBS.items():
        waits = "Wait-Window" in source(name)
        if waits:
            keys = set(job.states[JobPhase.WITHDRAWN])
            assert states_written(compose("withdraw_job").text) == {JobPhase.WITHDRAWN.value: keys}
        assert ({JobPhase.WITHDRAWN, JobPhase.WINDOW_OPEN, JobPhase.WAITING_FOR_WINDOW} <= set(job.states)) == waits
        assert ({JobReason.WITHDRAWN, JobReason.WINDOW_OVER} <= job.reasons) == waits


def test_every_state_begins_with_phase_time_and_process_and_ends_with_end() -> None:
    function = shared()["Get-StateText"]
    keys = re.findall(r"(?:'|`n)(\w+)='? ?", function)
    assert keys == ["phase", "time", "pid", "created"]
    assert '"end`n"' in function


# --- who may touch Windows ------------------------------------------------------------------------------------------


@each_script
def test_a_script_itself_calls_only_our_functions_and_what_touches_nothing(name: str) -> None:
    text = own_part(name)
    own = set(functions_of(text))
    assert commands_in(text) - own - set(primitives()) <= PURE_COMMANDS


@each_script
def test_a_script_itself_names_only_types_that_touch_nothing(name: str) -> None:
    root = gate.parse(own_part(name))
    assert {word for node in gate.walk(root) for word in gate.type_names(node)} <= PURE_TYPES


@each_script
def test_a_script_itself_uses_of_paths_only_what_cuts_text(name: str) -> None:
    assert set(re.findall(r"\[System\.IO\.Path\]::(\w+)", own_part(name))) <= {"GetDirectoryName"}
    assert set(re.findall(r"\[System\.DateTime\]::(\w+)", own_part(name))) <= {"ParseExact"}


@each_script
def test_a_script_itself_looks_at_no_environment_and_names_no_program(name: str) -> None:
    text = own_part(name)
    assert "$env:" not in text.lower()
    assert not re.search(r"\.exe\b", text)


@each_script
def test_every_function_that_a_script_calls_is_there(name: str) -> None:
    text = compose(name).text
    assert commands_in(text) - set(functions_of(text)) <= gate.COMMANDS


def test_every_primitive_and_every_shared_function_is_used_somewhere() -> None:
    composed = {name: functions_of(compose(name).text) for name in CONTRACTS}
    used = set().union(*(set(functions) for functions in composed.values()))
    assert set(primitives()) | set(shared()) <= used


def test_no_function_has_two_meanings() -> None:
    names = [*primitives(), *shared()]
    for name in CONTRACTS:
        names += functions_of(source(name))
    assert len(names) == len({name.lower() for name in names})


@pytest.mark.parametrize("name", ["windows", "jobs"])
def test_a_file_of_functions_has_nothing_between_them_but_comments(name: str) -> None:
    text = source(name)
    for function in functions_of(text).values():
        text = text.replace(function, "", 1)
    assert [line for line in text.splitlines() if line.strip() and not line.startswith("#")] == []


def test_programs_are_named_by_their_full_path() -> None:
    named = [value for node in nodes(source("windows"), "string_literal") if (value := literal(node)) is not None]
    programs = {value for value in named if value.endswith(".exe")}
    # The last one is the name of a process that is looked for.
    assert programs == {
        r"\System32\schtasks.exe",
        r"\System32\shutdown.exe",
        r"\System32\WindowsPowerShell\v1.0\powershell.exe",
        "msiexec.exe",
    }
    assert "$process.Name -eq 'msiexec.exe'" in source("windows")


def test_no_account_is_named_but_the_one_that_the_old_scheduler_wants() -> None:
    named = re.findall(r"Administrators?'|BUILTIN|NT AUTHORITY|LocalSystem|/ru \w+", source("windows"))
    assert named == ["/ru SYSTEM"]


# --- the loader -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Sources of a small project instead of the real ones; what was composed of them is forgotten."""
    texts = {
        "windows": (
            "# The one file.\n\nfunction Get-One {\n    # one; not Get-Three\n    return 1\n}\n\n"
            "function Get-Two {\n    return (Get-One) + 1\n}\n\nfunction Get-Three {\n    return 3\n}\n"
        ),
        "jobs": (
            "function Get-Sum {\n    # the sum\n    return (Get-Two) + (Get-Half)\n}\n\n"
            "function Get-Half {\n    return 0.5\n}\n\nfunction Get-Rest {\n    return (Get-Three)\n}\n"
        ),
        "facts": "# wsusfix script: facts\nparam($Parameters)\n# What it is for: not Get-Rest.\n\nGet-Sum\n",
    }
    monkeypatch.setattr(scripts, "source", texts.__getitem__)
    compose.cache_clear()
    yield texts
    compose.cache_clear()


SMALL = """\
# wsusfix script: facts
param($Parameters)
# --- windows.ps1 begins ---
function Get-One {
    return 1
}
function Get-Two {
    return (Get-One) + 1
}
# --- windows.ps1 ends ---
function Get-Sum {
    return (Get-Two) + (Get-Half)
}
function Get-Half {
    return 0.5
}
Get-Sum
"""


def test_a_script_is_composed_of_its_head_the_functions_it_uses_and_its_own_lines(sources: dict[str, str]) -> None:
    assert compose("facts").text == SMALL


def test_a_function_that_only_a_comment_names_is_left_out(sources: dict[str, str]) -> None:
    text = compose("facts").text
    assert "Get-Three" not in text
    assert "Get-Rest" not in text


def test_what_stands_for_windows_replaces_all_between_the_markers(sources: dict[str, str]) -> None:
    text = compose("facts", windows="\nfunction Get-Two {\n    return 4\n}\n\n").text
    begin, end = SMALL.index(BEGIN_WINDOWS), SMALL.index(END_WINDOWS)
    assert text == f"{SMALL[:begin]}{BEGIN_WINDOWS}\nfunction Get-Two {{\n    return 4\n}}\n{SMALL[end:]}"


def test_two_scripts_with_different_windows_are_not_confused(sources: dict[str, str]) -> None:
    texts = {compose("facts", windows=windows).text for windows in (None, "# a", "# b")}
    assert len(texts) == 3


@pytest.mark.parametrize(
    "text",
    [
        "# wsusfix script: stage\nparam($Parameters)\n'a'\n",
        "param($Parameters)\n'a'\n",
        "# wsusfix script: facts\n\nparam($Parameters)\n'a'\n",
        "# wsusfix script: facts\nparam($Parameters, $More)\n'a'\n",
        "",
    ],
)
def test_a_file_without_the_shape_of_a_script_is_not_composed(sources: dict[str, str], text: str) -> None:
    sources["facts"] = text
    with pytest.raises(ContractError, match=r"script facts: does not begin"):
        compose("facts")


def test_a_script_without_a_contract_is_not_composed() -> None:
    with pytest.raises(ContractError, match=r"there is no script 'windows'"):
        compose("windows")


def test_functions_are_found_by_a_brace_in_the_first_column() -> None:
    text = (
        "function Get-One {\n    if ($a) {\n        1\n    }\n}\n$b = 2\nfunction Get-Two2 {\n}\nfunction lower {\n}\n"
    )
    assert functions_of(text) == {
        "Get-One": "function Get-One {\n    if ($a) {\n        1\n    }\n}",
        "Get-Two2": "function Get-Two2 {\n}",
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("# wsusfix script: facts\nparam($Parameters)\n", "facts"),
        ("\ufeff# wsusfix script: start_job\r\nparam($Parameters)\r\n", "start_job"),
        ("# wsusfix script: facts", "facts"),
        ("# another script: facts\n", None),
        ("param($Parameters)\n# wsusfix script: facts\n", None),
        ("", None),
    ],
)
def test_a_script_is_recognised_by_its_first_line(text: str, name: str | None) -> None:
    assert name_of(text) == name


@each_script
def test_a_composed_script_is_recognised_as_itself(name: str) -> None:
    assert name_of(compose(name).text) == name
    assert name_of(compose(name).staged.decode("utf-8")) == name


@each_script
def test_a_composed_script_has_no_comment_but_its_name_and_the_markers(name: str) -> None:
    lines = compose(name).text.splitlines()
    comments = [line for line in lines if line.lstrip().startswith("#")]
    assert comments == [f"# wsusfix script: {name}", BEGIN_WINDOWS, END_WINDOWS]
    assert lines[1] == "param($Parameters)"
    assert all(line.strip() for line in lines)


@each_script
def test_between_the_markers_stand_functions_of_windows_and_nothing_else(name: str) -> None:
    text = compose(name).text
    between = text[text.index(BEGIN_WINDOWS) + len(BEGIN_WINDOWS) : text.index(END_WINDOWS)]
    functions = functions_of(between)
    assert functions.keys() <= primitives().keys()
    for function in functions.values():
        between = between.replace(function, "", 1)
    assert between.strip() == ""


def test_a_script_carries_what_it_needs_through_others_and_nothing_besides() -> None:
    functions = functions_of(compose("poll_job").text)
    assert {"Get-JobStatus", "Read-TextFile", "Open-SharedFile"} <= functions.keys()
    assert not {"Register-SystemTask", "New-ClosedFolder", "Get-PackageSignature", "Add-Claim"} & functions.keys()


def test_a_staged_script_has_a_mark_and_the_line_ends_of_windows() -> None:
    script = compose("install_update")
    assert script.staged.startswith(b"\xef\xbb\xbf# wsusfix script: install_update\r\nparam($Parameters)\r\n")
    assert script.staged.count(b"\n") == script.staged.count(b"\r\n") == script.text.count("\n")
    assert script.staged_sha256 == hashlib.sha256(script.staged).hexdigest()


def test_the_representation_of_a_script_does_not_show_its_text() -> None:
    script = compose("facts")
    assert repr(script) == f"Script('facts', {len(script.text)} characters)"


# --- contracts ------------------------------------------------------------------------------------------------------


def minimal(contract: Contract) -> dict[str, str | int | bool]:
    """An answer that has what must be there and nothing more."""
    return {"script": contract.name} | {
        key: wanted.kind() for key, wanted in contract.answer.items() if wanted.required
    }


each_question = pytest.mark.parametrize(
    "name", sorted(name for name, contract in CONTRACTS.items() if not contract.is_job)
)


@each_question
def test_an_answer_with_every_key_is_read(name: str) -> None:
    answer = minimal(CONTRACTS[name])
    read = CONTRACTS[name].read(answer)
    assert read == {key: value for key, value in answer.items() if key != "script"}


@each_question
def test_an_answer_without_one_of_its_keys_is_refused(name: str) -> None:
    contract = CONTRACTS[name]
    for key in contract.answer:
        answer = minimal(contract)
        del answer[key]
        with pytest.raises(ContractError, match=rf"{key} is missing"):
            contract.read(answer)


def test_a_refusal_that_the_contract_does_not_know_is_refused() -> None:
    contract = CONTRACTS["cleanup"]
    answer = minimal(contract)
    assert contract.read(answer | {"refused": "job_running"})["refused"] == "job_running"
    with pytest.raises(ContractError, match="unknown refusal"):
        contract.read(answer | {"refused": "no_space"})
