"""Upload of a package: ``wsusfix`` beside ``pypsrp.client.Client.copy``.

Both bring the same file to the same kind of server (PowerShell 2.0 and the limits of WinRM 2.0, in a process of its
own, fresh for every run), from nothing to nothing: connect, authenticate with NTLM, encrypt every message, send, let
the server compare hashes (SHA-256 there, SHA-1 with ``copy``), close.  Nothing is there already, so nothing is resumed.
Once over a line with a round trip of 30 ms, as between two sites, and once on loopback without any, where nothing but
the processor counts.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

from benchmarks.endpoint import Endpoint
from benchmarks.measure import Row, Took, at_least, interleave, median, stopwatch
from wsusfix.lab.packages import write_stand_in

__all__ = ["rows"]

_ROUND_TRIP = 0.030
_GOAL = 4.0


def rows(*, quick: bool = False) -> list[Row]:
    """Measure, and return the table's rows."""
    size, rounds = (2 << 20, 1) if quick else (24 << 20, 3)
    with tempfile.TemporaryDirectory(prefix="wsusfix-bench-") as folder, Endpoint() as endpoint:
        package = write_stand_in(folder, size=size)
        return [
            *_compare(endpoint, package, size, rounds, _ROUND_TRIP, "30 ms round trip", _GOAL),
            *_compare(endpoint, package, size, rounds, 0.0, "loopback", 1.0),
        ]


def _compare(
    endpoint: Endpoint, package: Path, size: int, rounds: int, latency: float, line: str, goal: float
) -> list[Row]:
    factors: dict[str, float] = {}

    def side(name: str) -> Took:
        endpoint.fresh(latency)
        deed = {"theirs": _copy, "ours": _upload}[name]
        took = stopwatch(lambda: deed(endpoint, package))
        factors[name] = endpoint.received / size
        return took

    theirs, ours = map(median, interleave(rounds, lambda: side("theirs"), lambda: side("ours")))
    ratio = theirs.seconds / ours.seconds
    what = f"upload of {size >> 20} MiB, {line}"
    return [
        Row(
            what,
            _rate(size, theirs.seconds),
            _rate(size, ours.seconds),
            f"{ratio:.2f} x as fast",
            at_least(ratio, goal),
        ),
        Row(
            f"{what}: processor time here",
            f"{theirs.processor:.2f} s",
            f"{ours.processor:.2f} s",
            f"{ours.processor / theirs.processor:.2f} x",
        ),
        Row(
            f"{what}: bytes on the wire / size",
            f"{factors['theirs']:.2f}",
            f"{factors['ours']:.2f}",
            f"{factors['ours'] / factors['theirs']:.2f} x",
        ),
    ]


def _rate(size: int, seconds: float) -> str:
    return f"{size / seconds / 1e6:.2f} MB/s ({seconds:.2f} s)"


def _copy(endpoint: Endpoint, package: Path) -> None:
    from pypsrp.client import Client

    with warnings.catch_warnings(), Client(**endpoint.client) as client:
        client.copy(str(package), "C:\\package.exe")


def _upload(endpoint: Endpoint, package: Path) -> None:
    import wsusfix

    with wsusfix.connect(**endpoint.connection) as server:
        server.upload(package)
