"""The configuration of a training: one frozen object, checked whole before any work starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.encoders import ENCODERS
from kinrec.trainer.errors import ConfigError
from kinrec.trainer.factorizers import FACTORIZERS
from kinrec.trainer.times import parse_time

AUTO = "auto"
DEVICES = (AUTO, "cpu", "cuda")
LEAVE_ONE_OUT = "leave-one-out"
TEMPORAL = "temporal"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a bundle is made from a log. The defaults are meant to do well on any log.

    Attributes:
        seed: Of everything random. The same seed and log give the same bundle.
        cleaning: What is taken out of the log and filled in.
        max_history: The most recent events of a person that are taken into account.
        device: Where the encoder is trained: cpu, cuda, or auto for cuda where there is one. On cuda
            the same seed does not give the same bundle to the last bit.
        encoder: The sequence encoder: lstm, gru, transformer, or what an installed package adds.
        vector_size: Length of item embeddings and interest vectors.
        hidden_size: Length of the encoder's recurrent state; width of a Transformer's inner layer.
        dropout: Share of the encoder's inputs and outputs zeroed in training.
        item_dropout: Share of the last item's embedding zeroed on its way past the recurrent layer;
            without a number it is chosen by how many events the log has for each item.
        window: Events per training sequence; longer histories give several.
        batch_events: Events per training step; 0 chooses by the size of the log and the length of
            its histories.
        epochs: Passes over the log at most; 0 chooses by the size of the log.
        patience: Epochs without a better NDCG@10 after which the search for the best ends, not
            counting those in which the learning rate rises.
        learning_rate: The peak of the one-cycle schedule; without a number it is chosen by the
            number of steps.
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
        split: What is held out to evaluate on: leave-one-out, the last two events of everyone, or
            temporal, all events from a time on.
        test_from: Temporal: the date or the seconds since 1970 at which the test period begins; if
            not given, test_share says it.
        test_share: Temporal: the share of the events that are the test period. As many before them
            are for validation.
    """

    seed: int = 42
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    max_history: int = 2_000
    device: str = AUTO
    encoder: str = "lstm"
    vector_size: int = 128
    hidden_size: int = 128
    dropout: float = 0.5
    item_dropout: float | None = None
    window: int = 50
    batch_events: int = 0
    epochs: int = 0
    patience: int = 6
    learning_rate: float | None = None
    weight_decay: float = 0.3
    negatives: int = 2_048
    factorizer: str = "svd"
    factors: int = 64
    alpha: float = 0.5
    half_life: float = 20.0
    factorizer_iterations: int = 15
    regularization: float = 10.0
    transition_window: int = 10
    neighbours: int = 200
    candidates: int = 300
    min_recall: float = 0.9
    split: str = LEAVE_ONE_OUT
    test_from: str = ""
    test_share: float = 0.1

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ConfigError("device", self.device, f"must be one of {', '.join(DEVICES)}")
        ENCODERS.check(self.encoder)
        FACTORIZERS.check(self.factorizer)
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(setting.name, value, "must be finite")
        for key, least, most in _RANGES:
            value = getattr(self, key)
            if value is not None and not least <= value <= most:
                raise ConfigError(key, value, f"must be from {least:,} to {most:,}")
        if self.split not in (LEAVE_ONE_OUT, TEMPORAL):
            raise ConfigError("split", self.split, f"must be {LEAVE_ONE_OUT} or {TEMPORAL}")
        if self.test_from:
            if self.split != TEMPORAL:
                raise ConfigError("test_from", self.test_from, f"needs split = {TEMPORAL}")
            parse_time("test_from", self.test_from)

    def as_dict(self) -> dict[str, Any]:
        """Give every setting by name in the types of JSON, those of the cleaning in their own dict."""
        settings = asdict(self)
        cleaning = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in settings["cleaning"].items()
        }
        cleaning["type_weight"] = dict(self.cleaning.type_weight)
        cleaning["missing_attribute"] = dict(self.cleaning.missing_attribute)
        return settings | {"cleaning": cleaning}


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("seed", 0, 2**31 - 1),
    ("max_history", 3, 2_000),
    ("vector_size", 4, 1_024),
    ("hidden_size", 4, 1_024),
    ("dropout", 0.0, 0.95),
    ("item_dropout", 0.0, 0.95),
    ("window", 2, 2_000),
    ("batch_events", 0, 1_000_000),
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
    ("test_share", 0.001, 0.4),
)
