"""A person's session: it carries the state, sends what is new, and mends a state that is refused."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kinrec.client._errors import StateError, invalid_field

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from kinrec.client._async import AsyncClient
    from kinrec.client._sync import Client
    from kinrec.client._types import (
        EncodeSequenceResult,
        Event,
        RecommendResult,
        SimilarUsersResult,
    )

_Result = TypeVar("_Result", "EncodeSequenceResult", "SimilarUsersResult", "RecommendResult")

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

    def to_send(self, new: list[Event]) -> list[Event]:
        """The events to send with the state, or without one with what is kept before them."""
        if self.state:
            return new
        return [*self._events, *new][-max(MAX_KEEP, len(new)) :]

    def can_mend(self, new: list[Event]) -> bool:
        """Whether there is a person to ask about without the state."""
        return bool(self.user_id or self._events or new)

    def forget_state(self) -> None:
        """Send the history next time."""
        self.state = b""

    def take(
        self, new: list[Event], result: EncodeSequenceResult | SimilarUsersResult | RecommendResult
    ) -> None:
        """Take over what an answer says. Not before: events of a call that failed are not kept."""
        self._events.extend(new)
        self._taken += len(new)
        # The history is worth sending while all of it is kept; else the state knows more.
        is_whole = self._taken == len(self._events)
        self.state = b"" if result.send_history and is_whole else result.state


class Session:
    """A person's calls in a row. Made by `Client.session`; for one person and one thread at a time.

    Each call sends only the events that are new since the last answer, and is answered as if all had
    been sent. If a state is refused, because the service changed its model or its key, the events that
    the session keeps are sent by a second call at once, and what is older is forgotten. Events of a
    call that raises are not taken: the call can be made again with them.

    Example:
        >>> session = client.session()  # doctest: +SKIP
        >>> session.recommend([Event("i7", "view")])  # doctest: +SKIP
        >>> session.recommend([Event("i9", "view")], limit=5)  # doctest: +SKIP
    """

    def __init__(self, client: Client, user_id: str | None, state: bytes, keep: int) -> None:
        self._client = client
        self._memory = Memory(user_id, state, keep)

    @property
    def state(self) -> bytes:
        """The state after the last answer, to go on from in another process; empty if none."""
        return self._memory.state

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
        timeout: float | None = None,
    ) -> SimilarUsersResult:
        """Find who behaves like the person. See `Client.similar_users`."""
        return self._go_on(
            partial(self._client.similar_users, limit=limit, timeout=timeout), events
        )

    def recommend(
        self,
        events: Iterable[Event] = (),
        *,
        limit: int | None = None,
        include_seen: bool | None = None,
        exclude_item_ids: Iterable[str] = (),
        timeout: float | None = None,
    ) -> RecommendResult:
        """Recommend what the person is most likely to want next. See `Client.recommend`."""
        ask = partial(
            self._client.recommend,
            limit=limit,
            include_seen=include_seen,
            exclude_item_ids=list(exclude_item_ids),
            timeout=timeout,
        )
        return self._go_on(ask, events)

    def _go_on(self, ask: Callable[..., _Result], events: Iterable[Event]) -> _Result:
        new, memory = list(events), self._memory
        user_id = memory.user_id
        try:
            result = ask(memory.to_send(new), user_id=user_id, state=memory.state)
        except StateError:
            if not memory.can_mend(new):
                raise
            memory.forget_state()
            result = ask(memory.to_send(new), user_id=user_id)
        memory.take(new, result)
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
        timeout: float | None = None,
    ) -> SimilarUsersResult:
        """Find who behaves like the person. See `Client.similar_users`."""
        return await self._go_on(
            partial(self._client.similar_users, limit=limit, timeout=timeout), events
        )

    async def recommend(
        self,
        events: Iterable[Event] = (),
        *,
        limit: int | None = None,
        include_seen: bool | None = None,
        exclude_item_ids: Iterable[str] = (),
        timeout: float | None = None,
    ) -> RecommendResult:
        """Recommend what the person is most likely to want next. See `Client.recommend`."""
        ask = partial(
            self._client.recommend,
            limit=limit,
            include_seen=include_seen,
            exclude_item_ids=list(exclude_item_ids),
            timeout=timeout,
        )
        return await self._go_on(ask, events)

    async def _go_on(
        self, ask: Callable[..., Awaitable[_Result]], events: Iterable[Event]
    ) -> _Result:
        new, memory = list(events), self._memory
        user_id = memory.user_id
        async with self._turn:
            try:
                result = await ask(memory.to_send(new), user_id=user_id, state=memory.state)
            except StateError:
                if not memory.can_mend(new):
                    raise
                memory.forget_state()
                result = await ask(memory.to_send(new), user_id=user_id)
            memory.take(new, result)
            return result
