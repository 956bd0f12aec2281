"""Finds what a model of the user's own answers: no list of classes says it, so it is run once.

Its inference must answer as detectron2's models do, a list with a dict for each image. What in it
no program or reply can carry is refused by name, before any work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from detectron2.structures import Instances, RotatedBoxes
from torch import Tensor, nn

from d2serve.export.errors import ExportError, UnsupportedFamily, one_line, place_of
from d2serve.export.reading.family import Family
from d2serve.export.reading.own_models.equivalents import check_equivalents
from d2serve.export.rewrites.own_models import endings
from d2serve.export.rewrites.own_models.endings import (
    INSTANCES,
    KEYS,
    PROPOSALS,
    is_of_boxes,
    is_of_image,
    postprocessing_replaced,
)
from d2serve.export.rewrites.registry import known_ending
from d2serve.handlers.spec.output_names import (
    BOXES,
    CLASSES,
    KEYPOINTS,
    MASKS,
    OBJECTNESS_LOGITS,
    PANOPTIC_SEG,
    PROPOSAL_BOXES,
    SCORES,
    SEGMENTS_INFO,
    SEM_SEG,
    XYWHA_ABS,
    XYXY_ABS,
)

ModelInput = Mapping[str, Any]
"""The dict that DefaultPredictor gives to the model: image, height and width."""

_OF_INSTANCES = ((BOXES, SCORES, CLASSES), (MASKS, KEYPOINTS))
_OF_PROPOSALS = ((PROPOSAL_BOXES, OBJECTNESS_LOGITS), ())
_DETECTRON2S = {name for some in (*_OF_INSTANCES, *_OF_PROPOSALS) for name in some}
# Where a model keeps the number of its classes: itself, or the part that tells them apart.
_PARTS = ("", "roi_heads", "head", "sem_seg_head")


def own_family(model: nn.Module, part: nn.Module | None = None) -> Family:
    """The family of a model that is of no class that detectron2 brings, before it has run.

    Args:
        model: in evaluation mode.
        part: of it, which alone is of no such class.
    """
    name = type(model).__name__
    if part is not None:
        name += f" with {type(part).__name__}"
    return Family(name, (), _num_classes(model), is_own=True)


def _num_classes(model: nn.Module) -> int | None:
    for part in _PARTS:
        number = getattr(getattr(model, part, None) if part else model, "num_classes", None)
        if isinstance(number, int):
            return number
    return None


def observed(family: Family, model: nn.Module, inputs: ModelInput) -> Family:
    """A family with what the model answers; one of detectron2's own is as it was.

    Args:
        family: of the model.
        model: in evaluation mode.
        inputs: for one image.

    Raises:
        UnsupportedFamily: it does not answer as detectron2's models do, or what no reply carries.
    """
    if not family.is_own:
        return family
    run = _Run(inputs)
    answer = run.answer(model)
    outputs = _outputs(model, answer)
    of_detectron2 = known_ending(model) is not None
    if not (of_detectron2 or run.ends_in_detectron2s(answer)):
        family = replace(family, postprocessed=True)
        _require_masks_of_image(model, answer)
    boxes = answer[INSTANCES].pred_boxes if INSTANCES in answer else None
    return replace(
        family,
        outputs=outputs,
        num_classes=None if outputs == (SEM_SEG,) else family.num_classes,
        box_mode=XYWHA_ABS if isinstance(boxes, RotatedBoxes) else XYXY_ABS,
    )


class _Run:
    """One run of a model, in which it is noted what detectron2's postprocessing made."""

    def __init__(self, inputs: ModelInput) -> None:
        self._inputs = inputs
        self._made: list[tuple[object, dict[str, Any]]] = []

    def answer(self, model: nn.Module) -> Mapping[str, Any]:
        """The model's dict for the image."""
        try:
            with (
                torch.no_grad(),
                check_equivalents(model),
                postprocessing_replaced(self._instances, self._labels),
            ):
                answers = model([dict(self._inputs)])
        except ExportError:
            raise
        except Exception as error:  # whatever a model raises
            raise UnsupportedFamily(
                f"{_name(model)} fails on an image by itself, without an export: "
                f"{type(error).__name__}: {one_line(error)}. Make it answer "
                'model([{"image": image, "height": height, "width": width}]) first.'
            ) from error
        if (
            not isinstance(answers, (list, tuple))
            or len(answers) != 1
            or not isinstance(answers[0], Mapping)
        ):
            raise UnsupportedFamily(
                f"{_name(model)} ({_place(model)}) answers one image with a "
                f"{type(answers).__name__}, expected a list with one dict, as detectron2's models "
                "answer. Return [{'instances': ...}] or the like."
            )
        answer: Mapping[str, Any] = answers[0]
        return answer

    def ends_in_detectron2s(self, answer: Mapping[str, Any]) -> bool:
        """Whether what it answers as detectron2 does is what detectron2's postprocessing made."""
        return all(
            any(value is made and fields == _tensors_by_name(value) for made, fields in self._made)
            for key, value in answer.items()
            if key in KEYS
        )

    def _instances(
        self, results: Instances, height: Any, width: Any, *rest: Any, **named: Any
    ) -> Instances:
        before, masks = results.image_size, results.get_fields().get(MASKS)
        made = endings.detector_postprocess(results, height, width, *rest, **named)
        usual = not (rest or named) and (masks is None or is_of_boxes(masks))
        if usual and self._is_of_the_image(before, height, width):
            self._made.append((made, _tensors_by_name(made)))
        return made

    def _labels(self, result: Tensor, size: Any, height: Any, width: Any) -> Tensor:
        made: Tensor = endings.sem_seg_postprocess(result, size, height, width)
        if self._is_of_the_image(size, height, width):
            self._made.append((made, {}))
        return made

    def _is_of_the_image(self, size: Any, height: Any, width: Any) -> bool:
        resized = tuple(int(n) for n in self._inputs["image"].shape[-2:])
        sent = (self._inputs["height"], self._inputs["width"])
        return tuple(int(n) for n in size) == resized and (int(height), int(width)) == sent


