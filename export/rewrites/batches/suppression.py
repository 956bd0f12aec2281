"""Non-maximum suppression of a batch: image by image, whatever number of boxes each has.

ONNX's NonMaxSuppression has an axis for images. Boxes of several classes are moved apart within
their image, as ``torchvision.ops.batched_nms`` moves them: by image and class they would lie so far
out that float32 has steps of 0.06 pixels there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

_LOWEST = float(torch.finfo(torch.float32).min)
NOWHERE = -float("inf")
"""The score of what is no box."""
ALL = 2**31 - 1
"""More boxes than any image has."""


def suppressed(
    boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, most: int
) -> tuple[Tensor, Tensor]:
    """What ``batched_nms(boxes, scores, groups, threshold)[:most]`` gives for each image.

    Args:
        boxes: (images, N, 4).
        scores: (images, N); NOWHERE where there is no box.
        groups: (images, N), or (1, N): only boxes of one group suppress each other.
        threshold: the IoU above which a box is suppressed.
        most: of an image.

    Returns:
        The image of each box that is left, and its place in 0 to N - 1; an image's by falling
        score.
    """
    there = scores > _LOWEST
    farthest = boxes.masked_fill(~there[:, :, None], _LOWEST).amax(dim=(1, 2), keepdim=False)
    # In float32, as torchvision computes it.
    offsets = groups.to(boxes) * (farthest + 1)[:, None]
    moved = boxes + offsets[:, :, None]
    # So that a runtime knows the last side before it runs, which OpenVINO wants.
    moved = moved.reshape(moved.shape[0], -1, 4)
    left: Tensor = _Suppression.apply(moved, scores, threshold, most)
    return left[:, 0], left[:, 2]


class _Suppression(torch.autograd.Function):
    """(boxes left, 3): image, 0 and place, as the ONNX operator has it."""

    @staticmethod
    def forward(
        _context: Any, boxes: Tensor, scores: Tensor, threshold: float, most: int
    ) -> Tensor:
        rows = [torch.zeros((0, 3), dtype=torch.int64)]
        for image, (own, score) in enumerate(zip(boxes, scores)):
            there = (score > _LOWEST).nonzero()[:, 0]
            places = there[nms(own[there], score[there], threshold)[:most]]
            fixed = torch.tensor([[image, 0]]).expand(len(places), 2)
            rows.append(torch.cat([fixed, places[:, None]], dim=1))
        return torch.cat(rows)

    @staticmethod
    def symbolic(graph: Any, boxes: Any, scores: Any, threshold: float, most: int) -> Any:
        def number(value: float, kind: torch.dtype) -> Any:
            return graph.op("Constant", value_t=torch.tensor([value], dtype=kind))

        made = graph.op(
            "NonMaxSuppression",
            boxes,
            graph.op("Unsqueeze", scores, number(1, torch.int64)),
            number(most, torch.int64),
            number(threshold, torch.float32),
            number(_LOWEST, torch.float32),
        )
        return made.setType(torch._C.TensorType.get().with_dtype(torch.int64).with_sizes([None, 3]))


class Rows:
    """Rows that belong to images, each in its place in a table of one line for an image."""

    def __init__(self, images: Tensor, count: Any) -> None:
        """
        Args:
            images: (T,) the image of each row, in any order.
            count: how many images there are, as a traced size.
        """
        own = images[:, None] == torch.arange(count).to(images)[None]
        own = own.to(torch.int64)
        self._line = images
        self._place = (own.cumsum(0) * own).sum(1) - 1
        # Even of images without a row, so that no table is empty.
        self.width: Any = torch.cat([own.sum(0), own.new_ones(1)]).max()
        self._count = count

    def table(self, values: Tensor, empty: float) -> Tensor:
        """(images, width, ...) values (T, ...) in their places, and ``empty`` elsewhere."""
        made = values.new_full((self._count, self.width, *values.shape[1:]), empty)
        return made.index_put((self._line, self._place), values)


def best_of_images(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    images: Tensor,
    count: Any,
    threshold: float,
    most: int,
) -> Tensor:
    """Which rows are left of boxes of a batch, class by class.

    Args:
        boxes, scores, classes, images: (T, 4) and (T,) each, in any order.
        count: how many images there are.
        threshold, most: see ``suppressed``; a negative number is all.

    Returns:
        Indices of rows: image after image, of each by falling score.
    """
    rows = Rows(images, count)
    line, place = suppressed(
        rows.table(boxes, 0.0),
        rows.table(scores, NOWHERE),
        rows.table(classes, 0),
        threshold,
        ALL if most < 0 else most,
    )
    index = rows.table(torch.arange(scores.shape[0]).to(images), 0)
    return index[line, place]
