"""The house: who may know whom, read from the imports as they stand, and where facts may be written.

The rules are stated once, in the tables below, and held against every module of the package.  That they would notice a
wrong arrow is shown at the end, on small trees made for it.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

import wsusfix
from wsusfix import advisory

HOUSE: Final = Path(wsusfix.__file__).parent

# --- the rules ------------------------------------------------------------------------------------------------------

#: The floors of the house, lowest first. A room imports rooms of lower floors only; rooms of one floor do not know
#: each other. Rooms that are not built yet have their floor already.
FLOORS: Final = (
    ("errors", "present"),
    ("advisory", "options", "events", "scripts", "_headers"),
    ("facts", "package", "remote", "logs", "agent"),
    ("diagnosis", "results", "surroundings"),
    ("plan", "verify"),
    ("apply",),
    ("server",),
    ("report", "clients"),
    ("cli", "__main__"),
)
FLOOR: Final = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: The package's own ``__init__``: the front door, which leads everywhere and is loaded by everybody.
FRONT_DOOR: Final = "__init__"
#: Beside the house.
LAB: Final = "lab"
#: What a simulated server may know: documented facts, contracts, what a package is; never the road it is there to try.
LAB_KNOWS: Final = (*(room for rooms in FLOORS[:2] for room in rooms if room != "_headers"), "package")
#: Modules of the lab that use the package as any user does.
LAB_USERS: Final = ("wsusfix.lab.demo", "wsusfix.lab.plugin")
#: Arrows on one floor, each with its reason.
SAME_FLOOR: Final = {("__main__", "cli"): "python -m wsusfix is the command line by another name"}
#: Rooms that import nothing of ours: who has to trust a fact, an error or a contract need not look further.
ALONE: Final = ("errors", "present", "advisory", "scripts", "_headers")
#: Rooms that one other room has for itself.
ONLY_FOR: Final = {"_headers": "package"}
#: Rooms that must not know others though the floors would let them.
STRANGERS: Final = {"remote": ("advisory",)}  # it carries scripts, files and jobs, and knows nothing of WSUS
#: Who may go through the front door (for the version, or as a user of the package would).
THROUGH_THE_DOOR: Final = ("report", "cli", "__main__")
#: Libraries that talk to servers, and the rooms that may know them.
WIRE: Final = ("pypsrp", "requests", "spnego", "urllib3", "psrpcore")
WIRE_ROOMS: Final = ("remote", LAB)


# --- reading imports ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrow:
    """One import: who imports which module, on which line, and whether only inside a function or for types."""

    importer: str
    imported: str
    line: int
    inside: bool
    for_types: bool


def _module_of(path: Path, house: Path) -> str:
    parts = path.relative_to(house.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules(house: Path) -> dict[str, Path]:
    return {_module_of(path, house): path for path in sorted(house.rglob("*.py"))}


def _targets(node: ast.Import | ast.ImportFrom, module: str, is_package: bool, known: set[str]) -> Iterator[str]:
    """Return the modules that an import statement names; ``from a import b`` is ``a.b`` where that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        here = module.split(".") if is_package else module.split(".")[:-1]
        above = here[: len(here) - (node.level - 1)]
        base = ".".join([*above, *([node.module] if node.module else [])])
    for alias in node.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner in known else base


