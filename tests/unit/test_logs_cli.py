"""``wsusfix logs``: what is named is read, one JSON object comes out, and the exit code says what is proven."""

from __future__ import annotations

import glob
import io
import json
import os
import re
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import log_generator as made
from tests.log_generator import START, call, client_call, client_header, server_call
from wsusfix import logs
from wsusfix.cli import _parser, main
from wsusfix.errors import UsageError
from wsusfix.logs import FileKind


def write(path: Path, *entries: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
    return str(path)


@pytest.fixture
def estate(tmp_path: Path) -> Path:
    """Logs of two clients and a server: a call seen from both ends, a lone error, healthy files, and rubbish."""
    offset = timedelta(hours=-7)
    one = call(1, time=START - timedelta(seconds=1))
    write(tmp_path / "pc1" / "WindowsUpdate.log", client_header(offset), *client_call(one, offset))
    write(tmp_path / "pc2" / "WindowsUpdate.log", *client_call(call(2).without("soap", "code", "method", "id")))
    write(tmp_path / "pc3" / "WindowsUpdate.log", made.client_noise(0, START))
    write(tmp_path / "wsus" / "SoftwareDistribution.log", made.server_noise(0, START), *server_call(call(1)))
    (tmp_path / "wsus" / "dump.bin").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "wsus" / "empty.log").touch()
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> Any:
    assert main(["logs", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_folder_of_mixed_logs_gives_findings_pairs_and_files(
    estate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = told(capsys, str(estate), code=3)
    assert set(data) == {"findings", "pairs", "files", "summary"}
    assert [(each["kind"], each["conclusive"], each["call_id"]) for each in data["findings"]] == [
        ("client", True, call(1).call_id),
        ("client", False, None),
        ("server", True, call(1).call_id),
    ]
    (pair,) = data["pairs"]
    assert (pair["call_id"], pair["skew_seconds"]) == (call(1).call_id, -1.0)
    assert pair["client"]["file"] == str(estate / "pc1" / "WindowsUpdate.log")
    assert pair["server"]["kind"] == "server"
    kinds = {
        Path(each["path"]).relative_to(estate).as_posix(): (each["kind"], each["findings"]) for each in data["files"]
    }
    assert kinds == {
        "pc1/WindowsUpdate.log": ("client", 1),
        "pc2/WindowsUpdate.log": ("client", 1),
        "pc3/WindowsUpdate.log": ("client", 0),
        "wsus/SoftwareDistribution.log": ("server", 1),
        "wsus/dump.bin": ("binary", 0),
        "wsus/empty.log": ("empty", 0),
    }
    assert {Path(each["path"]).name for each in data["files"] if each["problem"]} == {"dump.bin", "empty.log"}
    assert data["summary"]["clients"] == 1
    for finding in data["findings"]:
        assert {"kind", "conclusive", "call_id", "time", "file", "line"} <= finding.keys()


def test_a_lone_error_proves_nothing_and_exits_with_0(estate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = told(capsys, str(estate / "pc2"), str(estate / "pc3"), code=0)
    (finding,) = data["findings"]
    assert not finding["conclusive"]
    assert len(finding["missing"]) == 4


def test_files_folders_and_patterns_may_be_mixed_and_each_file_is_read_once(
    estate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = str(estate / "pc1" / "WindowsUpdate.log")
    data = told(capsys, named, str(estate / "*" / "WindowsUpdate.log"), str(estate / "pc1"), code=3)
    assert [Path(each["path"]).parent.name for each in data["files"]] == ["pc1", "pc2", "pc3"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights there")
def test_links_are_followed_once_and_loops_of_them_end(estate: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "pc9" / "WindowsUpdate.log", *client_call(call(9)))
    (estate / "linked").symlink_to(elsewhere)
    (estate / "again").symlink_to(elsewhere / "pc9")
    for number in range(12):
        (estate / "pc1" / f"up{number}").symlink_to(estate)
        (elsewhere / f"over{number}").symlink_to(estate / "pc1")
    whole = logs.examine([estate])
    real = [os.path.realpath(file.path) for file in whole.files]
    assert len(real) == len(set(real)) == 7
    assert str(elsewhere / "pc9" / "WindowsUpdate.log") in real
    for pattern in ("**", "**/*.log", "**/*", "**/pc*/**/*.log"):
        found = logs.examine([str(estate / pattern)])
        paths = {os.path.realpath(file.path) for file in found.files}
        assert paths <= set(real)
        assert {
            os.path.realpath(elsewhere / "pc9" / "WindowsUpdate.log"),
            str(estate / "pc3" / "WindowsUpdate.log"),
        } <= paths
        assert (len(paths) == 7) is (pattern in ("**", "**/*"))


def test_a_pattern_of_any_depth_names_what_the_shell_s_does(estate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(estate / ".hidden" / "x.log", "x")
    write(estate / "a" / "b" / "c" / "x.log", "x")
    write(estate / "a[b]" / "x.log", "x")
    monkeypatch.chdir(estate)
    for pattern in ("**/*.log", "**/x.log", "a/**/x.log", "**/c/**/*", "*/**/*.log", "**/**/x.log", "a**/x.log", "**"):
        expected = {path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}
        found = {os.path.normpath(file.path) for file in logs.examine([pattern]).files}
        assert found == expected, pattern


def test_a_folder_without_rights_is_told_as_such(estate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Any) -> Any:
        if os.fspath(path) == str(estate / "pc2"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    told = {file.path: file.problem for file in logs.examine([estate]).files}
    assert told[str(estate / "pc2")] == "cannot be read: Permission denied"


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_dash_is_standard_input(
    estate: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, processes: str
) -> None:
    server = estate / "wsus" / "SoftwareDistribution.log"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(server.read_bytes())))
    data = told(capsys, "-", str(estate / "pc1"), "--processes", processes, code=3)
    assert [(each["kind"], each["file"]) for each in data["findings"]] == [
        ("server", "-"),
        ("client", str(estate / "pc1" / "WindowsUpdate.log")),
    ]
    assert len(data["pairs"]) == 1


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a[1].log", *server_call(call()))
    assert [each["path"] for each in told(capsys, path, code=3)["files"]] == [path]


def test_problems_are_warned_of_beside_the_output(estate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", str(estate), str(estate / "absent.log"), str(estate / "no*.log"), "--json"]) == 3
    shown = capsys.readouterr()
    json.loads(shown.out)
    for part in ("dump.bin: binary", "is no text", "empty.log: empty", "absent.log: unreadable", "no*.log: unreadable"):
        assert part in shown.err


@pytest.mark.parametrize("path", ["nowhere.log", "no*.log", "", "a\0b", "\ud800"])
def test_nothing_to_read_is_usage(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", path]) == 2
    assert "no file to read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["--utc-offset", "soon", "."], ["--utc-offset=+9900", "."], ["--processes", "0", "."]]
)
def test_arguments_that_mean_nothing_are_usage(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.log", "nothing")
    assert main(["logs", *arguments]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("offset", ["-0700", "-07:00"])
def test_the_clients_offset_can_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str], offset: str) -> None:
    path = write(tmp_path / "c.log", *client_call(call(), timedelta(hours=-7)))
    (finding,) = told(capsys, path, f"--utc-offset={offset}", code=3)["findings"]
    assert finding["time"] == "2008-06-16T00:00:00-07:00"


def test_people_are_told_in_words(estate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", str(estate)]) == 3
    shown = capsys.readouterr().out
    for part in (
        "the logs show the symptom",
        "6 files: 1 binary, 3 client, 1 empty, 1 server",
        "failed calls  1",
        "last          2008-06-16 07:00:00 UTC",
        "inconclusive",
        "its clock -1.000 s, its zone UTC-07:00 (by its log)",
    ):
        assert part in shown
    assert main(["logs", str(estate / "pc3")]) == 0
    assert "do not prove the symptom" in capsys.readouterr().out


def test_long_lists_are_cut_for_people_and_whole_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        write(tmp_path / f"pc{number}.log", *client_call(call(number)))
    assert main(["logs", str(tmp_path)]) == 3
    assert "... and 10 more files" in capsys.readouterr().out
    assert len(told(capsys, str(tmp_path), code=3)["findings"]) == 30


def test_names_of_files_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a\x1b[2J.log", *client_call(call()))
    (tmp_path / "b\x1b[2J.log").touch()
    assert main(["logs", str(tmp_path)]) == 3
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


def test_several_processes_find_the_same_in_the_same_order(estate: Path) -> None:
    assert logs.examine(estate, processes=2) == logs.examine(estate)


def test_without_processes_to_be_had_one_reads_it_all(estate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    alone = logs.examine(estate)
    monkeypatch.setattr("wsusfix.logs.survey.ProcessPoolExecutor", refuse)
    assert logs.examine(estate, processes=2) == alone


def test_small_logs_are_not_worth_a_process(estate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert logs.sensible_processes([estate]) == 1
    monkeypatch.setattr("wsusfix.logs.survey._WORTH_A_PROCESS", 100)
    assert logs.sensible_processes([estate]) == 4


def test_a_report_knows_whether_it_proves_and_what_it_could_not_read(estate: Path) -> None:
    report = logs.examine(estate)
    assert report.proven
    assert [file.kind for file in report.problems] == [FileKind.BINARY, FileKind.EMPTY]
    assert repr(report) == "<LogReport 6 files, the symptom is proven>"


def test_a_folder_without_files_is_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file to read"):
        logs.examine(tmp_path)


# --- the document ---------------------------------------------------------------------------------------------------

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")


def test_every_command_in_the_document_is_one_the_program_takes() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    commands = [shlex.split(line.partition(" #")[0].partition(" >")[0])[1:] for line in lines]
    assert [words[0] for words in commands] == ["logs", "logs", "logs", "logs", "survey", "canary"]
    for words in commands:
        _parser().parse_args(words)


def test_the_document_names_every_key_of_the_json_object_and_no_other(estate: Path) -> None:
    data = logs.examine(estate).to_dict()
    text = DOCUMENT.partition("## What `--json` prints")[2].partition("\nA call whose lines")[0]
    kinds = {kind.value for kind in FileKind}
    told = set(re.findall(r"`(\w+)`", text)) - kinds - {"null"}
    finding_keys = {key for finding in data["findings"] for key in finding}
    keys = {*data, *finding_keys, *data["pairs"][0], *data["files"][0], *data["summary"]}
    assert told == keys - {"client", "server"}
    assert kinds <= set(re.findall(r"`(\w+)`", text))
