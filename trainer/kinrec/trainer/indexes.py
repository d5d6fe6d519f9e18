"""Builds the nearest-neighbour indexes and measures how many true neighbours they find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from annoy import AnnoyIndex

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine.index import COSINE, DOT, AnnoyForest, ExactIndex, augment

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TREES = 30
QUERIES = 200
# Annoy visits vectors all over the memory, a scan reads them in one stream: on vectors of 128 a
# visited node cost about eight times a scanned vector when both were measured.
WORTHWHILE_SHARE = 0.125


def build_index(
    path: Path,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    *,
    metric: str,
    neighbours: int,
    min_recall: float,
    seed: int,
    worthwhile_share: float = WORTHWHILE_SHARE,
) -> manifest_pb2.Index:
    """Build the index over some vectors.

    The number of nodes to inspect is doubled until the measured recall reaches ``min_recall``. Where
    that would visit many of the vectors, there is no forest and the engine scans.

    Args:
        path: Where the forest is written.
        vectors: float32, (n, dims).
        queries: float32, (m, dims); up to 200 of them measure the recall.
        metric: ``COSINE``, for vectors and queries of length one, or ``DOT``.
        neighbours: How many are asked for.
        min_recall: The least mean share of true neighbours to find, 0 to 1.
        seed: Of the forest and of the choice of queries.
        worthwhile_share: The share of the vectors above which visiting them is not worth a forest.

    Returns:
        What the manifest says of the index.
    """
    count, dims = vectors.shape
    neighbours = min(neighbours, count)
    spec = manifest_pb2.Index(
        kind=manifest_pb2.Index.KIND_ANNOY,
        metric=metric,
        count=count,
        dims=dims,
        trees=TREES,
        neighbours=neighbours,
        min_recall=min_recall,
    )
    searches = [
        2**power for power in range(30) if neighbours <= 2**power < worthwhile_share * count
    ]
    if searches:
        _build_forest(path, augment(vectors) if metric == DOT else vectors, seed)
        chosen = np.random.default_rng(seed).permutation(len(queries))[:QUERIES]
        truth = [set(_exact(vectors, query, neighbours)) for query in queries[chosen]]
        for search_k in searches:
            spec.search_k = search_k
            forest = AnnoyForest(path, vectors, spec)
            found = [forest.search(query, neighbours)[0] for query in queries[chosen]]
            shares = [
                len(t.intersection(f.tolist())) / neighbours
                for t, f in zip(truth, found, strict=True)
            ]
            spec.recall = round(float(np.mean(shares)), 4)
            if spec.recall >= min_recall:
                return spec
        path.unlink()
    spec.kind = manifest_pb2.Index.KIND_EXACT
    spec.trees = spec.search_k = 0
    spec.recall = 1.0
    return spec


def _exact(vectors: NDArray[np.float32], query: NDArray[np.float32], neighbours: int) -> list[int]:
    numbers, _ = ExactIndex(vectors).search(query, neighbours)
    return [int(number) for number in numbers]


def _build_forest(path: Path, vectors: NDArray[np.float32], seed: int) -> None:
    forest = AnnoyIndex(vectors.shape[1], "angular")
    forest.set_seed(seed)
    for number, vector in enumerate(vectors.tolist()):
        forest.add_item(number, vector)
    # One thread: with more the same seed gives another forest each time.
    forest.build(TREES, n_jobs=1)
    forest.save(str(path))


__all__ = ["COSINE", "DOT", "build_index"]
