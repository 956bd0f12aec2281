"""The one door to the native code: whether it is there, and what every call of it needs.

The native code is optional. Where it is not installed, or does not load, ``library`` says so once
in the log and gives None, and models run as they do without it.
"""

from __future__ import annotations

import ctypes
import logging
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WAYS = ("portable", "avx2", "avx512")
"""Which instructions are used, the slowest first. A way's place is its number in C."""

FILE = "_native.so"
VERSION = 2
"""``D2K_VERSION``: of the functions and of the layout of transformed weights."""

_logger = logging.getLogger(__name__)
_STATUS = ("done", "bad shape", "bad way", "no memory", "bad index")
"""By their numbers in C."""


class KernelsError(RuntimeError):
    """The native code refused a call, or is not there."""


class Library(NamedTuple):
    """The loaded native code."""

    native: ctypes.CDLL
    path: Path


@lru_cache(maxsize=1)
def library() -> Library | None:
    """The native code; None where it is not installed or does not load."""
    path = Path(__file__).with_name(FILE)
    if not path.is_file():
        _logger.info(
            "d2serve is installed without its native kernels, so models run as their runtimes "
            "have them. With a C++ compiler, installing d2serve from its source brings them."
        )
        return None
    try:
        native = ctypes.CDLL(str(path))
        found = native.d2k_version()
    except (OSError, AttributeError) as error:
        _logger.warning("d2serve's native kernels do not load, and are left out: %s", error)
        return None
    if found != VERSION:
        _logger.warning(
            "d2serve's native kernels have version %s, expected %s, and are left out: %s belongs "
            "to another d2serve. Install d2serve again.",
            found,
            VERSION,
            path,
        )
        return None
    native.d2k_ways.restype = ctypes.c_uint32
    native.d2k_transformed_size.restype = ctypes.c_int64
    native.d2k_transformed_size.argtypes = [ctypes.c_int64, ctypes.c_int64]
    native.d2k_transform.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]
    sizes = [*[ctypes.c_int64] * 3, ctypes.c_int32]
    native.d2k_convolve.argtypes = [*[ctypes.c_void_p] * 3, *sizes]
    native.d2k_convolve_points.argtypes = [*[ctypes.c_void_p] * 4, *sizes]
    return Library(native, path)


def ways() -> tuple[str, ...]:
    """Of ``WAYS``, those that this CPU runs, the fastest last; none without the native code."""
    found = library()
    if found is None:
        return ()
    bits = int(found.native.d2k_ways())
    return tuple(way for number, way in enumerate(WAYS) if bits >> number & 1)


def aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array of float32 that begins where a cache line does; its values are arbitrary."""
    count = int(np.prod(shape, dtype=np.int64))
    raw = np.empty(count * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * 4].view(np.float32).reshape(shape)


def number_of(way: str | None) -> int:
    """A way's number in C; of the fastest where none is named.

    Raises:
        KernelsError: this CPU does not run the way, or the native code is not there.
    """
    found = ways()
    way = way or (found[-1] if found else None)
    if way not in found:
        raise KernelsError(f"Got way {way!r}; expected one of {found} on this CPU.")
    return WAYS.index(way)


def bias_of(bias: NDArray[np.float32] | None, outs: int) -> NDArray[np.float32] | None:
    """A bias as the native code takes it.

    Raises:
        KernelsError: it is one for another number of outputs.
    """
    if bias is None:
        return None
    bias = np.ascontiguousarray(bias, dtype=np.float32)
    if bias.shape != (outs,):
        raise KernelsError(f"Got a bias of shape {bias.shape}; expected {(outs,)}.")
    return bias


def loaded() -> ctypes.CDLL:
    """The native code.

    Raises:
        KernelsError: it is not there.
    """
    found = library()
    if found is None:
        raise KernelsError(
            "d2serve is installed without its native kernels. Ask library() before, or reinstall "
            "d2serve from its source where there is a C++ compiler."
        )
    return found.native


def require(name: str, array: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    """Raise KernelsError for an array that is not what native code is about to read or write."""
    if array.shape != shape or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise KernelsError(
            f"Got {name} of shape {array.shape} and {array.dtype}"
            f"{'' if array.flags.c_contiguous else ', not contiguous'}; expected {shape}, float32, "
            "contiguous."
        )


def check(status: int) -> None:
    """Raise KernelsError for a status that says why nothing was computed."""
    if status != 0:
        said = _STATUS[status] if status < len(_STATUS) else status
        raise KernelsError(
            f"The native convolution refused: {said}. "
            "Sizes must be at least 1, and scratch memory of some 20 MB must be there."
        )
