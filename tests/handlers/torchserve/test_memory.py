"""What was freed is given back, by the C library and by CPython."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SETTING = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"

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
KERNELS = """
import torch
from torch.backends import mkldnn
convolution, image = torch.nn.Conv2d(64, 64, 3), torch.zeros(1, 64, 50, 60)
with torch.inference_mode(), mkldnn.verbose(mkldnn.VERBOSE_ON_CREATION):
    for _ in range(2):
        convolution(image)
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


def output(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def printed(script: str, *arguments: str) -> list[int]:
    return [int(each) for each in output(script, *arguments).split()]


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
@pytest.mark.parametrize(("kept", "found_again"), [("", False), ("1024", True)])
def test_no_kernels_of_shapes_that_have_passed_are_kept_unless_asked_for(
    kept: str, found_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    told = output(KERNELS, **({SETTING: kept} if kept else {}))
    assert "create:cache_miss,cpu,convolution" in told
    assert ("create:cache_hit,cpu,convolution" in told) is found_again


def test_freed_tuples_go_and_what_stays_is_not_looked_at() -> None:
    frozen, looked_at, given_back = printed(TUPLES)
    assert frozen > 50 * looked_at
    assert given_back > 900
