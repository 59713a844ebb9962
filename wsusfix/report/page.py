"""A run as one HTML page that needs no network, no script and no other file, and that prints.

Everything is escaped on its way into the page, by the functions at the end; nothing else makes markup of a text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from wsusfix import __version__
from wsusfix.diagnosis import Diagnosis
from wsusfix.present import counted, printable, seconds_text
from wsusfix.report.names import Naming, kept, left_out
from wsusfix.report.plain import json
from wsusfix.report.run import HEADINGS, HostResult, Run, row
from wsusfix.report.timeline import drawn
from wsusfix.results import JobEvidence, Outcome, Verification

__all__ = ["html"]

_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;color:#222;max-width:62em;margin:2em auto;padding:0 1em}
h1,h2,h3{line-height:1.2}h2{border-top:2px solid #444;padding-top:.6em;margin-top:2em}
table{border-collapse:collapse;width:100%;margin:.5em 0}
td,th{border:1px solid #bbb;padding:.25em .6em;text-align:left;vertical-align:top;overflow-wrap:break-word}
th{background:#f1f1f1;font-weight:600}table.pairs th{width:13em}table.pairs td{overflow-wrap:anywhere}
pre{background:#f6f6f6;border:1px solid #ddd;padding:.8em;white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px}
.ok{color:#176117}.bad{color:#a11111}.when{color:#555}
svg.timeline{width:100%;height:auto;background:#fff}svg.timeline text{font:12px system-ui,sans-serif}
svg.timeline text.axis{fill:#555;font-size:11px}svg.timeline text.inside{fill:#fff;font-size:11px}
@media print{body{max-width:none;margin:0;font-size:11px}h2{break-before:page}h2.first{break-before:auto}
table,svg,pre{break-inside:avoid}pre{font-size:9px}th{print-color-adjust:exact}
h1,h2,h3,p.lead{break-after:avoid}p.lead{break-inside:avoid}}
"""


def html(run: Run, *, anonymous: bool = False) -> str:
    """Return the run as one HTML page: all servers in a table, then what an auditor wants of each.

    Args:
        run: see :class:`Run`.
        anonymous: put words such as "server-1" and "user-1" in the place of every known name.
    """
    page = _Page(left_out(run) if anonymous else kept)
    digest = hashlib.sha256(json(run, anonymous=anonymous).encode("utf-8")).hexdigest()
    title = f"wsusfix {run.command}"
    servers = counted(len(run.hosts), "server")
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{page.text(title)}</title><style>{_STYLE}</style></head><body>",
            f'<h1>{page.text(title)}</h1><p class="when">{page.text(run.when)}, {servers}, wsusfix {__version__}</p>',
            page.table(HEADINGS, [row(result) for result in run.hosts]),
            *(page.host(result, first=number == 0) for number, result in enumerate(run.hosts)),
            f'<p class="when">SHA-256 of this run as data (report.json): {digest}</p>',
            "</body></html>\n",
        ]
    )


