"""Pools features of the boxes of a batch, each from its own image."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from torch import Tensor

from d2serve.export.rewrites.batches.images import BoxesOfImages
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import ONNX_BATCHES, Rewrite


class _OfBatches:
    def forward(self, x: list[Tensor], box_lists: list[BoxesOfImages]) -> Tensor:
        """(boxes, channels, size, size) of the boxes in a list of one."""
        this: Any = self
        (boxes,) = box_lists
        rois = torch.cat([boxes.images[:, None].to(boxes.tensor), boxes.tensor], dim=1)
        if len(this.level_poolers) == 1:
            pooled: Tensor = this.level_poolers[0](x[0], rois)
            return pooled
        levels = assign_boxes_to_levels(
            [boxes],
            this.min_level,
            this.max_level,
            this.canonical_box_size,
            this.canonical_level,
        )
        pooled = x[0].new_zeros((rois.shape[0], x[0].shape[1], *this.output_size))
        for level, pooler in enumerate(this.level_poolers):
            (places,) = (levels == level).nonzero(as_tuple=True)
            pooled = pooled.index_put((places,), pooler(x[level], rois[places]))
        return pooled


POOLING_BATCHES = Rewrite(
    name="pooling_batches",
    replaces=ROIPooler,
    methods=("forward",),
    needed_for=frozenset({ONNX_BATCHES}),
    reason="modeling/poolers.py: the image of a box is its place in a list of images",
    make=override_methods(_OfBatches),
)
