"""Settings from flags and from a file."""

import argparse
from pathlib import Path

import pytest

from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.errors import ConfigError
from kinrec.trainer.settings import (
    PATHS,
    Setting,
    add_groups,
    read_settings,
    settings_of,
    train_config,
)

SETTINGS = [Setting("events", PATHS, "What to read.", default=())]
SETTINGS += [*settings_of(CleaningConfig), *settings_of(TrainConfig)]
GROUPS = [("settings", None, SETTINGS)]


@pytest.fixture
def read(tmp_path):
    """Reads settings from the text of a file, if any, and flags."""

    def read(text=None, *flags):
        parser = argparse.ArgumentParser()
        add_groups(parser, GROUPS)
        file = tmp_path / "settings.toml"
        if text is not None:
            file.write_text(text)
        return read_settings(None if text is None else file, parser.parse_args(flags), GROUPS)

    return read


def test_without_any_the_defaults_hold(read):
    """Nothing given is the default configuration."""
    assert train_config(read()) == TrainConfig()
    assert train_config(read("")) == TrainConfig()


@pytest.mark.parametrize(
    ("text", "flags", "key", "value"),
    [
        ("epochs = 3", "--epochs 3", "epochs", 3),
        ("dropout = 0", "--dropout 0", "dropout", 0.0),
        ("min_value = -1.5", "--min-value=-1.5", "min_value", -1.5),
        ("minimums_once = true", "--minimums-once", "minimums_once", True),
        (
            "drop_immediate_repeats = false",
            "--no-drop-immediate-repeats",
            "drop_immediate_repeats",
            False,
        ),
        ("once_types = ['a', 'b']", "--once-types a b", "once_types", ("a", "b")),
        (
            "type_weight = {view = 1, 'a=b' = 2.5}",
            "--type-weight view=1 --type-weight a=b=2.5",
            "type_weight",
            (("a=b", 2.5), ("view", 1.0)),
        ),
        (
            "missing_attribute = {price = 'mean', a_b = 'constant:x=1'}",
            "--missing-attribute price=mean --missing-attribute a_b=constant:x=1",
            "missing_attribute",
            (("a_b", "constant:x=1"), ("price", "mean")),
        ),
        ("missing_value = 'mean:user'", "--missing-value mean:user", "missing_value", "mean:user"),
        ("latest_time = 2025-01-31", "--latest-time 2025-01-31", "latest_time", "2025-01-31"),
        (
            "latest_time = 2025-01-31T10:00:00Z",
            "--latest-time 2025-01-31T10:00:00+00:00",
            "latest_time",
            "2025-01-31T10:00:00+00:00",
        ),
        ("events = ['a', 'b']", "--events a b", "events", (Path("a"), Path("b"))),
        ("events = 'a'", "--events a", "events", (Path("a"),)),
    ],
)
def test_file_and_flags_say_the_same(read, text, flags, key, value):
    """A setting is the same by a key of the file and by the flag."""
    by_file, by_flag = read(text), read(None, *flags.split())
    assert by_file == by_flag
    assert by_file[key] == value
    assert type(by_file[key]) is type(value)
    assert {k: v for k, v in by_file.items() if k != key} == {
        k: v for k, v in read().items() if k != key
    }


def test_a_flag_goes_before_the_file(read):
    """What both name is the flag's, also where it says the default; the rest is the file's."""
    text = "epochs = 3\nseed = 5\nminimums_once = true\ntype_weight = {view = 2, buy = 3}"
    flags = ("--epochs", "0", "--no-minimums-once", "--type-weight", "view=7")
    values = read(text, *flags)
    assert (values["epochs"], values["seed"], values["minimums_once"]) == (0, 5, False)
    assert values["type_weight"] == (("view", 7.0),)


@pytest.mark.parametrize(
    "text",
    [
        "epochs = 3.0",
        "epochs = false",
        "dropout = '0.5'",
        "dropout = true",
        "minimums_once = 1",
        "missing_title = 5",
        "once_types = 'a'",
        "once_types = [1]",
        "type_weight = [1]",
        "type_weight = {view = true}",
        "missing_attribute = 'drop'",
        "missing_attribute = {price = 5}",
        "events = 5",
        "events = [5]",
    ],
)
def test_what_is_not_of_the_kind_is_refused(read, text):
    """No value is bent into another kind."""
    key = text.split(" = ")[0]
    with pytest.raises(ConfigError, match=f"^{key} = .*must be ") as caught:
        read(text)
    assert caught.value.key == key


def test_a_key_that_is_no_setting_is_refused(read):
    """The error names a setting of a like name, or else all there are."""
    with pytest.raises(ConfigError, match=r"^min_values = 3: is not a setting; min_value is$"):
        read("min_values = 3")
    with pytest.raises(ConfigError, match=r"xyz = 3: is not a setting; there are alpha, .*window$"):
        read("xyz = 3")


def test_every_setting_is_explained():
    """Each setting has its line in the docstring, which is what the help shows."""
    for setting in SETTINGS:
        assert setting.help.endswith("."), setting.key
    names = [setting.key for setting in SETTINGS]
    assert len(set(names)) == len(names)
