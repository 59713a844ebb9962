#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Mends one WSUS server, proves that it is without the fault, calls a change off, or clears away what a run left."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wsus_kb954960
short_description: Mend a WSUS server with the fault of advisory 954960
version_added: 0.1.0
author: the wsusfix project (@wsusfix)
description:
  - Looks at a WSUS server over PowerShell remoting, makes a plan, carries it out as a detached job of the SYSTEM
    account, and proves by the DLL's file version that the server is without the fault.
  - Running it again is always safe. A job that runs is joined, never started twice; a server that needs nothing is left
    alone.
  - On WSUS 3.0 without a service pack it resets the approvals of the update (the documented workaround), or upgrades it
    with O(rtm=upgrade).
  - A plan that is blocked fails the task and says what would unblock it; nothing is changed then.
extends_documentation_fragment:
  - wsusfix.wsus.kb954960
options:
  state:
    description:
      - V(remediated) mends the server where it needs it, and verifies.
      - V(verified) changes nothing, and fails unless the server is proved to be without the fault.
      - V(cleaned) removes what an earlier run that failed has left on the server; the entry in the event log stays.
      - V(withdrawn) calls off the job that waits for its maintenance window (O(not_before)); it has changed nothing
        then. It fails where there is no job, and where it is at work or has ended.
    type: str
    choices: [remediated, verified, cleaned, withdrawn]
    default: remediated
  consent:
    description:
      - That what cannot be undone may be done. The update cannot be removed again; the only way back is to uninstall
        WSUS. Without it such a plan fails, and nothing is changed.
    type: bool
    default: false
attributes:
  check_mode:
    description: Diagnosis and plan are real; only carrying it out is left out.
    support: full
  diff_mode:
    description: Shows the server before and after, as text; in check mode what the plan says it will be.
    support: full
seealso:
  - module: wsusfix.wsus.wsus_kb954960_info
"""

EXAMPLES = r"""
# In a task that delegates, ansible_host is that of localhost: hostvars has that of the server.
- name: Mend the server, and restart it where the new DLL waits for that
  wsusfix.wsus.wsus_kb954960:
    host: "{{ hostvars[inventory_hostname].ansible_host | default(inventory_hostname) }}"
    port: "{{ hostvars[inventory_hostname].ansible_port | default(omit) }}"
    username: "{{ hostvars[inventory_hostname].ansible_user }}"
    password: "{{ hostvars[inventory_hostname].ansible_password }}"
    package: "{{ playbook_dir }}/files/WSUS-KB954960-x64.exe"
    reboot: if-needed
    consent: true
  delegate_to: localhost

- name: Fail unless it is proved to be without the fault
  wsusfix.wsus.wsus_kb954960:
    host: "{{ hostvars[inventory_hostname].ansible_host | default(inventory_hostname) }}"
    port: "{{ hostvars[inventory_hostname].ansible_port | default(omit) }}"
    username: "{{ hostvars[inventory_hostname].ansible_user }}"
    password: "{{ hostvars[inventory_hostname].ansible_password }}"
    state: verified
  delegate_to: localhost
"""

RETURN = r"""
changed:
  description:
    - Whether anything was changed on the server; in check mode, whether it would be.
    - When an error ends the task, it is true once an upload or a job was begun, which may go on by itself.
  returned: always
  type: bool
  sample: true
host:
  description: The name the server was asked by.
  returned: always
  type: str
  sample: wsus01.corp.example
verdict:
  description: What the server is afterwards; in check mode and with O(state=cleaned), what it is now.
  returned: when it told what it is
  type: str
  choices: [not_a_server, not_affected, exposed_rtm, exposed_sp1, fixed, unknown]
  sample: fixed
exposed:
  description: Whether the product that was found had the fault; null when that is unknown.
  returned: when a plan was made, or with O(state=cleaned)
  type: bool
  sample: true
worked_around:
  description:
    - Whether the approvals of the update are known to have been reset; null when that is unknown. The fault is still in
      the product then, so that C(verdict) stays V(exposed_rtm).
  returned: when it told what it is
  type: bool
  sample: null
