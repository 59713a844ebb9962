"""Say what one WSUS server is with regard to advisory 954960. Changes nothing.

    export WSUSFIX_USERNAME='CORP\\admin' WSUSFIX_PASSWORD=...
    python diagnose_one.py wsus01

Ends with 0 when the server is without the fault, with 1 when it is not or when that is unknown.
"""

from __future__ import annotations

import argparse
import sys

import wsusfix


def main() -> int:
    """Look at the server and print the diagnosis."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host")
    parser.add_argument("--port", type=int)
    chosen = parser.parse_args()
    try:
        with wsusfix.connect(chosen.host, port=chosen.port) as server:
            diagnosis = server.diagnose()
    except wsusfix.NotReachedError as error:
        # It may be restarting: a scheduler would try again later when error.retryable says so.
        print(f"not reached: {error}", file=sys.stderr)
        return 1
    except wsusfix.WsusFixError as error:
        print(error, file=sys.stderr)
        return 1
    print(diagnosis)
    # None is "unknown", and unknown is never safe.
    return 0 if diagnosis.exposed is False else 1


if __name__ == "__main__":
    sys.exit(main())
