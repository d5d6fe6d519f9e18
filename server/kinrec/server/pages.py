"""Page tokens: they say where a page begins, and are kept by nobody but the caller.

They are signed together with the request that they go on from, which the next one must repeat.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from kinrec.engine.store import FINGERPRINT_BYTES
from kinrec.server.states import MAC_BYTES

if TYPE_CHECKING:
    from kinrec.server.states import StateKeys
    from kinrec.v1 import recommender_pb2 as pb

# Format, fingerprint of the ranking, items before the page, limit of the first page.
_TOKEN = struct.Struct(f"<4s{FINGERPRINT_BYTES}sHH")
_FORMAT = b"kpg2"


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
    signature, data = sealed[:MAC_BYTES], sealed[MAC_BYTES:]
    if len(data) != _TOKEN.size or not keys.is_signed(data + _same_in_all(request), signature):
        raise InvalidPageTokenError
    form, its_ranking, skip, depth = _TOKEN.unpack(data)
    if form != _FORMAT:
        raise InvalidPageTokenError
    if its_ranking != ranking:
        raise StalePageTokenError
    return Page(skip, depth)


def next_token(
    request: pb.RecommendRequest, keys: StateKeys, ranking: bytes, page: Page, limit: int
) -> str:
    """Give the token of the page after one of ``limit`` items."""
    depth = page.depth or limit
    data = _TOKEN.pack(_FORMAT, ranking, page.skip + limit, depth)
    return (keys.sign(data + _same_in_all(request)) + data).hex()


def _same_in_all(request: pb.RecommendRequest) -> bytes:
    """Give what all requests for pages of one list have in common."""
    token, limit = request.page_token, request.limit
    # Set back at the end: a copy of thousands of events takes longer than all the rest.
    request.page_token, request.limit = "", 0
    # Deterministic within one version of protobuf, which replicas share; another refuses the token.
    data = request.SerializeToString(deterministic=True)
    request.page_token, request.limit = token, limit
    return data
