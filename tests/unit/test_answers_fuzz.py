"""Whatever a server answers, what reads it works or raises an error of ours, and nothing of it reaches a terminal.

Every script's answer is made up by its contract, and then bent: keys missing, of a wrong type, too long, or of the
right type and full of what hostile servers put into strings.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import builders
from wsusfix import agent, diagnosis, facts, report, scripts, verify
from wsusfix import plan as planning
from wsusfix.errors import (
    AnswerError,
    JobError,
    RefusedByServerError,
    WsusFixError,
)
from wsusfix.events import Event
from wsusfix.facts import read_approvals
from wsusfix.logs import FileKind, machine
from wsusfix.options import Options, Timeouts
from wsusfix.plan import ResetApprovals, RestoreSettings
from wsusfix.remote import job as jobs
from wsusfix.remote import upload as uploading
from wsusfix.remote.session import _check_sendable
from wsusfix.report import HostResult, Run
from wsusfix.scripts import Script
from wsusfix.scripts.contracts import (
    CONTRACTS,
    DEFAULT_LIMIT,
    JOBS,
    LONG_LIMIT,
    Contract,
    ContractError,
    Field,
    JobReason,
    JobStatus,
    ResetState,
    Scalar,
    StagingState,
    UpgradeState,
)
from wsusfix.surroundings import record_parameters

TIMEOUTS: Final = Timeouts()
#: What a reader may end in; anything else is a defect.
REFUSALS: Final = (AnswerError, RefusedByServerError)
HOSTILE: Final = "\x1b[2J\u202e\nFORGED\x00\ud7ff"
FUZZ: Final = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


class Answering:
    """Stands where a session stands: checks what is sent as a session does, and reads what comes back as it does."""

    host = "wsus01"
    lanes = 2

    def __init__(self, answer: Callable[[str], object]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self.calls: list[str] = []

    def run(
        self,
        script: Script,
        parameters: Mapping[str, Any],
        *,
        phase: str,
        within: float | None = None,
        chunks: Callable[[], Iterator[bytes]] | None = None,
    ) -> dict[str, Scalar]:
        script.contract.check_parameters(parameters)
        _check_sendable(parameters)
        for _ in chunks() if chunks is not None else ():
            pass
        with self._lock:
            self.calls.append(script.contract.name)
            answer = self._answer(script.contract.name)
        try:
            return script.contract.read(answer)
        except ContractError as error:
            raise AnswerError(str(error), host=self.host, phase=phase) from error

    def lane(self, number: int) -> Answering:
        return self

    def cut(self) -> None:
        """A lane's."""

    def close(self) -> None:
        """Of the session and its lanes."""

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()


def session_of(answer: object) -> Any:
    return Answering(lambda _: answer)


# --- answers --------------------------------------------------------------------------------------------------------

