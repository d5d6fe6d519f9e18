"""The attributes of items, and which items meet the conditions of a request."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.bundle.v1.manifest_pb2 import Attribute
from kinrec.engine._errors import BundleError, InvalidFieldError
from kinrec.engine._limits import MAX_CONDITION_VALUES, MAX_CONDITIONS
from kinrec.engine.conditions import AllOf, AnyOf, NoneOf, NumberRange, TimeRange
from kinrec.engine.ids import IdMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine.arrays import ArrayFiles
    from kinrec.engine.conditions import Condition

KIND_NAMES = {
    Attribute.KIND_TEXT: "text",
    Attribute.KIND_NUMBER: "numbers",
    Attribute.KIND_TIME: "times",
}
"""What the values of each kind are, for people."""

_MOST_NAMES = 5
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


class Codes(NamedTuple):
    """The values of every item by number; those of item i are ``codes[offsets[i]:offsets[i + 1]]``.

    Attributes:
        offsets: int64, (items + 1,).
        codes: int32, (entries,), 0 to the number of distinct values less one; an item's are distinct.
    """

    offsets: NDArray[np.int64]
    codes: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TextColumn:
    """An attribute of texts: any number of distinct ones per item.

    Attributes:
        values: The distinct texts, whose numbers are the codes.
        by_item: The codes of every item, in the order in which the item has them.
        item_offsets: int64, (values + 1,), which cut ``items`` by code.
        items: int32, (entries,); the items that have each code, ascending.
    """

    values: IdMap
    by_item: Codes
    item_offsets: NDArray[np.int64]
    items: NDArray[np.int32]

    @classmethod
    def build(cls, texts: Sequence[Sequence[str]]) -> TextColumn:
        """Make a column of the texts of items 0..n-1; repeated ones of an item count once."""
        distinct = [list(dict.fromkeys(each)) for each in texts]
        values = IdMap.build(text for each in distinct for text in each)
        offsets = np.cumsum([0, *map(len, distinct)], dtype=np.int64)
        numbers = values.get_all([text for each in distinct for text in each])
        codes = np.array(numbers, np.int32)
        order = np.argsort(codes, kind="stable")
        owners = np.repeat(np.arange(len(distinct), dtype=np.int32), np.diff(offsets))
        counts = np.bincount(codes, minlength=len(values))
        item_offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(values, Codes(offsets, codes), item_offsets, owners[order])

    @classmethod
    def open(cls, files: ArrayFiles, place: int, items: int, spec: Attribute) -> TextColumn:
        """Map the files that ``save`` wrote.

        Raises:
            BundleError: They do not fit each other or the manifest.
        """
        vocabulary, offsets, codes, item_offsets, item_numbers = text_files(place)
        path = files.directory / vocabulary
        try:
            values = IdMap.open(path)
        except (OSError, RuntimeError) as error:
            raise BundleError(f"{path}: is not an id map") from error
        if len(values) != spec.value_count:
            raise BundleError(
                f"{path}: has {len(values)} values, the manifest says {spec.value_count}"
            )
        numbers = files.below(codes, np.int32, len(values), None)
        column = cls(
            values,
            Codes(files.offsets(offsets, items, len(numbers)), numbers),
            files.offsets(item_offsets, len(values), len(numbers)),
            files.below(item_numbers, np.int32, items, len(numbers)),
        )
        column._check(files.directory / item_numbers)
        return column

    def save(self, directory: Path, place: int) -> None:
        """Write the files of the attribute at a place among all."""
        vocabulary, offsets, codes, item_offsets, items = text_files(place)
        self.values.save(directory / vocabulary)
        np.save(directory / offsets, self.by_item.offsets)
        np.save(directory / codes, self.by_item.codes)
        np.save(directory / item_offsets, self.item_offsets)
        np.save(directory / items, self.items)

    @property
    def kind(self) -> Attribute.Kind.ValueType:
        """The kind in the manifest."""
        return Attribute.KIND_TEXT

    def describe(self, name: str) -> Attribute:
        """Give what the manifest says of the attribute."""
        return Attribute(
            name=name,
            kind=self.kind,
            item_count=int(np.count_nonzero(np.diff(self.by_item.offsets))),
            value_count=len(self.values),
        )

    def items_with(self, code: int) -> NDArray[np.int32]:
        """Give the items that have a value, ascending."""
        return self.items[self.item_offsets[code] : self.item_offsets[code + 1]]

    def _check(self, path: Path) -> None:
        """Raise BundleError unless the items of each code ascend and are as many as have it."""
        counts = np.bincount(self.by_item.codes, minlength=len(self.values))
        ascends = self.items[1:] > self.items[:-1]
        starts = self.item_offsets[1:-1]
        ascends[starts[(starts > 0) & (starts < len(self.items))] - 1] = True
        if not (np.array_equal(counts, np.diff(self.item_offsets)) and ascends.all()):
            raise BundleError(f"{path}: does not list the items of each value")


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """An attribute of numbers or times: at most one per item.

    Attributes:
        numbers: float64, (items,); NaN where an item has none. Times are seconds since 1970 UTC.
        is_time: Whether they are times.
    """

    numbers: NDArray[np.float64]
    is_time: bool = False

    @classmethod
    def open(cls, files: ArrayFiles, place: int, items: int, spec: Attribute) -> NumberColumn:
        """Map the file that ``save`` wrote.

        Raises:
            BundleError: It does not fit the manifest, or holds an infinity.
        """
        name = number_file(place)
        numbers = files.open(name, np.float64, items)
        if np.isinf(numbers).any():
            raise BundleError(f"{files.directory / name}: holds numbers that are not finite")
        return cls(numbers, spec.kind == Attribute.KIND_TIME)

    def save(self, directory: Path, place: int) -> None:
        """Write the file of the attribute at a place among all."""
        np.save(directory / number_file(place), self.numbers)

    @property
    def kind(self) -> Attribute.Kind.ValueType:
        """The kind in the manifest."""
        return Attribute.KIND_TIME if self.is_time else Attribute.KIND_NUMBER

    def describe(self, name: str) -> Attribute:
        """Give what the manifest says of the attribute."""
        known = self.numbers[~np.isnan(self.numbers)]
        return Attribute(
            name=name,
            kind=self.kind,
            item_count=len(known),
            value_count=len(np.unique(known)),
            least=known.min() if len(known) else 0.0,
            greatest=known.max() if len(known) else 0.0,
        )


Column = TextColumn | NumberColumn


def text_files(place: int) -> tuple[str, str, str, str, str]:
    """Name the files of the texts at a place: the values, two by item and two by value."""
    stem = f"attribute_{place}"
    by_item = (f"{stem}_offsets.npy", f"{stem}_codes.npy")
    by_value = (f"{stem}_item_offsets.npy", f"{stem}_items.npy")
    return f"{stem}.marisa", *by_item, *by_value


def number_file(place: int) -> str:
    """Name the file of the numbers or times at a place."""
    return f"attribute_{place}.npy"


def required_files(attributes: Iterable[Attribute]) -> set[str]:
    """Name the files of the attributes of a manifest."""
    files: set[str] = set()
    for place, spec in enumerate(attributes):
        files.update(
            text_files(place) if spec.kind == Attribute.KIND_TEXT else [number_file(place)]
        )
    return files


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
        self._masks = _Cache(max(1, min(_CACHED_MASKS, _CACHED_BYTES // max(items, 1))))

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
        tests = self._read(conditions)
        found = self._masks.get(tests)
        if found is None:
            found = np.ones(self._items, np.bool_)
            for test in tests:
                self._narrow(found, test)
            found.flags.writeable = False
            self._masks.put(tests, found)
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
            raise _wrong_kind(f"{field}.attribute", column, "times" if wants_time else "numbers")
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
            raise InvalidFieldError(field, f"is none that the model knows; must be {known}{rest}")
        return column

    def _text(self, name: str, field: str) -> TextColumn:
        column = self._column(name, field)
        if not isinstance(column, TextColumn):
            raise _wrong_kind(field, column, "text")
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


class _Cache:
    """The masks asked for last, at most ``size`` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._masks: OrderedDict[frozenset[_Test], NDArray[np.bool_]] = OrderedDict()

    def get(self, key: frozenset[_Test]) -> NDArray[np.bool_] | None:
        with self._lock:
            found = self._masks.get(key)
            if found is not None:
                self._masks.move_to_end(key)
            return found

    def put(self, key: frozenset[_Test], mask: NDArray[np.bool_]) -> None:
        with self._lock:
            self._masks[key] = mask
            self._masks.move_to_end(key)
            while len(self._masks) > self._size:
                self._masks.popitem(last=False)


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


def _wrong_kind(field: str, column: Column, wanted: str) -> InvalidFieldError:
    found = KIND_NAMES[column.kind]
    return InvalidFieldError(field, f"must be an attribute of {wanted}, this one is of {found}")
