"""What a whole remediation costs the machine it is run from: processor time and memory.

There is nothing to compare the whole road with, so the first row stands by itself: a process of its own, which imports
``wsusfix``, mends a server with a package of 2 MiB and ends, the endpoint in another process.  Memory is the peak that
the operating system reports of it.  The upload of 200 MB (a sparse file; no latency, so that it ends soon) is compared
with the same session before it: whatever the peak grows by is the upload's, however large the file is.
``pypsrp.client.Client.copy`` is given the same file in the same way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.endpoint import Endpoint
from benchmarks.measure import Row, at_most
from wsusfix.lab.packages import write_stand_in

__all__ = ["rows"]

_MEGABYTES = 40

#: What is run in a process of its own; it prints what that took. On Linux ``ru_maxrss`` would begin with the peak of
#: whoever started the process; elsewhere it is all there is, in bytes on macOS.
_BEGIN: Final = """
import json, resource, sys
given = json.loads(sys.stdin.read())
def peak():
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
before = None
"""
_END: Final = """
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"processor": used.ru_utime + used.ru_stime, "peak": peak(), "before": before}))
"""
_REMEDIATE: Final = """
import wsusfix
where = dict(given["connection"])
outcome = wsusfix.remediate(where.pop("host"), wsusfix.Options(package=given["package"]), consent=True, **where)
assert outcome.ok, str(outcome)
"""
_UPLOAD: Final = """
import wsusfix
with wsusfix.connect(**given["connection"]) as server:
    server.diagnose()
    before = peak()
    server.upload(given["package"])
"""
_COPY: Final = """
from pypsrp.client import Client
with Client(**given["client"]) as client:
    client.execute_ps("$env:PROCESSOR_ARCHITECTURE")
    before = peak()
    client.copy(given["package"], "C:\\\\package.exe")
"""


def rows(*, quick: bool = False) -> list[Row]:
    """Measure, and return the table's rows."""
    size = 16_000_000 if quick else 200_000_000
    with tempfile.TemporaryDirectory(prefix="wsusfix-bench-") as folder, Endpoint() as endpoint:
        package = write_stand_in(folder)
        mended = _run(_REMEDIATE, endpoint, package)
        # A program's headers, and then nothing: the file takes no room on the disk.
        large = write_stand_in(Path(folder) / "large")
        os.truncate(large, size)
        theirs, ours = _run(_COPY, endpoint, large), _run(_UPLOAD, endpoint, large)
    theirs_added, ours_added = (each["peak"] - each["before"] for each in (theirs, ours))
    return [
        Row("remediation, a process of its own: processor time", "", f"{mended['processor']:.2f} s"),
        Row("remediation: peak of memory", "", f"{mended['peak']:.0f} MiB"),
        Row(
            f"upload of {size // 1_000_000} MB: memory added",
            f"{theirs_added:.1f} MiB",
            f"{ours_added:.1f} MiB",
            "",
            at_most(ours_added, _MEGABYTES, " MiB"),
        ),
        Row(
            f"upload of {size // 1_000_000} MB: processor time, the whole process",
            f"{theirs['processor']:.1f} s",
            f"{ours['processor']:.1f} s",
            f"{ours['processor'] / theirs['processor']:.2f} x",
        ),
    ]


def _run(deed: str, endpoint: Endpoint, package: Path) -> Mapping[str, Any]:
    endpoint.fresh()
    given = {"connection": endpoint.connection, "client": endpoint.client, "package": str(package)}
    answer = subprocess.run(
        [sys.executable, "-c", _BEGIN + deed + _END],
        input=json.dumps(given),
        cwd=Path(__file__).resolve().parents[1],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return dict(json.loads(answer.stdout))
