"""From exceptions to statuses: one interceptor around every call, one table.

The details that a status carries are described in `kinrec.v1.ErrorReason`. What the caller cannot
mend is logged in full under a request id; the caller gets the id and nothing else.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import status_pb2  # type: ignore[import-untyped]

# The package ships stubs without saying so by a py.typed.
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    RetryInfo,
)

from kinrec.engine import (
    InvalidFieldError,
    InvalidStateError,
    NoSubjectError,
    StaleStateError,
    UnknownItemError,
    UnknownUserError,
)
from kinrec.server.inner_grpc.gate import Status
from kinrec.server.observability.call_log import fields_of
from kinrec.server.observability.calls import REQUEST_ID, Calls, current_call, note_failure
from kinrec.server.pages import InvalidPageTokenError, StalePageTokenError
from kinrec.server.parts import check_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Never, TypeVar

    from kinrec.server.observability.calls import Call

    _Request = TypeVar("_Request")
    _Response = TypeVar("_Response")

DOMAIN = "kinrec"
_DETAILS_KEY = "grpc-status-details-bin"
_LARGE = 1 << 20  # bytes

_log = logging.getLogger(__name__)
_large = threading.Lock()


class OverloadedError(Exception):
    """The server holds as much as it is willing to hold. The text says of what.

    Args:
        text: What the caller reads.
        retry_delay: Seconds after which it may be worth another try; 0 if nobody knows.
    """

    def __init__(self, text: str, retry_delay: float = 0.0) -> None:
        super().__init__(text)
        self.retry_delay = retry_delay


GIVEN_UP = OverloadedError("others came, and the message of this call had not", 1.0)
"""Ends calls whose message does not come, when there are too many."""


NO_THREAD = OverloadedError("the server can have no thread for this call", 1.0)
"""Ends calls for which the system has no thread."""


class CallEndedError(Exception):
    """The caller has gone before it was answered."""

    def __init__(self) -> None:
        super().__init__("the call has ended")


@dataclass(frozen=True, slots=True)
class Failure:
    """A status to end a call with.

    Attributes:
        code: The status code.
        reason: A name of `kinrec.v1.ErrorReason` without its prefix.
        message: What the caller reads.
        field: The field of the request that breaks a rule; empty if the fault is in none.
        rule: The rule that it breaks; empty if the request is not at fault.
        retry_delay: Seconds to wait before another try; 0 if there is nothing to say.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    field: str = ""
    rule: str = ""
    retry_delay: float = 0.0

    @functools.lru_cache(maxsize=64)  # noqa: B019 - of what many calls at once are told
    def details(self) -> bytes:
        """The serialized google.rpc.Status."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        info = ErrorInfo(reason=self.reason, domain=DOMAIN)
        status.details.append(_packed(info))
        if self.rule:
            violation = BadRequest.FieldViolation(field=self.field, description=self.rule)
            status.details.append(_packed(BadRequest(field_violations=[violation])))
        if self.retry_delay > 0:
            retry = RetryInfo()
            retry.retry_delay.FromMicroseconds(math.ceil(self.retry_delay * 1e6))
            status.details.append(_packed(retry))
        data: bytes = status.SerializeToString()
        return data


# What is the fault of no field.
_PLAIN: dict[type[BaseException], tuple[grpc.StatusCode, str]] = {
    UnknownUserError: (grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER"),
    UnknownItemError: (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ITEM"),
    StaleStateError: (grpc.StatusCode.FAILED_PRECONDITION, "STATE_STALE"),
    StalePageTokenError: (grpc.StatusCode.FAILED_PRECONDITION, "PAGE_TOKEN_STALE"),
    CallEndedError: (grpc.StatusCode.CANCELLED, "UNAVAILABLE"),  # which nobody reads
}


# What is the fault of one field, always the same.
_RULES: dict[type[BaseException], tuple[str, str, str]] = {
    NoSubjectError: (
        "NO_SUBJECT",
        "user_id",
        "at least one of user_id, events and state must be given",
    ),
    InvalidStateError: ("STATE_INVALID", "state", "must be as an answer of this service gave it"),
    InvalidPageTokenError: (
        "PAGE_TOKEN_INVALID",
        "page_token",
        "must be the next_page_token of an answer to the same request",
    ),
}


def failure_of(error: BaseException) -> Failure:
    """How an exception ends a call, or a part of one, which notes it."""
    failure = _look_up(error)
    if not isinstance(error, CallEndedError):
        note_failure(failure.reason)
    return failure


def _look_up(error: BaseException) -> Failure:
    """The table."""
    text, invalid = str(error), grpc.StatusCode.INVALID_ARGUMENT
    kind = type(error)
    if kind in _PLAIN:
        return Failure(*_PLAIN[kind], text)
    if kind in _RULES:
        reason, field, rule = _RULES[kind]
        return Failure(invalid, reason, text, field, rule)
    match error:
        case OverloadedError(retry_delay=delay):
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            return Failure(code, "UNAVAILABLE", text, retry_delay=delay)
        case InvalidFieldError(field=field, rule=rule):
            return Failure(invalid, "INVALID_FIELD", text, field, rule)
        case DecodeError():  # the text of the decoder tells of its inside, not of the mistake
            rule = "the bytes are not a message of the type that the method takes"
            return Failure(invalid, "MALFORMED_MESSAGE", rule, "", rule)
        case _:
            return _unexpected(error)


class ErrorInterceptor(grpc.ServerInterceptor):
    """Ends a call that raises with the status that the table says.

    It also decodes the request, because bytes that gRPC itself cannot decode end in a traceback in
    the log and a status without details.

    Args:
        service: The full name of the service whose calls are watched.
        calls: Is told of them; None if nobody is.
    """

    def __init__(self, service: str = "", calls: Calls | None = None) -> None:
        self._prefix = f"/{service}/"
        self._calls = calls or Calls()
        self._guarded: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """Return the handler of the call, guarded."""
        method = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = continuation(handler_call_details)
            if handler is None:  # nobody implements the method
                self._calls.unknown_method()
                return None
            guarded = self._guarded[method] = self._guard(method, handler)
        return guarded

    def _guard(
        self, method: str, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        if not method.startswith(self._prefix):
            return _guard_stream(handler) if handler.request_streaming else _guard(handler)
        name = method.removeprefix(self._prefix)
        watch = _watch_stream if handler.request_streaming else _watch
        return watch(handler, name, self._calls)


def _decode(decode: Any, data: bytes) -> Any:  # noqa: ANN401 - of any method
    """Decode a message; of large ones one at a time, for made of small parts they take many times as much.

    Raises:
        InvalidFieldError: It has more parts than any request may have.
    """
    if len(data) < _LARGE:
        return decode(data)
    check_parts(decode.__self__.DESCRIPTOR, data)
    with _large:
        return decode(data)


def _guard(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    behaviour: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary
    decode: Any = handler.request_deserializer

    @functools.wraps(behaviour)  # keeps the attributes that name the thread pool
    def guarded(data: bytes, context: grpc.ServicerContext, *send: object) -> object:
        try:
            return behaviour(_decode(decode, data), context, *send)
        # An exception that escapes here leaks its text, or leaves the caller hanging.
        except BaseException as error:  # noqa: BLE001
            failure = failure_of(error)
        abort(context, failure)

    make = (
        grpc.unary_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make(guarded, response_serializer=handler.response_serializer)


def _guard_stream(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    behaviour: Any = handler.stream_stream
    decode: Any = handler.request_deserializer

    @functools.wraps(behaviour)
    def guarded(data: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[object]:
        try:
            yield from behaviour((_decode(decode, one) for one in data), context)
        except Exception as error:  # noqa: BLE001 - as above
            if not context.is_active():  # the caller is gone, which reading tells by an exception
                return
            failure = failure_of(error)
        else:
            return
        abort(context, failure)

    return grpc.stream_stream_rpc_method_handler(
        guarded, response_serializer=handler.response_serializer
    )


def _watch(
    handler: grpc.RpcMethodHandler[Any, Any], method: str, calls: Calls
) -> grpc.RpcMethodHandler[Any, Any]:
    """As ``_guard``, for a call that is watched."""
    behaviour: Any = handler.unary_unary
    decode: Any = handler.request_deserializer
    encode: Any = handler.response_serializer

    @functools.wraps(behaviour)
    def watched(data: bytes, context: grpc.ServicerContext) -> bytes:
        call = calls.begin(method, context)
        try:
            call.request = request = _decode(decode, data)
            answer: bytes = encode(behaviour(request, context))
        except BaseException as error:  # noqa: BLE001 - as above
            failure = failure_of(error)
        else:
            calls.answered(call)
            calls.end(call)
            return answer
        _end(calls, call, failure)

    return grpc.unary_unary_rpc_method_handler(watched)


def _watch_stream(
    handler: grpc.RpcMethodHandler[Any, Any], method: str, calls: Calls
) -> grpc.RpcMethodHandler[Any, Any]:
    """As ``_guard_stream``, for a stream of which each message is watched."""
    behaviour: Any = handler.stream_stream
    decode: Any = handler.request_deserializer
    encode: Any = handler.response_serializer

    def requests(call: Call, data: Iterator[bytes]) -> Iterator[object]:
        for one in data:
            call.renew()
            call.request = _decode(decode, one)
            yield call.request

    @functools.wraps(behaviour)
    def watched(data: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        call = calls.begin(method, context, is_stream=True)
        try:
            for response in behaviour(requests(call, data), context):
                answer = encode(response)
                if not call.ended:  # the last word of a stream answers no message
                    calls.answered(call)
                yield answer
        except GeneratorExit:  # gRPC has given the stream up
            calls.end(call)
            raise
        except Exception as error:  # noqa: BLE001 - as above
            if not context.is_active():  # the caller is gone, which reading tells by an exception
                calls.end(call)
                return
            failure = failure_of(error)
        else:
            calls.end(call)
            return
        _end(calls, call, failure)

    return grpc.stream_stream_rpc_method_handler(watched)


def _end(calls: Calls, call: Call, failure: Failure) -> Never:
    context, request_id = call.context, call.request_id
    if failure.code is grpc.StatusCode.CANCELLED:  # the caller has gone, which is nobody's failure
        calls.end(call)
    else:
        calls.end(call, failure.code.name, failure.reason)
    abort(context, failure, (REQUEST_ID, request_id))


def abort(
    context: grpc.ServicerContext, failure: Failure, *metadata: tuple[str, str | bytes]
) -> Never:
    """End a call with a failure and its details, and with more trailing metadata."""
    context.set_trailing_metadata(((_DETAILS_KEY, failure.details()), *metadata))
    context.abort(failure.code, failure.message)


def status_of(error: BaseException, *metadata: tuple[str, str | bytes]) -> Status:
    """Give how a call ends with an exception that nobody raises: see ``inner_grpc.gate``."""
    failure = _look_up(error)
    code: int = failure.code.value[0]
    told = ((_DETAILS_KEY, failure.details()), *metadata)
    return Status(code, failure.message.encode(), told)


def _unexpected(error: BaseException) -> Failure:
    call = current_call()
    request_id = uuid.uuid4().hex if call is None else call.request_id
    fields = {"request_id": request_id} if call is None else fields_of(call)
    _log.error("request %s failed", request_id, exc_info=error, extra=fields)
    return Failure(
        grpc.StatusCode.INTERNAL, "INTERNAL", f"the service failed; request id {request_id}"
    )


def _packed(message: ErrorInfo | BadRequest | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
