"""Opens the arrays of a bundle and checks once what every answer relies on.

Checksums find damage; these checks find a bundle that was put together wrongly. They read each
array at most once, after its checksum has brought it into memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.lib.format import open_memmap

from kinrec.engine._errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class ArrayFiles:
    """The arrays of one bundle. Every method raises BundleError that names the file.

    Attributes:
        directory: The bundle.
        is_checked: Whether all numbers have been looked at before, which maps every page.
    """

    directory: Path
    is_checked: bool = False

    def open(self, name: str, dtype: type[Scalar], *shape: int | None) -> NDArray[Scalar]:
        """Map an array of this element type and shape; None stands for any length."""
        path = self.directory / name
        try:
            mapped = open_memmap(path, mode="r")
        except (OSError, ValueError, EOFError, OverflowError) as error:
            raise BundleError(f"{path}: is not an array that can be mapped") from error
        if mapped.dtype != dtype:
            raise BundleError(f"{path}: holds {mapped.dtype}, expected {np.dtype(dtype)}")
        fits = len(mapped.shape) == len(shape) and all(
            expected in (None, found) for expected, found in zip(shape, mapped.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise BundleError(f"{path}: has the shape {mapped.shape}, expected ({wanted})")
        # A plain array over the mapping: numpy's memmap class makes every slice several times
        # slower.
        return np.asarray(mapped)

    def finite(self, name: str, *shape: int | None) -> NDArray[np.float32]:
        """Map an array of float32 without infinities and not-a-number."""
        array = self.open(name, np.float32, *shape)
        # The extremes are not finite if any element is not; no copy as large as the array is made.
        if self.is_checked or not array.size:
            return array
        if not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise BundleError(f"{self.directory / name}: holds numbers that are not finite")
        return array

    def below(
        self, name: str, dtype: type[Scalar], stop: int, *shape: int | None
    ) -> NDArray[Scalar]:
        """Map an array of integers from 0 to ``stop - 1``."""
        array = self.open(name, dtype, *shape)
        if self.is_checked or not array.size:
            return array
        if not 0 <= int(array.min()) <= int(array.max()) < stop:
            raise BundleError(
                f"{self.directory / name}: holds {array.min()} to {array.max()}, "
                f"expected 0 to {stop - 1}"
            )
        return array

    def offsets(self, name: str, parts: int, total: int) -> NDArray[np.int64]:
        """Map the offsets that cut ``total`` entries into ``parts``, (parts + 1,)."""
        array = self.open(name, np.int64, parts + 1)
        if self.is_checked:
            return array
        if array[0] != 0 or array[-1] != total or (array[1:] < array[:-1]).any():
            raise BundleError(f"{self.directory / name}: does not rise from 0 to {total}")
        return array
