"""Page tokens: signed, so that they can say where a page begins, and kept by nobody but the caller."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

from kinrec.engine.store import FINGERPRINT_BYTES

if TYPE_CHECKING:
    from kinrec.server.states import StateKeys
    from kinrec.v1 import recommender_pb2 as pb

_DIGEST_BYTES = 16
# Format, fingerprint of the ranking, items before the page, limit of the first page, digest.
_TOKEN = struct.Struct(f"<4s{FINGERPRINT_BYTES}sHH{_DIGEST_BYTES}s")
_FORMAT = b"kpg1"


class InvalidPageTokenError(Exception):
    """A page token is none that this service gave for the request."""

    def __init__(self) -> None:
        super().__init__("page_token: is none that this service gave for this request")


class StalePageTokenError(Exception):
    """A page token is of a bundle that does not answer."""

    def __init__(self) -> None:
        super().__init__("page_token: is of a model that does not answer here; begin again")


class Page(NamedTuple):
    """Where a page begins.

    Attributes:
        skip: How many items the pages before it had.
        depth: The limit of the first page; 0 if this is it.
    """

    skip: int = 0
    depth: int = 0


def read_page(request: pb.RecommendRequest, keys: StateKeys, ranking: bytes) -> Page:
    """Find where the page that a request asks for begins.

    Raises:
        InvalidPageTokenError: The token was changed, or is of another key or request.
        StalePageTokenError: It is of another bundle, or of other weights of an experiment.
    """
    if not request.page_token:
        return Page()
    try:
        sealed = bytes.fromhex(request.page_token)
    except ValueError as error:
        raise InvalidPageTokenError from error
    data = keys.find_signed(sealed)
    if data is None or len(data) != _TOKEN.size or not data.startswith(_FORMAT):
        raise InvalidPageTokenError
    _, its_ranking, skip, depth, digest = _TOKEN.unpack(data)
    if digest != _digest(request):
        raise InvalidPageTokenError
    if its_ranking != ranking:
        raise StalePageTokenError
    return Page(skip, depth)


def next_token(
    request: pb.RecommendRequest, keys: StateKeys, ranking: bytes, page: Page, limit: int
) -> str:
    """Give the token of the page after one of ``limit`` items."""
    depth = page.depth or limit
    data = _TOKEN.pack(_FORMAT, ranking, page.skip + limit, depth, _digest(request))
    return keys.seal(data).hex()


def _digest(request: pb.RecommendRequest) -> bytes:
    """Give what changes with all that a page depends on."""
    token, limit = request.page_token, request.limit
    # Set back at the end: a copy of thousands of events takes longer than all the rest.
    request.page_token, request.limit = "", 0
    # Deterministic within one version of protobuf, which replicas share; another refuses the token.
    data = request.SerializeToString(deterministic=True)
    request.page_token, request.limit = token, limit
    return hashlib.sha256(data).digest()[:_DIGEST_BYTES]
