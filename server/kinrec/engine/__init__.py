"""The engine: loads a bundle and answers from it, in process, without grpc and without torch."""

from kinrec.engine._errors import (
    BundleError,
    EngineError,
    InvalidFieldError,
    InvalidStateError,
    NoSubjectError,
    StaleStateError,
    UnknownItemError,
    UnknownUserError,
)
from kinrec.engine._limits import (
    MAX_CONDITION_VALUES,
    MAX_CONDITIONS,
    MAX_EVENTS,
    MAX_ID_BYTES,
    MAX_LIMIT,
    MAX_LISTED_ITEMS,
    MAX_REQUESTS,
)
from kinrec.engine._types import (
    Basis,
    Encoding,
    Event,
    EventReport,
    EventTable,
    Ranking,
    Recommendations,
    SimilarItems,
    SimilarUsers,
)
from kinrec.engine.conditions import AllOf, AnyOf, Condition, NoneOf, NumberRange, TimeRange
from kinrec.engine.engine import Engine
from kinrec.engine.events import GAP_BUCKETS
from kinrec.engine.options import PLAIN, CategoryCap, Options, Query
from kinrec.engine.reasons import Reason
from kinrec.engine.sources import SOURCES
from kinrec.engine.state import VerifiedState, fingerprint_of

__all__ = [
    "GAP_BUCKETS",
    "MAX_CONDITIONS",
    "MAX_CONDITION_VALUES",
    "MAX_EVENTS",
    "MAX_ID_BYTES",
    "MAX_LIMIT",
    "MAX_LISTED_ITEMS",
    "MAX_REQUESTS",
    "PLAIN",
    "SOURCES",
    "AllOf",
    "AnyOf",
    "Basis",
    "BundleError",
    "CategoryCap",
    "Condition",
    "Encoding",
    "Engine",
    "EngineError",
    "Event",
    "EventReport",
    "EventTable",
    "InvalidFieldError",
    "InvalidStateError",
    "NoSubjectError",
    "NoneOf",
    "NumberRange",
    "Options",
    "Query",
    "Ranking",
    "Reason",
    "Recommendations",
    "SimilarItems",
    "SimilarUsers",
    "StaleStateError",
    "TimeRange",
    "UnknownItemError",
    "UnknownUserError",
    "VerifiedState",
    "fingerprint_of",
]
