"""Why: what no rewrite makes exportable is known beforehand, with the line that stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detectron2.layers.nms import batched_nms_rotated
from detectron2.modeling.proposal_generator.rrpn import RRPN
from detectron2.modeling.roi_heads import RROIHeads
from torch import nn

from d2serve.export.errors import place_of
from d2serve.handlers.spec.model_spec import ONNXRUNTIME, OPENVINO


@dataclass(frozen=True)
class Limit:
    """A class of module that some ways of export cannot take."""

    modules: tuple[type[nn.Module], ...]
    ways: frozenset[str]
    """Methods of TorchScript, ``"tracing"`` and ``"scripting"``, or runtimes of ONNX."""
    stops_at: Callable[..., object]
    """The function upstream that stops it."""
    reason: str
    advice: str


LIMITS = (
    Limit(
        modules=(RRPN, RROIHeads),
        ways=frozenset({ONNXRUNTIME, OPENVINO}),
        stops_at=batched_nms_rotated,
        reason="ONNX's NonMaxSuppression knows upright boxes only, and rotated NMS in plain "
        "operators is a loop whose length depends on the boxes, which torch's ONNX exporter "
        "cannot write",
        advice="Use --format torchscript.",
    ),
)


def limit_of(model: nn.Module, way: str) -> str | None:
    """Why a model cannot be exported one way, with module, file and line, and what to do.

    Args:
        model: detectron2's.
        way: ``"tracing"`` or ``"scripting"`` of TorchScript, or the runtime of an ONNX program.
    """
    for path, module in model.named_modules():
        for limit in LIMITS:
            if way in limit.ways and isinstance(module, limit.modules):
                return (
                    f"{path} ({type(module).__name__}) cannot be exported for {way}: "
                    f"{place_of(limit.stops_at)}: {limit.reason}. {limit.advice}"
                )
    return None
