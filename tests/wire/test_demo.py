"""The demonstration is content with its replica only when that was treated, proved, and is a replica again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

import wsusfix
from wsusfix.lab import Host, Lab, demo
from wsusfix.report import HostResult, Run


def mended(lab: Lab, arrange: Callable[[Host], object]) -> tuple[Host, HostResult]:
    """The demonstration's own replica, and what comes of it."""
    host = demo._replica(lab)
    host.machine.pace = 0.002
    arrange(host)
    package = str(lab.package("WSUS-KB954960-x86.exe", arch="x86"))
    return host, demo._mend(host, package, lambda line: None, None)


def shown(result: HostResult, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a demonstration that ends so."""
    now = datetime.now(timezone.utc)
    run = Run(command="demo", began=now, ended=now, hosts=(result,))
    monkeypatch.setattr(demo, "walk", lambda stream: run)
    return demo.main(["--report", str(folder)])


def test_a_replica_that_was_treated_is_as_it_should_be_and_one_that_was_switched_since_is_not(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, result = mended(lab, lambda host: None)
    assert shown(result, tmp_path, monkeypatch) == 0
    host.update_service.replica = False
    with wsusfix.connect(**host.connection) as server:
        again = dataclasses.replace(result, verification=server.verify())
    assert shown(again, tmp_path, monkeypatch) == 1


@pytest.mark.parametrize(
    "arrange",
    [
        lambda host: host.faults.kill_job(phase="switched"),
        lambda host: host.faults.kill_job(phase="treated"),
        lambda host: host.update_service.updates.clear(),
        lambda host: host.faults.at_phase(host.machine.web.clear, phase="marked"),
    ],
    ids=["killed when switched", "killed when treated", "blocked", "not serving"],
)
def test_a_replica_that_was_not_treated_is_told_and_the_demonstration_fails(
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arrange: Callable[[Host], object],
) -> None:
    _, result = mended(lab, arrange)
    assert shown(result, tmp_path, monkeypatch) == 1
    assert "not as it should be: wsus-rtm" in capsys.readouterr().err
