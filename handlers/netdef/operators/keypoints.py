"""Keypoints between the cells of heatmaps, as Caffe2's HeatmapMaxKeypoint finds them.

Around the highest cell a heatmap is taken for a paraboloid, whose top is the keypoint. It is not
what detectron2 does, which enlarges the heatmap: files have it where their maker chose it
(EXPORT_CAFFE2.USE_HEATMAP_MAX_KEYPOINT).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from d2serve.handlers.netdef.arguments import Arguments
from d2serve.handlers.netdef.operators.making import Step

# A paraboloid flatter than this has no top to speak of.
_FLATTEST = 1e-4
# The top is not looked for further from the highest cell, in cells.
_FURTHEST = 1.5


def heatmap_max_keypoint(args: Arguments) -> Step:
    """(N, 4, K): x, y, score and probability of each keypoint."""
    softmax = args.boolean("should_output_softmax", True)

    def step(heatmaps: Tensor, boxes: Tensor) -> Tensor:
        cells = heatmaps.shape[2]
        flat = heatmaps.flatten(2)
        peak = flat.argmax(-1)
        y, x = peak // cells, peak % cells
        # Beyond the border, the cell on the other side stands in.
        bordered = F.pad(heatmaps, (1, 1, 1, 1), mode="reflect").flatten(2)
        around = [
            bordered.gather(2, ((y + row) * (cells + 2) + x + column)[..., None])[..., 0]
            for row in range(3)
            for column in range(3)
        ]
        shift_x, shift_y, score = _top(around)
        sizes = (boxes[:, 2:4] - boxes[:, :2]).clamp(min=1)[:, :, None]
        place = torch.stack([x + shift_x, y + shift_y], dim=1) + 0.5
        place = boxes[:, :2, None] + place * sizes / cells
        probability = flat.softmax(-1).gather(2, peak[..., None])[..., 0]
        shares = probability if softmax else torch.zeros_like(probability)
        return torch.cat([place, score[:, None], shares[:, None]], dim=1)

    return step


def _top(cells: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Where between nine cells, row by row, the top is, from the middle one, and how high."""
    nw, n, ne, w, centre, e, sw, s, se = cells
    b_x, b_y = (w - e) / 2, (n - s) / 2
    xx, xy, yy = w - 2 * centre + e, (se - sw - ne + nw) / 4, n - 2 * centre + s
    determinant = xx * yy - xy * xy
    flat = determinant.abs() < _FLATTEST
    divisor = torch.where(flat, torch.ones_like(determinant), determinant)
    x, y = (yy * b_x - xy * b_y) / divisor, (xx * b_y - xy * b_x) / divisor
    furthest = torch.maximum(x.abs(), y.abs())
    shrink = torch.where(furthest > _FURTHEST, _FURTHEST / furthest, torch.ones_like(furthest))
    x, y = (torch.where(flat, torch.zeros_like(each), each * shrink) for each in (x, y))
    rise = (xx * x * x + 2 * xy * x * y + yy * y * y) / 2 - b_x * x - b_y * y
    return x, y, centre + rise
