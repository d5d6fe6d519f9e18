"""The attributes of items, and which items meet the conditions of a request."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.bundle.v1.manifest_pb2 import Attribute
from kinrec.engine._errors import InvalidFieldError
from kinrec.engine._limits import MAX_CONDITION_VALUES, MAX_CONDITIONS
from kinrec.engine.columns import KIND_NAMES, Codes, Column, NumberColumn, TextColumn
from kinrec.engine.conditions import AllOf, AnyOf, NoneOf, NumberRange, TimeRange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine.arrays import ArrayFiles
    from kinrec.engine.conditions import Condition

_MOST_NAMES = 5
_LONGEST_NAME = 40  # characters of a name that an error tells back
# The part of a condition that its rule is in, for the path of a field.
_PARTS: dict[type[Condition], str] = {
    AnyOf: "any_of",
    AllOf: "all_of",
    NoneOf: "none_of",
    NumberRange: "number_range",
    TimeRange: "time_range",
}
_CACHED_MASKS = 256
_CACHED_BYTES = 1 << 26


class _CodeTest(NamedTuple):
    """A condition on texts; codes that are not known are left out, but for all of them."""

    name: str
    how: type[AnyOf | AllOf | NoneOf]
    codes: tuple[int, ...]


class _RangeTest(NamedTuple):
    """A condition on numbers or times, both bounds included."""

    name: str
    least: float
    greatest: float


_Test = _CodeTest | _RangeTest


class Attributes:
    """The attributes of the items of one bundle. Every method may be called by many threads.

    Args:
        items: The number of items.
        columns: What is known of them, by name.
    """

    def __init__(self, items: int, columns: Mapping[str, Column]) -> None:
        self._items = items
        self._columns = dict(columns)
        size = max(1, min(_CACHED_MASKS, _CACHED_BYTES // max(items, 1)))
        self._mask = lru_cache(size)(self._find)

    @classmethod
    def open(cls, files: ArrayFiles, manifest: Manifest) -> Attributes:
        """Map the files that the manifest names.

        Raises:
            BundleError: One does not fit the manifest.
        """
        items = manifest.item_count
        columns: dict[str, Column] = {}
        for place, spec in enumerate(manifest.attributes):
            kind = TextColumn if spec.kind == Attribute.KIND_TEXT else NumberColumn
            columns[spec.name] = kind.open(files, place, items, spec)
        return cls(items, columns)

    @property
    def names(self) -> list[str]:
        """The names of the attributes, in the order of the bundle."""
        return list(self._columns)

    def mask(self, conditions: Sequence[Condition]) -> NDArray[np.bool_]:
        """Say which items meet every one of some conditions.

        Args:
            conditions: At most ``MAX_CONDITIONS``, with ``MAX_CONDITION_VALUES`` values in all.

        Returns:
            bool, (items,), read-only; all true without conditions.

        Raises:
            InvalidFieldError: A condition breaks a rule; the field is its path, such as
                ``conditions[2].attribute`` or ``conditions[2].any_of.values``.
        """
        return self._mask(self._read(conditions))

    def _find(self, tests: frozenset[_Test]) -> NDArray[np.bool_]:
        found = np.ones(self._items, np.bool_)
        for test in tests:
            self._narrow(found, test)
        found.flags.writeable = False  # the same array to all who ask for the same
        return found

    def codes(self, name: str, *, field: str = "attribute") -> Codes:
        """Give the values of every item by number.

        Args:
            name: The name of an attribute of texts.
            field: What names it, for the error.

        Raises:
            InvalidFieldError: There is no such attribute, or it is none of texts.
        """
        return self._text(name, field).by_item

    def values(self, name: str, item: int, *, field: str = "attribute") -> list[str]:
        """Give the texts that one item has; see ``codes``."""
        column = self._text(name, field)
        offsets, codes = column.by_item
        return [column.values.key(code) for code in codes[offsets[item] : offsets[item + 1]]]

    def _read(self, conditions: Sequence[Condition]) -> frozenset[_Test]:
        """Check conditions and put codes in the place of values.

        What is kept with a mask is then small, whatever a request holds.
        """
        if len(conditions) > MAX_CONDITIONS:
            raise InvalidFieldError(
                "conditions", f"at most {MAX_CONDITIONS} are allowed, got {len(conditions)}"
            )
        values, tests = 0, set()
        for place, condition in enumerate(conditions):
            field = f"conditions[{place}]"
            if isinstance(condition, NumberRange | TimeRange):
                tests.add(self._read_range(condition, field))
                continue
            values += len(condition.values)
            if values > MAX_CONDITION_VALUES:
                raise InvalidFieldError(
                    f"{field}.{_PARTS[type(condition)]}.values",
                    f"at most {MAX_CONDITION_VALUES} are allowed in all conditions together",
                )
            tests.add(self._read_values(condition, field))
        return frozenset(tests)

    def _read_values(self, condition: AnyOf | AllOf | NoneOf, field: str) -> _Test:
        column = self._text(condition.attribute, f"{field}.attribute")
        if not condition.values:
            part = f"{field}.{_PARTS[type(condition)]}"
            raise InvalidFieldError(f"{part}.values", "must not be empty")
        codes = {column.values.get(value) for value in condition.values}
        if None in codes and isinstance(condition, AllOf):
            codes.clear()
        known = sorted(code for code in codes if code is not None)
        return _CodeTest(condition.attribute, type(condition), tuple(known))

    def _read_range(self, condition: NumberRange | TimeRange, field: str) -> _Test:
        column = self._column(condition.attribute, f"{field}.attribute")
        wants_time = isinstance(condition, TimeRange)
        if not isinstance(column, NumberColumn) or column.is_time != wants_time:
            wanted = "times" if wants_time else "numbers"
            raise _wrong_kind(f"{field}.attribute", condition.attribute, column, wanted)
        part = f"{field}.{_PARTS[type(condition)]}"
        if isinstance(condition, TimeRange):
            least = _bound(condition.start, f"{part}.start", -math.inf)
            end = _bound(condition.end, f"{part}.end", math.inf)
            if end <= least:
                raise InvalidFieldError(f"{part}.end", "must be after start")
            # The last time before the end; where there is no end, the greatest there is.
            return _RangeTest(condition.attribute, least, math.nextafter(end, -math.inf))
        least = _bound(condition.min, f"{part}.min", -math.inf)
        greatest = _bound(condition.max, f"{part}.max", math.inf)
        if greatest < least:
            raise InvalidFieldError(f"{part}.max", "must not be below min")
        return _RangeTest(condition.attribute, least, greatest)

    def _column(self, name: str, field: str) -> Column:
        column = self._columns.get(name)
        if column is None:
            names = self.names
            if not names:
                raise InvalidFieldError(field, "the model knows no attributes of its items")
            rest = f" or {len(names) - _MOST_NAMES} others" if len(names) > _MOST_NAMES else ""
            known = ", ".join(names[:_MOST_NAMES])
            rule = f"{_quoted(name)} is none that the model knows; must be {known}{rest}"
            raise InvalidFieldError(field, rule)
        return column

    def _text(self, name: str, field: str) -> TextColumn:
        column = self._column(name, field)
        if not isinstance(column, TextColumn):
            raise _wrong_kind(field, name, column, "text")
        return column

    def _narrow(self, mask: NDArray[np.bool_], test: _Test) -> None:
        """Leave in a mask what meets a test."""
        column = self._columns[test.name]
        if isinstance(test, _RangeTest) and isinstance(column, NumberColumn):
            # Comparing with NaN is never true.
            mask &= column.numbers >= test.least
            mask &= column.numbers <= test.greatest
        elif isinstance(test, _CodeTest) and isinstance(column, TextColumn):
            matches = sorted((column.items_with(code) for code in test.codes), key=len)
            if test.how is NoneOf:
                for items in matches:
                    mask[items] = False
                return
            if test.how is AllOf:
                matches = _in_every(matches)
            hits = np.zeros(len(mask), np.bool_)
            for items in matches:
                hits[items] = True
            mask &= hits


def _in_every(lists: list[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
    """Give the one list of what is in every one of ascending lists, the shortest first."""
    if not lists:
        return []
    found, *others = lists
    for other in others:
        places = np.searchsorted(other, found)
        places[places == len(other)] = 0
        found = found[other[places] == found]
    return [found]


def _bound(value: float | None, field: str, default: float) -> float:
    if value is None:
        return default
    if not math.isfinite(value):
        raise InvalidFieldError(field, "must be finite")
    return value


def _wrong_kind(field: str, name: str, column: Column, wanted: str) -> InvalidFieldError:
    rule = f"must be an attribute of {wanted}, {_quoted(name)} is one of {KIND_NAMES[column.kind]}"
    return InvalidFieldError(field, rule)


def _quoted(name: str) -> str:
    """Quote a name as a request gave it, escaped and cut: it may be anything."""
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…")
