"""Tokens: what the service gives for the caller to send back as it came, and what else may come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

from fuzzing.values import HOSTILE_BYTES, pick

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

    from fuzzing.values import Draw

_STATE = "state"
_PAGE = "page_token"
_NAMES = (_STATE, _PAGE)  # a field whose name ends so holds one
_KEPT = 12  # of each field of each method, real tokens that are kept


def is_token(field: FieldDescriptor) -> bool:
    """Whether a field holds a token."""
    is_text = field.type in (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING)
    return is_text and field.name.endswith(_NAMES)


class Tokens:
    """Real tokens, by the end of the name of their field; and what becomes of them on the way."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[bytes]] = {}

    def collect(self, method: str, answer: Message) -> None:
        """Keep the tokens of an answer, if there is room."""
        for field, value in _tokens_of(answer):
            kept = self._found.setdefault((_kind(field), f"{method}.{field.name}"), [])
            if value and value not in kept and len(kept) < _KEPT:
                kept.append(value)

    def draw(self, draw: Draw, field: FieldDescriptor, *, hostile: bool) -> bytes | str:
        """Draw a value for a field that holds a token.

        One of a page fits no other request than its own, so where it must not be hostile it is none.
        """
        token = self._real(draw, field) if hostile or _kind(field) != _PAGE else b""
        if hostile:
            token = changed(draw, token, self._real(draw, None))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return token
        return token.decode("utf-8", "replace")

    def _real(self, draw: Draw, field: FieldDescriptor | None) -> bytes:
        """One that is real; of a field of this kind, or of any."""
        kinds = [
            tokens
            for (kind, _), tokens in self._found.items()
            if tokens and (field is None or kind == _kind(field))
        ]
        if not kinds:
            return b""
        return pick(draw, pick(draw, kinds))


def _kind(field: FieldDescriptor) -> str:
    return next(name for name in _NAMES if field.name.endswith(name))


def _tokens_of(message: Message) -> Iterator[tuple[FieldDescriptor, bytes]]:
    for field, value in message.ListFields():
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                continue
            for part in value if field.is_repeated else [value]:
                yield from _tokens_of(part)
        elif is_token(field) and not field.is_repeated:
            yield field, value.encode() if isinstance(value, str) else value


def changed(draw: Draw, token: bytes, other: bytes = b"") -> bytes:
    """Flip, cut or swap bytes of a token, or put some of another in their place."""
    return pick(draw, _CHANGES)(draw, token, other)


def _place(draw: Draw, token: bytes) -> int:
    return draw(st.integers(0, max(len(token) - 1, 0)))


def _flip(draw: Draw, token: bytes, _other: bytes) -> bytes:
    if not token:
        return b"\1"
    flipped = bytearray(token)
    for _ in range(draw(st.sampled_from((1, 1, 2, 8)))):
        flipped[_place(draw, token)] ^= 1 << draw(st.integers(0, 7))
    return bytes(flipped)


def _cut(draw: Draw, token: bytes, _other: bytes) -> bytes:
    start, stop = sorted((_place(draw, token), _place(draw, token)))
    return pick(draw, (token[:stop], token[start:], token[:start] + token[stop:]))


def _swap(draw: Draw, token: bytes, _other: bytes) -> bytes:
    a, b, c = sorted(_place(draw, token) for _ in range(3))
    return token[:a] + token[b:c] + token[a:b] + token[c:]


def _join(_draw: Draw, token: bytes, other: bytes) -> bytes:
    return token + other


def _splice(draw: Draw, token: bytes, other: bytes) -> bytes:
    place = draw(st.sampled_from((16, 32, 48))) if draw(st.booleans()) else _place(draw, token)
    return token[:place] + other[place:]


def _of_another(_draw: Draw, _token: bytes, other: bytes) -> bytes:
    return other


def _hostile(draw: Draw, _token: bytes, _other: bytes) -> bytes:
    return draw(HOSTILE_BYTES)


def _blank(_draw: Draw, token: bytes, _other: bytes) -> bytes:
    return bytes(len(token))


_CHANGES = (_flip, _cut, _swap, _join, _splice, _of_another, _hostile, _blank)
