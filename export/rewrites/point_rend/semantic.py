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
from d2serve.export.rewrites.point_rend.mask_heads import centres, sampled_at
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
    return indices, centres(indices, height, width)


@torch.jit.script
def _with_points(logits: Tensor, indices: Tensor, found: Tensor) -> Tensor:
    """Logits in which those of some pixels, by flat index, are others."""
    images, labels, height, width = logits.shape
    flat = logits.reshape(images, labels, height * width)
    flat = flat.scatter(2, indices.unsqueeze(1).expand(-1, labels, -1), found)
    return flat.reshape(images, labels, height, width)


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
                fine.append(sampled_at(features[name], places))
            found = self.point_head(torch.cat(fine), sampled_at(coarse, places))
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
