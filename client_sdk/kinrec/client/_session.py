"""A person's session: it carries the state, sends what is new, and mends a state that is refused."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kinrec.client._checks import iterable
from kinrec.client._errors import StateError, invalid_field
from kinrec.client._options import PLAIN, Options
from kinrec.client._types import RecommendResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from kinrec.client._async import AsyncClient
    from kinrec.client._sync import Client
    from kinrec.client._types import (
        EncodeSequenceResult,
        Event,
        PersonResult,
        RankResult,
        SimilarUsersResult,
    )

_Result = TypeVar("_Result", bound="PersonResult")

DEFAULT_KEEP = 500
MAX_KEEP = 2_000  # what a request may have


class Memory:
    """What a session knows: the state, and the last events in case the state is refused.

    Args:
        user_id: The person's id, if any.
        state: Where the person stands; empty for nowhere yet.
        keep: How many events to keep.
    """

    def __init__(self, user_id: str | None, state: bytes, keep: int) -> None:
        if type(keep) is not int or not 0 <= keep <= MAX_KEEP:
            raise invalid_field("keep", f"must be an integer from 0 to {MAX_KEEP}, not {keep}")
        self.user_id = user_id
        self.state = state
        self._events: deque[Event] = deque(maxlen=keep)
        # Of what came before a given state nothing is kept.
        self._taken = 1 if state else 0
        self.has_lost = False  # whether a state was refused that knew more than is kept
        self._asked: tuple[list[Event], bytes] = ([], b"")

    def to_send(self, new: list[Event]) -> list[Event]:
        """The events to send with the state, or without one with what is kept before them."""
        if self.state:
            return new
        return [*self._events, *new][-max(MAX_KEEP, len(new)) :]

    def can_mend(self, new: list[Event]) -> bool:
        """Whether there is a person to ask about without the state."""
        return bool(self.user_id or self._events or new)

    def forget_state(self) -> None:
        """Send what is kept of the history next time."""
        self.state = b""
        self.has_lost |= not self._is_whole

    @property
    def _is_whole(self) -> bool:
        """Whether all is kept that the state knows."""
        return self._taken == len(self._events)

    def take(
        self, new: list[Event], asked: tuple[list[Event], bytes], result: PersonResult
    ) -> None:
        """Take over what an answer says. Not before: events of a call that failed are not kept.

        Args:
            new: The new events.
            asked: The events that were sent, and the state.
            result: The answer.
        """
        self._events.extend(new)
        self._taken += len(new)
        # The history is worth sending while all of it is kept; else the state knows more.
        self.state = b"" if result.send_history and self._is_whole else result.state
        if isinstance(result, RecommendResult):
            self._asked = asked

    def asked_before(self, new: list[Event]) -> tuple[list[Event], bytes]:
        """What the last recommendations were asked for with, and a further page of them must be.

        Raises:
            InvalidRequestError: There are new events.
        """
        if new:
            raise invalid_field("events", "must be empty with a page token")
        return self._asked


class Session:
    """A person's calls in a row. Made by `Client.session`; for one person and one thread at a time.

    Each call sends only the events that are new since the last answer, and is answered as if all had
    been sent. If a state is refused, because the service changed its model or its key, the events that
    the session keeps are sent by a second call at once, and what is older is forgotten. Events of a
    call that raises are not taken: the call can be made again with them.

    Example:
        >>> session = client.session()
        >>> before = session.recommend([Event("i7", "view")])
        >>> answer = session.recommend([Event("i9", "view")], limit=5)
        >>> answer.event_report.received, len(answer.recommendations)
        (1, 5)
    """

    def __init__(self, client: Client, user_id: str | None, state: bytes, keep: int) -> None:
        self._client = client
        self._memory = Memory(user_id, state, keep)

    @property
    def state(self) -> bytes:
        """The state after the last answer, to go on from in another process; empty if none."""
        return self._memory.state

    @property
    def has_lost_history(self) -> bool:
        """Whether a state was refused that knew of more events than the session keeps.

        Of a state that was given none are kept. The answers since then do not know of those events.
        """
        return self._memory.has_lost

    def encode_sequence(
        self, events: Iterable[Event] = (), *, timeout: float | None = None
    ) -> EncodeSequenceResult:
        """Encode all that the person did. See `Client.encode_sequence`."""
        return self._go_on(partial(self._client.encode_sequence, timeout=timeout), events)

    def similar_users(
        self,
        events: Iterable[Event] = (),
        *,
        limit: int | None = None,
        shared_items: int = 0,
        search_effort: int = 1,
        exact: bool = False,
        timeout: float | None = None,
    ) -> SimilarUsersResult:
        """Find who behaves like the person. See `Client.similar_users`."""
        ask = partial(
            self._client.similar_users,
            limit=limit,
            shared_items=shared_items,
            search_effort=search_effort,
            exact=exact,
            timeout=timeout,
        )
        return self._go_on(ask, events)

    def recommend(
        self,
        events: Iterable[Event] = (),
        *,
        limit: int | None = None,
        include_seen: bool | None = None,
        exclude_item_ids: Iterable[str] = (),
        options: Options = PLAIN,
        timeout: float | None = None,
    ) -> RecommendResult:
        """Recommend what the person is most likely to want next. See `Client.recommend`.

        With a page token, further items of the last recommendations, whatever was asked in between.

        Raises:
            InvalidRequestError: There are events beside a page token.
        """
        ask = partial(
            self._client.recommend,
            limit=limit,
            include_seen=include_seen,
            exclude_item_ids=list(iterable(exclude_item_ids, "exclude_item_ids", "item ids")),
            options=options,
            timeout=timeout,
        )
        if _has_page_token(options):
            return self._next_page(ask, events)
        return self._go_on(ask, events)

    def rank(
        self,
        item_ids: Iterable[str],
        events: Iterable[Event] = (),
        *,
        reasons: bool = False,
        timeout: float | None = None,
    ) -> RankResult:
        """Put given items in the order in which the person wants them. See `Client.rank`."""
        items = list(iterable(item_ids, "item_ids", "item ids"))
        ask = partial(self._client.rank, items, reasons=reasons, timeout=timeout)
        return self._go_on(ask, events)

    def _next_page(
        self, ask: Callable[..., RecommendResult], events: Iterable[Event]
    ) -> RecommendResult:
        sent, state = self._memory.asked_before(list(iterable(events, "events", "events")))
        return ask(sent, user_id=self._memory.user_id, state=state)

    def _go_on(self, ask: Callable[..., _Result], events: Iterable[Event]) -> _Result:
        new, memory = list(iterable(events, "events", "events")), self._memory
        user_id = memory.user_id
        sent, state = memory.to_send(new), memory.state
        try:
            result = ask(sent, user_id=user_id, state=state)
        except StateError:
            if not memory.can_mend(new):
                raise
            memory.forget_state()
            sent, state = memory.to_send(new), memory.state
            result = ask(sent, user_id=user_id, state=state)
        memory.take(new, (sent, state), result)
        return result


class AsyncSession:
    """A person's calls in a row, for asyncio. Made by `AsyncClient.session`; see `Session`.

    A call begins when the one before has ended.
    """

    def __init__(self, client: AsyncClient, user_id: str | None, state: bytes, keep: int) -> None:
        self._client = client
        self._memory = Memory(user_id, state, keep)
        self._turn = asyncio.Lock()  # two calls at once would go on from the same state

    @property
    def state(self) -> bytes:
        """The state after the last answer, to go on from in another process; empty if none."""
        return self._memory.state

    @property
    def has_lost_history(self) -> bool:
        """Whether a state was refused that knew of more events than the session keeps.

        Of a state that was given none are kept. The answers since then do not know of those events.
        """
        return self._memory.has_lost

    async def encode_sequence(
        self, events: Iterable[Event] = (), *, timeout: float | None = None
    ) -> EncodeSequenceResult:
        """Encode all that the person did. See `Client.encode_sequence`."""
        return await self._go_on(partial(self._client.encode_sequence, timeout=timeout), events)

    async def similar_users(
        self,
        events: Iterable[Event] = (),
        *,
        limit: int | None = None,
        shared_items: int = 0,
        search_effort: int = 1,
        exact: bool = False,
        timeout: float | None = None,
    ) -> SimilarUsersResult:
        """Find who behaves like the person. See `Client.similar_users`."""
        ask = partial(
            self._client.similar_users,
            limit=limit,
            shared_items=shared_items,
            search_effort=search_effort,
            exact=exact,
            timeout=timeout,
        )
        return await self._go_on(ask, events)

    async def recommend(
        self,
        events: Iterable[Event] = (),
        *,
        limit: int | None = None,
        include_seen: bool | None = None,
        exclude_item_ids: Iterable[str] = (),
        options: Options = PLAIN,
        timeout: float | None = None,
    ) -> RecommendResult:
        """Recommend what the person is most likely to want next. See `Client.recommend`.

        With a page token, further items of the last recommendations, whatever was asked in between.

        Raises:
            InvalidRequestError: There are events beside a page token.
        """
        ask = partial(
            self._client.recommend,
            limit=limit,
            include_seen=include_seen,
            exclude_item_ids=list(iterable(exclude_item_ids, "exclude_item_ids", "item ids")),
            options=options,
            timeout=timeout,
        )
        if _has_page_token(options):
            return await self._next_page(ask, events)
        return await self._go_on(ask, events)

    async def rank(
        self,
        item_ids: Iterable[str],
        events: Iterable[Event] = (),
        *,
        reasons: bool = False,
        timeout: float | None = None,
    ) -> RankResult:
        """Put given items in the order in which the person wants them. See `Client.rank`."""
        items = list(iterable(item_ids, "item_ids", "item ids"))
        ask = partial(self._client.rank, items, reasons=reasons, timeout=timeout)
        return await self._go_on(ask, events)

    async def _next_page(
        self, ask: Callable[..., Awaitable[RecommendResult]], events: Iterable[Event]
    ) -> RecommendResult:
        async with self._turn:
            sent, state = self._memory.asked_before(list(iterable(events, "events", "events")))
        return await ask(sent, user_id=self._memory.user_id, state=state)

    async def _go_on(
        self, ask: Callable[..., Awaitable[_Result]], events: Iterable[Event]
    ) -> _Result:
        new, memory = list(iterable(events, "events", "events")), self._memory
        user_id = memory.user_id
        async with self._turn:
            sent, state = memory.to_send(new), memory.state
            try:
                result = await ask(sent, user_id=user_id, state=state)
            except StateError:
                if not memory.can_mend(new):
                    raise
                memory.forget_state()
                sent, state = memory.to_send(new), memory.state
                result = await ask(sent, user_id=user_id, state=state)
            memory.take(new, (sent, state), result)
            return result


def _has_page_token(options: object) -> bool:
    """Whether a further page is asked for; what are no options is refused when it is sent."""
    return isinstance(options, Options) and bool(options.page_token)
