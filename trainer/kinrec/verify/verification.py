"""Replays sequences by every way in which a bundle is run, compares, and keeps what was found.

What all others must agree with is the exported encoder in this process, one whole sequence at a time;
for recommendations, the engine in this process.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kinrec.client.commands.connection import Connection
from kinrec.engine import Engine
from kinrec.engine.model import Model
from kinrec.server.parity import PARITY
from kinrec.trainer.asking import best_places
from kinrec.trainer.errors import TrainerError
from kinrec.trainer.output import write_whole
from kinrec.verify.asking import TIMEOUT, AskEngine, AskServer, ask_carried, ask_whole, serve
from kinrec.verify.comparing import TOP, Answer, compare
from kinrec.verify.sequences import WHOLE, choose_sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kinrec.verify.comparing import Row
    from kinrec.verify.sequences import Sequences

BATCHES = (1, 7, 64)
CALLERS = 8
# Of a bundle whose manifest says none.
TOLERANCE = 1e-5
EMBEDDINGS = "item_embeddings.npy"

_BLOCK = 16  # sequences whose scores of all items are held at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be replayed.

    Attributes:
        people: The most people, at least 1.
        seed: Of the choice of people and of batches.
        target: The running server to ask; None for one that is started in this process.
        connection: How to reach it.
    """

    people: int
    seed: int
    target: str | None = None
    connection: Connection = field(default_factory=Connection)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        version: The bundle's version.
        fingerprint: What tells the bundle from every other, in hexadecimal.
        time: When it was found, ISO 8601 in UTC.
        tolerance: The greatest difference allowed where the bits may differ.
        wanted: What was asked for.
        people: How many people's sequences were replayed.
        rows: The comparisons.
        skipped: Why a way was not tried, by its name.
    """

    version: str
    fingerprint: str
    time: str
    tolerance: float
    wanted: Wanted
    people: int
    rows: tuple[Row, ...]
    skipped: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every way that was tried agrees."""
        return all(row.passed for row in self.rows)

    def as_json(self) -> str:
        """Give all as JSON."""
        fields: dict[str, Any] = {
            "version": self.version,
            "fingerprint": self.fingerprint,
            "passed": self.passed,
            "time": self.time,
            "tolerance": self.tolerance,
            "people": self.people,
            "seed": self.wanted.seed,
            "target": self.wanted.target,
            "rows": [row.as_dict() for row in self.rows],
            "skipped": self.skipped,
        }
        return json.dumps(fields, indent=2, allow_nan=False) + "\n"


def verify(bundle: Path, wanted: Wanted, report: Callable[[str], None]) -> Verification:
    """Verify a bundle and write ``parity.json`` into it.

    Args:
        bundle: The directory of the bundle.
        wanted: What to replay.
        report: Is told what is replayed next.

    Raises:
        BundleError: The bundle cannot be used.
        OutputError: The result cannot be written.
        KinrecError: A call of the server failed.
        ServedVersionError: The server answers with another version.
        PortError: No server can be started.
    """
    engine, model = Engine.load(bundle), Model.open(bundle)
    embeddings = np.load(bundle / EMBEDDINGS, mmap_mode="r")
    sequences = choose_sequences(model, wanted.people, wanted.seed)
    replay = _Replay(model, embeddings, sequences, wanted.seed)
    report("ONNX")
    rows = [*replay.onnx(), replay.stored()]
    reason = "torch is not installed"
    if importlib.util.find_spec("torch") is not None:
        report("torch")
        try:
            rows = [*replay.torch(bundle), *rows]
            reason = ""
        except TrainerError as error:
            reason = str(error)
    report("the engine")
    expected, row = replay.carried(engine)
    rows.append(row)
    report("the server")
    rows += replay.server(engine, expected, wanted)
    verification = Verification(
        version=engine.version,
        fingerprint=engine.fingerprint.hex(),
        time=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        tolerance=replay.tolerance,
        wanted=wanted,
        people=sequences.people,
        rows=tuple(rows),
        skipped={"torch": reason} if reason else {},
    )
    write_whole(bundle / PARITY, verification.as_json())
    return verification


