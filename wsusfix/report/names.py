"""Names of servers and people, and how a report leaves them out: each is replaced by the same word everywhere.

It knows the names that results hold, those that stand in addresses of the web and of shares anywhere in them, and those
that an error tells.  A name that the end of an installer's log mentions and nothing else is not known here.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from wsusfix.errors import NotAllowedError, PackageError, UsageError
from wsusfix.events import JobState
from wsusfix.report.run import HostResult, Run
from wsusfix.scripts.contracts import JobPhase

__all__ = ["Naming", "kept", "left_out", "replaced"]

#: Takes a text, and returns it as the report may show it.
Naming = Callable[[str], str]

#: The machine in an address: of the web (a log's actor, a client's server), or of a share (where a log lies).
_ADDRESSED: Final = re.compile(r"(?:https?://|(?<!\\)\\\\)(\w[\w.-]*)", re.ASCII)
#: An account as the errors of pypsrp, NTLM and Kerberos name it; what stands behind a drive's colon is a path.
_ACCOUNTS: Final = (
    re.compile(r"\bthe user (\S.*?) with \w+"),
    re.compile(r"(?<![\w\\:.-])([\w.-]+\\[^\s\\'\"]+)"),
    re.compile(r"([^\s@'\"\\/]+@[\w.-]+)"),
)
#: A file of this machine as errors show it.
_QUOTED_PATH: Final = re.compile(r"'([^']*[/\\][^']*)'|\"([^\"]*[/\\][^\"]*)\"")


def kept(text: str) -> str:
    """Leave every name as it is."""
    return text


def left_out(run: Run) -> Naming:
    """Return what replaces each name of a run's servers, accounts and domains, and folders of files on this machine.

    A name may be a part of a longer word when what is around it is no letter: as in ``WSUS01_old``, or ``eva2``.
    """
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
        for addressed in _addressed(result.to_dict()):
            short = addressed.partition(".")[0].lower()
            if short in words and not short.isdigit():
                words.setdefault(addressed.lower(), words[short])
            name("server", addressed)
        for path in _paths(result):
            words[path.lower()] = _file_name(path)
    if not words:
        return kept
    longest_first = sorted(words, key=len, reverse=True)
    pattern = re.compile("|".join(map(_alone, longest_first)), re.IGNORECASE)
    return lambda text: pattern.sub(lambda found: words.get(found[0].lower(), "left-out"), text)


def _alone(name: str) -> str:
    """Return a pattern for *name* where it is no part of another name.

    ``wsus01`` is none in ``wsus012``, and ``ad`` none in a hash; but ``eva`` is told by ``eva2`` as well.
    """
    before = r"(?<![^\W_])" if name[0].isalnum() else ""
    if not name[-1].isalnum():
        return before + re.escape(name)
    return before + re.escape(name) + (r"(?![^\W_])" if name[-1].isdigit() else r"(?=\d*(?![^\W_]))")


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


def _addressed(data: Any) -> Iterator[str]:
    """Return the machines in the addresses that plain data names anywhere."""
    match data:
        case str():
            yield from (found.rstrip(".-") for found in _ADDRESSED.findall(data))
        case dict():
            for value in data.values():
                yield from _addressed(value)
        case list():
            for item in data:
                yield from _addressed(item)


def _paths(result: HostResult) -> Iterator[str]:
    """Return the paths on this machine that a result tells: of packages, and of files that an error is about."""
    for step in result.plan.steps if result.plan is not None else ():
        package = getattr(step, "package", None)
        if package is not None and _file_name(package.path) != package.path:
            yield package.path
    if isinstance(result.error, PackageError | UsageError):
        yield from filter(None, (one or other for one, other in _QUOTED_PATH.findall(result.error.message)))


def _file_name(path: str) -> str:
    return re.split(r"[/\\]+", path.rstrip("/\\"))[-1]


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
    if isinstance(result.error, NotAllowedError):
        for pattern in _ACCOUNTS:
            for account in pattern.findall(result.error.message):
                yield from _account(account, "")
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
        for step in evidence.steps:
            if step.phase is JobPhase.WITHDRAWN:
                yield "sid", step.values.get("account_sid", "")
    for moment in result.events:
        if isinstance(moment.event, JobState) and moment.event.phase == JobPhase.WITHDRAWN.value:
            yield "sid", moment.event.detail.removeprefix("by ")
    saved = result.outcome.saved if result.outcome is not None else None
    for approval in saved.approvals if saved is not None else ():
        yield from _account(approval.administrator, "")
    _, _, suffix = result.host.partition(".")
    # A suffix of one label is a word of its own in too many texts.
    if "." in suffix and not result.host.replace(".", "").isdigit():
        yield "domain", suffix


def _account(account: str, sid: str) -> Iterator[tuple[str, str]]:
    domain, backslash, user = account.rpartition("\\")
    if backslash:
        yield "domain", domain
    user, at, realm = user.partition("@")
    yield "user", user
    if at:
        yield "domain", realm
    yield "sid", sid
