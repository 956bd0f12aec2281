"""Times our encoder of masks and detectron2's on the same masks.

Pasting masks and encoding them is most of what surrounds a forward, and depends on how ragged the
masks are. So both encoders get two hundreds of them, for a picture of the same size:
those of the random model, as ragged as masks can be, and those of the small trained model, which
look like objects.

detectron2's way is ``paste_masks_in_image`` and pycocotools' encoder, as its own evaluator calls
them; ours is ``d2serve.handlers.outputs.masks``. Both in one thread, in turns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.structures import Boxes, Instances

from benchmarks.pieces.peak import threads_of_torch
from benchmarks.served.eager_handler import encode_masks as their_encoder
from benchmarks.served.model import model_input
from benchmarks.served.small_model import small_predictor
from benchmarks.shared.errors import BenchError
from d2serve.handlers.outputs.masks import encode_masks
from d2serve.handlers.outputs.rle import run_lengths
from d2serve.server.measuring.figures import Figure, median_of
from examples.shapes.scene import render_scene

_THRESHOLD = 0.5
_SEED = 11
_MOST_SCENES = 200

RANDOM, TRAINED = "random model", "trained example model"


@dataclass(frozen=True)
class RoiMasks:
    """Masks before they are pasted."""

    masks: torch.Tensor
    """(N, M, M) float32 probabilities."""
    boxes: torch.Tensor
    """(N, 4) XYXY_ABS in pixels of the picture, clipped, not empty."""


@dataclass(frozen=True)
class MaskTiming:
    """Both encoders on the same masks."""

    masks: int
    runs: float
    """Runs of equal pixels in a mask, on average."""
    ours: Figure
    """Milliseconds for all of them."""
    theirs: Figure
    share: Figure
    """Ours by theirs, formed within a repeat."""
    identical: int
    """Masks whose RLE is the same."""


def time_encoders(roi: RoiMasks, height: int, width: int, repeats: int) -> MaskTiming:
    """Time both encoders in turns, one thread each."""
    boxes, masks = roi.boxes.numpy(), roi.masks.numpy()
    ours: list[float] = []
    theirs: list[float] = []
    with threads_of_torch(1), torch.no_grad():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            mine = encode_masks(masks, boxes, height, width, _THRESHOLD)
            middle = time.perf_counter()
            pasted = paste_masks_in_image(roi.masks, Boxes(roi.boxes), (height, width), _THRESHOLD)
            yours = their_encoder(Instances((height, width), pred_masks=pasted))
            theirs.append((time.perf_counter() - middle) * 1000)
            ours.append((middle - start) * 1000)
    del ours[0], theirs[0]  # the warm-up
    return MaskTiming(
        len(masks),
        sum(len(run_lengths(each)) for each in mine) / len(mine),
        median_of(ours),
        median_of(theirs),
        median_of([mine_ms / their_ms for mine_ms, their_ms in zip(ours, theirs)]),
        identical=sum(a == b for a, b in zip(mine, yours)),
    )


def random_masks(raw: Instances, height: int, width: int) -> RoiMasks:
    """Those of a raw answer of the model."""
    return _scaled([raw], height, width)


def trained_masks(count: int, height: int, width: int) -> RoiMasks:
    """Those that the small trained model finds in drawn scenes, scaled to a picture's size.

    Raises:
        BenchError: it does not find enough.
    """
    predictor = small_predictor()
    answers: list[Instances] = []
    for index in range(_MOST_SCENES):
        scene = render_scene("heldout", index, _SEED).image
        with torch.no_grad():
            inputs = [{"image": model_input(predictor.cfg, scene)}]
            answers.append(predictor.model.inference(inputs, do_postprocess=False)[0])
        if sum(len(answer) for answer in answers) >= count:
            found = _scaled(answers, height, width)
            return RoiMasks(found.masks[:count], found.boxes[:count])
    raise BenchError(
        f"The small model found fewer than {count} objects in {_MOST_SCENES} scenes: its weights "
        "are not those of examples/shapes. Train it again, or restore them from the repository."
    )


def _scaled(answers: list[Instances], height: int, width: int) -> RoiMasks:
    masks, boxes = [], []
    for answer in answers:
        rows, columns = answer.image_size
        box = Boxes(answer.pred_boxes.tensor.clone())
        box.scale(width / columns, height / rows)
        box.clip((height, width))
        kept = box.nonempty()
        boxes.append(box.tensor[kept])
        masks.append(answer.pred_masks[kept, 0])
    return RoiMasks(torch.cat(masks).contiguous(), torch.cat(boxes).contiguous())
