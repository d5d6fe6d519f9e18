"""The exported encoder: the same bits however the events are cut, padded or batched."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine import BundleError
from kinrec.engine.encoder import MAX_BATCH, BatchingEncoder, state_shapes
from kinrec.engine.events import History, gap_codes

BAD_ITEM = 7


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
        state_shapes("encoder.onnx", spec)


def test_an_encoder_with_states_takes_any_number_of_events():
    """A limit would cut the new events alone, and not those that the state stands for."""
    tensor = manifest_pb2.Tensor(name="h0", dtype="float", dims=["1", "batch", "4"])
    spec = manifest_pb2.Encoder(inputs=[tensor], carries_state=True, max_length=10)

    with pytest.raises(BundleError, match="takes any number of events"):
        state_shapes("encoder.onnx", spec)


def run_all(tasks):
    """Run every task in a thread of its own, all started together."""
    barrier = threading.Barrier(len(tasks))
    results = [None] * len(tasks)

    def work(place, task):
        barrier.wait(10)
        results[place] = task()

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return results


def test_many_threads_get_the_bits_of_one(model):
    """Callers that share runs get what each would get alone."""
    histories = [person(1 + 3 * number, number) for number in range(24)]
    batching = BatchingEncoder(model.encoder)

    def rounds(history):
        return lambda: [bits(batching.encode(history).vector) for _ in range(10)]

    found = run_all([rounds(history) for history in histories])

    expected = [bits(model.encoder.run([history])[0]) for history in histories]
    assert found == [[vector] * 10 for vector in expected]


class Gate:
    """The real encoder behind a gate: records each batch, fails on demand."""

    def __init__(self, encoder):
        self.encoder = encoder
        self.open = threading.Event()
        self.started = threading.Event()
        self.batches = []
        self.threads = []
        self.error = ValueError("a bad history")

    def share_a_run(self, one, other):
        """See Encoder."""
        return self.encoder.share_a_run(one, other)

    def run_from(self, histories, starts):
        """See Encoder."""
        self.batches.append([len(history) for history in histories])
        self.threads.append(threading.get_ident())
        self.started.set()
        assert self.open.wait(20)
        if any(int(history.items[0]) == BAD_ITEM for history in histories):
            raise self.error
        return self.encoder.run_from(histories, starts)


@pytest.fixture
def gate(model):
    return Gate(model.encoder)


def call_while_busy(gate, batching, histories):
    """Encode the first history; when its run has begun, the others in order; then open the gate.

    Returns:
        Each caller's bits, or the error it got.
    """
    results = [None] * len(histories)

    def work(place):
        try:
            results[place] = bits(batching.encode(histories[place]).vector)
        except ValueError as error:
            results[place] = error

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(histories))]
    threads[0].start()
    assert gate.started.wait(10)
    for waiting, thread in enumerate(threads[1:], start=1):
        thread.start()
        deadline = time.monotonic() + 10
        while len(batching._waiting) < waiting:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    gate.open.set()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    return results


def test_a_lone_call_runs_at_once_in_its_own_thread(gate):
    """Nobody is waited for and no other thread takes part when there is one caller."""
    gate.open.set()
    batching = BatchingEncoder(gate)

    for _ in range(3):
        batching.encode(person(5))

    assert gate.batches == [[5]] * 3
    assert set(gate.threads) == {threading.get_ident()}


def test_what_waits_runs_together(gate):
    """Those who come during a run share the next one, if their lengths are close."""
    batching = BatchingEncoder(gate)

    call_while_busy(gate, batching, [person(n) for n in (5, 10, 100, 12, 20, 6, 21)])

    assert gate.batches == [[5], [10, 12, 20, 6], [100], [21]]


def test_a_batch_has_a_greatest_size(gate):
    """More callers than fit wait for the run after the next."""
    batching = BatchingEncoder(gate)

    call_while_busy(gate, batching, [person(5)] * (MAX_BATCH + 3))

    assert [len(batch) for batch in gate.batches] == [1, MAX_BATCH, 2]


def test_an_error_reaches_the_callers_of_its_batch_only(gate, model):
    """Callers before and after a failed run get their vectors, and later calls still work."""
    batching = BatchingEncoder(gate)
    histories = [person(5), person(5, BAD_ITEM), person(6), person(50)]

    first, bad, beside, after = call_while_busy(gate, batching, histories)

    assert bad is gate.error
    assert beside is gate.error
    assert first == bits(model.encoder.run([histories[0]])[0])
    assert after == bits(model.encoder.run([histories[3]])[0])
    assert bits(batching.encode(histories[2]).vector) == bits(model.encoder.run([histories[2]])[0])


def test_an_interrupted_call_leaves_no_one_waiting(gate):
    """After an interrupt during a run, the next call runs."""
    gate.open.set()
    gate.error = KeyboardInterrupt()
    batching = BatchingEncoder(gate)

    with pytest.raises(KeyboardInterrupt):
        batching.encode(person(5, BAD_ITEM))

    again = threading.Thread(target=batching.encode, args=(person(5),), daemon=True)
    again.start()
    again.join(10)
    assert not again.is_alive()


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
