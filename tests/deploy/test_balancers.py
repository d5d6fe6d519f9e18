"""Envoy and HAProxy, set up by the files of deploy/, before real servers that come, drain and die.

`make lb-test` runs these; they need both programs.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kinrec.client import Client, KinrecError
from kinrec.engine.store import list_versions

from .balancers import Envoy, HAProxy, free_port
from .traffic import Reference, Traffic

pytestmark = pytest.mark.balancer
CALLS = 20_000
DRAIN_WAIT = 4.0  # seconds; HAProxy takes up to 2.5 to see that a server drains
WAIT = 30.0  # seconds, for what should take one or two


@pytest.fixture(scope="module")
def store(bundle_store, sample_dir, train):
    """A store with two versions that answer differently."""
    if len(list_versions(bundle_store)) < 2:
        train(sample_dir, bundle_store, "--seed", "8")
    return bundle_store


class Fleet:
    """Replicas by their ports, and the balancer before them."""

    def __init__(self, start_replica, store) -> None:
        self.old, self.new = list_versions(store)[-2:]
        self._start, self._store = start_replica, store
        self._replicas = {}

    @property
    def ports(self):
        """Where replicas listen."""
        return list(self._replicas)

    def start(self, version, port=None):
        """Start a replica and wait until it is ready."""
        flags = ("--version", version, "--workers", "1", "--drain-wait", str(DRAIN_WAIT))
        port = port or free_port()
        self._replicas[port] = self._start(self._store, *flags, "--port", str(port))
        assert self._replicas[port].address == f"127.0.0.1:{port}"
        return port

    def kill(self, port):
        """Kill a replica, which has no time to say so."""
        self._replicas.pop(port).kill()

    def drain(self, port):
        """End a replica in peace; give the seconds that it took."""
        process, start = self._replicas.pop(port).process, time.monotonic()
        process.terminate()
        assert process.wait(WAIT) == 0
        return time.monotonic() - start

    def wait_until_busy(self, port):
        """Wait until a replica answers calls: it takes processor time as health checks alone do not."""
        group, end = self._replicas[port].process.pid, time.monotonic() + WAIT
        while time.monotonic() < end:
            before = _cpu_seconds(group)
            time.sleep(1)
            if _cpu_seconds(group) - before > 0.05:
                return
        pytest.fail(f"the replica on port {port} gets no calls")


def _cpu_seconds(group: int) -> float:
    """The processor time of all processes of a group."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def fleet(start_replica, store):
    """Three replicas of the old version."""
    fleet = Fleet(start_replica, store)
    for _ in range(3):
        fleet.start(fleet.old)
    return fleet


@pytest.fixture(params=[Envoy, HAProxy])
def balancer(request, fleet, tmp_path):
    """A balancer before the fleet that answers calls."""
    balancer = request.param(tmp_path, fleet.ports)
    try:
        with Client(balancer.target) as client:
            _wait_for(client)
        yield balancer
    finally:
        balancer.end()


def _wait_for(client):
    end = time.monotonic() + WAIT
    while True:
        try:
            return client.get_model()
        except KinrecError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@pytest.fixture
def references(fleet):
    """By version, what one replica answers."""
    new = fleet.start(fleet.new)
    references = {
        version: Reference.of(f"127.0.0.1:{port}")
        for version, port in ((fleet.old, fleet.ports[0]), (fleet.new, new))
    }
    fleet.kill(new)
    assert references[fleet.old] != references[fleet.new]
    return references


def test_a_rolling_deployment_fails_no_call(references, fleet, balancer):
    """While replicas die, drain, come and change their version, callers get one server's answers, bit for bit."""
    start = time.monotonic()
    traffic = Traffic(balancer.target, references)

    def say(step):
        sys.stdout.write(
            f"{balancer.program:<8}{time.monotonic() - start:5.0f} s  {step:<40}"
            f"{traffic.calls:7,} calls, {len(traffic.failures)} failed\n"
        )

    traffic.start()
    try:
        for port in fleet.ports:
            fleet.wait_until_busy(port)
        say("three replicas are busy")
        port = fleet.ports[1]
        fleet.kill(port)
        time.sleep(2)
        fleet.start(fleet.old, port)
        fleet.wait_until_busy(port)
        say("one was killed, and started again")
        for port in fleet.ports:
            seconds = fleet.drain(port)
            fleet.start(fleet.new, port)
            fleet.wait_until_busy(port)
            say(f"one drained in {seconds:.1f} s for a new version")
        fourth = fleet.start(fleet.new)
        balancer.set_replicas(fleet.ports)
        fleet.wait_until_busy(fourth)
        say("a fourth was added")
        leaving = fleet.ports[0]
        balancer.set_replicas([port for port in fleet.ports if port != leaving])
        say(f"one was taken away and drained in {fleet.drain(leaving):.1f} s")
        fleet.kill(fleet.ports[0])
        say("one was killed for good")
        time.sleep(3)
        while traffic.calls < CALLS and time.monotonic() - start < 150:
            time.sleep(0.1)
    finally:
        traffic.end()
    say("the end")
    sys.stdout.write(f"{balancer.program:<8}{dict(traffic.counts)}\n")
    assert traffic.calls >= CALLS
    assert traffic.wrong == []
    assert min(traffic.counts[version] for version in (fleet.old, fleet.new)) > 0
    assert len(traffic.failures) <= balancer.may_fail * traffic.calls, traffic.failures
