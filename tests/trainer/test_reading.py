"""Files to events and items."""

import gzip
import json
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinrec.trainer.errors import ConfigError, DataError
from kinrec.trainer.reading import EventColumns, ItemColumns, read_events, read_items

HEADER = "user_id,item_id,timestamp"
ROWS = [
    {"user_id": "u1", "item_id": "i1", "event_type": "view", "timestamp": 1_700_000_000},
    {"user_id": "u1", "item_id": "i2", "event_type": "buy", "timestamp": 1_700_000_060},
    {"user_id": "u2", "item_id": "i1", "event_type": "view", "timestamp": 1_700_000_030},
]
READ = [
    ("u1", "i1", "view", 1_700_000_000.0, None, 0),
    ("u1", "i2", "buy", 1_700_000_060.0, None, 1),
    ("u2", "i1", "view", 1_700_000_030.0, None, 2),
]


def events_of(*paths, **columns):
    return read_events(paths, EventColumns(**columns)).collect().rows()


def times_of(path):
    return [row[3] for row in events_of(path)]


def csv(folder, *lines, name="events.csv"):
    path = folder / name
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def times_csv(folder, *times):
    return csv(folder, HEADER, *(f"u{place},i1,{time}" for place, time in enumerate(times)))


def refusal(*paths, **columns):
    with pytest.raises(DataError) as raised:
        events_of(*paths, **columns)
    text = str(raised.value)
    assert "\n" not in text
    return text


def write_csv(path):
    pl.DataFrame(ROWS).write_csv(path)


def write_csv_zst(path):
    pl.LazyFrame(ROWS).sink_csv(path, compression="zstd")


def write_csv_gz(path):
    path.write_bytes(gzip.compress(pl.DataFrame(ROWS).write_csv().encode()))


def write_tsv(path):
    pl.DataFrame(ROWS).write_csv(path, separator="\t")


def write_semicolons(path):
    pl.DataFrame(ROWS).write_csv(path, separator=";")


def write_marked_csv(path):
    pl.DataFrame(ROWS).write_csv(path, include_bom=True)


def write_json_lines(path):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")


def write_json_lines_gz(path):
    path.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in ROWS).encode()))


def write_json_lines_zst(path):
    pl.LazyFrame(ROWS).sink_ndjson(path, compression="zstd")


def write_parquet(path):
    pl.DataFrame(ROWS).write_parquet(path)


WRITERS = {
    "a.csv": write_csv,
    "a.CSV": write_csv,
    "a.csv.gz": write_csv_gz,
    "a.csv.zst": write_csv_zst,
    "a.tsv": write_tsv,
    "semicolons.csv": write_semicolons,
    "marked.csv": write_marked_csv,
    "a.jsonl": write_json_lines,
    "a.json": write_json_lines,
    "a.ndjson": write_json_lines,
    "a.jsonl.gz": write_json_lines_gz,
    "a.jsonl.zst": write_json_lines_zst,
    "a.parquet": write_parquet,
    "odd [1]*.jsonl": write_json_lines,
    "odd [1]*.csv": write_csv,
}


@pytest.mark.parametrize("name", WRITERS)
def test_formats(tmp_path, name):
    """The same events come out of every format."""
    WRITERS[name](tmp_path / name)
    assert events_of(tmp_path / name) == READ


def test_schema(tmp_path):
    """The columns and their types are the same, whatever the file lacks."""
    frame = read_events([csv(tmp_path, HEADER, "1,2,3")], EventColumns())
    assert frame.collect().to_native().schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "event_type": pl.String,
        "timestamp": pl.Float64,
        "value": pl.Float64,
        "input_order": pl.Int64,
    }


def test_folder_and_files_are_read_in_order(tmp_path):
    """Files come in the order given, those of a folder sorted, and input_order grows."""
    folder = tmp_path / "log"
    (folder / "day=2").mkdir(parents=True)
    csv(folder, HEADER, "u2,i1,2", name="b.csv")
    csv(folder, HEADER, "u1,i1,1", "u1,i2,1", name="a.csv")
    csv(folder, "not read", name="_SUCCESS")
    csv(folder, "not read", name=".hidden.csv")
    write_parquet(folder / "day=2" / "part.parquet")
    first = csv(tmp_path, HEADER, "u0,i1,0", name="z.csv")
    rows = events_of(first, folder)
    assert [row[0] for row in rows] == ["u0", "u1", "u1", "u2", "u1", "u1", "u2"]
    order = [row[5] for row in rows]
    assert order == sorted(set(order))


