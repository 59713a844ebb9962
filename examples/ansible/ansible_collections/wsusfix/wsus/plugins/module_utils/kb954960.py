"""What both modules share: the argument spec, the way to the library, and how its errors become failures.

It runs on the controller.  It decides nothing: what a server is and what is done about it are the library's words.
"""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

try:
    import wsusfix
    from wsusfix.present import printable
except ImportError:
    WITHOUT_LIBRARY: str | None = traceback.format_exc()
else:
    WITHOUT_LIBRARY = None

#: Fields of wsusfix.Timeouts.
TIMEOUTS = (
    "connect",
    "operation",
    "script",
    "opening",
    "upload",
    "upload_total",
    "assemble",
    "start",
    "busy",
    "logs",
    "detection",
    "signature",
    "still",
    "job",
    "lost",
    "restart",
    "backup",
    "stop",
    "restore",
)


def _or_environment(name: str) -> tuple[object, list[str]]:
    return env_fallback, [f"WSUSFIX_{name.upper()}"]


#: How a server is reached: the fields of wsusfix.Credentials and wsusfix.Connection.
CONNECTION_ARGUMENTS: dict[str, dict[str, Any]] = {
    "host": {"type": "str", "required": True},
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "port": {"type": "int"},
    "ssl": {"type": "bool", "default": False},
    "auth": {"type": "str", "choices": ["negotiate", "kerberos", "ntlm"], "default": "negotiate"},
    "encryption": {"type": "str", "choices": ["always", "auto"], "default": "always"},
    "ca_cert": {"type": "path"},
    # One that carries a password is refused, and would stand in what Ansible shows of the call.
    "proxy": {"type": "str", "no_log": True},
    "timeouts": {"type": "dict", "options": {name: {"type": "float"} for name in TIMEOUTS}},
}
for _name, _argument in CONNECTION_ARGUMENTS.items():
    _argument["fallback"] = _or_environment(_name)

#: What the operator chooses: the fields of wsusfix.Options.
OPTION_ARGUMENTS: dict[str, dict[str, Any]] = {
    "package": {"type": "path"},
    "package_sha256": {"type": "str"},
    "package_arguments": {"type": "list", "elements": "str"},
    "vouch_for_package": {"type": "bool", "default": False},
    "accept_unverifiable_signature": {"type": "bool", "default": False},
    "rtm": {"type": "str", "choices": ["workaround", "upgrade"], "default": "workaround"},
    "upgrade_package": {"type": "path"},
    "upgrade_package_sha256": {"type": "str"},
    "upgrade_target": {"type": "str", "choices": ["3.0 SP1", "3.0 SP2"]},
    "vouch_for_upgrade_package": {"type": "bool", "default": False},
    "upstream_version": {"type": "str"},
    "upgrade_beside_others": {"type": "bool", "default": False},
    "removal_meant": {"type": "bool", "default": False},
    "backup": {"type": "bool"},
    "reboot": {"type": "str", "choices": ["never", "if-needed"], "default": "never"},
    "not_before": {"type": "str"},
    "not_after": {"type": "str"},
    "workaround": {"type": "bool", "default": False},
    "update_ids": {"type": "list", "elements": "str"},
}
#: Points in time, written as ISO 8601 has them.
MOMENTS = ("not_before", "not_after")

#: Of wsusfix.WsusServer.plan.
LOOK_ARGUMENTS: dict[str, dict[str, Any]] = {"logs": {"type": "bool", "default": True}}

#: What the library says to whoever calls it, and how it is said to whoever writes playbooks.
WORDS = (
    (r"pass username= and password=", "give username and password"),
    (r"(?:pass )?consent=True \(--yes\)", "say consent: true"),
    (r"server\.job\(\) tells how (?:it|the job) stands", "running the task again joins it"),
    (r"\bfor server\.cleanup\(\)", "for state: cleaned"),
    (r"server\.withdraw\(\)", "state: withdrawn"),
    (r"\bport= or --port\b", "port"),
    (r"\b([a-z_]+)=(?:'([\w-]+)'|(\[[^]]*\]))", r"\1: \2\3"),
    (r"\b([a-z_]+)=True\b", r"\1: true"),
    (r"\b([a-z_]+)=False\b", r"\1: false"),
    (r"\b(ca_cert|proxy)=(?!\w)", r"\1"),
)

ARGUMENTS = {**CONNECTION_ARGUMENTS, **OPTION_ARGUMENTS, **LOOK_ARGUMENTS}


