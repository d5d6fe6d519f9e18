"""Nearest neighbours among vectors: an Annoy forest, or a scan where that is as fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from annoy import AnnoyIndex

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine._errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

COSINE = "cosine"
DOT = "dot"

# Of Annoy's file format: what stands before the vector in the node of an item.
_NODE_HEAD_BYTES = 12
_CHECKED_VECTORS = 64
_GROUP = 16
_MANY = 8_192  # of fewer scores a selection among all takes no longer than one among groups
# Queries that a scan answers at once: their scores take twice so many times the memory.
_TOGETHER = 16
_MAX_INT = 2**31 - 1  # Annoy takes a C int; it inspects each node once, however large this is
_MARGIN = 1.5  # of what is asked for where only some may be found
_MOST_NODES_SHARE = 0.125  # of all vectors: where more nodes are inspected a scan is as fast

Found = tuple["NDArray[np.int64]", "NDArray[np.float32]"]


class Search(NamedTuple):
    """How to search.

    Attributes:
        within: The numbers that may be found, ascending; None for all.
        effort: How many times as wide as usual an approximate index searches, at least 1: the more,
            the fewer are missed, and the longer it takes.
        is_exact: Whether every vector is compared.
    """

    within: NDArray[np.int64] | None = None
    effort: int = 1
    is_exact: bool = False


USUAL = Search()


class VectorIndex(Protocol):
    """Finds the vectors with the greatest inner product."""

    def search(self, query: NDArray[np.float32], count: int, how: Search = USUAL) -> Found:
        """Give up to ``count`` vectors of the greatest inner product with ``query``.

        Args:
            query: float32, (dims,), finite.
            count: At least 1.
            how: Among which, and how thoroughly.

        Returns:
            Their numbers and inner products, the greatest first.
        """
        ...

    def search_many(self, queries: NDArray[np.float32], count: int) -> list[Found]:
        """Search for each of some queries, (queries, dims), among all vectors, as ``search`` does.

        The inner products may differ from those of ``search`` by rounding.
        """
        ...


def take_best(numbers: NDArray[np.int64], scores: NDArray[np.float32], count: int) -> Found:
    """Give the ``count`` numbers of the greatest scores, the greatest first.

    Args:
        numbers: (n,), ascending: where scores are equal the lower number comes first.
        scores: (n,).
        count: At least 1.
    """
    if len(scores) > count:
        best = _greatest(scores, count)
        numbers, scores = numbers.take(best), scores.take(best)
    order = (-scores).argsort(kind="stable")
    return numbers.take(order), scores.take(order)


def _greatest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Give the places of the ``count`` greatest scores, ascending.

    The greatest of each of many groups are scores themselves, so the ``count``-th of them is no
    greater than the ``count``-th of all, and what is below it need not be sorted. That takes a
    quarter of the time of a selection among all.
    """
    width = min(_GROUP, len(scores) // (2 * count))
    if width > 1 and len(scores) >= _MANY:
        maxima = scores[: len(scores) // width * width].reshape(width, -1).max(axis=0)
        among: NDArray[np.int64] = (scores >= _least_of(maxima, count)).nonzero()[0]
        return among.take(_select(scores.take(among), count))
    return _select(scores, count)


def _select(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Give the places of the ``count`` greatest scores, ascending, by a selection among all."""
    least = _least_of(scores, count)
    places: NDArray[np.int64] = (scores >= least).nonzero()[0]
    if len(places) == count:
        return places
    # Of those that equal the last one the first: which it is must not depend on how many are asked for.
    best = (scores > least).nonzero()[0]
    equal = (scores == least).nonzero()[0][: count - len(best)]
    places = np.concatenate([best, equal])
    places.sort()
    return places


def _least_of(scores: NDArray[np.float32], count: int) -> np.float32:
    """Give the least of the ``count`` greatest scores."""
    sorted_in_part = scores.copy()
    sorted_in_part.partition(len(scores) - count)
    least: np.float32 = sorted_in_part[len(scores) - count]
    return least


class ExactIndex:
    """A scan of every vector."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._numbers = np.arange(len(vectors))

    def search(self, query: NDArray[np.float32], count: int, how: Search = USUAL) -> Found:
        """See VectorIndex."""
        if how.within is None:
            return take_best(self._numbers, self._vectors @ query, count)
        return take_best(how.within, products(self._vectors, how.within, query), count)

    def search_many(self, queries: NDArray[np.float32], count: int) -> list[Found]:
        """See VectorIndex. The vectors are read once for every few queries, not once for each."""
        found: list[Found] = []
        for start in range(0, len(queries), _TOGETHER):
            scores = self._scores(queries[start : start + _TOGETHER])
            found += [take_best(self._numbers, row, count) for row in scores]
            del scores  # before those of the next take as much
        return found

    def _scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the inner products, (queries, n)."""
        # In columns, for BLAS takes less time to multiply many rows by few columns than the other way
        # round, of a few queries a fraction of it.
        columns = np.ascontiguousarray(queries.T)
        return np.ascontiguousarray((self._vectors @ columns).T)


def products(
    vectors: NDArray[np.float32], within: NDArray[np.int64], query: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give the inner products of some vectors, (n, dims), with ``query``: (within,)."""
    # To gather vectors takes about as long as to multiply them.
    if 2 * len(within) > len(vectors):
        return np.asarray((vectors @ query).take(within))
    return np.asarray(vectors.take(within, axis=0) @ query)


class AnnoyForest:
    """An Annoy forest that proposes, and exact inner products that decide."""

    def __init__(self, path: Path, vectors: NDArray[np.float32], spec: manifest_pb2.Index) -> None:
        self._vectors = vectors
        self._scan = ExactIndex(vectors)
        self._search_k = spec.search_k
        self._neighbours = spec.neighbours
        self._augmented = spec.metric == DOT
        # One dimension more turns the greatest inner product into the smallest angle.
        dims = spec.dims + (1 if self._augmented else 0)
        _check_size(path, spec.count, dims)
        self._forest = AnnoyIndex(dims, "angular")
        try:
            self._forest.load(str(path))
        except OSError as error:
            raise BundleError(f"{path.name}: annoy cannot load it with {dims} dims") from error
        if self._forest.get_n_items() != spec.count:
            raise BundleError(
                f"{path.name}: has {self._forest.get_n_items()} vectors, "
                f"the manifest says {spec.count}"
            )
        self._check_vectors(path)

    def _check_vectors(self, path: Path) -> None:
        """Raise BundleError unless the forest holds these vectors.

        Annoy takes the bytes of a forest of other dims for nodes and then follows what it takes for
        links out of the file, which ends the process.
        """
        count, dims = self._vectors.shape
        for number in np.linspace(0, count - 1, _CHECKED_VECTORS, dtype=np.int64).tolist():
            stored = np.array(self._forest.get_item_vector(number)[:dims], np.float32)
            if not np.array_equal(stored, self._vectors[number]):
                raise BundleError(f"{path.name}: vector {number} is not the one that it indexes")

    def search(self, query: NDArray[np.float32], count: int, how: Search = USUAL) -> Found:
        """See VectorIndex.

        Where only some may be found, so many more are asked for as are likely to hold ``count`` of
        them; if they do not, those that may be found are scanned.
        """
        if how.is_exact:
            return self._scan.search(query, count, how)
        if how.within is None:
            numbers = self._propose(query, count, how.effort)
        else:
            total, wanted = len(self._vectors), min(count, len(how.within))
            asked = int(_MARGIN * wanted * total / max(1, len(how.within)))
            if self._nodes(asked, how.effort) > _MOST_NODES_SHARE * total:
                return self._scan.search(query, count, how)
            allowed = np.zeros(total, np.bool_)
            allowed[how.within] = True
            numbers = self._propose(query, asked, how.effort)
            numbers = numbers[allowed[numbers]]
            if len(numbers) < wanted:
                return self._scan.search(query, count, how)
        return take_best(numbers, self._vectors.take(numbers, axis=0) @ query, count)

    def search_many(self, queries: NDArray[np.float32], count: int) -> list[Found]:
        """See VectorIndex."""
        return [self.search(query, count) for query in queries]

    def _propose(self, query: NDArray[np.float32], count: int, effort: int) -> NDArray[np.int64]:
        point = query.tolist()
        if self._augmented:
            point.append(0.0)
        search_k = min(self._nodes(count, effort), _MAX_INT)
        numbers = np.array(self._forest.get_nns_by_vector(point, count, search_k), np.int64)
        numbers.sort()
        return numbers

    def _nodes(self, count: int, effort: int) -> int:
        """Give how many nodes a search inspects: a longer answer needs more for the same recall.

        One more than was measured, where somebody is asked about who may be found, needs no more.
        """
        return effort * self._search_k * max(1, -(-(count - 1) // self._neighbours))


def _check_size(path: Path, count: int, dims: int) -> None:
    """Raise BundleError unless the file is of whole nodes, one per vector at least.

    Annoy finds some of this too, but says so on standard error before it raises.
    """
    size, node = path.stat().st_size, _NODE_HEAD_BYTES + 4 * dims
    if size % node or size < count * node:
        raise BundleError(f"{path.name}: has not the size of a forest of {count} x {dims} numbers")


def augment(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add the dimension that gives all vectors one length (Bachrach et al., RecSys 2014).

    Args:
        vectors: (n, d).

    Returns:
        (n, d + 1); the angle to ``(query, 0)`` orders them as the inner product with the query.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors)
    rest = np.sqrt(np.maximum(squares.max() - squares, 0.0))
    return np.concatenate([vectors, rest[:, np.newaxis]], axis=1)


def open_index(path: Path, vectors: NDArray[np.float32], spec: manifest_pb2.Index) -> VectorIndex:
    """Open the index over ``vectors`` that a manifest describes.

    Raises:
        BundleError: The file, the vectors and the manifest do not fit together, or the recall that
            was measured is below the least allowed.
    """
    if vectors.shape != (spec.count, spec.dims):
        raise BundleError(
            f"{path.name}: the manifest says {spec.count} vectors of {spec.dims} dims, "
            f"there are {vectors.shape[0]} of {vectors.shape[1]}"
        )
    if spec.recall < spec.min_recall:
        raise BundleError(f"{path.name}: recall {spec.recall:.3f} is below {spec.min_recall:.3f}")
    if spec.kind == manifest_pb2.Index.KIND_ANNOY:
        return AnnoyForest(path, vectors, spec)
    if spec.kind == manifest_pb2.Index.KIND_EXACT:
        return ExactIndex(np.asarray(vectors))
    raise BundleError(f"{path.name}: the manifest names no kind of index")
