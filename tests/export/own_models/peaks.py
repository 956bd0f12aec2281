"""A single-stage detector of our own, as somebody's ``--import`` brings it.

Its boxes are the peaks of heatmaps, as CenterNet finds them. It stands on the weights of the FCOS
example, whose parts have the same names: trained, so that there is much to compare.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict, List, Tuple  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.meta_arch.fcos import FCOSHead
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional

# ruff: noqa: UP006
# mypy: disable-error-code="no-untyped-def"

_STRIDES = (8, 16, 32, 64, 128)


class PeakDetector(nn.Module):
    """Ends as detectron2's detectors do, and can be scripted as they can."""

    pixel_mean: Tensor
    pixel_std: Tensor

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
        self.strides = list(_STRIDES)
        self.score_thresh = float(cfg.MODEL.PEAKS.SCORE_THRESH)
        self.most = 100
        self.register_buffer("pixel_mean", torch.tensor(cfg.MODEL.PIXEL_MEAN).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(cfg.MODEL.PIXEL_STD).view(-1, 1, 1), False)

    def forward(self, batched_inputs: List[Dict[str, Tensor]]):
        found = self.peaks(batched_inputs)
        if torch.jit.is_scripting():
            return found
        return [self.finished(*each) for each in zip(found, batched_inputs)]

    @torch.jit.unused
    def finished(self, results: Instances, given: Dict[str, Any]) -> Dict[str, Instances]:
        height = given.get("height", results.image_size[0])
        width = given.get("width", results.image_size[1])
        return {"instances": detector_postprocess(results, height, width)}

    def peaks(self, batched_inputs: List[Dict[str, Tensor]]) -> List[Instances]:
        images = [x["image"].to(self.pixel_mean) for x in batched_inputs]
        images = [(x - self.pixel_mean) / self.pixel_std for x in images]
        padded = ImageList.from_tensors(images, self.backbone.size_divisibility)
        features = self.backbone(padded.tensor)
        levels = [features[name] for name in ["p3", "p4", "p5", "p6", "p7"]]
        logits, deltas, centerness = self.head(levels)
        results: List[Instances] = []
        for i, size in enumerate(padded.image_sizes):
            results.append(
                self.peaks_of_one(
                    [each[i] for each in logits],
                    [each[i] for each in deltas],
                    [each[i] for each in centerness],
                    size,
                )
            )
        return results

    def peaks_of_one(
        self,
        logits: List[Tensor],
        deltas: List[Tensor],
        centerness: List[Tensor],
        size: Tuple[int, int],
    ) -> Instances:
        scores: List[Tensor] = []
        classes: List[Tensor] = []
        boxes: List[Tensor] = []
        for heat, distances, centre, stride in zip(logits, deltas, centerness, self.strides):
            heat = (heat.sigmoid() * centre.sigmoid()).sqrt()
            # A peak is what its neighbours do not exceed.
            heat = heat * (functional.max_pool2d(heat[None], 3, 1, 1)[0] == heat)
            score, label = heat.max(dim=0)
            ones = torch.ones_like(score)
            x = (ones.cumsum(1) - 0.5) * stride
            y = (ones.cumsum(0) - 0.5) * stride
            reach = functional.relu(distances) * stride
            box = torch.stack([x - reach[0], y - reach[1], x + reach[2], y + reach[3]], -1)
            scores.append(score.flatten())
            classes.append(label.flatten())
            boxes.append(box.reshape(-1, 4))
        score = torch.cat(scores)
        order = score.argsort(descending=True)[: self.most]
        order = order[score[order] > self.score_thresh]
        result = Instances(size)
        result.pred_boxes = Boxes(torch.cat(boxes)[order])
        result.scores = score[order]
        result.pred_classes = torch.cat(classes)[order]
        return result


class PeakDetectorOfItsOwnEnding(PeakDetector):
    """Scales its boxes by itself, does not clip them, and marks the pixels inside each."""

    @torch.jit.unused
    def finished(self, results: Instances, given: Dict[str, Any]) -> Dict[str, Instances]:
        height, width = given["height"], given["width"]
        x = width / results.image_size[1]
        y = height / results.image_size[0]
        final = Instances((height, width))
        boxes = results.pred_boxes.tensor
        boxes = torch.stack([boxes[:, 0] * x, boxes[:, 1] * y, boxes[:, 2] * x, boxes[:, 3] * y], 1)
        final.pred_boxes = Boxes(boxes)
        final.scores = results.scores
        final.pred_classes = results.pred_classes
        final.pred_masks = _discs(boxes, given["image"], height, width)
        return {"instances": final}


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
    cfg.MODEL.PEAKS = CfgNode({"SCORE_THRESH": 0.2})
