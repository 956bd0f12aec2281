"""Normalisation that is made for training on many GPUs, or on many levels, cannot be scripted.

``nn.SyncBatchNorm`` (torch/nn/modules/batchnorm.py) and ``NaiveSyncBatchNorm`` (detectron2/layers/
batch_norm.py) ask about process groups, in evaluation too, where both are plain batch norm.
``CycleBatchNormList`` there, which the heads of FCOS and RetinaNet have with a batch norm, indexes
itself by a counter, which TorchScript does not take of a ModuleList.
"""

# No `from __future__ import annotations` here: TorchScript cannot read postponed annotations.

from typing import Any

from detectron2.layers.batch_norm import CycleBatchNormList, NaiveSyncBatchNorm
from torch import Tensor, nn
from torch.nn import functional

from d2serve.export.rewrites.method_overrides import override_methods
from d2serve.export.rewrites.rewrite import SCRIPTING, Rewrite

# mypy: disable-error-code="attr-defined"


class _InEvaluation:
    def forward(self, input: Tensor) -> Tensor:
        return functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class CycledNorms(nn.Module):
    """CycleBatchNormList in evaluation: each call takes the next of its norms."""

    position: int

    def __init__(self, norms: Any) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norms)
        self.affine: bool = norms._affine
        self.weight = norms.weight if self.affine else None
        self.bias = norms.bias if self.affine else None
        self.position = norms._pos

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in and out."""
        normed = x
        for index, norm in enumerate(self.norms):
            if index == self.position:
                normed = norm(x)
        self.position = (self.position + 1) % len(self.norms)
        if self.weight is not None and self.bias is not None:
            normed = normed * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)
        return normed


def _plain(name: str, replaces: type[nn.Module], file: str) -> Rewrite:
    return Rewrite(
        name=name,
        replaces=replaces,
        methods=("forward",),
        needed_for=frozenset({SCRIPTING}),
        reason=f"{file}: {replaces.__name__} asks about process groups, which TorchScript does "
        "not know; in evaluation it is plain batch norm",
        make=override_methods(_InEvaluation),
    )


SYNC_BATCH_NORM = _plain("sync_batch_norm", nn.SyncBatchNorm, "torch/nn/modules/batchnorm.py")
NAIVE_SYNC_BATCH_NORM = _plain("naive_sync_batch_norm", NaiveSyncBatchNorm, "layers/batch_norm.py")
CYCLE_BATCH_NORM = Rewrite(
    name="cycle_batch_norm",
    replaces=CycleBatchNormList,
    methods=("forward",),
    needed_for=frozenset({SCRIPTING}),
    reason="layers/batch_norm.py: CycleBatchNormList indexes itself by a counter, which "
    "TorchScript does not take of a ModuleList",
    make=CycledNorms,
)
