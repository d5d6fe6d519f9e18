"""The kinrec client: ask a recommender server what a person does and wants next.

    from kinrec.client import Client, Event

    with Client("localhost:50051") as client:
        answer = client.recommend([Event("i7", "view"), Event("i9", "buy")], limit=20)
        [(item.item_id, item.score) for item in answer.recommendations]

A session carries what the service knows of a person from call to call, so that each sends only what
is new:

        session = client.session()
        session.recommend([Event("i7", "view")])
        session.recommend([Event("i9", "buy")])

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
    StateError,
    UnavailableError,
    UnknownUserError,
)
from kinrec.client._session import AsyncSession, Session
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
    "AsyncSession",
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
    "Session",
    "SimilarUser",
    "SimilarUsersResult",
    "StateError",
    "UnavailableError",
    "UnknownUserError",
]
