"""The token that says who calls, and to whom it is not sent."""

from __future__ import annotations

import ipaddress

from kinrec.client._errors import invalid_field

# What a target that gRPC resolves may begin with, before the hosts.
_SCHEMES = ("dns", "ipv4", "ipv6")
_SOCKETS = ("unix:", "unix-abstract:")


def check_token(token: object) -> None:
    """Refuse what no metadata can hold.

    Raises:
        InvalidRequestError: It is none. The token is not told.
    """
    is_text = isinstance(token, str) and token.isascii() and token.isprintable()
    if not is_text or not token or " " in str(token):
        raise invalid_field("token", "must be visible ASCII characters without blanks")


def is_this_machine(target: str) -> bool:
    """Whether what is sent to a target stays on this machine.

    Names but ``localhost`` are not looked up: what they stand for may change.
    """
    if target.startswith(_SOCKETS):
        return True
    scheme, colon, rest = target.partition(":")
    if colon and scheme in _SCHEMES:
        target = rest.rpartition("/")[2]
    return all(_is_loopback(address) for address in target.split(","))


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
