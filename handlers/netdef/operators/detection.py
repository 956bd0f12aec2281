"""The operators that Caffe2 has for Mask R-CNN: proposals, their features, boxes and keypoints.

Rotated boxes and soft NMS are refused by name: detectron2's tracer writes neither for the families
that it converts. Each operator is that of its name in caffe2/operators, as its CPU kernel answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torchvision
from torch import Tensor

from d2serve.handlers.netdef.arguments import ArgumentError, Arguments
from d2serve.handlers.netdef.operators.boxes import clipped, suppressed, transformed
from d2serve.handlers.netdef.operators.keypoints import heatmap_max_keypoint
from d2serve.handlers.netdef.operators.making import Maker, Step

_EVEN = (1.0, 1.0, 1.0, 1.0)


def _generate_proposals(args: Arguments) -> Step:
    stride = 1.0 / args.number("spatial_scale", 1.0 / 16)
    before, after = args.integer("pre_nms_topN", 6000), args.integer("post_nms_topN", 300)
    threshold, least = args.number("nms_thresh", 0.7), args.number("min_size", 16.0)
    plus_one = args.boolean("legacy_plus_one", True)

    def step(
        scores: Tensor, deltas: Tensor, im_info: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor]:
        _upright(anchors.shape[1], 4)
        found = [_proposals(*each, anchors) for each in zip(scores, deltas, im_info)]
        boxes = [_numbered(index, boxes) for index, (boxes, _) in enumerate(found)]
        return torch.cat(boxes), torch.cat([probabilities for _, probabilities in found])

    def _proposals(
        scores: Tensor, deltas: Tensor, im_info: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor]:
        width = scores.shape[2]
        # Where scores are equal, Caffe2's order is that of std::sort, which promises none. This is
        # detectron2's: the same function, of the anchors cell by cell.
        flat = scores.flatten(1).t().flatten()
        count = len(flat) if before <= 0 else min(before, len(flat))
        best, order = flat.topk(count)
        anchor, place = order % len(scores), order // len(scores)
        shifts = torch.stack([place % width, place // width] * 2, dim=1) * stride
        chosen = deltas.reshape(len(anchors), 4, -1)[anchor, :, place]
        boxes = transformed(anchors[anchor] + shifts, chosen, _EVEN, plus_one)
        image = im_info.tolist()
        boxes = clipped(boxes, int(image[0]), int(image[1]), plus_one)
        sizes = boxes[:, 2:] - boxes[:, :2] + float(plus_one)
        centres = boxes[:, :2] + sizes / 2
        kept = (sizes >= least * image[2]).all(1) & (centres < im_info[[1, 0]]).all(1)
        boxes, best = boxes[kept], best[kept]
        chosen = suppressed(boxes, best, threshold, after, plus_one)
        return boxes[chosen], best[chosen]

    return step


def _numbered(index: int, boxes: Tensor) -> Tensor:
    """(N, 5): the index of the image precedes each box."""
    return torch.cat([boxes.new_full((len(boxes), 1), index), boxes], dim=1)


def _upright(columns: int, expected: int) -> None:
    if columns != expected:
        raise ArgumentError(
            f"boxes have {columns} numbers, expected {expected}: rotated boxes are not run here"
        )


def _collect_proposals(args: Arguments) -> Step:
    most = args.integer("rpn_post_nms_topN", 2000)

    def step(*levels: Tensor) -> Tensor:
        half = len(levels) // 2
        rois, scores = torch.cat(levels[:half]), torch.cat([each.ravel() for each in levels[half:]])
        order = scores.argsort(descending=True, stable=True)
        return rois[order[:most] if most > 0 else order]

    return step


def _distribute_proposals(args: Arguments) -> Step:
    scale, level = args.integer("roi_canonical_scale", 224), args.integer("roi_canonical_level", 4)
    lowest, highest = args.integer("roi_min_level", 2), args.integer("roi_max_level", 5)
    one = float(args.boolean("legacy_plus_one", True))

    def step(rois: Tensor) -> tuple[Tensor, ...]:
        boxes = rois[:, -4:]
        area = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
        exact = level + (area.sqrt() / scale + 1e-6).log() / torch.log(area.new_tensor(2.0))
        levels = exact.floor().clamp(lowest, highest)
        rois = rois if rois.shape[1] == 5 else _numbered(0, rois)
        places = [(levels == each).nonzero()[:, 0] for each in range(lowest, highest + 1)]
        restore = torch.cat(places).argsort().to(torch.int32)
        return (*(rois[each] for each in places), restore)

    return step


def _roi_align(args: Arguments) -> Step:
    args.expect("order", "NCHW", "NCHW")
    size = args.integer("pooled_h", 1), args.integer("pooled_w", 1)
    scale, aligned = args.number("spatial_scale", 1.0), args.boolean("aligned", False)
    ratio = args.integer("sampling_ratio", -1)

    def step(x: Tensor, rois: Tensor) -> Tensor:
        rois = rois if rois.shape[1] == 5 else _numbered(0, rois)
        made: Tensor = torchvision.ops.roi_align(x, rois, size, scale, ratio, aligned)
        if aligned and ratio <= 0:
            # A box without area has no samples, of which Caffe2 takes the mean: not a number, which
            # no score is above.
            sides = rois[:, 3:] * scale - rois[:, 1:3] * scale
            made[(sides == 0).any(1)] = torch.nan
        return made

    return step


def _bbox_transform(args: Arguments) -> Step:
    if args.boolean("rotated", False):
        raise ArgumentError("rotated boxes are not run here")
    weights = args.floats("weights").tolist() or list(_EVEN)
    if len(weights) != 4:
        raise ArgumentError(f"weights are {weights}, expected four")
    scales_back, plus_one = args.boolean("apply_scale", True), args.boolean("legacy_plus_one", True)

    def step(rois: Tensor, deltas: Tensor, im_info: Tensor) -> tuple[Tensor, Tensor]:
        images = rois[:, 0].long() if rois.shape[1] == 5 else rois.new_zeros(len(rois)).long()
        counts = images.bincount(minlength=len(im_info))
        made = []
        parts = (torch.split(each, counts.tolist()) for each in (rois[:, -4:], deltas))
        for boxes, some, (height, width, scale) in zip(*parts, im_info.tolist()):
            classes = some.shape[1] // 4
            each = (boxes / scale).repeat_interleave(classes, 0)
            moved = transformed(each, some.reshape(-1, 4), weights, plus_one)
            sides = int(height / scale + 0.5), int(width / scale + 0.5)
            made.append(
                clipped(moved, *sides, plus_one).reshape(some.shape) * (scale if scales_back else 1)
            )
        return torch.cat(made), counts.to(torch.float32)

    return step


def _box_with_nms_limit(args: Arguments) -> Step:
    for name in ("rotated", "soft_nms_enabled"):
        args.expect(name, 0, 0)
    least, threshold = args.number("score_thresh", 0.05), args.number("nms", 0.3)
    most = args.integer("detections_per_im", 100)
    one_box = args.boolean("cls_agnostic_bbox_reg", False)
    # With the background's boxes its scores come first, otherwise last.
    background = int(args.boolean("input_boxes_include_bg_cls", True))
    first_class = int(args.boolean("output_classes_include_bg_cls", True))
    plus_one = args.boolean("legacy_plus_one", True)

    def step(scores: Tensor, boxes: Tensor, splits: Tensor | None = None) -> tuple[Tensor, ...]:
        scores, boxes = scores.flatten(1), boxes.flatten(1)
        counts = [len(scores)] if splits is None else splits.long().tolist()
        images = zip(torch.split(scores, counts), torch.split(boxes, counts))
        found = [_limited(*each) for each in images]
        made, kept, classes = ([each[at] for each in found] for at in range(3))
        sizes = [each.bincount(minlength=scores.shape[1] - 1) for each in classes]
        none = scores.new_zeros(1, dtype=torch.int64)
        return (
            torch.cat([each[:, 4] for each in made]),
            torch.cat([each[:, :4] for each in made]),
            torch.cat(classes).to(torch.float32) + first_class,
            scores.new_tensor([len(each) for each in made]),
            torch.cat(kept).to(torch.int32),
            torch.stack([torch.cat([none, each]) for each in sizes]).to(torch.int32),
        )

    def _limited(scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes with their scores, which of the given ones they are, and their classes."""
        none = scores.new_zeros(0, dtype=torch.int64)
        made, kept, classes = [boxes.new_zeros(0, 5)], [none], [none]
        own_scores = scores[:, background : scores.shape[1] - 1 + background]
        for index in (own_scores > least).any(0).nonzero()[:, 0].tolist():
            here = own_scores[:, index]
            column = 0 if one_box else index + background
            some = (here > least).nonzero()[:, 0]
            some = some[here[some].argsort(descending=True, stable=True)]
            own = boxes[:, 4 * column : 4 * column + 4]
            some = some[suppressed(own[some], here[some], threshold, most, plus_one)]
            made.append(torch.cat([own[some], here[some, None]], dim=1))
            kept.append(some)
            classes.append(torch.full_like(some, index))
        found = torch.cat(made), torch.cat(kept), torch.cat(classes)
        if 0 < most < len(found[1]):
            # The best of all classes, which stay in the order of the classes.
            best = found[0][:, 4].argsort(descending=True, stable=True)[:most].sort().values
            found = found[0][best], found[1][best], found[2][best]
        return found

    return step


DETECTION: Mapping[str, Maker] = {
    "BBoxTransform": _bbox_transform,
    "BoxWithNMSLimit": _box_with_nms_limit,
    "CollectRpnProposals": _collect_proposals,
    "DistributeFpnProposals": _distribute_proposals,
    "GenerateProposals": _generate_proposals,
    "GenerateProposalsCPP": _generate_proposals,
    "HeatmapMaxKeypoint": heatmap_max_keypoint,
    "RoIAlign": _roi_align,
}
