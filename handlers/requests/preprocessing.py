"""Resizes and lays out an image as detectron2 does: one pixel off moves every box.

Normalisation and padding are inside the program and must not happen here a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2serve.handlers.requests.resizing import resized
from d2serve.handlers.spec.image_form import BGR
from d2serve.handlers.spec.model_spec import ModelSpec


@dataclass(frozen=True)
class ModelInput:
    """What the program takes, with what postprocessing needs to undo the resize."""

    tensor: npt.NDArray[np.float32]
    """(channels, H, W), values 0 to 255, channels in the order of the spec."""
    height: int
    """Of the image as it was sent, in pixels."""
    width: int

    @property
    def resized(self) -> tuple[int, int]:
        """(height, width) of ``tensor``."""
        return self.tensor.shape[1], self.tensor.shape[2]


def resized_shape(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Output size of detectron2's ``ResizeShortestEdge`` (data/transforms/augmentation_impl.py).

    Scales the short edge to ``min_size`` unless that takes the long edge over ``max_size``; keeps
    its float arithmetic step by step, since the rounding depends on it.

    Args:
        height, width: of the image, in pixels.
        min_size: wanted short edge; 0 keeps the size.
        max_size: largest long edge.

    Returns:
        (height, width) in pixels, each at least 1.
    """
    if min_size == 0:
        return height, width
    scale = min_size * 1.0 / min(height, width)
    if height < width:
        new_height, new_width = min_size * 1.0, scale * width
    else:
        new_height, new_width = scale * height, min_size * 1.0
    if max(new_height, new_width) > max_size:
        scale = max_size * 1.0 / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    # detectron2 fails on the size 0 that an extreme aspect ratio gives; one pixel answers it.
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def preprocess(pixels: npt.NDArray[np.uint8], spec: ModelSpec) -> ModelInput:
    """Resize and lay out an image as DefaultPredictor does.

    Args:
        pixels: (H, W, channels) uint8, as ``bands_of`` gives them: colours in RGB order.
        spec: the model's.
    """
    height, width = pixels.shape[:2]
    new_height, new_width = resized_shape(height, width, spec.min_size_test, spec.max_size_test)
    sized = resized(pixels, new_height, new_width)
    if spec.image_format == BGR:
        sized = sized[:, :, ::-1]
    tensor = np.ascontiguousarray(sized.transpose(2, 0, 1), dtype=np.float32)
    return ModelInput(tensor, height, width)