#: What is put into strings by those who mean ill: terminals, markup, numbers that are none, paths, formats.
NASTY: Final = (
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\x00",
    "a\rb",
    "a\x0bb\x0cc\u2028d\x85e",
    "<script>alert(1)</script>",
    "](javascript:x)|`",
    "{0.__class__} %s %n {package}",
    "9" * 4000,
    "-1",
    "+1",
    "1e9",
    "1_0",
    "\u0663",
    "\u00b2",
    "NaN",
    " 5 ",
    "0x10",
    "\ud800",
    "../../etc/passwd",
    "\\\\evil\\share",
    "",
)
UPGRADED: Final = builders.upgraded("closed")
RESTARTED: Final = builders.restarted()
#: What a reader looks for in a key, and near misses of it, so that bent answers get past the first look.
FITTING: Final[Mapping[str, Sequence[str]]] = {
    "kind": [*JOBS, "nonsense", ""],
    "status": [status.value for status in JobStatus],
    "states": [
        "number=1\nphase=started\ntime=2008-09-02T10:00:00Z\npid=7\nend",
        "number=1\nphase=finished\nreason=done\ndetail=\x1b[2J\nexit_code=-1\nend",
        "number=2\nphase=finished\nreason=nonsense\nend\n\nnumber=2\nphase=installed\nend",
        "number=-5\nphase=installing\nstill=\x1b[31m\nend\nnumber=\u0663\nphase=installed\nexit_code=x\nend",
        "number=99999999999\nphase=started\nend",
        f"number={'9' * 4000}\nphase=started\nend",
        "number=1\nphase=nonsense\nend",
        "end\nend",
    ],
    "logs": [f"{'5a' * 32} 2048 job.log", f"{'5a' * 32} {'9' * 5000} job.log", "\x1b" * 64 + " 1 \x1b[2J"],
    "log_tail": ["line\r\nline\x1b[2J\x00\n" * 40],
    "segments": ["0-255000", "255000-45002", "0-255000\n255000-45002", "0--1", "x"],
    "job_id": ["abc", "", "../abc", "a b", "x" * 41],
    "staging_state": [state.value for state in StagingState],
    "reset_state": [state.value for state in ResetState],
    "upgrade_state": [state.value for state in UpgradeState],
    "upgrade_number": ["3", "\u0663", "-1", "9" * 40],
    "upgrade_record": [UPGRADED["upgrade_record"], "services=\x1b[2J/w3svc\nsites=" + "1/" * 9000, "end\nend"],
    "upgrade_end": ["time=2008-09-02T09:00:00Z\nrestart=true\nend\n", "time=\u0662\nrestart=\x1b[2J\nend", ""],
    "upgrade_setup": [
        "time=2008-09-02T09:00:00Z\nrestart=true\nboot=2008-08-01T06:00:00Z\nend\n",
        "boot=\u0662\nend",
        "",
    ],
    "ran_number": ["2", "\u0663", "-1", "9" * 40, ""],
    "ran_record": [RESTARTED["ran_record"], "time=\x1b[2J\nservices=" + "was/" * 9000, "end\nend"],
    "updates": [builders.UPDATE, f"{builders.NEAR}\n{builders.TREATED}", f"{builders.UPDATE}\x1b[2J", "nonsense"],
    "marker": [builders.MARKER, builders.MARKER.replace(" 102", " \u0663"), builders.MARKER[:-4]],
    "saved": [builders.SAVED, builders.SAVED.replace("CORP", "\x1b[2J"), builders.SAVED[:-9]],
    "job_status": [status.value for status in JobStatus],
    "setup_VersionString": ["3.1.6001.65", "3.0.6000.374", "2.0.0.2620", "9.9.9.9", "3.1", "3.1.6001.65\x1b[2J"],
    "setup_InstallType": ["1", "2", "128", "\u0661"],
    "dll_version": ["3.1.6001.66", "3.1.6001.65", "", "\x1b[2J"],
    "os_version": ["6.0.6002", "5.2.3790", "6", "1." * 2000 + "1", "\u0666.0"],
    "boot_time": ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2008-13-01T00:00:00Z"],
    "clock": ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "now"],
    "staging_free": ["0", "20000000000", "99999999999999999999", "-1"],
}

texts = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=20),
    st.lists(st.sampled_from([text for text in NASTY if len(text) < 100]), max_size=3).map("\n".join),
)
numbers = st.sampled_from([0, 1, -1, 2**31, -(2**63), 10**4000])
anything = st.one_of(
    texts,
    numbers,
    st.sampled_from(
        [
            True,
            None,
            1.5,
            "x" * DEFAULT_LIMIT,
            "x" * (DEFAULT_LIMIT + 1),
            float("nan"),
            b"bytes",
            "x" * 300_000,
            [1],
            {"deep": {}},
            object(),
        ]
    ),
)


def of(key: str, field: Field) -> st.SearchStrategy[object]:
    """Return values of the kind that the contract asks for under a key, most of them fitting or nearly so."""
    if field.kind is bool:
        return st.booleans()
    if field.kind is int:
        return numbers
    fitting = FITTING.get(key)
    return texts if fitting is None else st.one_of(st.sampled_from(fitting), st.sampled_from(fitting), texts)


def answers(contract: Contract) -> st.SearchStrategy[dict[Any, Any]]:
    """Return answers by the contract, of which some have a key bent, missing or too many; and some that are none."""
    plain: dict[Any, st.SearchStrategy[Any]] = {
        "script": st.just(contract.name),
        **{key: of(key, field) for key, field in contract.answer.items()},
    }
    if contract.refusals:
        known = ["", "", "", "nonsense", *sorted(refusal.value for refusal in contract.refusals)]
        plain["refused"] = st.sampled_from(known)
    keys = st.sampled_from(sorted(plain))
    whole = st.fixed_dictionaries(plain)
    bent = st.builds(lambda answer, key, value: {**answer, key: value}, whole, keys, anything)
    short = st.builds(lambda answer, lost: {k: v for k, v in answer.items() if k != lost}, whole, keys)
    return st.one_of(whole, whole, bent, short, st.dictionaries(anything.filter(_hashable), anything, max_size=3))


