"""``python -m benchmarks``: run all benchmarks, or those that are named, and print one table.

Always ends with 0 when everything could be measured: on a machine that others use, a goal that is missed says nothing
by itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time

from benchmarks import diagnosis, importing, logs, remediation, upload
from benchmarks.measure import Row, table

_ALL = {
    "diagnosis": diagnosis.rows,
    "upload": upload.rows,
    "import": importing.rows,
    "remediation": remediation.rows,
    "logs": logs.rows,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Side by side, as ratios, in one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(_ALL)}; all of them by default")
    parser.add_argument("--quick", action="store_true", help="one small round of each: that it runs, not how fast")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in _ALL:
            parser.error(f"there is no benchmark {name!r}: there are {', '.join(_ALL)}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, {_load()}{', quick' * given.quick}\n")
    began = time.monotonic()
    rows: list[Row] = []
    try:
        for name in given.names or _ALL:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows += _ALL[name](quick=given.quick)
    finally:
        # Also what was measured before something went wrong, or somebody had enough.
        print(table(rows, goals=not given.quick), flush=True)
    print(f"\n{time.monotonic() - began:.0f} s; {_load()} at the end")
    return 0


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"


if __name__ == "__main__":
    sys.exit(main())
