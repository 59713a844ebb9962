"""Mend one WSUS server and write down the evidence for the change ticket: a page, Markdown, JSON, and their hashes.

    export WSUSFIX_USERNAME='CORP\\admin' WSUSFIX_PASSWORD=...
    python change_ticket.py wsus01 WSUS-KB954960-x64.exe CHG-2008-0912

Whatever happens is written down, errors too. --anonymous leaves out the names of servers and users.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from datetime import datetime, timezone
from pathlib import Path

import wsusfix
from wsusfix import report


def mend(host: str, port: int | None, package: str, recorder: wsusfix.Recorder) -> report.HostResult:
    """Walk the road, and keep whatever was reached of it."""
    plan = outcome = proof = failure = None
    try:
        with wsusfix.connect(host, port=port, on_event=recorder) as server:
            plan = server.plan(wsusfix.Options(package=package))
            outcome = server.apply(plan, consent=True)
            proof = server.verify()
    except wsusfix.WsusFixError as error:
        failure = error
    return report.HostResult(
        host, plan=plan, outcome=outcome, verification=proof, error=failure, events=recorder.moments
    )


def main() -> int:
    """Mend the server, and write the folder of the ticket."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("host", "package", "folder"):
        parser.add_argument(name)
    parser.add_argument("--port", type=int)
    parser.add_argument("--anonymous", action="store_true")
    chosen = parser.parse_args()
    folder = Path(chosen.folder)
    folder.mkdir(parents=True, exist_ok=True)
    began = datetime.now(timezone.utc)
    result = mend(chosen.host, chosen.port, chosen.package, wsusfix.Recorder(print))
    run = report.Run("remediate", began, datetime.now(timezone.utc), (result,))
    sums = ""
    for write, name in ((report.html, "report.html"), (report.markdown, "report.md"), (report.json, "report.json")):
        data = write(run, anonymous=chosen.anonymous).encode() + (b"\n" if name == "report.json" else b"")
        (folder / name).write_bytes(data)
        sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
    (folder / "SHA256SUMS").write_text(sums)
    return 0 if result.verification is not None and result.verification.ok else 1


if __name__ == "__main__":
    sys.exit(main())
