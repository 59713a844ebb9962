"""The session in ``docs/repl.md``, typed in line by line against a simulated server, and what it must answer."""

from __future__ import annotations

import codeop
import contextlib
import doctest
import io
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs" / "repl.md", ROOT / "README.md")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def typed(source: str, names: dict[str, Any]) -> str:
    """Type *source* at a prompt, and return what it answers; of a traceback the first and the last line."""
    out = io.StringIO()
    if "# Ctrl-C while it installs" in source:
        names["host"].faults.at_phase(lambda: os.kill(os.getpid(), signal.SIGINT), phase="installing")
    with contextlib.redirect_stdout(out):
        try:
            sys.displayhook, kept = sys.__displayhook__, sys.displayhook
            exec(compile(source, "<repl.md>", "single"), names)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (a prompt shows every error)
            sys.last_value = error
            last = "".join(traceback.format_exception_only(error))
            return f"Traceback (most recent call last):\n{last}"
        finally:
            sys.displayhook = kept
    return out.getvalue()


def shown(page: Path) -> str:
    """Return the session in a page."""
    return "\n".join(re.findall(r"^```pycon\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_session_in_the_documentation_goes_as_it_stands_there(page: Path) -> None:
    text = shown(page)
    examples = doctest.DocTestParser().get_examples(text)
    assert len(examples) > (25 if page.name == "repl.md" else 10)
    checker = doctest.OutputChecker()
    names: dict[str, Any] = {}
    try:
        for example in examples:
            got = typed(example.source, names)
            if "host" in names:
                got = got.replace(names["host"].connection["host"], "127.0.0.2")
            want = f"Traceback (most recent call last):\n{example.exc_msg}" if example.exc_msg else example.want
            assert checker.check_output(want, got, FLAGS), f"{page.name}: {example.source}wanted:\n{want}\ngot:\n{got}"
    finally:
        if "lab" in names:
            names["lab"].close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_typed_is_complete_where_the_answer_stands(page: Path) -> None:
    """A prompt waits for a blank line behind a statement of several lines: it has to stand there to be typed."""
    for typed_in in re.findall(r"^>>> .*\n(?:\.\.\..*\n)*", shown(page) + "\n", re.MULTILINE):
        lines = [line[4:] for line in typed_in.splitlines()]
        assert codeop.compile_command("\n".join(lines), "<prompt>", "single") is not None, typed_in
