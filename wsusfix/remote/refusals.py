"""A script's refusal, as an error that says what to do: one table from the contracts' closed set to words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wsusfix.errors import RefusedByServerError
from wsusfix.present import printable
from wsusfix.scripts.contracts import Refusal, Scalar

__all__ = ["raise_refusal"]

_BY_HAND: Final = "find out who made it, remove it by hand as an administrator, and run again"

#: What each refusal means, and the next thing to try.
_WORDS: Final[Mapping[Refusal, tuple[str, str]]] = MappingProxyType(
    {
        Refusal.NOT_ADMINISTRATOR: (
            "the account is not an administrator of the server",
            "use an administrator's account",
        ),
        Refusal.STAGING_OWNER: ("the staging folder was made by somebody else", _BY_HAND),
        Refusal.STAGING_REPARSE: ("the staging folder is a link to another place", _BY_HAND),
        Refusal.STAGING_ACL: ("others than SYSTEM and Administrators may write to the staging folder", _BY_HAND),
        Refusal.STAGING_IS_FILE: ("where the staging folder should be there is a file", _BY_HAND),
        Refusal.NO_SPACE: ("there is too little space on the server's drive", "make room there, then run again"),
        Refusal.NOT_STAGED: ("the staging folder vanished while it was used", "run again; did somebody clean up?"),
        Refusal.SHORT_SEGMENT: (
            "a segment of the upload did not arrive whole",
            "run again: the upload goes on where it was",
        ),
        Refusal.MISSING_SEGMENT: ("a segment of the upload is missing", "run again: the upload goes on where it was"),
        Refusal.HASH_MISMATCH: (
            "the file on the server has another SHA-256 than here",
            "was the file changed while it was read? run again",
        ),
        Refusal.JOB_SCRIPT_CHANGED: (
            "the job's script was altered between being written and being started",
            "find out who is at work on the server before you run again",
        ),
        Refusal.TASK_NOT_CREATED: (
            "the scheduled task could not be created",
            "is the Task Scheduler service running? does policy forbid tasks?",
        ),
        Refusal.TASK_NOT_STARTED: ("the scheduled task could not be started", "is the Task Scheduler service running?"),
        Refusal.JOB_RUNNING: (
            "a job of wsusfix is still running",
            "wait for it to end; server.job() tells how it stands",
        ),
        Refusal.NO_JOB: (
            "there is no job of wsusfix on the server, so nothing was withdrawn",
            "one that ended well is cleared away: diagnose again, the state of the server decides",
        ),
        Refusal.NOT_WAITING: (
            "the job does not wait for its maintenance window, and was not withdrawn",
            "one at work goes on by itself; server.job() tells how it stands",
        ),
    }
)


def raise_refusal(answer: Mapping[str, Scalar], *, host: str, phase: str) -> None:
    """Raise :class:`~wsusfix.errors.RefusedByServerError` when *answer* is a refusal; return otherwise."""
    refusal = Refusal(str(answer.get("refused", "")))
    if refusal is Refusal.NONE:
        return
    text, hint = _WORDS[refusal]
    detail = printable(str(answer.get("detail", "")), 300)
    raise RefusedByServerError(
        f"{text}: {detail}" if detail else text, reason=refusal.value, host=host, phase=phase, hint=hint
    )
