"""Item attributes: how columns are read, and what becomes of missing entries."""

import datetime as dt
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from kinrec.bundle.v1.manifest_pb2 import Attribute
from kinrec.engine import AnyOf, NoneOf
from kinrec.engine.attributes import Attributes
from kinrec.trainer.attributes import (
    MAX_ATTRIBUTES,
    check_fillings,
    items_to_keep,
    read_attributes,
    with_attributes,
)
from kinrec.trainer.cleaning import CleaningStep, clean_events
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.doubts import find_doubts
from kinrec.trainer.errors import ConfigError, DataError
from kinrec.trainer.reading import ItemColumns, read_items

DAY = 86_400.0


@pytest.fixture
def read(tmp_path):
    """Reads the attributes of items, of lines of CSV or of columns."""

    def read(content, **settings):
        path = tmp_path / ("items.parquet" if isinstance(content, dict) else "items.csv")
        if isinstance(content, dict):
            pl.DataFrame(content).write_parquet(path)
        else:
            path.write_text("\n".join(content), encoding="utf-8")
        columns = ItemColumns(**settings)
        return read_attributes(read_items([path], columns), columns)

    return read


def columns_of(**columns):
    """Give items as many as the entries of each column."""
    (size,) = {len(entries) for entries in columns.values()}
    return {"item_id": [f"i{number}" for number in range(size)], "title": ["T"] * size, **columns}


@pytest.mark.parametrize(
    ("column", "kind", "entries"),
    [
        (["red", None, " "], "text", [["red"], [], []]),
        (["12", " 2.5", "n/a"], "number", [12.0, 2.5, None]),
        (["12", "2.5", "many"], "text", [["12"], ["2.5"], ["many"]]),
        (["02139", "10001", ""], "text", [["02139"], ["10001"], []]),
        (["0.5", "0", "-0.25"], "number", [0.5, 0.0, -0.25]),
        (["1970-01-02", "1970-01-01T00:00:05+00:00", ""], "time", [DAY, 5.0, None]),
        (["1970-01-02", "1970-01-32", ""], "text", [["1970-01-02"], ["1970-01-32"], []]),
        ([None, None, ""], "text", [[], [], []]),
        ([3, None, 1], "number", [3.0, None, 1.0]),
        ([3.5, float("nan"), -1.0], "number", [3.5, None, -1.0]),
        ([True, None, False], "text", [["true"], [], ["false"]]),
        ([dt.date(1970, 1, 2), None, dt.date(1969, 12, 31)], "time", [DAY, None, -DAY]),
        (
            [dt.datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=dt.UTC), None, None],
            "time",
            [1.5, None, None],
        ),
        ([["a", " b ", None], [], None], "text", [["a", "b"], [], []]),
        ([[1, 2], [3], []], "text", [["1", "2"], ["3"], []]),
        ([[True], [], None], "text", [["true"], [], []]),
    ],
)
def test_the_kind_of_a_column(read, column, kind, entries):
    """A column is of numbers or times where all that is there can be read as such, else of text."""
    found = read(columns_of(what=column))

    assert dict(found.kinds) == {"what": kind}
    assert list(found.entries["what"]) == entries
    assert found.item_ids == ["i0", "i1", "i2"]


def test_every_other_column_of_csv(read):
    """Without a word every column but id and title is an attribute; of repeated items the first row."""
    lines = ["sku,name,genre,year", "7,A,War,1999", "8,B,,2000", "7,A2,Love,2001"]
    found = read(lines, item="sku", title="name")

    assert dict(found.kinds) == {"genre": "text", "year": "number"}
    assert dict(found.entries) == {"genre": [["War"], []], "year": [1999.0, 2000.0]}
    assert found.notes == ()


def test_named_columns_and_none(read):
    """Only the named columns are attributes, in their order, or none."""
    items = columns_of(a=["x"], b=["y"], c=["z"])

    assert list(read(items, attributes=("c", "a")).kinds) == ["c", "a"]
    assert list(read(items, attributes=()).kinds) == []


def test_a_kind_can_be_given(read):
    """What a column is said to be goes before what it looks like."""
    items = columns_of(
        shop=[7, 12, None], size=[1.5, 2.0, None], made=["0", "86400", ""], flag=[True, False, None]
    )
    kinds = (("shop", "text"), ("size", "text"), ("made", "time"), ("flag", "number"))
    found = read(items, attribute_kind=kinds)

    assert dict(found.entries) == {
        "shop": [["7"], ["12"], []],
        "size": [["1.5"], ["2.0"], []],
        "made": [0.0, DAY, None],
        "flag": [1.0, 0.0, None],
    }


def test_several_texts_in_one(read):
    """A separator cuts the texts of its column and of no other; what it cuts is text."""
    items = columns_of(
        genre=["War|Love", " Love | | ", None], code=["1|2", "1", "2"], tag=["a|b"] * 3
    )
    found = read(items, attribute_separator=(("genre", "|"), ("code", "|")))

    assert dict(found.entries) == {
        "genre": [["War", "Love"], ["Love"], []],
        "code": [["1", "2"], ["1"], ["2"]],
        "tag": [["a|b"]] * 3,
    }


