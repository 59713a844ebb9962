"""Every script of the library, told once more in Python over the same primitives.

Each behaviour follows its ``.ps1`` line by line and answers by the written contract, so that whatever the simulated
server is like decides the answer.  One module holds the behaviours of a family of scripts; here they are recognised and
found by name.  None of them touches a machine in any other way than through
:class:`~wsusfix.lab.windows.SimulatedWindows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wsusfix.lab.behaviours.clients import client, detect_now
from wsusfix.lab.behaviours.copying import copy
from wsusfix.lab.behaviours.facts import facts
from wsusfix.lab.behaviours.install import install_update
from wsusfix.lab.behaviours.jobs import cleanup, collect_job, poll_job, start_job, withdraw_job
from wsusfix.lab.behaviours.logs import search_logs
from wsusfix.lab.behaviours.reset import approvals, reset_approvals
from wsusfix.lab.behaviours.shared import Behaviour, JobBehaviour
from wsusfix.lab.behaviours.staging import assemble, receive, stage
from wsusfix.lab.behaviours.upgrade import (
    back_up_database,
    check_prerequisites,
    restart,
    start_stopped,
    surroundings,
    upgrade,
)
from wsusfix.scripts import compose, name_of
from wsusfix.scripts.contracts import ContractError

__all__ = ["BEHAVIOURS", "JOBS", "Behaviour", "UnknownScript", "copy", "install_update", "recognise"]

_UNKNOWN: Final = "the lab knows only the scripts of wsusfix and pypsrp's own copy: it does not run PowerShell"


class UnknownScript(Exception):
    """The text is no script of the library's as it stands today; the message says what is wrong with it."""


def recognise(text: str) -> str:
    """Return which script *text* is.

    Raises:
        UnknownScript: none, or one that was changed.
    """
    name = name_of(text)
    if name is None:
        raise UnknownScript(_UNKNOWN)
    try:
        known = compose(name)
    except (ContractError, FileNotFoundError) as error:
        raise UnknownScript(f"the lab does not know the script {name!r}: {error}") from error
    if known.text != text:
        raise UnknownScript(
            f"this is not the script {name!r} of this wsusfix: it was changed, or is of another version"
        )
    return name


#: What answers each script that is sent over a session.
BEHAVIOURS: Final[Mapping[str, Behaviour]] = MappingProxyType(
    {
        "facts": facts,
        "surroundings": surroundings,
        "approvals": approvals,
        "stage": stage,
        "receive": receive,
        "assemble": assemble,
        "start_job": start_job,
        "poll_job": poll_job,
        "collect_job": collect_job,
        "withdraw_job": withdraw_job,
        "cleanup": cleanup,
        "search_logs": search_logs,
        "client": client,
    }
)
#: What does the work of each script that a task runs; it is given the job's folder.
JOBS: Final[Mapping[str, JobBehaviour]] = MappingProxyType(
    {
        "install_update": install_update,
        "reset_approvals": reset_approvals,
        "check_prerequisites": check_prerequisites,
        "back_up_database": back_up_database,
        "upgrade": upgrade,
        "start_services": start_stopped,
        "restart": restart,
        "detect_now": detect_now,
    }
)
