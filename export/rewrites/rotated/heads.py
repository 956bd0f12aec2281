"""ROI heads of rotated boxes, in operators that any server has.

``RotatedFastRCNNOutputLayers`` (modeling/roi_heads/rotated_fast_rcnn.py) calls ``nms_rotated``,
which exists only in detectron2's own compiled library, and leaves its arguments untyped.
``ROIPooler`` is typed for upright boxes. So TorchScript takes neither, nor ``RROIHeads``, which has
both.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Dict, List, Optional, Tuple  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.modeling.roi_heads import RROIHeads
from detectron2.modeling.roi_heads.rotated_fast_rcnn import RotatedFastRCNNOutputLayers
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite
from d2serve.export.rewrites.rotated.boxes import clipped, finite, pooler_levels
from d2serve.export.rewrites.rotated.nms import batched_nms_rotated
from d2serve.export.rewrites.rotated.scripted_boxes import (
    NEEDS_NMS,
    as_rotated_boxes,
    proposal_boxes_of,
)

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, misc, no-any-return, no-untyped-call, untyped-decorator"


class _OutputLayers:
    def inference(
        self, predictions: Tuple[Tensor, Tensor], proposals: List[Instances]
    ) -> Tuple[List[Instances], List[Tensor]]:
        instances: List[Instances] = []
        kept: List[Tensor] = []
        given = proposal_boxes_of(proposals)
        boxes = self.box2box_transform.apply_deltas(predictions[1], torch.cat(given))
        probabilities = predictions[0].softmax(-1)
        if self.use_sigmoid_ce:
            probabilities = predictions[0].sigmoid()
        numbers = [each.shape[0] for each in given]
        for each, box, scores in zip(proposals, boxes.split(numbers), probabilities.split(numbers)):
            found, rows = self._instances_of(each.image_size, box, scores)
            instances.append(found)
            kept.append(rows)
        return instances, kept

    def _instances_of(
        self, size: Tuple[int, int], boxes: Tensor, scores: Tensor
    ) -> Tuple[Instances, Tensor]:
        valid = finite(boxes) & finite(scores)
        boxes, scores = boxes[valid], scores[valid][:, :-1]
        regressed = boxes.shape[1] // 5
        boxes = clipped(boxes.reshape(-1, 5), size).reshape(-1, regressed, 5)
        chosen = scores > self.test_score_thresh
        places = chosen.nonzero()
        rows, classes = places[:, 0], places[:, 1]
        boxes = boxes[rows, 0] if regressed == 1 else boxes[rows, classes]
        scores = scores[rows, classes]
        keep = self.suppressed(boxes, scores, classes, self.test_nms_thresh)
        if self.test_topk_per_image >= 0:
            keep = keep[: self.test_topk_per_image]
        found = Instances(size)
        if torch.jit.is_scripting():
            found.pred_boxes = boxes[keep]
        else:
            found.pred_boxes = as_rotated_boxes(boxes[keep])
        found.scores = scores[keep]
        found.pred_classes = classes[keep]
        return found, rows[keep]

    def suppressed(self, boxes: Tensor, scores: Tensor, classes: Tensor, iou: float) -> Tensor:
        return batched_nms_rotated(boxes, scores, classes, iou)


class _Pooler:
    def forward(self, x: List[Tensor], box_lists: List[Tensor]) -> Tensor:
        rois: List[Tensor] = []
        for image, boxes in enumerate(box_lists):
            rois.append(torch.cat((torch.full_like(boxes[:, :1], float(image)), boxes), dim=1))
        all_rois = torch.cat(rois)
        levels = pooler_levels(
            all_rois, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        parts: List[Tensor] = []
        places: List[Tensor] = []
        for level, pooler in enumerate(self.level_poolers):
            place = (levels == level).nonzero()[:, 0]
            places.append(place)
            parts.append(pooler(x[level], all_rois[place]))
        # Back in the boxes' order.
        return torch.cat(parts)[torch.cat(places).argsort()]


class _Heads:
    def forward(
        self,
        images: ImageList,  # noqa: ARG002  # the interface of ROI heads
        features: Dict[str, Tensor],
        proposals: List[Instances],
        targets: Optional[List[Instances]] = None,  # noqa: ARG002
    ) -> Tuple[List[Instances], Dict[str, Tensor]]:
        return self._forward_box(features, proposals), {}

    def _forward_box(
        self, features: Dict[str, Tensor], proposals: List[Instances]
    ) -> List[Instances]:
        levels = [features[name] for name in self.box_in_features]
        pooled = self.box_pooler(levels, proposal_boxes_of(proposals))
        instances, _ = self.box_predictor.inference(
            self.box_predictor(self.box_head(pooled)), proposals
        )
        return instances


def _heads(module: nn.Module) -> nn.Module:
    module.box_pooler = override_methods(_Pooler)(module.box_pooler)  # type: ignore[arg-type]
    return override_methods(_Heads)(module)


ROTATED_OUTPUT_LAYERS = Rewrite(
    name="rotated_output_layers",
    replaces=RotatedFastRCNNOutputLayers,
    methods=("inference", "predict_boxes", "predict_probs"),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason=f"modeling/roi_heads/rotated_fast_rcnn.py: {NEEDS_NMS}, and inference is untyped",
    make=override_methods(_OutputLayers),
)
RROI_HEADS = Rewrite(
    name="rroi_heads",
    replaces=RROIHeads,
    methods=("forward", "_forward_box", "forward_with_given_boxes"),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason="modeling/poolers.py: ROIPooler is typed for upright boxes, and scripted "
    "Instances cannot carry RotatedBoxes",
    make=_heads,
)
