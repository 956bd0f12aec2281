"""Which models have an ONNX program that takes batches, and what is rewritten in them for it."""

from __future__ import annotations

from detectron2.modeling import GeneralizedRCNN, SemanticSegmentor
from detectron2.modeling.meta_arch import FCOS, ProposalNetwork, RetinaNet
from torch import nn

from d2serve.export.reading.family import Family
from d2serve.export.rewrites.batches.boxes import BOX_BATCHES, CASCADE_BATCHES
from d2serve.export.rewrites.batches.dense import DENSE_BATCHES
from d2serve.export.rewrites.batches.endings import LABEL_BATCHES
from d2serve.export.rewrites.batches.images import IMAGE_BATCHES
from d2serve.export.rewrites.batches.pooling import POOLING_BATCHES
from d2serve.export.rewrites.batches.proposals import PROPOSAL_BATCHES
from d2serve.export.rewrites.registry import exportable
from d2serve.export.rewrites.rewrite import ONNX, ONNX_BATCHES, Rewrite, rewritten

REWRITES: tuple[Rewrite, ...] = (
    *LABEL_BATCHES,
    *IMAGE_BATCHES,
    PROPOSAL_BATCHES,
    POOLING_BATCHES,
    BOX_BATCHES,
    CASCADE_BATCHES,
    *DENSE_BATCHES,
)
"""The outermost first."""

ENDS = (GeneralizedRCNN, RetinaNet, FCOS, SemanticSegmentor, ProposalNetwork)
"""Models whose end is written for batches."""


def _point_heads() -> tuple[type[nn.Module], ...]:
    try:  # a project, which not every installation of detectron2 brings
        from detectron2.projects.point_rend import ImplicitPointRendMaskHead, PointRendMaskHead
    except ImportError:
        return ()
    return PointRendMaskHead, ImplicitPointRendMaskHead


BY_IMAGE = _point_heads()
"""Modules that look for an image's features by its place in a list."""


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


def exportable_in_batches(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """As ``exportable`` for ONNX, of a model that is to answer several images in one call.

    The copy takes one dict with the two inputs of ``BATCH_INPUTS``, and answers one dict with what
    is there of all images.

    Raises:
        UnsupportedFamily: a subclass overrides what would be replaced; the message names it.
    """
    for_one, names = exportable(model, ONNX)
    changed, more = rewritten(for_one, ONNX_BATCHES, REWRITES)
    return changed, (*names, *more)
