"""``PointRendSemSegHead`` (projects/point_rend/semantic_seg.py): refines a map of labels by points.

A trace of it keeps the device and the size of the image it was made on, as the grid of points is
made of plain numbers. TorchScript cannot read its lists. Here the grid is a scripted function,
which a trace keeps as it is.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.projects.point_rend.semantic_seg import PointRendSemSegHead
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, untyped-decorator"


@torch.jit.script
def _uncertain_points(logits: Tensor, count: int) -> Tuple[Tensor, Tensor]:
    """(N, P) flat indices of the pixels whose best two labels are nearest, (N, P, 2) x and y."""
    images, height, width = logits.shape[0], logits.shape[2], logits.shape[3]
    best = torch.topk(logits, k=2, dim=1)[0]
    uncertainty = (best[:, 1] - best[:, 0]).reshape(images, height * width)
    indices = torch.topk(uncertainty, k=min(height * width, count), dim=1)[1]
    x_step, y_step = 1.0 / float(width), 1.0 / float(height)
    column = indices % width
    row = torch.div(indices, width, rounding_mode="floor")
    x = x_step / 2.0 + column.to(torch.float) * x_step
    y = y_step / 2.0 + row.to(torch.float) * y_step
    return indices, torch.stack((x, y), dim=2)


@torch.jit.script
def _with_points(logits: Tensor, indices: Tensor, found: Tensor) -> Tensor:
    """Logits in which those of some pixels, by flat index, are others."""
    images, labels, height, width = logits.shape
    flat = logits.reshape(images, labels, height * width)
    flat = flat.scatter(2, indices.unsqueeze(1).expand(-1, labels, -1), found)
    return flat.reshape(images, labels, height, width)


def _sampled(maps: Tensor, places: Tensor) -> Tensor:
    """(N, C, P) values of (N, C, H, W) maps at (N, P, 2) places, x and y from 0 to 1."""
    grid = 2.0 * places.unsqueeze(2) - 1.0
    return functional.grid_sample(maps, grid, align_corners=False).squeeze(3)


class _Typed:
    def forward(
        self,
        features: Dict[str, Tensor],
        targets: Optional[Tensor] = None,  # noqa: ARG002  # the interface of the head
    ) -> Tuple[Tensor, Dict[str, Tensor]]:
        coarse: Tensor = self.coarse_sem_seg_head.layers(features)
        logits = coarse.clone()
        for _ in range(self.subdivision_steps):
            logits = functional.interpolate(
                logits, scale_factor=2.0, mode="bilinear", align_corners=False
            )
            indices, places = _uncertain_points(logits, self.subdivision_num_points)
            fine: List[Tensor] = []
            for name in self.in_features:
                fine.append(_sampled(features[name], places))
            found = self.point_head(torch.cat(fine), _sampled(coarse, places))
            logits = _with_points(logits, indices, found)
        return logits, {}


def _make(module: Any) -> nn.Module:
    module.in_features = list(module.in_features)
    return override_methods(_Typed)(module)


POINT_REND_SEMANTIC = Rewrite(
    name="point_rend_semantic",
    replaces=PointRendSemSegHead,
    methods=("forward",),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason="projects/point_rend/semantic_seg.py: a trace of its grid of points holds the device "
    "and the image's size, and lists of untyped features are nothing to TorchScript",
    make=_make,
)
