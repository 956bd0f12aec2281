"""Swin in somebody's own file: taken for detectron2's while not a word of it differs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling.backbone import swin as upstream
from torch import Tensor, nn

from d2serve.export.programs.device_scan import check_no_device
from d2serve.export.rewrites.registry import REWRITES
from d2serve.export.rewrites.rewrite import TRACING, rewritten

COPIED = ("swin_layer_copy", "swin_embedding_copy")
Load = Callable[..., Any]


class _InOrder(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.backbone(image)
        return tuple(found[name] for name in sorted(found))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    def module_of(*changes: tuple[str, str]) -> Any:
        """detectron2's file as a project's own, with other words in places."""
        text = Path(upstream.__file__).read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "their_swin.py"
        file.write_text(text)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, file.stem, module)
        spec.loader.exec_module(module)
        return module

    return module_of


def backbone_of(module: Any) -> Any:
    torch.manual_seed(0)
    backbone = module.SwinTransformer(
        embed_dim=8, depths=[2, 2, 1], num_heads=[1, 2, 4], drop_path_rate=0.0, out_indices=(0, 2)
    )
    for parameter in backbone.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15)
    return backbone.eval()


def test_a_copy_with_other_names_is_traced_for_every_size(load: Load) -> None:
    theirs = load(
        ('"p{}".format(i)', '"stage{}".format(i)'),
        ("        # partition windows\n", '        # windows\n        "of the map"\n'),
    )
    backbone = backbone_of(theirs)
    changed, names = rewritten(backbone, TRACING, REWRITES)
    assert set(names) == set(COPIED)
    with torch.no_grad():
        program: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
            _InOrder(changed), (torch.rand(1, 3, 64, 96),), check_trace=False
        )
        check_no_device(program)
        for size in ((64, 96), (33, 61), (40, 200)):
            image = torch.rand(1, 3, *size)
            for mine, original in zip(program(image), _InOrder(backbone)(image), strict=True):
                assert torch.equal(mine, original)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("float(-100.0)", "float(-50.0)", id="the_layer"),
        pytest.param("attn = self.attn_drop(attn)", "attn = attn * 0.5", id="its_attention"),
        pytest.param(
            "x = torch.cat([x0, x1, x2, x3], -1)", "x = x0.repeat(1, 1, 1, 4)", id="merging"
        ),
        pytest.param("permute(0, 1, 3, 2, 4, 5)", "permute(0, 3, 1, 2, 4, 5)", id="a_function"),
    ],
)
def test_a_copy_in_which_a_word_differs_is_left_as_it_is(load: Load, old: str, new: str) -> None:
    theirs = load((old, new))
    changed: Any = rewritten(backbone_of(theirs), TRACING, REWRITES)[0]
    assert type(changed.layers[0]) is theirs.BasicLayer


def test_a_block_with_a_forward_of_its_own_is_left_as_it_is(load: Load) -> None:
    backbone = backbone_of(load())
    backbone.layers[0].blocks[0].forward = lambda x, _mask: x
    changed: Any = rewritten(backbone, TRACING, REWRITES)[0]
    kinds = [type(layer).__name__ for layer in changed.layers]
    assert kinds == ["BasicLayer", "ExportedBasicLayer", "ExportedBasicLayer"]
