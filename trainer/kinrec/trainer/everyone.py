"""Recommends to every user of a bundle, in process and on all cores, into one file.

The work is cut into parts that are written one by one, so that what was done before an interruption
is not done again.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from kinrec.engine import Engine
from kinrec.trainer.errors import OutputError, reason_of
from kinrec.trainer.output import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PART_USERS = 2_000
WRITERS: dict[str, Callable[..., object]] = {
    ".parquet": pl.LazyFrame.sink_parquet,
    ".csv": pl.LazyFrame.sink_csv,
    ".jsonl": pl.LazyFrame.sink_ndjson,
}
"""By the end of the file's name."""

SCHEMA = {
    "user_id": pl.String,
    "rank": pl.Int32,
    "item_id": pl.String,
    "score": pl.Float32,
    "title": pl.String,
    "basis": pl.String,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is recommended to each user.

    Attributes:
        limit: Items at most, 1 to ``kinrec.engine.MAX_LIMIT``.
        include_seen: Whether items of the user's own history may be; None for the model's default.
    """

    limit: int = 10
    include_seen: bool | None = None


class _Part(NamedTuple):
    """Some users in a row, and the file of their rows."""

    start: int
    stop: int
    file: Path


def recommend_all(
    bundle: Path,
    out: Path,
    wanted: Wanted,
    *,
    workers: int,
    report: Callable[[int, int], None],
) -> int:
    """Write a row for each user and item, best first: the columns of ``SCHEMA``.

    Args:
        bundle: The bundle's directory.
        out: The file, whose name ends as one of ``WRITERS``. It appears when it is whole.
        wanted: What to recommend.
        workers: Processes, at least 1.
        report: Is told how many users are done, of how many.

    Returns:
        The number of users.

    Raises:
        BundleError: The bundle cannot be used.
        OutputError: The file cannot be written.
    """
    engine = Engine.load(bundle)
    users = engine.manifest.user_count
    try:
        parts = _open_parts(out, engine, wanted)
        cut = [
            _Part(start, min(start + PART_USERS, users), parts / f"{start:010}.parquet")
            for start in range(0, users, PART_USERS)
        ]
        left = [part for part in cut if not part.file.exists()]
        done = users - sum(part.stop - part.start for part in left)
        report(done, users)
        for count in _work(engine, bundle, wanted, left, workers):
            done += count
            report(done, users)
        partial_file = parts / "whole"
        WRITERS[out.suffix](pl.scan_parquet([part.file for part in cut]), partial_file)
        partial_file.replace(out)
        shutil.rmtree(parts)
    except OSError as error:
        raise OutputError(out, f"cannot be written: {reason_of(error)}") from error
    except BrokenProcessPool as error:
        reason = "a process was ended from outside; the same command goes on with what is left"
        raise OutputError(out, reason) from error
    return users


def _open_parts(out: Path, engine: Engine, wanted: Wanted) -> Path:
    """Give the folder of the parts, empty if those in it are of another bundle or question."""
    parts = out.with_name(f".{out.name}.parts")
    question = {"bundle": engine.fingerprint.hex(), "part": PART_USERS, **asdict(wanted)}
    note = parts / "question.json"
    text = json.dumps(question)
    if not (note.is_file() and note.read_text("utf-8") == text):
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir()
        write_whole(note, text)
    return parts


def _work(
    engine: Engine, bundle: Path, wanted: Wanted, left: list[_Part], workers: int
) -> Iterator[int]:
    """Write the parts that are left and give how many users each has, as they are done."""
    if workers == 1 or len(left) < 2:
        yield from map(partial(_write_part, engine, wanted), left)
        return
    # Spawned: a forked copy of a process with onnxruntime in it may hang.
    with ProcessPoolExecutor(
        min(workers, len(left)), get_context("spawn"), _load, (bundle,)
    ) as pool:
        yield from pool.map(partial(_write_in_worker, wanted), left)


_engine: Engine | None = None  # of a worker process


def _load(bundle: Path) -> None:
    global _engine  # noqa: PLW0603 - how a pool's worker keeps what it has loaded
    _engine = Engine.load(bundle)


def _write_in_worker(wanted: Wanted, part: _Part) -> int:
    if _engine is None:
        raise RuntimeError("the worker has loaded no bundle")
    return _write_part(_engine, wanted, part)


def _write_part(engine: Engine, wanted: Wanted, part: _Part) -> int:
    """Write the rows of some users in a row, and give how many users they are."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA}
    users = engine.user_ids(part.start, part.stop)
    for user_id in users:
        answer = engine.recommend(
            user_id=user_id, limit=wanted.limit, include_seen=wanted.include_seen
        )
        count = len(answer.item_ids)
        columns["user_id"] += [user_id] * count
        columns["rank"] += range(1, count + 1)
        columns["item_id"] += answer.item_ids
        columns["score"] += answer.scores
        columns["title"] += answer.titles
        columns["basis"] += [answer.basis.value] * count
    partial_file = part.file.with_name(f"{part.file.name}.{os.getpid()}")
    pl.DataFrame(columns, SCHEMA).write_parquet(partial_file)
    partial_file.replace(part.file)
    return len(users)
