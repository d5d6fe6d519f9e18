"""Finds a factorizer by its name: kinrec's own, and those of installed packages."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, cast

from kinrec.trainer.errors import ConfigError

if TYPE_CHECKING:
    from kinrec.trainer.factorizers._base import Factorizer

# The group of entry points in which other packages name theirs.
GROUP = "kinrec.factorizers"

_OWN = {
    "svd": "kinrec.trainer.factorizers.svd:SvdFactorizer",
    "als": "kinrec.trainer.factorizers.als:AlsFactorizer",
    "nmf": "kinrec.trainer.factorizers.nmf:NmfFactorizer",
}


def find_factorizer(name: str) -> Factorizer:
    """Make the factorizer of a name. Only its own module is imported.

    Raises:
        ConfigError: None of this name is installed, or it cannot be imported.
    """
    found = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    for own, place in _OWN.items():
        found[own] = metadata.EntryPoint(own, place, GROUP)
    if name not in found:
        raise ConfigError("factorizer", name, f"must be one of {', '.join(sorted(found))}")
    try:
        make = found[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError("factorizer", name, f"cannot be imported: {error}") from error
    return cast("Factorizer", make())
