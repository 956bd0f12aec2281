"""PointRend's mask heads: they trace, but TorchScript cannot read them, and ONNX needs instances.

``PointRendMaskHead`` (projects/point_rend/mask_head.py) names no types, keeps its scales in a
dict and changes the type of ``mask_logits`` in a loop. Its ``mask_logits.reshape(R, C, H * W)``
becomes a Reshape to (R, C, -1), which onnxruntime refuses when there are no instances (R is 0);
sizes that are plain numbers avoid that. The heads inside are in ``point_heads.py``.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

import dataclasses
from typing import Any

import torch
from detectron2.layers import shapes_to_tensor
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference
from detectron2.projects.point_rend.mask_head import ImplicitPointRendMaskHead, PointRendMaskHead
from detectron2.projects.point_rend.point_features import generate_regular_grid_point_coords
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  as everybody names it

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite, overridden


class TypedPointRend(nn.Module):
    """Inference of PointRendMaskHead, typed, and with mask sizes that are plain numbers.

    Without any instance the masks have their full size, where detectron2 stops at the first.
    """

    roi_grid: Tensor
    first_grid: Tensor

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.point_head: Any = head.point_head
        scales = head._feature_scales
        self.coarse_features: list[str] = list(head.roi_pooler_in_features)
        self.coarse_scales: list[float] = [scales[name] for name in self.coarse_features]
        self.point_features: list[str] = list(head.mask_point_in_features)
        self.point_scales: list[float] = [scales[name] for name in self.point_features]
        self.roi_size: int = int(head.roi_pooler_size)
        self.first_side: int = int(head.mask_point_subdivision_init_resolution)
        self.steps: int = int(head.mask_point_subdivision_steps)
        self.points: int = int(head.mask_point_subdivision_num_points)
        for name, size in (("roi_grid", self.roi_size), ("first_grid", self.first_side)):
            grid = generate_regular_grid_point_coords(1, size, torch.device("cpu"))
            self.register_buffer(name, grid, persistent=False)

    def subdivide(
        self, features: dict[str, Tensor], representations: Tensor, instances: list[Instances]
    ) -> list[Instances]:
        """Refine masks from coarse to fine, as in arxiv.org/abs/1912.08193, figure 4."""
        boxes = [x.pred_boxes for x in instances]
        classes = torch.cat([x.pred_classes for x in instances])
        point_features = [features[name] for name in self.point_features]
        side = self.first_side
        places = self.first_grid.expand(classes.size(0), -1, -1)
        fine = _sample_boxes(point_features, self.point_scales, boxes, places)
        logits = self.point_logits(fine, places, representations)
        masks = logits.reshape(logits.shape[0], logits.shape[1], side, side)
        for _ in range(self.steps):
            side = 2 * side
            masks = F.interpolate(masks, scale_factor=2.0, mode="bilinear", align_corners=False)
            indices = self.least_certain(masks, classes, side)
            places = centres(indices, side, side)
            fine = _sample_boxes(point_features, self.point_scales, boxes, places)
            logits = self.point_logits(fine, places, representations)
            flat = masks.reshape(masks.shape[0], masks.shape[1], side * side)
            flat = flat.scatter(2, indices.unsqueeze(1).expand(-1, masks.shape[1], -1), logits)
            masks = flat.reshape(flat.shape[0], flat.shape[1], side, side)
        mask_rcnn_inference(masks, instances)
        return instances

    def point_logits(self, fine: Tensor, places: Tensor, representations: Tensor) -> Tensor:
        """(R, C, P) logits of points; each kind of head has its own."""
        raise NotImplementedError

    def coarse(self, features: dict[str, Tensor], instances: list[Instances]) -> Tensor:
        """(R, C, S, S) features of each box on a regular grid."""
        boxes = [x.pred_boxes for x in instances]
        count = torch.cat([x.pred_classes for x in instances]).size(0)
        places = self.roi_grid.expand(count, -1, -1)
        levels = [features[name] for name in self.coarse_features]
        found = _sample_boxes(levels, self.coarse_scales, boxes, places)
        return found.reshape(found.shape[0], found.shape[1], self.roi_size, self.roi_size)

    def least_certain(self, masks: Tensor, classes: Tensor, side: int) -> Tensor:
        """(R, P) flat indices of the points whose class's logit is nearest to zero."""
        if masks.shape[1] == 1:
            chosen = masks[:, 0]
        else:
            chosen = masks[torch.arange(masks.shape[0], device=masks.device), classes]
        uncertainty = -chosen.abs().reshape(chosen.shape[0], side * side)
        return torch.topk(uncertainty, k=min(side * side, self.points), dim=1)[1]