def test_columns_that_cannot_be_attributes(read):
    """What is neither text, number nor time is passed over with a note, unless it was named."""
    items = columns_of(vector=[[0.5, 1.5]], thing=[{"a": 1}], ok=["x"])
    found = read(items)

    assert list(found.kinds) == ["ok"]
    vector, thing = found.notes
    assert vector == "column 'vector' of the items is no attribute: it is of type List(Float64)"
    assert "'thing'" in thing
    with pytest.raises(
        DataError, match=r"^column vector: is of type List\(Float64\), from which no"
    ):
        read(items, attributes=("vector",))


def test_a_few_odd_entries_are_said(read):
    """Of a text column that is nearly all numbers, a note says how many are none."""
    some = ["7"] * 18 + ["x"] * 3
    found = read(columns_of(year=[*map(str, range(1990, 2010)), "unknown"], some=some))

    assert found.kinds["year"] == "text"
    (note,) = found.notes
    assert note == "attribute year is text: all but 1 of 21 entries are numbers"


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"attributes": ("brand",)}, "column brand: missing; the columns .* are 'size', 'made'$"),
        ({"attribute_kind": (("brand", "text"),)}, "column brand: missing"),
        ({"attribute_kind": (("size", "number"),)}, "column size: 'XL' of item i1 is not a number"),
        ({"attribute_kind": (("made", "time"),)}, "column made: .*of item i0 is not a time"),
    ],
)
def test_attributes_that_cannot_be_read(read, settings, rule):
    """The error names the column, and the item whose entry cannot be read."""
    with pytest.raises(DataError, match=rule):
        read(columns_of(size=["5", "XL"], made=["soon", "late"]), **settings)


def test_an_infinite_number_is_refused(read):
    """Infinity is no number, as it is none of an event."""
    with pytest.raises(DataError, match="column size: inf of item i1 is not a number"):
        read(columns_of(size=[1.0, float("inf")]))


def test_too_many_columns(read):
    """A file with very many columns says how to name some; with as many as can be it is read."""
    names = [f"c{number}" for number in range(MAX_ATTRIBUTES + 1)]
    items = columns_of(**{name: ["x"] for name in names})

    with pytest.raises(DataError, match=r"101 columns .* at most 100 .* name them by attributes"):
        read(items)
    assert len(read(items, attributes=tuple(names[1:])).kinds) == MAX_ATTRIBUTES


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"attributes": ("a", "a")}, "attributes = .*must be different"),
        ({"attributes": ("",)}, "attributes = '': must be a column beside"),
        ({"attributes": ("title",)}, "attributes = 'title': must be a column beside"),
        ({"attribute_kind": (("item_id", "text"),)}, "attributes = 'item_id': must be a column"),
        (
            {"attributes": ("a",), "attribute_kind": (("b", "text"),)},
            r"attributes = \('a',\): must have b, of which more is said",
        ),
        (
            {"attribute_kind": (("a", "date"),)},
            "attribute_kind.a = 'date': must be one of text, number, time",
        ),
        ({"attribute_separator": (("a", ""),)}, "attribute_separator.a = '': must be some text"),
        (
            {"attribute_kind": (("a", "time"),), "attribute_separator": (("a", "|"),)},
            r"attribute_separator.a = '\|': must be some text, of an attribute of text",
        ),
    ],
)
def test_settings_that_make_no_sense(settings, rule):
    """What is said of attributes is checked before a file is opened."""
    with pytest.raises(ConfigError, match=rule):
        ItemColumns(**settings)


@pytest.fixture
def shop(read):
    """The attributes of the items i0 to i4 of the ring, and of one that no event names."""
    return read(
        {
            "item_id": ["i0", "i1", "i2", "i3", "i4", "ghost"],
            "color": ["red", "blue", "blue", "red", None, "green"],
            "price": [1.0, 2.0, 2.0, 7.0, None, 99.0],
            "made": [dt.date(1970, 1, day) for day in (1, 2, 2, 4)] + [None, None],
            "rare": [None] * 5 + ["x"],
        }
    )


def missing(**methods):
    return CleaningConfig(missing_attribute=tuple(methods.items()))


def entries_of(log, name):
    """Give the entries of i0, i4, and i5, which is not among the items."""
    column = log.attributes[name]
    numbers = [log.items.get(key) for key in ("i0", "i4", "i5")]
    if hasattr(column, "numbers"):
        return [
            None if np.isnan(column.numbers[place]) else column.numbers[place] for place in numbers
        ]
    attributes = Attributes(len(log.items), {name: column})
    return [attributes.values(name, place) for place in numbers]


