"""Batch norms of training on many GPUs, and of many levels, as plain ones in a script."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.layers.batch_norm import CycleBatchNormList, NaiveSyncBatchNorm
from detectron2.modeling import build_model
from torch import Tensor, nn

from d2serve.export.programs.scripting import script
from d2serve.export.rewrites.registry import REWRITES, exportable
from d2serve.export.rewrites.rewrite import SCRIPTING, rewritten
from tests.export.conftest import TINY


class Norms(nn.Module):
    """Several calls of one norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """The same input at each call."""
        return torch.cat([self.norm(x), self.norm(x), self.norm(x)])


def settled(norm: nn.Module) -> nn.Module:
    """In evaluation, with statistics of its own."""
    generator = torch.Generator().manual_seed(3)
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return Norms(norm).eval()


@pytest.mark.parametrize(
    "norm",
    [
        nn.SyncBatchNorm(6),
        NaiveSyncBatchNorm(6),
        NaiveSyncBatchNorm(6, stats_mode="N"),
        CycleBatchNormList(3, num_features=6),
        CycleBatchNormList(3, num_features=6, affine=False),
    ],
    ids=("sync", "naive", "naive_n", "cycle", "cycle_without_affine"),
)
def test_each_call_gives_the_same_bits(norm: nn.Module) -> None:
    model = settled(norm)
    changed, names = rewritten(model, SCRIPTING, REWRITES)
    assert len(names) == 1
    scripted = torch.jit.script(changed)
    x = torch.rand(2, 6, 5, 7)
    with torch.no_grad():
        expected = model(x)
        for _call in range(2):  # a cycle begins again
            assert torch.equal(expected, changed(x))
            assert torch.equal(expected, scripted(x))
    if isinstance(norm, CycleBatchNormList):
        assert not torch.equal(*expected.split(2)[:2])


def test_a_model_of_sync_bn_is_scripted(tmp_path: Path) -> None:
    cfg = model_zoo.get_config("Misc/mask_rcnn_R_50_FPN_3x_syncbn.yaml")
    cfg.merge_from_list(TINY)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    changed, names = exportable(model, SCRIPTING)
    assert "sync_batch_norm" in names
    program = script(changed).module
    torch.jit.save(program, tmp_path / "model.pt")
    image = torch.rand(3, 96, 128) * 255
    with torch.no_grad():
        (expected,) = model.inference([{"image": image}], do_postprocess=False)
        (got,) = torch.jit.load(tmp_path / "model.pt")([{"image": image}])  # type: ignore[no-untyped-call]
    assert len(expected) > 0
    assert torch.equal(expected.pred_boxes.tensor, got["pred_boxes"])
    assert torch.equal(expected.pred_masks, got["pred_masks"])
