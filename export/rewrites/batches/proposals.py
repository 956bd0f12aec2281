"""Proposals of a batch: the best of each image, in one ``Instances``."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import cat
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances
from torch import Tensor

from d2serve.export.rewrites.batches.images import BoxesOfImages, clipped, edges_of
from d2serve.export.rewrites.batches.suppression import ALL, NOWHERE, suppressed
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import ONNX_BATCHES, Rewrite
from d2serve.handlers.spec.output_names import IMAGE_OF_INSTANCE


class _OfBatches:
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[Tensor],
    ) -> list[Instances]:
        """``find_top_rpn_proposals`` of all images at once."""
        this: Any = self
        (sizes,) = image_sizes
        decoded = this._decode_proposals(anchors, pred_anchor_deltas)
        boxes, scores, levels = [], [], []
        for level, (each, logits) in enumerate(zip(decoded, pred_objectness_logits)):
            most: Any = torch.clamp(torch.as_tensor(logits.shape[1]), max=this.pre_nms_topk[False])
            best, places = logits.topk(most, dim=1)
            boxes.append(each.gather(1, places[:, :, None].expand(-1, -1, 4)))
            scores.append(best)
            levels.append(torch.full_like(best[:1], level))
        found = clipped(cat(boxes, dim=1), edges_of(sizes)[:, None])
        logits = cat(scores, dim=1)
        sides = found[:, :, 2:] - found[:, :, :2]
        there = (sides > this.min_box_size).all(dim=2)
        logits = torch.where(there, logits, torch.full_like(logits[:1, :1], NOWHERE))
        most = this.post_nms_topk[False]
        images, places = suppressed(
            found, logits, cat(levels, dim=1), this.nms_thresh, ALL if most < 0 else most
        )
        proposals = Instances(sizes)
        proposals.proposal_boxes = BoxesOfImages(found[images, places], images)
        proposals.objectness_logits = logits[images, places]
        proposals.set(IMAGE_OF_INSTANCE, images)
        return [proposals]


PROPOSAL_BATCHES = Rewrite(
    name="proposal_batches",
    replaces=RPN,
    methods=("predict_proposals",),
    needed_for=frozenset({ONNX_BATCHES}),
    reason="modeling/proposal_generator/proposal_utils.py: find_top_rpn_proposals is a loop over "
    "images, of which a trace has as many as it was given",
    make=override_methods(_OfBatches),
)