class TypedPointRendHead(TypedPointRend):
    """PointRendMaskHead: a coarse mask, refined by a point head that sees it."""

    def __init__(self, head: Any) -> None:
        super().__init__(head)
        self.coarse_head: Any = head.coarse_head

    def forward(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        """Give each instance its pred_masks."""
        masks = self.coarse_head(self.coarse(features, instances))
        return self.subdivide(features, masks, instances)

    def point_logits(self, fine: Tensor, places: Tensor, representations: Tensor) -> Tensor:
        """(R, C, P) logits of points, from their features and from the coarse mask."""
        logits: Tensor = self.point_head(fine, sampled_at(representations, places))
        return logits


class TypedImplicitPointRendHead(TypedPointRend):
    """ImplicitPointRendMaskHead: a point head whose parameters are predicted for each instance."""

    def __init__(self, head: Any) -> None:
        super().__init__(head)
        self.parameter_head: Any = head.parameter_head

    def forward(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        """Give each instance its pred_masks."""
        parameters = self.parameter_head(self.coarse(features, instances))
        return self.subdivide(features, parameters, instances)

    def point_logits(self, fine: Tensor, places: Tensor, representations: Tensor) -> Tensor:
        """(R, C, P) logits of points, from their features, places and instance's parameters."""
        logits: Tensor = self.point_head(fine, places, representations)
        return logits


def sampled_at(features: Tensor, places: Tensor) -> Tensor:
    """(N, C, P) values of (N, C, H, W) features at (N, P, 2) places, x and y from 0 to 1."""
    grid = 2.0 * places.unsqueeze(2) - 1.0
    return F.grid_sample(features, grid, align_corners=False).squeeze(3)


def _sample_boxes(
    levels: list[Tensor], scales: list[float], boxes: list[Boxes], places: Tensor
) -> Tensor:
    """(R, C, P) features of all levels at (R, P, 2) places, x and y from 0 to 1 within a box."""
    corners = torch.cat([b.tensor for b in boxes], dim=0)[:, None]
    in_image = places * (corners[:, :, 2:] - corners[:, :, :2]) + corners[:, :, :2]
    found: list[Tensor] = []
    for index, own in enumerate(torch.split(in_image, [b.tensor.size(0) for b in boxes])):
        of_image: list[Tensor] = []
        for level, scale in zip(levels, scales):
            size = shapes_to_tensor([level.shape[3], level.shape[2]]) / scale
            # One image's points as one grid (1, R, P, 2).
            grid = 2.0 * (own / size.type_as(own)).unsqueeze(0) - 1.0
            sampled = F.grid_sample(level[index].unsqueeze(0), grid, align_corners=False)
            of_image.append(sampled.squeeze(0).transpose(1, 0))
        found.append(torch.cat(of_image, dim=1))
    return torch.cat(found, dim=0)


def centres(indices: Tensor, height: int, width: int) -> Tensor:
    """(N, P, 2) x and y, from 0 to 1, of flat indices in a grid."""
    x_step, y_step = 1.0 / float(width), 1.0 / float(height)
    x = x_step / 2.0 + (indices % width).to(torch.float) * x_step
    y = y_step / 2.0 + torch.div(indices, width, rounding_mode="floor").to(torch.float) * y_step
    return torch.stack((x, y), dim=2)


def _typed(head: nn.Module) -> nn.Module:
    # detectron2's implicit head is a subclass of the other that overrides these two itself.
    implicit = isinstance(head, ImplicitPointRendMaskHead)
    own = dataclasses.replace(
        POINT_REND,
        replaces=ImplicitPointRendMaskHead if implicit else PointRendMaskHead,
        methods=("forward", "_get_point_logits"),
    )
    method = overridden(head, own)
    if method is not None:
        raise UnsupportedFamily(
            f"{method} overrides what the export replaces ({own.name}: {own.reason}). Its answers "
            "would be lost. Put the change into the point head, or try --export-method tracing."
        )
    return TypedImplicitPointRendHead(head) if implicit else TypedPointRendHead(head)


POINT_REND = Rewrite(
    name="point_rend",
    replaces=PointRendMaskHead,
    methods=("_roi_pooler", "_point_pooler", "_subdivision_inference"),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason=(
        "projects/point_rend/mask_head.py: PointRendMaskHead has no types, a trace of its grids "
        "holds the device, and reshape(R, C, H * W) fails in onnxruntime without instances"
    ),
    make=_typed,
)
