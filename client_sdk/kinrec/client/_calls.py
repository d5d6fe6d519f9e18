"""The calls that both clients make: a method, the bytes to send, how to read what comes back.

A client adds only I/O: it sends `Call.request` to `Call.method` and hands the bytes that come back
to `Call.read`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import StringValue

from kinrec.client import _checks, _requests, _responses
from kinrec.client._errors import InvalidRequestError, ServerError, invalid_field
from kinrec.client._options import Query
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.message import Message

    from kinrec.client._errors import KinrecError
    from kinrec.client._options import Condition
    from kinrec.client._responses import StreamEnd
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

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")

SERVICE = pb.DESCRIPTOR.services_by_name["RecommenderService"].full_name
STREAM_METHOD = f"/{SERVICE}/RecommendStream"


@dataclass(frozen=True, slots=True)
class Call(Generic[_Result]):
    """A call to make.

    Attributes:
        method: The full name of the method, ``/package.Service/Method``.
        request: The serialized request.
        parse: From the serialized response to the result.
    """

    method: str
    request: bytes
    parse: Callable[[bytes], _Result]

    def read(self, response: bytes) -> _Result:
        """Read the response.

        Raises:
            ServerError: The bytes are not a response of this method.
        """
        try:
            return self.parse(response)
        except (DecodeError, ValueError) as error:
            raise ServerError("the answer of the server cannot be read") from error


def encode_sequence(
    events: Iterable[Event], *, user_id: str | None, state: bytes = b""
) -> Call[EncodeSequenceResult]:
    """Encode a person's behaviour."""
    request = _requests.encode_sequence_request(events, user_id=user_id, state=state)
    return _call("EncodeSequence", request, _responses.encode_sequence_result)


def similar_users(
    events: Iterable[Event],
    *,
    user_id: str | None,
    state: bytes = b"",
    limit: int | None,
    shared_items: int = 0,
    search_effort: int = 1,
    exact: bool = False,
) -> Call[SimilarUsersResult]:
    """Find the users who behave alike."""
    request = _requests.similar_users_request(
        events,
        user_id=user_id,
        state=state,
        limit=limit,
        shared_items=shared_items,
        search_effort=search_effort,
        exact=exact,
    )
    return _call("SimilarUsers", request, _responses.similar_users_result)


def recommend(query: Query) -> Call[RecommendResult]:
    """Recommend items."""
    return _call("Recommend", _requests.recommend_request(query), _responses.recommend_result)


def rank(
    item_ids: Iterable[str],
    events: Iterable[Event],
    *,
    user_id: str | None,
    state: bytes = b"",
    reasons: bool = False,
) -> Call[RankResult]:
    """Put items in order."""
    request = _requests.rank_request(
        item_ids, events, user_id=user_id, state=state, reasons=reasons
    )
    return _call("Rank", request, _responses.rank_result)


def similar_items(
    item_id: str,
    *,
    limit: int | None,
    allow_item_ids: Iterable[str] = (),
    conditions: Iterable[Condition] = (),
) -> Call[SimilarItemsResult]:
    """Find items like another."""
    request = _requests.similar_items_request(
        item_id, limit=limit, allow_item_ids=allow_item_ids, conditions=conditions
    )
    return _call("SimilarItems", request, _responses.similar_items_result)


def batch_encode(queries: Iterable[Query]) -> Call[list[EncodeSequenceResult | KinrecError]]:
    """Encode many people's behaviour."""

    def convert(query: Query) -> pb.EncodeSequenceRequest:
        return _requests.encode_sequence_request(
            query.events, user_id=query.user_id, state=query.state
        )

    requests = _convert_each(queries, convert)
    request = pb.BatchEncodeRequest(requests=_sendable(requests))
    return _call("BatchEncode", request, _filling(requests, _responses.batch_encode_results))


def batch_recommend(queries: Iterable[Query]) -> Call[list[RecommendResult | KinrecError]]:
    """Recommend for many people."""
    requests = _convert_each(queries, _requests.recommend_request)
    request = pb.BatchRecommendRequest(requests=_sendable(requests))
    return _call("BatchRecommend", request, _filling(requests, _responses.batch_recommend_results))


def get_model() -> Call[Model]:
    """Describe the model."""
    return _call("GetModel", pb.GetModelRequest(), _responses.model)


def health() -> Call[Health]:
    """Ask for the health of the recommender service.

    A grpc.health.v1.HealthCheckRequest is on the wire what a StringValue is; using the one for the
    other spares a dependency.
    """
    request = StringValue(value=SERVICE)
    return Call("/grpc.health.v1.Health/Check", request.SerializeToString(), _responses.health)


def stream_start(query: Query) -> bytes:
    """The first message of a stream."""
    return _requests.stream_start(query).SerializeToString()


def stream_events(events: Iterable[Event]) -> bytes:
    """A later message of a stream."""
    return _requests.stream_events(events).SerializeToString()


def read_stream_part(data: bytes) -> RecommendResult | KinrecError | StreamEnd:
    """Read a message that a stream brings.

    Raises:
        ServerError: The bytes are none.
    """
    return Call(STREAM_METHOD, b"", _responses.stream_part).read(data)


def _call(method: str, request: Message, parse: Callable[[bytes], _Result]) -> Call[_Result]:
    return Call(f"/{SERVICE}/{method}", request.SerializeToString(), parse)


def _convert_each(
    queries: Iterable[Query], convert: Callable[[Query], _Request]
) -> list[_Request | InvalidRequestError]:
    """Convert queries; one that no message can hold becomes the error that says so."""
    converted: list[_Request | InvalidRequestError] = []
    for number, query in enumerate(_checks.iterable(queries, "queries", "queries")):
        if not isinstance(query, Query):
            rule = f"must be a Query, not {_checks.kind_of(query)}"
            raise invalid_field(f"queries[{number}]", rule)
        try:
            converted.append(convert(query))
        except InvalidRequestError as error:
            converted.append(error)
    return converted


def _sendable(requests: list[_Request | InvalidRequestError]) -> list[_Request]:
    return [request for request in requests if not isinstance(request, InvalidRequestError)]


def _filling(
    requests: list[_Request | InvalidRequestError],
    parse: Callable[[bytes], list[_Result | KinrecError]],
) -> Callable[[bytes], list[_Result | KinrecError]]:
    """Read results and put the errors of what was not sent into their places."""

    def parse_and_fill(data: bytes) -> list[_Result | KinrecError]:
        results = parse(data)
        if len(results) != len(_sendable(requests)):
            raise ValueError("not one result for each request")
        found = iter(results)
        return [
            request if isinstance(request, InvalidRequestError) else next(found)
            for request in requests
        ]

    return parse_and_fill
