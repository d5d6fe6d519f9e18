"""Tuning finds settings on validation events, keeps its trials, and writes what training takes."""

import re
import tomllib

import pytest

from kinrec.cli import main
from kinrec.trainer.tuning import VARIED

SMALL = [
    "--user-column",
    "customer",
    "--epochs",
    "2",
    "--vector-size",
    "32",
    "--hidden-size",
    "32",
    "--window",
    "8",
]


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """A log of 30 people who go round a ring of 12 items."""
    path = tmp_path_factory.mktemp("log") / "events.csv"
    rows = [
        f"u{person},i{(person + place) % 12},view,{place * 60}"
        for person in range(30)
        for place in range(8)
    ]
    path.write_text("\n".join(["customer,item_id,event_type,timestamp", *rows]) + "\n")
    return path


@pytest.fixture
def tune(events, tmp_path, capsys):
    """Runs the command in a folder of its own; gives its exit code, output and errors."""

    def run(*flags):
        files = ["--events", events, "--best", tmp_path / "best.toml", "--study", tmp_path / "s.db"]
        code = main(["tune", *map(str, files), *SMALL, *flags])
        captured = capsys.readouterr()
        lines = [line for line in captured.out.splitlines() if re.match(r"trial|best", line)]
        return code, [line for line in lines if "epoch" not in line], captured.err

    return run


def test_trials_begin_with_what_is_given(tune, tmp_path):
    """The first trial has the given settings, and the best one is written with its measure."""
    code, lines, _ = tune("--trials", "3", "--dropout", "0.25")
    assert code == 0
    assert [line.partition(":")[0] for line in lines] == ["trial 0", "trial 1", "trial 2", "best"]
    assert "vector_size 32" in lines[0]
    assert "dropout 0.25" in lines[0]
    text = (tmp_path / "best.toml").read_text()
    number = re.match(r"best: trial (\d+)", lines[-1])[1]
    assert ("no other ranked better than the settings it began with" in lines[-1]) == (
        number == "0"
    )
    assert text.startswith(f"# trial {number}, NDCG@10 0.")
    written = tomllib.loads(text)
    assert (written["epochs"], written["window"]) == (2, 8)
    assert written["user_column"] == "customer"
    assert set(written) <= {*VARIED, "epochs", "window", "user_column"}


def test_it_is_said_where_the_first_settings_are_the_best(tune):
    """Whoever began with the defaults then knows that they need no other."""
    _, lines, _ = tune("--trials", "1")
    assert lines[-1].startswith(
        "best: trial 0 (no other ranked better than the settings it began with), NDCG@10 0."
    )


def test_a_run_goes_on_with_the_trials_of_the_one_before(tune):
    """Only what is missing to the number of trials is tried."""
    tune("--trials", "2")
    code, lines, _ = tune("--trials", "3")
    assert code == 0
    assert [line.partition(":")[0] for line in lines] == ["trial 2", "best"]
    assert tune("--trials", "3")[1][0].startswith("best: trial ")


def test_it_is_shown_how_a_trial_goes(events, tmp_path, capsys):
    """What cleaning left, and each epoch, as in training."""
    files = ["--events", events, "--best", tmp_path / "best.toml", "--study", tmp_path / "s.db"]
    assert main(["tune", *map(str, files), *SMALL, "--trials", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  30 users, 12 items, 240 events") for line in lines)
    assert [line.partition(",")[0] for line in lines if "epoch" in line] == [
        "trial 0: epoch 1/2",
        "trial 0: epoch 2/2",
    ]


def test_the_file_of_a_training_can_be_tuned(tune, tmp_path):
    """What it says of the store is passed over, what is unknown is not."""
    shop = tmp_path / "shop.toml"
    shop.write_text('out = "models/shop"\nresume = true\ndropout = 0.25\n')
    code, lines, _ = tune("--config", str(shop), "--trials", "1")
    assert code == 0
    assert "dropout 0.25" in lines[0]
    assert not (tmp_path / "models").exists()
    shop.write_text('outt = "models/shop"\n')
    code, _, errors = tune("--config", str(shop), "--trials", "1")
    assert code == 2
    assert "outt = 'models/shop': is not a setting" in errors


def test_other_settings_have_trials_of_their_own(tune):
    """Trials of another cleaning or seed are not taken for these."""
    tune("--trials", "1")
    assert tune("--trials", "1", "--seed", "7")[1][0].startswith("trial 0: ")


def test_what_is_best_can_be_trained_with(tune, events, tmp_path):
    """The file is one that the training takes."""
    items = tmp_path / "items.csv"
    items.write_text("item_id,tags,size\ni1,a|b,5\n")
    tune(
        *("--trials", "1", "--type-weight", "view=2", "--known-types", "view"),
        *("--items", str(items), "--missing-attribute", "tags=constant:none"),
        *("--attributes", "tags", "--attribute-separator", "tags=|"),
    )
    written = tomllib.loads((tmp_path / "best.toml").read_text())
    assert written["attributes"] == ["tags"]
    assert written["attribute_separator"] == {"tags": "|"}
    files = ["--config", tmp_path / "best.toml", "--events", events, "--out", tmp_path / "store"]
    files += ["--items", items]
    assert main(["train", *map(str, files)]) == 0
    assert len(list((tmp_path / "store").glob("*/manifest.json"))) == 1


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--trials", "0"], "trials = 0: must be from 1 to 100,000"),
        (["--study", "/nowhere/s.db"], "/nowhere/s.db: cannot be written: No such file"),
        (["--dropout", "7"], "dropout = 7.0: must be from 0.0 to 0.95"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(tune, flags, error):
    """One line names the setting or the file, and no trial is made."""
    code, lines, errors = tune(*flags)
    assert (code, lines) == (2, [])
    assert errors.startswith("kinrec tune: ")
    assert errors.count("\n") == 1
    assert error in errors


def test_a_study_that_is_no_database(tune, tmp_path):
    """A file of something else is named and left as it is."""
    (tmp_path / "s.db").write_text("not a database, but long enough to look like something" * 40)
    code, _, errors = tune("--trials", "1")
    assert code == 2
    assert "s.db: is not a file that trials can be kept in" in errors
    assert (tmp_path / "s.db").read_text().startswith("not a database")
