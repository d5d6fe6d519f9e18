"""What the C library's allocator does with memory that is freed, where it is glibc's."""

from __future__ import annotations

import contextlib
import ctypes
import os

# Of malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MOST_MMAP_THRESHOLD = 32 << 20  # that glibc takes


def use_one_heap() -> None:
    """Let all threads allocate from one heap.

    With a heap for each thread, what large requests took stays in every heap that ever saw one: under
    hostile calls a server grows to three times what it needs.
    """
    with contextlib.suppress(AttributeError):  # of another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def keep_freed(size: int) -> None:
    """Keep up to so many freed bytes for the next request, in place of giving them back.

    By default glibc gives back all arrays of some 100 KB as soon as they are freed, and takes pages anew
    from the system, which fills them with zeros, for the next: over and over in work that makes
    arrays of a few sizes. An environment that has settings for it is left alone.

    Args:
        size: Bytes.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(AttributeError):  # of another C library
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_THRESHOLD, min(size, _MOST_MMAP_THRESHOLD))
        allocator.mallopt(_M_TRIM_THRESHOLD, size)
