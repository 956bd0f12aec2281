"""Brings a program's outputs to the size at which the image was sent.

The program answers in coordinates of the resized image and with masks of 28 x 28. This is what
detectron2's models do after their last layer (``detector_postprocess`` and ``sem_seg_postprocess``
in detectron2/modeling/postprocessing.py) in numpy, in its order: scale the boxes, clip them, drop
the empty ones, paste the masks, scale the keypoints. What is not wanted is left out as soon as the
empty ones are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.outputs.boxes import clipped, nonempty, scaled
from d2serve.handlers.outputs.details import rows_among
from d2serve.handlers.outputs.extras import image_extras, instance_extras
from d2serve.handlers.outputs.final import read_final
from d2serve.handlers.outputs.keypoints import keypoints_of
from d2serve.handlers.outputs.masks import encode_masks
from d2serve.handlers.outputs.panoptic import merge
from d2serve.handlers.outputs.records import Detections, Float32, Outputs, Proposals
from d2serve.handlers.outputs.rle import Rle
from d2serve.handlers.outputs.selection import EVERYTHING, Selection, select
from d2serve.handlers.outputs.semantic import label_map
from d2serve.handlers.requests.preprocessing import ModelInput
from d2serve.handlers.runtimes.details import Details
from d2serve.handlers.runtimes.raw_outputs import RawOutputs
from d2serve.handlers.spec.extras import Extra
from d2serve.handlers.spec.model_spec import ModelSpec
from d2serve.handlers.spec.output_names import (
    BOXES,
    CLASSES,
    HEATMAPS,
    KEYPOINTS,
    MASKS,
    OBJECTNESS_LOGITS,
    PROPOSAL_BOXES,
    SCORES,
    SEM_SEG,
    XYXY_ABS,
)

Indices = npt.NDArray[np.intp]


def postprocess(
    raw: RawOutputs,
    image: ModelInput,
    spec: ModelSpec,
    selection: Selection = EVERYTHING,
    details: Details | None = None,
) -> Outputs:
    """Bring a program's outputs for one image to the size at which the image was sent.

    Args:
        raw: the program's outputs, see RawOutputs.
        image: what was given to the program.
        spec: the model's.
        selection: what of them is wanted.
        details: of which instances the program was asked for masks and keypoints; None is all.

    Raises:
        ModelFailed: a number is infinite or none; with a box or score detectron2 stops as well.
        DetailsMissing: masks or keypoints are wanted that were not asked for.
    """
    if spec.postprocessed:
        return read_final(raw, image, spec, selection)
    merges = BOXES in raw and SEM_SEG in raw and spec.panoptic is not None
    instances = sem_seg = panoptic_seg = proposals = None
    if BOXES in raw:
        wanted = EVERYTHING if merges else selection
        ending = spec.box_mode, spec.mask_threshold
        instances = detections(raw, image, *ending, wanted, spec.extras, details)
    if SEM_SEG in raw:
        logits = raw[SEM_SEG].astype(np.float32, copy=False)
        sem_seg = label_map(logits, image.resized, image.height, image.width)
        if instances is not None and spec.panoptic is not None:
            panoptic_seg = merge(instances, sem_seg, spec.panoptic)
    if PROPOSAL_BOXES in raw:
        proposals = _proposals(raw, image, selection.most)
    outputs = Outputs(
        image.height,
        image.width,
        instances,
        sem_seg,
        panoptic_seg,
        proposals,
        image_extras(raw, spec),
    )
    return select(outputs, selection) if merges else outputs


def detections(
    raw: RawOutputs,
    image: ModelInput,
    box_mode: str = XYXY_ABS,
    mask_threshold: float = 0.5,
    selection: Selection = EVERYTHING,
    extras: Sequence[Extra] = (),
    details: Details | None = None,
) -> Detections:
    """Bring a program's instances in one image to the size at which the image was sent.

    Args:
        raw: the program's outputs, see RawOutputs.
        image: what was given to the program.
        box_mode, mask_threshold, extras: as in the spec; the defaults are detectron2's.
        selection: what of them is wanted.
        details: as for ``postprocess``.

    Raises:
        ModelFailed: a box or a score is infinite or not a number.
        DetailsMissing: as ``postprocess``.
    """
    in_program = raw[BOXES].astype(np.float32, copy=False)
    scores = raw[SCORES].astype(np.float32)
    classes = raw[CLASSES].astype(np.int64)
    boxes, not_empty = _boxes(in_program, scores, box_mode, image)
    by_score = not_empty[np.argsort(-scores[not_empty], kind="stable")]
    kept = by_score[selection.wanted(scores[by_score], classes[by_score])]
    boxes = boxes[kept]
    masks = keypoints = None
    if selection.masks and MASKS in raw:
        rows = rows_among(raw, details, kept)
        masks = _masks(raw[MASKS][rows, 0], boxes, image, mask_threshold)
    if KEYPOINTS in raw or HEATMAPS in raw:
        rows = rows_among(raw, details, kept)
        keypoints = _keypoints(raw, in_program[kept], rows, image)
    return Detections(
        height=image.height,
        width=image.width,
        boxes=boxes,
        scores=scores[kept],
        classes=classes[kept],
        masks=masks,
        keypoints=keypoints,
        extra=instance_extras(raw, extras, len(in_program), kept),
    )


def _proposals(raw: RawOutputs, image: ModelInput, most: int | None) -> Proposals:
    logits = raw[OBJECTNESS_LOGITS].astype(np.float32)
    in_program = raw[PROPOSAL_BOXES].astype(np.float32, copy=False)
    boxes, not_empty = _boxes(in_program, logits, XYXY_ABS, image)
    kept = not_empty[:most]
    return Proposals(boxes[kept], logits[kept])


def _boxes(
    in_program: Float32, scores: Float32, mode: str, image: ModelInput
) -> tuple[Float32, Indices]:
    """Boxes in the image as it was sent, and which of them are not empty."""
    boxes = scaled(in_program, mode, *_scales(image))
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ModelFailed(
            "The model answered a box or a score that is infinite or not a number. "
            "Its weights are probably damaged: compare it with `d2serve verify`."
        )
    boxes = clipped(boxes, mode, image.height, image.width)
    return boxes, nonempty(boxes, mode)


def _scales(image: ModelInput) -> tuple[float, float]:
    resized_height, resized_width = image.resized
    return image.width / resized_width, image.height / resized_height


def _masks(
    masks: npt.NDArray[np.generic], boxes: Float32, image: ModelInput, threshold: float
) -> tuple[Rle, ...]:
    probabilities = masks.astype(np.float32, copy=False)
    return encode_masks(probabilities, boxes, image.height, image.width, threshold)


def _keypoints(raw: RawOutputs, boxes: Float32, rows: Indices, image: ModelInput) -> Float32:
    if KEYPOINTS in raw:
        keypoints = raw[KEYPOINTS][rows].astype(np.float32)
    else:
        keypoints = keypoints_of(raw[HEATMAPS][rows].astype(np.float32, copy=False), boxes)
    scale_x, scale_y = _scales(image)
    keypoints[:, :, 0] *= np.float32(scale_x)
    keypoints[:, :, 1] *= np.float32(scale_y)
    return keypoints