class _Replay:
    """Replays sequences with one bundle, each method by one way."""

    def __init__(
        self, model: Model, embeddings: NDArray[np.float32], sequences: Sequences, seed: int
    ) -> None:
        self.sequences = sequences
        self.tolerance = model.manifest.parity.tolerance or TOLERANCE
        self._model = model
        self._embeddings = embeddings
        self._batches = {size: sequences.batches(size, seed) for size in BATCHES}
        self._events = sequences.events(model)
        # What the encoder sees of each.
        self._seen = sequences.histories.last_sessions(model.manifest.event_spec.session_gap)
        self._expected = self._rank(self._encode(self._batches[1]))

    def _encode(self, batches: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        size = self._model.manifest.encoder.vector_size
        vectors = np.zeros((len(self.sequences), size), np.float32)
        for batch in batches:
            vectors[batch] = self._model.encoder.run([self._seen.user(place) for place in batch])
        return vectors

    def _rank(self, vectors: NDArray[np.float32]) -> list[Answer]:
        """Add the items that score highest with each vector."""
        answers = []
        for start in range(0, len(vectors), _BLOCK):
            block = vectors[start : start + _BLOCK]
            best = best_places(block @ self._embeddings.T, TOP).tolist()
            answers += [Answer(vector, tuple(top)) for vector, top in zip(block, best, strict=True)]
        return answers

    def _compare(self, way: str, vectors: NDArray[np.float32], size: int) -> Row:
        return compare(
            way,
            self._expected,
            self._rank(vectors),
            self.sequences.lengths,
            allowed=self.tolerance,
            at_once=size,
        )

    def onnx(self) -> Iterator[Row]:
        """The exported encoder on ragged batches."""
        for size in BATCHES[1:]:
            yield self._compare("onnx", self._encode(self._batches[size]), size)

    def torch(self, bundle: Path) -> list[Row]:
        """The trained encoder on ragged batches.

        Raises:
            TrainerError: It cannot be built from the bundle.
        """
        from kinrec.verify.torch_side import TorchEncoder  # noqa: PLC0415 - torch need not be there

        encoder = TorchEncoder(bundle, self._model.manifest)
        return [
            self._compare("torch", encoder.run(self._seen, self._batches[size]), size)
            for size in BATCHES
        ]

    def stored(self) -> Row:
        """The vectors that training left of known users, which the exported encoder gives again."""
        lengths = self.sequences.lengths
        whole = [place for place, length in enumerate(lengths) if length == WHOLE]
        stored = np.asarray(self._model.user_vectors[self.sequences.users[whole]])
        return compare(
            "stored",
            [self._expected[place] for place in whole],
            self._rank(stored),
            [WHOLE] * len(whole),
            allowed=self.tolerance,
        )

    def carried(self, engine: Engine) -> tuple[list[Answer], Row]:
        """The engine in parts; also what it recommends for whole sequences."""
        asks = AskEngine(engine)
        expected = [
            answer._replace(top=found.top, scores=found.scores)
            for answer, found in zip(self._expected, map(asks.recommend, self._events), strict=True)
        ]
        found = [ask_carried(asks, events) for events in self._events]
        lengths = self.sequences.lengths
        return expected, compare("onnx", expected, found, lengths, allowed=0.0, carried=True)

    def server(self, engine: Engine, expected: Sequence[Answer], wanted: Wanted) -> Iterator[Row]:
        """A live server: one caller, several at once, and in parts as against its own whole answers."""
        with contextlib.ExitStack() as stack:
            if wanted.target is None:
                address, connection = stack.enter_context(serve(engine)), Connection()
            else:
                address, connection = wanted.target, wanted.connection
            sdk = stack.enter_context(connection.open(address, TIMEOUT))
            asks = AskServer(sdk, engine.version)
            lengths = self.sequences.lengths
            whole = [ask_whole(asks, events) for events in self._events]
            yield compare("server", expected, whole, lengths, allowed=self.tolerance)
            pool = stack.enter_context(ThreadPoolExecutor(CALLERS))
            together = list(pool.map(partial(ask_whole, asks), self._events))
            yield compare(
                "server", expected, together, lengths, allowed=self.tolerance, at_once=CALLERS
            )
            parts = [ask_carried(asks, events) for events in self._events]
            yield compare("server", whole, parts, lengths, allowed=0.0, carried=True)
