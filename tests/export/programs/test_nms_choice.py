"""A traced program suppresses boxes as eager torchvision does, however many there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectron2.layers import batched_nms as detectron2s
from torch import Tensor, nn
from torchvision.ops import batched_nms as torchvisions

from d2serve.export.programs.nms_choice import noticing_class_by_class
from d2serve.export.programs.tracing import trace


class Suppressing(nn.Module):
    """Suppresses the boxes that it is given as (3, 2, N): corners, then score and class."""

    def __init__(self, suppress: Callable[..., Tensor]) -> None:
        super().__init__()
        self.suppress = suppress

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        corners, sizes, rest = inputs[0]["image"].unbind(0)
        boxes = torch.cat([corners, corners + sizes]).T
        return [{"kept": self.suppress(boxes, rest[0], rest[1].long(), 0.5)}]


def crowd(count: int, seed: int = 0) -> Tensor:
    """Boxes on a grid of thirds: many overlap by one half to a digit, which is the threshold."""
    random = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 60, (2, count), generator=random) * 10 / 3
    sizes = torch.full((2, count), 10.0)
    scores = torch.rand(1, count, generator=random)
    classes = torch.randint(0, 5, (1, count), generator=random).float()
    return torch.stack([corners, sizes, torch.cat([scores, classes])])


@pytest.mark.parametrize("suppress", [detectron2s, torchvisions])
@pytest.mark.parametrize("traced_with", [50, 4000])
def test_the_choice_is_eager_torchvisions(
    suppress: Callable[..., Tensor], traced_with: int
) -> None:
    model = Suppressing(suppress)
    made = trace(model, ("kept",), (crowd(traced_with),))
    assert made.doubts == ()
    for count in (0, 1, 999, 1000, 1001, 6000):
        image = crowd(count, seed=count)
        with noticing_class_by_class() as counts:
            expected = model([{"image": image}])[0]["kept"]
        assert counts == ([count] if count > 1000 else [])
        assert torch.equal(made.module(image)[0], expected)


def test_the_two_ways_differ_where_boxes_are_many() -> None:
    """Otherwise the test above would show nothing."""
    from torchvision.ops.boxes import _batched_nms_coordinate_trick

    boxes, scores, classes = _parts(crowd(6000))
    eager = torchvisions(boxes, scores, classes, 0.5)
    other = _batched_nms_coordinate_trick(boxes, scores, classes, 0.5)
    assert eager.shape != other.shape or not torch.equal(eager, other)


def _parts(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    corners, sizes, rest = image.unbind(0)
    return torch.cat([corners, corners + sizes]).T, rest[0], rest[1].long()
