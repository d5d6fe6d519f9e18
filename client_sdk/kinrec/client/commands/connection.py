"""How a command reaches a server: TLS, and the token that says who calls."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kinrec.client import Client, InvalidRequestError, tls_credentials

if TYPE_CHECKING:
    import argparse

    import grpc

TOKEN_VARIABLE = "KINREC_TOKEN"  # noqa: S105 - the name of the variable

_FILES = ("tls_ca", "tls_cert", "tls_key")
_PAIR = (("tls_cert", "tls_key"), ("tls_key", "tls_cert"))
_OTHERWISE = "give --tls or --tls-ca, or --insecure if all that is between encrypts"


class ConnectionFlagError(Exception):
    """A flag of the connection cannot be used. The text is one line that names it."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a server.

    Attributes:
        credentials: For TLS; None for plain text.
        token: Says who calls; None to send none.
        insecure: Whether the token may be sent in plain text to another machine.
        token_from: The flag or the variable that the token is of.
    """

    credentials: grpc.ChannelCredentials | None = None
    token: str | None = field(default=None, repr=False)
    insecure: bool = False
    token_from: str = TOKEN_VARIABLE

    def open(self, target: str, timeout: float) -> Client:
        """Make a client of the server.

        Args:
            target: Where it is.
            timeout: Seconds that a call gets.

        Raises:
            ConnectionFlagError: The target, the timeout or the token cannot be used, or the token would be
                sent in plain text to another machine.
        """
        try:
            return Client(
                target,
                timeout=timeout,
                credentials=self.credentials,
                token=self.token,
                insecure=self.insecure,
            )
        except InvalidRequestError as error:
            (violation,) = error.violations
            if violation.field != "token":
                raise ConnectionFlagError(f"--{violation.field}: {violation.rule}") from error
            # What the SDK says to give is for who writes Python.
            rule, is_hint, _ = violation.rule.partition("; ")
            hint = f"; {_OTHERWISE}" if is_hint else ""
            raise ConnectionFlagError(f"{self.token_from}: {rule}{hint}") from error


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--tls", action="store_true", help="speak TLS, by the roots that gRPC comes with"
    )
    group.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="speak TLS, by these roots in PEM"
    )
    group.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="the client's own certificate in PEM"
    )
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key in PEM")
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"the token that says who calls (default: {TOKEN_VARIABLE} in the environment)",
    )
    group.add_argument(
        "--insecure",
        action="store_true",
        help="send the token in plain text to another machine; without it that is refused",
    )


def connection_of(args: argparse.Namespace) -> Connection:
    """What the flags and the environment say.

    Raises:
        ConnectionFlagError: A file cannot be used.
    """
    files = {name: getattr(args, name) for name in _FILES}
    for one, other in _PAIR:
        if files[one] and not files[other]:
            raise ConnectionFlagError(f"{_flag(one)}: needs {_flag(other)}")
    credentials = None
    if args.tls or any(files.values()):
        try:
            credentials = tls_credentials(
                **{name.removeprefix("tls_"): path for name, path in files.items()}
            )
        except InvalidRequestError as error:
            (violation,) = error.violations
            text = f"--tls-{violation.field}: {violation.rule}"
            raise ConnectionFlagError(text) from error
    path = args.token_file
    where = TOKEN_VARIABLE if path is None else f"--token-file {path}"
    return Connection(credentials, _token_of(path), args.insecure, where)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _token_of(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN_VARIABLE)
    try:
        return path.read_text("ascii").strip()
    except OSError as error:
        raise ConnectionFlagError(f"--token-file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConnectionFlagError(f"--token-file {path}: holds no token") from error
