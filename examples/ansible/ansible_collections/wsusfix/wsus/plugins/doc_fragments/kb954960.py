"""What the documentation of both modules shares: how a server is reached, and what the operator chooses."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragments, by the names that C(extends_documentation_fragment) uses."""

    DOCUMENTATION = r"""
options:
  host:
    description:
      - Name or address of the WSUS server.
      - Falls back to the environment variable E(WSUSFIX_HOST).
    type: str
    required: true
  username:
    description:
      - An administrator of the server, as V(DOMAIN\\user) or V(SERVER\\user).
      - Falls back to the environment variable E(WSUSFIX_USERNAME).
    type: str
    required: true
  password:
    description:
      - Its password.
      - Falls back to the environment variable E(WSUSFIX_PASSWORD).
    type: str
    required: true
  port:
    description:
      - 5985, or with O(ssl) 5986, unless given.
      - Falls back to the environment variable E(WSUSFIX_PORT).
    type: int
  ssl:
    description:
      - HTTPS. Servers of this age speak TLS 1.0 only, which today's OpenSSL refuses; plain HTTP with message encryption
        is what Windows' own client uses.
      - Falls back to the environment variable E(WSUSFIX_SSL).
    type: bool
    default: false
  auth:
    description:
      - V(negotiate) is Kerberos, else NTLM; V(kerberos) is the strict choice, which proves the server's identity.
      - Falls back to the environment variable E(WSUSFIX_AUTH).
    type: str
    choices: [negotiate, kerberos, ntlm]
    default: negotiate
  encryption:
    description:
      - V(always) encrypts every message, by NTLM or Kerberos over HTTP; V(auto) leaves that to TLS and needs O(ssl).
      - Falls back to the environment variable E(WSUSFIX_ENCRYPTION).
    type: str
    choices: [always, auto]
    default: always
  ca_cert:
    description:
      - The authority's certificate for O(ssl), on the controller; a file in PEM, or a folder of them.
      - Falls back to the environment variable E(WSUSFIX_CA_CERT).
    type: path
  proxy:
    description:
      - URL of an HTTP proxy; proxies of the environment are never used.
      - Falls back to the environment variable E(WSUSFIX_PROXY).
    type: str
  timeouts:
    description:
      - How long things may take, in seconds; what is left out keeps the library's own value.
      - Falls back to the environment variable E(WSUSFIX_TIMEOUTS), as JSON or as V(job=7200).
    type: dict
    suboptions:
      connect:
        description: For a TCP connection and the TLS handshake.
        type: float
      operation:
        description: For which the server may hold one WSMan request open.
        type: float
      script:
        description: For the answer of one ordinary script.
        type: float
      opening:
        description: For opening the session, retries included.
        type: float
      upload:
        description: Without a byte of progress.
        type: float
      upload_total:
        description: For a whole upload; the next one goes on from what the server has.
        type: float
      assemble:
        description: For joining and hashing an uploaded file on the server.
        type: float
      start:
        description: For the scheduled task to begin.
        type: float
      busy:
        description: For which a job waits for another installation.
        type: float
      logs:
        description: For searching the logs on a machine; what was not read by then is told.
        type: float
      detection:
        description: For a client that was asked to look for updates, until its log tells how that went.
        type: float
      signature:
        description: For which a job tries to verify the package's signature.
        type: float
      still:
        description: An installer that used no processor for so long is told as standing still.
        type: float
      job:
        description: For the whole job, seen from here; past it the job goes on by itself and can be joined.
        type: float
      lost:
        description: For which a lost connection is tried again while a job runs, within O(timeouts.job).
        type: float
      restart:
        description: For a server that restarts to be reached again.
        type: float
      backup:
        description: For a backup of the database, and for reading it back.
        type: float
      stop:
        description: For the services of IIS and of WSUS to stop, and to start again.
        type: float
      restore:
        description: For which the job of a reset tries to put back what it had switched, whatever fails.
        type: float
  package:
    description:
      - Path of the update's package on the controller, V(.exe), V(.msp) or V(.msi).
    type: path
  package_sha256:
    description:
      - Pinned SHA-256 of the package; any other file blocks the plan. A pinned hash is identity enough.
    type: str
  package_arguments:
    description:
      - The installer's own arguments in place of the usual silent ones; V({package}) and V({log}) in them stand for the
        paths on the server.
    type: list
    elements: str
  vouch_for_package:
    description:
      - Accept a package that does not name KB954960 itself and has no pinned hash.
    type: bool
    default: false
  accept_unverifiable_signature:
    description:
      - Together with O(package_sha256), accept a signature that the server cannot verify (closed networks); an invalid
        one is refused all the same.
    type: bool
    default: false
  rtm:
    description:
      - The way out of WSUS 3.0 without a service pack, the documented workaround or an upgrade to a service pack.
    type: str
    choices: [workaround, upgrade]
    default: workaround
  upgrade_package:
    description:
      - Path of WSUS setup for a service pack on the controller, with O(rtm=upgrade); after one for SP1 the update
        itself is installed.
    type: path
  upgrade_package_sha256:
    description:
      - Pinned SHA-256 of it; any other file blocks the plan.
    type: str
  upgrade_target:
    description:
      - What the setup brings, where it does not say so itself.
    type: str
    choices: ["3.0 SP1", "3.0 SP2"]
  vouch_for_upgrade_package:
    description:
      - Accept a setup that does not name itself and has no pinned hash.
    type: bool
    default: false
  upstream_version:
    description:
      - Version of the server that this one synchronizes with, as its console shows it; V(none) when there is none. A
        server must not become newer than the one above it, and cannot ask for that itself.
    type: str
  upgrade_beside_others:
    description:
      - Upgrade although another product, such as Configuration Manager, stands on this WSUS.
    type: bool
    default: false
  removal_meant:
    description:
      - WSUS that its own setup has removed is not to come back. That is written down on the server, and nobody is told
        of it any more.
    type: bool
    default: false
  backup:
    description:
      - Back the database up before anything is changed. Left out, that is done before an upgrade only; V(false)
        upgrades without one.
    type: bool
  reboot:
    description:
      - Whether the server may be restarted; V(if-needed) does so where an installer asks for it.
    type: str
    choices: [never, if-needed]
    default: never
  not_before:
    description:
      - No job begins to work on the server earlier, by the server's own clock. ISO 8601 with the offset from UTC, such
        as V(2008-09-06T22:00+02:00).
    type: str
  not_after:
    description:
      - No job begins to work, and no restart is begun, later.
    type: str
  workaround:
    description:
      - On WSUS 3.0 SP1 without a package, reset the approvals of the update for the time being; on 3.0 without a
        service pack that is done anyway, unless O(rtm=upgrade).
    type: bool
    default: false
  update_ids:
    description:
      - IDs of the updates whose approvals are reset, where the title does not name them (a server without English
        titles); what is named here is treated, and nothing else but what an earlier reset has treated and nobody has
        changed since.
    type: list
    elements: str
  logs:
    description:
      - Whether to search the server's own logs for whether the fault was observed. What is done does not depend on it.
    type: bool
    default: true
requirements:
  - wsusfix, in the Python that runs Ansible on the controller
notes:
  - The modules run on the controller and speak PowerShell remoting to the server themselves, so that a task delegates
    to V(localhost) and hands over the inventory's own variables. Nothing of Ansible is copied to the server.
attributes:
  action_group:
    description: Use C(group/wsusfix.wsus.kb954960) in C(module_defaults) to set defaults of both modules.
    support: full
    membership:
      - wsusfix.wsus.kb954960
  platform:
    description: Of the controller; the servers are Windows Server 2003 and 2008.
    support: full
    platforms: posix
"""
