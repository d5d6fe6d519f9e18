"""`kinrec train`: what it refuses, what it points out, and how settings reach it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kinrec.bundle.v1.manifest_pb2 import EventSpec, Manifest, Validation
from kinrec.cli import main
from kinrec.engine import Engine
from kinrec.engine.model import Model
from kinrec.engine.store import find_bundle, list_versions, read_manifest
from kinrec.trainer import training
from kinrec.trainer.commands.train import _seen_items

KINREC = Path(sys.executable).with_name("kinrec")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
HEADER = "user_id,item_id,event_type,timestamp\n"
ROW = "u1,i1,view,2025-01-01T00:00:00Z\n"


def write(path, content):
    """Write a file and give its path."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


BAD_EVENTS = {
    "missing column": ("events.csv", "user_id,item,timestamp\nu,i,1\n", ["item_id", "missing"]),
    "unreadable timestamp": (
        "events.csv",
        f"{HEADER}{ROW}u2,i2,view,yesterday\n",
        ["timestamp", "'yesterday'"],
    ),
    "no time at all": (
        "events.csv",
        f"{HEADER}u,i,view,foo\nu,j,view,bar\n",
        ["timestamp", "row 1", "'foo' is not a time, ISO 8601 or unix"],
    ),
    "empty file": ("events.csv", "", ["empty"]),
    "no rows": ("events.csv", HEADER, ["no events"]),
    "text in place of Parquet": ("events.parquet", HEADER + ROW, ["Parquet"]),
    "text in place of gzip": ("events.csv.gz", HEADER + ROW, ["gz"]),
    "Parquet in place of CSV": ("events.csv", b"PAR1\x00\x80\xff\x00PAR1", []),
}


