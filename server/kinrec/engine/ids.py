"""Id maps: the strings that callers use, and the dense numbers that arrays are indexed by."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import marisa_trie

from kinrec.engine._errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


_REMEMBERED = 1 << 15  # of a few megabytes: what many ask for is a small part of a large catalogue


class IdMap:
    """A frozen two-way map of strings to 0..n-1, kept in a memory-mapped trie.

    The numbers are the trie's own key numbers, so no second table is needed. What was asked for last
    is remembered, for the trie takes several times as long as a dict.
    """

    def __init__(self, trie: marisa_trie.Trie) -> None:
        self._trie = trie
        # Of strings that are in the map alone: nobody can fill them with others.
        self._numbers: dict[str, int] = {}
        self._keys: dict[int, str] = {}

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
        number = self._numbers.get(key)
        return self._look_up(key) if number is None else number

    def _look_up(self, key: str) -> int | None:
        if "\0" in key:
            return None  # the trie would look for what comes before it
        try:
            number = cast("int | None", self._trie.get(key))
        except UnicodeEncodeError:  # a lone surrogate
            return None
        if number is not None:
            if len(self._numbers) >= _REMEMBERED:
                self._numbers.clear()
            self._numbers[key] = number
        return number

    def get_all(self, keys: Sequence[str]) -> list[int | None]:
        """Give the number of each string; see ``get``."""
        found: list[int | None] = list(map(self._numbers.get, keys))
        if None in found:
            for place, key in enumerate(keys):
                if found[place] is None:
                    found[place] = self._look_up(key)
        return found

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
        restore = self._trie.restore_key  # so many are not worth remembering
        return [cast("str", restore(number)) for number in range(start, min(stop, len(self)))]

    def keys_of(self, numbers: Iterable[int]) -> list[str]:
        """Give the string of each number; see ``key``."""
        return [self._keys.get(number) or self.key(number) for number in numbers]

    def key(self, number: int) -> str:
        """Give the string of a number from 0 to ``len - 1``."""
        key = self._keys.get(number)
        if key is None:
            key = cast("str", self._trie.restore_key(number))
            if len(self._keys) >= _REMEMBERED:
                self._keys.clear()
            self._keys[number] = key
        return key
