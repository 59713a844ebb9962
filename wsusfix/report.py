"""A run over one or several servers, written down for the change ticket: text, Markdown, HTML, JSON.

It arranges what results say of themselves and adds nothing of its own; everything that came from a server is escaped.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wsusfix.diagnosis import Diagnosis
from wsusfix.errors import WsusFixError
from wsusfix.plan import Plan
from wsusfix.present import Presentable, printable
from wsusfix.results import Outcome, Verification

__all__ = ["HostResult", "Run", "to_html", "to_json", "to_markdown", "to_text"]


@dataclass(frozen=True, repr=False)
class HostResult(Presentable):
    """What a run found and did on one server; whatever was not reached stays ``None``."""

    host: str
    diagnosis: Diagnosis | None = None
    plan: Plan | None = None
    outcome: Outcome | None = None
    verification: Verification | None = None
    error: WsusFixError | None = None

    @property
    def verdict(self) -> str | None:
        """The newest verdict there is, ``None`` where the server was not reached."""
        checked = self.verification or (self.outcome.verification if self.outcome is not None else None)
        if checked is not None:
            return checked.verdict
        diagnosis = self.diagnosis or (self.plan.diagnosis if self.plan is not None else None)
        return diagnosis.verdict.value if diagnosis is not None else None

    @property
    def exposed(self) -> bool | None:
        """Whether the product has the fault now; ``None`` where that is unknown."""
        verdict = self.verdict
        if verdict is None or verdict == "unknown":
            return None
        return verdict.startswith("exposed")

    @property
    def observed(self) -> str | None:
        """Whether logs show the fault, ``None`` where nobody looked."""
        diagnosis = self.diagnosis or (self.plan.diagnosis if self.plan is not None else None)
        return diagnosis.observed.value if diagnosis is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what was not reached is left out, ``error`` is always there, if only as ``None``."""
        data: dict[str, Any] = {
            "host": self.host,
            "verdict": self.verdict,
            "exposed": self.exposed,
            "observed": self.observed,
            "error": self.error.to_dict() if self.error is not None else None,
        }
        for name in ("diagnosis", "plan", "outcome", "verification"):
            value = getattr(self, name)
            if value is not None:
                data[name] = value.to_dict()
        return data

    def _summary(self) -> str:
        return f"{self.host}: {self.error or self.verdict}"

    def __str__(self) -> str:
        parts = [self.outcome or self.verification or self.plan or self.diagnosis]
        lines = [str(part) for part in parts if part is not None]
        if self.error is not None:
            lines.append(f"{printable(self.host, 260)}: ERROR: {printable(str(self.error), 1000)}")
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class Run(Presentable):
    """A whole run: which command, when, and every server's result in the order in which they were named."""

    command: str
    began: datetime
    ended: datetime
    hosts: tuple[HostResult, ...]

    def _summary(self) -> str:
        return f"{self.command}: {len(self.hosts)} hosts"

    def _extra(self) -> Mapping[str, object]:
        return {}

    def __str__(self) -> str:
        return to_text(self)


def to_json(run: Run) -> str:
    """Return the run as one JSON object."""
    return json.dumps(run.to_dict(), indent=2, sort_keys=False)


def to_text(run: Run) -> str:
    """Return the run as plain text, hosts one after the other."""
    return "\n\n".join(str(host) for host in run.hosts)


_HEADINGS = ("Host", "Verdict", "DLL before", "DLL now", "Changed", "Proof", "Remark")


def _row(result: HostResult) -> tuple[str, ...]:
    outcome = result.outcome
    checked = result.verification or (outcome.verification if outcome is not None else None)
    before = (outcome.before if outcome is not None else None) or (
        result.diagnosis.facts.wsus.dll_version if result.diagnosis is not None else None
    )
    if result.error is not None:
        remark = result.error.message
    elif outcome is not None:
        remark = outcome.message
    elif result.plan is not None and result.plan.blocked:
        remark = "; ".join(item.reason for item in result.plan.blocked)
    else:
        remark = result.diagnosis.why if result.diagnosis is not None else ""
    return (
        result.host,
        result.verdict or "not reached",
        str(before) if before else "",
        str(checked.found) if checked is not None and checked.found is not None else "",
        "" if outcome is None else ("yes" if outcome.changed else "no"),
        "" if checked is None else ("ok" if checked.ok else "not ok"),
        printable(remark, 300),
    )


def to_markdown(run: Run) -> str:
    """Return the run as Markdown: a table of all servers, then each one's story."""
    lines = [
        f"# wsusfix {run.command}",
        "",
        f"{run.began:%Y-%m-%d %H:%M:%S %Z} to {run.ended:%H:%M:%S %Z}, {len(run.hosts)} servers",
        "",
        "| " + " | ".join(_HEADINGS) + " |",
        "|" + " --- |" * len(_HEADINGS),
    ]
    lines += ["| " + " | ".join(_cell(value) for value in _row(result)) + " |" for result in run.hosts]
    for result in run.hosts:
        lines += ["", f"## {_cell(result.host)}", "", *_block(str(result))]
        for title, part in _parts(result):
            lines += ["", f"### {title}", "", *_block(str(part))]
    return "\n".join(lines) + "\n"


def _parts(result: HostResult) -> list[tuple[str, object]]:
    parts: list[tuple[str, object | None]] = [
        ("Diagnosis", result.diagnosis if result.outcome is not None else None),
        ("Plan", result.plan if result.outcome is not None else None),
        *(("Evidence", item) for item in (result.outcome.evidence if result.outcome is not None else ())),
        ("Verification", result.verification if result.outcome is not None else None),
    ]
    return [(title, part) for title, part in parts if part is not None]


def _cell(text: str) -> str:
    """Escape what Markdown would read in a table cell: text from a server must not become markup."""
    cleaned = html.escape(printable(text, 300), quote=False)
    for char in "\\`*_[]|":
        cleaned = cleaned.replace(char, "\\" + char)
    return cleaned


def _block(text: str) -> list[str]:
    """Indent as a code block: nothing inside is markup, whatever it says."""
    return ["    " + printable(line, 1000) for line in text.splitlines()]


def to_html(run: Run) -> str:
    """Return the run as one HTML page without scripts or outside references; everything is escaped."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in _HEADINGS)
    table = "".join(
        "<tr>" + "".join(f"<td>{html.escape(printable(value, 300))}</td>" for value in _row(result)) + "</tr>"
        for result in run.hosts
    )
    stories = "".join(
        f"<h2>{html.escape(printable(result.host, 260))}</h2><pre>{html.escape(str(result))}</pre>"
        + "".join(f"<h3>{title}</h3><pre>{html.escape(str(part))}</pre>" for title, part in _parts(result))
        for result in run.hosts
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>wsusfix {html.escape(run.command)}</title>"
        "<style>body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{border:1px solid #999;padding:.3em .6em;text-align:left}pre{background:#f4f4f4;padding:1em}"
        "</style></head><body>"
        f"<h1>wsusfix {html.escape(run.command)}</h1>"
        f"<p>{run.began:%Y-%m-%d %H:%M:%S %Z} to {run.ended:%H:%M:%S %Z}</p>"
        f"<table><tr>{head}</tr>{table}</table>{stories}</body></html>\n"
    )
