"""Who may log on to the simulated servers, and the one file in which the NTLM acceptor looks them up.

The acceptor of pyspnego reads its users from the file that ``NTLM_USER_FILE`` names, and that is a setting of the
whole process: all accounts in use share one file, which exists only while an endpoint runs. This module knows
nothing of sockets or sessions.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Account", "Accounts"]

_VARIABLE = "NTLM_USER_FILE"


@dataclass(frozen=True)
class Account:
    """One user of a simulated server; ``administrator=False`` is let in, but may not open a shell."""

    user: str
    password: str = field(repr=False)
    domain: str = "LAB"
    administrator: bool = True

    def __post_init__(self) -> None:
        for what, text in (("user", self.user), ("password", self.password), ("domain", self.domain)):
            # The user file has one line an account and colons between its three fields, without any escape.
            if ":" in text or len(text.splitlines()) > 1 or text != text.strip("\r\n"):
                raise ValueError(f"the {what} of a lab account cannot hold a colon or a line break")
        if not self.user or not self.password or not self.domain:
            raise ValueError("a lab account needs a domain, a user and a password")
        if "\\" in self.user or "\\" in self.domain:
            raise ValueError("give the domain of a lab account apart from its user")

    @property
    def name(self) -> str:
        """The account as Windows writes it: ``LAB\\admin``."""
        return f"{self.domain}\\{self.user}"


class Accounts:
    """The accounts of one endpoint.

    A client may give the domain (``LAB\\admin``, ``admin@LAB``), the local machine (``.\\admin``) or nothing
    (``admin``).
    """

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts = tuple(accounts)
        self._by_name: dict[str, Account] = {}
        for account in self._accounts:
            if self._by_name.get(account.name.casefold(), account) != account:
                raise ValueError(f"{account.name} is given twice, with different data")
            for spelling in _spellings(account):
                self._by_name.setdefault(_key(*spelling), account)
            self._by_name[account.name.casefold()] = account

    @classmethod
    def of(cls, user: str, password: str, *, domain: str = "LAB", administrator: bool = True) -> Accounts:
        """The accounts of a server that knows a single user."""
        return cls([Account(user, password, domain, administrator)])

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts)

    def find(self, principal: str | None) -> Account | None:
        """The account for a name as NTLM authenticated it, or None when this endpoint does not know it."""
        if not principal:
            return None
        domain, _, user = principal.rpartition("\\")
        return self._by_name.get(_key(domain, user))

    def enrol(self) -> None:
        """Let the acceptor of this process know these accounts; pair every call with ``dismiss``."""
        _user_file.add(self._accounts)

    def dismiss(self) -> None:
        """Take back one ``enrol``."""
        _user_file.remove(self._accounts)


def _spellings(account: Account) -> tuple[tuple[str, str], ...]:
    user, domain = account.user, account.domain
    return (domain, user), ("", f"{user}@{domain}"), ("", user), (".", user)


def _key(domain: str, user: str) -> str:
    return f"{domain}\\{user}".casefold() if domain else user.casefold()


class _UserFile:
    """The file behind ``NTLM_USER_FILE``: the union of all enrolled accounts, counted, gone with the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._enrolled: list[Account] = []
        self._path: str | None = None
        self._before: str | None = None

    def add(self, accounts: Iterable[Account]) -> None:
        accounts = tuple(accounts)
        with self._lock:
            known = {account.name.casefold(): account for account in self._enrolled}
            for account in accounts:
                other = known.get(account.name.casefold(), account)
                if other.password != account.password:
                    raise ValueError(
                        f"{account.name} already has another password in this process: the NTLM acceptor keeps "
                        "one user file a process"
                    )
            self._enrolled.extend(accounts)
            self._write()

    def remove(self, accounts: Iterable[Account]) -> None:
        with self._lock:
            for account in accounts:
                self._enrolled.remove(account)
            self._write()

    def _write(self) -> None:
        if not self._enrolled:
            self._forget()
            return
        lines: dict[str, str] = {}
        # Full names first: a bare name that two domains share goes to whoever enrolled first.
        for full in (True, False):
            for account in self._enrolled:
                for domain, user in _spellings(account):
                    if (domain == account.domain) is full:
                        lines.setdefault(_key(domain, user), f"{domain}:{user}:{account.password}")
        # A new file for each change: the acceptor may be reading the old one in another thread.
        handle, path = tempfile.mkstemp(prefix="wsusfix-lab-", suffix=".users")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write("\n".join(lines.values()) + "\n")
        if self._path is None:
            self._before = os.environ.get(_VARIABLE)
            self._path = path
            os.environ[_VARIABLE] = path
        else:
            os.replace(path, self._path)

    def _forget(self) -> None:
        if self._path is None:
            return
        if os.environ.get(_VARIABLE) == self._path:
            if self._before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = self._before
        os.unlink(self._path)
        self._path = self._before = None


_user_file = _UserFile()
