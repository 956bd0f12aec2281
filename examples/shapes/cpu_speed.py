"""Settings that make training on a CPU faster, above all on one that does other work too.

They are for the training process only; serving has its own.
"""

from __future__ import annotations

import ctypes
import sys

import torch

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def prepare_process() -> None:
    """Compute in one thread, keep freed memory, and treat vanishing numbers as zero.

    These models are so small that a second thread gains little, and when another program has its
    core, the first spends most of its time waiting for it at barriers: steps were measured to
    take up to ten times as long. The data loader's process uses the second core.

    Every training step allocates the same large tensors. By default the C library gives such
    memory back to the system each time, and getting it again costs page faults.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
