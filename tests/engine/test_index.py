"""Indexes: an Annoy forest finds what a scan finds."""

import numpy as np
import pytest
from annoy import AnnoyIndex

from kinrec.bundle.v1.manifest_pb2 import Index
from kinrec.engine import BundleError
from kinrec.engine.index import COSINE, DOT, ExactIndex, Search, augment, open_index, take_best

COUNT, DIMS = 1500, 16


@pytest.fixture(scope="module")
def vectors():
    """Clustered vectors with norms as skewed as those of items of very different popularity."""
    rng = np.random.default_rng(5)
    clusters = rng.normal(size=(30, DIMS))
    points = clusters[rng.integers(30, size=COUNT)] + 0.5 * rng.normal(size=(COUNT, DIMS))
    return (points * rng.lognormal(0.0, 0.5, size=(COUNT, 1))).astype(np.float32)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def forest_spec(metric, **changes):
    fields = {"kind": Index.KIND_ANNOY, "count": COUNT, "dims": DIMS, "trees": 10}
    fields |= {"search_k": 600, "neighbours": 20, "recall": 1.0, "min_recall": 0.9}
    return Index(metric=metric, **(fields | changes))


def write_forest(path, points):
    forest = AnnoyIndex(points.shape[1], "angular")
    forest.set_seed(1)
    for number, point in enumerate(points.tolist()):
        forest.add_item(number, point)
    forest.build(10, n_jobs=1)
    forest.save(str(path))


@pytest.fixture(scope="module", params=[COSINE, DOT])
def both(request, vectors, tmp_path_factory):
    """A forest and a scan over the same vectors, for each metric."""
    path = tmp_path_factory.mktemp("forest") / "x.annoy"
    points = unit(vectors) if request.param == COSINE else vectors
    write_forest(path, points if request.param == COSINE else augment(points))
    return open_index(path, points, forest_spec(request.param)), ExactIndex(points)


def test_recall(both, vectors):
    """The forest finds at least nine of ten true neighbours, with their exact inner products."""
    forest, exact = both
    shares = []
    for query in vectors[::25]:
        numbers, scores = forest.search(query, 20)
        truth, true_scores = exact.search(query, 20)
        found = np.isin(truth, numbers)
        shares.append(found.mean())
        np.testing.assert_allclose(scores[np.isin(numbers, truth)], true_scores[found], rtol=1e-5)

    assert np.mean(shares) >= 0.9


def test_order(both, vectors):
    """Neighbours are distinct and come with the greatest inner product first."""
    for index in both:
        numbers, scores = index.search(vectors[3], 50)
        assert len(set(numbers.tolist())) == 50
        assert (np.diff(scores) <= 0).all()


def test_more_than_there_are(both, vectors):
    """Asking for more than there are gives every vector once."""
    for index in both:
        numbers, _ = index.search(vectors[3], COUNT + 500)
        assert sorted(numbers.tolist()) == list(range(COUNT))


@pytest.mark.parametrize("queries", [0, 1, 3, 4, 16, 37])
def test_however_many_are_searched_for_at_once_each_is_found_the_same(both, vectors, queries):
    """But for rounding: as many answers as queries, in their order."""
    for index in both:
        many = index.search_many(vectors[:queries], 20)
        assert len(many) == queries
        for query, (numbers, scores) in zip(vectors, many, strict=False):
            alone, its_scores = index.search(query, 20)
            assert numbers.tolist() == alone.tolist()
            np.testing.assert_allclose(scores, its_scores, rtol=1e-5)


def test_equal_scores_come_by_number():
    """Vectors that fit equally well come in the order of their numbers."""
    index = ExactIndex(np.ones((5, 2), np.float32))

    assert index.search(np.ones(2, np.float32), 5)[0].tolist() == [0, 1, 2, 3, 4]


