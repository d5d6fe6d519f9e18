"""Calls made from the descriptor: messages of every degree of wrong, and bytes that are no message."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from fuzzing.service import METHODS, Call
from fuzzing.tokens import Tokens, changed, is_token
from fuzzing.values import ENORMOUS_TEXT, HOSTILE, Known, pick

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.protobuf.descriptor import Descriptor

    from fuzzing.values import Draw

_DEEPEST = 4  # messages in messages
# Of one request: one enormous value, or many elements that are small.
_MOST_ELEMENTS = 12_000
_MOST_BYTES = 9 * 1024 * 1024
_MOST_FIELDS = 100  # that are drawn; a message that holds others of its kind has no end
_MOST_PAGES = 20
_DIFFERENT = 4  # elements of one field that are not the same


class Wrong(Enum):
    """How much of a message breaks its rules."""

    NOTHING = "nothing"
    ONE = "one field, here or further in"
    ANY = "any field"


EVERY_KIND = (Wrong.NOTHING, Wrong.ONE, Wrong.ANY, Wrong.ONE)


@dataclass(frozen=True, slots=True)
class Maker:
    """What requests are made of.

    Attributes:
        known: Values that the server knows.
        tokens: Tokens that it gave.
        pages: Calls that ask for the page after one that it gave.
    """

    known: Known
    tokens: Tokens = field(default_factory=Tokens)
    pages: list[Call] = field(default_factory=list)

    def collect(self, call: Call, answers: Iterable[Message]) -> None:
        """Keep the tokens of the answers to a call."""
        for answer in answers:
            self.tokens.collect(call.method.name, answer)
            token = getattr(answer, "next_page_token", "")
            if token and len(self.pages) < _MOST_PAGES:
                (request,) = call.requests()
                request.page_token = token
                self.pages.append(Call(call.method, (request.SerializeToString(),)))


class _Filling:
    """The fields of one request, drawn one by one."""

    def __init__(self, draw: Draw, maker: Maker, place: int = 0) -> None:
        self._draw = draw
        self._maker = maker
        self._place = place  # in a stream
        self._elements_left = _MOST_ELEMENTS
        self._bytes_left = _MOST_BYTES
        self._fields_left = _MOST_FIELDS

    def message(self, descriptor: Descriptor, wrong: Wrong, depth: int = 0) -> Message:
        """Draw a message."""
        message = GetMessageClass(descriptor)()
        self._fill(message, wrong, depth)
        return message

    def change(self, message: Message) -> None:
        """Change one field of a message."""
        one = pick(self._draw, list(message.DESCRIPTOR.fields))
        self._set(message, one, pick(self._draw, _ANY_OR_NOTHING), 0)

    def _fill(self, message: Message, wrong: Wrong, depth: int) -> None:
        fields = self._fields_of(message.DESCRIPTOR, depth)
        chosen = pick(self._draw, fields) if wrong is Wrong.ONE and fields else None
        for one in fields:
            if one is chosen:
                self._set(message, one, Wrong.ONE, depth)
            elif self._fields_left > 0 and (_is_choice(one) or self._draw(_OFTEN)):
                part = pick(self._draw, _ANY_OR_NOTHING) if wrong is Wrong.ANY else Wrong.NOTHING
                if part is Wrong.NOTHING and not self._can_fill(one):
                    continue
                self._set(message, one, part, depth)

    def _fields_of(self, descriptor: Descriptor, depth: int) -> list[FieldDescriptor]:
        """The fields that may be set, of those that exclude each other one."""
        left_out: list[FieldDescriptor] = []
        for members in (list(choice.fields) for choice in descriptor.oneofs):
            if len(members) > 1:
                likely = members[min(self._place, len(members) - 1)]
                kept = pick(self._draw, [likely, *members])
                left_out += [one for one in members if one is not kept]
        if depth == _DEEPEST:
            left_out += [one for one in descriptor.fields if one.message_type is not None]
        # Those that hold no message come first, so that what is deep takes nothing from them.
        return sorted(
            (one for one in descriptor.fields if one not in left_out),
            key=lambda one: one.message_type is not None,
        )

    def _can_fill(self, one: FieldDescriptor) -> bool:
        return one.message_type is None or self._maker.known.can_fill(one.message_type)

    def _set(self, message: Message, one: FieldDescriptor, wrong: Wrong, depth: int) -> None:
        self._fields_left -= 1
        if one.message_type is not None and one.message_type.GetOptions().map_entry:
            self._set_map(getattr(message, one.name), one, wrong, depth)
        elif one.is_repeated:
            getattr(message, one.name).extend(self._elements(one, wrong, depth))
        elif one.message_type is not None:
            part = getattr(message, one.name)
            part.SetInParent()
            self._fill(part, wrong, depth + 1)
        else:
            setattr(message, one.name, self._value(one, wrong))

    def _elements(self, one: FieldDescriptor, wrong: Wrong, depth: int) -> Iterator[object]:
        """A few different elements, and as many more as wanted of the same."""
        is_many = wrong is not Wrong.NOTHING and depth < _DEEPEST // 2 and self._draw(_SOMETIMES)
        count = self._draw(_MANY if is_many else _FEW)
        kinds = [wrong] * min(count, _DIFFERENT if self._fields_left > 0 else 1)
        if wrong is Wrong.ONE and kinds:
            kinds = [Wrong.NOTHING] * len(kinds)
            if not is_many:
                kinds[self._draw(st.integers(0, len(kinds) - 1))] = Wrong.ONE
        elements = [self._element(one, kind, depth) for kind in kinds]
        if not elements:
            return iter(())
        size = sum(map(_size, elements)) / len(elements)
        room = min(self._elements_left, self._bytes_left / max(size, 1))
        count = min(count, max(int(room), 1))
        self._elements_left -= count
        self._bytes_left -= count * size
        return itertools.islice(itertools.cycle(elements), count)

    def _element(self, one: FieldDescriptor, wrong: Wrong, depth: int) -> object:
        if one.message_type is None:
            return self._value(one, wrong)
        return self.message(one.message_type, wrong, depth + 1)

    def _set_map(
        self, values: dict[object, object], one: FieldDescriptor, wrong: Wrong, depth: int
    ) -> None:
        key, value = (one.message_type.fields_by_name[name] for name in ("key", "value"))
        for _ in range(self._draw(_FEW)):
            drawn = self._value(key, wrong)
            if value.message_type is None:
                values[drawn] = self._value(value, wrong)
            else:
                self._fill(values[drawn], wrong, depth + 1)

    def _value(self, one: FieldDescriptor, wrong: Wrong) -> object:
        is_wrong = wrong is not Wrong.NOTHING
        if is_token(one):
            return self._maker.tokens.draw(self._draw, one, hostile=is_wrong)
        if not is_wrong:
            return self._draw(self._maker.known.valid(one))
        if one.type == FieldDescriptor.TYPE_STRING and self._draw(_HARDLY_EVER):
            return ENORMOUS_TEXT
        return self._draw(HOSTILE[one.type])


def _is_choice(one: FieldDescriptor) -> bool:
    """Whether a field is one of several of which one is set. An optional one is alone in its oneof."""
    return one.containing_oneof is not None and len(one.containing_oneof.fields) > 1


def _size(element: object) -> int:
    """About the bytes of an element of a repeated field."""
    if isinstance(element, str | bytes):
        return len(element)
    return element.ByteSize() if isinstance(element, Message) else 8


# Hypothesis makes a failing call smaller by going towards what stands first.
_OFTEN = st.sampled_from((False, True, True))
_SOMETIMES = st.sampled_from((False, False, True))
_SELDOM = st.sampled_from((False,) * 9 + (True,))
_HARDLY_EVER = st.sampled_from((False,) * 79 + (True,))
_ANY_OR_NOTHING = (Wrong.NOTHING, Wrong.ANY)
_FEW = st.sampled_from((0, 1, 2, 3, 4, 12))
_MANY = st.sampled_from((0, 101, 257, 501, 1001, 2000, 2001, 10_001))


def valid_calls(maker: Maker) -> st.SearchStrategy[Call]:
    """Calls that keep every rule of a single field."""
    return _calls(maker, (Wrong.NOTHING,), raw=False)


def calls(maker: Maker) -> st.SearchStrategy[Call]:
    """Calls of every kind."""
    return _calls(maker, EVERY_KIND, raw=True)


@st.composite
def _calls(draw: Draw, maker: Maker, kinds: tuple[Wrong, ...], *, raw: bool) -> Call:
    if raw and maker.pages and draw(_SELDOM):
        return _next_page(draw, maker)
    method = pick(draw, METHODS)
    count = draw(st.sampled_from((1, 2, 0, 4))) if method.client_streaming else 1
    payloads = []
    for place in range(count):
        message = message_of(draw, maker, method.input_type, kinds, place)
        payload = message.SerializeToString()
        if raw and draw(_SOMETIMES):
            payload = pick(draw, _RAW)(draw, method.input_type, payload)
        payloads.append(payload)
    return Call(method, tuple(payloads))


def message_of(
    draw: Draw, maker: Maker, descriptor: Descriptor, kinds: tuple[Wrong, ...], place: int = 0
) -> Message:
    """Draw a message that is wrong in one of the ways, for a place in a stream."""
    return _Filling(draw, maker, place).message(descriptor, pick(draw, kinds))


def _next_page(draw: Draw, maker: Maker) -> Call:
    """Ask for the page after one, as it should be asked for or not."""
    call = pick(draw, maker.pages)
    (request,) = call.requests()
    kind = pick(draw, ("as it is", "the token", "another field", "the bytes"))
    if kind == "the token":
        other = pick(draw, maker.pages).payloads[0]
        token = changed(draw, request.page_token.encode(), other)
        request.page_token = token.decode("utf-8", "replace")
    elif kind == "another field":
        _Filling(draw, maker).change(request)
    payload = request.SerializeToString()
    if kind == "the bytes":
        payload = pick(draw, _RAW)(draw, call.method.input_type, payload)
    return Call(call.method, (payload,))


# Bytes.


def _random(draw: Draw, _descriptor: Descriptor, _payload: bytes) -> bytes:
    return draw(st.binary(max_size=200))


def _flipped(draw: Draw, _descriptor: Descriptor, payload: bytes) -> bytes:
    changed = bytearray(payload or b"\0")
    for _ in range(draw(st.sampled_from((1, 2, 8)))):
        place = draw(st.integers(0, len(changed) - 1))
        changed[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def _cut(draw: Draw, _descriptor: Descriptor, payload: bytes) -> bytes:
    return payload[: draw(st.integers(0, len(payload)))]


def _twice(_draw: Draw, _descriptor: Descriptor, payload: bytes) -> bytes:
    """Messages end to end are one message: fields that may stand once stand twice."""
    return payload + payload


def _inserted(draw: Draw, _descriptor: Descriptor, payload: bytes) -> bytes:
    place = draw(st.integers(0, len(payload)))
    return payload[:place] + draw(st.binary(min_size=1, max_size=20)) + payload[place:]


def _unknown(draw: Draw, _descriptor: Descriptor, payload: bytes) -> bytes:
    """Fields that no version of the message has, groups without an end or without a beginning."""
    return payload + pick(draw, _UNKNOWN)


def _flooded(draw: Draw, descriptor: Descriptor, payload: bytes) -> bytes:
    """Elements of a repeated field that take two bytes each and as messages far more."""
    repeated = [one for one in descriptor.fields if one.is_repeated]
    number = pick(draw, repeated).number if repeated else 1
    return payload + (_varint(number << 3 | 2) + b"\0") * _FLOOD


def _other_type(draw: Draw, descriptor: Descriptor, payload: bytes) -> bytes:
    """A field of the message as another wire type than it has."""
    number = pick(draw, list(descriptor.fields)).number if descriptor.fields else 1
    return payload + _varint(number << 3 | draw(st.integers(0, 7))) + draw(st.binary(max_size=12))


def _not_utf8(draw: Draw, descriptor: Descriptor, payload: bytes) -> bytes:
    """A string, here or one message further in, whose bytes are not UTF-8: surrogates among them."""
    bad = pick(draw, (b"\xed\xa0\x80", b"\xed\xa0\xbd\xed\xb8\x80", b"\xff", b"\xc0\x80"))
    paths = [
        path
        for one in descriptor.fields
        for path in ([[one]] + [[one, inner] for inner in _fields_of(one)])
        if path[-1].type == FieldDescriptor.TYPE_STRING
    ]
    if not paths:
        return payload + bad
    for one in reversed(pick(draw, paths)):
        bad = _varint(one.number << 3 | 2) + _varint(len(bad)) + bad
    return payload + bad


def _fields_of(one: FieldDescriptor) -> list[FieldDescriptor]:
    return list(one.message_type.fields) if one.message_type is not None else []


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_FLOOD = 200_000
_RAW = (
    _random, _flipped, _cut, _twice, _inserted, _unknown, _other_type, _not_utf8, _flooded,
)  # fmt: skip
_UNKNOWN = (
    _varint(1000 << 3) + b"\x01",
    _varint(1000 << 3 | 2) + _varint(5) + b"hello",
    _varint((2**29 - 1) << 3 | 5) + b"1234",
    b"\x00\x00",
    b"\x0b" * 50 + b"\x0c" * 50,
    b"\x0b" * 100_000,
    b"\x0c",
    _varint(1000 << 3) + b"\xff" * 11,
    _varint(1000 << 3 | 2) + _varint(2**32 - 1),
    _varint(1000 << 3 | 2) + _varint(2**63),
)
