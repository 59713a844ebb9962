"""A simulated server in a process of its own, so that it does not share the interpreter lock with whoever is measured.

``Endpoint`` is the near side; ``python -m benchmarks.endpoint`` is the far side, one JSON object a line on its
standard input and output.  It poses as PowerShell 2.0 with the limits of WinRM 2.0, and answers six small questions
besides the scripts that the lab knows, as those who use ``execute_ps`` today ask them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final

__all__ = ["QUESTIONS", "Endpoint"]

#: What is asked of a server before such an update, one ``execute_ps`` each, and what this server answers.
QUESTIONS: Final = MappingProxyType(
    {
        "(Get-WmiObject Win32_OperatingSystem).Version": "6.0.6002",
        "$env:PROCESSOR_ARCHITECTURE": "AMD64",
        "(Get-ItemProperty 'HKLM:\\SOFTWARE\\Microsoft\\Update Services\\Server\\Setup').VersionString": "3.1.6001.65",
        "(Get-Service WsusService).Status": "Running",
        "(Get-Item $dll).VersionInfo.FileVersion": "3.1.6001.65",
        "(Get-WmiObject Win32_LogicalDisk -Filter \"DeviceID='C:'\").FreeSpace": "42949672960",
    }
)


class Endpoint:
    """A server in another process; for a ``with`` block."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.connection: dict[str, Any] = {}

    def __enter__(self) -> Endpoint:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.endpoint"],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.fresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.communicate()  # the end of its input is the end of it

    def fresh(self, latency: float = 0.0) -> None:
        """Put a server that knows nothing of any earlier run in the place of the one that is there.

        Args:
            latency: seconds by which it delays every answer: the round trip of a line.
        """
        self.connection = self._ask(fresh=latency)["connection"]

    @property
    def client(self) -> dict[str, Any]:
        """The connection as ``pypsrp.client.Client`` takes it: the same protocol, authentication and encryption."""
        known = dict(self.connection)
        return {"server": known.pop("host"), **known, "ssl": False, "auth": "negotiate", "no_proxy": True}

    @property
    def requests(self) -> int:
        """Requests that the server has answered."""
        return int(self._ask(count=True)["requests"])

    @property
    def received(self) -> int:
        """Bytes of request bodies that it has read."""
        return int(self._ask(count=True)["received"])

    def _ask(self, **command: object) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the endpoint's process has ended")
        return dict(json.loads(answer))


def _serve() -> None:
    """The far side: carry out the commands until there are no more."""
    from wsusfix.lab import Host, Lab

    lab: Lab | None = None
    host: Host | None = None
    for line in sys.stdin:
        command = json.loads(line)
        if "fresh" in command:
            if lab is not None:
                lab.close()
            lab = Lab()
            host = lab.add_server("wsus01", os="Windows Server 2008", arch="x64", wsus="3.0 SP1")
            host.latency = command["fresh"]
            host.install_seconds = 0.0
            _answer_questions(host)
            answer: dict[str, object] = {"connection": host.connection}
        else:
            assert host is not None
            answer = {"requests": host.request_count, "received": host.bytes_received}
        print(json.dumps(answer), flush=True)
    if lab is not None:
        lab.close()


def _answer_questions(host: Any) -> None:
    """Let the server answer the small questions, too; the lab itself runs no PowerShell and would refuse them."""
    of_lab = host.run

    def run(call: Any, output: Any) -> None:
        text = str(call.parameters.get("Command", "")) if call.script == "Invoke-Expression" else ""
        if text in QUESTIONS:
            output.write(QUESTIONS[text])
        else:
            of_lab(call, output)

    host.run = run


if __name__ == "__main__":
    _serve()
