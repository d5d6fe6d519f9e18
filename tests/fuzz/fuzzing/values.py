"""Single values: those that a rule allows, and those that break rules, parsers and patience."""

from __future__ import annotations

import functools
import math
import struct
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

from kinrec.engine import MAX_ID_BYTES
from kinrec.server.config import MAX_REQUEST_BYTES
from kinrec.server.states import MAX_STATE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor

    Draw = Callable[[st.SearchStrategy], object]

_Element = TypeVar("_Element")


def pick(draw: Draw, elements: Sequence[_Element]) -> _Element:
    """Draw one element.

    What hypothesis draws after a `sampled_from` depends on the hashes of the elements; those of objects
    and of texts are others in every process, and the same seed would not make the same calls.
    """
    return elements[draw(_index_below(len(elements)))]


@functools.cache
def _index_below(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


_TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "\r\ngrpc-status: 0",
    "%s%n%x",
    "{0.__class__}",
    "../../../etc/passwd",
    "'; drop table users; --",
    "NaN",
    "-1",
    "\N{RIGHT-TO-LEFT OVERRIDE}abc\N{LEFT-TO-RIGHT MARK}",
    "שלום مرحبا",
    "\N{ZERO WIDTH JOINER}" * 9,
    "e\N{COMBINING ACUTE ACCENT}" * 40,
    "\N{ZERO WIDTH NO-BREAK SPACE}i1",
    "\N{PILE OF POO}" * 3,
    "\U0010ffff",
    "x" * MAX_ID_BYTES,
    "x" * (MAX_ID_BYTES + 1),
    "é" * (MAX_ID_BYTES // 2),
    "é" * (MAX_ID_BYTES // 2) + "x",
    "\U0001f600" * (MAX_ID_BYTES // 4),
    "\U0001f600" * (MAX_ID_BYTES // 4 + 1),
    "x" * 100_000,
)
HOSTILE_TEXTS = st.sampled_from(_TEXTS) | st.text(max_size=40)
HOSTILE_BYTES = st.sampled_from(
    (b"", b"\0", b"\0" * 32, b"\xff" * 33, bytes(MAX_STATE_BYTES), bytes(MAX_STATE_BYTES + 1))
) | st.binary(max_size=80)
# Drawn rarely: each costs what thousands of others do.
ENORMOUS_TEXT = "x" * (MAX_REQUEST_BYTES + 1)

_FLOATS = (math.nan, math.inf, -math.inf, -0.0, 5e-324, -1.0, 1e300, -1.7976931348623157e308)
# A NaN with a payload, and one that signals, as they come from other languages.
_NANS = tuple(
    struct.unpack("<d", struct.pack("<Q", bits))[0]
    for bits in (0xFFF8DEADBEEF0000, 0x7FF0000000000001)
)
HOSTILE_FLOATS = st.sampled_from((*_FLOATS, *_NANS)) | st.floats()


def _integers(least: int, most: int) -> st.SearchStrategy[int]:
    near = (0, 1, -1, 2, 10, 11, 100, 101, 999, 1000, 1001, 2001, 2**31, -(2**31), 2**53)
    edges = (least, least + 1, most, most - 1, *near)
    return st.sampled_from([n for n in edges if least <= n <= most]) | st.integers(least, most)


_F = FieldDescriptor
_INT32 = _integers(-(2**31), 2**31 - 1)
_INT64 = _integers(-(2**63), 2**63 - 1)
_UINT32 = _integers(0, 2**32 - 1)
_UINT64 = _integers(0, 2**64 - 1)
_FLOAT32 = st.sampled_from((*_FLOATS, 3.4028234663852886e38)) | st.floats(width=32)

HOSTILE: dict[int, st.SearchStrategy[object]] = {
    _F.TYPE_STRING: HOSTILE_TEXTS,
    _F.TYPE_BYTES: HOSTILE_BYTES,
    _F.TYPE_BOOL: st.booleans(),
    _F.TYPE_DOUBLE: HOSTILE_FLOATS,
    _F.TYPE_FLOAT: _FLOAT32,
    _F.TYPE_ENUM: _INT32,
    **dict.fromkeys((_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32), _INT32),
    **dict.fromkeys((_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64), _INT64),
    **dict.fromkeys((_F.TYPE_UINT32, _F.TYPE_FIXED32), _UINT32),
    **dict.fromkeys((_F.TYPE_UINT64, _F.TYPE_FIXED64), _UINT64),
}

_COUNTS = st.integers(1, 20)
_SECONDS = st.integers(1_600_000_000, 1_800_000_000)
_NANOS = st.integers(0, 999_999_999)
_MEASURES = st.floats(0, 1, width=32)


class Known:
    """Values that the server knows, by what the name of a field says it holds.

    Args:
        texts: The texts of each word that stands in the name of a field.
    """

    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self._texts = {word: st.sampled_from(known) for word, known in texts.items() if known}
        self._unknown = [word for word, known in texts.items() if not known]
        some = [text for known in texts.values() for text in known[:5]]
        self._any = st.sampled_from([*some, "a", "title"])

    def can_fill(self, descriptor: Descriptor) -> bool:
        """Whether there is a text for every field of a message that needs one of these."""
        names = [field.name for field in descriptor.fields]
        return not any(word in name for word in self._unknown for name in names)

    def valid(self, field: FieldDescriptor) -> st.SearchStrategy[object]:
        """Values for a field that is no message and no token."""
        kind = field.type
        if kind == _F.TYPE_STRING:
            found = [known for word, known in self._texts.items() if word in field.name]
            return found[0] if found else self._any
        if field.containing_type.full_name == "google.protobuf.Timestamp":
            return _SECONDS if field.name == "seconds" else _NANOS
        if kind == _F.TYPE_ENUM:
            return st.sampled_from([value.number for value in field.enum_type.values])
        if kind in (_F.TYPE_DOUBLE, _F.TYPE_FLOAT):
            return _MEASURES
        if kind == _F.TYPE_BOOL:
            return st.booleans()
        return st.just(b"bytes") if kind == _F.TYPE_BYTES else _COUNTS