def _hashable(value: object) -> bool:
    return not isinstance(value, list | dict)


def harmless(text: str) -> None:
    """Make sure that printing *text* can do nothing but print."""
    bad = {char for char in text if char != "\n" and not char.isprintable()}
    assert not bad, f"{bad!r} would reach the terminal"


# --- what reads them ------------------------------------------------------------------------------------------------


@settings(FUZZ, max_examples=40)
@given(st.data())
@pytest.mark.parametrize("name", [name for name, contract in CONTRACTS.items() if not contract.is_job])
def test_every_contract_reads_an_answer_or_says_what_is_wrong_with_it(name: str, data: st.DataObject) -> None:
    contract = CONTRACTS[name]
    answer = data.draw(st.one_of(answers(contract), anything))
    try:
        read = contract.read(answer)
    except ContractError as error:
        said = str(error)
    else:
        for key, field in contract.answer.items():
            assert type(read[key]) is field.kind
            assert not isinstance(read[key], str) or len(str(read[key])) <= field.limit
        return
    assert f"script {name}" in said
    assert len(said) < 1000


def _facts() -> st.SearchStrategy[dict[Any, Any]]:
    """Return an ordinary answer with a few values bent: most of these are read to the end."""
    ordinary = builders.answer()
    contract = CONTRACTS["facts"]

    def bent(key: str) -> st.SearchStrategy[tuple[str, object]]:
        return st.tuples(st.just(key), of(key, contract.answer.get(key, Field())))

    changes = st.lists(st.sampled_from(sorted(ordinary)).flatmap(bent), min_size=1, max_size=3)
    return changes.map(lambda changed: {**ordinary, **dict(changed), "script": "facts"})


def told(answer: object) -> None:
    """Walk from an answer of the facts script to every way of showing it; nothing of it may do harm.

    Raises:
        AnswerError: it was refused.
    """
    session = session_of(answer)
    found = facts.parse(
        "wsus01", session.run(scripts.compose("facts"), facts.probe_parameters(TIMEOUTS), phase="facts")
    )
    for path, text in _texts(found.to_dict()):
        if path not in SENT_BACK:
            harmless(text)
    judged = diagnosis.diagnose(found)
    plan = planning.plan(judged, builders.package(), Options())
    proof = verify.verify(found, builders.facts())
    for result in (found, judged, plan, proof):
        harmless(f"{result}\n{result!r}")
    now = datetime.now(timezone.utc)
    run = Run("diagnose", now, now, (HostResult("wsus01", diagnosis=judged, plan=plan, verification=proof),))
    for write in (report.to_text, report.to_markdown, report.to_html, report.to_json):
        harmless(write(run))
        write(run).encode()
    assert "<script>" not in report.to_html(run)
    json.loads(report.to_json(run))


#: Texts that are as the server said them, for they go back to it: paths.
SENT_BACK: Final = frozenset({"wsus.target", "wsus.dll_path"})


