"""From facts and findings to a diagnosis: is the server exposed, was the fault observed, and why do we say so.

Pure functions over frozen data; nothing here knows a network.  *Unknown is never safe*: what the facts do not prove is
``unknown``, and a fact that is only recalled needs a second witness before a server is called safe.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from wsusfix import advisory
from wsusfix.advisory import InstallType, Product
from wsusfix.facts import DatabasePlace, HostFacts, WsusInstallation
from wsusfix.logs.machine import MachineLogs
from wsusfix.present import Presentable, printable, rows
from wsusfix.scripts.contracts import UPGRADE, ResetState, UpgradeState

__all__ = ["Diagnosis", "Evidence", "Observed", "Verdict", "diagnose", "removal", "way_back"]


class Verdict(str, enum.Enum):
    """What a server is, with regard to advisory 954960; a text as well, as in ``verdict == "fixed"``.

    ``NOT_A_SERVER``: no WSUS, or its console only.
    ``NOT_AFFECTED``: WSUS 2.0, 3.0 SP2, and all later ones, which never had the fault.
    ``EXPOSED_RTM``: WSUS 3.0 without a service pack; it stays so when it is worked around.
    ``EXPOSED_SP1``: WSUS 3.0 SP1 without KB954960.
    ``FIXED``: WSUS 3.0 SP1 with KB954960.
    ``UNKNOWN``: anything else, and what does not go together; never to be taken for safe.

    >>> server.diagnose(logs=False).verdict is wsusfix.Verdict.EXPOSED_SP1
    True

    Sources: advisory 954960 (who is affected) and KB954960 (file information).
    """

    NOT_A_SERVER = "not_a_server"
    NOT_AFFECTED = "not_affected"
    EXPOSED_RTM = "exposed_rtm"
    EXPOSED_SP1 = "exposed_sp1"
    FIXED = "fixed"
    UNKNOWN = "unknown"


class Observed(str, enum.Enum):
    """Whether the server's logs show the fault; ``UNKNOWN`` unless all of them were read."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, repr=False)
class Evidence(Presentable):
    """One thing the verdict rests on: what it is, what was found, and which text makes it matter."""

    what: str
    found: str
    source: str

    def _summary(self) -> str:
        return f"{self.what} = {self.found}"

    def __str__(self) -> str:
        return f"{self.what} = {self.found} [{self.source}]"


@dataclass(frozen=True, repr=False)
class Diagnosis(Presentable):
    """A verdict with its reasons; ``exposed`` (the product has the fault) and ``observed`` (logs show it) differ.

    >>> diagnosis = server.diagnose()
    >>> diagnosis.exposed, diagnosis.why
    (True, 'WSUS 3.0 SP1 without KB954960: the DLL is 3.1.6001.65, fixed from 3.1.6001.66 on')

    ``exposed`` is ``None`` when it is unknown.  ``observed_why`` says what the logs show, or why they say nothing;
    ``logs`` is what was read of them, ``None`` where nobody looked.  ``worked_around`` says whether the approvals are
    known to have been reset, and ``workaround`` why; an exposed server stays exposed all the same.  ``notes`` are
    things that matter for what is done next: neighbours, a shared database, a restart that waits, a job that runs.
    """

    host: str
    verdict: Verdict
    observed: Observed
    observed_why: str
    why: str
    evidence: tuple[Evidence, ...]
    notes: tuple[str, ...]
    facts: HostFacts
    logs: MachineLogs | None = None
    worked_around: bool | None = None
    workaround: str = ""

    @property
    def exposed(self) -> bool | None:
        """Whether the installed product has the fault; ``None`` when that is unknown."""
        match self.verdict:
            case Verdict.EXPOSED_RTM | Verdict.EXPOSED_SP1:
                return True
            case Verdict.NOT_A_SERVER | Verdict.NOT_AFFECTED | Verdict.FIXED:
                return False
            case Verdict.UNKNOWN:
                return None

    def _extra(self) -> Mapping[str, object]:
        return {"exposed": self.exposed}

    def _summary(self) -> str:
        return f"{self.host}: {self.verdict.value}, observed {self.observed.value}"

    def __str__(self) -> str:
        words = {True: "yes", False: "no", None: "unknown"}
        exposed = words[self.exposed]
        return f"{self.host}: {self.verdict.value}\n" + rows(
            [
                ("why", self.why),
                ("exposed", exposed),
                ("worked around", f"{words[self.worked_around]}: {self.workaround}" if self.workaround else ""),
                ("observed", f"{self.observed.value} ({self.observed_why})"),
                ("system", self.facts.os),
                ("WSUS", self.facts.wsus),
                *(("evidence", item) for item in self.evidence),
                *(("note", note) for note in self.notes),
            ]
        )


