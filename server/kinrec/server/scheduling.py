"""Tells the system whether a thread that wakes may take the core from the one that works."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TASKS = Path("/proc/self/task")


def is_possible() -> bool:
    """Whether the system can be told: it is Linux."""
    return hasattr(os, "SCHED_BATCH") and _TASKS.is_dir()


def set_patience(is_patient: bool) -> None:  # noqa: FBT001 - nothing else is said
    """Have the threads of this process wait, when they wake, until the one that works rests; or not.

    What comes meanwhile is then looked at together. Every process may ask for as much for itself. A
    thread that begins later does as the one that began it.

    Args:
        is_patient: Whether they wait.
    """
    policy, none = os.SCHED_BATCH if is_patient else os.SCHED_OTHER, os.sched_param(0)
    for task in _TASKS.iterdir():
        # It has ended, or whoever runs this process does not let it ask.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(int(task.name), policy, none)