def _arrows(house: Path) -> list[Arrow]:
    """Return every import below *house*: at the top, inside functions, for types, and by name at run time."""
    modules = _modules(house)
    found: list[Arrow] = []

    def walk(node: ast.AST, module: str, inside: bool, for_types: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            is_package = modules[module].name == "__init__.py"
            for target in _targets(node, module, is_package, set(modules)):
                found.append(Arrow(module, target, node.lineno, inside, for_types))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for within in node.body:
                walk(within, module, inside, True)
            for within in node.orelse:
                walk(within, module, inside, for_types)
            return
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            walk(child, module, inside, for_types)

    for module, path in modules.items():
        walk(ast.parse(path.read_text(encoding="utf-8")), module, False, False)
    return found


def _room(module: str, house: Path) -> str | None:
    """Return the room of a module of ours: the first name below the package; ``None`` for a module of others."""
    first, _, rest = module.partition(".")
    if first != house.name:
        return None
    return rest.partition(".")[0] or FRONT_DOOR


# --- judging them ---------------------------------------------------------------------------------------------------


def _wrong_arrows(house: Path) -> list[str]:
    """Return every import that breaks a rule, in words."""
    wrong: list[str] = []
    for arrow in _arrows(house):
        here, there = _room(arrow.importer, house), _room(arrow.imported, house)
        assert here is not None
        verdict = _outside(arrow, here) if there is None else _within(arrow, here, there)
        if verdict:
            wrong.append(f"{arrow.importer}:{arrow.line} imports {arrow.imported}: {verdict}")
    return wrong


def _outside(arrow: Arrow, here: str) -> str:
    if arrow.imported.partition(".")[0] in WIRE and here not in WIRE_ROOMS:
        return "only " + " and ".join(WIRE_ROOMS) + " talk to servers"
    return ""


def _within(arrow: Arrow, here: str, there: str) -> str:
    if here == there:
        return ""
    if here == FRONT_DOOR:
        return "" if arrow.for_types else "the front door loads a room only when it is asked for"
    if here == LAB:
        return _from_the_lab(arrow, there)
    if there == FRONT_DOOR:
        return "" if here in THROUGH_THE_DOOR else "the front door is for users of the package"
    if there == LAB:
        if here != "cli":
            return "the lab stands beside the house"
        return "" if arrow.inside else "the command line opens the lab only when it is asked for"
    return _between(here, there)


def _from_the_lab(arrow: Arrow, there: str) -> str:
    if there in ("cli", "__main__"):
        return "the command line is nobody's to import"
    return "" if there in LAB_KNOWS or arrow.importer in LAB_USERS else f"a simulated server knows nothing of {there}"


def _between(here: str, there: str) -> str:
    for room in (here, there):
        if room not in FLOOR:
            return f"{room} has no floor"
    if here in ALONE:
        return f"{here} imports nothing of ours"
    if ONLY_FOR.get(there, here) != here:
        return f"{there} is for {ONLY_FOR[there]} alone"
    if there in STRANGERS.get(here, ()):
        return f"{here} knows nothing of {there}"
    if (here, there) in SAME_FLOOR or FLOOR[there] < FLOOR[here]:
        return ""
    return f"{here} is on floor {FLOOR[here]}, {there} on floor {FLOOR[there]}"


def _rooms_without_a_floor(house: Path) -> set[str]:
    rooms = {_room(module, house) or "" for module in _modules(house)}
    return rooms - FLOOR.keys() - {FRONT_DOOR, LAB}


def _circle(house: Path) -> list[str]:
    """Return a circle among the modules, rooms or no rooms; an empty list when there is none."""
    graph: dict[str, set[str]] = {module: set() for module in _modules(house)}
    for arrow in _arrows(house):
        # A package's own __init__ naming its modules is no circle, and neither is what only a type checker reads.
        if arrow.imported in graph and not arrow.for_types and arrow.imported != arrow.importer:
            graph[arrow.importer].add(arrow.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


def _imports_by_name(house: Path) -> list[str]:
    """Return where modules are imported by a name made at run time, which no rule here can see."""
    found = []
    for module, path in _modules(house).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and re.search(r"(^|\.)(import_module|__import__)$", ast.unparse(node.func)):
                found.append(module)
    return found


# --- the house as it stands -----------------------------------------------------------------------------------------


def test_every_import_goes_down_the_house() -> None:
    assert _wrong_arrows(HOUSE) == []


def test_every_room_has_its_floor() -> None:
    assert _rooms_without_a_floor(HOUSE) == set()


def test_no_room_stands_on_two_floors() -> None:
    rooms = [room for rooms in FLOORS for room in rooms]
    assert len(rooms) == len(set(rooms))


def test_there_is_no_circle_not_even_within_a_room() -> None:
    assert _circle(HOUSE) == []


def test_only_the_front_door_imports_by_name() -> None:
    assert _imports_by_name(HOUSE) == ["wsusfix"]


def test_every_exception_is_still_needed() -> None:
    arrows = {(_room(arrow.importer, HOUSE), _room(arrow.imported, HOUSE)) for arrow in _arrows(HOUSE)}
    assert set(SAME_FLOOR) <= arrows
    assert {(importer, room) for room, importer in ONLY_FOR.items()} <= arrows
    assert any(importer in WIRE_ROOMS and imported is None for importer, imported in arrows)


def test_the_imports_of_the_house_are_really_read() -> None:
    arrows = _arrows(HOUSE)
    for name, imported, text in (
        ("plan/__init__.py", "wsusfix.diagnosis", "from wsusfix.diagnosis"),
        ("plan/__init__.py", "wsusfix.plan.install", "from wsusfix.plan import install"),
    ):
        assert Arrow("wsusfix.plan", imported, _line(name, text), False, False) in arrows
    assert any(arrow.importer == "wsusfix.server" and arrow.inside for arrow in arrows)
    assert any(arrow.importer == "wsusfix.apply" and arrow.for_types for arrow in arrows)
    assert {arrow.imported.partition(".")[0] for arrow in arrows} >= {"pypsrp", "requests", "spnego"}


def _line(name: str, start: str) -> int:
    lines = (HOUSE / name).read_text(encoding="utf-8").splitlines()
    return 1 + next(number for number, line in enumerate(lines) if line.startswith(start))


# --- facts are written once -----------------------------------------------------------------------------------------

#: What a fact of the advisory looks like when somebody writes it down a second time.
FACTS: Final = {
    "version number": re.compile(r"(?<![\w.])\d+\.\d+(?:\.\d+)+(?![\w.])|^\d+\.\d+$"),
    "registry path": re.compile(r"(?i)\b(?:software|system|hklm:?|hkey_\w+|currentcontrolset)\\"),
    "thumbprint or hash": re.compile(r"(?i)\b(?:[0-9a-f]{40}|[0-9a-f]{64})\b"),
    "product code": re.compile(r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"),
    "file of WSUS": re.compile(r"(?i)updateservices|\\bin\\|update services\\"),
    "title of an update": re.compile(r"Office 2003"),
}
#: What looks like one and is none.
NO_FACTS: Final = {
    ("__init__.py", wsusfix.__version__): "the version of this package",
    ("package.py", "000C1084-0000-0000-C000-000000000046"): "class of Windows Installer packages: a file format's",
    ("package.py", "000C1086-0000-0000-C000-000000000046"): "class of Windows Installer patches: a file format's",
    ("_headers/property_set.py", "F29F85E0-4FF9-1068-AB91-08002B27B3D9"): "format id of summary information",
}
#: Exit codes of installers, as numbers; the one of success is any program's.
CODES: Final = frozenset(advisory.EXIT_CODES) - {0}


def _literals(path: Path) -> Iterator[tuple[int, str | int]]:
    """Return the texts and numbers written in a module, docstrings aside, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            if isinstance(node.value, bytes):
                yield node.lineno, node.value.decode("latin-1")
            elif isinstance(node.value, str) or type(node.value) is int:
                yield node.lineno, node.value


def _facts_in(house: Path) -> list[str]:
    """Return every fact written outside ``advisory`` and ``lab``, in words."""
    found = []
    for path in sorted(house.rglob("*.py")):
        name = path.relative_to(house).as_posix()
        if name == "advisory.py" or name.startswith(f"{LAB}/"):
            continue
        for line, value in _literals(path):
            if isinstance(value, int):
                kinds = ["exit code"] if value in CODES else []
            else:
                kinds = (
                    [] if (name, value) in NO_FACTS else [kind for kind, look in FACTS.items() if look.search(value)]
                )
            found += [f"{name}:{line} {kind}: {value!r}" for kind in kinds]
    return found


def _repeated_in_the_lab(house: Path) -> list[str]:
    """Return every fact of ``advisory`` that the lab writes a second time; protocols have numbers of their own."""
    known = {
        value
        for _, value in _literals(HOUSE / "advisory.py")
        if isinstance(value, str)
        and any(look.search(value) for look in FACTS.values())
        and not re.fullmatch(r"\d+\.\d+", value)
    }
    assert len(known) > 10
    return [
        f"{path.relative_to(house).as_posix()}:{line}: {value!r}"
        for path in sorted((house / LAB).rglob("*.py"))
        for line, value in _literals(path)
        if isinstance(value, str) and any(fact in value for fact in known)
    ]


def test_a_fact_is_written_in_the_advisory_and_nowhere_else() -> None:
    assert _facts_in(HOUSE) == []


def test_the_lab_takes_its_facts_from_the_advisory_too() -> None:
    assert _repeated_in_the_lab(HOUSE) == []


def test_what_looks_like_a_fact_and_is_none_is_still_there() -> None:
    for name, value in NO_FACTS:
        assert value in {literal for _, literal in _literals(HOUSE / name)}


#: The scripts, without the one that is Windows' own side and names Windows' own places.
SCRIPTS: Final = sorted(path for path in (HOUSE / "scripts").glob("*.ps1") if path.name != "windows.ps1")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_told_the_facts_and_know_none(path: Path) -> None:
    text = re.sub(r"(?m)^\s*#.*$", "", path.read_text(encoding="utf-8"))
    for kind, look in FACTS.items():
        assert look.search(text) is None, kind


# --- would it be noticed? -------------------------------------------------------------------------------------------


def _tree(folder: Path, **files: str) -> Path:
    """Make a small house: a module's text by its name, ``remote__session`` for ``remote/session.py``."""
    house = folder / "wsusfix"
    for name in ("", *(name.partition("__")[0] for name in files if "__" in name and not name.startswith("__"))):
        (house / name).mkdir(parents=True, exist_ok=True)
        (house / name / "__init__.py").touch()
    for name, text in files.items():
        path = name if name.startswith("__") else name.replace("__", "/", 1)
        (house / f"{path}.py").write_text(text, encoding="utf-8")
    return house


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"errors": "", "plan": "", "facts": "from wsusfix.plan import x"}, "floor 2, plan on floor 4"),
        ({"plan": "", "facts": "import wsusfix.plan"}, "floor 2, plan on floor 4"),
        ({"plan": "", "facts": "import wsusfix.plan as p, os"}, "floor 2, plan on floor 4"),
        ({"plan": "", "facts": "from wsusfix import plan"}, "floor 2, plan on floor 4"),
        ({"plan": "", "facts": "from . import plan"}, "floor 2, plan on floor 4"),
        ({"plan": "", "facts": "from .plan import x"}, "floor 2, plan on floor 4"),
        ({"plan": "", "facts": "def f():\n    from . import plan"}, "floor 2, plan on floor 4"),
        ({"plan": "", "facts": "class A:\n    def f(self):\n        import wsusfix.plan"}, "floor 2, plan on floor 4"),
        (
            {"plan": "", "facts": "try:\n    from wsusfix import plan\nexcept ImportError: ..."},
            "floor 2, plan on floor 4",
        ),
        (
            {
                "plan": "",
                "facts": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wsusfix.plan import x",
            },
            "floor 2, plan on floor 4",
        ),
        (
            {"plan": "", "facts": "import typing\nif typing.TYPE_CHECKING: ...\nelse:\n    from wsusfix.plan import x"},
            "floor 2, plan on floor 4",
        ),
        ({"diagnosis": "", "results": "from wsusfix.diagnosis import x"}, "floor 3, diagnosis on floor 3"),
        ({"package": "", "facts": "from wsusfix.package import x"}, "floor 2, package on floor 2"),
        ({"remote__job": "", "facts": "from wsusfix.remote.job import x"}, "floor 2, remote on floor 2"),
        ({"remote__job": "", "facts": "from wsusfix.remote import job"}, "floor 2, remote on floor 2"),
        ({"errors": "", "present": "from wsusfix.errors import x"}, "present imports nothing of ours"),
        ({"errors": "", "advisory": "from wsusfix.errors import x"}, "advisory imports nothing of ours"),
        ({"present": "", "scripts__contracts": "from ..present import x"}, "scripts imports nothing of ours"),
        ({"scripts__contracts": "from .. import advisory", "advisory": ""}, "scripts imports nothing of ours"),
        ({"advisory": "", "remote__job": "from wsusfix import advisory"}, "remote knows nothing of advisory"),
        ({"_headers": "", "facts": "from wsusfix import _headers"}, "_headers is for package alone"),
        ({"lab__demo": "", "server": "def f():\n    from wsusfix.lab import demo"}, "beside the house"),
        ({"lab__demo": "", "cli": "from wsusfix.lab import demo"}, "only when it is asked for"),
        ({"cli": "", "lab__demo": "from wsusfix import cli"}, "nobody's to import"),
        ({"plan": "", "lab__windows": "from wsusfix.plan import x"}, "simulated server knows nothing of plan"),
        ({"lab__windows": "import wsusfix"}, "simulated server knows nothing of __init__"),
        ({"cli": "", "report": "from wsusfix.cli import main"}, "floor 7, cli on floor 8"),
        ({"plan": "from wsusfix import __version__"}, "for users of the package"),
        ({"plan": "import wsusfix"}, "for users of the package"),
        ({"plan": "", "__init__": "from wsusfix.plan import Plan"}, "only when it is asked for"),
        ({"cellar": "", "plan": "from wsusfix.cellar import x"}, "cellar has no floor"),
        ({"plan": "", "cellar": "from wsusfix.plan import x"}, "cellar has no floor"),
        ({"facts": "import requests"}, "talk to servers"),
        ({"server": "def f():\n    from pypsrp.wsman import WSMan"}, "talk to servers"),
        ({"apply": "if TYPE_CHECKING:\n    import spnego.exceptions"}, "talk to servers"),
        ({"cli": "import urllib3"}, "talk to servers"),
    ],
)
def test_a_wrong_arrow_is_noticed(tmp_path: Path, files: dict[str, str], word: str) -> None:
    (wrong,) = _wrong_arrows(_tree(tmp_path, **files))
    assert word in wrong


