"""Whether an address can be listened on, with the reason if not.

gRPC says that a port cannot be bound, not why, and is content when a name that stands for several
addresses is free on one of them. Here each address of a name is tried first.
"""

from __future__ import annotations

import errno
import ipaddress
import socket


class PortError(Exception):
    """An address cannot be listened on. The text is one line that names the address."""


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
        raise PortError(f"cannot listen on {address}: {error.strerror}") from error
    failures = []
    for family, kind, protocol, _, socket_address in found:
        try:
            _bind(family, kind, protocol, socket_address)
        except OSError as error:
            failures.append(error)
            if error.errno == errno.EADDRINUSE:
                break
    in_use = any(error.errno == errno.EADDRINUSE for error in failures)
    # A machine without IPv6 still lists ::1 as an address of localhost: one that binds is enough.
    if in_use or len(failures) == len(found):
        reason = failures[-1].strerror
        raise PortError(f"cannot listen on {address}: {reason}") from failures[-1]


def _bind(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> None:
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)


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
        raise PortError(f"cannot listen on {address}: {error.strerror}") from error
    addresses = [str(socket_address[0]).partition("%")[0] for *_, socket_address in found]
    return all(ipaddress.ip_address(one).is_loopback for one in addresses)
