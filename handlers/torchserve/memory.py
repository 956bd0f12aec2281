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
import os
import sys
import time

from d2serve.handlers.detector import Detector

# Giving back takes 3 ms, and the pages have to be fetched again.
_SECONDS_BETWEEN = 20.0

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
_LARGE = 1 << 20
_KEPT_AT_THE_END = 32 << 20
_MOST = (1 << 31) - 1

# Of oneDNN, which convolves under torch. It looks when it makes its first kernel.
KERNELS_KEPT = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


class WorkerMemory:
    """Gives memory back when it is told to; glibc's where that is there."""

    def __init__(self, detector: Detector) -> None:
        """Make one before the model runs: it sets how large pieces are allocated.

        Left alone, glibc takes ever larger pieces from its heap, up to 32 MB, once such ones were
        freed. Where a runtime keeps buffers of ever other sizes, the heap frays between them: a
        full-size Mask R-CNN on OpenVINO peaked at 1,021 MB instead of 870. There each large piece
        gets pages of its own, which go when it is freed. A runtime that allocates anew in each call
        would fetch all pages anew, those above 32 MB in any case: on TorchScript half a million of
        them for a full-size image, a seventh of its time. There every piece comes from the heap,
        which keeps its pages until they are given back. Kernels of shapes that have passed would
        lie in it among the feature maps, which would find ever less room between them: none is
        kept, unless the environment says how many.
        """
        library = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._trim = getattr(library, "malloc_trim", None)
        self._detector = detector
        self._next = time.monotonic() + _SECONDS_BETWEEN
        set_option = getattr(library, "mallopt", None)
        if set_option is not None and detector.keeps_memory:
            set_option(M_MMAP_THRESHOLD, _LARGE)
            set_option(M_TRIM_THRESHOLD, _KEPT_AT_THE_END)
        elif set_option is not None:
            set_option(M_MMAP_MAX, 0)
            set_option(M_TRIM_THRESHOLD, _MOST)
            os.environ.setdefault(KERNELS_KEPT, "0")

    def model_is_loaded(self) -> None:
        """Give back what loading has left, and look for garbage no more among what is there now.

        Looking takes 150 ms where there is a torch, of which an answer would have to wait.
        """
        gc.collect()
        gc.freeze()
        self.give_back()

    def give_back(self) -> None:
        """Give back what is not in use, and what the runtime keeps for the next call: in a pause,
        since that call then takes some percent longer."""
        self._detector.release_memory()
        self._free()

    def give_back_if_due(self) -> None:
        """Give back what is not in use, if that was not done for 20 s."""
        if time.monotonic() >= self._next:
            self._free()

    def _free(self) -> None:
        self._next = time.monotonic() + _SECONDS_BETWEEN
        gc.collect()
        if self._trim is not None:
            self._trim(0)
