"""What every factorizer must do, and that packages can add their own."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from kinrec.cli import main
from kinrec.engine import Engine, Event
from kinrec.engine.events import History
from kinrec.engine.index import ExactIndex
from kinrec.engine.sources import FactorScores
from kinrec.engine.store import find_bundle
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.errors import ConfigError
from kinrec.trainer.factorize import factorize
from kinrec.trainer.factorizers import Factors, FoldInKind, find_factorizer

TASTES, ITEMS_EACH, PEOPLE, VECTOR = 4, 12, 120, 16
ITEMS = TASTES * ITEMS_EACH
TYPE_WEIGHTS = np.ones(1, np.float32)

# The least median cosine of the factors as trained with those that the engine folds in. SVD is
# projected on what it was made from. ALS and NMF stop before the people's factors have followed the
# last change of the columns'.
AGREEMENT = {"svd": 0.999, "als": 0.99, "nmf": 0.95}


@pytest.fixture(params=sorted(AGREEMENT))
def config(request, tiny_config):
    """A configuration for each factorizer."""
    return dataclasses.replace(tiny_config, factorizer=request.param)


def items_of(taste, rng, count):
    """Some of the items of a taste, each once."""
    return rng.choice(ITEMS_EACH, count, replace=False) + ITEMS_EACH * taste


def vector_of(taste, rng):
    """An interest vector that tells a taste, not without noise."""
    vector = rng.normal(scale=0.3, size=VECTOR)
    vector[taste] += 2.0
    return vector.astype(np.float32)


@pytest.fixture
def log(make_histories):
    """People of four tastes, who use 4 to 8 of the 12 items of theirs and one of any."""
    rng = np.random.default_rng(5)
    return make_histories(
        [
            [*items_of(user % TASTES, rng, rng.integers(4, 9)).tolist(), int(rng.integers(ITEMS))]
            for user in range(PEOPLE)
        ]
    )


@pytest.fixture
def vectors():
    """An interest vector for each."""
    rng = np.random.default_rng(6)
    return np.stack([vector_of(user % TASTES, rng) for user in range(PEOPLE)])


@pytest.fixture
def factorized(log, vectors, config):
    """The fold-in, the factors of the users and the manifest's record."""
    return factorize(log, vectors, ITEMS, TYPE_WEIGHTS, config)


@pytest.fixture
def strangers():
    """The tastes, histories and interest vectors of people who are not in the log."""
    rng = np.random.default_rng(77)
    people = []
    for taste in [*range(TASTES)] * 5:
        items = items_of(taste, rng, 4).astype(np.int32)
        history = History(items, np.zeros(4, np.uint8), np.zeros(4))
        people.append((taste, history, vector_of(taste, rng)))
    return people


def test_factors_are_as_many_as_asked_for(factorized, config):
    """Everyone and every column has finite factors in float32, and people's have length one."""
    fold_in, users, spec = factorized
    assert (spec.method, spec.factors) == (config.factorizer, 8)
    for array, count in (
        (users, PEOPLE),
        (fold_in.item_factors, ITEMS),
        (fold_in.interest_factors, 2 * VECTOR),
    ):
        assert (array.shape, array.dtype) == ((count, 8), np.float32)
        assert np.isfinite(array).all()
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), 1.0, atol=1e-5)


def test_the_same_seed_gives_the_same_bytes(log, vectors, config, factorized):
    """Nothing in a factorization hangs on anything but data and configuration."""
    fold_in, users, spec = factorize(log, vectors, ITEMS, TYPE_WEIGHTS, config)
    assert users.tobytes() == factorized[1].tobytes()
    assert fold_in.item_factors.tobytes() == factorized[0].item_factors.tobytes()
    assert fold_in.interest_factors.tobytes() == factorized[0].interest_factors.tobytes()
    assert spec == factorized[2]


