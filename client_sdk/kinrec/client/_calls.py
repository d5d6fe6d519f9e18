"""The calls that both clients make: a method, the bytes to send, how to read what comes back.

A client adds only I/O: it sends `Call.request` to `Call.method` and hands the bytes that come back
to `Call.read`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import StringValue

from kinrec.client import _requests, _responses
from kinrec.client._errors import ServerError
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kinrec.client._types import (
        EncodeSequenceResult,
        Event,
        Health,
        Model,
        RecommendResult,
        SimilarUsersResult,
    )

_Result = TypeVar("_Result")

SERVICE = pb.DESCRIPTOR.services_by_name["RecommenderService"].full_name


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
    return Call(
        f"/{SERVICE}/EncodeSequence",
        request.SerializeToString(),
        _responses.encode_sequence_result,
    )


def similar_users(
    events: Iterable[Event], *, user_id: str | None, state: bytes = b"", limit: int | None
) -> Call[SimilarUsersResult]:
    """Find the users who behave alike."""
    request = _requests.similar_users_request(events, user_id=user_id, state=state, limit=limit)
    return Call(
        f"/{SERVICE}/SimilarUsers", request.SerializeToString(), _responses.similar_users_result
    )


def recommend(
    events: Iterable[Event],
    *,
    user_id: str | None,
    state: bytes = b"",
    limit: int | None,
    include_seen: bool | None,
    exclude_item_ids: Iterable[str],
) -> Call[RecommendResult]:
    """Recommend items."""
    request = _requests.recommend_request(
        events,
        user_id=user_id,
        state=state,
        limit=limit,
        include_seen=include_seen,
        exclude_item_ids=exclude_item_ids,
    )
    return Call(f"/{SERVICE}/Recommend", request.SerializeToString(), _responses.recommend_result)


def get_model() -> Call[Model]:
    """Describe the model."""
    return Call(f"/{SERVICE}/GetModel", pb.GetModelRequest().SerializeToString(), _responses.model)


def health() -> Call[Health]:
    """Ask for the health of the recommender service.

    A grpc.health.v1.HealthCheckRequest is on the wire what a StringValue is; using the one for the
    other spares a dependency.
    """
    request = StringValue(value=SERVICE)
    return Call("/grpc.health.v1.Health/Check", request.SerializeToString(), _responses.health)
