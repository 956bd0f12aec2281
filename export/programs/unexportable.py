"""What no rewrite makes exportable, and the line upstream that stops it: known before any work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detectron2.layers import ASPP
from detectron2.layers.nms import batched_nms_rotated
from detectron2.modeling.meta_arch import SemanticSegmentor
from detectron2.modeling.proposal_generator.rrpn import RRPN
from detectron2.modeling.roi_heads import RROIHeads
from torch import nn

from d2serve.export.errors import place_of
from d2serve.export.programs.caffe2.refusals import why_no_caffe2
from d2serve.export.programs.torch_export.refusals import why_lost, why_no_torch_export
from d2serve.export.reading.family import Family
from d2serve.export.rewrites.registry import PANOPTIC_DEEPLAB
from d2serve.handlers.spec.runtimes import CAFFE2, ONNX, TORCH_EXPORT, TORCHSCRIPT, RuntimeFacts


@dataclass(frozen=True)
class Unexportable:
    """A class of module that some ways of export cannot take."""

    modules: tuple[type[nn.Module], ...]
    ways: frozenset[str]
    """As ``RuntimeFacts.way`` names them."""
    stops_at: Callable[..., object]
    """The function upstream that stops it."""
    reason: str
    advice: str
    applies: Callable[[nn.Module], bool] = lambda _module: True
    """Of modules of that class, those that stop it."""


_PANOPTIC_DEEPLAB = tuple(
    Unexportable(
        modules=(rewrite.replaces,),
        ways=frozenset({ONNX}),
        stops_at=rewrite.replaces.forward,
        reason="it looks for the highest pixels of an enlarged heat map, which is flat at the "
        "borders of the image: last digits decide there how many instances it finds, and no other "
        "runtime computes the same ones",
        advice="Use --format torchscript.",
    )
    for rewrite in PANOPTIC_DEEPLAB[:1]
)

UNEXPORTABLE = (
    *_PANOPTIC_DEEPLAB,
    Unexportable(
        modules=(RRPN, RROIHeads),
        ways=frozenset({ONNX}),
        stops_at=batched_nms_rotated,
        reason="ONNX's NonMaxSuppression knows upright boxes only, and rotated NMS in plain "
        "operators is a loop whose length depends on the boxes, which torch's ONNX exporter "
        "cannot write",
        advice="Use --format torchscript.",
    ),
    Unexportable(
        modules=(ASPP,),
        ways=frozenset({ONNX}),
        stops_at=ASPP.forward,
        reason="it pools in windows of the training crop's size and refuses images that they do "
        "not divide, and a program in ONNX cannot refuse: it would answer what detectron2 does not",
        advice="Use --format torchscript, which refuses such images as detectron2 does.",
        applies=lambda module: bool(module.pool_kernel_size),
    ),
)

_ONE_LABEL = (
    "The semantic head has one class (MODEL.SEM_SEG_HEAD.NUM_CLASSES 1). What is served is the "
    "best class of each pixel, which is then always class 0, whatever the image shows. Train it "
    "with the background as a second class."
)


def labels_of(model: nn.Module) -> int | None:
    """How many classes a model's semantic head tells apart; None where it does not say."""
    head: Any = getattr(model, "sem_seg_head", None)
    predictor = getattr(head, "predictor", None)
    count = getattr(predictor, "out_channels", None) or getattr(head, "num_classes", None)
    return count if isinstance(count, int) else None


def why_unexportable(
    model: nn.Module, runtime: RuntimeFacts, method: str, family: Family | None = None
) -> str | None:
    """Why a model cannot be exported one way, with module, file and line, and what to do.

    Args:
        model: detectron2's.
        runtime: which its program is for.
        method: of export.
        family: what it is and answers, where that is known already.
    """
    if isinstance(model, SemanticSegmentor) and labels_of(model) == 1:
        return _ONE_LABEL
    if runtime.way(method) == CAFFE2:
        return why_no_caffe2(model)
    if TORCH_EXPORT in (method, runtime.way(method)):
        refusal = why_no_torch_export(model) or (None if family is None else why_lost(family))
        if refusal is not None:
            return refusal
    shown = method if runtime.format == TORCHSCRIPT else runtime.name
    for path, module in model.named_modules():
        for each in UNEXPORTABLE:
            if runtime.way(method) in each.ways and _stops(each, module):
                named = f"{path or 'The model'} ({type(module).__name__})"
                return (
                    f"{named} cannot be exported for {shown}: {place_of(each.stops_at)}: "
                    f"{each.reason}. {each.advice}"
                )
    return None


def _stops(each: Unexportable, module: nn.Module) -> bool:
    return isinstance(module, each.modules) and each.applies(module)
