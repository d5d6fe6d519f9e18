"""The configuration of the cleaning refuses what no cleaning could do."""

import dataclasses
import math

import pytest

from kinrec.trainer.cleaning_config import RANGES, CleaningConfig, Filling
from kinrec.trainer.errors import ConfigError


@pytest.mark.parametrize(("key", "least", "most"), RANGES)
def test_the_ends_of_every_range_are_allowed_and_beyond_is_not(key, least, most):
    """Each number takes its least and its most, and nothing below or above."""
    for value in (least, most):
        assert getattr(CleaningConfig(**{key: value}), key) == value
    for value in (least - 1, most + 1):
        with pytest.raises(ConfigError, match=f"^{key} = .*must be from"):
            CleaningConfig(**{key: value})


def test_every_number_has_a_range():
    """No number goes unchecked but the least value, which can be any."""
    numbers = {
        field.name
        for field in dataclasses.fields(CleaningConfig)
        if type(field.default) in {int, float}
    }
    assert numbers == {key for key, _, _ in RANGES}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("key", ["min_value", "repeat_window", "session_gap"])
def test_what_is_not_finite_is_refused(key, value):
    """Neither infinity nor not-a-number passes for a setting."""
    with pytest.raises(ConfigError, match=f"^{key} = .*must be finite"):
        CleaningConfig(**{key: value})


@pytest.mark.parametrize(
    ("key", "text", "filling"),
    [
        ("missing_value", "keep", Filling("keep")),
        ("missing_value", "constant:-2.5", Filling("constant", constant=-2.5)),
        ("missing_value", "mean", Filling("mean", "all")),
        ("missing_value", "median:user", Filling("median", "user")),
        ("missing_value", "gaussian", Filling("gaussian")),
        ("missing_type", "constant:a:b", Filling("constant", constant="a:b")),
        ("missing_type", "most_frequent:item", Filling("most_frequent", "item")),
        ("missing_time", "constant:1970-01-02", Filling("constant", constant=86_400.0)),
        ("missing_time", "constant:1970-01-01T02:00:00+02:00", Filling("constant", constant=0.0)),
        ("missing_time", "interpolate", Filling("interpolate")),
    ],
)
def test_methods_for_what_is_missing(key, text, filling):
    """A method is a word, with what it needs after a colon."""
    assert CleaningConfig(**{key: text}).filling(key) == filling


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("missing_value", ""),
        ("missing_value", "average"),
        ("missing_value", "constant"),
        ("missing_value", "constant:"),
        ("missing_value", "constant:many"),
        ("missing_value", "constant:nan"),
        ("missing_value", "mean:"),
        ("missing_value", "mean:all the items"),
        ("missing_value", "interpolate:user"),
        ("missing_value", "drop:user"),
        ("missing_type", "mean"),
        ("missing_type", "interpolate"),
        ("missing_type", "constant: "),
        ("missing_time", "keep"),
        ("missing_time", "constant:yesterday"),
    ],
)
def test_other_methods_are_refused(key, text):
    """What is no method for the column is refused when the configuration is made."""
    with pytest.raises(ConfigError, match=f"^{key} = "):
        CleaningConfig(**{key: text})


@pytest.mark.parametrize(
    ("text", "filling"),
    [
        ("keep", Filling("keep")),
        ("drop", Filling("drop")),
        ("constant: a:b", Filling("constant", constant="a:b")),
        ("median", Filling("median")),
        ("most_frequent", Filling("most_frequent")),
    ],
)
def test_methods_for_missing_attributes(text, filling):
    """Each attribute has a method; what is not named is kept as it is."""
    config = CleaningConfig(missing_attribute=(("price", text),))
    assert config.attribute_filling("price") == filling
    assert config.attribute_filling("color") == Filling("keep")


@pytest.mark.parametrize(
    "text", ["", "average", "constant", "constant: ", "mean:user", "mean:", "interpolate", "drop:x"]
)
def test_other_methods_for_missing_attributes_are_refused(text):
    """The error names the attribute, the text and every method."""
    with pytest.raises(ConfigError) as caught:
        CleaningConfig(missing_attribute=(("price", text),))
    assert str(caught.value) == (
        f"missing_attribute.price = {text!r}: must be one of keep, drop, constant:VALUE, mean, "
        "median, most_frequent"
    )


def test_the_refusal_names_all_methods():
    """A person sees what can be chosen."""
    with pytest.raises(ConfigError) as caught:
        CleaningConfig(missing_type="mean")
    assert str(caught.value) == (
        "missing_type = 'mean': must be one of keep, drop, constant:NAME, "
        "most_frequent[:user|:item]"
    )


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"earliest_time": "soon"}, "earliest_time = 'soon': must be a date such as"),
        ({"latest_time": "soon"}, "latest_time = 'soon': must be a date such as.*, or now"),
        (
            {"earliest_time": "2025-02-01", "latest_time": "2025-01-31"},
            "latest_time = '2025-01-31': must not be before the earliest",
        ),
        ({"min_value_types": ("view",)}, r"min_value_types = \('view',\): needs min_value"),
        ({"once_types": ("like", " ")}, "once_types = ' ': must be the names"),
        ({"known_types": ("a", "a")}, "known_types = .*must be different"),
        ({"type_weight": (("buy", 0.0),)}, r"type_weight.buy = 0.0: must be above 0"),
        ({"type_weight": (("buy", math.nan),)}, r"type_weight.buy = nan: must be above 0"),
        ({"type_weight": (("buy", 1_001.0),)}, r"at most 1,000$"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, rule):
    """The error names the setting, its value and the rule."""
    with pytest.raises(ConfigError, match=rule):
        CleaningConfig(**settings)


def test_times_are_utc_unless_they_have_a_zone():
    """A day is its first moment; now is what the caller says."""
    config = CleaningConfig(earliest_time="1970-01-01T01:00", latest_time="1970-01-02T00:00+01:00")
    assert (config.earliest, config.latest(5.0)) == (3_600.0, 82_800.0)
    assert CleaningConfig(latest_time="now").latest(5.0) == 5.0
    assert (CleaningConfig().earliest, CleaningConfig().latest(5.0)) == (None, None)
