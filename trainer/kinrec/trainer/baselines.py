"""Classic recommenders to compare with, on the same split, each a few lines of sparse algebra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import sparse

from kinrec.trainer.statistics import count_transitions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories

ITEM_NEIGHBOURS = 200
USER_NEIGHBOURS = 100
TRANSITION_WINDOW = 5
TRANSITION_EVENTS = 20


class Baseline(Protocol):
    """Scores all items for some people."""

    @property
    def name(self) -> str:
        """The name in the table of results."""
        ...

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """Score every item for everyone in ``histories``: (people, items)."""
        ...


def interactions(histories: Histories, items: int) -> sparse.csr_matrix:
    """Build the binary matrix of who did anything with what, (people, items)."""
    values = np.ones(len(histories.items), np.float32)
    matrix = sparse.csr_matrix(
        (values, histories.items.copy(), histories.offsets.copy()), (len(histories), items)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def _unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = (1.0 / np.maximum(norms, 1e-12)).astype(np.float32)
    return sparse.diags(scale, format="csr", dtype=np.float32) @ matrix


def _largest_per_row(scores: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Set all but the ``count`` largest of each row to zero."""
    if scores.shape[1] > count:
        edge = np.partition(scores, scores.shape[1] - count, axis=1)[:, -count, np.newaxis]
        scores[scores < edge] = 0.0
    return scores


@dataclass(frozen=True, slots=True)
class MostPopular:
    """The items with the most users, the same for everyone."""

    counts: NDArray[np.float32]
    name: str = "popularity"

    @classmethod
    def fit(cls, histories: Histories, items: int) -> MostPopular:
        """Count the users of each item."""
        matrix = interactions(histories, items)
        return cls(np.asarray(matrix.sum(axis=0), np.float32).ravel())

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline."""
        return np.repeat(self.counts[np.newaxis], len(histories), axis=0)


@dataclass(frozen=True, slots=True)
class ItemKnn:
    """Item-based collaborative filtering: the cosine of items to those of the history.

    Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms", WWW 2001.
    """

    similarities: sparse.csr_matrix
    name: str = "item-kNN"

    @classmethod
    def fit(cls, histories: Histories, items: int) -> ItemKnn:
        """Find the 200 most similar items of each item by cosine."""
        columns = _unit_rows(interactions(histories, items).T.tocsr())
        blocks = []
        for start in range(0, items, 1_000):
            block = (columns[start : start + 1_000] @ columns.T).toarray()
            block[np.arange(len(block)), start + np.arange(len(block))] = 0.0
            blocks.append(sparse.csr_matrix(_largest_per_row(block, ITEM_NEIGHBOURS)))
        return cls(sparse.vstack(blocks, format="csr"))

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline."""
        profiles = interactions(histories, self.similarities.shape[0])
        return np.asarray((profiles @ self.similarities).toarray(), np.float32)


@dataclass(frozen=True, slots=True)
class UserKnn:
    """User-based collaborative filtering: what the most similar users did, by cosine.

    Resnick et al., "GroupLens: An Open Architecture for Collaborative Filtering of Netnews", 1994.
    """

    matrix: sparse.csr_matrix
    unit: sparse.csr_matrix
    name: str = "user-kNN"

    @classmethod
    def fit(cls, histories: Histories, items: int) -> UserKnn:
        """Keep the interactions and their rows of length one."""
        matrix = interactions(histories, items)
        return cls(matrix, _unit_rows(matrix))

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline."""
        profiles = _unit_rows(interactions(histories, self.matrix.shape[1]))
        similarities = np.asarray((profiles @ self.unit.T).toarray(), np.float32)
        neighbours = sparse.csr_matrix(_largest_per_row(similarities, USER_NEIGHBOURS))
        return np.asarray((neighbours @ self.matrix).toarray(), np.float32)


@dataclass(frozen=True, slots=True)
class ItemTransitions:
    """What followed the last items within five events, later items counting more."""

    counts: sparse.csr_matrix
    name: str = "transitions"

    @classmethod
    def fit(cls, histories: Histories, items: int) -> ItemTransitions:
        """Count followers as the engine's source of transitions does."""
        found = count_transitions(histories, items, TRANSITION_WINDOW)
        return cls(sparse.csr_matrix((found.weights, found.items, found.offsets), (items, items)))

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline."""
        recent = histories.last(TRANSITION_EVENTS)
        from_end = np.repeat(recent.offsets[1:] - 1, recent.lengths) - np.arange(len(recent.items))
        values = (1.0 / (from_end + 1.0)).astype(np.float32)
        profiles = sparse.csr_matrix(
            (values, recent.items, recent.offsets), (len(recent), self.counts.shape[0])
        )
        return np.asarray((profiles @ self.counts).toarray(), np.float32)


def fit_baselines(histories: Histories, items: int) -> list[Baseline]:
    """Fit every baseline on a training part."""
    return [
        MostPopular.fit(histories, items),
        ItemKnn.fit(histories, items),
        UserKnn.fit(histories, items),
        ItemTransitions.fit(histories, items),
    ]
