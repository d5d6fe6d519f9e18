"""Whether an address can be listened on, with the reason if not.

gRPC says that a port cannot be bound, not why, and is content when a name that stands for several
addresses is free on one of them. Here each address of a name is tried first.
"""

from __future__ import annotations

import errno
import ipaddress
import socket


class PortError(Exception):
    """An address cannot be listened on. The text is one line that names the flag and the address."""


_OF_THE_PORT = (errno.EADDRINUSE, errno.EACCES)  # all else that goes wrong is of the host


def check_port(host: str, port: int, address: str) -> None:
    """Try to bind every address of a host for a moment.

    Args:
        host: A name or an address.
        port: The port; 0 stands for a free one.
        address: How the two are written in an error.

    Raises:
        PortError: The host is not known, none of its addresses belongs to this machine, or the
            port is in use on one of them.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _error(address, error) from error
    failures = []
    for family, kind, protocol, _, socket_address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                _bind(probe, socket_address)
        except OSError as error:
            failures.append(error)
            if error.errno == errno.EADDRINUSE:
                break
    in_use = any(error.errno == errno.EADDRINUSE for error in failures)
    # A machine without IPv6 still lists ::1 as an address of localhost: one that binds is enough.
    if in_use or len(failures) == len(found):
        raise _error(address, failures[-1]) from failures[-1]


class ReservedPort:
    """A port that is kept for processes which listen on it together, by SO_REUSEPORT.

    Args:
        host: A name or an address.
        port: The port; 0 stands for a free one.
        address: How the two are written in an error.

    Attributes:
        port: The port.

    Raises:
        PortError: See `check_port`.
    """

    def __init__(self, host: str, port: int, address: str) -> None:
        check_port(host, port, address)
        self.port = port
        self._kept: list[socket.socket] = []
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, (its_host, _, *more) in found:
            kept = socket.socket(family, kind, protocol)
            try:
                kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                _bind(kept, (its_host, self.port, *more))
            except OSError as error:
                kept.close()
                if error.errno == errno.EADDRINUSE:  # since the check
                    self.close()
                    raise _error(address, error) from error
            else:
                self._kept.append(kept)
                self.port = kept.getsockname()[1]

    def close(self) -> None:
        """Let go of it."""
        for kept in self._kept:
            kept.close()


def _error(address: str, error: OSError) -> PortError:
    flag = "--port" if error.errno in _OF_THE_PORT else "--host"
    return PortError(f"{flag}: cannot listen on {address}: {error.strerror}")


def _bind(to: socket.socket, address: tuple[object, ...]) -> None:
    to.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if to.family == socket.AF_INET6:
        to.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    to.bind(address)


def is_loopback(host: str, address: str) -> bool:
    """Whether only this machine can reach a host.

    Args:
        host: A name or an address.
        address: How it is written in an error.

    Raises:
        PortError: The host is not known.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _error(address, error) from error
    addresses = [str(socket_address[0]).partition("%")[0] for *_, socket_address in found]
    return all(ipaddress.ip_address(one).is_loopback for one in addresses)
