"""What images of many sizes leave behind is given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: what others have left in this one would be given back as well.
SCRIPT = """
import ctypes, os
from d2serve.handlers import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

free = memory.FreeMemory()
pieces = [bytearray(100_000) for _ in range(1000)]  # each too small for pages of its own
del pieces[::2]
kept = resident()
free.give_back_if_due()
early = resident()
memory.time.monotonic = lambda: free._next
free.give_back_if_due()
print(kept - early, early - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_once_a_minute() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    early, late = map(int, done.stdout.split())
    assert early < 1_000_000
    assert late > 40_000_000
