"""The client that is awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from kinrec.client import _calls
from kinrec.client._channel import DEFAULT_TIMEOUT, ChannelConfig
from kinrec.client._errors import ClientClosedError, error_of
from kinrec.client._options import PLAIN, Query
from kinrec.client._session import DEFAULT_KEEP, AsyncSession
from kinrec.client._streams import AsyncRecommendStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from kinrec.client._calls import Call
    from kinrec.client._errors import FailedCall, KinrecError
    from kinrec.client._options import Condition, Options
    from kinrec.client._types import (
        EncodeSequenceResult,
        Event,
        Health,
        Model,
        RankResult,
        RecommendResult,
        SimilarItemsResult,
        SimilarUsersResult,
    )

_Result = TypeVar("_Result")


class AsyncClient:
    """A client of a recommender server, for asyncio. See `Client`, which it is like in all else.

    It may be made anywhere and belongs to the event loop of its first call. Cancelling a task that
    waits for an answer cancels the call.

    Args:
        target: Where the server is, ``host:port`` or any target that gRPC resolves, or several IP
            addresses with ports, as a list or with commas between them.
        timeout: Seconds that a call gets, retries included, if it does not say.
        credentials: For a connection over TLS, see `tls_credentials`; None for one in the clear.
        channel_options: Channel arguments of gRPC; they win over the client's own.
        watch_health: Whether calls go only to servers that say that they are serving, so that one
            which drains gets no new ones. None for whenever `target` has several addresses; say True
            with a name that stands for several, and not with a balancer, which sees to it itself.
        token: Says who calls, for a server that asks; None to send none.
        insecure: Whether the token may be sent in the clear to another machine.

    Raises:
        InvalidRequestError: One of these cannot be used, or the token would be sent in
            the clear to another machine.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: Sequence[tuple[str, str | int]] = (),
        watch_health: bool | None = None,
        token: str | None = None,
        insecure: bool = False,
    ) -> None:
        self._config = ChannelConfig(
            target,
            timeout,
            credentials,
            channel_options,
            watch_health=watch_health,
            token=token,
            insecure=insecure,
        )
        self._metadata = self._config.metadata()
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
        shared_items: int = 0,
        search_effort: int = 1,
        exact: bool = False,
        timeout: float | None = None,
    ) -> SimilarUsersResult:
        """Find the known users who behave most like a person. See `Client`."""
        call = _calls.similar_users(
            events,
            user_id=user_id,
            state=state,
            limit=limit,
            shared_items=shared_items,
            search_effort=search_effort,
            exact=exact,
        )
        return await self._ask(call, timeout)

    async def recommend(
        self,
        events: Iterable[Event] = (),
        *,
        user_id: str | None = None,
        state: bytes = b"",
        limit: int | None = None,
        include_seen: bool | None = None,
        exclude_item_ids: Iterable[str] = (),
        options: Options = PLAIN,
        timeout: float | None = None,
    ) -> RecommendResult:
        """Recommend the items that a person is most likely to want next. See `Client`."""
        query = Query(
            events,
            user_id=user_id,
            state=state,
            limit=limit,
            include_seen=include_seen,
            exclude_item_ids=exclude_item_ids,
            options=options,
        )
        return await self._ask(_calls.recommend(query), timeout)

    def recommend_stream(
        self,
        events: Iterable[Event] = (),
        *,
        user_id: str | None = None,
        state: bytes = b"",
        limit: int | None = None,
        include_seen: bool | None = None,
        exclude_item_ids: Iterable[str] = (),
        options: Options = PLAIN,
        timeout: float | None = None,
    ) -> AsyncRecommendStream:
        """Open a stream that recommends anew whenever the person does something. See `Client`.

        It is opened by ``async with client.recommend_stream(...) as stream``, or by ``await``.
        """
        query = Query(
            events,
            user_id=user_id,
            state=state,
            limit=limit,
            include_seen=include_seen,
            exclude_item_ids=exclude_item_ids,
            options=options,
        )
        start, seconds = _calls.stream_start(query), self._config.seconds(timeout)
        if self._closed:
            raise ClientClosedError
        return AsyncRecommendStream(self._connect, start, seconds, self._explained)

    async def rank(
        self,
        item_ids: Iterable[str],
        events: Iterable[Event] = (),
        *,
        user_id: str | None = None,
        state: bytes = b"",
        reasons: bool = False,
        timeout: float | None = None,
    ) -> RankResult:
        """Put given items in the order in which a person is most likely to want them. See `Client`."""
        call = _calls.rank(item_ids, events, user_id=user_id, state=state, reasons=reasons)
        return await self._ask(call, timeout)

    async def similar_items(
        self,
        item_id: str,
        *,
        limit: int | None = None,
        allow_item_ids: Iterable[str] = (),
        conditions: Iterable[Condition] = (),
        timeout: float | None = None,
    ) -> SimilarItemsResult:
        """Find the items that people come to in the same company as an item. See `Client`."""
        call = _calls.similar_items(
            item_id, limit=limit, allow_item_ids=allow_item_ids, conditions=conditions
        )
        return await self._ask(call, timeout)

    async def batch_encode(
        self, queries: Iterable[Query], *, timeout: float | None = None
    ) -> list[EncodeSequenceResult | KinrecError]:
        """Encode many people's behaviour, for less than as many calls cost. See `Client`."""
        return await self._ask(_calls.batch_encode(queries), timeout)

    async def batch_recommend(
        self, queries: Iterable[Query], *, timeout: float | None = None
    ) -> list[RecommendResult | KinrecError]:
        """Recommend for many people, for less than as many calls cost. See `Client`."""
        return await self._ask(_calls.batch_recommend(queries), timeout)

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
        try:
            send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            send = self._opened().unary_unary(call.method)
            response = await send(call.request, timeout=seconds, metadata=self._metadata)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            explained = self._explained(error, seconds)
            if explained is error:
                raise
            raise explained from error
        return call.read(response)

    def _opened(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = _open(self._config)
        return self._channel

    def _connect(self) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        if self._closed:
            raise ClientClosedError
        connect: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        connect = self._opened().stream_stream(_calls.STREAM_METHOD)
        return connect(metadata=self._metadata)

    def _explained(self, error: BaseException, seconds: float, note: str = "") -> BaseException:
        """The client's error for what grpc raised; what is none of grpc's is given back."""
        if isinstance(error, grpc.aio.AioRpcError):
            return error_of(cast("FailedCall", error), seconds, self._config.target, note)
        # Closing a channel cancels its calls, which looks as if their tasks were cancelled.
        is_ours = isinstance(error, asyncio.CancelledError) and not _is_cancelled()
        return (
            ClientClosedError(f"the client is closed{note}") if self._closed and is_ours else error
        )


def _is_cancelled() -> bool:
    """Whether someone has asked for the cancellation of the running task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _open(config: ChannelConfig) -> grpc.aio.Channel:
    if config.credentials is None:
        return grpc.aio.insecure_channel(config.target, config.options())
    return grpc.aio.secure_channel(config.target, config.credentials, config.options())
