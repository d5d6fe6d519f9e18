"""Indexes: exact where that is as good, else a forest with the recall that was asked for."""

import numpy as np
import pytest

from kinrec.bundle.v1.manifest_pb2 import Index
from kinrec.engine.index import AnnoyForest, ExactIndex, open_index
from kinrec.trainer.indexes import COSINE, DOT, QUERIES, build_index


def clustered(count, dims, seed):
    """Vectors of length one around 50 centres, which is what people look like."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, dims))
    vectors = centres[rng.integers(0, 50, count)] + rng.normal(size=(count, dims)) * 0.4
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def settings(**changes):
    """How the tests build an index."""
    return {"metric": COSINE, "neighbours": 20, "min_recall": 0.9, "seed": 1} | changes


def test_few_vectors_are_scanned(tmp_path):
    """No forest is written, the recall is whole and the answer is that of a sort."""
    vectors = clustered(60, 8, 0)
    path = tmp_path / "few.annoy"
    spec = build_index(path, vectors, vectors, **settings(neighbours=40))
    assert (spec.kind, spec.count, spec.dims, spec.recall) == (Index.KIND_EXACT, 60, 8, 1.0)
    assert (spec.trees, spec.search_k) == (0, 0)
    assert not path.exists()
    numbers, scores = open_index(path, vectors, spec).search(vectors[3], 5)
    cosines = vectors @ vectors[3]
    assert numbers.tolist() == np.argsort(-cosines)[:5].tolist()
    assert scores.tolist() == pytest.approx(np.sort(cosines)[::-1][:5].tolist())


def test_many_vectors_get_a_forest_of_the_recall_it_says(tmp_path):
    """The recall in the manifest reaches what was asked for and holds for other queries too."""
    vectors = clustered(5_000, 16, 0)
    path = tmp_path / "many.annoy"
    spec = build_index(path, vectors, vectors, **settings())
    assert spec.kind == Index.KIND_ANNOY
    assert spec.min_recall == 0.9 <= spec.recall <= 1.0
    assert spec.search_k < len(vectors) / 2
    index = open_index(path, vectors, spec)
    assert isinstance(index, AnnoyForest)
    exact = ExactIndex(vectors)
    shares = []
    for query in clustered(100, 16, 0)[:100]:
        truth, found = (set(either.search(query, 20)[0].tolist()) for either in (exact, index))
        shares.append(len(truth & found) / 20)
    assert np.mean(shares) > 0.8


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    """A forest hangs on vectors and seed alone, and so does what is said of it."""
    vectors = clustered(2_000, 16, 0)
    built = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = tmp_path / f"{name}.annoy"
        spec = build_index(path, vectors, vectors, **settings(seed=seed, min_recall=0.5))
        built.append((path.read_bytes(), spec.SerializeToString(deterministic=True)))
    assert built[0] == built[1]
    assert built[0][0] != built[2][0]


def test_inner_products_are_found_where_lengths_differ_widely(tmp_path):
    """A forest for DOT finds the long vectors that win, or a scan takes its place."""
    rng = np.random.default_rng(0)
    vectors = clustered(4_000, 16, 0) * rng.lognormal(0.0, 1.0, (4_000, 1)).astype(np.float32)
    queries = clustered(300, 16, 2)
    path = tmp_path / "dot.annoy"
    spec = build_index(path, vectors, queries, **settings(metric=DOT))
    assert spec.metric == DOT
    index = open_index(path, vectors, spec)
    shares = []
    for query in queries[-100:]:
        truth = set(np.argsort(-(vectors @ query))[:20].tolist())
        shares.append(len(truth.intersection(index.search(query, 20)[0].tolist())) / 20)
    assert np.mean(shares) > 0.8
    if spec.kind == Index.KIND_EXACT:
        assert np.mean(shares) == 1.0


def test_a_recall_out_of_reach_gives_a_scan_and_leaves_no_file(tmp_path):
    """Where no forest is good enough below half of the vectors, every vector is scanned."""
    vectors = np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = tmp_path / "hard.annoy"
    spec = build_index(path, vectors, vectors, **settings(neighbours=50, min_recall=1.0))
    assert (spec.kind, spec.recall) == (Index.KIND_EXACT, 1.0)
    assert not path.exists()


def test_fewer_vectors_than_neighbours(tmp_path):
    """What is asked for is cut to what there is, and a few queries measure as well as many."""
    vectors = clustered(7, 4, 0)
    spec = build_index(tmp_path / "x.annoy", vectors, vectors[:1], **settings(neighbours=QUERIES))
    assert spec.neighbours == spec.count == 7
