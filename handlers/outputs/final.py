"""Reads what a program answers that holds the model's own postprocessing: it is final.

Nothing is scaled, clipped or dropped, since the model itself did what it does. Masks become run
lengths, and instances are put in the order of their scores, as every reply has them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.outputs.extras import image_extras, instance_extras
from d2serve.handlers.outputs.records import (
    Detections,
    Float32,
    Int32,
    Outputs,
    PanopticSeg,
    Proposals,
    Segment,
)
from d2serve.handlers.outputs.rle import Rle, encode_whole
from d2serve.handlers.outputs.selection import Selection
from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.spec.model_spec import ModelSpec
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
)

# Masks that are encoded at once, which takes copies of them.
_MASKS_AT_ONCE = 16


def read_final(
    raw: RawOutputs, image: ModelInput, spec: ModelSpec, selection: Selection
) -> Outputs:
    """A program's final answer for one image.

    Args:
        raw: the program's outputs, see RawOutputs.
        image: what was given to the program.
        spec: the model's.
        selection: what of them is wanted.

    Raises:
        ModelFailed: a score is infinite or none, or a map is not of the size of the image.
    """
    return Outputs(
        height=image.height,
        width=image.width,
        instances=_instances(raw, image, spec, selection) if BOXES in raw else None,
        sem_seg=_labels(raw[SEM_SEG], SEM_SEG, image) if SEM_SEG in raw else None,
        panoptic_seg=_panoptic(raw, image) if PANOPTIC_SEG in raw else None,
        proposals=_proposals(raw, selection.most) if PROPOSAL_BOXES in raw else None,
        extra=image_extras(raw, spec),
    )


def _instances(
    raw: RawOutputs, image: ModelInput, spec: ModelSpec, selection: Selection
) -> Detections:
    scores = raw[SCORES].astype(np.float32)
    classes = raw[CLASSES].astype(np.int64)
    boxes = raw[BOXES].astype(np.float32)
    _require_finite(scores)
    by_score = np.argsort(-scores, kind="stable")
    kept = by_score[selection.wanted(scores[by_score], classes[by_score])]
    keypoints = raw[KEYPOINTS][kept].astype(np.float32) if KEYPOINTS in raw else None
    masks = None
    if selection.masks and MASKS in raw:
        masks = _encoded(raw[MASKS], kept, image)
    return Detections(
        height=image.height,
        width=image.width,
        boxes=boxes[kept],
        scores=scores[kept],
        classes=classes[kept],
        masks=masks,
        keypoints=keypoints,
        extra=instance_extras(raw, spec.extras, len(scores), kept),
    )


def _encoded(
    masks: npt.NDArray[np.generic], kept: npt.NDArray[np.intp], image: ModelInput
) -> tuple[Rle, ...]:
    _require_size(masks, MASKS, image)
    rles: list[Rle] = []
    for start in range(0, len(kept), _MASKS_AT_ONCE):
        rles += encode_whole(masks[kept[start : start + _MASKS_AT_ONCE]] != 0)
    return tuple(rles)


def _proposals(raw: RawOutputs, most: int | None) -> Proposals:
    logits = raw[OBJECTNESS_LOGITS].astype(np.float32)
    _require_finite(logits)
    return Proposals(raw[PROPOSAL_BOXES].astype(np.float32)[:most], logits[:most])


def _panoptic(raw: RawOutputs, image: ModelInput) -> PanopticSeg:
    labels = _labels(raw[PANOPTIC_SEG], PANOPTIC_SEG, image)
    segments = raw[SEGMENTS_INFO].astype(np.int64).tolist()
    areas = np.bincount(np.maximum(labels, 0).ravel(), minlength=1)
    return PanopticSeg(
        labels,
        tuple(
            Segment(
                id=number,
                category_id=category,
                isthing=bool(isthing),
                area=int(areas[number]) if number < len(areas) else 0,
                score=None,
                instance_id=None,
                label=label[0] if label else None,
            )
            for number, category, isthing, *label in segments
        ),
    )


def _labels(labels: npt.NDArray[np.generic], name: str, image: ModelInput) -> Int32:
    _require_size(labels, name, image)
    return labels.astype(np.int32)


def _require_size(maps: npt.NDArray[np.generic], name: str, image: ModelInput) -> None:
    if maps.shape[-2:] != (image.height, image.width):
        raise ModelFailed(
            f"The model answered {name} of {maps.shape[-2:]}, expected the size of the image, "
            f"{(image.height, image.width)}. Check the archive with `d2serve verify`."
        )


def _require_finite(scores: Float32) -> None:
    if not np.isfinite(scores).all():
        raise ModelFailed(
            "The model answered a score that is infinite or not a number. "
            "Its weights are probably damaged: compare it with `d2serve verify`."
        )
