"""Reading logs: ``wsusfix.logs`` beside a bare loop of ``readinto`` and ``find``, and beside ``grep -F``.

All sides look for the same strings in the same files: server's logs of the size at which WSUS begins a new one and
clients' logs, healthy but for a few failed calls.  The bare loop stands for the least that Python can do; it tells hits
and nothing about them.  grep writes to a pipe, for GNU grep stops at the first match when its output is ``/dev/null``.
Everything is read once before, so that the disk is out of it.

The worst case, a failed call in every call that is logged, has no counterpart: its rate is stated, at two sizes and in
shapes that have made parsers slow, which shows whether time grows with length only.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.measure import Goal, Row, Took, at_least, at_most, interleave, median, stopwatch, table
from wsusfix import advisory
from wsusfix.logs import examine, scan
from wsusfix.logs.reading import BLOCK, NEEDLES

__all__ = ["main", "rows"]

_CHUNK: Final = 1 << 20
#: Failed calls in a gigabyte.
_FAILED_CALLS: Final = 10
_MEMORY: Final = 50.0


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="compare reading logs with a bare loop and with grep")
    parser.add_argument("--megabytes", type=int, default=1000, help="how much log to write (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs (default: %(default)s)")
    chosen = parser.parse_args()
    print(table(_measure(chosen.megabytes, chosen.rounds)))


def rows(*, quick: bool = False) -> list[Row]:
    """Measure, and return the table's rows."""
    return _measure(40, 1) if quick else _measure(1000, 3)


