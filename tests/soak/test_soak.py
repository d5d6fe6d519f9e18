"""Each fault of `make soak`, once: the server goes on answering, and so is worth soaking for longer."""

import random
import time

import pytest

from kinrec.client import Client, Event
from soaking.__main__ import two_versions
from soaking.faults import FAULTS
from soaking.process import serve


@pytest.fixture(scope="module")
def served(bundle_store, tmp_path_factory):
    """A server of two workers."""
    folder = tmp_path_factory.mktemp("soak")
    with serve(two_versions(bundle_store, folder / "store"), folder / "log", 2) as (
        served,
        process,
    ):
        yield served
        process.terminate()
        assert process.wait(30) == 0
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_server_goes_on_after(served, fault):
    """It has as many workers, answers calls, and holds no connection of those that misbehaved."""
    before = served.resources()
    fault.happen(served, random.Random(1))
    with Client(served.address, timeout=20.0) as client:
        answer = client.recommend(events=[Event("i1")], limit=3)
    assert len(answer.recommendations) == 3
    assert len(served.workers()) == 2
    deadline = (
        time.monotonic() + 15
    )  # by when the server has noticed, whatever else the machine does
    while served.resources().files >= before.files + 100:
        assert time.monotonic() < deadline, served.resources()
        time.sleep(0.1)
