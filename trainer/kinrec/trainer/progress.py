"""Shows how a training goes: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kinrec.engine.columns import KIND_NAMES

if TYPE_CHECKING:
    from rich.console import Console

    from kinrec.trainer.fit import Epoch
    from kinrec.trainer.log import EventLog


class ConsoleReporter:
    """Writes to a console; see training.Reporter."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def stage(self, text: str) -> None:
        """Say that a stage begins."""
        self._console.print(text, highlight=False)

    def log_ready(self, log: EventLog) -> None:
        """Say what cleaning removed and what is left."""
        for step in log.cleaning:
            filled = f"filled {step.filled:,}, " if step.filled else ""
            self._console.print(
                f"  {step.name}: {filled}removed {step.removed:,}, left {step.left:,}",
                highlight=False,
            )
        weights = zip(log.event_types, log.type_weights[1:].tolist(), strict=True)
        types = ", ".join(f"{name} x {weight:g}" for name, weight in weights)
        self._console.print(
            f"  {len(log.users):,} users, {len(log.items):,} items, "
            f"{len(log.histories.items):,} events, "
            f"types: {types or 'none, so all events count alike'}",
            highlight=False,
        )
        if log.attributes:
            kinds = (f"{name} ({KIND_NAMES[each.kind]})" for name, each in log.attributes.items())
            self._console.print(f"  attributes: {', '.join(kinds)}", highlight=False)

    def fit(self, title: str, steps: int, done: int) -> FitMonitor:
        """Begin to show a fit."""
        return FitMonitor(self._console, title, steps, done)


class FitMonitor:
    """Shows one fit; see fit.Monitor."""

    def __init__(self, console: Console, title: str, steps: int, done: int) -> None:
        self._console = console
        self._title = title
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=steps, completed=done, rate="")
        self._steps = self._first = done
        self._total = steps
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def step(self) -> None:
        """Count one step."""
        self._steps += 1
        self._progress.update(self._task, advance=1, rate=f"{self._rate():.0f} steps/s")

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Say what one epoch brought."""
        quality = "" if math.isnan(epoch.ndcg_at_10) else f", NDCG@10 {epoch.ndcg_at_10:.4f}"
        left = (self._total - self._steps) / max(self._rate(), 1e-9)
        self._progress.console.print(
            f"{self._title}: epoch {epoch.number}/{epochs}, loss {epoch.loss:.3f}{quality}, "
            f"{self._rate():.0f} steps/s, at most {left:.0f} s left of this fit",
            highlight=False,
        )

    def _rate(self) -> float:
        return (self._steps - self._first) / max(time.monotonic() - self._start, 1e-9)
