"""A client of two real servers, one of which is killed or drains while calls are under way."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kinrec.client import AsyncClient, Client, Event

PEOPLE = 64  # as many calls are under way, more than any server has threads
EVENTS = [Event("i7", "view"), Event("i9", "buy")]


@pytest.fixture
def pair(bundle_store, start_replica):
    """Two servers."""
    replicas = [start_replica(bundle_store, "--port", "0", "--workers", "1") for _ in range(2)]
    return replicas, [replica.address for replica in replicas]


@pytest.mark.parametrize("goes", ["is killed", "drains"])
def test_no_call_fails_when_a_server_goes(pair, goes):
    """Threads that share a client get all their answers while one of two servers is killed or drains."""
    (one, _other), addresses = pair
    end = threading.Event()

    def ask(client):
        calls = 0
        while not end.is_set():
            assert client.recommend(EVENTS, limit=5).recommendations
            calls += 1
        return calls

    with Client(addresses, timeout=10) as client, ThreadPoolExecutor(PEOPLE) as threads:
        asking = [threads.submit(ask, client) for _ in range(PEOPLE)]
        try:
            time.sleep(1)
            one.kill() if goes == "is killed" else one.process.terminate()
            time.sleep(2)
        finally:
            end.set()
        assert min(person.result() for person in asking) > 0


def test_no_awaited_call_fails_when_a_server_is_killed(pair):
    """Tasks that share a client get all their answers while one of two servers is killed."""
    (one, _other), addresses = pair

    async def main():
        async with AsyncClient(addresses, timeout=10) as client:
            end = asyncio.get_running_loop().time() + 3

            async def ask():
                while asyncio.get_running_loop().time() < end:
                    assert (await client.recommend(EVENTS, limit=5)).recommendations

            asking = asyncio.gather(*(ask() for _ in range(PEOPLE)))
            await asyncio.sleep(1)
            one.kill()
            await asking

    asyncio.run(main())


def test_a_session_moves_between_servers_unnoticed(pair):
    """A session whose calls go to both servers in turn gives the vectors that one server gives, bit for bit."""
    (_one, _other), addresses = pair
    events = [Event(f"i{number}", "view") for number in range(1, 41)]

    def vectors(target):
        with Client(target) as client:
            session = client.session()
            return [session.encode_sequence([event]) for event in events]

    both, alone = vectors(addresses), vectors(addresses[0])
    assert [answer.vector for answer in both] == [answer.vector for answer in alone]
    assert [answer.state for answer in both] == [answer.state for answer in alone]
    assert all(answer.event_report.received == 1 for answer in both)  # no history was sent again
