"""Rotated IoU, NMS and ROI align beside references that share nothing with them.

detectron2's compiled operators are rarely there: OpenCV's intersection of rectangles, a plain loop,
torchvision's upright operators and turned images stand in. Where they are there, they count too.
"""

from __future__ import annotations

import cv2
import pytest
import torch
from torch import Tensor
from torchvision.ops import nms, roi_align

from d2serve.export.rewrites.rotated.iou import pairwise_iou
from d2serve.export.rewrites.rotated.nms import batched_nms_rotated, nms_rotated
from d2serve.export.rewrites.rotated.roi_align import roi_align_rotated
from d2serve.export.rewrites.rotated.stand_ins import (
    has_compiled_operators,
    plain_rotated_operators,
)

COMPILED = pytest.mark.skipif(
    not has_compiled_operators(), reason="this detectron2 has no compiled operators"
)
BOX = [50.0, 40.0, 30.0, 10.0, 35.0]


def _boxes(count: int, seed: int = 0, extent: float = 100, largest: float = 60) -> Tensor:
    random = torch.rand(count, 5, generator=torch.Generator().manual_seed(seed))
    low = torch.tensor([0.0, 0.0, 3.0, 3.0, -200.0])
    return low + random * (torch.tensor([extent, extent, largest, largest, 200.0]) - low)


def _opencv_iou(first: Tensor, second: Tensor) -> float:
    # OpenCV turns clockwise.
    a, b = (
        ((float(x), float(y)), (float(w), float(h)), -float(angle))
        for x, y, w, h, angle in (first, second)
    )
    kind, corners = cv2.rotatedRectangleIntersection(a, b)
    if kind == cv2.INTERSECT_NONE:
        return 0.0
    overlap = float(cv2.contourArea(cv2.convexHull(corners)))
    return overlap / (a[1][0] * a[1][1] + b[1][0] * b[1][1] - overlap)


def _upright(boxes: Tensor) -> Tensor:
    return torch.cat((boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2), dim=1)


def test_iou_is_that_of_opencv() -> None:
    first, second = _boxes(40), _boxes(40, seed=1)
    found = pairwise_iou(first, second)
    expected = torch.tensor([[_opencv_iou(a, b) for b in second] for a in first])
    assert (expected > 0).sum() > 300
    assert (found - expected).abs().max() < 1e-3  # OpenCV merges corners that are near
    assert ((found - expected).abs() > 1e-5).float().mean() < 0.02


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ([0, 0, 0, 0, 0], 1.0),
        ([0, 0, 0, 0, 180], 1.0),
        ([0, 0, 0, 0, -360], 1.0),
        ([0, 0, -15, -5, 0], 0.25),
        ([0, 0, -20, 20, 90], 1.0),
        ([0, 0, -30, 0, 0], 0.0),
        ([200, 0, 0, 0, 0], 0.0),
    ],
)
def test_iou_of_special_pairs(change: list[float], expected: float) -> None:
    box = torch.tensor([BOX])
    assert pairwise_iou(box, box + torch.tensor([change])).item() == pytest.approx(
        expected, abs=1e-5
    )


def test_iou_of_no_boxes() -> None:
    assert pairwise_iou(torch.zeros(0, 5), _boxes(3)).shape == (0, 3)
    assert pairwise_iou(_boxes(3), torch.zeros(0, 5)).shape == (3, 0)


def _greedy(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    overlaps = pairwise_iou(boxes, boxes)
    kept: list[int] = []
    for index in scores.sort(descending=True)[1].tolist():
        if all(overlaps[other, index] < threshold for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.9])
def test_nms_keeps_what_a_loop_keeps(threshold: float) -> None:
    boxes = _boxes(30).repeat_interleave(10, 0)
    boxes = boxes + torch.randn(boxes.shape, generator=torch.Generator().manual_seed(2)) * 2
    boxes[:, 2:4] = boxes[:, 2:4].abs() + 1
    scores = torch.rand(300, generator=torch.Generator().manual_seed(3))
    expected = _greedy(boxes, scores, threshold)
    assert 5 < len(expected) < 300
    assert nms_rotated(boxes, scores, threshold).tolist() == expected


