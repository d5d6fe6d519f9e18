"""A real server that says what a test tells it to say, and both clients to ask it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from kinrec.client import AsyncClient, Client
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message


class Refusal:
    """How a call is refused.

    Args:
        code: The status.
        text: What is said beside it.
        details: What lies in the trailing metadata; bytes are sent as they are.
    """

    def __init__(self, code: grpc.StatusCode, text: str = "", details: bytes = b"") -> None:
        self.code = code
        self.text = text
        self.details = details


def rich_details(reason: str = "", violation: tuple[str, str] | None = None) -> bytes:
    """A serialized google.rpc.Status as the kinrec server sends it."""
    status = Status()
    messages: list[Message] = []
    if reason:
        messages.append(ErrorInfo(reason=reason, domain="kinrec"))
    if violation:
        field, rule = violation
        fault = BadRequest.FieldViolation(field=field, description=rule)
        messages.append(BadRequest(field_violations=[fault]))
    for message in messages:
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    return status.SerializeToString()


class ScriptedServer(grpc.GenericRpcHandler):
    """Answers each call with the next line of its script, and notes what it was sent.

    A line is a message, bytes to send as they are, or a `Refusal`; the last one is repeated. While
    `gate` is closed no call is answered. On a stream each message of the caller is a call, and so is,
    with no bytes, the end of its side. When a stream has ended, a while after its last answer, `awaited`
    has whether its caller still waited.
    """

    def __init__(self) -> None:
        self.script: list[Message | bytes | Refusal] = []
        self.calls: list[tuple[str, bytes]] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.awaited: list[bool] = []
        self.address = ""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Take every method."""
        method = details.method

        def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls.append((method, data))
            self.entered.set()
            assert self.gate.wait(30)
            line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if isinstance(line, Refusal):
                if line.details:
                    context.set_trailing_metadata((("grpc-status-details-bin", line.details),))
                context.abort(line.code, line.text)
            return line if isinstance(line, bytes) else line.SerializeToString()

        def answer_each(
            messages: Iterator[bytes], context: grpc.ServicerContext
        ) -> Iterator[bytes]:
            for data in messages:
                yield answer(data, context)
            yield answer(b"", context)
            time.sleep(0.05)
            self.awaited.append(context.is_active())

        if method.endswith("/RecommendStream"):
            return grpc.stream_stream_rpc_method_handler(answer_each)
        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def server():
    """A scripted server on a free port."""
    scripted = ScriptedServer()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[scripted])
    scripted.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield scripted
    scripted.gate.set()
    assert server.stop(0).wait(10)


@pytest.fixture(params=["sync", "async"])
def ask(request, server) -> Callable[..., object]:
    """Call a method of a new client of the server: `ask("recommend", events, limit=3)`.

    Every test that asks by it holds for both clients.
    """

    def ask_sync(method, *args, target=server.address, **kwargs):
        with Client(target) as client:
            return getattr(client, method)(*args, **kwargs)

    def ask_async(method, *args, target=server.address, **kwargs):
        async def once():
            async with AsyncClient(target) as client:
                return await getattr(client, method)(*args, **kwargs)

        return asyncio.run(once())

    return ask_sync if request.param == "sync" else ask_async


RECOMMENDED = pb.RecommendResponse(
    recommendations=[
        pb.Recommendation(item_id="i9", score=0.75, title="Grüner Tee"),
        pb.Recommendation(item_id="item-with-a-long-id", score=0.5, title="\x1b[31mRed\nTea"),
    ],
    basis=pb.BASIS_PERSONAL,
    model_version="v1",
    known_user=True,
    event_report=pb.EventReport(received=2, used=1, unknown_item=1),
)


@pytest.fixture
def call(server):
    """Run `kinrec call` against the server to its end."""

    def run(*arguments, target=server.address, stdin="", **environment):
        return subprocess.run(
            [sys.executable, "-m", "kinrec.cli", "call", *arguments, "--target", target],
            capture_output=True,
            input=stdin,
            encoding="utf-8",
            timeout=60,
            check=False,
            env={**os.environ, **environment},
        )

    return run


def sent(server, kind):
    """The one request that the server got."""
    ((_, data),) = server.calls
    return kind.FromString(data)


def failed(done, code):
    """The one line on standard error with which a call failed."""
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    return line


def stream_answers(*versions):
    """Give answers that differ."""
    return [
        pb.RecommendStreamResponse(response=pb.RecommendResponse(model_version=version))
        for version in versions
    ]


STREAM_END = pb.RecommendStreamResponse(end=pb.StreamEnd(state=b"state"))
