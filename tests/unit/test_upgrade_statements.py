"""What no simulated server can show of an upgrade: what SQL Server is told to do, and who may write backups."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests import builders
from wsusfix import scripts
from wsusfix.apply.working import Site
from wsusfix.errors import RefusedByServerError
from wsusfix.events import ignore
from wsusfix.options import Timeouts
from wsusfix.surroundings import record_parameters

PRIMITIVES = scripts.functions_of(scripts.source("windows"))


def strings_of(function: str) -> list[str]:
    return re.findall(r"'((?:[^']|'')*)'", PRIMITIVES[function])


def test_a_backup_leaves_the_chain_of_other_backups_alone_and_has_checksums() -> None:
    """Source: BACKUP in SQL Server's reference; without COPY_ONLY a differential backup would rest on this one."""
    statement = "BACKUP DATABASE @database TO DISK = @path WITH COPY_ONLY, CHECKSUM"
    assert [text for text in strings_of("Save-Database") if " " in text] == [statement]
    assert "Invoke-DatabaseCommand $connection $text $values $Seconds" in PRIMITIVES["Save-Database"]


def test_a_backup_is_read_back_with_its_checksums() -> None:
    statement = "RESTORE VERIFYONLY FROM DISK = @path WITH CHECKSUM"
    assert [text for text in strings_of("Test-DatabaseBackup") if " " in text] == [statement]
    assert "Invoke-DatabaseCommand $connection $text @{ path = $Path } $Seconds" in PRIMITIVES["Test-DatabaseBackup"]


def test_only_system_administrators_and_the_accounts_own_sid_may_write_where_a_backup_goes() -> None:
    body = PRIMITIVES["New-SharedFolder"]
    # SYSTEM and Administrators by their well-known SIDs, and whoever is named, who may not change the rights.
    assert re.findall(r"'(S-1-[0-9-]+)'", body) == ["S-1-5-18", "S-1-5-32-544", "S-1-5-32-544"]
    assert re.findall(r"\$rights\[([^\]]+)\] = '(\w+)'", body) == [("$Sid", "Modify")]
    assert re.findall(r"'(\w+Control|Modify|Write)'", body) == ["FullControl", "FullControl", "Modify"]
    # Nothing of the rights above is inherited.
    assert "$security.SetAccessRuleProtection($true, $false)" in body


class Answering:
    """A session on a server where somebody else's job of another kind is at work."""

    host = "wsus01"

    def run(self, script: scripts.Script, *_: Any, **__: Any) -> dict[str, Any]:
        assert script.name == "start_job"
        return {"refused": "", "detail": "", "job_id": "abc", "job_kind": "install_update", "joined": True}


def test_a_job_of_another_kind_is_not_taken_for_the_one_that_starts_services() -> None:
    site: Any = Site(builders.plan(), Answering(), builders.facts, Timeouts(), ignore, builders.around)  # type: ignore[arg-type]
    parameters = {"services": "", "sites": "", "idle_sites": "", "record": "", "ran": "", "restart": False}
    parameters |= {**record_parameters(), "stop_seconds": 1, "event_source": "x", "audit": "x"}
    parameters |= {"rename_key": "x", "rename_value": "x"}
    with pytest.raises(RefusedByServerError, match=r"of another kind is at work .*abc \(install_update\)"):
        site.run_job("start_services", parameters, builders.facts())
