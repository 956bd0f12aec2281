"""What detectron2 does with boxes, said in Caffe2's operators: proposals, pooling, ROI heads.

The operators do as detectron2 does where they are told so:

- ``GenerateProposals`` keeps boxes whose sides are at least ``min_size``, detectron2 those with
  longer ones; so it gets the next larger number. Its anchors start at (0, 0), so the generator's
  offset is added to them. It has no weights of the deltas, so these are divided by them before.
- ``BoxWithNMSLimit`` takes one box for each class or one for all, and gives both by class.
- ``DistributeFpnProposals`` finds a box's level with 1e-6 where detectron2 has 1e-8
  (assign_boxes_to_levels in modeling/poolers.py): another one for sides within a millionth of the
  border between two levels.

Upstream's tracer asks for four levels of the pooler; the operator takes any number of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads
from torch import Tensor

from d2serve.export.programs.caffe2.operators import caffe2

_HEADS = "roi_heads"
_BOX_POOLER = "roi_heads.box_pooler"


def proposals(rpn: Any, features: dict[str, Tensor], im_info: Tensor) -> Tensor:
    """The proposals of an RPN, (R, 5): index of the image, x0, y0, x1, y1; by falling score."""
    scope = "proposal_generator"
    levels = [features[name] for name in rpn.in_features]
    logits, deltas = rpn.rpn_head(levels)
    weights = np.array(rpn.box2box_transform.weights, np.float32)
    generator = rpn.anchor_generator
    rois, scores = [], []
    for level, (stride, cells) in enumerate(zip(generator.strides, generator.cell_anchors)):
        anchors = np.array(cells.tolist(), np.float32)
        anchors += np.float32(generator.offset * stride)
        moved = deltas[level]
        if (weights != 1).any():
            moved = moved / torch.from_numpy(np.tile(weights, len(cells))[:, None, None])
        found = caffe2(
            "GenerateProposals",
            logits[level],
            moved,
            im_info,
            torch.from_numpy(anchors),
            spatial_scale=1.0 / stride,
            pre_nms_topN=int(rpn.pre_nms_topk[False]),
            post_nms_topN=int(rpn.post_nms_topk[False]),
            nms_thresh=float(rpn.nms_thresh),
            min_size=_next_larger(rpn.min_box_size),
            scope=scope,
        )
        rois.append(found[0])
        scores.append(found[1])
    if len(rois) == 1:
        alone: Tensor = rois[0]
        return alone
    # The operator uses no more of its levels than their number.
    collected: Tensor = caffe2(
        "CollectRpnProposals",
        [*rois, *scores],
        rpn_max_level=2 + len(rois) - 1,
        rpn_min_level=2,
        rpn_post_nms_topN=int(rpn.post_nms_topk[False]),
        scope=scope,
    )
    return collected


def _next_larger(size: float) -> float:
    larger = np.nextafter(np.float32(size), np.float32(np.inf))
    return float(max(larger, np.finfo(np.float32).tiny))  # tiny: a smaller number may count as 0


def pooled(pooler: Any, levels: list[Tensor], rois: Tensor, scope: str) -> Tensor:
    """The features in boxes, (R, C, height, width).

    Args:
        pooler: detectron2's, of ROIAlign.
        levels: what it pools from.
        rois: (R, 5) as ``proposals`` gives them, or (R, 4) boxes of the only image.
        scope: what it is part of.
    """

    def align(level: int, boxes: Tensor) -> Tensor:
        each = pooler.level_poolers[level]
        found: Tensor = caffe2(
            "RoIAlign",
            levels[level],
            boxes,
            spatial_scale=float(each.spatial_scale),
            pooled_h=int(pooler.output_size[0]),
            pooled_w=int(pooler.output_size[1]),
            sampling_ratio=int(each.sampling_ratio),
            aligned=bool(each.aligned),
            scope=scope,
        )
        return found

    if len(pooler.level_poolers) == 1:
        return align(0, rois)
    *parts, restore = caffe2(
        "DistributeFpnProposals",
        rois,
        roi_canonical_scale=int(pooler.canonical_box_size),
        roi_canonical_level=int(pooler.canonical_level),
        roi_max_level=int(pooler.max_level),
        roi_min_level=int(pooler.min_level),
        scope=scope,
    )
    shuffled = torch.cat([align(level, boxes) for level, boxes in enumerate(parts)])
    ordered: Tensor = caffe2("BatchPermutation", shuffled, restore, scope=scope)
    return ordered


def roi_outputs(
    heads: Any, features: dict[str, Tensor], rois: Tensor, im_info: Tensor
) -> dict[str, Tensor]:
    """What ROI heads answer for the proposals of an image, by Caffe2's names."""
    if isinstance(heads, Res5ROIHeads):
        return _res5(heads, features, rois, im_info)
    box_levels = [features[name] for name in heads.box_in_features]
    if isinstance(heads, CascadeROIHeads):
        answer = _cascade(heads, box_levels, rois, im_info)
    else:
        within = heads.box_head(pooled(heads.box_pooler, box_levels, rois, _BOX_POOLER))
        answer = _detected(heads.box_predictor, within, rois, im_info)
    if heads.mask_on:
        levels = [features[name] for name in heads.mask_in_features]
        within = pooled(heads.mask_pooler, levels, answer["bbox_nms"], f"{_HEADS}.mask_pooler")
        answer["mask_fcn_probs"] = _masks(heads, within)
    if heads.keypoint_on:
        levels = [features[name] for name in heads.keypoint_in_features]
        scope = f"{_HEADS}.keypoint_pooler"
        within = pooled(heads.keypoint_pooler, levels, answer["bbox_nms"], scope)
        answer["kps_score"] = heads.keypoint_head.layers(within)
    return answer


