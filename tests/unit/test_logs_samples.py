"""Published excerpts of both logs, where they are at hand: told apart rightly, and paired.

The folder is named by WSUSFIX_LOG_SAMPLES; without it these tests are skipped.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.log_generator import word_wrapped
from wsusfix import logs
from wsusfix.logs import FileKind

FOLDER = Path(os.environ.get("WSUSFIX_LOG_SAMPLES", "/nowhere"))
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="WSUSFIX_LOG_SAMPLES names no folder: the published excerpts are not at hand"
)
LANGUAGES = ("da-dk", "de-de", "ja-jp", "nb-no")


def edition(language: str, side: str) -> Path:
    (path,) = FOLDER.glob(f"advisory954960_{language}_{side}_*")
    return path


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_client_s_log_of_every_edition_shows_the_symptom(language: str) -> None:
    log = logs.scan(edition(language, "client"))
    (found,) = log
    assert isinstance(found, logs.ClientFinding)
    assert found.conclusive
    assert log.file.kind is FileKind.CLIENT
    assert (found.line, found.pid, found.tid, found.http_status, found.soap_code) == (3, 788, "ee4", 200, "0x000190")
    assert found.time is not None
    assert found.time.isoformat() == "2008-06-13T19:59:56.617000"
    assert found.server_url is not None
    assert found.server_url.endswith("/ClientWebService/client.asmx")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_server_s_log_of_every_edition_shows_the_symptom(language: str) -> None:
    log = logs.scan(edition(language, "server"))
    (found,) = log
    assert isinstance(found, logs.ServerFinding)
    assert found.conclusive
    assert log.file.kind is FileKind.SERVER
    assert (found.line, found.thread, found.key, len(found.frames)) == (1, "w3wp.12", "8862", 7)
    assert found.time is not None
    assert found.time.isoformat() == "2008-06-14T02:59:57.642000+00:00"


@pytest.mark.parametrize("language", LANGUAGES)
def test_both_ends_of_every_edition_are_one_call_with_the_clocks_a_second_apart(language: str) -> None:
    report = logs.examine([edition(language, "client"), edition(language, "server")])
    (pair,) = report.correlation.pairs
    assert pair.client.call_id == pair.server.call_id == pair.call_id
    assert pair.skew_seconds == pytest.approx(-1.025)
    assert pair.utc_offset_seconds == -7 * 3600
    assert pair.zone_inferred
    assert (report.correlation.calls, report.correlation.clients) == (1, 1)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("breaks", [True, False], ids=["words broken", "words whole"])
def test_every_edition_wrapped_at_words_at_any_width_is_one_call_seen_from_both_ends(
    language: str, breaks: bool
) -> None:
    ends = [edition(language, side).read_text(encoding="utf-8").splitlines() for side in ("client", "server")]
    for width in range(25, 91):
        client, server = (list(logs.scan(io.BytesIO(word_wrapped(lines, width, breaks).encode()))) for lines in ends)
        assert [found.conclusive for found in (*client, *server)] == [True, True], width
        told = logs.correlate([*client, *server])
        assert (told.calls, len(told.pairs)) == (1, 1), width
        assert isinstance(server[0], logs.ServerFinding)
        assert server[0].key == "8862", width


def test_in_the_whole_folder_each_client_is_paired_with_the_server_of_its_own_edition() -> None:
    report = logs.examine(FOLDER)
    pairs = {Path(pair.client.file).name: Path(pair.server.file).name for pair in report.correlation.pairs}
    for language in LANGUAGES:
        assert pairs[edition(language, "client").name] == edition(language, "server").name
    # All editions print the same call.
    assert report.correlation.calls == 1


def test_a_sample_with_words_in_place_of_its_times_shows_the_symptom_at_an_unknown_time() -> None:
    (found,) = logs.scan(FOLDER / "POS_kb954960_client_placeholder_dates.log")
    assert found.conclusive
    assert found.time is None
    assert found.call_id is not None


def test_messages_without_any_beginning_are_one_inconclusive_finding() -> None:
    log = logs.scan(FOLDER / "POS_expta2008_client_messages_only.txt")
    (found,) = log
    assert isinstance(found, logs.ClientFinding)
    assert not found.conclusive
    assert found.error == "0x8024400E"
    assert len(found.missing) == 4
    assert log.file.kind is FileKind.CLIENT


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NEG_2012_header_tz_spaces.log", FileKind.CLIENT),
        ("NEG_kb902093_2005_tabs_no-millis.log", FileKind.CLIENT),
        ("NEG_server2008_WindowsUpdate_tabs_out-of-order.log", FileKind.CLIENT),
        ("NEG_wsus_guide_WSUSSetup_duplicate-key.log", FileKind.OTHER),
        ("NEG_advisory954474_ConfigMgr_wsyncmgr.log", FileKind.OTHER),
    ],
)
def test_what_is_not_the_symptom_is_not_found(name: str, kind: FileKind) -> None:
    log = logs.scan(FOLDER / name)
    assert list(log) == []
    assert log.file.kind is kind


def test_the_header_s_zone_counts_for_how_far_a_log_reaches() -> None:
    log = logs.scan(FOLDER / "NEG_2012_header_tz_spaces.log")
    assert list(log) == []
    assert log.file.ends is not None
    assert log.file.ends.isoformat() == "2012-11-19T14:26:58.145000-06:00"
