"""What the processes of a server write to standard error."""

from __future__ import annotations

import logging


def configure() -> None:
    """Write one line for each message."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
