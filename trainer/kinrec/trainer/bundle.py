"""Writes a bundle: every file beside its final place, the manifest last, then one rename."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf import json_format

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine.model import Titles
from kinrec.engine.sources import HISTORY, POPULARITY, SEQUENCE, SIMILAR_USERS, TRANSITIONS
from kinrec.engine.store import FORMAT_VERSION, MANIFEST, USER_STATES
from kinrec.trainer.cleaning_config import DROP
from kinrec.trainer.errors import OutputError, reason_of
from kinrec.trainer.export import check_parity, encode_all, export_encoder
from kinrec.trainer.factorize import factorize
from kinrec.trainer.indexes import COSINE, DOT, build_index
from kinrec.trainer.statistics import (
    BACKWARD,
    POWER,
    count_transitions,
    measure_evidence,
    measure_popularity,
    measure_return_rates,
)
from kinrec.trainer.weights import save_weights

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator
    from pathlib import Path

    from kinrec.engine.histories import Histories
    from kinrec.engine.ids import IdMap
    from kinrec.trainer.config import TrainConfig
    from kinrec.trainer.encoders import SequenceEncoder
    from kinrec.trainer.log import EventLog

_WRITING = ".writing"
LIBRARIES = (
    "annoy",
    "implicit",
    "kinrec",
    "numpy",
    "onnx",
    "onnxruntime",
    "polars",
    "scikit-learn",
    "torch",
)

# Where nobody can be held out to fit the blend on, and where the fit begins.
DEFAULT_BLEND = manifest_pb2.Blend(
    mixes=[
        manifest_pb2.Mix(
            min_events=1,
            weights={SEQUENCE: 0.4, TRANSITIONS: 0.3, SIMILAR_USERS: 0.25, POPULARITY: 0.05},
            weights_with_seen={
                SEQUENCE: 0.4,
                TRANSITIONS: 0.2,
                SIMILAR_USERS: 0.15,
                HISTORY: 0.2,
                POPULARITY: 0.05,
            },
        )
    ],
    vote_half_life=5.0,
    transition_half_life=2.0,
    history_half_life=10.0,
    sequence_temperature=2.0,
)


def write_model(
    directory: Path,
    log: EventLog,
    histories: Histories,
    encoder: SequenceEncoder,
    config: TrainConfig,
) -> manifest_pb2.Manifest:
    """Write every file of a bundle but the manifest, and give what is known of it so far.

    Args:
        directory: An empty directory.
        log: The id maps, the event types and the report of the cleaning.
        histories: What the model may know: all of the log's, or a training part.
        encoder: Trained on ``histories``.
        config: The configuration.
    """
    items, type_weights = len(log.items), log.type_weights
    stored = histories.last(config.max_history)
    session_gap = config.cleaning.session_gap
    current = stored.last_sessions(session_gap)
    exported, encoder_spec = export_encoder(encoder, directory)
    save_weights(encoder, directory)
    parity = check_parity(encoder, exported, current, config.max_history)
    vectors, states = encode_all(exported, current, config.max_history, config.vector_size)
    fold_in, user_factors, factorization = factorize(stored, vectors, items, type_weights, config)
    embeddings = np.load(directory / "item_embeddings.npy")
    active = stored.lengths > 0

    _save_ids(log.users, directory / "users.marisa")
    _save_ids(log.items, directory / "items.marisa")
    stored.save(directory)
    sessions = histories.sessions(session_gap)
    window = config.transition_window
    transitions = count_transitions(sessions, items, window, backward=BACKWARD, power=POWER)
    transitions.save(directory)
    for name, array in {
        "transition_evidence": measure_evidence(sessions, items, window, transitions),
        "popularity": measure_popularity(histories, items, type_weights),
        "user_vectors": vectors,
        "user_factors": user_factors,
        "item_factors": fold_in.item_factors,
        "interest_factors": fold_in.interest_factors,
        "item_weights": fold_in.rows.item_weights,
    }.items():
        np.save(directory / f"{name}.npy", array)
    if states is not None:
        np.save(directory / USER_STATES, states)
    if log.titles is not None:
        Titles.save(directory, log.titles)
    _save_attributes(log, directory)
    blend = manifest_pb2.Blend()
    blend.CopyFrom(DEFAULT_BLEND)
    blend.neighbours = min(config.neighbours, max(1, len(log.users) // 4))
    blend.candidates = config.candidates
    blend.return_rates.extend(measure_return_rates(histories, len(type_weights)))
    return manifest_pb2.Manifest(
        format_version=FORMAT_VERSION,
        user_count=len(log.users),
        item_count=items,
        encoder=encoder_spec,
        event_spec=event_spec(log, config),
        factorization=factorization,
        user_index=build_index(
            directory / "users.annoy",
            user_factors,
            user_factors[active],
            metric=COSINE,
            neighbours=blend.neighbours,
            min_recall=config.min_recall,
            seed=config.seed,
        ),
        item_index=build_index(
            directory / "items.annoy",
            embeddings,
            vectors[active],
            metric=DOT,
            neighbours=min(config.candidates, items),
            min_recall=config.min_recall,
            seed=config.seed,
        ),
        blend=blend,
        cleaning=[
            manifest_pb2.CleaningStep(
                name=step.name, removed=step.removed, left=step.left, filled=step.filled
            )
            for step in log.cleaning
        ],
        parity=parity,
        attributes=[column.describe(name) for name, column in log.attributes.items()],
    )


def event_spec(log: EventLog, config: TrainConfig) -> manifest_pb2.EventSpec:
    """Say what of the cleaning the engine repeats on requests."""
    cleaning = config.cleaning
    return manifest_pb2.EventSpec(
        event_types=[
            manifest_pb2.EventType(name=name, weight=float(weight))
            for name, weight in zip(log.event_types, log.type_weights[1:], strict=True)
        ],
        drop_immediate_repeats=cleaning.drop_immediate_repeats,
        max_history=config.max_history,
        repeat_window=cleaning.repeat_window,
        once_types=cleaning.once_types,
        known_types=cleaning.known_types,
        min_value=cleaning.min_value,
        min_value_types=cleaning.min_value_types,
        drop_missing_value=cleaning.missing_value == DROP,
        missing_value=log.substitutes.value,
        drop_missing_type=cleaning.missing_type == DROP,
        missing_type=log.substitutes.event_type,
        session_gap=cleaning.session_gap,
    )


def _save_ids(ids: IdMap, path: Path) -> None:
    with _trie_errors(path.name):
        ids.save(path)


def _save_attributes(log: EventLog, directory: Path) -> None:
    for place, (name, column) in enumerate(log.attributes.items()):
        with _trie_errors(f"attribute {name}"):
            column.save(directory, place)


@contextlib.contextmanager
def _trie_errors(what: str) -> Iterator[None]:
    """Turn what marisa-trie raises, whatever kept it from writing, into an OSError."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(f"{what}: {error}") from error


