"""Reads boxes off RetinaNet's maps, which detectron2 does after the network.

This is ``RetinaNet.forward_inference`` for one image (detectron2/modeling/meta_arch/retinanet.py
and dense_detector.py), with the settings that upstream's tracer keeps in ``model.pb``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from torch import Tensor

from d2serve.handlers.netdef.anchors import AnchorGenerator, read_anchor_generator
from d2serve.handlers.netdef.arguments import ArgumentError, Arguments
from d2serve.handlers.netdef.operators.boxes import transformed
from d2serve.handlers.spec.output_names import BOXES, CLASSES, SCORES


@dataclass(frozen=True)
class RetinaNetEnd:
    """What follows the network."""

    anchors: AnchorGenerator
    score_thresh: float
    topk_candidates: int
    nms_thresh: float
    detections_per_image: int
    weights: tuple[float, ...]

    @staticmethod
    def of(args: Arguments) -> RetinaNetEnd:
        """As a net's arguments have it.

        Raises:
            ArgumentError: one of them is missing.
            LoadError: see ``read_anchor_generator``.
        """
        weights = args.floats("bbox_reg_weights")
        if len(weights) != 4:
            raise ArgumentError(f"bbox_reg_weights are {weights.tolist()}, expected four")
        return RetinaNetEnd(
            read_anchor_generator(args.data("serialized_anchor_generator")),
            args.number("score_threshold"),
            args.integer("topk_candidates"),
            as_written(args.number("nms_threshold")),
            args.integer("max_detections_per_image"),
            tuple(as_written(each) for each in weights),
        )

    def read(self, blobs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Boxes, scores and classes, by falling score, from ``box_cls_N`` and ``box_delta_N``."""
        levels = [self._level(level, blobs) for level in range(len(self.anchors.cells))]
        boxes, scores, classes = (torch.cat([each[at] for each in levels]) for at in range(3))
        kept = torchvision.ops.batched_nms(boxes, scores, classes, self.nms_thresh)
        kept = kept[: self.detections_per_image]
        return {BOXES: boxes[kept], SCORES: scores[kept], CLASSES: classes[kept]}

    def _level(self, level: int, blobs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        logits, deltas = blobs[f"box_cls_{level}"], blobs[f"box_delta_{level}"]
        height, width = logits.shape[2:]
        classes = logits.shape[1] * 4 // deltas.shape[1]
        deltas, scores = _by_anchor(deltas, 4), _by_anchor(logits, classes).sigmoid()
        found = (scores > self.score_thresh).nonzero()
        best, order = scores[found[:, 0], found[:, 1]].topk(min(len(found), self.topk_candidates))
        anchor, kind = found[order].unbind(1)
        anchors = self.anchors.on(level, height, width).to(deltas.device)
        return transformed(anchors[anchor], deltas[anchor], self.weights, False), best, kind


def _by_anchor(values: Tensor, each: int) -> Tensor:
    """(H * W * A, each) from (1, A * each, H, W)."""
    _, _, height, width = values.shape
    return values.view(-1, each, height, width).permute(2, 3, 0, 1).reshape(-1, each)


def as_written(value: float | np.float32) -> float:
    """The decimal number that was rounded to float32 to be kept: 0.6 for 0.60000002."""
    return float(str(np.float32(value)))
