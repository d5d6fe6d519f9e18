"""The kinrec client: ask a recommender server what a person does and wants next.

    >>> from kinrec.client import Client, Event
    >>> with Client("localhost:50051") as client:
    ...     history = [Event("i7", "view"), Event("i9", "buy")]
    ...     answer = client.recommend(history, limit=20)
    >>> len([(item.item_id, item.score) for item in answer.recommendations])
    20

A session carries what the service knows of a person from call to call, so that each sends only what
is new; a stream leaves it with the service while the person is there:

    >>> with Client("localhost:50051") as client:
    ...     session = client.session()
    ...     before = session.recommend([Event("i7", "view")])
    ...     answer = session.recommend([Event("i9", "buy")])

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
    PageTokenError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    StateError,
    StreamClosedError,
    UnauthenticatedError,
    UnavailableError,
    UnknownItemError,
    UnknownUserError,
)
from kinrec.client._options import (
    AllOf,
    AnyOf,
    CategoryCap,
    Condition,
    NoneOf,
    NumberRange,
    Options,
    Query,
    TimeRange,
)
from kinrec.client._session import AsyncSession, Session
from kinrec.client._streams import AsyncRecommendStream, RecommendStream
from kinrec.client._sync import Client
from kinrec.client._tls import tls_credentials
from kinrec.client._types import (
    Attribute,
    AttributeKind,
    Basis,
    EncodeSequenceResult,
    Event,
    EventReport,
    Health,
    Model,
    OwnItem,
    PersonResult,
    RankResult,
    Reason,
    Recommendation,
    RecommendResult,
    SimilarItem,
    SimilarItemsResult,
    SimilarUser,
    SimilarUsersResult,
    Source,
    SourceShare,
    Voter,
)

__all__ = [
    "AllOf",
    "AnyOf",
    "AsyncClient",
    "AsyncRecommendStream",
    "AsyncSession",
    "Attribute",
    "AttributeKind",
    "Basis",
    "CategoryCap",
    "Client",
    "ClientClosedError",
    "Condition",
    "DeadlineExceededError",
    "EncodeSequenceResult",
    "Event",
    "EventReport",
    "FieldViolation",
    "Health",
    "InvalidRequestError",
    "KinrecError",
    "Model",
    "NoneOf",
    "NumberRange",
    "Options",
    "OwnItem",
    "PageTokenError",
    "PermissionDeniedError",
    "PersonResult",
    "Query",
    "RankResult",
    "RateLimitError",
    "Reason",
    "RecommendResult",
    "RecommendStream",
    "Recommendation",
    "ServerError",
    "Session",
    "SimilarItem",
    "SimilarItemsResult",
    "SimilarUser",
    "SimilarUsersResult",
    "Source",
    "SourceShare",
    "StateError",
    "StreamClosedError",
    "TimeRange",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownItemError",
    "UnknownUserError",
    "Voter",
    "tls_credentials",
]