def finish(
    directory: Path,
    manifest: manifest_pb2.Manifest,
    *,
    name: str,
    version: str,
    time: dt.datetime,
    config: TrainConfig,
) -> None:
    """Complete the manifest with the files of a directory and write it, or write it anew."""
    manifest.name = name
    manifest.version = version
    manifest.create_time.FromDatetime(time)
    manifest.training_config.update(config.as_dict())
    for library in LIBRARIES:
        manifest.library_versions[library] = metadata.version(library)
    for path in sorted(directory.iterdir()):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            manifest.files[path.name].CopyFrom(
                manifest_pb2.File(size=path.stat().st_size, sha256=digest)
            )
    text = json_format.MessageToJson(manifest, preserving_proto_field_name=True, sort_keys=True)
    with (directory / MANIFEST).open("w", encoding="utf-8") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def new_version(store: Path, version: str) -> Iterator[Path]:
    """Give a directory to write in that becomes ``store/version`` if all goes well, else nothing.

    Raises:
        OutputError: The store cannot be written, or is full.
    """
    working = store / f".{version}{_WRITING}"
    try:
        _remove_abandoned(store)
        working.mkdir(parents=True)
        with _locked(working):
            yield working
            working.rename(store / version)
    except OSError as error:
        raise OutputError(store, f"cannot be written: {reason_of(error)}") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory, which the system lets go of when the process dies.

    Raises:
        BlockingIOError: Another process holds it.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_abandoned(store: Path) -> None:
    """Remove what killed trainings left half written; what another one writes is locked."""
    for path in store.glob(f".*{_WRITING}"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), _locked(path):
            shutil.rmtree(path, ignore_errors=True)
