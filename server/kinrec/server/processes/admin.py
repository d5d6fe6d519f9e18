"""The admin calls, over HTTP and from this machine alone.

The process of the supervisor answers them, so that one call reaches all workers.
"""

from __future__ import annotations

import json
import queue
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from kinrec.server.port import PortError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HOST = "127.0.0.1"
_ANSWER_SECONDS = 600.0  # the longest that the supervisor is waited for: it may load a version
_READ_SECONDS = 10.0  # the longest that a client may take to say what it wants

Answer = dict[str, object]
"""What a call is answered with, as JSON; ``refused`` says why what was asked for was not done."""


class AdminServer:
    """Listens on a port of 127.0.0.1.

    Args:
        port: The port; 0 takes a free one.
        calls: By method and path, e.g. ``"POST /reload"``: is given a function to answer with, which
            it may call later and from another thread.

    Raises:
        PortError: The port cannot be listened on.
    """

    def __init__(
        self, port: int, calls: Mapping[str, Callable[[Callable[[Answer], None]], None]]
    ) -> None:
        try:
            self._server = _Server((_HOST, port), _Handler)
        except OSError as error:
            raise PortError(
                f"--admin-port: cannot listen on {_HOST}:{port}: {error.strerror}"
            ) from error
        self._server.calls = calls
        threading.Thread(target=self._server.serve_forever, name="admin", daemon=True).start()

    @property
    def address(self) -> str:
        """The address listened on, ``host:port``."""
        return f"{_HOST}:{self._server.server_port}"

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    calls: Mapping[str, Callable[[Callable[[Answer], None]], None]]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _READ_SECONDS
    server_version = "kinrec"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a call that changes nothing."""
        self._answer()

    def do_POST(self) -> None:
        """Answer a call that changes something."""
        self._answer()

    def _answer(self) -> None:
        call = self.server.calls.get(f"{self.command} {self.path}")
        # A page in a browser of this machine can send a request here under a name of its own.
        host = self.headers.get("Host", "").rpartition(":")[0]
        if call is None or host not in {_HOST, "localhost"}:
            known = ", ".join(sorted(self.server.calls))
            self._send(HTTPStatus.NOT_FOUND, {"refused": f"no such call; there are {known}"})
            return
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        call(answers.put)
        try:
            answer = answers.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            self._send(HTTPStatus.GATEWAY_TIMEOUT, {"refused": "the server did not answer in time"})
            return
        self._send(HTTPStatus.CONFLICT if answer.get("refused") else HTTPStatus.OK, answer)

    def _send(self, status: HTTPStatus, answer: Answer) -> None:
        body = json.dumps(answer).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - of the library
        """Write nothing of calls: what they bring about is logged where it happens."""
