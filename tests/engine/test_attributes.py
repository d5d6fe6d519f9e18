"""The attributes of items: which items meet the conditions of a request."""

import threading
from itertools import pairwise

import numpy as np
import pytest

from kinrec.bundle.v1.manifest_pb2 import Attribute, Manifest
from kinrec.engine import (
    MAX_CONDITION_VALUES,
    MAX_CONDITIONS,
    AllOf,
    AnyOf,
    InvalidFieldError,
    NoneOf,
    NumberRange,
    TimeRange,
)
from kinrec.engine.arrays import ArrayFiles
from kinrec.engine.attributes import Attributes
from kinrec.engine.columns import NumberColumn, TextColumn

GENRES = [["comedy", "drama"], ["drama"], [], ["drama", "war", "comedy"], ["film noir"]]
PRICES = [5.0, 10.0, np.nan, 20.0, -1.5]
MADE = [0.0, 86_400.0, 86_400.5, np.nan, -1.0]
COLUMNS = {
    "genre": TextColumn.build(GENRES),
    "price": NumberColumn(np.array(PRICES)),
    "made": NumberColumn(np.array(MADE), is_time=True),
}


@pytest.fixture
def attributes(tmp_path):
    """The attributes of five items, through files."""
    for place, column in enumerate(COLUMNS.values()):
        column.save(tmp_path, place)
    specs = [column.describe(name) for name, column in COLUMNS.items()]
    return Attributes.open(ArrayFiles(tmp_path), Manifest(item_count=5, attributes=specs))


@pytest.mark.parametrize(
    ("condition", "items"),
    [
        (AnyOf("genre", ("comedy",)), [0, 3]),
        (AnyOf("genre", ("film noir", "war", "comedy", "war")), [0, 3, 4]),
        (AnyOf("genre", ("western", "war")), [3]),
        (AnyOf("genre", ("western",)), []),
        (AllOf("genre", ("comedy", "drama")), [0, 3]),
        (AllOf("genre", ("war", "drama", "comedy")), [3]),
        (AllOf("genre", ("war", "film noir")), []),
        (AllOf("genre", ("drama", "western")), []),
        (NoneOf("genre", ("drama", "western")), [2, 4]),
        (NoneOf("genre", ("western",)), [0, 1, 2, 3, 4]),
        (NumberRange("price", 5.0, 20.0), [0, 1, 3]),
        (NumberRange("price", min=5.5), [1, 3]),
        (NumberRange("price", max=5.0), [0, 4]),
        (NumberRange("price", 10.0, 10.0), [1]),
        (NumberRange("price"), [0, 1, 3, 4]),
        (TimeRange("made", 0.0, 86_400.0), [0]),
        (TimeRange("made", start=86_400.0), [1, 2]),
        (TimeRange("made", end=86_400.5), [0, 1, 4]),
        (TimeRange("made"), [0, 1, 2, 4]),
    ],
)
def test_what_meets_a_condition(attributes, condition, items):
    """An item without a value meets a condition only if that asks for none of some values."""
    assert np.flatnonzero(attributes.mask([condition])).tolist() == items


def test_all_conditions_hold(attributes):
    """Of several conditions every one holds; without any, every item is left."""
    some = [AnyOf("genre", ("comedy", "film noir")), NumberRange("price", 0.0)]

    assert np.flatnonzero(attributes.mask(some)).tolist() == [0, 3]
    assert np.flatnonzero(attributes.mask([*some, NoneOf("genre", ("war",))])).tolist() == [0]
    assert attributes.mask([]).all()


def test_every_condition_against_a_scan():
    """Masks over many items are what looking at each item gives."""
    rng = np.random.default_rng(5)
    names = [f"v{number}" for number in range(30)]
    texts = [rng.choice(names, rng.integers(0, 6), replace=False).tolist() for _ in range(400)]
    attributes = Attributes(400, {"tag": TextColumn.build(texts)})
    for _ in range(40):
        asked = tuple(rng.choice(names, rng.integers(1, 4), replace=False).tolist())
        for kind, holds in (
            (AnyOf, lambda have, asked=asked: any(name in have for name in asked)),
            (AllOf, lambda have, asked=asked: all(name in have for name in asked)),
            (NoneOf, lambda have, asked=asked: not any(name in have for name in asked)),
        ):
            assert attributes.mask([kind("tag", asked)]).tolist() == [holds(have) for have in texts]


