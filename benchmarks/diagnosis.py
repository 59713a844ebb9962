"""A diagnosis: ``wsusfix`` beside six calls of ``pypsrp.client.Client.execute_ps``.

Both begin without a connection and end without one, both authenticate with NTLM and encrypt every message, over a line
with a round trip of 30 ms.  Six questions are what one asks by hand before such an update (version of Windows,
architecture, version of WSUS, service, version of the DLL, free space), each in a call of its own over one ``Client``,
as its documentation shows it; the answers are strings that the server has ready.  ``wsusfix`` asks forty things in one
script, checks the answer and draws the diagnosis from it.  So the six calls are given less to do, not more.  The search
of the server's logs, which a diagnosis does besides unless told not to, is counted by itself: nobody does it by hand.
"""

from __future__ import annotations

from benchmarks.endpoint import QUESTIONS, Endpoint
from benchmarks.measure import Row, Took, at_most, interleave, median, stopwatch

__all__ = ["rows"]

_ROUND_TRIP = 0.030
_REQUESTS = 8
_WITH_LOGS = 10


def rows(*, quick: bool = False) -> list[Row]:
    """Measure, and return the table's rows."""
    requests: dict[str, int] = {}
    with Endpoint() as endpoint:

        def side(name: str) -> Took:
            endpoint.fresh(_ROUND_TRIP)
            deed = {"theirs": _six_calls, "ours": _diagnose, "logs": _diagnose_with_logs}[name]
            took = stopwatch(lambda: deed(endpoint))
            requests[name] = endpoint.requests
            return took

        side("ours"), side("theirs")  # both libraries are imported before anything counts
        sides = [lambda name=name: side(name) for name in ("theirs", "ours", "logs")]
        theirs, ours, logs = map(median, interleave(1 if quick else 7, *sides))
    return [
        Row(
            "diagnosis: requests, connecting and closing too",
            str(requests["theirs"]),
            str(requests["ours"]),
            f"{requests['theirs'] / requests['ours']:.1f} x fewer",
            at_most(requests["ours"], _REQUESTS),
        ),
        Row(
            "diagnosis: time at 30 ms round trip",
            f"{theirs.seconds:.2f} s",
            f"{ours.seconds:.2f} s",
            f"{theirs.seconds / ours.seconds:.1f} x as fast",
        ),
        Row(
            "diagnosis and search of the logs: requests",
            "",
            str(requests["logs"]),
            f"{requests['logs'] - requests['ours']} more",
            at_most(requests["logs"], _WITH_LOGS),
        ),
        Row(
            "diagnosis and search of the logs: time at 30 ms round trip",
            f"{theirs.seconds:.2f} s",
            f"{logs.seconds:.2f} s",
            f"{theirs.seconds / logs.seconds:.1f} x as fast",
        ),
    ]


def _six_calls(endpoint: Endpoint) -> None:
    from pypsrp.client import Client

    with Client(**endpoint.client) as client:
        for question, expected in QUESTIONS.items():
            answer, _, failed = client.execute_ps(question)
            if failed or answer != expected:
                raise RuntimeError(f"{question} was answered by {answer!r}")


def _diagnose_with_logs(endpoint: Endpoint) -> None:
    _diagnose(endpoint, logs=True)


def _diagnose(endpoint: Endpoint, *, logs: bool = False) -> None:
    import wsusfix

    with wsusfix.connect(**endpoint.connection) as server:
        diagnosis = server.diagnose(logs=logs)
    if diagnosis.verdict != "exposed_sp1":
        raise RuntimeError(f"the verdict was {diagnosis.verdict}")