def test_columns_can_have_other_names(tmp_path):
    """Columns are found by the names they are said to have."""
    path = csv(tmp_path, "who,what,when,how,stars,user_id", "u1,i1,5,like,4.5,other")
    columns = {"user": "who", "item": "what", "time": "when", "type": "how", "value": "stars"}
    assert events_of(path, **columns) == [("u1", "i1", "like", 5.0, 4.5, 0)]


def test_quoted_csv(tmp_path):
    """Quoted commas, quotes and line breaks belong to the value."""
    path = csv(tmp_path, HEADER, '"u,1","i""1\n2",5')
    assert events_of(path)[0][:2] == ("u,1", 'i"1\n2')


def test_text_ids_stay_as_they_are(tmp_path):
    """Leading zeros are kept, and 1.0 beside 1.1 is not a whole number."""
    path = csv(tmp_path, HEADER, "007,1.0,1", "010,1.1,2", ",2.0,3")
    assert [row[:2] for row in events_of(path)] == [("007", "1.0"), ("010", "1.1"), (None, "2.0")]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_whole_numbers_written_as_fractions(tmp_path, kind):
    """A column of 1.0, 2.0 and gaps gives the ids 1 and 2, as one of integers does."""
    path = tmp_path / f"events.{kind}"
    frame = pl.DataFrame(
        {"user_id": [1.0, None, 20.0], "item_id": [3, 4, 5], "timestamp": [1, 2, 3]}
    )
    writers = {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}
    writers[kind](path)
    assert [row[:2] for row in events_of(path)] == [("1", "3"), (None, "4"), ("20", "5")]


def test_json_lines_may_mix_types_and_leave_fields_out(tmp_path):
    """An id can be a number in one line and text in the next; what is left out is null."""
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"user_id": 1, "item_id": "a", "timestamp": 5, "value": 2}\n'
        '{"user_id": "x", "item_id": 12345678901234567890, "timestamp": "6"}\n',
        encoding="utf-8",
    )
    assert events_of(path) == [
        ("1", "a", None, 5.0, 2.0, 0),
        ("x", "12345678901234567890", None, 6.0, None, 1),
    ]


@settings(max_examples=40)  # each writes a file
@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),  # noqa: DTZ001 - hypothesis asks for bounds without a zone
    st.integers(-14 * 60, 14 * 60),
)
def test_iso_times_match_python(tmp_path_factory, moment, minutes):
    """ISO 8601 text with a zone and a fraction gives the seconds that Python gives."""
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    folder = tmp_path_factory.getbasetemp()
    spaced = zoned.isoformat(sep=" ")
    [first, second] = times_of(times_csv(folder, zoned.isoformat(), spaced))
    assert first == second == pytest.approx(zoned.timestamp(), abs=1e-5)


def test_iso_forms(tmp_path):
    """Every usual form of ISO 8601 is read, and UTC where no zone is given."""
    forms = {
        "2024-02-29": 1_709_164_800.0,
        "2024-02-29T03:04": 1_709_175_840.0,
        "2024-02-29 03:04:05": 1_709_175_845.0,
        "2024-02-29T03:04:05Z": 1_709_175_845.0,
        "2024-02-29 03:04:05 UTC": 1_709_175_845.0,
        "2024-02-29T03:04:05.250": 1_709_175_845.25,
        '"2024-02-29T03:04:05,250Z"': 1_709_175_845.25,
        "2024-02-29T03:04+02:30": 1_709_166_840.0,
        "2024-02-29T03:04:05.5-0230": 1_709_184_845.5,
        "2024-02-29T03:04:05+01": 1_709_172_245.0,
        "1969-12-31T23:59:59.5": -0.5,
    }
    assert times_of(times_csv(tmp_path, *forms)) == list(forms.values())


