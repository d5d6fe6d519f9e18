"""From where the servers are, as callers say it, to the one target that gRPC takes."""

from __future__ import annotations

import ipaddress

from kinrec.client._errors import invalid_field

_FIELD = "target"
_OF_MANY = ("ipv4:", "ipv6:")  # the schemes of targets with commas


def target_of(addresses: object) -> str:
    """The target of gRPC for one address or several.

    Args:
        addresses: ``host:port``, any target that gRPC resolves, or several IP addresses with ports,
            all IPv4 or all IPv6, as a list or with commas between them.

    Raises:
        InvalidRequestError: It is none of these.
    """
    each = _split(addresses)
    for address in each:
        _check(address)
    if len(each) == 1:
        return each[0]
    kinds = {_kind_of(address) for address in each}
    if len(kinds) > 1 or "" in kinds:
        rule = "several must be IP addresses with ports, all IPv4 or all IPv6"
        raise invalid_field(_FIELD, f"{rule}; of names give one that stands for all")
    return f"{kinds.pop()}:{','.join(each)}"


def _split(addresses: object) -> list[str]:
    if isinstance(addresses, list | tuple) and addresses:
        return list(addresses)
    if isinstance(addresses, str) and not addresses.startswith(_OF_MANY):
        return [address.strip() for address in addresses.split(",")]
    return [addresses]  # type: ignore[list-item] # checked next


def _check(address: object) -> None:
    is_text = isinstance(address, str) and bool(address) and address.isprintable()
    # gRPC would take a number, or the address of a web page, for the name of a host.
    if not is_text or ":" not in str(address) or str(address).startswith(("http:", "https:")):
        raise invalid_field(_FIELD, "must be a host and port without http://, e.g. localhost:50051")


def _kind_of(address: str) -> str:
    """``ipv4`` or ``ipv6``; empty for all but an IP address, in brackets if IPv6, and a port."""
    host, _, port = address.rpartition(":")
    try:
        version = ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).version
    except ValueError:
        return ""
    return f"ipv{version}" if port.isdecimal() and host.startswith("[") == (version == 6) else ""
