"""What the logs of clients and servers prove: text in, findings out, nothing is sent anywhere.

>>> from wsusfix import logs
>>> for finding in logs.scan("WindowsUpdate.log"):  # doctest: +SKIP
...     print(finding)
>>> print(logs.examine(["clients", "SoftwareDistribution*.log"]))  # doctest: +SKIP

:func:`scan` reads one file or stream, :func:`correlate` pairs what clients and servers saw of the same call, and
:func:`examine` does both over files, folders and patterns.  :class:`MachineLogs` is what a search on a machine itself
brought back.  Source of what they look for: advisory 954960, KB954960.
"""

from __future__ import annotations

from wsusfix.logs.correlate import Correlation, Pair, correlate
from wsusfix.logs.findings import ClientFinding, FileKind, Finding, LogFile, LogProblem, ServerFinding
from wsusfix.logs.machine import MachineLogs
from wsusfix.logs.reading import LogScan, scan
from wsusfix.logs.survey import LogReport, examine, parse_offset, sensible_processes

__all__ = [
    "ClientFinding",
    "Correlation",
    "FileKind",
    "Finding",
    "LogFile",
    "LogProblem",
    "LogReport",
    "LogScan",
    "MachineLogs",
    "Pair",
    "ServerFinding",
    "correlate",
    "examine",
    "parse_offset",
    "scan",
    "sensible_processes",
]
