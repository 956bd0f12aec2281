"""Gives memory that a worker has freed back to the system.

A worker that answers images of ever new sizes holds ever more memory that it does not use. glibc
keeps free pieces for the next allocation, which is of another size; CPython keeps freed
tuples, up to 2,000 of each length, until it looks for garbage among all objects, which it puts off
while few are new beside the hundreds of thousands of a runtime. Nothing is lost, but RSS climbs for
hours towards a height of its own, which looks like a leak and counts as memory in use.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time

# Giving back takes 3 ms, and the pages have to be fetched again.
_SECONDS_BETWEEN = 20.0


class WorkerMemory:
    """Gives freed memory back, every 20 s at most; glibc's where that is there."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._trim = getattr(library, "malloc_trim", None)
        self._next = time.monotonic() + _SECONDS_BETWEEN

    def freeze_loaded(self) -> None:
        """Look for garbage no more among what is there now: call it when the model is loaded.

        Looking takes 150 ms where there is a torch, of which an answer would have to wait.
        """
        gc.collect()
        gc.freeze()

    def trim_if_due(self) -> None:
        """Give freed memory back if that was not done for so long."""
        if time.monotonic() >= self._next:
            gc.collect()
            if self._trim is not None:
                self._trim(0)
            self._next = time.monotonic() + _SECONDS_BETWEEN
