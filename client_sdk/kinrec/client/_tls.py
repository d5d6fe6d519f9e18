"""TLS as a client: which servers it believes, and how it shows who it is."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from kinrec.client._errors import invalid_field

if TYPE_CHECKING:
    import os
    from typing import Never


def tls_credentials(
    *,
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> grpc.ChannelCredentials:
    """Make the credentials of a connection over TLS from files in PEM.

    The files are read once: after a renewal of the client's certificate make a new client.

    Args:
        ca: The roots that the server's certificate must lead to; None for those that gRPC comes with.
        cert: The client's own certificate, for a server that asks for one, and behind it those that
            lead to the root.
        key: Its private key, not encrypted.

    Raises:
        InvalidRequestError: A file cannot be read or is not what it should be, one of `cert` and `key`
            is missing, or they do not belong together.

    Example:
        >>> credentials = tls_credentials(ca="ca.pem")  # doctest: +SKIP
        >>> client = Client("shop.example:50051", credentials=credentials)  # doctest: +SKIP
    """
    for field, one, other in (("cert", cert, key), ("key", key, cert)):
        if one is None and other is not None:
            raise invalid_field(field, "must be given with the other of cert and key")
    roots = None if ca is None else _certificates("ca", Path(ca))
    if cert is None or key is None:
        return grpc.ssl_channel_credentials(roots)
    chain, private = _certificates("cert", Path(cert)), _bytes_of("key", Path(key))
    _check_pair(Path(cert), Path(key))
    return grpc.ssl_channel_credentials(roots, private, chain)


def _certificates(field: str, path: Path) -> bytes:
    pem = _bytes_of(field, path)
    try:
        text = pem.decode("ascii", "ignore")  # comments beside the PEM may be anything
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise invalid_field(field, f"{path} holds no certificate in PEM") from error
    return pem


def _check_pair(cert: Path, key: Path) -> None:
    """Refuse what gRPC would find at the first call, and then say nothing of but that it failed."""

    def refuse() -> Never:  # without it ssl would ask for the passphrase on the terminal
        raise invalid_field("key", f"{key} is encrypted; give a key without a passphrase")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password=refuse)
    except OSError as error:  # of which ssl's own are
        is_other = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
        rule = f"is not the key of {cert}" if is_other else "is not a private key in PEM"
        raise invalid_field("key", f"{key} {rule}") from error


def _bytes_of(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise invalid_field(field, f"{path}: {error.strerror}") from error
