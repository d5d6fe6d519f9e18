"""How fast a server of a large model is ready, and what it holds.

The model is made up: its numbers are random, its sizes and files are those of a real one. It is made
once, in a few minutes, and takes about 3 GB of disk.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from annoy import AnnoyIndex
from rich.console import Console

from kinrec.bundle.v1 import manifest_pb2
from kinrec.client import Client, Event
from kinrec.engine.histories import Histories
from kinrec.engine.ids import IdMap
from kinrec.engine.index import augment
from kinrec.engine.sources import EVIDENCE_FILE, Transitions
from kinrec.engine.store import FORMAT_VERSION, USER_STATES
from kinrec.trainer.bundle import DEFAULT_BLEND, finish, new_version
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.encoders import ENCODERS, EncoderSizes
from kinrec.trainer.export import export_encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

KINREC = (sys.executable, "-m", "kinrec.cli")
VERSION = "20260101T000000Z"
VECTOR, HIDDEN, FACTORS = 64, 128, 64
EVENTS, FOLLOWERS = 20, 20  # of each user, of each item
TREES = 10
GOAL_SECONDS, GOAL_MIB = 3.0, 1.5 * 1024


def main() -> None:
    """Make the model if it is not there, serve it, and print what that takes."""
    args = _arguments()
    console = Console(width=110, highlight=False)
    store = args.cache / f"large-{args.users}-{args.items}"
    if not (store / VERSION).exists():
        console.print(f"making a model of {args.users:,} users and {args.items:,} items in {store}")
        with new_version(store, VERSION) as directory:
            _make(directory, args.users, args.items)
    # Where the system is given memory anew for what it reads, as in some virtual machines, that can be
    # most of the time. So it is given first, and the server started when there is enough.
    console.print(f"to read the files from disk and do nothing else: {_read(store):.1f} s")
    for name, cached in (("what lies on disk", False), ("again, from memory", True)):
        console.print(f"{name}: " + _serve(store, args.workers, cached=cached))
    console.print(
        f"goals: ready in {GOAL_SECONDS:.0f} s, {GOAL_MIB:,.0f} MiB of two workers together"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--users", type=int, default=1_000_000, help="(%(default)s)")
    parser.add_argument("--items", type=int, default=200_000, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="(%(default)s)")
    cache = Path(tempfile.gettempdir()) / f"kinrec-benchmark-{os.getuid()}"
    parser.add_argument("--cache", type=Path, default=cache, help="where the model is kept")
    return parser.parse_args()


def _make(directory: Path, users: int, items: int) -> None:
    rng = np.random.default_rng(1)
    torch.manual_seed(1)
    config = TrainConfig(vector_size=VECTOR, hidden_size=HIDDEN, factors=FACTORS)
    sizes = EncoderSizes(
        items=items,
        event_types=2,
        vector_size=VECTOR,
        hidden_size=HIDDEN,
        dropout=0.0,
        item_dropout=0.0,
        window=50,
    )
    encoder = ENCODERS.load("lstm")(sizes)
    _, encoder_spec = export_encoder(encoder, directory)
    embeddings = np.load(directory / "item_embeddings.npy")
    user_factors = _unit(rng, users, FACTORS)
    for name, array in _arrays(rng, users, items).items():
        np.save(directory / f"{name}.npy", array)
    np.save(directory / "user_factors.npy", user_factors)
    np.save(directory / USER_STATES, _normal(rng, users, 2 * HIDDEN))
    for name, count in (("users", users), ("items", items)):
        ids = [f"{name[0]}{number}" for number in range(count)]
        IdMap.build(ids).save(directory / f"{name}.marisa")
    _histories(rng, users, items).save(directory)
    _transitions(rng, items).save(directory)
    np.save(directory / EVIDENCE_FILE, rng.random((items * FOLLOWERS, 3), np.float32))
    manifest = manifest_pb2.Manifest(
        format_version=FORMAT_VERSION,
        user_count=users,
        item_count=items,
        encoder=encoder_spec,
        event_spec=manifest_pb2.EventSpec(
            event_types=[manifest_pb2.EventType(name="view", weight=1.0)],
            max_history=config.max_history,
        ),
        factorization=manifest_pb2.Factorization(
            factors=FACTORS,
            alpha=1.0,
            half_life=50.0,
            fold_in=manifest_pb2.Factorization.FOLD_IN_PROJECTION,
        ),
        user_index=_forest(directory / "users.annoy", user_factors, "cosine", 200),
        item_index=_forest(directory / "items.annoy", augment(embeddings), "dot", 300),
    )
    manifest.blend.CopyFrom(DEFAULT_BLEND)
    manifest.blend.neighbours, manifest.blend.candidates = 200, 300
    finish(
        directory,
        manifest,
        name="large",
        version=VERSION,
        time=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        config=config,
    )


def _normal(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape, np.float32)


def _unit(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    vectors = _normal(rng, *shape)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _arrays(rng: np.random.Generator, users: int, items: int) -> dict[str, NDArray[np.float32]]:
    return {
        "user_vectors": _normal(rng, users, VECTOR),
        "item_factors": _normal(rng, items, FACTORS),
        "interest_factors": _normal(rng, 2 * VECTOR, FACTORS),
        "item_weights": rng.random(items, np.float32) + np.float32(0.5),
        "popularity": rng.pareto(1.5, items).astype(np.float32),
    }


def _histories(rng: np.random.Generator, users: int, items: int) -> Histories:
    events = users * EVENTS
    return Histories(
        np.arange(0, events + 1, EVENTS, dtype=np.int64),
        rng.integers(0, items, events, np.int32),
        np.ones(events, np.uint8),
        np.sort(rng.random((users, EVENTS)) * 1e6 + 1.7e9, axis=1).ravel(),
    )


def _transitions(rng: np.random.Generator, items: int) -> Transitions:
    count = items * FOLLOWERS
    return Transitions(
        np.arange(0, count + 1, FOLLOWERS, dtype=np.int64),
        rng.integers(0, items, count, np.int32),
        rng.random(count, np.float32) + np.float32(0.01),
    )


def _forest(
    path: Path, vectors: NDArray[np.float32], metric: str, neighbours: int
) -> manifest_pb2.Index:
    forest = AnnoyIndex(vectors.shape[1], "angular")
    forest.set_seed(1)
    for number, vector in _numbered(vectors):
        forest.add_item(number, vector)
    forest.build(TREES, n_jobs=-1)
    forest.save(str(path))
    return manifest_pb2.Index(
        kind=manifest_pb2.Index.KIND_ANNOY,
        metric=metric,
        count=len(vectors),
        dims=vectors.shape[1] - (metric == "dot"),
        trees=TREES,
        search_k=8_192,
        neighbours=neighbours,
        recall=0.0,  # of random vectors nobody wants to know
    )


def _numbered(vectors: NDArray[np.float32]) -> Iterator[tuple[int, list[float]]]:
    for start in range(0, len(vectors), 10_000):
        for place, vector in enumerate(vectors[start : start + 10_000].tolist()):
            yield start + place, vector


def _serve(store: Path, workers: int, *, cached: bool) -> str:
    if not cached:
        _forget(store)
    command = [*KINREC, "serve", str(store), "--port", "0", "--workers", str(workers)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            ready = time.perf_counter() - began
            ready_mib = _memory(process.pid)
            with Client(line.split()[-1], timeout=30.0) as client:
                for number in range(500):
                    client.recommend(events=[Event(f"i{number}"), Event(f"i{number * 7}")])
                    client.recommend(user_id=f"u{number}")
            after_mib = _memory(process.pid)
        finally:
            process.terminate()
    return (
        f"ready in {ready:.1f} s with {ready_mib:,.0f} MiB, {after_mib:,.0f} MiB after 1,000 calls"
    )


def _read(store: Path) -> float:
    """Read all files, and give how long that takes, in seconds."""
    _forget(store)
    began = time.perf_counter()
    piece = bytearray(1 << 20)
    for path in (store / VERSION).iterdir():
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(piece):
                pass
    return time.perf_counter() - began


def _forget(store: Path) -> None:
    """Have the system forget what it has read of the files."""
    for path in (store / VERSION).iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memory(pid: int) -> float:
    """Give what a server and its workers hold, in MiB; what they share counts once."""
    total = 0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    for one in [pid, *map(int, children)]:
        lines = Path(f"/proc/{one}/smaps_rollup").read_text("ascii").splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


if __name__ == "__main__":
    main()
