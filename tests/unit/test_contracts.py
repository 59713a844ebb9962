"""The contracts hold on both sides: what is sent and what comes back is exactly what is written down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import builders
from wsusfix.scripts.contracts import (
    CONTRACTS,
    DEFAULT_LIMIT,
    FACTS,
    JOBS,
    LONG_LIMIT,
    RECORD_LIMIT,
    STAGE,
    Contract,
    ContractError,
    Field,
    JobPhase,
    JobReason,
    Refusal,
)

QUESTIONS = tuple(contract for contract in CONTRACTS.values() if not contract.is_job)
OF_A_KIND: Mapping[type, Any] = {str: "x", int: 7, bool: True, list: [], dict: {}, bytes: b""}
#: What is sent or answered by mistake; each is wrong for every kind but its own.
STRANGERS: tuple[Any, ...] = ("x", 7, True, [], {}, b"", None, 1.5, ("x",))

each_question = pytest.mark.parametrize("contract", QUESTIONS, ids=lambda contract: contract.name)
each_contract = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)


def _answer(contract: Contract) -> dict[str, Any]:
    told = {key: OF_A_KIND[wanted.kind] for key, wanted in contract.answer.items()}
    if contract.refusals:
        told["refused"] = ""
    return {"script": contract.name, **told}


def _parameters(contract: Contract) -> dict[str, Any]:
    return {key: OF_A_KIND[kind] for key, kind in contract.parameters.items()}


# --- answers --------------------------------------------------------------------------------------------------------


@each_question
def test_an_answer_that_follows_the_contract_is_read_as_it_is(contract: Contract) -> None:
    answer = _answer(contract)
    read = contract.read(answer)
    assert {"script": contract.name, **read} == answer
    assert json.loads(json.dumps(read)) == read


@each_question
def test_an_answer_without_one_of_its_keys_is_refused_by_the_name_of_the_key(contract: Contract) -> None:
    for key in contract.answer:
        answer = _answer(contract)
        del answer[key]
        with pytest.raises(ContractError, match=rf"script {contract.name}: {key} is missing"):
            contract.read(answer)


@each_question
def test_an_answer_with_a_value_of_another_type_is_refused_by_the_name_of_the_key(contract: Contract) -> None:
    for key, wanted in contract.answer.items():
        for stranger in STRANGERS:
            if type(stranger) is wanted.kind:
                continue
            with pytest.raises(ContractError, match=rf"script {contract.name}: {key} is {type(stranger).__name__}"):
                contract.read({**_answer(contract), key: stranger})


def test_a_truth_value_is_no_number_and_a_number_no_truth_value() -> None:
    for key, wanted in (("leftovers", int), ("administrator", bool)):
        for value in (0, 1, False, True):
            answer = {**builders.answer(), key: value}
            if type(value) is wanted:
                assert FACTS.read(answer)[key] is value
            else:
                with pytest.raises(ContractError, match=key):
                    FACTS.read(answer)


@each_question
def test_a_string_longer_than_its_bound_is_refused(contract: Contract) -> None:
    for key, wanted in contract.answer.items():
        if wanted.kind is not str or key == "refused":
            continue
        assert contract.read({**_answer(contract), key: "x" * wanted.limit})[key] == "x" * wanted.limit
        with pytest.raises(ContractError, match=f"{key} has {wanted.limit + 1} characters"):
            contract.read({**_answer(contract), key: "x" * (wanted.limit + 1)})


def test_every_string_of_an_answer_is_bounded() -> None:
    for contract in QUESTIONS:
        for wanted in (*contract.answer.values(), *contract.families.values()):
            assert wanted.limit in (DEFAULT_LIMIT, LONG_LIMIT, RECORD_LIMIT)
    assert LONG_LIMIT <= 256 * 1024
    assert RECORD_LIMIT <= 300_000


def test_a_string_of_a_class_of_its_own_comes_out_as_a_plain_string() -> None:
    class Tagged(str):
        pass

    assert type(FACTS.read(builders.answer(account=Tagged("CORP\\admin")))["account"]) is str


@each_question
def test_another_scripts_answer_is_refused(contract: Contract) -> None:
    for name in (*CONTRACTS.keys() - {contract.name}, "", None, 5):
        with pytest.raises(ContractError, match="does not name this script"):
            contract.read({**_answer(contract), "script": name})
    answer = _answer(contract)
    del answer["script"]
    with pytest.raises(ContractError, match="does not name this script"):
        contract.read(answer)


@pytest.mark.parametrize("answer", [None, "facts", 5, [], [{"script": "facts"}], (), b"", object(), {"script"}])
def test_what_is_not_one_hashtable_is_refused(answer: object) -> None:
    with pytest.raises(ContractError, match=f"answered {type(answer).__name__}, expected one hashtable"):
        FACTS.read(answer)


@each_question
def test_keys_the_contract_does_not_know_are_dropped(contract: Contract) -> None:
    strange: dict[Any, Any] = {"extra": 1, 5: "x", None: None, "Script": "x", "": "x"}
    assert contract.read({**_answer(contract), **strange}) == contract.read(_answer(contract))


def test_families_take_every_key_of_their_prefix_and_hold_it_to_their_type() -> None:
    read = FACTS.read(builders.answer(setup_Whatever="x", service_other="stopped", setups="x", service="x"))
    assert read["setup_Whatever"] == "x"
    assert read["service_other"] == "stopped"
    assert not {"setups", "service"} & read.keys()
    for key in ("setup_VersionString", "service_wsusservice"):
        for value in (5, True, None, "x" * (DEFAULT_LIMIT + 1)):
            with pytest.raises(ContractError, match=key):
                FACTS.read({**builders.answer(), key: value})
        assert key not in FACTS.read(builders.answer(**{key: None}))


def test_a_key_of_the_answer_is_not_taken_for_one_of_a_family() -> None:
    assert FACTS.read(builders.answer())["setup_present"] is True
    with pytest.raises(ContractError, match="setup_present is str"):
        FACTS.read({**builders.answer(), "setup_present": "yes"})


@each_question
def test_only_the_refusals_of_the_contract_are_taken(contract: Contract) -> None:
    if not contract.refusals:
        assert "refused" not in contract.answer
        return
    for refusal in Refusal:
        answer = {**_answer(contract), "refused": refusal.value}
        if refusal in contract.refusals | {Refusal.NONE}:
            assert contract.read(answer)["refused"] == refusal.value
        else:
            with pytest.raises(ContractError, match="unknown refusal"):
                contract.read(answer)
    with pytest.raises(ContractError, match="unknown refusal") as caught:
        contract.read({**_answer(contract), "refused": "\x1b[2J" + "x" * 4000})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*FACTS.answer, "script", "setup_x", "service_y", "other"]), _anything))
@settings(deadline=None)
def test_no_answer_whatever_ends_in_another_error_than_the_contracts(changes: dict[str, Any]) -> None:
    try:
        read = FACTS.read({**builders.answer(), **changes})
    except ContractError as error:
        said = str(error)
        assert said.startswith("script facts: ")
    else:
        assert read.keys() >= FACTS.answer.keys()
        assert all(type(value) in (str, int, bool) for value in read.values())


# --- parameters -----------------------------------------------------------------------------------------------------


@each_contract
def test_exactly_the_parameters_of_the_contract_are_sent(contract: Contract) -> None:
    contract.check_parameters(_parameters(contract))
    for key in contract.parameters:
        missing = _parameters(contract)
        del missing[key]
        with pytest.raises(ContractError, match=f"script {contract.name}: parameter {key} is missing"):
            contract.check_parameters(missing)
    with pytest.raises(ContractError, match=f"script {contract.name}: unknown parameter extra"):
        contract.check_parameters({**_parameters(contract), "extra": "x"})


@each_contract
def test_a_parameter_of_another_type_is_refused_by_its_name(contract: Contract) -> None:
    for key, kind in contract.parameters.items():
        for stranger in STRANGERS:
            if type(stranger) is kind:
                continue
            with pytest.raises(
                ContractError, match=f"script {contract.name}: parameter {key} is {type(stranger).__name__}"
            ):
                contract.check_parameters({**_parameters(contract), key: stranger})


# --- the set of them ------------------------------------------------------------------------------------------------


@each_contract
def test_a_contract_says_what_its_script_is_for_in_one_sentence(contract: Contract) -> None:
    assert contract.purpose.endswith(".")
    assert "\n" not in contract.purpose
    assert set(contract.parameters.values()) <= OF_A_KIND.keys()


def test_contracts_are_found_by_the_names_of_their_scripts() -> None:
    assert all(name == contract.name for name, contract in CONTRACTS.items())


def test_a_job_answers_nothing_and_every_other_script_something() -> None:
    for contract in CONTRACTS.values():
        assert bool(contract.answer) is not contract.is_job


def test_whatever_may_refuse_says_why_and_a_question_never_refuses() -> None:
    for contract in CONTRACTS.values():
        assert ({"refused", "detail"} <= contract.answer.keys()) is bool(contract.refusals)
        assert Refusal.NONE not in contract.refusals
    assert {name for name, contract in CONTRACTS.items() if not contract.refusals} == {
        "facts",
        "surroundings",
        "approvals",
        "poll_job",
        "search_logs",
        "client",
        "collect_job",
        *JOBS,
    }


def test_every_refusal_may_be_answered_by_some_script() -> None:
    assert set().union(*(contract.refusals for contract in CONTRACTS.values())) == set(Refusal) - {Refusal.NONE}


@pytest.mark.parametrize("contract", JOBS.values(), ids=lambda contract: contract.name)
def test_every_job_begins_ends_and_breaks_in_the_same_words_and_every_phase_has_its_keys(contract: Contract) -> None:
    first, *_, end, abandoned = contract.states
    assert (first, end, abandoned) == (JobPhase.STARTED, JobPhase.FINISHED, JobPhase.ABANDONED)
    assert {"reason", "detail"} <= set(contract.states[JobPhase.FINISHED])
    assert JobReason.BROKEN in contract.reasons
    for keys in contract.states.values():
        assert not set(keys) & {"phase", "time", "pid", "created", "number"}


def test_every_phase_and_every_reason_is_some_jobs() -> None:
    assert {phase for contract in JOBS.values() for phase in contract.states} == set(JobPhase)
    assert {reason for contract in JOBS.values() for reason in contract.reasons} == set(JobReason)


@each_question
def test_what_is_no_job_has_neither_states_nor_reasons(contract: Contract) -> None:
    assert (contract.is_job, dict(contract.states), contract.reasons) == (False, {}, frozenset())


def test_a_contract_cannot_be_changed_by_accident() -> None:
    with pytest.raises(AttributeError):
        STAGE.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        CONTRACTS["other"] = STAGE  # type: ignore[index]
    with pytest.raises(AttributeError):
        Field().limit = 5  # type: ignore[misc]
