"""Takes a mapped file's pages out of a process that has no more use for them.

A runtime that maps its weights, and then lays them out anew for its kernels, looks at most of the
file never again. Its pages would stay with the process until the system is short of memory.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_MADV_DONTNEED = 4  # of Linux, on every machine that it knows but Alpha


def forget_pages(file: Path) -> None:
    """Take out the pages of every mapping of a file that is only read.

    They stay in the system's cache, from which what is looked at again comes back by itself.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    library.madvise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    name = str(file.resolve())
    for line in _MAPS.read_text().splitlines():
        addresses, rights, _, _, _, *path = line.split(maxsplit=5)
        # Pages that were written to, and not to the file, would be lost.
        if path == [name] and "w" not in rights:
            begin, end = (int(each, 16) for each in addresses.split("-"))
            library.madvise(begin, end - begin, _MADV_DONTNEED)
