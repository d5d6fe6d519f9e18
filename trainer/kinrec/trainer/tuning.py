"""Looks for better settings of the encoder on one log, with Optuna.

Trials go on where an earlier run stopped. A trial that ranks worse than most did after as many epochs
is ended early. Only events for validation decide; what is for the test is looked at by no trial.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import optuna
import tomli_w

from kinrec.trainer.checkpoint import fingerprint
from kinrec.trainer.choices import with_choices
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.errors import DataError, OutputError
from kinrec.trainer.fit import Epoch, Fit, NonFiniteLossError, Task
from kinrec.trainer.output import check_writable, write_whole
from kinrec.trainer.splits import Split, hold_out
from kinrec.trainer.training import load_log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kinrec.trainer.fit import Monitor
    from kinrec.trainer.training import Inputs, Reporter

# Trials from which on the others can be told to be worse, and epochs that every trial is given.
_FIRST_TRIALS = 4
_FIRST_EPOCHS = 4


@dataclass(frozen=True, slots=True)
class Tuning:
    """A search for settings.

    Attributes:
        study: The file of the trials; made if it is not there.
        best: The file that gets the best settings, in TOML.
        trials: How many trials there are in the end, those of earlier runs included.
        columns: What is written beside the best settings: what is said of the columns of the log.
    """

    study: Path
    best: Path
    trials: int
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Best:
    """The best trial.

    Attributes:
        number: From 0.
        ndcg_at_10: What the encoder alone reached on validation.
        config: Its settings.
    """

    number: int
    ndcg_at_10: float
    config: TrainConfig


def tune(inputs: Inputs, config: TrainConfig, tuning: Tuning, reporter: Reporter) -> Best:
    """Try settings of the encoder, the given ones first, and write down the best.

    Args:
        inputs: The log.
        config: Where the trials start; what they do not vary stays as it is here.
        tuning: Where the trials are kept, and how many they are.
        reporter: Is told how it goes.

    Raises:
        TrainerError: The log cannot be used, nothing can be held out, or a file cannot be written.
    """
    for path in (tuning.study, tuning.best):
        check_writable(path.parent, path)
    reporter.stage("reading and cleaning")
    log = load_log(inputs, config)
    reporter.log_ready(log)
    training_part, targets = hold_out(log.histories, Split.choose(log.histories, config))
    if not len(targets.users):
        raise DataError("nobody has three events, so no event can be held out to compare settings")
    task = Task(training_part, len(log.items), len(log.event_types) + 1, targets)
    study = _open(tuning.study, fingerprint(log, config), config, task)

    def objective(trial: optuna.Trial) -> float:
        fit = Fit(task, _vary(trial, config))
        shown = reporter.fit(f"trial {trial.number}", fit.planned_epochs * fit.steps_per_epoch, 0)
        watch = _Watch(trial, shown)
        try:
            with watch:
                fit.run(watch, lambda _: None)
        except NonFiniteLossError as error:
            raise optuna.TrialPruned from error
        return max(epoch.ndcg_at_10 for epoch in fit.history)

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        reporter.stage(_line(trial))
        _write(tuning.best, _best_of(study, config), tuning.columns)

    done = sum(trial.state.is_finished() for trial in study.trials)
    if done < tuning.trials:
        study.optimize(objective, tuning.trials - done, callbacks=[tell])
    best = _best_of(study, config)
    _write(tuning.best, best, tuning.columns)
    return best


def _open(path: Path, name: str, config: TrainConfig, task: Task) -> optuna.Study:
    """Open the study of this log and these settings; one file can hold several."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=name,
            load_if_exists=True,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=config.seed),
            pruner=optuna.pruners.MedianPruner(_FIRST_TRIALS, _FIRST_EPOCHS),
        )
    except Exception as error:  # of SQLAlchemy, alembic or sqlite, whatever the file is
        raise OutputError(path, "is not a file that trials can be kept in") from error
    if not study.trials:
        study.enqueue_trial(_given(config, task))
    return study


def _given(config: TrainConfig, task: Task) -> dict[str, Any]:
    """The settings that trials vary, as they are given or chosen by the log."""
    chosen = with_choices(config, task.histories, task.items, task.epochs)
    return {name: getattr(chosen, name) for name in VARIED}


VARIED = (
    "vector_size",
    "hidden_size",
    "dropout",
    "item_dropout",
    "learning_rate",
    "weight_decay",
    "batch_events",
)


def _vary(trial: optuna.Trial, config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(
        config,
        vector_size=trial.suggest_int("vector_size", 32, 256, step=32),
        hidden_size=trial.suggest_int("hidden_size", 32, 256, step=32),
        dropout=trial.suggest_float("dropout", 0.0, 0.8),
        item_dropout=trial.suggest_float("item_dropout", 0.0, 0.9),
        learning_rate=trial.suggest_float("learning_rate", 5e-4, 2e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-3, 1.0, log=True),
        batch_events=trial.suggest_int("batch_events", 64, 4_096, log=True),
    )


class _Watch:
    """Tells a trial how its fit goes, and ends it where it is not worth going on."""

    def __init__(self, trial: optuna.Trial, shown: Monitor) -> None:
        self._trial = trial
        self._shown = shown

    def __enter__(self) -> Self:
        self._shown.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._shown.__exit__(*error)

    def step(self) -> None:
        """Count one step."""
        self._shown.step()

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Report one epoch."""
        self._shown.epoch(epoch, epochs)
        self._trial.report(epoch.ndcg_at_10, epoch.number)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def _best_of(study: optuna.Study, config: TrainConfig) -> Best:
    finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not finished:
        raise DataError("no trial came to an end; the loss of each was not finite or it was pruned")
    best = max(finished, key=lambda trial: (trial.value or 0.0, -trial.number))
    return Best(best.number, float(best.value or 0.0), dataclasses.replace(config, **best.params))


def _write(path: Path, best: Best, columns: Mapping[str, Any]) -> None:
    """Write the settings that are not the defaults, in the names that --config takes."""
    settings, plain = best.config.as_dict(), TrainConfig().as_dict()
    flat = {key: value for key, value in settings.items() if key != "cleaning"}
    flat |= settings["cleaning"]
    usual = plain | plain["cleaning"]
    changed = {key: value for key, value in flat.items() if value != usual[key]}
    head = f"# trial {best.number}, NDCG@10 {best.ndcg_at_10:.4f} on validation\n"
    write_whole(path, head + tomli_w.dumps({**columns, **changed}))


def _line(trial: optuna.trial.FrozenTrial) -> str:
    settings = ", ".join(f"{name} {value:.4g}" for name, value in trial.params.items())
    reached = "ended early" if trial.value is None else f"NDCG@10 {trial.value:.4f}"
    return f"trial {trial.number}: {reached}; {settings}"
