"""A process that speaks the engine's line protocol without being one: scripts in it do what a table here says.

It stands in for PowerShell where the bridge, the switchboard and the plug-in are tested; it executes nothing.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import sys
import uuid
import xml.etree.ElementTree as ET
from typing import Any

from psrpcore import (
    CreatePipelineEvent,
    EndOfPipelineInputEvent,
    PipelineInputEvent,
    PSRPPayload,
    ServerPipeline,
    ServerRunspacePool,
    StreamType,
)
from psrpcore.types import ErrorCategoryInfo, ErrorRecord, NETException, PSInvocationState

SHELL = uuid.UUID(int=0)


class Simulation:
    """Asks the switchboard, as the primitives do."""

    def __init__(self, text: str) -> None:
        port, token, self.script = re.findall(r"port = (\d+); token = '([^']*)'; .*script = '([^']*)'", text)[0]
        self._socket = socket.create_connection(("127.0.0.1", int(port)))
        self._reader = self._socket.makefile("rb")
        self._socket.sendall(token.encode() + b"\n")

    def ask(self, name: str, **given: Any) -> Any:
        self._socket.sendall(json.dumps({"ask": name, "with": given}).encode() + b"\n")
        line = self._reader.readline()
        return json.loads(line) if line else None


def say(kind: str, identity: uuid.UUID, data: bytes | None = None) -> None:
    text = "" if data is None else base64.b64encode(data).decode()
    stream = " Stream='Default'" if data is not None else ""
    print(f"<{kind}{stream} PSGuid='{identity}'>{text}</{kind}>", flush=True)


class Server:
    """A runspace pool on the standard streams."""

    def __init__(self) -> None:
        self.pool = ServerRunspacePool()
        self.pipelines: dict[uuid.UUID, ServerPipeline] = {}
        self.pieces: list[bytes] = []

    def serve(self) -> None:
        print("some words that are no part of it", flush=True)
        for line in sys.stdin:
            element = ET.fromstring(line)
            identity = uuid.UUID(element.get("PSGuid"))
            if element.tag == "Data":
                data = base64.b64decode(element.text or "")
                say("DataAck", identity)
                self.pool.receive_data(PSRPPayload(data, StreamType.default, identity))
                while (event := self.pool.next_event()) is not None:
                    self.react(event)
            elif element.tag == "Command":
                self.pipelines[identity] = ServerPipeline(self.pool, identity)
                say("CommandAck", identity)
            elif element.tag == "Signal":
                self.end(identity, PSInvocationState.Stopped)
                say("SignalAck", identity)
            elif element.tag == "Close":
                say("CloseAck", identity)
            self.flush()

    def flush(self) -> None:
        while (payload := self.pool.data_to_send()) is not None:
            say("Data", payload.pipeline_id or SHELL, bytes(payload.data))

    def react(self, event: object) -> None:
        if isinstance(event, CreatePipelineEvent):
            self.pipelines[event.pipeline_id].start()
            text = str(event.pipeline.commands[0].command_text)
            if event.pipeline.no_input:
                self.work(event.pipeline_id, text)
        elif isinstance(event, PipelineInputEvent):
            self.pieces.append(bytes(event.data))
        elif isinstance(event, EndOfPipelineInputEvent):
            self.give(event.pipeline_id, {"received": b"".join(self.pieces)})

    def work(self, identity: uuid.UUID, text: str) -> None:
        name = text.partition("\n")[0].rpartition(" ")[2]
        if not text.startswith("# wsusfix script"):
            message = re.findall(r"::new\('((?:[^']|'')*)'", text)[0].replace("''", "'")
            self.end(identity, PSInvocationState.Failed, message)
        elif name == "cleanup":
            print("too long, and then never", file=sys.stderr, flush=True)
            sys.exit(3)
        elif name != "assemble":  # which never ends by itself
            asked = Simulation(text)
            answers = {
                "script": name,
                "name": asked.ask("get_computer_name")["answer"],
                "failure": asked.ask("read_parameters", path="C:\\none")["failure"]["exception"],
                "defect": "failure" in asked.ask("no_such_thing"),
            }
            self.give(identity, answers)

    def give(self, identity: uuid.UUID, answer: dict[str, object]) -> None:
        self.pipelines[identity].write_output(answer)
        self.end(identity, PSInvocationState.Completed)

    def end(self, identity: uuid.UUID, state: PSInvocationState, message: str = "stopped") -> None:
        pipeline = self.pipelines[identity]
        if pipeline.state == PSInvocationState.Running:
            error = None
            if state != PSInvocationState.Completed:
                error = ErrorRecord(Exception=NETException(Message=message), CategoryInfo=ErrorCategoryInfo())
                error.PSObject.to_string = message
            pipeline._change_state(state, error)
            self.flush()


def job(path: str) -> int:
    """A job that writes its first state, waits for a file, and ends."""
    with open(path, encoding="utf-8-sig") as file:
        asked = Simulation(file.read())
    folder = asked.script.rpartition("\\")[0]
    own = asked.ask("get_own_process")["answer"]
    text = f"phase=started\npid={own['pid']}\ncreated={own['created']}\nend\n"
    if asked.ask("add_text_file", path=f"{folder}\\state\\00001.txt", text=text) is None:
        return 9
    lock = asked.ask("lock_file", path=f"{folder}\\job.ps1")["answer"]
    while not (asked.ask("test_file", path="C:\\go") or {"answer": True})["answer"]:
        asked.ask("wait_seconds", seconds=0.02)
    asked.ask("unlock_file", handle=lock)
    asked.ask("add_binary_file", path="C:\\done", bytes={"base64": base64.b64encode(b"\x00\xff").decode()})
    return 7


if __name__ == "__main__":
    if "-File" in sys.argv:
        sys.exit(job(sys.argv[-1]))
    Server().serve()
