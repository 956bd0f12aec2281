"""Rotated R-CNN in detectron2 needs compiled operators, and cannot be scripted.

``RRPN`` (modeling/proposal_generator/rrpn.py) and ``RROIHeads`` (roi_heads/rotated_fast_rcnn.py)
call ``nms_rotated``, which exists only in detectron2's own compiled library. Beside that,
``RotatedAnchorGenerator``, ``RRPN`` and ``RotatedFastRCNNOutputLayers`` leave their arguments
untyped, and ``ROIPooler`` is typed for upright boxes, so TorchScript takes none of them.
Scripted programs carry boxes as plain tensors: upstream's generator of scripted Instances writes
a syntax error for fields of type ``RotatedBoxes`` (export/torchscript_patch.py, get_fields).
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Dict, Final, List, Optional, Tuple  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.modeling.anchor_generator import RotatedAnchorGenerator
from detectron2.modeling.proposal_generator.rrpn import RRPN
from detectron2.modeling.roi_heads import RROIHeads
from detectron2.modeling.roi_heads.rotated_fast_rcnn import RotatedFastRCNNOutputLayers
from detectron2.structures import ImageList, Instances, RotatedBoxes
from torch import Tensor, nn

from d2serve.export.rewrites.method_overrides import with_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite
from d2serve.export.rewrites.rotated.boxes import clipped, finite, pooler_levels, top_rows
from d2serve.export.rewrites.rotated.nms import batched_nms_rotated

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, misc, no-any-return, no-untyped-call, untyped-decorator"


def scripted_fields(model: nn.Module) -> Dict[str, type]:
    """Types of Instances' fields that a scripted rotated model has otherwise than upright ones."""
    rotated = any(isinstance(each, (RRPN, RROIHeads)) for each in model.modules())
    return {"proposal_boxes": Tensor, "pred_boxes": Tensor} if rotated else {}


def _proposal_boxes(proposals: List[Instances]) -> List[Tensor]:
    if torch.jit.is_scripting():
        boxes: List[Tensor] = [each.proposal_boxes for each in proposals]
    else:
        boxes = [each.proposal_boxes.tensor for each in proposals]
    return boxes


@torch.jit.ignore
def _rotated_boxes(boxes: Tensor) -> RotatedBoxes:
    # Without RotatedBoxes.__init__, in whose trace the device is a constant.
    made = RotatedBoxes.__new__(RotatedBoxes)
    made.tensor = boxes
    return made


class _Anchors:
    box_dim: Final[int]
    __jit_unused_properties__ = ("num_anchors", "num_cell_anchors")

    def forward(self, features: List[Tensor]) -> List[RotatedBoxes]:
        found: List[RotatedBoxes] = []
        cells: List[Tensor] = [each[1] for each in self.cell_anchors.named_buffers()]
        for feature, stride, cell in zip(features, self.strides, cells):
            # Upstream counts up in float32 too, which is exact for these numbers.
            start = self.offset * stride
            # Counted along the feature, so that the device is no constant of a trace.
            x = (torch.ones_like(feature[0, 0, 0]).cumsum(0) - 1) * stride + start
            y = (torch.ones_like(feature[0, 0, :, 0]).cumsum(0) - 1) * stride + start
            down, across = torch.meshgrid(y, x, indexing="ij")
            centre = torch.stack((across.reshape(-1), down.reshape(-1)), dim=1)
            shift = torch.cat(
                (centre, torch.zeros_like(centre), torch.zeros_like(centre[:, :1])), 1
            )
            anchors = (shift.unsqueeze(1) + cell.unsqueeze(0)).reshape(-1, 5)
            if torch.jit.is_scripting():
                found.append(RotatedBoxes(anchors))
            else:
                found.append(_rotated_boxes(anchors))
        return found