@pytest.mark.parametrize("per_second", [1, 1_000, 1_000_000, 1_000_000_000])
def test_unix_times_by_magnitude(tmp_path, per_second):
    """Seconds, milli-, micro- and nanoseconds are told apart, in text and in numbers."""
    counts = [second * per_second for second in (1_600_000_000, 1_700_000_000, 1_700_000_001)]
    pl.DataFrame({"user_id": "u", "item_id": "i", "timestamp": counts}).write_parquet(
        tmp_path / "events.parquet"
    )
    expected = [1_600_000_000.0, 1_700_000_000.0, 1_700_000_001.0]
    assert times_of(tmp_path / "events.parquet") == expected
    assert times_of(times_csv(tmp_path, *counts)) == expected


def test_unit_is_decided_for_the_column(tmp_path):
    """A small number among milliseconds is milliseconds too."""
    path = times_csv(tmp_path, 1_700_000_000_000, 1_700_000_000_500, 2_000)
    assert times_of(path) == [1_700_000_000.0, 1_700_000_000.5, 2.0]


@pytest.mark.parametrize(
    "dtype",
    [
        pl.Date,
        pl.Datetime("ms"),
        pl.Datetime("us"),
        pl.Datetime("ns"),
        pl.Datetime("us", "Asia/Tokyo"),
    ],
)
def test_calendar_columns(tmp_path, dtype):
    """Dates and datetimes of any unit and zone are read as instants; no zone is UTC."""
    days = pl.Series("timestamp", [date(2024, 2, 29), None]).cast(pl.Datetime("us"))
    if dtype == pl.Datetime("us", "Asia/Tokyo"):
        days = days.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    else:
        days = days.cast(dtype)
    pl.DataFrame({"user_id": ["u", "u"], "item_id": ["i", "j"]}).with_columns(days).write_parquet(
        tmp_path / "events.parquet"
    )
    expected = datetime(2024, 2, 29, tzinfo=UTC).timestamp()
    assert times_of(tmp_path / "events.parquet") == [expected, None]


def test_missing_times_types_and_values_are_null(tmp_path):
    """Blanks and words for nothing are missing, not unreadable."""
    path = csv(
        tmp_path,
        f"{HEADER},event_type,value",
        "u,i,NaN,,nan",
        "u,i,  ,  ,",
        "u,i,null,view,None",
        "u,i,5,view,1e2",
    )
    missing, read = (None, None, None), ("view", 5.0, 100.0)
    assert [row[2:5] for row in events_of(path)] == [
        missing,
        missing,
        ("view", None, None),
        read,
    ]


@pytest.mark.parametrize(
    ("times", "row", "example"),
    [
        (["2024-02-29", "2023-02-29"], 2, "2023-02-29"),
        (["2024-01-01", "2024-02-01", "1700000000"], 3, "1700000000"),
        (["2024-01-01", "1700000000"], 2, "1700000000"),
        (["1700000000", "2024-01-01"], 1, "1700000000"),
        (["2024-01-01", "2024-01-01T25:00:00"], 2, "T25"),
        (["yesterday", "1700000000", "1700000001"], 1, "yesterday"),
        (["1700000000", "1700000001", "9e20"], 3, "9e20"),
        (["1700000000", "inf"], 2, "inf"),
        (["29/02/2024"], 1, "29/02/2024"),
    ],
)
def test_unreadable_time(tmp_path, times, row, example):
    """A time that is there but cannot be read is refused with file, column, row and example."""
    text = refusal(times_csv(tmp_path, *times))
    assert text.startswith(f"{tmp_path}/events.csv: column timestamp: row {row}: ")
    assert example in text


def test_unreadable_value(tmp_path):
    """A value that is not a number is refused with file, column, row and example."""
    text = refusal(csv(tmp_path, f"{HEADER},value", "u,i,1,5", "u,i,2,five"))
    assert text == f"{tmp_path}/events.csv: column value: row 2: 'five' is not a number"


