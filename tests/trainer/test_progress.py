"""What a person sees of a training."""

import dataclasses
import io
import math

import pytest
from rich.console import Console

from kinrec.trainer.cleaning import CleaningStep
from kinrec.trainer.fit import Epoch
from kinrec.trainer.progress import ConsoleReporter


@pytest.fixture
def stream():
    """Where is written to."""
    return io.StringIO()


def reporter_of(stream, *, is_terminal):
    """A reporter that writes to a stream."""
    console = Console(file=stream, force_terminal=is_terminal, width=100, markup=False, emoji=False)
    return ConsoleReporter(console)


def test_plain_lines_where_there_is_no_terminal(stream):
    """One line per epoch with loss, quality, rate and time left; no control characters."""
    monitor = reporter_of(stream, is_terminal=False).fit("search", steps=20, done=0)
    with monitor:
        for number in (1, 2):
            for _ in range(10):
                monitor.step()
            monitor.epoch(Epoch(number, 1.5, 0.25, 1e-3), 2)
    first, second = stream.getvalue().splitlines()
    assert first.startswith("search: epoch 1/2, loss 1.500, NDCG@10 0.2500, ")
    assert "steps/s, at most " in first
    assert second.endswith("at most 0 s left of this fit")
    assert "\x1b" not in stream.getvalue()


def test_no_quality_is_shown_where_none_was_measured(stream):
    """The final fit holds nothing out, and says nothing of NDCG."""
    monitor = reporter_of(stream, is_terminal=False).fit("final", steps=1, done=0)
    with monitor:
        monitor.step()
        monitor.epoch(Epoch(1, 1.5, math.nan, 1e-3), 1)
    assert "NDCG" not in stream.getvalue()
    assert "nan" not in stream.getvalue()


def test_a_terminal_gets_a_bar_that_goes_on_where_an_earlier_run_ended(stream):
    """The bar counts steps, those of the earlier run included."""
    monitor = reporter_of(stream, is_terminal=True).fit("search", steps=20, done=19)
    with monitor:
        monitor.step()
    shown = stream.getvalue()
    assert "20/20" in shown
    assert "steps/s" in shown


def test_the_rate_is_that_of_this_run(stream):
    """Steps that an earlier run did are not counted into the rate, nor so into the time left."""
    monitor = reporter_of(stream, is_terminal=False).fit("search", steps=10**12 + 2, done=10**12)
    with monitor:
        monitor.step()
        monitor.epoch(Epoch(2, 1.5, 0.25, 1e-3), 2)
    rate = stream.getvalue().partition(" steps/s")[0].split()[-1]
    assert 0 < int(rate) < 10**9


def test_the_log_is_summed_up(stream, ring_log):
    """What each step removed and filled in, and the weights; names with brackets as they are."""
    log = dataclasses.replace(
        ring_log,
        cleaning=(
            CleaningStep("missing_ids", 1_200, 600),
            CleaningStep("missing_values", 0, 600, filled=1_500),
        ),
        event_types=("[/view]", "[red]", ":star:"),
        given_weights=(("[red]", 2.5),),
    )
    reporter = reporter_of(stream, is_terminal=False)
    reporter.stage("reading")
    reporter.log_ready(log)
    assert stream.getvalue().splitlines() == [
        "reading",
        "  missing_ids: removed 1,200, left 600",
        "  missing_values: filled 1,500, removed 0, left 600",
        "  60 users, 16 items, 600 events, types: [/view] x 1, [red] x 2.5, :star: x 1",
    ]
