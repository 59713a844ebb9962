"""What the package offers: complete, sorted, described, and cheap to import."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsusfix

PACKAGE = Path(wsusfix.__file__).parent
HOMES: dict[str, tuple[str, ...]] = wsusfix._HOMES
#: What talks to servers, and is loaded only when one is connected to.
HEAVY = ("pypsrp", "requests", "spnego", "urllib3", "psrpcore", "cryptography", "tenacity")


def test_the_public_names_are_sorted_and_each_stands_once() -> None:
    assert wsusfix.__all__ == sorted(set(wsusfix.__all__))


def test_every_public_name_has_one_home_and_every_home_is_public() -> None:
    housed = [name for names in HOMES.values() for name in names]
    assert len(housed) == len(set(housed))
    assert {*housed, "__version__"} == set(wsusfix.__all__)
    assert list(HOMES) == sorted(HOMES)
    assert all(list(names) == sorted(names) for names in HOMES.values())


@pytest.mark.parametrize("home", HOMES)
def test_every_public_name_is_public_in_its_home_too(home: str) -> None:
    module = importlib.import_module(home)
    for name in HOMES[home]:
        assert getattr(wsusfix, name) is getattr(module, name)
        # What says of itself where it was made says this home, or a room of it; advisory is data and lists no names.
        made = getattr(getattr(module, name), "__module__", home)
        assert made in (home, "types", "typing") or made.startswith(f"{home}.")
        assert name in getattr(module, "__all__", (name,))


def test_every_error_is_public() -> None:
    assert list(HOMES["wsusfix.errors"]) == importlib.import_module("wsusfix.errors").__all__


def test_what_a_type_checker_is_told_is_what_there_is() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    told: dict[str, tuple[str, ...]] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        assert all(alias.asname is None for alias in node.names)
        told[node.module] = tuple(alias.name for alias in node.names)
    assert told == HOMES


def test_a_name_that_does_not_exist_is_an_attribute_error_and_not_an_import() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        wsusfix.Nothing  # noqa: B018
    assert not hasattr(wsusfix, "advisory_of_nothing")


def test_the_public_names_and_no_others_are_offered_for_completion() -> None:
    wsusfix.Plan  # noqa: B018  (what was loaded already must change nothing)
    assert dir(wsusfix) == sorted([*wsusfix.__all__, "clients", "logs", "report"])
    assert wsusfix.report.html.__doc__


def test_the_version_is_written_in_one_place() -> None:
    assert all(part.isdigit() for part in wsusfix.__version__.split("."))


def _loaded_by(code: str) -> set[str]:
    """Return which modules a new Python has loaded after *code*."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_but_itself() -> None:
    loaded = _loaded_by("import wsusfix")
    assert not loaded & set(HEAVY)
    assert {name for name in loaded if name.startswith("wsusfix")} == {"wsusfix"}


def test_all_public_names_can_be_had_without_what_talks_to_servers() -> None:
    loaded = _loaded_by("from wsusfix import *\nassert Plan and WsusServer and connect")
    assert "wsusfix.server" in loaded
    assert not loaded & set(HEAVY)
    assert not any(name.startswith("wsusfix.lab") for name in loaded)


def test_star_import_gives_every_public_name() -> None:
    names: dict[str, Any] = {}
    exec("from wsusfix import *", names)
    assert set(wsusfix.__all__) <= names.keys()


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()


# --- docstrings -----------------------------------------------------------------------------------------------------

_Described = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public(node: ast.AST, where: str) -> Iterator[tuple[str, _Described]]:
    """Walk the public things below *node*: classes, functions, and the methods and properties of classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield f"{where}.{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from _public(child, f"{where}.{child.name}")
        elif isinstance(child, ast.If | ast.Try):
            yield from _public(child, where)


def _undescribed(text: str, where: str) -> list[str]:
    tree = ast.parse(text)
    things: list[tuple[str, _Described]] = [(where, tree), *_public(tree, where)]
    return [name for name, node in things if not (ast.get_docstring(node) or "").strip()]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_public_thing_is_described(path: Path) -> None:
    where = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    assert _undescribed(path.read_text(encoding="utf-8"), where) == []


def test_a_missing_description_would_be_noticed() -> None:
    head = '"""m"""\nclass A:\n    """a"""\n'
    text = head + "    @property\n    def b(self): ...\n    def _c(self): ...\ndef d():\n    def e(): ...\n"
    assert _undescribed(text, "m") == ["m.A.b", "m.d"]
    assert _undescribed("x = 1", "m") == ["m"]
