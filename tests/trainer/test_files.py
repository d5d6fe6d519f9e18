"""Files that are not what they should be."""

import gzip
import io
from pathlib import Path

import polars as pl
import pytest

from kinrec.trainer.errors import DataError
from kinrec.trainer.reading import EventColumns, read_events

ROWS = [{"user_id": "u", "item_id": "i", "timestamp": 1_700_000_000}]


def events_of(*paths):
    return read_events(paths, EventColumns()).collect().rows()


def refusal(*paths):
    with pytest.raises(DataError) as raised:
        events_of(*paths)
    text = str(raised.value)
    assert "\n" not in text
    return text


def half(data):
    return data[: len(data) // 2]


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "whole.parquet"
    pl.DataFrame(ROWS).write_parquet(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("a.csv", b"", "is empty"),
        ("a.parquet", b"", "is empty"),
        ("a.csv", b"user_id,item_id,timestamp\n", "holds no events"),
        ("a.jsonl", b"\n", "holds no events"),
        ("a.csv", b"user_id,item_id,timestamp\nu1,caf\xe9,1\n", "is not UTF-8 text"),
        ("a.csv", "user_id,item_id\n".encode("utf-16"), "is UTF-16 text"),
        ("a.csv", bytes(range(256)) * 9, "is binary, not text"),
        ("a.csv", b"PK\x03\x04....", "is a zip archive or an Excel workbook"),
        ("a.csv", gzip.compress(b"x"), "is gzip"),
        ("a.parquet", b"user_id,item_id\n", "is not Parquet"),
        ("a.csv.gz", b"user_id,item_id\n", "is not gzip"),
        ("a.csv.zst", b"user_id,item_id\n", "is not zstd"),
        ("a.csv", b"user_id,item_id,timestamp\nu,i,1,extra\n", "cannot be read as CSV"),
        ("a.jsonl", b"user_id,item_id,timestamp\nu,i,1\n", "cannot be read as JSON lines"),
        ("a.jsonl", b'{"user_id": 1, "item', "cannot be read as JSON lines"),
        ("a.json", b'[{"user_id": 1}]', "is a JSON array"),
        ("a.parquet.gz", gzip.compress(b"x"), "Parquet is compressed within"),
        ("a.xlsx", b"x", "has no supported format"),
        ("events", b"x", "has no supported format"),
    ],
)
def test_file_that_is_not_what_its_name_says(tmp_path, name, content, rule):
    """A file with other content than its name says is refused by name and rule."""
    path = tmp_path / name
    path.write_bytes(content)
    text = refusal(path)
    assert text.startswith(f"{path}: ")
    assert rule in text


def compressed(name):
    """A log as the name says, in compressed form."""
    frame = pl.LazyFrame(ROWS * 50)
    buffer = io.BytesIO()
    sink = frame.sink_csv if ".csv" in name else frame.sink_ndjson
    sink(buffer, compression="gzip" if name.endswith(".gz") else "zstd")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.jsonl.gz", "a.jsonl.zst"])
def test_truncated_compressed_file(tmp_path, name):
    """A compressed file that was cut off is refused, not read in part."""
    path = tmp_path / name
    path.write_bytes(compressed(name))
    assert len(events_of(path)) == 50
    path.write_bytes(compressed(name)[:-6])
    assert "truncated or damaged" in refusal(path)


def test_damaged_parquet(tmp_path, parquet):
    """A Parquet file that was cut off, or a Parquet file named .csv, is refused."""
    path = tmp_path / "cut.parquet"
    path.write_bytes(half(parquet))
    assert f"{path}: cannot be read as Parquet: " in refusal(path)
    path = tmp_path / "named.csv"
    path.write_bytes(parquet)
    assert f"{path}: is named .csv but is Parquet" in refusal(path)


def test_paths_that_cannot_be_opened(tmp_path):
    """Missing, looping and empty paths are refused by name."""
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "folder").mkdir()
    assert "no such file or folder" in refusal(tmp_path / "none.csv")
    assert "loop.csv: cannot be opened: " in refusal(tmp_path / "loop.csv")
    assert "the folder holds no files" in refusal(tmp_path / "folder")
    assert "is neither a file nor a folder" in refusal(Path("/dev/null"))
    assert refusal() == "no file was given"


def test_folder_with_a_file_of_another_kind(tmp_path):
    """A file in a folder that cannot be read is named, not passed over."""
    pl.DataFrame(ROWS).write_csv(tmp_path / "events.csv")
    (tmp_path / "notes.docx").write_text("read me", encoding="utf-8")
    assert f"{tmp_path}/notes.docx: has no supported format" in refusal(tmp_path)
