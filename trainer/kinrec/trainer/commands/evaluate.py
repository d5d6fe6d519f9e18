"""The command ``kinrec evaluate``."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kinrec.engine import BundleError
from kinrec.engine.store import find_bundle, read_manifest
from kinrec.trainer.commands._process import set_up
from kinrec.trainer.errors import OutputError, TrainerError
from kinrec.trainer.output import check_writable

if TYPE_CHECKING:
    import argparse

    from rich.progress import TaskID

    from kinrec.trainer.evaluation import Evaluation

WIDTH = 80
ACCURACY = ("HR@10", "Precision@10", "Recall@10", "NDCG@10", "MRR@10", "MAP@10")
BEYOND = ("Coverage@10", "Gini@10", "Novelty@10", "ILD@10")
INTERVALS = ("HR@10", "NDCG@10")
DIFFERENCE = "NDCG@10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("store", type=Path, help="a store or a bundle")
    parser.add_argument("--version", help="the version in the store; the newest if left out")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write a page with charts, in HTML"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the tables and say where the rest is."""
    set_up()
    console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
    try:
        bundle = find_bundle(args.store, args.version)
        if args.report:
            if args.report.is_dir():
                raise OutputError(args.report, "cannot be written: it is a directory")
            check_writable(args.report.parent, args.report)
        # torch and matplotlib take seconds to import.
        from kinrec.trainer.evaluation import RESULT, evaluate  # noqa: PLC0415
        from kinrec.trainer.report import write_report  # noqa: PLC0415

        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            evaluation = evaluate(bundle, None, _Bars(progress))
        _show(console, evaluation)
        console.print(f"all measures: {RESULT} in version {evaluation.version}")
        if args.report:
            write_report(args.report, evaluation, read_manifest(bundle))
            console.print(f"report: {args.report}")
    except (TrainerError, BundleError) as error:
        sys.stderr.write(f"kinrec evaluate: {error}\n")
        return 2
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
    from kinrec.trainer.report import describe_split, format_settings, verdict  # noqa: PLC0415

    console.print(textwrap.fill(verdict(evaluation), WIDTH))
    console.print()
    console.print(textwrap.fill(describe_split(evaluation), WIDTH))
    console.print()
    table = Table("method", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in ACCURACY:
        table.add_column(name, justify="right")
    for result in evaluation.results:
        table.add_row(result.method, *(f"{result.measures[name]:.4f}" for name in ACCURACY))
    console.print(table)
    console.print()
    table = Table("method", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in (*(f"{name} 95 %" for name in INTERVALS), *BEYOND):
        table.add_column(name.removesuffix("@10") if name in BEYOND else name, justify="right")
    for result in evaluation.results:
        intervals = ["{:.4f}-{:.4f}".format(*result.intervals[name]) for name in INTERVALS]
        table.add_row(
            result.method, *intervals, *(f"{result.measures[name]:.3f}" for name in BEYOND)
        )
    console.print(table)
    console.print()
    console.print(textwrap.fill(_differences(evaluation), WIDTH))
    chosen = [
        f"{result.method}: {format_settings(result)}{f' ({result.note})' if result.note else ''}"
        for result in evaluation.results
        if result.settings
    ]
    console.print()
    console.print(textwrap.fill(f"settings chosen on validation: {'; '.join(chosen)}", WIDTH))


def _differences(evaluation: Evaluation) -> str:
    parts = []
    for result in evaluation.results[1:]:
        difference = result.differences[DIFFERENCE]
        lower, upper = difference.interval
        parts.append(f"{result.method} {difference.mean:+.4f} ({lower:+.4f} to {upper:+.4f})")
    return (
        f"{DIFFERENCE} of kinrec less that of each method, person by person, with the 95 % "
        f"interval: {', '.join(parts)}. An interval without zero is more than chance."
    )
