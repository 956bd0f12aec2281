"""Tints the pixels of masks and label maps, in place and a few rows at a time.

At 50 megapixels each temporary array of the image's size would be hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_OPACITY = 108
"""Of a tint, in 256ths."""
_PIXELS_AT_A_TIME = 1 << 17


def tint(pixels: Pixels, mask: npt.NDArray[np.bool_], colour: Colour) -> None:
    """Mix a colour into the pixels of a mask.

    Args:
        pixels: (H, W, 3), which are changed.
        mask: (H, W).
    """
    levels = np.arange(256, dtype=np.int32) * (256 - _OPACITY)
    for channel, level in enumerate(colour):
        tinted = ((levels + level * _OPACITY) >> 8).astype(np.uint8)
        values = pixels[..., channel]
        values[mask] = tinted[values[mask]]


def tint_labels(
    pixels: Pixels, labels: npt.NDArray[np.int32], colours: Mapping[int, Colour]
) -> None:
    """Mix the colour of each label into its pixels; labels without a colour stay as they are.

    Args:
        pixels: (H, W, 3), which are changed.
        labels: (H, W), none negative.
    """
    if not colours:
        return
    tints = np.zeros((int(labels.max()) + 1, 3), np.uint16)
    kept = np.full((len(tints), 1), 256, np.uint16)
    for label, colour in colours.items():
        if label < len(tints):
            tints[label] = np.array(colour, np.uint16) * _OPACITY
            kept[label] = 256 - _OPACITY
    rows = max(1, _PIXELS_AT_A_TIME // labels.shape[1])
    for top in range(0, labels.shape[0], rows):
        part, some = pixels[top : top + rows], labels[top : top + rows]
        part[:] = (part * kept[some] + tints[some]) >> 8  # at most 255 * 256: fits 16 bits


def outline(mask: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """The pixels of a mask (H, W) that are less than ``width`` from its edge."""
    return mask & ~_eroded(_eroded(mask, width).T, width).T


def _eroded(mask: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """Those pixels of which so many above and below are set as well."""
    inner = np.zeros_like(mask)
    window, span, run = 2 * by + 1, 1, mask
    if len(mask) < window:
        return inner
    while span < window:  # run[y] is whether the `span` pixels from y on are set
        step = min(span, window - span)
        run = run[:-step] & run[step:]
        span += step
    inner[by : by + len(run)] = run
    return inner
