"""Each of torch's layers is written as operators of Caffe2 that compute the same, or is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.caffe2.conversion import converted
from d2serve.export.programs.caffe2.graphs import traced_graph
from d2serve.handlers.netdef.messages import NetDef
from d2serve.handlers.netdef.network import Network

IMAGE = (2, 6, 13, 10)


class Traced(nn.Module):
    """As a form of a model has it: the model is a module of what is traced."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.model(x),)


class Calling(nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def written(model: nn.Module, image: Tensor) -> tuple[NetDef, NetDef]:
    """The two networks of a model."""
    graph = traced_graph(Traced(model).eval(), (image,))
    net = converted(graph, model)
    return net.written({graph.inputs[0]: "x"}, [(graph.outputs[0], "y")], {})


def answer(model: nn.Module, image: Tensor) -> Tensor:
    """What Caffe2's operators make of an image."""
    return Network(*written(model, torch.zeros_like(image)[:1])).run([image])["y"]


def norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm as after a training."""
    made = nn.BatchNorm2d(channels)
    for each in (made.weight, made.bias, made.running_mean, made.running_var):
        assert each is not None
        nn.init.uniform_(each, 0.5, 2.0)
    return made.eval()


class Shared(nn.Module):
    """One convolution before a norm and before another, as heads of RetinaNet have it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norms = nn.Conv2d(6, 6, 1), nn.ModuleList([norm(6), norm(6)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 12, H, W)."""
        return torch.cat([each(self.conv(x)) for each in self.norms], dim=1)


class TakenTwice(nn.Module):
    """A convolution of which not only its norm is made."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), norm(6)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6, H, W)."""
        found = self.conv(x)
        both: Tensor = self.norm(found) + found
        return both


def enlarged(scale: float, mode: str) -> nn.Module:
    aligned = None if mode == "nearest" else False
    return nn.Upsample(scale_factor=scale, mode=mode, align_corners=aligned)


LAYERS: dict[str, nn.Module] = {
    "convolution": nn.Conv2d(6, 4, 3, stride=2, padding=1),
    "dilated, in groups, uneven": nn.Conv2d(
        6, 4, (3, 1), padding=(2, 0), dilation=2, groups=2, bias=False
    ),
    "transposed": nn.ConvTranspose2d(6, 4, 2, stride=2),
    "transposed without a bias": nn.ConvTranspose2d(6, 4, 3, padding=1, bias=False),
    "convolution with a norm": nn.Sequential(nn.Conv2d(6, 4, 3, bias=False), norm(4)),
    "biased convolution with a norm": nn.Sequential(nn.Conv2d(6, 4, 3), norm(4), nn.ReLU()),
    "norm alone": nn.Sequential(norm(6), nn.ReLU(inplace=True)),
    "convolution with two norms": Shared(),
    "convolution that is taken twice": TakenTwice(),
    "group norm": nn.GroupNorm(3, 6),
    "max pool": nn.MaxPool2d(3, stride=2, padding=1),
    "max pool without a stride": nn.MaxPool2d(2),
    "average pool": nn.AvgPool2d(2, stride=2),
    "adaptive pool": nn.AdaptiveAvgPool2d(1),
    "rows": nn.Sequential(nn.Flatten(), nn.Linear(780, 5), nn.Softmax(dim=1)),
    "rows without a bias": nn.Sequential(nn.Flatten(), nn.Linear(780, 5, bias=False)),
    "mean": Calling(lambda x: x.mean(dim=[2, 3]).sigmoid()),
    "arithmetic": Calling(lambda x: (x - 3) / 2 + x * 0.5),
    "nearest 2": enlarged(2, "nearest"),
    "nearest 3": enlarged(3, "nearest"),
    "bilinear 2": enlarged(2, "bilinear"),
    "bilinear 3": enlarged(3, "bilinear"),
    "bilinear 4": enlarged(4, "bilinear"),
    "dropout": nn.Sequential(nn.Dropout(), nn.ReLU()),
}


@pytest.mark.parametrize("name", LAYERS)
def test_it_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    model, image = LAYERS[name].eval(), torch.randn(IMAGE)
    with torch.no_grad():
        expected = model(image.clone())
    torch.testing.assert_close(answer(model, image), expected, atol=2e-5, rtol=0)


def test_a_weight_is_written_once() -> None:
    _, init = written(nn.Sequential(LAYERS["rows"], nn.ReLU()), torch.zeros(IMAGE))
    assert init.external_output == ("0.1.weight", "0.1.bias")


def test_no_rows_are_no_rows() -> None:
    """As where a head has no instances."""
    model = nn.Sequential(nn.Conv2d(6, 4, 3), norm(4), nn.ConvTranspose2d(4, 3, 2, stride=2))
    networks = written(model.eval(), torch.zeros(IMAGE))
    assert Network(*networks).run([torch.zeros(0, *IMAGE[1:])])["y"].shape == (0, 3, 22, 16)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "ceil_mode": (nn.MaxPool2d(2, ceil_mode=True), r"calls aten::max_pool2d with ceil_mode"),
    "pooled dilation": (nn.MaxPool2d(2, dilation=2), r"with a dilation"),
    "padded average": (nn.AvgPool2d(3, padding=1), r"with count_include_pad"),
    "output_padding": (nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1), "output_padding"),
    "transposed groups": (nn.ConvTranspose2d(6, 4, 2, groups=2), r"with groups, transposed"),
    "pixels of a size": (nn.AdaptiveAvgPool2d(3), r"with an output_size other than 1"),
    "a size": (nn.Upsample(size=(20, 20)), r"with a fixed size"),
    "aligned": (
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        r"with align_corners",
    ),
    "a scale": (enlarged(1.5, "bilinear"), r"with scales that are not whole"),
    "channels": (nn.Softmax(dim=1), r"calls aten::softmax with a dim other than the last"),
    "no statistics": (nn.BatchNorm2d(6, track_running_stats=False), r"aten::batch_norm with"),
    "an activation": (nn.Hardswish(), r"calls aten::hardswish"),
    "a shape": (Calling(lambda x: x.permute(0, 2, 3, 1)), r"calls aten::permute"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_caffe2_lacks_is_named_with_its_module(name: str) -> None:
    layer, reason = REFUSED[name]
    model = nn.Sequential(nn.Identity(), layer).eval()
    place = rf"^1 \({type(layer).__name__}\) cannot be exported for Caffe2: it "
    with pytest.raises(UnsupportedFamily, match=place) as caught:
        written(model, torch.zeros(IMAGE))
    assert re.search(reason, str(caught.value))
    assert "for which Caffe2 has no operator. Use --format" in str(caught.value)


def _overwriting(x: Tensor) -> Tensor:
    made = x * 1.0
    made[:, 0] = 5.0
    return functional.relu(made)


def test_what_is_written_in_place_is_not_lost() -> None:
    """A trace records a change of a part as nothing that the whole depends on."""
    with pytest.raises(UnsupportedFamily, match=r"it calls aten::(copy_|fill_|slice)"):
        written(Calling(_overwriting), torch.zeros(IMAGE))


def test_what_is_computed_of_the_size_is_no_constant() -> None:
    found: Any = Calling(lambda x: x / x.shape[2])
    with pytest.raises(UnsupportedFamily, match=r"it calls aten::"):
        written(found, torch.zeros(IMAGE))
