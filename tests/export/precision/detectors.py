"""A detector of two stages in small, as OpenVINO has it: proposals, ROIs of two levels, masks."""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

_RNG = np.random.default_rng(0)


def _weights(*shape: int) -> NDArray[np.float32]:
    return _RNG.normal(0, 0.2, shape).astype(np.float32)


def _conv(source: ov.Node, out: int, into: int, name: str, stride: int = 1) -> ov.Node:
    return op.convolution(
        source, _weights(out, into, 3, 3), [stride] * 2, [1, 1], [1, 1], [1, 1], name=name
    )


def two_stages() -> ov.Model:
    """Answers refined boxes, scores and masks of four proposals."""
    image = op.parameter([3, -1, -1], np.float32, name="image")
    normal = op.divide(image, np.float32(64), name="normalise")
    batch = op.unsqueeze(normal, np.int64(0))
    stem = op.relu(_conv(batch, 8, 3, "stem"))
    fine = op.relu(_conv(stem, 8, 8, "fine"), name="fine_relu")
    coarse = op.relu(_conv(stem, 8, 8, "coarse", stride=2), name="coarse_relu")
    deltas = _conv(op.relu(_conv(fine, 8, 8, "rpn")), 4, 8, "deltas")
    mean = op.reduce_mean(deltas, np.array([2, 3]), False)
    anchors = np.array([[0, 0, 6, 6], [1, 1, 9, 9], [2, 2, 12, 16], [0, 0, 14, 14]], np.float32)
    proposals = op.add(op.abs(mean), anchors, name="proposals")
    pooled: ov.Node = op.broadcast(np.float32(0), np.array([4, 8, 4, 4]))
    for rows, features, scale in (([0, 1], fine, 1.0), ([2, 3], coarse, 0.5)):
        boxes = op.gather(proposals, np.array(rows), np.int64(0))
        rois = op.roi_align(features, boxes, np.zeros(2, np.int32), 4, 4, 0, scale, "avg")
        pooled = op.scatter_nd_update(pooled, np.array(rows).reshape(2, 1), rois)
    pooled.set_friendly_name("pooled")
    flat = op.reshape(pooled, np.array([4, 128]), False, name="flat")
    hidden = op.relu(op.matmul(flat, _weights(128, 16), False, False, name="fc"))
    logits = op.matmul(hidden, _weights(16, 3), False, False, name="logits")
    refined = op.matmul(hidden, _weights(16, 4), False, False, name="refine")
    masks = _conv(op.relu(_conv(pooled, 8, 8, "mask_fcn")), 1, 8, "mask_predictor")
    answers = (
        (op.add(proposals, refined, name="boxes"), "pred_boxes"),
        (op.softmax(logits, 1), "scores"),
        (op.sigmoid(masks), "pred_masks"),
    )
    for node, name in answers:
        node.output(0).set_names({name})
    return ov.Model([node for node, _ in answers], [image], "two_stages")
