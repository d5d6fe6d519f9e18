"""TLS: the files of the server's certificate, what must hold of them, and how gRPC gets them.

The files are checked with Python's own ssl, without gRPC, so that a process that serves nothing itself
can check them before it starts those that do.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Never

from kinrec.server.port import PortError, is_loopback
from kinrec.server.security.watched import FlagFileError, Watched

if TYPE_CHECKING:
    from pathlib import Path

    import grpc

    from kinrec.server.config import ServerConfig

_CERT, _KEY, _CLIENT_CA = "--tls-cert", "--tls-key", "--tls-client-ca"
# What OpenSSL says of a key that is one, but of another certificate.
_MISMATCHES = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


class Pems(NamedTuple):
    """What the files hold."""

    cert: bytes
    key: bytes
    client_ca: bytes | None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the server's certificate is.

    Attributes:
        cert: The certificate in PEM, and behind it those that lead to the root.
        key: Its private key in PEM, not encrypted.
        client_ca: The roots in PEM by which the certificates of clients are judged, each of which must
            then have one; None to ask for none.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    def read(self) -> Pems:
        """Read and check them.

        Raises:
            FlagFileError: One cannot be read or is not what it should be, or the key is not that of the
                certificate.
        """
        pems = self._read()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._check_roots(_CERT, self.cert, pems.cert)
        try:
            context.load_cert_chain(self.cert, self.key, password=self._refuse_encrypted)
        except OSError as error:  # of which ssl's own are
            is_other = getattr(error, "reason", "") in _MISMATCHES
            rule = f"is not the key of {self.cert}" if is_other else "is not a private key in PEM"
            raise _error(_KEY, self.key, rule) from error
        if self.client_ca is not None and pems.client_ca is not None:
            self._check_roots(_CLIENT_CA, self.client_ca, pems.client_ca)
        if pems != self._read():  # ssl takes paths: it may have seen others than were read
            raise _error(_CERT, self.cert, "changes while it is read")
        return pems

    def paths(self) -> list[Path]:
        """The files."""
        return [path for path in (self.cert, self.key, self.client_ca) if path is not None]

    def _read(self) -> Pems:
        client_ca = None if self.client_ca is None else _bytes_of(_CLIENT_CA, self.client_ca)
        return Pems(_bytes_of(_CERT, self.cert), _bytes_of(_KEY, self.key), client_ca)

    def _check_roots(self, flag: str, path: Path, pem: bytes) -> None:
        """Refuse what holds no certificate, or one that cannot be read."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(
                cadata=pem.decode("ascii", "ignore")  # comments beside the PEM may be anything
            )
        except (ssl.SSLError, ValueError) as error:
            raise _error(flag, path, "holds no certificate in PEM") from error

    def _refuse_encrypted(self) -> Never:
        # Without it ssl would ask for the passphrase on the terminal.
        raise _error(_KEY, self.key, "is encrypted; give a key without a passphrase")


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """The credentials of a port. Connections that come after a change of the files get the new ones.

    Raises:
        FlagFileError: The files cannot be used now.
    """
    import grpc  # noqa: PLC0415 - see the docstring of the module

    def configuration() -> grpc.ServerCertificateConfiguration:
        pems = files.read()
        return grpc.ssl_server_certificate_configuration([(pems.key, pems.cert)], pems.client_ca)

    watched = Watched(files.paths(), configuration)
    return grpc.dynamic_ssl_server_credentials(
        watched.get(), watched.get, require_client_authentication=files.client_ca is not None
    )


def check_exposure(config: ServerConfig) -> None:
    """Refuse to speak plain text to other machines, unless that is asked for.

    Raises:
        PortError: The server would.
    """
    if config.tls is None and not (config.insecure or is_loopback(config.host, config.address())):
        raise PortError(
            f"--host {config.host}: other machines would be served in plain text; give --tls-cert and "
            "--tls-key, or --insecure if what is around the server encrypts"
        )


def _bytes_of(flag: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _error(flag, path, error.strerror or "cannot be read") from error


def _error(flag: str, path: Path, rule: str) -> FlagFileError:
    return FlagFileError(f"{flag} {path}: {rule}")
