"""Anchors and proposals of rotated boxes, in operators that any server has.

``RRPN`` (modeling/proposal_generator/rrpn.py) calls ``nms_rotated``, which exists only in
detectron2's own compiled library. It and ``RotatedAnchorGenerator`` leave their arguments untyped,
so TorchScript takes neither.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Final, List, Tuple  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.modeling.anchor_generator import RotatedAnchorGenerator
from detectron2.modeling.proposal_generator.rrpn import RRPN
from detectron2.structures import Instances, RotatedBoxes
from torch import Tensor

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite
from d2serve.export.rewrites.rotated.boxes import clipped, finite, top_rows
from d2serve.export.rewrites.rotated.nms import batched_nms_rotated
from d2serve.export.rewrites.rotated.scripted_boxes import NEEDS_NMS, as_rotated_boxes

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, misc, no-any-return, no-untyped-call, untyped-decorator"


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
                found.append(as_rotated_boxes(anchors))
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
            proposals.proposal_boxes = as_rotated_boxes(boxes[keep])
        proposals.objectness_logits = scores[keep]
        return proposals

    def suppressed(self, boxes: Tensor, scores: Tensor, classes: Tensor, iou: float) -> Tensor:
        return batched_nms_rotated(boxes, scores, classes, iou)


ROTATED_ANCHORS = Rewrite(
    name="rotated_anchors",
    replaces=RotatedAnchorGenerator,
    methods=("forward", "_grid_anchors"),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason="modeling/anchor_generator.py: RotatedAnchorGenerator.forward is untyped, which "
    "TorchScript does not take, and a trace of its boxes holds the device",
    make=override_methods(_Anchors),
)
RRPN_PROPOSALS = Rewrite(
    name="rrpn",
    replaces=RRPN,
    methods=("predict_proposals", "_decode_proposals"),
    needed_for=frozenset({TRACING, SCRIPTING}),
    reason=f"modeling/proposal_generator/rrpn.py: {NEEDS_NMS}, and predict_proposals is untyped",
    make=override_methods(_Proposals),
)