def _res5(
    heads: Any, features: dict[str, Tensor], rois: Tensor, im_info: Tensor
) -> dict[str, Tensor]:
    levels = [features[name] for name in heads.in_features]
    scope = f"{_HEADS}.pooler"
    within = heads.res5(pooled(heads.pooler, levels, rois, scope))
    answer = _detected(heads.box_predictor, within.mean(dim=[2, 3]), rois, im_info)
    if heads.mask_on:
        within = heads.res5(pooled(heads.pooler, levels, answer["bbox_nms"], scope))
        answer["mask_fcn_probs"] = _masks(heads, within)
    return answer


def _cascade(heads: Any, levels: list[Tensor], rois: Tensor, im_info: Tensor) -> dict[str, Tensor]:
    """Each stage works on the boxes of the one before; scores are the mean of all."""
    probabilities, splits = [], None
    for head, predictor in zip(heads.box_head, heads.box_predictor, strict=True):
        scores, deltas = predictor(head(pooled(heads.box_pooler, levels, rois, _BOX_POOLER)))
        rois, splits = _moved(predictor, rois, deltas, im_info)
        probabilities.append(_probabilities(predictor, scores))
    mean = sum(probabilities[1:], probabilities[0]) * (1.0 / len(probabilities))
    return _selected(predictor, mean, rois, splits)


def _detected(predictor: Any, features: Tensor, rois: Tensor, im_info: Tensor) -> dict[str, Tensor]:
    scores, deltas = predictor(features)
    boxes, splits = _moved(predictor, rois, deltas, im_info)
    return _selected(predictor, _probabilities(predictor, scores), boxes, splits)


def _moved(predictor: Any, rois: Tensor, deltas: Tensor, im_info: Tensor) -> tuple[Tensor, Tensor]:
    boxes, splits = caffe2(
        "BBoxTransform",
        rois,
        deltas,
        im_info,
        weights=[float(each) for each in predictor.box2box_transform.weights],
        scope=_HEADS,
    )
    return boxes, splits


def _probabilities(predictor: Any, scores: Tensor) -> Tensor:
    return scores.sigmoid() if predictor.use_sigmoid_ce else scores.softmax(dim=1)


def _selected(
    predictor: Any, probabilities: Tensor, boxes: Tensor, splits: Tensor | None
) -> dict[str, Tensor]:
    found = caffe2(
        "BoxWithNMSLimit",
        probabilities,
        boxes,
        splits,
        score_thresh=float(predictor.test_score_thresh),
        nms=float(predictor.test_nms_thresh),
        detections_per_im=int(predictor.test_topk_per_image),
        cls_agnostic_bbox_reg=boxes.shape[1] == 4,
        scope=_HEADS,
    )
    scores, selected, classes = found[:3]
    return {"bbox_nms": selected, "score_nms": scores, "class_nms": classes}


def _masks(heads: Any, features: Tensor) -> Tensor:
    masks: Tensor = heads.mask_head.layers(features).sigmoid()
    if masks.shape[1] == 1:  # one for all classes; whoever reads it takes that of the box's class
        masks = torch.cat([masks] * int(heads.num_classes), dim=1)
    return masks