@pytest.mark.parametrize(
    ("name", "method", "filled"),
    [
        ("color", "keep", []),
        ("color", "constant:any: of them", ["any: of them"]),
        ("color", "most_frequent", ["blue"]),  # of equally frequent ones the least
        ("price", "keep", None),
        ("price", "constant:-2.5", -2.5),
        ("price", "mean", 3.0),
        ("price", "median", 2.0),
        ("price", "most_frequent", 2.0),
        ("made", "constant:1970-01-03", 2 * DAY),
        ("made", "mean", 1.25 * DAY),
        ("made", "most_frequent", DAY),
    ],
)
def test_what_is_filled_in(ring_log, shop, name, method, filled):
    """It goes by the items of the log; items that no file has are filled in too, and all are counted."""
    log = with_attributes(ring_log, shop, missing(**{name: method}))
    first = {"color": ["red"], "price": 1.0, "made": 0.0}[name]

    assert entries_of(log, name) == [first, filled, filled]
    steps = [] if method == "keep" else [CleaningStep(f"missing_attribute.{name}", 0, 600, 12)]
    assert list(log.cleaning) == steps


def test_a_text_that_one_item_repeats_is_not_the_most_frequent(ring_log, read):
    """How often a text comes is in how many items it comes."""
    items = {"item_id": ["i0", "i1", "i2"], "color": [["red"] * 3, ["blue"], ["blue"]]}
    log = with_attributes(ring_log, read(items), missing(color="most_frequent"))

    assert entries_of(log, "color") == [["red"], ["blue"], ["blue"]]


def test_an_attribute_that_no_item_of_the_log_has(ring_log, shop):
    """It is left out, and that is said."""
    log = with_attributes(ring_log, shop, CleaningConfig())

    assert list(log.attributes) == ["color", "price", "made"]
    assert "column rare of the items is no attribute: no item of the log has it" in find_doubts(
        log, CleaningConfig()
    )


def test_texts_that_should_be_cut_are_pointed_out(read):
    """A column of several texts each, of which nobody named the separator; none of sentences."""
    subjects = ["Python;DevOps", "Python", "DevOps;Go", "Go;Python", "DevOps", "Go;DevOps"] * 2
    words = [f"a text, of {n} words, and more" for n in range(12)]
    items = {"item_id": [f"i{n}" for n in range(12)], "subject": subjects, "about": words}
    (note,) = read(items).notes
    assert note == (
        "attribute subject: entries such as 'Python;DevOps' look like several texts; "
        'attribute_separator "subject=;" cuts them'
    )
    assert read(items, attribute_separator=(("subject", ";"),)).notes == ()


def test_what_the_log_has_is_what_the_engine_finds(ring_log, shop):
    """Items missing in the file, or without an entry, are with none of any values."""
    log = with_attributes(ring_log, shop, CleaningConfig())
    attributes = Attributes(len(log.items), log.attributes)
    found = [
        sorted(log.items.key(number) for number in np.flatnonzero(attributes.mask([condition])))
        for condition in (AnyOf("color", ("red",)), NoneOf("color", ("red", "blue")))
    ]

    assert found[0] == ["i0", "i3"]
    assert found[1] == sorted(f"i{number}" for number in range(4, 16))
    assert log.attributes["made"].describe("made").kind == Attribute.KIND_TIME


def test_items_are_dropped_with_their_events(frame_of, shop):
    """With drop the events of items without an entry go, in a step of the cleaning of its own."""
    config = missing(price="drop", rare="keep")
    events = frame_of(("u", "i0"), ("u", "i4"), ("v", "i5"), ("v", "ghost"))
    cleaned = clean_events(events, config, items=items_to_keep(shop, config))

    assert cleaned.frame.collect()["item_id"].to_list() == ["i0", "ghost"]
    assert CleaningStep("missing_attribute.price", 2, 2) in cleaned.steps


@pytest.mark.parametrize(
    ("methods", "rule"),
    [
        (
            {"brand": "drop"},
            "missing_attribute.brand = 'drop': is not an attribute of the items; there are color, ",
        ),
        (
            {"color": "mean"},
            "= 'mean': must be one of keep, drop, constant:VALUE, most_frequent, as the attribute is",
        ),
        (
            {"price": "constant:cheap"},
            "missing_attribute.price = 'constant:cheap': must be constant:NUMBER, as",
        ),
        ({"price": "constant:nan"}, "must be constant:NUMBER"),
        ({"made": "constant:soon"}, "missing_attribute.made = 'soon': must be a date such as"),
    ],
)
def test_fillings_that_do_not_fit_the_attributes(shop, methods, rule):
    """The error names the setting, its value and what is allowed."""
    with pytest.raises(ConfigError, match=rule):
        check_fillings(shop, missing(**methods))


def test_fillings_need_items():
    """Without items nothing can be missing of them."""
    with pytest.raises(ConfigError, match=r"missing_attribute\.price = 'mean': needs items"):
        check_fillings(None, missing(price="mean"))


def test_values_that_few_items_share_are_said(ring_log, read):
    """An attribute in which nearly every item has its own value is kept, with a note."""
    items = {
        "item_id": [f"i{number}" for number in range(25)],
        "url": [f"https://example.org/{number}" for number in range(25)],
        "color": ["red", "blue", "green", "black", "white"] * 5,
    }
    log = replace(ring_log, items=type(ring_log.items).build(items["item_id"]))
    log = with_attributes(log, read(items), CleaningConfig())

    (doubt,) = (doubt for doubt in find_doubts(log, CleaningConfig()) if "attribute" in doubt)
    assert doubt.startswith("attribute url: 25 values for 25 items")