class _Page:
    """Writes the parts of a page; every text goes through :meth:`text`."""

    def __init__(self, naming: Naming) -> None:
        self._naming = naming

    # --- one server -------------------------------------------------------------------------------------------------

    def host(self, result: HostResult, *, first: bool) -> str:
        parts = [f"<h2{' class=first' if first else ''}>{self.text(result.host, 260)}</h2>"]
        if result.error is not None:
            parts.append(f'<p class="bad">{self.text(str(result.error), 2000)}</p>')
        parts.append(self.before_and_after(result))
        if result.outcome is not None:
            parts.append(self.outcome(result.outcome))
        picture = drawn(result)
        if picture:
            parts.append(f"<h3>Timeline</h3>{picture}")
        if result.plan is not None:
            parts.append(f"<h3>Plan</h3>{self.block(str(result.plan))}")
            if result.plan.steps:
                parts.append(f"<p>Digest of the plan: <code>{self.text(result.plan.digest)}</code></p>")
        parts += [self.evidence(evidence) for evidence in result.evidence]
        if result.checked is not None:
            parts.append(self.verification(result.checked))
        if result.known is not None:
            parts.append(self.diagnosis(result.known))
        return "".join(parts)

    def before_and_after(self, result: HostResult) -> str:
        known, checked, outcome = result.known, result.checked, result.outcome
        if known is None and checked is None:
            return ""
        facts = known.facts if known is not None else None
        before = (
            known.verdict.value if known is not None else "",
            _shown(outcome.before if outcome is not None else facts.wsus.dll_version if facts is not None else None),
            _yes(facts.restart.concerns(facts.wsus.dll_path)) if facts is not None else "",
            _around(known.worked_around) if known is not None else "",
        )
        after = (
            checked.verdict if checked is not None else "",
            _shown(checked.found) if checked is not None else "",
            _yes(checked.restart_pending) if checked is not None else "",
            _around(checked.worked_around) if checked is not None else "",
        )
        names = (
            "verdict",
            "file version of the proof DLL",
            "the DLL waits for a restart",
            "the fault is worked around",
        )
        rows = list(zip(names, before, after, strict=True))
        around = (known is not None and known.worked_around, checked is not None and checked.worked_around)
        if not result.exposed and not any(around):
            # Nobody asks for a way around what is not there.
            del rows[-1]
        return self.table(("", "before", "after"), rows)

    def outcome(self, outcome: Outcome) -> str:
        parts = [f"<p><b>{self.text(outcome.message)}</b></p>"]
        if outcome.steps:
            steps = [
                (step.step, step.status.value.replace("_", " "), step.why, step.hint, seconds_text(step.seconds))
                for step in outcome.steps
            ]
            parts.append(self.table(("Step", "Ended", "Why", "What next", "Took"), steps))
        remarks = [f"blocked: {reason}" for reason in outcome.blocked] + [f"note: {note}" for note in outcome.notes]
        if outcome.backup is not None:
            remarks.append(f"backup of the database, which stays on the server: {outcome.backup}")
        parts += [f"<p>{self.text(remark, 1000)}</p>" for remark in remarks]
        if outcome.saved is not None:
            parts.append(self.block(str(outcome.saved)))
        return "".join(parts)

    def evidence(self, evidence: JobEvidence) -> str:
        apart = ("job_id", "kind", "steps", "logs", "log_tail")
        kept_values = [
            (_label(name), _plain(value))
            for name, value in evidence.to_dict().items()
            if name not in apart and value not in (None, "", [], {})
        ]
        parts = [
            f"<h3>Evidence of job {self.text(evidence.job_id)}: {self.text(evidence.kind.replace('_', ' '))}</h3>",
            self.pairs(kept_values),
        ]
        if evidence.steps:
            states = [(step.phase.value.replace("_", " "), step.time) for step in evidence.steps]
            parts.append(self.table(("State of the job", "By the server's clock"), states))
        if evidence.logs:
            logs = [(log.name, str(log.size), log.sha256) for log in evidence.logs]
            parts.append(self.table(("Log", "Bytes", "SHA-256, taken before anything was cleaned up"), logs))
        if evidence.log_tail.strip():
            parts.append(f"<p class=lead>The end of the installer's log:</p>{self.block(evidence.log_tail)}")
        return "".join(parts)

    def verification(self, verification: Verification) -> str:
        checks = [
            (check.name, "ok" if check.ok else "NOT OK" if check.decides else "note", check.found, check.required)
            for check in verification.checks
        ]
        state = "verified" if verification.ok else "NOT VERIFIED"
        return (
            f'<h3 class="{"ok" if verification.ok else "bad"}">Proof: {state}</h3>'
            f"{self.table(('Check', 'Is', 'Found', 'Required'), checks)}"
        )

    def diagnosis(self, diagnosis: Diagnosis) -> str:
        facts = diagnosis.facts
        session = facts.session
        described = [
            ("why", diagnosis.why),
            ("exposed", "unknown" if diagnosis.exposed is None else _yes(diagnosis.exposed)),
            ("observed in logs", f"{diagnosis.observed.value}: {diagnosis.observed_why}"),
            ("computer", facts.computer_name),
            ("system", str(facts.os)),
            ("WSUS", str(facts.wsus)),
            ("database", str(facts.wsus.database or "")),
            ("looked at by", f"{session.account} ({session.sid}), {session.authentication}"),
            ("server's clock then", f"{facts.clock:%Y-%m-%d %H:%M:%S %Z}"),
            *(("note", note) for note in diagnosis.notes),
        ]
        evidence = [(item.what, item.found, item.source) for item in diagnosis.evidence]
        return (
            f"<h3>Diagnosis: {self.text(diagnosis.verdict.value)}</h3>{self.pairs(described)}"
            f"{self.table(('Rests on', 'Found', 'Source'), evidence)}"
            + (
                f"<p class=lead>What the logs show:</p>{self.block(str(diagnosis.logs))}"
                if diagnosis.logs is not None
                else ""
            )
        )

    # --- markup -----------------------------------------------------------------------------------------------------

    def text(self, text: str, limit: int = 500) -> str:
        return escape(printable(self._naming(text), limit))

    def block(self, text: str) -> str:
        lines = (escape(printable(line, 1000)) for line in self._naming(text).splitlines())
        return "<pre>" + "\n".join(lines) + "</pre>"

    def pairs(self, pairs: Iterable[tuple[str, str]]) -> str:
        rows = "".join(
            f"<tr><th>{self.text(name)}</th><td>{self.text(value, 1000)}</td></tr>" for name, value in pairs if value
        )
        return f'<table class="pairs">{rows}</table>'

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
        head = "".join(f"<th>{self.text(heading)}</th>" for heading in headings)
        body = "".join(
            "<tr>" + "".join(f"<td>{self.text(value, 1000)}</td>" for value in cells) + "</tr>" for cells in rows
        )
        return f"<table><tr>{head}</tr>{body}</table>" if body else ""


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _around(value: bool | None) -> str:
    """Tell whether approvals were reset; where that is no question, nothing is known of it either."""
    return "not known" if value is None else _yes(value)


def _plain(value: object) -> str:
    return _yes(value) if isinstance(value, bool) else str(value)


def _label(name: str) -> str:
    """Return a field's name as a person writes it."""
    written = {"sha256": "SHA-256", "dll": "DLL", "sid": "SID"}
    return " ".join(written.get(word, word) for word in name.split("_"))
