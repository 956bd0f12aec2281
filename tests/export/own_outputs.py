"""Heads and architectures of a user's own that answer more than detectron2's, as --import has them.

mypy's own comments cannot stand in a method that TorchScript reads: it takes them for types.
"""

from __future__ import annotations

from typing import Any, Dict, List  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor

# ruff: noqa: UP006

FIELDS = (
    "attribute",
    "attributes",
    "embedding",
    "mask_scores",
    "certain",
    "half",
    "loose_boxes",
    "depth",
)
"""Of ManyFieldsHeads."""


class ManyFieldsHeads(StandardROIHeads):  # type: ignore[misc]  # detectron2 is untyped
    """A field of each kind: numbers, arrays, truth values, boxes, and numbers that are none."""

    def forward_with_given_boxes(
        self, features: Dict[str, Tensor], instances: List[Instances]
    ) -> List[Instances]:
        instances = self._forward_mask(features, instances)
        for each in instances:
            boxes = each.pred_boxes.tensor
            each.attribute = each.pred_classes * 10 + 1
            each.attributes = torch.sigmoid(boxes / 100 - 1)
            each.embedding = boxes[:, :1] * torch.ones_like(boxes).repeat(1, 2).cumsum(1) / 100
            each.mask_scores = each.scores * 0.5
            each.certain = each.scores > 0.9
            each.half = (boxes / 1000).half()
            each.loose_boxes = Boxes(boxes + 4)
            each.depth = torch.log(each.scores - 0.99)  # of most none, of some a number
        return instances


class ImageScoreRCNN(GeneralizedRCNN):  # type: ignore[misc]
    """Keys of the image beside the instances: a number, features, and a small map."""

    def inference(
        self, batched_inputs: Any, detected_instances: Any = None, do_postprocess: bool = True
    ) -> Any:
        found = super().inference(batched_inputs, detected_instances, do_postprocess)
        if do_postprocess:
            images = self.preprocess_image(batched_inputs)
            score = images.tensor.mean(dim=(1, 2, 3)).sigmoid()
            for index, each in enumerate(found):
                each["image_score"] = score[index]
                each["features"] = images.tensor[index].mean(dim=(1, 2))
                each["coarse"] = images.tensor[index, :, ::64, ::64].mean(dim=0)
        return found


class MaskAreaRCNN(GeneralizedRCNN):  # type: ignore[misc]
    """A field made of what detectron2's postprocessing makes: pixels in the image as sent."""

    def inference(
        self, batched_inputs: Any, detected_instances: Any = None, do_postprocess: bool = True
    ) -> Any:
        found = super().inference(batched_inputs, detected_instances, do_postprocess)
        if do_postprocess:
            for each in found:
                masks = each["instances"].pred_masks
                each["instances"].mask_area = masks.flatten(1).sum(dim=1)
        return found


class RefusedRCNN(GeneralizedRCNN):  # type: ignore[misc]
    """Answers what no program can, by the way that ``refused`` names."""

    refused = "text"

    def inference(
        self, batched_inputs: Any, detected_instances: Any = None, do_postprocess: bool = True
    ) -> Any:
        found = super().inference(batched_inputs, detected_instances, do_postprocess)
        for each in found if do_postprocess else ():
            instances = each["instances"]
            if self.refused == "text":
                each["caption"] = "a picture"
            elif self.refused == "number":
                each["count"] = len(instances)
            elif self.refused == "tensors by name":
                each["features"] = {"p2": torch.ones(3)}
            elif self.refused == "list":
                instances.names = ["thing"] * len(instances)
            elif self.refused == "bfloat16":
                instances.embedding = torch.ones(len(instances), 2).bfloat16()
            elif self.refused == "name":
                each["image score"] = torch.ones(1)
            elif self.refused == "sometimes" and batched_inputs[0]["height"] % 160 == 0:
                each["image_score"] = torch.ones(1)
            elif self.refused == "detectron2's":
                each["sem_seg"] = torch.ones(2, *instances.image_size)
        return found


for _registry, _classes in (
    (ROI_HEADS_REGISTRY, (ManyFieldsHeads,)),
    (META_ARCH_REGISTRY, (ImageScoreRCNN, MaskAreaRCNN, RefusedRCNN)),
):
    for _class in _classes:
        if _class.__name__ not in _registry:
            _registry.register(_class)
