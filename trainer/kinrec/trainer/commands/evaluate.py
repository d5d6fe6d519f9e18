"""The command ``kinrec evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kinrec.engine import BundleError
from kinrec.trainer.errors import TrainerError
from kinrec.trainer.evaluation import REPORT, Evaluation, evaluate

if TYPE_CHECKING:
    import argparse

    from rich.progress import TaskID

SHOWN = ("HR@5", "HR@10", "HR@20", "Precision@10", "NDCG@10", "MRR@10", "Coverage@10")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("store", type=Path, help="a store or a bundle")
    parser.add_argument("--version", help="the version in the store; the newest if left out")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table and say where the JSON is."""
    console = Console(soft_wrap=True, markup=False, emoji=False)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            evaluation = evaluate(args.store, args.version, _Bars(progress))
    except (TrainerError, BundleError) as error:
        sys.stderr.write(f"kinrec evaluate: {error}\n")
        return 2
    _show(console, evaluation)
    console.print(f"all measures: {REPORT} in version {evaluation.version}", highlight=False)
    return 0


class _Bars:
    """One bar per method."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, method: str, done: int, of: int) -> None:
        if method not in self._tasks:
            self._tasks[method] = self._progress.add_task(method, total=of)
        self._progress.update(self._tasks[method], completed=done)


def _show(console: Console, evaluation: Evaluation) -> None:
    left_out = (
        f", {evaluation.repeats:,} left out as their last item was seen before"
        if evaluation.repeats
        else ""
    )
    console.print(
        f"leave-one-out over {evaluation.items:,} items, {evaluation.people:,} people{left_out}; "
        "with one held-out item Recall is HR",
        highlight=False,
    )
    table = Table("method", *SHOWN, box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for result in evaluation.results:
        table.add_row(result.method, *(f"{result.measures[name]:.4f}" for name in SHOWN))
    console.print(table)
