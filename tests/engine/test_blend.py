"""What a person's sources weigh, and what is computed of a person once."""

import numpy as np
import pytest

from kinrec.bundle.v1.manifest_pb2 import Blend, Mix
from kinrec.engine.blend import Mixes, Person, ask
from kinrec.engine.model import Model
from kinrec.engine.sources import HISTORY, SEQUENCE, SIMILAR_USERS, SOURCES, TRANSITIONS


@pytest.fixture(scope="module")
def model(bundle):
    return Model.open(bundle)


class CountingEncoder:
    """The model's encoder, which counts how often it runs."""

    def __init__(self, encoder):
        self.encoder, self.runs = encoder, 0

    def encode(self, history, start=None):
        """Encode and count."""
        self.runs += 1
        return self.encoder.run_from([history], [start])[0]


@pytest.mark.parametrize(
    ("events", "weight"), [(1, 0.1), (4, 0.1), (5, 0.5), (19, 0.5), (20, 2.0), (2_000, 2.0)]
)
def test_weights_by_history_length(events, weight):
    """The last mix whose least number of events is reached applies."""
    mixes = Mixes(
        Blend(
            mixes=[
                Mix(min_events=1, weights={SEQUENCE: 0.1}),
                Mix(min_events=5, weights={SEQUENCE: 0.5}),
                Mix(min_events=20, weights={SEQUENCE: 2.0}),
            ]
        )
    )

    assert mixes.of(events, include_seen=False) == {SEQUENCE: weight}


def test_weights_with_and_without_seen_items():
    """Each way has its own weights; a source of weight zero is not asked."""
    mix = Mix(min_events=1, weights={SEQUENCE: 1.0, HISTORY: 0.0}, weights_with_seen={HISTORY: 1.0})
    mixes = Mixes(Blend(mixes=[mix]))

    assert mixes.of(3, include_seen=False) == {SEQUENCE: 1.0}
    assert mixes.of(3, include_seen=True) == {HISTORY: 1.0}


@pytest.mark.parametrize(
    ("source", "shapes"),
    [
        (SEQUENCE, [{"sequence_temperature": value} for value in (1.0, 2.0, 4.0)]),
        (TRANSITIONS, [{"transition_half_life": value} for value in (1.0, 2.0, 8.0)]),
        (HISTORY, [{"history_half_life": value} for value in (1.0, 2.0, 8.0)]),
        (SIMILAR_USERS, [{"vote_half_life": value} for value in (1.0, 2.0, 8.0)]),
    ],
)
def test_a_source_is_asked_in_the_shape_of_the_blend_that_is_given(model, source, shapes):
    """Whatever the shape in which the same person was asked about before."""

    def shares(person, shape):
        blend = Blend(candidates=100, neighbours=20, sequence_temperature=1.0)
        blend.transition_half_life = blend.history_half_life = blend.vote_half_life = 2.0
        for name, value in shape.items():
            setattr(blend, name, value)
        return ask(source, model, person, blend, 100)[1]

    def someone():
        return Person.stored(model, model.encoder, 3)

    person = someone()
    found = [shares(person, shape) for shape in shapes]
    for one, shape in zip(found, shapes, strict=True):
        np.testing.assert_array_equal(one, shares(someone(), shape))
    assert len({one.tobytes() for one in found}) == len(shapes)


def test_a_person_is_encoded_once(model):
    """Whatever is asked about a person, its history is encoded once; a stored one not at all."""
    encoder = CountingEncoder(model.encoder)
    history = model.histories.user(3)
    for person, runs in (
        (Person(model, encoder, history), 1),
        (Person.stored(model, encoder, 3), 1),
    ):
        for source in SOURCES:
            ask(source, model, person, model.manifest.blend, 20)
        assert encoder.runs == runs


def test_a_known_person_is_as_its_history(model):
    """What training stored of a person is what a request with the same history computes."""
    stored = Person.stored(model, CountingEncoder(model.encoder), 3)
    asked = Person(model, CountingEncoder(model.encoder), model.histories.user(3))

    np.testing.assert_array_equal(stored.vector, asked.vector)
    np.testing.assert_allclose(stored.factors, asked.factors, atol=1e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_shares(model, source):
    """The shares of a source are of one: none is below zero, and their sum is not above one."""
    person = Person.stored(model, CountingEncoder(model.encoder), 3)

    numbers, shares = ask(source, model, person, model.manifest.blend, 20)

    assert len(numbers) == len(shares) > 0
    assert shares.min() >= 0.0
    assert shares.sum() <= 1.0 + 1e-5
