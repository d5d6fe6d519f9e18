"""What every factorizer must do, and that packages can add their own."""

import dataclasses
import sys

import numpy as np
import polars as pl
import pytest

from kinrec.cli import main
from kinrec.engine import Engine, Event
from kinrec.engine.events import History
from kinrec.engine.index import ExactIndex
from kinrec.engine.sources import FactorScores
from kinrec.trainer.errors import ConfigError
from kinrec.trainer.factorize import factorize
from kinrec.trainer.factorizers import FACTORIZERS

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
    assert float(users[0] @ users[3]) < 0.95


def test_the_engine_serves_what_the_command_trained(tmp_path, config):
    """A bundle of each factorizer loads, and people of one taste are each other's neighbours."""
    engine = train(tmp_path, "--factorizer", config.factorizer)
    assert engine.manifest.factorization.method == config.factorizer
    assert engine.manifest.factorization.agreement > AGREEMENT[config.factorizer]
    similar = engine.similar_users(events=[Event("i1"), Event("i3"), Event("i5")], limit=5)
    assert {int(user_id[1:]) % 2 for user_id in similar.user_ids} == {1}


def train(tmp_path, *settings):
    """Train on two tastes, of odd and even items, with the real command, and load the bundle."""
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
    return Engine.load(tmp_path / "store")


PACKAGE = '''
"""The items that come first, and nothing else."""

import numpy as np

from kinrec.trainer.factorizers import Factors, FoldInKind


class FirstColumns:
    def factorize(self, matrix, factors, config):
        columns = np.eye(matrix.shape[1], factors, dtype=np.float32)
        return Factors(columns, np.asarray(matrix @ columns), FoldInKind.NON_NEGATIVE)


class Broken:
    def factorize(self, matrix, factors, config):
        rows, columns = (np.ones((count, factors), np.float32) for count in matrix.shape)
        return Factors({columns}, rows, FoldInKind.PROJECTION)
'''
ENTRY_POINTS = """[kinrec.factorizers]
first-columns = first_columns:FirstColumns
broken = first_columns:Broken
missing = first_columns:Missing
svd = first_columns:Broken
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with factorizers where Python finds it, as an installer does."""

    def install(columns="columns"):
        place = tmp_path / "site"
        info = place / "first_columns-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: first-columns\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
        (place / "first_columns.py").write_text(PACKAGE.format(columns=columns))
        monkeypatch.syspath_prepend(place)
        monkeypatch.delitem(sys.modules, "first_columns", raising=False)

    return install


def test_a_package_adds_a_factorizer(tmp_path, install):
    """It is found by its entry point, trained with by the real command, and served by the engine."""
    install()
    engine = train(tmp_path, "--factorizer", "first-columns")
    spec = engine.manifest.factorization
    assert (spec.method, spec.factors) == ("first-columns", 4)
    assert spec.agreement == pytest.approx(1.0, abs=1e-3)
    assert engine.manifest.training_config["factorizer"] == "first-columns"
    assert len(engine.similar_users(events=[Event("i1"), Event("i3")], limit=5).user_ids) == 5


def test_an_unknown_factorizer_is_refused_before_any_work(tmp_path, capsys, install):
    """The line lists kinrec's own and those of packages; not even the log is looked for."""
    install()
    flags = ["--events", "nowhere.csv", "--out", str(tmp_path / "store"), "--factorizer", "lda"]
    assert main(["train", *flags]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "kinrec train: factorizer = 'lda': must be one of als, broken, first-columns, missing, nmf, svd"
    ]
    assert not (tmp_path / "store").exists()


def test_a_factorizer_that_cannot_be_imported_is_refused(install):
    """The line says what is missing in the package."""
    install()
    with pytest.raises(
        ConfigError, match=r"^factorizer = 'missing': .* cannot be imported: .*Miss"
    ):
        FACTORIZERS.load("missing")


def test_a_package_cannot_take_the_name_of_one_of_ours(install):
    """A manifest that says svd means kinrec's."""
    install()
    assert FACTORIZERS.load("svd").__module__ == "kinrec.trainer.factorizers.svd"


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ("columns * np.float32(np.nan)", "gave columns that are not finite"),
        ("columns[:-1]", r"gave columns of float32 \(79, 8\), not float32 \(80, n\)"),
        ("columns.astype(np.float64)", "gave columns of float64"),
        ("columns[:, 0]", r"gave columns of float32 \(80,\), not"),
        ("columns[:, 1:]", r"gave 8 factors of rows and 7 of columns"),
    ],
)
def test_what_could_not_be_served_is_refused(log, tiny_config, install, columns, rule):
    """Factors of a wrong shape or type, or not finite, are named with the factorizer."""
    install(columns)
    config = dataclasses.replace(tiny_config, factorizer="broken")
    with pytest.raises(ConfigError, match=f"factorizer = 'broken': {rule}"):
        factorize(log, np.ones((PEOPLE, VECTOR), np.float32), ITEMS, TYPE_WEIGHTS, config)