def _measure(megabytes: int, rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="wsusfix-bench-") as name:
        folder = Path(name)
        (folder / "healthy").mkdir()
        files, calls = _write_healthy(folder / "healthy", megabytes)
        found = [*_healthy(files, calls, megabytes, rounds), _memory(folder / "healthy", megabytes)]
        shutil.rmtree(folder / "healthy")
        return [*found, *_worst(folder, max(1, min(4, megabytes // 50)), min(rounds, 3))]


# --- healthy logs ---------------------------------------------------------------------------------------------------


def _healthy(files: list[Path], calls: int, megabytes: int, rounds: int) -> list[Row]:
    size = sum(file.stat().st_size for file in files)
    hits: dict[str, int] = {}

    def ours(processes: int) -> Callable[[], Took]:
        def run() -> Took:
            def deed() -> None:
                hits["ours"] = sum(finding.conclusive for finding in examine(files, processes=processes).findings)

            return stopwatch(deed)

        return run

    _bare(files)  # from the disk into memory
    bare, one, two, grep = map(
        median,
        interleave(rounds, lambda: stopwatch(lambda: _bare(files)), ours(1), ours(2), lambda: _grep(files)),
    )
    if hits["ours"] != calls:
        raise AssertionError(f"{calls} failed calls were written, {hits['ours']} found")
    what = f"{megabytes} MB of logs in {len(files)} files, {calls} failed calls"
    loop = f"{_rate(size, bare)} (bare loop)"
    rows = [
        Row(what, loop, _rate(size, one), *_times(bare, one, 0.7)),
        Row(f"{what}, two processes", loop, _rate(size, two), *_times(bare, two, 1.2)),
    ]
    if grep.seconds:
        rows.append(Row(what, f"{_rate(size, grep)} (grep -F)", _rate(size, one), _times(grep, one, 0.0)[0]))
    return rows


def _times(theirs: Took, ours: Took, goal: float) -> tuple[str, Goal]:
    ratio = theirs.seconds / ours.seconds
    return f"{ratio:.2f} x as fast", at_least(ratio, goal)


def _bare(files: list[Path]) -> int:
    """The least there is to do in Python: read blocks, look for the strings."""
    needles = [needle.encode() for needle in NEEDLES]
    buffer = bytearray(BLOCK)
    hits = 0
    for file in files:
        with open(file, "rb", buffering=0) as stream:
            while size := stream.readinto(buffer):
                for needle in needles:
                    at = buffer.find(needle, 0, size)
                    while at >= 0:
                        hits += 1
                        at = buffer.find(needle, at + len(needle), size)
    return hits


def _grep(files: list[Path]) -> Took:
    if shutil.which("grep") is None:
        return Took(0.0, 0.0)
    command = ["grep", "-F", "-a", "-n", *(f"-e{needle}" for needle in NEEDLES), *map(str, files)]
    return stopwatch(lambda: subprocess.run(command, stdout=subprocess.PIPE, env={"LC_ALL": "C"}, check=True))


def _memory(folder: Path, megabytes: int) -> Row:
    what = f"{megabytes} MB of logs: memory of the program"
    if sys.platform != "linux":
        return Row(what, "", "not measured here")
    # Not by resource.getrusage: what that gives begins with the memory of the process that started this one.
    code = (
        "import sys\n"
        "from wsusfix.cli import main\n"
        "main(['logs', '--processes', '1', sys.argv[1]])\n"
        "status = open('/proc/self/status').read().split()\n"
        "print(status[status.index('VmHWM:') + 1], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
    )
    peak = int(done.stderr.split()[-1]) * 1024 / 1e6
    return Row(what, "", f"{peak:.0f} MB", "", at_most(peak, _MEMORY, " MB"))


# --- the worst case -------------------------------------------------------------------------------------------------


def _worst(folder: Path, megabytes: int, rounds: int) -> list[Row]:
    made = []
    for what, write in (
        ("every client call fails", _failing_clients),
        ("every server call fails", _failing_servers),
        ("one line without an end", _one_line),
        ("groups that are never finished", _unfinished),
        ("lines of rubbish", _rubbish),
    ):
        taken: list[Took] = []
        sizes: list[int] = []
        for factor in (1, 4):
            file = folder / "worst.log"
            _write(file, write(), factor * megabytes << 20)
            sizes.append(file.stat().st_size)
            lines = file.read_bytes().count(b"\n")
            taken.append(median(interleave(rounds, partial(_scanned, file))[0]))
        # Processor time: the clock would also show what else the machine did in the meantime.
        growth = (taken[1].processor / sizes[1]) / (taken[0].processor / sizes[0])
        made.append(
            Row(
                f"worst case, {what}: {sizes[1] / 1e6:.0f} MB, {lines / 1000:.0f} thousand lines",
                "",
                _rate(sizes[1], taken[1]),
                f"{growth:.2f} x the time per byte of {sizes[0] / 1e6:.0f} MB",
                at_most(growth, 1.5),
            )
        )
    return made


def _scanned(file: Path) -> Took:
    return stopwatch(lambda: sum(1 for _ in scan(file)))


# --- writing logs ---------------------------------------------------------------------------------------------------

_START: Final = datetime(2008, 6, 14)


def _write_healthy(folder: Path, megabytes: int) -> tuple[list[Path], int]:
    """Write server's logs and client's logs, half and half, with failed calls in a few of them."""
    chunks = {"server": _chunk(_server_line), "client": _chunk(_client_line)}
    count = max(2, megabytes * 1_000_000 // advisory.SERVER_LOG_ROLLOVER)
    files = []
    failing = set(random.Random(7).sample(range(count), max(1, round(_FAILED_CALLS * megabytes / 1000))))
    for number in range(count):
        kind = "server" if number % 2 else "client"
        text = chunks[kind] * (megabytes * 1_000_000 // count // len(chunks[kind]))
        if number in failing:
            call = next(_failing_servers() if kind == "server" else _failing_clients())
            place = text.index(b"\n", len(text) // 2) + 1
            text = text[:place] + call + text[place:]
        file = folder / f"{number:03d}.log"
        file.write_bytes((_HEADER if kind == "client" else b"") + text)
        files.append(file)
    return files, len(failing)


def _chunk(line: Callable[[random.Random, int], bytes]) -> bytes:
    known, lines, size, number = random.Random(954960), [], 0, 0
    while size < _CHUNK:
        lines.append(line(known, number))
        size += len(lines[-1])
        number += 1
    return b"".join(lines)


_HEADER: Final = (
    b"2008-06-14\t00:00:00:000\t 788\tee4\tMisc\t===========  Logging initialized (build: 7.1.6001.65, tz: -0700)"
    b"  ===========\r\n"
)


def _client_time(number: int) -> bytes:
    return f"{_START + timedelta(milliseconds=40 * number):%Y-%m-%d\t%H:%M:%S:%f}"[:-3].encode()


def _server_time(number: int) -> bytes:
    return f"{_START + timedelta(milliseconds=40 * number):%Y-%m-%d %H:%M:%S.%f}"[:-3].encode()


def _client_line(known: random.Random, number: int) -> bytes:
    text = known.choice(
        (
            "Agent\t  * Found %d updates and %d categories in search; evaluated appl. rules of 683 out of 1146",
            "PT\t+++++++++++  PT: Synchronizing server updates, pass %d of %d  +++++++++++",
            "AU\tAU setting next detection timeout to 2008-06-15 %02d:%02d:00",
            "DnldMgr\tBITS job {0C8A6B2E-%04d-4E0A-9F1E-%012d} completed successfully",
            "Agent\tWARNING: Failed to filter search results, error = 0x8024%04d (attempt %d)",
        )
    ) % (known.randrange(10, 24), known.randrange(10, 60))
    return b"%b\t %d\t%x\t%b\r\n" % (_client_time(number), 788, known.randrange(4096), text.encode())


def _server_line(known: random.Random, number: int) -> bytes:
    text = known.choice(
        (
            "Info\tw3wp.%d\tThreadEntry\tThreadHelper.ThreadStart, %d waiting",
            "Info\tw3wp.%d\tClientImplementation.SyncUpdates\treturned %d updates",
            "Warning\tw3wp.%d\tSoapUtilities.CreateException\tThrowException: actor = http://wsus01/ClientWebService/"
            "client.asmx, ID=0f0c19e2-7d55-4a20-8c43-00000000%04d, ErrorCode=ConfigChanged, Message=, Client=?",
            "Change\tWsusService.%d\tAdminDataAccess.StartSubscriptionManually\tSynchronization %d started",
            "Info\tWsusService.%d\tEventLogEventReporter.ReportEvent\tEventId=%d,Type=Information,Category=Synchronization",
        )
    ) % (known.randrange(4, 40), known.randrange(1000, 9999))
    return b"%b UTC\t%b\r\n" % (_server_time(number), text.encode())


def _failing_clients() -> Iterator[bytes]:
    """Failed calls as the client logs them, as in the advisory's sample."""
    known, number = random.Random(1), 0
    while True:
        number += 25
        lines = (
            "WARNING: SyncUpdates failure, error = 0x8024400E, soap client error = 7, soap error code = 400, "
            "HTTP status code = 200",
            "WARNING: SOAP Fault: 0x000190",
            "WARNING:     faultstring:Fault occurred",
            "WARNING:     ErrorCode:InternalServerError(5)",
            "WARNING:     Message:(null)",
            f'WARNING:     Method:"http://www.microsoft.com/SoftwareDistribution/Server/{advisory.CLIENT_METHOD}"',
            f"WARNING:     ID:{_guid(known)}",
        )
        front = b"%b\t 788\t%x\tPT\t" % (_client_time(number), number % 97)
        yield b"".join(front + line.encode() + b"\r\n" for line in lines)


def _failing_servers() -> Iterator[bytes]:
    """Failed calls as the server logs them, as in the advisory's sample."""
    known, number = random.Random(2), 0
    internal = "Microsoft.UpdateServices.Internal.ClientImplementation"
    while True:
        number += 25
        front = b"%b UTC\t%%b\tw3wp.%d\t%%b\t" % (_server_time(number), number % 97)
        frames = (
            "System.Collections.Hashtable.Insert(Object key, Object nvalue, Boolean add)",
            "System.Collections.Hashtable.Add(Object key, Object value)",
            f"{internal}.GetSyncInfo(DataAccess dataAccess, Hashtable stateTable, Boolean doChunking)",
            f"{internal}.SoftwareSync(DataAccess dataAccess, UnencryptedCookieData cookieData, Boolean expressQuery)",
            f"{internal}.SyncUpdates(Cookie cookie, SyncUpdateParameters parameters)",
        )
        yield (
            front % (b"Error", advisory.SERVER_METHOD.encode())
            + b"System.ArgumentException: Item has already been added. Key in dictionary: '8862'  Key being added: "
            + b"'8862'\r\n"
            + b"".join(b"   at " + frame.encode() + b"\r\n" for frame in frames)
            + front % (b"Warning", advisory.SERVER_FAULT_SOURCE.encode())
            + b"ThrowException: actor = http://wsus01/ClientWebService/client.asmx, ID="
            + _guid(known).encode()
            + b", ErrorCode=InternalServerError, Message=, Client=?\r\n"
        )


def _one_line() -> Iterator[bytes]:
    """All of it in one line, as a copy that lost its line ends."""
    return (call.replace(b"\r\n", b" ") for call in _failing_clients())


def _unfinished() -> Iterator[bytes]:
    """Calls of ever new threads, of which only the first line is there."""
    for number, call in enumerate(_failing_clients()):
        yield call.partition(b"\n")[0].replace(b"\t 788\t", b"\t %d\t" % (number % 1_000_000)) + b"\n"


def _rubbish() -> Iterator[bytes]:
    """Short lines of bytes of any kind, and of pieces of what is sought, of both logs: a million in 17 MB."""
    known = random.Random(3)
    whole = next(_failing_clients()) + next(_failing_servers())
    yield whole  # or it would be told as binary, and left alone
    while True:
        start = known.randrange(len(whole))
        piece = whole[start : start + known.randrange(28)].replace(b"\n", b"")
        yield piece + known.randbytes(known.randrange(6)).replace(b"\n", b"") + b"\n"


def _guid(known: random.Random) -> str:
    digits = f"{known.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _write(file: Path, pieces: Iterator[bytes], size: int) -> None:
    with open(file, "wb") as stream:
        while stream.tell() < size:
            stream.write(next(pieces))


def _rate(size: int, took: Took) -> str:
    return f"{size / took.seconds / 1e6:.0f} MB/s ({took.seconds:.2f} s)"


if __name__ == "__main__":
    main()