def diagnose(facts: HostFacts, logs: MachineLogs | None = None) -> Diagnosis:
    """Decide what a server is, from its facts, and whether the fault was observed, from its logs.

    Sources: the table "who is affected" of advisory 954960 and the file information of KB954960.
    """
    verdict, why, evidence = _judge(facts)
    observed, observed_why = _observe(logs)
    exposed = verdict in (Verdict.EXPOSED_RTM, Verdict.EXPOSED_SP1)
    worked_around, workaround = _workaround(facts) if exposed else (None, "")
    return Diagnosis(
        host=facts.host,
        verdict=verdict,
        observed=observed,
        observed_why=observed_why,
        why=why,
        evidence=evidence,
        notes=_notes(facts, verdict),
        facts=facts,
        logs=logs,
        worked_around=worked_around,
        workaround=workaround,
    )


def _observe(logs: MachineLogs | None) -> tuple[Observed, str]:
    """Say whether the logs show the fault, and why; only logs that were read whole say that it was not."""
    if logs is None:
        return Observed.UNKNOWN, "logs not read"
    found = logs.correlation
    if found.calls:
        missed = "" if logs.complete else " at least"
        calls = "1 failed call" if found.calls == 1 else f"{found.calls} failed calls"
        last = f", last at {found.until:%Y-%m-%d %H:%M:%S} UTC" if found.until else ""
        return Observed.YES, f"{calls}{missed}{last}"
    if not logs.complete:
        return Observed.UNKNOWN, logs.unread[0] if logs.unread else "there is no log"
    if found.inconclusive:
        return Observed.UNKNOWN, f"{found.inconclusive} findings are inconclusive, none is proof"
    if logs.begins is None or logs.ends is None:
        return Observed.UNKNOWN, "the logs say nothing yet"
    return Observed.NO, f"no such call from {logs.begins:%Y-%m-%d %H:%M} to {logs.ends:%Y-%m-%d %H:%M} UTC"


_Judgement = tuple[Verdict, str, tuple[Evidence, ...]]


def _judge(facts: HostFacts) -> _Judgement:
    wsus = facts.wsus
    if not wsus.present:
        return _without_setup_key(facts)
    installed = Evidence("InstallType", wsus.install_type_raw or "absent", "product, Setup key")
    version = Evidence("VersionString", wsus.version_raw or "absent", "product, Setup key")
    match wsus.install_type:
        case None:
            return (
                Verdict.UNKNOWN,
                f"WSUS has a Setup key, but its InstallType ({wsus.install_type_raw or 'absent'}) is none we know",
                (installed, version),
            )
        case InstallType.CONSOLE if facts.removed:
            return _removed(facts, installed)
        case InstallType.CONSOLE:
            return (
                Verdict.NOT_A_SERVER,
                "only the WSUS administration console is installed: there is nothing to patch",
                (installed, version),
            )
        case InstallType.FRONT_END_2 | InstallType.BACK_END_2 | InstallType.FULL_2:
            return _generation_2(wsus, (installed, version))
        case InstallType.SERVER_3:
            return _generation_3(facts, (installed, version))


def _without_setup_key(facts: HostFacts) -> _Judgement:
    wsus = facts.wsus
    key = Evidence("Setup key", "absent", "product")
    if facts.removed:
        return _removed(facts, key)
    if wsus.wsus2_product:
        product = Evidence("MSI product", advisory.WSUS_2_PRODUCT, "product")
        return Verdict.NOT_AFFECTED, "WSUS 2.0 is installed, which does not have the fault", (key, product)
    if advisory.WSUS_SERVICE in wsus.services:
        service = Evidence(f"service {advisory.WSUS_SERVICE}", wsus.services[advisory.WSUS_SERVICE], "product")
        return (
            Verdict.UNKNOWN,
            "the service of WSUS is there without its Setup key: a damaged installation?",
            (key, service),
        )
    if facts.job is not None and facts.job.kind == UPGRADE.name and not _seen_after(facts):
        job = Evidence("job of wsusfix", str(facts.job), "what it left on the server")
        return (
            Verdict.UNKNOWN,
            "WSUS is not installed, and an upgrade of it was begun here: its setup has removed it, or is at work",
            (key, job),
        )
    if facts.reset is ResetState.REFUSED:
        kept = Evidence("what is kept here", "cannot be read", "what wsusfix left on the server")
        return (
            Verdict.UNKNOWN,
            "WSUS is not installed, and what wsusfix keeps here cannot be read: has an upgrade removed it?",
            (key, kept),
        )
    return Verdict.NOT_A_SERVER, "WSUS is not installed", (key,)


