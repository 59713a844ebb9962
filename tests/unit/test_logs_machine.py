"""What a search on a machine brought back: judged as whole files are, and never taken for more than was read."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.builders import facts
from tests.log_generator import START, Call, call, client_call, client_header, server_call, server_line
from wsusfix.diagnosis import Observed, diagnose
from wsusfix.errors import AnswerError
from wsusfix.logs import ClientFinding, FileKind, ServerFinding
from wsusfix.logs.machine import (
    MachineLogs,
    client_search,
    detection_search,
    not_read,
    parse,
    parse_detections,
    server_search,
)
from wsusfix.scripts.contracts import CONTRACTS

CLOCK = START + timedelta(days=1)
PATH = "C:\\Program Files\\Update Services\\LogFiles\\SoftwareDistribution.log"


def healthy(time: datetime) -> str:
    return server_line(time, "Info", "w3wp.5", "ThreadEntry", "ThreadHelper.ThreadStart") + "\r\n"


def group(start: int, text: str, line: int = 1, header: str = "") -> str:
    return f"{start} {start + len(text)} {line} {len(text)} {header}\n{text}"


def file(
    path: str = PATH,
    *groups: str,
    length: int = 5000,
    start: int = 0,
    dropped: int = 0,
    header: str = "",
    problem: str = "",
    edges: str = healthy(START) + "\n" + healthy(CLOCK),
) -> dict[str, str]:
    about = (path, length, start, dropped, header, problem)
    return {"file": "\n".join(map(str, about)), "edges": edges, "groups": "".join(groups)}


def answer(
    *files: dict[str, str],
    named: str = "",
    places: str = PATH,
    denied: str = "",
    left_out: int = 0,
    utc_offset: int = 0,
) -> dict[str, Any]:
    """Return an answer of the script, as its contract lets it through."""
    told: dict[str, Any] = {
        "script": "search_logs",
        "clock": f"{CLOCK:%Y-%m-%dT%H:%M:%SZ}",
        "utc_offset": utc_offset,
        "named": named,
        "places": places,
        "denied": denied,
        "files": len(files),
        "left_out": left_out,
    }
    for number, each in enumerate(files):
        told |= {f"{key}_{number}": value for key, value in each.items()}
    return CONTRACTS["search_logs"].read(told)


def server(*files: dict[str, str], **more: Any) -> MachineLogs:
    return parse("wsus01", FileKind.SERVER, answer(*files, **more))


def failed(one: Call) -> str:
    return "\r\n".join(server_call(one)).replace("\n   at", "\r\n   at") + "\r\n"


def test_groups_are_findings_with_the_lines_they_stand_on_and_a_path_others_can_open() -> None:
    logs = server(file(PATH, group(1000, healthy(START) + failed(call(1)), line=41), group(4000, failed(call(2)), 99)))
    assert [finding.line for finding in logs.findings] == [42, 99]
    assert all(isinstance(finding, ServerFinding) and finding.conclusive for finding in logs.findings)
    assert logs.findings[0].file == r"\\wsus01\C$" + PATH[2:]
    assert logs.complete
    assert logs.proven
    assert logs.clock == CLOCK


def test_stretches_that_touch_are_read_as_one() -> None:
    text = failed(call(1))
    for cut in range(1, len(text), 37):
        logs = server(file(PATH, group(100, text[:cut], line=7), group(100 + cut, text[cut:], line=9)))
        (found,) = logs.findings
        assert (found.line, found.conclusive, found.call_id) == (7, True, call(1).call_id)


def test_a_call_whose_halves_stand_in_two_files_is_one() -> None:
    text = failed(call(1))
    cut = text.index("ThrowException")
    cut = text.rindex("\n", 0, cut) + 1
    logs = server(file(PATH, group(0, text[cut:])), file(f"{PATH}.old", group(9000, text[:cut])))
    (found,) = logs.findings
    assert found.conclusive
    assert found.call_id == call(1).call_id
    assert found.file.endswith(".log.old")


def test_bytes_of_any_code_page_come_back_as_they_were() -> None:
    text = failed(call(1)).replace("Item has already been added", "Elementet finnes \u00e5").encode("utf-8")
    (found,) = server(file(PATH, group(0, text.decode("latin-1")))).findings
    assert isinstance(found, ServerFinding)
    assert (found.key, found.conclusive) == ("4711", True)


@pytest.mark.parametrize(
    ("header", "machine", "offset"),
    [("Logging initialized (build: 7.1, tz: -0700)", 60, -420), ("", 60, 60), ("Logging initialized, tz: ?", -90, -90)],
)
def test_a_client_s_zone_is_its_header_s_or_else_the_machine_s(header: str, machine: int, offset: int) -> None:
    zone = timedelta(minutes=offset)
    lines = "\r\n".join(client_call(call(1), zone)) + "\r\n"
    told = file("C:\\WINDOWS\\WindowsUpdate.log", group(90, lines, 3, header), header=header, edges=lines)
    logs = parse("pc01", FileKind.CLIENT, answer(told, utc_offset=machine))
    (found,) = logs.findings
    assert isinstance(found, ClientFinding)
    assert found.time is not None
    assert found.time.utcoffset() == zone
    assert abs(found.time - START) < timedelta(seconds=1)
    assert logs.ends is not None
    assert logs.ends.utcoffset() == zone
    assert logs.complete


@pytest.mark.parametrize("season", [-60, 0, 60])
def test_a_client_whose_log_has_the_zone_of_another_season_does_not_say_none_since_too_soon(season: int) -> None:
    # The agent started in one season and goes on in the other: what it says is an hour off, by its header.
    now = timedelta(hours=-7)
    header = f"Logging initialized (build: 7.1, tz: -0{7 - season // 60}00)"
    end = "\r\n".join(client_call(call(2, time=CLOCK), now)[:1]) + "\r\n"
    lines = "\r\n".join(client_call(call(1), now)) + "\r\n"
    told = file("C:\\WINDOWS\\WindowsUpdate.log", group(90, lines, 3, header), header=header, edges=lines + end)
    logs = parse("pc01", FileKind.CLIENT, answer(told, utc_offset=-420))
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    assert logs.zone_doubt_seconds == abs(season) * 60
    # Whatever is said without a doubt is true by the machine's own clock.
    for moment in (START + each * 10 * minute for each in range(-14, 15)):
        assert logs.none_since(moment) in (None, moment > START), moment
    assert logs.none_since(START - 3 * hour) is False
    assert logs.none_since(START + 3 * hour) is True
    assert logs.none_since(CLOCK + minute) is None
    until = logs.correlation.until
    assert until is not None
    assert logs.none_since(until) is (None if season else False)
    about = "a call failed about then, and its times may be off by 60 min"
    assert (about in logs.since_text(until)) is bool(season)
    assert "does not reach so far" in logs.since_text(CLOCK + minute)


#: The first line of a call, without what is sought.
BEGUN = server_call(call(1))[0].partition("\n")[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"problem": "time"}, "not all of it was read in the time"),
        ({"problem": "changed"}, "rolled over while"),
        ({"problem": "Tilgang til banen ble avsl\u00e5tt.\r"}, "Tilgang til banen ble avsl\u00e5tt."),
        ({"start": 3000}, "of 5.0 kB only the last 2.0 kB were read"),
        ({"dropped": 12}, "12 places that may show failed calls were not brought back"),
        ({"edges": "not a log\nat all\n"}, "does not look like the log of a server"),
        ({"edges": "\r\n".join(client_call(call(1)))}, "does not look like the log of a server"),
        ({"edges": f"{healthy(START)}\n{BEGUN}"}, "it ends where a failed call may have begun"),
        ({"edges": f"{healthy(START)}\n{BEGUN}\r\n"}, "it ends where a failed call may have begun"),
        ({"edges": f"{healthy(START)}\n{BEGUN}\r\n   at System.Coll"}, "it ends where a failed call may have begun"),
    ],
)
def test_what_was_not_read_is_told_and_leaves_the_symptom_unknown(changed: dict[str, Any], said: str) -> None:
    logs = server(file(**changed))
    assert not logs.complete
    assert said in " ".join(logs.unread)
    assert said in str(logs)
    diagnosis = diagnose(facts(), logs)
    assert diagnosis.observed is Observed.UNKNOWN
    assert said in diagnosis.observed_why
    assert logs.none_since(START) is None
    assert "unknown since" in logs.since_text(START)


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        (server(denied="C:\\x.log: Access is denied."), "Access is denied."),
        # Whatever a log is called, and whatever else was found and read.
        (server(file(), denied="C:\\logs\\wsus.txt: Tilgang til banen ble avsl\u00e5tt."), "avsl\u00e5tt"),
        (server(), "no log was found"),
        (server(file(), left_out=3), "3 older files"),
        (server(file(), left_out=20_000), "20000 older files"),
        (
            server(file(), named="D:\\WSUS logs\\w.log"),
            "there is no log at D:\\WSUS logs\\w.log, where the registry says",
        ),
        (
            server(file(PATH, group(900, "\x01\x02\x03" * 90 + "InternalServerError"))),
            "what stands around line 1 is no text",
        ),
        (not_read("wsus01", FileKind.SERVER, "script failed"), "script failed"),
        (server(file(length=0, edges="\n")), "say nothing yet"),
        (server(file(PATH, group(0, failed(call(1).without("exception", "insert", "sync"))))), "inconclusive"),
    ],
)
def test_without_the_whole_of_the_logs_it_is_never_no(logs: MachineLogs, said: str) -> None:
    diagnosis = diagnose(facts(), logs)
    assert diagnosis.observed is Observed.UNKNOWN
    assert said in diagnosis.observed_why
    assert logs.none_since(START) is None


def test_a_log_that_ends_with_a_whole_call_lacks_nothing() -> None:
    text = failed(call(1))
    for end in (text, healthy(CLOCK), text.partition("\n")[2]):
        logs = server(file(PATH, group(4000, text), edges=f"{healthy(START)}\n{end}"))
        assert (logs.complete, logs.proven) == (True, True)


def test_the_log_that_the_registry_names_is_told_apart_by_its_place_alone() -> None:
    assert server(file(), named=PATH.upper()).complete
    assert server(file(f"{PATH}.old"), named=PATH).unread == (
        f"there is no log at {PATH}, where the registry says that it is",
    )
    assert server(file(), named="D:\\w.log", denied="D:\\w.log: Access is denied.").unread == (
        "D:\\w.log: Access is denied.",
    )
    assert server(named=PATH).unread == (f"no log was found: {PATH}",)


def test_the_log_of_a_later_agent_says_nothing() -> None:
    edges = "2016/01/05 10:00:00.1234567 1234  5678  Agent  * WARNING: nothing to see\r\n" * 3
    logs = parse("pc01", FileKind.CLIENT, answer(file("C:\\Windows\\WindowsUpdate.log", edges=edges)))
    assert logs.files[0].kind is FileKind.CLIENT_LATER
    assert not logs.complete
    assert "later agent" in logs.unread[0]


def test_logs_that_were_not_asked_for_are_unknown() -> None:
    assert (diagnose(facts()).observed, diagnose(facts()).observed_why) == (Observed.UNKNOWN, "logs not read")


def test_logs_read_whole_without_a_failed_call_say_no_and_how_far_they_reach() -> None:
    diagnosis = diagnose(facts(), server(file()))
    assert diagnosis.observed is Observed.NO
    assert "2008-06-16 07:00 to 2008-06-17 07:00 UTC" in diagnosis.observed_why
    assert "observed  no (no such call" in str(diagnosis)


def test_a_failed_call_says_yes_whatever_else_was_not_read() -> None:
    logs = server(file(PATH, group(0, failed(call(1))), dropped=3))
    diagnosis = diagnose(facts(), logs)
    assert diagnosis.observed is Observed.YES
    assert diagnosis.observed_why == "1 failed call at least, last at 2008-06-16 07:00:00 UTC"


def test_none_since_is_true_only_where_the_log_reaches_behind_the_moment() -> None:
    logs = server(file(PATH, group(0, failed(call(1)))))
    second = timedelta(seconds=1)
    assert logs.none_since(START) is False
    assert logs.none_since(START + second) is True
    assert logs.none_since(CLOCK) is True
    assert logs.none_since(CLOCK + second) is None
    assert logs.since_text(START).startswith("seen again since 2008-06-16 07:00:00 UTC, last at 2008-06-16 07:00:00")
    assert logs.since_text(CLOCK).startswith("none since 2008-06-17 07:00:00 UTC; the log reaches to")
    assert logs.since_text(CLOCK + second).endswith("the log does not reach so far")


def test_a_call_without_its_time_may_have_been_since() -> None:
    text = re.sub(r"(?m)^\d{4}-\d\d-\d\d \S+ UTC\t", "", failed(call(1)))
    logs = server(file(PATH, group(0, text)))
    assert logs.proven
    assert logs.none_since(START) is None
    assert "the time of 1 calls is not known" in logs.since_text(START)


@pytest.mark.parametrize(
    "changed",
    [
        {"files": 9},
        {"files": -1},
        {"left_out": -3},
        {"clock": "yesterday"},
        {"file_0": "C:\\x"},
        {"file_0": "C:\\x\nmany\n0\n0\n\n"},
        {"file_0": "C:\\x\n-1\n0\n0\n\n"},
        {"groups_0": "1 2 3\ntext"},
        {"groups_0": "text"},
    ],
)
def test_an_answer_that_no_machine_gives_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(AnswerError) as caught:
        parse("wsus01", FileKind.SERVER, {**answer(file()), **changed})
    assert (caught.value.host, caught.value.phase) == ("wsus01", "logs")


@pytest.mark.parametrize("groups", ["1 2 3 99999 \nshort", "9 1 0 3 \nabc1 2 3 0 \n", "1 4 1 3 \n\u20ac\u20ac\u20ac"])
def test_an_answer_that_is_odd_is_read_as_far_as_it_goes(groups: str) -> None:
    assert server({**file(), "groups": groups}).findings == ()


def test_what_a_machine_says_cannot_write_to_the_terminal() -> None:
    logs = server(file("C:\\\x1b[2J\u202e.log", problem="\x1b[2Jbad"), denied="C:\\x.log: \x1b[31m")
    assert all(line.isprintable() for line in str(logs).split("\n"))


def test_the_pattern_finds_both_spellings_every_width_and_the_header() -> None:
    for search, sought in (
        (client_search(60), ("0x8024400E", "0x8024400e", "InternalServerError")),
        (server_search(60), ("System.Collections.Hashtable.Insert(", "InternalServerError")),
        (detection_search(60), ("Agent: Finding updates", "Found 3 updates", "Exit code = 0x0", "WARNING: x")),
    ):
        # As PowerShell's own engine reads it, but for how a group is named.
        pattern = re.compile(search["pattern"].replace("(?<", "(?P<"))
        for encoding in ("latin-1", "utf-16-le", "utf-16-be"):
            for text in sought:
                there = f"before {text} behind".encode(encoding).decode("latin-1")
                found = pattern.search(there)
                assert found is not None, (encoding, text)
                assert found["header"] is None
            header = client_header(timedelta(hours=-6)).encode(encoding).decode("latin-1")
            found = pattern.search(header)
            assert found is not None
            assert found["header"] is not None
            assert "tz: -0600" in found["header"].replace("\0", "")
            # What is sought may stand right behind it, on the same line.
            found = pattern.search(header + there, found.end())
            assert found is not None
            assert found["header"] is None
        assert pattern.search("HashtableXInsert 0x8024400D InternalServer") is None


LONG_STACK = "".join(
    f"   ved Some.Names.Of.A.Provider{each}.Query(SqlConnection c, String s)\r\n" for each in range(60)
)


def test_a_fault_behind_a_stack_of_which_only_the_end_was_brought_back_is_none_of_ours() -> None:
    # Were the cause ours, the first frame of the stack would have been found, and its exception brought back with it.
    fault = failed(call(1).without("exception"))
    for cut in (0, 5, 40, 3000, len(LONG_STACK) - 12):
        logs = server(file(PATH, group(9000, LONG_STACK[cut:] + fault)))
        assert logs.findings == (), cut
        assert diagnose(facts(), logs).observed is Observed.NO
    # What begins with the file may have lost its stack to an older one; and in front of another entry there is none.
    assert [found.conclusive for found in server(file(PATH, group(0, LONG_STACK + fault))).findings] == [False]
    other = LONG_STACK.replace("(", " ").replace(")", "") + healthy(START)
    assert [found.conclusive for found in server(file(PATH, group(9000, other + fault))).findings] == [False]
    both = server(file(PATH, group(9000, LONG_STACK + fault + failed(call(2)) + failed(call(3).without("exception")))))
    assert [found.call_id for found in both.findings] == [call(2).call_id, call(3).call_id]


def lines_of_search(count: int, *between: str, error: str = "") -> list[str]:
    """A client's search for updates, with so many lines between its parts."""
    lines = [
        *("Agent\t** START **  Agent: Finding updates [CallerId = AutomaticUpdates]", *between),
        "PT\t+++++++++++  PT: Synchronizing server updates  +++++++++++",
        "PT\t  + ServiceId = {3DA21691}, Server URL = http://wsus01/ClientWebService/client.asmx",
        *["Agent\t  * Added update {3DA21691-E39D-4DA6-8A4B-B43877BCB1B7}.101 to search result"] * count,
        *[f"PT\tWARNING: SyncUpdates failure, error = {error}"] * bool(error),
        *["DnldMgr\tnothing to see"] * count,
        "Agent\t  * Found 12 updates and 51 categories in search; evaluated appl. rules of 683 out of 1146",
        *["Misc\tnothing to see"] * count,
        "Agent\t**  END  **  Agent: Finding updates [CallerId = AutomaticUpdates]",
    ]
    return [f"2008-06-16\t07:00:00:000\t 788\tee4\t{line}\r\n" for line in lines]


