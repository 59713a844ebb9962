"""What ``help()`` shows of the public names: every example in it is run against a simulated server, as it stands."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import wsusfix
from wsusfix.lab import Lab

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
#: What a person at a prompt asks help for first: none of these may be without an example.
ASKED = (
    "Diagnosis",
    "Options",
    "Outcome",
    "Plan",
    "Recorder",
    "Timeouts",
    "Verdict",
    "Verification",
    "canary",
    "connect",
    "remediate",
    "survey",
    *(f"WsusServer.{name}" for name in ("facts", "diagnose", "plan", "apply", "verify", "upload", "job", "cleanup")),
    *(f"WsusServer.{name}" for name in ("logs", "surroundings")),
)
#: What reaches a machine beside those.
REACHING = ("withdraw", "client_log", "client_settings", "detect_now", "detections", "stage")


def described() -> Iterator[tuple[str, str]]:
    """Return every public thing and method with its docstring."""
    for name in wsusfix.__all__:
        thing = getattr(wsusfix, name)
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and inspect.getdoc(value):
                    yield f"{name}.{member}", str(inspect.getdoc(value))
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield name, inspect.getdoc(thing) or ""


EXAMPLES = {name: text for name, text in described() if ">>>" in text and "+SKIP" not in text}


def test_what_is_asked_for_first_has_an_example() -> None:
    assert set(ASKED) <= set(EXAMPLES)


def test_what_changes_or_reaches_a_server_says_what_it_raises() -> None:
    told = dict(described())
    reaching = (
        *(name for name in ASKED if name.startswith("WsusServer.")),
        *(f"WsusServer.{name}" for name in REACHING),
    )
    for name in ("connect", "remediate", "survey", "canary", *reaching):
        assert "Raises:" in told[name], name


def test_every_verdict_is_explained() -> None:
    told = inspect.getdoc(wsusfix.Verdict) or ""
    assert re.findall(r"^``(\w+)``: ", told, re.MULTILINE) == [verdict.name for verdict in wsusfix.Verdict]


def test_an_error_says_in_its_help_what_to_do() -> None:
    for name in wsusfix.errors.__all__:
        kind = getattr(wsusfix.errors, name)
        told = inspect.getdoc(kind) or ""
        assert kind.default_hint in told, name
        again = "yes" if kind.default_retryable else "no"
        assert kind is wsusfix.WsusFixError or f"Worth the same call again: {again}" in told, name


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_says(lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    host = lab.add_server("wsus01", wsus="3.0 SP1")
    reach = host.connection
    places = {"wsus01": reach["host"]}
    monkeypatch.setenv("WSUSFIX_USERNAME", reach["username"])
    monkeypatch.setenv("WSUSFIX_PASSWORD", reach["password"])
    if name in ("survey", "canary"):
        for number in (1, 2):
            client = lab.add_client(f"pc0{number}", server=host, office_2003=number == 1)
            places[client.name] = client.connection["host"]
    for call in ("connect", "remediate", "survey", "canary"):
        real = getattr(wsusfix, call)

        def nearby(asked: str | list[str], *arguments: Any, real: Any = real, **options: Any) -> Any:
            where = places[asked] if isinstance(asked, str) else [places[each] for each in asked]
            return real(where, *arguments, port=reach["port"], **options)

        monkeypatch.setattr(wsusfix, call, nearby)
    names: dict[str, Any] = {
        **{public: getattr(wsusfix, public) for public in wsusfix.__all__},
        "wsusfix": wsusfix,
        "package": lab.package("WSUS-KB954960-x64.exe"),
        "password": reach["password"],
    }
    with wsusfix.connect("wsus01") as server:
        parsed = doctest.DocTestParser().get_doctest(EXAMPLES[name], {**names, "server": server}, name, None, 0)
        told: list[str] = []
        runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
        runner.run(parsed, out=told.append)
    assert runner.failures == 0, "".join(told)
    assert runner.tries > 0
