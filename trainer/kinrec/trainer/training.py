"""The whole of a training: read, clean, search, evaluate-to-be, fit on all, write."""

from __future__ import annotations

import datetime as dt
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine import Engine
from kinrec.engine.model import Model
from kinrec.trainer.attributes import (
    check_fillings,
    items_to_keep,
    read_attributes,
    with_attributes,
)
from kinrec.trainer.blend import FittedBlend, fit_blend
from kinrec.trainer.bundle import finish, new_version, write_model
from kinrec.trainer.checkpoint import Checkpoints
from kinrec.trainer.choices import choose_device
from kinrec.trainer.cleaning import clean_events
from kinrec.trainer.doubts import find_doubts, find_types, find_unused
from kinrec.trainer.encoders import ENCODERS
from kinrec.trainer.errors import OutputError, reason_of
from kinrec.trainer.factorizers import FACTORIZERS
from kinrec.trainer.files import find_files, reading
from kinrec.trainer.fit import Epoch, Fit, Monitor, Task
from kinrec.trainer.log import build_log, with_titles
from kinrec.trainer.output import check_writable
from kinrec.trainer.ranker import fit_ranker
from kinrec.trainer.reading import EventColumns, ItemColumns, read_events, read_items
from kinrec.trainer.splits import Split, Targets, hold_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kinrec.engine.histories import Histories
    from kinrec.trainer.config import TrainConfig
    from kinrec.trainer.encoders import SequenceEncoder
    from kinrec.trainer.log import EventLog

EVALUATION = "evaluation"

