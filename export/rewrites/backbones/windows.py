"""What transformers do with windows and positions, for every size of an image.

detectron2 decides by the size of an image in Python whether to pad to whole windows and whether to
resize positions. A trace keeps what held for its own image. To pad by nothing and to resize to the
same size are exact, so nothing has to be decided here.

TorchScript reads these functions, and a trace follows the sizes through them.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  as everybody names it


def padded(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) with zeros below and at the right, up to whole windows of a size."""
    height, width = x.shape[1], x.shape[2]
    down = (height + size - 1) // size
    across = (width + size - 1) // size
    return F.pad(x, [0, 0, 0, across * size - width, 0, down * size - height])


def windows_of(x: Tensor, size: int) -> Tensor:
    """(B * windows, size, size, C) of (B, H, W, C), whose sides are whole windows."""
    batch, down, across, channels = x.shape[0], x.shape[1] // size, x.shape[2] // size, x.shape[3]
    x = x.reshape(batch, down, size, across, size, channels).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch * down * across, size, size, channels)


def from_windows(windows: Tensor, size: int, batch: int, height: int, width: int) -> Tensor:
    """(B, H, W, C), without what ``padded`` added: the way back from ``windows_of``."""
    down = (height + size - 1) // size
    across = (width + size - 1) // size
    x = windows.view(batch, down, across, size, size, -1).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, down * size, across * size, -1)[:, :height, :width].contiguous()


def counted(line: Tensor) -> Tensor:
    """0, 1, 2, ... as floats, as many as a tensor of one dimension has.

    Counted up from a tensor of the model, so that the device is no constant of a trace.
    """
    return torch.ones_like(line).cumsum(0) - 1


def with_side(module: Any) -> Any:
    """A ViT or MViT with ``side``: how many of its positions make a row of their square."""
    if module.pos_embed is not None:
        module.side = math.isqrt(module.pos_embed.shape[1] - int(module.pretrain_use_cls_token))
    return module


def absolute_positions(positions: Tensor, side: int, height: int, width: int) -> Tensor:
    """(1, H, W, C) of the square of positions (1, N, C) that a model was trained with."""
    positions = positions[:, -side * side :]  # without that of a class token
    positions = positions.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    positions = F.interpolate(positions, size=[height, width], mode="bicubic", align_corners=False)
    return positions.permute(0, 2, 3, 1)
