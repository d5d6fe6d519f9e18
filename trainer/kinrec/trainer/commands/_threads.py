"""How the threads of training wait for each other."""

from __future__ import annotations

import os


def yield_cores() -> None:
    """Let threads that wait for each other leave the core to others; before torch is imported.

    By default they spin. Where something else needs the cores too, each then waits for threads that
    cannot go on because others spin: the steps of a fit, which are small, took four times as long beside
    other work, and no less without it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