class _Proposals:
    def predict_proposals(
        self,
        anchors: List[RotatedBoxes],
        pred_objectness_logits: List[Tensor],
        pred_anchor_deltas: List[Tensor],
        image_sizes: List[Tuple[int, int]],
    ) -> List[Instances]:
        boxes: List[Tensor] = []
        scores: List[Tensor] = []
        levels: List[Tensor] = []
        most = self.pre_nms_topk[self.training]
        for level, (anchor, logits, deltas) in enumerate(
            zip(anchors, pred_objectness_logits, pred_anchor_deltas)
        ):
            repeated = anchor.tensor.unsqueeze(0).expand(deltas.shape[0], -1, -1).reshape(-1, 5)
            decoded = self.box2box_transform.apply_deltas(deltas.reshape(-1, 5), repeated)
            kept, best = top_rows(decoded.reshape(deltas.shape[0], -1, 5), logits, most)
            boxes.append(kept)
            scores.append(best)
            levels.append(torch.full_like(best[0], level, dtype=torch.int64))
        all_boxes, all_scores = torch.cat(boxes, dim=1), torch.cat(scores, dim=1)
        all_levels = torch.cat(levels)
        proposals: List[Instances] = []
        for index, size in enumerate(image_sizes):
            proposals.append(
                self._proposals_of(size, all_boxes[index], all_scores[index], all_levels)
            )
        return proposals

    def _proposals_of(
        self, size: Tuple[int, int], boxes: Tensor, scores: Tensor, levels: Tensor
    ) -> Instances:
        valid = finite(boxes) & torch.isfinite(scores)
        boxes, scores, levels = clipped(boxes[valid], size), scores[valid], levels[valid]
        large = (boxes[:, 2] > self.min_box_size) & (boxes[:, 3] > self.min_box_size)
        boxes, scores, levels = boxes[large], scores[large], levels[large]
        keep = self.suppressed(boxes, scores, levels, self.nms_thresh)
        keep = keep[: self.post_nms_topk[self.training]]
        proposals = Instances(size)
        if torch.jit.is_scripting():
            proposals.proposal_boxes = boxes[keep]
        else:
            proposals.proposal_boxes = _rotated_boxes(boxes[keep])
        proposals.objectness_logits = scores[keep]
        return proposals

    def suppressed(self, boxes: Tensor, scores: Tensor, classes: Tensor, iou: float) -> Tensor:
        return batched_nms_rotated(boxes, scores, classes, iou)


class _OutputLayers:
    def inference(
        self, predictions: Tuple[Tensor, Tensor], proposals: List[Instances]
    ) -> Tuple[List[Instances], List[Tensor]]:
        instances: List[Instances] = []
        kept: List[Tensor] = []
        given = _proposal_boxes(proposals)
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
            found.pred_boxes = _rotated_boxes(boxes[keep])
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
        pooled = self.box_pooler(levels, _proposal_boxes(proposals))
        instances, _ = self.box_predictor.inference(
            self.box_predictor(self.box_head(pooled)), proposals
        )
        return instances


def _heads(module: nn.Module) -> nn.Module:
    module.box_pooler = with_methods(_Pooler)(module.box_pooler)  # type: ignore[arg-type]
    return with_methods(_Heads)(module)


_NEEDS_NMS = "nms_rotated is a compiled operator of detectron2's, which no server has"

ROTATED_ANCHORS = Rewrite(
    name="rotated_anchors",
    replaces=RotatedAnchorGenerator,
    methods=("forward", "_grid_anchors"),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason="modeling/anchor_generator.py: RotatedAnchorGenerator.forward is untyped, which "
    "TorchScript does not take, and a trace of its boxes holds the device",
    make=with_methods(_Anchors),
)
RRPN_PROPOSALS = Rewrite(
    name="rrpn",
    replaces=RRPN,
    methods=("predict_proposals", "_decode_proposals"),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason=f"modeling/proposal_generator/rrpn.py: {_NEEDS_NMS}, and predict_proposals is untyped",
    make=with_methods(_Proposals),
)
ROTATED_OUTPUT_LAYERS = Rewrite(
    name="rotated_output_layers",
    replaces=RotatedFastRCNNOutputLayers,
    methods=("inference", "predict_boxes", "predict_probs"),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason=f"modeling/roi_heads/rotated_fast_rcnn.py: {_NEEDS_NMS}, and inference is untyped",
    make=with_methods(_OutputLayers),
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
