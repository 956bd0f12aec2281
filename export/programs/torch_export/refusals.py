"""What is not exported with torch.export, by module, and why: known before any work."""

from __future__ import annotations

from detectron2.modeling.proposal_generator.rrpn import RRPN
from detectron2.modeling.roi_heads import Res5ROIHeads, RROIHeads
from torch import nn

from d2serve.export.programs.carrying import why_without_place
from d2serve.export.reading.family import Family
from d2serve.export.rewrites.endings import UPSTREAMS_ENDINGS
from d2serve.export.rewrites.registry import known_ending, rewrites_of
from d2serve.export.rewrites.rewrite import TRACING, applicable

_ADVICE = "Use --format torchscript, or --format onnx."


def why_no_torch_export(model: nn.Module) -> str | None:
    """Why a model is not exported with torch.export, and what to do; None where it is.

    Args:
        model: detectron2's or the user's own, in evaluation mode.
    """
    ending = known_ending(model)
    if ending not in UPSTREAMS_ENDINGS:
        return (
            f"{type(model).__name__} is not exported with torch.export: only detectron2's "
            f"GeneralizedRCNN, RetinaNet and FCOS were brought into one graph. {_ADVICE}"
        )
    for path, module in model.named_modules():
        if isinstance(module, (RRPN, RROIHeads)):
            return _refusal(
                path,
                module,
                "rotated NMS in plain operators is a loop whose length depends on "
                "the boxes, and a graph has none",
            )
        if isinstance(module, Res5ROIHeads):
            return _refusal(
                path,
                module,
                "its convolutions over boxes ask torch whether there are any, which a graph "
                "cannot know",
            )
    others = [each for each in rewrites_of(model) if each is not ending]
    for path, module, rewrite in applicable(model, TRACING, others):
        return _refusal(
            path, module, f"what stands for it in a trace ({rewrite.name}) was not tried in a graph"
        )
    return None


def why_lost(family: Family) -> str | None:
    """Why what a model answers would be lost in a graph; None where it would not."""
    return why_without_place(family, f"which was not tried with torch.export. {_ADVICE}")


def _refusal(path: str, module: nn.Module, reason: str) -> str:
    named = f"{path or 'The model'} ({type(module).__name__})"
    return f"{named} is not exported with torch.export: {reason}. {_ADVICE}"
