"""Stores and bundles on disk: which versions there are, and whether one is whole."""

from __future__ import annotations

import hashlib
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format

from kinrec.bundle.v1.manifest_pb2 import (
    Attribute,
    Blend,
    EventSpec,
    Factorization,
    File,
    Index,
    Manifest,
)
from kinrec.engine._errors import BundleError
from kinrec.engine.columns import KIND_NAMES, required_files
from kinrec.engine.ranker import check_ranker
from kinrec.engine.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
REQUIRED_FILES = frozenset(
    {
        "encoder.onnx",
        "history_event_types.npy",
        "history_items.npy",
        "history_offsets.npy",
        "history_times.npy",
        "interest_factors.npy",
        "item_embeddings.npy",
        "item_factors.npy",
        "item_weights.npy",
        "items.marisa",
        "popularity.npy",
        "transition_evidence.npy",
        "transition_items.npy",
        "transition_offsets.npy",
        "transition_weights.npy",
        "user_factors.npy",
        "user_vectors.npy",
        "users.marisa",
    }
)
USER_STATES = "user_states.npy"
FINGERPRINT_BYTES = 16
TITLE_FILES = ("titles.npy", "title_offsets.npy")
PIN = "pinned"
_HASH_THREADS = min(4, os.cpu_count() or 1)


