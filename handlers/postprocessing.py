"""Why: the program answers in coordinates of the resized image and with masks of 28 x 28.

This is ``detector_postprocess`` (detectron2/modeling/postprocessing.py) in numpy, in its order:
scale the boxes, clip them, drop the empty ones, paste the masks, scale the keypoints.
"""

from __future__ import annotations

import numpy as np

from d2serve.handlers.detections import Detections, Float32, RawOutputs
from d2serve.handlers.errors import ModelFailed
from d2serve.handlers.keypoints import keypoints_of
from d2serve.handlers.masks import encode_masks
from d2serve.handlers.model_spec import BOXES, CLASSES, HEATMAPS, KEYPOINTS, MASKS, SCORES
from d2serve.handlers.preprocessing import PreparedImage
from d2serve.handlers.rle import Rle


def postprocess(raw: RawOutputs, image: PreparedImage, mask_threshold: float) -> Detections:
    """Bring a program's outputs for one image to the size at which the image was sent.

    Args:
        raw: the program's outputs, see RawOutputs.
        image: what was given to the program.
        mask_threshold: probability from which a pixel belongs to a mask.

    Raises:
        ModelFailed: a box or score is infinite or not a number, where detectron2 stops as well.
    """
    in_program = raw[BOXES].astype(np.float32, copy=False)
    boxes = in_program.copy()
    resized_height, resized_width = image.resized
    scale_x, scale_y = image.width / resized_width, image.height / resized_height
    with np.errstate(over="ignore", invalid="ignore"):  # the check follows
        boxes[:, 0::2] *= np.float32(scale_x)
        boxes[:, 1::2] *= np.float32(scale_y)
    scores = raw[SCORES].astype(np.float32)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ModelFailed(
            "The model answered a box or a score that is infinite or not a number. "
            "Its weights are probably damaged: compare it with `d2serve verify`."
        )
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, image.width)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, image.height)

    not_empty = np.nonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))[0]
    kept = not_empty[np.argsort(-scores[not_empty], kind="stable")]
    boxes = boxes[kept]

    return Detections(
        height=image.height,
        width=image.width,
        boxes=boxes,
        scores=scores[kept],
        classes=raw[CLASSES].astype(np.int64)[kept],
        masks=_masks(raw, boxes, kept, image, mask_threshold),
        keypoints=_keypoints(raw, in_program, kept, scale_x, scale_y),
    )


def _masks(
    raw: RawOutputs,
    boxes: Float32,
    kept: np.ndarray[tuple[int], np.dtype[np.intp]],
    image: PreparedImage,
    threshold: float,
) -> tuple[Rle, ...] | None:
    if MASKS not in raw:
        return None
    masks = raw[MASKS][kept, 0].astype(np.float32, copy=False)
    return encode_masks(masks, boxes, image.height, image.width, threshold)


def _keypoints(
    raw: RawOutputs,
    boxes: Float32,
    kept: np.ndarray[tuple[int], np.dtype[np.intp]],
    scale_x: float,
    scale_y: float,
) -> Float32 | None:
    if KEYPOINTS in raw:
        keypoints = raw[KEYPOINTS][kept].astype(np.float32)
    elif HEATMAPS in raw:
        heatmaps = raw[HEATMAPS][kept].astype(np.float32, copy=False)
        keypoints = keypoints_of(heatmaps, boxes[kept])
    else:
        return None
    keypoints[:, :, 0] *= np.float32(scale_x)
    keypoints[:, :, 1] *= np.float32(scale_y)
    return keypoints
