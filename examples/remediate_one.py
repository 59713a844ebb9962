"""Mend one WSUS server: show the plan, and carry it out when --yes consents to what cannot be undone.

    export WSUSFIX_USERNAME='CORP\\admin' WSUSFIX_PASSWORD=...
    python remediate_one.py wsus01 WSUS-KB954960-x64.exe          # shows the plan
    python remediate_one.py wsus01 WSUS-KB954960-x64.exe --yes    # carries it out

Running it again is always safe: a job that runs is joined, and a server that needs nothing is left alone.
"""

from __future__ import annotations

import argparse
import logging
import sys

import wsusfix

log = logging.getLogger("remediate_one")


def observe(event: wsusfix.Event) -> None:
    """Put what happens into the log; every event prints as a line, and carries its parts as data."""
    level = logging.DEBUG if isinstance(event, wsusfix.UploadProgress) else logging.INFO
    log.log(level, "%s", event, extra={"event": event.to_dict()})


def main() -> int:
    """Plan, and apply with consent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("package")
    parser.add_argument("--port", type=int)
    parser.add_argument("--yes", action="store_true", help="consent to what cannot be undone")
    chosen = parser.parse_args()
    # The library's own lines are in the tree "wsusfix"; DEBUG shows them, too.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        with wsusfix.connect(chosen.host, port=chosen.port, on_event=observe) as server:
            plan = server.plan(wsusfix.Options(package=chosen.package))
            print(plan)
            if plan.blocked or (plan.irreversible and not chosen.yes):
                return 1
            outcome = server.apply(plan, consent=chosen.yes)
    except wsusfix.WsusFixError as error:
        print(error, file=sys.stderr)
        return 1
    print(outcome)
    return 0 if outcome.ok or outcome.restart_pending else 1


if __name__ == "__main__":
    sys.exit(main())
