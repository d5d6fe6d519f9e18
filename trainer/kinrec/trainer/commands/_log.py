"""What every command that reads a log takes: the files, their columns and the cleaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.errors import ConfigError
from kinrec.trainer.files import find_files
from kinrec.trainer.reading import EventColumns, ItemColumns
from kinrec.trainer.settings import (
    ANY_NAMES,
    PATHS,
    TABLES,
    TEXT,
    TEXTS_BY_NAME,
    Setting,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kinrec.trainer.training import Inputs

_EVENT_COLUMNS = ("user", "item", "time", "type", "value")
FILES = [
    Setting(
        "events",
        PATHS,
        "Event logs: CSV, Parquet or JSON lines, plain, .gz or .zst, or folders of them. Required.",
        default=(),
    ),
    Setting("items", PATHS, "The items: item_id, title and attributes.", default=()),
]
_COLUMNS = [
    *(
        Setting(f"{name}_column", TEXT, "Of the events.", default=getattr(EventColumns(), name))
        for name in _EVENT_COLUMNS
    ),
    Setting("items_item_column", TEXT, "Of the items. Default: the same as --item-column"),
    Setting("title_column", TEXT, "Of the items.", default=ItemColumns().title),
    Setting(
        "attributes",
        ANY_NAMES,
        "Of the items, the columns to filter by; none if no name follows. Default: all others.",
    ),
    Setting(
        "attribute_kind",
        TEXTS_BY_NAME,
        "What an attribute is: text, number or time. Default: what every entry can be.",
        default=(),
    ),
    Setting(
        "attribute_separator",
        TEXTS_BY_NAME,
        "What stands between the texts of an attribute that has several, e.g. genres=|.",
        default=(),
    ),
]
GROUPS = (
    ("columns", "the names in your files", _COLUMNS),
    ("cleaning", "what is left out of the events and filled in", settings_of(CleaningConfig)),
)


def changed_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is said of columns and is not the default, by setting, as TOML has it."""
    return {
        setting.key: dict(values[setting.key]) if setting.kind in TABLES else values[setting.key]
        for setting in _COLUMNS
        if values[setting.key] not in (setting.default, None, "")
    }


def require(values: Mapping[str, Any], *keys: str) -> None:
    """Raise ConfigError unless each of some settings is given."""
    for key in keys:
        if not values[key]:
            raise ConfigError(key, "", f"must be given, by --{key} or in the file of --config")


def read_inputs(values: Mapping[str, Any]) -> Inputs:
    """Say what is to be read, if it is there.

    Raises:
        TrainerError: A file is not there, or two columns have one name.
    """
    event_columns = EventColumns(**{name: values[f"{name}_column"] for name in _EVENT_COLUMNS})
    item_columns = ItemColumns(
        item=values["items_item_column"] or event_columns.item,
        title=values["title_column"],
        **{key: values[key] for key in ("attributes", "attribute_kind", "attribute_separator")},
    )
    # Before torch is imported, which takes seconds.
    find_files([*values["events"], *values["items"]])
    from kinrec.trainer.training import Inputs  # noqa: PLC0415

    return Inputs(values["events"], values["items"], event_columns, item_columns)
