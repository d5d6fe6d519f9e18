"""The metrics, by their names. The processes of a server share them by the library's own means.

Whether values are kept in this process or in files that the supervisor reads is decided by the
environment when this module is first imported; see ``kinrec.server.observability.exporter``.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, values

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKER_VARIABLE = "KINREC_WORKER"

_worker = os.environ.get(WORKER_VARIABLE)
if _worker:
    # Files by the worker's number, not its process: who takes the place of a dead worker counts on
    # in its files, and they do not become more.
    values.ValueClass = values.MultiProcessValue(lambda: _worker)  # type: ignore[no-untyped-call]


class Distribution(Histogram):
    """A histogram to which many values can be added at once."""

    def tally(self) -> Tally:
        """Give what collects values for it."""
        return Tally(self, self._upper_bounds)

    def add(self, counts: list[int], total: float) -> None:
        """Add values.

        Args:
            counts: How many belong to each bucket.
            total: Their sum.
        """
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Tally:
    """Collects values for a histogram. For one thread.

    Args:
        distribution: The histogram.
        bounds: The greatest value of each of its buckets.
    """

    def __init__(self, distribution: Distribution, bounds: Sequence[float]) -> None:
        self._distribution = distribution
        self._bounds = bounds
        self._counts = [0] * len(bounds)
        self._total = 0.0

    def note(self, value: float) -> None:
        """Note a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def write(self) -> None:
        """Add what was noted to the histogram."""
        if any(self._counts):
            self._distribution.add(self._counts, self._total)
            self._counts = [0] * len(self._bounds)
            self._total = 0.0


_SECONDS = (
    0.0005,
    0.001,
    0.002,
    0.004,
    0.007,
    0.01,
    0.02,
    0.04,
    0.07,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    10.0,
)
_STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0)

CALLS = Counter("kinrec_calls", "Calls that have ended.", ["method", "code"])
ERRORS = Counter(
    "kinrec_errors", "Failures, of calls and of parts of batches and streams.", ["reason"]
)
CALL_SECONDS = Distribution(
    "kinrec_call_seconds",
    "From a call's arrival to its answer; of a stream, of each message.",
    ["method"],
    buckets=_SECONDS,
)
STAGE_SECONDS = Distribution(
    "kinrec_stage_seconds",
    "Of that, what each stage took.",
    ["method", "stage"],
    buckets=_STAGE_SECONDS,
)
IN_FLIGHT = Gauge(
    "kinrec_calls_in_flight",
    "Calls that are being answered, and open streams.",
    ["method"],
    multiprocess_mode="livesum",
)
WAITING = Gauge(
    "kinrec_calls_waiting", "Calls that wait for their turn.", multiprocess_mode="livesum"
)
PEOPLE = Counter("kinrec_people", "People asked about: one of a call, many of a batch.", ["method"])
EVENTS = Counter("kinrec_events", "Events of requests, by what became of them.", ["fate"])
ODD_EVENTS = Counter(
    "kinrec_odd_events", "Of the events used, those of an unknown type or out of order.", ["what"]
)
BATCH_SIZE = Distribution(
    "kinrec_encoder_batch_size",
    "Histories in a run of the encoder.",
    buckets=(1, 2, 4, 8, 16, 32),
)
NEIGHBOURS = Distribution(
    "kinrec_neighbours_found",
    "Neighbours found in a search for similar users.",
    buckets=(0, 1, 5, 10, 20, 50, 100, 200, 500, 1000),
)
MODEL_INFO = Gauge(
    "kinrec_model_info",
    "Workers that serve this version.",
    ["name", "version"],
    multiprocess_mode="livesum",
)
WORKERS = Gauge("kinrec_workers", "Workers that serve.", multiprocess_mode="livesum")
RELOADS = Counter(
    "kinrec_reloads", "Other versions that were to be served, by outcome.", ["outcome"]
)
