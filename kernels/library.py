"""The one door to the native code: a 3x3 convolution by Winograd's algorithm, as numpy sees it.

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
_STATUS = ("done", "bad shape", "bad way", "no memory")


class KernelsError(RuntimeError):
    """The native code refused a call, or is not there."""


class _Layer(ctypes.Structure):
    _fields_ = (
        ("transformed", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("outs", ctypes.c_int64),
        ("ins", ctypes.c_int64),
        ("relu", ctypes.c_int32),
        ("way", ctypes.c_int32),
    )


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
            "d2serve is installed without its native kernels, so 3x3 convolutions run as the "
            "runtime has them. With a C++ compiler, installing d2serve from its source brings them."
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
    native.d2k_convolve.argtypes = [
        ctypes.POINTER(_Layer),
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int32,
    ]
    return Library(native, path)


def ways() -> tuple[str, ...]:
    """Of ``WAYS``, those that this CPU runs, the fastest last; none without the native code."""
    found = library()
    if found is None:
        return ()
    bits = int(found.native.d2k_ways())
    return tuple(way for number, way in enumerate(WAYS) if bits >> number & 1)


def transform(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights as the convolution wants them, 7.1 times as large, alike for every way.

    Args:
        weights: (outs, ins, 3, 3).

    Returns:
        Flat. It may be written to a file and mapped by many processes.

    Raises:
        KernelsError: the native code is not there, or there can be no such layer.
    """
    native = _native()
    outs, ins = _channels(weights)
    plain = np.ascontiguousarray(weights, dtype=np.float32)
    transformed = aligned((transformed_size(outs, ins),))
    _check(native.d2k_transform(plain.ctypes.data, outs, ins, transformed.ctypes.data))
    return transformed


def transformed_size(outs: int, ins: int) -> int:
    """How many floats ``transform`` gives for a layer of so many outputs and inputs."""
    size = int(_native().d2k_transformed_size(outs, ins))
    if size == 0:
        raise KernelsError(
            f"Got weights for {outs} outputs and {ins} inputs; expected at least one of each, and "
            "no more than memory holds."
        )
    return size


def aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array of float32 that begins where a cache line does; its values are arbitrary."""
    count = int(np.prod(shape, dtype=np.int64))
    raw = np.empty(count * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * 4].view(np.float32).reshape(shape)


class Convolution:
    """A 3x3 convolution of stride 1, padding 1 and one group, with its bias and ReLU.

    Results are those of the direct sum up to rounding (docs/kernels.md). The same images give the
    same bits for any number of threads, and with AVX2 as with AVX-512. Threads may share one.
    """

    def __init__(
        self,
        transformed: NDArray[np.float32],
        outs: int,
        ins: int,
        bias: NDArray[np.float32] | None,
        relu: bool,
        way: str,
    ) -> None:
        self.outs, self.ins = outs, ins
        # The native code holds plain pointers, so both arrays must stay.
        self._transformed, self._bias = transformed, bias
        self._convolve = _native().d2k_convolve
        self._layer = _Layer(
            transformed.ctypes.data,
            None if bias is None else bias.ctypes.data,
            outs,
            ins,
            int(relu),
            WAYS.index(way),
        )

    @classmethod
    def of(
        cls,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        relu: bool,
        way: str | None = None,
        transformed: NDArray[np.float32] | None = None,
    ) -> Convolution:
        """The convolution of these weights.

        Args:
            weights: (outs, ins, 3, 3); only its shape is read where ``transformed`` is given.
            bias: (outs,) or None.
            relu: whether negative results become 0.
            way: one of ``ways()``; by default the fastest.
            transformed: what ``transform(weights)`` gave; may be a read-only ``numpy.memmap``.

        Raises:
            KernelsError: the native code is not there, this CPU does not run the way, or the
                arrays do not belong together.
        """
        found = ways()
        way = way or (found[-1] if found else None)
        if way not in found:
            raise KernelsError(f"Got way {way!r}; expected one of {found} on this CPU.")
        outs, ins = _channels(weights)
        if transformed is None:
            transformed = transform(weights)
        flat = transformed.reshape(-1)
        if flat.dtype != np.float32 or flat.size != transformed_size(outs, ins):
            raise KernelsError(
                f"Got {flat.size} transformed weights of {flat.dtype} for {outs} outputs and {ins} "
                f"inputs; expected {transformed_size(outs, ins)} of float32. If they come from a "
                "file, it belongs to another layer or was cut off: write it again."
            )
        if bias is not None:
            bias = np.ascontiguousarray(bias, dtype=np.float32)
            if bias.shape != (outs,):
                raise KernelsError(f"Got a bias of shape {bias.shape}; expected {(outs,)}.")
        return cls(flat, outs, ins, bias, relu, way)

    @property
    def address(self) -> int:
        """Of its ``d2k_layer``, for native code that calls it; valid as long as this object is."""
        return ctypes.addressof(self._layer)

    def __call__(
        self, images: NDArray[np.float32], result: NDArray[np.float32], threads: int = 1
    ) -> None:
        """Convolve.

        Args:
            images: (N, ins, H, W), C-contiguous; N may be 0.
            result: (N, outs, H, W), C-contiguous and apart from the images; is overwritten.
            threads: how many may work, this one included.

        Raises:
            KernelsError: the arrays do not fit, or there is no memory.
        """
        count, _, height, width = images.shape
        _fits("images", images, (count, self.ins, height, width))
        _fits("result", result, (count, self.outs, height, width))
        _check(
            self._convolve(
                ctypes.byref(self._layer),
                images.ctypes.data,
                result.ctypes.data,
                count,
                height,
                width,
                threads,
            )
        )


def _native() -> ctypes.CDLL:
    found = library()
    if found is None:
        raise KernelsError(
            "d2serve is installed without its native kernels. Ask library() before, or reinstall "
            "d2serve from its source where there is a C++ compiler."
        )
    return found.native


def _channels(weights: NDArray[np.float32]) -> tuple[int, int]:
    if weights.ndim != 4 or weights.shape[2:] != (3, 3):
        raise KernelsError(f"Got weights of shape {weights.shape}; expected (outs, ins, 3, 3).")
    return int(weights.shape[0]), int(weights.shape[1])


def _fits(name: str, array: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise KernelsError(
            f"Got {name} of shape {array.shape} and {array.dtype}"
            f"{'' if array.flags.c_contiguous else ', not contiguous'}; expected {shape}, float32, "
            "contiguous."
        )


def _check(status: int) -> None:
    if status != 0:
        raise KernelsError(
            f"The native convolution refused: {_STATUS[status] if status < 4 else status}. "
            "Sizes must be at least 1, and scratch memory of some 20 MB must be there."
        )
