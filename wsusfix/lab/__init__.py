"""The lab: simulated Windows servers behind a real WSMan, NTLM and PSRP endpoint on loopback.

Here one rehearses a change, tests a playbook, or lets every failure happen on purpose::

    with Lab() as lab:
        host = lab.add_server("wsus01", os="Windows Server 2003", arch="x86", wsus="3.0 SP1")
        with wsusfix.connect(**host.connection) as server:
            print(server.diagnose())

Only Windows is simulated, and no script is known but the library's own.  Each is answered by its contract; with
``Lab(engine="pwsh")`` a real PowerShell runs it, and only the functions of ``windows.ps1`` are played.  Importing this
package loads nothing; its names come with their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsusfix.lab.host import Host
    from wsusfix.lab.lab import Lab

__all__ = ["Host", "Lab"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from wsusfix.lab import lab

        return getattr(lab, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
