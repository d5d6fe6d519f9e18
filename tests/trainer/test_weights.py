"""The trained encoder can be built again from what a bundle holds, to the last bit."""

import datetime as dt
import json

import numpy as np
import pytest
import torch

from kinrec.engine.store import read_manifest
from kinrec.trainer.bundle import finish, write_model
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.encoders import ENCODERS, EncoderSizes
from kinrec.trainer.errors import ConfigError
from kinrec.trainer.weights import WEIGHTS, WeightsError, load_encoder, save_weights

SIZES = EncoderSizes(16, 1, 16, 20, 0.5, 0.5, 10)


def write(directory, log, kind="lstm"):
    """Write a bundle with an encoder of random weights, and give the encoder."""
    torch.manual_seed(0)
    encoder = ENCODERS.load(kind)(SIZES).eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    config = TrainConfig(encoder=kind, vector_size=16, hidden_size=20, window=10, factors=8)
    manifest = write_model(directory, log, log.histories, encoder, config)
    time = dt.datetime(2025, 1, 2, tzinfo=dt.UTC)
    finish(directory, manifest, name="ring", version="v1", time=time, config=config)
    return encoder


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer"])
def test_the_encoder_is_built_again(tmp_path, ring_log, kind):
    """Every weight is the one that was trained, and so is every vector."""
    trained = write(tmp_path, ring_log, kind)

    built = load_encoder(tmp_path, read_manifest(tmp_path))

    expected = trained.state_dict()
    assert built.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in built.state_dict().items())
    events = [torch.arange(10).reshape(2, 5), torch.zeros(2, 5, dtype=torch.int64)]
    with torch.no_grad():
        assert torch.equal(built.vectors(*events, events[1]), trained.vectors(*events, events[1]))


def test_the_file_needs_no_pickle_and_holds_no_embeddings_of_items(tmp_path, ring_log):
    """Its checksum is in the manifest, and the array that grows with the log is there once."""
    write(tmp_path, ring_log)

    assert WEIGHTS in read_manifest(tmp_path).files
    with np.load(tmp_path / WEIGHTS, allow_pickle=False) as arrays:
        assert "recurrence.weight_hh_l0" in arrays.files
        assert "item_embedding.weight" not in arrays.files
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.float32)}


def edited(directory, change):
    """The manifest of a bundle after a change of it as JSON."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), "utf-8")
    return read_manifest(directory)


def test_an_encoder_that_cannot_be_built_is_one_line(tmp_path, ring_log):
    """Of a bundle from before there were weights, of other sizes, of a package that is gone."""
    write(tmp_path, ring_log)

    other = edited(tmp_path, lambda m: m["training_config"].update(hidden_size=21))
    with pytest.raises(WeightsError, match=r"^encoder_weights.npz does not fit the encoder: .+"):
        load_encoder(tmp_path, other)
    gone = edited(tmp_path, lambda m: m["training_config"].update(encoder="markov"))
    with pytest.raises(ConfigError, match="'markov': must be one of"):
        load_encoder(tmp_path, gone)
    without = edited(tmp_path, lambda m: m["files"].pop(WEIGHTS))
    with pytest.raises(WeightsError, match=r"^the bundle holds no encoder_weights.npz$"):
        load_encoder(tmp_path, without)


def test_weights_that_are_no_arrays_are_left_out(tmp_path):
    """What numpy cannot hold stops no training: the bundle has no such file then."""
    encoder = ENCODERS.load("lstm")(SIZES).to(torch.bfloat16)

    save_weights(encoder, tmp_path)

    assert list(tmp_path.iterdir()) == []
