"""Sets up a process that trains."""

from __future__ import annotations

import os

from kinrec.engine.memory import keep_freed

KEPT = 256 << 20


def set_up() -> None:
    """Choose how threads wait and what becomes of freed memory; before torch is imported.

    By default threads that wait for each other spin. Where something else needs the cores too, each then
    waits for threads that cannot go on because others spin: the steps of a fit, which are small, took
    four times as long beside other work, and no less without it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed(KEPT)