observed:
  description: Whether logs show the fault, V(yes), V(no), or V(unknown) where they were not read.
  returned: when a plan was made, or with O(state=cleaned)
  type: str
  sample: "yes"
restart_pending:
  description: Whether the mended DLL waits for a restart of the server.
  returned: when it told what it is
  type: bool
  sample: false
diagnosis:
  description: The diagnosis before, as data.
  returned: when a plan was made, or with O(state=cleaned)
  type: dict
  sample:
    verdict: exposed_sp1
plan:
  description: The plan as data; C(text) tells it to a person, C(digest) is what was consented to.
  returned: when a plan was made
  type: dict
  sample:
    steps: [{name: InstallUpdate, irreversible: true}]
    blocked: []
    irreversible: true
outcome:
  description:
    - What was done, as data; for each step V(done), V(skipped) or V(failed), and the evidence an auditor keeps.
    - C(text) tells it to a person.
  returned: when the plan was applied
  type: dict
  sample:
    changed: true
    before: 3.1.6001.65
    after: 3.1.6001.66
    steps: [{step: InstallUpdate, status: done}]
verification:
  description: The proof; what was found and what is required, and every check.
  returned: when the plan was applied, or with O(state=verified)
  type: dict
  sample:
    ok: true
    verdict: fixed
    found: 3.1.6001.66
    required: 3.1.6001.66
events:
  description: What happened, a line for each phase.
  returned: when the plan was applied, or an error ended that
  type: list
  elements: str
  sample: ["wsus01: upload: WSUS-KB954960-x64.exe", "wsus01: job: installed (exit code 0)"]
withdrawal:
  description: Which job was called off, whether it had been before (C(already)), and whether it has C(ended) since.
  returned: with O(state=withdrawn), but in check mode
  type: dict
  sample: {job_id: 0123456789ab, kind: install_update, already: false, ended: true}
removed:
  description: What was removed from the server.
  returned: with O(state=cleaned)
  type: list
  elements: str
  sample: ['C:\\Windows\\wsusfix']
authentication:
  description: How the session authenticated; V(ntlm) does not prove the server's identity.
  returned: when it was reached
  type: str
  sample: kerberos
powershell_version:
  description: The server's PowerShell.
  returned: when it was reached
  type: str
  sample: "2.0"
error:
  description:
    - The library's error as data; C(type), C(message), C(phase), C(hint), C(retryable), and C(unreached), whether it is
      one of not reaching the server.
  returned: when the library raised one
  type: dict
  sample:
    type: AuthenticationError
    phase: connect
    retryable: false
    unreached: false
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wsusfix.wsus.plugins.module_utils.kb954960 import ARGUMENTS, Told, chosen, connect, library

if TYPE_CHECKING:
    import wsusfix

STATE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["remediated", "verified", "cleaned", "withdrawn"], "default": "remediated"},
    "consent": {"type": "bool", "default": False},
}


def main() -> None:
    """Bring one server to the state that is asked for."""
    module = AnsibleModule(argument_spec={**ARGUMENTS, **STATE_ARGUMENTS}, supports_check_mode=True)
    with library(module) as told:
        options = chosen(module.params)
        with connect(module.params) as server:
            told.values.update(authentication=server.authentication, powershell_version=server.powershell_version)
            if module.params["state"] == "verified":
                verified(told, server)
            elif module.params["state"] == "cleaned":
                cleaned(told, server)
            elif module.params["state"] == "withdrawn":
                withdrawn(told, server)
            else:
                remediated(told, server, options)
        told.end()


def verified(told: Told, server: wsusfix.WsusServer) -> None:
    """Fail unless the server is proved to be without the fault."""
    proof = server.verify()
    told.values.update(
        verdict=proof.verdict,
        worked_around=proof.worked_around,
        restart_pending=proof.restart_pending,
        verification=proof.to_dict(),
    )
    if not proof.ok:
        told.fail(f"not without the fault: {proof}")


