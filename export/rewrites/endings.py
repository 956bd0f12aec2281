"""Every architecture has to end in tensors, before detectron2's postprocessing.

Postprocessing needs the size of the image as sent, so it is the handler's. Each equivalent here
answers ``List[Dict[str, Tensor]]``, the raw fields of each image, eagerly, traced or scripted. For
``GeneralizedRCNN`` and the dense detectors upstream's own tool ends there too.
``PanopticFPN`` (modeling/meta_arch/panoptic_fpn.py) silently loses its semantic output when traced,
as only the instances of GeneralizedRCNN are taken; ``SemanticSegmentor`` (semantic_seg.py) and
``ProposalNetwork`` (rcnn.py) have untyped inputs and end in postprocessing always.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from collections.abc import Sequence
from typing import Any, Dict, List  # noqa: UP035  # TorchScript reads these

import torch
from detectron2.layers import move_device_like
from detectron2.modeling import GeneralizedRCNN, PanopticFPN, SemanticSegmentor
from detectron2.modeling.meta_arch import ProposalNetwork
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import ImageList, Instances, ROIMasks
from torch import Tensor

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite
from d2serve.handlers.spec.extras import INSTANCE, output_name
from d2serve.handlers.spec.output_names import (
    BOXES,
    CLASSES,
    HEATMAPS,
    KEYPOINTS,
    MASKS,
    OBJECTNESS_LOGITS,
    PROPOSAL_BOXES,
    SCORES,
)

# ruff: noqa: UP006
# mypy: disable-error-code="attr-defined, untyped-decorator"


DETECTIONS = (BOXES, SCORES, CLASSES, MASKS, KEYPOINTS, HEATMAPS)
PROPOSALS = (PROPOSAL_BOXES, OBJECTNESS_LOGITS)
"""The fields of Instances that are detectron2's own; any other is the model's."""


def named_fields(instances: Instances, own: Sequence[str]) -> dict[str, Tensor]:
    """The fields of instances as tensors, by the names that a program gives them.

    Args:
        own: DETECTIONS or PROPOSALS.
    """
    return {
        name if name in own else output_name(INSTANCE, name): value
        for name, value in _tensors_of(instances).items()
    }


def as_tensor(value: Any) -> Tensor:
    """A field of Instances as a tensor; (N, 1, M, M) of masks in their boxes."""
    if isinstance(value, Tensor):
        return value
    tensor: Tensor = value.tensor
    return tensor[:, None] if isinstance(value, ROIMasks) else tensor


@torch.jit.ignore
def _tensors_of(instances: Instances) -> Dict[str, Tensor]:
    return {name: as_tensor(value) for name, value in instances.get_fields().items()}


def raw_fields(instances: List[Instances], own: List[str]) -> List[Dict[str, Tensor]]:
    """The fields of each image's instances as tensors, by the names that a program gives them.

    Args:
        own: those of detectron2's; any other is the model's.
    """
    outputs: List[Dict[str, Tensor]] = []
    for each in instances:
        if torch.jit.is_scripting():
            fields: Dict[str, Tensor] = each.get_fields()
        else:
            fields = _tensors_of(each)
        # As output_name does, of which TorchScript knows nothing.
        named: Dict[str, Tensor] = {}
        for name, value in fields.items():
            named[name if name in own else "instances.extra." + name] = value
        outputs.append(named)
    return outputs


def detections(instances: List[Instances]) -> List[Dict[str, Tensor]]:
    """``raw_fields`` of what a detector answers: DETECTIONS are detectron2's."""
    return raw_fields(
        instances,
        [
            "pred_boxes",
            "scores",
            "pred_classes",
            "pred_masks",
            "pred_keypoints",
            "pred_keypoint_heatmaps",
        ],
    )


class _RCNN:
    def forward(self, inputs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        return detections(self.inference(inputs, None, False))


class _Dense:
    def forward(self, inputs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        images = self.preprocess_image(inputs)
        features = self.backbone(images.tensor)
        levels = [features[name] for name in self.head_in_features]
        return detections(self.forward_inference(images, levels, self.head(levels)))


class _Panoptic:
    def forward(self, inputs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        images = self.preprocess_image(inputs)
        features = self.backbone(images.tensor)
        sem_seg, _ = self.sem_seg_head(features, None)
        proposals, _ = self.proposal_generator(images, features, None)
        instances, _ = self.roi_heads(images, features, proposals, None)
        outputs = detections(instances)
        for index, each in enumerate(outputs):
            each["sem_seg"] = sem_seg[index]
        return outputs


class _Prepared:
    def prepared(self, inputs: List[Dict[str, Tensor]]) -> ImageList:
        images = [move_device_like(each["image"], self.pixel_mean) for each in inputs]
        images = [(each - self.pixel_mean) / self.pixel_std for each in images]
        return ImageList.from_tensors(
            images,
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )


class _Semantic(_Prepared):
    def forward(self, inputs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        features = self.backbone(self.prepared(inputs).tensor)
        sem_seg, _ = self.sem_seg_head(features, None)
        outputs: List[Dict[str, Tensor]] = [
            {"sem_seg": sem_seg[index]} for index in range(len(inputs))
        ]
        return outputs


class _Proposals(_Prepared):
    def forward(self, inputs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        images = self.prepared(inputs)
        features = self.backbone(images.tensor)
        proposals, _ = self.proposal_generator(images, features, None)
        return raw_fields(proposals, ["proposal_boxes", "objectness_logits"])


class ScriptedOwn(torch.nn.Module):
    """A model of the user's own that returns List[Instances] where TorchScript reads it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: List[Dict[str, Tensor]]) -> List[Dict[str, Tensor]]:
        """Raw fields of each image's instances, as its detectron2 counterparts answer."""
        return detections(self.model(inputs))


def _ending(name: str, replaces: type, methods: type, reason: str, *own: str) -> Rewrite:
    return Rewrite(
        name=name,
        replaces=replaces,
        methods=("forward", *own),
        needed_for=frozenset({TRACING, SCRIPTING}),
        reason=reason,
        make=override_methods(methods),
    )


UPSTREAMS_ENDINGS = (
    _ending("generalized_rcnn", GeneralizedRCNN, _RCNN, "forward ends in postprocessing"),
    _ending("dense_detector", DenseDetector, _Dense, "forward ends in postprocessing"),
)
"""Where detectron2's own export ends too."""

PANOPTIC_FPN = _ending(
    "panoptic_fpn",
    PanopticFPN,
    _Panoptic,
    "modeling/meta_arch/panoptic_fpn.py: a trace of GeneralizedRCNN's outputs loses sem_seg and "
    "panoptic_seg, and forward is untyped, which TorchScript does not take",
    "inference",
)
SEMANTIC_SEGMENTOR = _ending(
    "semantic_segmentor",
    SemanticSegmentor,
    _Semantic,
    "modeling/meta_arch/semantic_seg.py: forward is untyped, which TorchScript does not take, and "
    "ends in postprocessing",
)
PROPOSAL_NETWORK = _ending(
    "proposal_network",
    ProposalNetwork,
    _Proposals,
    "modeling/meta_arch/rcnn.py: forward is untyped, which TorchScript does not take, and ends in "
    "postprocessing",
)
