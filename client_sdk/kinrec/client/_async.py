"""The client that is awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from kinrec.client import _calls
from kinrec.client._channel import DEFAULT_TIMEOUT, ChannelConfig
from kinrec.client._errors import ClientClosedError, error_of
from kinrec.client._session import DEFAULT_KEEP, AsyncSession

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from kinrec.client._calls import Call
    from kinrec.client._errors import FailedCall
    from kinrec.client._types import (
        EncodeSequenceResult,
        Event,
        Health,
        Model,
        RecommendResult,
        SimilarUsersResult,
    )

_Result = TypeVar("_Result")


class AsyncClient:
    """A client of a recommender server, for asyncio. See `Client`, which it is like in all else.

    It may be made anywhere and belongs to the event loop of its first call. Cancelling a task that
    waits for an answer cancels the call.

    Args:
        target: Where the server is, ``host:port`` or any target that gRPC resolves.
        timeout: Seconds that a call gets, retries included, if it does not say.
        credentials: For a connection over TLS; None for one in the clear.
        channel_options: Channel arguments of gRPC; they win over the client's own.

    Raises:
        InvalidRequestError: `target` or `timeout` cannot be used.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        self._config = ChannelConfig(target, timeout, credentials, channel_options)
        self._channel: grpc.aio.Channel | None = None  # made in the loop that it will live in
        self._closed = False

    async def encode_sequence(
        self,
        events: Iterable[Event] = (),
        *,
        user_id: str | None = None,
        state: bytes = b"",
        timeout: float | None = None,
    ) -> EncodeSequenceResult:
        """Encode a person's behaviour into a user-interest vector. See `Client`."""
        return await self._ask(
            _calls.encode_sequence(events, user_id=user_id, state=state), timeout
        )

    async def similar_users(
        self,
        events: Iterable[Event] = (),
        *,
        user_id: str | None = None,
        state: bytes = b"",
        limit: int | None = None,
        timeout: float | None = None,
    ) -> SimilarUsersResult:
        """Find the known users who behave most like a person. See `Client`."""
        return await self._ask(
            _calls.similar_users(events, user_id=user_id, state=state, limit=limit), timeout
        )

    async def recommend(
        self,
        events: Iterable[Event] = (),
        *,
        user_id: str | None = None,
        state: bytes = b"",
        limit: int | None = None,
        include_seen: bool | None = None,
        exclude_item_ids: Iterable[str] = (),
        timeout: float | None = None,
    ) -> RecommendResult:
        """Recommend the items that a person is most likely to want next. See `Client`."""
        call = _calls.recommend(
            events,
            user_id=user_id,
            state=state,
            limit=limit,
            include_seen=include_seen,
            exclude_item_ids=exclude_item_ids,
        )
        return await self._ask(call, timeout)

    async def get_model(self, *, timeout: float | None = None) -> Model:
        """Describe the model that answers."""
        return await self._ask(_calls.get_model(), timeout)

    async def health(self, *, timeout: float | None = None) -> Health:
        """Ask the server whether it takes calls. This call is not repeated."""
        return await self._ask(_calls.health(), timeout)

    def session(
        self, user_id: str | None = None, *, state: bytes = b"", keep: int = DEFAULT_KEEP
    ) -> AsyncSession:
        """Begin a person's calls in a row, each of which sends only what is new.

        Args:
            user_id: The person's id, if there is one; a known user's stored history comes first.
            state: The state of an earlier session of the person, to go on from.
            keep: How many of the last events to keep, 0 to 2,000, to send again if a state is refused.
        """
        return AsyncSession(self, user_id, state, keep)

    async def close(self) -> None:
        """Close the connections. Calls in flight end with `ClientClosedError`."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, call: Call[_Result], timeout: float | None) -> _Result:
        seconds = self._config.seconds(timeout)
        if self._closed:
            raise ClientClosedError
        if self._channel is None:
            self._channel = _open(self._config)
        try:
            send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            send = self._channel.unary_unary(call.method)
            response = await send(call.request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise error_of(cast("FailedCall", error), seconds, self._config.target) from error
        except asyncio.CancelledError as error:
            # Closing a channel cancels its calls, which looks as if their tasks were cancelled.
            if self._closed and not _is_cancelled():
                raise ClientClosedError from error
            raise
        return call.read(response)


def _is_cancelled() -> bool:
    """Whether someone has asked for the cancellation of the running task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _open(config: ChannelConfig) -> grpc.aio.Channel:
    if config.credentials is None:
        return grpc.aio.insecure_channel(config.target, config.options())
    return grpc.aio.secure_channel(config.target, config.credentials, config.options())
