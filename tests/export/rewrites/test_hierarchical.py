"""Swin and MViTv2 as they are and rewritten: traced, scripted and in ONNX, at every size."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import openvino as ov
import pytest
import torch
from detectron2.modeling import MViT, SwinTransformer
from torch import Tensor, nn

from d2serve.export.errors import UnsupportedFamily
from d2serve.export.programs.device_scan import check_no_device
from d2serve.export.programs.openvino import from_onnx
from d2serve.export.rewrites.backbones.mvit import MVIT, MVIT_ATTENTION, MVIT_BLOCK
from d2serve.export.rewrites.backbones.swin import (
    SWIN,
    SWIN_ATTENTION,
    SWIN_BLOCK,
    SWIN_EMBEDDING,
    SWIN_LAYER,
    SWIN_MERGING,
)
from d2serve.export.rewrites.rewrite import SCRIPTING, TRACING, Rewrite, rewritten
from tests.export.rewrites import ways

REWRITES = (
    *(SWIN, SWIN_LAYER, SWIN_BLOCK, SWIN_MERGING, SWIN_ATTENTION, SWIN_EMBEDDING),
    *(MVIT, MVIT_BLOCK, MVIT_ATTENTION),
)
SIZES = ((64, 96), (33, 61), (40, 200), (96, 64))
"""Some with whole windows and even sides at every stage, some without."""


def swin(**options: Any) -> Any:
    defaults = {
        "embed_dim": 8,
        "depths": [2, 2, 1, 2],
        "num_heads": [1, 2, 4, 4],
        "drop_path_rate": 0.0,
        "out_indices": (1, 2, 3),
    }
    return _spread(SwinTransformer(**(defaults | options)))


def mvit(**options: Any) -> Any:
    defaults = {
        "img_size": 64,
        "embed_dim": 8,
        "depth": 6,
        "last_block_indexes": (0, 1, 3, 5),
        "adaptive_window_size": 8,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
        "out_features": ("scale3", "scale4", "scale5"),
    }
    return _spread(MViT(**(defaults | options)))


def _spread(backbone: nn.Module) -> nn.Module:
    """Weights with which attention and positions matter."""
    torch.manual_seed(0)
    for parameter in backbone.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15)
    return backbone.eval()


BACKBONES: Mapping[str, Callable[[], Any]] = {
    "swin": swin,
    "swin_drop_path": partial(swin, drop_path_rate=0.2),
    "swin_absolute_positions": partial(
        swin, ape=True, pretrain_img_size=64, patch_norm=False, qkv_bias=False, out_indices=[0, 3]
    ),
    "swin_even_windows": partial(
        swin, window_size=4, use_checkpoint=True, depths=[1, 2], num_heads=[1, 2], out_indices=[1]
    ),
    "swin_odd_patches": partial(
        swin, patch_size=5, depths=[2, 2], num_heads=[2, 2], out_indices=(0, 1)
    ),
    "mvit": mvit,
    "mvit_drop_path": partial(mvit, drop_path_rate=0.2),
    "mvit_absolute_positions": partial(
        mvit, use_abs_pos=True, pretrain_img_size=64, residual_pooling=False
    ),
    "mvit_no_relative_positions": partial(
        mvit, use_rel_pos=False, out_features=("scale2", "scale5")
    ),
    # More keys than queries, and strides that divide no side.
    "mvit_dense_keys": partial(mvit, adaptive_kv_stride=1),
    "mvit_sparse_keys": partial(mvit, adaptive_kv_stride=8, adaptive_window_size=16),
}


class _InOrder(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.backbone(image)
        return tuple(found[name] for name in sorted(found))


def images() -> list[Tensor]:
    return [image[None] / 255 for image in ways.images(*SIZES)]


def traced(backbone: nn.Module) -> Any:
    changed, _names = rewritten(backbone, TRACING, REWRITES)
    with torch.no_grad():
        return torch.jit.trace(_InOrder(changed), (images()[0],), check_trace=False)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", BACKBONES)
def test_traced_at_other_sizes(name: str) -> None:
    backbone = BACKBONES[name]()
    program = traced(backbone)
    check_no_device(program)
    with torch.no_grad():
        for image in images():
            for mine, theirs in zip(program(image), _InOrder(backbone)(image), strict=True):
                assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", BACKBONES)
def test_scripted_for_batches_of_every_size(name: str) -> None:
    backbone = BACKBONES[name]()
    program = torch.jit.script(rewritten(backbone, SCRIPTING, REWRITES)[0])
    with torch.no_grad():
        for image in images():
            batch = torch.cat([image, image.flip(3)])
            expected = backbone(batch)
            found = program(batch)
            assert list(found) == list(expected)
            assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.export
@pytest.mark.parametrize("name", ["swin", "swin_odd_patches", "mvit", "mvit_sparse_keys"])
def test_any_size_in_onnx(name: str, tmp_path: Path) -> None:
    backbone = BACKBONES[name]()
    file = tmp_path / "backbone.onnx"
    names = sorted(backbone._out_features)
    changed, _names = rewritten(backbone, TRACING, REWRITES)
    torch.onnx.export(
        _InOrder(changed),
        (images()[0],),
        str(file),
        opset_version=ways.OPSET,
        dynamo=False,
        input_names=["image"],
        output_names=names,
        dynamic_axes={each: {2: "height", 3: "width"} for each in ("image", *names)},
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    compiled = ov.compile_model(from_onnx(file), "CPU", ways.OPENVINO)
    for image in images():
        with torch.no_grad():
            expected = backbone(image)
        arrays = {"image": image.numpy()}
        answers = compiled(arrays)
        for each, mine in zip(names, session.run(names, arrays), strict=True):
            theirs = expected[each].numpy()
            assert np.abs(mine - theirs).max() < 1e-4, (each, image.shape)
            assert np.abs(answers[each] - theirs).max() < 1e-4, (each, image.shape)


@pytest.mark.parametrize("rewrite", REWRITES, ids=lambda rewrite: rewrite.name)
def test_a_subclass_that_overrides_is_refused(rewrite: Rewrite) -> None:
    backbone = swin() if rewrite.name.startswith("swin") else mvit()
    for module in backbone.modules():
        if isinstance(module, rewrite.replaces):
            module.__class__ = type("Mine", (rewrite.replaces,), {"forward": lambda _, x: x})
            break
    with pytest.raises(UnsupportedFamily, match=r"Mine\.forward .*overrides"):
        rewritten(backbone, SCRIPTING, REWRITES)


@pytest.mark.parametrize("name", ["swin", "mvit"])
def test_the_users_model_is_left_as_it_is(name: str) -> None:
    backbone = BACKBONES[name]()
    before = list(backbone.state_dict())
    kinds = [type(module) for module in backbone.modules()]
    changed, _names = rewritten(backbone, SCRIPTING, REWRITES)
    assert list(backbone.state_dict()) == before
    assert [type(module) for module in backbone.modules()] == kinds
    theirs = {tensor.data_ptr() for tensor in backbone.state_dict().values()}
    assert {tensor.data_ptr() for tensor in changed.state_dict().values()} == theirs


@dataclass
class _Checkpointing:
    """Stands in for fairscale: what its wrapper leaves on a module."""

    calls: int = 0

    def wrap(self, module: nn.Module) -> nn.Module:
        def checkpointed(forward: Callable[..., Any], me: Any, *arguments: Any) -> Any:
            self.calls += 1
            return forward(me(), *arguments)

        checkpointed.__module__ = "fairscale.nn.checkpoint.checkpoint_activations"
        module.forward = partial(checkpointed, type(module).forward, weakref.ref(module))
        return module


def test_checkpointed_blocks_are_rewritten_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = _Checkpointing()
    fairscale = SimpleNamespace(checkpoint_wrapper=stand_in.wrap)
    monkeypatch.setitem(sys.modules, "fairscale", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "fairscale.nn", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "fairscale.nn.checkpoint", fairscale)
    backbone = mvit(use_act_checkpoint=True)
    program = traced(backbone)
    assert stand_in.calls == 0
    image = images()[-1]
    with torch.no_grad():
        expected = _InOrder(backbone)(image)
        assert stand_in.calls == len(backbone.blocks)
        assert all(map(torch.equal, program(image), expected))
    torch.jit.script(rewritten(backbone, SCRIPTING, REWRITES)[0])


def test_a_forward_of_one_module_alone_is_refused() -> None:
    backbone = swin()
    block = backbone.layers[0].blocks[0]
    block.forward = lambda x, _mask: x
    with pytest.raises(UnsupportedFamily, match=r"SwinTransformerBlock\.forward .*test_hier.*over"):
        rewritten(backbone, TRACING, REWRITES)
