"""Who calls, and whether they may: an interceptor that stands before all others.

A call that is refused takes none of the threads of those that are not, and its request is not read.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

from kinrec.server.errors import Failure, abort
from kinrec.server.observability.calls import REQUEST_ID, caller
from kinrec.server.pools import in_pool
from kinrec.server.security.tokens import read_tokens
from kinrec.server.security.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Never, TypeVar

    from kinrec.server.inner_grpc.gate import Metadata
    from kinrec.server.security.tokens import Token

    _Request = TypeVar("_Request")
    _Response = TypeVar("_Response")

# Load balancers and supervisors ask it, and have no token; it tells nothing but a status.
_EXEMPT = "/grpc.health.v1.Health/"
_HEADER = "authorization"
_SCHEME = "bearer"
_REFUSAL_THREADS = 2

_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
_MISSING = Failure(
    _UNAUTHENTICATED, "TOKEN_MISSING", "the call carries no token; send 'authorization: Bearer …'"
)
_INVALID = Failure(
    _UNAUTHENTICATED,
    "TOKEN_INVALID",
    "the token is none that the service takes; it may be replaced",
)
_MISWRITTEN = Failure(
    _UNAUTHENTICATED,
    "TOKEN_INVALID",
    "the metadata 'authorization' must come once and be 'Bearer', a blank and the token",
)


class _RefusedError(Exception):
    """The call is not let through.

    Attributes:
        failure: What it ends with.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def current_principal() -> str:
    """The name of the token with which the running call came, for the log; empty if it has none.

    It can be asked for by interceptors within this one and in the handler of the call.
    """
    return caller.get()


class AuthInterceptor(grpc.ServerInterceptor):
    """Lets calls through that carry a token of the file, are allowed to it, and within its rate.

    The calls of the health service need no token. The file is read again when it changes.

    Args:
        path: The file of tokens.
        note: Is told of each call that is refused: its method, what it came with, the code, the reason.
            It gives the id of the call.

    Raises:
        FlagFileError: The file cannot be used.
    """

    def __init__(self, path: Path, note: Callable[[str, Metadata, str, str], str]) -> None:
        self._note = note
        self._tokens = Watched([path], lambda: read_tokens(path))
        self._buckets: dict[tuple[str, float, int], TokenBucket] = {}
        self._pool = ThreadPoolExecutor(_REFUSAL_THREADS, "refusal")

    def caller_of(self, method: str, metadata: Metadata) -> str | None:
        """Give the name of the token with which a call comes; None for a call that will be refused."""
        try:
            token = self._token_of(metadata)
            _check_allowed(token, method)
        except _RefusedError:
            return None
        return token.name

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """Return the handler of the call, or one that refuses it."""
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        if method.startswith(_EXEMPT):
            return continuation(handler_call_details)
        try:
            token = self._token_of(metadata)
            # gRPC runs interceptors and the handler of a call in one context of its own.
            caller.set(token.name)
            _check_allowed(token, method)
            self._check_rate(token)
        except _RefusedError as error:
            failure = error.failure
            request_id = self._note(method, metadata, failure.code.name, failure.reason)
            return self._refusing(failure, request_id)
        return continuation(handler_call_details)

    def _token_of(self, metadata: Metadata) -> Token:
        values = [value for key, value in metadata if key == _HEADER]
        if not values:
            raise _RefusedError(_MISSING)
        scheme, _, presented = str(values[0]).partition(" ")
        if len(values) > 1 or scheme.lower() != _SCHEME or not presented:
            raise _RefusedError(_MISWRITTEN)
        token = self._tokens.get().find(presented)
        if token is None:
            raise _RefusedError(_INVALID)
        return token

    def _check_rate(self, token: Token) -> None:
        if token.rate is None:
            return
        key = (token.name, token.rate, token.burst)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets.setdefault(key, TokenBucket(token.rate, token.burst))
        wait = bucket.take(time.monotonic())
        if wait > 0:
            text = f"the token {token.name} may make {token.rate:g} calls a second"
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            raise _RefusedError(Failure(code, "RATE_LIMITED", text, retry_delay=wait))

    def _refusing(
        self, failure: Failure, request_id: str
    ) -> grpc.RpcMethodHandler[_Request, _Response]:
        def refuse(_requests: Iterator[_Request], context: grpc.ServicerContext) -> Never:
            abort(context, failure, (REQUEST_ID, request_id))

        # Of a stream, whatever the method is: gRPC waits for the request of one that takes a single one,
        # and holds a thread until it comes.
        return grpc.stream_stream_rpc_method_handler(in_pool(self._pool, refuse))


def _check_allowed(token: Token, method: str) -> None:
    if method.rpartition("/")[2] not in token.rpcs:
        text = f"the token {token.name} is not allowed to make this call"
        failure = Failure(grpc.StatusCode.PERMISSION_DENIED, "RPC_NOT_ALLOWED", text)
        raise _RefusedError(failure)


class TokenBucket:
    """A rate with a burst: a bucket into which calls drip at a rate, and each takes one out.

    Args:
        rate: Calls per second, above 0.
        burst: What the bucket holds, at least 1; at first it is full.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._level = self._burst
        self._filled_at = 0.0
        self._lock = threading.Lock()

    def take(self, now: float) -> float:
        """Take a call out.

        Args:
            now: Seconds on a clock that does not go back.

        Returns:
            0 if there was one, else the seconds until there is.
        """
        with self._lock:
            dripped = (now - self._filled_at) * self._rate
            self._level = min(self._burst, self._level + dripped)
            self._filled_at = now
            if self._level < 1:
                return (1 - self._level) / self._rate
            self._level -= 1
            return 0.0
