"""Every case of every script's contract, told as how a simulated server comes into it and what is asked there.

One module holds the cases of a family of scripts; loading it adds them to the one list.
"""

from __future__ import annotations

from tests.pwsh.cases import clients, facts, install, jobs, logs, reset, staging, upgrade
from tests.pwsh.cases.stage import CASES, DATA, Case, Stage

__all__ = ["CASES", "DATA", "FAMILIES", "Case", "Stage"]

#: The modules that add the cases.
FAMILIES = (facts, logs, clients, staging, jobs, install, upgrade, reset)
