"""What the server is made of, measured alone in this process: onnxruntime, the indexes, the engine."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from annoy import AnnoyIndex

from kinrec.bundle.v1.manifest_pb2 import Index
from kinrec.engine import Query
from kinrec.trainer.indexes import build_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinrec.bundle.v1.manifest_pb2 import Manifest, Tensor
    from kinrec.engine import Engine, Event, Options

EVENTS = 50
BATCH = 64
CARRIED = (1, 50, 500, 2_000)  # the events at which going on from a state is measured
ENCODER, STEP = "encoder", "encoder, one event"
USERS, ITEMS, FACTORS = "user index", "item index", "factors of items"
_REPEATS = 5
_ENOUGH_SECONDS = 0.2
_TURNS = 200
_ROWS = 6


def cpu_us(function: Callable[[], object]) -> float:
    """CPU time of a call in microseconds: the median of repeats of at least 0.2 s each."""
    taken: list[float] = []
    calls = 1
    while len(taken) < _REPEATS:
        before = time.process_time()
        for _ in range(calls):
            function()
        seconds = time.process_time() - before
        if seconds < _ENOUGH_SECONDS:
            calls = max(calls * 2, int(calls * 1.2 * _ENOUGH_SECONDS / max(seconds, 1e-6)))
        else:
            taken.append(seconds / calls)
    return statistics.median(taken) * 1e6


def parts_us(bundle: Path, manifest: Manifest) -> dict[str, float]:
    """CPU time of each part in microseconds: the median of repeats.

    The parts take turns, as they do in a call: a part that has the caches of the core to itself
    would look cheaper than it can be in any server. Where the bundle scans, a forest with the recall
    that an index must have is built and measured as well.
    """
    factors = manifest.factorization.factors
    scan = Index(kind=Index.KIND_EXACT, count=manifest.item_count, dims=factors)
    scan.neighbours = manifest.item_index.neighbours
    parts = {
        ENCODER: _encoder(bundle, manifest, EVENTS),
        STEP: _encoder(bundle, manifest, 1 if manifest.encoder.carries_state else EVENTS),
        USERS: _index(bundle / "users.annoy", manifest.user_index),
        ITEMS: _index(bundle / "items.annoy", manifest.item_index),
        FACTORS: _index(bundle / "none", scan),
    }
    taken = _in_turn(parts)
    with tempfile.TemporaryDirectory() as place:
        forests = {
            of_annoy(name): _forest(Path(place) / name, vectors, index, manifest)
            for name, vectors, index in (
                (USERS, np.load(bundle / "user_factors.npy"), manifest.user_index),
                (ITEMS, np.load(bundle / "item_embeddings.npy"), manifest.item_index),
            )
            if index.kind == Index.KIND_EXACT
        }
        return taken | _in_turn(forests)


def of_annoy(part: str) -> str:
    """The part that an index would be if it were a forest."""
    return f"{part}, as a forest"


def _in_turn(parts: dict[str, Callable[[], object]], turns: int = _TURNS) -> dict[str, float]:
    """Measure some parts by turns."""
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(_REPEATS):
        spent = dict.fromkeys(parts, 0)
        for _ in range(turns):
            for name, function in parts.items():
                before = time.process_time_ns()
                function()
                spent[name] += time.process_time_ns() - before
        for name, nanoseconds in spent.items():
            taken[name].append(nanoseconds / turns / 1e3)
    return {name: statistics.median(times) for name, times in taken.items()}


def engine_us(
    engine: Engine, events: list[Event], user_id: str, refined: Options
) -> tuple[dict[str, float], dict[str, float]]:
    """Each question to the engine, from one caller, by name.

    Args:
        engine: The engine.
        events: What a person did.
        user_id: Of a known user.
        refined: What a call can ask for beside them.

    Returns:
        What a question takes, and how much that is of a plain recommendation, of those that go beyond it.
    """
    state = engine.encode(events=events[:-1]).state
    turned = [place % EVENTS for place in range(BATCH)]
    many = [Query(events=events[place:] + events[:place]) for place in turned]
    plain = "recommend, 50 events"
    ask = engine.recommend
    asked = {
        plain: lambda: ask(events=events),
        "recommend, filter, diversity, reasons": lambda: ask(events=events, options=refined),
        "recommend, state and event 50": lambda: ask(events=events[-1:], state=state),
        f"recommend_many of {BATCH}, 50 events, each": lambda: engine.recommend_many(many),
    }
    people = {name: BATCH if name.startswith("recommend_many") else 1 for name in asked}
    # As many people by turns, in a row.
    rows = {name: _row(question, BATCH // people[name]) for name, question in asked.items()}
    turns = {name: cost / BATCH for name, cost in _in_turn(rows, _ROWS).items()}
    taken = {
        "encode, 50 events": cpu_us(lambda: engine.encode(events=events)),
        "similar_users, 50 events": cpu_us(lambda: engine.similar_users(events=events)),
        "recommend, known user": cpu_us(lambda: ask(user_id=user_id)),
    }
    shares = {name: cost / turns[plain] for name, cost in turns.items() if name != plain}
    return taken | turns, shares


def _row(function: Callable[[], object], count: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(count):
            function()

    return call


def carried_us(engine: Engine, events: list[Event]) -> dict[int, tuple[float, float]]:
    """Recommending after so many events: from the state before the last one, and from them all."""
    costs: dict[int, tuple[float, float]] = {}
    for count in CARRIED:
        before, last = events[: count - 1], events[count - 1 : count]
        state = engine.encode(events=before).state if before else b""
        ask = engine.recommend
        costs[count] = (
            cpu_us(lambda: ask(events=last, state=state)),  # noqa: B023 - called within the turn
            cpu_us(lambda: ask(events=events[:count])),  # noqa: B023
        )
    return costs


def _encoder(bundle: Path, manifest: Manifest, count: int) -> Callable[[], object]:
    """Give what runs the bundle's encoder on one sequence of some events, or what it takes of them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        bundle / "encoder.onnx", options, providers=["CPUExecutionProvider"]
    )
    events = min(count, manifest.encoder.max_length or count)
    inputs = {tensor.name: _input(tensor, events) for tensor in manifest.encoder.inputs}
    return lambda: session.run(["vectors"], inputs)


