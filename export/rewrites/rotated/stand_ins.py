"""Rotated operators for a detectron2 without its compiled library, which has none.

``torch.ops.detectron2`` is empty then, as with the redistribution on PyPI, and rotated models do
not even run eagerly. So there would be nothing to train, or to compare an export with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from d2serve.export.rewrites.rotated.iou import pairwise_iou
from d2serve.export.rewrites.rotated.nms import nms_rotated
from d2serve.export.rewrites.rotated.roi_align import roi_align_rotated

_FORWARD = "Tensor input, Tensor rois, float scale, int height, int width, int sampling_ratio"
_BACKWARD = (
    "Tensor grad, Tensor rois, float scale, int height, int width, int batch, int channels, "
    "int input_height, int input_width, int sampling_ratio"
)


def has_compiled_operators() -> bool:
    """Whether this detectron2 brought its own rotated operators (or they stand in already)."""
    return hasattr(torch.ops.detectron2, "nms_rotated")


@contextmanager
def plain_rotated_operators() -> Iterator[None]:
    """Let detectron2's own eager code run rotated models, for as long as the context lasts.

    Where detectron2 has compiled operators they stay, and nothing is done. Where it has none, the
    functions of this folder are registered in their names. A reference made this way shows
    that a program does what detectron2's Python does; it says nothing of the operators
    themselves, which are the same code on both sides then. Those are tested on their own.
    """
    if has_compiled_operators():
        yield
        return
    library: Any = torch.library.Library("detectron2", "FRAGMENT")  # type: ignore[no-untyped-call]
    try:
        for schema, function in (
            ("box_iou_rotated(Tensor boxes1, Tensor boxes2) -> Tensor", pairwise_iou),
            ("nms_rotated(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", nms_rotated),
            (f"roi_align_rotated_forward({_FORWARD}) -> Tensor", roi_align_rotated),
            (f"roi_align_rotated_backward({_BACKWARD}) -> Tensor", _backward),
        ):
            name = library.define(schema)
            # Above autograd, since the backward pass is autograd's own.
            library.impl(name.split("::")[-1], function, "CompositeImplicitAutograd")
        yield
    finally:
        library._destroy()


def _backward(
    grad: Tensor,
    rois: Tensor,
    scale: float,
    height: int,
    width: int,
    batch: int,
    channels: int,
    input_height: int,
    input_width: int,
    sampling_ratio: int,
) -> Tensor:
    if rois.shape[0] == 0:
        return grad.new_zeros((batch, channels, input_height, input_width))
    # Pooling is linear in the features, so its gradient is the same at any of them.
    features = grad.new_zeros((batch, channels, input_height, input_width), requires_grad=True)
    with torch.enable_grad():
        pooled = roi_align_rotated(features, rois, scale, height, width, sampling_ratio)
    return torch.autograd.grad(pooled, features, grad)[0]
