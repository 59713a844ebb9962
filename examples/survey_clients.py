"""Say which client computers were hit by the fault, by their own logs, and by which server. Changes nothing.

    export WSUSFIX_USERNAME='CORP\\admin' WSUSFIX_PASSWORD=...
    python survey_clients.py clients.txt --csv clients.csv

clients.txt has a name or an address on each line. With --server the server's own log is read, too, and calls that
failed at both ends are paired. Ends with 0 when none was hit, with 1 when one was or when that is not known.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import wsusfix


def main() -> int:
    """Ask every client, several at once, and print what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", help="file of names")
    parser.add_argument("--server", help="the WSUS server they get their updates from")
    parser.add_argument("--csv", help="also write a line for each client there")
    parser.add_argument("--port", type=int)
    chosen = parser.parse_args()
    try:
        listed = Path(chosen.list).read_text(encoding="utf-8-sig").splitlines()
        if chosen.csv is not None:
            Path(chosen.csv).touch()  # Now, and not when an hour of asking is over.
    except (OSError, ValueError) as error:
        parser.error(f"the list cannot be read, or the lines not be written: {error}")
    names = [line.strip() for line in listed if line.strip()]
    try:
        servers = []
        if chosen.server is not None:
            with wsusfix.connect(chosen.server, port=chosen.port) as server:
                servers.append(server.logs())
        found = wsusfix.survey(names, servers=servers, port=chosen.port)
    except wsusfix.WsusFixError as error:
        # A client that is not reached is told in the survey; this is about the server, or about what was asked.
        print(error, file=sys.stderr)
        return 1
    print(found)
    if chosen.csv is not None:
        with Path(chosen.csv).open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(("client", "hit", "server", "why"))
            for client in found.clients:
                hit = {True: "yes", False: "no", None: "unknown"}[client.hit]
                lines.writerow((client.host, hit, " ".join(client.servers), client.why))
    # What is not known is not well.
    return 1 if found.hit or found.unknown else 0


if __name__ == "__main__":
    sys.exit(main())
