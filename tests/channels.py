"""Example models made to take other channels than three colours, out of their trained weights.

The first convolution is linear. A model of grey whose weights are those of red and blue together
finds what the model of colours finds where red and blue are that grey, and green is its mean.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tests.exports import ROOT

_FIRST = "backbone.bottom_up.stem.conv1.weight"
_OF_OTHER_BANDS = 0.02
_MEAN = 110.0


def with_channels(
    folder: Path, channels: int, model: str = "mask_rcnn_fpn", image_format: str = "BGR"
) -> Path:
    """The config of an example model that takes so many channels, written with its weights.

    One channel is grey. Of more, the first three are red, green and blue, and the others count for
    little.

    Args:
        folder: to write to.
        channels: 1, or 4 and more.
        model: an example model with a YAML config.
        image_format: the config's INPUT.FORMAT.
    """
    models = ROOT / "examples" / "shapes" / "models"
    state = torch.load(models / f"{model}.pth", weights_only=True)["model"]
    colours = state[_FIRST].float().flip(1)  # the models take BGR
    grey = colours[:, [0, 2]].sum(1, keepdim=True)
    bands = [colours] + [grey * _OF_OTHER_BANDS * (-1) ** i for i in range(channels - 3)]
    state[_FIRST] = grey if channels == 1 else torch.cat(bands, dim=1)
    name = f"{model}_{image_format}_{channels}"
    torch.save({"model": state}, folder / f"{name}.pth")
    config = folder / f"{name}.yaml"
    config.write_text(
        f"_BASE_: {models / model}.yaml\n"
        f"INPUT: {{FORMAT: {image_format}}}\n"
        f"MODEL: {{WEIGHTS: {folder / name}.pth, PIXEL_MEAN: {[_MEAN] * channels}, "
        f"PIXEL_STD: {[60.0] * channels}}}\n"
    )
    return config


def coloured(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) in which the model of colours finds what that of grey finds in (H, W, 1)."""
    return np.concatenate([grey, np.full_like(grey, int(_MEAN)), grey], axis=2)
