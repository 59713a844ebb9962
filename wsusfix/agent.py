"""What a client's update agent is set to: which server it asks, whether it acts by itself, and whether it matters here.

One script's answer, parsed and checked.  It knows nothing of what the agent has done: that stands in its log.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from wsusfix import advisory
from wsusfix.errors import AnswerError
from wsusfix.present import Presentable, printable, rows
from wsusfix.scripts.contracts import Scalar

__all__ = ["ClientSettings", "parse", "probe_parameters", "same_server"]

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_ON: Final = "1"


@dataclass(frozen=True, repr=False)
class ClientSettings(Presentable):
    """A client's update agent.

    Args:
        host: the name it was asked by.
        computer_name: its own.
        clock: its own time.
        server: URL of the server of updates that policy names, ``""`` for none.
        uses_server: whether policy says to use it.
        disabled: whether automatic updates are turned off, by policy or by the machine's own setting.
        service: state of the agent's service, ``""`` where there is none.
        office_2003: whether a product or component of Office 2003 left its mark; without one nothing is known.
    """

    host: str
    computer_name: str
    clock: datetime
    server: str
    uses_server: bool
    disabled: bool
    service: str
    office_2003: bool

    def asks(self, names: Iterable[str]) -> bool:
        """Return whether the agent gets its updates from the server that has one of *names*."""
        return self.uses_server and any(same_server(self.server, name) for name in names)

    def _summary(self) -> str:
        return f"{self.host}: {printable(self.server, 80) or 'no server'}"

    def __str__(self) -> str:
        return f"{self.host}: update agent of {self.computer_name}\n" + rows(
            [
                ("server", printable(self.server, 200) or "none"),
                ("used", "yes" if self.uses_server else "no"),
                ("automatic updates", "off" if self.disabled else "on"),
                ("service", self.service or "absent"),
                (advisory.OFFICE_2003, "yes" if self.office_2003 else "no mark of it"),
            ]
        )


def same_server(url: str, name: str) -> bool:
    """Return whether *url* names the server *name*; a name without its domain is the same as one with it.

    >>> same_server("http://WSUS01.corp.example:8530", "wsus01")
    True
    """
    try:
        asked = (urllib.parse.urlsplit(url if "//" in url else f"//{url}").hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    wanted = name.rstrip(".").lower()
    if not asked or not wanted:
        return False
    if "." in asked and "." in wanted:
        return asked == wanted
    return asked.partition(".")[0] == wanted.partition(".")[0]


def probe_parameters() -> dict[str, Any]:
    """Return the parameters of the ``client`` script: which keys and values to look at."""
    return {
        "policy_key": advisory.CLIENT_POLICY_KEY,
        "server_value": advisory.CLIENT_SERVER_VALUE,
        "automatic_key": advisory.CLIENT_AUTOMATIC_KEY,
        "uses_server_value": advisory.CLIENT_USES_SERVER_VALUE,
        "disabled_value": advisory.CLIENT_DISABLED_VALUE,
        "options_value": advisory.CLIENT_OPTIONS_VALUE,
        "own_key": advisory.CLIENT_OWN_KEY,
        "service": advisory.CLIENT_SERVICE,
        "office_keys": list(advisory.OFFICE_2003_KEYS),
    }


def parse(host: str, answer: Mapping[str, Scalar]) -> ClientSettings:
    """Turn the checked answer of the ``client`` script into settings.

    Raises:
        AnswerError: a time that is none.
    """
    try:
        clock = datetime.strptime(str(answer["clock"]), _TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        shown = printable(repr(answer["clock"]), 80)
        raise AnswerError(f"the client's answer has {shown} for clock", host=host, phase="client") from None
    off = str(advisory.CLIENT_OPTIONS_OFF)
    # What policy sets counts; the machine's own setting only where policy says nothing.
    options = answer["policy_options"] or answer["own_options"]
    return ClientSettings(
        host=host,
        computer_name=printable(str(answer["computer_name"]), 80),
        clock=clock,
        server=printable(str(answer["server"]), 260),
        uses_server=answer["uses_server"] == _ON and bool(answer["server"]),
        disabled=answer["disabled"] == _ON or options == off,
        service=printable(str(answer["service"]), 40),
        office_2003=bool(answer["office"]),
    )
