"""A 3x3 convolution by Winograd's algorithm, as numpy sees it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from d2serve.kernels.library import (
    KernelsError,
    aligned,
    bias_of,
    check,
    loaded,
    number_of,
    require,
)


class _Layer(ctypes.Structure):
    _fields_ = (
        ("transformed", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("outs", ctypes.c_int64),
        ("ins", ctypes.c_int64),
        ("relu", ctypes.c_int32),
        ("way", ctypes.c_int32),
    )


def transform(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights as the convolution wants them, 7.1 times as large, alike for every way.

    Args:
        weights: (outs, ins, 3, 3).

    Returns:
        Flat. It may be written to a file and mapped by many processes.

    Raises:
        KernelsError: the native code is not there, or there can be no such layer.
    """
    native = loaded()
    outs, ins = _channels(weights)
    plain = np.ascontiguousarray(weights, dtype=np.float32)
    transformed = aligned((transformed_size(outs, ins),))
    check(native.d2k_transform(plain.ctypes.data, outs, ins, transformed.ctypes.data))
    return transformed


def transformed_size(outs: int, ins: int) -> int:
    """How many floats ``transform`` gives for a layer of so many outputs and inputs."""
    size = int(loaded().d2k_transformed_size(outs, ins))
    if size == 0:
        raise KernelsError(
            f"Got weights for {outs} outputs and {ins} inputs; expected at least one of each, and "
            "no more than memory holds."
        )
    return size


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
        way: int,
    ) -> None:
        self.outs, self.ins, self.stride = outs, ins, 1
        # The native code holds plain pointers, so both arrays must stay.
        self._transformed, self._bias = transformed, bias
        self._convolve = loaded().d2k_convolve
        self._layer = _Layer(
            transformed.ctypes.data,
            None if bias is None else bias.ctypes.data,
            outs,
            ins,
            int(relu),
            way,
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
        number = number_of(way)
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
        return cls(flat, outs, ins, bias_of(bias, outs), relu, number)

    @property
    def address(self) -> int:
        """Of its ``d2k_layer``, for native code that calls it; valid as long as this object is."""
        return ctypes.addressof(self._layer)

    def shape(self, given: Sequence[int]) -> tuple[int, int, int, int]:
        """Of the result, for images of this shape."""
        count, _, height, width = given
        return count, self.outs, height, width

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
        require("images", images, (count, self.ins, height, width))
        require("result", result, (count, self.outs, height, width))
        check(
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


def _channels(weights: NDArray[np.float32]) -> tuple[int, int]:
    if weights.ndim != 4 or weights.shape[2:] != (3, 3):
        raise KernelsError(f"Got weights of shape {weights.shape}; expected (outs, ins, 3, 3).")
    return int(weights.shape[0]), int(weights.shape[1])
