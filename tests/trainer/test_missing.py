"""What is filled in for missing entries."""

import pytest

from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.missing import fill_missing, find_substitute

COLUMNS = {"missing_value": "value", "missing_type": "event_type", "missing_time": "timestamp"}


@pytest.fixture
def fill():
    """Fills a column and gives its entries in the order of the input."""

    def fill(frame, key, text):
        filling, column = CleaningConfig(**{key: text}).filling(key), COLUMNS[key]
        substitute = find_substitute(frame, column, filling)
        filled = fill_missing(frame, column, filling, substitute)
        assert filled.collect_schema().names() == frame.collect_schema().names()
        return filled.sort("input_order").collect()[column].to_list()

    return fill


@pytest.fixture
def rated(frame_of):
    """Ratings of two users, and one user who gives none."""
    return frame_of(
        ("u", "a", "rate", 0.0, 1.0),
        ("u", "b", "rate", 10.0, None),
        ("u", "c", "rate", 40.0, 5.0),
        ("u", "c", "rate", 50.0, 6.0),
        ("u", "a", "rate", 60.0, None),
        ("v", "a", "rate", 5.0, 2.0),
        ("v", "b", "rate", 6.0, 2.0),
        ("w", "d", "rate", 7.0, None),
    )


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("keep", [None, None, None]),
        ("constant:9", [9.0, 9.0, 9.0]),
        ("mean", [3.2, 3.2, 3.2]),
        ("median", [2.0, 2.0, 2.0]),
        ("most_frequent", [2.0, 2.0, 2.0]),
        ("mean:user", [4.0, 4.0, 3.2]),
        ("median:user", [5.0, 5.0, 2.0]),
        ("most_frequent:user", [1.0, 1.0, 2.0]),  # of equally frequent ones the least
        ("mean:item", [2.0, 1.5, 3.2]),
        ("median:item", [2.0, 1.5, 2.0]),
        ("most_frequent:item", [2.0, 1.0, 2.0]),
        ("interpolate", [2.0, 6.0, None]),
    ],
)
def test_values(rated, fill, text, filled):
    """A missing value becomes what the method says; where it can say nothing, it stays missing."""
    found = fill(rated, "missing_value", text)
    assert [found[place] for place in (1, 4, 7)] == filled
    assert [found[place] for place in (0, 2, 3, 5, 6)] == [1.0, 5.0, 6.0, 2.0, 2.0]


def test_rows_without_a_value_are_dropped_if_asked(rated, fill):
    """Only rows with a value stay."""
    assert fill(rated, "missing_value", "drop") == [1.0, 5.0, 6.0, 2.0, 2.0]


def test_nothing_known_fills_nothing(frame_of, fill):
    """Without a single value there is no mean, and without one of the user no line."""
    frame = frame_of(("u", "a"), ("u", "b"))
    for text in ("mean", "median:user", "most_frequent:item", "interpolate", "gaussian"):
        assert fill(frame, "missing_value", text) == [None, None]


def test_interpolation_between_equal_times(frame_of, fill):
    """Between two values of one moment the earlier row's is taken, and nothing is divided by 0."""
    frame = frame_of(
        ("u", "a", None, 5.0, 1.0), ("u", "b", None, 5.0, None), ("u", "c", None, 5.0, 3.0)
    )
    assert fill(frame, "missing_value", "interpolate") == [1.0, 1.0, 3.0]


def test_interpolation_before_the_first_and_after_the_last(frame_of, fill):
    """Outside of what is known the nearest known value is taken."""
    frame = frame_of(
        ("u", "a", None, 1.0, None), ("u", "b", None, 2.0, 7.0), ("u", "c", None, 3.0, None)
    )
    assert fill(frame, "missing_value", "interpolate") == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("constant:open", ["view", "open", "buy", "buy", "open"]),
        ("most_frequent", ["view", "buy", "buy", "buy", "buy"]),
        ("most_frequent:user", ["view", "view", "buy", "buy", "buy"]),
        ("most_frequent:item", ["view", "buy", "buy", "buy", "buy"]),
        ("drop", ["view", "buy", "buy"]),
    ],
)
def test_types(frame_of, fill, text, filled):
    """Types can be filled by name, or by what is done most."""
    frame = frame_of(
        ("u", "a", "view"), ("u", "b"), ("v", "b", "buy"), ("v", "c", "buy"), ("w", "d")
    )
    assert fill(frame, "missing_type", text) == filled


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("drop", [10.0, 30.0, 50.0]),
        ("constant:1970-01-02", [10.0, 86_400.0, 30.0, 50.0, 86_400.0]),
        ("median", [10.0, 30.0, 30.0, 50.0, 30.0]),
        ("mean:user", [10.0, 20.0, 30.0, 50.0, 30.0]),
        ("interpolate", [10.0, 20.0, 30.0, 50.0, None]),
    ],
)
def test_times(frame_of, fill, text, filled):
    """A missing time goes by other times, interpolated along the user's rows in the files."""
    frame = frame_of(
        ("u", "a", None, 10.0),
        ("u", "b", None, None),
        ("u", "c", None, 30.0),
        ("v", "c", None, 50.0),
        ("w", "c", None, None),
    )
    assert fill(frame, "missing_time", text) == filled