def test_augmented_vectors_have_one_length(vectors):
    """The added dimension fills every vector up to the longest."""
    norms = np.linalg.norm(augment(vectors), axis=1)

    np.testing.assert_allclose(norms, np.linalg.norm(vectors, axis=1).max(), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"count": COUNT - 1}, "the manifest says 1499 vectors of 16 dims, there are 1500 of 16"),
        ({"dims": 17}, "the manifest says 1500 vectors of 17 dims"),
        ({"recall": 0.5}, "recall 0.500 is below 0.900"),
        ({"kind": Index.KIND_UNSPECIFIED}, "names no kind"),
    ],
)
def test_a_manifest_that_does_not_fit(vectors, tmp_path, changes, rule):
    """An index that is not what the manifest says, or finds too little, is refused."""
    write_forest(tmp_path / "x.annoy", vectors)

    with pytest.raises(BundleError, match=rule):
        open_index(tmp_path / "x.annoy", vectors, forest_spec(COSINE, **changes))


def test_a_forest_of_other_vectors(vectors, tmp_path):
    """A forest over other vectors of the same number and length is refused."""
    write_forest(tmp_path / "x.annoy", vectors[::-1])

    with pytest.raises(BundleError, match=r"x\.annoy: vector 0 is not the one that it indexes"):
        open_index(tmp_path / "x.annoy", vectors, forest_spec(COSINE))


def test_only_what_may_be_found_is_found(both, vectors):
    """Among few, many or all: the forest finds nine of ten of what a scan among them finds."""
    forest, exact = both
    rng = np.random.default_rng(3)
    for size in (1, 30, 400, COUNT):
        within = np.sort(rng.choice(COUNT, size, replace=False))
        shares = []
        for query in vectors[::100]:
            truth, _ = exact.search(query, 10, Search(within))
            scores = exact._vectors @ query
            assert (
                truth.tolist() == within[np.argsort(-scores[within], kind="stable")][:10].tolist()
            )
            found, _ = forest.search(query, 10, Search(within))
            assert len(found) == min(10, size)
            assert np.isin(found, within).all()
            shares.append(np.isin(truth, found).mean())
        assert np.mean(shares) >= 0.9


def test_nothing_may_be_found(both, vectors):
    """Where nothing may be found nothing is."""
    for index in both:
        numbers, scores = index.search(vectors[0], 10, Search(np.zeros(0, np.int64)))
        assert (len(numbers), len(scores)) == (0, 0)


def test_an_exact_search_of_a_forest_misses_nothing(both, vectors):
    """It gives what a scan gives; more effort comes no less near to it than less."""
    forest, exact = both
    missed = []
    for query in vectors[::25]:
        truth, _ = exact.search(query, 20)
        assert forest.search(query, 20, Search(is_exact=True))[0].tolist() == truth.tolist()
        missed.append(
            [
                20 - np.isin(truth, forest.search(query, 20, Search(effort=effort))[0]).sum()
                for effort in (1, 10)
            ]
        )
    usual, wide = np.sum(missed, axis=0)
    assert wide <= usual


def test_ties_at_the_cut_go_to_the_lower_numbers():
    """The best few are the first of all in order, for every count, however many scores are equal."""
    rng = np.random.default_rng(2)
    for size in (9, 100, 3_000):
        scores = rng.integers(0, 6, size).astype(np.float32)
        numbers = np.arange(size) * 2
        order = np.lexsort((numbers, -scores))
        for count in {1, 2, 5, size // 3, size - 1, size, size + 1}:
            found, best = take_best(numbers, scores, count)
            assert found.tolist() == numbers[order][:count].tolist()
            assert best.tolist() == scores[order][:count].tolist()


def test_the_widest_search_of_a_forest_is_no_wider_than_the_forest(both, vectors):
    """However much effort and however long an answer is asked for, Annoy takes the number."""
    forest, exact = both
    truth = exact.search(vectors[1], 1_000)[0].tolist()
    for effort in (100, 10**9):
        found = forest.search(vectors[1], 1_000, Search(effort=effort))[0]
        assert np.isin(truth, found).mean() > 0.99


def test_one_more_than_was_measured_is_searched_for_no_wider(both, vectors):
    """Who may be among its own neighbours asks for one more, and finds the same others."""
    forest, _ = both
    for query in vectors[::100]:
        twenty = forest.search(query, 20)[0]
        assert np.isin(twenty, forest.search(query, 21)[0]).all()
