"""Places in detectron2 that make a constant of a tensor while they are traced, and may.

Each was read: what becomes a constant is the same for every image, or an eager model reaches the
other side only where its own answer is broken. A place that is not here counts as a doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import CodeType

_FINITE = "asks whether all is finite, which finite weights answer"
_COLUMNS = "compares a number of columns, which the model fixes"
_EMPTY = "gives an empty tensor the shape that it has already"
_LENGTHS = "compares two lengths that are equal, or it ends"

HARMLESS: Mapping[str, str] = {
    "detectron2.layers.wrappers:Conv2d.forward": "asks for empty batches in training only",
    "detectron2.modeling.poolers:ROIPooler.forward": _LENGTHS,
    "detectron2.modeling.proposal_generator.proposal_utils:find_top_rpn_proposals": _FINITE,
    "detectron2.modeling.roi_heads.fast_rcnn:fast_rcnn_inference_single_image": (
        f"{_FINITE}, and {_COLUMNS}"
    ),
    "detectron2.modeling.roi_heads.mask_head:mask_rcnn_inference": _COLUMNS,
    "detectron2.structures.boxes:Boxes.__init__": _EMPTY,
    "detectron2.structures.boxes:Boxes.clip": _FINITE,
    "detectron2.structures.image_list:ImageList.from_tensors": (
        "compares an image's channels with the first image's"
    ),
    "detectron2.structures.instances:Instances.set": _LENGTHS,
    "detectron2.utils.tracing:_do_assert_fx_safe": "asserts",
    "detectron2.utils.tracing:assert_fx_safe": "asserts",
    "torchvision.ops.boxes:batched_nms": "chooses again for each image (programs/nms_choice.py)",
    "torchvision.ops._utils:check_roi_boxes_shape": "asserts",
}
"""By module and function, why."""


def is_harmless(module: str, code: CodeType) -> bool:
    """Whether what becomes a constant in a function is the same for every image.

    Args:
        module: that the function is of.
        code: its code.
    """
    # Ours is written for traces, and each rewrite is compared at several sizes by its tests.
    return module.startswith("d2serve.") or f"{module}:{code.co_qualname}" in HARMLESS
