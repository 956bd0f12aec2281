"""What was freed is given back, by the C library and by CPython."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: what others have left in this one would be given back as well.
PIECES = """
import ctypes, os
from d2serve.handlers.torchserve import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

free = memory.WorkerMemory()
pieces = [bytearray(100_000) for _ in range(1000)]  # each too small for pages of its own
del pieces[::2]
kept = resident()
free.trim_if_due()
early = resident()
memory.time.monotonic = lambda: free._next
free.trim_if_due()
print(kept - early, early - resident())
"""
TUPLES = """
import gc, sys
from d2serve.handlers.torchserve import memory

free = memory.WorkerMemory()
free.freeze_loaded()
print(gc.get_freeze_count(), len(gc.get_objects()))
rows = [(*range(15),) for _ in range(1000)]
del rows  # CPython keeps them for the next tuples of that length
kept = sys.getallocatedblocks()
memory.time.monotonic = lambda: free._next
free.trim_if_due()
print(kept - sys.getallocatedblocks())
"""


def printed(script: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return [int(each) for each in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_pieces_go_when_due() -> None:
    early, late = printed(PIECES)
    assert early < 1_000_000
    assert late > 40_000_000


def test_freed_tuples_go_and_what_stays_is_not_looked_at() -> None:
    frozen, looked_at, given_back = printed(TUPLES)
    assert frozen > 50 * looked_at
    assert given_back > 900
