#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Facts, diagnosis and plan of one WSUS server; never changes anything."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wsus_kb954960_info
short_description: Tell what a WSUS server is with regard to advisory 954960, and what would be done
version_added: 0.1.0
author: the wsusfix project (@wsusfix)
description:
  - Looks at a WSUS server over PowerShell remoting, says whether it has the fault of Microsoft security advisory
    954960, and makes the plan that M(wsusfix.wsus.wsus_kb954960) would carry out.
  - Never changes anything, on the server or elsewhere.
extends_documentation_fragment:
  - wsusfix.wsus.kb954960
attributes:
  check_mode:
    description: Looks and changes nothing, so that check mode makes no difference.
    support: full
  diff_mode:
    description: There is nothing to show a difference of.
    support: N/A
seealso:
  - module: wsusfix.wsus.wsus_kb954960
"""

EXAMPLES = r"""
# In a task that delegates, ansible_host is that of localhost: hostvars has that of the server.
- name: What is this server?
  wsusfix.wsus.wsus_kb954960_info:
    host: "{{ hostvars[inventory_hostname].ansible_host | default(inventory_hostname) }}"
    port: "{{ hostvars[inventory_hostname].ansible_port | default(omit) }}"
    username: "{{ hostvars[inventory_hostname].ansible_user }}"
    password: "{{ hostvars[inventory_hostname].ansible_password }}"
  delegate_to: localhost
  register: found

- name: Say it in a word
  ansible.builtin.debug:
    msg: "{{ inventory_hostname }} is {{ found.verdict }}"
"""

RETURN = r"""
host:
  description: The name the server was asked by.
  returned: always
  type: str
  sample: wsus01.corp.example
verdict:
  description: What the server is.
  returned: when it was reached
  type: str
  choices: [not_a_server, not_affected, exposed_rtm, exposed_sp1, fixed, unknown]
  sample: exposed_sp1
exposed:
  description: Whether the installed product has the fault; null when that is unknown.
  returned: when it was reached
  type: bool
  sample: true
worked_around:
  description:
    - Whether the approvals of the update are known to have been reset; null when that is unknown. The fault is still in
      the product then, so that C(verdict) stays V(exposed_rtm).
  returned: when it was reached
  type: bool
  sample: null
observed:
  description: Whether logs show the fault, V(yes), V(no), or V(unknown) where they were not read.
  returned: when it was reached
  type: str
  sample: "yes"
restart_pending:
  description: Whether the mended DLL waits for a restart of the server.
  returned: when it was reached
  type: bool
  sample: false
diagnosis:
  description: The diagnosis as data, with its evidence, its notes and the facts it rests on.
  returned: when it was reached
  type: dict
  sample:
    verdict: exposed_sp1
    why: "WSUS 3.0 SP1 without KB954960: the DLL is 3.1.6001.65, fixed from 3.1.6001.66 on"
plan:
  description:
    - The plan as data; C(steps), or C(blocked) with what would unblock each reason, or C(nothing) with why.
    - C(text) tells it to a person, C(digest) is what would be consented to.
  returned: when it was reached
  type: dict
  sample:
    steps: [{name: InstallUpdate, irreversible: true}]
    blocked: []
    nothing: ""
    irreversible: true
    digest: 5f0c7dbe3f3f0c0e8ba1f8f0f0c54f5cfd2cf9d4b6ad5c4d3a2f77f0a1b2c3d4
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.wsusfix.wsus.plugins.module_utils.kb954960 import ARGUMENTS, chosen, connect, library


def main() -> None:
    """Look at one server."""
    module = AnsibleModule(argument_spec=dict(ARGUMENTS), supports_check_mode=True)
    with library(module) as told:
        options = chosen(module.params)
        with connect(module.params) as server:
            told.values.update(authentication=server.authentication, powershell_version=server.powershell_version)
            told.plan(server.plan(options, logs=module.params["logs"]))
        told.end()


if __name__ == "__main__":
    main()
