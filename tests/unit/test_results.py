"""One of every result: plain data for programs, a few words for a REPL, escaped text for a notebook."""

from __future__ import annotations

import ast
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.lib import pretty
from packaging.version import Version

import wsusfix
from tests import builders
from wsusfix.agent import ClientSettings
from wsusfix.clients import ClientReport, Survey
from wsusfix.diagnosis import diagnose
from wsusfix.errors import AccessDeniedError
from wsusfix.events import JobState, Moment, Note, PhaseBegun, UploadProgress
from wsusfix.logs import ClientFinding, FileKind, LogProblem, LogReport, MachineLogs, Pair, ServerFinding, correlate
from wsusfix.logs import LogFile as LogThatWasRead
from wsusfix.logs.detections import Detection
from wsusfix.options import Connection, Options, Timeouts
from wsusfix.plan import InstallUpdate, plan
from wsusfix.present import Presentable
from wsusfix.remote.job import Cleanup, Job, JobStep, Left, LogFile, Withdrawal
from wsusfix.remote.upload import Upload
from wsusfix.report import HostResult, Run
from wsusfix.results import (
    Canary,
    CanaryState,
    Check,
    DatabaseBackup,
    JobEvidence,
    Outcome,
    StepOutcome,
    StepStatus,
)
from wsusfix.scripts.contracts import JobPhase, JobStatus

HOSTILE = "<script>\x1b[2J\nFORGED\u202e" + "x" * 5000


def _one_of_each() -> list[Presentable]:
    facts = builders.facts(job_id="0123456789ab", job_status="running", neighbours="configmgr")
    planned, blocked = builders.plan(), builders.plan(administrator=False)
    install = planned.steps[0]
    assert isinstance(install, InstallUpdate)
    upgrade = builders.upgrade_plan(Options(rtm="upgrade", reboot="if-needed"))
    around = builders.around()
    cut = builders.plan(**builders.upgraded("stopped"))
    assert cut.diagnosis.facts.upgrade is not None
    assert facts.wsus.database is not None
    assert facts.job is not None
    assert around.database is not None
    step = JobStep(1, JobPhase.STARTED, "2008-09-02T10:01:00Z", {"pid": "1204"})
    log = LogFile("job.log", 2048, "1a" * 32)
    began = datetime(2008, 9, 2, 10, tzinfo=timezone.utc)
    outcome = builders.outcome()
    asked = builders.approvals(**builders.WORKED_AROUND, saved=builders.SAVED)
    assert asked.saved is not None
    assert asked.marker is not None
    restarted = builders.facts(**builders.restarted()).ran
    assert restarted is not None
    reset = plan(diagnose(builders.asked()), None, Options())
    restored = plan(diagnose(builders.facts(**builders.FIXED, reset_state="open")), None, Options())
    at_client = ClientFinding("WindowsUpdate.log", 1, began, call_id="0a" * 16)
    at_server = ServerFinding("SoftwareDistribution.log", 2, began, call_id="0a" * 16)
    problem = LogProblem("empty.log", "nothing in it")
    correlation = correlate([at_client, at_server])
    search = Detection("WindowsUpdate.log", 3, began, "http://wsus01/", True, None)
    reached = ClientReport("pc01", MachineLogs("pc01", FileKind.CLIENT, (), (at_client,), correlation, began, ()))
    read = LogThatWasRead("SoftwareDistribution.log", FileKind.SERVER, 1, None, began, began)
    result = HostResult("wsus01", planned.diagnosis, planned, outcome, outcome.verification, AccessDeniedError("no"))
    return [
        facts,
        facts.os,
        facts.wsus,
        facts.wsus.database,
        facts.session,
        facts.restart,
        facts.staging,
        facts.job,
        planned,
        planned.diagnosis,
        planned.diagnosis.evidence[0],
        planned.basis,
        install,
        install.package,
        install.command,
        *upgrade.steps[:4],
        cut.steps[0],
        cut.diagnosis.facts.upgrade,
        restarted,
        around,
        around.database,
        around.sites[0],
        around.drives[0],
        DatabaseBackup("C:\\Windows\\wsusfix-backup\\0123456789ab\\SUSDB.bak", 1_000_000),
        reset.steps[0],
        restored.steps[0],
        asked,
        asked.updates[0],
        asked.marker,
        asked.saved,
        asked.saved.approvals[0],
        blocked.blocked[0],
        builders.verification(),
        builders.check(),
        builders.evidence(),
        outcome,
        outcome.steps[0],
        step,
        log,
        Job("0123456789ab", "install_update", JobStatus.RUNNING, (step,)),
        Left("begin\nend\n", (log,)),
        Cleanup("wsus01", ("task",), ("C:\\Windows\\wsusfix",)),
        Withdrawal("wsus01", "0123456789ab", "install_update", ended=True),
        Upload("C:\\Windows\\wsusfix\\a.exe", builders.SHA256, 4_500_000, 0),
        Connection("wsus01"),
        Options(package="a.exe", package_arguments=("/q",)),
        Timeouts(job=7200),
        PhaseBegun("wsus01", "facts", "detail"),
        UploadProgress("wsus01", "a.exe", 1, 2, 0, 3.5),
        JobState("wsus01", "0123456789ab", 1, "started", "2008-09-02T10:01:00Z"),
        Note("wsus01", "connect", "text"),
        Moment(began, PhaseBegun("wsus01", "facts"), began),
        result,
        Run("fix", began, began, (result,)),
        at_client,
        at_server,
        problem,
        Pair("0a" * 16, at_client, at_server, 1.0),
        correlation,
        LogReport((at_client, at_server), (), correlation),
        read,
        search,
        ClientSettings("pc01", "PC01", began, "http://wsus01", True, False, "running", True),
        Canary("pc01", CanaryState.UNKNOWN, "http://wsus01", True, False, ("time",), began, search),
        reached,
        Survey((reached, ClientReport("pc02", error=AccessDeniedError("no"))), correlation),
        MachineLogs("wsus01", FileKind.SERVER, (read,), (at_server,), correlation, began, ("the rest",)),
    ]


