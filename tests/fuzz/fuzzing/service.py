"""The service as its descriptor says: its methods, and what a call of one sends and brings back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from google.protobuf.descriptor import MethodDescriptor

SERVICE = pb.DESCRIPTOR.services_by_name["RecommenderService"]
METHODS: tuple[MethodDescriptor, ...] = tuple(SERVICE.methods)

DEADLINE = 10.0  # seconds that any call may take
_DETAILS_KEY = "grpc-status-details-bin"
_SHOWN = 2_000  # characters of a request that are printed


@dataclass(frozen=True, slots=True)
class Call:
    """A call to make.

    Attributes:
        method: What is called.
        payloads: The bytes of the request, or of each request of a stream.
    """

    method: MethodDescriptor
    payloads: tuple[bytes, ...]

    def requests(self) -> Iterator[Message | None]:
        """What the server should read; None for bytes that are no message."""
        for payload in self.payloads:
            try:
                yield GetMessageClass(self.method.input_type).FromString(payload)
            except DecodeError:
                yield None

    def __repr__(self) -> str:
        """Show what to send to see the same again."""
        lines = [f"{self.method.full_name}, {len(self.payloads)} request(s)"]
        for payload, request in zip(self.payloads, self.requests(), strict=True):
            if request is not None:
                text = text_format.MessageToString(request, as_one_line=True)
                lines.append(f"  text:  {_short(text)}")
            lines.append(f"  bytes: {_short(payload.hex())} ({len(payload):,} bytes)")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to.

    Attributes:
        code: The status.
        text: The text beside it.
        details: The serialized google.rpc.Status; empty if there is none.
        answers: The responses.
        seconds: How long it took.
    """

    code: grpc.StatusCode
    text: str
    details: bytes
    answers: tuple[Message, ...]
    seconds: float

    @property
    def reason(self) -> str:
        """The reason in the details; empty if there is none that can be read."""
        info = ErrorInfo()
        try:
            for detail in Status.FromString(self.details).details:
                detail.Unpack(info)
        except DecodeError:
            return ""
        return info.reason


class Target:
    """A server to call, over a connection of its own."""

    def __init__(self, address: str, methods: Iterable[MethodDescriptor] = METHODS) -> None:
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._send = {method.full_name: self._sender(method) for method in methods}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def send(self, call: Call) -> Outcome:
        """Make a call, whatever becomes of it."""
        answers: list[bytes] = []
        code, text, details = grpc.StatusCode.OK, "", b""
        before = time.monotonic()
        try:
            answers.extend(self._send[call.method.full_name](call.payloads))
        except grpc.RpcError as error:
            failed: Any = error
            code, text = failed.code(), failed.details() or ""
            details = dict(failed.trailing_metadata() or ()).get(_DETAILS_KEY, b"")
        seconds = time.monotonic() - before
        make = GetMessageClass(call.method.output_type)
        return Outcome(code, text, details, tuple(map(make.FromString, answers)), seconds)

    def _sender(self, method: MethodDescriptor) -> Callable[[tuple[bytes, ...]], Iterator[bytes]]:
        """Bytes in, bytes out, for any kind of method."""
        kinds = {
            (False, False): self._channel.unary_unary,
            (False, True): self._channel.unary_stream,
            (True, False): self._channel.stream_unary,
            (True, True): self._channel.stream_stream,
        }
        make: Any = kinds[method.client_streaming, method.server_streaming]
        ask = make(f"/{method.containing_service.full_name}/{method.name}")

        def send(payloads: tuple[bytes, ...]) -> Iterator[bytes]:
            request = iter(payloads) if method.client_streaming else payloads[0]
            answer = ask(request, timeout=DEADLINE)
            if method.server_streaming:
                yield from answer
            else:
                yield answer

        return send


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
