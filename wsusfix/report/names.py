"""Names of servers and people, and how a report leaves them out: each is replaced by the same word everywhere.

It knows the names that results hold.  A name that a log's excerpt mentions and nothing else is not known here.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator
from typing import Any

from wsusfix.report.run import HostResult, Run

__all__ = ["Naming", "kept", "left_out", "replaced"]

#: Takes a text, and returns it as the report may show it.
Naming = Callable[[str], str]


def kept(text: str) -> str:
    """Leave every name as it is."""
    return text


def left_out(run: Run) -> Naming:
    """Return what replaces each name of a run's servers, accounts and domains."""
    words: dict[str, str] = {}
    taken: collections.Counter[str] = collections.Counter()

    def name(kind: str, *names: str) -> None:
        """Give all of *names* one word, the first one's where that has one."""
        first, *others = names
        if first and first.lower() not in words:
            taken[kind] += 1
            words[first.lower()] = f"{kind}-{taken[kind]}"
        for other in others:
            words.setdefault(other.lower(), words[first.lower()])

    for result in run.hosts:
        # A server has a name that it is asked by and one of its own.
        name("server", result.host, *_own_names(result))
    for result in run.hosts:
        for kind, found in _names(result):
            name(kind, found)
    if not words:
        return kept
    longest_first = sorted(words, key=len, reverse=True)
    pattern = re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])", re.IGNORECASE)
    return lambda text: pattern.sub(lambda found: words[found[0].lower()], text)


def replaced(data: Any, naming: Naming) -> Any:
    """Return plain data with *naming* done to every text in it."""
    match data:
        case str():
            return naming(data)
        case dict():
            return {key: replaced(value, naming) for key, value in data.items()}
        case list():
            return [replaced(item, naming) for item in data]
        case _:
            return data


def _own_names(result: HostResult) -> Iterator[str]:
    known = result.known
    if known is not None and known.facts.computer_name:
        yield known.facts.computer_name
    short, dot, _ = result.host.partition(".")
    if dot and not result.host.replace(".", "").isdigit():
        yield short


def _names(result: HostResult) -> Iterator[tuple[str, str]]:
    """Return what else is somebody's name in a result, and of which kind it is."""
    known = result.known
    if known is not None:
        session, wsus = known.facts.session, known.facts.wsus
        yield from _account(session.account, session.sid)
        for front_end in wsus.front_ends or ():
            yield "server", front_end
        if wsus.database is not None:
            server = wsus.database.server.partition("\\")[0]
            if "%" not in server and server not in (".", "(local)", "localhost"):
                yield "server", server
        approvals = known.facts.approvals
        if approvals is not None and approvals.upstream:
            yield "server", approvals.upstream
    for evidence in result.evidence:
        yield from _account(evidence.account, evidence.account_sid)
    saved = result.outcome.saved if result.outcome is not None else None
    for approval in saved.approvals if saved is not None else ():
        yield from _account(approval.administrator, "")


def _account(account: str, sid: str) -> Iterator[tuple[str, str]]:
    domain, backslash, user = account.rpartition("\\")
    if backslash:
        yield "domain", domain
    user, at, realm = user.partition("@")
    yield "user", user
    if at:
        yield "domain", realm
    yield "sid", sid
