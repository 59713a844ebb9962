"""What can be made to go wrong at an endpoint: a small language, spoken from outside at any time.

Each sentence (``drop_after(sends=3)``) is remembered here and asked for by the layer that carries it out, which
counts it in ``counts`` when it happens. This module knows neither HTTP nor WS-Management, only numbers and clocks.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Faults", "as_number", "as_seconds", "one_of"]


def as_number(name: str, value: int, least: int = 0) -> int:
    """Return *value*, which has to be a whole number of at least *least*.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, not {value!r}")
    return value


def as_seconds(value: float, *, back: bool = False) -> float:
    """Return *value*, which has to be so many seconds; fewer than none only where they may go back.

    Raises:
        ValueError: they are not.
    """
    wanted = "a finite number" if back else "a finite number, at least 0"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"seconds must be {wanted}, not {value!r}")
    if value < 0 and not back:
        raise ValueError(f"seconds must be {wanted}, not {value!r}")
    return value


def one_of(what: str, wanted: Any, there: Collection[Any], where: str = "") -> Any:
    """Return *wanted* if it is *there*.

    Raises:
        ValueError: it is not; says what is.
    """
    if wanted not in there:
        on = f" on {where}" if where else ""
        raise ValueError(f"there is no {what} {wanted!r}{on}: there are {', '.join(repr(each) for each in there)}")
    return wanted


@dataclass
class _Times:
    """How often something still happens: a number, or None for always."""

    left: int | None = 0

    @classmethod
    def of(cls, times: int | None) -> _Times:
        return cls(None if times is None else as_number("times", times, 1))

    def take(self) -> bool:
        if self.left is None:
            return True
        if self.left <= 0:
            return False
        self.left -= 1
        return True


