"""The configuration refuses what no training could run with."""

import dataclasses
import json
import math

import pytest

from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.config import _RANGES, TrainConfig
from kinrec.trainer.errors import ConfigError


@pytest.mark.parametrize(("key", "least", "most"), _RANGES)
def test_the_ends_of_every_range_are_allowed_and_beyond_is_not(key, least, most):
    """Each setting takes its least and its most, and nothing below or above."""
    for value in (least, most):
        assert getattr(TrainConfig(**{key: value}), key) == value
    for value in (least - 1, most + 1):
        with pytest.raises(ConfigError) as caught:
            TrainConfig(**{key: value})
        assert (caught.value.key, caught.value.value) == (key, value)


def test_the_error_names_setting_value_and_what_is_allowed():
    """The text of the error is all that a person needs to mend the setting."""
    with pytest.raises(ConfigError) as caught:
        TrainConfig(window=1)
    assert str(caught.value) == "window = 1: must be from 2 to 2,000"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("key", ["learning_rate", "alpha", "half_life", "dropout", "min_recall"])
def test_what_is_not_finite_is_refused(key, value):
    """Neither infinity nor not-a-number passes for a setting."""
    with pytest.raises(ConfigError, match=f"^{key} = .*must be finite"):
        TrainConfig(**{key: value})


def test_every_number_has_a_range():
    """No setting but the names and those of the cleaning, with tests of their own, goes unchecked."""
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    unchecked = {"cleaning", "device", "encoder", "factorizer", "split", "test_from"}
    assert names - {key for key, _, _ in _RANGES} == unchecked


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"device": "gpu"}, "device = 'gpu': must be one of auto, cpu, cuda"),
        ({"split": "random"}, "split = 'random': must be leave-one-out or temporal"),
        ({"test_from": "2024-05-31"}, "test_from = '2024-05-31': needs split = temporal"),
        ({"split": "temporal", "test_from": "May"}, "test_from = 'May': must be a date such as"),
    ],
)
def test_the_device_and_the_split_are_checked(settings, text):
    """What there is none of is refused, and a date that is none or changes nothing."""
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**settings)
    assert str(caught.value).startswith(text)
    assert TrainConfig(split="temporal", test_from="2024-05-31").test_from == "2024-05-31"


def test_it_cannot_be_changed():
    """A configuration stays what was checked."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3


def test_all_settings_by_name():
    """The manifest gets every setting with its value."""
    cleaning = CleaningConfig(min_value=2.0, once_types=("like",), type_weight=(("buy", 7.0),))
    cleaning = dataclasses.replace(cleaning, missing_attribute=(("price", "mean"),))
    settings = TrainConfig(seed=5, alpha=0.5, cleaning=cleaning).as_dict()
    assert json.loads(json.dumps(settings)) == settings
    found = settings.pop("cleaning")
    assert TrainConfig(**settings) == TrainConfig(seed=5, alpha=0.5)
    assert (found["min_value"], found["once_types"]) == (2.0, ["like"])
    assert found["type_weight"] == {"buy": 7.0}
    assert found["missing_attribute"] == {"price": "mean"}
    assert set(found) == {field.name for field in dataclasses.fields(CleaningConfig)}
