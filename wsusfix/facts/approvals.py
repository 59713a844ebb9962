"""What WSUS says of the update whose approvals are inconsistent, and what earlier resets of them kept on the server.

As the server said it, parsed and checked; what it means is decided in ``diagnosis``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from wsusfix import advisory
from wsusfix.errors import AnswerError
from wsusfix.facts.answers import AnswerReader
from wsusfix.present import Presentable, counted, printable, rows
from wsusfix.scripts.contracts import KEPT_NAME, ResetState

__all__ = [
    "Approvals",
    "Marker",
    "Saved",
    "SavedApproval",
    "UpdateState",
    "look_parameters",
    "not_asked",
    "parse_approvals",
]

_GUID: Final = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
#: One update as the script tells it: id, revisions, declined, approvals, articles, title.
_UPDATE: Final = re.compile(
    rf"({_GUID}) (\d{{1,10}}(?:,\d{{1,10}}){{0,999}}) (true|false) (\d{{1,9}}) (\S{{1,2000}}) (.*)",
    re.ASCII,
)
_MARKED: Final = re.compile(rf"({_GUID}) (\d{{1,10}})", re.ASCII)
_SAVED: Final = re.compile(
    rf"({_GUID}) (\d{{1,10}}) (\S{{1,80}}) (\w{{1,40}}) (true|false) (\S{{1,40}}) (\S{{1,40}}) ?(.*)",
    re.ASCII,
)


@dataclass(frozen=True, repr=False)
class UpdateState(Presentable):
    """One update: its revisions, the newest first, and the approvals over all of them."""

    id: str
    revisions: tuple[int, ...]
    declined: bool
    approvals: int
    articles: tuple[str, ...]
    title: str

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self.revisions[0]

    @property
    def named(self) -> bool:
        """Whether its English title says that it is the update (advisory 954960; near titles are not it)."""
        if self.title == advisory.BROKEN_UPDATE_TITLE:
            return True
        longer = self.title.startswith(advisory.BROKEN_UPDATE_TITLE) and advisory.NEAR_WORD not in self.title
        return longer and advisory.BROKEN_UPDATE_ARTICLE in self.articles

    @property
    def candidate(self) -> bool:
        """Whether only the number of its article says so: an operator has to confirm it."""
        near = self.title.startswith(advisory.BROKEN_UPDATE_TITLE)
        return advisory.BROKEN_UPDATE_ARTICLE in self.articles and not near

    def _extra(self) -> Mapping[str, object]:
        return {"revision": self.revision}

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        state = "declined" if self.declined else "not declined"
        given = counted(self.approvals, "approval")
        return f"{self.title} ({self.id}, revision {self.revision}, {state}, {given})"


@dataclass(frozen=True, repr=False)
class Marker(Presentable):
    """The proof of a reset, written by its job where only administrators can: updates, revisions, time."""

    time: str
    replica: bool
    automatic: bool
    updates: Mapping[str, int]

    def _summary(self) -> str:
        return f"{self.time}, {len(self.updates)} updates"

    def __str__(self) -> str:
        return f"{self.time}: " + ", ".join(f"{key} revision {value}" for key, value in self.updates.items())


@dataclass(frozen=True, repr=False)
class SavedApproval(Presentable):
    """One approval as it was before a reset; of an expired update none for installation can be given again."""

    update_id: str
    revision: int
    group: str
    action: str
    optional: bool
    deadline: str
    created: str
    administrator: str

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        optional = " (optional)" if self.optional else ""
        return (
            f"{self.update_id} revision {self.revision}: {self.action}{optional} for group {self.group}, "
            f"given {self.created} by {self.administrator or 'nobody named'}"
        )


@dataclass(frozen=True, repr=False)
class Saved(Presentable):
    """What a reset saved before it changed anything: the settings, every revision, every approval.

    ``whole`` is ``False`` where there was more than travels back: the rest is in the file on the server.
    """

    job_id: str
    time: str
    replica: bool
    automatic: bool
    updates: tuple[str, ...]
    approvals: tuple[SavedApproval, ...]
    whole: bool

    def _summary(self) -> str:
        return f"{len(self.approvals)} approvals of {self.time}"

    def __str__(self) -> str:
        rest = [] if self.whole else ["  there are more, in the file on the server"]
        head = f"saved at {self.time}, before anything was changed: {counted(len(self.approvals), 'approval')}"
        return "\n".join(
            [head, *(f"  {text}" for text in self.updates), *(f"  {each}" for each in self.approvals), *rest]
        )


@dataclass(frozen=True, repr=False)
class Approvals(Presentable):
    """What WSUS says of itself and of the updates in question; ``trouble`` says why it could not be asked."""

    trouble: str
    role: str
    state: str
    replica: bool
    automatic: bool
    upstream: str
    front_ends: tuple[str, ...]
    updates: tuple[UpdateState, ...]
    cut: bool
    reset: ResetState
    saved: Saved | None
    marker: Marker | None
    web_service: str

    @property
    def ready(self) -> bool:
        """Whether nothing keeps WSUS from saving now."""
        return self.state == advisory.READY_STATE

    def update(self, update_id: str) -> UpdateState | None:
        """Return the update of this id."""
        return next((update for update in self.updates if update.id == update_id), None)

    def _extra(self) -> Mapping[str, object]:
        return {"ready": self.ready}

    def _summary(self) -> str:
        return self.trouble or f"{len(self.updates)} updates, {'replica' if self.replica else 'autonomous'}"

    def __str__(self) -> str:
        return rows(
            [
                ("trouble", self.trouble),
                ("role", self.role),
                ("kind", f"replica of {self.upstream}" if self.replica else "autonomous"),
                ("state", self.state),
                ("synchronises", "by its timetable" if self.automatic else "by hand"),
                ("front ends", ", ".join(self.front_ends)),
                *(("update", update) for update in self.updates if update.named or update.candidate),
                ("earlier resets", self.reset.value),
                ("marker", self.marker or ""),
            ]
        )


def look_parameters(*, update_ids: tuple[str, ...], port: str, ssl: bool) -> dict[str, Any]:
    """Return the parameters of the ``approvals`` script."""
    scheme = "https" if ssl else "http"
    where = f"{scheme}://localhost:{port}/{advisory.CLIENT_WEB_SERVICE}" if port.isascii() and port.isdigit() else ""
    return {
        "kept_name": KEPT_NAME,
        "title": advisory.BROKEN_UPDATE_TITLE,
        "kb": advisory.BROKEN_UPDATE_ARTICLE,
        "ids": list(update_ids),
        "url": where,
    }


def parse_approvals(read: AnswerReader) -> Approvals:
    """Turn the checked answer of the ``approvals`` script into facts.

    Raises:
        AnswerError: a value that no server can have.
    """
    return Approvals(
        trouble=printable(read.text("trouble")),
        role=printable(read.text("role"), 40),
        state=printable(read.text("state"), 40),
        replica=read.flag("replica"),
        automatic=read.flag("automatic"),
        upstream=printable(read.text("upstream"), 260),
        front_ends=tuple(printable(name, 260) for name in read.lines("front_ends")),
        updates=tuple(_updates(read)),
        cut=read.flag("cut"),
        reset=read.one_of("reset_state", ResetState),
        saved=_saved(read.text("saved")),
        marker=_marker(read.text("marker")),
        web_service=printable(read.text("web_service"), 80),
    )


def not_asked(trouble: str, reset: ResetState) -> Approvals:
    """Return what is known where WSUS was asked and did not answer."""
    return Approvals(
        trouble=printable(trouble),
        role="",
        state="",
        replica=False,
        automatic=False,
        upstream="",
        front_ends=(),
        updates=(),
        cut=False,
        reset=reset,
        saved=None,
        marker=None,
        web_service="",
    )


def _updates(read: AnswerReader) -> Iterator[UpdateState]:
    for line in read.text("updates").split("\n"):
        if not line:
            continue
        found = _UPDATE.fullmatch(line)
        if found is None:
            raise _broken(read, line)
        update_id, revisions, declined, approvals, articles, title = found.groups()
        yield UpdateState(
            id=update_id.lower(),
            revisions=tuple(int(number) for number in revisions.split(",")),
            declined=declined == "true",
            approvals=int(approvals),
            articles=tuple(printable(number, 20) for number in articles.split(",") if number != "-"),
            title=printable(title, 300),
        )


def _broken(read: AnswerReader, line: str) -> AnswerError:
    return read.broken("updates", line)


def _fields(text: str) -> tuple[dict[str, str], bool]:
    """The lines of a kept file, and whether it is there to its end."""
    lines = text.replace("\r", "").rstrip("\n").split("\n")
    return dict(line.split("=", 1) for line in lines if "=" in line), lines[-1] == "end"


def _marker(text: str) -> Marker | None:
    """Read a marker; one that is not as a job writes it proves nothing."""
    fields, whole = _fields(text)
    updates: dict[str, int] = {}
    for key, value in fields.items():
        if key.startswith("update"):
            found = _MARKED.fullmatch(value)
            if found is None:
                return None
            updates[found.group(1).lower()] = int(found.group(2))
    if not whole or not updates:
        return None
    return Marker(
        time=printable(fields.get("time", ""), 40),
        replica=fields.get("replica") == "true",
        automatic=fields.get("automatic") == "true",
        updates=MappingProxyType(updates),
    )


def _saved(text: str) -> Saved | None:
    """Read a record; a line that no job writes is left out, and the record is not whole then."""
    fields, whole = _fields(text)
    if not fields.get("job_id"):
        return None
    approvals: list[SavedApproval] = []
    for key, value in fields.items():
        if not key.startswith("approval"):
            continue
        found = _SAVED.fullmatch(value)
        if found is None:
            whole = False
            continue
        update_id, revision, group, action, optional, deadline, created, administrator = found.groups()
        approvals.append(
            SavedApproval(
                update_id=update_id.lower(),
                revision=int(revision),
                group=printable(group, 80),
                action=printable(action, 40),
                optional=optional == "true",
                deadline=printable(deadline, 40),
                created=printable(created, 40),
                administrator=printable(administrator, 160),
            )
        )
    return Saved(
        job_id=printable(fields["job_id"], 40),
        time=printable(fields.get("time", ""), 40),
        replica=fields.get("replica") == "true",
        automatic=fields.get("automatic") == "true",
        updates=tuple(printable(value, 400) for key, value in fields.items() if key.startswith("update")),
        approvals=tuple(approvals),
        whole=whole,
    )
