"""The README says what the program does: commands, options, exit codes, names, verdicts."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

import wsusfix
from wsusfix import cli
from wsusfix.diagnosis import Verdict

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """Return every call of the command line that the README shows."""
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("wsusfix ")]


def test_the_readme_shows_every_command() -> None:
    assert {words[0] for words in commands()} == _choices().keys()


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_in_the_readme_is_one_the_program_takes(words: list[str]) -> None:
    cli._parser().parse_args(words)


def test_every_option_in_the_readme_exists() -> None:
    helps = cli._parser().format_help() + "".join(map(_help, sorted({words[0] for words in commands()})))
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README)):
        assert option in helps, option


def _choices() -> dict[str, argparse.ArgumentParser]:
    actions = cli._parser()._subparsers
    assert actions is not None
    (choices,) = [action.choices for action in actions._group_actions]
    assert isinstance(choices, dict)
    return choices


def _help(command: str) -> str:
    return _choices()[command].format_help()


def test_the_help_text_is_the_programs() -> None:
    (told,) = (text for language, text in BLOCKS if language == "text")
    said = "$ wsusfix --help " + cli._parser().format_help()
    assert told.split() == said.split()


def test_the_excerpt_of_a_session_is_one_that_is_run() -> None:
    (excerpt,) = (text for language, text in BLOCKS if language == "pycon")
    page = (ROOT / "docs" / "repl.md").read_text(encoding="utf-8").splitlines()
    assert set(excerpt.splitlines()) <= set(page)


def test_the_table_of_exit_codes_is_the_programs() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)}
    assert told == {code.value for code in cli.ExitCode}


def test_the_table_of_verdicts_is_complete() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) == {verdict.value for verdict in Verdict}


def test_every_name_of_the_library_in_the_readme_exists() -> None:
    names = set(re.findall(r"\bwsusfix\.([A-Za-z]\w+)", README)) - {"lab", "plugin", "wsus"}
    assert {"connect", "remediate", "Options", "WsusFixError"} <= names
    for name in names:
        assert hasattr(wsusfix, name), name


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "python"])
def test_python_in_the_readme_compiles(text: str) -> None:
    compile(text, "README.md", "exec")


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)\b", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
