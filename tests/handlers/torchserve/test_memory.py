"""What was freed is given back, by the C library and by CPython."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: what others have left in this one would be given back as well.
BEGIN = """
import gc, os, sys
from types import SimpleNamespace
from d2serve.handlers.torchserve import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

keeps = "keeps" in sys.argv
detector = SimpleNamespace(keeps_memory=keeps, release_memory=lambda: None)
free = memory.WorkerMemory(detector)
"""
PIECES = """
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
for _ in range(3):  # glibc learns from these to take such pieces from its heap
    bytearray(3_000_000)
pieces = [bytearray(2_000_000) for _ in range(40)]
held = resident()
del pieces[::2]
print(held - resident())
"""
CALLS = """
import resource

def call():  # with feature maps of more than glibc takes from its heap by itself
    for _ in range(3):
        maps = bytearray(60_000_000), bytearray(50_000_000)

call()
held, before = resident(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
call()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
free.give_back()
print(held - resident())
"""
SHAPES = """
import torch
convolution = torch.nn.Conv2d(64, 64, 3)

def call(width):  # its kernel is made while feature maps lie below
    with torch.inference_mode():
        convolution(convolution(convolution(torch.zeros(1, 64, 100, width))))

call(340)
held = resident()
for width in range(200, 340, 4):
    call(width)
print(resident() - held)
"""
TUPLES = """
free.model_is_loaded()
print(gc.get_freeze_count(), len(gc.get_objects()))
rows = [(*range(15),) for _ in range(1000)]
del rows  # CPython keeps them for the next tuples of that length
kept = sys.getallocatedblocks()
memory.time.monotonic = lambda: free._next
free.give_back_if_due()
print(kept - sys.getallocatedblocks())
"""


def printed(script: str, *arguments: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(each) for each in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_pieces_go_when_due() -> None:
    early, late = printed(PIECES)
    assert early < 1_000_000
    assert late > 40_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_where_buffers_are_kept_large_pieces_go_as_soon_as_they_are_freed() -> None:
    (gone,) = printed(LARGE, "keeps")
    assert gone > 38_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_elsewhere_large_pieces_stay_for_the_next_call_until_a_pause() -> None:
    """A runtime that allocates anew in each call would wait for pages in each call."""
    again, given_back = printed(CALLS)
    assert again < 500
    assert given_back > 100_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_the_room_between_calls_is_not_frayed_by_kernels_of_shapes_that_have_passed() -> None:
    (grown,) = printed(SHAPES)
    assert grown < 120_000_000  # 353 MB with them


def test_freed_tuples_go_and_what_stays_is_not_looked_at() -> None:
    frozen, looked_at, given_back = printed(TUPLES)
    assert frozen > 50 * looked_at
    assert given_back > 900
