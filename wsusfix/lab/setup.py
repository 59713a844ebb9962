"""What happens when WSUS setup is run on a simulated server: it looks first, then upgrades, fails, or removes WSUS.

Which exit code it ends with follows from the state of the machine, and only where nothing speaks against it from what
the stand-in was told.  This module refuses to know who started setup, and what becomes of its exit code.
"""

from __future__ import annotations

from typing import Final

from wsusfix import advisory
from wsusfix.advisory import ExitMeaning, InstallType
from wsusfix.lab.packages import Control
from wsusfix.lab.scheduler import Process
from wsusfix.lab.windows import Machine
from wsusfix.lab.wsus import GENERATIONS, Wsus

__all__ = ["run"]

# Setup's own exit codes (deployment guide, "Setup Return Codes").
_SUCCESS: Final = 0
_LAUNCH: Final = 5200
_FAILED: Final = 5201
_BAD_COMMAND_LINE: Final = 5203
_SQL_TOO_OLD: Final = 5204
_NO_TRIGGERS: Final = 5205
_LITTLE_SPACE: Final = 5211
_PREREQUISITES: Final = 5216
_OLD_SCHEMA: Final = 5217
_SAY_UPGRADE: Final = 5218
#: SQL Server 2005 (WSUS 3.0 deployment guide, requirements).
_OLDEST_SQL: Final = 9
_CHECK: Final = "/p"
_UPGRADE: Final = "/g"
_KNOWN: Final = frozenset({_CHECK, _UPGRADE, "/q"})


def run(machine: Machine, wsus: Wsus, process: Process, control: Control, arguments: str, seconds: float) -> int:
    """Run setup to its end as *process*; its exit code."""
    words = frozenset(arguments.lower().split())
    code = _refusal(machine, wsus, process, control, words)
    if _CHECK in words:
        code = code or control.prerequisites
        if code:
            _write(machine, process, "WSUSPreReqCheck.xml", "<PrerequisiteCheck><Failed/></PrerequisiteCheck>\n")
        _write(machine, process, "WSUSSetup.log", f"prerequisites checked: {code}\n")
        return code
    if code == _SUCCESS:
        code = _upgrade(machine, wsus, process, control, seconds)
    _write(machine, process, "WSUSSetup.log", f"setup of WSUS {control.setup}\nsetup ends with {code}\n")
    return code


def _refusal(machine: Machine, wsus: Wsus, process: Process, control: Control, words: frozenset[str]) -> int:
    """Return the exit code with which setup ends before it has changed anything, 0 for none."""
    upgrade = advisory.UPGRADES[control.setup]
    database, generation = wsus.database, wsus.generation
    if control.arch != machine.architecture or (machine.system.elevates and not process.token.system):
        return _LAUNCH
    if not words <= _KNOWN:
        return _BAD_COMMAND_LINE
    if generation is None or not generation.server or generation.install_type is not InstallType.SERVER_3:
        return _FAILED if generation is None else _OLD_SCHEMA
    if not words & {_CHECK, _UPGRADE}:
        return _SAY_UPGRADE
    release = ".".join(map(str, machine.system.release))
    if not any(str(system.release) == release for system in upgrade.systems):
        return _PREREQUISITES
    if int(database.version.split(".")[0]) < _OLDEST_SQL:
        return _SQL_TOO_OLD
    if not database.nested_triggers:
        return _NO_TRIGGERS
    return _LITTLE_SPACE if machine.files.drive("C:\\").free < advisory.SETUP_SYSTEM_SPACE else _SUCCESS


def _upgrade(machine: Machine, wsus: Wsus, process: Process, control: Control, seconds: float) -> int:
    meaning = advisory.exit_code(control.exit_code).meaning
    process.pause(seconds / 2)
    before = next(name for name, known in GENERATIONS.items() if known is wsus.generation)
    if control.removes:
        wsus.remove()
    process.pause(seconds / 2)
    # Whoever else uses the database makes it fail in the middle, and so does a name that the SQL server had before.
    disturbed = bool(wsus.database.connections) or wsus.database.own_name not in (None, wsus.database.server)
    _write(machine, process, "WSUSSetupMsi_080906_2200.log", f"from {before} to {control.setup}\n")
    machine.files.replace(
        f"{machine.system.windows_directory}\\{advisory.SYSTEM_TEMP}\\WSUSCa_080906_2200.log", b"custom actions\r\n"
    )
    if disturbed:
        wsus.remove()
        return _FAILED
    restart = meaning is ExitMeaning.RESTART_NEEDED
    if control.exit_code == _SUCCESS or restart:
        if not control.removes:
            wsus.upgrade(control.setup, at_restart=restart)
    return control.exit_code


def _write(machine: Machine, process: Process, name: str, text: str) -> None:
    machine.files.replace(f"{process.environment['TEMP']}\\{name}", text.encode())
