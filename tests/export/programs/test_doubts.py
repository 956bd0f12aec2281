"""Every way from a tensor to a Python value is a doubt, named with the line that takes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from d2serve.export.programs.doubting.doubts import Doubt, watching
from d2serve.export.programs.tracing import TRACED, trace

LIMIT = 7


class Asked(nn.Module):
    """Runs a function on the image and answers it."""

    def __init__(self, asks: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 1, 1))
        self.asks = asks
        self.limit = 40

    def forward(self, inputs: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        image = inputs[0]["image"] * self.weight
        self.asks(image)
        return [{"out": image}]


def doubts_of(asks: Callable[[Tensor], object]) -> tuple[Doubt, ...]:
    return trace(Asked(asks), ("out",), (torch.rand(3, 20, 30),)).doubts


def instances(image: Tensor) -> Instances:
    boxes = image[:, 0, :4]
    return Instances((20, 30), pred_boxes=Boxes(boxes), scores=boxes[:, 0])


WAYS: dict[str, Callable[[Tensor], Any]] = {
    "if": lambda x: 1 if x.shape[-1] > 2000 else 2,
    "not": lambda x: not x.numel(),
    "int": lambda x: int(x.shape[-1]),
    "float": lambda x: float(x.mean()),
    "complex": lambda x: complex(x.mean()),
    "item": lambda x: x.max().item(),
    "tolist": lambda x: x[0, 0].tolist(),
    "numpy": lambda x: x.detach().cpu().numpy(),
    "asarray": lambda x: np.asarray(x.detach()),
    "numpy's own functions": lambda x: np.prod(x.shape),
    "math": lambda x: math.ceil(x.shape[-1] / 7),
    "range": lambda x: list(range(x.shape[0])),
    "index": lambda x: [1, 2, 3, 4][x.shape[0]],
    "len of a tensor": lambda x: [0] * len(x),
    "len of Boxes": lambda x: 1 if len(instances(x).pred_boxes) > 40 else 2,
    "len of Instances": lambda x: 1 if len(instances(x)) > 40 else 2,
    "equal": lambda x: torch.equal(x, x + 0),
    "allclose": lambda x: x.allclose(x + 0),
    "is_nonzero": lambda x: x.sum().is_nonzero(),
    "in": lambda x: 3 in x,
    "round": lambda x: round(float(x.max())),
    "sorted": lambda x: sorted(x.shape),
    "min": lambda x: min(x.shape[-1], 100),
    "a tensor of a size": lambda x: torch.tensor([1, x.shape[0]]),
    "a tensor like another": lambda x: x.new_tensor([1, x.shape[0]]),
    "a comparison of shapes": lambda x: x.shape[-2:] == (20, 30),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_becomes_a_constant_is_named_with_its_line(way: str) -> None:
    asks = WAYS[way]
    doubts = doubts_of(asks)
    places = {doubt.place for doubt in doubts}
    assert places == {f"{Path(__file__)}:{asks.__code__.co_firstlineno}"}


HARMLESS: dict[str, Callable[[Tensor], Any]] = {
    "a tensor of numbers": lambda _x: torch.tensor([1.0, 2.0]),
    "a tensor like another, of numbers": lambda x: x.new_tensor([1.0]),
    "a length that stays a tensor": lambda x: len(x) * 2,
    "a size that stays a tensor": lambda x: x.view(3, x.shape[1] * x.shape[2]),
    "written down": lambda x: f"{x.shape[0]}",
    "an unpacked shape": lambda x: list(x.shape),
    "what the model fixes": lambda _x: int(torch.arange(3).sum()),
}


@pytest.mark.parametrize("way", HARMLESS)
def test_what_is_the_same_for_every_image_is_no_doubt(way: str) -> None:
    assert doubts_of(HARMLESS[way]) == ()


def test_a_weights_value_is_no_doubt() -> None:
    asked = Asked(len)
    asked.asks = lambda _x: float(asked.weight.sum()) * int(asked.weight.shape[0])
    assert trace(asked, ("out",), (torch.rand(3, 20, 30),)).doubts == ()


def test_an_assertion_is_no_doubt() -> None:
    def asks(image: Tensor) -> None:
        assert image.shape[0] == 3, "three channels"
        if image.shape[1] % 2:
            raise ValueError("even heights only")

    assert doubts_of(asks) == ()


def test_the_numbers_that_are_compared_are_read() -> None:
    model = Asked(len)
    model.limit = 80

    def asks(image: Tensor) -> None:
        count = len(image)
        if count > 40 or image.shape[-1] > 32 * 32 or model.limit > count or count > LIMIT:
            pass

    assert {7, 40, 80, 1024} <= set(doubts_of(asks)[0].thresholds)


def test_a_swallowed_warning_is_a_doubt_all_the_same() -> None:
    import warnings

    def asks(image: Tensor) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            int(image.shape[-1])

    assert len(doubts_of(asks)) == 1


def test_nothing_is_watched_afterwards() -> None:
    before = {name: getattr(Tensor, name) for name in ("__bool__", "item")}
    with watching(TRACED):
        assert Tensor.item is not before["item"]
    assert {name: getattr(Tensor, name) for name in before} == before
    assert "item" not in vars(Tensor)
