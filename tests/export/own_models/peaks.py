"""A single-stage detector of our own, as somebody's ``--import`` brings it.

Its boxes are the peaks of heatmaps, as CenterNet finds them. It stands on the weights of the FCOS
example, whose parts have the same names: trained, so that there is much to compare.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.meta_arch.fcos import FCOSHead
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional

_STRIDES = (8, 16, 32, 64, 128)


class _Peaks(nn.Module):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.backbone = build_backbone(cfg)
        self.backbone.top_block = LastLevelP6P7(64, 64, in_feature="p5")
        self.head = FCOSHead(
            input_shape=[ShapeSpec(channels=64)] * len(_STRIDES),
            num_classes=3,
            conv_dims=[64, 64],
            prior_prob=0.01,
            norm="GN",
        )
        self.num_classes = 3
        self.score_thresh = cfg.MODEL.PEAKS.SCORE_THRESH
        self.most = 100
        self.register_buffer("pixel_mean", torch.tensor(cfg.MODEL.PIXEL_MEAN).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(cfg.MODEL.PIXEL_STD).view(-1, 1, 1), False)

    def peaks(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        images = [x["image"].to(self.pixel_mean) for x in batched_inputs]
        images = ImageList.from_tensors(
            [(x - self.pixel_mean) / self.pixel_std for x in images],
            self.backbone.size_divisibility,
        )
        features = self.backbone(images.tensor)
        logits, deltas, centerness = self.head([features[f"p{i}"] for i in range(3, 8)])
        return [
            self.peaks_of_one(
                [each[i] for each in logits],
                [each[i] for each in deltas],
                [each[i] for each in centerness],
                size,
            )
            for i, size in enumerate(images.image_sizes)
        ]

    def peaks_of_one(
        self, logits: list[Tensor], deltas: list[Tensor], centerness: list[Tensor], size: Any
    ) -> Instances:
        scores, classes, boxes = [], [], []
        for heat, distances, centre, stride in zip(logits, deltas, centerness, _STRIDES):
            heat = (heat.sigmoid() * centre.sigmoid()).sqrt()
            # A peak is what its neighbours do not exceed.
            heat = heat * (functional.max_pool2d(heat[None], 3, 1, 1)[0] == heat)
            best = heat.max(dim=0)
            ones = torch.ones_like(best.values)
            x = (ones.cumsum(1) - 0.5) * stride
            y = (ones.cumsum(0) - 0.5) * stride
            reach = functional.relu(distances) * stride
            box = torch.stack([x - reach[0], y - reach[1], x + reach[2], y + reach[3]], -1)
            scores.append(best.values.flatten())
            classes.append(best.indices.flatten())
            boxes.append(box.reshape(-1, 4))
        score = cat(scores)
        order = score.argsort(descending=True)[: self.most]
        order = order[score[order] > self.score_thresh]
        result = Instances(size)
        result.pred_boxes = Boxes(cat(boxes)[order])
        result.scores = score[order]
        result.pred_classes = cat(classes)[order]
        return result


class PeakDetector(_Peaks):
    """Ends as detectron2's detectors do."""

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        found = self.peaks(batched_inputs)
        answers = []
        for results, given in zip(found, batched_inputs):
            height = given.get("height", results.image_size[0])
            width = given.get("width", results.image_size[1])
            answers.append({"instances": detector_postprocess(results, height, width)})
        return answers


class PeakDetectorOfItsOwnEnding(_Peaks):
    """Scales its boxes by itself, does not clip them, and marks the pixels inside each."""

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        answers = []
        for results, given in zip(self.peaks(batched_inputs), batched_inputs):
            height, width = given["height"], given["width"]
            x = width / results.image_size[1]
            y = height / results.image_size[0]
            final = Instances((height, width))
            boxes = results.pred_boxes.tensor
            boxes = torch.stack(
                [boxes[:, 0] * x, boxes[:, 1] * y, boxes[:, 2] * x, boxes[:, 3] * y], 1
            )
            final.pred_boxes = Boxes(boxes)
            final.scores = results.scores
            final.pred_classes = results.pred_classes
            final.pred_masks = _discs(boxes, given["image"], height, width)
            answers.append({"instances": final})
        return answers


def _discs(boxes: Tensor, image: Tensor, height: Any, width: Any) -> Tensor:
    """(N, H, W) whether a pixel is in the ellipse of each box."""
    plane = functional.interpolate(image[None, :1] * 0 + 1, size=(height, width))[0, 0]
    column, row = plane.cumsum(1) - 0.5, plane.cumsum(0) - 0.5
    x = (boxes[:, 0] + boxes[:, 2])[:, None, None] / 2
    y = (boxes[:, 1] + boxes[:, 3])[:, None, None] / 2
    wide = (boxes[:, 2] - boxes[:, 0])[:, None, None] / 2
    high = (boxes[:, 3] - boxes[:, 1])[:, None, None] / 2
    return ((column[None] - x) / wide) ** 2 + ((row[None] - y) / high) ** 2 < 1


for _class in (PeakDetector, PeakDetectorOfItsOwnEnding):
    if _class.__name__ not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(_class)


def add_peaks_config(cfg: Any) -> None:
    """Declares the key of its own, as detectron2's projects do."""
    from detectron2.config import CfgNode

    cfg.MODEL.PEAKS = CfgNode({"SCORE_THRESH": 0.2})
