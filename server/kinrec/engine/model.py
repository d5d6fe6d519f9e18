"""The parts of one loaded bundle, opened and checked against its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kinrec.engine._errors import BundleError
from kinrec.engine.encoder import Encoder
from kinrec.engine.events import EventReader
from kinrec.engine.factors import FoldIn
from kinrec.engine.histories import HISTORY_FILES, Histories
from kinrec.engine.ids import IdMap
from kinrec.engine.index import ExactIndex, open_index
from kinrec.engine.sources import (
    TRANSITION_FILES,
    FactorScores,
    Popularity,
    SimilarUserVotes,
    Transitions,
)
from kinrec.engine.store import find_bundle, read_manifest, verify_files

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine.index import VectorIndex


class Titles:
    """The titles of items, end to end in one mapped array of UTF-8; empty if there are none."""

    def __init__(self, text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self._text = text
        self._offsets = offsets

    @classmethod
    def open(cls, directory: Path, manifest: Manifest) -> Titles:
        """Map the files that ``save`` wrote, if the manifest names them."""
        if TITLE_FILES[0] not in manifest.files:
            return cls(np.zeros(0, np.uint8), np.zeros(manifest.item_count + 1, np.int64))
        text, offsets = (_array(directory, name) for name in TITLE_FILES)
        return cls(text, offsets)

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
        offsets = self._offsets
        return [
            self._text[offsets[item] : offsets[item + 1]].tobytes().decode("utf-8", "replace")
            for item in items
        ]


TITLE_FILES = ("titles.npy", "title_offsets.npy")


@dataclass(frozen=True, slots=True)
class Model:
    """Everything the engine answers from. Immutable; shared by all threads."""

    manifest: Manifest
    users: IdMap
    items: IdMap
    titles: Titles
    reader: EventReader
    histories: Histories
    encoder: Encoder
    user_vectors: NDArray[np.float32]
    user_factors: NDArray[np.float32]
    fold_in: FoldIn
    user_index: VectorIndex
    item_index: VectorIndex
    votes: SimilarUserVotes
    transitions: Transitions
    popularity: Popularity
    factor_scores: FactorScores

    @classmethod
    def open(cls, path: str | os.PathLike[str], version: str | None = None) -> Model:
        """Verify and open a bundle; see Engine.load."""
        directory = find_bundle(Path(path), version)
        manifest = read_manifest(directory)
        verify_files(directory, manifest)
        try:
            return cls._open_verified(directory, manifest)
        except (OSError, ValueError, EOFError) as error:
            raise BundleError(f"{directory}: {error}") from error

    @classmethod
    def _open_verified(cls, directory: Path, manifest: Manifest) -> Model:
        spec, factorization = manifest.event_spec, manifest.factorization
        users = IdMap.open(directory / "users.marisa")
        items = IdMap.open(directory / "items.marisa")
        _expect("users.marisa", len(users), manifest.user_count)
        _expect("items.marisa", len(items), manifest.item_count)
        item_embeddings = _array(directory, "item_embeddings.npy")
        user_factors = _array(directory, "user_factors.npy")
        item_factors = _array(directory, "item_factors.npy")
        type_weights = np.array([1.0, *(kind.weight for kind in spec.event_types)], np.float32)
        histories = Histories(*(_array(directory, name) for name in HISTORY_FILES))
        transitions = Transitions(*(_array(directory, name) for name in TRANSITION_FILES))
        popularity = _array(directory, "popularity.npy")
        user_vectors = _array(directory, "user_vectors.npy")
        for name, found, expected in (
            ("item_embeddings.npy", item_embeddings.shape[0], manifest.item_count),
            ("item_factors.npy", item_factors.shape[0], manifest.item_count),
            ("popularity.npy", len(popularity), manifest.item_count),
            ("transition_offsets.npy", len(transitions.offsets), manifest.item_count + 1),
            ("user_factors.npy", user_factors.shape[0], manifest.user_count),
            ("user_vectors.npy", user_vectors.shape[0], manifest.user_count),
            ("history_offsets.npy", len(histories.offsets), manifest.user_count + 1),
        ):
            _expect(name, found, expected)
        return cls(
            manifest=manifest,
            users=users,
            items=items,
            titles=Titles.open(directory, manifest),
            reader=EventReader(spec, items),
            histories=histories,
            encoder=Encoder(directory / "encoder.onnx", manifest.encoder),
            user_vectors=user_vectors,
            user_factors=user_factors,
            fold_in=FoldIn(
                item_factors,
                _array(directory, "interest_factors.npy"),
                _array(directory, "item_weights.npy"),
                type_weights,
                factorization.alpha,
                factorization.half_life,
            ),
            user_index=open_index(directory / "users.annoy", user_factors, manifest.user_index),
            item_index=open_index(directory / "items.annoy", item_embeddings, manifest.item_index),
            votes=SimilarUserVotes(histories, type_weights, manifest.blend.vote_half_life),
            transitions=transitions,
            popularity=Popularity(popularity),
            factor_scores=FactorScores(ExactIndex(item_factors)),
        )


def _array(directory: Path, name: str) -> NDArray[np.generic]:
    # A plain array over the mapping: numpy's memmap class makes every slice several times slower.
    return np.asarray(np.load(directory / name, mmap_mode="r", allow_pickle=False))


def _expect(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise BundleError(f"{name}: has {found} entries, the manifest says {expected}")
