"""What the server is made of, measured alone in this process: onnxruntime, the indexes, the engine."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from annoy import AnnoyIndex

from kinrec.bundle.v1.manifest_pb2 import Index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kinrec.bundle.v1.manifest_pb2 import Manifest, Tensor
    from kinrec.engine import Engine, Event

EVENTS = 50
_REPEATS = 5
_ENOUGH_SECONDS = 0.2


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


def encoder_us(bundle: Path, manifest: Manifest) -> float:
    """The bundle's encoder on one sequence of 50 events, without state."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(
        bundle / "encoder.onnx", options, providers=["CPUExecutionProvider"]
    )
    inputs = {tensor.name: _input(tensor) for tensor in manifest.encoder.inputs}
    return cpu_us(lambda: session.run(["vectors"], inputs))


def user_index_us(bundle: Path, manifest: Manifest) -> float:
    """One query of the index over users, for as many neighbours as vote."""
    return _index_us(bundle / "users.annoy", manifest.user_index, manifest.blend.neighbours)


def item_index_us(bundle: Path, manifest: Manifest) -> float:
    """One query of the index over items, for as many candidates as a source proposes."""
    return _index_us(bundle / "items.annoy", manifest.item_index, manifest.blend.candidates)


def engine_us(engine: Engine, events: list[Event], user_id: str) -> dict[str, float]:
    """Each question to the engine, from one caller, by name."""
    return {
        "encode, 50 events": cpu_us(lambda: engine.encode(events=events)),
        "similar_users, 50 events": cpu_us(lambda: engine.similar_users(events=events)),
        "recommend, 50 events": cpu_us(lambda: engine.recommend(events=events)),
        "recommend, known user": cpu_us(lambda: engine.recommend(user_id=user_id)),
    }


def _input(tensor: Tensor) -> np.ndarray:
    """Ids and other codes are 1, lengths are the number of events, states are 0."""
    sizes = {"batch": 1, "time": EVENTS}
    shape = [int(dim) if dim.isdigit() else sizes[dim] for dim in tensor.dims]
    dtype = np.dtype(tensor.dtype if tensor.dtype != "float" else "float32")
    fill = 0 if dtype.kind == "f" else EVENTS if shape == [1] else 1
    return np.full(shape, fill, dtype)


def _index_us(path: Path, index: Index, neighbours: int) -> float:
    neighbours = min(neighbours, index.count)
    rng = np.random.default_rng(0)
    if index.kind == Index.KIND_EXACT:  # the time of a scan does not depend on what is scanned
        vectors = rng.standard_normal((index.count, index.dims), np.float32)
        query = vectors[0]
        last = min(neighbours, index.count - 1)
        return cpu_us(lambda: np.argpartition(vectors @ query, -last)[-last:])
    # Inner products are searched by angle, in one dimension more.
    dims = index.dims + (index.metric == "dot")
    forest = AnnoyIndex(dims, "angular")
    forest.load(str(path))
    vector = forest.get_item_vector(0)
    # As the engine does: more neighbours than recall was measured for need a wider search.
    search_k = index.search_k * max(1, -(-neighbours // max(index.neighbours, 1)))
    return cpu_us(lambda: forest.get_nns_by_vector(vector, neighbours, search_k))