@pytest.mark.parametrize("case", BAD_EVENTS)
def test_bad_events_are_refused_in_one_line(tmp_path, capsys, case):
    """The line names the file, the column and the rule; the exit code is 2; nothing is written."""
    name, content, words = BAD_EVENTS[case]
    events = write(tmp_path / name, content)
    store = tmp_path / "store"
    assert main(["train", "--events", str(events), "--out", str(store)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kinrec train: {events}: ")
    for word in words:
        assert word in line
    assert not store.exists()


def test_too_little_data_is_refused_by_the_real_process(tmp_path):
    """A log of a few events gives one line that says how many are needed, and no traceback."""
    events = write(tmp_path / "events.csv", HEADER + ROW)
    done = subprocess.run(
        [KINREC, "train", "--events", events, "--out", tmp_path / "store"],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "kinrec train: too small to train on: 1 events after cleaning, at least 20 are needed"
    ]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--epochs", "-1"], ["epochs = -1", "from 0 to 10,000"]),
        (["--learning-rate", "nan"], ["learning_rate = nan", "finite"]),
        (["--encoder", "markov"], ["encoder = 'markov'", "gru, lstm, transformer"]),
        (["--user-column", "item_id"], ["item_column", "another column than", "user_column"]),
        (["--items", "nowhere.csv"], ["nowhere.csv"]),
        (["--config", "nowhere.toml"], ["config = 'nowhere.toml'", "cannot be read"]),
        (["--missing-value", "guess"], ["missing_value = 'guess'", "most_frequent"]),
        (["--type-weight", "buy=0"], ["type_weight.buy = 0.0", "above 0"]),
        (["--missing-attribute", "a=guess"], ["missing_attribute.a = 'guess'", "most_frequent"]),
        (["--missing-attribute", "a=drop"], ["missing_attribute.a = 'drop'", "needs items"]),
        (["--attribute-kind", "a=date"], ["attribute_kind.a = 'date'", "text, number, time"]),
    ],
)
def test_bad_settings_are_refused_in_one_line(tmp_path, capsys, sample_dir, flags, words):
    """The line names the setting, its value and what is allowed."""
    arguments = ["--events", str(sample_dir / "events.csv"), "--out", str(tmp_path / "store")]
    assert main(["train", *arguments, *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kinrec train: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("epoch = 3\n", ["epoch = 3", "is not a setting", "epochs is"]),
        (
            "[cleaning]\nmin_value = 2\n",
            ["cleaning = 'a table'", "is not a setting", "before any table"],
        ),
        ("epochs = '3'\n", ["epochs = '3'", "must be a whole number"]),
        ("epochs = true\n", ["epochs = True", "must be a whole number"]),
        ("once_types = 'like'\n", ["once_types = 'like'", "must be a list of names"]),
        ("type_weight = {buy = 'x'}\n", ["type_weight = ", "must be a table of numbers"]),
        ("dropout = 2\n", ["dropout = 2.0", "from 0.0 to 0.95"]),
        ("epochs = \n", ["config = ", "is not TOML", "line 1"]),
        (b"\xff", ["config = ", "is not TOML"]),
    ],
)
def test_a_bad_file_of_settings_is_refused_in_one_line(tmp_path, capsys, content, words):
    """The line names the key, its value and what is allowed, before the events are looked at."""
    file = write(tmp_path / "shop.toml", content)
    store = tmp_path / "store"
    assert main(["train", "--config", str(file), "--events", "none", "--out", str(store)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kinrec train: ")
    for word in words:
        assert word in line
    assert not store.exists()


@pytest.mark.parametrize("missing", ["events", "out"])
def test_what_must_be_given_is_asked_for(tmp_path, capsys, sample_dir, missing):
    """Without events or a store the line says where they can be given."""
    given = {"events": str(sample_dir / "events.csv"), "out": str(tmp_path / "store")}
    del given[missing]
    arguments = [part for key, value in given.items() for part in (f"--{key}", value)]
    assert main(["train", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kinrec train: {missing} = ")
    assert f"--{missing} or in the file" in line


def test_a_training_by_file_with_flags_that_win(tmp_path, capsys, sample_dir):
    """The file says what to train on and how, a flag goes before it, and the bundle tells both."""
    file = write(
        tmp_path / "shop.toml",
        f"""
        events = "{sample_dir / "events.csv"}"
        items = ["{sample_dir / "items.csv"}"]
        out = "{tmp_path / "shop"}"
        vector_size = 8
        hidden_size = 8
        factors = 4
        epochs = 3
        latest_time = 2100-01-01
        repeat_window = 60
        once_types = ["like"]
        missing_title = "untitled"
        missing_attribute = {{ price = "median", category = "drop" }}
        attributes = ["price", "category", "department"]
        attribute_separator = {{ category = " " }}
        type_weight = {{ view = 0.5, buy = 8 }}
        """,
    )
    assert main(["train", "--config", str(file), "--epochs", "1", "--min-user-events", "2"]) == 0
    shown = capsys.readouterr().out
    for words in ("outside_time_range: removed", "repeats_in_window: removed", "view x 0.5"):
        assert words in shown
    manifest = read_manifest(find_bundle(tmp_path / "shop"))
    settings = dict(manifest.training_config)
    assert (settings["epochs"], settings["vector_size"]) == (1, 8)
    assert settings["cleaning"]["latest_time"] == "2100-01-01"
    assert settings["cleaning"]["min_user_events"] == 2
    spec = manifest.event_spec
    assert (spec.repeat_window, list(spec.once_types)) == (60.0, ["like"])
    weights = {kind.name: kind.weight for kind in spec.event_types}
    assert (weights["view"], weights["buy"]) == (0.5, 8.0)
    steps = [step.name for step in manifest.cleaning]
    assert steps[-3:] == ["k_core", "missing_titles", "missing_attribute.price"]
    assert "missing_attribute.category" in steps
    assert settings["cleaning"]["missing_attribute"]["price"] == "median"
    assert [spec.name for spec in manifest.attributes] == ["price", "category", "department"]
    model = Model.open(find_bundle(tmp_path / "shop") / "evaluation")
    titles = model.titles.of(list(range(len(model.items))))
    for item, title in enumerate(titles):
        assert all(word in title for word in model.attributes.values("category", item))
    assert "attributes: price (numbers), category (text), department (text)" in shown
    *_, measured, wrote = shown.splitlines()
    assert wrote == f"wrote {find_bundle(tmp_path / 'shop')}"
    validation = manifest.validation
    choice = "included" if spec.include_seen_default else "left out"
    assert measured.startswith(
        f"seen items {choice} by default: {validation.repeat_share:.1%} of {validation.people} "
        f"held-out events were with an item that the person knew; "
    )
    assert measured.endswith(f"NDCG@10 of the blend {validation.blend_ndcg_at_10:.4f}")


@pytest.mark.parametrize(
    ("people", "included", "line"),
    [
        (0, False, "left out by default: there was nobody to measure it on"),
        (1_200, True, "included by default: 87.5% of 1,200 held-out events were with an item "),
    ],
)
def test_what_is_said_of_seen_items(people, included, line):
    """The default is told, and what was measured for it if there was anyone to ask about."""
    manifest = Manifest(event_spec=EventSpec(include_seen_default=included))
    manifest.validation.MergeFrom(Validation(people=people, repeat_share=0.875))
    assert _seen_items(manifest).startswith(f"seen items {line}")
    assert "little to go by" not in _seen_items(manifest)
    assert ("include_seen = false gets new ones alone" in _seen_items(manifest)) == included
    manifest.validation.people = 74
    assert _seen_items(manifest).endswith("little to go by: weights of 300 or more are surer")


def test_items_that_cannot_be_used_are_refused_in_one_line(tmp_path, capsys, sample_dir):
    """What is wrong with an attribute is found before the events are read."""
    items = write(tmp_path / "items.csv", b"item_id,size\ni1,XL\ni2,L\n")
    broken = write(tmp_path / "broken.csv", b"item_id,size\ni1,XL\ni2,\xff\n")
    arguments = ["--events", str(sample_dir / "events.csv"), "--out", str(tmp_path / "store")]
    for file, flags, words in (
        (broken, [], f"{broken}: is not UTF-8 text"),
        (items, ["--attributes", "brand"], "column brand: missing; the columns of the items"),
        (
            items,
            ["--attribute-kind", "size=number"],
            "column size: 'XL' of item i1 is not a number",
        ),
        (items, ["--missing-attribute", "size=mean"], "missing_attribute.size = 'mean'"),
    ):
        assert main(["train", *arguments, "--items", str(file), *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


def test_a_store_that_cannot_be_made_is_refused_before_the_work(tmp_path, capsys, sample_dir):
    """A file in the place of the store is named at once, and left as it was."""
    store = write(tmp_path / "store", "in the way")
    events = str(sample_dir / "events.csv")
    for out in (store, store / "below"):
        assert main(["train", "--events", events, "--out", str(out)]) == 2
        captured = capsys.readouterr()
        assert captured.err.splitlines()[0].startswith(f"kinrec train: {out}: cannot be written: ")
        assert len(captured.err.splitlines()) == 1
        assert "cleaning" not in captured.out
    assert store.read_text() == "in the way"


def test_a_column_that_may_be_that_of_types_is_pointed_out(tmp_path, capsys):
    """Whoever forgets to name it learns that all events count alike, and which columns there are."""
    rows = [(f"p{n % 10}", f"i{(n * 7 + n // 10) % 12}", 1_700_000_000 + n) for n in range(80)]
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")
    events = tmp_path / "log.csv"
    command = ["train", "--events", str(events), "--out", str(tmp_path / "films"), "--epochs", "1"]
    command += ["--vector-size", "8", "--hidden-size", "8", "--factors", "4"]
    told = "if one of the columns what, source says what was done, type_column names it"
    for what, named, is_told in (("what", [], True), ("what", ["--type-column", "what"], False)):
        kinds = pl.Series(what, ["view"] * len(frame))
        frame.with_columns(kinds, source=pl.lit("web")).write_csv(events)
        assert main([*command, *named]) == 0
        assert (told in capsys.readouterr().out) == is_told


def test_what_is_said_of_items_that_are_not_given_is_pointed_out(tmp_path, capsys, sample_dir):
    """As of a file of settings that names columns of the items, used without them."""
    command = ["train", "--events", str(sample_dir / "events.csv"), "--out", str(tmp_path / "shop")]
    command += ["--epochs", "1", "--vector-size", "8", "--hidden-size", "8", "--factors", "4"]
    command += ["--title-column", "name", "--attribute-separator", "tags=|"]
    assert main(command) == 0
    told = "title_column, attribute_separator: there is no file of items"
    assert told in capsys.readouterr().out


def test_columns_by_other_names_and_a_second_version(tmp_path, capsys):
    """Columns can be mapped, a store takes further versions, and the newest is what is loaded."""
    rows = [(f"p{n % 10}", f"film {(n * 7 + n // 10) % 12}", 1_700_000_000 + n) for n in range(80)]
    events = tmp_path / "log.parquet"
    pl.DataFrame(rows, ["person", "film", "at"], orient="row").write_parquet(events)
    command = ["train", "--events", str(events), "--out", str(tmp_path / "films")]
    command += ["--user-column", "person", "--item-column", "film", "--time-column", "at"]
    command += ["--epochs", "1", "--vector-size", "8", "--hidden-size", "8", "--factors", "4"]
    assert main(command) == 0
    assert main([*command, "--resume"]) == 0
    assert "nothing to resume, nothing left: starting anew" in capsys.readouterr().out
    versions = list_versions(tmp_path / "films")
    assert len(versions) == 2
    engine = Engine.load(tmp_path / "films")
    assert (engine.name, engine.version) == ("films", versions[-1])
    assert set(engine.recommend(user_id="p1", limit=5).item_ids) <= {f"film {n}" for n in range(12)}


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_that_wait_leave_the_core_to_others(tmp_path, given):
    """OpenMP's own account says so, unless the environment asks for something else."""
    events = tmp_path / "events.csv"
    events.write_text("user_id,item_id,timestamp\n")
    command = [KINREC, "train"]
    environment = {**os.environ, "OMP_DISPLAY_ENV": "TRUE"}
    environment.pop("OMP_WAIT_POLICY", None)
    if given:
        environment["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [*command, "--events", events, "--out", tmp_path / "store"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert f"OMP_WAIT_POLICY = '{given or 'PASSIVE'}'" in done.stderr


@pytest.mark.parametrize("spared", [True, False])
def test_where_the_search_had_nearly_all_its_encoder_is_measured(
    tmp_path, capsys, monkeypatch, sample_dir, spared
):
    """Then no fit is spent on it; the histories that are measured on are the same."""
    monkeypatch.setattr(training, "SHARE_TO_SPARE", 1.0 if spared else 0.0)
    store = tmp_path / "store"
    command = ["train", "--events", str(sample_dir / "events.csv"), "--out", str(store)]
    command += ["--epochs", "1", "--vector-size", "8", "--hidden-size", "8", "--factors", "4"]
    assert main(command) == 0
    assert ("evaluation, fit 2 of 3: epoch" not in capsys.readouterr().out) == spared
    full, inner = Model.open(find_bundle(store)), Model.open(find_bundle(store) / "evaluation")
    assert set((full.histories.lengths - inner.histories.lengths).tolist()) == {2}
    assert not np.array_equal(full.item_vectors, inner.item_vectors)
