"""Reads a server's metrics, and says what it did between two readings."""

from __future__ import annotations

import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPException
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TIMEOUT = 5.0  # seconds
_MOST_BYTES = 64 << 20

Labels = frozenset[tuple[str, str]]


class ScrapeError(Exception):
    """No metrics can be read. The text is one line that names the address."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The metrics at one time.

    Attributes:
        at: When, in seconds by the monotonic clock.
        samples: The values, by the name of the sample and the labels.
    """

    at: float
    samples: Mapping[str, Mapping[Labels, float]]

    def of(self, name: str, **labels: str) -> Iterable[tuple[dict[str, str], float]]:
        """Give the samples of a name that have these labels among theirs, with all labels."""
        for found, value in self.samples.get(name, {}).items():
            its = dict(found)
            if all(its.get(label) == wanted for label, wanted in labels.items()):
                yield its, value

    def total(self, name: str, **labels: str) -> float:
        """Add up the samples of a name that have these labels among theirs."""
        return sum(value for _, value in self.of(name, **labels))


def read_metrics(target: str) -> Reading:
    """Ask a server for its metrics.

    Args:
        target: ``host:port``, as of ``kinrec serve --metrics-address``.

    Raises:
        ScrapeError: There is no answer in 5 seconds, or none of metrics.
    """
    url = f"http://{target}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            text = response.read(_MOST_BYTES).decode()
        return parse(text, time.monotonic())
    except BadStatusLine as error:
        raise ScrapeError(
            f"no metrics at {target}: what listens there does not speak HTTP; the address is that of "
            f"kinrec serve --metrics-address"
        ) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ScrapeError(f"no metrics at {target}: {reason}") from error
    except ValueError as error:
        raise ScrapeError(f"no metrics at {target}: the answer is none of metrics") from error


def parse(text: str, at: float) -> Reading:
    """Read the text format of Prometheus.

    Raises:
        ValueError: It is not of that format.
    """
    samples: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name][frozenset(sample.labels.items())] = sample.value
    return Reading(at, samples)


class Span:
    """What a server did between two readings.

    Args:
        before: The first.
        after: The second.
    """

    def __init__(self, before: Reading, after: Reading) -> None:
        self._before = before
        self._after = after
        self.seconds = max(after.at - before.at, 1e-9)

    def count(self, name: str, **labels: str) -> float:
        """Give by how much a counter has grown, over all that have these labels.

        A worker's counter that began anew does not make it less than nothing.
        """
        return max(0.0, self._after.total(name, **labels) - self._before.total(name, **labels))

    def rate(self, name: str, **labels: str) -> float:
        """Give by how much a counter has grown each second."""
        return self.count(name, **labels) / self.seconds

    def quantile(self, name: str, share: float, **labels: str) -> float | None:
        """Estimate a quantile of what a histogram has seen, linearly within a bucket.

        Args:
            name: Of the histogram.
            share: The quantile, 0 to 1.
            **labels: Labels that count.

        Returns:
            The estimate; the last bucket's lower bound if it is beyond; None if nothing was seen.
        """
        counts: defaultdict[float, float] = defaultdict(float)
        for labelled, value in self._after.of(f"{name}_bucket", **labels):
            counts[float(labelled["le"])] += value
        for labelled, value in self._before.of(f"{name}_bucket", **labels):
            counts[float(labelled["le"])] -= value
        bounds = sorted(counts)
        if not bounds or counts[bounds[-1]] <= 0:
            return None
        wanted = share * counts[bounds[-1]]
        low, below = 0.0, 0.0
        for bound in bounds:
            if counts[bound] >= wanted:
                if bound == float("inf"):
                    break
                inside = counts[bound] - below
                return low + (bound - low) * ((wanted - below) / inside if inside else 1.0)
            low, below = bound, counts[bound]
        return low
