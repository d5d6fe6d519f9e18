"""Recommendations for every user in one file: what the engine says, whole, and not done twice."""

import shutil
import subprocess
import sys

import polars as pl
import pytest

from kinrec.engine import Engine
from kinrec.engine.store import find_bundle, find_served, write_pin
from kinrec.trainer import everyone
from kinrec.trainer.errors import OutputError
from kinrec.trainer.everyone import SCHEMA, Wanted, recommend_all

KINREC = (sys.executable, "-m", "kinrec.cli", "recommend-all")


@pytest.fixture(scope="module")
def bundle(bundle_store):
    """The bundle that the tests share."""
    return find_bundle(bundle_store)


def ignore(_done, _of):
    """Hear of progress and do nothing."""


def rows_of(engine, **question):
    """What the engine itself says to every user, in the columns of the file."""
    rows = []
    for user in engine.user_ids(0, 10_000):
        answer = engine.recommend(user_id=user, **question)
        places = zip(answer.item_ids, answer.scores, answer.titles, strict=True)
        rows += [
            (user, rank, item, score, title, answer.basis.value)
            for rank, (item, score, title) in enumerate(places, start=1)
        ]
    return rows


def test_the_file_has_what_the_engine_says_to_everyone(bundle_store, bundle, tmp_path):
    """By the command and two processes: a row for each user and item, best first."""
    out = tmp_path / "recs.parquet"
    command = [*KINREC, bundle_store, "--out", out, "--limit", "5", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote {out}: recommendations of version {bundle.name} for 300 users\n"
    found = pl.read_parquet(out)
    assert dict(found.schema) == SCHEMA
    assert found.rows() == rows_of(Engine.load(bundle), limit=5)
    assert [path.name for path in tmp_path.iterdir()] == ["recs.parquet"]


@pytest.mark.parametrize(
    ("name", "read"), [("recs.csv", pl.read_csv), ("recs.jsonl", pl.read_ndjson)]
)
def test_other_formats_go_by_the_name_of_the_file(bundle, tmp_path, name, read):
    """The same rows, for who reads no Parquet."""
    recommend_all(bundle, tmp_path / name, Wanted(limit=3), workers=1, report=ignore)
    found = read(tmp_path / name, schema=SCHEMA)
    whole = pl.DataFrame(rows_of(Engine.load(bundle), limit=3), SCHEMA, orient="row")
    assert found.drop("title", "score").equals(whole.drop("title", "score"))
    assert found["score"].to_list() == pytest.approx(whole["score"].to_list(), rel=1e-5)


def test_a_pinned_version_is_the_one_that_recommends(bundle, tmp_path):
    """As servers would, also where it is not the newest; another only if it is named."""
    store = tmp_path / "shop"
    for version in ("20010101T000000Z", "20020101T000000Z"):
        shutil.copytree(bundle, store / version)
    assert find_served(store).name == "20020101T000000Z"
    write_pin(store, "20010101T000000Z")
    assert find_served(store).name == "20010101T000000Z"
    assert find_served(store, "20020101T000000Z").name == "20020101T000000Z"
    assert find_served(bundle) == bundle


def test_many_parts_in_many_processes_make_one_file(bundle, tmp_path, monkeypatch):
    """However the work is cut, the rows and their order are the same."""
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    wanted = Wanted(limit=3, include_seen=True)
    heard = []
    recommend_all(bundle, whole, wanted, workers=1, report=ignore)
    monkeypatch.setattr(everyone, "PART_USERS", 70)
    recommend_all(bundle, cut, wanted, workers=2, report=lambda *done: heard.append(done))

    assert pl.read_parquet(cut).equals(pl.read_parquet(whole))
    assert heard == [(0, 300), (70, 300), (140, 300), (210, 300), (280, 300), (300, 300)]
    assert pl.read_parquet(whole).rows() == rows_of(Engine.load(bundle), limit=3, include_seen=True)


def test_what_was_done_before_an_interruption_is_kept(bundle, tmp_path, monkeypatch):
    """The same command goes on; another question begins anew."""
    monkeypatch.setattr(everyone, "PART_USERS", 100)
    out, parts = tmp_path / "recs.parquet", tmp_path / ".recs.parquet.parts"

    def interrupt(done, _of):
        if done == 200:
            raise KeyboardInterrupt

    for wanted, first in ((Wanted(limit=4), 0), (Wanted(limit=4), 200), (Wanted(limit=6), 0)):
        heard = []
        with pytest.raises(KeyboardInterrupt):
            recommend_all(
                bundle,
                out,
                wanted,
                workers=1,
                report=lambda done, of, heard=heard: (heard.append(done), interrupt(done, of)),
            )
        assert heard[0] == first
        assert not out.exists()
        assert len(list(parts.glob("*.parquet"))) == 2

    assert recommend_all(bundle, out, Wanted(limit=6), workers=1, report=ignore) == 300
    assert pl.read_parquet(out).rows() == rows_of(Engine.load(bundle), limit=6)
    assert not parts.exists()


def test_a_file_that_cannot_be_written_is_named(bundle, tmp_path):
    """A parent that is a file, and a place where a folder stands."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"recs\.parquet: cannot be written"):
        recommend_all(
            bundle, tmp_path / "file" / "recs.parquet", Wanted(), workers=1, report=ignore
        )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--limit", "0"], "limit = 0: must be from 1 to 1,000"),
        (["--workers", "0"], "workers = 0: must be from 1 to 1,024"),
        (["--version", "none"], "has no complete version 'none'"),
        (["--out", "."], ".: cannot be written: it is a directory"),
        (["--out", "recs.txt"], "recs.txt: must end in .parquet, .csv, .jsonl"),
    ],
)
def test_bad_usage_is_one_line(bundle_store, tmp_path, flags, said):
    """The flag and the rule are named before any work."""
    done = subprocess.run(
        [*KINREC, bundle_store, "--out", tmp_path / "recs.parquet", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("kinrec recommend-all: ")
    assert said in line
