"""Which encoders there are: those of kinrec, and those that other packages add by entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

from kinrec.trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinrec.trainer.encoders._base import EncoderSizes, SequenceEncoder

ENTRY_POINTS = "kinrec.encoders"

# Also among the entry points of kinrec, which say what the names mean to those who read metadata.
# A package cannot take these names.
_BUILT_IN = {
    "lstm": "kinrec.trainer.encoders.lstm:LstmEncoder",
    "gru": "kinrec.trainer.encoders.gru:GruEncoder",
    "transformer": "kinrec.trainer.encoders.transformer:TransformerEncoder",
}


def encoder_names() -> list[str]:
    """List the names of the encoders that are installed, in alphabetical order."""
    return sorted(_installed())


def check_installed(name: str) -> None:
    """Raise ConfigError, with the names there are, unless an encoder is installed by this one."""
    names = encoder_names()
    if name not in names:
        raise ConfigError("encoder", name, f"must be one of {', '.join(names)}")


def load_encoder(name: str) -> Callable[[EncoderSizes], SequenceEncoder]:
    """Import an encoder: what makes one, with random weights, for some sizes.

    Raises:
        ConfigError: None is installed by this name, or its entry point leads to none.
    """
    check_installed(name)
    entry = _installed()[name]
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            "encoder", name, f"its entry point {entry.value!r} cannot be imported: {error}"
        ) from error
    if not callable(found):
        raise ConfigError("encoder", name, f"its entry point {entry.value!r} is no class")
    return cast("Callable[[EncoderSizes], SequenceEncoder]", found)


def _installed() -> dict[str, EntryPoint]:
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    built_in = {name: EntryPoint(name, value, ENTRY_POINTS) for name, value in _BUILT_IN.items()}
    return found | built_in