def find_bundle(path: Path, version: str | None = None) -> Path:
    """Find a bundle: ``path`` itself, or a version in the store at ``path``.

    Args:
        path: A bundle's directory or a store's.
        version: The version in a store; the newest complete one if None.

    Raises:
        BundleError: There is none.
    """
    if not path.is_dir():
        raise BundleError(f"{path}: {'is no' if path.exists() else 'no such'} directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise BundleError(f"{path}: Permission denied")
    if (path / MANIFEST).is_file() and version is None:
        return path
    if version is not None:
        if version not in list_versions(path):
            raise BundleError(f"{path}: has no complete version {version!r}")
        return path / version
    versions = list_versions(path)
    if not versions:
        raise BundleError(f"{path}: holds no complete bundle; 'kinrec train' makes one")
    return path / versions[-1]


def find_served(path: Path, version: str | None = None) -> Path:
    """Find a bundle as ``find_bundle`` does; without a version the one that is pinned, if one is.

    Raises:
        BundleError: There is none.
    """
    is_bundle = (path / MANIFEST).is_file()
    return find_bundle(path, version if version or is_bundle else read_pin(path))


def list_versions(store: Path) -> list[str]:
    """List the complete versions of a store, the oldest first.

    Versions are named by the time of training, so their order is that of their names. Names that
    start with a dot are work in progress.
    """
    return sorted(
        entry.parent.name
        for entry in store.glob(f"*/{MANIFEST}")
        if not entry.parent.name.startswith(".")
    )


def read_pin(store: Path) -> str | None:
    """Give the version that the servers of a store are to serve; None for the newest.

    Raises:
        BundleError: The file that says so cannot be read.
    """
    path = store / PIN
    try:
        return path.read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: cannot be read") from error


def write_pin(store: Path, version: str | None) -> None:
    """Let the servers of a store serve a version from now on; None for the newest.

    Raises:
        BundleError: The store has no such version, or the file cannot be written.
    """
    path = store / PIN
    if version is not None:
        find_bundle(store, version)
    try:
        if version is None:
            path.unlink(missing_ok=True)
            return
        # Beside its place first: a server that looks meanwhile finds the old one or the new one.
        beside = store / f".{PIN}"
        beside.write_text(f"{version}\n", "utf-8")
        beside.replace(path)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest.

    Raises:
        BundleError: It is not there, cannot be read, or is of another format version.
    """
    path = bundle / MANIFEST
    try:
        manifest = json_format.Parse(
            path.read_text("utf-8"), Manifest(), ignore_unknown_fields=True
        )
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path}: is not the manifest of a bundle") from error
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: is of format version {manifest.format_version}, "
            f"this engine reads version {FORMAT_VERSION}"
        )
    _check_manifest(path, manifest)
    return manifest


def fingerprint(bundle: Path) -> bytes:
    """Give ``FINGERPRINT_BYTES`` bytes that tell a bundle from every other, and are the same wherever it is copied.

    Raises:
        BundleError: The manifest cannot be read.
    """
    path = bundle / MANIFEST
    try:
        return hashlib.sha256(path.read_bytes()).digest()[:FINGERPRINT_BYTES]
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error


def _check_manifest(path: Path, manifest: Manifest) -> None:
    """Raise BundleError unless the manifest says all that the engine needs."""
    _check_attributes(path, manifest.attributes)
    missing = sorted(_required_files(manifest) - set(manifest.files))
    if missing:
        raise BundleError(f"{path}: does not name the file {missing[0]}")
    for field, text in (("name", manifest.name), ("version", manifest.version)):
        if not text:
            raise BundleError(f"{path}: {field} is empty")
    factorization, blend = manifest.factorization, manifest.blend
    above_zero = {
        "user_count": manifest.user_count,
        "item_count": manifest.item_count,
        "encoder.vector_size": manifest.encoder.vector_size,
        "event_spec.max_history": manifest.event_spec.max_history,
        "factorization.factors": factorization.factors,
        "factorization.half_life": factorization.half_life,
        "user_index.neighbours": manifest.user_index.neighbours,
        "item_index.neighbours": manifest.item_index.neighbours,
        "blend.neighbours": blend.neighbours,
        "blend.candidates": blend.candidates,
        "blend.vote_half_life": blend.vote_half_life,
        "blend.transition_half_life": blend.transition_half_life,
        "blend.sequence_temperature": blend.sequence_temperature,
        "blend.history_half_life": blend.history_half_life,
        "the number of blend.mixes": len(blend.mixes),
    }
    if factorization.fold_in == Factorization.FOLD_IN_LEAST_SQUARES:
        above_zero["factorization.regularization"] = factorization.regularization
    for field, number in above_zero.items():
        if not 0 < number < math.inf:
            raise BundleError(f"{path}: {field} must be above zero, is {number:g}")
    weights = [kind.weight for kind in manifest.event_spec.event_types]
    for weight in (
        *weights,
        factorization.alpha,
        factorization.confidence,
        blend.popularity_discount,
        *blend.return_rates,
    ):
        if not 0 <= weight < math.inf:
            raise BundleError(f"{path}: a weight must be zero or more, is {weight:g}")
    _check_rules(path, manifest.event_spec)
    _check_blend(path, blend, len(manifest.event_spec.event_types) + 1)


def _check_rules(path: Path, spec: EventSpec) -> None:
    for field, number in {
        "event_spec.repeat_window": spec.repeat_window,
        "event_spec.session_gap": spec.session_gap,
    }.items():
        if not 0 <= number < math.inf:
            raise BundleError(f"{path}: {field} must be zero or more, is {number:g}")


def _check_attributes(path: Path, attributes: Sequence[Attribute]) -> None:
    names = set()
    for spec in attributes:
        if not spec.name or spec.name in names:
            raise BundleError(f"{path}: attributes names {spec.name!r} twice, or not at all")
        if spec.kind not in KIND_NAMES:
            raise BundleError(f"{path}: the attribute {spec.name!r} is of no known kind")
        names.add(spec.name)


def _check_blend(path: Path, blend: Blend, types: int) -> None:
    least = [mix.min_events for mix in blend.mixes]
    if least != sorted(set(least)) or least[0] != 1:
        raise BundleError(f"{path}: min_events of blend.mixes must ascend from 1, are {least}")
    for mix in blend.mixes:
        for source, weight in (*mix.weights.items(), *mix.weights_with_seen.items()):
            if source not in SOURCES:
                raise BundleError(f"{path}: blend.mixes names {source!r}, which is no source")
            if not 0 <= weight < math.inf:
                raise BundleError(f"{path}: a weight must be zero or more, is {weight:g}")
    if len(blend.return_rates) not in {0, types}:
        given = len(blend.return_rates)
        raise BundleError(f"{path}: blend.return_rates must be {types}, one a type, are {given}")
    if blend.HasField("ranker") and (wrong := check_ranker(blend.ranker)):
        raise BundleError(f"{path}: blend.ranker {wrong}")


def _required_files(manifest: Manifest) -> set[str]:
    required = set(REQUIRED_FILES)
    for index, name in ((manifest.user_index, "users.annoy"), (manifest.item_index, "items.annoy")):
        if index.kind == Index.KIND_ANNOY:
            required.add(name)
    if any(name in manifest.files for name in TITLE_FILES):
        required.update(TITLE_FILES)
    if manifest.encoder.carries_state:
        required.add(USER_STATES)
    required.update(required_files(manifest.attributes))
    return required


def verify_bundle(bundle: Path) -> Manifest:
    """Read the manifest, and compare the size and SHA-256 of every file that it names.

    Raises:
        BundleError: The manifest cannot be used, or a file is missing, outside of the bundle, or not
            what was written.
    """
    manifest = read_manifest(bundle)
    for name in manifest.files:
        if name in {"", ".."} or Path(name).name != name or not name.isprintable():
            raise BundleError(
                f"{bundle / MANIFEST}: names {name!r}, which is not a plain file name"
            )
    # The largest first, so that no core is left with the last of them alone.
    names = sorted(manifest.files, key=lambda name: (-manifest.files[name].size, name))
    with ThreadPoolExecutor(_HASH_THREADS, "verify") as pool:
        list(pool.map(lambda name: _verify(bundle / name, manifest.files[name]), names))
    return manifest


def _verify(path: Path, file: File) -> None:
    try:
        size = path.stat().st_size
        if size != file.size:
            raise BundleError(f"{path}: has {size} bytes, the manifest says {file.size}")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    if digest != file.sha256:
        raise BundleError(f"{path}: its SHA-256 is not the one in the manifest")
