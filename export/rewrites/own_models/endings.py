"""Lets a model of the user's own end in tensors, whatever class it is of.

Its forward answers detectron2's list of dicts. Where what it answers comes straight out of
``detector_postprocess`` and ``sem_seg_postprocess``, a program ends before these, in the resized
image, and the handler does them as for detectron2's own models. Everywhere else the model's own
postprocessing is in the program, which then takes the size of the image as it was sent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from detectron2.modeling import postprocessing
from detectron2.modeling.meta_arch import panoptic_fpn
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, ROIMasks, RotatedBoxes
from torch import Tensor, nn

from d2serve.export.errors import ProgramError
from d2serve.export.rewrites.endings import DETECTIONS, as_tensor, named_fields
from d2serve.export.rewrites.endings import PROPOSALS as FIELDS_OF_PROPOSALS
from d2serve.export.rewrites.own_models.mask_queries import Segments
from d2serve.handlers.spec.extras import IMAGE, output_name
from d2serve.handlers.spec.output_names import (
    MASKS,
    PANOPTIC_SEG,
    SEGMENTS_INFO,
    SEM_SEG,
)

INSTANCES, PROPOSALS = "instances", "proposals"
KEYS = (INSTANCES, PROPOSALS, SEM_SEG, PANOPTIC_SEG)
"""Of detectron2's dict; any other is of the model's own."""
_STRUCTURES = (Boxes, RotatedBoxes, Keypoints)

# As they are before anything is put in their place.
detector_postprocess = postprocessing.detector_postprocess
sem_seg_postprocess = postprocessing.sem_seg_postprocess


class OwnEnding(nn.Module):
    """A model of the user's own, which answers named tensors for each image."""

    def __init__(self, model: nn.Module, postprocessed: bool) -> None:
        """
        Args:
            model: the user's.
            postprocessed: whether its own postprocessing is part of it.
        """
        super().__init__()
        self.model = model
        self._postprocessed = postprocessed

    def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Raw outputs of each image, or final ones where they are postprocessed."""
        if self._postprocessed:
            return [_final_tensors(answer) for answer in self.model(inputs)]
        # A model may look for the sizes without being asked to: they lead nowhere here.
        sized = [{**_own_size(each["image"]), **each} for each in inputs]
        with ending_before_postprocessing():
            answers = self.model(sized)
        return [_raw_tensors(answer) for answer in answers]


def _own_size(image: Tensor) -> dict[str, Any]:
    return {"height": image.shape[-2], "width": image.shape[-1]}


def _raw_tensors(answer: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = _tensors_of(answer)
    if SEM_SEG in answer:
        tensors[SEM_SEG] = answer[SEM_SEG]
    return tensors


def _final_tensors(answer: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = _tensors_of(answer)
    if MASKS in tensors:
        # As a COCO evaluator takes them, whatever type they have.
        tensors[MASKS] = tensors[MASKS].to(torch.uint8)
    if SEM_SEG in answer:
        tensors[SEM_SEG] = answer[SEM_SEG].argmax(dim=0)
    if PANOPTIC_SEG in answer:
        labels, segments = answer[PANOPTIC_SEG]
        if not isinstance(segments, Segments):
            raise ProgramError(
                "segments_info of panoptic_seg is a Python list, which a program answers as it was "
                "for one image, however many segments there are. What can be exported is "
                "MaskFormer's way: a method panoptic_inference(mask_cls, mask_pred), which is "
                "replaced by an equivalent in tensors."
            )
        tensors[PANOPTIC_SEG] = labels
        tensors[SEGMENTS_INFO] = segments.table
    return tensors


def _tensors_of(answer: Mapping[str, Any]) -> dict[str, Tensor]:
    """The fields of Instances, and keys of the model's own, by the names a program gives them."""
    tensors = {}
    for key, own in ((INSTANCES, DETECTIONS), (PROPOSALS, FIELDS_OF_PROPOSALS)):
        if key in answer:
            tensors.update(named_fields(answer[key], own))
    for name, value in answer.items():
        if name not in KEYS and isinstance(value, (Tensor, *_STRUCTURES)):
            tensors[output_name(IMAGE, name)] = as_tensor(value)
    return tensors


def is_of_boxes(masks: object) -> bool:
    """Whether masks are (N, 1, M, M), each of its box, and not of the whole image."""
    return isinstance(masks, ROIMasks) or (isinstance(masks, Tensor) and masks.dim() == 4)


def is_of_image(masks: object) -> bool:
    """Whether masks are (N, H, W), of the whole image."""
    return isinstance(masks, BitMasks) or (isinstance(masks, Tensor) and masks.dim() == 3)


def _as_they_are(results: Instances, *_args: object, **_named: object) -> Instances:
    return results


def _logits_as_they_are(result: Tensor, *_args: object, **_named: object) -> Tensor:
    return result


def _not_merged(*_args: object, **_named: object) -> None:
    return None


@contextmanager
def ending_before_postprocessing() -> Iterator[None]:
    """In every module that has them, detectron2's postprocessing and merging do nothing."""
    with (
        postprocessing_replaced(_as_they_are, _logits_as_they_are),
        _replaced(panoptic_fpn.combine_semantic_and_instance_outputs, _not_merged),
    ):
        yield


@contextmanager
def postprocessing_replaced(
    of_instances: Callable[..., Instances], of_labels: Callable[..., Tensor]
) -> Iterator[None]:
    """Put others in the place of ``detector_postprocess`` and ``sem_seg_postprocess``."""
    with (
        _replaced(detector_postprocess, of_instances),
        _replaced(sem_seg_postprocess, of_labels),
    ):
        yield


@contextmanager
def _replaced(original: object, other: object) -> Iterator[None]:
    places = [
        (module, name)
        for module in list(sys.modules.values())
        # Not by getattr, which would import what a module imports only when asked.
        if isinstance(module, ModuleType) and module.__name__ != __name__
        for name, value in list(vars(module).items())
        if value is original
    ]
    for module, name in places:
        setattr(module, name, other)
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, original)