@pytest.mark.parametrize("name", ["events.csv", "events.jsonl", "events.parquet"])
@pytest.mark.parametrize(
    ("column", "setting"),
    [("user_id", "user_column"), ("item_id", "item_column"), ("timestamp", "time_column")],
)
def test_missing_column(tmp_path, name, column, setting):
    """A missing column is refused with the setting that names it and the columns that are there."""
    frame = pl.DataFrame(ROWS).rename({column: "other"})
    path = tmp_path / name
    {".csv": frame.write_csv, ".jsonl": frame.write_ndjson, ".parquet": frame.write_parquet}[
        path.suffix
    ](path)
    text = refusal(path)
    assert text.startswith(f"{path}: column {column}: missing; {setting} names it, ")
    assert "'other'" in text


def test_named_column_must_exist(tmp_path):
    """An optional column that was given a name must be there under it."""
    path = csv(tmp_path, HEADER, "u,i,1")
    assert "column stars: missing; value_column names it" in refusal(path, value="stars")
    assert "column action: missing; type_column names it" in refusal(path, type="action")


def test_columns_of_unusable_types(tmp_path):
    """Lists are no ids and truth values are no times."""
    path = tmp_path / "events.parquet"
    frame = pl.DataFrame(ROWS)
    frame.with_columns(user_id=pl.concat_list("user_id")).write_parquet(path)
    assert f"{path}: column user_id: is of type List(String)" in refusal(path)
    frame.with_columns(timestamp=pl.lit(value=True)).write_parquet(path)
    assert f"{path}: column timestamp: is of type Boolean" in refusal(path)


def test_column_names_are_checked():
    """A column needs a name, and two columns cannot have the same."""
    with pytest.raises(ConfigError, match=r"user_column = .*: must be the name"):
        EventColumns(user="")
    with pytest.raises(
        ConfigError, match=r"item_column = .id.: must be another column than that of user_column"
    ):
        EventColumns(user="id", item="id")


def items_of(*paths, **columns):
    return read_items(paths, ItemColumns(**columns)).collect().to_native()


def test_items(tmp_path):
    """Items have an id and a title first, then all other columns; the first of an id is kept."""
    path = csv(tmp_path, "year,title,item_id", "1999,One,1.0", "2000,,2.0", "1,Two,1.0", "5,No,")
    assert items_of(path).to_dicts() == [
        {"item_id": "1", "title": "One", "year": "1999"},
        {"item_id": "2", "title": None, "year": "2000"},
    ]


def test_items_of_several_files(tmp_path):
    """Files may differ in their other columns, and other columns keep their types."""
    first, second = tmp_path / "a.parquet", tmp_path / "b.jsonl"
    pl.DataFrame({"id": [1], "genres": [["x", "y"]]}).write_parquet(first)
    second.write_text('{"id": "b", "year": 1999}\n', encoding="utf-8")
    assert items_of(first, second, item="id").to_dicts() == [
        {"item_id": "1", "title": None, "genres": ["x", "y"], "year": None},
        {"item_id": "b", "title": None, "genres": None, "year": 1999},
    ]


def test_other_columns_of_items_may_have_any_name(tmp_path):
    """A column is not lost or mixed up for having the name of one of an event."""
    path = csv(tmp_path, "item_id,input_order,user_id", "1,5,a", name="items.csv")
    assert items_of(path).rows() == [("1", None, "5", "a")]


def test_items_that_cannot_be_used(tmp_path):
    """Items without an id column, a title that was named, any row, or one type are refused."""
    other = tmp_path / "other.jsonl"
    other.write_text('{"item_id": 1, "name": 5}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"other\.jsonl: column name: is of type Int64, but"):
        items_of(csv(tmp_path, "item_id,name", "1,One", name="items.csv"), other)
    path = csv(tmp_path, "item_id,name", "1,One", name="items.csv")
    with pytest.raises(
        DataError, match=r"items\.csv: column sku: missing; item_column, or items_item_column"
    ):
        items_of(path, item="sku")
    with pytest.raises(
        DataError, match=r"items\.csv: column label: missing; title_column names it"
    ):
        items_of(path, title="label")
    with pytest.raises(DataError, match=r"empty\.csv: holds no items"):
        items_of(csv(tmp_path, "item_id", name="empty.csv"))
