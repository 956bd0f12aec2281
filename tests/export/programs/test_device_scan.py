"""A device baked into a program is found; a tensor that is moved at once is not one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.layers import move_device_like
from torch import nn

from d2serve.export.errors import ProgramError
from d2serve.export.programs.device_scan import check_no_device, follow_the_image


class Baked(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros(3, device=torch.device("cpu"))


class Moved(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = move_device_like(torch.arange(x.shape[0]), x)
        return x + moved


class Indexed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, [0, 2]]


class BakedInABranch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 2:
            x = x.to(torch.device("cpu"))
        return x


def test_a_traced_device_is_refused_with_its_place() -> None:
    traced = torch.jit.trace(Baked(), (torch.ones(3),))  # type: ignore[no-untyped-call]
    with pytest.raises(ProgramError, match=r"cpu in aten::zeros .*test_device_scan\.py"):
        check_no_device(traced)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Baked()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = self.inner(x.to(torch.device("cpu")))
        return moved


def test_a_traced_device_becomes_the_images(tmp_path: Path) -> None:
    """Also in a module inside; a device without memory stands for one that is not here."""
    traced = torch.jit.trace(Outer(), (torch.ones(3),))  # type: ignore[no-untyped-call]
    follow_the_image(traced)
    check_no_device(traced)
    torch.jit.save(traced, tmp_path / "program.pt")
    loaded = torch.jit.load(tmp_path / "program.pt")  # type: ignore[no-untyped-call]
    assert torch.equal(loaded(torch.ones(3)), torch.ones(3))
    assert loaded(torch.ones(3, device="meta")).device.type == "meta"


def test_a_scripted_device_in_a_branch_is_refused() -> None:
    with pytest.raises(ProgramError, match=r"cpu in aten::to"):
        check_no_device(torch.jit.script(BakedInABranch()))


def test_a_tensor_moved_to_an_inputs_device_is_no_device() -> None:
    traced = torch.jit.trace(Moved(), (torch.ones(3),))  # type: ignore[no-untyped-call]
    assert "Device" in str(traced.inlined_graph)  # the constant is there, and harmless
    check_no_device(traced)


def test_an_index_on_the_cpu_is_no_device() -> None:
    traced = torch.jit.trace(Indexed(), (torch.ones(2, 3),))  # type: ignore[no-untyped-call]
    assert "Device" in str(traced.inlined_graph)
    check_no_device(traced)
