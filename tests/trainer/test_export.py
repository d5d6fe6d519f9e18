"""An exported encoder that differs from the trained one is noticed, and there is no bundle.

That those of kinrec do not differ is shown in test_encoders.
"""

import numpy as np
import pytest
import torch

from kinrec.engine.encoder import Encoder as ExportedEncoder
from kinrec.trainer.encoders import EncoderSizes
from kinrec.trainer.encoders.lstm import LstmEncoder
from kinrec.trainer.export import (
    EMBEDDINGS,
    TOLERANCE,
    ParityError,
    check_parity,
    encode_all,
    export_encoder,
)


@pytest.fixture
def encoder():
    """An encoder whose every weight says something."""
    torch.manual_seed(0)
    encoder = LstmEncoder(EncoderSizes(30, 4, 12, 20, 0.5, 0.5, 10))
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return encoder.eval()


@pytest.fixture
def ragged(make_histories):
    """90 histories of 0 to 24 events of all types, with gaps of seconds to months."""
    rng = np.random.default_rng(1)
    lengths = [(user * 7) % 25 for user in range(90)]
    return make_histories(
        [rng.integers(0, 30, length).tolist() for length in lengths],
        types=[rng.integers(0, 4, length).tolist() for length in lengths],
        times=[np.cumsum(rng.lognormal(8, 3, length)).tolist() for length in lengths],
    )


@pytest.mark.parametrize(
    "name", ["project.weight", "recurrence.weight_hh_l0", "gap_embedding.weight"]
)
def test_weights_that_differ_are_noticed(encoder, ragged, tmp_path, name):
    """A change of one number in the trained weights after the export fails the comparison in one line."""
    exported, _ = export_encoder(encoder, tmp_path)
    with torch.no_grad():
        encoder.get_parameter(name)[0, 0] += 0.05
    with pytest.raises(ParityError, match=r"differs from the trained one by .* at most .e-05"):
        check_parity(encoder, exported, ragged, 2_000)


def test_what_is_allowed_grows_with_the_numbers(encoder, ragged, tmp_path):
    """Rounding is of the numbers it happens to: vectors a hundred times as long may differ by as much."""
    with torch.no_grad():
        encoder.norm.weight.fill_(100.0)
    exported, _ = export_encoder(encoder, tmp_path)
    parity = check_parity(encoder, exported, ragged, 2_000)
    assert parity.tolerance > 100 * TOLERANCE
    assert parity.max_abs_diff <= parity.tolerance


def test_altered_embeddings_are_noticed(encoder, ragged, tmp_path):
    """The graph reads the embeddings from their own file, and an altered file shows."""
    _, spec = export_encoder(encoder, tmp_path)
    embeddings = np.load(tmp_path / EMBEDDINGS)
    embeddings[5] += 0.01
    np.save(tmp_path / EMBEDDINGS, embeddings)
    altered = ExportedEncoder(tmp_path / "encoder.onnx", spec)
    with pytest.raises(ParityError):
        check_parity(encoder, altered, ragged, 2_000)


def test_a_difference_that_is_no_number_fails(encoder, ragged, tmp_path):
    """Not-a-number is not taken for a small difference."""
    exported, _ = export_encoder(encoder, tmp_path)
    with torch.no_grad():
        encoder.norm.bias[0] = float("nan")
    with pytest.raises(ParityError, match="nan"):
        check_parity(encoder, exported, ragged, 2_000)


def test_everyone_is_encoded_in_their_place(encoder, ragged, tmp_path):
    """Batches by length do not mix people up; who has no events has zeros."""
    exported, _ = export_encoder(encoder, tmp_path)
    vectors, states = encode_all(exported, ragged, 10, 12)
    assert vectors.shape == (90, 12)
    assert states.shape[0] == 90
    assert (states[ragged.lengths == 0] == 0).all()
    for user in range(90):
        history = ragged.user(user, 10)
        expected = exported.run([history])[0] if len(history) else np.zeros(12)
        np.testing.assert_allclose(vectors[user], expected, atol=1e-6)
        if len(history):
            (encoded,) = exported.run_from([history], [None])
            np.testing.assert_allclose(states[user], encoded.states, atol=1e-6)