def cleaned(told: Told, server: wsusfix.WsusServer) -> None:
    """Remove what an earlier run has left."""
    diagnosis = server.diagnose(logs=False)
    told.diagnosis(diagnosis)
    if told.module.check_mode:
        job = diagnosis.facts.job
        if job is not None and job.active:
            # A real run is refused.
            told.fail(f"a job of wsusfix is still running: {job}; wait for it to end")
        told.values.update(changed=diagnosis.facts.staging.leftovers > 0, removed=[])
        return
    cleanup = server.cleanup()
    told.values.update(changed=bool(cleanup.removed), removed=list(cleanup.removed))
    told.warn(*(f"could not be removed: {item}" for item in cleanup.remaining))


def withdrawn(told: Told, server: wsusfix.WsusServer) -> None:
    """Call off the job that waits for its maintenance window."""
    if told.module.check_mode:
        job = server.job()
        phases = [] if job is None else [step.phase.value for step in job.steps]
        already = "withdrawn" in phases
        if not already and (job is None or not job.active or phases[-1:] != ["waiting_for_window"]):
            # A real run is refused.
            told.fail("no job waits for its maintenance window there" + ("" if job is None else f": {job}"))
        told.values.update(changed=not already)
        return
    withdrawal = server.withdraw()
    told.values.update(changed=not withdrawal.already, withdrawal=withdrawal.to_dict())


def remediated(told: Told, server: wsusfix.WsusServer, options: wsusfix.Options) -> None:
    """Mend the server where it needs it."""
    plan = server.plan(options, logs=told.module.params["logs"])
    told.plan(plan)
    if plan.blocked:
        told.fail("; ".join(f"blocked: {reason}" for reason in plan.blocked))
    if told.module.check_mode:
        told.values.update(changed=bool(plan.steps), diff=difference(before(plan), planned(plan)))
        if plan.irreversible and not told.module.params["consent"]:
            told.warn("the plan cannot be undone: a real run needs consent: true")
        return
    if plan.irreversible and not told.module.params["consent"]:
        raise told.consent(plan)
    told.values["events"] = []
    outcome = server.apply(plan, consent=told.module.params["consent"], on_event=lambda event: note(told, event))
    told.outcome(outcome)
    told.values.update(
        changed=outcome.changed,
        verdict=outcome.verdict,
        worked_around=None if outcome.verification is None else outcome.verification.worked_around,
        verification=None if outcome.verification is None else outcome.verification.to_dict(),
        diff=difference(before(plan), after(outcome)),
    )
    told.warn(*outcome.notes)
    if not outcome.ok and not (outcome.restart_pending and not outcome.failed):
        told.fail(str(outcome))


def note(told: Told, event: wsusfix.Event) -> None:
    """Keep what an observer is told, the progress of the upload aside, and that the server is no longer untouched.

    An error may end the road here while a job goes on there: what was begun by then is all that is known.
    """
    name = type(event).__name__
    if name != "UploadProgress":
        told.values["events"].append(str(event))
    if name == "JobState" or (name == "PhaseBegun" and getattr(event, "phase", "") in ("upload", "job")):
        told.values["changed"] = True


def difference(old: str, new: str) -> dict[str, str]:
    """Return what ``--diff`` shows."""
    return {"before": old, "after": new}


def before(plan: wsusfix.Plan) -> str:
    """Tell the server as the plan found it."""
    diagnosis = plan.diagnosis
    return state(diagnosis.verdict.value, diagnosis.facts.wsus.dll_version, diagnosis.worked_around)


def planned(plan: wsusfix.Plan) -> str:
    """Tell the server as the plan says it will be."""
    if not plan.steps:
        return before(plan)
    steps = "".join(f"will be done: {step.name}: {step.reason}\n" for step in plan.steps)
    return f"{steps}will be verified: {plan.proof}\n"


def after(outcome: wsusfix.Outcome) -> str:
    """Tell the server as it is left."""
    around = outcome.verification.worked_around if outcome.verification is not None else None
    return state(outcome.verdict, outcome.after, around) + ("a restart is pending\n" if outcome.restart_pending else "")


def state(verdict: str, dll: object, worked_around: bool | None) -> str:
    """Tell a server's state in lines that differ when it differs."""
    around = "worked around: yes\n" if worked_around else ""
    return f"verdict: {verdict}\nDLL: {dll if dll is not None else 'none'}\n{around}"


if __name__ == "__main__":
    main()
