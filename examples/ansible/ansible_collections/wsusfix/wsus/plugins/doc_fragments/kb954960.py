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
        description: For which a lost connection is tried again while a job runs.
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
