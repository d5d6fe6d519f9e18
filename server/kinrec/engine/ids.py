"""Id maps: the strings that callers use, and the dense numbers that arrays are indexed by."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import marisa_trie

from kinrec.engine._errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class IdMap:
    """A frozen two-way map of strings to 0..n-1, kept in a memory-mapped trie.

    The numbers are the trie's own key numbers, so no second table is needed.
    """

    def __init__(self, trie: marisa_trie.Trie) -> None:
        self._trie = trie

    @classmethod
    def build(cls, ids: Iterable[str]) -> IdMap:
        """Make a map of the distinct strings in ``ids``."""
        return cls(marisa_trie.Trie(sorted(set(ids))))

    @classmethod
    def open(cls, path: Path) -> IdMap:
        """Map a file that ``save`` wrote. The caller has verified its checksum."""
        trie = marisa_trie.Trie()
        trie.mmap(str(path))
        return cls(trie)

    def save(self, path: Path) -> None:
        """Write the map to a file."""
        self._trie.save(str(path))

    def __len__(self) -> int:
        return len(self._trie)

    def get(self, key: str) -> int | None:
        """Give the number of a string, or None if it is not in the map."""
        if "\0" in key:
            return None  # the trie would look for what comes before it
        try:
            return cast("int | None", self._trie.get(key))
        except UnicodeEncodeError:  # a lone surrogate
            return None

    def get_all(self, keys: Sequence[str]) -> list[int | None]:
        """Give the number of each string; see ``get``."""
        if "\0" in "".join(keys):
            return [self.get(key) for key in keys]
        try:
            return list(map(self._trie.get, keys))
        except UnicodeEncodeError:
            return [self.get(key) for key in keys]

    @classmethod
    def open_counted(cls, path: Path, count: int, what: str = "ids") -> IdMap:
        """Map a file of a bundle.

        Raises:
            BundleError: It is none of a map, or has not as many strings as the manifest says.
        """
        try:
            ids = cls.open(path)
        except (OSError, RuntimeError) as error:
            raise BundleError(f"{path}: is not an id map") from error
        if len(ids) != count:
            raise BundleError(f"{path}: has {len(ids)} {what}, the manifest says {count}")
        return ids

    def keys(self, start: int, stop: int) -> list[str]:
        """Give the strings from one number up to another, or to the last."""
        return [self.key(number) for number in range(start, min(stop, len(self)))]

    def key(self, number: int) -> str:
        """Give the string of a number from 0 to ``len - 1``."""
        return cast("str", self._trie.restore_key(number))
