"""A gRPC server that does nothing: what a call costs before any of it is ours.

Each method takes bytes and returns as many as it was told to, without decoding or encoding.
"""

from __future__ import annotations

import argparse
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE = "kinrec.benchmark.Echo"


def main() -> None:
    """Serve until the process is told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("sizes", nargs="+", metavar="METHOD=BYTES")
    args = parser.parse_args()
    server = grpc.server(ThreadPoolExecutor(args.threads), options=[("grpc.so_reuseport", 0)])
    handlers = {}
    for size in args.sizes:
        method, _, count = size.partition("=")
        handlers[method] = grpc.unary_unary_rpc_method_handler(_answer(bytes(int(count))))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"echo on 127.0.0.1:{port}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM})


def _answer(response: bytes) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    return lambda _request, _context: response


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
