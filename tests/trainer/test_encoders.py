"""What every encoder must do, whichever it is; and what each says of itself."""

import dataclasses

import numpy as np
import onnxruntime as ort
import polars as pl
import pytest
import torch

from kinrec.engine import Engine, Event
from kinrec.engine._limits import MAX_EVENTS
from kinrec.engine.events import GAP_BUCKETS, History, gap_codes
from kinrec.trainer.encoders import (
    ENCODERS,
    EncoderSizes,
    visible_events,
)
from kinrec.trainer.export import TOLERANCE, check_parity, export_encoder
from kinrec.trainer.training import Inputs, train

ITEMS, TYPES, WINDOW = 30, 4, 20
CARRIED = {"lstm": ["h", "c"], "gru": ["h"], "transformer": []}


@pytest.fixture(params=CARRIED)
def encoder(request):
    """An encoder of each kind, whose every weight says something; sizes divide by no other."""
    torch.manual_seed(0)
    encoder = ENCODERS.load(request.param)(EncoderSizes(ITEMS, TYPES, 13, 17, 0.5, 0.5, WINDOW))
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return encoder.eval()


@pytest.fixture
def exported(encoder, tmp_path):
    """The encoder as the engine runs it."""
    return export_encoder(encoder, tmp_path)[0]


def person(length, seed=0):
    """A history of random items and types, with gaps of seconds to months."""
    rng = np.random.default_rng([length, seed])
    return History(
        rng.integers(0, ITEMS, length).astype(np.int32),
        rng.integers(0, TYPES, length).astype(np.uint8),
        np.cumsum(rng.lognormal(8, 3, length)),
    )


def tensors(batch, time):
    """Random items, types and gaps, each (batch, time)."""
    rng = np.random.default_rng(batch * 100 + time)
    sizes = (ITEMS, TYPES, GAP_BUCKETS)
    return tuple(torch.from_numpy(rng.integers(0, size, (batch, time))) for size in sizes)


def last_vector(encoder, history):
    """What torch gives for one history alone."""
    columns = (history.items, history.event_types, gap_codes(history.times))
    kept = slice(-visible_events(encoder, len(history)), None)
    with torch.no_grad():
        batch = (torch.from_numpy(np.asarray(column, np.int64)[None, kept]) for column in columns)
        return encoder.vectors(*batch)[0, -1].numpy()


def assert_equal(found, expected, encoder):
    """Bit for bit if the encoder is recurrent, else within the tolerance."""
    if CARRIED[encoder.kind]:
        assert np.array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_there_is_one_vector_per_event(encoder):
    """Vectors are as long as item embeddings, and finite, for the shortest and the longest batch."""
    assert encoder.item_embedding.weight.shape == (ITEMS, 13)
    for batch, time in ((1, 1), (3, WINDOW)):
        vectors = encoder.vectors(*tensors(batch, time))
        assert vectors.shape == (batch, time, 13)
        assert vectors.dtype == torch.float32
        assert torch.isfinite(vectors).all()


@pytest.mark.parametrize("changed", range(3))
def test_an_event_changes_its_own_vector_and_no_earlier_one(encoder, changed):
    """Neither the item, nor the type, nor the gap of a later event is seen before it."""
    before, after = tensors(2, WINDOW), tensors(2, WINDOW)
    place = 7
    after[changed][:, place] = (after[changed][:, place] + 1) % TYPES
    with torch.no_grad():
        one, other = encoder.vectors(*before), encoder.vectors(*after)
    assert torch.equal(one[:, :place], other[:, :place])
    assert (one[:, place:] != other[:, place:]).any(dim=-1).all()


def test_what_is_cut_off_the_end_is_not_missed(encoder):
    """A vector is the same in a longer batch: training may read all places of one."""
    whole = tensors(3, WINDOW)
    with torch.no_grad():
        part = encoder.vectors(*(column[:, :9] for column in whole))
        np.testing.assert_allclose(part, encoder.vectors(*whole)[:, :9], rtol=0, atol=TOLERANCE)


def test_the_exported_encoder_gives_what_the_trained_one_does(encoder, exported, make_histories):
    """On ragged batches of real histories, and histories longer than the encoder takes."""
    people = [person(length % 45) for length in range(90)]
    histories = make_histories(
        [one.items.tolist() for one in people],
        [one.event_types.tolist() for one in people],
        [one.times.tolist() for one in people],
    )
    parity = check_parity(encoder, exported, histories, MAX_EVENTS)
    assert 0.0 <= parity.max_abs_diff <= TOLERANCE <= parity.tolerance < 10 * TOLERANCE
    assert parity.sequences == 88


@pytest.mark.parametrize("length", [1, 2, WINDOW, WINDOW + 1, MAX_EVENTS])
def test_any_length_is_encoded(encoder, exported, length):
    """One event, as many as are allowed, and the edge of the window give what torch gives."""
    history = person(length)
    found = exported.run([history])
    assert found.shape == (1, 13)
    np.testing.assert_allclose(found[0], last_vector(encoder, history), rtol=0, atol=TOLERANCE)


