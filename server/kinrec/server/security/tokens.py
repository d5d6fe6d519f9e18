"""Bearer tokens: who may call, what, and how often.

A file names them and holds their SHA-256 digests, not the tokens. A token is 32 random bytes, so its
digest is as good as the strongest hash of a password would be, and costs a call next to nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import math
import re
import secrets
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kinrec.server.security.watched import FlagFileError
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_TOKENS = 100
MIN_RATE, MAX_RATE = 0.001, 1_000_000.0
MAX_BURST = 1_000_000
RPCS = frozenset(
    {method.name for method in pb.DESCRIPTOR.services_by_name["RecommenderService"].methods}
    | {"ServerReflectionInfo"}
)

_PREFIX = "kinrec_"  # by which a scanner for secrets can tell one that lies about
_TOKEN_BYTES = 32
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEYS = ("name", "sha256", "rpcs", "rate", "burst")


class TokensError(ValueError):
    """The file of tokens breaks a rule. The text names the key and the rule."""


@dataclass(frozen=True, slots=True)
class Token:
    """Who calls.

    Attributes:
        name: What the log calls them. 1 to 64 letters, digits and any of ``.``, ``_`` and ``-``.
        sha256: The digest of the token, 64 hexadecimal digits.
        rpcs: The names of the methods that may be called.
        rate: Calls per second, `MIN_RATE` to `MAX_RATE`; None for any number.
        burst: Calls that may come at once after a rest, 1 to `MAX_BURST`.
    """

    name: str
    sha256: str
    rpcs: frozenset[str] = RPCS
    rate: float | None = None
    burst: int = 1


class Tokens:
    """The tokens that a server takes.

    Raises:
        TokensError: There are none or more than `MAX_TOKENS`, or two have a name or a digest in common.
    """

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        if not 1 <= len(tokens) <= MAX_TOKENS:
            raise TokensError(f"tokens: must be from 1 to {MAX_TOKENS}, are {len(tokens)}")
        _check_none_twice("name", [token.name for token in tokens])
        _check_none_twice("sha256", [token.sha256 for token in tokens])
        self._tokens = tokens

    def find(self, presented: str) -> Token | None:
        """Give the token that is presented, None if it is none of these."""
        digest = digest_of(presented)
        found = None
        # How long it takes tells neither how much of a digest fits nor which token it is.
        for token in self._tokens:
            if hmac.compare_digest(digest, token.sha256):
                found = token
        return found


def digest_of(token: str) -> str:
    """The digest of a token as the file holds it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_token() -> str:
    """Make a token that nobody can guess."""
    return _PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def check_name(key: str, name: str) -> str:
    """Refuse what is no name of a token.

    Raises:
        TokensError: It is none.
    """
    if not _NAME.fullmatch(name):
        raise TokensError(f"{key}: must be 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', is {name!r}")
    return name


def entry_of(name: str, token: str) -> str:
    """What the file says of a token that may make all calls at any rate."""
    return f'[[tokens]]\nname = "{name}"\nsha256 = "{digest_of(token)}"\n'


def add_entry(path: Path, entry: str) -> None:
    """Write an entry behind those of a file, which is made if it is not there.

    Raises:
        FlagFileError: It cannot be read or written, or would break a rule; it then stays as it is.
    """
    with _naming(path):
        text = path.read_text("utf-8") if path.exists() else ""
        entry = entry if not text else f"\n{entry}" if text.endswith("\n") else f"\n\n{entry}"
        _parse(text + entry)
        with path.open("a", encoding="utf-8") as file:
            file.write(entry)


def read_tokens(path: Path) -> Tokens:
    """Read the tokens of a TOML file.

    Raises:
        FlagFileError: It cannot be read, or breaks a rule.
    """
    with _naming(path):
        return _parse(path.read_text("utf-8"))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the flag and the file in what goes wrong with it."""
    try:
        yield
    except OSError as error:
        raise FlagFileError(f"--tokens {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FlagFileError(f"--tokens {path}: is not text") from error
    except ValueError as error:
        text = " ".join(str(error).split())
        raise FlagFileError(f"--tokens {path}: {text}") from error


def _parse(text: str) -> Tokens:
    found = tomllib.loads(text)
    _check_keys("", found, ("tokens",))
    tokens = found.get("tokens", [])
    if not (isinstance(tokens, list) and all(isinstance(one, dict) for one in tokens)):
        raise TokensError("tokens: must be tables, [[tokens]]")
    return Tokens(tuple(_token(f"tokens[{place}]", one) for place, one in enumerate(tokens)))


def _token(key: str, found: Mapping[str, Any]) -> Token:
    _check_keys(f"{key}.", found, _KEYS)
    name = check_name(f"{key}.name", _text(f"{key}.name", found.get("name")))
    digest = _text(f"{key}.sha256", found.get("sha256"))
    if not _DIGEST.fullmatch(digest):  # which is not told: it may be the token itself
        raise TokensError(f"{key}.sha256: must be 64 hexadecimal digits, as 'kinrec token' prints")
    token = Token(name, digest, _rpcs(f"{key}.rpcs", found.get("rpcs")))
    if "rate" not in found:
        if "burst" in found:
            raise TokensError(f"{key}.burst: needs a rate")
        return token
    rate = _number(f"{key}.rate", found["rate"], MIN_RATE, MAX_RATE)
    burst = _number(f"{key}.burst", found.get("burst", math.ceil(rate)), 1, MAX_BURST)
    if burst % 1:
        raise TokensError(f"{key}.burst: must be a whole number, is {burst:g}")
    return dataclasses.replace(token, rate=rate, burst=int(burst))


def _check_none_twice(key: str, values: list[str]) -> None:
    for place, value in enumerate(values):
        first = values.index(value)
        if first < place:
            what = f"{value!r} " if key == "name" else ""
            raise TokensError(f"tokens[{place}].{key}: {what}is that of tokens[{first}] too")


def _rpcs(key: str, found: object) -> frozenset[str]:
    if found is None:
        return RPCS
    if not (isinstance(found, list) and found and all(isinstance(one, str) for one in found)):
        raise TokensError(f"{key}: must be a list of names of methods")
    for name in found:
        if name not in RPCS:
            raise TokensError(f"{key}: {name!r} is no method; there are {', '.join(sorted(RPCS))}")
    return frozenset(found)


def _check_keys(prefix: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in found:
        if name not in known:
            raise TokensError(f"{prefix}{name}: is no key; there are {', '.join(known)}")


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise TokensError(f"{key}: must be a string")
    return value


def _number(key: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokensError(f"{key}: must be a number")
    if not least <= value <= most:  # NaN is not
        raise TokensError(f"{key}: must be from {least:g} to {most:,.0f}, is {value:g}")
    return float(value)
