"""The spread of cases that a quick run takes."""

from __future__ import annotations

import pytest

from tests import sampling
from tests.sampling import spread


def test_a_spread_has_the_ends_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "WHOLE", False)
    for length in range(1, 60):
        for keep in range(2, 12):
            found = spread(range(length), keep)
            assert len(found) == len(set(found)) == min(length, keep)
            assert (found[0], found[-1]) == (0, length - 1)
            assert found == sorted(found)


def test_the_whole_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "WHOLE", True)
    assert spread("abcdefgh", 2) == list("abcdefgh")
