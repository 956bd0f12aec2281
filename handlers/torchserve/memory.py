"""Gives memory that a worker does not use back to the system.

A worker that answers images of ever new sizes holds ever more memory that it does not use. glibc
keeps free pieces for the next allocation, which is of another size; CPython keeps freed
tuples, up to 2,000 of each length, until it looks for garbage among all objects, which it puts off
while few are new beside the hundreds of thousands of a runtime; a runtime may keep buffers between
calls. Nothing is lost, but RSS climbs for hours towards a height of its own, which looks like a
leak and counts as memory in use.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from typing import Any, Callable

# Giving back takes 30 ms at most, and the pages have to be fetched again.
_SECONDS_BETWEEN = 20.0

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 1 << 20
_KEPT_AT_THE_END = 32 << 20


class WorkerMemory:
    """Gives memory back when it is told to; glibc's where that is there."""

    def __init__(self) -> None:
        """Make one before the model is loaded: it sets how large pieces are allocated.

        Left alone, glibc takes larger and larger pieces from its heap, up to 32 MB, the more such
        ones are freed. A worker's are feature maps of ever other sizes, between which the heap
        frays: a full-size Mask R-CNN on OpenVINO then peaked at 1,021 MB instead of 870. So each
        large piece has pages of its own, which go when it is freed.
        """
        self._library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._release: Callable[[], None] = _nothing
        self._next = time.monotonic() + _SECONDS_BETWEEN
        if hasattr(self._library, "mallopt"):
            self._library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
            self._library.mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_THE_END)

    def model_is_loaded(self, release: Callable[[], None]) -> None:
        """Give back what loading has left, and look for garbage no more among what is there now.

        Looking takes 150 ms where there is a torch, of which an answer would have to wait.

        Args:
            release: makes the runtime give up what it keeps between calls.
        """
        self._release = release
        gc.collect()
        gc.freeze()
        self.give_back()

    def give_back(self) -> None:
        """Give back what is not in use."""
        self._next = time.monotonic() + _SECONDS_BETWEEN
        self._release()
        gc.collect()
        if hasattr(self._library, "malloc_trim"):
            self._library.malloc_trim(0)

    def give_back_if_due(self) -> None:
        """Give it back if that was not done for 20 s."""
        if time.monotonic() >= self._next:
            self.give_back()


def _nothing() -> None:
    pass
