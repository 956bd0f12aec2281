"""ROI heads that make masks and keypoints only of the instances that are asked for.

detectron2's make them of all. The model's inputs say which are wanted, beside each image:
``detail_scores``, (classes,) what the score of an instance has to exceed, and ``detail_most``, of
how many at most, the best. Without them it is all. They go to the heads among the features, and the
heads answer the instances as they were found, followed by those with details, image by image.
An empty batch of boxes costs next to nothing in every runtime, so nothing has to be skipped.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Dict, Final, List  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from d2serve.export.rewrites.endings import detections
from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.own_forwards import own_method
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, no-any-return"


def in_detail(features: Dict[str, Tensor], instances: List[Instances]) -> List[Instances]:
    """Of each image, the instances that details are wanted of, with what their heads read."""
    some: List[Instances] = []
    for index, each in enumerate(instances):
        boxes, classes = each.pred_boxes.tensor, each.pred_classes
        if "detail_scores" in features:
            exceeding = each.scores > features["detail_scores"][index][classes]
            chosen = exceeding.nonzero()[:, 0][: features["detail_most"][index]]
            boxes, classes = boxes[chosen], classes[chosen]
        few = Instances(each.image_size)
        few.pred_boxes = Boxes(boxes)
        few.pred_classes = classes
        some.append(few)
    return some


class _Standard:
    mask_on: Final[bool]  # type: ignore[misc]  # of the module it is mixed into
    keypoint_on: Final[bool]  # type: ignore[misc]

    def forward_with_given_boxes(
        self, features: Dict[str, Tensor], instances: List[Instances]
    ) -> List[Instances]:
        some = self._forward_mask(features, in_detail(features, instances))
        return instances + self._forward_keypoint(features, some)


class _Res5:
    mask_on: Final[bool]  # type: ignore[misc]

    def forward_with_given_boxes(
        self, features: Dict[str, Tensor], instances: List[Instances]
    ) -> List[Instances]:
        some = in_detail(features, instances)
        levels = [features[name] for name in self.in_features]
        pooled = self._shared_roi_transform(levels, [each.pred_boxes for each in some])
        return instances + self.mask_head(pooled, some)


class _RCNN:
    def forward(self, inputs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        images = self.preprocess_image(inputs)
        features = self.backbone(images.tensor)
        proposals, _ = self.proposal_generator(images, features, None)
        if "detail_scores" in inputs[0]:
            for name in ["detail_scores", "detail_most"]:
                features[name] = torch.stack([each[name] for each in inputs])
        found, _ = self.roi_heads(images, features, proposals, None)
        outputs = detections(found[: len(inputs)])
        for index, detailed in enumerate(detections(found[len(inputs) :])):
            for name, value in detailed.items():
                if name not in outputs[index]:
                    outputs[index][name] = value
        return outputs


def _rewrite(name: str, replaces: type, methods: type, *replaced: str) -> Rewrite:
    return Rewrite(
        name=name,
        replaces=replaces,
        methods=replaced,
        needed_for=frozenset({TRACING, SCRIPTING}),
        reason="detectron2 makes masks and keypoints of all instances, whatever is wanted",
        make=override_methods(methods),
    )


DETAILED_RCNN = _rewrite("detailed_rcnn", GeneralizedRCNN, _RCNN, "forward", "inference")
DETAILED_HEADS = (
    _rewrite("detailed_heads", StandardROIHeads, _Standard, "forward_with_given_boxes"),
    _rewrite("detailed_res5_heads", Res5ROIHeads, _Res5, "forward_with_given_boxes"),
)
"""Of a model that ``makes_details``; no news, as upstream's export does not fail there."""

_OWN_STEPS = (
    "forward",
    "forward_with_given_boxes",
    "_forward_mask",
    "_forward_keypoint",
    "_shared_roi_transform",
)


def makes_details(model: nn.Module) -> bool:
    """Whether the masks and keypoints of a model can be made of some of its instances alone.

    So it is where every step that sees the instances is detectron2's own: a head of the user's own
    may give scores, say, and then all are needed to tell the best.
    """
    if type(model) is not GeneralizedRCNN and _is_own(model, "forward", "inference"):
        return False
    heads: Any = getattr(model, "roi_heads", None)
    if not isinstance(heads, (StandardROIHeads, CascadeROIHeads, Res5ROIHeads)):
        return False
    parts = [
        getattr(heads, f"{kind}_head")
        for kind in ("mask", "keypoint")
        if getattr(heads, f"{kind}_on", False)
    ]
    return bool(parts) and not (
        _is_own(heads, *_OWN_STEPS) or any(_is_own(part, "forward") for part in parts)
    )


def _is_own(module: nn.Module, *methods: str) -> bool:
    """Whether one of a module's methods is not detectron2's."""
    return any(
        own_method(module, name) is not None
        or not getattr(type(module), name).__module__.startswith("detectron2.")
        for name in methods
        if hasattr(module, name)
    )