def _seen_after(facts: HostFacts) -> bool:
    """Whether WSUS was there at the end of the upgrade whose job has left something: who removed it did so later."""
    record, job = facts.upgrade, facts.job
    ours = record is not None and job is not None and not job.active and record.job_id == job.job_id
    return ours and record is not None and (record.ended is not None or record.state is UpgradeState.SETTLED)


def _removed(facts: HostFacts, evidence: Evidence) -> _Judgement:
    record = Evidence("upgrade of WSUS", str(facts.upgrade), "what its job wrote down")
    return (
        Verdict.UNKNOWN,
        f"there is no WSUS server, and an upgrade of it was begun here: its setup has removed it; {_backup(facts)}",
        (evidence, record),
    )


def removal(facts: HostFacts) -> tuple[str, str]:
    """Say that setup has removed WSUS, with its backup, and what to do: for whoever did not see it happen."""
    record = facts.upgrade
    began = f", begun at {record.time}" if record is not None else ""
    return (
        f"WSUS WAS REMOVED by its setup, in an upgrade{began}; {_backup(facts)}",
        way_back(record.version if record is not None else "", backed_up=record is not None and bool(record.backup)),
    )


def way_back(version: str, *, backed_up: bool) -> str:
    """Say what to do where setup has removed WSUS.

    Args:
        version: that WSUS had before.
        backed_up: whether a backup of its database was made.
    """
    restore = (
        f", then {advisory.RESTORE}" if backed_up else ", and restore its database if you have a backup of your own"
    )
    again = f"install WSUS {version or 'in the version it had'} again{restore}; then run again"
    return f"{again}; or, if WSUS is not to come back, say removal_meant"


def _backup(facts: HostFacts) -> str:
    record = facts.upgrade
    return f"the backup is {record.backup}" if record is not None and record.backup else "no backup was made"


def _generation_2(wsus: WsusInstallation, evidence: tuple[Evidence, ...]) -> _Judgement:
    if wsus.version_raw and wsus.product is not Product.WSUS_2:
        return (
            Verdict.UNKNOWN,
            f"InstallType says WSUS 2.0, but VersionString says {wsus.version_raw}: the two contradict each other",
            evidence,
        )
    return (
        Verdict.NOT_AFFECTED,
        "WSUS 2.0 does not have the fault",
        (*evidence, Evidence("affected products", "WSUS 2.0 is none", advisory.SOURCE_ADVISORY)),
    )


def _generation_3(facts: HostFacts, evidence: tuple[Evidence, ...]) -> _Judgement:
    wsus = facts.wsus
    dll = Evidence("file version of the proof DLL", _dll_text(wsus), advisory.SOURCE_KB)
    match wsus.product:
        case None:
            shown = wsus.version_raw or "no VersionString"
            return Verdict.UNKNOWN, f"a WSUS build nobody here knows ({shown}): unknown is never safe", evidence
        case Product.WSUS_2:
            return (
                Verdict.UNKNOWN,
                f"VersionString says WSUS 2.0 ({wsus.version_raw}), but InstallType says 3.0: a contradiction",
                evidence,
            )
        case Product.RTM:
            return (
                Verdict.EXPOSED_RTM,
                "WSUS 3.0 without a service pack has the fault, and KB954960 does not fix it",
                (*evidence, dll),
            )
        case Product.SP1:
            return _service_pack_1(wsus, (*evidence, dll))
        case Product.SP2:
            if wsus.dll_version is not None and wsus.dll_version < advisory.SP2_DLL:
                return (
                    Verdict.UNKNOWN,
                    f"VersionString says SP2, but the DLL is {wsus.dll_version}, older than SP2's: half upgraded?",
                    (*evidence, dll),
                )
            return Verdict.NOT_AFFECTED, "WSUS 3.0 SP2 carries the fix", (*evidence, dll)
        case Product.LATER:
            if facts.os.version < advisory.FIRST_OS_WITH_WSUS_INSIDE:
                return (
                    Verdict.UNKNOWN,
                    f"VersionString {wsus.version_raw} is of Windows Server 2012 or later, but this is {facts.os.name}",
                    evidence,
                )
            return Verdict.NOT_AFFECTED, "the WSUS of Windows Server 2012 and later carries the fix", evidence


