"""The parts of one loaded bundle, opened and checked against its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine._errors import BundleError
from kinrec.engine.arrays import ArrayFiles
from kinrec.engine.attributes import Attributes
from kinrec.engine.encoder import Encoded, Encoder
from kinrec.engine.encoder_states import states_of
from kinrec.engine.events import EventReader
from kinrec.engine.factors import RowSpec
from kinrec.engine.fold_in import open_fold_in
from kinrec.engine.graph_files import check_graph_files
from kinrec.engine.histories import HISTORY_FILES, Histories
from kinrec.engine.ids import IdMap
from kinrec.engine.index import ExactIndex, open_index
from kinrec.engine.ranker import Ranker
from kinrec.engine.sources import (
    EVIDENCE_FILE,
    TRANSITION_FILES,
    Evidence,
    FactorScores,
    OwnHistory,
    Popularity,
    SimilarUserVotes,
    Transitions,
)
from kinrec.engine.state import State, StateFormat
from kinrec.engine.store import (
    TITLE_FILES,
    USER_STATES,
    find_bundle,
    fingerprint,
    read_manifest,
    verify_bundle,
)

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine.fold_in import FoldIn
    from kinrec.engine.index import VectorIndex


_NONE: NDArray[np.float32] = np.zeros(0, np.float32)


class Titles:
    """The titles of items, end to end in one mapped array of UTF-8; empty if there are none."""

    def __init__(self, text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        # Views, for of an array each number and each slice is an object that takes longer to make.
        self._text = text.data
        self._offsets = offsets.data

    @classmethod
    def open(cls, files: ArrayFiles, manifest: Manifest) -> Titles:
        """Map the files that ``save`` wrote, if the manifest names them."""
        if TITLE_FILES[0] not in manifest.files:
            return cls(np.zeros(0, np.uint8), np.zeros(manifest.item_count + 1, np.int64))
        text = files.open(TITLE_FILES[0], np.uint8, None)
        return cls(text, files.offsets(TITLE_FILES[1], manifest.item_count, len(text)))

    @staticmethod
    def save(directory: Path, titles: list[str]) -> None:
        """Write the titles of items 0..n-1."""
        encoded = [title.encode() for title in titles]
        lengths = np.array([0, *(len(title) for title in encoded)], np.int64)
        np.save(directory / TITLE_FILES[0], np.frombuffer(b"".join(encoded), np.uint8))
        np.save(directory / TITLE_FILES[1], np.cumsum(lengths))

    def of(self, items: list[int]) -> list[str]:
        """Give the titles of some items."""
        if not len(self._text):
            return [""] * len(items)
        text, offsets = self._text, self._offsets
        return [str(text[offsets[item] : offsets[item + 1]], "utf-8", "replace") for item in items]


@dataclass(frozen=True, slots=True)
class Model:
    """Everything the engine answers from. Immutable; shared by all threads."""

    manifest: Manifest
    fingerprint: bytes
    users: IdMap
    items: IdMap
    titles: Titles
    attributes: Attributes
    reader: EventReader
    histories: Histories
    encoder: Encoder
    user_vectors: NDArray[np.float32]
    user_states: NDArray[np.float32] | None
    states: StateFormat
    item_vectors: NDArray[np.float32]
    item_lengths: NDArray[np.float32]
    user_factors: NDArray[np.float32]
    fold_in: FoldIn
    user_index: VectorIndex
    item_index: VectorIndex
    votes: SimilarUserVotes
    transitions: Transitions
    evidence: Evidence
    own_history: OwnHistory
    popularity: Popularity
    factor_scores: FactorScores
    ranker: Ranker | None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        version: str | None = None,
        *,
        is_verified: bool = False,
    ) -> Model:
        """Verify and open a bundle; see Engine.load."""
        directory = find_bundle(Path(path), version)
        manifest = read_manifest(directory) if is_verified else verify_bundle(directory)
        identity = fingerprint(directory)
        files = ArrayFiles(directory, is_checked=is_verified)
        spec = manifest.event_spec
        arrays = _Arrays.open(files, manifest)
        type_weights = _type_weights(manifest)
        items = IdMap.open_counted(directory / "items.marisa", manifest.item_count)
        users = IdMap.open_counted(directory / "users.marisa", manifest.user_count)
        reader = EventReader(spec, items)
        check_graph_files(directory / "encoder.onnx", manifest.files)
        encoder = Encoder(directory / "encoder.onnx", manifest.encoder)
        return cls(
            manifest=manifest,
            fingerprint=identity,
            users=users,
            items=items,
            titles=Titles.open(files, manifest),
            attributes=Attributes.open(files, manifest),
            reader=reader,
            histories=arrays.histories,
            encoder=encoder,
            user_vectors=arrays.user_vectors,
            user_states=arrays.user_states,
            states=StateFormat(
                identity,
                users=len(users),
                items=len(items),
                event_types=len(type_weights),
                vector_size=manifest.encoder.vector_size,
                state_length=encoder.state_length,
                max_history=spec.max_history,
                with_times=reader.looks_at_times or not encoder.carries_state,
            ),
            item_vectors=arrays.item_vectors,
            item_lengths=np.linalg.norm(arrays.item_vectors, axis=1),
            user_factors=arrays.user_factors,
            fold_in=arrays.fold_in,
            user_index=open_index(
                directory / "users.annoy", arrays.user_factors, manifest.user_index
            ),
            item_index=open_index(
                directory / "items.annoy", arrays.item_vectors, manifest.item_index
            ),
            votes=SimilarUserVotes(arrays.histories, type_weights),
            transitions=arrays.evidence.transitions,
            evidence=arrays.evidence,
            own_history=OwnHistory(np.array(manifest.blend.return_rates, np.float32), len(items)),
            popularity=Popularity(arrays.popularity),
            factor_scores=FactorScores(ExactIndex(arrays.fold_in.item_factors)),
            ranker=Ranker(manifest.blend.ranker) if manifest.blend.HasField("ranker") else None,
        )

    def stored_state(self, user: int) -> State | None:
        """Give where a user stood at training; None without events."""
        history = self.histories.user(user, self.reader.max_history)
        return State(user, history, self.stored(user)) if len(history) else None

    def stored(self, user: int) -> Encoded:
        """Give what training computed of a user's events."""
        states = _NONE if self.user_states is None else np.asarray(self.user_states[user])
        return Encoded(np.asarray(self.user_vectors[user]), states)


