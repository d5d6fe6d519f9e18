"""The command ``kinrec inspect``: a manifest for people."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format
from rich import box
from rich.console import Console
from rich.table import Table

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine import BundleError
from kinrec.engine.columns import KIND_NAMES
from kinrec.engine.store import find_bundle, verify_bundle

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("store", type=Path, help="a store or a bundle")
    parser.add_argument("--version", help="the version in the store; the newest if left out")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the manifest, and whether every file is what was written."""
    try:
        bundle = find_bundle(args.store, args.version)
        manifest = verify_bundle(bundle)
    except BundleError as error:
        sys.stderr.write(f"kinrec inspect: {error}\n")
        return 2
    if args.json:
        sys.stdout.write(json_format.MessageToJson(manifest, preserving_proto_field_name=True))
        sys.stdout.write("\n")
        return 0
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    size = sum(file.size for file in manifest.files.values())
    console.print(
        f"{manifest.name} {manifest.version}, trained {manifest.create_time.ToJsonString()}, "
        f"{len(manifest.files)} files, {size / 2**20:.1f} MiB, all checksums right"
    )
    for title, rows in _sections(manifest):
        table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False)
        for name, value in rows:
            table.add_row(name, value)
        console.print(table)
    return 0


def _sections(
    manifest: manifest_pb2.Manifest,
) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    encoder, factors = manifest.encoder, manifest.factorization
    yield (
        "model",
        [
            ("users", f"{manifest.user_count:,}"),
            ("items", f"{manifest.item_count:,}"),
            (
                "event types",
                ", ".join(
                    f"{kind.name} x {kind.weight:g}" for kind in manifest.event_spec.event_types
                ),
            ),
            (
                "encoder",
                f"{encoder.kind}, vectors of {encoder.vector_size}, "
                + (
                    f"of the last {encoder.max_length:,} events"
                    if encoder.max_length
                    else "of all events"
                ),
            ),
            (
                "factorization",
                (
                    f"{factors.method}, {factors.factors} factors, alpha {factors.alpha:g}, "
                    f"median cosine of trained and folded in {factors.agreement:.3f}"
                ),
            ),
            ("user index", _index(manifest.user_index)),
            ("item index", _index(manifest.item_index)),
            (
                "export",
                (
                    f"greatest difference of torch and ONNX {manifest.parity.max_abs_diff:.1e} "
                    f"over {manifest.parity.sequences} sequences"
                ),
            ),
            ("held out", _split(manifest.split)),
            ("by default", _seen(included=manifest.event_spec.include_seen_default)),
        ],
    )
    if manifest.attributes:
        items = manifest.item_count
        yield "attributes", [(spec.name, _attribute(spec, items)) for spec in manifest.attributes]
    yield (
        "blend",
        [
            (
                f"from {mix.min_events} event{'s' * (mix.min_events > 1)}, {_seen(included=included)}",
                _weights(weights),
            )
            for mix in manifest.blend.mixes
            for included, weights in ((False, mix.weights), (True, mix.weights_with_seen))
        ]
        + [
            (
                "popular items",
                f"divided by (1 + popularity) ^ {manifest.blend.popularity_discount:g}",
            ),
            ("corrected by", _correction(manifest)),
        ],
    )
    yield _sources(manifest)
    yield (
        "cleaning",
        [
            (
                step.name,
                (f"filled {step.filled:,}, " if step.filled else "")
                + f"removed {step.removed:,}, left {step.left:,}",
            )
            for step in manifest.cleaning
        ],
    )
    best = manifest.validation.best_epoch
    yield (
        "search for the best epoch, NDCG@10 of the encoder alone on held-out events",
        [
            (
                f"epoch {epoch.epoch}",
                f"loss {epoch.loss:.3f}, NDCG@10 {epoch.ndcg_at_10:.4f}"
                + (" (best)" if epoch.epoch == best else ""),
            )
            for epoch in manifest.validation.epochs
        ],
    )
    yield "library versions", sorted(manifest.library_versions.items())


def _sources(manifest: manifest_pb2.Manifest) -> tuple[str, list[tuple[str, str]]]:
    """Give what each source is worth, under the quality of the blend."""
    validation = manifest.validation
    seen = _seen(included=manifest.event_spec.include_seen_default)
    without = validation.without_source_ndcg_at_10
    rows = []
    for source, alone in sorted(validation.source_ndcg_at_10.items()):
        rest = f"the others without it {without[source]:.4f}" if source in without else "not asked"
        rows.append((source, f"alone {alone:.4f}, {rest}"))
    quality = f"{validation.blend_ndcg_at_10:.4f} on {validation.people:,} held-out events"
    return f"NDCG@10 of the blend, {seen}: {quality}", rows


def _correction(manifest: manifest_pb2.Manifest) -> str:
    if not manifest.blend.HasField("ranker"):
        return "nothing"
    ranker, validation = manifest.blend.ranker, manifest.validation
    return (
        f"a network of {len(ranker.hidden_biases)} hidden units, {_seen(included=ranker.include_seen)}: "
        f"NDCG@10 {validation.ranked_ndcg_at_10:.4f} with it and {validation.unranked_ndcg_at_10:.4f} "
        "without it, of people it was not fitted to"
    )


def _seen(*, included: bool) -> str:
    return "seen items included" if included else "seen items left out"


def _split(split: manifest_pb2.Split) -> str:
    if not split.test_start:
        return split.method
    start, test = _time(split.validation_start), _time(split.test_start)
    return f"{split.method}, validation from {start}, test from {test}"


def _attribute(spec: manifest_pb2.Attribute, items: int) -> str:
    values = f"{spec.value_count:,} value{'s' if spec.value_count > 1 else ''}"
    if spec.kind == manifest_pb2.Attribute.KIND_NUMBER:
        values += f" from {spec.least:g} to {spec.greatest:g}"
    if spec.kind == manifest_pb2.Attribute.KIND_TIME:
        values += f" from {_time(spec.least)} to {_time(spec.greatest)}"
    return f"{KIND_NAMES[spec.kind]}, {values}, of {spec.item_count:,} of {items:,} items"


def _time(seconds: float) -> str:
    """Write a time in UTC; as plain seconds where no calendar reaches."""
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s"


def _weights(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{source} {weight:.3g}" for source, weight in sorted(weights.items()))


def _index(index: manifest_pb2.Index) -> str:
    if index.kind == manifest_pb2.Index.KIND_EXACT:
        return f"exact scan of {index.count:,} vectors of {index.dims}"
    return (
        f"Annoy over {index.count:,} vectors of {index.dims}, {index.trees} trees, "
        f"search_k {index.search_k}, recall@{index.neighbours} {index.recall:.3f}"
    )
