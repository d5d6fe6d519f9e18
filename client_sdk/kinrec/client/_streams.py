"""Streams of a person's events: what each message brings is answered before the next is sent."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, cast

import grpc

from kinrec.client import _calls
from kinrec.client._errors import (
    ClientClosedError,
    KinrecError,
    ServerError,
    StreamClosedError,
    UnavailableError,
    late_error,
)
from kinrec.client._responses import StreamEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import TracebackType
    from typing import Any, Self

    from kinrec.client._types import Event, RecommendResult

_LOST_STATUS = "Internal error from Core"
_LOST = "; the stream has ended; its state is that of its last answer"
_ENDED = "the server ended the stream before its time"
_OUT_OF_TURN = "the server sent what was not asked for"


class _Call(Protocol):
    """What is used of grpc's call of a stream."""

    def __next__(self) -> bytes: ...

    def add_callback(self, callback: Callable[[], None]) -> bool: ...

    def cancel(self) -> bool: ...


class RecommendStream:
    """Recommendations that follow what a person does. Made by `Client.recommend_stream`.

    A server asks its clients to connect anew after 300 seconds (``max_connection_age``) and breaks what
    is open 30 seconds later: end a stream before, and go on from its `state` by another. If a stream
    breaks, by the server, the network or the deadline of a message, its `state` is that of the last
    answer; only the events that were not answered have to be sent again. Nothing of a stream is sent
    twice, but for the opening of one that no server took.

    Threads may share a stream; they take turns. Leaving its ``with`` block closes it.

    Example:
        >>> with client.recommend_stream(user_id="u1", limit=3) as stream:
        ...     print(len(stream.first.recommendations))
        ...     print(len(stream.send([Event("i7", "view")]).recommendations))
        3
        3
        >>> len(client.recommend(state=stream.state, limit=3).recommendations)
        3
    """

    def __init__(
        self,
        connect: Callable[[Iterator[bytes]], Iterator[bytes]],
        start: bytes,
        seconds: float,
        explain: Callable[[grpc.RpcError, float, str], KinrecError],
    ) -> None:
        self._seconds = seconds
        self._explain = explain
        self._turn = threading.Lock()
        self._state = b""
        self._takes_more = True
        self._note = ""  # until the first answer there is no state to lose
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        try:
            self._call = cast("_Call", connect(iter(self._outgoing.get, None)))
        except ValueError as error:  # another thread has closed the channel
            raise ClientClosedError from error
        # A thread of grpc waits for what is sent next; when the call is over, nothing is.
        hang_up = partial(self._outgoing.put, None)
        if not self._call.add_callback(hang_up):
            hang_up()
        self._first = self._answer_to(start)
        self._note = _LOST

    @property
    def first(self) -> RecommendResult:
        """What was recommended when the stream was opened."""
        return self._first

    @property
    def state(self) -> bytes:
        """Where the person stood at the last answer, to go on from; empty if nothing usable is known."""
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether it takes more: it was neither closed nor broken."""
        return self._takes_more

    def send(self, events: Iterable[Event]) -> RecommendResult:
        """Send what the person did since, and wait for what is recommended now.

        Args:
            events: What the person did, oldest first, at most 2,000 events.

        Raises:
            StreamClosedError: The stream was closed, or broke before.
            UnavailableError, DeadlineExceededError, ServerError, ClientClosedError: The stream broke;
                `state` is that of its last answer.
            KinrecError: Every other one says what is wrong with the events, which are not applied; the
                stream goes on.
        """
        message = _calls.stream_events(events)
        with self._turn:
            return self._answer_to(message)

    def close(self) -> bytes:
        """End the stream. It may be called again.

        Returns:
            The state, to go on from; empty if nothing usable is known.

        Raises:
            UnavailableError, DeadlineExceededError, ServerError, ClientClosedError: The stream broke;
                `state` is that of its last answer.
        """
        with self._turn:
            if self._takes_more:
                part = self._exchange(None)
                if not isinstance(part, StreamEnd):
                    raise self._broken(ServerError(_OUT_OF_TURN + self._note))
                self._takes_more = False
                self._state = part.state
                # Until the status is there: to let go of a call before is to cancel it.
                with self._limited(), suppress(grpc.RpcError):
                    next(self._call, None)
            return self._state

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif isinstance(error, Exception):
            with suppress(KinrecError):  # what ended the block says more
                self.close()
        else:  # Ctrl-C waits for nothing
            self._break()

    def _answer_to(self, message: bytes) -> RecommendResult:
        if not self._takes_more:
            raise StreamClosedError("the stream is closed")
        part = self._exchange(message)
        if isinstance(part, StreamEnd):
            raise self._broken(ServerError(_OUT_OF_TURN + self._note))
        if isinstance(part, KinrecError):
            raise part
        self._state = part.state
        return part

    def _exchange(self, message: bytes | None) -> RecommendResult | KinrecError | StreamEnd:
        """Send a message, or that none will follow, and wait for what comes back."""
        with self._limited() as late:
            try:
                self._outgoing.put(message)
                data = next(self._call)
            except StopIteration as error:
                failure = ServerError(_ENDED + self._note)
                raise self._broken(failure) from error
            except grpc.RpcError as error:
                if late.is_set():
                    raise self._broken(late_error(self._seconds, self._note)) from error
                raise self._broken(self._explain(error, self._seconds, self._note)) from error
            except BaseException:
                # Ctrl-C: the next answer would be taken for that of the next message.
                self._break()
                raise
        if late.is_set():  # by a hair, but the call is cancelled
            raise self._broken(late_error(self._seconds, self._note))
        return self._read(data)

    def _read(self, data: bytes) -> RecommendResult | KinrecError | StreamEnd:
        try:
            return _calls.read_stream_part(data)
        except ServerError as error:
            raise self._broken(ServerError(f"{error}{self._note}")) from error

    @contextmanager
    def _limited(self) -> Iterator[threading.Event]:
        """Cancel the call when what is done takes too long; the event is then set."""
        late = threading.Event()
        # The deadline of a call of gRPC is that of the whole stream, and to read takes none.
        timer = threading.Timer(self._seconds, self._give_up, [late])
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()
            timer.join()

    def _give_up(self, late: threading.Event) -> None:
        late.set()
        self._call.cancel()

    def _broken(self, error: KinrecError) -> KinrecError:
        self._break()
        return error

    def _break(self) -> None:
        self._takes_more = False
        self._call.cancel()


class AsyncRecommendStream:
    """Recommendations that follow what a person does, for asyncio; see `RecommendStream`.

    Made by `AsyncClient.recommend_stream`, and opened by ``async with`` or ``await``. Tasks may share a
    stream; they take turns. A task that is cancelled while it waits for an answer breaks the stream.

    Example:
        >>> async def main():
        ...     async with AsyncClient("localhost:50051") as client:
        ...         async with client.recommend_stream(user_id="u1", limit=3) as stream:
        ...             answer = await stream.send([Event("i7", "view")])
        ...         return len(answer.recommendations), bool(stream.state)
        >>> asyncio.run(main())
        (3, True)
    """

    def __init__(
        self,
        connect: Callable[[], grpc.aio.StreamStreamCall[bytes, bytes]],
        start: bytes,
        seconds: float,
        explain: Callable[[BaseException, float, str], BaseException],
    ) -> None:
        self._connect = connect
        self._start = start
        self._seconds = seconds
        self._explain = explain
        self._turn = asyncio.Lock()
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] | None = None
        self._first: RecommendResult | None = None
        self._state = b""
        self._is_closed = False
        self._note = ""

    @property
    def first(self) -> RecommendResult:
        """What was recommended when the stream was opened.

        Raises:
            StreamClosedError: It is not open yet.
        """
        if self._first is None:
            raise StreamClosedError("the stream is not open yet")
        return self._first

    @property
    def state(self) -> bytes:
        """Where the person stood at the last answer, to go on from; empty if nothing usable is known."""
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether it takes more: it was opened, and neither closed nor broken."""
        return self._first is not None and not self._is_closed

    async def send(self, events: Iterable[Event]) -> RecommendResult:
        """Send what the person did since, and wait for what is recommended now.

        Args:
            events: What the person did, oldest first, at most 2,000 events.

        Raises:
            StreamClosedError: The stream is not open yet, was closed, or broke before.
            UnavailableError, DeadlineExceededError, ServerError, ClientClosedError: The stream broke;
                `state` is that of its last answer.
            KinrecError: Every other one says what is wrong with the events, which are not applied; the
                stream goes on.
        """
        message = _calls.stream_events(events)
        async with self._turn:
            if self._call is None:
                raise StreamClosedError("the stream is not open yet")
            return await self._answer_to(self._call, message)

    async def close(self) -> bytes:
        """End the stream. It may be called again.

        Returns:
            The state, to go on from; empty if nothing usable is known.

        Raises:
            UnavailableError, DeadlineExceededError, ServerError, ClientClosedError: The stream broke;
                `state` is that of its last answer.
        """
        async with self._turn:
            if self._call is not None and not self._is_closed:
                part = await self._exchange(self._call, None)
                if not isinstance(part, StreamEnd):
                    raise self._broken(ServerError(_OUT_OF_TURN + self._note))
                self._state = part.state
                self._is_closed = True
                # Until the status is there: to let go of a call before is to cancel it.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        await self._call.code()
            self._is_closed = True
            return self._state

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        elif isinstance(error, Exception):
            with suppress(KinrecError):  # what ended the block says more
                await self.close()
        else:  # a task that is cancelled waits for nothing
            self._break()

    async def _open(self) -> Self:
        async with self._turn:
            if self._first is None:
                if self._is_closed:
                    raise StreamClosedError("the stream is closed")
                self._call = self._connect()
                self._first = await self._answer_to(self._call, self._start)
                self._note = _LOST
        return self

    async def _answer_to(
        self, call: grpc.aio.StreamStreamCall[bytes, bytes], message: bytes
    ) -> RecommendResult:
        if self._is_closed:
            raise StreamClosedError("the stream is closed")
        part = await self._exchange(call, message)
        if isinstance(part, StreamEnd):
            raise self._broken(ServerError(_OUT_OF_TURN + self._note))
        if isinstance(part, KinrecError):
            raise part
        self._state = part.state
        return part

    async def _exchange(
        self, call: grpc.aio.StreamStreamCall[bytes, bytes], message: bytes | None
    ) -> RecommendResult | KinrecError | StreamEnd:
        """Send a message, or that none will follow, and wait for what comes back."""
        try:
            async with asyncio.timeout(self._seconds):
                if message is None:
                    await call.done_writing()
                else:
                    await self._write(call, message)
                data = await call.read()
        except TimeoutError as error:
            raise self._broken(late_error(self._seconds, self._note)) from error
        except BaseException as error:
            self._break()
            explained = self._explain(error, self._seconds, self._note)
            if explained is error:
                raise
            raise explained from error
        if not isinstance(data, bytes):
            failure = ServerError(_ENDED + self._note)
            raise self._broken(failure)
        try:
            return _calls.read_stream_part(data)
        except ServerError as error:
            raise self._broken(ServerError(f"{error}{self._note}")) from error

    async def _write(self, call: grpc.aio.StreamStreamCall[bytes, bytes], message: bytes) -> None:
        try:
            await call.write(message)
        except asyncio.InvalidStateError:
            return  # the call is over: reading tells why
        except grpc.aio.AioRpcError as error:
            # The call ended while the message went out, and of the two statuses grpc.aio keeps its own.
            # Whatever the server said, it had not taken the message.
            if error.details() == _LOST_STATUS:
                text = _ENDED + self._note
                raise UnavailableError(text, code=grpc.StatusCode.UNAVAILABLE) from error
            raise

    def _broken(self, error: KinrecError) -> KinrecError:
        self._break()
        return error

    def _break(self) -> None:
        self._is_closed = True
        if self._call is not None:
            # The stubs of this kind of call leave out that it can be cancelled.
            cast("_Call", self._call).cancel()
