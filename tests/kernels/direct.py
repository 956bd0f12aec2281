"""What a convolution is: the direct sum, in float64; and arrays to try it with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def drawn(seed: int, *shape: int) -> NDArray[np.float32]:
    """Numbers of variance 1."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def direct(
    images: NDArray[np.float32],
    weights: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    relu: bool,
    stride: int = 1,
) -> NDArray[np.float64]:
    """A convolution that is padded by half of its kernel, by torch, in float64."""
    pixels, factors = (torch.from_numpy(each.astype(np.float64)) for each in (images, weights))
    shift = None if bias is None else torch.from_numpy(bias.astype(np.float64))
    summed = torch.nn.functional.conv2d(pixels, factors, shift, stride, weights.shape[2] // 2)
    result: NDArray[np.float64] = (summed.relu() if relu else summed).numpy()
    return result
