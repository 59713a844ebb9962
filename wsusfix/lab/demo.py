"""The lab for people: ``make demo`` walks the whole road on simulated servers, ``wsusfix lab`` keeps some running.

It uses the library by its public names only, as a reader would.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, TextIO

import wsusfix
from wsusfix import advisory, logs, report
from wsusfix.diagnosis import Verdict
from wsusfix.events import Event
from wsusfix.lab import Host, Lab
from wsusfix.report import HostResult, Run

__all__ = ["inventory", "main", "serve", "walk"]


#: The servers of the demonstration, and the verdict each must end with.
_ENDS: Final = {
    "wsus-2008": Verdict.FIXED.value,
    "wsus-2003": Verdict.FIXED.value,
    "wsus-oslo": Verdict.FIXED.value,
    "wsus-rtm": Verdict.EXPOSED_RTM.value,
    "wsus-sp2": Verdict.NOT_AFFECTED.value,
}


#: WSUS 3.0 without a service pack, and how much faster its waits go by.
_RTM: Final = "3.0 RTM"
_PACE: Final = 0.02
#: The server that has a client with Office 2003 on it, and the one that is a replica without a service pack.
_WITH_CLIENT: Final = "wsus-oslo"
_REPLICA: Final = "wsus-rtm"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; 0 when every server ends as it should."""
    parser = argparse.ArgumentParser(
        prog="python -m wsusfix.lab.demo", description="Mend simulated servers over the wire."
    )
    parser.add_argument("--report", metavar="FOLDER", default="demo-report", help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    run = walk(sys.stdout)
    folder = Path(chosen.report)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(report.markdown(run), encoding="utf-8")
    (folder / "report.html").write_text(report.html(run), encoding="utf-8")
    (folder / "report.json").write_text(report.json(run), encoding="utf-8")
    print(f"\nreport: {folder / 'report.html'} (also report.md and report.json)")
    unexpected = [result.host for result in run.hosts if not _as_it_should_be(result)]
    if unexpected:
        print("not as it should be: " + ", ".join(unexpected), file=sys.stderr)
    return 1 if unexpected else 0


def _as_it_should_be(result: HostResult) -> bool:
    proof = result.verification
    if result.verdict != _ENDS[result.host] or proof is None or not proof.ok:
        return False
    if result.host == _REPLICA:
        # Treated by this run, proved, and a replica again.
        again = any(check.name == "replica" and check.ok and check.found == "yes" for check in proof.checks)
        return proof.worked_around is True and result.outcome is not None and result.outcome.changed and again
    if result.host != _WITH_CLIENT:
        return True
    # Its logs show the symptom before, and none since; and the client is served.
    checks = proof.checks
    return result.observed == wsusfix.Observed.YES.value and len(checks) == 6 and all(check.ok for check in checks)


def walk(stream: TextIO) -> Run:
    """Start simulated servers and walk diagnose, plan, remediate, verify on each, telling every step to *stream*."""

    def tell(line: object) -> None:
        print(line, file=stream, flush=True)

    began = datetime.now(timezone.utc)
    results: list[HostResult] = []
    with Lab() as lab:
        servers = (
            (lab.add_server("wsus-2008", os="Windows Server 2008", arch="x64", wsus="3.0 SP1"), "x64"),
            (lab.add_server("wsus-2003", os="Windows Server 2003", arch="x86", wsus="3.0 SP1"), "x86"),
            (lab.add_server("wsus-oslo", os="Windows Server 2008", arch="x86", wsus="3.0 SP1", culture="nb-NO"), "x86"),
            (_replica(lab), "x86"),
            (lab.add_server("wsus-sp2", os="Windows Server 2008 R2", arch="x64", wsus="3.0 SP2"), "x64"),
        )
        oslo = next(host for host, _ in servers if host.name == _WITH_CLIENT)
        client = lab.add_client("pc-oslo", server=oslo, culture="nb-NO", utc_offset=60, clock_offset=-1.0)
        for host, arch in servers:
            package = lab.package(f"WSUS-KB954960-{arch}.exe", arch=arch)
            tell(f"\n=== {host.name} ===")
            results.append(_mend(host, str(package), tell, client if host is oslo else None))
    tell("")
    tell(_table(results))
    return Run(command="demo", began=began, ended=datetime.now(timezone.utc), hosts=tuple(results))


def _replica(lab: Lab) -> Host:
    """A replica without a service pack: the update does not install there, so its approvals are reset."""
    host = lab.add_server(
        _REPLICA, os="Windows Server 2003", arch="x86", wsus="3.0 RTM", replica=True, upstream="wsus-top"
    )
    # Nobody at a demonstration waits for WSUS as long as a job does.
    host.machine.pace = _PACE
    return host


def _mend(host: Host, package: str, tell: Callable[[object], None], client: Host | None) -> HostResult:
    def show(event: Event) -> None:
        tell(f"  {event}")

    recorder = wsusfix.Recorder(show)
    with wsusfix.connect(**host.connection, on_event=recorder) as server:
        diagnosis = server.diagnose()
        tell(diagnosis)
        if client is not None and diagnosis.logs is not None:
            with wsusfix.connect(**client.connection) as there:
                seen = there.client_log()
            tell(f"\nthe same failed calls, seen by the server and by {client.name}:")
            tell(logs.correlate([*diagnosis.logs.findings, *seen.findings]))
        plan = server.plan(wsusfix.Options(package=package))
        tell(plan)
        outcome = server.apply(plan, consent=True)
        tell(outcome)
        canary = None
        if client is not None:
            tell(f"\n{client.name} looks for updates now:")
            canary = wsusfix.canary(server=server.facts(), since=outcome.ended_at, on_event=show, **client.connection)
            tell(canary)
        proof = server.verify(since=outcome.ended_at if client is not None else None, canary=canary)
        tell(proof)
    return HostResult(
        host.name, diagnosis=diagnosis, plan=plan, outcome=outcome, verification=proof, events=recorder.moments
    )


def _table(results: Sequence[HostResult]) -> str:
    lines = [f"{'server':<12} {'before':<14} {'after':<14} {'verdict':<14} {'changed':<8} proof"]
    for result in results:
        assert result.outcome is not None
        assert result.verification is not None
        lines.append(
            f"{result.host:<12} {result.outcome.before or '-'!s:<14} {result.outcome.after or '-'!s:<14} "
            f"{result.verdict or '-':<14} {'yes' if result.outcome.changed else 'no':<8} "
            f"{'ok' if result.verification.ok else 'not ok'}"
        )
    return "\n".join(lines)


def inventory(hosts: Sequence[Host], package: Path) -> dict[str, Any]:
    """Return an Ansible inventory of simulated servers, the first one upstream of the others.

    User name and password are those of the environment, as the lab prints them.
    """
    variables = {
        "ansible_user": "{{ lookup('ansible.builtin.env', 'WSUSFIX_USERNAME') }}",
        "ansible_password": "{{ lookup('ansible.builtin.env', 'WSUSFIX_PASSWORD') }}",
        "wsus_package": str(package),
    }
    reached = {
        host.name: {"ansible_host": host.connection["host"], "ansible_port": host.connection["port"]} for host in hosts
    }
    first = hosts[0].name
    groups = {
        "wsus_upstream": {"hosts": {first: reached.pop(first)}},
        "wsus_downstream": {"hosts": reached},
    }
    return {"all": {"children": {"wsus": {"vars": variables, "children": groups}}}}


def serve(
    states: Sequence[str],
    *,
    os_name: str,
    arch: str,
    stream: TextIO | None = None,
    engine: str | None = None,
    inventory_file: Path | None = None,
    clients: Sequence[str] = (),
) -> None:
    """Keep simulated servers running until interrupted, and print what to try on them.

    Args:
        states: of WSUS, one server for each.
        os_name: the servers' system.
        arch: their processors' architecture.
        stream: where to print; standard output for ``None``.
        engine: see :class:`wsusfix.lab.Lab`.
        inventory_file: where to write an Ansible inventory of the servers.
        clients: names of clients of the first server; the fault can hit each of them.

    Raises:
        ValueError: there is no such system, state, architecture or engine.
        RuntimeError: the engine is not at hand.
        OSError: the inventory cannot be written.
    """
    out = stream or sys.stdout
    with Lab(engine=engine) as lab:
        hosts = [
            lab.add_server(f"wsus{n:02d}", os=os_name, arch=arch, wsus=_state(state))
            for n, state in enumerate(states, 1)
        ]
        package = lab.package(f"WSUS-KB954960-{arch}.exe", arch=arch)
        first = hosts[0].connection
        print(f"export WSUSFIX_USERNAME='{first['username']}' WSUSFIX_PASSWORD='{first['password']}'", file=out)
        for host, state in zip(hosts, states, strict=True):
            reach = host.connection
            print(f"# {host.name}: {os_name}, {arch}, WSUS {state}", file=out)
            print(f"wsusfix diagnose {reach['host']} --port {reach['port']}", file=out)
            mend = f"wsusfix remediate {reach['host']} --port {reach['port']} --package {package}"
            print(f"{mend} --yes", file=out)
            if state == _RTM:
                # Nobody who tries things out waits for WSUS as long as a job does.
                host.machine.pace = _PACE
                setup = lab.setup_package(arch=arch)
                print(f"# {host.name}, by an upgrade to a service pack instead of the workaround:", file=out)
                print(
                    f"{mend} --rtm upgrade --upgrade-package {setup} --upstream-version none --reboot if-needed --yes",
                    file=out,
                )
        _add_clients(lab, hosts[0], clients, out)
        if inventory_file is not None:
            # Every JSON is YAML.
            inventory_file.write_text(json.dumps(inventory(hosts, package), indent=2) + "\n", encoding="utf-8")
            play = f"ansible-playbook -i {shlex.quote(str(inventory_file))} wsusfix.wsus.survey"
            # The collection is no part of what is installed: it lies in a clone.
            print(f"ANSIBLE_COLLECTIONS_PATH=examples/ansible {play}", file=out)
        try:
            print("# Ctrl-C ends them", file=out, flush=True)
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


def _add_clients(lab: Lab, server: Host, names: Sequence[str], out: TextIO) -> None:
    """Stand up clients of *server*, and print what to ask them."""
    if not names:
        return
    there = [lab.add_client(name, server=server) for name in names]
    port = there[0].connection["port"]
    addresses = " ".join(client.connection["host"] for client in there)
    print(f"# {', '.join(names)}: Windows XP with {advisory.OFFICE_2003}, served by {server.name}", file=out)
    print(f"wsusfix survey {addresses} --port {port} --server {server.connection['host']}", file=out)
    print(f"wsusfix canary {there[0].connection['host']} --port {port} --server {server.name}", file=out)


def _state(name: str) -> str | None:
    return None if name.lower() == "none" else name


if __name__ == "__main__":
    sys.exit(main())
