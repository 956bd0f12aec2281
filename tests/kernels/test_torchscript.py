"""TorchScript programs answer alike with torch's convolutions and with Winograd's."""

from __future__ import annotations

import copy
import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from d2serve.kernels.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no native kernels are installed")


class Layers(nn.Module):
    """Five convolutions that fit, two of them within a branch, and three that do not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.block = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.other = copy.deepcopy(self.block)
        self.shared = nn.Conv2d(16, 20, 3, padding=1)
        self.grouped = nn.Conv2d(20, 20, 3, padding=1, groups=2)
        self.wide = nn.Conv2d(20, 8, 3, padding=2, dilation=2)
        nn.init.normal_(next(self.other.parameters()), std=0.1)

    def forward(self, images: torch.Tensor, twice: torch.Tensor) -> torch.Tensor:
        x = self.other(self.block(self.stem(images)))
        y = self.shared(x)
        if bool(twice > 0):
            y = y + self.shared(torch.relu(x))
        answer: torch.Tensor = self.wide(self.grouped(y))
        return answer


def saved(folder: Path, method: str) -> Path:
    model = Layers().eval()
    given = torch.zeros(1, 3, 16, 16), torch.tensor(1)
    with torch.no_grad():
        if method == "scripting":
            program = torch.jit.script(model)
        else:
            program = torch.jit.trace(model, given)  # type: ignore[no-untyped-call]
    torch.jit.save(program, folder / "model.pt")
    return folder / "model.pt"


def loaded(file: Path) -> torch.jit.ScriptModule:
    return torch.jit.load(str(file))  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("method", ["tracing", "scripting"])
def test_the_answers_stay(tmp_path: Path, method: str) -> None:
    from d2serve.kernels.torchscript import replace_convolutions

    file = saved(tmp_path, method)
    own, plain = loaded(file), loaded(file)
    replaced = replace_convolutions(own, tmp_path)
    assert len(replaced.convolutions) == 3
    assert str(replaced) == "Winograd's algorithm in its 3 3x3 convolutions"
    assert str(own.inlined_graph).count("d2serve::convolution") == 4
    assert str(own.inlined_graph).count("aten::") >= 3
    with torch.inference_mode():
        for shape in [(1, 3, 40, 52), (2, 3, 9, 30), (0, 3, 16, 16)]:
            images = torch.randn(shape)
            expected = plain(images, torch.tensor(1))
            found = own(images, torch.tensor(1))
            assert found.shape == expected.shape
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_without_ours_it_is_torchs_own(tmp_path: Path) -> None:
    """A program that outlives what ``replace_convolutions`` gave still answers."""
    from d2serve.kernels.torchscript import replace_convolutions

    file = saved(tmp_path, "scripting")
    own, plain = loaded(file), loaded(file)
    replaced = replace_convolutions(own, None)
    del replaced
    gc.collect()
    images = torch.randn(1, 3, 20, 20)
    with torch.inference_mode():
        assert torch.equal(own(images, torch.tensor(0)), plain(images, torch.tensor(0)))
