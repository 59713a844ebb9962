"""The session in ``docs/repl.md``, typed in line by line against a simulated server, and what it must answer."""

from __future__ import annotations

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

PAGE = Path(__file__).resolve().parents[2] / "docs" / "repl.md"
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
            last = "".join(traceback.format_exception_only(error))
            return f"Traceback (most recent call last):\n{last}"
        finally:
            sys.displayhook = kept
    return out.getvalue()


def test_the_session_in_the_documentation_goes_as_it_stands_there() -> None:
    text = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    examples = doctest.DocTestParser().get_examples(text)
    assert len(examples) > 25
    checker = doctest.OutputChecker()
    names: dict[str, Any] = {}
    try:
        for example in examples:
            got = typed(example.source, names)
            if "host" in names:
                got = got.replace(names["host"].connection["host"], "127.0.0.2")
            want = f"Traceback (most recent call last):\n{example.exc_msg}" if example.exc_msg else example.want
            assert checker.check_output(want, got, FLAGS), f"{PAGE.name}: {example.source}wanted:\n{want}\ngot:\n{got}"
    finally:
        if "lab" in names:
            names["lab"].close()