def _texts(data: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Return every text in plain data, with its place."""
    match data:
        case str():
            yield path, data
        case dict():
            for key, value in data.items():
                yield from _texts(value, f"{path}.{key}".lstrip("."))
        case list():
            for value in data:
                yield from _texts(value, path)


@settings(FUZZ, max_examples=200)
@given(st.one_of(_facts(), _facts(), _facts(), answers(CONTRACTS["facts"])))
def test_facts_of_any_kind_are_told_planned_and_reported_or_refused(answer: dict[Any, Any]) -> None:
    try:
        told(answer)
    except REFUSALS as error:
        harmless(str(error))


#: What is decided by, so that anything else in it is refused.
DECIDED: Final = frozenset(
    {
        "script",
        "os_version",
        "os_suite_mask",
        "boot_time",
        "clock",
        "staging_state",
        "staging_free",
        "system_free",
        "reset_state",
        "upgrade_state",
        "ran_number",
    }
)


@pytest.mark.parametrize("text", [text for text in NASTY if len(text) <= DEFAULT_LIMIT], ids=ascii)
@pytest.mark.parametrize("but", [(), ("setup_InstallType", "setup_VersionString", "dll_version", "architecture")])
def test_a_text_in_every_place_that_takes_any_does_no_harm_in_any(text: str, but: tuple[str, ...]) -> None:
    keep = {*DECIDED, *but, "job_status"}
    told({k: text if isinstance(v, str) and k not in keep else v for k, v in builders.answer(job_id="abc").items()})


@pytest.mark.parametrize("key", sorted(DECIDED - {"script"}))
@pytest.mark.parametrize("text", [text for text in NASTY if text != " 5 "], ids=ascii)
def test_a_text_where_something_is_decided_by_it_is_refused(text: str, key: str) -> None:
    if (key, text) == ("ran_number", ""):
        told(builders.answer(**{key: text}))  # there is no such record
        return
    with pytest.raises(AnswerError) as caught:
        told(builders.answer(**{key: text}))
    harmless(str(caught.value))


@settings(FUZZ, max_examples=150)
@given(answers(CONTRACTS["approvals"]), st.sampled_from([None, [builders.UPDATE_ID], [builders.NEAR_ID]]))
def test_what_wsus_says_of_its_updates_is_told_or_refused(answer: dict[Any, Any], ids: list[str] | None) -> None:
    try:
        session = session_of(answer)
        asked = {"kept_name": "x", "title": "x", "kb": "1", "ids": [], "url": ""}
        told_of = read_approvals("wsus01", session.run(scripts.compose("approvals"), asked, phase="facts"))
    except REFUSALS as error:
        harmless(str(error))
        return
    found = diagnosis.diagnose(builders.facts(**builders.RTM).with_approvals(told_of))
    made = planning.plan(found, None, Options(update_ids=ids))
    proof = verify.verify(found.facts)
    harmless("\n".join([str(told_of), str(found), repr(found), str(made), repr(made), str(proof)]))
    json.dumps([found.to_dict(), made.to_dict(), proof.to_dict()])
    # Whatever it says: nothing is proved but by a marker that fits, and nothing is planned that nobody named.
    assert not proof.ok or (told_of.marker is not None and told_of.reset.value == "marked")
    for step in made.steps:
        if isinstance(step, RestoreSettings):
            # Which changes nothing but what an earlier run wrote down.
            assert found.facts.cut_off
            continue
        assert isinstance(step, ResetApprovals)
        assert all(update.named or (ids and update.id in ids) for update in step.updates)


@settings(FUZZ, max_examples=200)
@given(answers(CONTRACTS["poll_job"]), answers(CONTRACTS["poll_job"]))
def test_states_of_a_job_of_any_kind_are_told_or_refused(first: dict[Any, Any], then: dict[Any, Any]) -> None:
    try:
        job = jobs.look(session_of(first), "abc", TIMEOUTS)
        # What the first look said goes into the second one's question.
        job = jobs.look(session_of(then), "abc", TIMEOUTS, job)
    except REFUSALS as error:
        harmless(str(error))
        return
    for step in job.steps:
        assert 0 < step.number < 100_000
        harmless("".join(step.values.values()) + step.time)
    harmless("\n".join([str(job), repr(job), *(str(jobs._event("wsus01", "abc", step)) for step in job.steps)]))
    json.dumps(job.to_dict())
    assert job.reason is None or isinstance(job.reason, JobReason)


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize(
    "text", [*(text for text in NASTY if "\n" not in text), "x" * 50_000], ids=lambda t: ascii(t[:20])
)
def test_a_text_in_every_key_of_every_state_does_no_harm_where_it_is_shown(text: str, kind: str) -> None:
    states = "\n".join(
        "\n".join([f"number={number}", f"phase={phase.value}", f"time={text}", f"pid={text}",
                   *(f"{key}={text}" for key in keys), "end"])
        for number, (phase, keys) in enumerate(JOBS[kind].states.items(), 1)
    )  # fmt: skip
    if len(states) > LONG_LIMIT:
        states = f"number=1\nphase=finished\ndetail={text}\ntime={text}\nend"
    job = jobs.look(session_of(polled(kind=kind, states=states)), "abc", TIMEOUTS)
    assert job.steps
    for step in job.steps:
        shown = [*step.values.values(), step.time, str(step), str(jobs._event("wsus01", "abc", step))]
        harmless("".join(shown))
        assert all(len(each) < 1200 for each in shown)


@FUZZ
@given(answers(CONTRACTS["start_job"]))
def test_the_start_of_a_job_gives_an_id_that_may_stand_in_a_path_or_is_refused(answer: dict[Any, Any]) -> None:
    parameters = {
        name: {str: "x", int: 1, bool: True, list: []}[kind]
        for name, kind in CONTRACTS["install_update"].parameters.items()
    }
    try:
        started = jobs.start(session_of(answer), scripts.compose("install_update"), parameters, TIMEOUTS)
    except REFUSALS as error:
        harmless(str(error))
        return
    assert started.job_id.isascii()
    assert started.job_id.isalnum()
    harmless(started.kind)
    assert isinstance(started.joined, bool)


@FUZZ
@given(answers(CONTRACTS["collect_job"]))
def test_what_a_job_left_is_told_or_refused(answer: dict[Any, Any]) -> None:
    try:
        left = jobs.collect(session_of(answer), "abc")
    except REFUSALS as error:
        harmless(str(error))
        return
    harmless("\n".join(str(log) for log in left.logs) + repr(left))
    json.dumps(left.to_dict())


@FUZZ
@given(answers(CONTRACTS["withdraw_job"]))
def test_what_was_withdrawn_is_told_or_refused(answer: dict[Any, Any]) -> None:
    try:
        withdrawal = jobs.withdraw(session_of(answer), TIMEOUTS)
    except REFUSALS as error:
        harmless(str(error))
        return
    harmless(str(withdrawal) + repr(withdrawal))
    json.dumps(withdrawal.to_dict())


@FUZZ
@given(answers(CONTRACTS["cleanup"]))
def test_what_was_cleaned_up_is_told_or_refused(answer: dict[Any, Any]) -> None:
    try:
        cleaned = jobs.cleanup(session_of(answer), TIMEOUTS, record_parameters())
    except REFUSALS as error:
        harmless(str(error))
        return
    harmless(str(cleaned) + repr(cleaned))
    json.dumps(cleaned.to_dict())


def _log_answers() -> st.SearchStrategy[dict[Any, Any]]:
    """Return answers with one file in them, whose three texts are whole, bent or something else altogether."""
    line = "2008-06-16 07:00:00.000 UTC\tInfo\tw3wp.5\tThreadEntry\tThreadHelper.ThreadStart\n"
    fault = "System.ArgumentException: x\n at System.Collections.Hashtable.Insert(\n"
    texts_of = {
        "file_0": ["C:\\a.log\n900\n0\n0\n\n", "C:\\a.log\n900\n100\n3\ntz: +0100\ntime", "x\n1\n2\n3\n4\n5\n6"],
        "edges_0": [line, line + HOSTILE, "\ufeff"],
        "groups_0": [f"0 9 1 {len(fault)} \n{fault}", f"0 9 1 5 h\nabcde0 9 1 3 {HOSTILE[:9]}\nabc", "1 2 3 4 5"],
    }
    filled = {key: st.one_of(st.sampled_from(known), st.sampled_from(known), texts) for key, known in texts_of.items()}
    ordinary = st.fixed_dictionaries({key: st.just(value) for key, value in builders.no_logs().items()} | filled)
    return ordinary.map(lambda answer: {**answer, "files": 1})


@FUZZ
@given(st.one_of(_log_answers(), answers(CONTRACTS["search_logs"])))
def test_searches_for_updates_of_any_kind_are_told_or_refused(answer: dict[Any, Any]) -> None:
    try:
        found, why = machine.parse_detections("pc01", CONTRACTS["search_logs"].read(answer))
    except ContractError:
        return
    except REFUSALS as error:
        harmless(str(error))
        return
    harmless(why + "".join(str(each) + repr(each) for each in found))


@FUZZ
@given(answers(CONTRACTS["client"]))
def test_settings_of_a_client_of_any_kind_are_told_or_refused(answer: dict[Any, Any]) -> None:
    try:
        settings_told = agent.parse("pc01", CONTRACTS["client"].read(answer))
    except ContractError:
        return
    except REFUSALS as error:
        harmless(str(error))
        return
    harmless(str(settings_told) + repr(settings_told))
    settings_told.asks(["wsus01"])
    json.dumps(settings_told.to_dict())


@FUZZ
@given(st.one_of(_log_answers(), answers(CONTRACTS["search_logs"])), st.sampled_from(["server", "client"]))
def test_logs_of_any_kind_are_told_or_refused(answer: dict[Any, Any], side: str) -> None:
    try:
        read = CONTRACTS["search_logs"].read(answer)
        found = machine.parse("wsus01", FileKind(side), read)
    except ContractError:
        return
    except REFUSALS as error:
        harmless(str(error))
        return
    told_of = diagnosis.diagnose(builders.facts(), found)
    harmless(str(found) + repr(found) + str(told_of) + repr(told_of))
    json.dumps(told_of.to_dict())
    assert told_of.observed is not diagnosis.Observed.NO or found.complete


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "package.exe"
    path.write_bytes(b"MZ" + bytes(300_000))
    return path


class Clock:
    """A clock that only sleeping puts on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def bring(session: Any, path: Path) -> uploading.Upload:
    """Upload with a clock of its own, so that patience costs no time."""
    events: list[Event] = []
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploading, "time", clock)
        done = uploading.upload(
            session,
            str(path),
            sha256="5a" * 32,
            size=300_002,
            reserve=0,
            timeouts=TIMEOUTS,
            on_event=events.append,
        )
    harmless("\n".join(str(event) for event in events))
    return done


