"""What was freed is given back, by the C library and by CPython."""

from __future__ import annotations

import subprocess
import sys

import pytest

from d2serve.handlers.torchserve import memory
from d2serve.handlers.torchserve.memory import WorkerMemory

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
free.give_back_if_due()
early = resident()
memory.time.monotonic = lambda: free._next
free.give_back_if_due()
print(kept - early, early - resident())
"""
LARGE = """
import os
from d2serve.handlers.torchserve import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

memory.WorkerMemory()
for _ in range(3):  # glibc would learn from these to take such pieces from its heap
    bytearray(3_000_000)
pieces = [bytearray(2_000_000) for _ in range(40)]
held = resident()
del pieces[::2]
print(held - resident())
"""
TUPLES = """
import gc, sys
from d2serve.handlers.torchserve import memory

free = memory.WorkerMemory()
free.model_is_loaded(lambda: None)
print(gc.get_freeze_count(), len(gc.get_objects()))
rows = [(*range(15),) for _ in range(1000)]
del rows  # CPython keeps them for the next tuples of that length
kept = sys.getallocatedblocks()
memory.time.monotonic = lambda: free._next
free.give_back_if_due()
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


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_large_pieces_go_as_soon_as_they_are_freed() -> None:
    (gone,) = printed(LARGE)
    assert gone > 38_000_000


def test_freed_tuples_go_and_what_stays_is_not_looked_at() -> None:
    frozen, looked_at, given_back = printed(TUPLES)
    assert frozen > 50 * looked_at
    assert given_back > 900


def test_the_runtime_gives_up_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.gc, "freeze", lambda: None)
    released: list[int] = []
    kept = WorkerMemory()
    kept.model_is_loaded(lambda: released.append(1))
    kept.give_back_if_due()
    assert released == [1]
    kept.give_back()
    assert released == [1, 1]
