"""`kinrec top`: how a server does, live."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kinrec.server.observability.scrape import ScrapeError, Span, read_metrics

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from kinrec.server.observability.scrape import Reading

_LEAST_SECONDS = 0.5
_NARROW = 100  # columns where the output is no terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--target",
        required=True,
        metavar="HOST:PORT",
        help="the --metrics-address of a server",
    )
    parser.add_argument(
        "--interval",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="between two looks, at least 0.5 (%(default)s)",
    )
    parser.add_argument(
        "--once", action="store_true", help="print what happens in one interval, and end"
    )


def run(args: argparse.Namespace) -> int:
    """Show how a server does until Ctrl-C, or once.

    Returns:
        0; 2 if there are no metrics at the first look, with one line on standard error.
    """
    interval = max(args.interval, _LEAST_SECONDS)
    try:
        before = read_metrics(args.target)
        if args.once:
            time.sleep(interval)
            console = Console(highlight=False, markup=False, emoji=False)
            if not console.is_terminal:
                console.width = _NARROW
            console.print(frame(args.target, before, read_metrics(args.target)))
            return 0
    except ScrapeError as error:
        sys.stderr.write(f"kinrec top: {error}\n")
        return 2
    with Live(Text(f"{args.target} ..."), auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(interval)
            try:
                after = read_metrics(args.target)
            except ScrapeError as error:  # it may start again
                live.update(Text(str(error)), refresh=True)
                continue
            live.update(frame(args.target, before, after), refresh=True)
            before = after


def frame(target: str, before: Reading, after: Reading) -> RenderableType:
    """Show what a server did between two readings, and where it is at the second."""
    span = Span(before, after)
    return Group(Text(_summary(target, after)), _calls(span, after), Text(_work(span, after)))


def _summary(target: str, now: Reading) -> str:
    served = ", ".join(
        f"{labels['name']} {labels['version']}"
        for labels, workers in now.of("kinrec_model_info")
        if workers > 0
    )
    memory = now.total("process_resident_memory_bytes") / 2**20
    return (
        f"{target}: {served or 'nothing is served'}; workers {now.total('kinrec_workers'):.0f}, "
        f"memory {memory:,.0f} MiB, reloads {now.total('kinrec_reloads_total', outcome='ok'):.0f}, "
        f"refused {now.total('kinrec_reloads_total', outcome='refused'):.0f}"
    )


def _calls(span: Span, now: Reading) -> Table:
    table = Table(box=box.SIMPLE)
    table.add_column("method")
    for title in ("calls/s", "p50 ms", "p99 ms", "errors/s", "in flight"):
        table.add_column(title, justify="right")
    methods = {labels["method"] for labels, _ in now.of("kinrec_calls_total")}
    for method in sorted(methods):
        calls = span.rate("kinrec_calls_total", method=method)
        fine = span.rate("kinrec_calls_total", method=method, code="OK")
        in_flight = now.total("kinrec_calls_in_flight", method=method)
        if not (now.total("kinrec_calls_total", method=method) or in_flight):
            continue
        table.add_row(
            method,
            f"{calls:,.1f}",
            _milliseconds(span.quantile("kinrec_call_seconds", 0.5, method=method)),
            _milliseconds(span.quantile("kinrec_call_seconds", 0.99, method=method)),
            f"{max(0.0, calls - fine):,.1f}",
            f"{max(0.0, in_flight):.0f}",
        )
    return table


def _work(span: Span, now: Reading) -> str:
    runs = span.count("kinrec_encoder_batch_size_count")
    batch = span.count("kinrec_encoder_batch_size_sum") / runs if runs else 0.0
    used = span.rate("kinrec_events_total", fate="used")
    unknown = span.rate("kinrec_events_total", fate="unknown_item")
    return (
        f"waiting {max(0.0, now.total('kinrec_calls_waiting')):.0f}, "
        f"histories per encoder run {batch:.1f}, "
        f"events/s used {used:,.1f}, of unknown items {unknown:,.1f}, "
        f"cores {span.rate('process_cpu_seconds_total'):.2f}"
    )


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:,.2f}"
