"""The signature of a carried state: it leaves signed and is read again only as it left.

A state is signed with HMAC-SHA256 (RFC 2104) under a key that replicas share. Whoever has no key can
make no state, and the engine never reads bytes that came from elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import partial
from typing import TYPE_CHECKING

from kinrec.engine import InvalidStateError, VerifiedState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_STATE_BYTES = 256 * 1024
MIN_KEY_BYTES = 32
MAX_KEYS = 2

_DIGEST = "sha256"
_PSEUDONYM = b"pseudonym of user "  # nothing that is signed begins so
_PSEUDONYM_BYTES = 12
_NONE = VerifiedState()
MAC_BYTES = hashlib.new(_DIGEST).digest_size


class StateKeys:
    """Signs states with one key and reads those signed with it or with the key before.

    Args:
        keys: The key, and the one before it while it is replaced.
        shared: Whether other servers have them.

    Raises:
        ValueError: There are not one or two, or one is too short. The text says which.
    """

    def __init__(self, keys: Sequence[bytes], *, shared: bool = True) -> None:
        if not 1 <= len(keys) <= MAX_KEYS:
            raise ValueError(
                f"must hold one key or two with white space between them, holds {len(keys)}"
            )
        for place, key in enumerate(keys, start=1):
            if len(key) < MIN_KEY_BYTES:
                raise ValueError(
                    f"key {place} must have at least {MIN_KEY_BYTES} bytes, has {len(key)}"
                )
        self._keys = tuple(keys)
        # Each begun with its key once: to begin anew takes as long as to sign a state.
        self._macs = [hmac.new(key, digestmod=_DIGEST) for key in keys]
        self.shared = shared

    def __reduce__(self) -> tuple[Callable[..., StateKeys], tuple[tuple[bytes, ...]]]:
        """Give the keys to another process; what is begun with them cannot be given."""
        return partial(StateKeys, shared=self.shared), (self._keys,)

    @classmethod
    def parse(cls, text: str) -> StateKeys:
        """Read keys with white space between them.

        Raises:
            ValueError: See the class.
        """
        return cls([key.encode() for key in text.split()])

    @classmethod
    def random(cls) -> StateKeys:
        """Make a key that no other server has."""
        return cls([secrets.token_bytes(MIN_KEY_BYTES)], shared=False)

    def seal(self, state: bytes) -> bytes:
        """Sign a state; one that is empty, or too long to be read again, is given as an empty one."""
        if not state or len(state) > MAX_STATE_BYTES - MAC_BYTES:
            return b""
        return self.sign(state) + state

    def open(self, sealed: bytes) -> VerifiedState:
        """Give the state that was signed; of an empty one an empty one.

        Raises:
            InvalidStateError: It was not signed with these keys, or was changed, or is too long.
        """
        if not sealed:
            return _NONE
        state = sealed[MAC_BYTES:]
        if len(sealed) > MAX_STATE_BYTES or not self.is_signed(state, sealed[:MAC_BYTES]):
            raise InvalidStateError
        return VerifiedState(state)

    def sign(self, data: bytes) -> bytes:
        """Give the signature of some bytes, ``MAC_BYTES`` long."""
        return _sign(self._macs[0], data)

    def is_signed(self, data: bytes, signature: bytes) -> bool:
        """Whether it is the signature of some bytes with one of these keys."""
        return any(hmac.compare_digest(signature, _sign(begun, data)) for begun in self._macs)

    def pseudonym(self, user_id: str) -> str:
        """Give a name for a user that only who has the key can find out the id of."""
        named = _PSEUDONYM + user_id.encode()
        return self.sign(named)[:_PSEUDONYM_BYTES].hex()


def _sign(begun: hmac.HMAC, data: bytes) -> bytes:
    mac = begun.copy()
    mac.update(data)
    return mac.digest()
