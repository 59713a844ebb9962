"""Typed access to a script's checked answer; what no server can have is told with its key."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from wsusfix.errors import AnswerError
from wsusfix.present import printable
from wsusfix.scripts.contracts import Scalar

__all__ = ["AnswerReader"]

_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


class AnswerReader:
    """Typed access to a checked answer; what cannot be so is told with its key."""

    def __init__(self, host: str, answer: Mapping[str, Scalar], phase: str = "facts") -> None:
        self._host = host
        self._answer = answer
        self._phase = phase

    def __contains__(self, key: str) -> bool:
        return key in self._answer

    def broken(self, key: str, value: object) -> AnswerError:
        """Return the error about a value."""
        return AnswerError(
            f"the server's answer has {printable(repr(value), 80)} for {key}", host=self._host, phase=self._phase
        )

    def text(self, key: str) -> str:
        """Return a text; an absent one is empty."""
        value = self._answer.get(key, "")
        if not isinstance(value, str):
            raise self.broken(key, value)
        return value

    def lines(self, key: str) -> tuple[str, ...]:
        """Return the lines of a text, fit to be printed."""
        return tuple(printable(line, 520) for line in self.text(key).split("\n") if line.strip())

    def number(self, key: str) -> int:
        """Return a number from 0 on."""
        value = self._answer.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.broken(key, value)
        return value

    def flag(self, key: str) -> bool:
        """Return a truth value."""
        value = self._answer.get(key)
        if not isinstance(value, bool):
            raise self.broken(key, value)
        return value

    def count(self, key: str) -> int:
        """Return a number that travels as text."""
        value = self.text(key)
        if not (value.isascii() and value.isdigit() and len(value) <= 20):
            raise self.broken(key, value)
        return int(value)

    def time(self, key: str) -> datetime:
        """Return a time."""
        value = self.text(key)
        try:
            return datetime.strptime(value, _TIME_FORMAT).replace(tzinfo=timezone.utc)
        except ValueError:
            raise self.broken(key, value) from None

    def one_of(self, key: str, kinds: type[enum.Enum]) -> Any:
        """Return the member of a closed set."""
        value = self.text(key)
        try:
            return kinds(value)
        except ValueError:
            raise self.broken(key, value) from None
