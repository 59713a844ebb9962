"""What ``import wsusfix`` costs, beside a bare Python and beside ``import pypsrp.client``.

Who imports ``wsusfix`` to read a plan, or asks the command line for its help, should not wait for the libraries of
the wire.  Each is a process of its own that starts, imports and ends; bytecode is compiled before anything counts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Goal, Row, Took, at_most, interleave, median, stopwatch

__all__ = ["rows"]

_MILLISECONDS = 60
_HEAVY = ("pypsrp", "requests", "spnego", "cryptography")


def rows(*, quick: bool = False) -> list[Row]:
    """Measure, and return the table's rows."""
    codes = ("pass", "import wsusfix", "import pypsrp.client")
    for code in codes:
        _start(code)
    sides = [lambda code=code: stopwatch(lambda: _start(code)) for code in codes]
    bare, ours, theirs = map(_milliseconds, map(median, interleave(3 if quick else 25, *sides)))
    loaded = _loaded()
    return [
        Row(
            "import, over a bare Python",
            f"{theirs - bare:.0f} ms (pypsrp)",
            f"{ours - bare:.0f} ms",
            f"{(ours - bare) / (theirs - bare):.2f} x",
            at_most(ours - bare, _MILLISECONDS, " ms"),
        ),
        Row("import: libraries of the wire it loads", "", ", ".join(loaded) or "none", "", Goal("none", not loaded)),
    ]


def _milliseconds(took: Took) -> float:
    return 1000 * took.seconds


def _start(code: str) -> str:
    # Isolated but for the folder of this project: what else lies on the path costs both sides alike.
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[1],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def _loaded() -> list[str]:
    return _start(f"import sys, wsusfix; print(*[name for name in {_HEAVY!r} if name in sys.modules])").split()
