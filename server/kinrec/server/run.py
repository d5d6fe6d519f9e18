"""Runs a server: its supervisor here, and the workers that the supervisor starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinrec.server.supervisor import Supervisor
from kinrec.server.versions import Versions

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.server.config import ServerConfig


def run(store: Path, version: str | None, config: ServerConfig) -> None:
    """Serve a bundle until SIGTERM or SIGINT; see ``Supervisor.run``.

    Args:
        store: The store, or the bundle itself.
        version: The version; None for the one that the store pins or else the newest, and from then
            on for those that take its place.
        config: How to serve.

    Raises:
        BundleError: No bundle can be used, or must have passed ``kinrec verify`` and has not.
        PortError: The address cannot be listened on.
        WorkerError: Workers end before they serve.
    """
    Supervisor(Versions(store, version), config).run()
