"""How far the answers by one way are from those by another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TOP = 20


class Answer(NamedTuple):
    """What one way says of one sequence.

    Attributes:
        vector: The interest vector, float32, (vector_size,).
        top: The ``TOP`` best items, the best first: their ids or numbers.
        scores: Beside each; none where the items are those of the vector alone.
    """

    vector: NDArray[np.float32]
    top: tuple[str | int, ...]
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """The comparison of one way with what it must agree with.

    Attributes:
        way: ``torch``, ``onnx``, ``stored`` or ``server``.
        at_once: Sequences in a batch, or callers.
        carried: Whether the sequences came in parts, each after the state that the one before left.
        sequences: How many were compared.
        allowed: The greatest difference with which the row passes.
        largest_difference: The largest absolute difference of a number of a vector or of a score;
            NaN if one is no number.
        by_length: The same for the sequences of each length.
        mean_overlap: The share of the top 20 that both have, 0 to 1, over all sequences.
        least_overlap: The least of a sequence.
    """

    way: str
    at_once: int
    carried: bool
    sequences: int
    allowed: float
    largest_difference: float
    by_length: dict[str, float]
    mean_overlap: float
    least_overlap: float

    @property
    def name(self) -> str:
        """What it is, in words."""
        if self.way == "stored":
            return self.way
        return f"{self.way}, {'carried' if self.carried else f'{self.at_once} at once'}"

    @property
    def passed(self) -> bool:
        """Whether the difference is allowed."""
        return self.largest_difference <= self.allowed

    def as_dict(self) -> dict[str, Any]:
        """Give all in the types of JSON, with null for what is no number."""
        return {
            "way": self.way,
            "at_once": self.at_once,
            "carried": self.carried,
            "sequences": self.sequences,
            "allowed": self.allowed,
            "largest_difference": _finite(self.largest_difference),
            "by_length": {length: _finite(found) for length, found in self.by_length.items()},
            "top_20_overlap": {"mean": self.mean_overlap, "least": self.least_overlap},
            "passed": self.passed,
        }


def compare(
    way: str,
    expected: Sequence[Answer],
    found: Sequence[Answer],
    lengths: Sequence[str],
    *,
    allowed: float,
    at_once: int = 1,
    carried: bool = False,
) -> Row:
    """Compare answers to at least one sequence, one by one."""
    pairs = list(zip(expected, found, strict=True))
    differences = np.array([_difference(one, other) for one, other in pairs])
    overlaps = [_overlap(one.top, other.top) for one, other in pairs]
    names = np.array(lengths)
    return Row(
        way=way,
        at_once=at_once,
        carried=carried,
        sequences=len(pairs),
        allowed=allowed,
        largest_difference=float(differences.max()),
        by_length={
            name: float(differences[names == name].max()) for name in dict.fromkeys(lengths)
        },
        mean_overlap=float(np.mean(overlaps)),
        least_overlap=min(overlaps),
    )


def _difference(one: Answer, other: Answer) -> float:
    if one.vector.shape != other.vector.shape or not one.vector.size:  # no event was taken
        return math.nan
    with np.errstate(invalid="ignore"):
        of_vectors = np.max(np.abs(one.vector - other.vector))  # keeps not-a-number
    return float(np.maximum(of_vectors, _score_difference(one, other)))


def _score_difference(one: Answer, other: Answer) -> float:
    """Give the largest difference of a score.

    An item that only one of them names has in the other at most the score of the last one there.
    """
    if not (one.scores and other.scores):
        return 0.0 if one.scores == other.scores else math.nan
    scores, others = (dict(zip(who.top, who.scores, strict=True)) for who in (one, other))
    last, other_last = one.scores[-1], other.scores[-1]
    return max(
        abs(scores.get(item, last) - others.get(item, other_last)) for item in scores | others
    )


def _overlap(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> float:
    most = max(len(one), len(other))
    return len(set(one) & set(other)) / most if most else 1.0


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
