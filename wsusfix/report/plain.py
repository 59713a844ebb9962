"""A run as plain text, and as data."""

from __future__ import annotations

import json as _json

from wsusfix.report.names import kept, left_out, replaced
from wsusfix.report.run import HostResult, Run
from wsusfix.report.timeline import told

__all__ = ["data", "json", "parts", "text"]


def text(run: Run, *, anonymous: bool = False) -> str:
    """Return the run as plain text, hosts one after the other, with everything that is kept of each.

    Args:
        run: see :class:`Run`.
        anonymous: put words such as "server-1" and "user-1" in the place of every known name.
    """
    naming = left_out(run) if anonymous else kept
    told_hosts = ("\n\n".join([str(host), *(str(part) for _, part in parts(host))]) for host in run.hosts)
    return naming("\n\n\n".join(told_hosts))


def json(run: Run, *, anonymous: bool = False) -> str:
    """Return the run as one JSON object and a line's end: the file as it is written, whose SHA-256 the page names.

    Args:
        run: see :class:`Run`.
        anonymous: put words such as "server-1" and "user-1" in the place of every known name.
    """
    return _json.dumps(data(run, anonymous=anonymous), indent=2, sort_keys=False) + "\n"


def data(run: Run, *, anonymous: bool = False) -> object:
    """Return the run as plain data."""
    return replaced(run.to_dict(), left_out(run)) if anonymous else run.to_dict()


def parts(result: HostResult) -> list[tuple[str, object]]:
    """Return what is told of a server beyond its own story, with headings."""
    applied = result.outcome is not None
    found: list[tuple[str, object | None]] = [
        ("Diagnosis", result.diagnosis if applied else None),
        ("Plan", result.plan if applied else None),
        *(("Evidence", evidence) for evidence in result.evidence),
        ("Verification", result.verification if applied else None),
        ("Logs", result.known.logs if result.known is not None else None),
        ("Timeline", "\n".join(told(result)) or None),
    ]
    return [(title, part) for title, part in found if part is not None]