@settings(FUZZ, max_examples=60)
@given(st.data())
def test_an_upload_ends_whatever_the_server_says_to_it(file: Path, data: st.DataObject) -> None:
    told = {
        name: data.draw(st.lists(answers(CONTRACTS[name]), min_size=1, max_size=3), label=name)
        for name in ("stage", "receive", "assemble")
    }
    counts = dict.fromkeys(told, 0)

    def answer(name: str) -> object:
        counts[name] += 1
        return told[name][(counts[name] - 1) % len(told[name])]

    session = Answering(answer)
    try:
        done = bring(session, file)
    except (*REFUSALS, JobError) as error:
        harmless(str(error))
    else:
        harmless(repr(done))
    assert len(session.calls) < 500


def test_a_server_that_takes_everything_and_keeps_nothing_ends_an_upload(file: Path) -> None:
    plain = {"refused": "", "detail": ""}
    told = {
        "stage": {"script": "stage", **plain, "path": "C:\\x", "complete": False, "segments": "", "free": "1"},
        "receive": {"script": "receive", **plain, "received": "9"},
        "assemble": {"script": "assemble", "refused": "missing_segment", "detail": "", "path": "", "found_sha256": ""},
    }
    session = Answering(lambda name: told[name])
    with pytest.raises(WsusFixError):
        bring(session, file)
    assert len(session.calls) < 500


