"""Counts the parts of a large request before it is decoded.

An empty part is two bytes on the way and 70 times as much in memory. So a request of 14 MB would take
1 GB before anything could say that it has too many events.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from kinrec.engine import InvalidFieldError

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

# More than a request can have that keeps the limits: a batch of 256 queries with 20,000 events and as many
# items in all, and 1,000 values in 20 conditions each, has some 320,000.
MAX_PARTS = 400_000

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}  # bytes; of a group there is only the tag to pass over
_MOST_SHIFT = 63  # bits, of a number of 10 bytes: the decoder takes none that is longer


class _CutOffError(Exception):
    """What follows is none of the format."""


class _Nested(NamedTuple):
    """A field with messages."""

    name: str
    kind: Descriptor
    is_repeated: bool


def check_parts(kind: Descriptor, data: bytes) -> None:
    """Refuse the bytes of a request that has more parts than any may have.

    Args:
        kind: The type of the request.
        data: The bytes. Where they break the format the decoder will say so.

    Raises:
        InvalidFieldError: There are too many, the last of which are of this field.
    """
    _count(kind, data, 0, len(data), MAX_PARTS)


def _count(kind: Descriptor, data: bytes, place: int, end: int, left: int) -> int:
    """Count down what there may be, and return what is left."""
    nests = _nests(kind)
    seen = dict.fromkeys(nests, 0)
    try:
        while place < end:
            tag, place = _varint(data, place)
            wire = tag & 7
            if wire == _VARINT:
                _, place = _varint(data, place)
                continue
            if wire != _LENGTH:
                place += _FIXED.get(wire, 0)
                continue
            left -= 1
            if left < 0:
                raise InvalidFieldError(
                    _name(kind, tag >> 3), f"a request has at most {MAX_PARTS:,} parts in all"
                )
            size, place = _varint(data, place)
            nested = nests.get(tag >> 3)
            if nested is not None:
                if size:
                    try:
                        left = _count(nested.kind, data, place, min(place + size, end), left)
                    except InvalidFieldError as error:
                        at = f"[{seen[tag >> 3]}]" if nested.is_repeated else ""
                        path = f"{nested.name}{at}.{error.field}"
                        raise InvalidFieldError(path, error.rule) from None
                seen[tag >> 3] += 1
            place += size
    except (IndexError, _CutOffError):
        pass
    return left


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a number, and give the place behind it."""
    byte = data[place]
    if byte < 0x80:
        return byte, place + 1
    value, shift = byte & 0x7F, 7
    while shift <= _MOST_SHIFT:
        place += 1
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise _CutOffError


@functools.cache
def _nests(kind: Descriptor) -> dict[int, _Nested]:
    """Give the fields with messages in which something can come many times, by number."""
    repeated = _repeated(kind)
    return {
        field.number: _Nested(field.name, field.message_type, field.name in repeated)
        for field in kind.fields
        if field.message_type is not None and _has_many(field.message_type)
    }


def _has_many(kind: Descriptor) -> bool:
    inner = [field.message_type for field in kind.fields if field.message_type is not None]
    return bool(_repeated(kind)) or any(map(_has_many, inner))


def _repeated(kind: Descriptor) -> set[str]:
    # By the message that describes it: how the descriptor itself says it differs between versions.
    described = DescriptorProto()
    kind.CopyToProto(described)
    many = FieldDescriptorProto.LABEL_REPEATED
    return {field.name for field in described.field if field.label == many}


def _name(kind: Descriptor, number: int) -> str:
    field = kind.fields_by_number.get(number)
    return "" if field is None else field.name
