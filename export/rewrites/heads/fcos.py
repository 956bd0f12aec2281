"""FCOS traces as it is, but TorchScript cannot read two things that it adds to RetinaNet.

``FCOSHead.forward`` (modeling/meta_arch/fcos.py) does not say that its features are a list, so
TorchScript takes them for one tensor. ``Box2BoxTransformLinear`` (modeling/box_regression.py) is
a class that TorchScript was never told of, and stacks along an ``axis``, which it does not know.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any, Final

import torch
from detectron2.modeling.box_regression import Box2BoxTransformLinear
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from torch import Tensor, nn

from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite


class TypedFCOSHead(nn.Module):
    """FCOSHead that says what it takes."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.cls_subnet: Any = head.cls_subnet
        self.bbox_subnet: Any = head.bbox_subnet
        self.cls_score: Any = head.cls_score
        self.bbox_pred: Any = head.bbox_pred
        self.ctrness: Any = head.ctrness

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Class logits, box deltas and centerness of each level."""
        logits: list[Tensor] = []
        deltas: list[Tensor] = []
        centerness: list[Tensor] = []
        for feature in features:
            logits.append(self.cls_score(self.cls_subnet(feature)))
            boxes = self.bbox_subnet(feature)
            deltas.append(self.bbox_pred(boxes))
            centerness.append(self.ctrness(boxes))
        return logits, deltas, centerness


class LinearTransform(nn.Module):
    """``Box2BoxTransformLinear.apply_deltas``: distances from a centre to the four edges."""

    normalize_by_size: Final[bool]

    def __init__(self, normalize_by_size: bool) -> None:
        super().__init__()
        self.normalize_by_size = normalize_by_size

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Boxes (N, k*4) from deltas (N, k*4) and the anchors (N, 4) they are relative to."""
        # A negative distance would make an invalid box (paper: arxiv.org/abs/2006.09214, 2.1).
        deltas = deltas.relu()
        boxes = boxes.to(deltas.dtype)
        x0, y0, x1, y1 = boxes.unbind(1)
        if self.normalize_by_size:
            deltas = deltas * torch.stack([x1 - x0, y1 - y0, x1 - x0, y1 - y0], dim=1)
        x, y = (0.5 * (x0 + x1))[:, None], (0.5 * (y0 + y1))[:, None]
        left, top, right, bottom = (
            deltas[:, 0::4],
            deltas[:, 1::4],
            deltas[:, 2::4],
            deltas[:, 3::4],
        )
        edges = (x - left, y - top, x + right, y + bottom)
        return torch.stack(edges, dim=2).flatten(1)


def _with_linear_transform(model: Any) -> nn.Module:
    transform = model.box2box_transform
    # One of the user's own stays: it may be something that TorchScript reads.
    if type(transform) is Box2BoxTransformLinear:
        model.box2box_transform = LinearTransform(transform.normalize_by_size)
    changed: nn.Module = model
    return changed


FCOS_HEAD = Rewrite(
    name="fcos_head",
    replaces=FCOSHead,
    methods=("forward",),
    needed_for=frozenset({SCRIPTING}),
    reason=(
        "modeling/meta_arch/fcos.py: FCOSHead.forward(features) has no type, and TorchScript takes "
        "the list for a tensor"
    ),
    make=TypedFCOSHead,
)

FCOS_BOX_TRANSFORM = Rewrite(
    name="fcos_box_transform",
    replaces=FCOS,
    methods=(),  # no method of the model's: an attribute, and only where it is upstream's
    needed_for=frozenset({SCRIPTING}),
    reason=(
        "modeling/box_regression.py: Box2BoxTransformLinear is not a TorchScript class, and its "
        "torch.stack(..., axis=1) is not TorchScript either"
    ),
    make=_with_linear_transform,
)
