"""How a client holds its connections: where to, retries, load balancing, deadlines."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING

from kinrec.client._calls import SERVICE
from kinrec.client._errors import invalid_field
from kinrec.client._targets import target_of
from kinrec.client._token import check_token, is_this_machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

DEFAULT_TIMEOUT = 2.0  # seconds

# Every method only reads, so a call that no server answered may go to the next one: a server that
# stops ends with CANCELLED what it has not begun. The throttle lets the calls be repeated that were
# under way to a server that died, 200 of them at once, and stops repeats while more than half of all
# attempts fail, so that they do not keep a service down. A stream is opened likewise; from its first
# answer on gRPC repeats nothing of it.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 400, "tokenRatio": 1},
}
_WATCHED = _SERVICE_CONFIG | {"healthCheckConfig": {"serviceName": SERVICE}}

_OPTIONS: dict[str, str | int] = {
    # Finds connections that died without a word, within 20 s of the first unanswered ping. Pings
    # go out only while calls do; a server may close connections that ping more often.
    "grpc.keepalive_time_ms": 60_000,
    # A connection that could not be made is tried again before the repeats of a call are used up, which
    # with gRPC's own second they are: a worker that is killed takes those with it that it had not accepted.
    "grpc.initial_reconnect_backoff_ms": 100,
    # A server that was away for long is found again within 10 s, not 2 minutes.
    "grpc.max_reconnect_backoff_ms": 10_000,
    # gRPC takes 4 MiB unless told. A batch of 20,000 items, each with a long id, a title and reasons, is
    # about 60 MB, and the states of 256 people are up to 64 MiB: no answer within the service's own
    # limits is refused for its size.
    "grpc.max_receive_message_length": 128 * 2**20,
    # What gRPC keeps of a call in order to repeat it, 256 KiB unless told; larger calls are not repeated.
    # The server takes no message as large as this.
    "grpc.per_rpc_retry_buffer_size": 16 * 2**20,
}


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """What a client is made of.

    Attributes:
        addresses: Where the servers are: ``host:port``, any target that gRPC resolves, or several
            addresses, as a list or with commas between them.
        timeout: Seconds that a call gets if it does not say.
        credentials: For a connection over TLS; None for one in the clear.
        channel_options: Channel arguments of gRPC; they win over the client's own.
        watch_health: Whether calls go only to servers that say that they are serving. None for
            whenever there are several addresses: a balancer with one address looks after it itself.
        token: Says who calls; None to send none.
        insecure: Whether the token may be sent in the clear to another machine.

    Raises:
        InvalidRequestError: A value cannot be used, or the token would be sent in the clear to another
            machine.
    """

    addresses: str | Sequence[str]
    timeout: float = DEFAULT_TIMEOUT
    credentials: grpc.ChannelCredentials | None = None
    channel_options: Sequence[tuple[str, str | int]] = ()
    watch_health: bool | None = None
    target: str = field(init=False)
    token: str | None = field(default=None, repr=False)
    insecure: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", target_of(self.addresses))
        _check_timeout(self.timeout)
        if self.watch_health is not None and not isinstance(self.watch_health, bool):
            raise invalid_field("watch_health", "must be true, false or None")
        if self.token is not None:
            check_token(self.token)
            is_private = self.credentials is not None or is_this_machine(self.target)
            if not (is_private or self.insecure):
                raise invalid_field(
                    "token", f"is not sent in the clear to {self.target}; give credentials"
                )

    def options(self) -> list[tuple[str, str | int]]:
        """The arguments of the channel."""
        # What is in the clear and may not leave the machine goes through no proxy either.
        is_kept_here = self.token is not None and self.credentials is None and not self.insecure
        own = {"grpc.enable_http_proxy": 0} if is_kept_here else {}
        watch = "," in self.target if self.watch_health is None else self.watch_health
        service_config = {"grpc.service_config": json.dumps(_WATCHED if watch else _SERVICE_CONFIG)}
        return list({**_OPTIONS, **own, **service_config, **dict(self.channel_options)}.items())

    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """What is sent with every call.

        Not by call credentials: gRPC asks for those in a thread of Python at every call, which nearly
        doubles the time of a short one.
        """
        return None if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def seconds(self, timeout: float | None) -> float:
        """The seconds that a call gets.

        Raises:
            InvalidRequestError: `timeout` is not a positive number.
        """
        return self.timeout if timeout is None else _check_timeout(timeout)


def _check_timeout(timeout: float) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, Real):
        raise invalid_field("timeout", f"must be a number, not {type(timeout).__name__}")
    if not (math.isfinite(timeout) and timeout > 0):
        raise invalid_field("timeout", f"must be a positive number of seconds, not {timeout}")
    return float(timeout)
