"""Chooses the best boxes of all levels in tensors, for detectors that stand on CenterNet2's code.

``nms_and_topK`` asks in Python how many boxes are left, and takes the score of the last one that is
wanted as a number: a trace would hold those of one image.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import TRACING, Rewrite

_METHOD, _MOST = "nms_and_topK", "post_nms_topk_test"
# More than any image has.
_ALL = 1 << 30


class _BestBoxes:
    def nms_and_topK(self, boxlists: Any, nms: bool = True) -> list[Instances]:  # noqa: N802
        this: Any = self
        most = getattr(this, _MOST)
        setattr(this, _MOST, _ALL)
        try:
            results = super().nms_and_topK(boxlists, nms)  # type: ignore[misc]
        finally:
            setattr(this, _MOST, most)
        return [each[_among_the_best(each.scores, most)] for each in results]


def _among_the_best(scores: Tensor, most: int) -> Tensor:
    """(N,) whether a score is among the highest, or equal to the last of them."""
    lowest = scores.new_zeros(1) - 1  # below any: they are roots of probabilities
    ordered = torch.cat([scores, lowest]).sort(descending=True).values
    return scores >= ordered[:most][-1]


def _applies(module: nn.Module) -> bool:
    method = getattr(type(module), _METHOD, None)
    if method is None or not isinstance(getattr(module, _MOST, None), int):
        return False
    return list(inspect.signature(method).parameters)[1:] == ["boxlists", "nms"]


BEST_BOXES = Rewrite(
    name="best_boxes",
    replaces=nn.Module,
    methods=(),
    needed_for=frozenset({TRACING}),
    reason="the model's nms_and_topK: it takes the number of boxes and the score of the last one "
    "that is wanted as Python numbers, of which a trace holds one image's",
    make=override_methods(_BestBoxes),
    applies=_applies,
)