def _input(tensor: Tensor, events: int) -> np.ndarray:
    """Ids and other codes are 1, lengths are the number of events, states are 0."""
    sizes = {"batch": 1, "time": events}
    shape = [int(dim) if dim.isdigit() else sizes[dim] for dim in tensor.dims]
    dtype = np.dtype(tensor.dtype if tensor.dtype != "float" else "float32")
    fill = 0 if dtype.kind == "f" else events if shape == [1] else 1
    return np.full(shape, fill, dtype)


def _forest(
    path: Path, vectors: np.ndarray, index: Index, manifest: Manifest
) -> Callable[[], object]:
    """Build the forest that the trainer would if a scan were never as fast."""
    known = vectors[np.linalg.norm(vectors, axis=1) > 0.0]
    built = build_index(
        path,
        vectors,
        known,
        metric=index.metric,
        neighbours=index.neighbours,
        min_recall=index.min_recall,
        seed=int(manifest.training_config["seed"]),
        worthwhile_share=np.inf,
    )
    return _index(path, built)


def _index(path: Path, index: Index) -> Callable[[], object]:
    """Give what queries an index once, for as many neighbours as recall was measured for."""
    neighbours = index.neighbours
    rng = np.random.default_rng(0)
    if index.kind == Index.KIND_EXACT:  # the time of a scan does not depend on what is scanned
        vectors = rng.standard_normal((index.count, index.dims), np.float32)
        query = vectors[0]
        last = min(neighbours, index.count - 1)
        return lambda: np.argpartition(vectors @ query, -last)[-last:]
    # Inner products are searched by angle, in one dimension more.
    forest = AnnoyIndex(index.dims + (index.metric == "dot"), "angular")
    forest.load(str(path))
    vector = forest.get_item_vector(0)
    return lambda: forest.get_nns_by_vector(vector, neighbours, index.search_k)
