"""The tree of errors: as drawn, whole after every way of being copied, and of use to whoever reads it."""

from __future__ import annotations

import builtins
import copy
import json
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wsusfix import errors
from wsusfix.errors import (
    AccessDeniedError,
    BrokenConnectionError,
    DeadlineError,
    NotReachedError,
    RefusedByServerError,
    ScriptError,
    UsageError,
    WsusFixError,
)

_Drawn = dict[str, tuple[str | None, str | None]]


def _tree_of(kind: type[WsusFixError]) -> Iterator[type[WsusFixError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree_of(child)


ALL = tuple(_tree_of(WsusFixError))
each = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


def _drawn(text: str) -> _Drawn:
    """Read the drawing: each class with its parent's name and its builtin twin's."""
    found: _Drawn = {}
    parents: dict[int, str] = {}
    for line in text.splitlines():
        match = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?: \((\w+)\))?(?: |$)", line)
        if match is None:
            continue
        depth, name, twin = len(match[1]) // 4, match[2], match[3]
        found[name] = (parents.get(depth - 1), twin)
        parents[depth] = name
    return found


def _real() -> _Drawn:
    found: _Drawn = {}
    for kind in ALL:
        ours = [base.__name__ for base in kind.__bases__ if issubclass(base, WsusFixError)]
        theirs = [base.__name__ for base in kind.__bases__ if not issubclass(base, WsusFixError)]
        twins = [name for name in theirs if name != "Exception"]
        found[kind.__name__] = (ours[0] if ours else None, twins[0] if twins else None)
        assert len(ours) <= 1
        assert len(twins) <= 1
        assert all(hasattr(builtins, twin) for twin in twins)
    return found


def test_the_tree_in_the_docstring_is_the_real_tree() -> None:
    assert _drawn(errors.__doc__ or "") == _real()


def test_the_drawing_is_really_read() -> None:
    drawn = _drawn(
        "    WsusFixError\n    ├── AError (ValueError)  words\n    │   └── BError  words (more)\n    └── CError\n"
    )
    assert drawn == {
        "WsusFixError": (None, None),
        "AError": ("WsusFixError", "ValueError"),
        "BError": ("AError", None),
        "CError": ("WsusFixError", None),
    }


def test_all_names_every_error_once_and_in_order() -> None:
    assert sorted(kind.__name__ for kind in ALL) == errors.__all__


def _ways() -> Iterator[Callable[[WsusFixError], WsusFixError]]:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))  # type: ignore[misc]
    yield copy.copy
    yield copy.deepcopy


def _filled(kind: type[WsusFixError]) -> WsusFixError:
    """Return an error whose every attribute differs from what its class would give it."""
    told: dict[str, Any] = {"host": "wsus01", "phase": "upload", "hint": "mend it"}
    told["retryable"] = not kind.default_retryable
    if kind is ScriptError:
        told["error_id"] = "DivideByZero"
    if kind is RefusedByServerError:
        told["reason"] = "no_space"
    return kind("it broke", **told)


@each
def test_an_error_that_is_pickled_or_copied_keeps_all_it_says(kind: type[WsusFixError]) -> None:
    error = _filled(kind)
    for way in _ways():
        same = way(error)
        assert type(same) is kind
        assert vars(same) == vars(error)
        assert same.args == error.args == ("it broke",)
        assert str(same) == str(error)
        assert same.to_dict() == error.to_dict()


@each
def test_a_bare_error_that_is_pickled_keeps_the_hint_of_its_class(kind: type[WsusFixError]) -> None:
    error = kind("it broke")
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
    assert error.hint == kind.default_hint


def test_every_attribute_of_an_error_is_in_its_plain_data() -> None:
    for kind in ALL:
        error = _filled(kind)
        data = error.to_dict()
        told = {name: value for name, value in vars(error).items() if name != "outcome"}
        assert data == {"type": kind.__name__, **told}
        assert json.loads(json.dumps(data)) == data


@each
def test_the_text_of_an_error_says_where_when_what_and_what_next(kind: type[WsusFixError]) -> None:
    text = str(_filled(kind))
    assert text == "wsus01, upload: it broke (mend it)"
    assert repr(_filled(kind)) == f"{kind.__name__}({text!r})"


def test_the_text_of_an_error_leaves_out_what_is_not_known() -> None:
    assert str(WsusFixError("it broke")) == "it broke"
    assert str(WsusFixError("it broke", host="wsus01")) == "wsus01: it broke"
    assert str(WsusFixError("it broke", phase="facts")) == "facts: it broke"
    assert str(WsusFixError("it broke", hint="mend it")) == "it broke (mend it)"


@each
def test_every_error_says_whether_trying_again_makes_sense(kind: type[WsusFixError]) -> None:
    assert kind("it broke").retryable is kind.default_retryable
    assert kind("it broke", retryable=True).retryable is True
    assert kind("it broke", retryable=False).retryable is False


def test_only_what_time_can_mend_is_retryable_by_itself() -> None:
    assert {kind.__name__ for kind in ALL if kind.default_retryable} == {
        "BrokenConnectionError",
        "DeadlineError",
        "IdleDropError",
        "NotReachedError",
        "QuotaError",
        "RefusedError",
        "ShellGoneError",
        "UnavailableError",
    }


def test_an_error_is_caught_as_its_builtin_twin() -> None:
    assert isinstance(UsageError("no"), ValueError)
    assert isinstance(NotReachedError("no"), ConnectionError)
    assert isinstance(BrokenConnectionError("no"), ConnectionResetError)
    assert isinstance(DeadlineError("no"), TimeoutError)
    assert isinstance(AccessDeniedError("no"), PermissionError)


def test_host_and_phase_are_filled_in_once_and_never_overwritten() -> None:
    error = WsusFixError("it broke", phase="upload")
    assert error.at(host="wsus01", phase="connect") is error
    assert (error.host, error.phase) == ("wsus01", "upload")
    error.at(host="wsus02")
    assert error.host == "wsus01"


@each
def test_every_error_tells_its_reader_what_it_means(kind: type[WsusFixError]) -> None:
    assert kind.__doc__
    assert kind.__doc__.splitlines()[0].endswith((".", ":", ";"))