def check_bundle(bundle: Path) -> Manifest:
    """Verify a bundle's files and look at all numbers in its large ones, without loading it.

    Raises:
        BundleError: A file is not what the trainer wrote, or holds what no model can.
    """
    manifest = verify_bundle(bundle)
    _Arrays.open(ArrayFiles(bundle), manifest)
    return manifest


class _Arrays(NamedTuple):
    """The arrays of a bundle that grow with its users, items and events, and what they are part of."""

    histories: Histories
    user_vectors: NDArray[np.float32]
    user_states: NDArray[np.float32] | None
    item_vectors: NDArray[np.float32]
    user_factors: NDArray[np.float32]
    fold_in: FoldIn
    evidence: Evidence
    popularity: NDArray[np.float32]

    @classmethod
    def open(cls, files: ArrayFiles, manifest: Manifest) -> _Arrays:
        users, items = manifest.user_count, manifest.item_count
        size, factors = manifest.encoder.vector_size, manifest.factorization.factors
        type_weights = _type_weights(manifest)
        state_size = states_of("encoder.onnx", manifest.encoder).length
        return cls(
            histories=_open_histories(files, manifest, len(type_weights)),
            user_vectors=files.finite("user_vectors.npy", users, size),
            user_states=files.finite(USER_STATES, users, state_size) if state_size else None,
            item_vectors=files.finite("item_embeddings.npy", items, size),
            user_factors=files.finite("user_factors.npy", users, factors),
            fold_in=_open_fold_in(files, manifest, type_weights),
            evidence=_open_evidence(files, manifest),
            popularity=files.finite("popularity.npy", items),
        )


def _type_weights(manifest: Manifest) -> NDArray[np.float32]:
    kinds = manifest.event_spec.event_types
    return np.array([1.0, *(kind.weight for kind in kinds)], np.float32)


def _open_histories(files: ArrayFiles, manifest: Manifest, types: int) -> Histories:
    offsets, items, event_types, times = HISTORY_FILES
    item_numbers = files.below(items, np.int32, manifest.item_count, None)
    events = len(item_numbers)
    if not events:
        raise BundleError(f"{files.directory / items}: holds no events")
    return Histories(
        files.offsets(offsets, manifest.user_count, events),
        item_numbers,
        files.below(event_types, np.uint8, types, events),
        files.open(times, np.float64, events),
    )


def _open_evidence(files: ArrayFiles, manifest: Manifest) -> Evidence:
    offsets, items, weights = TRANSITION_FILES
    followers = files.below(items, np.int32, manifest.item_count, None)
    transitions = Transitions(
        files.offsets(offsets, manifest.item_count, len(followers)),
        followers,
        files.finite(weights, len(followers)),
    )
    return Evidence(transitions, files.finite(EVIDENCE_FILE, len(followers), 3))


def _open_fold_in(
    files: ArrayFiles, manifest: Manifest, type_weights: NDArray[np.float32]
) -> FoldIn:
    spec = manifest.factorization
    weights = files.finite("item_weights.npy", manifest.item_count)
    return open_fold_in(
        spec,
        RowSpec(weights, type_weights, spec.alpha, spec.half_life),
        files.finite("item_factors.npy", manifest.item_count, spec.factors),
        files.finite("interest_factors.npy", 2 * manifest.encoder.vector_size, spec.factors),
    )
