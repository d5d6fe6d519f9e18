"""Each kind of fold-in solves the least-squares problem that it says it solves."""

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse
from scipy.optimize import nnls
from threadpoolctl import threadpool_limits

from kinrec.bundle.v1.manifest_pb2 import Factorization
from kinrec.engine import BundleError
from kinrec.engine.events import History
from kinrec.engine.factors import RowSpec
from kinrec.engine.fold_in import LeastSquares, NonNegative, Projection, open_fold_in

ITEMS, VECTOR, FACTORS = 30, 8, 6


def unit(array):
    """Scale to length one."""
    return array / np.linalg.norm(array)


def cosine(one, other):
    """The cosine of two arrays of numbers."""
    return float(unit(one) @ unit(other))


@pytest.fixture
def rows():
    """Items that differ in weight, types of which one counts nothing, vectors of half weight."""
    weights = np.random.default_rng(1).uniform(0.5, 3.0, ITEMS).astype(np.float32)
    return RowSpec(weights, np.array([1.0, 0.0], np.float32), 0.5, 4.0)


@pytest.fixture
def columns():
    """Factors of items and interest columns, none below zero."""
    rng = np.random.default_rng(2)
    found = rng.gamma(0.5, size=(ITEMS + 2 * VECTOR, FACTORS)).astype(np.float32)
    return found[:ITEMS], found[ITEMS:]


@pytest.fixture(params=range(5))
def person(request):
    """The history and the vector of a person; some items come more than once."""
    rng = np.random.default_rng(request.param)
    items = rng.integers(0, ITEMS, 3 + request.param * 4).astype(np.int32)
    history = History(items, np.zeros(len(items), np.uint8), np.zeros(len(items)))
    return history, rng.normal(size=VECTOR).astype(np.float32)


def dense(rows, history, vector):
    """The whole row of a person."""
    row = rows.row(history, vector)
    found = np.zeros(ITEMS)
    found[row.items] = row.weights
    return np.concatenate([found, row.interest])


def test_the_row_of_a_person(rows):
    """Items count by recency and rarity and have length one together, the vector has length alpha."""
    history = History(np.array([4, 9, 4], np.int32), np.zeros(3, np.uint8), np.zeros(3))
    row = rows.row(history, np.array([3.0, -4.0, *[0.0] * (VECTOR - 2)], np.float32))
    counts = np.array([2**-0.5 + 1.0, 2**-0.25]) * rows.item_weights[[4, 9]]
    assert row.items.tolist() == [4, 9]
    np.testing.assert_allclose(row.weights, unit(counts), rtol=1e-5)
    np.testing.assert_allclose(row.interest[[0, VECTOR + 1]], [0.3, 0.4], rtol=1e-5)
    assert np.count_nonzero(row.interest) == 2


def test_projection_is_least_squares_on_orthonormal_columns(rows, columns, person):
    """It gives what a general solver of least squares gives."""
    orthonormal = np.linalg.qr(np.concatenate(columns))[0].astype(np.float32)
    fold_in = Projection(rows, orthonormal[:ITEMS], orthonormal[ITEMS:])
    expected = np.linalg.lstsq(orthonormal, dense(rows, *person), rcond=None)[0]
    np.testing.assert_allclose(fold_in.user(*person), unit(expected), atol=1e-5)


@pytest.mark.parametrize(("regularization", "confidence"), [(0.1, 40.0), (20.0, 1.0), (1.0, 0.0)])
def test_least_squares_is_that_of_implicit(rows, columns, person, regularization, confidence):
    """It gives what the library that trains gives for the row of a new user."""
    fold_in = LeastSquares(rows, *columns, regularization, confidence)
    with threadpool_limits(1, "blas"):  # or it warns
        model = AlternatingLeastSquares(FACTORS, regularization, num_threads=1)
    model.item_factors = np.concatenate(columns)
    row = sparse.csr_matrix(dense(rows, *person), dtype=np.float32)
    row.data = 1.0 + confidence * row.data
    expected = model.recalculate_user(np.array([0]), row)[0]
    np.testing.assert_allclose(fold_in.user(*person), unit(expected), atol=1e-3)


def test_what_counts_nothing_is_not_taken_for_something_done(rows, columns):
    """Events of a type of weight zero leave the factors as they would be without."""
    fold_in = LeastSquares(rows, *columns, 0.1, 40.0)
    vector = np.ones(VECTOR, np.float32)
    history = History(np.array([4, 5, 6], np.int32), np.array([0, 1, 1], np.uint8), np.zeros(3))
    without = History(history.items[:1], history.event_types[:1], history.times[:1])
    np.testing.assert_allclose(
        fold_in.user(history, vector), fold_in.user(without, vector), atol=1e-6
    )


def test_non_negative_is_close_to_the_exact_solution(rows, columns, person):
    """No factor is below zero, and an active-set solver finds nothing much different."""
    fold_in = NonNegative(rows, *columns)
    expected, _ = nnls(np.concatenate(columns).astype(np.float64), dense(rows, *person))
    factors = fold_in.user(*person)
    assert factors.min() >= 0.0
    assert cosine(factors, expected) > 0.999


@pytest.mark.parametrize(
    "name", ["FOLD_IN_PROJECTION", "FOLD_IN_LEAST_SQUARES", "FOLD_IN_NON_NEGATIVE"]
)
def test_every_kind_gives_factors_of_length_one(rows, columns, person, name):
    """Whatever the manifest names; and a factor that no column has stays zero."""
    for block in columns:
        block[:, 2] = 0.0
    spec = Factorization(fold_in=Factorization.FoldIn.Value(name), regularization=0.1, confidence=9)
    factors = open_fold_in(spec, rows, *columns).user(*person)
    assert (factors.shape, factors.dtype) == ((FACTORS,), np.float32)
    assert np.linalg.norm(factors) == pytest.approx(1.0, abs=1e-5)
    assert factors[2] == 0.0


def test_a_manifest_that_names_no_kind_is_refused(rows, columns):
    """Neither silence nor the kind of a later version is taken for one that is known."""
    with pytest.raises(BundleError, match="fold_in is none that"):
        open_fold_in(Factorization(), rows, *columns)