class Faults:
    """The faults of one endpoint. All methods may be called from any thread, while requests are under way.

    Raises (every method that takes a number):
        ValueError: it is none that means anything.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._encryption_epoch = 0
        self._on_lose_shells: list[Callable[[], int]] = []
        self._reset()

    def _reset(self) -> None:
        self._sends_left: int | None = None
        self._drops = _Times()
        self._unavailable_until = 0.0
        self._rejected_credentials = _Times()
        self._too_large_above: int | None = None
        self._quota_faults = _Times()
        self._denials = _Times()
        self._hangs = _Times()
        self._hang_seconds = 0.0
        self._responses_left = 0
        self._requests_left = 0

    # --- what a test, a rehearsal or the command line says -------------------------------------------------

    def drop_after(self, *, sends: int, times: int | None = 1) -> None:
        """Answer ``sends`` more Send requests, then reset the connection of the next one, unprocessed.

        ``times=None`` resets every later Send as well; ``times=3`` the next three.
        """
        with self._lock:
            self._sends_left, self._drops = as_number("sends", sends), _Times.of(times)

    def unavailable(self, *, seconds: float) -> None:
        """Answer 503 for so long, as while the WinRM service starts."""
        with self._lock:
            self._unavailable_until = time.monotonic() + as_seconds(seconds)

    def stale_encryption(self) -> None:
        """Forget the security context of every connection: 400 until the client authenticates anew."""
        with self._lock:
            self._encryption_epoch += 1

    def reject_credentials(self, *, times: int | None = None) -> None:
        """Refuse every log-on with 401, whatever the password; connections that are in stay in."""
        with self._lock:
            self._rejected_credentials = _Times.of(times)

    def too_large(self, *, above: int) -> None:
        """Answer 413 to every request whose body is larger than ``above`` bytes."""
        with self._lock:
            self._too_large_above = as_number("above", above)

    def quota(self, *, times: int | None = None) -> None:
        """Refuse to open a shell because the user has too many (2150859173)."""
        with self._lock:
            self._quota_faults = _Times.of(times)

    def access_denied(self, *, times: int | None = None) -> None:
        """Refuse to open a shell because the user is no administrator (5)."""
        with self._lock:
            self._denials = _Times.of(times)

    def hang_in_receive(self, *, seconds: float, times: int | None = 1) -> None:
        """Leave the next Receive without any answer for so long, its operation timeout notwithstanding."""
        with self._lock:
            self._hang_seconds, self._hangs = as_seconds(seconds), _Times.of(times)

    def lose_shells(self) -> None:
        """All shells are gone at once, with what ran in them; their clients get 2150858843."""
        with self._lock:
            listeners = tuple(self._on_lose_shells)
        # Outside the lock: shells are closed there, which takes locks of its own.
        lost = sum(listener() for listener in listeners)
        self._count("lose_shells", lost)

    def reset_in_response(self, n: int = 1) -> None:
        """Break the ``n``-th response from now in the middle: its request has been carried out, unseen."""
        with self._lock:
            self._responses_left = as_number("n", n, 1)

    def reset_request(self, n: int = 1) -> None:
        """Reset the connection of the ``n``-th request from now instead of answering: it is not carried out."""
        with self._lock:
            self._requests_left = as_number("n", n, 1)

    def clear(self) -> None:
        """Nothing goes wrong any more; what has happened stays counted."""
        with self._lock:
            self._reset()

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each fault has happened, by the name of its method; a state of the server, how often it was set."""
        with self._lock:
            return dict(self._counts)

    # --- what the layers ask -------------------------------------------------------------------------------

    def on_lose_shells(self, listener: Callable[[], int]) -> None:
        """Register who empties the shells and tells how many there were."""
        with self._lock:
            self._on_lose_shells.append(listener)

    def forget_listener(self, listener: Callable[[], int]) -> None:
        """Take back one ``on_lose_shells``."""
        with self._lock:
            self._on_lose_shells.remove(listener)

    @property
    def encryption_epoch(self) -> int:
        """A connection that authenticated in an earlier epoch has lost its security context."""
        with self._lock:
            return self._encryption_epoch

    def note(self, name: str) -> None:
        """Count a fault that a layer recognises by itself."""
        self._count(name)

    def is_unavailable(self) -> bool:
        """Asked once for every request."""
        with self._lock:
            if time.monotonic() >= self._unavailable_until:
                return False
            self._counts["unavailable"] += 1
            return True

    def is_too_large(self, size: int) -> bool:
        """Asked once for every body."""
        with self._lock:
            if self._too_large_above is None or size <= self._too_large_above:
                return False
            self._counts["too_large"] += 1
            return True

    def rejects_credentials(self) -> bool:
        """Asked once for every log-on that would succeed."""
        return self._take(self._rejected_credentials, "reject_credentials")

    def denies_access(self) -> bool:
        """Asked once for every shell."""
        return self._take(self._denials, "access_denied")

    def exceeds_quota(self) -> bool:
        """Asked once for every shell."""
        return self._take(self._quota_faults, "quota")

    def drops_send(self) -> bool:
        """Asked once for every Send."""
        with self._lock:
            if self._sends_left is None:
                return False
            if self._sends_left > 0:
                self._sends_left -= 1
                return False
            if not self._drops.take():
                self._sends_left = None
                return False
            self._counts["drop_after"] += 1
            return True

    def breaks_response(self) -> bool:
        """Asked once for every response."""
        with self._lock:
            if self._responses_left == 0:
                return False
            self._responses_left -= 1
            if self._responses_left > 0:
                return False
            self._counts["reset_in_response"] += 1
            return True

    def breaks_request(self) -> bool:
        """Asked once for every request."""
        with self._lock:
            if self._requests_left == 0:
                return False
            self._requests_left -= 1
            if self._requests_left > 0:
                return False
            self._counts["reset_request"] += 1
            return True

    def hang(self) -> float:
        """For how many seconds this Receive hangs; asked once for every Receive."""
        with self._lock:
            if not self._hangs.take():
                return 0.0
            self._counts["hang_in_receive"] += 1
            return self._hang_seconds

    def _take(self, times: _Times, name: str) -> bool:
        with self._lock:
            if not times.take():
                return False
            self._counts[name] += 1
            return True

    def _count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._counts[name] += by
