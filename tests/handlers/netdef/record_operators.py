"""Records what Caffe2 itself answers, operator by operator, for test_operators.py.

It runs where Caffe2 is: Python 3.8 with torch 1.9 and numpy below 1.24, nothing of d2serve. So it
is run by hand, and what it writes is kept::

    python tests/handlers/netdef/record_operators.py tests/handlers/netdef/data/operators.npz
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

R = np.random.RandomState(0)


def some(*sides: int) -> npt.NDArray[Any]:
    """Random numbers of a shape."""
    return R.randn(*sides).astype(np.float32)


def boxes(count: int, side: float = 96.0, empty: int = 0) -> npt.NDArray[Any]:
    """Random boxes, the first of them without area."""
    corners = np.sort(R.uniform(-8, side, (count, 2, 2)), axis=1).reshape(count, 4)
    corners[:empty, 2] = corners[:empty, 0]
    return corners.astype(np.float32)


def rois(count: int, empty: int = 0) -> npt.NDArray[Any]:
    """Boxes of the first image."""
    return np.hstack([np.zeros((count, 1), np.float32), boxes(count, empty=empty)])


def crowded(count: int, classes: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Boxes that overlap, for each class, and scores whose last column is the background."""
    places = np.repeat(boxes(6), (count + 5) // 6, axis=0)[:count]
    near = np.tile(places, (1, classes)) + R.uniform(-6, 6, (count, 4 * classes))
    scores = R.dirichlet(np.full(classes + 1, 0.4), count)
    return scores.astype(np.float32), near.astype(np.float32)


im_info = np.array([[90.0, 80.0, 1.0]], np.float32)
anchors = np.array([[-8, -8, 8, 8], [-16, -8, 16, 8], [-6, -20, 6, 20]], np.float32)
detectron2: dict[str, Any] = {"legacy_plus_one": 0}
limit: dict[str, Any] = {
    "score_thresh": 0.05,
    "nms": 0.5,
    "detections_per_im": 10,
    "cls_agnostic_bbox_reg": 0,
}
limit.update(input_boxes_include_bg_cls=0, output_classes_include_bg_cls=0, legacy_plus_one=0)
align: dict[str, Any] = {
    "order": "NCHW",
    "spatial_scale": 0.25,
    "pooled_h": 3,
    "pooled_w": 4,
    "sampling_ratio": 0,
}
feature, deltas = some(1, 2, 24, 22), [some(1, 12, 12, 10) * 0.3, some(60, 12) * 0.3]
scores, near = crowded(60, 3)
levels = [rois(7), rois(5), rois(3), R.rand(7).astype(np.float32), R.rand(5).astype(np.float32)]
levels.append(R.rand(3).astype(np.float32))
heat = some(4, 3, 6, 6)
heat[0, 0] = 0  # flat
heat[1, 0, 0, 0] = heat[1, 1, 5, 5] = 4  # in corners
sizes = boxes(4, empty=1)

CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Conv", [some(1, 4, 9, 8), some(6, 2, 3, 3), some(6)],
     {"kernels": [3, 3], "strides": [2, 1], "pads": [1, 2, 1, 2], "dilations": [1, 2], "group": 2}),
    ("Conv", [some(1, 3, 7, 7), some(2, 3, 1, 1)], {"kernel": 1, "stride": 2}),
    ("ConvTranspose", [some(2, 3, 4, 5), some(3, 2, 4, 4), some(2)],
     {"kernels": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("FC", [some(3, 2, 2, 2), some(5, 8), some(5)], {}),
    ("MaxPool", [some(1, 2, 9, 8)], {"kernels": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", [some(1, 2, 5, 4)], {"kernels": [1, 1], "strides": [2, 2], "pads": [0, 0, 0, 0]}),
    ("AveragePool", [some(1, 2, 9, 8)], {"kernel": 3, "stride": 2, "pad": 1}),
    ("AveragePool", [some(1, 2, 9, 8)], {"global_pooling": 1}),
    ("GroupNorm", [some(2, 6, 3, 4), some(6), some(6)], {"group": 3, "epsilon": 1e-3}),
    ("SpatialBN", [some(1, 3, 4, 4), some(3), some(3), some(3), np.abs(some(3))],
     {"is_test": 1, "epsilon": 1e-3}),
    ("AffineChannel", [some(1, 3, 4, 4), some(3), some(3)], {}),
    ("PadImage", [some(1, 2, 4, 5)],
     {"pad_t": 1, "pad_l": 2, "pad_b": 3, "pad_r": 0, "mode": "edge"}),
    ("PadImage", [some(1, 2, 4, 5)], {"pad": 2, "mode": "reflect"}),
    ("PadImage", [some(1, 2, 4, 5)], {"pad": 1, "value": 0.5}),
    ("ResizeNearest", [some(1, 2, 3, 4)], {"height_scale": 2.0, "width_scale": 2.0}),
    ("ResizeNearest", [some(1, 2, 5, 4)], {"height_scale": 1.7, "width_scale": 3.0}),
    ("ResizeNearest", [some(1, 1, 3, 3), np.array([2.0, 1.5], np.float32)], {}),
    ("Add", [some(2, 3, 4, 4), some(3, 1, 1)], {}),
    ("Sub", [some(2, 3, 4, 4), some(4, 4)], {"broadcast": 1}),
    ("Div", [some(2, 3, 4, 4), some(3)], {"broadcast": 1, "axis": 1}),
    ("Mul", [some(2, 3), some(2, 3)], {}),
    ("Sum", [some(2, 3), some(2, 3), some(2, 3)], {}),
    ("Relu", [some(4, 5)], {}),
    ("Sigmoid", [some(4, 5)], {}),
    ("Exp", [some(4, 5)], {}),
    ("Softmax", [some(4, 5)], {}),
    ("Softmax", [some(2, 3, 4)], {"axis": 1}),
    ("Copy", [some(2, 2)], {}),
    ("StopGradient", [some(2, 2)], {}),
    ("Cast", [some(2, 3) * 4], {"to": 2}),
    ("Cast", [some(2, 3) * 4], {"to": 10}),
    ("Flatten", [some(2, 3, 4)], {}),
    ("Flatten", [some(2, 3, 4)], {"axis": 2}),
    ("Reshape", [some(2, 3, 4)], {"shape": [0, -1]}),
    ("Reshape", [some(2, 3, 4), np.array([4, 6], np.int64)], {}),
    ("Shape", [some(2, 3, 4)], {}),
    ("Shape", [some(2, 3, 4)], {"axes": [2, 0]}),
    ("Concat", [some(2, 3), some(2, 1)], {"axis": 1}),
    ("Concat", [some(2, 3), some(2, 3)], {"axis": 0, "add_axis": 1}),
    ("Transpose", [some(2, 3, 4)], {}),
    ("Transpose", [some(2, 3, 4)], {"axes": [0, 2, 1]}),
    ("Slice", [some(4, 5)], {"starts": [0, 1], "ends": [-1, 3]}),
    ("Slice", [some(5)], {"starts": [2], "ends": [-2]}),
    ("ExpandDims", [some(2, 3)], {"dims": [0, 2]}),
    ("Squeeze", [some(1, 2, 1, 3)], {"dims": [0, 2]}),
    ("ReduceMean", [some(2, 3, 4, 4)], {"axes": [2, 3], "keepdims": 0}),
    ("ReduceMean", [some(2, 3)], {}),
    ("Gather", [some(4, 3), np.array([2, 0], np.int64)], {}),
    ("BatchPermutation", [some(4, 3), np.array([2, 0, 3, 1], np.int32)], {}),
    ("GivenTensorFill", [], {"shape": [2, 2], "values": [1.0, 2.0, 3.0, 4.5]}),
    ("GivenTensorIntFill", [], {"shape": [3], "values": [1, -2, 3]}),
    ("GivenTensorInt64Fill", [], {"shape": [3], "values": [1, -2, 3]}),
    ("RoIAlign", [feature, rois(9, empty=2)], dict(align, aligned=1)),
    ("RoIAlign", [feature, rois(9)], dict(align, sampling_ratio=2)),
    ("RoIAlign", [feature, boxes(5)], dict(align, aligned=1)),
    ("GenerateProposals", [some(1, 3, 12, 10), deltas[0], im_info, anchors],
     dict(detectron2, spatial_scale=0.125, pre_nms_topN=200, post_nms_topN=40, min_size=0.0)),
    ("GenerateProposals", [some(1, 3, 12, 10), deltas[0] * 3 + 1, im_info, anchors],
     {"spatial_scale": 0.125, "nms_thresh": 0.5, "min_size": 4.0}),
    ("CollectRpnProposals", levels,
     {"rpn_max_level": 4, "rpn_min_level": 2, "rpn_post_nms_topN": 9}),
    ("DistributeFpnProposals", [rois(20)],
     dict(detectron2, roi_canonical_scale=40, roi_min_level=2, roi_max_level=5)),
    ("DistributeFpnProposals", [boxes(20)], {"roi_canonical_scale": 40, "roi_max_level": 4}),
    ("BBoxTransform", [rois(60), deltas[1], im_info],
     dict(detectron2, weights=[10.0, 10.0, 5.0, 5.0])),
    ("BBoxTransform", [rois(60), deltas[1], np.array([[90.0, 80.0, 1.25]], np.float32)], {}),
    ("BBoxTransform", [boxes(60), deltas[1] * 20, np.array([[90.0, 80.0, 1.25]], np.float32)],
     dict(detectron2, apply_scale=0)),
    ("BoxWithNMSLimit", [scores, near, np.array([60.0], np.float32)], limit),
    ("BoxWithNMSLimit", [scores, near], dict(limit, detections_per_im=1000, score_thresh=0.3)),
    ("BoxWithNMSLimit", [scores, near[:, :4].copy()], dict(limit, cls_agnostic_bbox_reg=1)),
    ("BoxWithNMSLimit", [scores, np.hstack([near[:, :4], near])], {"score_thresh": 0.2}),
    ("BoxWithNMSLimit", [scores, near, np.array([25.0, 35.0], np.float32)], limit),
    ("BoxWithNMSLimit", [scores[:0], near[:0], np.array([0.0], np.float32)], limit),
    ("HeatmapMaxKeypoint", [heat, sizes], {"should_output_softmax": 1}),
    ("HeatmapMaxKeypoint", [heat * 3, sizes], {"should_output_softmax": 0}),
]  # fmt: skip

OUTPUTS = {"GenerateProposals": 2, "BBoxTransform": 2, "BoxWithNMSLimit": 6, "Concat": 2}
OUTPUTS["Reshape"] = 2


def run(type_: str, inputs: list[Any], args: dict[str, Any]) -> list[Any]:
    """What Caffe2 answers."""
    from caffe2.python import core, workspace

    workspace.ResetWorkspace()
    names = [f"in{at}" for at in range(len(inputs))]
    for name, value in zip(names, inputs):
        workspace.FeedBlob(name, value)
    count = OUTPUTS.get(type_, 1)
    if type_ == "DistributeFpnProposals":
        count = args.get("roi_max_level", 5) - args.get("roi_min_level", 2) + 2
    made = [f"out{at}" for at in range(count)]
    workspace.RunOperatorOnce(core.CreateOperator(type_, names, made, **args))
    return [workspace.FetchBlob(name) for name in made]


def main(path: str) -> None:
    """Write a file of all cases."""
    arrays: dict[str, Any] = {}
    cases = []
    for number, (type_, inputs, args) in enumerate(CASES):
        outputs = run(type_, inputs, args)
        for kind, values in (("in", inputs), ("out", outputs)):
            arrays.update({f"{number}.{kind}{at}": each for at, each in enumerate(values)})
        cases.append([type_, len(inputs), len(outputs), args])
    np.savez_compressed(path, cases=json.dumps(cases), **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
