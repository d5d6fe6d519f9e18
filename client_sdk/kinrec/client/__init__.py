"""The kinrec client: ask a recommender server what a person does and wants next.

    from kinrec.client import Client, Event

    with Client("localhost:50051") as client:
        answer = client.recommend([Event("i7", "view"), Event("i9", "buy")], limit=20)
        [(item.item_id, item.score) for item in answer.recommendations]

`Client` blocks, `AsyncClient` is awaited; both take the same questions, give the same answers and
raise the same errors, all of which are `KinrecError`.
"""

from kinrec.client._async import AsyncClient
from kinrec.client._errors import (
    ClientClosedError,
    DeadlineExceededError,
    FieldViolation,
    InvalidRequestError,
    KinrecError,
    ServerError,
    UnavailableError,
    UnknownUserError,
)
from kinrec.client._sync import Client
from kinrec.client._types import (
    Basis,
    EncodeSequenceResult,
    Event,
    EventReport,
    Health,
    Model,
    Recommendation,
    RecommendResult,
    SimilarUser,
    SimilarUsersResult,
)

__all__ = [
    "AsyncClient",
    "Basis",
    "Client",
    "ClientClosedError",
    "DeadlineExceededError",
    "EncodeSequenceResult",
    "Event",
    "EventReport",
    "FieldViolation",
    "Health",
    "InvalidRequestError",
    "KinrecError",
    "Model",
    "RecommendResult",
    "Recommendation",
    "ServerError",
    "SimilarUser",
    "SimilarUsersResult",
    "UnavailableError",
    "UnknownUserError",
]
