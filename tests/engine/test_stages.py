"""What the engine says of its work, and that saying it changes nothing."""

import contextvars

import pytest

from kinrec.engine import Engine, Event, Query
from kinrec.engine.stages import ANSWER, ENCODE, READ, SEARCH, TURN, Listener, listener
from kinrec.engine.together import Runner


class Ear(Listener):
    """Keeps what it hears."""

    def __init__(self):
        self.stages = [""]
        self.reports = []
        self.batches = []
        self.neighbours = []

    def enter(self, stage):
        """Keep the stage."""
        before = self.stages[-1]
        if stage != before:
            self.stages.append(stage)
        return before

    def note_events(self, report):
        """Keep the report."""
        self.reports.append(report)

    def note_batch(self, size):
        """Keep the size."""
        self.batches.append(size)

    def note_neighbours(self, count):
        """Keep the count."""
        self.neighbours.append(count)


@pytest.fixture(scope="module")
def engine(bundle_store):
    """The engine of the sample bundle."""
    return Engine.load(bundle_store)


def heard(ask):
    """Ask with somebody listening; return what was heard and the answer."""
    ear = Ear()

    def listen():
        listener.set(ear)
        return ask()

    return ear, contextvars.copy_context().run(listen)


def test_the_stages_of_a_recommendation(engine):
    """Reading comes first, the encoder runs within the search, and then the answer is made."""
    events = [Event("i7", "view"), Event("nothing"), Event("i9", "buy")]
    ear, answer = heard(lambda: engine.recommend(events=events, limit=5))
    assert ear.stages[1:3] == [TURN, READ]
    assert ear.stages[-1] == ANSWER
    assert ear.stages[3:-1] in ([SEARCH, ENCODE, SEARCH], [SEARCH])
    assert ear.reports == [answer.event_report]
    assert ear.batches == [1] * ear.stages.count(ENCODE)
    assert answer == engine.recommend(events=events, limit=5)


def test_the_stages_of_an_encoding(engine):
    """Nothing is searched for a vector."""
    ear, _ = heard(lambda: engine.encode(events=[Event("i7", "view")]))
    assert ear.stages == ["", TURN, READ, ENCODE, READ, ANSWER]
    assert ear.batches == [1]


def test_a_known_user_is_not_encoded(engine):
    """What the bundle stores is not computed again."""
    (user,) = engine.user_ids(0, 1)
    ear, similar = heard(lambda: engine.similar_users(user_id=user, limit=7))
    assert ear.stages == ["", TURN, READ, SEARCH, ANSWER]
    assert ear.neighbours == [len(similar.user_ids)] == [7]


def test_a_batch_is_encoded_together(engine):
    """The encoder says over how many people it ran, and each person is heard of."""
    queries = [Query(events=[Event(f"i{place}", "view")]) for place in range(1, 6)]
    ear, _ = heard(lambda: engine.recommend_many(queries))
    assert ear.batches == [5]
    assert len(ear.reports) == 5
    assert [stage for stage in ear.stages if stage == READ] == [READ]


def test_similar_items(engine):
    """Items are searched for without a person."""
    ear, _ = heard(lambda: engine.similar_items("i7"))
    assert ear.stages == ["", SEARCH, ANSWER]
    assert not ear.reports


def test_each_of_the_calls_that_are_run_together_hears_of_its_own_work(engine):
    """Whether it is worked on with others or, for its many events, alone."""
    lengths, found = (4, 4, 49), {}

    def call(place, length):
        events = [Event(f"i{number}", "view") for number in range(length)]
        return lambda: found.update({place: heard(lambda: engine.recommend(events=events))})

    Runner().run([call(place, length) for place, length in enumerate(lengths)])

    for place, length in enumerate(lengths):
        ear, _ = found[place]
        assert {TURN, READ, ENCODE, SEARCH, ANSWER} <= set(ear.stages)
        assert [report.received for report in ear.reports] == [length]
    assert found[2][0].batches == [1]
    # While the long one is worked on the short ones wait for it.
    assert [found[place][0].stages[-2] for place in (0, 1)] == [TURN, TURN]