def _tensors_by_name(value: object) -> dict[str, int]:
    fields = value.get_fields() if isinstance(value, Instances) else {}
    return {name: id(field) for name, field in fields.items() if name in _DETECTRON2S}


def _outputs(model: nn.Module, answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what the program answers, in its order."""
    if not answer.keys() & set(KEYS):
        raise _unsupported_error(model, f"answers {', '.join(map(str, answer)) or 'nothing'} alone")
    outputs: tuple[str, ...] = ()
    for key, (needed, possible) in ((INSTANCES, _OF_INSTANCES), (PROPOSALS, _OF_PROPOSALS)):
        if key in answer:
            outputs += _of_fields(model, key, answer[key], needed, possible)
    if SEM_SEG in answer:
        logits = answer[SEM_SEG]
        if not isinstance(logits, Tensor) or logits.dim() != 3:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise _unsupported_error(
                model, f"answers sem_seg as {shape}, expected (C, H, W) logits"
            )
        outputs += (SEM_SEG,)
    if PANOPTIC_SEG in answer:
        outputs += (PANOPTIC_SEG, SEGMENTS_INFO)
    return outputs


def _of_fields(
    model: nn.Module, key: str, found: Any, needed: tuple[str, ...], possible: tuple[str, ...]
) -> tuple[str, ...]:
    if not isinstance(found, Instances):
        raise _unsupported_error(
            model, f"answers {key} as {type(found).__name__}, expected detectron2's Instances"
        )
    fields = found.get_fields()
    missing = [name for name in needed if name not in fields]
    if missing:
        raise _unsupported_error(model, f"answers {key} without {', '.join(missing)}")
    return (*needed, *(name for name in possible if name in fields))


def _require_masks_of_image(model: nn.Module, answer: Mapping[str, Any]) -> None:
    found = answer.get(INSTANCES)
    if found is not None and found.has(MASKS) and not is_of_image(found.pred_masks):
        raise _unsupported_error(
            model, "answers pred_masks of another shape than (N, H, W), the image's"
        )


def _unsupported_error(model: nn.Module, what: str) -> UnsupportedFamily:
    return UnsupportedFamily(
        f"{_name(model)} ({_place(model)}) {what}, which no reply can carry. Leave it out, or "
        "answer as detectron2's models do."
    )


def _name(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _place(model: nn.Module) -> str:
    return place_of(type(model).forward)
