"""A run as Markdown; what came from a server stands in cells that are escaped, or in blocks where nothing is markup."""

from __future__ import annotations

from html import escape

from wsusfix.present import counted, printable
from wsusfix.report.names import kept, left_out
from wsusfix.report.plain import parts
from wsusfix.report.run import HEADINGS, Run, row

__all__ = ["markdown"]


def markdown(run: Run, *, anonymous: bool = False) -> str:
    """Return the run as Markdown: a table of all servers, then each one's story.

    Args:
        run: see :class:`Run`.
        anonymous: put words such as "server-1" and "user-1" in the place of every known name.
    """
    naming = left_out(run) if anonymous else kept
    lines = [
        f"# wsusfix {run.command}",
        "",
        f"{run.when}, {counted(len(run.hosts), 'server')}",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + " --- |" * len(HEADINGS),
    ]
    lines += ["| " + " | ".join(_cell(naming(value)) for value in row(result)) + " |" for result in run.hosts]
    for result in run.hosts:
        lines += ["", f"## {_cell(naming(result.host))}", "", *_block(naming(str(result)))]
        for title, part in parts(result):
            lines += ["", f"### {title}", "", *_block(naming(str(part)))]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Escape what Markdown would read in a table cell: text from a server must not become markup."""
    cleaned = escape(printable(text, 300), quote=False)
    for char in "\\`*_[]|":
        cleaned = cleaned.replace(char, "\\" + char)
    return cleaned


def _block(text: str) -> list[str]:
    """Indent as a code block: nothing inside is markup, whatever it says."""
    return ["    " + printable(line, 1000) for line in text.splitlines()]
