"""The engine: loads a bundle and answers from it, in process, without grpc and without torch."""

from kinrec.engine._errors import (
    BundleError,
    EngineError,
    InvalidFieldError,
    InvalidStateError,
    NoSubjectError,
    StaleStateError,
    UnknownUserError,
)
from kinrec.engine._limits import MAX_EVENTS, MAX_EXCLUDED_ITEMS, MAX_ID_BYTES, MAX_LIMIT
from kinrec.engine._types import (
    Basis,
    Encoding,
    Event,
    EventReport,
    Recommendations,
    SimilarUsers,
)
from kinrec.engine.engine import Engine
from kinrec.engine.events import GAP_BUCKETS
from kinrec.engine.state import fingerprint_of

__all__ = [
    "GAP_BUCKETS",
    "MAX_EVENTS",
    "MAX_EXCLUDED_ITEMS",
    "MAX_ID_BYTES",
    "MAX_LIMIT",
    "Basis",
    "BundleError",
    "Encoding",
    "Engine",
    "EngineError",
    "Event",
    "EventReport",
    "InvalidFieldError",
    "InvalidStateError",
    "NoSubjectError",
    "Recommendations",
    "SimilarUsers",
    "StaleStateError",
    "UnknownUserError",
    "fingerprint_of",
]
