"""What is read out of two readings of the metrics."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kinrec.server.observability.scrape import ScrapeError, Span, parse, read_metrics

BEFORE = """
# TYPE kinrec_calls_total counter
kinrec_calls_total{method="Rank",code="OK"} 10
kinrec_calls_total{method="Rank",code="NOT_FOUND"} 1
# TYPE s histogram
s_bucket{le="0.1"} 5
s_bucket{le="1.0"} 5
s_bucket{le="+Inf"} 5
"""
AFTER = """
# TYPE kinrec_calls_total counter
kinrec_calls_total{method="Rank",code="OK"} 30
kinrec_calls_total{method="Rank",code="NOT_FOUND"} 2
# TYPE s histogram
s_bucket{le="0.1"} 7
s_bucket{le="1.0"} 14
s_bucket{le="+Inf"} 15
"""


def test_rates():
    """A rate is over all samples that have the labels; a counter that began anew gives none."""
    before, after = parse(BEFORE, 100.0), parse(AFTER, 102.0)
    assert Span(before, after).rate("kinrec_calls_total", method="Rank") == 10.5
    assert Span(before, after).rate("kinrec_calls_total", code="OK") == 10.0
    assert Span(after, before).count("kinrec_calls_total") == 0.0
    assert Span(before, after).rate("nothing") == 0.0


@pytest.mark.parametrize(("share", "value"), [(0.1, 0.05), (0.2, 0.1), (0.9, 1.0), (0.99, 1.0)])
def test_quantiles(share, value):
    """Within a bucket a quantile is found linearly; beyond the last one it is its lower bound."""
    span = Span(parse(BEFORE, 0.0), parse(AFTER, 1.0))
    assert span.quantile("s", share) == pytest.approx(value)


def test_a_quantile_of_nothing():
    """There is none."""
    same = parse(AFTER, 0.0)
    assert Span(same, same).quantile("s", 0.5) is None
    assert Span(same, same).quantile("nothing", 0.5) is None


def test_a_target_that_is_none():
    """What cannot be asked is named."""
    with pytest.raises(ScrapeError, match=r"no metrics at 127\.0\.0\.1:x"):
        read_metrics("127.0.0.1:x")


def test_a_port_that_does_not_speak_http_is_named():
    """As that of the calls, which is easily taken for that of the metrics."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(ScrapeError, match=r"does not speak HTTP; .* --metrics-address$"):
            read_metrics(f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()
