"""How frozen data shows itself: plain data for programs, a table or sentences for people, escaped HTML for notebooks.

It knows dataclasses, enums, versions and times in general and no result in particular.
"""

from __future__ import annotations

import dataclasses
import enum
import html
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

__all__ = ["Presentable", "bytes_text", "counted", "plain", "printable", "rows", "seconds_text", "shortened"]


def plain(value: object) -> Any:
    """Return *value* as what :func:`json.dumps` takes: dictionaries, lists, strings, numbers, booleans, ``None``.

    >>> plain(("a", datetime(2008, 7, 9)))
    ['a', '2008-07-09T00:00:00']
    """
    match value:
        case enum.Enum():
            return plain(value.value)
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.isoformat()
        case Presentable():
            return value.to_dict()
        case Mapping():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted(plain(item) for item in value)
        case _:
            to_dict = getattr(value, "to_dict", None)
            return to_dict() if callable(to_dict) else str(value)


def printable(text: str, limit: int = 500) -> str:
    """Return *text* from an untrusted source fit for a terminal: no control characters, bounded length.

    >>> printable("a\\x1b[2Jb")
    'a\\ufffd[2Jb'
    """
    cleaned = "".join(char if char.isprintable() else " " if char in "\t\r\n" else "\ufffd" for char in text)
    return shortened(cleaned, limit)


def shortened(text: str, limit: int) -> str:
    """Return *text* cut to *limit* characters, with an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def bytes_text(count: float) -> str:
    """Return a number of bytes as a person says it: ``2.0 MB`` (10^6, as file managers and links count).

    >>> bytes_text(2_097_152)
    '2.1 MB'
    """
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def counted(number: int, thing: str) -> str:
    """Return a number of things as a person says it.

    >>> counted(1, "update"), counted(2, "update")
    ('1 update', '2 updates')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def seconds_text(seconds: float) -> str:
    """Return a span of time as a person says it: ``0.3 s``, ``1 min 05 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def rows(pairs: Iterable[tuple[str, object]], *, indent: str = "  ") -> str:
    """Return label and value pairs as aligned lines; pairs whose value is ``None`` or ``""`` are left out."""
    kept = [(label, str(value)) for label, value in pairs if value is not None and value != ""]
    width = max((len(label) for label, _ in kept), default=0)
    return "\n".join(f"{indent}{label:<{width}}  {value}" for label, value in kept)


def _html_rows(data: Mapping[str, Any], source: object = None) -> str:
    """Return plain data as rows of an HTML table; what is empty is left out, what has parts of its own is folded.

    *source* is what the data was made of, where that is known: its parts say in a few words what is folded.
    """
    return "".join(
        f"<tr><th>{html.escape(printable(name.replace('_', ' '), 80))}</th>"
        f"<td>{_html_value(value, getattr(source, name, None))}</td></tr>"
        for name, value in data.items()
        if value not in (None, "", [], {})
    )


def _html_value(value: Any, source: object = None) -> str:
    match value:
        case dict():
            words = source._summary() if isinstance(source, Presentable) else ", ".join(map(str, value))
            return (
                f"<details><summary>{html.escape(printable(words, 160))}</summary>"
                f"<table>{_html_rows(value, source)}</table></details>"
            )
        case list():
            given: list[object] = list(source) if isinstance(source, list | tuple) else []
            sources = given if len(given) == len(value) else [None] * len(value)
            items = (f"<li>{_html_value(item, each)}</li>" for item, each in zip(value, sources, strict=True))
            return f"<ul>{''.join(items)}</ul>"
        case bool():
            return "yes" if value else "no"
        case _:
            return "<br>".join(html.escape(printable(line, 2000)) for line in str(value).splitlines()[-40:])


class Presentable:
    """Base of every result: a dataclass that turns into plain data, prints short in a REPL and long for a person.

    A subclass is a frozen dataclass with ``repr=False``; it gives ``_summary`` (the few words of its repr) and
    ``__str__`` (what a person reads).
    """

    def _summary(self) -> str:
        """Return the few words that stand in the repr."""
        raise NotImplementedError

    def _extra(self) -> Mapping[str, object]:
        """Return computed values that plain data carries beside the fields."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return the object as plain data that :func:`json.dumps` takes."""
        own: Any = self
        data = {item.name: plain(getattr(self, item.name)) for item in dataclasses.fields(own)}
        data.update({name: plain(value) for name, value in self._extra().items()})
        return data

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {printable(self._summary(), 160)}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show itself in IPython: as a person reads it, and inside of other data in a few words."""
        inside = len(getattr(printer, "stack", ())) > 1
        printer.text(repr(self) if cycle or inside else str(self))

    def _repr_html_(self) -> str:
        caption = html.escape(printable(f"{type(self).__name__} {self._summary()}", 160))
        return f"<table><caption>{caption}</caption>{_html_rows(self.to_dict(), self)}</table>"