class Told:
    """What is known of a server so far: it goes into the result, whether the module ends well or not."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.values: dict[str, Any] = {"changed": False, "host": module.params["host"]}

    def fail(self, message: str, **more: Any) -> None:
        """End the module with a failure, beside everything that is known."""
        self.module.fail_json(msg=printable(worded(message), 2000), **{**self.values, **more})

    def end(self, **more: Any) -> None:
        """End the module well."""
        self.module.exit_json(**{**self.values, **more})

    def warn(self, *texts: str) -> None:
        """Show what is worth knowing and is no failure."""
        for text in texts:
            self.module.warn(printable(worded(f"{self.values['host']}: {text}"), 1000))

    def diagnosis(self, diagnosis: wsusfix.Diagnosis) -> None:
        """Take down what the server is."""
        self.values.update(
            verdict=diagnosis.verdict.value,
            exposed=diagnosis.exposed,
            worked_around=diagnosis.worked_around,
            observed=diagnosis.observed.value,
            restart_pending=diagnosis.facts.restart_due,
            diagnosis=diagnosis.to_dict(),
        )

    def plan(self, plan: wsusfix.Plan) -> None:
        """Take down what the server is and what would be done; the plan's own copy of the diagnosis is left out."""
        self.diagnosis(plan.diagnosis)
        self.values["plan"] = {
            **{name: value for name, value in plan.to_dict().items() if name != "diagnosis"},
            "text": str(plan),
        }
        self.warn(*plan.warnings)

    def outcome(self, outcome: wsusfix.Outcome) -> None:
        """Take down what was done, if only until an error ended it."""
        self.values.update(
            changed=self.values["changed"] or outcome.changed,
            restart_pending=outcome.restart_pending,
            outcome={**outcome.to_dict(), "text": str(outcome)},
        )

    @staticmethod
    def consent(plan: wsusfix.Plan) -> wsusfix.ConsentError:
        """Return the library's own error, with what to do about it in a playbook."""
        hint = "show the plan to whoever answers for the server, then say consent: true"
        message = "the plan cannot be undone and nobody consented to it; nothing was changed"
        return wsusfix.ConsentError(message, host=plan.host, phase="apply", hint=hint)


@contextlib.contextmanager
def library(module: AnsibleModule) -> Iterator[Told]:
    """Hold the block to one end: every error of the library becomes a failure with its sentence and its hint."""
    if WITHOUT_LIBRARY is not None:
        module.fail_json(msg=missing_required_lib("wsusfix"), exception=WITHOUT_LIBRARY)
    told = Told(module)
    try:
        yield told
    except wsusfix.WsusFixError as error:
        if isinstance(error.outcome, wsusfix.Outcome):
            told.outcome(error.outcome)
        told.fail(str(error.at(host=module.params["host"])), error={**error.to_dict(), "unreached": unreached(error)})


def worded(text: str) -> str:
    """Return what the library says in the words of a playbook; data keeps the library's own."""
    for pattern, words in WORDS:
        text = re.sub(pattern, words, text)
    return text


def unreached(error: wsusfix.WsusFixError) -> bool:
    """Whether the server was not reached, or was lost; what takes long there is another matter."""
    silent = isinstance(error, wsusfix.DeadlineError) and error.phase not in ("upload", "job")
    return isinstance(error, wsusfix.NotReachedError) or silent


def chosen(parameters: Mapping[str, Any]) -> wsusfix.Options:
    """Return what the operator chose.

    Raises:
        UsageError: a value that cannot mean anything.
    """
    given: dict[str, Any] = {name: parameters[name] for name in OPTION_ARGUMENTS if parameters[name] is not None}
    given.update({name: moment(name, given[name]) for name in MOMENTS if name in given})
    return wsusfix.Options(**given)


def moment(name: str, text: str) -> datetime:
    """Return a point in time; whether it has its offset from UTC, the library checks.

    Raises:
        UsageError: it is none.
    """
    try:
        return datetime.fromisoformat(text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        hint = "one such as 2008-09-06T22:00+02:00, or ...Z for UTC"
        raise wsusfix.UsageError(f"{name} is no time: {text[:40]!r}", hint=hint) from None


def connect(parameters: Mapping[str, Any], **more: Any) -> wsusfix.WsusServer:
    """Connect to the server that the parameters name.

    Raises:
        WsusFixError: see :func:`wsusfix.connect`.
    """
    reach = {name: parameters[name] for name in CONNECTION_ARGUMENTS if name != "timeouts"}
    timeouts = parameters["timeouts"] or {}
    given = {name: value for name, value in timeouts.items() if value is not None}
    return wsusfix.connect(**reach, timeouts=wsusfix.Timeouts(**given), **more)
