"""Interchangeable parts by name: kinrec's own, and those that other packages add by entry points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from kinrec.trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Make = TypeVar("Make", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Plugins(Generic[Make]):
    """The parts of one kind that are installed. Each is imported when it is loaded, not before.

    Attributes:
        setting: The setting that names one, for errors.
        group: The group of entry points in which other packages name theirs.
        own: kinrec's own: ``module:name`` by the name for the setting, which no package can take.
    """

    setting: str
    group: str
    own: Mapping[str, str]

    def names(self) -> list[str]:
        """List what is installed, in alphabetical order."""
        return sorted(self._installed())

    def check(self, name: str) -> None:
        """Raise ConfigError, with the names there are, unless one is installed by this name."""
        names = self.names()
        if name not in names:
            raise ConfigError(self.setting, name, f"must be one of {', '.join(names)}")

    def load(self, name: str) -> Make:
        """Import a part: the class, or what else makes one.

        Raises:
            ConfigError: None is installed by this name, or its entry point leads to none.
        """
        self.check(name)
        entry = self._installed()[name]
        try:
            found = entry.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                self.setting, name, f"its entry point {entry.value!r} cannot be imported: {error}"
            ) from error
        if not callable(found):
            raise ConfigError(self.setting, name, f"its entry point {entry.value!r} is no class")
        return cast("Make", found)

    def _installed(self) -> dict[str, EntryPoint]:
        found = {entry.name: entry for entry in entry_points(group=self.group)}
        return found | {
            name: EntryPoint(name, place, self.group) for name, place in self.own.items()
        }