ONE_OF_EACH = _one_of_each()
each = pytest.mark.parametrize("result", ONE_OF_EACH, ids=lambda result: type(result).__name__)


def test_every_kind_of_result_is_tried_here() -> None:
    written = set()
    folder = Path(wsusfix.__file__).parent
    for path in folder.rglob("*.py"):
        if "lab" in path.relative_to(folder).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and "Presentable" in {ast.unparse(base) for base in node.bases}:
                written.add(node.name)
    assert written == {type(result).__name__ for result in ONE_OF_EACH}


@each
def test_a_result_is_plain_data_that_json_takes_and_gives_back(result: Presentable) -> None:
    data = result.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data


@each
def test_a_result_is_a_few_words_in_a_repl(result: Presentable) -> None:
    shown = repr(result)
    assert shown.startswith(f"<{type(result).__name__} ")
    assert len(shown) < 200
    assert shown.isprintable()


@each
def test_a_result_says_something_a_person_can_read(result: Presentable) -> None:
    text = str(result)
    assert text.strip()
    assert all(line.isprintable() for line in text.split("\n"))
    assert text != object.__repr__(result)


@each
def test_a_result_is_a_table_in_a_notebook(result: Presentable) -> None:
    shown = ElementTree.fromstring(result._repr_html_().replace("<br>", "<br/>"))
    assert shown.tag == "table"
    rows = {row[0].text: "".join(row[1].itertext()) for row in shown.findall("tr")}
    for name, value in result.to_dict().items():
        if isinstance(value, str) and value and value.isprintable():
            assert rows[name.replace("_", " ")] == value[:1999] + "\u2026" * (len(value) > 2000)


@each
def test_a_result_is_what_a_person_reads_in_ipython(result: Presentable) -> None:
    shown, _ = DisplayFormatter().format(result)
    assert shown["text/plain"] == str(result)
    assert shown["text/html"] == result._repr_html_()
    assert pretty.pretty([result]) == f"[{result!r}]"


@each
def test_a_result_is_frozen(result: Presentable) -> None:
    name = next(iter(vars(result)))
    with pytest.raises(AttributeError):
        setattr(result, name, None)


@each
def test_a_result_is_described(result: Presentable) -> None:
    assert (type(result).__doc__ or "").strip()


# --- text that was written by others --------------------------------------------------------------------------------


def test_the_tail_of_a_log_stays_behind_its_margin() -> None:
    shown = str(builders.evidence(log_tail="first\r\n" + HOSTILE + "\x0bmore\x1cand\u2028more")).split("\n")
    tail = [line for line in shown if line.startswith("  | ")]
    assert len(tail) >= 3
    assert all(line.isprintable() for line in shown)
    assert not any(line.startswith("FORGED") for line in shown)
    assert max(map(len, shown)) < 400


def test_only_the_end_of_a_long_log_is_shown() -> None:
    shown = str(builders.evidence(log_tail="\n".join(f"line {number}" for number in range(100))))
    assert "line 99" in shown
    assert "line 88" in shown
    assert "line 87" not in shown