def test_right_arrows_are_left_alone(tmp_path: Path) -> None:
    house = _tree(
        tmp_path,
        __init__="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wsusfix.plan import Plan",
        errors="import enum",
        facts="from . import errors\nfrom wsusfix import advisory\nfrom .scripts.contracts import x",
        advisory="",
        scripts__contracts="",
        scripts____init__="from wsusfix.scripts.contracts import x\nfrom . import contracts",
        remote__session="import requests\nfrom pypsrp import x\nfrom wsusfix.scripts import contracts",
        remote__upload="from ..errors import x",
        remote__job="from .session import x",
        plan="from wsusfix.facts import x",
        cli="from wsusfix import __version__, plan\ndef f():\n    from wsusfix.lab import demo",
        __main__="from wsusfix.cli import main",
        lab__wsus="from wsusfix import advisory",
        lab__demo="import wsusfix\nimport spnego\nfrom wsusfix.plan import x",
    )
    assert _wrong_arrows(house) == []
    assert _circle(house) == []
    assert _rooms_without_a_floor(house) == set()


def test_a_room_without_a_floor_is_noticed(tmp_path: Path) -> None:
    assert _rooms_without_a_floor(_tree(tmp_path, cellar="", plan="")) == {"cellar"}


def test_a_circle_is_noticed(tmp_path: Path) -> None:
    house = _tree(tmp_path, remote__a="from . import b", remote__b="def f():\n    from wsusfix.remote.a import x")
    assert set(_circle(house)) == {"wsusfix.remote.a", "wsusfix.remote.b"}


