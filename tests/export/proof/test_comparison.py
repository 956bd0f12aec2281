"""A comparison that cannot fail proves nothing: each field is put out of bounds once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from d2serve.export.errors import VerificationError
from d2serve.export.proof.comparing.comparison import Difference
from d2serve.export.proof.comparing.comparison import compare as compare_outputs
from d2serve.export.proof.verification import Verification, _judge
from d2serve.handlers.outputs.records import (
    Detections,
    Int32,
    Outputs,
    PanopticSeg,
    Proposals,
    Segment,
)
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.spec.bounds import ONNX_BOUNDS, TORCHSCRIPT_BOUNDS, Bounds


def _mask(start: int, stop: int) -> Rle:
    mask = np.zeros((40, 60), np.uint8, order="F")
    mask[start:stop, start:stop] = 1
    return {"size": [40, 60], "counts": coco_mask.encode(mask)["counts"].decode()}


def compare(image: str, expected: Detections, got: Detections, bounds: Bounds) -> Difference:
    """Of answers that are instances only."""
    return compare_outputs(image, of_instances(expected), of_instances(got), bounds)


def of_instances(found: Detections) -> Outputs:
    return Outputs(found.height, found.width, found, None, None, None)


ANSWER = Detections(
    height=40,
    width=60,
    boxes=np.array([[1, 2, 30, 35], [5, 5, 20, 20]], np.float32),
    scores=np.array([0.9, 0.4], np.float32),
    classes=np.array([1, 0]),
    masks=(_mask(4, 30), _mask(10, 20)),
    keypoints=np.ones((2, 5, 3), np.float32),
)


def test_equal_answers_agree() -> None:
    difference = compare("image", ANSWER, ANSWER, TORCHSCRIPT_BOUNDS)
    assert difference.misses == ()
    assert (difference.detections, difference.box_px, difference.score) == (2, 0, 0)


def test_the_order_of_equal_instances_does_not_matter() -> None:
    assert ANSWER.masks is not None
    assert ANSWER.keypoints is not None
    turned = Detections(
        40,
        60,
        ANSWER.boxes[::-1],
        ANSWER.scores[::-1],
        ANSWER.classes[::-1],
        ANSWER.masks[::-1],
        ANSWER.keypoints[::-1],
    )
    assert compare("image", ANSWER, turned, TORCHSCRIPT_BOUNDS).misses == ()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(ANSWER, boxes=ANSWER.boxes + np.float32(0.02)), "pred_boxes by 0.02"),
        (replace(ANSWER, scores=ANSWER.scores - np.float32(2e-4)), "scores by 0.0002"),
        (replace(ANSWER, classes=np.array([1, 1])), "pred_classes differ"),
        (replace(ANSWER, masks=(ANSWER.masks or ())[:1] * 2), "pred_masks: 1 of 2"),
        (replace(ANSWER, masks=None), "pred_masks are missing"),
        (replace(ANSWER, keypoints=np.full((2, 5, 3), 1.02, np.float32)), "pred_keypoints by"),
        (replace(ANSWER, keypoints=None), "pred_keypoints are missing"),
        (replace(ANSWER, width=61), "image size 40x61, expected 40x60"),
        (
            replace(ANSWER, boxes=ANSWER.boxes[:1], scores=ANSWER.scores[:1]),
            "1 instances, expected 2",
        ),
    ],
)
def test_each_difference_is_named(other: Detections, named: str) -> None:
    misses = compare("image", ANSWER, other, TORCHSCRIPT_BOUNDS).misses
    assert any(named in miss for miss in misses), misses


def test_masks_of_other_runtimes_may_differ_by_their_iou() -> None:
    assert ANSWER.masks is not None
    nearly = replace(ANSWER, masks=(_mask(4, 29), ANSWER.masks[1]))
    (miss,) = compare("image", ANSWER, nearly, ONNX_BOUNDS).misses
    assert miss == f"pred_masks: IoU {25**2 / 26**2:.5f}, at least 0.999 allowed"
    allowed = replace(ONNX_BOUNDS, mask_iou=0.92)
    difference = compare("image", ANSWER, nearly, allowed)
    assert difference.misses == ()
    assert difference.masks_differing == 1
    assert difference.mask_iou == pytest.approx(25**2 / 26**2)


def test_two_pixels_of_a_small_mask_may_differ() -> None:
    assert ANSWER.masks is not None
    small = coco_mask.decode(ANSWER.masks[1])
    for others, misses in ((1, 0), (2, 0), (3, 1)):
        changed = np.asfortranarray(small.copy())
        changed[10, 10 : 10 + others] = 0
        rle: Rle = {"size": [40, 60], "counts": coco_mask.encode(changed)["counts"].decode()}
        nearly = replace(ANSWER, masks=(ANSWER.masks[0], rle))
        difference = compare("image", ANSWER, nearly, ONNX_BOUNDS)
        assert len(difference.misses) == misses
        assert difference.mask_iou == pytest.approx(1 - others / 100)
        assert compare("image", ANSWER, nearly, TORCHSCRIPT_BOUNDS).misses


def test_one_keypoint_may_lie_elsewhere_with_an_equal_score() -> None:
    assert ANSWER.keypoints is not None
    for moved, score, misses in ((1, 1.0, 0), (2, 1.0, 1), (1, 0.99, 1)):
        keypoints = ANSWER.keypoints.copy()
        keypoints[0, :moved, 0] += 3
        keypoints[0, 0, 2] = score
        other = replace(ANSWER, keypoints=keypoints)
        assert len(compare("image", ANSWER, other, ONNX_BOUNDS).misses) == misses
        assert compare("image", ANSWER, other, TORCHSCRIPT_BOUNDS).misses


def test_near_ties_are_compared_with_the_instance_they_stand_for() -> None:
    twins = replace(ANSWER, scores=np.array([0.9, 0.89999], np.float32), classes=np.array([1, 1]))
    assert twins.masks is not None
    assert twins.keypoints is not None
    swapped = Detections(
        40,
        60,
        twins.boxes[::-1],
        np.array([0.90001, 0.9], np.float32),
        twins.classes,
        twins.masks[::-1],
        twins.keypoints[::-1],
    )
    assert compare("image", twins, swapped, TORCHSCRIPT_BOUNDS).misses == ()


def test_a_record_with_a_miss_is_refused_with_image_field_and_amount() -> None:
    moved = replace(ANSWER, boxes=ANSWER.boxes + np.float32(1))
    difference = compare("half", ANSWER, moved, TORCHSCRIPT_BOUNDS)
    record = Verification("eager", TORCHSCRIPT_BOUNDS, (difference,), ())
    with pytest.raises(VerificationError, match=r"half \(40x60\): pred_boxes by 1 px"):
        _judge(record, "Nothing was written.")


def test_a_comparison_over_zero_detections_fails() -> None:
    nothing = Detections(
        40,
        60,
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        None,
        None,
    )
    difference = compare("grey", nothing, nothing, TORCHSCRIPT_BOUNDS)
    assert difference.misses == ()
    with pytest.raises(VerificationError, match="finds nothing on any"):
        _judge(Verification("eager", TORCHSCRIPT_BOUNDS, (difference,), ()), "Nothing was written.")


LABELS: Int32 = np.repeat(np.arange(4, dtype=np.int32), 200).reshape(20, 40)
IDS: Int32 = LABELS + np.int32(1)
SEGMENTS = (
    Segment(1, 0, True, 200, 0.9, 0),
    Segment(2, 0, True, 200, 0.8, 1),
    Segment(3, 1, False, 200, None, None),
    Segment(4, 2, False, 200, None, None),
)
PROPOSALS = Proposals(
    np.array([[0, 0, 5, 5], [2, 2, 9, 9], [4, 4, 8, 8]], np.float32),
    np.array([3.0, 1.0, -2.0], np.float32),
)
WHOLE = Outputs(20, 40, None, LABELS, PanopticSeg(IDS, SEGMENTS), PROPOSALS)


def recoloured(labels: Int32, pixels: int) -> Int32:
    changed = labels.copy()
    changed.reshape(-1)[:pixels] = labels.max()
    return changed


def test_equal_label_maps_and_proposals_agree() -> None:
    difference = compare_outputs("image", WHOLE, WHOLE, TORCHSCRIPT_BOUNDS)
    assert difference.misses == ()
    assert difference.detections == 3
    assert (difference.labels_differing, difference.segments_differing) == (0, 0)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"sem_seg": None}, "sem_seg is missing"),
        ({"panoptic_seg": None}, "panoptic_seg is missing"),
        ({"proposals": None}, "proposals is missing"),
        ({"instances": ANSWER}, "instances is not expected"),
        ({"sem_seg": LABELS[:10]}, "sem_seg is (10, 40), expected (20, 40)"),
        ({"sem_seg": recoloured(LABELS, 3)}, "sem_seg in 3 pixels, allowed 2"),
        (
            {"panoptic_seg": PanopticSeg(recoloured(IDS, 3), SEGMENTS)},
            "panoptic_seg in 3 pixels, allowed 2",
        ),
        ({"panoptic_seg": PanopticSeg(IDS[:10], SEGMENTS)}, "panoptic_seg is (10, 40)"),
        ({"panoptic_seg": PanopticSeg(IDS, SEGMENTS[:3])}, "3 segments, expected 4"),
        (
            {
                "panoptic_seg": PanopticSeg(
                    IDS, (*SEGMENTS[:3], replace(SEGMENTS[3], category_id=5))
                )
            },
            "segments_info has other categories",
        ),
        (
            {"panoptic_seg": PanopticSeg(IDS, (*SEGMENTS[:3], replace(SEGMENTS[3], isthing=True)))},
            "segments_info has other categories",
        ),
        (
            {"panoptic_seg": PanopticSeg(IDS, (replace(SEGMENTS[0], score=0.91), *SEGMENTS[1:]))},
            "segments' scores by 0.01",
        ),
        (
            {"proposals": replace(PROPOSALS, boxes=PROPOSALS.boxes + np.float32(0.02))},
            "proposal_boxes by 0.02",
        ),
        (
            {
                "proposals": replace(
                    PROPOSALS, objectness_logits=np.array([3.001, 1, -2], np.float32)
                )
            },
            "objectness_logits by 0.001",
        ),
        (
            {"proposals": Proposals(PROPOSALS.boxes[:2], PROPOSALS.objectness_logits[:2])},
            "2 proposals, expected 3",
        ),
    ],
)
def test_each_difference_of_pixels_and_proposals_is_named(
    other: dict[str, object], named: str
) -> None:
    got = Outputs(**{**vars(WHOLE), **other})
    misses = compare_outputs("image", WHOLE, got, TORCHSCRIPT_BOUNDS).misses
    assert any(named in miss for miss in misses), misses


def test_pixels_at_which_two_labels_tie_may_differ() -> None:
    for pixels, misses in ((2, 0), (3, 1)):
        got = replace(WHOLE, sem_seg=recoloured(LABELS, pixels))
        difference = compare_outputs("image", WHOLE, got, TORCHSCRIPT_BOUNDS)
        assert (len(difference.misses), difference.labels_differing) == (misses, pixels)
    large = np.zeros((1000, 1000), np.int32)
    large[-1] = 1
    one = Outputs(1000, 1000, None, large, None, None)
    other = replace(one, sem_seg=recoloured(large, 100))
    assert compare_outputs("image", one, other, ONNX_BOUNDS).misses == ()
    assert compare_outputs("image", one, other, TORCHSCRIPT_BOUNDS).misses == (
        "sem_seg in 100 pixels, allowed 10",
    )


def test_masks_edges_may_move_a_segments_edges_where_they_may_move() -> None:
    got = replace(WHOLE, panoptic_seg=PanopticSeg(recoloured(IDS, 10), SEGMENTS))
    assert compare_outputs("image", WHOLE, got, ONNX_BOUNDS).misses == ()
    assert compare_outputs("image", WHOLE, got, ONNX_BOUNDS).segments_differing == 10
    got = replace(WHOLE, panoptic_seg=PanopticSeg(recoloured(IDS, 11), SEGMENTS))
    (miss,) = compare_outputs("image", WHOLE, got, ONNX_BOUNDS).misses
    assert miss == "panoptic_seg in 11 pixels, allowed 10"


def test_things_of_equal_scores_may_have_each_others_ids() -> None:
    swapped = IDS.copy()
    swapped[IDS == 1], swapped[IDS == 2] = 2, 1
    segments = (replace(SEGMENTS[1], id=1), replace(SEGMENTS[0], id=2), *SEGMENTS[2:])
    got = replace(WHOLE, panoptic_seg=PanopticSeg(swapped, segments))
    difference = compare_outputs("image", WHOLE, got, TORCHSCRIPT_BOUNDS)
    assert difference.misses == ()
    assert difference.segments_differing == 0


def test_the_order_of_equal_proposals_does_not_matter() -> None:
    turned = Proposals(PROPOSALS.boxes[::-1], PROPOSALS.objectness_logits[::-1])
    got = replace(WHOLE, proposals=turned)
    assert compare_outputs("image", WHOLE, got, TORCHSCRIPT_BOUNDS).misses == ()
