"""The cases of ``install_update``, the job that installs the update."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from tests.pwsh.cases.stage import Stage, called_off, case, state
from tests.pwsh.shell import hasty
from wsusfix.lab.filesystem import Failure
from wsusfix.lab.windows import SimulatedWindows, time_text

_ROAD: Final = "started checking_package checking_signature launching installing installed finished"


@case("install_update", "installed", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    last = stage.install(host)
    assert (last["phases"], last["exit_code"]) == (_ROAD, "0")
    assert (last["dll_before"], last["dll_after"]) == ("3.1.6001.65", "3.1.6001.66")
    assert (last["pending_rename"], last["event_logged"]) == ("false", "true")
    (entry,) = host.event_log
    assert entry.text.startswith("asked by LAB\\admin\r\nresult: done\r\nexit code: 0\r\n")
    assert not entry.failed
    return last


@case("install_update", "a restart is needed", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server(os="Windows Server 2003", culture="nb-NO")
    dll = stage.facts(host)["dll_path"]
    last = stage.install(host, package={"exit_code": 3010}, dll=dll)
    assert (last["exit_code"], last["pending_rename"], last["dll_after"]) == ("3010", "true", "3.1.6001.65")
    assert not host.event_log[0].failed
    return last


@case("install_update", "the installer failed", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    last = stage.install(host, package={"exit_code": 1603})
    assert (last["exit_code"], host.event_log[0].failed) == ("1603", True)
    return last


@case("install_update", "a signature that is vouched for", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    return stage.install(host, package={"signature": "unverifiable"}, accept_unverifiable=True)


@case("install_update", "fixed already", "already_fixed")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(wsus="3.0 SP1 KB954960"))


@case("install_update", "no package", "package_missing")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(), path="C:\\nowhere\\a.exe")


@case("install_update", "another package", "package_changed")
def _(stage: Stage) -> dict[str, Any]:
    last = stage.install(stage.server(), data=b"swapped")
    assert last["detail"] == hashlib.sha256(b"swapped").hexdigest()
    return last


@case("install_update", "a bad signature", "signature_invalid")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(), package={"signature": "invalid"}, accept_unverifiable=True)


@case("install_update", "a signature that cannot be checked", "signature_unverifiable")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(), package={"signature": "unverifiable"})


@case("install_update", "no roots", "signature_invalid")
def _(stage: Stage) -> dict[str, Any]:
    return stage.install(stage.server(), roots=[])


@case("install_update", "another installation does not end", "installer_busy")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.installer_busy()
    last = stage.install(host, windows=hasty(host), busy_seconds=70)
    assert last["phases"].count("waiting_for_installer") == 3
    return last


@case("install_update", "another installation was quicker, then ended", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()

    class Crossed(type(hasty(host))):  # type: ignore[misc]
        looks = 0

        def test_installer_busy(self) -> bool:
            self.looks += 1
            self.machine.foreign_installer = self.looks == 1
            return False

    windows = Crossed(host.machine, host.session().process)
    last = stage.install(host, windows=windows, busy_seconds=60)
    assert "installing waiting_for_installer launching installing installed" in last["phases"]
    assert [run.exit_code for run in host.installations] == [1618, 0]
    return last


@case("install_update", "a program that cannot be run", "not_launched")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    host.faults.signature("valid")
    data = b"MZ" + bytes(1000)
    return stage.install(host, data=data, package_sha256=hashlib.sha256(data).hexdigest())


@case("install_update", "the child stands still", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()

    class Watched(SimulatedWindows):
        waits = 0

        def wait_installer(self, handle: Any, milliseconds: int) -> bool:
            self.waits += 1
            return super().wait_installer(handle, milliseconds) if self.waits > 7 else False

        def get_process_time(self, process_id: int) -> str:
            return "12345678901"

    last = stage.install(host, windows=Watched(host.machine, host.session().process), still_seconds=20)
    # At its beginning, when it had stood still for so long, and at the beat after that.
    assert last["phases"].count("installing") == 3
    return last


@case("install_update", "parameters that cannot be read", "broken")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()

    class Unreadable(SimulatedWindows):
        def read_parameters(self, path: str) -> dict[str, Any]:
            raise self.machine.messages.error(Failure.ACCESS_DENIED, path)

    last = stage.install(host, windows=Unreadable(host.machine, host.session().process))
    assert (last["phases"], "denied" in last["detail"], host.event_log) == ("started finished", True, ())
    return last


@case("install_update", "a second start finds the token gone", "")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    folder = stage.job(host, state("abandoned"))
    result = stage.shell.work(host, f"{folder}\\job.ps1")
    assert (result.state, result.output, result.errors) == ("Completed", [], [])
    assert host.files.entries(f"{folder}\\state") == ["00001.txt"]
    return {"reason": ""}


@case("install_update", "the maintenance window is over", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    last = stage.install(host, not_after="2008-07-15T10:00:00Z")
    assert (last["phases"], host.installations) == ("started finished", ())
    return last


@case("install_update", "the maintenance window is waited for", "done")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    opens = time_text(host.machine.now() + 50)
    last = stage.install(host, windows=hasty(host), not_before=opens)
    assert last["phases"] == _ROAD.replace("started", "started waiting_for_window window_open")
    assert last["until"] == opens
    assert host.session().get_clock() >= opens
    return last


@case("install_update", "called off while it waits", "withdrawn")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    last = stage.install(host, windows=called_off(host), not_before=time_text(host.machine.now() + 3000))
    assert last["phases"] == "started waiting_for_window withdrawn finished"
    # It looks after every wait.
    assert host.machine.clock_offset == 20
    assert (last["detail"], host.installations) == ("by S-1-5-21-7", ())
    (entry,) = host.event_log
    assert "result: withdrawn\r\n" in entry.text
    assert entry.text.endswith("\r\nby S-1-5-21-7")
    return last


@case("install_update", "called off when it is to say once more that it waits", "withdrawn")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    last = stage.install(host, windows=called_off(host, 30), not_before=time_text(host.machine.now() + 3000))
    assert last["phases"] == "started waiting_for_window withdrawn finished"
    return last


@case("install_update", "called off when its window has just opened", "withdrawn")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    opens = time_text(host.machine.now() + 15)
    last = stage.install(host, windows=called_off(host), not_before=opens)
    assert last["phases"] == "started waiting_for_window withdrawn finished"
    assert host.session().get_clock() >= opens
    return last


@case("install_update", "called off by somebody who was cut off while writing that", "withdrawn")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    windows = hasty(host)

    class Cut(type(windows)):  # type: ignore[misc]
        def wait_seconds(self, seconds: float) -> None:
            super().wait_seconds(seconds)
            self.machine.files.create(f"{host.staging_path}\\jobs\\a\\state\\00003.txt", b"")

    cut = Cut(host.machine, host.session().process)
    last = stage.install(host, windows=cut, not_before=time_text(host.machine.now() + 3000))
    assert (last["phases"], last["detail"]) == ("started waiting_for_window finished", "")
    return last


@case("install_update", "the maintenance window ends while another installation is waited for", "window_over")
def _(stage: Stage) -> dict[str, Any]:
    host = stage.server()
    windows = hasty(host)
    host.faults.installer_busy()
    ends = time_text(host.machine.now() + 20)

    class Ending(type(windows)):  # type: ignore[misc]
        def wait_seconds(self, seconds: float) -> None:
            super().wait_seconds(seconds)
            self.machine.foreign_installer = self.machine.clock_offset < 30

    last = stage.install(host, windows=Ending(host.machine, host.session().process), not_after=ends, busy_seconds=600)
    assert "launching" not in last["phases"]
    return last
