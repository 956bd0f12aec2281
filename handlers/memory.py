"""Why: images of ever new sizes leave free pieces of memory that the C library keeps.

It keeps them for the next allocation, which is of another size. Nothing is lost, but a worker's RSS
climbs for hours towards a height of its own, which looks like a leak and counts as memory in use.
"""

from __future__ import annotations

import ctypes
import sys
import time

# Giving back takes some milliseconds, and the pages have to be fetched again.
_SECONDS_BETWEEN = 60.0


class FreeMemory:
    """Gives free memory back to the system, once a minute at most; glibc's only, else nothing."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._trim = getattr(library, "malloc_trim", None)
        self._next = time.monotonic() + _SECONDS_BETWEEN

    def give_back_if_due(self) -> None:
        """Do it if a minute has passed."""
        if self._trim is not None and time.monotonic() >= self._next:
            self._trim(0)
            self._next = time.monotonic() + _SECONDS_BETWEEN
