"""The lab's own answers and PowerShell's are the same, whatever state a server is in."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import builders
from tests.pwsh.shell import Failed, Shell, hasty
from wsusfix import advisory
from wsusfix.facts import approvals_parameters, parse, probe_parameters
from wsusfix.lab import Host, Lab
from wsusfix.lab.behaviours import BEHAVIOURS
from wsusfix.lab.database import Connection
from wsusfix.lab.filesystem import CLOSED, WindowsError_
from wsusfix.lab.scheduler import SYSTEM
from wsusfix.lab.windows import Site, time_text
from wsusfix.options import Timeouts
from wsusfix.scripts.contracts import BACKUP_NAME, CONTRACTS, STAGING_NAME, TASK_NAME, UNVERIFIED_NAME, JobPhase

NOW: Final = 1_216_116_000.0  # 2008-07-15T10:00:00Z
CREATED: Final = "633517128000000000"
DATA: Final = bytes(range(40))
SHA: Final = hashlib.sha256(DATA).hexdigest()
#: A few examples, always the same: each costs a fifth of a second.
FEW: Final = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

#: Names as they are met: of any language, with marks that mean something to a shell, and with blanks.
_names = st.text(string.ascii_letters + "0123456789._-$'`()[] åØß更", min_size=1, max_size=12).filter(
    lambda name: name.strip(" .") == name
)
_texts = st.text(string.printable + "åØß更=", max_size=60).filter(lambda text: "\r" not in text)


@dataclass(frozen=True)
class State:
    """How a server is before it is asked; the same twice makes the same server twice."""

    options: dict[str, Any]
    registry: dict[str, str | int | list[str]]
    staging: str
    segments: list[tuple[int, int, int]]
    whole: bytes | None
    claims: list[tuple[int, str, int, bool]]
    states: list[tuple[JobPhase, str, str, bool]]
    logs: dict[str, bytes]
    foreign_process: bool
    task: bool
    kept: list[tuple[int, str, bool]] = field(default_factory=list)


_states = st.tuples(st.sampled_from(JobPhase), _texts, st.sampled_from(["", "own", "gone"]), st.booleans())
_servers = st.builds(
    State,
    options=st.fixed_dictionaries(
        {
            "os": st.sampled_from(["Windows Server 2003", "Windows Server 2008"]),
            "arch": st.sampled_from(["x86", "x64"]),
            "wsus": st.sampled_from([None, "console", "2.0", "3.0 RTM", "3.0 SP1", "3.0 SP2"]),
            "culture": st.sampled_from(["en-US", "nb-NO", "de-DE", "ja-JP"]),
            "database": st.sampled_from(["embedded", "local", "remote"]),
            "neighbours": st.sampled_from([(), ("configmgr",), ("configmgr", "essentials")]),
            "pending_restart": st.booleans(),
            "execution_policy": st.sampled_from([None, "AllSigned", "RemoteSigned"]),
        }
    ),
    registry=st.dictionaries(
        st.sampled_from(["VersionString", "SqlServerName", "InstallType", "TargetDir"]),
        st.one_of(_texts, st.integers(0, 2**32 - 1), st.lists(_texts, max_size=3)),
        max_size=3,
    ),
    staging=st.sampled_from(["absent", *["closed"] * 6, "owner", "acl", "reparse", "file"]),
    segments=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(-1, 1)), max_size=6),
    whole=st.sampled_from([None, None, b"", b"other", DATA]),
    claims=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["a", "b"]), st.integers(0, 120), st.booleans())),
    states=st.lists(_states, max_size=5),
    logs=st.dictionaries(_names.map(lambda name: f"{name}.log"), st.binary(max_size=50), max_size=4),
    foreign_process=st.booleans(),
    task=st.booleans(),
    kept=st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from(["record", "closed", "marker"]), st.booleans()), max_size=5
    ),
)


def put_up(lab: Lab, state: State) -> Host:
    """A server in this state.  Its clock stands still, and who asks is always the same process."""
    host = lab.add_server("wsus", **state.options)
    for path in [path for path in host.files if path.endswith("\\SoftwareDistribution.log")]:
        # It tells the time at which the server was put up.
        host.files.remove_file(path)
    host.machine.now = lambda: NOW  # type: ignore[method-assign]
    host.machine.boot_time = NOW - 5000
    host.machine.registry.set(probe_parameters(Timeouts())["setup_key"], **state.registry)
    if state.foreign_process:
        host.machine.processes.start("x.exe", f'"{host.staging_path}\\x.exe"', SYSTEM)
    if state.task:
        host.session().register_system_task(TASK_NAME, "C:\\job.ps1")
    for number, ending, whole in state.kept:
        if not host.files.is_folder(host.kept_path):
            host.files.make_folder(host.kept_path, CLOSED)
        text = f"job_id=a\nreplica=true\nupdate1={'0' * 8} {number}\n" + ("end\n" if whole else "")
        host.files.create(f"{host.kept_path}\\{number:05d}.{ending}", text.encode())
    if state.staging == "absent":
        return host
    if state.staging != "closed":
        host.faults.precreate_staging(how=state.staging)
        return host
    host.files.make_folder(host.staging_path, CLOSED)
    parts = f"{host.staging_path}\\files\\{SHA[:16]}\\parts"
    host.files.make_folders(parts)
    for offset, length, wrong in state.segments:
        host.files.create(f"{parts}\\{offset:012d}-{max(0, length + wrong)}.seg", DATA[offset:][:length])
    if state.whole is not None:
        host.files.create(f"{host.staging_path}\\files\\{SHA[:16]}\\a.exe", state.whole)
    _put_up_job(host, state)
    return host


def _put_up_job(host: Host, state: State) -> None:
    own = host.machine.processes.start("powershell.exe", "powershell.exe", SYSTEM)
    own.created = CREATED
    folder = f"{host.staging_path}\\jobs\\a"
    host.files.make_folders(f"{folder}\\state")
    host.files.make_folders(f"{folder}\\temp")
    for number, job_id, age, whole in state.claims:
        text = f"job_id={job_id}\nkind=install_update\ntime={time_text(NOW - age)}\n" + ("end\n" if whole else "")
        host.files.create(f"{host.staging_path}\\jobs\\{number:05d}.claim", text.encode())
    for number, (phase, detail, process, whole) in enumerate(state.states, 1):
        created = own.created if process == "own" else "1"
        lines = [f"phase={phase.value}", *([f"pid={own.pid}", f"created={created}"] if process else [])]
        lines += [f"detail={detail}", *(["end"] if whole else [])]
        host.files.create(f"{folder}\\state\\{number:05d}.txt", ("\n".join(lines) + "\n").encode())
    for name, data in state.logs.items():
        host.files.create(f"{folder}\\temp\\{name}", data)


def questions(state: State) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is asked, one after the other, of one and the same server."""
    about = {"staging_name": STAGING_NAME, "sha256": SHA, "size": str(len(DATA)), "name": "a.exe"}
    yield "facts", probe_parameters(Timeouts())
    for after in (0, len(state.states) // 2):
        yield "poll_job", {"staging_name": STAGING_NAME, "job_id": "a", "after": after, "start_seconds": 60}
    facts = parse("wsus", builders.answer())
    yield "approvals", approvals_parameters(facts, ("00000000-0000-0000-0000-000000000000",))
    bounds = {"tail": 21, "first": ["b.log"], "each": 7, "most": 30}
    yield "collect_job", {"staging_name": STAGING_NAME, "job_id": "a", **bounds}
    yield "stage", {**about, "reserve": "1000"}
    yield "assemble", about
    yield "facts", probe_parameters(Timeouts())
    yield "withdraw_job", builders.WITHDRAW
    yield "cleanup", builders.CLEANUP


def in_python(host: Host, name: str, parameters: dict[str, Any]) -> object:
    try:
        answer = BEHAVIOURS[name](hasty(host), parameters, iter(()))
    except WindowsError_ as error:
        return f"error: {error.message}"
    return CONTRACTS[name].read({"script": name, **answer})


def in_powershell(shell: Shell, host: Host, name: str, parameters: dict[str, Any]) -> object:
    try:
        return shell.ask(hasty(host), name, parameters)
    except Failed as error:
        return f"error: {str(error).partition(': ')[2]}"


def contents(host: Host) -> dict[str, bytes | None]:
    return {path: host.files.read(path) for path in host.files}


@FEW
@given(state=_servers)
def test_both_ways_of_answering_say_the_same_and_leave_the_same(shell: Shell, state: State) -> None:
    with Lab() as first, Lab() as second:
        python, powershell = put_up(first, state), put_up(second, state)
        for name, parameters in questions(state):
            expected = in_python(python, name, parameters)
            assert in_powershell(shell, powershell, name, parameters) == expected, name
            assert contents(powershell) == contents(python), name
        assert powershell.tasks == python.tasks


_around = st.fixed_dictionaries(
    {
        "services": st.dictionaries(_names, st.sampled_from(["running", "stopped", "start_pending"]), max_size=3),
        "sites": st.lists(st.tuples(_names, st.booleans()), max_size=3),
        "foreign": st.lists(st.tuples(_names, st.sampled_from(["", "4711", "x"]), _names), max_size=3),
        "upstream": st.one_of(st.just(""), _names),
        "front_ends": st.lists(_names, max_size=3),
        "compressed": st.sampled_from([(), ("C:\\",), ("C:\\WSUS",)]),
        "backups": st.dictionaries(_names, st.binary(max_size=9), max_size=3),
        "fails": st.sampled_from(["", "", "unreachable"]),
        "wsus": st.sampled_from(["3.0 RTM", "3.0 RTM", "console", None]),
        "database": st.sampled_from(["embedded", "local", "remote"]),
        "server": st.sampled_from(["", f"np:{advisory.EMBEDDED_PIPE}", "WSUS"]),
        "os": st.sampled_from(["Windows Server 2003", "Windows Server 2008"]),
    }
)


def put_around(lab: Lab, given: dict[str, Any]) -> Host:
    """A server with these surroundings."""
    host = lab.add_server("wsus", os=given["os"], wsus=given["wsus"], database=given["database"])
    host.machine.now = lambda: NOW  # type: ignore[method-assign]
    for name, status in given["services"].items():
        host.services.setdefault(name, status)
        host.machine.needs.setdefault(name, ("w3svc",))
    host.sites.extend(Site(str(number), name, runs) for number, (name, runs) in enumerate(given["sites"], 2))
    host.database.foreign.extend(Connection(*each) for each in given["foreign"])
    host.wsus.upstream, host.wsus.front_ends = given["upstream"], given["front_ends"]
    host.machine.compressed.update(given["compressed"])
    if given["fails"]:
        host.faults.backup_fails(given["fails"])
    outer = f"{host.machine.system.windows_directory}\\{BACKUP_NAME}"
    host.files.make_folder(outer, CLOSED)
    for name, data in given["backups"].items():
        host.files.create(f"{outer}\\{name}", data)
        host.files.make_folders(f"{outer}\\below {name}")
        host.files.create(f"{outer}\\below {name}\\{name}", data)
        if len(data) % 2:
            host.files.create(f"{outer}\\below {name}\\{UNVERIFIED_NAME}", b"")
    return host


@FEW
@given(given=_around)
def test_both_ways_of_looking_around_see_the_same(shell: Shell, given: dict[str, Any]) -> None:
    asked = {
        "server": given["server"],
        "database": "SUSDB",
        "own_programs": sorted(advisory.WSUS_PROCESSES),
        "hierarchy": True,
        "service_roots": [advisory.WSUS_SERVICE, *advisory.IIS_SERVICES],
        "paths": ["C:\\WSUS", "\\\\far\\away"],
        "backup_folder": BACKUP_NAME,
        "unverified": UNVERIFIED_NAME,
        "seconds": 30,
    }
    with Lab() as first, Lab() as second:
        python, powershell = put_around(first, given), put_around(second, given)
        expected = in_python(python, "surroundings", asked)
        assert in_powershell(shell, powershell, "surroundings", asked) == expected


@FEW
@given(chunks=st.lists(st.binary(max_size=9), max_size=6), length=st.integers(0, 30), segment=st.integers(1, 12))
def test_both_ways_of_receiving_keep_the_same_segments(
    shell: Shell, chunks: list[bytes], length: int, segment: int
) -> None:
    given = {"staging_name": STAGING_NAME, "sha256": SHA, "offset": "7", "length": str(length), "segment": str(segment)}
    with Lab() as first, Lab() as second:
        state = State({}, {}, "closed", [], None, [], [], {}, False, False)
        python, powershell = put_up(first, state), put_up(second, state)
        expected = CONTRACTS["receive"].read(
            {"script": "receive", **BEHAVIOURS["receive"](python.session(), given, iter(chunks))}
        )
        assert shell.ask(powershell.session(), "receive", given, chunks) == expected
        assert contents(powershell) == contents(python)


@pytest.mark.parametrize("value", ["", "x", "æ更 <&>'`$\"", "a\nb", "_x000A_", "1.5", "2008-07-15T10:00:00Z", "true"])
def test_a_text_of_the_registry_comes_back_as_it_is(shell: Shell, value: str) -> None:
    with Lab() as lab:
        host = lab.add_server("wsus")
        host.machine.registry.set(probe_parameters(Timeouts())["setup_key"], VersionString=value)
        assert shell.ask(host.session(), "facts", probe_parameters(Timeouts()))["setup_VersionString"] == value