def _service_pack_1(wsus: WsusInstallation, evidence: tuple[Evidence, ...]) -> _Judgement:
    if wsus.dll_version is None:
        missing = "has no file version" if wsus.dll_present else "is not where it should be"
        return Verdict.UNKNOWN, f"WSUS 3.0 SP1, but the DLL that would prove the fix {missing}", evidence
    if wsus.dll_version >= advisory.FIXED_DLL:
        return Verdict.FIXED, f"WSUS 3.0 SP1 with KB954960: the DLL is {wsus.dll_version}", evidence
    return (
        Verdict.EXPOSED_SP1,
        f"WSUS 3.0 SP1 without KB954960: the DLL is {wsus.dll_version}, fixed from {advisory.FIXED_DLL} on",
        evidence,
    )


def _workaround(facts: HostFacts) -> tuple[bool | None, str]:
    """Say whether the approvals are known to have been reset, and why.

    An untreated server looks the same, declined and without approvals: only the marker that the job wrote proves it.
    """
    approvals = facts.approvals
    if approvals is None:
        return None, ""
    if facts.resetting:
        return False, "a reset of approvals is at work"
    if approvals.reset is ResetState.OPEN:
        return False, "a reset of approvals was cut off, and the server may be switched still"
    if approvals.trouble:
        return None, f"WSUS could not be asked: {approvals.trouble}"
    marker = approvals.marker
    if marker is not None and approvals.reset is ResetState.NONE:
        return None, f"the marker is of {marker.time}, and a reset that was begun later did not come to its end"
    if marker is None or approvals.reset is not ResetState.MARKED:
        elsewhere = "; it would lie on the front end that it was made from" if len(approvals.front_ends) > 1 else ""
        return None, f"no marker says that the approvals were reset{elsewhere}"
    wanted = {*marker.updates, *(update.id for update in approvals.updates if update.named)}
    for update_id in sorted(wanted):
        update = approvals.update(update_id)
        if update is None:
            return None, f"the update {update_id} that was reset is not there any more"
        if marker.updates.get(update_id) != update.revision:
            return None, f"{update.title}: revision {update.revision} has not been reset"
        if not update.declined or update.approvals:
            return False, f"{update.title}: approved again since the reset"
    if approvals.cut:
        return None, f"what was reset at {marker.time} is so still, but there are more updates than can be looked at"
    return True, f"the approvals were reset at {marker.time}; the fault is still in the product"


def _dll_text(wsus: WsusInstallation) -> str:
    if wsus.dll_version is not None:
        return str(wsus.dll_version)
    return "none" if wsus.dll_present else "no such file"


def _notes(facts: HostFacts, verdict: Verdict) -> tuple[str, ...]:
    notes: list[str] = []
    wsus = facts.wsus
    serves = verdict not in (Verdict.NOT_A_SERVER, Verdict.NOT_AFFECTED)
    for neighbour in facts.neighbours:
        name = advisory.NEIGHBOUR_NAMES[neighbour]
        notes.append(f"{name} stands on this WSUS" + (" and is affected through it" if serves else ""))
    if facts.os.small_business:
        notes.append("Small Business Server: it came with WSUS 2.0; what counts is the WSUS found here")
    if serves and wsus.front_ends is not None and len(wsus.front_ends) > 1:
        names = ", ".join(printable(name, 80) for name in wsus.front_ends)
        notes.append(f"several front ends share the database ({names}): {advisory.FRONT_ENDS_TEXT}")
    elif serves and wsus.database is not None and wsus.database.place is DatabasePlace.REMOTE:
        notes.append(f"the database is on another server ({wsus.database.server}): {advisory.FRONT_ENDS_TEXT}")
    stopped = [name for name in advisory.SERVICES if wsus.services.get(name) != "running"]
    if serves and stopped:
        notes.append("not running: " + ", ".join(stopped))
    if facts.restart.concerns(wsus.dll_path):
        notes.append("the DLL is to be replaced at the next restart")
    if facts.cut_off:
        notes.append("a reset of approvals was cut off: the server may be switched still; the next run puts it back")
    if facts.removed:
        notes.append(removal(facts)[1])
    if facts.restarted_unseen and facts.ran is not None:
        notes.append(f"nobody has seen run again what ran before a restart ({facts.ran.names}); the next run starts it")
    if facts.standing_still and facts.upgrade is not None:
        notes.append(f"an upgrade has left stopped what ran before ({facts.upgrade.names}); the next run starts it")
    if facts.job is not None and facts.job.active:
        notes.append(f"a job of wsusfix is at work: {facts.job}")
    return tuple(notes)