def polled(**changes: object) -> dict[str, object]:
    told = {"kind": "install_update", "status": "running", "states": "", "last": 1, "clock": ""}
    return {"script": "poll_job", **told, **changes}


def test_the_time_a_hostile_answer_takes_is_bounded() -> None:
    # As long as the contract lets it be, and made of nothing but what is looked at line by line.
    states = "number=1\nphase=started\nend\n" * 9000
    began = time.thread_time()
    job = jobs.look(session_of(polled(states=states)), "abc", TIMEOUTS)
    assert time.thread_time() - began < 5
    assert len(job.steps) <= 9000


@pytest.mark.parametrize("number", ["99999999999", "9" * 4000])
def test_a_state_whose_number_no_job_writes_is_refused(number: str) -> None:
    session = session_of(polled(states=f"number={number}\nphase=started\nend"))
    with pytest.raises(AnswerError):
        jobs.look(session, "abc", TIMEOUTS, jobs.look(session, "abc", TIMEOUTS))


def test_a_log_whose_size_no_file_has_is_left_out_or_refused() -> None:
    answer = {"script": "collect_job", "log_tail": "", "logs": f"{'5a' * 32} {'9' * 5000} job.log"}
    try:
        assert jobs.collect(session_of(answer), "abc").logs == ()
    except AnswerError as error:
        harmless(str(error))


@pytest.mark.parametrize(
    "answer",
    [polled(status="x" * 4000), polled(states=f"number=1\nphase={'x' * 200_000}\nend")],
    ids=["status", "phase"],
)
def test_an_error_about_a_long_value_is_not_as_long(answer: dict[str, object]) -> None:
    with pytest.raises(AnswerError) as caught:
        jobs.look(session_of(answer), "abc", TIMEOUTS)
    assert len(str(caught.value)) < 1000