def test_nms_of_upright_boxes_is_torchvisions() -> None:
    boxes = _boxes(200)
    boxes[:, 4] = 0
    scores = torch.rand(200, generator=torch.Generator().manual_seed(3))
    expected = nms(_upright(boxes), scores, 0.4)
    assert nms_rotated(boxes, scores, 0.4).tolist() == expected.tolist()


def test_nms_is_within_classes() -> None:
    boxes = torch.tensor([BOX, BOX, BOX])
    classes, scores = torch.tensor([0, 1, 0]), torch.tensor([0.5, 0.9, 0.7])
    assert batched_nms_rotated(boxes, scores, classes, 0.5).tolist() == [1, 2]
    none = batched_nms_rotated(boxes[:0], scores[:0], classes[:0], 0.5)
    assert none.shape == (0,)
    assert none.dtype == torch.int64


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_at_no_angle_is_torchvisions(sampling_ratio: int) -> None:
    features = torch.randn(2, 3, 20, 31, generator=torch.Generator().manual_seed(0))
    boxes = _boxes(30, extent=120)
    boxes[:, 4] = 0
    image = torch.arange(30).float()[:, None] % 2
    found = roi_align_rotated(features, torch.cat((image, boxes), 1), 0.25, 5, 7, sampling_ratio)
    expected = roi_align(
        features, torch.cat((image, _upright(boxes)), 1), (5, 7), 0.25, sampling_ratio, aligned=True
    )
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_roi_align_of_a_turned_image_is_the_same(turns: int) -> None:
    features = torch.randn(1, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    boxes = _boxes(20, extent=22, largest=12)
    turned = boxes.clone()
    for _ in range(turns):  # counterclockwise, as torch.rot90 turns
        turned[:, :2] = torch.stack((turned[:, 1], 24 - turned[:, 0]), dim=1)
    turned[:, 4] += 90 * turns
    image = torch.zeros(20, 1)
    before = roi_align_rotated(features, torch.cat((image, boxes), 1), 1.0, 4, 4, 2)
    after = roi_align_rotated(
        features.rot90(turns, (2, 3)), torch.cat((image, turned), 1), 1.0, 4, 4, 2
    )
    # Samples within rounding of the border may fall on either side of it.
    assert ((before - after).abs() > 1e-4).float().mean() < 0.002


def test_roi_align_of_no_box_and_of_empty_boxes() -> None:
    features = torch.randn(1, 2, 8, 8)
    assert roi_align_rotated(features, torch.zeros(0, 6), 1.0, 3, 4, 0).shape == (0, 2, 3, 4)
    empty = torch.tensor([[0, 4.0, 4.0, 0.0, 3.0, 10.0]])
    assert roi_align_rotated(features, empty, 1.0, 3, 4, 0).abs().max() == 0


def test_operators_stand_in_and_leave() -> None:
    from detectron2.layers import ROIAlignRotated
    from detectron2.structures import RotatedBoxes, pairwise_iou_rotated

    before = has_compiled_operators()
    boxes = _boxes(5)
    features = torch.randn(1, 2, 20, 20, requires_grad=True)
    with plain_rotated_operators():
        overlaps = pairwise_iou_rotated(RotatedBoxes(boxes), RotatedBoxes(boxes))
        pooled = ROIAlignRotated((3, 3), 0.2, 0)(features, torch.cat((boxes[:, :1] * 0, boxes), 1))
        pooled.sum().backward()
    assert overlaps.diagonal().min() > 0.999
    # Every sample within the image hands on its whole weight.
    assert features.grad is not None
    assert 0 < features.grad.sum() <= pooled.numel() + 1e-3
    assert has_compiled_operators() == before


@COMPILED
def test_compiled_operators_answer_the_same() -> None:
    boxes, scores = _boxes(300, largest=40), torch.rand(300)
    operators = torch.ops.detectron2
    assert torch.equal(pairwise_iou(boxes, boxes), operators.box_iou_rotated(boxes, boxes))
    assert torch.equal(nms_rotated(boxes, scores, 0.4), operators.nms_rotated(boxes, scores, 0.4))
    features, rois = torch.randn(1, 4, 30, 30), torch.cat((boxes[:, :1] * 0, boxes), 1)
    found = roi_align_rotated(features, rois, 0.25, 7, 7, 0)
    expected = operators.roi_align_rotated_forward(features, rois, 0.25, 7, 7, 0)
    assert (found - expected).abs().max() < 1e-5
