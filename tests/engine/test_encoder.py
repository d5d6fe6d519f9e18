"""The exported encoder: the same bits however the events are cut, padded or batched."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine import BundleError
from kinrec.engine.encoder import Start
from kinrec.engine.encoder_states import states_of
from kinrec.engine.events import History, gap_codes


def person(length, item=0):
    """Give a history of some length with changing items, types and gaps."""
    steps = np.arange(length)
    return History(
        (item + 13 * steps).astype(np.int32) % 200,
        (steps % 4).astype(np.uint8),
        # Gaps of a minute to a day, which the sample has: the model is silent on others.
        np.cumsum(2.0 ** (6 + steps % 11)),
    )


def bits(vector):
    return np.asarray(vector, np.float32).tobytes()


def test_batch_and_padding_change_no_bit(model):
    """A history alone gives the same bits as in a batch with longer and shorter ones."""
    histories = [person(length, item) for item, length in enumerate((1, 50, 2, 200, 33, 50, 7))]

    together = model.encoder.run(histories)

    alone = [model.encoder.run([history])[0] for history in histories]
    assert [bits(row) for row in together] == [bits(row) for row in alone]


@pytest.mark.parametrize("cuts", [[30, 20], [1] * 50, [49, 1], [25, 5, 20]])
def test_carried_state_changes_no_bit(bundle, model, cuts):
    """Fifty events at once give the same bits as in parts that go on from h and c."""
    whole = person(50)
    session = ort.InferenceSession(str(bundle / "encoder.onnx"))
    gaps = gap_codes(whole.times)
    h = c = np.zeros((1, 1, model.manifest.encoder.hidden_size), np.float32)
    start = 0
    for length in cuts:
        part = slice(start, start + length)
        vectors, h, c = session.run(
            ["vectors", "hn", "cn"],
            {
                "items": whole.items[np.newaxis, part].astype(np.int64),
                "event_types": whole.event_types[np.newaxis, part].astype(np.int64),
                "gaps": gaps[np.newaxis, part],
                "lengths": np.array([length], np.int32),
                "h0": h,
                "c0": c,
            },
        )
        start += length

    assert bits(vectors[0]) == bits(model.encoder.run([whole])[0])


def test_event_by_event_from_many_threads_changes_no_bit(model):
    """Neither in the vector nor in the states: one thread has the memory for that, others do without."""
    histories = [person(30, item) for item in range(8)]
    whole = model.encoder.run_from(histories, [None] * len(histories))

    def by_event(history):
        start = None
        for place in range(len(history)):
            one = slice(place, place + 1)
            event = History(history.items[one], history.event_types[one], history.times[one])
            encoded = model.encoder.encode(event, start)
            start = Start(encoded.states, float(history.times[place]))
        return encoded

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(by_event, histories))

    for one, other in zip(found, whole, strict=True):
        assert bits(one.vector) == bits(other.vector)
        assert bits(one.states) == bits(other.states)
        assert len(one.states) == model.encoder.state_length > 0


def test_every_input_matters(model):
    """Another item, type or time of one event gives another vector."""
    base = person(5)
    items, types, times = base.items.copy(), base.event_types.copy(), base.times.copy()
    items[2], types[2], times[2] = 150, 0, times[2] + 0.5 * (times[3] - times[2])

    vectors = model.encoder.run(
        [
            base,
            History(items, base.event_types, base.times),
            History(base.items, types, base.times),
            History(base.items, base.event_types, times),
        ]
    )

    assert len({bits(vector) for vector in vectors}) == 4


def test_stored_vectors_are_the_encoders_own(model):
    """The vector stored for a user is, bit for bit, what the encoder gives for the history."""
    for user in range(0, len(model.users), 10):
        vector = model.encoder.run([model.histories.user(user)])[0]
        assert bits(vector) == bits(model.user_vectors[user]), user


@pytest.mark.parametrize("dims", [["batch", "time"], ["1", "time", "4"], ["layers", "batch", "4"]])
def test_an_input_that_the_engine_cannot_feed_is_refused(dims):
    """What is neither of the events nor shaped like a state is named."""
    tensor = manifest_pb2.Tensor(name="prices", dtype="float", dims=dims)
    spec = manifest_pb2.Encoder(inputs=[tensor], carries_state=True)

    with pytest.raises(BundleError, match="'prices' is neither of the events nor a state"):
        states_of("encoder.onnx", spec)


def test_an_encoder_with_states_takes_any_number_of_events():
    """A limit would cut the new events alone, and not those that the state stands for."""
    tensor = manifest_pb2.Tensor(name="h0", dtype="float", dims=["1", "batch", "4"])
    spec = manifest_pb2.Encoder(inputs=[tensor], carries_state=True, max_length=10)

    with pytest.raises(BundleError, match="takes any number of events"):
        states_of("encoder.onnx", spec)


def test_onnxruntime_leaves_nothing_behind_and_says_nothing(tmp_path):
    """Neither in a home directory that can be written to, nor about one that cannot."""
    for home in (tmp_path, Path("/proc")):
        environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_DATA_HOME": str(home)}
        done = subprocess.run(
            [sys.executable, "-c", "import kinrec.engine"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("", "")
    assert not list(tmp_path.iterdir())
