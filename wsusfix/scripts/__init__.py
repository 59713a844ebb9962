"""The PowerShell half: one ``.ps1`` per question or deed, and the loader that composes them.

A composed script is its first line (which names it), ``param($Parameters)``, the functions of ``windows.ps1`` it
uses between two marker lines, the shared functions of ``jobs.ps1`` it uses, and its own lines; comments and blank
lines are left out.  This package knows how text is put together and what each script takes and gives, not how it
travels.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Final

from wsusfix.scripts.contracts import CONTRACTS, Contract, ContractError

__all__ = [
    "BEGIN_WINDOWS",
    "END_WINDOWS",
    "FIRST_LINE",
    "Script",
    "compose",
    "functions_of",
    "name_of",
    "source",
]

#: The first line of every composed script; ``{name}`` is the script's name.
FIRST_LINE: Final = "# wsusfix script: {name}"
BEGIN_WINDOWS: Final = "# --- windows.ps1 begins ---"
END_WINDOWS: Final = "# --- windows.ps1 ends ---"
_PARAM: Final = "param($Parameters)"
_FUNCTION: Final = re.compile(r"^function ([A-Za-z]+-[A-Za-z0-9]+)\b.*?^\}$", re.MULTILINE | re.DOTALL)
_WORD: Final = re.compile(r"\b[A-Z][A-Za-z]*-[A-Z][A-Za-z0-9]*\b")


@dataclass(frozen=True, repr=False)
class Script:
    """A composed script: its contract and the text that is gated, sent, staged and recognised."""

    contract: Contract
    text: str

    @property
    def name(self) -> str:
        """The script's name."""
        return self.contract.name

    @property
    def staged(self) -> bytes:
        """The text as a file on the server: UTF-8 with a byte order mark, without which PowerShell 2.0 reads ANSI."""
        return b"\xef\xbb\xbf" + self.text.replace("\n", "\r\n").encode("utf-8")

    @property
    def staged_sha256(self) -> str:
        """SHA-256 of :attr:`staged`, lower-case hexadecimal."""
        return hashlib.sha256(self.staged).hexdigest()

    def __repr__(self) -> str:
        return f"Script({self.name!r}, {len(self.text)} characters)"


def source(name: str) -> str:
    """Return the text of the file ``<name>.ps1`` as written, with line feeds."""
    text = resources.files(__name__).joinpath(f"{name}.ps1").read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")


def functions_of(text: str) -> dict[str, str]:
    """Return the top-level functions of *text* by name; a function ends at a ``}`` in the first column."""
    return {match.group(1): match.group(0) for match in _FUNCTION.finditer(text)}


def name_of(text: str) -> str | None:
    """Return which script *text* is, by its first line, or ``None``."""
    head, _, _ = text.lstrip("\ufeff").partition("\n")
    prefix, _, _ = FIRST_LINE.partition("{name}")
    return head.removeprefix(prefix).strip() if head.startswith(prefix) else None


@functools.cache
def compose(name: str, windows: str | None = None) -> Script:
    """Compose the script *name*.

    Args:
        name: one of :data:`~wsusfix.scripts.contracts.CONTRACTS`.
        windows: what stands between the markers in place of ``windows.ps1``, whole, for those who run the scripts
            where there is no Windows.

    Raises:
        ContractError: there is no such script, or its file does not have the shape of one.
    """
    contract = CONTRACTS.get(name)
    if contract is None:
        raise ContractError(f"there is no script {name!r}")
    lines = source(name).splitlines()
    if lines[:2] != [FIRST_LINE.format(name=name), _PARAM]:
        raise ContractError(f"script {name}: does not begin with its name and {_PARAM}")
    body = _without_comments("\n".join(lines[2:]))
    shared, primitives = (functions_of(_without_comments(source(other))) for other in ("jobs", "windows"))
    used_shared = _used(body, shared)
    used = _used("\n".join([body, *used_shared]), primitives)
    inserted = used if windows is None else [windows.strip("\n")]
    parts = [
        FIRST_LINE.format(name=name),
        _PARAM,
        BEGIN_WINDOWS,
        *inserted,
        END_WINDOWS,
        *used_shared,
        body,
    ]
    return Script(contract, "\n".join(parts) + "\n")


def _used(text: str, functions: dict[str, str]) -> list[str]:
    """Return those of *functions* that *text* calls, directly or through another, in the order of their file."""
    wanted: set[str] = set()
    reached = set(_WORD.findall(text)) & functions.keys()
    while reached:
        wanted |= reached
        reached = {word for name in reached for word in _WORD.findall(functions[name])} & functions.keys() - wanted
    return [body for name, body in functions.items() if name in wanted]


def _without_comments(text: str) -> str:
    """Drop blank lines and lines that are comments; a comment behind code does not occur in our scripts."""
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