def test_an_import_by_name_is_noticed(tmp_path: Path) -> None:
    house = _tree(
        tmp_path, plan="import importlib\nimportlib.import_module('wsusfix.cli')", facts="x = __import__('os')"
    )
    assert _imports_by_name(house) == ["wsusfix.facts", "wsusfix.plan"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x = '3.1.6001.66'", "version number"),
        ("x = Version('6.2')", "version number"),
        ("x = f'fixed from 3.1.6001.66 on {y}'", "version number"),
        ("x = b'3.2.7600.226'", "version number"),
        (r"x = r'SOFTWARE\Microsoft\Update'", "registry path"),
        (r"x = r'HKLM\Something'", "registry path"),
        ("x = 'a43489159a520f0d93d032ccaf37e7fe20a8b419'", "thumbprint or hash"),
        ("x = '{A0D46DC6-8950-451A-8990-53C86E17666E}'", "product code"),
        (r"x = r'WebServices\ClientWebService\bin\x.dll'", "file of WSUS"),
        ("x = 'Office 2003 Service Pack 1'", "title of an update"),
        ("x = code == 3010", "exit code"),
    ],
)
def test_a_fact_outside_the_advisory_is_noticed(tmp_path: Path, text: str, kind: str) -> None:
    (found,) = _facts_in(
        _tree(tmp_path, plan=f'"""Prose may say 3.1.6001.66."""\n{text}\n', advisory="x = '3.1.6001.66'")
    )
    assert found.startswith(f"plan.py:2 {kind}: ")


def test_a_fact_repeated_by_the_lab_is_noticed(tmp_path: Path) -> None:
    house = _tree(tmp_path, lab__wsus="x = '3.1.6001.66'\ny = '2.0.50727.3655'")
    assert _repeated_in_the_lab(house) == ["lab/wsus.py:1: '3.1.6001.66'"]
