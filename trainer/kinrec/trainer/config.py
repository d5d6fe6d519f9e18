"""The configuration of a training: one frozen object, checked whole before any work starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from kinrec.trainer.errors import ConfigError
from kinrec.trainer.factorizers import find_factorizer


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a bundle is made from a log. The defaults are meant to do well on any log.

    Attributes:
        seed: Of everything random. The same seed and log give the same bundle.
        min_user_events: Users with fewer events are left out.
        min_item_events: Items with fewer events are left out.
        drop_immediate_repeats: Whether an event with the item and type of the one before is left
            out, in the log and in requests.
        max_history: The most recent events of a person that are taken into account.
        vector_size: Length of item embeddings and interest vectors.
        hidden_size: Length of the encoder's recurrent state.
        dropout: Share of the encoder's inputs and outputs zeroed in training.
        window: Events per training sequence; longer histories give several.
        batch_events: Events per training step.
        epochs: Passes over the log at most; 0 chooses by the size of the log.
        patience: Epochs without a better NDCG@10 after which the search for the best ends.
        learning_rate: The peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        negatives: Sampled items that a step tells from the true next; with as many items or fewer
            all are used.
        factorizer: What finds the factors: svd, als, nmf, or one of an installed package.
        factors: Number of factors.
        alpha: The weight of the interest vectors beside the interactions in the factorization.
        half_life: Later events of a person after which an event counts half in the factorization.
        factorizer_iterations: Passes over the matrix of als and nmf.
        regularization: What the squares of the factors count in the loss of als.
        transition_window: How many events later an item still counts as following another.
        neighbours: Similar users who vote.
        candidates: Items each source proposes.
        min_recall: The least recall of an approximate index.
    """

    seed: int = 42
    min_user_events: int = 1
    min_item_events: int = 1
    drop_immediate_repeats: bool = True
    max_history: int = 2_000
    vector_size: int = 128
    hidden_size: int = 128
    dropout: float = 0.5
    window: int = 50
    batch_events: int = 1_024
    epochs: int = 0
    patience: int = 4
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    negatives: int = 2_048
    factorizer: str = "svd"
    factors: int = 128
    alpha: float = 0.5
    half_life: float = 20.0
    factorizer_iterations: int = 15
    regularization: float = 10.0
    transition_window: int = 5
    neighbours: int = 200
    candidates: int = 300
    min_recall: float = 0.9

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(field.name, value, "must be finite")
        for key, least, most in _RANGES:
            value = getattr(self, key)
            if not least <= value <= most:
                raise ConfigError(key, value, f"must be from {least:,} to {most:,}")
        find_factorizer(self.factorizer)

    def as_dict(self) -> dict[str, int | float | bool | str]:
        """Give every setting by name."""
        return asdict(self)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("seed", 0, 2**31 - 1),
    ("min_user_events", 1, 1_000_000),
    ("min_item_events", 1, 1_000_000),
    ("max_history", 3, 2_000),
    ("vector_size", 4, 1_024),
    ("hidden_size", 4, 1_024),
    ("dropout", 0.0, 0.95),
    ("window", 2, 2_000),
    ("batch_events", 16, 1_000_000),
    ("epochs", 0, 10_000),
    ("patience", 1, 10_000),
    ("learning_rate", 1e-7, 1.0),
    ("weight_decay", 0.0, 10.0),
    ("negatives", 1, 100_000),
    ("factors", 2, 1_024),
    ("alpha", 0.0, 100.0),
    ("half_life", 0.1, 1_000_000.0),
    ("factorizer_iterations", 1, 10_000),
    ("regularization", 1e-6, 1_000_000.0),
    ("transition_window", 1, 100),
    ("neighbours", 1, 10_000),
    ("candidates", 10, 10_000),
    ("min_recall", 0.0, 1.0),
)
