"""A 1x1 convolution of the native code, as numpy sees it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from d2serve.kernels.library import KernelsError, bias_of, check, loaded, number_of, require


class _PointLayer(ctypes.Structure):
    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("outs", ctypes.c_int64),
        ("ins", ctypes.c_int64),
        ("stride", ctypes.c_int32),
        ("relu", ctypes.c_int32),
        ("way", ctypes.c_int32),
        ("upsampled", ctypes.c_int32),
    )


class Pointwise:
    """A 1x1 convolution of stride 1 or 2 and one group, with its bias, a sum and its ReLU.

    It keeps no copy of the weights. Threads and ways give the bits that ``Convolution`` says.
    """

    def __init__(
        self,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        relu: bool,
        stride: int = 1,
        way: str | None = None,
        upsampled: bool = False,
    ) -> None:
        """Take the weights where they lie.

        Args:
            weights: (outs, ins, 1, 1), C-contiguous float32.
            bias: (outs,) or None.
            relu: whether negative results become 0.
            stride: 1 or 2.
            way: one of ``ways()``; by default the fastest.
            upsampled: whether a residual has half the result's height and width, and each of its
                values is added to two by two.

        Raises:
            KernelsError: as of ``Convolution.of``.
        """
        if weights.ndim != 4 or weights.shape[2:] != (1, 1) or 0 in weights.shape:
            raise KernelsError(
                f"Got weights of shape {weights.shape}; expected (outs, ins, 1, 1), at least one "
                "of each."
            )
        if stride not in (1, 2):
            raise KernelsError(f"Got a stride of {stride}; expected 1 or 2.")
        require("weights", weights, weights.shape)
        self.outs, self.ins = weights.shape[:2]
        self.stride, self.upsampled = stride, upsampled
        self._weights, self._bias = weights, bias_of(bias, self.outs)
        self._convolve = loaded().d2k_convolve_points
        self._layer = _PointLayer(
            weights.ctypes.data,
            None if self._bias is None else self._bias.ctypes.data,
            self.outs,
            self.ins,
            stride,
            int(relu),
            number_of(way),
            int(upsampled),
        )

    @property
    def address(self) -> int:
        """Of its ``d2k_point_layer``, as of ``Convolution``."""
        return ctypes.addressof(self._layer)

    def shape(self, given: Sequence[int]) -> tuple[int, int, int, int]:
        """Of the result, for images of this shape."""
        count, _, height, width = given
        return count, self.outs, -(-height // self.stride), -(-width // self.stride)

    def __call__(
        self,
        images: NDArray[np.float32],
        result: NDArray[np.float32],
        threads: int = 1,
        residual: NDArray[np.float32] | None = None,
    ) -> None:
        """Convolve.

        Args:
            images: (N, ins, H, W), C-contiguous; N may be 0.
            result: of ``shape(images.shape)``, C-contiguous and apart from the images.
            threads: how many may work, this one included.
            residual: of the result's shape, is added before the ReLU; may be the result itself.

        Raises:
            KernelsError: the arrays do not fit, or there is no memory.
        """
        count, _, height, width = images.shape
        require("images", images, (count, self.ins, height, width))
        require("result", result, self.shape(images.shape))
        if residual is not None:
            sides = (each // (1 + self.upsampled) for each in result.shape[2:])
            require("residual", residual, (count, self.outs, *sides))
        check(
            self._convolve(
                ctypes.byref(self._layer),
                images.ctypes.data,
                None if residual is None else residual.ctypes.data,
                result.ctypes.data,
                count,
                height,
                width,
                threads,
            )
        )


def four_of(
    weights: NDArray[np.float32], bias: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """A deconvolution of 2x2 and stride 2 as a 1x1 convolution, whose outputs are four images.

    Args:
        weights: (ins, outs, 2, 2).
        bias: (outs,) or None.

    Returns:
        Its weights and its bias. Its outputs are (2, 2, outs): for each pixel those of the row
        above, left and right, then those below.
    """
    ins, outs = weights.shape[:2]
    four = np.ascontiguousarray(weights.transpose(2, 3, 1, 0).reshape(4 * outs, ins, 1, 1))
    return four, None if bias is None else np.tile(bias, 4)
