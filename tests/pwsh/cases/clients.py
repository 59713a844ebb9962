"""Cases of what is asked of a client: how its update agent is set, and the job that asks the agent."""

from __future__ import annotations

from typing import Any

from tests.pwsh.cases.stage import Stage, case
from wsusfix import advisory
from wsusfix.agent import probe_parameters
from wsusfix.lab import Host
from wsusfix.lab.behaviours import BEHAVIOURS
from wsusfix.lab.filesystem import CLOSED, Failure
from wsusfix.lab.windows import SimulatedWindows

ASKING = {"program": advisory.CLIENT_PROGRAM, "arguments": advisory.CLIENT_DETECT_NOW, "seconds": 20}


def set_to(stage: Stage, client: Host) -> dict[str, Any]:
    """Ask PowerShell, and the lab itself; they say the same."""
    answer = stage.ask(client, "client", **probe_parameters())
    told = BEHAVIOURS["client"](client.session(), probe_parameters(), iter(()))
    assert {**answer, "clock": ""} == {**told, "clock": ""}
    return answer


def asked(stage: Stage, client: Host, windows: SimulatedWindows | None = None, **changed: Any) -> dict[str, str]:
    """Run the job to its end; its last state."""
    client.files.make_folder(client.staging_path, CLOSED)
    return stage.work(client, "detect_now", {**ASKING, **changed}, windows=windows)


@case("client", "a client of a server, with Office 2003")
def _(stage: Stage) -> dict[str, Any]:
    server = stage.server()
    answer = set_to(stage, stage.lab.add_client("pc01", server=server, os="Windows Vista", arch="x64"))
    assert (answer["server"], answer["uses_server"], answer["office"]) == (f"http://{server.name}", "1", True)
    assert (answer["disabled"], answer["policy_options"], answer["own_options"]) == ("0", "", "")
    assert answer["service"] == "running"
    return answer


@case("client", "no policy, no Office, updates turned off by hand")
def _(stage: Stage) -> dict[str, Any]:
    client = stage.lab.add_client("pc01", office_2003=False)
    client.machine.registry.remove(advisory.CLIENT_AUTOMATIC_KEY)
    client.machine.registry.set(advisory.CLIENT_OWN_KEY, AUOptions=1)
    del client.services[advisory.CLIENT_SERVICE]
    answer = set_to(stage, client)
    assert [answer[key] for key in ("server", "uses_server", "disabled", "policy_options")] == [""] * 4
    assert (answer["own_options"], answer["service"], answer["office"]) == ("1", "", False)
    return answer


@case("detect_now", "the agent is asked", "done")
def _(stage: Stage) -> dict[str, Any]:
    server = stage.server()
    client = stage.lab.add_client("pc01", server=server)
    before = client.files.length(f"C:\\WINDOWS\\{advisory.CLIENT_LOG}") or 0
    last = asked(stage, client)
    assert (last["phases"], last["exit_code"]) == ("started launching finished", "0")
    assert (client.files.length(f"C:\\WINDOWS\\{advisory.CLIENT_LOG}") or 0) > before
    return last


@case("detect_now", "no agent's program", "not_launched")
def _(stage: Stage) -> dict[str, Any]:
    client = stage.lab.add_client("pc01", culture="nb-NO")
    client.files.remove_file(f"C:\\WINDOWS\\System32\\{advisory.CLIENT_PROGRAM}")
    last = asked(stage, client)
    assert "Finner ikke filen" in last["detail"]
    return last


@case("detect_now", "parameters that cannot be read", "broken")
def _(stage: Stage) -> dict[str, Any]:
    client = stage.lab.add_client("pc01")

    class Unreadable(SimulatedWindows):
        def read_parameters(self, path: str) -> dict[str, Any]:
            raise self.machine.messages.error(Failure.NO_FILE, path)

    last = asked(stage, client, Unreadable(client.machine, client.session().process))
    assert last["detail"] != ""
    return last


@case("detect_now", "a second start finds the token gone")
def _(stage: Stage) -> dict[str, Any]:
    client = stage.lab.add_client("pc01")
    first = asked(stage, client)
    again = stage.shell.work(client, f"{client.staging_path}\\jobs\\a\\job.ps1", kind="detect_now")
    assert (again.state, again.errors, again.output) == ("Completed", [], [])
    assert first["phases"] == "started launching finished"
    assert len(client.session().get_folder_entries(f"{client.staging_path}\\jobs\\a\\state")) == 3
    return {}