# Where the search leaves out no more of what the evaluated model may know, a fit of its own, as long as
# the search, would hardly differ.
SHARE_TO_SPARE = 0.025


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a training reads.

    Attributes:
        events: Files or folders of event logs.
        items: Files or folders of items; empty for none.
        event_columns: The names of the columns of the events.
        item_columns: The names of the columns of the items.
    """

    events: Sequence[Path]
    items: Sequence[Path] = ()
    event_columns: EventColumns = field(default_factory=EventColumns)
    item_columns: ItemColumns = field(default_factory=ItemColumns)


class Reporter(Protocol):
    """Shows a person how a training goes."""

    def stage(self, text: str) -> None:
        """A stage begins."""

    def log_ready(self, log: EventLog) -> None:
        """The log is cleaned."""

    def fit(self, title: str, steps: int, done: int) -> Monitor:
        """A fit of at most ``steps`` steps begins, ``done`` of which an earlier run did."""


def load_log(inputs: Inputs, config: TrainConfig) -> EventLog:
    """Read, clean and number the events.

    Raises:
        DataError: They cannot be read, or too few are left.
        ConfigError: What is missing is to be filled in for an attribute that there is not, or with
            what it cannot hold.
    """
    cleaning = config.cleaning
    if not inputs.items:
        check_fillings(None, cleaning)
        events = read_events(inputs.events, inputs.event_columns)
        return build_log(clean_events(events, cleaning), cleaning)
    items = read_items(inputs.items, inputs.item_columns)
    with reading(find_files(inputs.items)[-1]):
        attributes = read_attributes(items, inputs.item_columns)
    check_fillings(attributes, cleaning)
    events = read_events(inputs.events, inputs.event_columns)
    kept = items_to_keep(attributes, cleaning)
    log = build_log(clean_events(events, cleaning, items=kept), cleaning)
    log = with_titles(log, items, cleaning.missing_title)
    return with_attributes(log, attributes, cleaning)


def train(
    inputs: Inputs, store: Path, config: TrainConfig, reporter: Reporter, *, resume: bool = False
) -> Path:
    """Train a bundle and add it to a store.

    1. Read and clean the log.
    2. Search: fit without the events that the split holds out, and find the epoch that ranks those
       for validation best, and the blend that does.
    3. Fit for as many epochs on what the split lets a model know that is to be evaluated, if that is
       much more than the search had, and on all.
    4. Write the bundle, with the model to be evaluated inside it.

    Args:
        inputs: What to read.
        store: The store's directory; made if missing.
        config: How to train.
        reporter: Is told how it goes.
        resume: Whether to go on from what an earlier run of the same log and configuration left.

    Returns:
        The directory of the new bundle.

    Raises:
        TrainerError: The log, the configuration or the store cannot be used.
    """
    with _store_at(store):
        return _train(inputs, store, config, reporter, resume=resume)


@contextmanager
def _store_at(store: Path) -> Iterator[None]:
    """Make the store if it is missing; a training that leaves nothing there leaves no store either."""
    is_new = not store.exists()
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(store, f"cannot be written: {reason_of(error)}") from error
    check_writable(store, store)
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # of one that holds something
                store.rmdir()


def _train(
    inputs: Inputs, store: Path, config: TrainConfig, reporter: Reporter, *, resume: bool
) -> Path:
    # A package that cannot be imported is found before the work.
    ENCODERS.load(config.encoder)
    FACTORIZERS.load(config.factorizer)
    choose_device(config.device)
    reporter.stage("reading and cleaning")
    log = load_log(inputs, config)
    reporter.log_ready(log)
    doubts = find_doubts(log, config.cleaning)
    if not log.event_types:
        doubts += find_types(inputs.events, inputs.event_columns)
    if not inputs.items:
        doubts += find_unused(inputs.item_columns)
    for doubt in doubts:
        reporter.stage(f"  note: {doubt}")
    checkpoints = Checkpoints(store, log, config)
    if resume and not checkpoints.load():
        why = (
            "what was left is of other events or settings" if checkpoints.others else "nothing left"
        )
        reporter.stage(f"nothing to resume, {why}: starting anew")
    split = Split.choose(log.histories, config)
    training_part, targets = hold_out(log.histories, split)
    evaluated_part = split.training_part(log.histories)
    types = len(log.event_types) + 1
    search_task = Task(
        training_part, len(log.items), types, targets if len(targets.users) else None
    )
    search = Fit(search_task, config)
    left_out = 1.0 - len(training_part.items) / len(evaluated_part.items)
    has_own_fit = left_out > SHARE_TO_SPARE
    fits = _Fits(checkpoints, reporter, 3 if has_own_fit else 2)
    searched = _Fitted(training_part, fits.run(search, "search"))

    def refit(histories: Histories, phase: str) -> _Fitted:
        # The learning rate follows the schedule of the search and stops where the search was best.
        task = Task(histories, len(log.items), types, None, search.epochs, search.best_epoch)
        return _Fitted(histories, fits.run(Fit(task, search.config), phase))

    evaluated = searched
    if has_own_fit:
        evaluated = refit(evaluated_part, "evaluation")
    elif left_out > 0.0:
        evaluated = replace(searched, histories=evaluated_part)
    final = refit(log.histories, "final")
    path = _write(
        store,
        log,
        searched,
        evaluated,
        final,
        held_out=(split, targets),
        validation=_describe(search),
        config=config,
        reporter=reporter,
    )
    checkpoints.clear()
    return path


class _Fits:
    """Runs the fits of a training, each of which goes on where an earlier run stopped.

    Args:
        checkpoints: Where their states are kept.
        reporter: Is shown them.
        count: How many there will be.
    """

    def __init__(self, checkpoints: Checkpoints, reporter: Reporter, count: int) -> None:
        self._checkpoints = checkpoints
        self._reporter = reporter
        self._count = count
        self._begun = 0

    def run(self, fit: Fit, phase: str) -> SequenceEncoder:
        """Run one."""
        state = self._checkpoints.get(phase)
        self._begun += 1
        if state is not None:
            fit.restore(state)
            self._reporter.stage(f"{phase}: going on after epoch {len(fit.history)}")
        monitor = self._reporter.fit(
            f"{phase}, fit {self._begun} of {self._count}",
            fit.planned_epochs * fit.steps_per_epoch,
            len(fit.history) * fit.steps_per_epoch,
        )
        with monitor:
            return fit.run(monitor, lambda state: self._checkpoints.save(phase, state))


@dataclass(frozen=True, slots=True)
class _Fitted:
    """An encoder, and what it was fitted on."""

    histories: Histories
    encoder: SequenceEncoder


def _write(
    store: Path,
    log: EventLog,
    searched: _Fitted,
    evaluated: _Fitted,
    final: _Fitted,
    *,
    held_out: tuple[Split, Targets],
    validation: manifest_pb2.Validation,
    config: TrainConfig,
    reporter: Reporter,
) -> Path:
    """Fit the blend with the bundle of the search, and write the other two, one in the other."""
    now = dt.datetime.now(dt.UTC)
    split, targets = held_out
    version = _new_name(store, now.strftime("%Y%m%dT%H%M%SZ"))
    finished = partial(finish, name=store.resolve().name, version=version, time=now, config=config)
    with new_version(store, version) as directory:
        inner = directory / EVALUATION
        inner.mkdir()
        reporter.stage("factorizing and indexing what the search found")
        manifest = write_model(inner, log, searched.histories, searched.encoder, config)
        finished(inner, manifest)
        model = Model.open(inner)
        fitted = _fit_ranking(model, targets, config, reporter)
        reporter.stage("factorizing, indexing and writing")
        if evaluated is not searched:
            shutil.rmtree(inner)
            inner.mkdir()
            manifest = write_model(inner, log, evaluated.histories, evaluated.encoder, config)
        outer = write_model(directory, log, final.histories, final.encoder, config)
        for place, written in ((inner, manifest), (directory, outer)):
            written.validation.CopyFrom(validation)
            written.split.CopyFrom(split.message())
            if fitted is not None:
                _add_blend(written, fitted)
            finished(place, written)
            # What cannot be loaded must not appear in the store.
            Engine.load(place)
    return store / version


def _fit_ranking(
    model: Model, targets: Targets, config: TrainConfig, reporter: Reporter
) -> FittedBlend | None:
    """Fit the blend of the search's model, and what corrects it where that ranks better."""
    encoder = model.encoder
    reporter.stage("weighing the sources on held-out events")
    fitted = fit_blend(model, encoder, targets, seed=config.seed)
    if fitted is None:
        return None
    blended = replace(model, manifest=manifest_pb2.Manifest())
    blended.manifest.CopyFrom(model.manifest)
    blended.manifest.blend.CopyFrom(fitted.blend)
    reporter.stage("fitting the network that corrects their mix")
    ranker = fit_ranker(
        blended, encoder, targets, include_seen=fitted.include_seen, seed=config.seed
    )
    if ranker is not None:
        fitted.blend.ranker.CopyFrom(ranker.spec)
        fitted.blend.popularity_discount = ranker.discount
    return replace(fitted, ranker=ranker)


