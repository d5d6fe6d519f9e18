"""The client that blocks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from kinrec.client import _calls
from kinrec.client._channel import DEFAULT_TIMEOUT, ChannelConfig
from kinrec.client._errors import ClientClosedError, error_of
from kinrec.client._options import PLAIN, Query
from kinrec.client._session import DEFAULT_KEEP, Session
from kinrec.client._streams import RecommendStream

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


class Client:
    """A client of a recommender server.

    It connects at the first call, spreads calls over all addresses of the target, and repeats calls
    that no server took. Threads may share it; a forked process needs its own.

    Each method raises `InvalidRequestError`, `UnknownUserError`, `StateError`, `UnavailableError`,
    `DeadlineExceededError`, `ServerError` or `ClientClosedError`, all of them `KinrecError`; some
    methods raise others beside. Where the server asks who calls, each raises `UnauthenticatedError`,
    `PermissionDeniedError` and `RateLimitError` too.

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
        self._channel = _open(self._config)
        self._closed = False

    def encode_sequence(
        self,
        events: Iterable[Event] = (),
        *,
        user_id: str | None = None,
        state: bytes = b"",
        timeout: float | None = None,
    ) -> EncodeSequenceResult:
        """Encode a person's behaviour into a user-interest vector.

        Args:
            events: What the person did, oldest first.
            user_id: A known user, whose stored history comes before `events` if there is no state.
            state: What the last answer about the person gave, to send only what came since.
            timeout: Seconds for this call.

        Example:
            >>> answer = client.encode_sequence([Event("i7", "view"), Event("i9", "buy")])
            >>> len(answer.vector), answer.event_report.used
            (32, 2)
        """
        return self._ask(_calls.encode_sequence(events, user_id=user_id, state=state), timeout)

    def similar_users(
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
        """Find the known users who behave most like a person.

        Args:
            events: What the person did, oldest first.
            user_id: A known user, whose stored history comes before `events` if there is no state.
            state: What the last answer about the person gave, to send only what came since.
            limit: The number of users to return; None for the service's default.
            shared_items: How many of the items to name that both did something with, 0 to 100.
            search_effort: How many times as wide as usual an approximate index is searched, 1 to 100.
            exact: Whether an index compares every vector, so that no user is missed.
            timeout: Seconds for this call.

        Example:
            >>> answer = client.similar_users(user_id="u1", limit=3, shared_items=2)
            >>> [len(user.shared_item_ids) <= 2 for user in answer.similar_users]
            [True, True, True]
        """
        call = _calls.similar_users(
            events,
            user_id=user_id,
            state=state,
            limit=limit,
            shared_items=shared_items,
            search_effort=search_effort,
            exact=exact,
        )
        return self._ask(call, timeout)

    def recommend(
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
        """Recommend the items that a person is most likely to want next.

        Args:
            events: What the person did, oldest first.
            user_id: A known user, whose stored history comes before `events` if there is no state.
            state: What the last answer about the person gave, to send only what came since.
            limit: The number of items to return; None for the service's default.
            include_seen: Whether items of the person's own history may be recommended; None for the
                model's default.
            exclude_item_ids: Items that must not be recommended.
            options: What else is asked for: conditions, diversity, reasons and more.
            timeout: Seconds for this call.

        Raises:
            PageTokenError: `options` has a page token that is not one for this request.

        Example:
            Pages end with an empty token:

            >>> from dataclasses import replace
            >>> options, found = Options(diversity=0.3), []
            >>> while len(found) < 12:
            ...     page = client.recommend(user_id="u1", limit=5, options=options)
            ...     found += [item.item_id for item in page.recommendations]
            ...     if not page.next_page_token:
            ...         break
            ...     options = replace(options, page_token=page.next_page_token)
            >>> len(found), len(set(found))
            (15, 15)
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
        return self._ask(_calls.recommend(query), timeout)

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
    ) -> RecommendStream:
        """Open a stream that recommends anew whenever the person does something.

        It is open when this returns, and its first answer is there.

        Args:
            events: What the person did, oldest first.
            user_id: A known user, whose stored history comes before `events` if there is no state.
            state: What the last answer about the person gave, to send only what came since.
            limit: The number of items to return; None for the service's default.
            include_seen: Whether items of the person's own history may be recommended; None for the
                model's default.
            exclude_item_ids: Items that must not be recommended.
            options: What else is asked for: not a page token.
            timeout: Seconds for each answer.

        Example:
            >>> with client.recommend_stream([Event("i7", "view")], limit=3) as stream:
            ...     answer = stream.send([Event("i9", "buy")])
            >>> answer.event_report.used, stream.state != b""
            (1, True)
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
        connect: grpc.StreamStreamMultiCallable[bytes, bytes]
        try:
            connect = self._channel.stream_stream(_calls.STREAM_METHOD)
        except ValueError as error:  # another thread has closed the channel since the check
            raise ClientClosedError from error
        with_token = partial(connect, metadata=self._metadata)
        return RecommendStream(with_token, start, seconds, self._explained)

    def rank(
        self,
        item_ids: Iterable[str],
        events: Iterable[Event] = (),
        *,
        user_id: str | None = None,
        state: bytes = b"",
        reasons: bool = False,
        timeout: float | None = None,
    ) -> RankResult:
        """Put given items in the order in which a person is most likely to want them.

        Args:
            item_ids: The items, 1 to 1,000; what comes again counts once.
            events: What the person did, oldest first.
            user_id: A known user, whose stored history comes before `events` if there is no state.
            state: What the last answer about the person gave, to send only what came since.
            reasons: Whether to say why each item is where it is.
            timeout: Seconds for this call.

        Example:
            >>> answer = client.rank(["i1", "i2", "no such item"], user_id="u1")
            >>> sorted(item.item_id for item in answer.recommendations), answer.unknown_item_ids
            (['i1', 'i2'], ('no such item',))
        """
        call = _calls.rank(item_ids, events, user_id=user_id, state=state, reasons=reasons)
        return self._ask(call, timeout)

    def similar_items(
        self,
        item_id: str,
        *,
        limit: int | None = None,
        allow_item_ids: Iterable[str] = (),
        conditions: Iterable[Condition] = (),
        timeout: float | None = None,
    ) -> SimilarItemsResult:
        """Find the items that people come to in the same company as an item.

        Args:
            item_id: The item's id.
            limit: The number of items to return; None for the service's default.
            allow_item_ids: The only items to return, at most 10,000; empty for all.
            conditions: On the items' attributes, at most 20; all must hold.
            timeout: Seconds for this call.

        Raises:
            UnknownItemError: The model does not know the item.

        Example:
            >>> len(client.similar_items("i7", limit=3).similar_items)
            3
        """
        call = _calls.similar_items(
            item_id, limit=limit, allow_item_ids=allow_item_ids, conditions=conditions
        )
        return self._ask(call, timeout)

    def batch_encode(
        self, queries: Iterable[Query], *, timeout: float | None = None
    ) -> list[EncodeSequenceResult | KinrecError]:
        """Encode many people's behaviour, for less than as many calls cost.

        Args:
            queries: Of each the events, the user id and the state are looked at. At most 256, with
                20,000 events in all.
            timeout: Seconds for all of them together.

        Returns:
            In the order of the queries, each one's vector or the error that it alone would have raised.

        Raises:
            InvalidRequestError: There are more than may be, or one is no `Query`.

        Example:
            >>> known, unknown = client.batch_encode([Query(user_id="u1"), Query(user_id="?")])
            >>> len(known.vector), unknown.reason
            (32, 'UNKNOWN_USER')
        """
        return self._ask(_calls.batch_encode(queries), timeout)

    def batch_recommend(
        self, queries: Iterable[Query], *, timeout: float | None = None
    ) -> list[RecommendResult | KinrecError]:
        """Recommend for many people, for less than as many calls cost.

        Args:
            queries: At most 256, with 20,000 events and 20,000 items to return in all.
            timeout: Seconds for all of them together: a large batch takes longer than a call.

        Returns:
            In the order of the queries, each one's recommendations or the error that it alone would
            have raised.

        Raises:
            InvalidRequestError: There are more than may be, or one is no `Query`.

        Example:
            >>> queries = [Query(user_id="u1", limit=3), Query(user_id="nobody")]
            >>> for result in client.batch_recommend(queries):
            ...     if isinstance(result, KinrecError):
            ...         print(result.reason)
            ...     else:
            ...         print(len(result.recommendations))
            3
            UNKNOWN_USER
        """
        return self._ask(_calls.batch_recommend(queries), timeout)

    def get_model(self, *, timeout: float | None = None) -> Model:
        """Describe the model that answers."""
        return self._ask(_calls.get_model(), timeout)

    def health(self, *, timeout: float | None = None) -> Health:
        """Ask the server whether it takes calls. This call is not repeated."""
        return self._ask(_calls.health(), timeout)

    def session(
        self, user_id: str | None = None, *, state: bytes = b"", keep: int = DEFAULT_KEEP
    ) -> Session:
        """Begin a person's calls in a row, each of which sends only what is new.

        Args:
            user_id: The person's id, if there is one; a known user's stored history comes first.
            state: The state of an earlier session of the person, to go on from.
            keep: How many of the last events to keep, 0 to 2,000, to send again if a state is refused.
        """
        return Session(self, user_id, state, keep)

    def close(self) -> None:
        """Close the connections. Calls in flight end with `ClientClosedError`."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, call: Call[_Result], timeout: float | None) -> _Result:
        seconds = self._config.seconds(timeout)
        if self._closed:
            raise ClientClosedError
        try:
            send: grpc.UnaryUnaryMultiCallable[bytes, bytes]
            send = self._channel.unary_unary(call.method)
            response = send(call.request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._explained(error, seconds) from error
        except ValueError as error:  # another thread has closed the channel since the check
            raise ClientClosedError from error
        return call.read(response)

    def _explained(self, error: grpc.RpcError, seconds: float, note: str = "") -> KinrecError:
        if self._closed:
            return ClientClosedError(f"the client is closed{note}")
        return error_of(cast("FailedCall", error), seconds, self._config.target, note)


def _open(config: ChannelConfig) -> grpc.Channel:
    if config.credentials is None:
        return grpc.insecure_channel(config.target, config.options())
    return grpc.secure_channel(config.target, config.credentials, config.options())
