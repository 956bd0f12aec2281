"""Reads keypoints off heatmaps, which detectron2 does in a loop that ONNX cannot express.

An ONNX program answers the heatmaps, and this is ``heatmaps_to_keypoints``
(detectron2/structures/keypoints.py) in numpy: each heatmap is enlarged to its box by bicubic
interpolation as PyTorch's ``interpolate`` does it, and its largest value is the keypoint.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

# Of the cubic convolution kernel, in PyTorch (aten/src/ATen/native/UpSample.h).
_A = -0.75


def keypoints_of(heatmaps: Float32, boxes: Float32) -> Float32:
    """The most likely place of each keypoint.

    Args:
        heatmaps: (N, K, S, S) logits over each box.
        boxes: (N, 4) XYXY_ABS, in pixels of the image that the program got.

    Returns:
        (N, K, 3) x, y in pixels of that image, and score.
    """
    count, kinds = heatmaps.shape[:2]
    found = np.zeros((count, kinds, 3), np.float32)
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(1))
    whole = np.ceil(sizes)
    corrections = sizes / whole
    for index in range(count):
        width, height = (int(side) for side in whole[index])
        rows = _bicubic(heatmaps.shape[2], height)
        columns = _bicubic(heatmaps.shape[3], width)
        enlarged = (rows @ heatmaps[index] @ columns.T).reshape(kinds, -1)
        peak = enlarged.argmax(axis=1)
        top = enlarged[np.arange(kinds), peak]
        place = np.stack([peak % width, peak // width], axis=1).astype(np.float32)
        found[index, :, :2] = (place + np.float32(0.5)) * corrections[index] + boxes[index, :2]
        # detectron2 divides the enlarged map's softmax numerator, 1 at the peak, by the heatmap's.
        found[index, :, 2] = 1 / np.exp(heatmaps[index] - top[:, None, None]).sum(axis=(1, 2))
    return found


def _bicubic(cells: int, pixels: int) -> Float32:
    """(pixels, cells) weights that enlarge one axis, the border repeated."""
    centres = (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / pixels)
    centres -= np.float32(0.5)
    first = np.floor(centres)
    offset = centres - first
    taps = (
        _outer(offset + 1),
        _inner(offset),
        _inner(1 - offset),
        _outer(2 - offset),
    )
    weights = np.zeros((pixels, cells), np.float32)
    places = np.arange(pixels)
    for step, tap in enumerate(taps):
        cell = np.clip(first.astype(np.int64) + step - 1, 0, cells - 1)
        np.add.at(weights, (places, cell), tap.astype(np.float32))
    return weights


def _inner(x: Float32) -> Float32:
    return ((_A + 2) * x - (_A + 3)) * x * x + 1


def _outer(x: Float32) -> Float32:
    return ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
