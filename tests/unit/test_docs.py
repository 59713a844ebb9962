"""The pages in ``docs`` say what the program does: codes, errors, names, links."""

from __future__ import annotations

import builtins
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

import wsusfix
from tests.unit.test_architecture import FLOORS
from wsusfix import advisory, cli, errors

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is *heading*."""
    _, _, after = text.partition(f"\n| {heading} |")
    assert after, heading
    lines = after.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip().strip("|").split("|")] for line in lines]


def test_every_exit_code_is_explained() -> None:
    told = {int(row[0]): row for row in rows(ERRORS, "exit code")}
    assert set(told) == {code.value for code in cli.ExitCode}
    order = re.search(r"in the order ([\d, ]+)\.", ERRORS)
    assert order is not None
    assert [int(code) for code in order[1].split(", ")] == [code.value for code in cli._WORST]
    assert f"in the order {order[1]}." in " ".join(cli._EPILOG.split())


def test_every_error_is_explained_as_it_is() -> None:
    told = {row[0]: row for row in rows(ERRORS, "error")}
    assert sorted(told) == errors.__all__
    for name, (_, also, retryable, code, happened, *_) in told.items():
        kind = getattr(errors, name)
        assert (retryable == "yes") is kind.default_retryable, name
        own = next(base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")
        assert also == ("" if own == "Exception" else own), name
        assert int(code) == cli._code_of(kind("something")).value, name
        assert happened, name
        assert not also or issubclass(kind, getattr(builtins, also)), name


def test_what_an_error_carries_is_what_it_has() -> None:
    told = {row[0] for row in rows(ERRORS, "attribute")}
    error = wsusfix.WsusFixError("something")
    assert told == set(vars(error))
    assert (told - {"outcome"}) | {"type"} == set(error.to_dict())


def test_every_page_is_named_in_the_readme() -> None:
    named = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", PAGES[0].read_text(encoding="utf-8")))
    assert named == {page.name for page in DOCS.glob("*.md")}


def test_what_contributors_are_sent_to_is_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    made = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([\w-]+)", page))
    assert named
    assert named <= made
    paths = set(re.findall(r"(?<![\w/])(?:wsusfix|tests)/[\w./-]*\w", page))
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_example_is_listed() -> None:
    told = {row[0] for row in rows((DOCS / "scripts.md").read_text(encoding="utf-8"), "script")}
    assert told == {path.name for path in (ROOT / "examples").glob("*.py")}


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_pages_is_one_the_program_takes(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line.partition(" > ")[0], comments=True)
            if words[:1] == ["wsusfix"]:
                cli._parser().parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_the_library_in_the_pages_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"`wsusfix\.([A-Z]\w+)", text)):
        assert hasattr(wsusfix, name), name


def test_the_map_of_the_house_has_every_room_on_its_floor() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^ (\d)   ([\w_]+(?:  [\w_]+)*)  ", text, re.MULTILINE)
    assert [int(number) for number, _ in drawn] == list(reversed(range(len(FLOORS))))
    for number, rooms in drawn:
        assert set(rooms.split()) <= set(FLOORS[int(number)]), number
        for room in rooms.split():
            assert any((ROOT / "wsusfix" / name).exists() for name in (room, f"{room}.py")), room


def test_the_installers_exit_codes_in_the_runbook_are_known() -> None:
    told = re.findall(r"`exit code (\d+)`(?: or `(\d+)`)?", (DOCS / "runbook.md").read_text(encoding="utf-8"))
    codes = {int(code) for pair in told for code in pair if code}
    assert len(codes) > 5
    assert codes <= set(advisory.EXIT_CODES)


def test_every_part_of_an_event_in_the_pages_is_there() -> None:
    for name, _, parts, *_ in rows((DOCS / "scripts.md").read_text(encoding="utf-8"), "event"):
        kind = getattr(wsusfix, name.removeprefix("wsusfix."))
        assert [part.strip(" `") for part in parts.split(",")] == [item.name for item in fields(kind)]
