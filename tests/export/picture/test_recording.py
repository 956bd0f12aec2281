"""What is seen of a model while it runs."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from d2serve.export.picture.condensing import network_of
from d2serve.export.picture.from_model import from_model
from d2serve.export.picture.network import Block, Network
from d2serve.export.picture.readers.recording import recorded, timed
from tests.export.picture.geometry import require_readable

_GIVEN = {"image": torch.rand(3, 48, 64), "height": 48, "width": 64}


class _Model(nn.Module):
    """Takes and gives what detectron2's do."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        x = inputs[0]["image"][None] / 255
        for part in self.children():
            x = part(x)
        return [{"answer": x}]


def _named(network: Network) -> dict[str, Block]:
    return {block.name: block for block in network.blocks}


def test_multiply_adds_are_fvcores() -> None:
    class Tail(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 10)
            self.attention = nn.MultiheadAttention(10, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x.flatten(2).transpose(1, 2))
            found: Tensor = self.attention(x, x, x, need_weights=True)[0]
            return found

    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, groups=4, dilation=2)
    )
    up = nn.ConvTranspose2d(8, 6, 2, 2)
    model = _Model(first=body, second=up, third=Tail()).eval()
    image = _GIVEN["image"][None] / 255  # type: ignore[index]
    blocks = _named(from_model(model, _GIVEN, "x", ""))
    for name in ("first", "second"):
        part = model.get_submodule(name)
        analysis = FlopCountAnalysis(part, image).unsupported_ops_warnings(False)
        assert blocks[name].multiply_adds == analysis.total()
        image = part(image)
    tokens = image.shape[2] * image.shape[3]
    total = sum(block.multiply_adds or 0 for block in blocks.values())
    # fvcore does not see into torch's own attention: four projections, two products of tokens.
    layer, attention = tokens * 6 * 10, tokens * 10 * 40 + 2 * tokens * tokens * 10
    assert total - (blocks["first"].multiply_adds or 0) == (
        (blocks["second"].multiply_adds or 0) + layer + attention
    )


def test_a_head_that_nothing_reaches_has_the_work_of_one() -> None:
    class Choosing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.roi_heads = nn.Module()
            self.roi_heads.mask_head = nn.Conv2d(3, 5, 3)

        def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
            image = inputs[0]["image"][None]
            chosen = image[torch.nonzero(image.sum((1, 2, 3)) < 0)[:, 0]]
            head: Any = self.roi_heads.mask_head
            return [{"masks": head(chosen)}]

    head = _named(from_model(Choosing().eval(), _GIVEN, "x", ""))["mask_head"]
    assert (head.rows, head.multiply_adds) == (0, 0)
    assert head.row_multiply_adds == 46 * 62 * 5 * 27


def test_work_of_little_weight_is_shown_with_what_it_follows() -> None:
    model = _Model(first=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4), last=nn.Conv2d(4, 2, 1))
    network = from_model(model.eval(), _GIVEN, "x", "")
    names = [block.name for block in network.blocks]
    assert names == ["input", "preprocessing", "first", "last", "output"]
    assert [block.weights for block in network.blocks] == [0, 0, 16 + 8, 10, 0]


def test_what_was_learned_and_does_not_run_is_shown_as_that() -> None:
    first = nn.Conv2d(3, 4, 1)
    first.register_module("training_only", nn.Linear(7, 3))
    model = _Model(first=first)
    model.register_parameter("beside", nn.Parameter(torch.zeros(5)))
    network = from_model(model.eval(), _GIVEN, "x", "")
    assert sum(block.weights for block in network.blocks) == 16 + 24 + 5
    class_only = _Model(first=nn.Identity())
    class_only.auxiliary = nn.Linear(7, 3)
    class_only.forward = lambda inputs: [{"answer": inputs[0]["image"] * 2}]  # type: ignore[method-assign]
    idle = [b for b in from_model(class_only.eval(), _GIVEN, "x", "").blocks if b.is_idle]
    assert [(block.name, block.weights) for block in idle] == [("auxiliary", 24)]


def test_a_long_list_of_blocks_and_many_parts_stay_readable() -> None:
    layers = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(40)))
    names = [block.name for block in from_model(_Model(blocks=layers), _GIVEN, "x", "").blocks]
    assert names[2:-1] == ["blocks 0–9", "blocks 10–19", "blocks 20–29", "blocks 30–39"]
    many = _Model(**{f"part{place}": nn.Conv2d(3, 3, 1) for place in range(60)})
    network = from_model(many, _GIVEN, "x", "")
    require_readable(network)
    assert sum(block.weights for block in network.blocks) == 60 * 12


def test_the_time_is_that_of_the_parts() -> None:
    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(200):
                x = x.exp().log()
            return x

    model = _Model(head=nn.Conv2d(3, 3, 1), slow=Slow(), tail=nn.Conv2d(3, 3, 1)).eval()
    flow = recorded(model, _GIVEN)
    flow.seconds = timed(model, _GIVEN)
    network = network_of(flow, "x", "")
    blocks = _named(network)
    assert network.is_timed
    # What has no weights is shown with the part before it.
    assert (blocks["head"].seconds or 0) > (blocks["tail"].seconds or 0) * 3
    total = sum(block.seconds or 0 for block in network.blocks)
    assert abs(total - sum(flow.seconds.values())) < total * 0.2


def test_a_write_into_a_part_of_a_tensor_is_followed() -> None:
    class Writing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            found = x.new_zeros(2, 3)
            found[0] = x.mean((0, 2, 3))
            return found

    model = _Model(body=nn.Conv2d(3, 3, 1), box_head=Writing()).eval()
    network = from_model(model, _GIVEN, "x", "")
    ways = {(network.blocks[e.source].name, network.blocks[e.target].name) for e in network.edges}
    assert ("body", "box_head") in ways
    assert ("box_head", "output") in ways
