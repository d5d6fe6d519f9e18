"""Experiments: who gets which variant, and what answers."""

from collections import Counter

import grpc
import pytest

from kinrec.engine import Engine, Event
from kinrec.server.config import ServerConfig
from kinrec.server.engines import Engines
from kinrec.server.experiments import Experiment, ExperimentError, Variant, read_experiment
from kinrec.server.processes.loading import Loader, Served
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

from .conftest import StandInEngine

HALVES = Experiment("halves", (Variant("a", 1.0), Variant("b", 1.0)))
PEOPLE = [f"u{number}" for number in range(4_000)]


def test_people_are_shared_out_as_the_shares_say():
    """A variant of three quarters gets three quarters of the people, always the same ones."""
    experiment = Experiment("x", (Variant("a", 30.0), Variant("b", 10.0)))
    found = [experiment.assign(user_id).name for user_id in PEOPLE]
    assert 0.72 < found.count("a") / len(found) < 0.78
    again = Experiment("x", (Variant("a", 3.0), Variant("b", 1.0)))
    assert [again.assign(user_id).name for user_id in PEOPLE] == found


def test_two_experiments_share_people_out_differently():
    """Of the people of one variant the other experiment puts half in each of its own."""
    other = Experiment("others", (Variant("a", 1.0), Variant("b", 1.0)))
    pairs = Counter((HALVES.assign(user_id).name, other.assign(user_id).name) for user_id in PEOPLE)
    assert all(900 < count < 1_100 for count in pairs.values())


@pytest.fixture
def ask(start_server_of, open_channel):
    """A service of three engines: the current one and one for each variant."""
    engines = {name: StandInEngine(name) for name in ("v1", "a", "b")}
    current = engines.pop("v1")
    return RecommenderServiceStub(
        open_channel(start_server_of(Engines(current, experiment=HALVES, variants=engines)))
    )


def test_the_variant_answers_and_is_named(ask):
    """People with an id are answered by their variant; people without are in no experiment."""
    for user_id in PEOPLE[:20]:
        name = HALVES.assign(user_id).name
        for answer in (
            ask.Recommend(pb.RecommendRequest(user_id=user_id)),
            ask.EncodeSequence(pb.EncodeSequenceRequest(user_id=user_id)),
            ask.SimilarUsers(pb.SimilarUsersRequest(user_id=user_id)),
            ask.Rank(pb.RankRequest(user_id=user_id, item_ids=["i1"])),
            ask.BatchRecommend(
                pb.BatchRecommendRequest(requests=[pb.RecommendRequest(user_id=user_id)])
            )
            .results[0]
            .response,
        ):
            assert (answer.variant, answer.model_version) == (name, name)
            assert not answer.send_history
    answer = ask.Recommend(pb.RecommendRequest(events=[pb.Event(item_id="i1")]))
    assert (answer.variant, answer.model_version) == ("", "v1")


def test_a_state_of_another_engine_is_answered_by_that_one(ask):
    """Until the history is sent again the person is in no variant, and is told to send it."""
    state = ask.Recommend(pb.RecommendRequest(events=[pb.Event(item_id="i1")])).state
    answer = ask.Recommend(pb.RecommendRequest(user_id="u1", state=state))
    assert (answer.model_version, answer.variant, answer.send_history) == ("v1", "", True)
    own = ask.Recommend(pb.RecommendRequest(user_id="u1"))
    again = ask.Recommend(pb.RecommendRequest(user_id="u1", state=own.state))
    assert (again.variant, again.send_history) == (HALVES.assign("u1").name, False)


def test_variants_of_one_model_mix_its_sources_anew(bundle_store):
    """A variant with weights gives what these weights give; one without is the model itself."""
    engine = Engine.load(bundle_store)
    experiment = Experiment(
        "x", (Variant("as it is", 1.0), Variant("popular", 1.0, weights={"popularity": 1.0}))
    )
    config = ServerConfig(experiment=experiment)
    served = Served(bundle_store / engine.version)
    engines = Loader(bundle_store, config).load(served)
    variants = {
        experiment.assign(user_id).name: engines.of(b"", user_id).engine for user_id in PEOPLE
    }
    assert variants["as it is"] is engines.current
    events = [Event("i3"), Event("i7")]
    popular = variants["popular"].recommend(events=events, include_seen=True).item_ids
    assert popular == engine.recommend(events=[Event("nothing known")]).item_ids
    assert popular != engine.recommend(events=events, include_seen=True).item_ids


GOOD = """
name = "july"
[[variants]]
name = "control"
share = 90
[[variants]]
name = "sequence"
share = 10
weights = {sequence = 1, transitions = 0.5}
"""


def test_an_experiment_is_read_from_a_file(tmp_path):
    """Names, shares, versions and weights are as written."""
    path = tmp_path / "experiment.toml"
    path.write_text(GOOD)
    experiment = read_experiment(path)
    assert experiment.name == "july"
    assert experiment.variants == (
        Variant("control", 90.0),
        Variant("sequence", 10.0, weights={"sequence": 1.0, "transitions": 0.5}),
    )


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('name = "july"', "", "name: must be a string, is None"),
        ('name = "july"', 'name = ""', "name: must be 1 to 64 printable characters, is ''"),
        ('name = "july"', 'name = "x"\ntitle = 1', "title: is no key; there are name, variants"),
        ("share = 10", "share = 0", "variants[1].share: must be above 0, is 0"),
        ("share = 10", "share = nan", "variants[1].share: must be above 0, is nan"),
        ("share = 10", "share = 1" + "0" * 400, "variants[1].share: is too large"),
        ("share = 10", 'share = "10"', "variants[1].share: must be a number, is '10'"),
        ("share = 10", "shares = 10", "variants[1].shares: is no key"),
        ('name = "control"', 'name = "sequence"', "variants: every name must be another"),
        ("sequence = 1,", "sequenz = 1,", "variants[1].weights.sequenz: is no source"),
        ("sequence = 1,", "sequence = -1,", "variants[1].weights.sequence: must be 0 or more"),
        ("sequence = 1, transitions = 0.5", "sequence = 0", "weights: one at least must be above"),
        ("weights = {", "version = 3\nweights = {", "variants[1].version: must be a string, is 3"),
        (GOOD, 'name = "x"\nvariants = 3', "variants: must be tables, [[variants]]"),
        (GOOD, 'name = "x"', "variants: must be from 2 to 20, are 0"),
    ],
)
def test_a_bad_experiment_is_refused_by_the_key(tmp_path, old, new, fault):
    """The error names the key and the rule."""
    path = tmp_path / "experiment.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ExperimentError) as caught:
        read_experiment(path)
    assert fault in str(caught.value)


def test_an_unknown_state_of_the_variants_is_refused(ask):
    """A state of no engine that is here is not taken."""
    with pytest.raises(grpc.RpcError) as caught:
        ask.Recommend(pb.RecommendRequest(user_id="u1", state=b"made up"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
