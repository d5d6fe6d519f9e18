"""Which version of a store is to be served."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kinrec.engine import BundleError
from kinrec.engine.store import MANIFEST, find_bundle, list_versions, read_pin

if TYPE_CHECKING:
    from pathlib import Path


_Files = tuple[tuple[str, int, int], ...]  # name, size, time of the last change


@dataclass(slots=True)
class Versions:
    """The versions of a store in the order in which they are to be served.

    Attributes:
        store: The store, or one bundle, which is then all there is.
        version: The only one that is to be served; None for the pinned one or else the newest.
    """

    store: Path
    version: str | None = None
    _refused: dict[Path, _Files] = field(default_factory=dict)

    @property
    def may_change(self) -> bool:
        """Whether another version can come to be served."""
        return self.version is None and not (self.store / MANIFEST).is_file()

    def wanted(self) -> list[Path]:
        """Give the bundles that may be served, the best first, without those that were refused.

        A version that was asked for by name or by a pin has no substitute. Of the others the newest
        comes first.

        Raises:
            BundleError: There is none, or the store cannot be read.
        """
        try:
            return [bundle for bundle in self._candidates() if not self._is_refused(bundle)]
        except OSError as error:
            raise BundleError(f"{error.filename}: {error.strerror}") from error

    def _candidates(self) -> list[Path]:
        if not self.may_change:
            return [find_bundle(self.store, self.version)]
        newest = find_bundle(self.store)
        pinned = read_pin(self.store)
        if pinned is None:
            older = reversed(list_versions(self.store)[:-1])
            return [newest, *(self.store / version for version in older)]
        try:
            return [find_bundle(self.store, pinned)]
        except BundleError as error:
            raise BundleError(
                f"{error}, which is pinned; 'kinrec pin {self.store} --newest' lets go of it"
            ) from error

    def _is_refused(self, bundle: Path) -> bool:
        files = self._refused.get(bundle)
        return files is not None and files == _files(bundle)

    def following(self, served: Path) -> Path | None:
        """Give the bundle to be served after another; None if that one is to stay.

        An older version comes only by a pin: what is served stays if it is taken from the store.

        Raises:
            BundleError: There is none.
        """
        best = next(iter(self.wanted()), served)
        if best == served or (best.name < served.name and read_pin(self.store) is None):
            return None
        return best

    def refuse(self, bundle: Path) -> None:
        """Leave a bundle out until one of its files changes, as when it was still being copied."""
        self._refused[bundle] = _files(bundle)

    def forgive(self) -> None:
        """Let every bundle be tried again."""
        self._refused.clear()

    def before(self, bundle: Path) -> Path | None:
        """Give the version before another in the store; None if there is none."""
        if (self.store / MANIFEST).is_file():
            return None
        older = [version for version in list_versions(self.store) if version < bundle.name]
        return self.store / older[-1] if older else None


def _files(bundle: Path) -> _Files:
    """Give what changes when a file of a bundle does."""
    try:
        found = [(entry.name, entry.stat()) for entry in bundle.iterdir()]
    except OSError:  # it has gone meanwhile
        return ()
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found))