def test_neither_padding_nor_company_changes_a_vector(encoder, exported):
    """A history alone gives the vector it has in a batch with longer and shorter ones."""
    people = [person(length) for length in (1, 33, 2, 20, 7, 7, 21)]
    together = exported.run(people)
    alone = np.concatenate([exported.run([one]) for one in people])
    assert_equal(together, alone, encoder)
    backwards = exported.run(people[::-1])[::-1]
    assert_equal(backwards, together, encoder)


def test_padded_places_are_not_read(encoder, exported, tmp_path):
    """Whatever ids stand at padded places, they change no bit."""
    session = ort.InferenceSession(str(tmp_path / "encoder.onnx"))
    assert exported is not None
    lengths = np.array([3, 8], np.int32)
    items, types, gaps = (column.numpy() for column in tensors(2, 8))
    feed = {"items": items, "event_types": types, "gaps": gaps, "lengths": lengths}
    feed |= {f"{s}0": np.zeros((1, 2, 17), np.float32) for s in CARRIED[encoder.kind]}
    (found,) = session.run(["vectors"], feed)
    for column in (items, types, gaps):
        column[0, 3:] = 1
    (again,) = session.run(["vectors"], feed)
    assert np.array_equal(found, again)


def test_the_manifest_says_what_is_carried_and_how_much_is_seen(encoder, tmp_path):
    """The states, their size and the greatest length are those of the encoder."""
    _, spec = export_encoder(encoder, tmp_path)
    states = CARRIED[encoder.kind]
    assert (spec.kind, spec.vector_size) == (encoder.kind, 13)
    assert spec.carries_state == bool(states)
    assert spec.hidden_size == (17 if states else 0)
    assert spec.layers == (1 if states else 2)
    assert spec.max_length == encoder.max_length == (0 if states else WINDOW)
    events = ["items", "event_types", "gaps", "lengths"]
    assert [tensor.name for tensor in spec.inputs] == [*events, *(f"{s}0" for s in states)]
    assert [tensor.name for tensor in spec.outputs] == ["vectors", *(f"{s}n" for s in states)]


@pytest.mark.parametrize("cuts", [[12, 8], [1] * 20, [19, 1]])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_who_carries_a_state_goes_on_from_it_bit_for_bit(kind, cuts, tmp_path):
    """Events in parts, each from the states of the part before, give the bits of all at once."""
    torch.manual_seed(1)
    encoder = ENCODERS.load(kind)(EncoderSizes(ITEMS, TYPES, 13, 17, 0.5, 0.5, WINDOW)).eval()
    exported, _ = export_encoder(encoder, tmp_path)
    session = ort.InferenceSession(str(tmp_path / "encoder.onnx"))
    history = person(20)
    gaps = gap_codes(history.times)
    states = {name: np.zeros((1, 1, 17), np.float32) for name in CARRIED[kind]}
    vectors = None
    for start, length in zip(np.cumsum([0, *cuts]), cuts, strict=False):
        part = slice(start, start + length)
        feed = {
            "items": history.items[None, part].astype(np.int64),
            "event_types": history.event_types[None, part].astype(np.int64),
            "gaps": gaps[None, part],
            "lengths": np.array([length], np.int32),
        } | {f"{name}0": state for name, state in states.items()}
        vectors, *after = session.run(["vectors", *(f"{name}n" for name in states)], feed)
        states = dict(zip(states, after, strict=True))
    assert np.array_equal(vectors, exported.run([history]))


def test_a_transformer_refuses_more_than_its_window():
    """More events than it has distances for are an error, not a wrong vector."""
    encoder = ENCODERS.load("transformer")(EncoderSizes(ITEMS, TYPES, 13, 17, 0.5, 0.5, WINDOW))
    with pytest.raises(ValueError, match="at most 20 events, got 21"):
        encoder.vectors(*tensors(1, WINDOW + 1))


@pytest.mark.parametrize("name", CARRIED)
def test_it_learns_who_follows_whom_and_the_engine_answers_with_it(
    name, tmp_path, watcher, tiny_config
):
    """Where the next item is certain it is ranked first and recommended, after any history."""
    rows = [
        (f"u{user}", f"i{(user + step) % 16}", step) for user in range(60) for step in range(10)
    ]
    events = tmp_path / "events.parquet"
    pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row").write_parquet(events)
    config = dataclasses.replace(tiny_config, encoder=name)
    engine = Engine.load(train(Inputs([events]), tmp_path / "ring", config, watcher))
    assert engine.manifest.encoder.kind == name
    assert engine.manifest.validation.ndcg_at_10 > 0.95
    for length in (1, 3, 10, 11, MAX_EVENTS):
        walk = [Event(f"i{step % 16}") for step in range(length)]
        answer = engine.recommend(events=walk, limit=1, include_seen=True)
        assert answer.item_ids == [f"i{length % 16}"]


def test_the_suite_covers_every_encoder_of_kinrec():
    """An encoder that is added is added here too."""
    assert set(CARRIED) <= set(ENCODERS.names())
