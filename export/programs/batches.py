"""Which models have no ONNX program that takes batches: known before any work."""

from __future__ import annotations

from torch import nn

from d2serve.export.reading.family import Family
from d2serve.export.rewrites.batches.registry import BY_IMAGE, ENDS


def why_no_batches(model: nn.Module, family: Family) -> str | None:
    """Why a model has no ONNX program that takes batches, and what to do; None where it has one.

    Args:
        model: detectron2's or the user's own.
        family: what it is, with all that it answers.
    """
    advice = "Leave out --dynamic-batch: its images are answered one after the other."
    if family.is_own or family.own_forward or not isinstance(model, ENDS):
        named = ", ".join(kind.__name__ for kind in ENDS)
        return (
            f"A batch in ONNX is there for {named} and what is built on them, and this is "
            f"{family.name} ({type(model).__qualname__}). {advice}"
        )
    if family.extras:
        own = ", ".join(each.name for each in family.extras)
        return (
            f"{family.name} answers {own} beyond detectron2's own fields, of which a batch in ONNX "
            f"does not know which image they belong to. {advice}"
        )
    for path, module in model.named_modules():
        if isinstance(module, BY_IMAGE):
            return (
                f"{path} ({type(module).__name__}) looks up each image's features by its place in "
                f"a list of images, which a batch in ONNX is not. {advice}"
            )
    return None
