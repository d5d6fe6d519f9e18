"""The carried state: what a person's earlier events come to, as bytes that a caller keeps.

It holds the encoder's states and vector after the last event, and the events that the other sources
look at. Whoever sends it back with what is new gets, bit for bit, the answer to the whole history.
The bytes are checked here for being of one bundle and well formed. That nobody made them up is the
server's to check, which signs them, and says so when it has: see ``VerifiedState``.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine._errors import InvalidStateError, StaleStateError
from kinrec.engine.encoder import Encoded, Start
from kinrec.engine.events import NOTHING, History
from kinrec.engine.store import FINGERPRINT_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Format, fingerprint, user number or -1, events, time of the last event.
_HEADER = struct.Struct(f"<4s{FINGERPRINT_BYTES}siid")
_FORMAT = b"kst1"
_FLOAT, _INT, _TIME = np.dtype("<f4"), np.dtype("<i4"), np.dtype("<f8")
_NOBODY = -1
_MOST = 1e9  # of the vector's length: far above what an encoder gives, far below where products overflow


class VerifiedState(bytes):
    """A state that is known to be one that ``StateFormat.pack`` wrote, of whatever bundle.

    To look at every number in it would take as long as to verify its signature.
    """

    __slots__ = ()


class State(NamedTuple):
    """Where a person stands after some events.

    Attributes:
        user: The user number if known.
        history: At least one event, what the sources look at; nothing of a known user of whom
            nothing is known but what is in the bundle.
        encoded: The vector and the states of the encoder after the last event; None of such a user.
    """

    user: int | None
    history: History
    encoded: Encoded | None

    @property
    def start(self) -> Start | None:
        """Where the encoder goes on."""
        if self.encoded is None:
            return None
        return Start(self.encoded.states, float(self.history.times[-1]))


class StateFormat:
    """Turns the states of one bundle to bytes and back.

    Args:
        fingerprint: What tells the bundle from every other, ``FINGERPRINT_BYTES`` bytes.
        users: Number of users.
        items: Number of items.
        event_types: Number of event type codes.
        vector_size: Length of an interest vector.
        state_length: How many numbers the encoder's states of a person are.
        max_history: The most events that a state holds.
        with_times: Whether the time of every event is needed again, or of the last alone.
    """

    def __init__(
        self,
        fingerprint: bytes,
        *,
        users: int,
        items: int,
        event_types: int,
        vector_size: int,
        state_length: int,
        max_history: int,
        with_times: bool,
    ) -> None:
        self._fingerprint = fingerprint
        self._beginning = _FORMAT + fingerprint
        self._users = users
        self._items = items
        self._event_types = bytes(range(min(event_types, 256)))
        self._vector_size = vector_size
        self._max_history = max_history
        self._with_times = with_times
        self._numbers = vector_size + state_length
        self._event_bytes = 4 + 1 + 8 * with_times

    def pack(self, state: State) -> bytes:
        """Write a state."""
        user = _NOBODY if state.user is None else state.user
        history = state.history
        if state.encoded is None:
            return _HEADER.pack(_FORMAT, self._fingerprint, user, 0, math.nan)
        last = float(history.times[-1])
        parts = [
            _HEADER.pack(_FORMAT, self._fingerprint, user, len(history), last),
            *[numbers.astype(_FLOAT, copy=False).tobytes() for numbers in state.encoded],
            history.items.astype(_INT, copy=False).tobytes(),
            history.event_types.tobytes(),
        ]
        if self._with_times:
            parts.append(history.times.astype(_TIME, copy=False).tobytes())
        return b"".join(parts)

    def unpack(self, data: bytes) -> State:
        """Read a state.

        Raises:
            StaleStateError: It is of another bundle.
            InvalidStateError: It is no state.
        """
        if len(data) < _HEADER.size or not data.startswith(self._beginning):
            fingerprint_of(data)  # raises if it is none of any bundle
            raise StaleStateError
        _, _, user, count, last = _HEADER.unpack_from(data)
        if not _NOBODY <= user < self._users:
            raise InvalidStateError
        if not count and user != _NOBODY and len(data) == _HEADER.size:
            return State(user, NOTHING, None)
        expected = _HEADER.size + 4 * self._numbers + count * self._event_bytes
        if not (0 < count <= self._max_history and len(data) == expected):
            raise InvalidStateError
        numbers: NDArray[np.float32] = np.frombuffer(data, _FLOAT, self._numbers, _HEADER.size)
        place = _HEADER.size + 4 * self._numbers
        items: NDArray[np.int32] = np.frombuffer(data, _INT, count, place)
        types: NDArray[np.uint8] = np.frombuffer(data, np.uint8, count, place + 4 * count)
        if self._with_times:
            times: NDArray[np.float64] = np.frombuffer(data, _TIME, count, place + 5 * count)
        else:
            times = np.empty(count)
            times.fill(np.nan)
            times[-1] = last
        history = History(items, types, times)
        if not (isinstance(data, VerifiedState) or (self._knows(history) and _are_sane(numbers))):
            raise InvalidStateError
        size = self._vector_size
        encoded = Encoded(numbers[:size], numbers[size:])
        return State(None if user == _NOBODY else user, history, encoded)

    def _knows(self, history: History) -> bool:
        """Whether the items and the types of a history are of the bundle, and no time is endless."""
        return bool(
            # Below zero is far above every number.
            history.items.view(np.uint32).max() < self._items
            and not history.event_types.tobytes().strip(self._event_types)
            and not np.isinf(history.times).any()
        )


def _are_sane(numbers: NDArray[np.float32]) -> bool:
    wide = numbers.astype(np.float64)  # whose squares are never too large
    return bool(wide.dot(wide) <= _MOST * _MOST)  # which what is no number, or endless, is not


def fingerprint_of(data: bytes) -> bytes:
    """Tell of which bundle a state is.

    Raises:
        InvalidStateError: It is no state.
    """
    if len(data) < _HEADER.size or not data.startswith(_FORMAT):
        raise InvalidStateError
    return data[len(_FORMAT) : len(_FORMAT) + FINGERPRINT_BYTES]
