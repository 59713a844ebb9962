"""The proof: facts (and those from before) in, a verification out.

Pure functions; the DLL's file version decides, whatever an installer's exit code said (KB954960, file information).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Final

from packaging.version import Version

from wsusfix import advisory
from wsusfix.advisory import InstallType, Product
from wsusfix.agent import same_server
from wsusfix.diagnosis import Diagnosis, Verdict, diagnose
from wsusfix.facts import Approvals, HostFacts
from wsusfix.logs.machine import MachineLogs
from wsusfix.present import printable
from wsusfix.results import Canary, CanaryState, Check, Verification
from wsusfix.scripts.contracts import INSTALL_UPDATE, ResetState

__all__ = ["ABSENT", "SERVICE_CHECK", "verify"]

#: What a check finds of a service that is not there.
ABSENT: Final = "absent"
#: How the names of checks of services begin.
SERVICE_CHECK: Final = "service "
#: HTTP says so that all is well.
_ANSWERED: Final = "200"


def verify(
    after: HostFacts,
    before: HostFacts | None = None,
    *,
    logs: MachineLogs | None = None,
    since: datetime | None = None,
    canary: Canary | None = None,
) -> Verification:
    """Tell whether a server is without the fault.

    Args:
        after: the facts now.
        before: the facts before a change; a service that ran then must run now.
        logs: the server's logs now, for what they say of the time since the change.
        since: when the change was made; a client that was asked before says nothing.
        canary: what a client says of the server.
    """
    diagnosis = diagnose(after)
    verdict = diagnosis.verdict
    half = verdict is Verdict.UNKNOWN and after.wsus.product is Product.SP2
    waiting = (verdict is Verdict.EXPOSED_SP1 or half) and after.restart.concerns(after.wsus.dll_path)
    asked = after.restart_asked
    around = diagnosis.worked_around is True
    why = f"{diagnosis.why}; the fault is worked around, and still in the product" if around else diagnosis.why
    # A workaround makes no product without the fault; it makes one that does no harm.
    checks = [
        Check(
            "without the fault",
            not _faulty(verdict),
            why,
            "a product or patch level without the fault",
            decides=not around,
        )
    ]
    required = _required(verdict)
    if required is not None:
        checks.append(_dll(after, required, decides=not around))
    if _faulty(verdict) and after.approvals is not None:
        checks += _reset(diagnosis, after, after.approvals)
    elif after.reset is ResetState.OPEN and advisory.WSUS_SERVICE in after.wsus.services:
        # The product is without the fault, and the server is not as it was.
        checks.append(_way_back(after))
    if waiting:
        checks.append(Check("restart", False, "the new DLL waits for a restart", "the server restarted"))
    elif asked:
        found = "WSUS setup has asked for a restart, and there was none since"
        checks.append(Check("restart", False, found, "the server restarted"))
    if after.standing_still and after.upgrade is not None:
        found = f"not all was started again of {printable(after.upgrade.names)}"
        checks.append(Check("what an upgrade had stopped", False, found, "it runs again"))
    if after.restarted_unseen and after.ran is not None:
        found = f"nobody has seen all run again of {printable(after.ran.names)}"
        checks.append(Check("what ran before a restart", False, found, "it runs again"))
    if after.job is not None and after.job.active:
        # What it has reached already says nothing of its end.
        # One that waits for its maintenance window has changed nothing.
        waits = after.job.waits_for_window
        checks.append(Check("no job at work", False, str(after.job), "it has ended", decides=not waits))
    if before is not None and _serves(before) and not _serves(after):
        checks.append(Check("WSUS is there", False, str(after.wsus), f"{before.wsus}, or a later one"))
    if verdict not in (Verdict.NOT_A_SERVER, Verdict.NOT_AFFECTED) or (
        before is not None and _faulty(diagnose(before).verdict)
    ):
        needed = around or _ran_is_unknown(after, before)
        checks += [_service(name, after, before, needed=needed) for name in advisory.SERVICES]
    if logs is not None and since is not None:
        checks.append(_logs(logs, since))
    if canary is not None:
        checks.append(_canary(canary, after, since))
    return Verification(
        host=after.host,
        ok=all(check.ok for check in checks if check.decides),
        verdict=verdict.value,
        found=after.wsus.dll_version,
        required=required,
        restart_pending=waiting or asked,
        checks=tuple(checks),
        worked_around=diagnosis.worked_around,
    )


def _serves(facts: HostFacts) -> bool:
    """Whether there is a WSUS server of generation 3."""
    return facts.wsus.present and facts.wsus.install_type is InstallType.SERVER_3


def _faulty(verdict: Verdict) -> bool:
    match verdict:
        case Verdict.NOT_A_SERVER | Verdict.NOT_AFFECTED | Verdict.FIXED:
            return False
        case Verdict.EXPOSED_RTM | Verdict.EXPOSED_SP1 | Verdict.UNKNOWN:
            return True


def _required(verdict: Verdict) -> Version | None:
    match verdict:
        case Verdict.EXPOSED_SP1 | Verdict.FIXED | Verdict.UNKNOWN:
            return advisory.FIXED_DLL
        # RTM has no such DLL to come to: the update does not fix it.
        case Verdict.EXPOSED_RTM | Verdict.NOT_A_SERVER | Verdict.NOT_AFFECTED:
            return None


def _reset(diagnosis: Diagnosis, facts: HostFacts, approvals: Approvals) -> Iterator[Check]:
    """Yield what proves that the approvals were reset, and that nothing was left switched."""
    wanted = "the marker of a reset, for the revisions of today, all declined without approvals"
    yield Check("reset of the approvals", diagnosis.worked_around is True, diagnosis.workaround, wanted)
    yield _way_back(facts)
    if approvals.trouble:
        return
    marker = approvals.marker
    if marker is not None:
        yield Check("replica", approvals.replica == marker.replica, _yes(approvals.replica), _yes(marker.replica))
        yield Check(
            "synchronises by its timetable",
            approvals.automatic == marker.automatic,
            _yes(approvals.automatic),
            _yes(marker.automatic),
        )
    around = diagnosis.worked_around is True
    if approvals.web_service or around:
        # Where the server does not tell its port, nobody asked: that it serves is unknown then.
        found = approvals.web_service or "not asked"
        yield Check("ClientWebService", found == _ANSWERED, found, _ANSWERED, decides=around)


def _way_back(facts: HostFacts) -> Check:
    found = "a reset is at work" if facts.resetting else "cut off"
    gone = facts.reset is not ResetState.OPEN
    return Check("way back of earlier resets", gone, "gone to its end" if gone else found, "gone to its end")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _dll(facts: HostFacts, required: Version, *, decides: bool) -> Check:
    found = facts.wsus.dll_version
    return Check(
        "file version of the proof DLL",
        found is not None and found >= required,
        str(found) if found is not None else "none found",
        f"{required} or higher",
        decides=decides,
    )


def _logs(logs: MachineLogs, since: datetime) -> Check:
    """Check that no call failed since the change; only one that did decides: a silent log proves nothing."""
    none = logs.none_since(since)
    return Check(
        "the server's log", none is True, logs.since_text(since), "no failed call since", decides=none is False
    )


def _canary(canary: Canary, facts: HostFacts, since: datetime | None) -> Check:
    """Check what a client says; only the symptom itself speaks against a server.

    A client of another server, and one that was asked before the change, say nothing, for or against.
    """
    ours = any(same_server(canary.server, name) for name in (facts.host, facts.computer_name))
    early = since is not None and canary.asked_before(since)
    if not ours:
        found = f"it gets its updates from another server: {printable(canary.server, 200) or 'none'}"
    elif early and since is not None:
        found = f"it was asked at {_moment(canary.asked_at)} by its clock, before the change at {_moment(since)}"
    else:
        found = canary.why
    says = ours and not early
    hit = says and canary.state is CanaryState.HIT
    name = f"client {printable(canary.host, 80)}"
    return Check(name, says and canary.ok, found, "a client that could be hit is served", decides=hit)


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _ran_is_unknown(after: HostFacts, before: HostFacts | None) -> bool:
    """Whether nobody has seen what ran before an installer was at work, which may have stopped it."""
    job = after.job if before is None else before.job
    if job is None or job.kind != INSTALL_UPDATE.name or job.waits_for_window:
        return False
    # Seen while it runs, or left by a run that did not see its end.
    return before is None or job.active


def _service(name: str, after: HostFacts, before: HostFacts | None, *, needed: bool) -> Check:
    """Check one service; one that ran before and does not now decides: others were down for their own reasons.

    A workaround is proved on a server that serves: there every service is *needed*, and so it is where nobody knows
    what ran.
    """
    state = after.wsus.services.get(name, ABSENT)
    ran = before is not None and before.wsus.services.get(name) == "running"
    return Check(f"{SERVICE_CHECK}{name}", state == "running", state, "running", decides=ran or needed)