def test_markup_from_a_log_is_escaped_in_a_notebook() -> None:
    assert "<script" not in builders.evidence(log_tail=HOSTILE)._repr_html_()


@pytest.mark.parametrize(
    "result",
    [
        builders.outcome(message=HOSTILE),
        builders.check(name=HOSTILE),
        builders.evidence(job_id=HOSTILE),
        StepOutcome(HOSTILE, StepStatus.DONE, HOSTILE),
    ],
    ids=lambda result: type(result).__name__,
)
def test_a_repr_is_short_and_harmless_whatever_a_result_holds(result: Presentable) -> None:
    assert len(repr(result)) < 200
    assert repr(result).isprintable()


# --- what results say -----------------------------------------------------------------------------------------------


def test_a_check_tells_what_is_required_only_when_it_is_not_met() -> None:
    assert str(builders.check()) == "ok: service w3svc: running"
    assert str(builders.check(ok=False, found="stopped")) == "NOT OK: service w3svc: stopped (required: running)"
    assert str(builders.check(ok=False, found="stopped", decides=False)).startswith("note: service w3svc: stopped")


@pytest.mark.parametrize(
    ("changes", "ok", "failed", "verdict"),
    [
        ({}, True, False, "fixed"),
        ({"verification": None}, False, False, "unknown"),
        ({"verification": builders.verification(**builders.SP1)}, False, False, "exposed_sp1"),
        ({"steps": (StepOutcome("InstallUpdate", StepStatus.FAILED, "no"),)}, False, True, "fixed"),
        ({"steps": (StepOutcome("InstallUpdate", StepStatus.SKIPPED, "was fixed"),)}, True, False, "fixed"),
        ({"steps": ()}, True, False, "fixed"),
    ],
)
def test_an_outcome_is_well_when_it_is_verified_and_no_step_failed(
    changes: dict[str, Any], ok: bool, failed: bool, verdict: str
) -> None:
    outcome = builders.outcome(**changes)
    assert (outcome.ok, outcome.failed, outcome.verdict) == (ok, failed, verdict)
    data = outcome.to_dict()
    assert (data["ok"], data["failed"], data["verdict"]) == (ok, failed, verdict)


def test_an_outcome_tells_the_whole_story() -> None:
    step = StepOutcome(
        "InstallUpdate", StepStatus.FAILED, "exit code 1603: a fatal error", "installing", "read the log", 61.2
    )
    text = str(
        builders.outcome(message="failed", steps=(step,), blocked=("no; to unblock: yes",), notes=("left over",))
    )
    for line in (
        "wsus01: failed",
        "  DLL 3.1.6001.65 -> 3.1.6001.66",
        "  InstallUpdate: failed in installing: exit code 1603: a fatal error; read the log (1 min 01 s)",
        "  blocked: no; to unblock: yes",
        "  note: left over",
        "  ok: service w3svc: running",
    ):
        assert line in text.splitlines()


def test_an_outcome_without_a_dll_says_so() -> None:
    assert "DLL" not in str(builders.outcome(before=None, after=None, verification=None))
    assert "  DLL none -> 3.1.6001.66" in str(builders.outcome(before=None)).splitlines()


def test_a_phase_is_told_only_of_a_step_that_failed() -> None:
    assert (
        str(StepOutcome("InstallUpdate", StepStatus.DONE, "exit code 0", "installing"))
        == "InstallUpdate: done: exit code 0"
    )


def test_evidence_holds_what_an_auditor_keeps() -> None:
    kept = builders.evidence()
    text = str(kept)
    for value in (
        kept.account,
        kept.account_sid,
        kept.authentication,
        kept.plan_digest,
        kept.package_sha256,
        kept.command_line,
        kept.signer,
        kept.signed_at,
        kept.dll_before,
        kept.dll_after,
        kept.server_clock,
        "2008-09-02T10:05:01+00:00",
        "exit code",
        "written",
        kept.logs[0].sha256,
        "started",
    ):
        assert str(value) in text
    assert "exit code  " not in str(builders.evidence(exit_code=None))
    assert "not written" in str(builders.evidence(event_logged=False))


def test_results_compare_by_what_they_say() -> None:
    assert builders.outcome() == builders.outcome()
    assert builders.outcome() != builders.outcome(changed=False)
    assert builders.check() == Check("service w3svc", True, "running", "running")
    assert isinstance(builders.outcome(), Outcome)
    assert isinstance(builders.evidence(), JobEvidence)
    assert builders.outcome().after == Version("3.1.6001.66")
