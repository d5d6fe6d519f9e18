"""The client that blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from kinrec.client import _calls
from kinrec.client._channel import DEFAULT_TIMEOUT, ChannelConfig
from kinrec.client._errors import ClientClosedError, error_of
from kinrec.client._session import DEFAULT_KEEP, Session

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


class Client:
    """A client of a recommender server.

    It connects at the first call, spreads calls over all addresses of the target, and repeats calls
    that no server took. Threads may share it; a forked process needs its own.

    Each method raises `InvalidRequestError`, `UnknownUserError`, `StateError`, `UnavailableError`,
    `DeadlineExceededError`, `ServerError` or `ClientClosedError`, all of them `KinrecError`.

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
        """
        return self._ask(_calls.encode_sequence(events, user_id=user_id, state=state), timeout)

    def similar_users(
        self,
        events: Iterable[Event] = (),
        *,
        user_id: str | None = None,
        state: bytes = b"",
        limit: int | None = None,
        timeout: float | None = None,
    ) -> SimilarUsersResult:
        """Find the known users who behave most like a person.

        Args:
            events: What the person did, oldest first.
            user_id: A known user, whose stored history comes before `events` if there is no state.
            state: What the last answer about the person gave, to send only what came since.
            limit: The number of users to return; None for the service's default.
            timeout: Seconds for this call.
        """
        return self._ask(
            _calls.similar_users(events, user_id=user_id, state=state, limit=limit), timeout
        )

    def recommend(
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
        """Recommend the items that a person is most likely to want next.

        Args:
            events: What the person did, oldest first.
            user_id: A known user, whose stored history comes before `events` if there is no state.
            state: What the last answer about the person gave, to send only what came since.
            limit: The number of items to return; None for the service's default.
            include_seen: Whether items of the person's own history may be recommended; None for the
                model's default.
            exclude_item_ids: Items that must not be recommended.
            timeout: Seconds for this call.
        """
        call = _calls.recommend(
            events,
            user_id=user_id,
            state=state,
            limit=limit,
            include_seen=include_seen,
            exclude_item_ids=exclude_item_ids,
        )
        return self._ask(call, timeout)

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
            response = send(call.request, timeout=seconds)
        except grpc.RpcError as error:
            if self._closed:
                raise ClientClosedError from error
            raise error_of(cast("FailedCall", error), seconds, self._config.target) from error
        except ValueError as error:  # another thread has closed the channel since the check
            raise ClientClosedError from error
        return call.read(response)


def _open(config: ChannelConfig) -> grpc.Channel:
    if config.credentials is None:
        return grpc.insecure_channel(config.target, config.options())
    return grpc.secure_channel(config.target, config.credentials, config.options())