@pytest.mark.parametrize(
    ("condition", "field", "rule"),
    [
        (
            AnyOf("brand", ("a",)),
            "attribute",
            "'brand' is none that the model knows; must be genre, price, made",
        ),
        (NumberRange(""), "attribute", "'' is none that the model knows"),
        (AnyOf("price", ("5",)), "attribute", "of text, 'price' is one of numbers"),
        (NumberRange("genre"), "attribute", "of numbers, 'genre' is one of text"),
        (NumberRange("made"), "attribute", "of numbers, 'made' is one of times"),
        (TimeRange("price"), "attribute", "of times, 'price' is one of numbers"),
        (AllOf("genre", ()), "all_of.values", "must not be empty"),
        (NoneOf("genre", ("x",) * (MAX_CONDITION_VALUES + 1)), "none_of.values", "at most 1000"),
        (NumberRange("price", np.nan), "number_range.min", "must be finite"),
        (NumberRange("price", 1.0, np.inf), "number_range.max", "must be finite"),
        (NumberRange("price", 2.0, 1.0), "number_range.max", "must not be below min"),
        (TimeRange("made", start=-np.inf), "time_range.start", "must be finite"),
        (TimeRange("made", end=np.nan), "time_range.end", "must be finite"),
        (TimeRange("made", 5.0, 5.0), "time_range.end", "must be after start"),
    ],
)
def test_a_condition_that_breaks_a_rule(attributes, condition, field, rule):
    """The error names the condition, its field and what is allowed."""
    with pytest.raises(InvalidFieldError, match=rule) as raised:
        attributes.mask([NoneOf("genre", ("war",)), condition])

    assert raised.value.field == f"conditions[1].{field}"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x" * 40, f"'{'x' * 40}' is"),
        ("é" * 41, f"'{'é' * 40}…' is"),
        ("a\r\n\0'", r""""a\r\n\x00'" is"""),
    ],
)
def test_a_name_is_told_back_in_short(attributes, name, told):
    """An error quotes the name as it was given, without what breaks a line, and no more than its start."""
    with pytest.raises(InvalidFieldError) as raised:
        attributes.codes(name)

    assert raised.value.rule.startswith(told)


def test_too_many_conditions(attributes):
    """There is a most of conditions, and one of the values of all of them together."""
    attributes.mask([NumberRange("price")] * MAX_CONDITIONS)
    with pytest.raises(InvalidFieldError, match="conditions: at most 20 are allowed, got 21"):
        attributes.mask([NumberRange("price")] * (MAX_CONDITIONS + 1))

    half = AnyOf("genre", ("war",) * (MAX_CONDITION_VALUES // 2))
    attributes.mask([half, half])
    with pytest.raises(InvalidFieldError, match=r"conditions\[2\].any_of.values"):
        attributes.mask([half, half, AnyOf("genre", ("war",))])


def test_many_names_are_not_all_listed():
    """Of many attributes an error lists a few, and of none it says so."""
    column = NumberColumn(np.zeros(2))
    many = Attributes(2, {f"a{number}": column for number in range(9)})

    with pytest.raises(InvalidFieldError, match=r"must be a0, a1, a2, a3, a4 or 4 others$"):
        many.mask([NumberRange("x")])
    with pytest.raises(InvalidFieldError, match="the model knows no attributes of its items"):
        Attributes(2, {}).mask([NumberRange("x")])


def test_a_mask_is_kept_and_cannot_be_changed(attributes):
    """The same question, whatever its order, is answered with the same array, which is read-only."""
    asked = [AnyOf("genre", ("war", "drama")), NumberRange("price", 0.0)]
    mask = attributes.mask(asked)

    assert attributes.mask([asked[1], AnyOf("genre", ("drama", "war", "western"))]) is mask
    assert attributes.mask([]) is not mask
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False


def test_masks_are_not_kept_without_end():
    """The masks that are kept have a most in bytes; what was asked for last is kept."""
    items = 1 << 22  # 16 masks of them are 64 MiB
    attributes = Attributes(items, {"price": NumberColumn(np.zeros(items))})
    first = attributes.mask([NumberRange("price", 0.0)])
    masks = [attributes.mask([NumberRange("price", float(least))]) for least in range(1, 16)]

    assert attributes.mask([NumberRange("price", 0.0)]) is first
    attributes.mask([NumberRange("price", 99.0)])
    assert attributes.mask([NumberRange("price", 0.0)]) is first
    assert attributes.mask([NumberRange("price", 1.0)]) is not masks[0]


def test_many_threads_ask_at_once(attributes):
    """Threads that ask different things get each what it asked for."""
    wrong = []

    def ask(price):
        for _ in range(200):
            mask = attributes.mask([NumberRange("price", price)])
            if mask.tolist() != [number >= price for number in PRICES]:
                wrong.append(price)

    threads = [threading.Thread(target=ask, args=(float(price),)) for price in range(-2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def test_the_values_of_an_item(attributes):
    """An item has its texts in the order in which they were given, each once, and numbers for them."""
    offsets, codes = attributes.codes("genre")
    cut = [codes[start:stop].tolist() for start, stop in pairwise(offsets.tolist())]

    assert [attributes.values("genre", item) for item in range(5)] == GENRES
    assert cut[0] == [cut[3][2], cut[1][0]]
    assert TextColumn.build([["a", "b", "a"]]).by_item.codes.tolist() == [0, 1]
    assert attributes.names == ["genre", "price", "made"]
    for name in ("price", "brand"):
        with pytest.raises(InvalidFieldError, match=r"^diversity\.attribute: "):
            attributes.codes(name, field="diversity.attribute")


def test_what_the_manifest_says():
    """A manifest has each attribute's kind, how many items have it, its values and their range."""
    described = [column.describe(name) for name, column in COLUMNS.items()]

    assert described == [
        Attribute(name="genre", kind=Attribute.KIND_TEXT, item_count=4, value_count=4),
        Attribute(
            name="price",
            kind=Attribute.KIND_NUMBER,
            item_count=4,
            value_count=4,
            least=-1.5,
            greatest=20.0,
        ),
        Attribute(
            name="made",
            kind=Attribute.KIND_TIME,
            item_count=4,
            value_count=4,
            least=-1.0,
            greatest=86_400.5,
        ),
    ]
