"""Encoders of other packages: found by their entry points, trained and served like kinrec's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinrec.engine import Engine, Event
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.encoders import ENCODERS
from kinrec.trainer.encoders.lstm import LstmEncoder
from kinrec.trainer.errors import ConfigError

PACKAGE = Path(__file__).with_name("last_item")


@pytest.fixture
def add_entry_points(tmp_path, monkeypatch):
    """A function that makes a distribution with some entry points importable."""

    def add(lines):
        folder = tmp_path / "odd-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[kinrec.encoders]\n{lines}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return add


def test_an_installed_package_adds_an_encoder(tmp_path):
    """Installed by pip, it is trained by its name; the engine answers without the package."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    pip += ["--no-build-isolation", "--target", site, PACKAGE]
    subprocess.run(pip, check=True, capture_output=True)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    events = tmp_path / "ring.csv"
    rows = [f"u{user},i{(user + step) % 16},{step}" for user in range(60) for step in range(10)]
    events.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    command = [sys.executable, "-m", "kinrec.cli", "train", "--events", events]
    command += ["--out", tmp_path / "ring", "--encoder", "last-item", "--epochs", "20"]
    command += [
        "--vector-size",
        "16",
        "--factors",
        "8",
        "--batch-events",
        "64",
        "--learning-rate",
        "0.01",
    ]
    subprocess.run(command, check=True, capture_output=True, env=environment)

    engine = Engine.load(tmp_path / "ring")
    spec = engine.manifest.encoder
    assert (spec.kind, spec.carries_state, spec.max_length) == ("last-item", False, 0)
    assert [tensor.name for tensor in spec.inputs] == ["items", "lengths"]
    assert engine.manifest.training_config["encoder"] == "last-item"
    assert engine.manifest.validation.ndcg_at_10 > 0.95
    one, other = ([Event(item), Event("i5")] for item in ("i3", "i9"))
    assert engine.recommend(events=one, limit=1).item_ids == ["i6"]
    vectors = [engine.encode(events=events).vector.tolist() for events in (one, other)]
    assert vectors[0] == vectors[1]


def test_an_unknown_name_is_refused_with_those_there_are(add_entry_points):
    """The error lists kinrec's own encoders and those that were added."""
    add_entry_points("markov = nowhere:Markov")
    assert ENCODERS.names() == ["gru", "lstm", "markov", "transformer"]
    assert TrainConfig(encoder="markov").encoder == "markov"
    with pytest.raises(ConfigError) as caught:
        TrainConfig(encoder="LSTM")
    assert str(caught.value) == "encoder = 'LSTM': must be one of gru, lstm, markov, transformer"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere:Markov", "cannot be imported: No module named 'nowhere'"),
        ("json:Markov", "cannot be imported: module 'json' has no attribute 'Markov'"),
        ("json", "is no class"),
    ],
)
def test_an_entry_point_that_leads_to_no_encoder_is_one_line(add_entry_points, target, reason):
    """The error names the entry point and says what is wrong with it."""
    add_entry_points(f"markov = {target}")
    with pytest.raises(ConfigError, match=f"'markov': its entry point '{target}' {reason}$"):
        ENCODERS.load("markov")


def test_no_package_takes_a_name_of_kinrec(add_entry_points):
    """An entry point by the name of one of kinrec's encoders is not heeded."""
    add_entry_points("lstm = nowhere:Lstm")
    assert ENCODERS.load("lstm") is LstmEncoder
