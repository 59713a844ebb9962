"""A connection to a name within one deadline: the resolver's time counts, and all addresses of the name share it.

The standard library asks the resolver for as long as that likes, and urllib3 gives each address the whole time.  It
refuses to know what is said over the connection.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any, Final

import urllib3.exceptions

__all__ = ["NotResolvedInTime", "dial"]

#: Whoever has hardly any time left still asks, once.
_LEAST: Final = 0.001

_Address = tuple[int, int, int, str, Any]


class NotResolvedInTime(urllib3.exceptions.ConnectTimeoutError):
    """The resolver has not answered within the time allowed."""


def dial(connection: Any, deadline: float) -> socket.socket:
    """Connect for a connection of urllib3's, in the place of its own ``_new_conn``.

    Args:
        connection: has the name, the port, and what the socket is to be set to.
        deadline: monotonic.

    Raises:
        urllib3.exceptions.HTTPError: those that urllib3 itself raises, and :class:`NotResolvedInTime`.
    """
    # urllib3 writes the zone of an address as a URL does.
    host = connection._dns_host.strip("[]").replace("%25", "%", 1)
    try:
        addresses = _resolve(host, connection.port, deadline)
    except socket.gaierror as error:
        raise urllib3.exceptions.NameResolutionError(host, connection, error) from error
    except UnicodeError as error:
        raise urllib3.exceptions.LocationParseError(f"{host!r}, label empty or too long") from error
    except TimeoutError as error:
        raise NotResolvedInTime(connection, "the name was not resolved in time") from error
    try:
        return _connect(addresses, connection.socket_options or (), deadline)
    except TimeoutError as error:
        raise urllib3.exceptions.ConnectTimeoutError(connection, f"Connection to {host} timed out.") from error
    except OSError as error:
        raise urllib3.exceptions.NewConnectionError(
            connection, f"Failed to establish a new connection: {error}"
        ) from error


def _resolve(host: str, port: int, deadline: float) -> list[_Address]:
    """Return the addresses of *host*; the resolver is asked in a thread, as nothing else bounds its time."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return _look_up(host, port)
    answers: queue.SimpleQueue[list[_Address] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_look_up(host, port))
        except Exception as error:  # noqa: BLE001  (whatever it is, it is raised where it is waited for)
            answers.put(error)

    threading.Thread(target=ask, name="wsusfix-resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=max(_LEAST, deadline - time.monotonic()))
    except queue.Empty:
        raise TimeoutError(f"{host} was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _look_up(host: str, port: int) -> list[_Address]:
    return list(socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM))


def _connect(addresses: list[_Address], options: Iterable[tuple[Any, ...]], deadline: float) -> socket.socket:
    """Connect to the first address that answers; each has its share of the time that is left."""
    failed: OSError = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        share = (deadline - time.monotonic()) / (len(addresses) - number)
        try:
            line = socket.socket(family, kind, protocol)
        except OSError as error:  # of a family that this machine does not have
            failed = error
            continue
        try:
            for option in options:
                line.setsockopt(*option)
            line.settimeout(max(_LEAST, share))
            line.connect(address)
        except BaseException as error:
            line.close()
            if not isinstance(error, OSError):
                raise
            failed = error
        else:
            return line
    raise failed
