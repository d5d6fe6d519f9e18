"""Settings from the command line and from a TOML file, by the same keys and the same rules."""

from __future__ import annotations

import argparse
import datetime as dt
import difflib
import inspect
import re
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of setting.

    Attributes:
        allowed: What is allowed, for errors.
        read: Takes a value as TOML has it; TypeError or ValueError if it is not allowed.
        flag: What argparse is told.
    """

    allowed: str
    read: Callable[[Any], Any]
    flag: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting.

    Attributes:
        key: Its name in a file; with hyphens it is the flag.
        kind: What it can be.
        help: What it does, for people.
        default: What it is if nobody says; None has none.
    """

    key: str
    kind: Kind
    help: str
    default: Any = field(default=None, kw_only=True)


def _plain(wanted: type) -> Callable[[Any], Any]:
    def read(value: object) -> object:
        if type(value) is not wanted:
            raise TypeError
        return value

    return read


def _number(value: object) -> float:
    if type(value) not in {int, float}:
        raise TypeError
    return float(value)  # type: ignore[arg-type] # it is one of the two


def _text(value: object) -> str:
    if isinstance(value, dt.date):  # TOML has times of its own; datetime is a date too
        return value.isoformat()
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_plain(str)(entry) for entry in value)


def _weights(value: object) -> tuple[tuple[str, float], ...]:
    if not isinstance(value, dict):
        raise TypeError
    return tuple(sorted((name, _number(weight)) for name, weight in value.items()))


def _texts_by_name(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise TypeError
    return tuple(sorted((name, _plain(str)(text)) for name, text in value.items()))


def _paths(value: object) -> tuple[Path, ...]:
    return tuple(map(Path, _texts([value] if isinstance(value, str) else value)))


def _weight_flag(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    return name, float(weight)


_weight_flag.__name__ = "weight"  # argparse says "invalid weight value"


def _text_flag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError
    return name, value


_text_flag.__name__ = "NAME=TEXT"


WHOLE = Kind("must be a whole number", _plain(int), {"type": int, "metavar": "N"})
NUMBER = Kind("must be a number", _number, {"type": float, "metavar": "N"})
SWITCH = Kind("must be true or false", _plain(bool), {"action": argparse.BooleanOptionalAction})
TEXT = Kind("must be text", _text, {"metavar": "TEXT"})
NAMES = Kind("must be a list of names", _texts, {"nargs": "+", "metavar": "NAME"})
ANY_NAMES = Kind("must be a list of names", _texts, {"nargs": "*", "metavar": "NAME"})
WEIGHTS = Kind(
    "must be a table of numbers by name",
    _weights,
    {"action": "append", "type": _weight_flag, "metavar": "NAME=N"},
)
TEXTS_BY_NAME = Kind(
    "must be a table of texts by name",
    _texts_by_name,
    {"action": "append", "type": _text_flag, "metavar": "NAME=TEXT"},
)
TABLES = (WEIGHTS, TEXTS_BY_NAME)
"""The kinds that are tables in a file, and of which a flag gives one row."""
PATH = Kind("must be a path", lambda value: Path(_plain(str)(value)), {"metavar": "PATH"})
PATHS = Kind("must be a path or a list of paths", _paths, {"nargs": "+", "metavar": "PATH"})

_KINDS: dict[Any, Kind] = {
    int: WHOLE,
    float: NUMBER,
    float | None: NUMBER,
    bool: SWITCH,
    str: TEXT,
    tuple[str, ...]: NAMES,
    tuple[tuple[str, float], ...]: WEIGHTS,
    tuple[tuple[str, str], ...]: TEXTS_BY_NAME,
}


def settings_of(config: type[TrainConfig | CleaningConfig]) -> list[Setting]:
    """List the settings of a configuration, explained by its docstring."""
    hints, explained = get_type_hints(config), _explanations(config)
    return [
        Setting(each.name, _KINDS[hints[each.name]], explained[each.name], default=each.default)
        for each in fields(config)
        if each.default is not MISSING
    ]


Groups = Sequence[tuple[str, str | None, Sequence[Setting]]]
"""Settings under titles and, some, a description."""


def add_groups(parser: argparse.ArgumentParser, groups: Groups) -> None:
    """Add ``--config`` and a flag for each setting of some groups."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="settings by the names of the flags below, with _ for -; flags win over the file",
    )
    for title, description, settings in groups:
        add_settings(parser.add_argument_group(title, description), settings)


def add_settings(group: argparse._ArgumentGroup, settings: Sequence[Setting]) -> None:
    """Add a flag for each setting; what is not given does not appear among the arguments."""
    for setting in settings:
        default = setting.default
        if isinstance(default, bool):
            default = "yes" if default else "no"
        known = "" if default in (None, "", ()) else f" Default: {default}"
        group.add_argument(
            f"--{setting.key.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=f"{setting.help}{known}".replace("%", "%%"),
            **setting.kind.flag,
        )


def read_settings(
    file: Path | None,
    arguments: argparse.Namespace,
    groups: Groups,
    *,
    ignored: Sequence[str] = (),
) -> dict[str, Any]:
    """Give what was set, a flag before the file, and the defaults of what has one.

    Args:
        file: The file; None for none.
        arguments: The flags.
        groups: The settings.
        ignored: What the file may have though it is no setting here.

    Raises:
        ConfigError: The file cannot be read, has a key that is no setting, or a value is not of its
            kind.
    """
    known = {setting.key: setting for _, _, settings in groups for setting in settings}
    given = _read_file(file, known, ignored) if file is not None else {}
    for key, value in vars(arguments).items():
        if key in known:
            given[key] = dict(value) if known[key].kind in TABLES else value
    values = {key: setting.default for key, setting in known.items()}
    for key, value in given.items():
        try:
            values[key] = known[key].kind.read(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(key, value, known[key].kind.allowed) from error
    return values


def train_config(values: Mapping[str, Any]) -> TrainConfig:
    """Make the configuration of a training out of settings by key.

    Raises:
        ConfigError: A setting breaks its rule.
    """
    cleaning, training = (
        {setting.key: values[setting.key] for setting in settings_of(config)}
        for config in (CleaningConfig, TrainConfig)
    )
    return TrainConfig(**training, cleaning=CleaningConfig(**cleaning))


def _read_file(path: Path, known: Mapping[str, Setting], ignored: Sequence[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            given = tomllib.load(stream)
    except OSError as error:
        raise ConfigError("config", str(path), f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # also where it is no UTF-8
        raise ConfigError("config", str(path), f"is not TOML: {error}") from error
    given = {key: value for key, value in given.items() if key not in ignored}
    for key, value in given.items():
        if key not in known:
            if isinstance(value, dict):
                raise ConfigError(
                    key, "a table", "is not a setting; settings stand before any table"
                )
            near = difflib.get_close_matches(key, known, n=1)
            allowed = f"; {near[0]} is" if near else f"; there are {', '.join(sorted(known))}"
            raise ConfigError(key, value, f"is not a setting{allowed}")
    return given


def _explanations(config: type) -> dict[str, str]:
    """Give what the docstring of a configuration says of each setting."""
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(config) or "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
