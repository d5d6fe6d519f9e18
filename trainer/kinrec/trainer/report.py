"""Writes an evaluation as one page that a person without the field's words can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kinrec.trainer.charts import (
    draw_accuracy_and_coverage,
    draw_by_length,
    draw_differences,
    draw_epochs,
)
from kinrec.trainer.config import TEMPORAL
from kinrec.trainer.measuring import KINREC
from kinrec.trainer.output import write_whole
from kinrec.trainer.times import format_time

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.trainer.evaluation import Evaluation
    from kinrec.trainer.measuring import Interval, Result

SHOWN = (
    (
        "HR@10",
        "the hit rate: the share of people with something they went on to do among the ten",
    ),
    ("Precision@10", "the share of the ten items that were right"),
    ("Recall@10", "the share of what a person went on to do that is among the ten"),
    ("NDCG@10", "like Recall, but the more, the higher in the list it stands; 1 is perfect"),
    ("MRR@10", "1 divided by the place of the first right item"),
    ("MAP@10", "the precision at the place of each right item, averaged"),
    ("Coverage@10", "the share of all items that is shown to anyone"),
    ("Gini@10", "how unevenly items are shown: 0 all alike, 1 always the same"),
    ("Novelty@10", "how little known the items are, in bits: one more is half as known"),
    ("ILD@10", "how different the items of one list are from each other: 0 the same, 1 unrelated"),
)
WITH_INTERVAL = frozenset({"HR@10", "Recall@10", "NDCG@10"})

_STEPS = {
    "missing_ids": "without a user or an item",
    "missing_timestamps": "without a time",
    "long_ids": "with an id that is too long",
    "missing_types": "without a type",
    "missing_values": "without a value",
    "exact_duplicates": "the same as an earlier one",
    "outside_time_range": "too early or too late",
    "fast_users": "of users faster than people are",
    "unknown_types": "of types that are not taken",
    "low_values": "with too low a value",
    "repeats_in_window": "the same again too soon",
    "once_types": "the same again where once counts",
    "immediate_repeats": "a repeat of the one before",
    "k_core": "of users or items with too few",
    "missing_titles": "of items without a title",
}


def verdict(evaluation: Evaluation) -> str:
    """Say in one sentence how kinrec did beside the best of the others."""
    others = evaluation.results[1:]
    best = max(others, key=lambda result: result.measures["HR@10"])
    ours = evaluation.result(KINREC).measures["HR@10"]
    theirs = best.measures["HR@10"]
    higher = [one.method for one in others if one.differences["NDCG@10"].interval[1] < 0.0]
    alike = [
        one.method
        for one in others
        if one.differences["NDCG@10"].interval[0] <= 0.0 and one.method not in higher
    ]
    if all(result.differences["HR@10"].interval[0] > 0.0 for result in others):
        does = "finds more" if higher or alike else "recommends better"
        start = f"kinrec {does} here than every method it was compared with"
        end = "a lead that is more than chance"
        if alike:
            end += f", though by where in the list it cannot be told from {' and '.join(alike)}"
    elif best.differences["HR@10"].interval[1] < 0.0:
        start = f"The classic method {best.method} recommends better here than kinrec"
        end = "a lag that is more than chance"
    else:
        start = (
            f"kinrec and the best of the other methods, {best.method}, cannot be told apart here"
        )
        end = "a difference that may be chance"
    if higher:
        end += f", and {' and '.join(higher)} put what they find higher in the list"
    people = min(evaluation.people, 1_000)
    return (
        f"{start}: among ten recommendations {people * ours:.0f} of {people:,} people find what they "
        f"went on to do, with {best.method} {people * theirs:.0f}, {end}."
    )


def describe_split(evaluation: Evaluation) -> str:
    """Say what was held out, who was asked about and who was not."""
    if evaluation.split == TEMPORAL:
        start = format_time(evaluation.test_start or 0.0)
        valid = format_time(evaluation.validation_start or 0.0)
        how = (
            f"temporal: trained on all before {valid}, validated on what came until {start}, "
            "asked for what people did after"
        )
        short = "had done nothing before that"
    else:
        how = "leave-one-out: trained without everyone's last two events, asked for the last"
        short = "have fewer than three events"
    parts = [
        f"{how}; ranked over all {evaluation.log.items:,} items",
        f"{evaluation.people:,} people asked about, {evaluation.targets:,} items to find",
        f"{evaluation.too_short:,} not asked about as they {short}",
    ]
    if evaluation.include_seen:
        known = f"{evaluation.known / evaluation.targets:.0%} of the items to find are such"
        if evaluation.split == TEMPORAL:
            known += ", each counted once, where training, which chose so, counts every event"
        parts.append(f"items that people have seen are recommended too, by all methods: {known}")
    else:
        parts.append(
            f"{evaluation.repeats:,} as all they did in the test was in their history, which is "
            "not recommended"
        )
    return "; ".join(parts)


def render(evaluation: Evaluation, manifest: Manifest) -> str:
    """Give the page as HTML that needs no other file, no script and no network."""
    environment = Environment(
        loader=PackageLoader("kinrec.trainer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = format_interval
    environment.filters["short"] = lambda measure: measure.removesuffix("@10")
    environment.filters["signed"] = lambda value: f"{value:+.4f}"
    environment.filters["settings"] = format_settings
    log = evaluation.log
    charts = draw_epochs(manifest.validation.epochs, manifest.validation.best_epoch)
    return environment.get_template("report.html.j2").render(
        name=manifest.name,
        evaluation=evaluation,
        verdict=verdict(evaluation),
        split=describe_split(evaluation),
        span=(format_time(log.first), format_time(log.last)),
        trained=f"{manifest.create_time.ToDatetime():%Y-%m-%d %H:%M}",
        cleaning=[(_STEPS.get(step.name, step.name), step) for step in manifest.cleaning],
        removed=sum(step.removed for step in manifest.cleaning),
        epochs=[(title, Markup(svg)) for title, svg in charts],  # noqa: S704 - made by matplotlib from numbers
        best_epoch=manifest.validation.best_epoch,
        shown=SHOWN,
        with_interval=WITH_INTERVAL,
        differences=Markup(draw_differences(evaluation)),  # noqa: S704 - likewise
        coverage=Markup(draw_accuracy_and_coverage(evaluation)),  # noqa: S704 - likewise
        lengths=Markup(draw_by_length(evaluation)),  # noqa: S704 - likewise
    )


def format_interval(interval: Interval) -> str:
    """Write an interval with four digits."""
    lower, upper = interval
    return f"{lower:.4f} to {upper:.4f}"


def format_settings(result: Result) -> str:
    """Write what was chosen on validation, in one line."""
    return ", ".join(f"{name} {value:,g}" for name, value in result.settings.items())


def write_report(path: Path, evaluation: Evaluation, manifest: Manifest) -> None:
    """Write the page, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    write_whole(path, render(evaluation, manifest))
