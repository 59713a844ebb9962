"""Mend one WSUS server and write down the evidence for the change ticket: a page, Markdown, JSON, and their hashes.

    export WSUSFIX_USERNAME='CORP\\admin' WSUSFIX_PASSWORD=...
    python change_ticket.py wsus01 WSUS-KB954960-x64.exe CHG-2008-0912 --yes

Without --yes only the plan. Whatever happens is written down, errors and Ctrl-C too; --anonymous leaves out names.
"""

import argparse
import hashlib
import sys
from datetime import datetime, timezone
from pathlib import Path

import wsusfix
from wsusfix import report


def mend(chosen: argparse.Namespace, recorder: wsusfix.Recorder) -> report.HostResult:
    """Walk the road as far as it goes without consent, or to its end, and keep whatever was reached of it."""
    plan = outcome = failure = None
    try:
        with wsusfix.connect(chosen.host, port=chosen.port, on_event=recorder) as server:
            print(plan := server.plan(wsusfix.Options(package=chosen.package)))
            if chosen.yes or not plan.irreversible:
                outcome = server.apply(plan, consent=chosen.yes)
    except wsusfix.WsusFixError as error:
        failure = error
    except KeyboardInterrupt as stop:
        failure = wsusfix.WsusFixError(str(stop) or "interrupted", host=chosen.host)
    return report.HostResult(chosen.host, plan=plan, outcome=outcome, error=failure, events=recorder.moments)


def main() -> int:
    """Mend the server, and write the folder of the ticket."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("host", "package", "folder"):
        parser.add_argument(name)
    parser.add_argument("--port", type=int)
    for name in ("--yes", "--anonymous"):
        parser.add_argument(name, action="store_true")
    chosen, began, sums = parser.parse_args(), datetime.now(timezone.utc), ""
    try:
        (folder := Path(chosen.folder)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"the folder cannot be made: {error}")
    result = mend(chosen, wsusfix.Recorder(print))
    run = report.Run("remediate", began, datetime.now(timezone.utc), (result,))
    for write, name in ((report.html, "report.html"), (report.markdown, "report.md"), (report.json, "report.json")):
        (folder / name).write_bytes(data := write(run, anonymous=chosen.anonymous).encode())
        sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
    (folder / "SHA256SUMS").write_text(sums)
    told = result.error or result.outcome or "nothing was changed: --yes consents to the plan"
    print(told, f"report: {folder / 'report.html'}", sep="\n")
    return 0 if result.outcome is not None and result.outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
