"""What is freed is kept for the next request where that is asked for."""

import os
import subprocess
import sys

import pytest

# Eight arrays of 1 MiB at a time, ten times, and how many pages the system had to give after the first.
PROGRAM = """
import resource, sys
import numpy as np
from kinrec.engine.memory import keep_freed
if sys.argv[1] == "keep":
    keep_freed(64 << 20)
[np.ones(1 << 17) for _ in range(8)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    [np.ones(1 << 17) for _ in range(8)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = (8 << 20) // os.sysconf("SC_PAGESIZE")


def pages_taken(how, **environment):
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(found.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these settings")
def test_freed_arrays_are_used_again():
    """Without it the system gives the pages of the arrays anew, every time."""
    if pages_taken("give back") < 5 * PAGES:
        pytest.skip("the C library keeps them anyway")
    assert pages_taken("keep") < PAGES


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these settings")
def test_an_environment_with_settings_is_left_alone():
    """Who set the allocator up knows better."""
    given = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    assert pages_taken("keep", **given) > 5 * PAGES