def _add_blend(manifest: manifest_pb2.Manifest, fitted: FittedBlend) -> None:
    manifest.blend.CopyFrom(fitted.blend)
    manifest.event_spec.include_seen_default = fitted.include_seen
    manifest.validation.blend_ndcg_at_10 = fitted.ndcg_at_10
    manifest.validation.source_ndcg_at_10.update(fitted.of_source)
    manifest.validation.without_source_ndcg_at_10.update(fitted.without_source)
    manifest.validation.repeat_share = fitted.repeat_share
    manifest.validation.people = fitted.people
    if fitted.ranker is not None:
        manifest.validation.ranked_ndcg_at_10 = fitted.ranker.ndcg_at_10
        manifest.validation.unranked_ndcg_at_10 = fitted.ranker.blend_ndcg_at_10


def _describe(search: Fit) -> manifest_pb2.Validation:
    best = search.history[search.best_epoch - 1]
    return manifest_pb2.Validation(
        best_epoch=best.number,
        ndcg_at_10=best.ndcg_at_10,
        epochs=[_record(epoch) for epoch in search.history],
    )


def _record(epoch: Epoch) -> manifest_pb2.EpochRecord:
    return manifest_pb2.EpochRecord(
        epoch=epoch.number,
        loss=epoch.loss,
        ndcg_at_10=epoch.ndcg_at_10,
        learning_rate=epoch.learning_rate,
    )


def _new_name(store: Path, stem: str) -> str:
    name, number = stem, 2
    while (store / name).exists():
        name, number = f"{stem}-{number}", number + 1
    return name
