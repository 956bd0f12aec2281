"""Lets eager models be built and run where detectron2 has not the operators for them.

Where its compiled operators are missing (the redistribution on PyPI), deformable convolutions
cannot be built and rotated boxes cannot be run. On a CPU no detectron2 runs modulated deformable
convolution, nor any with several groups of offsets. An export still needs an eager model to be
compared with. The operator is then torchvision's, or one in plain tensors, and the record says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from detectron2.layers import deform_conv
from detectron2.modeling.proposal_generator.rrpn import RRPN
from detectron2.modeling.roi_heads import RROIHeads
from torch import nn

from d2serve.export.rewrites.deform_conv.stand_ins import standing_in
from d2serve.export.rewrites.deform_conv.torchvision_form import (
    DEFORM_CONV,
    MODULATED_DEFORM_CONV,
    TorchvisionDeformConv,
)
from d2serve.export.rewrites.rewrite import TRACING, applicable, rewritten
from d2serve.export.rewrites.rotated.stand_ins import (
    has_compiled_operators,
    plain_rotated_operators,
)

_GROUPED_DEFORM_CONV = replace(
    DEFORM_CONV, applies=lambda module: bool(module.deformable_groups != 1)
)


class _PlainOperators:
    """Operators are registered for a process, not for a model: they stay as long as it does."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.are_in_use = False

    def use_where_missing(self) -> None:
        if not has_compiled_operators():
            self._stack.enter_context(plain_rotated_operators())
            self.are_in_use = True


_plain_operators = _PlainOperators()


@contextmanager
def buildable() -> Iterator[None]:
    """Let detectron2 build what needs compiled operators that are not there."""
    with standing_in():
        yield


def runnable(model: nn.Module, device: str) -> tuple[nn.Module, tuple[str, ...]]:
    """An eager model that runs on a device, and what in it is not detectron2's own operator.

    Args:
        model: detectron2's, with its weights.
        device: ``"cpu"`` or ``"cuda..."``.
    """
    notes: list[str] = []
    if any(isinstance(module, TorchvisionDeformConv) for module in model.modules()):
        notes.append("deformable convolution by torchvision, as this detectron2 is not compiled")
    if device == "cpu":
        for kind, stand_in, what in (
            (deform_conv.ModulatedDeformConv, MODULATED_DEFORM_CONV, "modulated"),
            (deform_conv.DeformConv, _GROUPED_DEFORM_CONV, "grouped"),
        ):
            if _has(model, kind) and applicable(model, TRACING, (stand_in,)):
                model, _names = rewritten(model, TRACING, (stand_in,))
                notes.append(
                    f"{what} deformable convolution by torchvision, as detectron2 has none for CPUs"
                )
    if _has(model, RRPN) or _has(model, RROIHeads):
        _plain_operators.use_where_missing()
        if _plain_operators.are_in_use:
            notes.append("rotated operators in plain tensors, as this detectron2 is not compiled")
    return model, tuple(notes)


def _has(model: nn.Module, kind: object) -> bool:
    # Without compiled operators detectron2 hides a class behind something that is none.
    return isinstance(kind, type) and any(isinstance(module, kind) for module in model.modules())
