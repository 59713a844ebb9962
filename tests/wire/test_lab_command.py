"""``wsusfix lab`` as a program: what it prints can be typed, and however it is ended, nothing of it stays."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsusfix.cli import main

END = "# Ctrl-C ends them"


class Running:
    """The program, with what it has printed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WSUSFIX_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wsusfix", "lab", *arguments],
            env={**environment, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if self.lines[-1] == END:
                break
        assert self.lines[-1:] == [END], self.process.stderr and self.process.stderr.read()

    def line(self, *words: str) -> list[str]:
        """Return the one command that has all of *words*, without the program's name."""
        (found,) = (line for line in self.lines if line.startswith("wsusfix ") and all(word in line for word in words))
        return shlex.split(found)[1:]

    def end(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    states = ("--wsus", "3.0 SP1", "--wsus", "3.0 RTM", "--wsus", "3.0 RTM")
    running = Running(tmp_path_factory.mktemp("lab"), *states, "--client", "pc01", "--client", "pc02")
    yield running
    running.end(signal.SIGINT)


@pytest.fixture(autouse=True)
def as_it_says(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take user name and password from the line that is there to be typed."""
    if "there" in request.fixturenames:
        first = request.getfixturevalue("there").lines[0]
        for name, value in re.findall(r"(WSUSFIX_\w+)='([^']*)'", first):
            monkeypatch.setenv(name, value)


def test_every_command_that_it_prints_works(there: Running, capsys: pytest.CaptureFixture[str]) -> None:
    survey, canary = there.line("survey"), there.line("canary")
    assert main(survey) == 3
    assert "2 clients, 2 hit, 0 not reached" in capsys.readouterr().out
    # One that is hit proves nothing good; once its server is mended, it is served.
    assert main(canary) == 3
    server = survey[survey.index("--server") + 1]
    assert main(there.line("diagnose", f" {server} ")) == 3
    assert main(there.line("remediate", f" {server} ")) == 0
    capsys.readouterr()
    assert main(canary) == 0
    assert "is served by http://wsus01" in capsys.readouterr().out


def test_the_way_out_of_rtm_can_be_tried_both_ways(there: Running, capsys: pytest.CaptureFixture[str]) -> None:
    upgrades = [shlex.split(line)[1:] for line in there.lines if "--rtm upgrade" in line]
    assert len(upgrades) == 2
    assert main(upgrades[0]) == 0
    assert "fixed and verified" in capsys.readouterr().out
    (workaround,) = (
        shlex.split(line)[1:]
        for line in there.lines
        if "remediate" in line and f" {upgrades[1][1]} " in line and "--rtm" not in line
    )
    assert main(workaround) == 0
    assert "worked around" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal to send")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_however_it_is_ended_nothing_of_it_stays(tmp_path: Path, how: str) -> None:
    running = Running(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("wsusfix-lab-")]
    code, said = running.end(signal.Signals[how])
    assert (code, said) == (0, "")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("wsusfix-lab-")] == []


def test_what_cannot_be_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "--client", "pc01", "--client", "pc01"]) == 2
    assert "a name that no other has" in capsys.readouterr().err
    assert main(["lab", "--wsus", "9.9"]) == 2
    assert "there is no wsus" in capsys.readouterr().err
