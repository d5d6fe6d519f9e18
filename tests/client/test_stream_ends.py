"""How streams end: blocks, threads, tasks, and nothing that is left behind."""

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest

from kinrec.client import (
    AsyncClient,
    Client,
    Event,
    KinrecError,
    StreamClosedError,
    UnavailableError,
)

from .conftest import STREAM_END, Refusal, rich_details, stream_answers

UNAVAILABLE = Refusal(grpc.StatusCode.UNAVAILABLE, "busy", rich_details("UNAVAILABLE"))
LOST = "; the stream has ended; its state is that of its last answer"


def test_leaving_the_block_closes(server):
    """The state is there after it, also when the block ended by an error of the caller's own."""

    async def main(error):
        async with AsyncClient(server.address) as client:
            with suppress(ZeroDivisionError):
                async with client.recommend_stream([Event("a")]) as stream:
                    assert stream.first.model_version == "v1"
                    if error:
                        raise ZeroDivisionError
        return stream.state

    for error in (False, True):
        server.script = [*stream_answers("v1"), STREAM_END]
        assert asyncio.run(main(error)) == b"state"
        server.script = [*stream_answers("v1"), STREAM_END]
        with (
            Client(server.address) as client,
            suppress(ZeroDivisionError),
            client.recommend_stream([Event("a")]) as stream,
        ):
            assert stream.first.model_version == "v1"
            if error:
                raise ZeroDivisionError
        assert stream.state == b"state"


def test_a_block_that_ends_by_its_stream_says_why(server):
    """Closing what is broken adds no error of its own."""
    server.script = [*stream_answers("v1"), UNAVAILABLE]

    async def main():
        async with (
            AsyncClient(server.address) as client,
            client.recommend_stream([Event("a")]) as stream,
        ):
            await stream.send([])

    with pytest.raises(UnavailableError, match="busy"):
        asyncio.run(main())
    server.script = [*stream_answers("v1"), UNAVAILABLE]
    with (
        pytest.raises(UnavailableError, match="busy"),
        Client(server.address) as client,
        client.recommend_stream([Event("a")]) as stream,
    ):
        stream.send([])


def test_ctrl_c_waits_for_nothing(server):
    """It leaves the block at once and without a state."""
    server.script = stream_answers("v1")
    with Client(server.address) as client:
        stream = client.recommend_stream([Event("a")], timeout=20)
        server.gate.clear()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt), stream:
            raise KeyboardInterrupt
        assert time.monotonic() - start < 5
        assert not stream.is_open


def test_an_async_stream_that_is_not_open(server):
    """It says so; closed before it was open, it opens no more."""

    async def main():
        async with AsyncClient(server.address) as client:
            stream = client.recommend_stream([Event("a")])
            with pytest.raises(StreamClosedError, match="not open yet"):
                _ = stream.first
            with pytest.raises(StreamClosedError, match="not open yet"):
                await stream.send([])
            assert not stream.is_open
            assert await stream.close() == b""
            with pytest.raises(StreamClosedError, match="is closed"):
                await stream

    asyncio.run(main())
    assert server.calls == []


def test_a_cancelled_task_breaks_its_stream(server):
    """The answer that it did not wait for is not taken for that of the next message."""
    server.script = stream_answers("v1")

    async def main():
        async with AsyncClient(server.address) as client:
            stream = await client.recommend_stream([Event("a")], timeout=20)
            server.gate.clear()
            task = asyncio.create_task(stream.send([Event("b")]))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(StreamClosedError):
                await stream.send([])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.recommend_stream([Event("a")], timeout=20)

    asyncio.run(main())


def test_threads_and_tasks_take_turns(server):
    """Each gets an answer of its own, and every message is sent."""
    versions = [f"v{number}" for number in range(33)]
    server.script = [*stream_answers(*versions), STREAM_END]
    with (
        Client(server.address) as client,
        client.recommend_stream([Event("a")]) as stream,
        ThreadPoolExecutor(8) as threads,
    ):
        found = list(threads.map(lambda item: stream.send([Event(str(item))]), range(32)))
    assert {answer.model_version for answer in found} == set(versions[1:])
    server.script = [*stream_answers(*versions), STREAM_END]

    async def main():
        async with (
            AsyncClient(server.address) as other,
            other.recommend_stream([Event("a")]) as stream,
        ):
            return await asyncio.gather(*(stream.send([]) for _ in range(32)))

    assert {answer.model_version for answer in asyncio.run(main())} == set(versions[1:])


def own_threads():
    """The threads that are not those of the server's pool."""
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith("ThreadPoolExecutor")
    }


@pytest.mark.parametrize("way", ["closed", "broken", "late", "refused", "client", "left"])
def test_no_thread_is_left(server, way):
    """However a stream ends, what waited for its messages ends with it."""
    end = {"broken": UNAVAILABLE, "closed": STREAM_END}.get(way, *stream_answers("v2"))
    refusal = Refusal(grpc.StatusCode.NOT_FOUND)
    server.script = [refusal] if way == "refused" else [*stream_answers("v1"), end]
    with Client(server.address) as client:
        with suppress(KinrecError):
            client.get_model()  # has the channel start what it keeps
        if way != "refused":
            server.script = [*stream_answers("v1"), end]
        before = own_threads()
        with suppress(KinrecError):
            stream = client.recommend_stream([Event("a")], timeout=0.3)
            assert len(own_threads()) > len(before)
            if way == "late":
                server.gate.clear()
            if way == "closed":
                stream.close()
            elif way == "client":
                client.close()
            elif way == "left":
                del stream
                gc.collect()
            else:
                stream.send([])
        deadline = time.monotonic() + 5
        while own_threads() - before:
            assert time.monotonic() < deadline, own_threads() - before
            time.sleep(0.02)