def test_known_users_have_the_factors_that_a_request_would_give(log, vectors, factorized):
    """The stored factors are those of the engine's fold-in, to the bit."""
    fold_in, users, _ = factorized
    for user in range(PEOPLE):
        folded = fold_in.user(log.user(user), vectors[user])
        assert folded.tobytes() == users[user].tobytes()


def test_folding_in_is_close_to_what_was_trained(factorized, config):
    """The manifest says how close, and it is close enough for the kind."""
    assert AGREEMENT[config.factorizer] < factorized[2].agreement <= 1.0


def test_neighbours_share_a_taste(factorized):
    """The ten people nearest to anyone have the planted taste."""
    users = factorized[1]
    cosines = users @ users.T
    np.fill_diagonal(cosines, -2.0)
    nearest = np.argsort(-cosines, axis=1)[:, :10]
    assert (nearest % TASTES == np.arange(PEOPLE)[:, None] % TASTES).mean() > 0.95


def test_strangers_get_neighbours_of_their_taste(factorized, strangers):
    """People known from a request alone land among those who like the same."""
    fold_in, users, _ = factorized
    shares = []
    for taste, history, vector in strangers:
        nearest = np.argsort(-(users @ fold_in.user(history, vector)))[:10]
        shares.append((nearest % TASTES == taste).mean())
    assert np.mean(shares) > 0.95


def test_strangers_get_items_of_their_taste(factorized, strangers):
    """The source `factors` names items of the taste that were not in the history."""
    fold_in, _, _ = factorized
    source = FactorScores(ExactIndex(fold_in.item_factors))
    right = []
    for taste, history, vector in strangers:
        items, shares = source.shares(fold_in.user(history, vector), ITEMS_EACH)
        unseen = np.setdiff1d(items, history.items)
        assert len(unseen) >= ITEMS_EACH - 4
        right.append((unseen // ITEMS_EACH == taste).mean())
        assert shares.sum() == pytest.approx(1.0, abs=1e-5)
        assert shares.min() >= 0.0
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_empty_rows_and_columns_and_more_factors_than_tastes(make_histories, config, alpha):
    """Someone without events has zeros; nothing else is disturbed, even where the rank is short."""
    histories = make_histories([[0, 1], [0, 1], [], [2, 3], [2, 3], [0, 1], [2, 3], [2, 3, 0]])
    vectors = np.ones((8, 4), np.float32)
    vectors[2] = 0.0
    config = dataclasses.replace(config, alpha=alpha)
    fold_in, users, spec = factorize(histories, vectors, 6, TYPE_WEIGHTS, config)
    assert spec.factors == 7
    assert not users[2].any()
    assert np.isfinite(fold_in.item_factors).all()
    assert float(users[0] @ users[1]) > 0.99
    assert float(users[0] @ users[3]) < 0.9


def test_the_engine_serves_what_the_command_trained(tmp_path, config):
    """A bundle of each factorizer loads, and people of one taste are each other's neighbours."""
    engine, arguments = train(tmp_path, "--factorizer", config.factorizer)
    assert engine.manifest.factorization.method == config.factorizer
    assert engine.manifest.factorization.agreement > AGREEMENT[config.factorizer]
    similar = engine.similar_users(events=[Event("i1"), Event("i3"), Event("i5")], limit=5)
    assert {int(user_id[1:]) % 2 for user_id in similar.user_ids} == {1}
    assert arguments


def train(tmp_path, *settings):
    """Train on two tastes, of odd and even items, with the real command; give engine and flags."""
    rows = [
        (f"u{user}", f"i{2 * ((user * 5 + step * (1 + user % 3)) % 7) + user % 2}", step * 3_600)
        for user in range(40)
        for step in range(6)
    ]
    events = tmp_path / "events.parquet"
    pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row").write_parquet(events)
    arguments = ["train", "--events", str(events), "--out", str(tmp_path / "store")]
    arguments += ["--epochs", "1", "--vector-size", "8", "--hidden-size", "8", "--factors", "4"]
    arguments += settings
    assert main(arguments) == 0
    return Engine.load(find_bundle(tmp_path / "store")), arguments
