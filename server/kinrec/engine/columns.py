"""The columns of the attributes of items: how they are made, written, and mapped from a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.bundle.v1.manifest_pb2 import Attribute
from kinrec.engine._errors import BundleError
from kinrec.engine.ids import IdMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kinrec.engine.arrays import ArrayFiles

KIND_NAMES = {
    Attribute.KIND_TEXT: "text",
    Attribute.KIND_NUMBER: "numbers",
    Attribute.KIND_TIME: "times",
}
"""What the values of each kind are, for people."""


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
        values = IdMap.open_counted(path, spec.value_count, "values")
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