@pytest.mark.parametrize(("error", "served"), [("", True), ("0x80244010", False)])
def test_a_search_for_updates_is_followed_across_the_groups_of_a_file(error: str, served: bool) -> None:
    lines = lines_of_search(400, error=error)
    groups, at = [], 7000
    for number, line in enumerate(lines, 1):
        if re.search(detection_search(60)["pattern"].replace("(?<", "(?P<"), line):
            groups.append(group(at - 9, "cut off\r\n" + line, number - 1, "tz: +0200"))
        at += len(line)
    told = file("C:\\WINDOWS\\WindowsUpdate.log", *groups)
    # What it logs now is in the machine's zone of now: its header may be of before summer time ended.
    (found,), why = parse_detections("pc01", answer(told, utc_offset=60))
    assert (found.served, found.came_through, found.error, found.line) == (served, True, error or None, 1)
    assert found.time is not None
    assert found.time.utcoffset() == timedelta(hours=1)
    assert why == ""
    # Without its end it is not over, and of what was left out in the middle nothing is concluded.
    (unfinished,), _ = parse_detections("pc01", answer(file(PATH, *groups[:-1])))
    assert not unfinished.came_through
    assert parse_detections("pc01", answer(file(PATH, *groups[:2], *groups[-2:], dropped=9)))[0] == ()


def test_times_are_compared_in_utc_whatever_the_zones() -> None:
    logs = server(file(PATH, group(0, failed(call(1)))))
    assert logs.none_since(START.astimezone(timezone(timedelta(hours=-7)))) is False
