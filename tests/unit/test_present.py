"""How data shows itself: plain for programs, bounded and harmless for people."""

from __future__ import annotations

import enum
import html
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from wsusfix.options import Credentials
from wsusfix.present import Presentable, bytes_text, plain, printable, rows, seconds_text, shortened


class Colour(str, enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@dataclass(frozen=True, repr=False)
class Thing(Presentable):
    name: str
    parts: tuple[Thing, ...] = ()

    def _extra(self) -> Mapping[str, object]:
        return {"length": len(self.name), "colour": Colour.RED}

    def _summary(self) -> str:
        return self.name

    def __str__(self) -> str:
        return f"thing {self.name}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (1.5, 1.5),
        ("text", "text"),
        (Colour.RED, "red"),
        (Number.ONE, 1),
        (Version("3.1.6001.66"), "3.1.6001.66"),
        (datetime(2008, 7, 9, tzinfo=timezone.utc), "2008-07-09T00:00:00+00:00"),
        (date(2008, 7, 9), "2008-07-09"),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({Colour.RED}), ["red"]),
        ({Colour.RED: (1,), 2: None}, {"red": [1], "2": None}),
        (MappingProxyType({"a": Version("1.0")}), {"a": "1.0"}),
        (Thing("x"), {"name": "x", "parts": [], "length": 1, "colour": "red"}),
        ([Thing("x", parts=(Thing("yy"),))], [Thing("x", parts=(Thing("yy"),)).to_dict()]),
    ],
)
def test_plain_data_is_what_json_takes(value: object, expected: object) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)
    assert json.loads(json.dumps(found)) == expected


def test_an_enum_in_plain_data_is_its_bare_value() -> None:
    assert type(plain(Colour.RED)) is str
    assert type(plain(Number.ONE)) is int


def test_credentials_that_stray_into_plain_data_do_not_show_the_password() -> None:
    shown: Any = plain({"who": Credentials("admin", "hunter2!")})
    assert "hunter2!" not in json.dumps(shown)


def test_what_is_nested_turns_into_plain_data_too() -> None:
    data = Thing("x", parts=(Thing("yy"),)).to_dict()
    assert data["parts"] == [{"name": "yy", "parts": [], "length": 2, "colour": "red"}]


def _harmless(text: str) -> bool:
    return all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in text)


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=200), st.integers(1, 120))
@settings(deadline=None)
def test_printable_text_is_bounded_and_has_no_character_that_acts(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert _harmless(shown)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"]), max_size=100))
@settings(deadline=None)
def test_printable_leaves_ordinary_text_of_any_language_alone(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ("a\r\nb\tc", "a  b c"),
        ("a\u202eb", "a\ufffdb"),
        ("a\u2028b", "a\ufffdb"),
        ("a\x85b", "a\ufffdb"),
        ("a\x00b", "a\ufffdb"),
        ("a\udc80b", "a\ufffdb"),
        ("Blåbærsyltetøy 日本語", "Blåbærsyltetøy 日本語"),
    ],
)
def test_printable_replaces_what_would_act_on_a_terminal(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_printable_has_a_limit_of_its_own() -> None:
    assert len(printable("x" * 100_000)) == 500


def test_shortened_text_shows_that_something_was_cut() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde\u2026"


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (2_097_152, "2.1 MB"),
        (20_000_000_000, "20.0 GB"),
        (5_000_000_000_000, "5000.0 GB"),
    ],
)
def test_bytes_are_told_in_powers_of_ten(count: int, expected: str) -> None:
    assert bytes_text(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.25, "0.2 s"), (59.9, "59.9 s"), (60, "1 min 00 s"), (65.4, "1 min 05 s"), (3661, "61 min 01 s")],
)
def test_a_span_of_time_is_told_as_a_person_says_it(seconds: float, expected: str) -> None:
    assert seconds_text(seconds) == expected


def test_rows_are_aligned_and_leave_out_what_is_empty() -> None:
    assert rows([("a", 1), ("long name", False), ("none", None), ("empty", ""), ("zero", 0)]) == (
        "  a          1\n  long name  False\n  zero       0"
    )
    assert rows([]) == ""
    assert rows([("a", "b")], indent="") == "a  b"


def test_a_repr_is_short_and_harmless_whatever_the_object_holds() -> None:
    shown = repr(Thing("\x1b[31m\n" + "x" * 10_000))
    assert shown.startswith("<Thing \ufffd[31m x")
    assert len(shown) < 200
    assert _harmless(shown)


def test_a_notebook_shows_text_and_never_markup() -> None:
    hostile = "<script>alert('&')</script>"
    shown = Thing(hostile)._repr_html_()
    assert f"<td>{html.escape(hostile)}</td>" in shown
    assert "<script" not in shown


def test_a_notebook_folds_what_has_parts_and_leaves_out_what_is_empty() -> None:
    shown = Thing("outer", (Thing("inner\nline"),))._repr_html_()
    assert "<li><details><summary>inner line</summary><table>" in shown
    assert "<td>inner<br>line</td>" in shown
    assert shown.count("<th>parts</th>") == 1


def test_a_result_without_a_summary_is_told_so() -> None:
    with pytest.raises(NotImplementedError):
        Presentable()._summary()
