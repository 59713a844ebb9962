"""A run over one or several servers, written down for the change ticket: text, Markdown, HTML, JSON.

It arranges what results say of themselves and adds nothing of its own; everything that came from a server is escaped.

>>> from wsusfix import report
>>> result = report.HostResult(server.host, plan=plan, outcome=outcome, events=recorder.moments)  # doctest: +SKIP
>>> run = report.Run("remediate", began, ended, (result,))  # doctest: +SKIP
>>> Path("ticket.html").write_text(report.html(run), encoding="utf-8")  # doctest: +SKIP
>>> Path("public.md").write_text(report.markdown(run, anonymous=True), encoding="utf-8")  # doctest: +SKIP
"""

from __future__ import annotations

from wsusfix.report.markdown import markdown
from wsusfix.report.page import html
from wsusfix.report.plain import json, text
from wsusfix.report.run import HostResult, Run

__all__ = ["HostResult", "Run", "html", "json", "markdown", "text", "to_html", "to_json", "to_markdown", "to_text"]

#: The same by the names that say what they do when they are imported by themselves.
to_text, to_markdown, to_html, to_json = text, markdown, html, json
